//! The errors that a request can end with.

use std::borrow::Cow;
use std::time::Duration;

use crate::password::{HashError, WeakPassword};
use crate::store::StoreError;
use crate::token::SigningFailed;

/// How long a client should wait during an outage.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// Why a request failed. The cause of a fault on our side is logged where the
/// answer is rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is malformed. The text says what is expected.
    #[error("invalid request: {0}")]
    InvalidRequest(Cow<'static, str>),
    /// A refresh without a refresh token in the body. The body may have been lost on
    /// the way, so the session may still be good.
    #[error("no refresh token")]
    NoRefreshToken,
    /// The user is unknown or disabled, or the password is wrong. The answer does not say which.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The access token is missing, expired or invalid, or its session has ended.
    #[error("invalid access token")]
    InvalidToken {
        /// Whether the request had an access token.
        was_sent: bool,
    },
    /// The refresh token is missing, expired, spent or invalid.
    #[error("invalid refresh token")]
    InvalidRefreshToken {
        /// Whether the request had a refresh token.
        was_sent: bool,
    },
    /// The caller does not have the required role.
    #[error("forbidden")]
    Forbidden,
    /// The request uses or sets a cookie, and a page of another origin could
    /// have made it.
    #[error("origin not allowed")]
    OriginNotAllowed,
    /// The e-mail address already has an account.
    #[error("e-mail address taken")]
    EmailTaken,
    /// The token of a mail's link is forged, expired, used or void.
    #[error("invalid link")]
    InvalidLink,
    /// The user has not proven the e-mail address.
    #[error("e-mail address not verified")]
    EmailUnverified,
    /// Some fields have values that are not accepted.
    #[error("validation failed")]
    Validation(Vec<FieldError>),
    /// The request is over a limit. The client may try again after this time.
    #[error("rate limited")]
    RateLimited(Duration),
    /// The resource does not exist, or belongs to another user.
    #[error("not found")]
    NotFound,
    /// The body has a type or a content coding that is not accepted. The text says
    /// what is expected.
    #[error("unsupported media type: {0}")]
    UnsupportedMediaType(&'static str),
    /// The body is too large.
    #[error("payload too large")]
    PayloadTooLarge,
    /// The database or the secret cannot be reached, or the function is
    /// overloaded.
    #[error("temporarily unavailable: {cause}")]
    Unavailable {
        /// The cause, for the log.
        cause: String,
        /// When the client may try again.
        retry_after: Duration,
    },
    /// A fault on our side. The text is for the log only.
    #[error("internal: {0}")]
    Internal(String),
}

/// A field with a value that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field.
    pub field: &'static str,
    /// The machine-readable code of the fault.
    pub code: &'static str,
    /// The fault in words, for people.
    pub message: String,
}

impl Error {
    /// Returns the error for a short outage: the client may try again in a second.
    pub fn unavailable() -> Self {
        Self::because("unavailable")
    }

    fn because(cause: impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string(), retry_after: OUTAGE_PAUSE }
    }

    /// Returns the error for one field with a value that is not accepted.
    pub fn field(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError { field, code, message: message.into() }])
    }
}

impl FieldError {
    /// Returns the error for a text that is not an e-mail address.
    pub fn email() -> Self {
        let message = "Enter an e-mail address, such as name@example.com.".into();
        Self { field: "email", code: "email_invalid", message }
    }

    /// Returns the error for a new password that is too weak.
    pub fn password(field: &'static str, weak: WeakPassword) -> Self {
        Self { field, code: weak.code(), message: weak.to_string() }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::because(error),
            StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<HashError> for Error {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::because(error),
            HashError::Failed => Self::Internal(error.to_string()),
        }
    }
}

impl From<SigningFailed> for Error {
    fn from(failed: SigningFailed) -> Self {
        Self::Internal(failed.to_string())
    }
}
