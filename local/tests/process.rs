//! The program as a user starts it, stops it and kills it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::iter::successors;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{available_parallelism, sleep, spawn};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use freshkey::SystemClock;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use local::engine::Engine;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const ME: &str = "/api/v1/users/me";

/// How long the program may take to stop.
const PATIENCE: Duration = Duration::from_secs(4);

/// A running program.
struct Program {
    process: Child,
    url: String,
    greeting: String,
    rest: Receiver<String>,
    client: reqwest::Client,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_with(directory, arguments, &[])
    }

    fn start_with(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(directory, &[&["--port", "0"], arguments].concat());
        let mut process = command.envs(variables.iter().copied()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("curl ") {
            assert_ne!(lines.read_line(&mut greeting).unwrap(), 0, "{greeting}");
        }
        let url = greeting.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap().trim_end_matches('.').to_owned();
        let (output, rest) = channel();
        spawn(move || {
            let mut text = String::new();
            lines.read_to_string(&mut text).and_then(|_| output.send(text).map_err(std::io::Error::other))
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, url, greeting, rest, client }
    }

    /// Tells the program to stop, waits until it has closed its output, and returns
    /// its exit code.
    fn stop(&mut self, name: &str) -> Option<i32> {
        signal(self.process.id(), name);
        self.rest.recv_timeout(PATIENCE).expect("it stops in time");
        self.process.wait().unwrap().code()
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        reply_to(self.request(Method::POST, path).json(body)).await.unwrap()
    }

    async fn refresh(&self, token: &str, key: u64) -> reqwest::Result<Reply> {
        let body = json!({ "refresh_token": token });
        reply_to(self.request(Method::POST, REFRESH).header("idempotency-key", key.to_string()).json(&body)).await
    }

    async fn me(&self, access_token: &str) -> Reply {
        reply_to(self.request(Method::GET, ME).bearer_auth(access_token)).await.unwrap()
    }

    async fn preflight(&self, origin: &str) -> Reply {
        let request = self.request(Method::OPTIONS, REFRESH).header("origin", origin);
        reply_to(request.header("access-control-request-method", "POST")).await.unwrap()
    }

    /// The most memory that the program has used so far, in KiB.
    #[cfg(target_os = "linux")]
    fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// An answer, with `null` for a body that is not JSON.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("no {name} in {} {}", self.status, self.body)).to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

async fn reply_to(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await?;
    Ok(Reply { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    // Patient, so that nothing depends on how long a busy machine takes.
    command.current_dir(directory).args(arguments).env_clear().env("TEST_PATIENCE", "50");
    command
}

fn signal(process: u32, name: &str) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// What the program prints when it does not start.
fn failure(command: Command) -> String {
    failure_with(1, command)
}

/// The same for a program that must exit with this code. If it starts, it is
/// killed.
fn failure_with(code: i32, mut command: Command) -> String {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut greeting = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    if !greeting.is_empty() {
        process.kill().unwrap();
    }
    let Output { status, stderr, .. } = process.wait_with_output().unwrap();
    assert_eq!((status.code(), greeting.as_str()), (Some(code), ""));
    String::from_utf8(stderr).unwrap()
}

fn ada() -> Value {
    json!({"email": "ada@example.com", "password": "correct horse battery"})
}

fn generation(refresh_token: &str) -> u64 {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(refresh_token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["gen"].as_u64().unwrap()
}

/// Random numbers below `limit`, the same for the same seed (a linear congruential
/// generator with Knuth's constants).
fn random(seed: u64, limit: u64) -> impl Iterator<Item = u64> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    successors(next(&seed), next).map(move |state| (state >> 33) % limit)
}

#[tokio::test]
async fn the_curl_line_that_it_prints_works_as_printed() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &[]);
    let line = program.greeting.lines().find(|line| line.trim_start().starts_with("curl ")).unwrap();
    let shell = |script: String| Command::new("sh").args(["-c", &script]).output().unwrap();
    let curl = shell(format!("{line} --silent --noproxy '*'"));
    let answer = if curl.status.code() == Some(127) {
        // Without curl, the test sends what the shell would pass to it.
        let words = shell(format!("curl() {{ printf '%s\\n' \"$@\"; }}; {line}")).stdout;
        let words = String::from_utf8(words).unwrap();
        let [url, "-H", header, "-d", body] = words.lines().collect::<Vec<_>>()[..] else { panic!("{words}") };
        let (name, value) = header.split_once(": ").unwrap();
        reply_to(program.client.post(url).header(name, value).body(body.to_owned())).await.unwrap().body
    } else {
        serde_json::from_slice(&curl.stdout).unwrap()
    };
    assert_eq!(program.me(answer["access_token"].as_str().unwrap()).await.status, 200);
}

#[tokio::test]
async fn it_stops_when_told_although_connections_are_open() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let mut program = Program::start(directory.path(), &[]);
        assert_eq!(program.post(REGISTER, &ada()).await.status, 201);
        let address = program.url.trim_start_matches("http://");
        let _silent = TcpStream::connect(address).unwrap();
        let mut halfway = TcpStream::connect(address).unwrap();
        halfway.write_all(b"POST / HTTP/1.1\r\n").unwrap();
        assert_eq!(program.stop(signal), Some(0), "{signal}");
        assert!(reply_to(program.request(Method::GET, ME)).await.is_err());
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn it_stops_when_told_as_soon_as_it_has_printed_its_address() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let mut program = Program::start(directory.path(), &[]);
        assert_eq!(program.stop(signal), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn its_file_and_its_secret_are_kept_and_the_secret_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.secret");
    let mut program = Program::start(directory.path(), &["--data", "data"]);
    let secret = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let tokens = program.post(REGISTER, &ada()).await;
    assert_eq!(program.stop("INT"), Some(0));

    let program = Program::start(directory.path(), &["--data", "data"]);
    assert_eq!(fs::read(&path).unwrap(), secret);
    assert_eq!(program.me(&tokens.text("access_token")).await.status, 200);
    assert_eq!(program.refresh(&tokens.text("refresh_token"), 1).await.unwrap().status, 200);
    assert_eq!(program.post(LOGIN, &ada()).await.status, 200);
}

/// A client that keeps its newest pair of tokens and the key of the current
/// attempt, and that writes into its profile how many attempts were answered.
struct Client {
    access_token: String,
    refresh_token: String,
    key: u64,
    spent: String,
    written: u64,
}

impl Client {
    async fn register(program: &Program) -> Self {
        let reply = program.post(REGISTER, &ada()).await;
        let (access_token, refresh_token) = (reply.text("access_token"), reply.text("refresh_token"));
        Self { access_token, refresh_token, key: 1, spent: String::new(), written: 0 }
    }

    /// Makes one attempt, whose key is kept until it has been answered; then one write.
    async fn step(&mut self, program: &Program) -> reqwest::Result<()> {
        let reply = program.refresh(&self.refresh_token, self.key).await?;
        let successor = reply.text("refresh_token");
        assert_eq!(generation(&successor), generation(&self.refresh_token) + 1);
        self.access_token = reply.text("access_token");
        self.spent = std::mem::replace(&mut self.refresh_token, successor);
        let write = self.key;
        self.key += 1;
        let profile = json!({ "first_name": write.to_string() });
        let patch = program.request(Method::PATCH, ME).bearer_auth(&self.access_token);
        assert_eq!(reply_to(patch.json(&profile)).await?.status, 200);
        self.written = write;
        Ok(())
    }

    /// Checks that every answered write is in the table. One that was not answered
    /// may be there too.
    async fn check(&self, program: &Program) {
        let me = program.me(&self.access_token).await;
        assert_eq!(me.status, 200);
        let written = me.body["first_name"].as_str().map_or(0, |name| name.parse().unwrap());
        assert!((self.written..=self.key).contains(&written), "{written}, not {}", self.written);
    }
}

#[tokio::test]
async fn re5_a_kill_at_any_moment_of_a_refresh_loses_nothing_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Program::start_with(directory.path(), &["--data", "data"], &[("REFRESH_BURST", "1000000")]);
    let mut program = start();
    let mut client = Client::register(&program).await;
    for moment in random(5, 100).take(15) {
        // The program has done some work before it is killed, however slow the machine is.
        for _ in 0..2 {
            client.step(&program).await.unwrap();
        }
        let id = program.process.id();
        let killer = spawn(move || {
            sleep(Duration::from_millis(moment));
            signal(id, "KILL");
        });
        while client.step(&program).await.is_ok() {}
        killer.join().unwrap();
        assert_eq!(program.process.wait().unwrap().code(), None);

        program = start();
        client.check(&program).await;
        client.step(&program).await.unwrap();
        client.check(&program).await;
    }

    signal(program.process.id(), "KILL");
    program = start();
    assert_eq!(program.refresh(&client.spent, client.key).await.unwrap().status, 401);
}

/// A table that several programs share, behind a door that stops a rotation on its way.
struct SharedTable {
    engine: Engine,
    client: reqwest::Client,
    /// Where the next rotation is stopped.
    stop: Mutex<Option<Stop>>,
    stopped: Notify,
    open: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Before the write.
    Before,
    /// Between the write and its answer.
    After,
}

impl SharedTable {
    /// Starts it. Returns its URL, too.
    async fn start() -> (Arc<Self>, String) {
        let engine = Engine::start(None, Arc::new(SystemClock)).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (stop, stopped, open) = Default::default();
        let table = Arc::new(Self { engine, client, stop, stopped, open });
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let door = axum::Router::new().fallback(Self::pass).with_state(Arc::clone(&table));
        tokio::spawn(async move { axum::serve(listener, door).await });
        (table, url)
    }

    async fn pass(State(table): State<Arc<Self>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let is_rotation = body.windows(18).any(|part| part == b"attempt = :attempt");
        let stop = if is_rotation { table.stop.lock().unwrap().take() } else { None };
        if stop == Some(Stop::Before) {
            table.wait().await;
        }
        let request = table.client.post(table.engine.endpoint()).headers(headers).body(body);
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status(), response.bytes().await.unwrap());
        if stop == Some(Stop::After) {
            table.wait().await;
        }
        (status, answer)
    }

    async fn wait(&self) {
        self.stopped.notify_one();
        self.open.notified().await;
    }

    /// Starts a program on it.
    fn program(directory: &Path, url: &str) -> Program {
        let variables = [("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ")];
        Program::start_with(directory, &["--table-endpoint", url], &variables)
    }

    /// Sends a refresh to a program, and returns once its rotation is stopped there.
    async fn stop(
        &self,
        at: Stop,
        program: &Program,
        token: &str,
        key: Option<u64>,
    ) -> JoinHandle<reqwest::Result<Reply>> {
        *self.stop.lock().unwrap() = Some(at);
        let mut request = program.request(Method::POST, REFRESH).json(&json!({ "refresh_token": token }));
        if let Some(key) = key {
            request = request.header("idempotency-key", key.to_string());
        }
        let request = tokio::spawn(reply_to(request));
        self.stopped.notified().await;
        request
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn re5_a_program_that_is_killed_between_the_write_and_its_answer_costs_nobody_with_a_key_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let (table, url) = SharedTable::start().await;
    for key in [Some(1), None] {
        let mut program = SharedTable::program(directory.path(), &url);
        let email = format!("ada-{key:?}@example.com").replace(['(', ')'], "");
        let token = program.post(REGISTER, &json!({ "email": email, "password": "correct horse battery" })).await;
        let token = token.text("refresh_token");
        let request = table.stop(Stop::After, &program, &token, key).await;
        signal(program.process.id(), "KILL");
        assert_eq!(program.process.wait().unwrap().code(), None);
        assert!(request.await.unwrap().is_err());

        let program = SharedTable::program(directory.path(), &url);
        match key {
            Some(key) => {
                let second = program.refresh(&token, key).await.unwrap().text("refresh_token");
                assert_eq!(generation(&second), 2);
                let third = program.refresh(&second, key + 1).await.unwrap().text("refresh_token");
                assert_eq!(generation(&third), 3);
            }
            None => {
                let again = program.post(REFRESH, &json!({ "refresh_token": token })).await;
                assert_eq!((again.status, again.text("error")), (401, "invalid_refresh_token".into()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn re7_a_program_that_thaws_neither_forks_the_chain_nor_signs_out_a_client_that_went_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (table, url) = SharedTable::start().await;
    let (frozen, other) = (SharedTable::program(directory.path(), &url), SharedTable::program(directory.path(), &url));
    for at in [Stop::Before, Stop::After] {
        for goes_on in [false, true] {
            let email = format!("ada-{}-{goes_on}@example.com", at == Stop::Before);
            let tokens = other.post(REGISTER, &json!({ "email": email, "password": "correct horse battery" })).await;
            let token = tokens.text("refresh_token");
            let request = table.stop(at, &frozen, &token, Some(1)).await;
            if goes_on {
                // It is frozen for longer than its deadline, by its clock.
                let hour = frozen.post("/.local/clock", &json!({ "advance_seconds": 3600 })).await;
                assert_eq!(hour.status, 200);
            }
            signal(frozen.process.id(), "STOP");
            let second = other.refresh(&token, 1).await.unwrap().text("refresh_token");
            let newest = match goes_on {
                true => other.refresh(&second, 2).await.unwrap().text("refresh_token"),
                false => second.clone(),
            };
            table.open.notify_one();
            signal(frozen.process.id(), "CONT");
            let thawed = request.await.unwrap().unwrap();
            // Without the write, it finds the token spent; after it, it has its own answer to give.
            if goes_on && at == Stop::Before {
                assert_eq!((thawed.status, thawed.text("error")), (503, "temporarily_unavailable".into()));
            } else {
                assert_eq!(thawed.text("refresh_token"), second);
            }
            let next = other.refresh(&newest, 3).await.unwrap().text("refresh_token");
            assert_eq!(generation(&next), generation(&newest) + 1);
        }
    }
}

#[tokio::test]
async fn re7_a_program_that_was_frozen_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start_with(directory.path(), &[], &[("REFRESH_BURST", "1000000")]);
    let mut client = Client::register(&program).await;
    client.step(&program).await.unwrap();
    let id = program.process.id();
    let freezer = spawn(move || {
        sleep(Duration::from_millis(20));
        signal(id, "STOP");
        sleep(Duration::from_secs(2));
        signal(id, "CONT");
    });
    while !freezer.is_finished() {
        client.step(&program).await.unwrap();
    }
    client.step(&program).await.unwrap();
    client.check(&program).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn pw11_a_flood_of_logins_is_answered_within_bounded_memory() {
    const HASH: usize = 19 * 1024;
    const SLACK: usize = 100 * 1024;
    let directory = tempfile::tempdir().unwrap();
    // The hashes are so slow that on a small machine some do not get their turn.
    let program = Program::start_with(directory.path(), &[], &[("ARGON2_ITERATIONS", "16")]);
    assert_eq!(program.post(REGISTER, &ada()).await.status, 201);
    let before = program.peak_memory();
    let login = ada();
    let replies = join_all((0..200).map(|_| program.post(LOGIN, &login))).await;
    for reply in &replies {
        match reply.status {
            200 => {}
            503 => drop(reply.header("retry-after").parse::<u32>().unwrap()),
            other => panic!("{other} {}", reply.body),
        }
    }
    assert!(replies.iter().any(|reply| reply.status == 200));
    let parallel = available_parallelism().unwrap().get();
    let grown = program.peak_memory() - before;
    assert!(grown <= parallel * HASH + SLACK, "{parallel} hashes at once took {grown} KiB");
    assert_eq!(program.post(LOGIN, &login).await.status, 200);
}

#[tokio::test]
async fn in9_a_route_that_the_template_lacks_gets_the_gateways_own_404() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &[]);
    for (method, path) in [(Method::GET, "/api/v1/nothing"), (Method::GET, REFRESH), (Method::DELETE, ME)] {
        let reply = reply_to(program.request(method, path)).await.unwrap();
        assert_eq!((reply.status, reply.body), (404, json!({"message": "Not Found"})), "{path}");
        assert_eq!(reply.headers.get("cache-control"), None);
    }
}

#[tokio::test]
async fn co1_co2_a_browser_is_let_in_from_the_origins_that_are_named_and_no_others() {
    const APP: &str = "https://app.example.com";
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &["--allow-origin", APP]);
    let localhost = program.url.replace("127.0.0.1", "localhost");
    for origin in [&program.url, &localhost, APP] {
        let reply = program.preflight(origin).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, origin));
        assert_eq!(reply.header("vary"), "origin");
        assert_eq!(reply.header("access-control-allow-credentials"), "");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(reply.header("access-control-allow-methods").split(',').any(|allowed| allowed == method));
        }
        for name in ["authorization", "content-type", "x-refresh-token", "idempotency-key"] {
            assert!(reply.header("access-control-allow-headers").split(',').any(|allowed| allowed == name));
        }
    }
    let foreign = ["null", "https://evil-app.example.com", "https://app.example.com.evil", "http://app.example.com"];
    for origin in foreign {
        let reply = program.preflight(origin).await;
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{origin}");
    }
}

