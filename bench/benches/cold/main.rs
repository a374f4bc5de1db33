//! Cold starts: the time from `exec` to the first poll of the Lambda Runtime API and to
//! the first answer. It is measured for each function, for one that does nothing, and
//! for the same refresh in other languages (`bench/peers/`).
//!
//! `make bench-cold` builds and runs everything. Every start is a new process on the same
//! table, and its answer is checked. The subjects take turns, so that other load on the
//! machine slows all of them. DynamoDB and Secrets Manager are behind TLS, and each round
//! trip takes a while.

#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reports and may fail")]

mod aws;
mod lambda;
mod report;
mod tokens;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bench::ROOT;
use clap::Parser;
use serde_json::Value;

use crate::aws::{Aws, Tls};
use crate::lambda::Share;
use crate::report::{Row, Run};

/// The round trips of a connection: TCP's handshake, and that of TLS 1.3.
const CONNECT: u32 = 2;
/// Events of a refresh, which every peer must answer as Freshkey does.
const REFRESHES: [&str; 5] =
    ["refresh.json", "refresh-retried.json", "refresh-reused.json", "refresh-expired.json", "refresh-forged.json"];

#[derive(Parser)]
struct Arguments {
    /// How often each is started.
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// A round trip, in milliseconds.
    #[arg(long, default_value_t = 2)]
    delay: u64,
    /// The folder with the functions, below the repository.
    #[arg(long, default_value = "target/release")]
    functions: PathBuf,
    /// Measure only these.
    #[arg(long)]
    only: Vec<String>,
    /// Check all answers, and measure nothing.
    #[arg(long)]
    check: bool,
    /// The file for the plot, below the repository.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// From `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is started.
struct Subject {
    name: &'static str,
    kind: Kind,
    command: Vec<String>,
    directory: PathBuf,
    event: &'static str,
    /// The variable that names the certificates that it trusts.
    trust: (&'static str, Trust),
    /// Round trips, one after the other, before the first poll.
    init_trips: u32,
    /// Round trips, one after the other, for the first answer.
    answer_trips: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Does nothing.
    Empty,
    /// One of Freshkey's functions.
    Function,
    /// The refresh in another language.
    Peer,
}

/// The certificates that a program is told of.
#[derive(Clone, Copy)]
enum Trust {
    /// All that it trusts.
    All,
    /// Those that it trusts besides its own.
    Ours,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let delay = Duration::from_millis(arguments.delay);
    let tls = Tls::new();
    let aws = Aws::start(&tls, delay, settings()).await;
    let mut subjects = subjects(&arguments.functions);
    subjects.retain(|subject| arguments.only.is_empty() || arguments.only.iter().any(|name| name == subject.name));
    for subject in &subjects {
        check(&tls, &aws, subject).await;
    }
    if arguments.check {
        let names: Vec<_> = subjects.iter().map(|subject| subject.name).collect();
        return println!("The answers of {} are right.", names.join(", "));
    }

    let share = Share::new();
    let limits = [("At full CPU", None), ("At a seventh of a CPU", share.as_ref())];
    let mut runs = Vec::new();
    for (title, share) in &limits[..if share.is_some() { 2 } else { 1 }] {
        let mut starts = vec![Vec::new(); subjects.len()];
        for _ in 0..arguments.starts {
            for (subject, starts) in subjects.iter().zip(&mut starts) {
                aws.reset().await;
                let variables = variables(&tls, &aws, subject);
                let event = read(subject.event);
                let (start, answers) =
                    lambda::run(&subject.command, &subject.directory, &variables, &[&event], *share).await;
                check_answer(&aws, subject, subject.event, &answers[0]).await;
                starts.push(start);
            }
        }
        let rows = subjects.iter().zip(starts).map(|(subject, starts)| Row::of(subject, &starts, delay)).collect();
        runs.push(Run { title, rows });
    }

