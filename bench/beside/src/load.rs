//! Clients that refresh one after the other, each with the token that it got last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;

use crate::process::{Usage, own};
use crate::systems::{Answer, Api, Server};

/// How often memory is looked at under load.
const LOOK: Duration = Duration::from_secs(1);

/// A client with a connection and a session of its own.
pub struct Chain {
    http: Client,
    credential: String,
    previous: Option<String>,
}

impl Chain {
    /// A client that begins with `credential`.
    pub fn new(credential: String) -> Self {
        Self { http: client(), credential, previous: None }
    }

    /// Whether the token before the last one is refused, as it should be once it is
    /// spent. `None` if there is none.
    pub async fn refuses_previous(&self, api: Api, url: &str) -> Option<bool> {
        let previous = self.previous.as_ref()?;
        Some(api.refresh(&self.http, url, previous, None).await == Answer::Refused)
    }

    async fn run(&mut self, api: Api, url: &str, until: Instant) -> Run {
        let mut run = Run::default();
        let mut start = Instant::now();
        while Instant::now() < until {
            // One key for each token, so that an attempt that failed can be repeated.
            let key = (api == Api::Freshkey).then(|| &self.credential[self.credential.len() - 40..]);
            match api.refresh(&self.http, url, &self.credential, key).await {
                Answer::Refreshed(next) => {
                    run.latencies.push(start.elapsed());
                    start = Instant::now();
                    let spent = std::mem::replace(&mut self.credential, next);
                    self.previous = api.rotates().then_some(spent);
                }
                Answer::Refused => run.failures.push("refused".into()),
                Answer::Failed(problem) => run.failures.push(problem),
            }
        }
        run
    }
}

/// A client that does not keep a connection that the server is about to close.
pub fn client() -> Client {
    Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(1)).build().unwrap()
}

/// What clients saw.
#[derive(Default)]
pub struct Run {
    /// How long each successful refresh took, with the attempts that failed.
    pub latencies: Vec<Duration>,
    /// What was answered instead of tokens.
    pub failures: Vec<String>,
}

/// Some clients at a server for a while.
#[derive(Default)]
pub struct Turn {
    /// What they saw.
    pub run: Run,
    /// Successful refreshes a second.
    pub rate: f64,
    /// The CPU time of the server and its database.
    pub server_cpu: Duration,
    /// The CPU time of the clients.
    pub client_cpu: Duration,
    /// The most memory that was seen: of the server, and of its database.
    pub memory: (u64, u64),
}

/// Lets `chains` refresh for the time of `length`.
pub async fn turn(server: &Arc<Server>, api: Api, chains: &mut [Chain], length: Duration) -> Turn {
    let cpu = || server.usage().cpu + server.database_usage().cpu;
    let watch = Watch::start(Arc::clone(server));
    let (server_cpu, client_cpu, start) = (cpu(), own().cpu, Instant::now());
    let runs = join_all(chains.iter_mut().map(|chain| chain.run(api, &server.url, start + length))).await;
    let elapsed = start.elapsed();
    let (server_cpu, client_cpu) = (cpu() - server_cpu, own().cpu - client_cpu);
    let run = runs.into_iter().fold(Run::default(), |mut all, mut run| {
        all.latencies.append(&mut run.latencies);
        all.failures.append(&mut run.failures);
        all
    });
    let rate = run.latencies.len() as f64 / elapsed.as_secs_f64();
    Turn { run, rate, server_cpu, client_cpu, memory: watch.stop() }
}

/// Looks at the memory of a server until it is stopped.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, u64)>,
}

impl Watch {
    fn start(server: Arc<Server>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = (0, 0);
            loop {
                let memory = |usage: Usage| usage.memory;
                let (server, database) = (memory(server.usage()), memory(server.database_usage()));
                most = (most.0.max(server), most.1.max(database));
                if stopped.load(Ordering::Relaxed) {
                    return most;
                }
                thread::park_timeout(LOOK);
            }
        });
        Self { stop, thread }
    }

    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap()
    }
}
