//! What an operation costs on AWS, by the prices of docs/cost.md.

use std::env;
use std::process::Command;

use crate::growth::{Cell, Growth};
use crate::meter::TRIP;
use crate::operation::Operation;

const PAGE: &str = include_str!("../../../docs/cost.md");
/// The memory with which a function has one CPU, in MB.
const FULL: f64 = 1769.0;

/// The cost of an operation.
pub struct Cost {
    /// Its name on the page.
    pub name: &'static str,
    /// The units that it writes and reads.
    pub units: (f64, f64),
    /// Its time without its calls, here, in milliseconds.
    pub own: f64,
    /// Its round trips to DynamoDB.
    pub trips: usize,
    /// The memory of its function, in MB.
    pub memory: f64,
    /// The time that Lambda bills, in whole milliseconds.
    pub billed: f64,
    /// US dollars per million. `None` if Python was not asked.
    pub dollars: Option<String>,
}

/// Returns what operations of a user with one session cost. Fails if the page has other
/// units.
pub fn of(growth: &Growth, with_prices: bool) -> Vec<Cost> {
    let operations = [
        ("register", Operation::Register),
        ("login", Operation::Login),
        ("refresh", Operation::Refresh),
        ("logout", Operation::Logout),
        ("me", Operation::Me),
    ];
    let costs = operations.map(|(name, operation)| cost(name, &growth.rows[&operation][0]));
    costs.map(|cost| Cost { dollars: with_prices.then(|| price(&cost)), ..cost }).into()
}

fn cost(name: &'static str, cell: &Cell) -> Cost {
    let row = PAGE.lines().find_map(|line| line.strip_prefix(&format!("| `{name}` |"))).unwrap();
    let numbers: Vec<f64> = row.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
    let [writes, reads, _, memory, _] = numbers[..] else { unreachable!("docs/cost.md has other columns") };
    let (calls, own) = (&cell.calls, cell.own.median());
    let units = (calls.writes, calls.reads);
    assert_eq!(units, (writes, reads), "the units of {name}, here and in docs/cost.md");
    let billed = (own * (FULL / memory).max(1.0) + TRIP.as_secs_f64() * 1000.0 * calls.trips as f64).ceil();
    Cost { name, units, own, trips: calls.trips, memory, billed, dollars: None }
}

fn price(cost: &Cost) -> String {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("{}/tools/cost.py", bench::ROOT);
    let output =
        Command::new(python).args([&script, "--taking", &cost.billed.to_string(), cost.name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
