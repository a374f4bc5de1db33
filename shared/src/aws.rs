//! AWS: one configuration for every call, and what the faults of a call mean.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider, SharedHttpClient};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use aws_types::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use secrecy::SecretString;

use crate::metrics::{self, Metric};

/// How long to wait for a connection, TLS included.
pub(crate) const CONNECT: Duration = Duration::from_millis(1000);
/// How long one attempt at a call may take.
const ATTEMPT: Duration = Duration::from_millis(1200);
/// How long a call may take with all its attempts. Three calls in sequence, the
/// most that a login makes, stay below [`crate::config::DEADLINE`]. A longer
/// request ends at the deadline, with 503.
pub(crate) const OPERATION: Duration = Duration::from_millis(2800);
/// How many times a call is attempted, including the first.
const ATTEMPTS: u32 = 3;
/// The first pause between two attempts. The SDK doubles it and adds jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The codes of faults that last until somebody changes the configuration: the
/// role's rights, the key of the table or the secret, their names, the region.
/// (Amazon DynamoDB and AWS Secrets Manager API References, "Common Errors".)
const MISCONFIGURED: [&str; 18] = [
    "AccessDenied",
    "AccessDeniedException",
    "DecryptionFailure",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidParameterException",
    "InvalidRequestException",
    "InvalidSignatureException",
    "KMSAccessDeniedException",
    "KMSNotFoundException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
    "ResourceNotFoundException",
    "UnrecognizedClientException",
    "ValidationError",
    "ValidationException",
];

/// Returns the configuration for every service, from the variables that Lambda sets
/// and those that name other endpoints. A profile, a metadata service or a web identity
/// is not looked for: Lambda uses none of them.
///
/// `http_client` replaces the SDK's own, for tests, and needs neither region nor
/// credentials. The timeouts of this module are multiplied by `patience`.
pub(crate) fn load(http_client: Option<SharedHttpClient>, patience: u32) -> SdkConfig {
    from(|name| std::env::var(name).ok().filter(|value| !value.is_empty()), http_client, patience)
}

/// Returns the value of a variable that is set and not empty.
type Variables = fn(&str) -> Option<String>;

fn from(variables: Variables, http_client: Option<SharedHttpClient>, patience: u32) -> SdkConfig {
    let is_on = |name: &str| variables(name).map(|value| value.eq_ignore_ascii_case("true"));
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(variables("AWS_REGION").or_else(|| variables("AWS_DEFAULT_REGION")).map(Region::new))
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
        )
        .service_config(Endpoints(variables));
    config.set_use_fips(is_on("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"));
    if let (Some(id), Some(secret)) = (variables("AWS_ACCESS_KEY_ID"), variables("AWS_SECRET_ACCESS_KEY")) {
        let credentials = Credentials::new(id, secret, variables("AWS_SESSION_TOKEN"), None, "environment");
        config = config.credentials_provider(SharedCredentialsProvider::new(credentials));
    }
    match http_client {
        Some(http_client) => {
            let anyone = SharedCredentialsProvider::new(local_credentials());
            config.region(LOCAL_REGION).credentials_provider(anyone).http_client(http_client)
        }
        None => config.http_client(one_connector(CONNECT * patience)),
    }
    .build()
}

/// Returns the HTTP client that the SDK would choose, but with one connector for all of
/// its clients. The SDK builds two for each client, one of them to see that it can, and
/// each time it parses every certificate that this system trusts.
fn one_connector(connect_timeout: Duration) -> SharedHttpClient {
    let connector = Connector::builder()
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(connect_timeout).build())
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// Where the services are, by AWS_ENDPOINT_URL and, before it, by the variable of one
/// service, such as AWS_ENDPOINT_URL_SECRETS_MANAGER.
/// (AWS SDKs and Tools Reference Guide, "Service-specific endpoints".)
#[derive(Debug)]
struct Endpoints(Variables);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let Self(variables) = self;
        let service = key.service_id().to_uppercase().replace(' ', "_");
        variables(&format!("{}_{service}", key.env())).or_else(|| variables(key.env()))
    }
}

/// Returns the configuration of the table's client. Without `endpoint`,
/// AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL apply. A DynamoDB at a plain-HTTP URL
/// is not in AWS and takes any credentials.
pub(crate) fn of_table(sdk: &SdkConfig, endpoint: Option<&str>) -> aws_sdk_dynamodb::config::Builder {
    let config = aws_sdk_dynamodb::config::Builder::from(sdk);
    match endpoint {
        None => config,
        Some(endpoint) if is_plain_http(endpoint) => {
            config.endpoint_url(endpoint).region(LOCAL_REGION).credentials_provider(local_credentials())
        }
        Some(endpoint) => config.endpoint_url(endpoint),
    }
}

pub(crate) const LOCAL_REGION: Region = Region::from_static("local");

pub(crate) fn local_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "no AWS")
}

pub(crate) fn is_plain_http(endpoint: &str) -> bool {
    endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// Reads a secret from Secrets Manager.
///
/// # Errors
///
/// The [`Fault`] of the call, or one that says that the secret holds no string.
pub(crate) async fn secret(sdk: &SdkConfig, arn: &str) -> Result<SecretString, Fault> {
    let client = aws_sdk_secretsmanager::Client::new(sdk);
    let answer = client.get_secret_value().secret_id(arn).send().await;
    let answer = answer.map_err(|error| Fault::of(&error))?;
    let no_string = || Fault { code: "the secret holds no string".to_owned(), is_misconfiguration: true };
    answer.secret_string.map(SecretString::from).ok_or_else(no_string)
}

/// Why a call to AWS failed, after all its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The code of the answer, or what kept the call from being answered. It goes
    /// into the log; the request, which may hold secrets, does not.
    pub(crate) code: String,
    /// Whether the fault lasts until somebody changes the configuration.
    pub(crate) is_misconfiguration: bool,
}

impl Fault {
    /// Returns the fault for an error of the SDK.
    pub(crate) fn of<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Self {
        let (code, is_misconfiguration) = match error {
            SdkError::ServiceError(refused) => {
                let code = refused.err().code().unwrap_or("refused without a code");
                (code, MISCONFIGURED.contains(&code))
            }
            SdkError::TimeoutError(_) => ("timeout", false),
            SdkError::DispatchFailure(_) => ("not sent", false),
            SdkError::ResponseError(_) => ("unreadable answer", false),
            // Building a call does not depend on the network.
            _ => ("not built", true),
        };
        Self { code: code.to_owned(), is_misconfiguration }
    }

    /// Logs and counts a fault of the configuration. Any other fault is an outage, and
    /// is counted in `outage`.
    pub(crate) fn report(&self, action: impl fmt::Display, outage: Option<Metric>) {
        if self.is_misconfiguration {
            metrics::count(Metric::Misconfigured);
            tracing::error!(aws.action = %action, aws.code = self.code, "AWS refuses a misconfigured call");
        } else if let Some(outage) = outage {
            metrics::count(outage);
        }
    }
}
