//! The file `.env`: variables, one per line, whose values are taken as written.
//!
//! ```text
//! # a comment
//! NAME=value, up to the end of the line  # a comment after white space
//! export NAME='in single quotes: everything up to the next one, including line ends'
//! NAME="in double quotes: the same, but \n is a line end, and \" \$ \\ are " $ \"
//! ```
//!
//! Nothing is substituted: `$` is a character like any other. White space around
//! a name and around a value without quotes is removed.

use std::path::{Path, PathBuf};

/// The white space within a line.
const BLANK: [char; 2] = [' ', '\t'];

/// Why the file cannot be read. No message shows its content, which may be secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("{path}: {problem}", path = .path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// A line is not a comment or a variable in the format described above.
    #[error("{path}: line {line} {problem}", path = .path.display())]
    Line {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: &'static str,
    },
}

/// Returns the variables of the file `.env` in `directory` or in the nearest
/// directory above it that has one, in the file's order. Returns an empty list if
/// there is no file.
///
/// # Errors
///
/// [`Error::File`] if the file cannot be opened; [`Error::Line`] for the first
/// line that cannot be read.
pub fn read(directory: &Path) -> Result<Vec<(String, String)>, Error> {
    let Some(path) = directory.ancestors().map(|directory| directory.join(".env")).find(|path| path.exists()) else {
        return Ok(Vec::new());
    };
    match std::fs::read(&path) {
        Ok(bytes) => parse(&bytes).map_err(|Fault { line, problem }| Error::Line { path, line, problem }),
        Err(error) => Err(Error::File { path, problem: error.to_string() }),
    }
}

/// A faulty line, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: usize,
    problem: &'static str,
}

fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Fault { line: 1 + line_ends(before), problem: "is not UTF-8" }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut variables = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let fault = |problem| Fault { line: 1 + line_ends(text.as_bytes()) - line_ends(rest.as_bytes()), problem };
        let (variable, after) = next(rest).map_err(fault)?;
        variables.extend(variable);
        rest = after;
    }
    Ok(variables)
}

fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

type Variable = (String, String);

/// Reads the first line of `text`. Returns its variable, if it has one, and the text
/// after the line.
fn next(text: &str) -> Result<(Option<Variable>, &str), &'static str> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok((None, after));
    }
    let (name, _) = line.split_once('=').ok_or("is not NAME=value")?;
    let exported = name.strip_prefix("export").filter(|rest| rest.starts_with(BLANK));
    let name = exported.unwrap_or(name).trim();
    let is_name =
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.starts_with(|c: char| !c.is_ascii_digit());
    if !is_name {
        return Err("does not begin with the name of a variable: letters, digits and _, no digit first");
    }
    let (_, value) = text.split_once('=').unwrap_or_default();
    let (value, after) = value_of(value)?;
    Ok((Some((name.to_owned(), value)), after))
}

/// Returns the value at the start of `text`, and the text after its line.
fn value_of(text: &str) -> Result<(String, &str), &'static str> {
    let start = text.trim_start_matches(BLANK);
    let (value, rest) = match start.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(start, quote).ok_or("has a quote that is never closed")?;
            let rest_of_line = rest.split('\n').next().unwrap_or_default().trim();
            if !rest_of_line.is_empty() && !rest_of_line.starts_with('#') {
                return Err("has text after the closing quote");
            }
            (value, rest)
        }
        _ => (unquoted(text), text),
    };
    Ok((value, rest.split_once('\n').map_or("", |(_, after)| after)))
}

/// Returns the value in quotes at the start of `text`, and the text after the closing
/// quote. `None` if there is no closing quote.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((value, text.get(at + 1..)?)),
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('"' | '$' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(character),
        }
    }
    None
}

