//! The list of mutants, as cargo-mutants makes it.

use std::process::Command;

use proc_macro2::Span;
use serde::{Deserialize, Serialize};

/// A change of the code.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mutant {
    /// The file, from the root of the repository.
    pub file: String,
    /// What kind of change it is.
    pub genre: String,
    /// The place and the change, to be read.
    pub name: String,
    /// The new code.
    pub replacement: String,
    /// What is replaced.
    pub span: Range,
    /// The function, unless it is outside of one.
    pub function: Option<Function>,
}

/// A part of a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Range {
    /// The first character.
    pub start: Place,
}

/// A place in a file. Both numbers begin with 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// A function.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Function {
    /// Its name, with its type.
    #[serde(rename = "function_name")]
    pub name: String,
    /// Its type, with the arrow before it.
    pub return_type: String,
}

impl Mutant {
    /// A name that stays the same when lines are added above.
    pub fn key(&self) -> String {
        let source = std::fs::read_to_string(&self.file).unwrap_or_default();
        let line = source.lines().nth(self.span.start.line - 1).unwrap_or_default().trim();
        let what = self.name.splitn(4, ':').nth(3).unwrap_or_default();
        format!("{}:{what}: {line}", self.file)
    }

    /// Whether it can be switched on and off when the program runs. A constant cannot,
    /// and neither can the value of a function that returns `impl Trait`, because that is
    /// one type.
    pub fn can_switch(&self) -> bool {
        match &self.function {
            Some(function) => self.genre != "FnValue" || !function.return_type.contains("impl "),
            None => false,
        }
    }
}

impl Place {
    /// Returns where the span starts.
    pub fn of(span: Span) -> Self {
        let start = span.start();
        Self { line: start.line, column: start.column + 1 }
    }
}

/// Returns the mutants of the files that match the patterns.
pub fn list(patterns: &[String]) -> Vec<Mutant> {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--no-shuffle", "--list", "--json"]);
    for pattern in patterns {
        command.args(["--file", pattern]);
    }
    let output = command.output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo-mutants prints a list")
}
