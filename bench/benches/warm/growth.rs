//! What an operation costs as a user's sessions or the table's users grow.

use std::collections::BTreeMap;
use std::time::Duration;

use bench::member::Member;
use bench::spread::Spread;
use freshkey::session::Session;
use tokio::time::sleep;

use crate::Size;
use crate::meter::{Calls, Mode};
use crate::operation::{Caller, Operation, Taken};
use crate::world::World;

/// What one operation takes in one situation.
pub struct Cell {
    /// From the event to the answer.
    pub time: Spread,
    /// The time of its calls to DynamoDB.
    pub waited: Spread,
    /// The rest.
    pub own: Spread,
    /// The calls of one, with their units.
    pub calls: Calls,
}

impl Cell {
    /// Of what was taken first, only the units count.
    fn of(taken: &[Taken]) -> Self {
        let (first, taken) = taken.split_first().unwrap();
        let spread = |part: fn(&Taken) -> Duration| Spread::of(taken.iter().map(part));
        Self {
            time: spread(|taken| taken.time),
            waited: spread(|taken| taken.calls.waited),
            own: spread(|taken| taken.time.saturating_sub(taken.calls.waited)),
            calls: first.calls,
        }
    }
}

/// Each operation in all situations, which have names.
pub struct Growth {
    pub situations: Vec<String>,
    pub rows: BTreeMap<Operation, Vec<Cell>>,
}

/// Carried out in each round. A logout ends what the login has opened.
const OFTEN: [Operation; 6] =
    [Operation::Register, Operation::Login, Operation::Logout, Operation::Refresh, Operation::Me, Operation::Sessions];
/// Carried out in every twentieth round: the user has to be written anew.
const SELDOM: [Operation; 2] = [Operation::EndSessions, Operation::Delete];
const SELDOM_ROUNDS: usize = 20;

/// Measures users with few and with many sessions. The first round counts units, and the
/// others take times.
pub async fn by_sessions(world: &World, size: &Size) -> Growth {
    let situations: [(String, usize, usize); 4] = [
        ("1 session".into(), 1, 0),
        ("50".into(), 50, 0),
        (group(size.many + 1), size.many, 0),
        (format!("1, and {} expired", group(size.expired)), 1, size.expired),
    ];
    let mut users = Vec::new();
    for (number, (_, live, expired)) in situations.iter().enumerate() {
        let others = |session: &Session| [world.more(session, live - 1), world.expired(session, *expired)].concat();
        let member = world.member(&format!("grown{number}@example.com"), others).await;
        let rows = world.rows(&member);
        users.push((Caller::new(&member), rows, BTreeMap::<Operation, Vec<Taken>>::new()));
    }
    for round in 0..=size.rounds {
        world.meter.set(if round == 0 { Mode::Units } else { Mode::Times });
        let seldom = SELDOM.into_iter().filter(|_| round % SELDOM_ROUNDS <= 1);
        for operation in OFTEN.into_iter().chain(seldom) {
            for (caller, rows, found) in &mut users {
                // So that none finds the caches as another user has left them.
                caller.perform(Operation::Me, world).await;
                let taken = caller.perform(operation, world).await;
                found.entry(operation).or_default().push(taken);
                if SELDOM.contains(&operation) {
                    // Deletions that the operation has not waited for may be on their way.
                    sleep(Duration::from_millis(100)).await;
                }
                if operation == Operation::Login || SELDOM.contains(&operation) {
                    world.restore(rows);
                }
            }
        }
    }
    world.meter.set(Mode::Off);
    let mut rows = BTreeMap::<_, Vec<_>>::new();
    for (_, _, found) in users {
        for (operation, taken) in found {
            rows.entry(operation).or_default().push(Cell::of(&taken));
        }
    }
    let situations = situations.map(|(name, ..)| name).into();
    let growth = Growth { situations, rows };
    growth.check();
    growth
}

impl Growth {
    /// Fails if something grows that must not.
    fn check(&self) {
        for operation in [Operation::Refresh, Operation::Me, Operation::Logout, Operation::Register] {
            let of = |cell: &Cell| (cell.calls.count, cell.calls.trips, cell.calls.writes, cell.calls.reads);
            let found: Vec<_> = self.rows[&operation].iter().map(of).collect();
            assert!(found.iter().all(|calls| *calls == found[0]), "{operation:?} grows: {found:?}");
        }
    }
}

/// Logs a user with expired sessions in and out, until few of them are left. Returns the
/// calls of each login.
pub async fn until_few_expired(world: &World, size: &Size) -> Vec<Calls> {
    /// A login deletes so many, if there are as many.
    const EACH: usize = 100;
    let member = world.member("back@example.com", |session| world.expired(session, size.expired)).await;
    let mut caller = Caller::new(&member);
    let mut found = Vec::new();
    world.meter.set(Mode::Units);
    for _ in 0..=size.expired / EACH {
        found.push(caller.perform(Operation::Login, world).await.calls);
        caller.perform(Operation::Logout, world).await;
    }
    world.meter.set(Mode::Off);
    let last = found.last().unwrap();
    assert!(last.trips == 3 && last.writes == 5.0, "expired sessions are left: {last:?}");
    found
}

/// Measures operations of random users in a small and in a large table.
pub async fn by_users(worlds: [&World; 2], known: &[Vec<Member>; 2], size: &Size) -> Growth {
    const OPERATIONS: [Operation; 4] = [Operation::Refresh, Operation::Login, Operation::Me, Operation::Logout];
    let mut callers = known.each_ref().map(|known| known.iter().map(Caller::new).collect::<Vec<_>>());
    let mut rows = BTreeMap::<_, Vec<_>>::new();
    for operation in OPERATIONS {
        let mut found = [(); 2].map(|()| Vec::new());
        for round in 0..=2 * size.rounds {
            for ((world, callers), found) in worlds.iter().zip(&mut callers).zip(&mut found) {
                world.meter.set(if round == 0 { Mode::Units } else { Mode::Times });
                let number = round % callers.len();
                let caller = &mut callers[number];
                if operation == Operation::Logout {
                    caller.perform(Operation::Login, world).await;
                }
                let taken = caller.perform(operation, world).await;
                if operation == Operation::Login {
                    caller.perform(Operation::Logout, world).await;
                }
                found.push(taken);
            }
        }
        rows.insert(operation, found.map(|taken| Cell::of(&taken)).into());
    }
    worlds.iter().for_each(|world| world.meter.set(Mode::Off));
    let situations = size.users.iter().map(|users| format!("{} users", group(*users))).collect();
    Growth { situations, rows }
}

/// Returns a number with a comma before each three digits.
pub fn group(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", group(number / 1000), number % 1000) }
}
