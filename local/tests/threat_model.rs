//! The threat model names tests: each of them must exist and run.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod catalog;

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/threat-model.md");

/// The tests that a page names: everything in code font in the last column of a
/// table if that column is called "test" and, anywhere else, every lower-case name
/// with underscores in code font.
fn named(page: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut has_tests = false;
    for line in page.lines() {
        has_tests = line.starts_with('|') && (has_tests || line.ends_with("| test |"));
        let column = if has_tests { line.trim_end_matches('|').rsplit('|').next().unwrap() } else { "" };
        let is_name = |word: &&str| word.contains('_') && !word.contains(|letter: char| letter.is_uppercase());
        names.extend(quoted(line).filter(is_name));
        names.extend(quoted(column));
    }
    names
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_test_that_the_threat_model_names_exists_and_runs() {
    let tests = catalog::tests();
    let named = named(PAGE);
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !tests.contains_key(*name)).collect();
    assert!(missing.is_empty(), "missing or ignored: {missing:#?}");
}

#[test]
fn a_name_is_found_however_short_it_is() {
    let page = "| wants to | stopped by | test |\n|---|---|---|\n| guess | `kid` | `short`, `a_b` |\n\n`sec` and (`x_y`), `A_B`\n| `kid` |";
    assert_eq!(named(page), BTreeSet::from(["short", "a_b", "x_y"]));
}

#[test]
fn a_test_that_is_ignored_commented_out_or_no_test_is_not_found() {
    let source = [
        "#[test]",
        "fn runs() {}",
        "/// Why.",
        "#[tokio::test(start_paused = true)]",
        "async fn waits() {}",
        "#[test]",
        "#[ignore = \"slow\"]",
        "fn slow() {}",
        "#[ignore]",
        "#[test] fn slower() {}",
        "// #[test]",
        "// fn once() {}",
        "/*",
        "#[test]",
        "fn never() {}",
        "*/",
        "fn helper() {}",
        "#[cfg(test)]",
        "fn other() {}",
    ];
    let found = catalog::tests_in(&source.join("\n"), "rs");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["runs", "waits"]);
}
