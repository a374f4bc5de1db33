//! The systems: how each is started, and how it is asked for a refresh.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::{CONTENT_TYPE, COOKIE};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::postgres::Postgres;
use crate::process::{Process, Usage};
use crate::statements::Statements;
use crate::wire::Wire;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// The lifetime of access tokens in all systems, in seconds.
const LIFETIME: i64 = 3600;
/// Of this benchmark alone.
const SECRET: &str = "kJ2Y0v8mTz5qXw3rB7nL1cF6hD9sG4pA";

/// Where a server keeps its data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A PostgreSQL of its own.
    Postgres,
    /// A file.
    Sqlite,
}

/// What a server is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Freshkey's refresh.
    Freshkey,
    /// The refresh of djangorestframework-simplejwt.
    Simplejwt,
    /// The refresh grant of better-auth's OAuth provider.
    Provider,
    /// An access token for better-auth's session, which does not rotate.
    Session,
}

/// What a system answers to a refresh.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded; what the next refresh presents.
    Refreshed(String),
    /// What was presented is not accepted.
    Refused,
    /// Anything else.
    Failed(String),
}

/// What a user holds after a login.
#[derive(Clone)]
pub struct Login {
    token: String,
    cookie: String,
}

impl Login {
    /// What a refresh of `api` presents.
    pub fn credential(&self, api: Api) -> String {
        if api == Api::Session { self.cookie.clone() } else { self.token.clone() }
    }
}

impl Api {
    /// Whether each refresh replaces what was presented.
    pub fn rotates(self) -> bool {
        self != Self::Session
    }

    /// A refresh with `credential`, and an `Idempotency-Key` if there is one.
    pub async fn refresh(self, http: &Client, url: &str, credential: &str, key: Option<&str>) -> Answer {
        let request = self.request(http, url, credential);
        let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Answer::Failed(format!("{error:?}")),
        };
        let status = response.status().as_u16();
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Answer::Failed(format!("{error:?}")),
        };
        let next = serde_json::from_slice(&body).ok().and_then(|body| self.next(credential, &body));
        match (status, next) {
            (200, Some(next)) => Answer::Refreshed(next),
            (400 | 401, _) => Answer::Refused,
            _ => Answer::Failed(format!("{status} {}", String::from_utf8_lossy(&body))),
        }
    }

    fn request(self, http: &Client, url: &str, credential: &str) -> RequestBuilder {
        let post = |path: &str, content_type: &str, body: String| {
            http.post(format!("{url}{path}")).header(CONTENT_TYPE, content_type).body(body)
        };
        match self {
            Self::Freshkey => {
                let body = json!({ "refresh_token": credential }).to_string();
                post("/api/v1/auth/refresh", "application/json", body)
            }
            Self::Simplejwt => {
                post("/api/token/refresh/", "application/json", json!({ "refresh": credential }).to_string())
            }
            Self::Provider => {
                let resource = "https%3A%2F%2Fapi.example.com";
                let body =
                    format!("grant_type=refresh_token&client_id=app&resource={resource}&refresh_token={credential}");
                post("/api/auth/oauth2/token", "application/x-www-form-urlencoded", body)
            }
            Self::Session => http.get(format!("{url}/api/auth/token")).header(COOKIE, credential),
        }
    }

    /// What to present next, if the answer has what it should: an access token of the
    /// right lifetime, and another refresh token where they rotate.
    fn next(self, credential: &str, body: &Value) -> Option<String> {
        let (access, refresh) = match self {
            Self::Freshkey | Self::Provider => ("access_token", "refresh_token"),
            Self::Simplejwt => ("access", "refresh"),
            Self::Session => ("token", ""),
        };
        let claims = body[access].as_str()?.split('.').nth(1)?;
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        // Some take the two times from the clock one after the other.
        if !(LIFETIME - 2..=LIFETIME).contains(&(claims["exp"].as_i64()? - claims["iat"].as_i64()?)) {
            return None;
        }
        if !self.rotates() {
            return Some(credential.to_owned());
        }
        body[refresh].as_str().filter(|token| *token != credential).map(str::to_owned)
    }
}

