//! The destinations of calls to AWS, and the meaning of their faults.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use aws_sdk_dynamodb::config::ProvideCredentials;
use futures_util::FutureExt;

use super::*;
use crate::config::DEADLINE;
use crate::id::UserId;
use crate::store::{Store, StoreError};

#[test]
fn re4_attempts_fit_into_an_operation_and_three_operations_into_a_request() {
    assert!(CONNECT <= ATTEMPT && 2 * ATTEMPT < OPERATION);
    assert!(3 * OPERATION < DEADLINE);
    assert_eq!(ATTEMPTS, 3);
}

/// A server on this machine that answers one request with this error code. Returns
/// its URL, and a channel on which the request arrives.
fn server(code: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (heard, hears) = mpsc::channel();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 65_536];
        let length = connection.read(&mut buffer).unwrap();
        heard.send(String::from_utf8_lossy(&buffer[..length]).to_lowercase()).unwrap();
        let body = format!(r#"{{"__type":"{code}"}}"#);
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close";
        write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    (url, hears)
}

/// The configuration of a function in Frankfurt, with this AWS_ENDPOINT_URL.
fn frankfurt(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIAFRANKFURT", "secret", None, None, "a test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build()
}

async fn read(sdk: &SdkConfig, endpoint: Option<&str>) -> StoreError {
    Store::with_sdk(sdk, "the-table", endpoint).user(UserId::random()).await.unwrap_err()
}

#[tokio::test]
async fn the_table_is_where_the_environment_says_unless_table_endpoint_names_another() {
    let ((environment, hears), (other, hears_other)) = (server("ThrottlingException"), server("ThrottlingException"));
    let sdk = frankfurt(&environment);
    assert!(read(&sdk, None).await.is_throttling());
    let heard = hears.recv().unwrap();
    assert!(heard.contains("credential=akiafrankfurt/") && heard.contains("/eu-central-1/dynamodb/"), "{heard}");

    // A plain-HTTP URL is not AWS: it gets neither the region nor the credentials for AWS.
    assert!(read(&sdk, Some(&other)).await.is_throttling());
    let heard = hears_other.recv().unwrap();
    assert!(heard.contains("credential=local/") && heard.contains("/local/dynamodb/"), "{heard}");
}

#[tokio::test]
async fn a_table_on_this_machine_leaves_the_secret_in_aws() {
    let (url, hears) = server("ThrottlingException");
    let sdk = frankfurt(&url);
    let _table = Store::with_sdk(&sdk, "the-table", Some("http://127.0.0.1:1"));
    assert_eq!(secret(&sdk, "freshkey").await.unwrap_err().code, "ThrottlingException");
    let heard = hears.recv().unwrap();
    assert!(heard.contains("credential=akiafrankfurt/") && heard.contains("/eu-central-1/secretsmanager/"), "{heard}");
}

#[test]
fn the_configuration_is_what_lambda_puts_into_the_environment() {
    let sdk = from(
        |name| {
            let value = match name {
                "AWS_REGION" => "us-gov-west-1",
                "AWS_DEFAULT_REGION" => "us-east-1",
                "AWS_ACCESS_KEY_ID" => "AKIA",
                "AWS_SECRET_ACCESS_KEY" => "secret",
                "AWS_SESSION_TOKEN" => "session",
                "AWS_USE_FIPS_ENDPOINT" => "True",
                "AWS_USE_DUALSTACK_ENDPOINT" => "false",
                _ => return None,
            };
            Some(value.to_owned())
        },
        None,
        1,
    );
    assert_eq!(sdk.region(), Some(&Region::new("us-gov-west-1")));
    assert_eq!((sdk.use_fips(), sdk.use_dual_stack()), (Some(true), Some(false)));
    let provider = sdk.credentials_provider().unwrap();
    let credentials = provider.provide_credentials().now_or_never().unwrap().unwrap();
    assert_eq!((credentials.access_key_id(), credentials.secret_access_key()), ("AKIA", "secret"));
    assert_eq!(credentials.session_token(), Some("session"));

    let sdk = from(|name| (name == "AWS_DEFAULT_REGION").then(|| "us-east-1".to_owned()), None, 1);
    assert_eq!(sdk.region(), Some(&Region::new("us-east-1")));
    assert_eq!((sdk.use_fips(), sdk.use_dual_stack()), (None, None));
    assert!(sdk.credentials_provider().is_none());
}

#[test]
fn the_endpoint_of_one_service_comes_before_that_of_all() {
    let all = Endpoints(|name| (name == "AWS_ENDPOINT_URL").then(|| "https://all.example".to_owned()));
    let each = Endpoints(|name| {
        let service = name.strip_prefix("AWS_ENDPOINT_URL_").unwrap_or("ALL");
        Some(format!("https://{}.example", service.to_lowercase()))
    });
    for (service, own) in
        [("DynamoDB", "https://dynamodb.example"), ("Secrets Manager", "https://secrets_manager.example")]
    {
        let key = || ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        assert_eq!(all.load_config(key().build().unwrap()).as_deref(), Some("https://all.example"));
        assert_eq!(each.load_config(key().build().unwrap()).as_deref(), Some(own));
    }
}

#[tokio::test]
async fn re1_faults_of_the_configuration_are_told_from_outages() {
    for (code, is_misconfiguration) in [
        ("AccessDeniedException", true),
        ("ValidationException", true),
        ("ResourceNotFoundException", true),
        ("UnrecognizedClientException", true),
        ("ThrottlingException", false),
        ("InternalServerError", false),
        ("TransactionConflictException", false),
    ] {
        let (url, _hears) = server(code);
        let sdk = frankfurt(&url);
        let fault = secret(&sdk, "freshkey").await.unwrap_err();
        assert_eq!(fault, Fault { code: code.to_owned(), is_misconfiguration });
    }
}
