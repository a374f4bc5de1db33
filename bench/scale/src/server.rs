//! Freshkey on AWS: what becomes of a request, and what it uses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::random::Random;

/// Milliseconds, so that times can be ordered.
type Millis = u64;

/// The two operations that nearly all requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Refresh,
    Login,
}

impl Operation {
    pub const ALL: [Self; 2] = [Self::Refresh, Self::Login];

    /// Seconds of a warm function. docs/performance.md: the time from the first poll to
    /// the first answer, plus round trips to DynamoDB of 5 ms, one or three in sequence.
    const fn duration(self) -> f64 {
        match self {
            Self::Refresh => 0.0045 + 0.005,
            Self::Login => 0.038 + 3.0 * 0.005,
        }
    }

    /// Units that it writes: local/tests/system/cost.rs.
    pub const fn writes(self) -> usize {
        match self {
            Self::Refresh => 1,
            Self::Login => 5,
        }
    }
}

/// What AWS allows, and how the outage is.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests per second to one route, and how many may come at once.
    pub route: (f64, f64),
    /// Executions at once, of all functions of the account.
    pub concurrency: usize,
    /// Partitions of the table.
    pub partitions: usize,
    /// From when to when DynamoDB does not answer, in seconds.
    pub outage: Option<(f64, f64)>,
}

/// Units that one partition writes in a second
/// (Amazon DynamoDB Developer Guide, "Burst and adaptive capacity").
const PARTITION: usize = 1000;
/// New environments of one function in ten seconds (AWS Lambda Developer Guide,
/// "Lambda scaling behavior").
const NEW_ENVIRONMENTS: f64 = 1000.0;
/// Requests per second and environment (AWS Lambda Developer Guide, "Lambda quotas").
const PER_ENVIRONMENT: f64 = 10.0;
/// Seconds of a cold start: 50 ms that were measured (docs/performance.md), and 200 ms
/// for Lambda's part, which was not.
const COLD: f64 = 0.25;
/// Seconds after which a function gives up on DynamoDB: `OPERATION` in shared/src/aws.rs.
const GIVES_UP: f64 = 2.8;
/// `Retry-After` of a 503, in seconds: `OUTAGE_PAUSE` in shared/src/auth/error.rs.
const OUTAGE_PAUSE: f64 = 1.0;

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// Tokens, at this time.
    Tokens(f64),
    /// A 429 or 503 at this time, with this `Retry-After` in seconds.
    Later(f64, f64),
}

/// Tokens that come back at a rate, up to a number.
struct Bucket {
    rate: f64,
    most: f64,
    left: f64,
    at: f64,
}

impl Bucket {
    const fn full(rate: f64, most: f64) -> Self {
        Self { rate, most, left: most, at: 0.0 }
    }

    fn take(&mut self, now: f64) -> bool {
        self.left = (self.left + (now - self.at) * self.rate).min(self.most);
        self.at = now;
        let has_one = self.left >= 1.0;
        if has_one {
            self.left -= 1.0;
        }
        has_one
    }
}

/// What one second saw.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// Requests that arrived, also those that were turned away.
    pub requests: usize,
    /// Requests that were answered with tokens, by operation.
    pub served: [usize; 2],
    /// The most executions at once.
    pub concurrency: usize,
    /// Units that were written.
    pub writes: usize,
    /// Units that the busiest partition wrote.
    pub hottest: usize,
}

struct Function {
    route: Bucket,
    invocations: Bucket,
    scaling: Bucket,
    environments: usize,
    /// When the executions that run end.
    ends: BinaryHeap<Reverse<Millis>>,
}

