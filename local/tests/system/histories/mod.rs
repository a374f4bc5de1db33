//! Recorded histories of concurrent requests, checked for linearizability.
//!
//! Several clients refresh, log in, log out, change the password and end sessions at once,
//! and each request and each answer is recorded in real order. The history is right if
//! there is an order of the operations, one step after another, that gives the same answers and
//! in which no operation is before one that had been answered when it began.
//!
//! - `account`: the promises, as a sequential specification
//! - `record`: a recorded history, and the check
//! - `stage`: the clients, the system and what goes wrong between them
//! - `broken`: faults in the system, each of which the check must find
//! - `examples`: histories written by hand, right ones and wrong ones
//!
//! FRESHKEY_HISTORIES is the number of histories, and FRESHKEY_SEED the seed of the first.
//! With FRESHKEY_TELL, a short history that reveals each fault is printed.

mod account;
mod broken;
mod examples;
mod record;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use account::{Answer, Op};
use broken::BROKEN;
use record::History;
use stage::{Pace, Script, Stage};

const HISTORIES: u64 = 60;
/// The most histories within which each fault is found.
const ENOUGH: u64 = 150;
/// The number of histories on one stage. The SDK makes few retries after many errors.
const PER_STAGE: u64 = 25;
/// How often a history is played again with one operation less, in search of one that fails
/// too: not everything about it follows from the seed.
const TRIES: usize = 2;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// What was in the histories.
#[derive(Default)]
struct Tally {
    histories: usize,
    operations: usize,
    calls: usize,
    stories: BTreeSet<String>,
    /// How often each kind of operation was answered so.
    answers: BTreeMap<(&'static str, &'static str), usize>,
}

impl Tally {
    fn count(&mut self, history: &History) {
        self.histories += 1;
        self.operations += history.operations.len();
        self.calls += history.calls.len();
        self.stories.insert(history.told());
        let mut issued = BTreeSet::new();
        for operation in &history.operations {
            let answer = match operation.answer {
                Some(Answer::Issued(token)) if !issued.insert(token) => "issued again",
                Some(answer) => answer.name(),
                None => "unknown",
            };
            *self.answers.entry((operation.op.name(), answer)).or_default() += 1;
        }
    }

    #[expect(clippy::print_stdout, reason = "the numbers are for docs/proof.md")]
    fn report(&self, pace: Pace) {
        let Self { histories, operations, calls, stories, answers } = self;
        println!("{histories} histories {pace:?}, {operations} operations, {calls} calls, {} orders", stories.len());
        for ((op, answer), count) in answers {
            println!("  {op}: {answer} {count}");
        }
    }
}

/// Plays histories, and checks each of them.
async fn play(pace: Pace, histories: u64) -> Tally {
    let first = variable("FRESHKEY_SEED").unwrap_or(1);
    let mut tally = Tally::default();
    let mut stage = Stage::set().await;
    for seed in first..first + histories {
        if seed % PER_STAGE == 0 {
            stage = Stage::set().await;
        }
        let script = Script::of(seed, pace);
        let history = stage.play(script.clone()).await;
        if !history.is_linearizable() {
            let (script, history) = reduced(&stage, script, history).await;
            let omitted = &script.omitted;
            panic!(
                "FRESHKEY_SEED={seed} {pace:?}, without the operations {omitted:?}: no order of these operations gives \
                 these answers\n{}",
                history.told()
            );
        }
        tally.count(&history);
    }
    tally.report(pace);
    tally
}

/// A shorter history that is not linearizable either.
async fn reduced(stage: &Arc<Stage>, mut script: Script, mut history: History) -> (Script, History) {
    history = history.shortest();
    let candidates = (0..stage::MOST_CLIENTS).flat_map(|client| (0..stage::MOST_OPERATIONS).map(move |n| (client, n)));
    for candidate in candidates {
        for _ in 0..TRIES {
            let mut shorter = script.clone();
            shorter.omitted.insert(candidate);
            let again = stage.play(shorter.clone()).await;
            if !again.is_linearizable() {
                (script, history) = (shorter, again.shortest());
                break;
            }
        }
    }
    (script, history)
}

#[tokio::test]
async fn rf7_every_history_step_by_step_is_linearizable() {
    let histories = variable("FRESHKEY_HISTORIES").unwrap_or(HISTORIES);
    let tally = play(Pace::StepByStep, histories).await;
    if histories < HISTORIES {
        return;
    }
    for expected in [
        ("log in", "issued"),
        ("log in", "refused"),
        ("refresh", "issued"),
        ("refresh", "issued again"),
        ("refresh", "refused"),
        ("refresh", "unknown"),
        ("log out", "done"),
        ("end all", "done"),
        ("end others", "done"),
        ("end others", "refused"),
        ("change password", "done"),
        ("change password", "refused"),
        ("change password", "wrong password"),
        ("disable", "done"),
        ("enable", "done"),
    ] {
        assert!(tally.answers.contains_key(&expected), "no history has {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rf7_every_history_at_liberty_is_linearizable() {
    play(Pace::AtLiberty, variable("FRESHKEY_HISTORIES").unwrap_or(HISTORIES) / 2).await;
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the numbers are for docs/proof.md")]
async fn rf18_each_broken_promise_is_found() {
    for broken in &BROKEN {
        let mut stage = Stage::set().await;
        let mut seed = 0;
        let (script, history) = loop {
            assert!(seed < ENOUGH, "{}: not found in {ENOUGH} histories", broken.what);
            if seed % PER_STAGE == PER_STAGE - 1 {
                stage = Stage::set().await;
            }
            let script = Script { fault: Some(broken.fault), ..Script::of(seed, Pace::StepByStep) };
            let history = stage.play(script.clone()).await;
            seed += 1;
            if !history.is_linearizable() {
                break (script, history);
            }
        };
        println!(
            "{}: found after {seed} histories, in {} operations",
            broken.what,
            history.shortest().operations.len()
        );
        if std::env::var("FRESHKEY_TELL").is_ok() {
            println!("{}", reduced(&stage, script, history).await.1.told());
        }
    }
}

impl Op {
    fn name(&self) -> &'static str {
        match self {
            Self::Login { .. } => "log in",
            Self::Refresh { .. } => "refresh",
            Self::Logout { .. } => "log out",
            Self::EndAll => "end all",
            Self::EndOthers { .. } => "end others",
            Self::ChangePassword { .. } => "change password",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Issued(_) => "issued",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::WrongPassword => "wrong password",
            Self::Unheard => "unheard",
        }
    }
}