#[tokio::test]
async fn mw5_an_answer_exposes_the_new_tokens_to_a_named_origin_alone() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &[]);
    let me = |origin: &str| reply_to(program.request(Method::GET, ME).header("origin", origin));
    let own = me(&program.url).await.unwrap();
    assert_eq!((own.status, own.header("access-control-allow-origin")), (401, program.url.as_str()));
    assert_eq!((own.header("cache-control"), own.header("vary")), ("no-store", "origin"));
    for name in ["x-new-access-token", "x-new-refresh-token", "x-new-expires-in", "retry-after"] {
        assert!(own.header("access-control-expose-headers").split(',').any(|exposed| exposed == name), "{name}");
    }
    let foreign = me("https://evil.example").await.unwrap();
    assert!(!foreign.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failure = failure(command(directory.path(), &["--port", &port]));
    assert_eq!(failure, format!("port {port} is taken; choose another with --port\n"));
}

#[test]
fn all_faults_of_the_configuration_are_named_at_once_and_no_secret_is_shown() {
    const SECRET: &str = "hunter2hunter2";
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &["--port", "0"]);
    command.env("LOG_LEVEL", "LOUD").env("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "x").env("JWT_SECRET_KEY", SECRET);
    let faults = failure(command);
    for name in ["LOG_LEVEL", "JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "JWT_SECRET_KEY"] {
        assert_eq!(faults.matches(name).count(), 1, "{faults}");
    }
    assert!(!faults.contains(SECRET), "{faults}");
}

