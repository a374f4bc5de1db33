//! `make dev`: starts the local system.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use freshkey::SystemClock;
use freshkey::transport::is_origin;
use http::Uri;
use local::engine::Engine;
use local::{Error, LocalClock, Options, System, TEMPLATE, demo, env_file};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs Freshkey on this machine: the functions, the table and the API of
/// template.yaml.
#[derive(Parser)]
struct Arguments {
    /// The port to listen on, on 127.0.0.1. With 0, any free port.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep the table in FILE and the secret in FILE.secret. Without this option,
    /// both are lost when the program ends.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Use the DynamoDB at URL, for example DynamoDB Local. The table is created
    /// there if it does not exist.
    #[arg(long, value_name = "URL", conflicts_with = "data", value_parser = endpoint)]
    table_endpoint: Option<String>,
    /// The port of the embedded DynamoDB on 127.0.0.1, for other programs that use
    /// the table. The default is any free port; with --demo it is 8000, which
    /// events/env.json uses.
    #[arg(long, value_name = "PORT", conflicts_with_all = ["data", "table_endpoint"])]
    table_port: Option<u16>,
    /// Start with the users, the sessions and the secret that events/ uses. They
    /// are the same at every start, and public.
    #[arg(long, conflicts_with = "data")]
    demo: bool,
    /// Allow the browser app at this origin to call the API, for example
    /// http://localhost:5173. In AWS, this is the parameter AllowedOrigins. Can be
    /// given more than once.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    allow_origin: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "the user is at the terminal")]
            {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let listener = listen(arguments.port, "--port").await?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let url = format!("http://127.0.0.1:{port}");

    let mut allow_origins = vec![url.clone(), format!("http://localhost:{port}")];
    allow_origins.extend(arguments.allow_origin);
    let mut variables = variables(arguments.demo)?;
    for (name, value) in mail(&url) {
        variables.entry(name.into()).or_insert(value);
    }
    let table_option = match (&arguments.data, &arguments.table_endpoint) {
        (Some(_), _) => "--data: ",
        (None, Some(_)) => "--table-endpoint: ",
        (None, None) => "",
    };
    let variable = variables.remove("TABLE_ENDPOINT").filter(|url| !url.is_empty());
    let elsewhere = arguments.table_endpoint.or(variable);
    let demo_port = (arguments.demo && elsewhere.is_none()).then_some(demo::TABLE_PORT);
    let clock = LocalClock::new(Arc::new(SystemClock));
    let engine = match arguments.table_port.or(demo_port) {
        Some(port) => {
            let listener = listen(port, "--table-port").await?;
            let started = Engine::start_on(listener, None, Arc::new(clock.clone())).await;
            Some(started.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let options = Options {
        template: TEMPLATE.into(),
        data: arguments.data,
        table_endpoint: engine.as_ref().map(|engine| engine.endpoint().to_owned()).or(elsewhere),
        allow_origins,
        variables,
        clock,
        http_client: None,
    };
    let system = System::start(options).await.map_err(|error| match error {
        Error::TwoTables | Error::Secret(_) | Error::Engine(_) => format!("{table_option}{error}"),
        _ => error.to_string(),
    });
    let system = Arc::new(system?);
    let stop = stop_signal().map_err(|error| error.to_string())?;
    log_to_terminal(system.log_level());

    #[expect(clippy::print_stdout, reason = "the user is at the terminal")]
    {
        println!("{}", greeting(&url, arguments.demo));
        if arguments.demo {
            let app = system.function("login").ok_or("the template has no login")?.app();
            let token = demo::set_up(app).await.map_err(|error| error.to_string())?;
            println!("The demo's refresh token:\n\n  {}\n", token.expose_secret());
            println!("The demo's table, for TABLE_ENDPOINT: {}\n", system.table_endpoint());
        }
    }
    let served = Arc::clone(&system).serve(listener, stop).await;
    system.stop().await;
    if let Some(engine) = engine {
        engine.stop().await;
    }
    served.map_err(|error| error.to_string())
}

/// Returns the text that the program prints once it listens.
fn greeting(url: &str, is_demo: bool) -> String {
    let (route, email, password) = match is_demo {
        true => ("login", demo::EMAIL, demo::PASSWORD),
        false => ("register", "ada@example.com", "correct horse battery"),
    };
    format!(
        r#"Freshkey listens on {url}. Stop it with Ctrl-C.
Open it in a browser, or start with:

  curl {url}/api/v1/auth/{route} -H 'content-type: application/json' -d '{{"email":"{email}","password":"{password}"}}'
"#
    )
}

/// Logs to the terminal. The embedded database warns whenever the condition of a
/// write is not met, which is part of normal operation, so only its errors are
/// shown.
fn log_to_terminal(level: Level) {
    let targets = freshkey::telemetry::targets(level).with_target("local", level).with_target("dynoxide", Level::ERROR);
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .without_time()
        .with_target(false)
        .with_ansi(io::stdout().is_terminal());
    tracing_subscriber::registry().with(targets).with(lines).init();
}

async fn listen(port: u16, option: &str) -> Result<TcpListener, String> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is taken; choose another with {option}"),
        _ => format!("port {port} cannot be used: {error}; choose another with {option}"),
    })
}

/// Parses the value of `--allow-origin`: an exact origin.
fn origin(text: &str) -> Result<String, String> {
    if is_origin(text) {
        return Ok(text.to_owned());
    }
    Err("must be an exact origin such as https://app.example.com, in lower case, without * and without a slash at the \
         end"
    .into())
}

/// Parses the value of `--table-endpoint`: an HTTP or HTTPS URL.
fn endpoint(text: &str) -> Result<String, String> {
    let is_http = |url: &Uri| url.host().is_some() && ["http", "https"].map(Some).contains(&url.scheme_str());
    if text.parse().is_ok_and(|url| is_http(&url)) {
        return Ok(text.to_owned());
    }
    Err("must be a URL such as http://127.0.0.1:8000".into())
}

/// Returns the variables of the process and of the file `.env` in the working
/// directory or above it. Those of the process take precedence. Sets the demo's
/// public secret for the demo, and refuses it otherwise.
fn variables(is_demo: bool) -> Result<BTreeMap<String, String>, String> {
    let directory = std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?;
    let file = env_file::read(&directory).map_err(|error| error.to_string())?;
    let mut variables: BTreeMap<_, _> = file.into_iter().collect();
    let process = std::env::vars_os();
    let process = process.filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    variables.extend(process.filter(|(_, value)| !value.is_empty()));
    variables.retain(|_, value| !value.is_empty());
    if is_demo {
        variables.insert("JWT_SECRET_KEY".into(), demo::SECRET.into());
    } else if variables.get("JWT_SECRET_KEY").is_some_and(|secret| secret.trim() == demo::SECRET) {
        return Err("JWT_SECRET_KEY is the secret of the demo, which is public: it is accepted only with --demo".into());
    }
    Ok(variables)
}

/// Returns the settings with which mail is on, and its links lead to the page at `url`.
fn mail(url: &str) -> [(&'static str, String); 4] {
    [
        ("MAIL_FROM", "no-reply@freshkey.example".into()),
        ("APP_NAME", "Freshkey".into()),
        ("RESET_URL", format!("{url}/?view=reset")),
        ("CONFIRM_URL", format!("{url}/?view=confirm")),
    ]
}

/// Completes when the program is told to stop, by Ctrl-C or SIGTERM.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when the program is told to stop, by Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
