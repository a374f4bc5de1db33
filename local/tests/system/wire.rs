//! The connection between the functions and AWS, on which a test counts calls and
//! injects faults. It is below the SDK, so each retry is a separate call.
//! DynamoDB and SES are at the other end; the wire itself plays Secrets Manager, with
//! one secret.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// One call to AWS, as it leaves the SDK.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GetItem`, `UpdateItem`, …, `SendEmail`.
    pub operation: String,
    /// The body of the call.
    pub body: Value,
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is executed and answered.
    Pass,
    /// It never arrives.
    Lost,
    /// It is executed, but the answer never arrives.
    AnswerLost,
    /// It never arrives, and no error is reported.
    Silence,
    /// It is executed, and the test is told so, but the answer never arrives, and no error is
    /// reported.
    Deaf(Arc<Notify>),
    /// DynamoDB answers with this error and does nothing.
    Refused(u16, &'static str),
    /// DynamoDB cancels the transaction, because it conflicts with another one.
    Cancelled,
    /// It is held up on the way: the caller takes it to be lost, and it is executed when the
    /// test lets it arrive.
    Late(Arc<Late>),
    /// It is executed and answered, and a copy with this body is executed when the test lets
    /// it arrive.
    Doubled(Arc<Late>, Value),
    /// It is answered so at once, and executed when the test lets it arrive. As all of the
    /// following, no DynamoDB does that.
    Postponed(Arc<Late>, u16, Value),
    /// This body is executed in its place.
    Forged(Value),
    /// It is executed, but this is the answer.
    Misreported(u16, Value),
    /// It is not executed, but this is the answer.
    Invented(u16, Value),
    /// It is answered as the first such call with the same body.
    Stale(Memory),
}

/// The answers to earlier calls, by body.
pub type Memory = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A call that is held up on the way.
#[derive(Debug, Default)]
pub struct Late {
    go: Notify,
    done: Notify,
}

impl Late {
    /// Lets the call arrive, once, and waits until it has been executed.
    pub async fn arrive(&self) {
        self.go.notify_one();
        self.done.notified().await;
    }

    /// Executes the call when it may arrive.
    fn hold(self: Arc<Self>, inner: SharedHttpConnector, request: HttpRequest) {
        tokio::spawn(async move {
            self.go.notified().await;
            let _ = inner.call(request).await;
            self.done.notify_one();
        });
    }
}

type Hook = Arc<dyn Fn(Call) -> BoxFuture<'static, Fate> + Send + Sync>;

/// The wire. It passes every call on until a test sets a hook.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    plain: SharedHttpClient,
    hook: Mutex<Hook>,
    log: Mutex<Log>,
    secret: Mutex<Option<Value>>,
}

/// The calls on the wire.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Every call, in order.
    pub calls: Vec<Call>,
    /// The number of round trips in sequence: the longest chain of calls of which
    /// each began after the one before had ended.
    pub round_trips: usize,
    /// The same for the calls that have ended.
    ended: usize,
    in_flight: usize,
}

impl Log {
    /// The names of the calls, sorted.
    pub fn operations(&self) -> Vec<&str> {
        let mut operations: Vec<_> = self.calls.iter().map(|call| call.operation.as_str()).collect();
        operations.sort_unstable();
        operations
    }
}

impl Wire {
    pub fn new() -> Self {
        let pass: Hook = Arc::new(|_| Box::pin(async { Fate::Pass }));
        Self(Arc::new(Inner {
            plain: Builder::new().build_http(),
            hook: Mutex::new(pass),
            log: Mutex::default(),
            secret: Mutex::default(),
        }))
    }

    /// Sets the secret in Secrets Manager. Without one, Secrets Manager does not answer.
    pub fn set_secret(&self, secret: Value) {
        *self.0.secret.lock().unwrap() = Some(secret);
    }