#[tokio::test]
async fn variables_are_read_from_the_file_env_but_the_environment_has_priority() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(".env");
    fs::write(&file, "JWT_ACCESS_TOKEN_EXPIRE_MINUTES=3\n").unwrap();
    let program = Program::start(directory.path(), &[]);
    assert_eq!(program.post(REGISTER, &ada()).await.body["expires_in"], 180);

    fs::write(&file, "MAX_SESSIONS=many\nLOG_LEVEL=LOUD\n").unwrap();
    let mut command = command(directory.path(), &["--port", "0"]);
    command.env("LOG_LEVEL", "INFO");
    let faults = failure(command);
    assert!(faults.contains("MAX_SESSIONS") && !faults.contains("LOG_LEVEL"), "{faults}");
}

#[tokio::test]
async fn mail_is_on_without_any_setting_and_each_setting_of_it_can_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let links = [("MAIL_FROM", ""), ("APP_NAME", "Acme"), ("RESET_URL", "https://app.example.com/reset")];
    for (variables, subject, link) in [
        (&[][..], "Reset your Freshkey password", "/?view=reset#token="),
        (&links, "Reset your Acme password", links[2].1),
    ] {
        let lines: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(directory.path().join(".env"), lines.concat()).unwrap();
        let program = Program::start(directory.path(), &[]);
        assert_eq!(program.post(REGISTER, &ada()).await.status, 201);
        assert_eq!(program.post("/api/v1/auth/password/forgot", &ada()).await.status, 202);
        let mails = reply_to(program.request(Method::GET, "/.local/mail?to=ada@example.com")).await.unwrap().body;
        // Mails of one pass are sent side by side, so the latest is not always the last.
        let mail = mails.as_array().unwrap().iter().find(|mail| mail["subject"] == subject);
        let text = mail.unwrap_or_else(|| panic!("{mails}"))["text"].as_str().unwrap();
        let link = if link.starts_with('/') { format!("{}{link}", program.url) } else { link.to_owned() };
        assert!(text.contains(&link), "{text}");
    }
}

