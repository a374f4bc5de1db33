//! The functions, the API in front of them and the table behind them, as
//! `template.yaml` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::SharedHttpClient;
use axum::body::Bytes;
use freshkey::config::{ConfigError, MailerConfig};
use freshkey::{App, Clock as _, Config, Function};
use futures_util::future::pending;
use http::{Request, Response};
use lambda_runtime::Context;
use mailer::{Mailer, Report};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::interval;
use tracing::Level;

use crate::bell::Bell;
use crate::clock::LocalClock;
use crate::engine::{self, Engine};
use crate::gateway::{Call, Gateway, RouteError, Step};
use crate::mailbox::Mailbox;
use crate::secret;
use crate::template::{self, Template};

/// The limits, unless a variable sets them: so high that nobody who tries the
/// system out reaches them. LIMIT_ACCOUNTS_PER_ADDRESS is lower, because one item
/// of the table holds all accounts that an address has tried.
const LIMITS: [(&str, &str); 7] = [
    ("LIMIT_FREE_GUESSES", "1000000"),
    ("LIMIT_GUESSES", "1000000"),
    ("LIMIT_FAILURES_PER_ADDRESS", "1000000"),
    ("LIMIT_ACCOUNTS_PER_ADDRESS", "1000"),
    ("LIMIT_REGISTRATIONS_PER_ADDRESS", "1000000"),
    ("LIMIT_MAIL_REQUESTS_PER_ADDRESS", "1000000"),
    ("LIMIT_LINKS_PER_ADDRESS", "1000000"),
];

/// The variables that are parameters of the template, because the resources depend
/// on them as well.
const PARAMETERS: [(&str, &str); 2] = [("REFRESH_TOKEN_TRANSPORT", "RefreshTokenTransport"), ("MAIL_FROM", "MailFrom")];

/// The function that sends the mails. It has no routes.
const MAILER: &str = "mailer";
/// The function that starts without keys.
const RECOVERY: &str = "recovery";

/// Settings of a system.
#[derive(Debug)]
pub struct Options {
    /// The file of the template.
    pub template: PathBuf,
    /// The file for the table. Without one, the table is in memory.
    pub data: Option<PathBuf>,
    /// The URL of another DynamoDB to use instead of the embedded one.
    pub table_endpoint: Option<String>,
    /// Allowed origins besides those in ALLOWED_ORIGINS.
    pub allow_origins: Vec<String>,
    /// Variables that override those of the template. An empty value counts as
    /// not set.
    pub variables: BTreeMap<String, String>,
    /// The clock of the whole system.
    pub clock: LocalClock,
    /// The HTTP client of the functions' calls to AWS, for tests that count calls
    /// or make them fail.
    pub http_client: Option<SharedHttpClient>,
}

