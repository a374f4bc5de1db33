//! Why a command failed, and its exit code.

use std::process::ExitCode;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use freshkey::{ConfigError, Error};
use serde_json::{Value, json};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: u8,
    /// The reason, for scripts.
    error: &'static str,
    message: String,
}

impl Failure {
    /// Returns the failure of an act that is refused (exit code 1).
    pub fn refused(error: &'static str, message: impl Into<String>) -> Self {
        Self { exit: 1, error, message: message.into() }
    }

    /// Returns the failure of a command that cannot be run like this (exit code 2).
    pub fn usage(error: &'static str, message: impl Into<String>) -> Self {
        Self { exit: 2, error, message: message.into() }
    }

    /// Returns the failure for something that cannot be reached or does not allow the
    /// act (exit code 3).
    pub fn unreachable(error: &'static str, message: impl Into<String>) -> Self {
        Self { exit: 3, error, message: message.into() }
    }

    /// Returns the failure of the AWS call `action`, such as `sts:GetCallerIdentity`.
    pub fn of_call<E, R>(action: &str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let cause = error.code().map_or_else(|| causes(error), str::to_owned);
        Self::unreachable("unavailable", format!("{action}: {cause}"))
    }

    /// Returns the failure as JSON.
    pub fn json(&self) -> Value {
        json!({ "error": self.error, "message": self.message })
    }

    /// Returns the exit code.
    pub fn exit_code(&self) -> ExitCode {
        self.exit.into()
    }
}

/// Returns what kept a call from being answered.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::refused("not_found", "There is no such user."),
            Error::EmailTaken => Self::refused("email_taken", "The e-mail address has an account."),
            Error::Validation(faults) => {
                let messages: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
                Self::refused(faults.first().map_or("invalid", |fault| fault.code), messages.join(" "))
            }
            Error::Unavailable { cause, .. } => Self::unreachable("unavailable", cause),
            other => Self::refused("internal", other.to_string()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage("configuration", error.to_string())
    }
}
