//! The tests, run against one mutant after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::list::Mutant;
use crate::tree::{Program, Tree};

/// Mutants that no test catches, each with a reason.
const ACCEPTED: &str = include_str!("../accepted.txt");
const FOLDER: &str = "target/mutants";
/// A test that takes so many times as long as without a mutant hangs.
const PATIENCE: u32 = 10;
/// How long tests may take for a mutant that is accepted, in seconds.
const ACCEPTED_SECONDS: u64 = 30;

/// What to run.
pub struct Options {
    /// The files with the code, as patterns.
    pub files: Vec<String>,
    /// Only the unit tests of the crate, for rules that need no table.
    pub unit: bool,
    /// How many tests run at a time.
    jobs: usize,
    /// How long tests may take for a mutant, in total, until it counts as not caught.
    seconds: u64,
    /// Go on where the last run was interrupted.
    pub resume: bool,
    /// Tests to leave out, by a part of the name.
    skip: Vec<String>,
}

impl Options {
    /// Reads the command line.
    pub fn parse(arguments: &mut dyn Iterator<Item = String>) -> Self {
        let mut options =
            Self { files: Vec::new(), unit: false, jobs: 2, seconds: 600, resume: false, skip: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--unit" => options.unit = true,
                "--resume" => options.resume = true,
                "--skip" => options.skip.push(arguments.next().expect("the option has a name")),
                "--jobs" => options.jobs = number(arguments),
                "--seconds" => options.seconds = number(arguments),
                _ => options.files.push(argument),
            }
        }
        options
    }
}

fn number<T: FromStr>(arguments: &mut dyn Iterator<Item = String>) -> T {
    arguments.next().and_then(|value| value.parse().ok()).expect("the option has a number")
}

/// A test.
#[derive(Clone, Debug)]
struct Test {
    program: Program,
    name: String,
    took: Duration,
    reached: BTreeSet<usize>,
}

/// How a test ended.
enum End {
    Passed(Duration),
    Failed,
    Hung,
}

/// Runs the tests against the mutants, and prints what became of each. Returns whether
/// every mutant was caught or is known to be missed.
pub fn run(options: &Options, mutants: &[Mutant], tree: &Tree) -> bool {
    let path = Path::new(FOLDER).join("results.jsonl");
    if !options.resume {
        let _ = fs::remove_file(&path);
    }
    let results = fs::read_to_string(&path).unwrap_or_default();
    let results = results.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ends: BTreeMap<String, String> =
        results.map(|line| (text(&line, "mutant"), text(&line, "outcome"))).collect();

    let tests = measured(options, &tree.programs);
    let is_open = |number: &usize| {
        !tree.unviable.contains(number) && !tree.fixed.contains(number) && !ends.contains_key(&mutants[*number].name)
    };
    let todo: VecDeque<usize> = (0..mutants.len()).filter(is_open).collect();
    println!("{} mutants to run, {} tests that reach one", todo.len(), tests.len());
    let todo = Mutex::new(todo);
    let file = Mutex::new(OpenOptions::new().create(true).append(true).open(&path).unwrap());
    // The tests that caught a mutant of a function are tried first on its other mutants.
    let catchers: Mutex<HashMap<String, Vec<usize>>> = Mutex::default();
    let new = Mutex::new(Vec::new());
    let accepted = accepted();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let Some(number) = todo.lock().unwrap().pop_front() else { break };
                    let mutant = &mutants[number];
                    let function = mutant.function.as_ref().map(|function| function.name.clone()).unwrap_or_default();
                    let first = catchers.lock().unwrap().get(&function).cloned().unwrap_or_default();
                    let is_accepted = accepted.contains(mutant.key().as_str());
                    let seconds = options.seconds.min(if is_accepted { ACCEPTED_SECONDS } else { u64::MAX });
                    let (outcome, by, tried) = attack(number, &tests, &first, seconds);
                    if let Some(by) = by {
                        catchers.lock().unwrap().entry(function).or_default().push(by);
                    }
                    let by = by.map(|by| tests[by].name.clone());
                    let line = json!({ "mutant": mutant.name, "outcome": outcome, "by": by, "tests": tried });
                    println!("{outcome}: {} {}", mutant.name, by.unwrap_or_default());
                    writeln!(file.lock().unwrap(), "{line}").unwrap();
                    new.lock().unwrap().push((mutant.name.clone(), outcome.to_owned()));
                }
            });
        }
    });
    ends.extend(new.into_inner().unwrap());
    summarise(options, mutants, tree, &ends)
}

fn accepted() -> BTreeSet<&'static str> {
    ACCEPTED.lines().filter(|line| !line.starts_with('#')).collect()
}

fn text(line: &Value, name: &str) -> String {
    line[name].as_str().unwrap_or_default().to_owned()
}