/// Why the system does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template cannot be read.
    #[error("the local system cannot use the template: {0}")]
    Template(#[from] template::Error),
    /// Two routes of the template take the same requests.
    #[error("the local system cannot use the template: {0}")]
    Route(#[from] RouteError),
    /// The template has a function that is not built into the local system.
    #[error("the template has a function {0}, which is not built into the local system")]
    UnknownFunction(String),
    /// A schedule or the table's stream invokes a function that is not the mailer.
    #[error("the function {0} has a schedule or a stream, which the local system runs for {MAILER} alone")]
    Trigger(String),
    /// The mailbox cannot listen.
    #[error("the mailbox does not start: {0}")]
    Mailbox(std::io::Error),
    /// Both a data file and another DynamoDB are given.
    #[error("a data file works only with the embedded DynamoDB, not with another one (TABLE_ENDPOINT)")]
    TwoTables,
    /// The file with the secret cannot be used.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The table cannot be found or created.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The functions' variables have faults: all of them, each once.
    #[error("the configuration has {} fault(s):\n{}", .0.len(), .0.join("\n"))]
    Configuration(Vec<String>),
}

/// A running system.
#[derive(Debug)]
pub struct System {
    gateway: Gateway,
    functions: BTreeMap<String, Arc<Function>>,
    engine: Option<Engine>,
    table_endpoint: String,
    table_name: String,
    clock: LocalClock,
    mailbox: Mailbox,
    delivery: Option<Delivery>,
    /// The mailbox's own server, which ends with the system.
    _ses: JoinSet<()>,
}

/// The mailer, and what invokes it.
#[derive(Debug)]
struct Delivery {
    mailer: Arc<Mailer>,
    schedule: Option<Duration>,
    bell: Bell,
    running: Mutex<()>,
}

impl System {
    /// Starts a system. It serves HTTP once [`System::serve`] is called.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] or [`Error::Route`] if the template cannot be used;
    /// [`Error::UnknownFunction`] if one of its functions is not built in;
    /// [`Error::Trigger`] if a schedule or a stream invokes another function than the
    /// mailer; [`Error::Mailbox`] if the mailbox cannot listen;
    /// [`Error::TwoTables`] if both a data file and another DynamoDB are given;
    /// [`Error::Secret`] if the file with the secret cannot be used;
    /// [`Error::Engine`] if the table cannot be found or created;
    /// [`Error::Configuration`] if variables have faults.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options { data, allow_origins, clock, http_client, .. } = options;
        let mut variables = options.variables;
        variables.retain(|_, value| !value.is_empty());
        let origins = variables.remove("ALLOWED_ORIGINS").into_iter().chain(allow_origins);
        let origins = origins.collect::<Vec<_>>().join(",");
        let origins =
            origins.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect::<Vec<_>>().join(",");
        let given = PARAMETERS.map(|(variable, parameter)| (parameter, variables.remove(variable)));
        let mut parameters = vec![("AllowedOrigins", origins.as_str())];
        parameters.extend(given.iter().filter_map(|(parameter, value)| Some((*parameter, value.as_deref()?))));
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

        let mailbox = Mailbox::new(clock.clone());
        let mut ses = JoinSet::new();
        if !variables.contains_key("MAIL_ENDPOINT") {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Mailbox)?;
            let address = listener.local_addr().map_err(Error::Mailbox)?;
            variables.insert("MAIL_ENDPOINT".into(), format!("http://{address}"));
            let server = axum::serve(listener, mailbox.ses());
            ses.spawn(async move { drop(server.await) });
        }

        let Configs { functions: configs, mailer } = configs(&template, &variables)?;
        engine::ensure_table(&table_endpoint, &template.table).await?;
        let (mut http_client, mut delivery) = (http_client, None);
        if let Some((function, config)) = mailer {
            let mailer = Mailer::connect(config, Arc::new(clock.clone()), http_client.clone()).await;
            let bell = Bell::new(function.wakes_on.as_deref());
            http_client = Some(bell.on(http_client));
            delivery = Some(Delivery { mailer, schedule: function.schedule, bell, running: Mutex::default() });
        }
        let mut functions = BTreeMap::new();
        for (name, config) in configs {
            let app = App::connect(config, Arc::new(clock.clone()), http_client.clone()).await;
            let function = built_in(name, app).ok_or_else(|| Error::UnknownFunction(name.into()))?;
            functions.insert(name.to_owned(), Arc::new(function));
        }
        let gateway = Gateway::new(&template)?;
        let table_name = template.table.name;
        Ok(Self { gateway, functions, engine, table_endpoint, table_name, clock, mailbox, delivery, _ses: ses })
    }

    /// Answers a `request` from the address `source`, as API Gateway would. A
    /// function that was called runs to its end, even if this future is dropped.
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

    /// Runs the mailer once, to its end, after any other run of it has ended. Returns
    /// what it did; `None` with mail off. Only [`System::serve`] runs it as well.
    pub async fn deliver_mail(&self) -> Option<Report> {
        let Delivery { mailer, running, .. } = self.delivery.as_ref()?;
        let _running = running.lock().await;
        Some(mailer.work(&request_id()).await)
    }

    /// Returns the mailbox that holds what the mailer has sent.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Runs the mailer whenever a function has put a mail into the table, and on its
    /// schedule. Never completes.
    pub(crate) async fn keep_delivering(&self) {
        let Some(Delivery { schedule, bell, .. }) = &self.delivery else { return pending().await };
        let mut schedule = schedule.map(interval);
        loop {
            let due = async {
                match &mut schedule {
                    Some(schedule) => drop(schedule.tick().await),
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = bell.rung() => {}
            }
            self.deliver_mail().await;
        }
    }

    /// Returns the function `name`, if the template has it.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name).map(Arc::as_ref)
    }

    /// Returns the functions' log level, from LOG_LEVEL.
    pub fn log_level(&self) -> Level {
        let function = self.functions.values().next();
        function.map_or(Level::INFO, |function| function.app().config().log_level)
    }

    /// Returns the clock of the whole system.
    pub fn clock(&self) -> &LocalClock {
        &self.clock
    }

    /// Returns the URL of the DynamoDB that holds the table.
    pub fn table_endpoint(&self) -> &str {
        &self.table_endpoint
    }

    /// Returns the name of the table.
    pub fn table_name(&self) -> &str {
        &self.table_name
    }

    /// Stops the embedded DynamoDB, after it has answered the requests in flight.
    pub async fn stop(&self) {
        if let Some(engine) = &self.engine {
            engine.stop().await;
        }
    }
}

