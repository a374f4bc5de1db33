//! Runs a handler as a Lambda function of an HTTP API (payload 2.0), or as its
//! authorizer.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_http::http::StatusCode;
use lambda_http::http::header::{HOST, SET_COOKIE};
use lambda_http::request::LambdaRequest;
use lambda_http::{Body, BoxFuture, Context, LambdaEvent, Request, RequestExt, Response, service_fn};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::Instrument;

use crate::auth::{App, Error};
use crate::config::DEADLINE;
use crate::http::{self, Answer, Dialect};

/// The most bytes of path and query together: API Gateway's limit for a request
/// line and headers.
const MAX_URL: usize = 10_240;

type Handler = dyn Fn(Arc<App>, Request) -> BoxFuture<'static, Answer> + Send + Sync;

/// What invokes a function.
#[derive(Clone, Copy)]
enum Trigger {
    /// A route of an HTTP API.
    Api,
    /// The authorizer of an HTTP API.
    Authorizer,
}

/// A handler with its app.
#[derive(Clone)]
pub struct Function {
    app: Arc<App>,
    handler: Arc<Handler>,
    trigger: Trigger,
}

/// Runs a handler as this process's Lambda function, with the settings of the
/// environment. As many `connections` to DynamoDB are opened before the first request
/// as a request uses at once.
///
/// # Errors
///
/// [`ConfigError`](crate::ConfigError) for faults of the settings; the error of
/// the Lambda Runtime API when it cannot be reached.
pub async fn run<H, F>(handler: H, connections: usize) -> Result<(), lambda_http::Error>
where
    H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    Function::new(App::start(connections).await?, handler).run().await
}

/// Runs a handler as [`run`] does, with an app that has no keys.
///
/// # Errors
///
/// Those of [`run`].
pub async fn run_without_keys<H, F>(handler: H, connections: usize) -> Result<(), lambda_http::Error>
where
    H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    Function::new(App::start_without_keys(connections).await?, handler).run().await
}

/// Runs the handler of a Lambda authorizer, as [`run`] does: see [`Function::authorizer`].
///
/// # Errors
///
/// [`ConfigError`](crate::ConfigError) for faults of the settings; the error of the
/// Lambda Runtime API when it cannot be reached.
pub async fn run_authorizer<H, F>(handler: H, connections: usize) -> Result<(), lambda_http::Error>
where
    H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    Function::authorizer(App::start(connections).await?, handler).run().await
}

impl Function {
    async fn run(self) -> Result<(), lambda_http::Error> {
        let invoke = |event: LambdaEvent<Box<RawValue>>| {
            let function = self.clone();
            async move { Ok::<_, Infallible>(function.invoke(event.payload.get(), event.context).await) }
        };
        lambda_runtime::run(service_fn(invoke)).await
    }

