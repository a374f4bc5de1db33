//! A simulation of a million users, for docs/scale.md: an ordinary day, and an evening on
//! which DynamoDB does not answer for an hour. `make simulate` runs it and draws the plots.
//!
//! It is seeded, so each run gives the same numbers.

#![expect(clippy::print_stdout, reason = "a simulation reports")]

mod clients;
mod plot;
mod random;
mod server;

use std::path::PathBuf;

use clients::{Day, Population, simulate};
use plot::Plot;
use server::{Limits, Operation, Second};

/// Seconds of a day.
const DAY: f64 = 86_400.0;
const HOUR: usize = 3600;
/// When the outage ends, which is when most users come.
const BACK: usize = 20 * HOUR;

/// The users of docs/scale.md.
const POPULATION: Population = Population {
    users: 1_000_000,
    always_on: 0.05,
    visits: 3.0,
    visit: 20.0 * 60.0,
    between_calls: 30.0,
    peak: 20.0 * 3600.0,
    swing: 0.8,
    logins: 0.02,
    lifetime: 3600.0,
    jitter: 0.0,
    tries_again: clients::TRIES,
};

/// The template's throttle of a route, the default quota of Lambda, and a new table.
const LIMITS: Limits = Limits { route: (100.0, 200.0), concurrency: 1000, partitions: 4, outage: None };

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    let draw = |name: &str, plot: &Plot<'_>| match &folder {
        Some(folder) => std::fs::write(folder.join(name), plot.svg()),
        None => Ok(()),
    };

    println!("An ordinary day. Nothing is limited, so that the peaks are those of the users.\n");
    let unlimited = Limits { route: (1e9, 1e9), concurrency: 1_000_000, ..LIMITS };
    let ordinary = simulate(&POPULATION, unlimited, 1);
    report("ordinary", &ordinary, 0);
    let line = |day: &Day, operation: Operation| served(&day.seconds, operation).map(|count| count as f64).collect();
    draw(
        "scale-day.svg",
        &Plot {
            title: "A million users on a day: requests per second",
            from: 0,
            to: 24 * HOUR,
            step: 300,
            mark: Some((100.0, "the template's limit of a route")),
            lines: vec![
                ("refreshes", line(&ordinary, Operation::Refresh)),
                ("logins", line(&ordinary, Operation::Login)),
            ],
        },
    )?;

    println!("\nDynamoDB does not answer from 19:00 to 20:00.\n");
    let evenings = [
        ("100/s", 100.0, POPULATION),
        ("300/s", 300.0, POPULATION),
        ("1000/s", 1000.0, POPULATION),
        ("1000/s, one try after a failure", 1000.0, Population { tries_again: 1, ..POPULATION }),
        ("5000/s", 5000.0, POPULATION),
        ("5000/s, jitter of a fifth", 5000.0, Population { jitter: 0.2, ..POPULATION }),
    ];
    let outage = Some(((BACK - HOUR) as f64, BACK as f64));
    let days = std::thread::scope(|scope| {
        let evening = |(_, rate, population)| {
            let limits = Limits { route: (rate, 2.0 * rate), outage, ..LIMITS };
            scope.spawn(move || simulate(&population, limits, 1))
        };
        let threads = evenings.clone().map(evening);
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| std::io::Error::other("a day failed")))
            .collect::<Result<Vec<_>, _>>()
    })?;
    for ((name, ..), day) in evenings.iter().zip(&days) {
        report(name, day, BACK);
    }
    let [as_it_is, wider, wide, _, open, shorter] = days.as_slice() else { return Ok(()) };
    draw(
        "scale-waiting.svg",
        &Plot {
            title: "An outage from 19:00 to 20:00: clients that wait for tokens",
            from: 18 * HOUR + HOUR / 2,
            to: 22 * HOUR,
            step: 60,
            mark: None,
            lines: [("a limit of 100/s", as_it_is), ("300/s", wider), ("1000/s", wide)]
                .map(|(name, day)| (name, day.waiting.iter().map(|waiting| *waiting as f64).collect()))
                .into(),
        },
    )?;
    draw(
        "scale-echo.svg",
        &Plot {
            title: "The echoes of the outage: refreshes per second",
            from: BACK - HOUR / 2,
            to: 24 * HOUR,
            step: 60,
            mark: None,
            lines: vec![
                ("a lifetime of 60 minutes", line(open, Operation::Refresh)),
                ("of 48 to 60 minutes", line(shorter, Operation::Refresh)),
            ],
        },
    )
}

fn served(seconds: &[Second], operation: Operation) -> impl Iterator<Item = usize> {
    seconds.iter().map(move |second| second.served[operation as usize])
}

/// The most requests that were served in a second, and in one of the busiest minute.
fn peaks(seconds: &[Second], operation: Operation) -> (usize, usize) {
    let minutes = seconds.chunks(60).map(|minute| served(minute, operation).sum::<usize>() / 60);
    (served(seconds, operation).max().unwrap_or_default(), minutes.max().unwrap_or_default())
}

/// Prints what a day used, from the second `from` on.
fn report(name: &str, day: &Day, from: usize) {
    let most = |seconds: &[Second], of: fn(&Second) -> usize| seconds.iter().map(of).max().unwrap_or_default();
    let (before, after) = day.seconds.split_at(from.min(day.seconds.len()));
    println!("{name}");
    for operation in Operation::ALL {
        let (second, minute) = peaks(after, operation);
        let total: usize = served(&day.seconds, operation).sum();
        println!(
            "  {operation:?}: {total} on the day; {second} in the busiest second, {minute}/s in the busiest minute"
        );
    }
    println!("  executions at once: {}", most(after, |second| second.concurrency));
    let (units, hottest) = (most(after, |second| second.writes), most(after, |second| second.hottest));
    println!("  units written in the busiest second: {units}, by one partition {hottest}");
    if !before.is_empty() {
        let requests = |seconds: &[Second]| seconds.iter().map(|second| second.requests).sum::<usize>() / seconds.len();
        println!("  in the second half of the outage: {} requests/s", requests(&before[from - HOUR / 2..]));
        println!("    executions at once: {}", most(before, |second| second.concurrency));
        println!("  in the minute after it: {} requests/s", requests(&after[..60]));
        let waiting = day.waiting[from - 1];
        let left = day.waiting[from..].iter().position(|left| *left <= waiting / 100).unwrap_or_default();
        println!("  clients that wait at its end: {waiting}; 99 of 100 are served after {left} s");
        for hours in 1..=3 {
            let (_, minute) =
                peaks(&after[hours * HOUR - HOUR / 2..(hours * HOUR + HOUR / 2).min(after.len())], Operation::Refresh);
            println!("  echo after {hours} h: {minute} refreshes/s in the busiest minute");
        }
    }
    let later = day.given_up.iter().filter(|visit| visit.to >= from as f64).count();
    println!("  visits that ended without tokens: {}, of them after the outage {later}", day.given_up.len());
    let waits = day.waits.iter().filter(|wait| wait.to >= from as f64);
    let mut waits: Vec<_> = waits.map(|wait| wait.to - wait.from.max(from as f64)).collect();
    waits.sort_unstable_by(f64::total_cmp);
    let [median, most, longest] = [0.5, 0.99, 1.0].map(|share| {
        let at = (waits.len() as f64 * share) as usize;
        waits.get(at.min(waits.len().saturating_sub(1))).copied().unwrap_or_default()
    });
    println!("  wait: median {median:.3} s, 99th percentile {most:.3} s, longest {longest:.1} s");
}