    println!("A round trip takes {delay:?}. {} starts of each, in turn.", arguments.starts);
    for run in &runs {
        println!("\n{}:\n\n{}", run.title, report::table(&run.rows));
    }
    if share.is_none() {
        println!("A seventh of a CPU is not measured: only root can limit a process to it.");
    }
    println!("\n{}", report::targets(&runs[0].rows));
    if let Some(plot) = arguments.plot {
        fs::write(Path::new(ROOT).join(plot), report::plot(&runs)).unwrap();
    }
}

fn subjects(functions: &Path) -> Vec<Subject> {
    let functions = Path::new(ROOT).join(functions);
    let peers = Path::new(ROOT).join("bench/peers");
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let ours = |name, event, answer_trips| Subject {
        name,
        kind: if name == "empty" { Kind::Empty } else { Kind::Function },
        command: vec![path(functions.join(name))],
        directory: functions.clone(),
        event,
        trust: ("SSL_CERT_FILE", Trust::All),
        init_trips: if name == "empty" { 0 } else { CONNECT + 1 },
        answer_trips,
    };
    let peer = |name, directory: &str, command: Vec<String>, trust| Subject {
        name,
        kind: Kind::Peer,
        command,
        directory: peers.join(directory),
        event: "refresh.json",
        trust,
        init_trips: CONNECT + 1,
        answer_trips: CONNECT + 1,
    };
    let go = vec![path(peers.join("go/bin/bootstrap"))];
    let ric = path(peers.join("node/node_modules/aws-lambda-ric/bin/index.mjs"));
    let node = vec!["node".into(), ric, "refresh.handler".into()];
    let python = path(peers.join("python/.venv/bin/python"));
    let python = vec![python, "-m".into(), "awslambdaric".into(), "refresh.handler".into()];
    vec![
        ours("empty", "refresh.json", 0),
        ours("refresh", "refresh.json", 1),
        peer("Go", "go", go, ("SSL_CERT_FILE", Trust::All)),
        peer("Node", "node/dist", node, ("NODE_EXTRA_CA_CERTS", Trust::Ours)),
        peer("Python", "python", python, ("AWS_CA_BUNDLE", Trust::All)),
        ours("register", "register.json", 2),
        ours("login", "login.json", 3),
        ours("logout", "logout.json", 1),
        ours("account", "me.json", 1),
        ours("keys", "jwks.json", 0),
        ours("authorizer", "authorizer.json", 0),
    ]
}

/// Compares what a subject answers to the events of a refresh with what
/// Freshkey answers, before anything is measured.
async fn check(tls: &Tls, aws: &Aws, subject: &Subject) {
    aws.reset().await;
    let files = if subject.event == "refresh.json" { &REFRESHES[..] } else { &[subject.event] };
    let events: Vec<_> = files.iter().map(|file| read(file)).collect();
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    let variables = variables(tls, aws, subject);
    let (_, answers) = lambda::run(&subject.command, &subject.directory, &variables, &events, None).await;
    for (file, answer) in files.iter().zip(&answers) {
        check_answer(aws, subject, file, answer).await;
    }
}

async fn check_answer(aws: &Aws, subject: &Subject, file: &str, answer: &Value) {
    if subject.kind == Kind::Empty {
        return assert_eq!(answer["statusCode"], 200, "{answer}");
    }
    let outcomes: Value = serde_json::from_str(&read("outcomes.json")).unwrap();
    let expected = &outcomes[file];
    let name = subject.name;
    if let Some(is_authorized) = expected.get("isAuthorized") {
        return assert_eq!(&answer["isAuthorized"], is_authorized, "{name} {file}: {answer}");
    }
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
    assert_eq!(answer["statusCode"], expected["status"], "{name} {file}: {answer}");
    assert_eq!(body.get("error"), expected.get("error"), "{name} {file}: {answer}");
    if answer["statusCode"] == 200 && REFRESHES.contains(&file) {
        let event: Value = serde_json::from_str(&read(file)).unwrap();
        let request: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        aws.check_tokens(request["refresh_token"].as_str().unwrap(), &body).await;
    }
}

/// The settings that the events are made for.
fn settings() -> BTreeMap<String, String> {
    let settings: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&read("env.json")).unwrap();
    let mut settings = settings["RefreshFunction"].clone();
    settings.remove("TABLE_ENDPOINT");
    // The settings turn mail on, so the system starts the mailer too, which needs these.
    for name in ["CONFIRM_URL", "RESET_URL"] {
        settings.insert(name.into(), "https://app.example.com/mail".into());
    }
    // All registrations of the benchmark come from one address.
    settings.insert("LIMIT_REGISTRATIONS_PER_ADDRESS".into(), "1000000".into());
    settings
}

fn variables(tls: &Tls, aws: &Aws, subject: &Subject) -> BTreeMap<String, String> {
    let (name, trust) = subject.trust;
    let certificates = match trust {
        Trust::All => tls.all(),
        Trust::Ours => tls.ours(),
    };
    let mut variables = aws.variables().clone();
    variables.insert(name.into(), certificates.to_str().unwrap().into());
    variables
}

/// A file of `events/`, with tokens of this system.
fn read(file: &str) -> String {
    tokens::sign_anew(&fs::read_to_string(Path::new(ROOT).join("events").join(file)).unwrap())
}