    /// Returns a function for the routes of an HTTP API.
    pub fn new<H, F>(app: Arc<App>, handler: H) -> Self
    where
        H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler = Arc::new(move |app, request| Box::pin(handler(app, request)) as BoxFuture<_>);
        Self { app, handler, trigger: Trigger::Api }
    }

    /// Returns a Lambda authorizer of an HTTP API (payload 2.0, simple response). If
    /// the handler answers with 200, the request is authorized, and the body of the
    /// answer becomes the context for the functions behind it. After any other answer
    /// or a fault, the request is denied.
    pub fn authorizer<H, F>(app: Arc<App>, handler: H) -> Self
    where
        H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        Self { trigger: Trigger::Authorizer, ..Self::new(app, handler) }
    }

    /// Returns the app.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Answers one event. Text that is not an event of an HTTP API gets 400, a
    /// handler that panics 500, and one that takes longer than [`DEADLINE`] 503.
    pub async fn invoke(&self, event: &str, context: Context) -> Value {
        let span = tracing::info_span!("request", request.id = context.request_id);
        let read = match self.trigger {
            Trigger::Api => read(event),
            Trigger::Authorizer => read(&without_identity_source(event)),
        };
        let (payload, fault) = match read {
            Ok(event) => (event, None),
            Err(fault) => (LambdaRequest::ApiGatewayV2(Default::default()), Some(fault)),
        };
        let request = Request::from(payload).with_lambda_context(context);
        let answer = self.answer(request, fault).instrument(span).await;
        match self.trigger {
            Trigger::Api => payload_2(answer),
            Trigger::Authorizer => simple(&answer),
        }
    }

    async fn answer(&self, mut request: Request, fault: Option<Error>) -> Response<Body> {
        http::resolve(&mut request, self.app.config().trusted_proxy.as_ref());
        let dialect = Dialect::of(&http::route_key(&request));
        let id = http::request_id(&request).to_owned();
        let answer = match fault {
            Some(fault) => Err(fault),
            None => self.app.observe(&id, &http::client(&request), self.handle(request)).await,
        };
        let mut response = http::render(answer, dialect, &id);
        http::secure(response.headers_mut());
        response
    }

    async fn handle(&self, request: Request) -> Answer {
        let handled = async { (self.handler)(Arc::clone(&self.app), request).await };
        let handled = AssertUnwindSafe(handled).catch_unwind();
        match tokio::time::timeout(DEADLINE * self.app.config().patience, handled).await {
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

/// Removes `identitySource` from an authorizer's event. The headers have it too, and
/// lambda_http expects it in another form.
fn without_identity_source(event: &str) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    if let Some(members) = event.as_object_mut() {
        members.remove("identitySource");
    }
    event.to_string()
}

/// Converts the answer of a handler to that of an HTTP API (payload 2.0). lambda_http
/// could do it, but with the tables of every text encoding, 150 KB of each function.
fn payload_2(answer: Response<Body>) -> Value {
    let (mut head, body) = answer.into_parts();
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = head.status.as_u16().into();
    let cookies = head.headers.get_all(SET_COOKIE).iter();
    answer.cookies = cookies.filter_map(|cookie| Some(cookie.to_str().ok()?.to_owned())).collect();
    head.headers.remove(SET_COOKIE);
    answer.headers = head.headers;
    (answer.body, answer.is_base64_encoded) = match std::str::from_utf8(&body) {
        Ok("") => (None, false),
        Ok(text) => (Some(text.into()), false),
        Err(_) => (Some(body), true),
    };
    serde_json::to_value(answer).unwrap_or_default()
}

/// Converts the answer of a handler to that of an authorizer.
fn simple(answer: &Response<Body>) -> Value {
    match serde_json::from_slice::<Value>(answer.body()) {
        Ok(context) if answer.status() == StatusCode::OK => json!({ "isAuthorized": true, "context": context }),
        _ => json!({ "isAuthorized": false }),
    }
}

/// Reads an event. Rejects events that would make lambda_http panic: those with a body
/// that is not base64, or a URL that is malformed or too long.
fn read(event: &str) -> Result<LambdaRequest, Error> {
    const NOT_AN_EVENT: Error =
        Error::InvalidRequest(Cow::Borrowed("Not an event of an HTTP API, payload version 2.0."));
    let Ok(LambdaRequest::ApiGatewayV2(mut event)) = serde_json::from_str(event) else {
        return Err(NOT_AN_EVENT);
    };
    let path = event.raw_path.as_deref().unwrap_or_default();
    let query = event.raw_query_string.as_deref().unwrap_or_default();
    let is_url = path.starts_with('/') && path.len() + query.len() <= MAX_URL;
    if event.version.as_deref() != Some("2.0") || !is_url {
        return Err(NOT_AN_EVENT);
    }
    if lambda_http::http::Uri::try_from(format!("/?{query}")).is_err() {
        return Err(Error::InvalidRequest("The query string is not valid in a URL.".into()));
    }
    if event.is_base64_encoded && event.body.as_ref().is_some_and(|body| STANDARD.decode(body).is_err()) {
        return Err(Error::InvalidRequest("The body is not valid base64.".into()));
    }
    // The path alone makes a URL. Host and stage are not needed.
    event.headers.remove(HOST);
    event.request_context.domain_name = None;
    event.request_context.stage = None;
    Ok(LambdaRequest::ApiGatewayV2(event))
}
