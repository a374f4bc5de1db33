//! What a command prints: tables for people, or JSON with one object a line. Clients
//! choose some of the texts, so none of them controls the terminal.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Where the results go.
pub struct Output {
    json: bool,
    /// The first error of a write.
    fault: RefCell<Option<io::Error>>,
}

/// A list of objects with the same members.
pub struct List<'a> {
    output: &'a Output,
    columns: &'static [&'static str],
    table: Table,
}

impl Output {
    /// Returns an output of JSON, or of tables.
    pub fn new(json: bool) -> Self {
        Self { json, fault: RefCell::default() }
    }

    /// Begins a list. A table has these columns, which are members of the objects; JSON
    /// has every member.
    pub fn list(&self, columns: &'static [&'static str]) -> List<'_> {
        List { output: self, columns, table: table(columns) }
    }

    /// Prints one object. For people, each list of objects in it becomes a table.
    pub fn object(&self, object: &Value) {
        if self.json {
            return self.line(escaped(&object.to_string()));
        }
        let mut lists = Vec::new();
        let mut members = table(&[]);
        fill(&mut members, &mut lists, object.as_object());
        self.table(&members);
        for (name, list) in lists {
            // The objects of a list have the same members.
            let columns: Vec<_> = list.iter().filter_map(Value::as_object).take(1).flat_map(Map::keys).collect();
            let mut rows = table(&columns.iter().map(|column| column.as_str()).collect::<Vec<_>>());
            for row in list {
                rows.add_row(columns.iter().map(|column| text(&row[column.as_str()])));
            }
            self.line(format_args!("\n{name}"));
            self.table(&rows);
        }
    }

    /// Prints one object, which is this text for people.
    pub fn line_of(&self, object: &Value, text: &str) {
        match self.json {
            true => self.line(escaped(&object.to_string())),
            false => self.line(text.chars().flat_map(shown).collect::<String>()),
        }
    }

    /// Prints one object as JSON, also for people.
    pub fn document(&self, document: &Value) {
        let text = if self.json { document.to_string() } else { format!("{document:#}") };
        self.line(escaped(&text));
    }

    /// Prints an entry of a list that may be too long for a table: the object as JSON, or
    /// the text for people.
    pub fn entry(&self, object: &Value, text: &str) {
        if self.json { self.object(object) } else { self.line(text.chars().flat_map(shown).collect::<String>()) }
    }

    /// Prints how many rows of the table could not be read, if there were any.
    pub fn unreadable(&self, rows: usize) {
        if rows > 0 {
            let message = format!("{rows} rows of the table cannot be read, and are left out.");
            let line = if self.json { json!({ "level": "WARN", "message": message }).to_string() } else { message };
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Prints a remark for people, and nothing in JSON.
    pub fn remark(&self, remark: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{remark}");
        }
    }

    /// Ends the output.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when something could not be written. A reader who has closed a pipe
    /// has seen enough.
    pub fn end(&self) -> Result<(), Failure> {
        match self.fault.take() {
            Some(fault) if fault.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::unreachable("output", format!("The output cannot be written: {fault}")))
            }
            _ => Ok(()),
        }
    }

    fn line(&self, text: impl Display) {
        if let Err(fault) = writeln!(io::stdout(), "{text}") {
            self.fault.borrow_mut().get_or_insert(fault);
        }
    }

    /// Prints a table without the spaces at the ends of its lines.
    fn table(&self, table: &Table) {
        table.lines().for_each(|row| self.line(row.trim_end()));
    }
}

impl List<'_> {
    /// Adds an object. JSON is printed at once.
    pub fn add(&mut self, object: &Value) {
        if self.output.json {
            self.output.object(object);
        } else {
            self.table.add_row(self.columns.iter().map(|column| text(&object[*column])));
        }
    }

    /// Ends the list.
    pub fn end(self) {
        if !self.output.json {
            self.output.table(&self.table);
        }
    }
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !columns.is_empty() {
        table.set_header(columns);
    }
    table
}

/// Adds the members of an object to a table, and its lists of objects to `lists`.
fn fill<'a>(members: &mut Table, lists: &mut Vec<(&'a str, &'a [Value])>, object: Option<&'a Map<String, Value>>) {
    for (name, value) in object.into_iter().flatten() {
        match value {
            Value::Object(inner) => fill(members, lists, Some(inner)),
            Value::Array(list) if list.iter().any(Value::is_object) => lists.push((name, list)),
            _ => drop(members.add_row([name.clone(), text(value)])),
        }
    }
}

/// Returns a value as people read it, with controls escaped.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.into(),
        Value::String(text) => text.chars().flat_map(shown).collect(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn shown(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}

/// Returns JSON in which the controls that JSON allows in a string are escaped, too.
fn escaped(json: &str) -> String {
    let escape = |letter: char| match letter {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(letter)),
        other => other.to_string(),
    };
    json.chars().map(escape).collect()
}
