//! The ids of docs/requirements.md: each id has a test, and each id in a test's
//! name is on the page.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod catalog;

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/requirements.md");

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|next: char| !next.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// Whether a word looks like an id: two letters, then one or two digits.
fn is_id(word: &str) -> bool {
    let (series, number) = word.split_at_checked(2).unwrap_or_default();
    series.chars().all(|letter| letter.is_ascii_uppercase())
        && (1..=2).contains(&number.len())
        && number.chars().all(|digit| digit.is_ascii_digit())
}

/// The ids in front of a test's name: `rf1_rf3_…` has two.
fn ids_of_name(name: &str) -> Vec<String> {
    let name = name.strip_prefix("test_").unwrap_or(name).to_uppercase();
    words(&name).take_while(|word| is_id(word)).map(str::to_owned).collect()
}

/// The ids of a test, by its name and by the comment above it.
fn ids_of((name, comment): (&String, &String)) -> Vec<String> {
    let in_comment = words(comment).filter(|word| is_id(word)).map(str::to_owned);
    ids_of_name(name).into_iter().chain(in_comment).collect()
}

/// The lines of the page that explain an id: the id, what holds, its source.
fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| is_id(cells[0]))
}

/// The ids that the page explains.
fn explained() -> BTreeSet<String> {
    lines().map(|cells| cells[0].to_owned()).collect()
}

#[test]
fn every_id_of_the_page_has_a_test() {
    let explained = explained();
    assert!(explained.len() > 100, "{explained:?}");
    let tested: BTreeSet<_> = catalog::tests().iter().flat_map(ids_of).collect();
    let untested: Vec<_> = explained.difference(&tested).collect();
    assert!(untested.is_empty(), "without a test: {untested:?}");
}

#[test]
fn every_id_in_the_name_of_a_test_is_on_the_page() {
    let explained = explained();
    let unknown: Vec<_> = catalog::tests()
        .into_keys()
        .filter(|name| ids_of_name(name).iter().any(|id| !explained.contains(id)))
        .collect();
    assert!(unknown.is_empty(), "with an id that docs/requirements.md does not explain: {unknown:#?}");
}

#[test]
fn every_id_has_one_line_that_says_what_holds_and_where_it_is_from() {
    assert_eq!(lines().count(), explained().len(), "an id has more than one line");
    for cells in lines() {
        assert!(matches!(cells[..], [_, rule, source] if rule.ends_with('.') && !source.is_empty()), "{cells:?}");
    }
}

#[test]
fn an_id_is_found_in_a_name_a_title_a_docstring_and_the_comment_above() {
    let ids = |text, extension| catalog::tests_in(text, extension).iter().flat_map(ids_of).collect::<Vec<_>>();
    assert_eq!(ids("#[test]\nfn rf1_rf12_in_one_es256_write() {}", "rs"), ["RF1", "RF12"]);
    assert_eq!(ids("/// PW2: in code points.\n#[test]\nfn counts() {}", "rs"), ["PW2"]);
    assert_eq!(ids("/// PW2: in code points.\nfn counts() {}\n#[test]\nfn other() {}", "rs"), [""; 0]);
    assert_eq!(ids("/// RF2.\n#[test]\n#[ignore]\nfn rf3_ignored() {}", "rs"), [""; 0]);
    assert_eq!(ids("test('rf6: again', async () => {", "ts"), ["RF6"]);
    assert_eq!(ids("// RF7\nit(`again`, () => {", "js"), ["RF7"]);
    assert_eq!(ids("test.skip('rf8: again', () => {", "js"), [""; 0]);
    assert_eq!(ids("async def test_rf9_again():\n    \"\"\"RF10\"\"\"", "py"), ["RF9", "RF10"]);
    assert_eq!(ids("@pytest.mark.skip\ndef test_rf9_again():\n    pass", "py"), [""; 0]);
}
