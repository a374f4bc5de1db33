//! The bell that the table's stream is in AWS: it rings when a function has put an
//! item with a certain beginning of its partition key into the table. It hears the
//! functions of this process alone.

use std::sync::Arc;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::sync::Notify;

/// The calls that put new items.
const PUTS: [&str; 2] = ["PutItem", "TransactWriteItems"];

/// The bell. All its clones are one bell.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The beginning of the key, as it is in the body of a call. Without one, the bell
    /// never rings.
    prefix: Option<String>,
    rung: Notify,
}

impl Bell {
    /// Returns a bell that rings for items whose partition key begins with `prefix`;
    /// for none without a `prefix`.
    pub fn new(prefix: Option<&str>) -> Self {
        Self(Arc::new(Inner { prefix: prefix.map(|prefix| format!("\"{prefix}")), rung: Notify::new() }))
    }

    /// Completes when the bell has rung since this was last called.
    pub async fn rung(&self) {
        self.0.rung.notified().await;
    }

    /// Returns an HTTP client for the calls to DynamoDB that rings the bell. It
    /// sends them through `client`, or the AWS SDK's own.
    pub fn on(&self, client: Option<SharedHttpClient>) -> SharedHttpClient {
        let own = || Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
        SharedHttpClient::new(Ringing { bell: self.clone(), inner: client.unwrap_or_else(own) })
    }

    /// Whether a call puts an item that the bell rings for.
    fn is_for(&self, request: &HttpRequest) -> bool {
        let Some(prefix) = &self.0.prefix else { return false };
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        target.rsplit('.').next().is_some_and(|operation| PUTS.contains(&operation))
            && body.windows(prefix.len()).any(|window| window == prefix.as_bytes())
    }
}

/// The HTTP client that rings.
#[derive(Clone, Debug)]
struct Ringing<T> {
    bell: Bell,
    inner: T,
}

impl HttpClient for Ringing<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Ringing { bell: self.bell.clone(), inner })
    }
}

impl HttpConnector for Ringing<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if !self.bell.is_for(&request) {
            return self.inner.call(request);
        }
        let Self { bell, inner } = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = inner.call(request).await;
            bell.0.rung.notify_one();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn it_is_for_new_items_with_its_prefix_alone() {
        let bell = Bell::new(Some("MAIL#"));
        for (operation, body, is_for) in [
            ("PutItem", r#"{"Item":{"pk":{"S":"MAIL#3"}}}"#, true),
            ("TransactWriteItems", r#"{"TransactItems":[{"Put":{"Item":{"pk":{"S":"MAIL#0"}}}}]}"#, true),
            ("TransactWriteItems", r#"{"TransactItems":[{"Put":{"Item":{"pk":{"S":"USER#1"}}}}]}"#, false),
            ("PutItem", r#"{"Item":{"pk":{"S":"USER#1"},"name":{"S":"a MAIL#"}}}"#, false),
            ("UpdateItem", r#"{"Key":{"pk":{"S":"MAIL#3"}}}"#, false),
            ("Query", r#"{"ExpressionAttributeValues":{":pk":{"S":"MAIL#3"}}}"#, false),
        ] {
            let mut request = HttpRequest::new(SdkBody::from(body));
            request.headers_mut().insert("x-amz-target", format!("DynamoDB_20120810.{operation}"));
            assert_eq!(bell.is_for(&request), is_for, "{operation} {body}");
        }
    }

    #[test]
    fn it_is_heard_once_however_often_it_has_rung() {
        let bell = Bell::new(Some("MAIL#"));
        assert!(bell.rung().now_or_never().is_none());
        bell.0.rung.notify_one();
        bell.0.rung.notify_one();
        assert!(bell.rung().now_or_never().is_some());
        assert!(bell.rung().now_or_never().is_none());
    }
}
