//! A recorded history, and whether it can be told as one step after another.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Write;
use std::rc::Rc;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::account::{Account, Answer, Op, Token};

/// The most unheard operations of which every number of deliveries is tried. Those beyond
/// may take effect at any time, or never.
const TRIED: usize = 5;

/// The operations of one history in the order of their requests, and what else happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first tokens of the sessions that were open at first.
    pub first: Vec<Token>,
    pub operations: Vec<Operation>,
    /// The calls to DynamoDB, and the moment of each.
    pub calls: Vec<(usize, String)>,
}

/// One operation. Moments are numbers that only grow.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    pub op: Op,
    pub begun: usize,
    /// When the system was done with it. It does nothing after that, unless it
    /// [may arrive late](Self::may_arrive_late).
    pub ended: Option<usize>,
    /// `None` if the client got no answer, or a 503.
    pub answer: Option<Answer>,
    /// Whether the SDK may have repeated one of its writes after that was carried out.
    pub is_repeated: bool,
    /// Whether one of its writes was held up on the way, and may be carried out at any time.
    pub may_arrive_late: bool,
}

impl Operation {
    /// Whether its effect is known neither to its client nor to the test.
    fn is_unheard(&self) -> bool {
        // Nobody holds the tokens of a login that was not answered.
        self.answer.is_none() && !matches!(self.op, Op::Login { .. })
    }

    /// How often it can have been carried out at most, if nobody heard of it. Only a refresh
    /// that is carried out twice does more than one that is carried out once.
    fn most_deliveries(&self) -> usize {
        1 + usize::from(self.is_repeated && matches!(self.op, Op::Refresh { .. }))
    }

    /// Whether it ends sessions by a later epoch of the user.
    fn raises_epoch(&self) -> bool {
        matches!(self.op, Op::EndAll | Op::EndOthers { .. } | Op::ChangePassword { .. } | Op::Disable)
    }

    /// Whether there is a moment at which neither has ended and both have begun.
    fn overlaps(&self, other: &Self) -> bool {
        let is_before = |one: &Self, other: &Self| one.ended.is_some_and(|ended| ended < other.begun);
        !is_before(self, other) && !is_before(other, self)
    }
}

/// The name of a thread of the tester: an operation, and which of its deliveries.
type Thread = (usize, usize);

enum Event {
    Begin(Op),
    End(Answer),
}

/// An account that remembers where the tester has been. The tester tries every order, also
/// those that have carried out the same operations and lead to the same state as an earlier
/// one; what follows from there has been tried in vain.
#[derive(Clone, Debug)]
struct Explored {
    account: Account,
    /// The operations that have been carried out, a bit for each.
    done: u128,
    been: Rc<RefCell<HashSet<(u128, Account)>>>,
}

impl Explored {
    fn new(account: Account) -> Self {
        Self { account, done: 0, been: Rc::default() }
    }
}

impl SequentialSpec for Explored {
    /// The number of an operation, and the operation.
    type Op = (usize, Op);
    type Ret = Answer;

    fn invoke(&mut self, (_, op): &Self::Op) -> Answer {
        unreachable!("every operation ends: {op}")
    }

    fn is_valid_step(&mut self, (number, op): &Self::Op, answer: &Answer) -> bool {
        self.done |= 1 << number;
        self.account.is_valid_step(op, answer) && self.been.borrow_mut().insert((self.done, self.account.clone()))
    }
}

impl History {
    /// Whether the history is linearizable.
    pub fn is_linearizable(&self) -> bool {
        let is_tried = |(_, operation): &(usize, &Operation)| {
            operation.is_unheard() && operation.ended.is_some() && !operation.may_arrive_late
        };
        let tried = self.operations.iter().enumerate().filter(is_tried).take(TRIED);
        let tried: Vec<_> = tried.map(|(index, operation)| (index, operation.most_deliveries())).collect();
        let choices = tried.iter().map(|(_, most)| most + 1).product();
        (0..choices).any(|mut choice: usize| {
            let mut deliveries = vec![None; self.operations.len()];
            for (index, most) in &tried {
                // One delivery is the likeliest.
                deliveries[*index] = Some((choice + 1) % (most + 1));
                choice /= most + 1;
            }
            self.is_linearizable_with(&deliveries)
        })
    }

