//! The results, as tables in Markdown and as a plot.

use std::fmt::Write;

use bench::plot::{Bar, Group, Plot};

use crate::cost::Cost;
use crate::growth::{Cell, Growth, group};
use crate::load::{Beside, Throughput};
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
    let mut table = head("in flight", &["refreshes a second", "median, ms", "p99, ms"].map(Into::into));
    for Throughput { in_flight, each_second, latency } in found {
        let cells = [group(each_second.round() as usize), ms(latency.median()), ms(latency.percentile(99))];
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
pub fn plot(by_sessions: &Growth, by_users: &Growth, users: &[usize; 2]) -> String {
    const LEFT_OUT: [&str; 4] = ["login", "registration", "end of all sessions", "deletion of the account"];
    let bars = |situations: &[String], part: Part, cells: &[Cell]| {
        let bar = |(name, cell): (&String, &Cell)| {
            let median = part.median(cell);
            Bar { name: name.clone(), parts: vec![median], value: format!("{} ms", ms(median)) }
        };
        situations.iter().zip(cells).map(bar).collect()
    };
    let title = |name: &str| name.replace('`', "");
    let mut groups = Vec::new();
    for (operation, name, part) in SHOWN.into_iter().filter(|(_, name, _)| !LEFT_OUT.contains(name)) {
        let bars = bars(&by_sessions.situations, part, &by_sessions.rows[&operation]);
        groups.push(Group { title: title(name), bars });
    }
    for (name, part, cells) in of_users(by_users).filter(|(name, ..)| !LEFT_OUT.contains(name)) {
        groups.push(Group {
            title: format!("{}, in a table", title(name)),
            bars: bars(&by_users.situations, part, cells),
        });
    }
    let label = format!(
        "Medians of operations by the sessions of a user, and in tables of {} and {} users",
        users[0], users[1]
    );
    Plot {
        title: "Warm: medians on the embedded engine, in milliseconds",
        label: &label,
        parts: &[],
        left: 170.0,
        bar: 12.0,
        groups,
    }
    .svg()
}
