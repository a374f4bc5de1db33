//! The tests that the threat model names exist.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const PAGE: &str = include_str!("../../docs/threat-model.md");

/// The text of every Rust file below `directory`.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}

#[test]
fn each_test_that_the_threat_model_names_is_there() {
    let code: String =
        ["shared/src", "local/tests", "functions"].map(|directory| sources(&Path::new(ROOT).join(directory))).concat();
    let quoted = PAGE.split('`').skip(1).step_by(2);
    let named: Vec<_> =
        quoted.filter(|name| name.matches('_').count() >= 4 && !name.contains(char::is_uppercase)).collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}
