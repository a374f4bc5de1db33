//! The results, as a table, as a plot, and compared with the targets.

use std::fmt::Write;
use std::time::Duration;

use bench::plot::{Bar, Group, Plot};
use bench::spread::Spread;

use crate::lambda::Start;
use crate::{Kind, Subject};

/// How much longer than that of the empty function a first poll may take,
/// besides its round trips, in milliseconds.
const POLL_TARGET: f64 = 5.0;
/// How much longer than the first poll a first answer may take, besides its
/// round trips, in milliseconds.
const ANSWER_TARGET: f64 = 10.0;
/// How many times ahead of Python and of Node the first answer must be.
const LEAD_TARGET: f64 = 10.0;

/// All starts under one limit.
pub struct Run {
    /// The limit.
    pub title: &'static str,
    /// What was started.
    pub rows: Vec<Row>,
}

/// All starts of one subject, in milliseconds.
pub struct Row {
    name: &'static str,
    kind: Kind,
    first_poll: Spread,
    first_answer: Spread,
    /// The median time from the first poll to the first answer, without the round trips.
    between: f64,
    /// The time of the round trips before the first poll.
    init_trips: f64,
}

impl Row {
    /// The starts of `subject`.
    pub fn of(subject: &Subject, starts: &[Start], delay: Duration) -> Self {
        let trips = |count| f64::from(count) * delay.as_secs_f64() * 1000.0;
        let between = Spread::of(starts.iter().map(|start| start.first_answer - start.first_poll));
        Self {
            name: subject.name,
            kind: subject.kind,
            first_poll: Spread::of(starts.iter().map(|start| start.first_poll)),
            first_answer: Spread::of(starts.iter().map(|start| start.first_answer)),
            between: between.median() - trips(subject.answer_trips),
            init_trips: trips(subject.init_trips),
        }
    }

    fn title(&self) -> String {
        match self.kind {
            Kind::Empty => "empty function".into(),
            Kind::Function => format!("`{}`", self.name),
            Kind::Peer => format!("refresh in {}", self.name),
        }
    }

    /// How much longer than that of the empty function its first poll took,
    /// without the round trips.
    fn init_work(&self, rows: &[Self]) -> Option<f64> {
        let empty = rows.iter().find(|row| row.kind == Kind::Empty)?;
        Some(self.first_poll.median() - empty.first_poll.median() - self.init_trips)
    }
}

/// A table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table =
        "| ms | first poll | p90 | first answer | p90 | init | answer |\n|---|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for row in rows {
        let init = row.init_work(rows).map(|work| format!("{work:.1}")).unwrap_or_default();
        let (poll, answer) = (&row.first_poll, &row.first_answer);
        let _ = writeln!(
            table,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {init} | {:.1} |",
            row.title(),
            poll.median(),
            poll.percentile(90),
            answer.median(),
            answer.percentile(90),
            row.between,
        );
    }
    table
}

/// The targets, and whether they are met.
pub fn targets(rows: &[Row]) -> String {
    let mut lines = String::new();
    let mut line = |what: String, found: f64, is_met: bool, target: String| {
        let _ = writeln!(lines, "{}  {what}: {found:.1}, target {target}", if is_met { "met   " } else { "MISSED" });
    };
    for row in rows.iter().filter(|row| row.kind == Kind::Function) {
        if let Some(work) = row.init_work(rows) {
            let what = format!("{}: first poll, ms beyond the empty function and round trips", row.name);
            line(what, work, work <= POLL_TARGET, format!("{POLL_TARGET} or less"));
        }
        let what = format!("{}: first answer, ms beyond the first poll and round trips", row.name);
        line(what, row.between, row.between <= ANSWER_TARGET, format!("{ANSWER_TARGET} or less"));
    }
    if let Some(ours) = rows.iter().find(|row| row.name == "refresh") {
        for peer in rows.iter().filter(|row| row.kind == Kind::Peer) {
            let lead = peer.first_answer.median() / ours.first_answer.median();
            let target = if peer.name == "Go" { 1.0 } else { LEAD_TARGET };
            line(format!("times ahead of {}", peer.name), lead, lead >= target, format!("{target} or more"));
        }
    }
    lines
}

/// A plot in SVG: a bar to the first answer for each subject that refreshes, with the
/// part to the first poll darker.
pub fn plot(runs: &[Run]) -> String {
    let bar = |row: &Row| {
        let (poll, answer) = (row.first_poll.median(), row.first_answer.median());
        let name = if row.kind == Kind::Function { "Freshkey's refresh".into() } else { row.title() };
        Bar { name, parts: vec![poll, answer - poll], value: format!("{answer:.0} ms") }
    };
    let group = |run: &Run| {
        let rows = run.rows.iter().filter(|row| row.kind != Kind::Function || row.name == "refresh");
        Group { title: run.title.into(), bars: rows.map(bar).collect() }
    };
    let plot = Plot {
        title: "A refresh, cold: medians, in milliseconds",
        label: "Time from exec to the first answer of a refresh, in milliseconds",
        parts: &["exec to first poll", "first poll to first answer"],
        left: 150.0,
        bar: 18.0,
        groups: runs.iter().map(group).collect(),
    };
    plot.svg()
}