    /// The HTTP client for the SDK.
    pub fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// Sets the hook that decides the fate of every call.
    pub fn on_call<F>(&self, hook: impl Fn(Call) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Fate> + Send + 'static,
    {
        *self.0.hook.lock().unwrap() = Arc::new(move |call| Box::pin(hook(call)));
    }

    /// Sets `fate` for the next `times` calls of `operation`. All others pass.
    pub fn fault(&self, operation: &'static str, times: usize, fate: Fate) {
        self.fault_after(0, operation, times, fate);
    }

    /// The same, after `spared` calls of `operation` have passed.
    pub fn fault_after(&self, spared: usize, operation: &'static str, times: usize, fate: Fate) {
        let seen = AtomicUsize::new(0);
        let hit = spared..spared.saturating_add(times);
        self.on_call(move |call| {
            let is_hit = call.operation == operation && hit.contains(&seen.fetch_add(1, Ordering::Relaxed));
            let fate = if is_hit { fate.clone() } else { Fate::Pass };
            async move { fate }
        });
    }

    /// Lets every call pass again.
    pub fn heal(&self) {
        self.on_call(|_| async { Fate::Pass });
    }

    /// The number of calls in flight, including those that wait in the hook.
    pub fn in_flight(&self) -> usize {
        self.0.log.lock().unwrap().in_flight
    }

    /// Returns the log, and starts a new one.
    pub fn take(&self) -> Log {
        std::mem::take(&mut *self.0.log.lock().unwrap())
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.0.plain.http_connector(settings, components);
        SharedHttpConnector::new(Tap { wire: self.clone(), inner })
    }
}

#[derive(Debug)]
struct Tap {
    wire: Wire,
    inner: SharedHttpConnector,
}

/// Counts a call as in flight until it is dropped.
struct InFlight {
    wire: Wire,
    /// The place of the call in the sequence of round trips, from 1.
    place: usize,
}

impl InFlight {
    fn begin(wire: &Wire, call: &Call) -> Self {
        let mut log = wire.0.log.lock().unwrap();
        let place = log.ended + 1;
        log.round_trips = log.round_trips.max(place);
        log.in_flight += 1;
        log.calls.push(call.clone());
        Self { wire: wire.clone(), place }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut log = self.wire.0.log.lock().unwrap();
        log.in_flight = log.in_flight.saturating_sub(1);
        // The log may have been taken meanwhile, so this is at most its number of round trips.
        log.ended = log.ended.max(self.place.min(log.round_trips));
    }
}

impl HttpConnector for Tap {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = match request.headers().get("x-amz-target") {
            None if request.uri().ends_with("/v2/email/outbound-emails") => "SendEmail",
            target => target.unwrap_or_default(),
        };
        let call = Call {
            operation: target.rsplit('.').next().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default(),
        };
        let (wire, inner) = (self.wire.clone(), self.inner.clone());
        let hook = Arc::clone(&wire.0.hook.lock().unwrap());
        HttpConnectorFuture::new(async move {
            let _in_flight = InFlight::begin(&wire, &call);
            let broken = || ConnectorError::io("the wire was cut".into());
            let secret = (call.operation == "GetSecretValue").then(|| wire.0.secret.lock().unwrap().clone());
            match hook(call).await {
                Fate::Pass if secret.is_some() => secret.flatten().map(|secret| held(&secret)).ok_or_else(broken),
                Fate::Pass => inner.call(request).await,
                Fate::Lost => Err(broken()),
                Fate::AnswerLost => inner.call(request).await.and(Err(broken())),
                Fate::Silence => std::future::pending().await,
                Fate::Deaf(done) => {
                    let _ = inner.call(request).await;
                    done.notify_one();
                    std::future::pending().await
                }
                Fate::Refused(status, code) => Ok(refusal(status, code)),
                Fate::Cancelled => Ok(refusal(400, "TransactionCanceledException")),
                Fate::Late(late) => {
                    late.hold(inner, request);
                    Err(broken())
                }
                Fate::Doubled(late, copy) => {
                    late.hold(inner.clone(), with_body(request.try_clone().unwrap(), &copy));
                    inner.call(request).await
                }
                Fate::Postponed(late, status, answer) => {
                    late.hold(inner, request);
                    Ok(response(status, &answer))
                }
                Fate::Forged(body) => inner.call(with_body(request, &body)).await,
                Fate::Misreported(status, answer) => inner.call(request).await.map(|_| response(status, &answer)),
                Fate::Invented(status, answer) => Ok(response(status, &answer)),
                Fate::Stale(memory) => recall(&memory, inner, request).await,
            }
        })
    }
}

fn held(secret: &Value) -> HttpResponse {
    response(200, &json!({ "Name": "freshkey", "SecretString": secret.to_string() }))
}

fn response(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body.to_string()))
}

/// The same request with another body. No DynamoDB of the tests checks the signature.
fn with_body(mut request: HttpRequest, body: &Value) -> HttpRequest {
    let body = body.to_string();
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
    request
}

/// Answers a call as the first one with the same body, which is executed.
async fn recall(
    memory: &Memory,
    inner: SharedHttpConnector,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
    let remembered = memory.lock().unwrap().get(&body).cloned();
    let answer = match remembered {
        Some(answer) => answer,
        None => {
            let answer = inner.call(request).await?.into_body();
            let answer = ByteStream::new(answer).collect().await.unwrap().to_vec();
            memory.lock().unwrap().entry(body).or_insert(answer).clone()
        }
    };
    Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from(answer)))
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    let mut body = json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "injected" });
    if code == "TransactionCanceledException" {
        body["CancellationReasons"] = json!([{ "Code": "None" }, { "Code": "TransactionConflict" }]);
    }
    response(status, &body)
}