#[tokio::test]
async fn a_value_in_the_file_env_is_taken_as_written() {
    const ISSUER: &str = "https://$HOME.${HOME}.pa$$word.example";
    const SECRET: &str = r"7$HOME#Qx\n$$Zk3vQxw8Jd1mRzT6yPbLc9s";
    let directory = tempfile::tempdir().unwrap();
    let lines = [
        "\u{feff}# a comment",
        &format!("JWT_SECRET_KEY={SECRET}"),
        &format!("export JWT_ISSUER={ISSUER} # a comment"),
    ];
    fs::write(directory.path().join(".env"), lines.join("\r\n")).unwrap();
    let mut program = Program::start(directory.path(), &["--data", "data"]);
    let token = program.post(REGISTER, &ada()).await.text("access_token");
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap()["iss"], ISSUER);
    assert_eq!(program.stop("INT"), Some(0));

    // Without the file, the environment gives the same secret.
    fs::remove_file(directory.path().join(".env")).unwrap();
    let variables = [("JWT_SECRET_KEY", SECRET), ("JWT_ISSUER", ISSUER)];
    let program = Program::start_with(directory.path(), &["--data", "data"], &variables);
    assert_eq!(program.me(&token).await.status, 200);
}

#[test]
fn a_fault_in_the_file_env_names_its_line_and_shows_nothing_of_it() {
    const SECRET: &str = "hunter2hunter2";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(".env");
    for line in [SECRET, "JWT SECRET KEY=hunter2hunter2", "JWT_SECRET_KEY=\"hunter2hunter2"] {
        fs::write(&file, format!("MAX_SESSIONS=7\n{line}\n")).unwrap();
        let failure = failure(command(directory.path(), &["--port", "0"]));
        assert!(failure.contains(".env: line 2 ") && !failure.contains(SECRET), "{failure}");
    }
}

