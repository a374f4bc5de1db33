//! Plots in SVG: lines over the time of day.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 36.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#d1242f", "#8250df"];

/// A plot of the seconds from `from` to `to`.
pub struct Plot<'a> {
    pub title: &'a str,
    pub from: usize,
    pub to: usize,
    /// How many seconds are one point, which is their mean.
    pub step: usize,
    /// A height to mark, and what it is.
    pub mark: Option<(f64, &'a str)>,
    /// Lines with their names; values by second of the day.
    pub lines: Vec<(&'a str, Vec<f64>)>,
}

impl Plot<'_> {
    pub fn svg(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(|(name, values)| (name, self.points(values))).collect();
        let highest = lines.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
        let highest = highest.chain(self.mark.map(|(value, _)| value)).fold(0.0, f64::max);
        let tick = tick(highest);
        let top = (highest / tick).ceil() * tick;
        let x =
            |second: f64| LEFT + (second - self.from as f64) / (self.to - self.from) as f64 * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut marks = String::new();
        let mut value = 0.0;
        while value <= top * 1.001 {
            let at = y(value);
            let _ = writeln!(marks, r#"<path d="M{LEFT} {at:.1}H{}" class="grid"/>"#, WIDTH - RIGHT);
            let text = at + 4.0;
            let _ = writeln!(marks, r#"<text x="{}" y="{text:.1}" text-anchor="end">{value}</text>"#, LEFT - 8.0);
            value += tick;
        }
        let step = (self.to - self.from).div_ceil(8 * 1800) * 1800;
        for second in (self.from..=self.to).step_by(step) {
            let (hours, minutes) = (second / 3600, second % 3600 / 60);
            let _ = writeln!(
                marks,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{hours}:{minutes:02}</text>"#,
                x(second as f64),
                HEIGHT - 14.0
            );
        }
        if let Some((value, name)) = self.mark {
            let at = y(value);
            let _ = writeln!(marks, r#"<path d="M{LEFT} {at:.1}H{}" class="mark"/>"#, WIDTH - RIGHT);
            let _ = writeln!(marks, r#"<text x="{}" y="{:.1}">{name}</text>"#, LEFT + 8.0, at + 16.0);
        }
        for ((name, points), (index, colour)) in lines.iter().zip(COLOURS.iter().enumerate()) {
            let path: Vec<_> = points.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value))).collect();
            let _ = writeln!(marks, r#"<path d="M{}" stroke="{colour}" class="line"/>"#, path.join("L"));
            let left = 10.0 + 240.0 * index as f64;
            let _ = writeln!(marks, r#"<path d="M{left} 43h18" stroke="{colour}" class="line"/>"#);
            let _ = writeln!(marks, r#"<text x="{}" y="47">{name}</text>"#, left + 24.0);
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" role="img" aria-label="{title}">
<style>text {{ fill: #24292f }} .head {{ font-weight: bold }} .line {{ fill: none; stroke-width: 2 }} .grid {{ stroke: #d8dee4 }} .mark {{ stroke: #24292f; stroke-dasharray: 5 4 }}</style>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="10" y="24" class="head">{title}</text>
{marks}</svg>
"##,
            title = self.title
        )
    }

    /// The means of each step, each in its middle.
    fn points(&self, values: &[f64]) -> Vec<(f64, f64)> {
        let shown = values.get(self.from..self.to.min(values.len())).unwrap_or_default();
        let mean = |(index, chunk): (usize, &[f64])| {
            let at = (self.from + index * self.step) as f64 + chunk.len() as f64 / 2.0;
            (at, chunk.iter().sum::<f64>() / chunk.len() as f64)
        };
        shown.chunks(self.step).enumerate().map(mean).collect()
    }
}

/// Returns a round distance between about five marks up to `highest`.
fn tick(highest: f64) -> f64 {
    let about = (highest / 5.0).max(1.0);
    let power = 10_f64.powf(about.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|tick| *tick >= about).unwrap_or(about)
}
