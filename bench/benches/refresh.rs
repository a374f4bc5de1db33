//! Measures how fast Freshkey is: a refresh without and with the table, a password hash
//! against the C reference, and the start of a function.
//!
//! `make bench-warm` runs it. Criterion's report comes first, a table of medians last.
//! The sides of a comparison take turns, call by call, so that other load on the
//! machine slows both.

#![expect(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reports and may fail")]

use std::env;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::member::{Member, client, keys};
use bench::request;
use criterion::{Criterion, SamplingMode};
use freshkey::client::Client;
use freshkey::password::{Check, Password, PasswordHash};
use freshkey::session::{Attempt, Decision, Hash, decide};
use freshkey::token::Subject;
use freshkey::user::User;
use freshkey::write::Write;
use freshkey::{App, Clock, Config, Function, SystemClock, telemetry};
use local::{LocalClock, Options, System};
use secrecy::ExposeSecret;
use tokio::runtime::Runtime;

const PASSWORD: &str = "a quiet river";

fn main() {
    let runtime = Runtime::new().unwrap();
    let start = Start::measure(&runtime);
    let (hash, mut reference) = Reference::start();
    let system = runtime.block_on(system());
    let refresh = system.function("refresh").unwrap();
    let app = refresh.app();
    let [alice, bob] = ["alice", "bob"].map(|name| Member::new(&format!("{name}@example.com"), app));
    for member in [&alice, &bob] {
        runtime.block_on(member.write(app, &PasswordHash::stored("none".into()), &[]));
    }
    // Logging as in a function, so that the cost of filtering lines is measured too.
    telemetry::init(app.config().log_level);

    let mut criterion = Criterion::default().configure_from_args();
    let [pure] = in_turns(&mut criterion, "refresh", [("pure part", &mut pure(app.config(), &alice))]);
    let [handler, calls] = in_turns(
        &mut criterion,
        "refresh",
        [
            ("event to answer", &mut handler(&runtime, refresh, &alice)),
            ("its two DynamoDB calls", &mut calls(&runtime, app, &bob)),
        ],
    );
    let [ours, theirs] = in_turns(
        &mut criterion,
        "argon2id",
        [("ours", &mut ours(&runtime, app, &hash)), ("C reference", &mut || reference.call())],
    );
    criterion.final_summary();
    let [wrong, unknown] = refused_logins(&runtime, &system);

    println!("\n{:<40}{:>12}", "", "median");
    row("refresh: verify, decide, sign", pure, "target: 30 µs or less");
    let added = handler.saturating_sub(calls);
    row("refresh: event to answer", handler, &format!("{added:.1?} more than its calls"));
    row("  its two DynamoDB calls, local engine", calls, "");
    row("login with a wrong password", wrong, "");
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    row("  at an unknown address", unknown, &format!("{ratio:.2} times as long; target on one core: 0.95 to 1.05"));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    row("argon2id, 19 MiB, t=2, p=1", ours, &format!("{ratio:.2} of the C reference; target: 0.80 or less"));
    row("  argon2-cffi, the C reference", theirs, "");
    row("start: settings and keys", start.settings, "once, not a median");
    row("start: the AWS SDK", start.connect, "once, not a median");
    runtime.block_on(system.stop());
}

/// Prints a row, unless it was not measured.
fn row(name: &str, median: Duration, remark: &str) {
    if !median.is_zero() {
        let median = format!("{median:.1?}");
        println!("{}", format_args!("{name:<40}{median:>12}   {remark}").to_string().trim_end());
    }
}

/// Measures `sides`, each a name and a function that times one call, and returns the
/// median of each. Whenever Criterion asks for a call of one side, all sides are
/// called.
fn in_turns<const N: usize>(
    criterion: &mut Criterion,
    group: &str,
    mut sides: [(&str, &mut dyn FnMut() -> Duration); N],
) -> [Duration; N] {
    let mut group = criterion.benchmark_group(group);
    group.sampling_mode(SamplingMode::Flat).sample_size(50);
    let mut taken = [const { Vec::new() }; N];
    for asked in 0..N {
        group.bench_function(sides[asked].0, |bencher| {
            bencher.iter_custom(|calls| {
                let before = taken[asked].len();
                for _ in 0..calls {
                    for ((_, call), taken) in sides.iter_mut().zip(&mut taken) {
                        taken.push(call());
                    }
                }
                taken[asked][before..].iter().sum()
            });
        });
    }
    group.finish();
    taken.map(median)
}

/// Returns the median; zero if nothing was measured, because only other benchmarks
/// were run.
fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort_unstable();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}

/// The time that a function takes before its first request, measured once. It does
/// not include loading the program, nor TLS to AWS.
struct Start {
    settings: Duration,
    connect: Duration,
}

impl Start {
    fn measure(runtime: &Runtime) -> Self {
        let mut settings = bench::settings();
        settings.insert("TABLE_ENDPOINT".into(), "http://127.0.0.1:8000".into());
        let start = Instant::now();
        let config = Config::parse(|name| settings.get(name).cloned()).unwrap();
        let settings = start.elapsed();
        let start = Instant::now();
        black_box(runtime.block_on(App::connect(config, Arc::new(SystemClock), None)));
        Self { settings, connect: start.elapsed() }
    }
}

async fn system() -> System {
    let options = Options {
        template: local::TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables: bench::settings(),
        clock: LocalClock::new(Arc::new(SystemClock)),
        http_client: None,
    };
    System::start(options).await.unwrap()
}