/// A server that runs, and the users who have logged in to it.
pub struct Server {
    // Fields are dropped in this order: the server stops before its database.
    process: Process,
    /// Its address.
    pub url: String,
    /// The users.
    pub logins: Vec<Login>,
    database: Database,
    // Deleted at the end.
    _folder: TempDir,
}

/// What a server keeps its data in.
enum Database {
    Postgres(Postgres),
    Wire(Wire),
    File,
}

impl Server {
    /// Starts Freshkey's local system, with its data in a file or in memory.
    pub async fn freshkey(program: &Path, in_file: bool, users: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut freshkey = command(program, folder.path());
        if in_file {
            freshkey.arg("--data").arg(folder.path().join("data"));
        }
        Self::start_freshkey(freshkey, Database::File, folder, users).await
    }

    /// Starts Freshkey's local system, with its data in another one, so that its calls
    /// to the table can be counted.
    pub async fn freshkey_on_the_wire(program: &Path, users: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, table_port) = (free_port(), free_port());
        let mut engine = command(program, folder.path());
        engine.args(["--port", &port.to_string(), "--table-port", &table_port.to_string()]);
        let engine = Process::start(&mut engine, "TERM", &folder.path().join("log of the table"));
        // Then it has made the table.
        assert!(answers(&format!("http://127.0.0.1:{port}")).await, "the table does not start");
        let wire = Wire::start(engine, table_port).await;
        let mut freshkey = command(program, folder.path());
        freshkey.arg("--table-endpoint").arg(wire.url());
        Self::start_freshkey(freshkey, Database::Wire(wire), folder, users).await
    }

    async fn start_freshkey(mut freshkey: Command, database: Database, folder: TempDir, users: usize) -> Self {
        let port = free_port();
        freshkey.arg("--port").arg(port.to_string()).env("JWT_SECRET_KEY", SECRET);
        // All clients have one address, and refresh more often than any real one.
        freshkey.env("LIMIT_REGISTRATIONS_PER_ADDRESS", "1000000").env("REFRESH_BURST", "1000000000");
        let mut server = Self::start(freshkey, port, database, folder).await;
        let http = Client::new();
        for user in 0..users {
            let body = json!({ "email": format!("user{user}@example.com"), "password": "correct horse battery" });
            let request = http.post(format!("{}/api/v1/auth/register", server.url)).json(&body);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            server.logins.push(login(&answer["refresh_token"], &Value::Null));
        }
        server
    }

    /// Starts Django under gunicorn, with the number of workers that gunicorn's
    /// documentation recommends: two for each CPU and one more.
    pub async fn django(store: Store, users: usize) -> Self {
        let home = Path::new(FOLDER).join("django");
        let folder = tempfile::tempdir().unwrap();
        let (database, mut variables) = database(store, &folder);
        variables.insert("SECRET", SECRET.into());
        let python = home.join(".venv/bin/python");
        let mut seeds = command(&python, &home);
        seeds.envs(&variables).arg("app.py").arg(users.to_string());
        let logins = seed(seeds);
        let port = free_port();
        let workers = 2 * std::thread::available_parallelism().unwrap().get() + 1;
        let mut gunicorn = command(&python, &home);
        gunicorn.envs(&variables).args(["-m", "gunicorn", "app", "--threads", "4"]);
        gunicorn.arg("--workers").arg(workers.to_string()).arg("--bind").arg(format!("127.0.0.1:{port}"));
        Self { logins, ..Self::start(gunicorn, port, database, folder).await }
    }

    /// Starts better-auth, with a process for each CPU. Within `reuse_interval` seconds,
    /// its provider gives a spent token its answer again.
    pub async fn better_auth(store: Store, reuse_interval: u32, users: usize) -> Self {
        let home = Path::new(FOLDER).join("better-auth");
        let folder = tempfile::tempdir().unwrap();
        let (database, mut variables) = database(store, &folder);
        let port = free_port();
        variables.insert("BASE_URL", format!("http://127.0.0.1:{port}"));
        variables.insert("NODE_ENV", "production".into());
        variables.insert("PORT", port.to_string());
        variables.insert("REUSE_INTERVAL", reuse_interval.to_string());
        variables.insert("SECRET", SECRET.into());
        let node = |script: &str| {
            let mut node = command(Path::new("node"), &home);
            node.envs(&variables).arg(script);
            node
        };
        let mut seeds = node("seed.js");
        seeds.arg(users.to_string());
        let logins = seed(seeds);
        Self { logins, ..Self::start(node("serve.js"), port, database, folder).await }
    }

    async fn start(mut command: Command, port: u16, database: Database, folder: TempDir) -> Self {
        let process = Process::start(&mut command, "TERM", &folder.path().join("log"));
        let url = format!("http://127.0.0.1:{port}");
        let ready = answers(&url).await;
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(ready, "{command:?} does not start:\n{}", log());
        Self { process, url, logins: Vec::new(), database, _folder: folder }
    }

    /// What the server uses.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// What its database uses, if it is another program.
    pub fn database_usage(&self) -> Usage {
        match &self.database {
            Database::Postgres(postgres) => postgres.usage(),
            Database::Wire(wire) => wire.usage(),
            Database::File => Usage::default(),
        }
    }

    /// What is stored, as text; on the wire, all that was sent there.
    ///
    /// # Panics
    ///
    /// The data are in a file.
    pub fn stored(&self) -> String {
        match &self.database {
            Database::Postgres(postgres) => postgres.dump(),
            Database::Wire(wire) => wire.sent(),
            Database::File => panic!("no database that can be asked"),
        }
    }

    /// The statements for `work`, and the rows that it leaves behind.
    ///
    /// # Panics
    ///
    /// The data are in a file.
    pub async fn statements(&self, work: impl Future<Output = ()>) -> (Statements, usize) {
        match &self.database {
            Database::Postgres(postgres) => {
                let (before, rows) = (postgres.statements(), postgres.rows());
                postgres.log_statements(true);
                work.await;
                postgres.log_statements(false);
                (postgres.statements().since(before), postgres.rows() - rows)
            }
            Database::Wire(wire) => {
                let before = wire.sent().len();
                work.await;
                wire.statements_since(before)
            }
            Database::File => panic!("no database that can be asked"),
        }
    }
}

