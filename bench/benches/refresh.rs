//! Measures how fast Freshkey is: a refresh without and with the table, and during
//! a flood of logins; a password hash against the C reference; and the start of a
//! function.
//!
//! `make bench` runs it. Criterion's report comes first, a table of medians last.
//! The sides of a comparison take turns, call by call, so that other load on the
//! machine slows both.

#![expect(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reports and may fail")]

use std::collections::BTreeMap;
use std::env;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use freshkey::client::Client;
use freshkey::config::KeySource;
use freshkey::email::Email;
use freshkey::password::{Check, Password, PasswordHash};
use freshkey::session::{Attempt, Decision, Hash, Session, decide};
use freshkey::token::{RefreshToken, Subject};
use freshkey::user::{Credential, Profile, User};
use freshkey::write::Write;
use freshkey::{App, Clock, Config, Function, SystemClock, telemetry};
use lambda_runtime::Context;
use local::{LocalClock, Options, System};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PASSWORD: &str = "a quiet river";
/// How many logins are sent at once while refreshes are measured.
const LOGINS: usize = 200;
const SETTINGS: [(&str, &str); 6] = [
    ("JWT_SECRET_KEY", "0nly-for-this-bench-Zq8vT2mXw7Lr4KcJ"),
    ("JWT_ISSUER", "https://auth.example.com"),
    ("JWT_AUDIENCE", "https://api.example.com"),
    ("TABLE_NAME", "freshkey"),
    ("TABLE_ENDPOINT", "http://127.0.0.1:8000"),
    // The benchmark rotates one session without a pause.
    ("REFRESH_BURST", "1000000000"),
];

fn main() {
    let runtime = Runtime::new().unwrap();
    let start = Start::measure(&runtime);
    let (hash, mut reference) = Reference::start();
    let system = runtime.block_on(system());
    let refresh = system.function("refresh").unwrap();
    let app = refresh.app();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Member::new(&format!("{name}@example.com"), app));
    for member in [&alice, &bob, &carol] {
        runtime.block_on(member.write(app));
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
    let [alone, beside] = beside_logins(&runtime, &system, &carol);
    let [wrong, unknown] = refused_logins(&runtime, &system);

    println!("\n{:<40}{:>12}", "", "median");
    row("refresh: verify, decide, sign", pure, "target: 30 µs or less");
    let added = handler.saturating_sub(calls);
    row("refresh: event to answer", handler, &format!("{added:.1?} more than its calls"));
    row("  its two DynamoDB calls, local engine", calls, "");
    row("refresh, one after the other", alone, "");
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    row(&format!("  beside {LOGINS} logins sent at once"), beside, &format!("{ratio:.1} times as long"));
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
        let settings = BTreeMap::from(SETTINGS);
        let start = Instant::now();
        let config = Config::parse(|name| settings.get(name).map(ToString::to_string)).unwrap();
        let settings = start.elapsed();
        let start = Instant::now();
        black_box(runtime.block_on(App::connect(config, Arc::new(SystemClock), None)));
        Self { settings, connect: start.elapsed() }
    }
}

async fn system() -> System {
    let mut variables: BTreeMap<_, _> =
        SETTINGS.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    variables.remove("TABLE_ENDPOINT");
    let options = Options {
        template: local::TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables,
        clock: LocalClock::new(Arc::new(SystemClock)),
        http_client: None,
    };
    System::start(options).await.unwrap()
}

/// A user with a session and its first refresh token.
struct Member {
    user: User,
    session: Session,
    token: SecretString,
}

impl Member {
    fn new(email: &str, app: &App) -> Self {
        let (config, now) = (app.config(), SystemClock.now());
        let user = User {
            id: freshkey::id::UserId::random(),
            email: Email::parse(email).unwrap(),
            email_verified: None,
            roles: config.default_roles.clone(),
            is_active: true,
            epoch: 0,
            profile: Profile::default(),
            created_at: now,
            imported_at: None,
        };
        let (session, secret) = Session::open(user.id, user.epoch, client(), now, config.session_lifetime);
        let first = RefreshToken::first(&session, secret, config.session_lifetime.absolute_end(now));
        let token = config.refresh_tokens.sign(keys(config), &first).unwrap();
        Self { user, session, token }
    }

    async fn write(&self, app: &App) {
        let credential = Credential::new(&self.user, PasswordHash::stored("none".into()), self.user.created_at);
        app.store().seed_user(&self.user, &credential, &[&self.session]).await.unwrap();
    }
}