    /// Whether a refresh that was refused can have rotated: its write was repeated, or it
    /// read the user after sessions had been ended.
    fn may_have_rotated(&self, refused: &Operation) -> bool {
        let is_ended = |other: &Operation| other.raises_epoch() && other.overlaps(refused);
        matches!(refused.op, Op::Refresh { .. }) && (refused.is_repeated || self.operations.iter().any(is_ended))
    }

    /// Whether it is if each unheard operation was delivered so often before its end;
    /// `None`: at any time, or never.
    fn is_linearizable_with(&self, deliveries: &[Option<usize>]) -> bool {
        let mut events = Vec::new();
        for (index, operation) in self.operations.iter().enumerate() {
            let mut tell = |delivery, ended, answer| {
                events.push((operation.begun, (index, delivery), Event::Begin(operation.op)));
                events.push((ended, (index, delivery), Event::End(answer)));
            };
            // An operation that may take effect at any time, or never, ends when all is over:
            // whatever is carried out last has no effect that anybody sees.
            let ended = operation.ended.unwrap_or(usize::MAX);
            match (operation.answer, deliveries[index]) {
                (Some(answer), _) => {
                    if answer == Answer::Refused && self.may_have_rotated(operation) {
                        tell(0, ended, Answer::Unheard);
                    }
                    tell(1, ended, answer);
                }
                (None, _) if !operation.is_unheard() => {}
                (None, Some(times)) => (0..times).for_each(|delivery| tell(delivery, ended, Answer::Unheard)),
                (None, None) => {
                    (0..operation.most_deliveries()).for_each(|delivery| tell(delivery, usize::MAX, Answer::Unheard));
                }
            }
        }
        events.sort_by_key(|(moment, thread, _)| (*moment, *thread));
        let mut tester = LinearizabilityTester::<Thread, _>::new(Explored::new(Account::new(&self.first)));
        let mut number = 0;
        for (_, thread, event) in events {
            let told = match event {
                Event::Begin(op) => {
                    number += 1;
                    tester.on_invoke(thread, (number - 1, op)).map(drop)
                }
                Event::End(answer) => tester.on_return(thread, answer).map(drop),
            };
            told.expect("each delivery begins and ends once");
        }
        tester.is_consistent()
    }

    /// What had happened by a moment.
    fn until(&self, moment: usize) -> Self {
        let begun = self.operations.iter().filter(|operation| operation.begun <= moment);
        let operations = begun.map(|operation| match operation.ended {
            Some(ended) if ended <= moment => operation.clone(),
            _ => Operation { ended: None, answer: None, ..operation.clone() },
        });
        let calls = self.calls.iter().filter(|(when, _)| *when <= moment).cloned();
        Self { first: self.first.clone(), operations: operations.collect(), calls: calls.collect() }
    }

    /// The shortest beginning of a history that is not linearizable. None of its beginnings
    /// that end later is linearizable either.
    pub fn shortest(&self) -> Self {
        let mut ends: Vec<_> = self.operations.iter().filter_map(|operation| operation.ended).collect();
        ends.sort_unstable();
        let first = ends.partition_point(|end| self.until(*end).is_linearizable());
        ends.get(first).map_or_else(|| self.clone(), |end| self.until(*end))
    }

    /// The history in words, a line for each event.
    pub fn told(&self) -> String {
        let mut lines: Vec<_> = self.calls.iter().map(|(moment, call)| (*moment, format!("    {call}"))).collect();
        for Operation { client, op, begun, ended, answer, .. } in &self.operations {
            lines.push((*begun, format!("client {client} begins to {op}")));
            if let Some(ended) = ended {
                let answer = answer.map_or("without an answer".to_owned(), |answer| answer.to_string());
                lines.push((*ended, format!("client {client} is done: {answer}")));
            }
        }
        lines.sort();
        let mut told = String::new();
        for (_, line) in lines {
            let _ = writeln!(told, "  {line}");
        }
        told
    }
}