/// Waits until a server answers, and returns whether it does.
async fn answers(url: &str) -> bool {
    let answers = timeout(PATIENCE, async {
        while reqwest::get(url).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    answers.await.is_ok()
}

/// A command with nothing but the necessary from this environment.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear();
    command.envs(["HOME", "PATH"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

/// An empty database in `folder` or elsewhere, and the variables that lead to it.
fn database(store: Store, folder: &TempDir) -> (Database, BTreeMap<&'static str, String>) {
    match store {
        Store::Postgres => {
            let postgres = Postgres::start();
            let host = postgres.host().to_str().unwrap().to_owned();
            (Database::Postgres(postgres), BTreeMap::from([("POSTGRES", host)]))
        }
        Store::Sqlite => {
            let file = folder.path().join("data.sqlite").to_str().unwrap().to_owned();
            (Database::File, BTreeMap::from([("SQLITE", file)]))
        }
    }
}

/// The users that a program makes, and prints as a JSON document a line.
fn seed(mut command: Command) -> Vec<Login> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let logins = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    logins.map(|line| login(&line["token"], &line["cookie"])).collect()
}

fn login(token: &Value, cookie: &Value) -> Login {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Login { token: text(token), cookie: text(cookie) }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A path of the repository.
pub fn repository(path: &Path) -> PathBuf {
    Path::new(FOLDER).join("../..").join(path)
}
