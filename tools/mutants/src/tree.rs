//! A copy of the repository with all mutants behind switches, and its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::list::Mutant;
use crate::switch::instrument;

/// The packages whose tests are run. The last one brings features that `make test` has, so
/// that fewer dependencies are compiled again.
const PACKAGES: [&str; 4] = ["freshkey", "local", "admin", "features"];
const MANIFEST: &str = "Cargo.toml";
/// The root of the crate, which gets a module with the switches.
const LIBRARY: &str = "shared/src/lib.rs";
/// How a test gives a program that it starts an empty environment.
const EMPTY: &str = ".env_clear()";
/// What lets the program know the switch all the same.
const SWITCHES: &str = ".envs(std::env::vars().filter(|(name, _)| name.starts_with(\"MUTANT\")))";
/// How a switch is written in the instrumented source. Its number follows.
const SWITCH: &str = "crate :: mutant :: on (";

/// What became of the mutants, and the programs that have the others.
pub struct Tree {
    /// Mutants that do not compile, which no test can meet.
    pub unviable: BTreeSet<usize>,
    /// Mutants that cannot have a switch, such as one of a constant.
    pub fixed: BTreeSet<usize>,
    /// The programs with the tests.
    pub programs: Vec<Program>,
}

/// A program with tests.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// The directory that it runs in.
    pub directory: PathBuf,
}

/// Makes the copy in `folder`, and compiles it: all tests, or only the unit tests of the
/// crate. A run that is resumed knows which mutants do not compile.
pub fn build(folder: &Path, mutants: &[Mutant], unit: bool, resume: bool) -> Tree {
    let root = folder.join("tree");
    let instrumented = mutants.iter().map(|mutant| mutant.file.as_str()).chain([LIBRARY, MANIFEST]).collect();
    copy(&root, &instrumented);
    let target = std::path::absolute("target").unwrap();
    let mut fixed: BTreeSet<_> = (0..mutants.len()).filter(|number| !mutants[*number].can_switch()).collect();
    let notes = folder.join("unviable");
    let known = if resume { fs::read_to_string(&notes).unwrap_or_default() } else { String::new() };
    let known: BTreeSet<&str> = known.lines().collect();
    let is_known = |number: &usize| known.contains(mutants[*number].name.as_str());
    let mut unviable: BTreeSet<_> = (0..mutants.len()).filter(is_known).collect();
    loop {
        let left_out: BTreeSet<_> = unviable.union(&fixed).copied().collect();
        fixed.extend(write(&root, mutants, &left_out));
        let (compiles, said) = cargo(&root, &target, &["check", "--lib"], &PACKAGES[..1]);
        if compiles {
            break;
        }
        let faults = faults(&root, mutants, &said);
        assert!(!faults.is_empty(), "no fault names a mutant");
        for (number, is_switch) in faults {
            if is_switch {
                fixed.insert(number)
            } else {
                unviable.insert(number)
            };
        }
    }
    let names: String = unviable.iter().map(|number| format!("{}\n", mutants[*number].name)).collect();
    put(&notes, names.as_bytes());
    let (compiles, said) = match unit {
        true => cargo(&root, &target, &["test", "--no-run", "--lib"], &[PACKAGES[0], PACKAGES[3]]),
        false => cargo(&root, &target, &["test", "--no-run"], &PACKAGES),
    };
    assert!(compiles, "the tests do not compile: {}", errors(&said));
    Tree { unviable, fixed, programs: said.iter().filter_map(program).collect() }
}

