//! Everything together: `template.yaml`, carried out on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::SharedHttpClient;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, State};
use freshkey::{App, Clock as _, Config, Function};
use futures_util::FutureExt;
use http::{Request, Response};
use lambda_runtime::Context;
use serde_json::Value;
use tokio::net::TcpListener;
use tracing::Level;

use crate::clock::LocalClock;
use crate::engine::{self, Engine};
use crate::extra;
use crate::gateway::{self, Call, Gateway, Step};
use crate::secret;
use crate::template::{self, Template};

/// How long a connection may hold up the end after it was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// The limits of this machine, where none are set: whoever plays around here is
/// no attacker. (The marks of accounts are kept in one item.)
const LIMITS: [(&str, &str); 5] = [
    ("LIMIT_FREE_GUESSES", "1000000"),
    ("LIMIT_GUESSES", "1000000"),
    ("LIMIT_FAILURES_PER_ADDRESS", "1000000"),
    ("LIMIT_ACCOUNTS_PER_ADDRESS", "1000"),
    ("LIMIT_REGISTRATIONS_PER_ADDRESS", "1000000"),
];

/// How a system is started.
#[derive(Debug)]
pub struct Options {
    /// The template to carry out.
    pub template: PathBuf,
    /// The file that keeps the table; without one it is in memory.
    pub data: Option<PathBuf>,
    /// Another DynamoDB to use, instead of the embedded one.
    pub table_endpoint: Option<String>,
    /// Origins that may call, besides those of ALLOWED_ORIGINS.
    pub allow_origins: Vec<String>,
    /// What goes before the variables of the template. Empty values count as
    /// none.
    pub variables: BTreeMap<String, String>,
    /// The time.
    pub clock: LocalClock,
    /// What carries the functions' calls to DynamoDB, where a test wants to
    /// count them or get in their way.
    pub http_client: Option<SharedHttpClient>,
}

/// Why the system does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template cannot be carried out.
    #[error("the template cannot be carried out: {0}")]
    Template(#[from] template::Error),
    /// The template names a function that is not built in here.
    #[error("the template has a function {0}, which the local system does not know")]
    UnknownFunction(String),
    /// A file for the table goes with the embedded DynamoDB alone.
    #[error("a data file and another DynamoDB (TABLE_ENDPOINT) exclude each other")]
    TwoTables,
    /// There is no secret.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// There is no table.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Variables that no function can start with, all of them.
    #[error("{0}")]
    Configuration(String),
}

/// The functions, the API in front of them and the table behind them.
#[derive(Debug)]
pub struct System {
    gateway: Gateway,
    functions: BTreeMap<String, Arc<Function>>,
    engine: Option<Engine>,
    table_endpoint: String,
    table_name: String,
    clock: LocalClock,
}

impl System {
    /// Starts everything but the HTTP server.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { data, allow_origins, clock, http_client, .. } = options;
        let mut variables = options.variables;
        variables.retain(|_, value| !value.is_empty());
        let origins = variables.remove("ALLOWED_ORIGINS").into_iter().chain(allow_origins);
        let origins = origins.collect::<Vec<_>>().join(",");
        // What these set, they set for the API too: they go through the template.
        let mut parameters = vec![("AllowedOrigins", origins.as_str())];
        let transport = variables.remove("REFRESH_TOKEN_TRANSPORT");
        parameters.extend(transport.as_deref().map(|transport| ("RefreshTokenTransport", transport)));
        let mut template = Template::read(&options.template, &parameters)?;

        let elsewhere = options.table_endpoint.or_else(|| variables.remove("TABLE_ENDPOINT"));
        if data.is_some() && elsewhere.is_some() {
            return Err(Error::TwoTables);
        }
        if !variables.contains_key("JWT_SECRET_KEY") && !variables.contains_key("JWT_SECRET_ARN") {
            let secret = data.as_deref().map_or_else(|| Ok(secret::generate()), secret::beside)?;
            variables.insert("JWT_SECRET_KEY".into(), secret);
        }
        if let Some(name) = variables.get("TABLE_NAME") {
            template.table.name.clone_from(name);
        }

