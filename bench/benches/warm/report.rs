//! The results, as tables in Markdown and as a plot.

use std::fmt::Write;

use bench::plot::{Bar, Group, Plot};

use crate::cost::Cost;
use crate::growth::{Cell, Growth, group};
use crate::load::{Beside, Throughput};
use crate::meter::Calls;
use crate::operation::Operation;

/// What is shown of an operation: its name, and which of its times, because hashing a
/// password would hide the rest.
const SHOWN: [(Operation, &str, Part); 10] = [
    (Operation::Refresh, "refresh", Part::Whole),
    (Operation::Login, "login", Part::Whole),
    (Operation::Login, "login, its calls", Part::Calls),
    (Operation::Logout, "logout", Part::Whole),
    (Operation::Register, "registration", Part::Whole),
    (Operation::Me, "`users/me`", Part::Whole),
    (Operation::Sessions, "list of sessions", Part::Whole),
    (Operation::EndSessions, "end of all sessions", Part::Whole),
    (Operation::Delete, "deletion of the account", Part::Whole),
    (Operation::Delete, "deletion, its calls", Part::Calls),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// From the event to the answer.
    Whole,
    /// The calls to DynamoDB.
    Calls,
}

impl Part {
    fn median(self, cell: &Cell) -> f64 {
        match self {
            Self::Whole => cell.time.median(),
            Self::Calls => cell.waited.median(),
        }
    }
}

/// A table with this head, and a rule for numbers in every column but the first.
fn head(first: &str, columns: &[String]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "--:|".repeat(columns.len()))
}

fn line(table: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<_> = cells.into_iter().collect();
    let _ = writeln!(table, "| {name} | {} |", cells.join(" | "));
}

/// Milliseconds with three digits.
fn ms(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Refreshes a second.
pub fn throughput(found: &[Throughput]) -> String {
    let mut table =
        head("in flight", &["refreshes a second", "median, ms", "p99, ms", "CPU of each, ms"].map(Into::into));
    for Throughput { in_flight, each_second, latency, cpu } in found {
        let cells = [
            group(each_second.round() as usize),
            ms(latency.median()),
            ms(latency.percentile(99)),
            cpu.map(ms).unwrap_or_default(),
        ];
        line(&mut table, &in_flight.to_string(), cells);
    }
    table
}

/// A refresh beside logins.
pub fn beside(found: &Beside) -> String {
    let mut table = head("refresh", &["median, ms", "p99, ms"].map(Into::into));
    for (name, spread) in [("alone", &found.alone), ("beside the logins", &found.beside)] {
        line(&mut table, name, [ms(spread.median()), ms(spread.percentile(99))]);
    }
    let ratio = found.beside.median() / found.alone.median();
    let _ = writeln!(table, "\n{ratio:.1} times as long; {:.0} logins a second.", found.logins_each_second);
    table
}

/// Medians by the sessions of the user.
pub fn times(growth: &Growth) -> String {
    let mut table = head("ms", &growth.situations);
    for (operation, name, part) in SHOWN {
        line(&mut table, name, growth.rows[&operation].iter().map(|cell| ms(part.median(cell))));
    }
    table
}

/// Units by the sessions of the user.
pub fn units(growth: &Growth) -> String {
    let mut table = head("writes + reads (round trips)", &growth.situations);
    for (operation, name, _) in SHOWN.into_iter().filter(|(.., part)| *part == Part::Whole) {
        let of = |cell: &Cell| format!("{} + {} ({})", cell.calls.writes, cell.calls.reads, cell.calls.trips);
        line(&mut table, name, growth.rows[&operation].iter().map(of));
    }
    table
}

/// Some of the logins of a user with expired sessions.
pub fn logins(found: &[Calls]) -> String {
    let mut table = head("login", &["writes", "reads", "round trips"].map(Into::into));
    let last = found.len() - 1;
    for number in [0, last / 4, last / 2, last * 3 / 4, last] {
        let Calls { writes, reads, trips, .. } = found[number];
        line(&mut table, &(number + 1).to_string(), [writes.to_string(), reads.to_string(), trips.to_string()]);
    }
    table
}

/// Medians by the users in the table.
pub fn users(growth: &Growth, users: &[usize; 2]) -> String {
    let columns = [&growth.situations[..], &[format!("{} times the users", users[1] / users[0])]].concat();
    let mut table = head("ms", &columns);
    for (name, part, cells) in of_users(growth) {
        let medians: Vec<_> = cells.iter().map(|cell| part.median(cell)).collect();
        let ratio = format!("{:.2} times as long", medians[1] / medians[0]);
        line(&mut table, name, medians.into_iter().map(ms).chain([ratio]));
    }
    table
}

fn of_users(growth: &Growth) -> impl Iterator<Item = (&'static str, Part, &Vec<Cell>)> {
    SHOWN.into_iter().filter_map(|(operation, name, part)| Some((name, part, growth.rows.get(&operation)?)))
}

/// What an operation costs on AWS.
pub fn costs(costs: &[Cost]) -> String {
    let columns =
        ["writes", "reads", "its own ms", "round trips", "MB", "billed ms", "dollars per million"].map(Into::into);
    let mut table = head("operation", &columns);
    for Cost { name, units: (writes, reads), own, trips, memory, billed, dollars } in costs {
        let dollars = dollars.clone().unwrap_or_default();
        let cells = [writes, reads].map(ToString::to_string).into_iter().chain([ms(*own)]);
        let cells = cells.chain([trips.to_string(), memory.to_string(), billed.to_string(), dollars]);
        line(&mut table, &format!("`{name}`"), cells);
    }
    table
}

/// A plot of the medians by sessions and by users.
pub fn plot(by_sessions: &Growth, by_users: &Growth) -> String {
    const BY_SESSIONS: [&str; 4] = ["refresh", "login, its calls", "logout", "list of sessions"];
    const BY_USERS: [&str; 3] = ["refresh", "login, its calls", "`users/me`"];
    let groups = |names: &[&str], growth: &Growth, heading: &str| {
        let shown = SHOWN.into_iter().filter(|(_, name, _)| names.contains(name));
        let group = |(operation, name, part): (Operation, &str, Part)| {
            let bar = |(name, cell): (&String, &Cell)| {
                let median = part.median(cell);
                Bar { name: name.clone(), parts: vec![median], value: format!("{} ms", ms(median)) }
            };
            let bars = growth.situations.iter().zip(&growth.rows[&operation]).map(bar).collect();
            Group { title: format!("{}{heading}", name.replace('`', "")), bars }
        };
        shown.map(group).collect::<Vec<_>>()
    };
    Plot {
        title: "Warm: medians over the embedded engine, in milliseconds",
        label: "Medians of operations by the sessions of the user and by the users in the table, in milliseconds",
        parts: &[],
        left: 170.0,
        bar: 12.0,
        groups: [
            groups(&BY_SESSIONS, by_sessions, ", by the user's sessions"),
            groups(&BY_USERS, by_users, ", by the table's users"),
        ]
        .concat(),
    }
    .svg()
}
