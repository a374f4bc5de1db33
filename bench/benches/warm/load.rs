//! Many requests at once.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::member::Member;
use bench::request;
use bench::spread::Spread;
use freshkey::Function;
use futures_util::future::join_all;
use secrecy::ExposeSecret;

use crate::PASSWORD;
use crate::world::World;

/// Refreshes with so many in flight.
pub struct Throughput {
    pub in_flight: usize,
    pub each_second: f64,
    pub latency: Spread,
    /// The CPU time of one, the engine's included, in milliseconds, where the system tells.
    pub cpu: Option<f64>,
}

/// Counts refreshes, with 1, 8 and 64 in flight in turn, a second each time. Every one
/// rotates a session of its own.
pub async fn throughput(world: &World, seconds: u32) -> Vec<Throughput> {
    const TURN: Duration = Duration::from_secs(1);
    let function = world.function("refresh");
    let mut tokens = Vec::new();
    for number in 0..64 {
        let member = world.member(&format!("busy{number}@example.com"), |_| Vec::new()).await;
        tokens.push(member.refresh_token.expose_secret().to_owned());
    }
    let mut found = [1, 8, 64].map(|in_flight| (in_flight, Duration::ZERO, Some(Duration::ZERO), Vec::new()));
    for _ in 0..seconds.max(1) {
        let turn = if seconds == 0 { TURN / 50 } else { TURN };
        for (in_flight, time, cpu, latencies) in &mut found {
            let (start, cpu_before) = (Instant::now(), cpu_time());
            let workers = tokens[..*in_flight]
                .iter()
                .map(|token| tokio::spawn(refreshes(function.clone(), token.clone(), start + turn)));
            for (worker, token) in join_all(workers).await.into_iter().zip(&mut tokens) {
                let (newest, taken) = worker.unwrap();
                *token = newest;
                latencies.extend(taken);
            }
            *time += start.elapsed();
            *cpu = cpu_time().zip(cpu_before).and_then(|(now, before)| Some((*cpu)? + now.saturating_sub(before)));
        }
    }
    let of = |(in_flight, time, cpu, latencies): (usize, Duration, Option<Duration>, Vec<Duration>)| Throughput {
        in_flight,
        each_second: latencies.len() as f64 / time.as_secs_f64(),
        cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1000.0 / latencies.len() as f64),
        latency: Spread::of(latencies),
    };
    found.map(of).into()
}

/// Returns the CPU time of this process so far. Linux tells it in hundredths of a second
/// (proc(5), /proc/pid/stat).
fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name is in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(Duration::from_millis(10 * ticks.sum::<Option<u64>>()?))
}

/// Rotates a session until the end. Returns the newest token, and how long each refresh took.
async fn refreshes(function: Function, mut token: String, end: Instant) -> (String, Vec<Duration>) {
    let mut taken = Vec::new();
    while taken.is_empty() || Instant::now() < end {
        taken.push(refresh(&function, &mut token).await);
    }
    (token, taken)
}

async fn refresh(function: &Function, token: &mut String) -> Duration {
    let event = request::refresh(token);
    let start = Instant::now();
    let answer = request::send(function, &event).await;
    let took = start.elapsed();
    let next = request::refresh_token(&answer, 200);
    assert_ne!(next, *token, "the session rotates");
    *token = next;
    took
}

/// Refreshes one after the other: alone, and during logins that were all sent at once. In
/// AWS they run in separate functions; here they share a process, the machine and the
/// engine.
pub struct Beside {
    pub alone: Spread,
    pub beside: Spread,
    pub logins_each_second: f64,
}

pub async fn beside_logins(world: &World, known: &[Member], logins: usize) -> Beside {
    let member = world.member("carol@example.com", |_| Vec::new()).await;
    let mut token = member.refresh_token.expose_secret().to_owned();
    let mut alone = Vec::new();
    for _ in 0..logins {
        alone.push(refresh(world.function("refresh"), &mut token).await);
    }
    let start = Instant::now();
    let login = |member: &Member| {
        let function = world.function("login").clone();
        let event = Arc::new(request::login(member.user.email.as_str(), PASSWORD));
        tokio::spawn(async move { request::send(&function, &event).await })
    };
    let sent: Vec<_> = known.iter().cycle().take(logins).map(login).collect();
    let mut beside = Vec::new();
    while beside.is_empty() || sent.iter().any(|login| !login.is_finished()) {
        beside.push(refresh(world.function("refresh"), &mut token).await);
    }
    let time = start.elapsed();
    let mut served = 0;
    for login in sent {
        // A login that waits too long for its turn gets a 503.
        match login.await.unwrap()["statusCode"].as_u64() {
            Some(200) => served += 1,
            status => assert_eq!(status, Some(503)),
        }
    }
    let logins_each_second = f64::from(served) / time.as_secs_f64();
    Beside { alone: Spread::of(alone), beside: Spread::of(beside), logins_each_second }
}
