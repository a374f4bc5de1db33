//! The results, as tables in Markdown and as a plot.

use std::fmt::Write;
use std::time::Duration;

use crate::behaviour::{Burst, COUNTED, Findings, Held, PARALLEL, TRIALS, Theft};
use crate::load::Turn;
use crate::statements::Statements;

/// The turns of a system with one number of clients.
pub struct Row<'a> {
    /// The system.
    pub title: &'a str,
    /// Its database.
    pub database: &'a str,
    /// How many clients it had.
    pub clients: usize,
    /// What was measured.
    pub turns: &'a [Turn],
}

impl Row<'_> {
    /// The median of the turns, in refreshes a second.
    pub fn rate(&self) -> f64 {
        let mut rates: Vec<_> = self.turns.iter().map(|turn| turn.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }

    /// The latency that `share` of the refreshes did not exceed, in milliseconds.
    fn latency(&self, share: f64) -> f64 {
        let mut all: Vec<_> = self.turns.iter().flat_map(|turn| &turn.run.latencies).collect();
        all.sort();
        milliseconds(*all[((all.len() as f64 * share).ceil() as usize).max(1) - 1])
    }

    fn per_refresh(&self, cpu: impl Fn(&Turn) -> Duration) -> f64 {
        let refreshes: usize = self.turns.iter().map(|turn| turn.run.latencies.len()).sum();
        milliseconds(self.turns.iter().map(cpu).sum()) / refreshes as f64
    }

    fn failures(&self) -> usize {
        self.turns.iter().map(|turn| turn.run.failures.len()).sum()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Latency, throughput and CPU time.
pub fn speed(rows: &[Row]) -> String {
    let mut table =
        "| | database | refreshes a second | p50, ms | p99, ms | CPU of the server, ms | of the client, ms | \
                     failed |\n|---|---|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for row in rows {
        let _ = writeln!(
            table,
            "| {} | {} | {:.0} | {:.1} | {:.1} | {:.2} | {:.2} | {} |",
            row.title,
            row.database,
            row.rate(),
            row.latency(0.5),
            row.latency(0.99),
            row.per_refresh(|turn| turn.server_cpu),
            row.per_refresh(|turn| turn.client_cpu),
            row.failures(),
        );
    }
    table
}

/// The memory of a server and of its database.
pub struct Memory<'a> {
    /// The server.
    pub title: &'a str,
    /// Its database.
    pub database: &'a str,
    /// Before the first refresh.
    pub idle: (u64, u64),
    /// The most under load.
    pub load: (u64, u64),
}

/// Memory, in MB.
pub fn memory(rows: &[Memory]) -> String {
    let mut table =
        "| MB | database | server, idle | under load | database, idle | under load |\n|---|---|--:|--:|--:|--:|\n"
            .to_owned();
    for row in rows {
        let megabytes =
            |bytes: u64| if bytes == 0 { "in the server".to_owned() } else { (bytes / 1_000_000).to_string() };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            row.title,
            row.database,
            megabytes(row.idle.0),
            megabytes(row.load.0),
            megabytes(row.idle.1),
            megabytes(row.load.1),
        );
    }
    table
}

/// What happens when things go wrong, with a column for each system.
pub fn behaviour(systems: &[(&str, Findings)]) -> String {
    let mut table = String::from("| |");
    let mut line = |name: &str, cell: &dyn Fn(&Findings) -> String| {
        let _ = write!(table, "\n| {name} |");
        for (_, findings) in systems {
            let _ = write!(table, " {} |", cell(findings));
        }
    };
    let burst = |count: fn(&Burst) -> usize| move |found: &Findings| range(found.bursts.iter().map(count));
    line(&format!("{PARALLEL} requests with one token: tokens for"), &burst(|burst| burst.refreshed));
    line("…different refresh tokens that work", &burst(|burst| burst.successors));
    line("…errors (5xx)", &burst(|burst| burst.failed));
    line(&format!("…signed out afterwards, of {TRIALS}"), &|found| {
        found.bursts.iter().filter(|burst| !burst.is_signed_in).count().to_string()
    });
    line("an answer is lost, and the client asks again", &|found| {
        if found.survives_lost_answer { "signed in" } else { "signed out" }.into()
    });
    line("a spent token is presented", &|found| {
        let session = if found.replay.goes_on { "the session goes on" } else { "the session ends" };
        format!("{}, {session}", second(&found.replay))
    });
    line("a thief refreshes before the owner", &|found| {
        let session = if found.thief_first.goes_on { "the thief goes on" } else { "the session ends" };
        format!("the owner is {}, {session}", second(&found.thief_first))
    });
    line("the database holds the secret that a refresh presents", &|found| {
        match found.held {
            Held::Nothing => "no",
            Held::Unusable => "yes, but not all that is needed",
            Held::Usable => "yes, and it can be used",
        }
        .into()
    });
    let each = |count: usize| count as f64 / COUNTED as f64;
    line("a refresh: reads, writes, statements of transactions", &|found| {
        let Statements { reads, writes, transactions } = found.statements;
        format!("{}, {}, {}", each(reads), each(writes), each(transactions))
    });
    line("…rows that it leaves behind", &|found| each(found.rows).to_string());
    line("a forged token: statements", &|found| {
        (found.forged.reads + found.forged.writes + found.forged.transactions).to_string()
    });
    let titles: String = systems.iter().map(|(title, _)| format!(" {title} |")).collect();
    let rule: String = systems.iter().map(|_| "---|").collect();
    format!("| |{titles}\n|---|{rule}{}\n", table.trim_start_matches("| |"))
}

fn second(theft: &Theft) -> &'static str {
    if theft.is_refused { "refused" } else { "accepted" }
}

fn range(counts: impl Iterator<Item = usize> + Clone) -> String {
    let (least, most) = (counts.clone().min().unwrap_or_default(), counts.max().unwrap_or_default());
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

const LEFT: f64 = 250.0;
const WIDTH: f64 = 760.0;
const TOP: f64 = 44.0;
const STEP: f64 = 28.0;
const BAR: f64 = 18.0;

/// A plot in SVG: a bar with the refreshes a second for each system.
pub fn plot(rows: &[Row]) -> String {
    let longest = rows.iter().map(Row::rate).fold(1.0, f64::max);
    let mut marks = String::new();
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let (text, width) = (y + BAR - 4.0, row.rate() / longest * (WIDTH - LEFT - 60.0));
        let (name, end) = (format!("{}, {}", row.title, row.database), LEFT + width + 6.0);
        let _ = writeln!(marks, r#"<text x="{}" y="{text:.1}" text-anchor="end">{name}</text>"#, LEFT - 8.0);
        let _ = writeln!(marks, r#"<rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="{BAR}" class="bar"/>"#);
        let _ = writeln!(marks, r#"<text x="{end:.1}" y="{text:.1}">{:.0}</text>"#, row.rate());
    }
    let height = TOP + STEP * rows.len() as f64 + 8.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="13" role="img" aria-label="Refreshes a second with {clients} clients, for each system">
<style>text {{ fill: #24292f }} .head {{ font-weight: bold }} .bar {{ fill: #1f6feb }}</style>
<rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>
<text x="10" y="24" class="head">Refreshes a second with {clients} clients, on two cores with the clients and the database</text>
{marks}</svg>
"##,
        clients = rows.first().map_or(0, |row| row.clients),
    )
}
