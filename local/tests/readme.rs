//! The documentation is checked against the system. Every `sh` block of a section
//! in the README and in `docs/cookies.md` is run unmodified, and its output is
//! compared with the block after it, in which `…` matches anything.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use local::TEMPLATE;
use local::template::Template;

const README: &str = include_str!("../../README.md");
const COOKIES: &str = include_str!("../../docs/cookies.md");
const DEPLOYING: &str = include_str!("../../docs/deploying.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const MIDDLEWARE: &str = include_str!("../../docs/middleware.md");
const LAYER: &str = include_str!("../../shared/src/layer.rs");
/// The parameter with which the template has all its functions.
const MAIL: [(&str, &str); 1] = [("MailFrom", "no-reply@example.com")];
const MARK: &str = "=== next block ===";

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The fenced blocks of a section, each with its language.
fn blocks(section: &str) -> Vec<(&str, &str)> {
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

/// Whether `text` matches `pattern`, in which each `…` matches anything.
fn matches(mut text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let Some(rest) = text.strip_prefix(pieces.next().unwrap()) else { return false };
    text = rest;
    for piece in pieces {
        let found = if piece.is_empty() { Some(text.len()) } else { text.find(piece) };
        let Some(at) = found else { return false };
        text = &text[at + piece.len()..];
    }
    text.is_empty()
}

/// Runs the section `title` of `page` against a system with this transport of
/// refresh tokens.
fn walk(page: &str, title: &str, transport: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(["--port", "0", "--allow-origin", "https://app.example.com"]);
    command.env("REFRESH_TOKEN_TRANSPORT", transport).current_dir(directory.path()).stdout(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let greeting = lines.next().unwrap().unwrap();
    let url = greeting.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches('.');
    let port = url.rsplit(':').next().unwrap().to_owned();
    std::thread::spawn(move || lines.for_each(drop));

    let section = page.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let (mut script, mut expected) = (String::new(), Vec::new());
    for (language, block) in blocks(section) {
        if language == "sh" {
            script += &format!("echo '{MARK}'\n{}", block.replace(":3000", &format!(":{port}")));
            expected.push("");
        } else {
            *expected.last_mut().unwrap() = block;
        }
    }
    let output = Command::new("sh").args(["-c", &script]).current_dir(directory.path()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<_> = output.split(MARK).skip(1).map(str::trim).collect();
    assert_eq!(printed.len(), expected.len(), "{output}");
    assert!(expected.iter().filter(|block| !block.is_empty()).count() >= 4);
    for (printed, expected) in printed.iter().zip(expected) {
        assert!(matches(printed, expected.trim()), "the page shows\n{expected}\nbut the output is\n{printed}");
    }
}

#[test]
fn the_readme_shows_the_real_output() {
    walk(README, "Try it", "body");
}

#[test]
fn ck6_the_page_on_cookies_shows_the_real_output() {
    walk(COOKIES, "What a request must show", "cookie");
}

#[test]
fn the_readme_names_every_route() {
    for function in Template::read(Path::new(TEMPLATE), &MAIL).unwrap().functions {
        for route in function.routes {
            let (method, path) = (route.method, route.path);
            let is_named = README.contains(&format!("| `{method}` | `{path}` |"))
                || README.contains(&format!("`{method} {path}`"));
            assert!(is_named, "{method} {path}");
        }
    }
}

#[test]
fn the_page_on_deploying_names_every_parameter_and_every_function() {
    let template: serde_norway::Value = serde_norway::from_str(&std::fs::read_to_string(TEMPLATE).unwrap()).unwrap();
    let parameters = template["Parameters"].as_mapping().unwrap().keys();
    for parameter in parameters.map(|name| name.as_str().unwrap()) {
        assert!(DEPLOYING.contains(&format!("`{parameter}`")), "{parameter}");
    }
    for function in Template::read(Path::new(TEMPLATE), &MAIL).unwrap().functions {
        assert!(DEPLOYING.contains(&format!("-{}`", function.name)), "{}", function.name);
    }
}

#[test]
fn the_page_on_settings_has_exactly_the_variables_with_their_defaults_and_parameters() {
    let rows = SETTINGS.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>());
    let mut rows: BTreeMap<_, _> = rows.map(|row| (row[1].clone(), [row[2].clone(), row[3].clone()])).collect();
    let template = std::fs::read_to_string(TEMPLATE).unwrap();
    let mut variables = BTreeMap::new();
    for parameters in [&MAIL[..], &[]] {
        for function in Template::read(Path::new(TEMPLATE), parameters).unwrap().functions {
            variables.extend(function.variables);
        }
    }
    for (variable, value) in variables {
        let [default, parameter] = rows.remove(&variable).unwrap_or_else(|| panic!("{variable} has no row"));
        let is_shown = match default.as_str() {
            "none" => value.is_empty(),
            "the stack's" => value.ends_with("Table") || value.ends_with("Secret"),
            default => default == value,
        };
        assert!(is_shown, "the default of {variable} is {value:?}, not {default:?}");
        let set = template.lines().find(|line| line.trim().starts_with(&format!("{variable}:"))).unwrap();
        let reference = set.rsplit_once("!Ref ").map_or("", |(_, name)| name);
        let reference = reference.split(|next: char| !next.is_ascii_alphanumeric()).next().unwrap();
        assert_eq!(parameter, reference, "what sets {variable}");
    }
    assert!(rows.is_empty(), "not variables: {rows:?}");
}

#[test]
fn the_page_on_the_middleware_shows_the_example_that_is_compiled() {
    let (_, example) = LAYER.split_once("//! ```no_run\n").unwrap();
    let (example, _) = example.split_once("//! ```\n").unwrap();
    let example: Vec<_> = example.lines().map(|line| line.trim_start_matches("//!").trim()).collect();
    let shown = blocks(MIDDLEWARE).into_iter().find(|(language, _)| *language == "rust").unwrap().1;
    assert_eq!(shown.lines().map(str::trim).collect::<Vec<_>>(), example);
}

#[test]
fn a_pattern_matches_only_what_it_shows() {
    assert!(matches(r#"{"a":"eyJx","b":1}"#, r#"{"a":"eyJ…","b":1}"#));
    assert!(!matches(r#"{"a":"eyJx","b":2}"#, r#"{"a":"eyJ…","b":1}"#));
    assert!(!matches(r#"{"a":"eyJx","b":1} and more"#, r#"{"a":"eyJ…","b":1}"#));
}