#[test]
fn the_fault_of_an_option_names_the_option() {
    let directory = tempfile::tempdir().unwrap();
    for (option, value, code) in [
        ("--port", "70000", 2),
        ("--table-port", "x", 2),
        ("--allow-origin", "https://app.example.com/", 2),
        ("--allow-origin", "*", 2),
        ("--table-endpoint", "localhost:8000", 2),
        ("--table-endpoint", "http://", 2),
        ("--table-endpoint", "http://127.0.0.1:1", 1),
        ("--data", "nowhere/data", 1),
    ] {
        let failure = failure_with(code, command(directory.path(), &["--port", "0", option, value]));
        assert!(failure.contains(option), "{failure}");
        for variable in ["ALLOWED_ORIGINS", "TABLE_ENDPOINT"] {
            assert!(!failure.contains(variable), "{failure}");
        }
    }
    let mut both = command(directory.path(), &["--port", "0", "--data", "data"]);
    both.env("TABLE_ENDPOINT", "http://127.0.0.1:1");
    let failure = failure(both);
    assert!(failure.starts_with("--data: ") && failure.contains("TABLE_ENDPOINT"), "{failure}");
}

#[test]
fn se1_the_secret_of_the_demo_is_refused_without_the_demo() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &["--port", "0"]);
    command.env("JWT_SECRET_KEY", local::demo::SECRET);
    let failure = failure(command);
    assert!(failure.contains("JWT_SECRET_KEY") && failure.contains("--demo"), "{failure}");
    assert!(!failure.contains(local::demo::SECRET), "{failure}");
}
