//! The users: when they come, and when their clients refresh, try again and give up, as
//! clients/typescript does.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::DAY;
use crate::random::Random;
use crate::server::{Answer, Limits, Operation, Second, Server};

const MINUTE: f64 = 60.0;
/// Seconds before its expiry from which on a call refreshes an access token:
/// `shouldRefreshToken` in tokens.ts.
const AHEAD: f64 = 5.0 * MINUTE;
/// Tries of one refresh: `REFRESHING` in tokens.ts.
pub const TRIES: usize = 5;
/// The longest random wait before the second try, in seconds. It doubles with each
/// further try: `FIRST_WAIT` in http.ts.
const FIRST_WAIT: f64 = 0.25;

/// Who the users are. All durations are means, in seconds.
#[derive(Clone, Debug)]
pub struct Population {
    pub users: usize,
    /// The share of users whose app stays open and active all day.
    pub always_on: f64,
    /// Visits of any other user on a day.
    pub visits: f64,
    /// How long a visit lasts.
    pub visit: f64,
    /// How long an app that is in use goes without a call.
    pub between_calls: f64,
    /// When most users come, in seconds of the day.
    pub peak: f64,
    /// How much more visits begin then than on average.
    pub swing: f64,
    /// The share of visits that begin with a login.
    pub logins: f64,
    /// The lifetime of an access token.
    pub lifetime: f64,
    /// The share of the lifetime by which it is shortened at most, at random.
    pub jitter: f64,
    /// Tries of a refresh that follows one of which all tries have failed.
    pub tries_again: usize,
}

/// What happened on a day.
pub struct Day {
    pub seconds: Vec<Second>,
    /// Clients that could not make a call, at the end of each second.
    pub waiting: Vec<usize>,
    /// The calls that waited for tokens: from the first one after the expiry to the new
    /// tokens.
    pub waits: Vec<Span>,
    /// The same for visits that ended without tokens.
    pub given_up: Vec<Span>,
}

/// Two moments, in seconds. A visit is one, from its first call to its last.
#[derive(Clone, Copy)]
pub struct Span {
    pub from: f64,
    pub to: f64,
}

struct Client {
    /// The visits that are left, the next one last.
    visits: Vec<Span>,
    /// When the access token expires.
    expires_at: f64,
    /// What the client is about to do.
    operation: Operation,
    /// Tries of this refresh so far.
    tried: usize,
    /// Whether all tries of the refresh before have failed.
    has_failed: bool,
    /// When the first call had to wait.
    waits_since: Option<f64>,
}

/// A client acts.
struct Event {
    at: f64,
    client: usize,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.client.cmp(&other.client))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

/// How long before its expiry a token is due: at most half its lifetime.
fn ahead(population: &Population) -> f64 {
    AHEAD.min(population.lifetime / 2.0)
}

struct Simulation<'a> {
    population: &'a Population,
    random: Random,
    clients: Vec<Client>,
    events: BinaryHeap<Reverse<Event>>,
    /// How many more clients wait from each second on, and how many fewer.
    change: Vec<isize>,
    waits: Vec<Span>,
    given_up: Vec<Span>,
}

/// Simulates a day from midnight to midnight.
pub fn simulate(population: &Population, limits: Limits, seed: u64) -> Day {
    let mut simulation = Simulation {
        population,
        random: Random::seeded(seed),
        clients: Vec::with_capacity(population.users),
        events: BinaryHeap::new(),
        change: vec![0; DAY as usize + 1],
        waits: Vec::new(),
        given_up: Vec::new(),
    };
    for _ in 0..population.users {
        simulation.add();
    }
    let mut server = Server::new(limits);
    while let Some(Reverse(event)) = simulation.events.pop() {
        if event.at >= DAY {
            break;
        }
        simulation.act(&event, &mut server);
    }
    let mut waiting = 0;
    let waiting = simulation.change.iter().map(|change| {
        waiting += change;
        waiting.max(0) as usize
    });
    let waiting = waiting.collect();
    server.seconds.resize(DAY as usize, Second::default());
    Day { seconds: server.seconds, waiting, waits: simulation.waits, given_up: simulation.given_up }
}

