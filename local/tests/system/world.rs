//! A running system for the tests, and helpers to call it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freshkey::{App, Clock, ManualClock, Timestamp};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use lambda_runtime::Context;
use local::gateway::{Call, Gateway, Step};
use local::template::Template;
use local::{LocalClock, Options, System, TEMPLATE};
use serde_json::{Value, json};

use crate::contract;
use crate::wire::Wire;

/// A password that the rules accept.
pub const PASSWORD: &str = "a quiet river under seven bridges";
/// All systems here wait longer than a function does, so that no test depends on how long a
/// busy machine takes.
const PATIENT: (&str, &str) = ("TEST_PATIENCE", "50");
/// The timeouts of a function, for the tests in which a call is never answered.
pub const HASTY: (&str, &str) = ("TEST_PATIENCE", "1");
/// The e-mail address of the first user.
pub const EMAIL: &str = "alice@example.com";

/// A running system, its clock and its wire to DynamoDB.
#[derive(Clone)]
pub struct World {
    pub system: Arc<System>,
    pub clock: Arc<ManualClock>,
    pub wire: Wire,
    pub delivery: Delivery,
}

/// How Lambda delivers the event of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Once,
    /// Once more after the answer. The second answer is the reply.
    Again,
    /// Twice at once. The reply is the answer that says more: the one with the lower status.
    Twice,
    /// Once, with a deadline that has passed. If the request is dropped, so is the function.
    Overdue,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// A user with a session, as a client holds them.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub access_token: String,
    pub refresh_token: String,
}

/// A system with the template's settings.
pub async fn world() -> World {
    world_with(&[]).await
}

/// A system with these variables over the template's. It has its own table, in the
/// embedded DynamoDB or in the one that FRESHKEY_TEST_TABLE_ENDPOINT names.
pub async fn world_with(variables: &[(&str, &str)]) -> World {
    world_over(Wire::new(), variables).await
}

/// The same, over this wire.
pub async fn world_over(wire: Wire, variables: &[(&str, &str)]) -> World {
    // 2100-01-15T08:00:00Z: another DynamoDB deletes expired items by its own clock.
    let start = Timestamp::from_seconds(4_103_683_200);
    let elsewhere = std::env::var("FRESHKEY_TEST_TABLE_ENDPOINT").ok();
    let table = uuid::Builder::from_random_bytes(freshkey::entropy::bytes()).into_uuid().to_string();
    let variables = [variables, &[("TABLE_NAME", &table)]].concat();
    start_system(wire, &variables, elsewhere, start).await
}

async fn start_system(wire: Wire, variables: &[(&str, &str)], table_endpoint: Option<String>, now: Timestamp) -> World {
    let clock = Arc::new(ManualClock::at(now));
    let variables = [&[PATIENT], variables].concat();
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options {
        template: TEMPLATE.into(),
        data: None,
        table_endpoint,
        allow_origins: vec!["https://app.example.com".into()],
        variables: variables.collect::<BTreeMap<_, _>>(),
        clock: LocalClock::new(clock.clone()),
        http_client: Some(wire.client()),
    };
    let system = Arc::new(System::start(options).await.expect("the system starts"));
    World { system, clock, wire, delivery: Delivery::Once }
}

/// A system with the template's settings, and a user who has just registered.
pub async fn signed_up() -> (World, User) {
    signed_up_with(&[]).await
}

/// The same with these variables over the template's.
pub async fn signed_up_with(variables: &[(&str, &str)]) -> (World, User) {
    let world = world_with(variables).await;
    let alice = world.register(EMAIL).await;
    world.wire.take();
    (world, alice)
}

impl World {
    /// Another system on the same table, with its own clock and wire, and with these
    /// variables over the template's.
    pub async fn beside(&self, variables: &[(&str, &str)]) -> World {
        self.beside_over(Wire::new(), variables).await
    }

    /// The same, over this wire.
    pub async fn beside_over(&self, wire: Wire, variables: &[(&str, &str)]) -> World {
        let variables = [variables, &[("TABLE_NAME", self.system.table_name())]].concat();
        start_system(wire, &variables, Some(self.system.table_endpoint().to_owned()), self.clock.now()).await
    }

    /// The time of the clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock ahead.
    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The app of one function.
    pub fn app(&self, function: &str) -> &Arc<App> {
        self.system.function(function).expect("the function exists").app()
    }

