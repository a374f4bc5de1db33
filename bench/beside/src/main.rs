//! The same refresh beside other systems: Django with simplejwt, and better-auth.
//!
//! `make bench-beside` installs, builds and runs everything, and prints the tables of
//! docs/beside.md. All servers run on this machine at the same time, and take turns at
//! being asked, so that other load slows all of them.

#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reports and may fail")]

mod behaviour;
mod load;
mod postgres;
mod process;
mod report;
mod statements;
mod systems;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::behaviour::{Findings, USERS};
use crate::load::{Chain, Turn};
use crate::report::{Memory, Row};
use crate::systems::{Api, Login, Server, Store, repository};

/// How many clients a server has at a time.
const CLIENTS: [usize; 2] = [1, 64];
/// How many seconds better-auth's provider repeats an answer where that is on, as in its documentation.
const REUSE_INTERVAL: u32 = 30;

#[derive(Parser)]
struct Arguments {
    /// Freshkey's local system, which is started in a folder of its own.
    #[arg(long, value_parser = |path: &str| fs::canonicalize(path))]
    local: PathBuf,
    /// How often each system has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The length of a turn, in seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// The file for the plot, below the repository.
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// A server, what it is asked for, and its clients.
struct Subject {
    title: &'static str,
    database: &'static str,
    server: Arc<Server>,
    api: Api,
    chains: Vec<Chain>,
    idle: (u64, u64),
    /// The turns for each number of clients.
    turns: [Vec<Turn>; CLIENTS.len()],
}

// One thread: the clients must not take the second core too.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let work = async {
        println!("{}", report::behaviour(&behaviour(&arguments).await));
        measure(&arguments).await;
    };
    // Told to stop, it drops the work, and with it all servers.
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        () = work => {}
        _ = terminate.recv() => {}
        _ = ctrl_c() => {}
    }
}

/// Tries each system with each setting that makes it behave differently, one after
/// the other. Their data are where a team would keep them.
async fn behaviour(arguments: &Arguments) -> Vec<(&'static str, Findings)> {
    let mut systems = Vec::new();
    let mut add = async |title, api, has_keys, server: Server| {
        let credentials = server.logins.iter().map(|login| login.credential(api));
        let findings = behaviour::findings(&behaviour::Subject { server: &server, api, has_keys }, credentials).await;
        systems.push((title, findings));
    };
    let freshkey = || Server::freshkey_on_the_wire(&arguments.local, USERS);
    let better_auth = |interval| Server::better_auth(Store::Postgres, interval, USERS);
    add("Freshkey, with `Idempotency-Key`", Api::Freshkey, true, freshkey().await).await;
    add("Freshkey, without", Api::Freshkey, false, freshkey().await).await;
    add("simplejwt", Api::Simplejwt, false, Server::django(Store::Postgres, USERS).await).await;
    add("better-auth, provider", Api::Provider, false, better_auth(0).await).await;
    add("better-auth, provider, reuse 30 s", Api::Provider, false, better_auth(REUSE_INTERVAL).await).await;
    add("better-auth, sessions", Api::Session, false, better_auth(0).await).await;
    systems
}

async fn measure(arguments: &Arguments) {
    let mut subjects = subjects(arguments).await;
    let length = Duration::from_secs_f64(arguments.seconds);
    for round in 0..=arguments.rounds {
        for (index, clients) in CLIENTS.into_iter().enumerate() {
            for subject in &mut subjects {
                let turn = load::turn(&subject.server, subject.api, &mut subject.chains[..clients], length).await;
                for problem in turn.run.failures.iter().take(3) {
                    println!("{}, {}, {clients} clients: {problem}", subject.title, subject.database);
                }
                // The first round fills caches and pools.
                if round > 0 {
                    subject.turns[index].push(turn);
                }
            }
        }
    }
    for subject in &subjects {
        for chain in &subject.chains {
            let is_refused = chain.refuses_previous(subject.api, &subject.server.url).await;
            assert_ne!(is_refused, Some(false), "{}, {}: a spent token works", subject.title, subject.database);
        }
    }

    for (index, clients) in CLIENTS.into_iter().enumerate() {
        let rows: Vec<_> = subjects.iter().map(|subject| subject.row(index)).collect();
        println!("With {clients} at a time:\n\n{}", report::speed(&rows));
    }
    let memory: Vec<_> = subjects.iter().map(Subject::memory).collect();
    println!("{}", report::memory(&memory));
    if let Some(plot) = &arguments.plot {
        let rows: Vec<_> = subjects.iter().map(|subject| subject.row(CLIENTS.len() - 1)).collect();
        fs::write(repository(plot), report::plot(&rows)).unwrap();
    }
}

async fn subjects(arguments: &Arguments) -> Vec<Subject> {
    const POSTGRES: &str = "PostgreSQL";
    const SQLITE: &str = "SQLite";
    let users = CLIENTS.into_iter().max().unwrap_or_default();
    let mut subjects = Vec::new();
    for (name, in_file) in [("engine, in a file", true), ("engine, in memory", false)] {
        let freshkey = Arc::new(Server::freshkey(&arguments.local, in_file, users).await);
        subjects.push(Subject::new("Freshkey", name, freshkey, Api::Freshkey));
    }
    for (name, store) in [(POSTGRES, Store::Postgres), (SQLITE, Store::Sqlite)] {
        let django = Arc::new(Server::django(store, users).await);
        subjects.push(Subject::new("simplejwt", name, django, Api::Simplejwt));
        let better_auth = Arc::new(Server::better_auth(store, 0, users).await);
        subjects.push(Subject::new("better-auth, provider", name, Arc::clone(&better_auth), Api::Provider));
        subjects.push(Subject::new("better-auth, sessions", name, better_auth, Api::Session));
    }
    subjects
}

impl Subject {
    fn new(title: &'static str, database: &'static str, server: Arc<Server>, api: Api) -> Self {
        let chains = server.logins.iter().map(|login: &Login| Chain::new(login.credential(api))).collect();
        let idle = (server.usage().memory, server.database_usage().memory);
        Self { title, database, server, api, chains, idle, turns: Default::default() }
    }

    /// The turns with the number of clients at `index`.
    fn row(&self, index: usize) -> Row<'_> {
        Row { title: self.title, database: self.database, clients: CLIENTS[index], turns: &self.turns[index] }
    }

    fn memory(&self) -> Memory<'_> {
        let turns = self.turns.iter().flatten().map(|turn| turn.memory);
        let load = turns.fold((0, 0), |most, memory| (most.0.max(memory.0), most.1.max(memory.1)));
        Memory { title: self.title, database: self.database, idle: self.idle, load }
    }
}