/// Times a refresh without the table: what `App::refresh` does besides its calls.
fn pure(config: &Config, member: &Member) -> impl FnMut() -> Duration {
    let keys = keys(config);
    move || {
        let start = Instant::now();
        let now = SystemClock.now();
        let presented = config.refresh_tokens.verify(keys, member.refresh_token.expose_secret(), now).unwrap();
        let attempt = Attempt {
            generation: presented.generation,
            secret_hash: presented.secret.hash(),
            key: Hash::of(&[b"idempotency-key:", b"one"]),
            now,
            reuse_interval: config.reuse_interval,
        };
        let expires_at = config.session_lifetime.end(now, presented.absolute_end);
        let written = attempt.rotate(&member.session, expires_at, Client::default());
        let decision = decide(&attempt, Write::Done(written), Some(member.user.state()));
        let Decision::Issue { session, .. } = decision else { unreachable!("it was written") };
        let refresh = config.refresh_tokens.sign(keys, &presented.successor(&session)).unwrap();
        let User { id: user_id, roles, .. } = &member.user;
        let subject = Subject { user_id: *user_id, session_id: session.id, roles, email_verified: None };
        let access = config.access_tokens.issue(keys, &subject, presented.absolute_end, now).unwrap();
        let took = start.elapsed();
        black_box((refresh, access));
        took
    }
}

/// Times a call of the function `refresh`, each time with the newest token.
fn handler(runtime: &Runtime, refresh: &Function, member: &Member) -> impl FnMut() -> Duration {
    let mut token = member.refresh_token.expose_secret().to_owned();
    move || {
        let event = request::refresh(&token);
        let start = Instant::now();
        let answer = runtime.block_on(request::send(refresh, &event));
        let took = start.elapsed();
        token = request::refresh_token(&answer, 200);
        took
    }
}

/// Returns the medians of logins that are refused for a wrong password and for an
/// unknown address, in turns. A difference would reveal which addresses exist. It
/// shows best on one core: `taskset -c 0`.
fn refused_logins(runtime: &Runtime, system: &System) -> [Duration; 2] {
    const PAIRS: usize = 500;
    let dave = request::register("dave@example.com", PASSWORD);
    let registered = runtime.block_on(request::send(system.function("register").unwrap(), &dave));
    request::body(&registered, 201);
    let login = system.function("login").unwrap();
    let mut sides =
        ["dave@example.com", "nobody@example.com"].map(|email| (request::login(email, "not the password"), Vec::new()));
    for _ in 0..PAIRS {
        for (event, taken) in &mut sides {
            let start = Instant::now();
            let answer = runtime.block_on(request::send(login, event));
            taken.push(start.elapsed());
            request::body(&answer, 401);
        }
    }
    sides.map(|(_, taken)| median(taken))
}

/// Times only the DynamoDB calls of a refresh: the conditional write and, at the same
/// time, the read of the user.
fn calls(runtime: &Runtime, app: &App, member: &Member) -> impl FnMut() -> Duration {
    let Member { user, session, .. } = member;
    let mut generation = session.generation;
    move || {
        let attempt = Attempt {
            generation,
            secret_hash: session.secret_hash,
            key: Hash::of(&[b"idempotency-key:", b"one"]),
            now: SystemClock.now(),
            reuse_interval: Duration::ZERO,
        };
        let client = client();
        let start = Instant::now();
        let (written, user) = runtime.block_on(async {
            let write = app.store().rotate(user.id, session.id, &attempt, session.expires_at, &client);
            tokio::join!(write, app.store().user(user.id))
        });
        let took = start.elapsed();
        assert!(matches!(written.unwrap(), Write::Done(_)) && user.unwrap().is_some());
        generation += 1;
        took
    }
}

/// Times the check of a password at login.
fn ours(runtime: &Runtime, app: &App, hash: &PasswordHash) -> impl FnMut() -> Duration {
    let password = Password::presented(PASSWORD).unwrap();
    move || {
        let start = Instant::now();
        let check = runtime.block_on(app.hasher().verify(&password, Some(hash)));
        let took = start.elapsed();
        assert!(matches!(check, Ok(Check::Right { .. })));
        took
    }
}

/// The C reference of argon2, in a Python process that waits for calls.
struct Reference {
    process: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A program that prints the hash to verify; then, for each line of its input, it
/// computes the hash again and prints how many nanoseconds that took.
const REFERENCE: &str = "
import sys, time
from argon2.low_level import Type, hash_secret, hash_secret_raw

arguments = (sys.argv[1].encode(), b'sixteen bytes of', 2, 19456, 1, 32, Type.ID)
print(hash_secret(*arguments).decode(), flush=True)
for _ in sys.stdin:
    start = time.perf_counter_ns()
    hash_secret_raw(*arguments)
    print(time.perf_counter_ns() - start, flush=True)
";

impl Reference {
    /// Starts the process, and returns the hash that it computes.
    fn start() -> (PasswordHash, Self) {
        let python =
            env::var("PYTHON").expect("PYTHON must name a Python that has argon2-cffi: `make bench-warm` sets it");
        let mut command = Command::new(&python);
        command.args(["-c", REFERENCE, PASSWORD]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("PYTHON must name a program that can be run");
        let (calls, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut reference = Self { process, calls, answers: BufReader::new(answers) };
        let hash = line(&mut reference.answers);
        assert!(hash.starts_with("$argon2id$"), "{python} lacks argon2-cffi: `make bench-warm` installs it");
        (PasswordHash::stored(hash), reference)
    }

    fn call(&mut self) -> Duration {
        writeln!(self.calls).unwrap();
        Duration::from_nanos(line(&mut self.answers).parse().unwrap())
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.truncate(line.trim_end().len());
    line
}
