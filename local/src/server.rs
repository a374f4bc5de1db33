//! The HTTP server of the API and of [`extra`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use futures_util::FutureExt;
use http::{Request, Response};
use tokio::net::TcpListener;

use crate::extra;
use crate::gateway;
use crate::system::System;

/// How long open connections may delay a shutdown.
const GRACE: Duration = Duration::from_secs(2);

impl System {
    /// Serves the API and [`extra`] on `listener`, and delivers mail, until `shutdown`
    /// completes.
    ///
    /// # Errors
    ///
    /// The listener fails, or the routes of [`extra`] cannot be made.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let shutdown = shutdown.shared();
        let router = extra::routes(&self)?.fallback(answer).method_not_allowed_fallback(answer);
        let router = router.with_state(Arc::clone(&self));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone());
        tokio::select! {
            served = server.into_future() => served,
            () = self.keep_delivering() => Ok(()),
            () = async { shutdown.await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }
}

async fn answer(
    State(system): State<Arc<System>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let response = match to_bytes(body, gateway::MAX_BODY).await {
        Ok(body) => system.call(peer.ip(), Request::from_parts(head, body)).await,
        Err(_) => gateway::too_large(),
    };
    tracing::info!("{method} {path} {}", response.status().as_u16());
    response.map(Body::from)
}

#[cfg(test)]
mod tests;