/// Copies what git tracks, except for these files. A file that is the same is left alone,
/// so that nothing is compiled twice.
fn copy(root: &Path, except: &BTreeSet<&str>) {
    let files = Command::new("git").args(["ls-files", "-z"]).output().expect("git can be run").stdout;
    for file in String::from_utf8(files).unwrap().split_terminator('\0').filter(|file| !except.contains(file)) {
        let content = fs::read(file).unwrap_or_default();
        match String::from_utf8(content) {
            Ok(text) => put(&root.join(file), text.replace(EMPTY, &format!("{EMPTY}{SWITCHES}")).as_bytes()),
            Err(binary) => put(&root.join(file), binary.as_bytes()),
        }
    }
    // What a mutant may do.
    let allowed = "unused_must_use = \"allow\"\narithmetic_overflow = \"allow\"\nunconditional_panic = \"allow\"\n";
    let manifest = fs::read_to_string(MANIFEST).unwrap().replace("unused_must_use = \"deny\"\n", allowed);
    put(&root.join(MANIFEST), manifest.as_bytes());
    let library = fs::read_to_string(LIBRARY).unwrap();
    put(&root.join(LIBRARY), format!("{library}\n#[doc(hidden)]\npub mod mutant;\n").as_bytes());
    put(&root.join("shared/src/mutant.rs"), include_bytes!("mutant.rs"));
}

fn put(path: &Path, content: &[u8]) {
    if fs::read(path).is_ok_and(|there| there == content) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes the instrumented files, and returns the mutants that found no place.
fn write(root: &Path, mutants: &[Mutant], left_out: &BTreeSet<usize>) -> Vec<usize> {
    let mut files: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        let of_file = files.entry(&mutant.file).or_default();
        if !left_out.contains(&number) {
            of_file.push((number, mutant));
        }
    }
    let mut homeless = Vec::new();
    for (file, mutants) in files {
        let source = fs::read_to_string(file).unwrap();
        let (code, left) = instrument(&source, &mutants).unwrap_or_else(|error| panic!("{file}: {error}"));
        put(&root.join(file), code.as_bytes());
        homeless.extend(left);
    }
    homeless
}

/// Runs cargo, and returns whether it succeeds and what it says, as JSON.
fn cargo(root: &Path, target: &Path, arguments: &[&str], packages: &[&str]) -> (bool, Vec<Value>) {
    let mut command = Command::new("cargo");
    command.args(arguments).arg("--message-format=json").arg("--offline").current_dir(root);
    for package in packages {
        command.args(["-p", package]);
    }
    command.env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit());
    let output = command.output().expect("cargo can be run");
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Returns the mutants with an error, and whether it is one of the switch and not of the
/// mutant: in a constant function, or where the other fields of a struct come from a value
/// that can be moved only once.
fn faults(root: &Path, mutants: &[Mutant], said: &[Value]) -> BTreeMap<usize, bool> {
    let mut faults = BTreeMap::new();
    for message in said.iter().map(|line| &line["message"]).filter(|message| message["level"] == "error") {
        let spans = message["spans"].as_array().unwrap();
        let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        let code = message["code"]["code"].as_str().unwrap_or_default();
        let text = fs::read_to_string(root.join(span["file_name"].as_str().unwrap())).unwrap();
        let at = |name: &str| usize::try_from(span[name].as_u64().unwrap()).unwrap();
        let number = if code == "E0004" {
            // A match lacks the arm that was switched off, further on.
            let after = &text[at("byte_start")..];
            let mut switches = after.match_indices(SWITCH).map(|(place, _)| number(&after[place..]));
            switches.find(|number| mutants[*number].genre == "MatchArm")
        } else {
            text[..at("byte_end")].rfind(SWITCH).map(|place| number(&text[place..]))
        };
        let number = number.unwrap_or_else(|| panic!("{}", message["rendered"].as_str().unwrap_or_default()));
        faults.insert(number, code == "E0015" || mutants[number].genre == "StructField");
    }
    faults
}

/// Reads the number of a switch.
fn number(text: &str) -> usize {
    let digits = text[SWITCH.len()..].trim_start();
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

fn program(message: &Value) -> Option<Program> {
    let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some(Program { path: path.into(), directory: manifest.parent()?.into() })
}

fn errors(said: &[Value]) -> String {
    let errors = said.iter().map(|line| &line["message"]).filter(|message| message["level"] == "error");
    errors.filter_map(|message| message["rendered"].as_str()).take(3).collect()
}
