//! `make dev`: the whole system on this machine.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use freshkey::SystemClock;
use local::engine::Engine;
use local::{LocalClock, Options, System, TEMPLATE, demo};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Freshkey on this machine: the functions, the table and the API of
/// template.yaml.
#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep the table in FILE, and the secret in FILE.secret. Without it, both
    /// are gone at the end.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Use the DynamoDB at URL, such as DynamoDB Local. The table is made there
    /// if it is missing.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    table_endpoint: Option<String>,
    /// The port of the table on 127.0.0.1, for programs beside this one: any
    /// that is free, or 8000 with --demo, where events/env.json expects it.
    #[arg(long, value_name = "PORT", conflicts_with_all = ["data", "table_endpoint"])]
    table_port: Option<u16>,
    /// Start with users, sessions and a secret that are always the same, and
    /// known to everyone: those of events/.
    #[arg(long, conflicts_with = "data")]
    demo: bool,
    /// Let the browser app at URL call, as AllowedOrigins does when deployed.
    /// Can be given several times.
    #[arg(long, value_name = "URL")]
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
    let mut variables = variables()?;
    if arguments.demo {
        variables.insert("JWT_SECRET_KEY".into(), demo::SECRET.into());
    } else if variables.get("JWT_SECRET_KEY").is_some_and(|secret| secret == demo::SECRET) {
        return Err("JWT_SECRET_KEY is the demo's secret, which is public: start with --demo, or leave it out".into());
    }
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
    let system = Arc::new(System::start(options).await.map_err(|error| error.to_string())?);
    let stop = stop_signal().map_err(|error| error.to_string())?;
    log_to_terminal(system.log_level());

    let (route, email, password) = if arguments.demo {
        ("login", demo::EMAIL, demo::PASSWORD)
    } else {
        ("register", "ada@example.com", "correct horse battery")
    };
    #[expect(clippy::print_stdout, reason = "the user is at the terminal")]
    {
        println!(
            r#"Freshkey listens on {url}. Stop it with Ctrl-C.
Open it in a browser, or begin with:

  curl {url}/api/v1/auth/{route} -H 'content-type: application/json' -d '{{"email":"{email}","password":"{password}"}}'
"#
        );
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

/// What happens, for a person to read. The embedded database calls a condition
/// that fails a warning; here it is all in a day's work.
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
        _ => format!("port {port}: {error}"),
    })
}

/// The process environment, before the file `.env` here or further up.
fn variables() -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    match dotenvy::dotenv_iter() {
        Ok(file) => {
            for variable in file {
                let (name, value) = variable.map_err(|error| format!(".env: {error}"))?;
                variables.insert(name, value);
            }
        }
        Err(error) if error.not_found() => {}
        Err(error) => return Err(format!(".env: {error}")),
    }
    let process = std::env::vars_os();
    let process = process.filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    variables.extend(process.filter(|(_, value)| !value.is_empty()));
    Ok(variables)
}

/// Ends when the user or the system asks for the end.
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

/// Ends when the user asks for the end.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
