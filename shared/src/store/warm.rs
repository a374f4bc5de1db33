//! Connections that are open before a request needs them.

use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::Store;
use super::item::text;

/// How long the start waits for the connections.
const WAIT: Duration = Duration::from_secs(1);

impl Store {
    /// Opens so many connections, TLS included, and waits for them for a second at
    /// most. A request opens what could not be opened here.
    pub async fn open_connections(&self, count: usize) {
        let open = join_all((0..count).map(|_| self.open_connection()));
        if timeout(WAIT, open).await.is_err() {
            tracing::warn!("DynamoDB did not answer in time; requests open their own connections");
        }
    }

    /// Opens a connection: a call takes the way of every call to the pool of
    /// connections, and there the health check goes out in its place.
    async fn open_connection(&self) {
        let call = self.client.get_item().table_name(&self.table).key("pk", text("none")).customize();
        let once = Builder::new().retry_config(RetryConfig::disabled());
        // The call fails, because the answer is not an item.
        let _ = call.interceptor(HealthCheck).config_override(once).send().await;
    }
}

/// Replaces a signed call with `GET /`, which DynamoDB answers with "healthy: …". It
/// needs no signature and no right in IAM.
#[derive(Debug)]
struct HealthCheck;

impl Intercept for HealthCheck {
    fn name(&self) -> &'static str {
        "HealthCheck"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut() = HttpRequest::get(context.request().uri())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_that_does_not_answer_is_waited_for_for_a_second() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let store = Store::connect("freshkey", Some(&endpoint), None);
        let start = Instant::now();
        store.open_connections(1).await;
        let took = start.elapsed();
        assert!(took.abs_diff(WAIT) < Duration::from_millis(10), "{took:?}");
    }
}
