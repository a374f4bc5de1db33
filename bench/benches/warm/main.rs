//! Warm: how many refreshes one process serves; what an operation costs a user with many
//! sessions, and in a table with many users; a refresh beside logins; and what that costs
//! on AWS.
//!
//! `make bench-warm` runs it. Every answer is checked. The sides of a comparison take turns, so
//! that other load on the machine slows all of them. Without `--bench`, as in `cargo test`,
//! it does little of everything, and measures nothing worth reading.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reports and may fail")]

mod cost;
mod growth;
mod load;
mod meter;
mod operation;
mod report;
mod world;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bench::ROOT;
use clap::Parser;
use freshkey::telemetry;

use crate::world::World;

const PASSWORD: &str = "a quiet river under seven bridges";

#[derive(Parser)]
struct Arguments {
    /// The users in the large table.
    #[arg(long, default_value_t = 1_000_000)]
    users: usize,
    /// How often each operation is carried out.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// How long refreshes are counted at each number in flight, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The file for the plot, below the repository.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// From `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is done.
struct Size {
    /// The users in the small and in the large table.
    users: [usize; 2],
    /// The sessions of the user with many, besides that of a login.
    many: usize,
    /// The expired sessions of a user.
    expired: usize,
    rounds: usize,
    seconds: u32,
    /// The logins that are sent at once.
    logins: usize,
}

impl Size {
    const OF_TEST: Self = Self { users: [10, 100], many: 60, expired: 150, rounds: 2, seconds: 0, logins: 2 };

    fn of(arguments: &Arguments) -> Self {
        let Arguments { users, rounds, seconds, .. } = *arguments;
        Self { users: [1000, users], many: 999, expired: 10_000, rounds, seconds, logins: 200 }
    }
}

#[tokio::main]
async fn main() {
    let is_bench = env::args().any(|argument| argument == "--bench");
    // `cargo test NAME` and `cargo test -- --list` mean other tests.
    if !is_bench && env::args().skip(1).any(|argument| argument == "--list" || !argument.starts_with('-')) {
        return;
    }
    let arguments = is_bench.then(Arguments::parse);
    let size = arguments.as_ref().map_or(Size::OF_TEST, Size::of);
    // Lines are written and filtered as in a function, and then thrown away.
    let log = telemetry::subscriber(tracing::Level::INFO, std::io::sink);
    tracing::subscriber::set_global_default(log).unwrap();

    let (small, large) = (World::start().await, World::start().await);
    let start = Instant::now();
    let known = [small.fill(size.users[0], KNOWN).await, large.fill(size.users[1], KNOWN).await];
    println!("The tables of {} and {} users were filled in {:.0?}.", size.users[0], size.users[1], start.elapsed());

    let throughput = load::throughput(&small, size.seconds).await;
    let beside = load::beside_logins(&small, &known[0], size.logins).await;
    let by_sessions = growth::by_sessions(&small, &size).await;
    let logins = growth::until_few_expired(&small, &size).await;
    let by_users = growth::by_users([&small, &large], &known, &size).await;
    let costs = cost::of(&by_sessions, is_bench);

    println!("\nRefreshes of one process:\n\n{}", report::throughput(&throughput));
    println!("A refresh beside {} logins sent at once:\n\n{}", size.logins, report::beside(&beside));
    println!("By the sessions of the user:\n\n{}", report::times(&by_sessions));
    println!("{}", report::units(&by_sessions));
    println!(
        "Logins, one after the other, of a user with {} expired sessions:\n\n{}",
        growth::group(size.expired),
        report::logins(&logins)
    );
    println!("By the users in the table:\n\n{}", report::users(&by_users, &size.users));
    println!("On AWS:\n\n{}", report::costs(&costs));
    if let Some(plot) = arguments.and_then(|arguments| arguments.plot) {
        fs::write(Path::new(ROOT).join(plot), report::plot(&by_sessions, &by_users)).unwrap();
    }
    small.system.stop().await;
    large.system.stop().await;
}

/// The users in each table whose tokens are known.
const KNOWN: usize = 200;