/// Returns the value without quotes at the start of `text`: up to the end of the line
/// or to a `#` after white space.
fn unquoted(text: &str) -> String {
    let line = text.split('\n').next().unwrap_or_default();
    let is_comment = |at: usize| line.get(..at).is_some_and(|before| before.ends_with(BLANK));
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    line.get(..comment.unwrap_or(line.len())).unwrap_or_default().trim_matches(BLANK).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> String {
        let [(name, value)] = parse(text.as_bytes()).unwrap().try_into().unwrap();
        assert_eq!(name, "NAME", "{text}");
        value
    }

    fn fault(text: &[u8]) -> (usize, &'static str) {
        let Fault { line, problem } = parse(text).unwrap_err();
        (line, problem)
    }

    #[test]
    fn a_value_is_taken_as_it_is_written() {
        for (line, expected) in [
            ("NAME=plain", "plain"),
            ("NAME=", ""),
            ("NAME=pa$$word$HOME${HOME}$(id)`id`", "pa$$word$HOME${HOME}$(id)`id`"),
            (r"NAME=back\slash\n", r"back\slash\n"),
            ("NAME=a=b==", "a=b=="),
            ("NAME=a#b", "a#b"),
            ("NAME=#b", "#b"),
            ("NAME=it's", "it's"),
            ("NAME=two words", "two words"),
            ("  NAME = around \t", "around"),
            ("export NAME=exported", "exported"),
            ("export\tNAME=exported", "exported"),
            ("NAME=grüße 🦀", "grüße 🦀"),
            ("NAME=\u{a0}x\u{3000}", "\u{a0}x\u{3000}"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn quotes_keep_white_space_comments_and_line_ends() {
        for (line, expected) in [
            ("NAME=' $HOME # \\n \" '", " $HOME # \\n \" "),
            ("NAME=\" $HOME # ' \"", " $HOME # ' "),
            ("NAME=''", ""),
            ("NAME=\"\"", ""),
            ("NAME=\"a\\nb\"", "a\nb"),
            (r#"NAME="\"\$\\\d""#, r#""$\\d"#),
            ("NAME='one\ntwo'", "one\ntwo"),
            ("NAME=\"one\r\ntwo\"", "one\ntwo"),
            ("NAME='a'  # a comment", "a"),
            ("NAME='a'# a comment", "a"),
        ] {
            assert_eq!(value(line), expected, "{line}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_left_out_with_any_line_ends_and_a_byte_order_mark() {
        let text = "# A=1\n\n  # B=2\nC=3 # a comment\n D=\t# empty\nE='5' # \"\nF=6\n";
        let expected = [("C", "3"), ("D", ""), ("E", "5"), ("F", "6")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let marked = format!("\u{feff}{text}");
        for text in [text, text.trim_end(), &text.replace('\n', "\r\n"), &marked] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn a_fault_names_its_line_and_shows_nothing_of_it() {
        for (text, line) in [
            (&b"hunter2"[..], 1),
            (b"A=1\n\nhunter2 hunter2\nB=2", 3),
            (b"A='1\n2'\nhunter2\n", 3),
            (b"A=1\r\nhunter2\r\n", 2),
            (b"=hunter2", 1),
            (b"1hunter2=x", 1),
            (b"HUNTER-2=x", 1),
            (b"hunter 2=x", 1),
            (b"export=hunter2\nexport =hunter2", 2),
            (b"A=1\nB=\"hunter2\nC=3\n", 2),
            (b"A=1\nB='hunter2", 2),
            (b"B=\"hunter2\\\"", 1),
            (b"B='hunter'2", 1),
            (b"A=1\nB=hunter2\xff\n", 2),
        ] {
            let (at, problem) = fault(text);
            assert_eq!(at, line, "{}", String::from_utf8_lossy(text));
            let path = PathBuf::from(".env");
            let shown = Error::Line { path, line: at, problem }.to_string();
            assert!(!shown.to_lowercase().contains("hunter"), "{shown}");
            assert!(shown.contains(&format!("line {line} ")), "{shown}");
        }
    }

    #[test]
    fn the_nearest_file_above_is_read_and_none_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(directory.path().join(".env"), "A=1").unwrap();
        assert_eq!(read(&below).unwrap(), [("A".to_owned(), "1".to_owned())]);
        std::fs::write(below.join(".env"), "").unwrap();
        assert_eq!(read(&below).unwrap(), []);
        let file = directory.path().join("a/.env");
        std::fs::create_dir(&file).unwrap();
        let error = read(&directory.path().join("a")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", file.display())), "{error}");
    }

    proptest! {
        #[test]
        fn single_quotes_keep_any_value_and_no_text_panics(text in "(?s).{0,60}") {
            let _ = parse(text.as_bytes());
            if !text.contains(['\'', '\r', '\u{feff}']) {
                prop_assert_eq!(value(&format!("NAME='{text}'")), text);
            }
        }
    }
}
