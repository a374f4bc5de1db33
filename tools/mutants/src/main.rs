//! Runs the tests against every mutant of the code.
//!
//! cargo-mutants says which mutants there are. It would compile each by itself, which
//! takes days for the tests of the whole system. Here, all are compiled into one program,
//! each behind a switch, which is an environment variable. A first run of every test
//! records the switches that it passes. Then each mutant is switched on for the tests
//! that pass its switch, one after the other, until one fails.
//!
//! `cargo run -p mutants` runs it; `target/mutants/` has what it made and found.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool reports and may fail"
)]

mod list;
mod run;
mod switch;
mod tree;

use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let options = run::Options::parse(&mut arguments);
    let mutants = list::list(&options.files);
    let tree = tree::build(Path::new("target/mutants"), &mutants, options.unit, options.resume);
    if !run::run(&options, &mutants, &tree) {
        std::process::exit(1);
    }
}
