//! The program as a user starts and stops it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

struct Program {
    process: Child,
    url: String,
    greeting: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn signal(&mut self, signal: &str) -> Option<i32> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.current_dir(directory).args(arguments).env_clear();
    command
}

fn start(directory: &Path, arguments: &[&str]) -> Program {
    let mut command = command(directory, &[&["--port", "0"], arguments].concat());
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let mut greeting = String::new();
    while !greeting.contains("curl ") {
        assert_ne!(lines.read_line(&mut greeting).unwrap(), 0, "{greeting}");
    }
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    let url = greeting.split_whitespace().find(|word| word.starts_with("http://"));
    let url = url.unwrap().trim_end_matches('.').to_owned();
    Program { process, url, greeting }
}

fn failure(directory: &Path, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = command(directory, arguments).output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

fn ada() -> Value {
    json!({"email": "ada@example.com", "password": "correct horse battery"})
}

#[tokio::test]
async fn it_says_where_it_is_and_how_to_begin_and_stops_when_told() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        let mut program = start(directory.path(), &[]);
        let first = format!("curl {}/api/v1/auth/register ", program.url);
        assert!(program.greeting.contains(&first), "{}", program.greeting);
        assert_eq!(program.post("/api/v1/auth/register", ada()).await.0, 201);
        assert_eq!(program.signal(signal), Some(0), "{signal}");
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &["--data", "data"]);
    let (_, tokens) = program.post("/api/v1/auth/register", ada()).await;
    assert_eq!(program.signal("-KILL"), None);
    let program = start(directory.path(), &["--data", "data"]);
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(program.post("/api/v1/auth/refresh", refresh).await.0, 200);
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failure = failure(directory.path(), &["--port", &port]);
    assert_eq!(failure, format!("port {port} is taken; choose another with --port\n"));
}

#[tokio::test]
async fn variables_are_read_from_the_file_env_but_the_process_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(path.join(".env"), "JWT_ACCESS_TOKEN_EXPIRE_MINUTES=3\n").unwrap();
    let program = start(path, &[]);
    assert_eq!(program.post("/api/v1/auth/register", ada()).await.1["expires_in"], 180);

    std::fs::write(path.join(".env"), "MAX_SESSIONS=many\nJWT_LEEWAY_SECONDS=long\nLOG_LEVEL=LOUD\n").unwrap();
    let mut command = command(path, &["--port", "0"]);
    let Output { status, stderr, .. } = command.env("LOG_LEVEL", "INFO").output().unwrap();
    let faults = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{faults}");
    assert!(faults.contains("MAX_SESSIONS") && faults.contains("JWT_LEEWAY_SECONDS"), "{faults}");
    assert!(!faults.contains("LOG_LEVEL"), "{faults}");
}

#[test]
fn a_broken_file_env_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "this is no variable\n").unwrap();
    let failure = failure(directory.path(), &["--port", "0"]);
    assert!(failure.starts_with(".env: "), "{failure}");
}