    /// A request, to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> Sending<'_> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        Sending { world: self, request, source: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    pub fn get(&self, path: &str) -> Sending<'_> {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: Value) -> Sending<'_> {
        self.request(Method::POST, path).json(body)
    }

    /// Registers a user with [`PASSWORD`].
    pub async fn register(&self, email: &str) -> User {
        let reply = self.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).await;
        reply.expect(StatusCode::CREATED).user()
    }

    /// Logs in with [`EMAIL`] and `password`.
    pub async fn login(&self, password: &str) -> Reply {
        self.post("/api/v1/auth/login", json!({ "email": EMAIL, "password": password })).await
    }

    /// Refreshes without an `Idempotency-Key`.
    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.post("/api/v1/auth/refresh", json!({ "refresh_token": refresh_token })).await
    }

    /// Refreshes with this `Idempotency-Key`.
    pub async fn refresh_with_key(&self, refresh_token: &str, key: &str) -> Reply {
        let request = self.post("/api/v1/auth/refresh", json!({ "refresh_token": refresh_token }));
        request.header("idempotency-key", key).await
    }

    /// Whether the session can still be refreshed. This spends the token.
    pub async fn is_alive(&self, refresh_token: &str) -> bool {
        match self.refresh(refresh_token).await.status {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            other => panic!("neither alive nor dead: {other}"),
        }
    }
}

/// A request. Awaiting it sends it, and checks the [`Reply`] against the contract.
pub struct Sending<'a> {
    world: &'a World,
    request: Request<Bytes>,
    source: IpAddr,
}

impl Sending<'_> {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    /// The request from this IP address. The default is 127.0.0.1.
    pub fn from(self, ip: &str) -> Self {
        Self { source: ip.parse().unwrap(), ..self }
    }

    pub fn bearer(self, access_token: &str) -> Self {
        self.header("authorization", &format!("Bearer {access_token}"))
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = body.into();
        self.header("content-type", content_type)
    }

    pub fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string())
    }
}

impl<'a> IntoFuture for Sending<'a> {
    type Output = Reply;
    type IntoFuture = futures_util::future::BoxFuture<'a, Reply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (method, path) = (self.request.method().clone(), self.request.uri().path().to_owned());
            let response = match self.world.delivery {
                Delivery::Once => self.world.system.call(self.source, self.request).await,
                delivery => deliver(&self.world.system, self.source, &self.request, delivery).await,
            };
            let (head, body) = response.into_parts();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let reply = Reply { status: head.status, headers: head.headers, text };
            contract::check(&method, &path, &reply);
            reply
        })
    }
}

/// Delivers the event of a request to its function.
async fn deliver(system: &System, source: IpAddr, request: &Request<Bytes>, delivery: Delivery) -> Response<Bytes> {
    // The routes of mail exist only with this parameter.
    let template = Template::read(TEMPLATE.as_ref(), &[("MailFrom", "no-reply@example.com")]).unwrap();
    let gateway = Gateway::new(&template).unwrap();
    let id = uuid::Builder::from_random_bytes(freshkey::entropy::bytes()).into_uuid().to_string();
    let now_ms = system.clock().now().millis();
    let Step::Invoke { function, event } = gateway.accept(request, Call { id: &id, now_ms, source }) else {
        panic!("the gateway itself answers {}", request.uri());
    };
    let event = event.to_string();
    let invoke = async || {
        let mut context = Context::default();
        context.request_id.clone_from(&id);
        context.deadline = if delivery == Delivery::Overdue { 1 } else { u64::MAX };
        gateway.respond(request.headers(), &system.function(&function).unwrap().invoke(&event, context).await)
    };
    match delivery {
        Delivery::Once | Delivery::Overdue => invoke().await,
        Delivery::Again => {
            invoke().await;
            invoke().await
        }
        Delivery::Twice => {
            let (one, other) = tokio::join!(invoke(), invoke());
            std::cmp::min_by_key(one, other, Response::status)
        }
    }
}

impl Reply {
    /// This reply, which must have this status.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// A member of the body that is a string.
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.text)).to_owned()
    }

    /// The `error` of a problem document.
    #[track_caller]
    pub fn error(&self) -> String {
        self.text("error")
    }

    /// The `errors` of a problem document, each as `field: code`.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        let problem = self.json();
        let faults = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {}", self.text));
        let text = |fault: &Value, name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        faults.iter().map(|fault| format!("{}: {}", text(fault, "field"), text(fault, "code"))).collect()
    }

    /// The user and the tokens of a register or a login.
    pub fn user(&self) -> User {
        User {
            id: self.text("user_id"),
            access_token: self.text("access_token"),
            refresh_token: self.text("refresh_token"),
        }
    }
}

/// The claims of a token, unverified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
