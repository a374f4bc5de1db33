//! The door to AWS: one configuration for every call that leaves the function.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedHttpClient};
use secrecy::SecretString;

/// How long to wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_millis(1000);
/// How long one attempt at a call may take.
const ATTEMPT: Duration = Duration::from_millis(1200);
/// How long a call may take with all its attempts. Three calls in sequence, the
/// most that a login makes, stay below [`crate::function::DEADLINE`]; where a
/// longer request does not, the deadline answers 503.
pub(crate) const OPERATION: Duration = Duration::from_millis(2800);
/// How often a call is attempted.
const ATTEMPTS: u32 = 3;
/// The first pause between two attempts; the SDK doubles it and adds jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The configuration of this environment. A plain-HTTP `endpoint` is a DynamoDB
/// on the same machine: it takes any credentials, so none are looked for. The
/// timeouts are `patience` times as long as above.
pub(crate) async fn load(endpoint: Option<&str>, http_client: Option<SharedHttpClient>, patience: u32) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT * patience)
                .operation_attempt_timeout(ATTEMPT * patience)
                .operation_timeout(OPERATION * patience)
                .build(),
        )
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(FIRST_PAUSE)
                .with_max_backoff(LONGEST_PAUSE),
        );
    if endpoint.is_some_and(|url| url.starts_with("http://")) {
        let anyone = Credentials::new("local", "local", None, None, "a DynamoDB on this machine");
        loader = loader.region(Region::from_static("local")).credentials_provider(anyone);
    }
    if let Some(http_client) = http_client {
        loader = loader.http_client(http_client);
    }
    loader.load().await
}

/// Reads a secret from Secrets Manager.
///
/// # Errors
///
/// The code that AWS gave, or that it did not answer.
pub(crate) async fn secret(sdk: &SdkConfig, arn: &str) -> Result<SecretString, String> {
    let client = aws_sdk_secretsmanager::Client::new(sdk);
    let answer = client.get_secret_value().secret_id(arn).send().await;
    let answer = answer.map_err(|error| code(&error).to_owned())?;
    answer.secret_string.map(SecretString::from).ok_or_else(|| "the secret holds no string".to_owned())
}

/// What to log of a call that failed: never the request, which may hold secrets.
pub(crate) fn code<E, R>(error: &aws_sdk_dynamodb::error::SdkError<E, R>) -> &str
where
    E: aws_sdk_dynamodb::error::ProvideErrorMetadata,
{
    use aws_sdk_dynamodb::error::SdkError;
    match error {
        SdkError::ServiceError(refused) => refused.err().code().unwrap_or("refused without a code"),
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(_) => "not sent",
        SdkError::ResponseError(_) => "unreadable answer",
        _ => "not built",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::DEADLINE;

    #[test]
    fn re4_attempts_fit_into_an_operation_and_three_operations_into_a_request() {
        assert!(CONNECT <= ATTEMPT && 2 * ATTEMPT < OPERATION);
        assert!(3 * OPERATION < DEADLINE);
        assert_eq!(ATTEMPTS, 3);
    }
}
