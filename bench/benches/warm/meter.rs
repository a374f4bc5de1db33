//! What an operation asks of DynamoDB, measured below the SDK.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;
use tokio::time::sleep;

/// A round trip to DynamoDB on AWS, as docs/cost.md has it.
pub const TRIP: Duration = Duration::from_millis(5);

/// The calls of one operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// How many there were.
    pub count: usize,
    /// The longest chain of calls of which each began after the one before had ended, in
    /// [`Mode::Units`].
    pub trips: usize,
    /// The time during which at least one was on its way.
    pub waited: Duration,
    /// The units that they wrote, in [`Mode::Units`].
    pub writes: f64,
    /// The units that they read, in [`Mode::Units`].
    pub reads: f64,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Off,
    /// Times.
    Times,
    /// Units and round trips. Each call takes [`TRIP`] longer, so that calls at the same
    /// time overlap as they do on AWS.
    Units,
}

/// The connection between the functions and DynamoDB.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    plain: SharedHttpClient,
    mode: AtomicU8,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    calls: Calls,
    /// The place in the chain of the latest call that has ended.
    ended: usize,
    in_flight: usize,
    since: Option<Instant>,
}

impl Meter {
    pub fn new() -> Self {
        let (mode, log) = (AtomicU8::new(Mode::Off as u8), Mutex::default());
        Self(Arc::new(Inner { plain: Builder::new().build_http(), mode, log }))
    }

    /// Returns the HTTP client for the SDK.
    pub fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    /// Sets what is measured.
    pub fn set(&self, mode: Mode) {
        self.0.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Returns the calls since this was last asked.
    pub fn take(&self) -> Calls {
        std::mem::take(&mut *self.0.log.lock().unwrap()).calls
    }

    fn is(&self, mode: Mode) -> bool {
        self.0.mode.load(Ordering::Relaxed) == mode as u8
    }

    fn begin(&self, is_read: bool) -> InFlight {
        let mut log = self.0.log.lock().unwrap();
        let place = log.ended + 1;
        log.calls.count += 1;
        log.calls.trips = log.calls.trips.max(place);
        if log.in_flight == 0 {
            log.since = Some(Instant::now());
        }
        log.in_flight += 1;
        InFlight { meter: self.clone(), place, is_read, units: 0.0 }
    }
}

/// A call, until it is dropped: an operation need not wait for all of its calls.
struct InFlight {
    meter: Meter,
    /// Its place in the chain, from 1.
    place: usize,
    is_read: bool,
    units: f64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut log = self.meter.0.log.lock().unwrap();
        // The log may have been taken meanwhile.
        log.ended = log.ended.max(self.place.min(log.calls.trips));
        *(if self.is_read { &mut log.calls.reads } else { &mut log.calls.writes }) += self.units;
        log.in_flight = log.in_flight.saturating_sub(1);
        if log.in_flight == 0
            && let Some(since) = log.since.take()
        {
            log.calls.waited += since.elapsed();
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

impl HttpClient for Meter {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.0.plain.http_connector(settings, components);
        SharedHttpConnector::new(Tap { meter: self.clone(), inner })
    }
}

#[derive(Debug)]
struct Tap {
    meter: Meter,
    inner: SharedHttpConnector,
}

impl HttpConnector for Tap {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        if self.meter.is(Mode::Off) {
            return self.inner.call(request);
        }
        let (meter, inner) = (self.meter.clone(), self.inner.clone());
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let is_read = target.ends_with(".GetItem") || target.ends_with(".Query");
            let is_counted = meter.is(Mode::Units);
            if is_counted {
                ask_for_units(&mut request);
            }
            let mut call = meter.begin(is_read);
            if is_counted {
                sleep(TRIP).await;
            }
            let answer = whole(inner.call(request).await).await;
            if is_counted {
                call.units = answer.as_ref().map(units).unwrap_or_default();
            }
            answer
        })
    }
}

/// Waits for the body of an answer too.
async fn whole(answer: Result<HttpResponse, ConnectorError>) -> Result<HttpResponse, ConnectorError> {
    let mut answer = answer?;
    let body = ByteStream::new(answer.take_body()).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    *answer.body_mut() = SdkBody::from(body);
    Ok(answer)
}

/// The engine on this machine checks no signature, so the body may change after it was signed.
fn ask_for_units(request: &mut HttpRequest) {
    let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
    body["ReturnConsumedCapacity"] = "TOTAL".into();
    let body = body.to_string();
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

/// The units of one table, or of all tables of a transaction.
fn units(answer: &HttpResponse) -> f64 {
    let body: Value = serde_json::from_slice(answer.body().bytes().unwrap()).unwrap();
    let of = |capacity: &Value| capacity["CapacityUnits"].as_f64().unwrap_or_default();
    match &body["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(of).sum(),
        table => of(table),
    }
}
