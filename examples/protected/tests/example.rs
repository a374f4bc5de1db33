//! Runs the function as Lambda does: its process gets events from a Runtime API.
//! Users and tokens come from Freshkey's local system. Both use the same table.

use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use freshkey::{Clock, ManualClock, SystemClock};
use lambda_http::http::Request;
use local::{LocalClock, Options, System, TEMPLATE};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const TWO_HOURS: i64 = 2 * 60 * 60;

/// The local system, two hours behind, and the function beside it.
struct World {
    system: System,
    function: Child,
    events: mpsc::UnboundedSender<Value>,
    answers: mpsc::UnboundedReceiver<Value>,
}

/// The Runtime API's side of the two channels: events out, answers in.
struct Runtime {
    events: Mutex<mpsc::UnboundedReceiver<Value>>,
    answers: mpsc::UnboundedSender<Value>,
}

async fn next(State(runtime): State<Arc<Runtime>>) -> impl IntoResponse {
    let event = runtime.events.lock().await.recv().await;
    ([("lambda-runtime-aws-request-id", "1"), ("lambda-runtime-deadline-ms", "9999999999999")], Json(event))
}

async fn answered(State(runtime): State<Arc<Runtime>>, answer: String) -> StatusCode {
    runtime.answers.send(serde_json::from_str(&answer).unwrap()).unwrap();
    StatusCode::ACCEPTED
}

impl World {
    /// Starts a world whose new users have `roles`.
    async fn new(roles: &str) -> Self {
        let two_hours_ago = freshkey::Timestamp::from_seconds(SystemClock.now().seconds() - TWO_HOURS);
        let variables = [("JWT_SECRET_KEY", SECRET), ("DEFAULT_ROLES", roles)];
        let system = System::start(Options {
            template: TEMPLATE.into(),
            data: None,
            table_endpoint: None,
            allow_origins: Vec::new(),
            variables: variables.map(|(name, value)| (name.into(), value.into())).into(),
            clock: LocalClock::new(Arc::new(ManualClock::at(two_hours_ago))),
            http_client: None,
        });
        let system = system.await.unwrap();

        let (events, to_function) = mpsc::unbounded_channel();
        let (from_function, answers) = mpsc::unbounded_channel();
        let api = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .with_state(Arc::new(Runtime { events: Mutex::new(to_function), answers: from_function }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(axum::serve(listener, api).into_future());

        let function = Command::new(env!("CARGO_BIN_EXE_protected"))
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "protected"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("JWT_SECRET_KEY", SECRET),
                ("JWT_ISSUER", "https://freshkey.example"),
                ("JWT_AUDIENCE", "freshkey"),
                ("TABLE_NAME", system.table_name()),
                ("TABLE_ENDPOINT", system.table_endpoint()),
            ])
            .spawn();
        Self { system, function: function.unwrap(), events, answers }
    }

    /// Registers a user and returns their tokens. The access token expired an hour ago.
    async fn register(&self) -> Value {
        let body = json!({ "email": "ada@example.com", "password": "four friendly foxes" });
        let request = Request::post("/api/v1/auth/register").header("content-type", "application/json");
        let request = request.body(body.to_string().into()).unwrap();
        let answer = self.system.call(Ipv4Addr::LOCALHOST.into(), request).await;
        assert_eq!(answer.status(), 201);
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// Calls the function as API Gateway does.
    async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: serde_json::Map<_, _> = headers.iter().map(|(k, v)| (k.to_string(), json!(v))).collect();
        let http = json!({ "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1" });
        let event = json!({
            "version": "2.0",
            "routeKey": format!("GET {path}"),
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": { "http": http, "stage": "$default", "timeEpoch": 0 },
            "isBase64Encoded": false,
        });
        self.events.send(event).unwrap();
        Answer(self.answers.recv().await.unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.function.kill().unwrap();
        self.function.wait().unwrap();
    }
}

struct Answer(Value);

impl Answer {
    fn status(&self) -> u64 {
        self.0["statusCode"].as_u64().unwrap()
    }

    fn body(&self) -> Value {
        serde_json::from_str(self.0["body"].as_str().unwrap()).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }
}

fn bearer(token: &Value) -> String {
    format!("Bearer {}", token.as_str().unwrap())
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_the_new_one_is_accepted() {
    let mut world = World::new("ROLE_USER").await;
    let user = world.register().await;
    let expired = bearer(&user["access_token"]);

    let nobody = world.get("/notes", &[]).await;
    assert_eq!((nobody.status(), &nobody.body()["error"]), (401, &json!("invalid_token")));
    let late = world.get("/notes", &[("authorization", &expired)]).await;
    assert_eq!((late.status(), &late.body()["error"]), (401, &json!("invalid_token")));

    let refresh_token = user["refresh_token"].as_str().unwrap();
    let renewed = world.get("/notes", &[("authorization", &expired), ("x-refresh-token", refresh_token)]).await;
    assert_eq!(renewed.status(), 200);
    assert_eq!(renewed.body(), json!({ "user_id": user["user_id"], "roles": ["ROLE_USER"] }));
    assert_eq!(renewed.header("x-new-expires-in"), Some("3600"));
    assert!(renewed.header("x-new-refresh-token").is_some_and(|token| token != refresh_token));

    let current = format!("Bearer {}", renewed.header("x-new-access-token").unwrap());
    let again = world.get("/notes", &[("authorization", &current)]).await;
    assert_eq!((again.status(), again.header("x-new-access-token")), (200, None));
    let admin = world.get("/admin", &[("authorization", &current)]).await;
    assert_eq!((admin.status(), &admin.body()["error"]), (403, &json!("forbidden")));
}

#[tokio::test]
async fn mw3_a_refusal_for_a_missing_role_has_the_new_tokens_too() {
    let mut world = World::new("ROLE_USER").await;
    let user = world.register().await;
    let refresh_token = user["refresh_token"].as_str().unwrap();
    let headers = [("authorization", &*bearer(&user["access_token"])), ("x-refresh-token", refresh_token)];
    let admin = world.get("/admin", &headers).await;
    assert_eq!(admin.status(), 403);
    for name in ["x-new-access-token", "x-new-refresh-token", "x-new-expires-in"] {
        assert!(admin.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn an_administrator_may_call_the_route_that_requires_the_role() {
    let mut world = World::new("ROLE_USER,ROLE_ADMIN").await;
    let user = world.register().await;
    let refresh_token = user["refresh_token"].as_str().unwrap();
    let headers = [("authorization", &*bearer(&user["access_token"])), ("x-refresh-token", refresh_token)];
    let admin = world.get("/admin", &headers).await;
    assert_eq!(admin.status(), 200);
    assert_eq!(admin.body()["roles"], json!(["ROLE_USER", "ROLE_ADMIN"]));
}