/// The functions and the table.
pub struct Server {
    limits: Limits,
    functions: [Function; 2],
    /// Units of the current second, by partition.
    partitions: Vec<usize>,
    current: usize,
    /// Every second so far.
    pub seconds: Vec<Second>,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        let function = || Function {
            route: Bucket::full(limits.route.0, limits.route.1),
            invocations: Bucket::full(
                limits.concurrency as f64 * PER_ENVIRONMENT,
                limits.concurrency as f64 * PER_ENVIRONMENT,
            ),
            scaling: Bucket::full(NEW_ENVIRONMENTS / 10.0, NEW_ENVIRONMENTS),
            environments: 0,
            ends: BinaryHeap::new(),
        };
        let functions = [function(), function()];
        Self { functions, partitions: vec![0; limits.partitions], limits, current: 0, seconds: Vec::new() }
    }

    /// Answers a request at `now`, in seconds. Times must not decrease.
    pub fn answer(&mut self, operation: Operation, now: f64, random: &mut Random) -> Answer {
        self.advance(now);
        self.seconds[self.current].requests += 1;
        let limits = &self.limits;
        let busy: usize = self.functions.iter().map(|function| function.ends.len()).sum();
        let function = &mut self.functions[operation as usize];
        // API Gateway's own 429, and the 503 that it makes of a function that does not
        // start, have no Retry-After.
        if !function.route.take(now) || busy >= limits.concurrency || !function.invocations.take(now) {
            return Answer::Later(now, 0.0);
        }
        let is_warm = function.ends.len() < function.environments;
        if !is_warm {
            if !function.scaling.take(now) {
                return Answer::Later(now, 0.0);
            }
            function.environments += 1;
        }
        let start = if is_warm { now } else { now + COLD };
        let is_out = limits.outage.is_some_and(|(from, to)| (from..to).contains(&start));
        let written = !is_out && self.write(operation, random);
        let end = start + if is_out || !written { GIVES_UP } else { operation.duration() };
        self.functions[operation as usize].ends.push(Reverse((end * 1000.0) as Millis));
        let second = &mut self.seconds[self.current];
        second.concurrency = second.concurrency.max(busy + 1);
        if written {
            second.served[operation as usize] += 1;
            Answer::Tokens(end)
        } else {
            Answer::Later(end, OUTAGE_PAUSE)
        }
    }

    /// Ends what has ended by `now`.
    fn advance(&mut self, now: f64) {
        let millis = (now * 1000.0) as Millis;
        for function in &mut self.functions {
            while function.ends.peek().is_some_and(|Reverse(end)| *end <= millis) {
                function.ends.pop();
            }
        }
        let second = now as usize;
        if second >= self.seconds.len() {
            self.seconds.resize(second + 1, Second::default());
        }
        if second != self.current {
            self.partitions.fill(0);
            self.current = second;
        }
    }

    /// Writes the units of an operation, each to a partition. Returns whether the table
    /// had them.
    fn write(&mut self, operation: Operation, random: &mut Random) -> bool {
        let mut is_written = true;
        for _ in 0..operation.writes() {
            let partition = &mut self.partitions[random.below(self.limits.partitions)];
            if *partition >= PARTITION {
                is_written = false;
            } else {
                *partition += 1;
                let hottest = *partition;
                let second = &mut self.seconds[self.current];
                second.writes += 1;
                second.hottest = second.hottest.max(hottest);
            }
        }
        is_written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Limits = Limits { route: (1e9, 1e9), concurrency: 100_000, partitions: 1000, outage: None };

    /// The answers to `rate` requests a second for `seconds`.
    fn answers(limits: Limits, rate: usize, seconds: usize) -> (Server, usize) {
        let (mut server, mut random) = (Server::new(limits), Random::seeded(1));
        let served = (0..rate * seconds).filter(|at| {
            let now = *at as f64 / rate as f64;
            matches!(server.answer(Operation::Refresh, now, &mut random), Answer::Tokens(_))
        });
        let served = served.count();
        (server, served)
    }

    #[test]
    fn a_route_serves_its_burst_and_then_its_rate() {
        let (_, served) = answers(Limits { route: (100.0, 200.0), ..WIDE }, 1000, 10);
        assert!((1199..=1200).contains(&served), "{served}");
    }

    #[test]
    fn executions_at_once_are_the_rate_times_the_duration() {
        let (server, _) = answers(WIDE, 2000, 5);
        let expected = (2000.0 * Operation::Refresh.duration()).ceil() as usize;
        assert!(server.seconds[4].concurrency.abs_diff(expected) <= 1, "{:?}", server.seconds[4]);
    }

    #[test]
    fn a_partition_writes_a_thousand_units_a_second() {
        let (server, served) = answers(Limits { partitions: 1, ..WIDE }, 1500, 4);
        assert_eq!(served, 4000);
        assert!(server.seconds.iter().all(|second| second.writes == 1000 && second.hottest == 1000));
    }

    #[test]
    fn an_outage_holds_executions_until_they_give_up() {
        let (server, served) = answers(Limits { outage: Some((0.0, 60.0)), ..WIDE }, 100, 10);
        assert_eq!(served, 0);
        let expected = (100.0 * GIVES_UP) as usize;
        assert!(server.seconds[9].concurrency.abs_diff(expected) <= 1, "{:?}", server.seconds[9]);
    }
}
