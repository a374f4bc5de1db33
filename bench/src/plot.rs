//! Plots in SVG: horizontal bars in groups, each group to its own scale.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
/// The space for what is written behind the longest bar.
const RIGHT: f64 = 90.0;
const HEAD: f64 = 28.0;
const GAP: f64 = 14.0;
const COLOURS: [&str; 2] = ["#1f6feb", "#9ec5fe"];

/// A plot.
pub struct Plot<'a> {
    /// The line above it.
    pub title: &'a str,
    /// What it shows, for those who do not see it.
    pub label: &'a str,
    /// What the parts of a bar are, at most two. None if every bar has one.
    pub parts: &'a [&'a str],
    /// The space for the names of the bars.
    pub left: f64,
    /// The height of a bar.
    pub bar: f64,
    /// The bars.
    pub groups: Vec<Group>,
}

/// Bars under one heading.
#[derive(Clone)]
pub struct Group {
    /// The heading.
    pub title: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// A bar of one part after another.
#[derive(Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// The lengths of its parts.
    pub parts: Vec<f64>,
    /// What is written behind it.
    pub value: String,
}

impl Plot<'_> {
    /// Returns the plot as a file.
    pub fn svg(&self) -> String {
        let Self { title, label, parts, left, bar: height, groups } = self;
        let (mut marks, mut top) = (String::new(), 46.0);
        for (index, part) in parts.iter().enumerate() {
            let x = 400.0 + 160.0 * index as f64;
            let _ = writeln!(marks, r#"<rect x="{x}" y="13" width="13" height="13" class="part{index}"/>"#);
            let _ = writeln!(marks, r#"<text x="{}" y="24">{part}</text>"#, x + 19.0);
        }
        for Group { title, bars } in groups {
            let longest = bars.iter().map(|bar| bar.parts.iter().sum()).fold(f64::MIN_POSITIVE, f64::max);
            let scale = (WIDTH - left - RIGHT) / longest;
            let _ = writeln!(marks, r#"<text x="10" y="{:.1}" class="head">{title}</text>"#, top + 16.0);
            top += HEAD;
            for Bar { name, parts, value } in bars {
                let text = top + height / 2.0 + 4.5;
                let _ = writeln!(marks, r#"<text x="{}" y="{text:.1}" text-anchor="end">{name}</text>"#, left - 8.0);
                let mut x = *left;
                for (index, part) in parts.iter().enumerate() {
                    let width = part * scale;
                    let _ = writeln!(
                        marks,
                        r#"<rect x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height}" class="part{index}"/>"#
                    );
                    x += width;
                }
                let _ = writeln!(marks, r#"<text x="{:.1}" y="{text:.1}">{value}</text>"#, x + 6.0);
                top += height + 8.0;
            }
            top += GAP;
        }
        let [first, second] = COLOURS;
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0}" font-family="sans-serif" font-size="13" role="img" aria-label="{label}">
<style>text {{ fill: #24292f }} .head {{ font-weight: bold }} .part0 {{ fill: {first} }} .part1 {{ fill: {second} }}</style>
<rect width="{WIDTH}" height="{top:.0}" fill="#ffffff"/>
<text x="10" y="24" class="head">{title}</text>
{marks}</svg>
"##
        )
    }
}
