//! The Lambda Runtime API, and a function that is started over it.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The memory that template.yaml gives the functions.
const MEMORY_MB: u64 = 256;
/// The memory that comes with a whole vCPU (AWS: "Configure Lambda function memory").
const MB_PER_CPU: u64 = 1769;
/// The period in which a function gets its share of a CPU, in microseconds. With the
/// kernel's 100 ms, the limit would hardly apply to a fast start.
const PERIOD: u64 = 20_000;

/// How long a start took, from `exec`.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The time until it asked for its first event.
    pub first_poll: Duration,
    /// The time until it answered that event.
    pub first_answer: Duration,
}

/// A process that ends when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a function has done.
enum Report {
    Polled(Instant),
    Answered(Instant, Bytes),
    Failed(Bytes),
}

#[derive(Clone)]
struct Runtime {
    events: Arc<Mutex<VecDeque<String>>>,
    reports: UnboundedSender<Report>,
}

/// Starts the function `command` in `directory` and sends it `events`, one after the
/// other. Returns how long its start took, and its answers.
pub async fn run(
    command: &[String],
    directory: &Path,
    variables: &BTreeMap<String, String>,
    events: &[&str],
    share: Option<&Share>,
) -> (Start, Vec<Value>) {
    let (reports, mut reported) = unbounded_channel();
    let events_left = Arc::new(Mutex::new(events.iter().map(ToString::to_string).collect()));
    let runtime = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
        .route("/2018-06-01/runtime/init/error", post(failed))
        .with_state(Runtime { events: events_left, reports });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, runtime).await });

    let log = tempfile::NamedTempFile::new().unwrap();
    // The shell waits for a line before it becomes the function, so that the limit is in
    // place before the time is taken.
    let mut process = Command::new("/bin/sh");
    process
        .args(["-c", "read -r _ && exec \"$@\"", "sh"])
        .args(command)
        .current_dir(directory)
        .env_clear()
        .envs(env::var("PATH").map(|path| ("PATH", path)))
        .envs([("LANG", "en_US.UTF-8"), ("TZ", ":UTC"), ("_HANDLER", "refresh.handler")])
        .envs([("AWS_LAMBDA_FUNCTION_NAME", "measured"), ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")])
        .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB.to_string())])
        .envs([("AWS_LAMBDA_RUNTIME_API", address.to_string())])
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(log.reopen().unwrap())
        .stderr(log.reopen().unwrap());
    let mut process = Process(process.spawn().unwrap());
    if let Some(share) = share {
        share.hold(process.0.id());
    }
    let mut word = process.0.stdin.take().unwrap();
    let began = Instant::now();
    word.write_all(b"\n").unwrap();

    let report = timeout(PATIENCE, watch(&mut reported, events.len())).await;
    let (polled, at, answers) = match report {
        Ok(Ok(done)) => done,
        Ok(Err(fault)) => panic!("{command:?}: {fault}\n{}", fs::read_to_string(log.path()).unwrap()),
        Err(_) => panic!("{command:?} is silent\n{}", fs::read_to_string(log.path()).unwrap()),
    };
    drop(process);
    server.abort();
    (Start { first_poll: polled - began, first_answer: at - began }, answers)
}

/// The moments of the first poll and the first answer, and all answers.
async fn watch(
    reported: &mut UnboundedReceiver<Report>,
    count: usize,
) -> Result<(Instant, Instant, Vec<Value>), String> {
    let (mut polled, mut answered, mut answers) = (None, None, Vec::new());
    while let Some(report) = reported.recv().await {
        match report {
            Report::Polled(at) => _ = polled.get_or_insert(at),
            Report::Answered(at, body) => {
                answered.get_or_insert(at);
                answers.push(serde_json::from_slice(&body).unwrap());
            }
            Report::Failed(body) => return Err(String::from_utf8_lossy(&body).into_owned()),
        }
        if answers.len() == count {
            break;
        }
    }
    Ok((polled.ok_or("no poll")?, answered.ok_or("no answer")?, answers))
}

/// `GET /runtime/invocation/next`.
async fn next(State(runtime): State<Runtime>) -> impl IntoResponse {
    let _ = runtime.reports.send(Report::Polled(Instant::now()));
    let event = runtime.events.lock().unwrap().pop_front();
    let Some(event) = event else { return pending().await };
    let deadline = freshkey::Clock::now(&freshkey::SystemClock).millis() + 10_000;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", "8d3f6a02-31c1-4c8f-9a65-1f0f6a0b7c11".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:000000000000:function:measured".into()),
        ("lambda-runtime-trace-id", "Root=1-68a1b2c3-0123456789abcdef01234567;Sampled=0".into()),
    ];
    (headers, event)
}

async fn answered(State(runtime): State<Runtime>, body: Bytes) -> StatusCode {
    let _ = runtime.reports.send(Report::Answered(Instant::now(), body));
    StatusCode::ACCEPTED
}

async fn failed(State(runtime): State<Runtime>, body: Bytes) -> StatusCode {
    let _ = runtime.reports.send(Report::Failed(body));
    StatusCode::ACCEPTED
}

/// The share of a CPU that comes with the functions' memory, as a control group.
pub struct Share(PathBuf);

impl Share {
    /// Makes a control group, of version 1 or 2. Returns `None` without the right to do so.
    pub fn new() -> Option<Self> {
        let quota = PERIOD * MEMORY_MB / MB_PER_CPU;
        let name = format!("freshkey-cold-{}", std::process::id());
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = Path::new(if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/cpu" });
        let limits = if v2 {
            let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
            vec![("cpu.max", format!("{quota} {PERIOD}"))]
        } else {
            vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
        };
        let share = Self(root.join(name));
        fs::create_dir(&share.0).ok()?;
        limits.iter().all(|(file, value)| fs::write(share.0.join(file), value).is_ok()).then_some(share)
    }

    fn hold(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