/// Prints how many mutants had each outcome, and those that need a look.
fn summarise(options: &Options, mutants: &[Mutant], tree: &Tree, ends: &BTreeMap<String, String>) -> bool {
    let accepted = accepted();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut is_good = true;
    for (number, mutant) in mutants.iter().enumerate() {
        let end = match ends.get(&mutant.name).map(String::as_str) {
            _ if tree.unviable.contains(&number) => "does not compile",
            Some(end) => end,
            None if accepted.contains(mutant.key().as_str()) => "without a switch, accepted",
            None => "without a switch",
        };
        // What unit tests do not reach is left to the other tests.
        let is_left = options.unit && end == "not reached";
        let is_caught = is_left || matches!(end, "caught" | "hangs" | "does not compile");
        let end = match end {
            "missed" | "missed in time" | "not reached" if accepted.contains(mutant.key().as_str()) => {
                "missed, accepted"
            }
            end => end,
        };
        *counts.entry(end).or_default() += 1;
        if !is_caught && !end.ends_with("accepted") {
            println!("{end}: {}", mutant.key());
            is_good = false;
        }
    }
    for (end, count) in counts {
        println!("{count:>6} {end}");
    }
    is_good
}

/// Runs tests against a mutant until one fails.
fn attack(number: usize, tests: &[Test], first: &[usize], seconds: u64) -> (&'static str, Option<usize>, usize) {
    let mut reaching: Vec<usize> = (0..tests.len()).filter(|test| tests[*test].reached.contains(&number)).collect();
    // Quick tests first, and those that reach little, because they look at it closely.
    reaching.sort_by_key(|test| {
        let test = &tests[*test];
        test.took.as_millis() as usize * test.reached.len()
    });
    reaching.sort_by_key(|test| !first.contains(test));
    if reaching.is_empty() {
        return ("not reached", None, 0);
    }
    let mut left = Duration::from_secs(seconds);
    for (tried, index) in reaching.iter().enumerate() {
        let test = &tests[*index];
        let number = number.to_string();
        match execute(&test.program, &test.name, &[("MUTANT", &number)], test.took * PATIENCE + Duration::from_secs(20))
        {
            End::Passed(took) => left = left.saturating_sub(took),
            End::Failed => return ("caught", Some(*index), tried + 1),
            End::Hung => return ("hangs", Some(*index), tried + 1),
        }
        if left.is_zero() {
            return ("missed in time", None, tried + 1);
        }
    }
    ("missed", None, reaching.len())
}

/// Runs every test by itself, and finds out how long it takes and what it reaches.
fn measured(options: &Options, programs: &[Program]) -> Vec<Test> {
    let mut todo = VecDeque::new();
    for program in programs {
        let mut command = Command::new(&program.path);
        let list = command.args(["--list", "--format", "terse"]).output().unwrap().stdout;
        for line in String::from_utf8(list).unwrap().lines() {
            let name = line.strip_suffix(": test");
            if let Some(name) = name.filter(|name| !options.skip.iter().any(|skipped| name.contains(skipped))) {
                todo.push_back((program.clone(), name.to_owned()));
            }
        }
    }
    let (todo, tests) = (Mutex::new(todo), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for job in 0..options.jobs {
            let (todo, tests) = (&todo, &tests);
            scope.spawn(move || {
                let path = PathBuf::from(FOLDER).join(format!("reached-{job}"));
                let path = std::path::absolute(path).unwrap();
                loop {
                    let Some((program, name)) = todo.lock().unwrap().pop_front() else { break };
                    let _ = fs::remove_file(&path);
                    let variable = ("MUTANTS_REACHED", path.to_str().unwrap());
                    let End::Passed(took) = execute(&program, &name, &[variable], Duration::from_secs(900)) else {
                        println!("left out, because it fails without a mutant: {name}");
                        continue;
                    };
                    let reached = fs::read_to_string(&path).unwrap_or_default();
                    let reached: BTreeSet<usize> = reached.lines().map(|line| line.parse().unwrap()).collect();
                    if !reached.is_empty() {
                        tests.lock().unwrap().push(Test { program, name, took, reached });
                    }
                }
            });
        }
    });
    tests.into_inner().unwrap()
}

/// Runs one test.
fn execute(program: &Program, name: &str, variables: &[(&str, &str)], limit: Duration) -> End {
    let mut command = Command::new(&program.path);
    command.args(["--exact", name, "--test-threads=1"]).current_dir(&program.directory);
    command.envs(variables.iter().copied()).env("RUST_BACKTRACE", "0").env("CARGO_MANIFEST_DIR", &program.directory);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let mut process = command.spawn().unwrap();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return if status.success() { End::Passed(start.elapsed()) } else { End::Failed };
        }
        if start.elapsed() > limit {
            // Its children as well.
            let group = format!("-{}", process.id());
            Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
            process.wait().unwrap();
            return End::Hung;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