        let (engine, table_endpoint) = match elsewhere {
            Some(endpoint) => (None, endpoint),
            None => {
                let engine = Engine::start(data.as_deref(), Arc::new(clock.clone())).await?;
                let endpoint = engine.endpoint().to_owned();
                (Some(engine), endpoint)
            }
        };
        variables.insert("TABLE_ENDPOINT".into(), table_endpoint.clone());
        for (name, value) in LIMITS {
            variables.entry(name.into()).or_insert_with(|| value.into());
        }

        let configs = configs(&template, &variables)?;
        engine::ensure_table(&table_endpoint, &template.table).await?;
        let mut functions = BTreeMap::new();
        for (name, config) in configs {
            let app = App::connect(config, Arc::new(clock.clone()), http_client.clone()).await;
            let function = built_in(name, app).ok_or_else(|| Error::UnknownFunction(name.into()))?;
            functions.insert(name.to_owned(), Arc::new(function));
        }
        let gateway = Gateway::new(&template);
        let table_name = template.table.name;
        Ok(Self { gateway, functions, engine, table_endpoint, table_name, clock })
    }

    /// Answers `request`, which came from `source`, as API Gateway would. Once a
    /// function is called, it runs to its end, whether or not anybody waits.
    pub async fn call(&self, source: IpAddr, request: Request<Bytes>) -> Response<Bytes> {
        let id = request_id();
        let call = Call { id: &id, now_ms: self.clock.now().millis(), source };
        let (function, event) = match self.gateway.accept(&request, call) {
            Step::Answer(response) => return response,
            Step::Invoke { function, event } => (function, event.to_string()),
        };
        let answer = match self.functions.get(&function).cloned() {
            Some(function) => {
                let mut context = Context::default();
                context.request_id = id;
                let run = async move { function.invoke(&event, context).await };
                tokio::spawn(run).await.unwrap_or_default()
            }
            None => Value::Null,
        };
        self.gateway.respond(request.headers(), &answer)
    }

    /// Answers what comes in through `listener` until `shutdown`: the API, and
    /// what this machine has besides it ([`extra`]).
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let shutdown = shutdown.shared();
        let router = extra::routes()?.fallback(answer).method_not_allowed_fallback(answer).with_state(self);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone());
        tokio::select! {
            served = server.into_future() => served,
            () = async { shutdown.await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }

    /// The function `name`, to be called with an event.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name).map(Arc::as_ref)
    }

    /// The level that LOG_LEVEL sets.
    pub fn log_level(&self) -> Level {
        let function = self.functions.values().next();
        function.map_or(Level::INFO, |function| function.app().config().log_level)
    }

    /// What tells the time to all of it.
    pub fn clock(&self) -> &LocalClock {
        &self.clock
    }

    /// The URL of the DynamoDB that has the table.
    pub fn table_endpoint(&self) -> &str {
        &self.table_endpoint
    }

    /// The name of the table.
    pub fn table_name(&self) -> &str {
        &self.table_name
    }

    /// Stops the embedded DynamoDB, after the requests that are under way.
    pub async fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop().await;
        }
    }
}

/// The settings of each function, or the faults of all of them.
fn configs<'a>(template: &'a Template, variables: &BTreeMap<String, String>) -> Result<Vec<(&'a str, Config)>, Error> {
    let mut configs = Vec::new();
    let mut faults = BTreeSet::new();
    for function in &template.functions {
        let lookup = |name: &str| variables.get(name).or(function.variables.get(name)).cloned();
        match Config::parse(lookup) {
            Ok(config) => configs.push((function.name.as_str(), config)),
            Err(fault) => drop(faults.insert(fault.to_string())),
        }
    }
    if faults.is_empty() {
        return Ok(configs);
    }
    Err(Error::Configuration(faults.into_iter().collect::<Vec<_>>().join("\n")))
}

fn built_in(name: &str, app: Arc<App>) -> Option<Function> {
    Some(match name {
        "account" => Function::new(app, account::handle),
        "authorizer" => Function::authorizer(app, authorizer::handle),
        "keys" => Function::new(app, keys::handle),
        "login" => Function::new(app, login::handle),
        "logout" => Function::new(app, logout::handle),
        "refresh" => Function::new(app, refresh::handle),
        "register" => Function::new(app, register::handle),
        _ => return None,
    })
}

