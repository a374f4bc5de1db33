//! What can go wrong, in the words of the contract.

use std::borrow::Cow;
use std::time::Duration;

use crate::password::{HashError, WeakPassword};
use crate::store::StoreError;
use crate::token::SigningFailed;

/// How long a client should wait out an outage.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// Why a request is not granted. The source of a fault on our side is logged
/// where the answer is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is malformed. The text says what is expected.
    #[error("invalid request: {0}")]
    InvalidRequest(Cow<'static, str>),
    /// A refresh without a refresh token in the body. The body may have been lost
    /// on the way, so this says nothing about the session.
    #[error("no refresh token")]
    NoRefreshToken,
    /// Unknown user, wrong password or disabled user: one answer for all.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The access token is missing or not to be accepted, or its user is gone.
    #[error("invalid access token")]
    InvalidToken {
        /// Whether the request brought one.
        was_sent: bool,
    },
    /// The refresh token is missing or not to be accepted.
    #[error("invalid refresh token")]
    InvalidRefreshToken {
        /// Whether the request brought one.
        was_sent: bool,
    },
    /// The caller has not the role that this takes.
    #[error("forbidden")]
    Forbidden,
    /// A request with the cookie, or for one, that a page of another origin
    /// could have made.
    #[error("origin not allowed")]
    OriginNotAllowed,
    /// The address has a user already.
    #[error("e-mail address taken")]
    EmailTaken,
    /// Fields with values that are not accepted.
    #[error("validation failed")]
    Validation(Vec<FieldError>),
    /// Over a limit; it is less full after this time.
    #[error("rate limited")]
    RateLimited(Duration),
    /// No such thing, or none of the caller's own.
    #[error("not found")]
    NotFound,
    /// The body has a type or a content coding that is not accepted. The text says
    /// what is expected.
    #[error("unsupported media type: {0}")]
    UnsupportedMediaType(&'static str),
    /// The body is too large.
    #[error("payload too large")]
    PayloadTooLarge,
    /// The database or the secret cannot be reached, or there is too much to
    /// do: come back after this time.
    #[error("temporarily unavailable: {cause}")]
    Unavailable {
        /// For the log.
        cause: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// A fault of our own, for the log.
    #[error("internal: {0}")]
    Internal(String),
}

/// A field with a value that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field.
    pub field: &'static str,
    /// The machine's word for what is wrong.
    pub code: &'static str,
    /// The same for a person.
    pub message: String,
}

impl Error {
    /// Come back in a moment.
    pub fn unavailable() -> Self {
        Self::because("unavailable")
    }

    fn because(cause: impl ToString) -> Self {
        Self::Unavailable { cause: cause.to_string(), retry_after: OUTAGE_PAUSE }
    }

    /// One field with a value that is not accepted.
    pub fn field(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError { field, code, message: message.into() }])
    }
}

impl FieldError {
    /// A new password that is not accepted.
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
