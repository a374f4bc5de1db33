//! A handler as a Lambda function behind an HTTP API (payload 2.0).

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use lambda_http::http::header::HOST;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, BoxFuture, Context, LambdaEvent, Request, RequestExt, Response, Service, service_fn};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::auth::{App, Error};
use crate::http::{self, Answer, Dialect};

/// How long a handler may take before the client is told to come back: less
/// than the functions' timeout of 10 seconds (template.yaml), after which API
/// Gateway would answer for us.
pub const DEADLINE: Duration = Duration::from_secs(9);

type Handler = dyn Fn(Arc<App>, Request) -> BoxFuture<'static, Answer> + Send + Sync;

/// A handler with the app that it works on.
#[derive(Clone)]
pub struct Function {
    app: Arc<App>,
    handler: Arc<Handler>,
}

/// Runs a handler as the Lambda function that this process is, with the
/// settings of its environment.
///
/// # Errors
///
/// Every fault of the configuration; or the Lambda Runtime API is not there.
pub async fn run<H, F>(handler: H) -> Result<(), lambda_http::Error>
where
    H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let function = Function::new(App::from_env().await?, handler);
    let invoke = |event: LambdaEvent<Box<RawValue>>| {
        let function = function.clone();
        async move { Ok::<_, Infallible>(function.invoke(event.payload.get(), event.context).await) }
    };
    lambda_runtime::run(service_fn(invoke)).await
}

impl Function {
    /// A function of `handler` and `app`.
    pub fn new<H, F>(app: Arc<App>, handler: H) -> Self
    where
        H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        Self { app, handler: Arc::new(move |app, request| Box::pin(handler(app, request))) }
    }

    /// The app.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Answers one event, whatever it is: text that is not an event of an HTTP
    /// API gets 400, a handler that panics 500, one that takes too long 503.
    pub async fn invoke(&self, event: &str, context: Context) -> Value {
        let span = tracing::info_span!("request", request.id = context.request_id);
        let (payload, fault) = match read(event) {
            Ok(event) => (event, None),
            Err(fault) => (LambdaRequest::ApiGatewayV2(Default::default()), Some(fault)),
        };
        let answer = |request: Request| {
            let fault = fault.clone();
            async move { Ok::<_, Infallible>(self.answer(request, fault).await) }
        };
        let Ok(answer) =
            Adapter::from(service_fn(answer)).call(LambdaEvent { payload, context }).instrument(span).await;
        serde_json::to_value(answer).unwrap_or_default()
    }

    async fn answer(&self, request: Request, fault: Option<Error>) -> Response<Body> {
        let dialect = Dialect::of(request.raw_http_path());
        let id = http::request_id(&request).to_owned();
        let answer = match fault {
            Some(fault) => Err(fault),
            None => self.handle(request).await,
        };
        let mut response = answer.unwrap_or_else(|error| {
            match &error {
                Error::Internal(_) => tracing::error!(%error, "failed"),
                Error::Unavailable { .. } => tracing::warn!(%error, "unavailable"),
                error => tracing::debug!(%error, "refused"),
            }
            dialect.error(&error, &id)
        });
        http::secure(response.headers_mut());
        response
    }

    async fn handle(&self, request: Request) -> Answer {
        let handled = AssertUnwindSafe((self.handler)(Arc::clone(&self.app), request)).catch_unwind();
        match tokio::time::timeout(DEADLINE, handled).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => Err(Error::Internal("the handler panicked".into())),
            Err(_elapsed) => Err(Error::unavailable()),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("app", &self.app).finish_non_exhaustive()
    }
}

/// Reads an event, and takes from it what would make lambda_http panic: a body
/// that is not base64, a URL that is none.
fn read(event: &str) -> Result<LambdaRequest, Error> {
    const NOT_AN_EVENT: Error = Error::InvalidRequest("Not an event of an HTTP API, payload version 2.0.");
    let Ok(LambdaRequest::ApiGatewayV2(mut event)) = serde_json::from_str(event) else {
        return Err(NOT_AN_EVENT);
    };
    let has_path = event.raw_path.as_deref().is_some_and(|path| path.starts_with('/'));
    if event.version.as_deref() != Some("2.0") || !has_path {
        return Err(NOT_AN_EVENT);
    }
    let query = event.raw_query_string.as_deref().unwrap_or_default();
    if lambda_http::http::Uri::try_from(format!("/?{query}")).is_err() {
        return Err(Error::InvalidRequest("The query is not a valid one."));
    }
    if event.is_base64_encoded && event.body.as_ref().is_some_and(|body| STANDARD.decode(body).is_err()) {
        return Err(Error::InvalidRequest("The body is not base64."));
    }
    // Nothing here asks which host was called: the path alone is a URL.
    event.headers.remove(HOST);
    event.request_context.domain_name = None;
    Ok(LambdaRequest::ApiGatewayV2(event))
}
