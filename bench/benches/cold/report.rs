//! The results, as a table, as a plot, and compared with the targets.

use std::fmt::Write;
use std::time::Duration;

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

#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    p90: f64,
}

impl Spread {
    fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<_> = durations.map(|duration| duration.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 0 { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] };
        Self { median, p90: sorted[(sorted.len() * 9).div_ceil(10) - 1] }
    }
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
            between: between.median - trips(subject.answer_trips),
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
        Some(self.first_poll.median - empty.first_poll.median - self.init_trips)
    }
}

/// A table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table =
        "| ms | first poll | p90 | first answer | p90 | init | answer |\n|---|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for row in rows {
        let init = row.init_work(rows).map(|work| format!("{work:.1}")).unwrap_or_default();
        let (poll, answer) = (row.first_poll, row.first_answer);
        let _ = writeln!(
            table,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {init} | {:.1} |",
            row.title(),
            poll.median,
            poll.p90,
            answer.median,
            answer.p90,
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
            let lead = peer.first_answer.median / ours.first_answer.median;
            let target = if peer.name == "Go" { 1.0 } else { LEAD_TARGET };
            line(format!("times ahead of {}", peer.name), lead, lead >= target, format!("{target} or more"));
        }
    }
    lines
}

const LEFT: f64 = 150.0;
const WIDTH: f64 = 760.0;
const BAR: f64 = 18.0;
const STEP: f64 = 28.0;
const HEAD: f64 = 40.0;

/// A plot in SVG: a bar to the first answer for each subject that refreshes, with the
/// part to the first poll darker.
pub fn plot(runs: &[Run]) -> String {
    let mut marks = String::new();
    let mut top = 50.0;
    for run in runs {
        let rows: Vec<_> = run.rows.iter().filter(|row| row.kind != Kind::Function || row.name == "refresh").collect();
        let longest = rows.iter().map(|row| row.first_answer.median).fold(1.0, f64::max);
        let scale = (WIDTH - LEFT - 80.0) / longest;
        let _ = writeln!(marks, r#"<text x="10" y="{:.0}" class="head">{}</text>"#, top + 18.0, run.title);
        for (index, row) in rows.iter().enumerate() {
            let y = top + HEAD + STEP * index as f64;
            let (poll, answer) = (row.first_poll.median * scale, row.first_answer.median * scale);
            let name = if row.kind == Kind::Function { "Freshkey's refresh".into() } else { row.title() };
            let text = y + BAR - 4.0;
            let _ = writeln!(marks, r#"<text x="{}" y="{text:.1}" text-anchor="end">{name}</text>"#, LEFT - 8.0);
            let _ =
                writeln!(marks, r#"<rect x="{LEFT}" y="{y:.1}" width="{answer:.1}" height="{BAR}" class="answer"/>"#);
            let _ = writeln!(marks, r#"<rect x="{LEFT}" y="{y:.1}" width="{poll:.1}" height="{BAR}" class="poll"/>"#);
            let end = LEFT + answer + 6.0;
            let _ = writeln!(marks, r#"<text x="{end:.1}" y="{text:.1}">{:.0} ms</text>"#, row.first_answer.median);
        }
        top += HEAD + STEP * rows.len() as f64 + 14.0;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0}" font-family="sans-serif" font-size="13" role="img" aria-label="Time from exec to the first answer of a refresh, in milliseconds">
<style>text {{ fill: #24292f }} .head {{ font-weight: bold }} .poll {{ fill: #1f6feb }} .answer {{ fill: #9ec5fe }}</style>
<rect width="{WIDTH}" height="{top:.0}" fill="#ffffff"/>
<text x="10" y="24" class="head">A refresh, cold: medians, in milliseconds</text>
<rect x="420" y="13" width="13" height="13" class="poll"/><text x="439" y="24">exec to first poll</text>
<rect x="570" y="13" width="13" height="13" class="answer"/><text x="589" y="24">first poll to first answer</text>
{marks}</svg>
"##
    )
}