impl Simulation<'_> {
    /// Adds a user, with the visits of the day.
    fn add(&mut self) {
        let Self { population, random, .. } = self;
        let is_always_on = random.unit() < population.always_on;
        let mut visits = Vec::new();
        if is_always_on {
            visits.push(Span { from: 0.0, to: 2.0 * DAY });
        } else {
            for _ in 0..random.poisson(population.visits) {
                let from = random.second_of_day(population.peak, population.swing);
                visits.push(Span { from, to: from + random.exponential(population.visit) });
            }
            visits.sort_unstable_by(|a, b| b.from.total_cmp(&a.from));
        }
        // An app that is always on has a token of any age at midnight that it uses; any
        // other one has a token that expired long ago.
        let used = population.lifetime - ahead(population);
        let expires_at = if is_always_on { ahead(population) + random.unit() * used } else { 0.0 };
        let client = self.clients.len();
        let operation = Operation::Refresh;
        self.clients.push(Client { visits, expires_at, operation, tried: 0, has_failed: false, waits_since: None });
        self.plan(client, 0.0);
    }

    /// Plans the next call at which the token of a client is due, after `from`.
    fn plan(&mut self, client: usize, from: f64) {
        let Self { population, random, .. } = self;
        let Client { visits, expires_at, operation, .. } = &mut self.clients[client];
        let due = *expires_at - ahead(population);
        let mut is_new = false;
        while let Some(visit) = visits.last() {
            let at = if visit.from >= from.max(due) {
                visit.from
            } else {
                visit.from.max(from).max(due) + random.exponential(population.between_calls)
            };
            if at <= visit.to {
                is_new |= visit.from >= from;
                *operation =
                    if is_new && random.unit() < population.logins { Operation::Login } else { Operation::Refresh };
                self.events.push(Reverse(Event { at, client }));
                return;
            }
            visits.pop();
            is_new = true;
        }
    }

    /// Lets a client try to get tokens.
    fn act(&mut self, event: &Event, server: &mut Server) {
        let Event { at, client } = *event;
        let Client { expires_at, operation, waits_since, .. } = &mut self.clients[client];
        if *expires_at <= at && waits_since.is_none() {
            *waits_since = Some(at);
            self.change[at as usize] += 1;
        }
        match server.answer(*operation, at, &mut self.random) {
            Answer::Tokens(end) => self.receive(client, end),
            Answer::Later(end, asked) => self.fail(client, end, asked),
        }
    }

    fn receive(&mut self, client: usize, end: f64) {
        let Population { lifetime, jitter, .. } = *self.population;
        let lifetime = lifetime * (1.0 - jitter * self.random.unit());
        let state = &mut self.clients[client];
        state.expires_at = end + lifetime;
        state.tried = 0;
        state.has_failed = false;
        if let Some(from) = state.waits_since.take() {
            self.waits.push(Span { from, to: end });
            self.stop_waiting(end);
        }
        self.plan(client, end);
    }

    fn fail(&mut self, client: usize, end: f64, asked: f64) {
        let Population { between_calls, tries_again, .. } = *self.population;
        let state = &mut self.clients[client];
        state.tried += 1;
        // A login is tried once, and again by its user.
        let tries = if state.has_failed { tries_again } else { TRIES };
        let is_over = state.tried >= tries || state.operation == Operation::Login;
        let wait = if is_over {
            self.random.exponential(between_calls)
        } else {
            asked + self.random.unit() * FIRST_WAIT * 2_f64.powi(state.tried as i32 - 1)
        };
        if is_over {
            state.tried = 0;
            state.has_failed = true;
        }
        let at = end + wait;
        let ends_at = state.visits.last().map_or(end, |visit| visit.to);
        if at <= ends_at {
            self.events.push(Reverse(Event { at, client }));
            return;
        }
        state.tried = 0;
        if let Some(from) = state.waits_since.take() {
            let to = ends_at.max(end);
            self.given_up.push(Span { from, to });
            self.stop_waiting(to);
        }
        self.plan(client, at);
    }

    fn stop_waiting(&mut self, at: f64) {
        let second = (at as usize + 1).min(self.change.len() - 1);
        self.change[second] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Limits = Limits { route: (1e9, 1e9), concurrency: 100_000, partitions: 1000, outage: None };

    fn always_on(users: usize) -> Population {
        Population { users, always_on: 1.0, ..crate::POPULATION }
    }

    fn served(day: &Day, seconds: std::ops::Range<usize>) -> usize {
        day.seconds[seconds].iter().map(|second| second.served.iter().sum::<usize>()).sum()
    }

    #[test]
    fn an_app_that_is_always_on_refreshes_once_in_55_minutes_and_the_time_to_its_next_call() {
        let day = simulate(&always_on(2000), WIDE, 1);
        let population = crate::POPULATION;
        let period = population.lifetime - AHEAD + population.between_calls;
        let expected = 2000.0 * 12.0 * 3600.0 / period;
        let found = served(&day, 12 * 3600..24 * 3600) as f64;
        assert!((found / expected - 1.0).abs() < 0.01, "{found} instead of {expected}");
        // A call within the five minutes before the expiry comes nearly always.
        assert!(day.waits.len() < 20, "{}", day.waits.len());
    }

    #[test]
    fn every_visit_with_an_old_token_takes_one_request() {
        // Visits of a moment, with a token that does not last until the next one.
        let population = Population { users: 10_000, always_on: 0.0, visit: 1e-6, lifetime: 2e-6, ..crate::POPULATION };
        let day = simulate(&population, WIDE, 1);
        let (found, expected) = (served(&day, 0..day.seconds.len()) as f64, 10_000.0 * population.visits);
        assert!((found / expected - 1.0).abs() < 0.02, "{found} instead of {expected}");
    }

    #[test]
    fn clients_that_wait_are_served_at_the_rate_of_the_route() {
        // In an outage that is longer than their lifetime, all tokens expire.
        let end = 7800;
        let limits = Limits { route: (5.0, 5.0), outage: Some((3600.0, end as f64)), ..WIDE };
        let day = simulate(&always_on(1000), limits, 1);
        assert_eq!(day.waiting[end - 1], 1000);
        // The route has five at once, and then five a second.
        let first = served(&day, end..end + 100);
        assert!(first.abs_diff(505) <= 5, "{first}");
        // Two minutes more are enough for the next call of the last ones.
        let left = day.waiting[end + 200 + 120];
        assert!(left < 5, "{left}");
    }

    #[test]
    fn the_same_seed_gives_the_same_day() {
        let population = Population { users: 500, ..crate::POPULATION };
        let days = [1, 1, 2].map(|seed| simulate(&population, WIDE, seed));
        let requests = days.map(|day| day.seconds.iter().map(|second| second.requests).collect::<Vec<_>>());
        assert_eq!(requests[0], requests[1]);
        assert_ne!(requests[0], requests[2]);
    }
}