/// The settings of the functions.
struct Configs<'a> {
    /// Those of the functions with an app, with their names.
    functions: Vec<(&'a str, Config)>,
    /// Those of the mailer, if the template has it.
    mailer: Option<(&'a template::Function, MailerConfig)>,
}

/// Returns the settings of the functions of `template`.
///
/// # Errors
///
/// [`Error::Trigger`] if a schedule or a stream invokes another function than the
/// mailer; [`Error::Configuration`] with the faults of all functions, each fault once.
fn configs<'a>(template: &'a Template, variables: &BTreeMap<String, String>) -> Result<Configs<'a>, Error> {
    let mut configs = Configs { functions: Vec::new(), mailer: None };
    let mut faults = BTreeSet::new();
    // The first line of an error is its headline.
    let mut fault = |error: ConfigError| faults.extend(error.to_string().lines().skip(1).map(str::to_owned));
    for function in &template.functions {
        let lookup = |name: &str| variables.get(name).or(function.variables.get(name)).cloned();
        if function.name == MAILER {
            configs.mailer = MailerConfig::parse(lookup).map_err(&mut fault).ok().map(|config| (function, config));
        } else if function.schedule.is_some() || function.wakes_on.is_some() {
            return Err(Error::Trigger(function.name.clone()));
        } else {
            let signs = function.name != RECOVERY;
            let config = if signs { Config::parse(lookup) } else { Config::parse_without_keys(lookup) };
            let config = config.map_err(&mut fault);
            configs.functions.extend(config.ok().map(|config| (function.name.as_str(), config)));
        }
    }
    if faults.is_empty() {
        return Ok(configs);
    }
    Err(Error::Configuration(faults.into_iter().collect()))
}

fn built_in(name: &str, app: Arc<App>) -> Option<Function> {
    Some(match name {
        "account" => Function::new(app, account::handle),
        "authorizer" => Function::authorizer(app, authorizer::handle),
        "email" => Function::new(app, email::handle),
        "keys" => Function::new(app, keys::handle),
        "login" => Function::new(app, login::handle),
        "logout" => Function::new(app, logout::handle),
        RECOVERY => Function::new(app, recovery::handle),
        "refresh" => Function::new(app, refresh::handle),
        "register" => Function::new(app, register::handle),
        _ => return None,
    })
}

fn request_id() -> String {
    uuid::Builder::from_random_bytes(freshkey::entropy::bytes()).into_uuid().to_string()
}

#[cfg(test)]
mod tests;
