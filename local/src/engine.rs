//! The embedded DynamoDB, and the template's table in it or in another one.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, TimeToLiveSpecification, TimeToLiveStatus,
};
use dynoxide::Database;
use freshkey::Clock;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use crate::template::Table;

/// The pause between two sweeps, which delete expired items. AWS may take days to
/// delete them, so no code may rely on it.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a sweep of a large table, in multiples of the time that it took. It
/// reads every item: without a longer pause, the engine would do little else.
const PAUSE_PER_SWEEP: u32 = 20;

/// How long creating the table and stopping the engine may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the table cannot be used.
    #[error("{path}: {problem}", path = .path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The embedded DynamoDB does not start.
    #[error("the embedded DynamoDB does not start: {0}")]
    Start(String),
    /// The table cannot be looked up or created.
    #[error("the table {table} at {endpoint}: {problem}")]
    Table {
        /// The name of the table.
        table: String,
        /// The URL of the DynamoDB.
        endpoint: String,
        /// The reason.
        problem: String,
    },
}

/// An embedded DynamoDB that listens on 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Engine {
    endpoint: String,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Engine {
    /// Starts an engine that keeps its tables in `file`, or in memory. In memory,
    /// items expire by `clock`; in a file, by the machine's clock.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file cannot be used; [`Error::Start`] if the engine
    /// cannot listen, or cannot create its tables in memory.
    pub async fn start(file: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(started)?;
        Self::start_on(listener, file, clock).await
    }

    /// Starts an engine as [`Engine::start`] does, but on `listener`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file cannot be used; [`Error::Start`] if the listener
    /// has no address, or the tables cannot be created in memory.
    pub async fn start_on(listener: TcpListener, file: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let database = open(file.map(Path::to_owned), clock).await?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(started)?);

        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(database.clone(), stopping.clone()));
        tasks.spawn(async move {
            let stopped = stopped(stopping);
            if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, stopped).await {
                tracing::error!(error, "the embedded DynamoDB has stopped");
            }
        });
        Ok(Self { endpoint, stop, tasks: Mutex::new(tasks) })
    }

    /// Returns the engine's URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Answers the requests in flight, then stops the engine.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        if timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

fn started(error: std::io::Error) -> Error {
    Error::Start(error.to_string())
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the engine was dropped, which stops it too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn sweep(database: Database, stopping: watch::Receiver<bool>) {
    let sweeps = async {
        loop {
            let (database, start) = (database.clone(), Instant::now());
            if let Ok(Err(error)) = spawn_blocking(move || database.sweep_ttl()).await {
                tracing::warn!(%error, "expired items were not deleted");
            }
            sleep(PAUSE.max(start.elapsed() * PAUSE_PER_SWEEP)).await;
        }
    };
    tokio::select! {
        () = sweeps => {}
        () = stopped(stopping) => {}
    }
}

async fn open(file: Option<PathBuf>, clock: Arc<dyn Clock>) -> Result<Database, Error> {
    let opened = spawn_blocking(move || match file {
        None => {
            Database::memory_with_clock(Arc::new(EngineClock(clock))).map_err(|error| Error::Start(error.to_string()))
        }
        Some(path) => path
            .to_str()
            .ok_or("the path is not UTF-8".to_owned())
            .and_then(|path| Database::new(path).map_err(|error| error.to_string()))
            .map_err(|problem| Error::File { path, problem }),
    });
    opened.await.map_err(|error| Error::Start(error.to_string()))?
}

struct EngineClock(Arc<dyn Clock>);

impl dynoxide::storage_backend::Clock for EngineClock {
    fn now_unix_secs(&self) -> u64 {
        self.0.now().seconds().try_into().unwrap_or_default()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.0.now().millis() as f64 / 1000.0
    }
}

/// Creates `table` in the DynamoDB at `endpoint` if it does not exist.
///
/// # Errors
///
/// [`Error::Table`] if the DynamoDB does not answer, or refuses a call.
pub async fn ensure_table(endpoint: &str, table: &Table) -> Result<(), Error> {
    let made = make_table(&client(endpoint).await, table).await;
    made.map_err(|problem| Error::Table { table: table.name.clone(), endpoint: endpoint.to_owned(), problem })
}

/// A client like the one in the functions. A DynamoDB behind plain HTTP is on this
/// machine: it accepts any credentials, but may keep separate tables for each.
async fn client(endpoint: &str) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).endpoint_url(endpoint);
    if endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) {
        let anyone = Credentials::new("local", "local", None, None, "a DynamoDB on this machine");
        loader = loader.region(Region::from_static("local")).credentials_provider(anyone);
    }
    Client::new(&loader.load().await)
}