fn request_id() -> String {
    uuid::Builder::from_random_bytes(freshkey::entropy::bytes()).into_uuid().to_string()
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
mod tests {
    use std::net::Ipv4Addr;

    use freshkey::SystemClock;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    const ORIGIN: &str = "http://127.0.0.1:3000";
    const SECRET: &str = "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ";

    fn options() -> Options {
        Options {
            template: crate::TEMPLATE.into(),
            data: None,
            table_endpoint: None,
            allow_origins: vec![ORIGIN.into()],
            variables: BTreeMap::new(),
            clock: LocalClock::new(Arc::new(SystemClock)),
            http_client: None,
        }
    }

    fn variables(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn request(method: &str, path: &str, token: &str, body: Value) -> Request<Bytes> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("origin", ORIGIN)
            .header("authorization", format!("Bearer {token}"))
            .body(Bytes::from(body.to_string()))
            .unwrap()
    }

    fn sign_in(path: &str) -> Request<Bytes> {
        let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
        request("POST", path, "", body)
    }

    async fn call(system: &System, request: Request<Bytes>) -> (u16, Value) {
        let response = system.call(Ipv4Addr::LOCALHOST.into(), request).await;
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
    }

    async fn register(system: &System) -> Value {
        let (status, tokens) = call(system, sign_in("/api/v1/auth/register")).await;
        assert_eq!(status, 201, "{tokens}");
        tokens
    }

    async fn me(system: &System, tokens: &Value) -> (u16, Value) {
        let token = tokens["access_token"].as_str().unwrap();
        call(system, request("GET", "/api/v1/users/me", token, Value::Null)).await
    }

    #[tokio::test]
    async fn a_user_registers_refreshes_reads_and_logs_out() {
        let system = System::start(options()).await.unwrap();
        let tokens = register(&system).await;
        let (status, user) = me(&system, &tokens).await;
        assert_eq!((status, &user["email"]), (200, &json!("ada@example.com")));
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        let path = "/api/v1/auth/refresh";
        let (status, next) = call(&system, request("POST", path, "", refresh)).await;
        assert_eq!(status, 200, "{next}");
        assert_ne!(next["refresh_token"], tokens["refresh_token"]);
        let refresh = json!({"refresh_token": next["refresh_token"]});
        let path = "/api/v1/auth/logout";
        assert_eq!(call(&system, request("POST", path, "", refresh.clone())).await.0, 204);
        let path = "/api/v1/auth/refresh";
        assert_eq!(call(&system, request("POST", path, "", refresh)).await.0, 401);
        system.stop().await;
    }

    #[tokio::test]
    async fn in9_a_route_that_the_template_lacks_is_a_404() {
        let system = System::start(options()).await.unwrap();
        for (method, path) in [("GET", "/"), ("GET", "/api/v1/auth/login"), ("HEAD", "/api/v1/users/me")] {
            let answer = call(&system, request(method, path, "", Value::Null)).await;
            assert_eq!(answer, (404, json!({"message": "Not Found"})), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn allowed_origins_are_the_variables_and_the_given_ones() {
        let variables = variables(&[("ALLOWED_ORIGINS", "https://a.example,https://b.example")]);
        let system = System::start(Options { variables, ..options() }).await.unwrap();
        let cases =
            [("https://a.example", true), ("https://b.example", true), (ORIGIN, true), ("https://c.example", false)];
        for (origin, allowed) in cases {
            let preflight = Request::options("/api/v1/auth/login")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .body(Bytes::new())
                .unwrap();
            let response = system.call(Ipv4Addr::LOCALHOST.into(), preflight).await;
            let allow = response.headers().get("access-control-allow-origin");
            assert_eq!(allow.is_some(), allowed, "{origin}");
        }
    }

    #[tokio::test]
    async fn a_variable_goes_before_the_templates_value_unless_it_is_empty() {
        let variables = variables(&[("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "2"), ("JWT_ISSUER", "")]);
        let system = System::start(Options { variables, ..options() }).await.unwrap();
        assert_eq!(register(&system).await["expires_in"], 120);
    }

    #[tokio::test]
    async fn all_faults_of_the_configuration_are_reported_together_and_once() {
        let variables = variables(&[("MAX_SESSIONS", "none"), ("JWT_SECRET_KEY", "short")]);
        let fault = System::start(Options { variables, ..options() }).await.unwrap_err();
        let fault = fault.to_string();
        for name in ["MAX_SESSIONS", "JWT_SECRET_KEY"] {
            assert_eq!(fault.matches(name).count(), 1, "{fault}");
        }
    }

    #[tokio::test]
    async fn ck6_cookies_for_nobodys_pages_are_a_fault() {
        let variables = variables(&[("REFRESH_TOKEN_TRANSPORT", "cookie")]);
        let fault = System::start(Options { variables, allow_origins: Vec::new(), ..options() }).await.unwrap_err();
        assert!(fault.to_string().contains("ALLOWED_ORIGINS is missing"), "{fault}");
    }

    #[tokio::test]
    async fn a_file_keeps_users_and_the_secret_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let options = || Options { data: Some(data.clone()), ..options() };
        let system = System::start(options()).await.unwrap();
        let tokens = register(&system).await;
        system.stop().await;
        drop(system);
        let system = System::start(options()).await.unwrap();
        assert_eq!(me(&system, &tokens).await.0, 200);
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        let refresh = request("POST", "/api/v1/auth/refresh", "", refresh);
        assert_eq!(call(&system, refresh).await.0, 200);
    }

    #[tokio::test]
    async fn another_dynamodb_takes_the_place_of_the_embedded_one() {
        let first = System::start(options()).await.unwrap();
        let second = Options {
            table_endpoint: Some(first.table_endpoint().into()),
            variables: variables(&[("TABLE_NAME", "another"), ("JWT_SECRET_KEY", SECRET)]),
            ..options()
        };
        let second = System::start(second).await.unwrap();
        assert_eq!(second.table_name(), "another");
        register(&second).await;
        assert_eq!(call(&first, sign_in("/api/v1/auth/login")).await.0, 401);
        let third = Options {
            variables: variables(&[("TABLE_ENDPOINT", first.table_endpoint()), ("TABLE_NAME", "another")]),
            ..options()
        };
        let third = System::start(third).await.unwrap();
        assert_eq!(call(&third, sign_in("/api/v1/auth/login")).await.0, 200);
    }

    #[tokio::test]
    async fn a_file_and_another_dynamodb_exclude_each_other() {
        let both =
            Options { data: Some("data".into()), table_endpoint: Some("http://127.0.0.1:1".into()), ..options() };
        assert!(matches!(System::start(both).await, Err(Error::TwoTables)));
    }

    #[tokio::test]
    async fn a_function_that_is_not_built_in_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let template = directory.path().join("template.yaml");
        let text = std::fs::read_to_string(crate::TEMPLATE).unwrap();
        std::fs::write(&template, text.replace("functions/login", "functions/surprise")).unwrap();
        let fault = System::start(Options { template, ..options() }).await.unwrap_err();
        assert!(fault.to_string().contains("surprise"), "{fault}");
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_runs_to_its_end() {
        let system = System::start(options()).await.unwrap();
        let source = Ipv4Addr::LOCALHOST.into();
        assert!(system.call(source, sign_in("/api/v1/auth/register")).now_or_never().is_none());
        let mut status = 401;
        for _ in 0..200 {
            if status == 401 {
                status = call(&system, sign_in("/api/v1/auth/login")).await.0;
            }
        }
        assert_eq!(status, 200);
    }

    async fn served() -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let system = Arc::new(System::start(options()).await.unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            Arc::clone(&system).serve(listener, stopped.map(drop)).await.unwrap();
            system.stop().await;
        });
        (address, stop, server)
    }

    #[tokio::test]
    async fn it_serves_http_and_stops_when_asked() {
        let (address, stop, server) = served().await;
        let client = reqwest::Client::new();
        let url = format!("http://{address}/api/v1/auth/register");
        let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
        assert_eq!(client.post(&url).json(&body).send().await.unwrap().status(), 201);
        let long = "x".repeat(gateway::MAX_HEAD);
        let answer = client.post(&url).header("x-long", long).send().await.unwrap();
        assert_eq!(answer.status(), 431);
        let answer = client.post(&url).body(vec![0; gateway::MAX_BODY + 1]).send().await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.text().await.unwrap(), r#"{"message":"Request Entity Too Large"}"#);
        stop.send(()).unwrap();
        server.await.unwrap();
        assert!(client.post(&url).json(&body).send().await.is_err());
    }

    #[tokio::test]
    async fn it_shows_a_page_that_may_run_only_what_is_in_it() {
        let (address, _stop, _server) = served().await;
        let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        assert!(answer.text().await.unwrap().contains("<title>Freshkey"));
        // Everything else at that path is the API's matter, which has no such route.
        let answer = reqwest::Client::new().post(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (404, r#"{"message":"Not Found"}"#)
        );
    }

    #[tokio::test]
    async fn it_shows_the_contract_in_json_and_as_it_is_written() {
        let (address, _stop, _server) = served().await;
        let json = reqwest::get(format!("http://{address}/openapi.json")).await.unwrap();
        assert_eq!(
            (json.status().as_u16(), &json.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        let json: Value = json.json().await.unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let yaml = reqwest::get(format!("http://{address}/openapi.yaml")).await.unwrap();
        assert_eq!(
            (yaml.status().as_u16(), &yaml.headers()["content-type"]),
            (200, &"application/yaml".parse().unwrap())
        );
        let yaml = yaml.text().await.unwrap();
        assert_eq!(yaml, extra::OPENAPI);
        assert_eq!(serde_norway::from_str::<Value>(&yaml).unwrap(), json);
    }

    #[tokio::test]
    async fn a_token_expires_when_the_clock_is_moved() {
        let (address, _stop, _server) = served().await;
        let url = |path: &str| format!("http://{address}{path}");
        let client = reqwest::Client::new();
        let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
        let tokens = client.post(url("/api/v1/auth/register")).json(&body).send().await.unwrap();
        let tokens: Value = tokens.json().await.unwrap();
        let token = tokens["access_token"].as_str().unwrap();
        let me = async || client.get(url("/api/v1/users/me")).bearer_auth(token).send().await.unwrap().status();
        assert_eq!(me().await, 200);

        let advance = |body: Value| client.post(url("/.local/clock")).json(&body);
        let moved: Value = advance(json!({"advance_seconds": 1})).send().await.unwrap().json().await.unwrap();
        let further = advance(json!({"advance_seconds": 3599})).header("origin", format!("http://{address}"));
        let further: Value = further.send().await.unwrap().json().await.unwrap();
        let passed = further["now"].as_i64().unwrap() - moved["now"].as_i64().unwrap();
        assert!((3_599_000..3_659_000).contains(&passed), "{passed}");
        assert_eq!(me().await, 401);
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        assert_eq!(client.post(url("/api/v1/auth/refresh")).json(&refresh).send().await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn the_clock_is_moved_by_our_own_pages_within_reason_and_never_back() {
        let (address, _stop, _server) = served().await;
        let client = reqwest::Client::new();
        let post = || client.post(format!("http://{address}/.local/clock"));
        let json = |body: Value| post().json(&body);
        let advance = json!({"advance_seconds": 60});
        let text = post().header("content-type", "text/plain").body(advance.to_string());
        let cases = [
            (json(advance.clone()).header("origin", "https://evil.example"), 403),
            (json(advance.clone()).header("origin", "null"), 403),
            (text, 415),
            (post().body(advance.to_string()), 415),
            (json(json!({})), 400),
            (json(json!({"advance_seconds": 0})), 400),
            (json(json!({"advance_seconds": -1})), 400),
            (json(json!({"advance_seconds": 1.5})), 400),
            (json(json!({"advance_seconds": 86_401})), 400),
            (json(json!({"advance_seconds": 60, "more": " ".repeat(2000)})), 400),
            (json(json!({"advance_seconds": 86_400})), 200),
        ];
        for (request, status) in cases {
            let answer = request.send().await.unwrap();
            assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
            assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_connection_that_never_ends_its_request_does_not_keep_it_from_stopping() {
        let (address, stop, server) = served().await;
        let mut connection = TcpStream::connect(&address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
        connection.write_all(head).await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        stop.send(()).unwrap();
        tokio::time::timeout(2 * GRACE, server).await.unwrap().unwrap();
    }
}