fn client() -> Client {
    Client { ip: "198.51.100.7".into(), user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0".into() }
}

fn keys(config: &Config) -> &freshkey::token::KeyRing {
    match &config.keys {
        KeySource::Given(keys) => keys,
        KeySource::None => unreachable!("the configuration was read with keys"),
        KeySource::Secret(_) => unreachable!("the settings hold a key"),
    }
}

/// Times a refresh without the table: what `App::refresh` does besides its calls.
fn pure(config: &Config, member: &Member) -> impl FnMut() -> Duration {
    let keys = keys(config);
    move || {
        let start = Instant::now();
        let now = SystemClock.now();
        let presented = config.refresh_tokens.verify(keys, member.token.expose_secret(), now).unwrap();
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
    let mut token = member.token.expose_secret().to_owned();
    move || {
        let event = event("/api/v1/auth/refresh", &json!({ "refresh_token": token }));
        let mut context = Context::default();
        context.request_id = "8d3f6a02-31c1-4c8f-9a65-1f0f6a0b7c11".into();
        let start = Instant::now();
        let answer = runtime.block_on(refresh.invoke(&event, context)).to_string();
        let took = start.elapsed();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        token = body["refresh_token"].as_str().expect("the session rotates").to_owned();
        took
    }
}

/// Returns the median of refreshes alone, and of refreshes during logins that were
/// all sent at once. In AWS they run in separate functions; here they share a
/// process, the machine and the local engine.
fn beside_logins(runtime: &Runtime, system: &System, member: &Member) -> [Duration; 2] {
    const ALONE: usize = 200;
    let dave = json!({ "email": "dave@example.com", "password": PASSWORD });
    let register = system.function("register").unwrap();
    let registered = runtime.block_on(register.invoke(&event("/api/v1/auth/register", &dave), Context::default()));
    assert_eq!(registered["statusCode"], 201, "{registered}");

    let mut refresh = handler(runtime, system.function("refresh").unwrap(), member);
    let alone = (0..ALONE).map(|_| refresh()).collect();
    let login = Arc::new(event("/api/v1/auth/login", &dave));
    let logins = [(); LOGINS].map(|()| {
        let (function, event) = (system.function("login").unwrap().clone(), Arc::clone(&login));
        runtime.spawn(async move { function.invoke(&event, Context::default()).await })
    });
    let mut beside = Vec::new();
    while logins.iter().any(|login| !login.is_finished()) {
        beside.push(refresh());
    }
    let statuses = logins.map(|login| runtime.block_on(login).unwrap()["statusCode"].as_u64().unwrap());
    // A login that waits too long for its turn gets a 503.
    assert!(statuses.iter().all(|status| [200, 503].contains(status)) && statuses.contains(&200), "{statuses:?}");
    [median(alone), median(beside)]
}

/// Returns the medians of logins that are refused for a wrong password and for an
/// unknown address, in turns. A difference would reveal which addresses exist. It
/// shows best on one core: `taskset -c 0`.
fn refused_logins(runtime: &Runtime, system: &System) -> [Duration; 2] {
    const PAIRS: usize = 500;
    let login = system.function("login").unwrap();
    let mut sides = ["dave@example.com", "nobody@example.com"].map(|email| {
        let body = json!({ "email": email, "password": "not the password" });
        (event("/api/v1/auth/login", &body), Vec::new())
    });
    for _ in 0..PAIRS {
        for (event, taken) in &mut sides {
            let start = Instant::now();
            let answer = runtime.block_on(login.invoke(event, Context::default()));
            taken.push(start.elapsed());
            assert_eq!(answer["statusCode"], 401, "{answer}");
        }
    }
    sides.map(|(_, taken)| median(taken))
}

/// Returns the event that API Gateway sends for a browser's request.
fn event(path: &str, body: &Value) -> String {
    let Client { ip, user_agent } = client();
    json!({
        "version": "2.0",
        "routeKey": format!("POST {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br",
            "content-length": "720",
            "content-type": "application/json",
            "host": "auth.example.com",
            "idempotency-key": "one",
            "origin": "https://app.example.com",
            "user-agent": user_agent,
            "x-amzn-trace-id": "Root=1-68a1b2c3-0123456789abcdef01234567",
            "x-forwarded-for": ip,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": "auth.example.com",
            "domainPrefix": "auth",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": ip,
                "userAgent": user_agent,
            },
            "requestId": "PzX1Yg3oDoEEJ5w=",
            "routeKey": format!("POST {path}"),
            "stage": "$default",
            "time": "17/Aug/2026:09:30:00 +0000",
            "timeEpoch": 1_786_959_000_000_u64,
        },
        "body": body.to_string(),
        "isBase64Encoded": false,
    })
    .to_string()
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
        let python = env::var("PYTHON").expect("PYTHON must name a Python that has argon2-cffi: `make bench` sets it");
        let mut command = Command::new(&python);
        command.args(["-c", REFERENCE, PASSWORD]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("PYTHON must name a program that can be run");
        let (calls, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut reference = Self { process, calls, answers: BufReader::new(answers) };
        let hash = line(&mut reference.answers);
        assert!(hash.starts_with("$argon2id$"), "{python} lacks argon2-cffi: `make bench` installs it");
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
