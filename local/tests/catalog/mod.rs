//! The tests of this repository, read from their source: the name of each and
//! the comment above it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The directories with generated files or files from other projects.
const SKIPPED: [&str; 5] = ["target", "node_modules", "dist", "corpus", "artifacts"];

/// The name of every test that runs, with the comment above it. The name is the
/// function's in Rust and Python, and the title in JavaScript and TypeScript. A
/// fuzz target has the name of its file.
pub fn tests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(Path::new(ROOT), &mut found);
    found
}

fn collect(directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name) {
                collect(&path, found);
            }
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["rs", "js", "mjs", "ts", "tsx", "py"].contains(&extension) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if directory.ends_with("fuzz_targets") {
            let comment: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("//!")).collect();
            found.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), comment.join("\n"));
        }
        found.extend(tests_in(&text, extension));
    }
}

/// The tests in a source file of this extension, without those that are ignored,
/// skipped or commented out.
pub fn tests_in(text: &str, extension: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // The comment and the attributes or decorators before a function.
    let (mut comment, mut attributes, mut is_in_comment) = (String::new(), Vec::new(), false);
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(mut line) = lines.next() {
        is_in_comment |= line.starts_with("/*");
        if is_in_comment || line.starts_with("//") || line.starts_with("# ") {
            comment += &format!("{line}\n");
            is_in_comment &= !line.contains("*/");
            continue;
        }
        while let Some(start) = line.strip_prefix("#[") {
            let Some((attribute, rest)) = start.split_once(']') else {
                attributes.push(start);
                line = "";
                break;
            };
            attributes.push(attribute);
            line = rest.trim();
        }
        if line.starts_with('@') {
            attributes.push(line);
            continue;
        }
        if line.is_empty() && !attributes.is_empty() {
            continue;
        }
        let name = match extension {
            "rs" => function(line, "fn ").filter(|_| attributes.iter().any(|attribute| is_test(attribute))),
            "py" => function(line, "def ").filter(|name| name.starts_with("test_")),
            _ => title(line),
        };
        if let Some(name) = name.filter(|_| !attributes.iter().any(|attribute| is_skipped(attribute))) {
            if extension == "py" {
                comment += lines.peek().filter(|line| line.starts_with("\"\"\"")).unwrap_or(&"");
            }
            found.insert(name, comment);
        }
        (comment, attributes) = Default::default();
    }
    found
}

/// Whether an attribute makes a function a test: `test`, `tokio::test(…)`.
fn is_test(attribute: &str) -> bool {
    let path = attribute.split(['(', ' ']).next().unwrap();
    path.rsplit("::").next() == Some("test")
}

fn is_skipped(attribute: &str) -> bool {
    ["ignore", "skip", "xfail"].iter().any(|word| attribute.contains(word))
}

/// The name of the function that a line defines.
fn function(line: &str, keyword: &str) -> Option<String> {
    let (before, after) = line.split_once(keyword)?;
    let is_definition = before.split_whitespace().all(|word| ["pub", "async", "const", "unsafe"].contains(&word));
    let name = after.split(|next: char| !next.is_alphanumeric() && next != '_').next()?;
    is_definition.then(|| name.to_owned())
}

/// The title of the test that a line of JavaScript or TypeScript begins.
fn title(line: &str) -> Option<String> {
    let call = ["test(", "it("].iter().find_map(|call| line.strip_prefix(call))?;
    let quote = call.chars().next().filter(|quote| ['\'', '"', '`'].contains(quote))?;
    call[1..].split_once(quote).map(|(title, _)| title.to_owned())
}