async fn make_table(client: &Client, table: &Table) -> Result<(), String> {
    let name = &table.name;
    match client.describe_table().table_name(name).send().await {
        Ok(_) => {}
        Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => {
            let keys = table.keys.iter().map(|(name, kind)| {
                KeySchemaElement::builder().attribute_name(name).key_type(kind.as_str().into()).build()
            });
            let attributes = table.attributes.iter().map(|(name, kind)| {
                AttributeDefinition::builder().attribute_name(name).attribute_type(kind.as_str().into()).build()
            });
            let create = client
                .create_table()
                .table_name(name)
                .set_key_schema(Some(keys.collect::<Result<_, _>>().map_err(shown)?))
                .set_attribute_definitions(Some(attributes.collect::<Result<_, _>>().map_err(shown)?))
                .billing_mode(BillingMode::PayPerRequest);
            create.send().await.map_err(shown)?;
            let there = client.wait_until_table_exists().table_name(name);
            there.wait(PATIENCE).await.map_err(shown)?;
        }
        Err(error) => return Err(shown(error)),
    }

    let Some(attribute) = &table.ttl else { return Ok(()) };
    let ttl = client.describe_time_to_live().table_name(name).send().await.map_err(shown)?;
    let status = ttl.time_to_live_description.and_then(|ttl| ttl.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let ttl = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build();
    let ttl = ttl.map_err(shown)?;
    let update = client.update_time_to_live().table_name(name).time_to_live_specification(ttl);
    update.send().await.map_err(shown).map(drop)
}

fn shown(error: impl std::error::Error) -> String {
    DisplayErrorContext(error).to_string()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use freshkey::{ManualClock, Timestamp};

    use super::*;

    fn table() -> Table {
        let pairs = |pairs: [(&str, &str); 2]| pairs.map(|(name, kind)| (name.to_owned(), kind.to_owned())).to_vec();
        Table {
            name: "Table".into(),
            keys: pairs([("pk", "HASH"), ("sk", "RANGE")]),
            attributes: pairs([("pk", "S"), ("sk", "S")]),
            ttl: Some("expires_at".into()),
            has_stream: false,
        }
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)))
    }

    async fn put(client: &Client, name: &str, expires_at: i64) {
        let put = client
            .put_item()
            .table_name("Table")
            .item("pk", AttributeValue::S(name.into()))
            .item("sk", AttributeValue::S("x".into()))
            .item("expires_at", AttributeValue::N(expires_at.to_string()));
        put.send().await.unwrap();
    }

    async fn is_there(client: &Client, name: &str) -> bool {
        let get = client
            .get_item()
            .table_name("Table")
            .key("pk", AttributeValue::S(name.into()))
            .key("sk", AttributeValue::S("x".into()));
        get.send().await.unwrap().item.is_some()
    }

    #[tokio::test]
    async fn the_table_is_created_once_with_its_ttl() {
        let engine = Engine::start(None, clock()).await.unwrap();
        for _ in 0..2 {
            ensure_table(engine.endpoint(), &table()).await.unwrap();
        }
        let client = client(engine.endpoint()).await;
        let ttl = client.describe_time_to_live().table_name("Table").send().await.unwrap();
        let ttl = ttl.time_to_live_description.unwrap();
        assert_eq!(ttl.attribute_name.as_deref(), Some("expires_at"));
        assert_eq!(ttl.time_to_live_status, Some(TimeToLiveStatus::Enabled));
        engine.stop().await;
    }

    #[tokio::test]
    async fn items_expire_by_the_given_clock() {
        let database = open(None, clock()).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (_stop, stopping) = watch::channel(false);
        tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database.clone(), stopped(stopping)));
        ensure_table(&endpoint, &table()).await.unwrap();
        let client = client(&endpoint).await;
        put(&client, "past", 999).await;
        put(&client, "future", 1_001).await;
        assert_eq!(database.sweep_ttl().unwrap(), 1);
        assert!(!is_there(&client, "past").await);
        assert!(is_there(&client, "future").await);
    }

    #[tokio::test]
    async fn a_file_keeps_the_table_and_its_items() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data");
        for round in 0..2 {
            let engine = Engine::start(Some(&file), clock()).await.unwrap();
            ensure_table(engine.endpoint(), &table()).await.unwrap();
            let client = client(engine.endpoint()).await;
            assert_eq!(is_there(&client, "kept").await, round == 1);
            put(&client, "kept", i64::from(i32::MAX)).await;
            engine.stop().await;
        }
    }

    #[tokio::test]
    async fn a_stopped_engine_is_gone() {
        let engine = Engine::start(None, clock()).await.unwrap();
        let address = engine.endpoint().strip_prefix("http://").unwrap().to_owned();
        engine.stop().await;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_database_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data");
        std::fs::write(&file, "this is not a database, but long enough to be taken for one").unwrap();
        let error = Engine::start(Some(&file), clock()).await.unwrap_err().to_string();
        assert!(error.contains("data: "), "{error}");
    }

    #[tokio::test]
    async fn a_dynamodb_that_does_not_answer_is_an_error_that_names_it() {
        let error = ensure_table("http://127.0.0.1:1", &table()).await.unwrap_err().to_string();
        assert!(error.contains("Table at http://127.0.0.1:1"), "{error}");
    }
}
