//! A model of the protocol of rotation, which is explored completely.
//!
//! It has one session, its user, and everybody who acts on them at once. Every read
//! and every write of the table is a separate step, and stateright tries all
//! orders of the steps, with requests and answers that are lost or delivered twice.
//! The model runs the shipped functions, which decide what a refresh writes and
//! answers.
//!
//! - `promises`: what must hold in every state, and which states must be reachable
//! - `scenarios`: small worlds, and the promises that each of them is explored for
//! - `broken`: rules with one fault each, and the promise that reveals it

mod broken;
mod promises;
mod scenarios;

use std::sync::LazyLock;
use std::time::Duration;

use stateright::{Model, Property};

use super::{Attempt, Decision, Hash, Lifetime, Rotation, Session, decide};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::user::UserState;
use crate::write::Write;

/// One step of the clock. The reuse interval is one such step, or none.
const TICK: Duration = Duration::from_secs(10);
/// The moment of the login, with which a world begins, in ticks.
const BEGINNING: u8 = 10;
/// An idle lifetime that no scenario outlives, in ticks.
const LONG: u8 = 100;
/// The most generations of any scenario, plus generation 0, which means none.
const GENERATIONS: usize = 7;

static SESSION: LazyLock<SessionId> = LazyLock::new(SessionId::random);
static USER: LazyLock<UserId> = LazyLock::new(UserId::random);

/// The conditions of every write, and the decision on every refresh.
#[derive(Clone, Copy)]
struct Rules {
    /// The condition of the first write of a refresh.
    may_rotate: fn(&Attempt, &Session) -> bool,
    /// The decision on the outcome of that write.
    decide: fn(&Attempt, Rotation, Option<UserState>) -> Decision,
    /// The condition of the delete that [`Decision::Discard`] asks for.
    may_discard: fn(&Session, Option<UserState>) -> bool,
    /// The condition under which a password change keeps the session: from the
    /// user's epoch that it read before, and the user and the session as they are now.
    may_keep: fn(u64, UserState, &Session, Timestamp) -> bool,
}

/// The rules that are shipped, as docs/rotation.md describes them.
const SHIPPED: Rules = Rules {
    may_rotate: Attempt::may_rotate,
    decide,
    may_discard: |session, user| user.is_none_or(|user| !user.is_active || session.epoch < user.epoch),
    may_keep: |read, user, session, now| user.epoch == read && session.epoch == read && session.is_open(now),
};

/// One small world: who acts in it, what may happen, and what must hold.
#[derive(Clone)]
struct Scenario {
    rules: Rules,
    /// Who refreshes. With [`Event::Theft`], the second is the thief.
    holders: &'static [Keys],
    /// The reuse interval, in ticks.
    interval: u8,
    /// The idle lifetime, in ticks.
    idle: u8,
    /// What may happen besides refreshes.
    events: &'static [Event],
    /// The most requests and answers that are on their way at once.
    flights: usize,
    /// The highest generation that is presented.
    last_token: u8,
    /// The most attempts that are begun.
    attempts: u8,
    /// The most ticks of the clock.
    ticks: u8,
    promises: &'static [fn() -> Property<Scenario>],
}

/// How a holder of a token identifies an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// By an Idempotency-Key, which all tabs share, and which is kept beside the
    /// token until another token arrives.
    Kept,
    /// Not at all: each request is a separate attempt.
    Fresh,
    /// By the `jti` of the access token that came with the refresh token, as in the
    /// middleware.
    Pair,
}

/// What may happen besides refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A request or an answer is lost, or its executor dies, at any step.
    Loss,
    /// A request is delivered twice.
    Doubling,
    /// A write is carried out, but the SDK does not hear of it and repeats it.
    Unheard,
    /// The next rotation begins while a request or an answer of the one before
    /// is still on its way. A client must not do this.
    Straggling,
    /// The client drops its key even if the answer holds the token that it sent, as
    /// within the interval. A client must not do this either.
    Forgetting,
    /// Somebody copies the token that the first holder has at that moment.
    Theft,
    /// The session is deleted; one that reuse ended stays, as evidence.
    Logout,
    /// All sessions are ended, by another session or an operator.
    Everywhere,
    /// The user is disabled, and perhaps enabled again.
    Disabling,
    /// The user is deleted; the session is swept later.
    Deletion,
    /// This session changes the password: all others end.
    PasswordChange,
    /// The clock moves.
    Time,
    /// The clock moves, but only when a burst of refreshes is over: nothing is on
    /// its way, and everybody holds the same token.
    Pause,
    /// The session's item is restored to an earlier state.
    Restore,
}

/// The session's item, in small numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Row {
    generation: u8,
    attempt: Option<u8>,
    rotated_at: u8,
    expires_at: u8,
    epoch: u8,
    is_revoked: bool,
}

/// The user's item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct User {
    is_active: bool,
    epoch: u8,
}

/// Somebody who may hold a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    /// The generation of the token; 0 for none.
    token: u8,
    /// The attempt that is pending or, with [`Keys::Pair`], the next one.
    key: Option<u8>,
    /// Whether the holder was refused, and has dropped the token.
    is_out: bool,
    /// The latest token that was issued to the holder, as an observer sees it.
    issued: u8,
    /// The latest token of the holder that got any answer.
    answered: u8,
}

/// A request that is on its way, is being carried out, or whose answer is on
/// its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Flight {
    from: usize,
    token: u8,
    key: u8,
    /// Whether it was sent after a revocation had returned.
    is_late: bool,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    /// The write and the read happen, in either order; `now` is the time of the
    /// first. With both done, the request waits for its second write.
    Open {
        now: Option<u8>,
        write: Option<Written>,
        user: Option<Option<User>>,
    },
    /// The answer is this token, and an access token with this `jti`.
    Issued {
        token: u8,
        jti: u8,
    },
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Written {
    Done(Row),
    Refused(Option<Row>),
}

/// An event that an observer who sees everything notes when it first happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    /// A generation was made, or issued, in two ways.
    Fork,
    /// Token n was answered neither with n+1 nor, within the interval after a
    /// rotation, with n itself.
    Stray,
    /// An attempt was answered with the rotation of another, outside the interval.
    LateShare,
    /// A refresh that began after a revocation had returned was answered.
    Revival,
    /// A session was used at its end or later.
    Outlived,
    /// A refresh met [`Decision::Impossible`].
    Impossible,
    /// A spent token ended the session.
    Reuse,
    /// The attempt that had made a rotation got its answer again.
    Repeat,
    /// The same, after the interval was over.
    LateRepeat,
    /// Another attempt got the answer of a rotation.
    Share,
    /// A session that was to be discarded had been kept by a password change meanwhile.
    Lift,
    /// A token that was ahead of the table was accepted.
    PullForward,
    /// The user was enabled again.
    Enabling,
}

/// The state of everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    tick: u8,
    row: Option<Row>,
    user: Option<User>,
    backup: Option<Row>,
    /// The epoch that an unfinished password change has read.
    change: Option<u8>,
    holders: Vec<Holder>,
    /// Sorted, so that worlds that differ only in this order are the same.
    flights: Vec<Flight>,
    /// The number of the next attempt or `jti`.
    next_key: u8,
    /// The generation of the stolen token; 0 for none.
    stolen: u8,
    /// Whether a revocation has returned.
    is_over: bool,
    /// Whether a password change has kept the session.
    is_kept: bool,
    /// The attempt and the moment by which each generation was made.
    chain: [Option<(Option<u8>, u8)>; GENERATIONS],
    notes: u16,
}

/// One step of the model. The number is the index of a holder or of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Send(usize),
    Double(usize),
    Write(usize),
    WriteUnheard(usize),
    ReadUser(usize),
    WriteAgain(usize),
    Lose(usize),
    Deliver(usize),
    Steal,
    Logout,
    EndAll,
    Disable,
    Enable,
    DeleteUser,
    ReadForChange,
    ChangePassword,
    Tick,
    BackUp,
    Restore,
}

impl Row {
    fn session(self) -> Session {
        Session {
            id: *SESSION,
            user_id: *USER,
            generation: self.generation.into(),
            secret_hash: hash(0),
            attempt: self.attempt.map(hash),
            rotated_at: moment(self.rotated_at),
            created_at: moment(BEGINNING),
            opened_at: moment(BEGINNING),
            last_used_at: moment(self.rotated_at),
            expires_at: moment(self.expires_at),
            epoch: self.epoch.into(),
            revoked_at: self.is_revoked.then(|| moment(self.rotated_at)),
            client: Client::default(),
        }
    }
}

impl From<&Session> for Row {
    fn from(session: &Session) -> Self {
        Self {
            generation: small(session.generation),
            attempt: session.attempt.map(|hash| hash.as_bytes()[0]),
            rotated_at: ticks(session.rotated_at),
            expires_at: ticks(session.expires_at),
            epoch: small(session.epoch),
            is_revoked: session.revoked_at.is_some(),
        }
    }
}

impl User {
    fn state(self) -> UserState {
        UserState { is_active: self.is_active, epoch: self.epoch.into() }
    }
}

fn hash(number: u8) -> Hash {
    Hash::from_bytes(&[number; 32]).unwrap()
}

fn moment(ticks: u8) -> Timestamp {
    Timestamp::default() + TICK * u32::from(ticks)
}

fn ticks(moment: Timestamp) -> u8 {
    small(moment.millis() as u64 / TICK.as_millis() as u64)
}

fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap()
}

impl Flight {
    fn is_new(&self) -> bool {
        self.step == Step::Open { now: None, write: None, user: None }
    }
}

impl World {
    fn note(&mut self, note: Note) {
        self.notes |= 1 << note as u16;
    }

    fn has(&self, note: Note) -> bool {
        self.notes & 1 << note as u16 != 0
    }

    /// Whether the session can be used, by its own item and its user's.
    fn is_alive(&self) -> bool {
        self.row.is_some_and(|row| row.session().is_live(self.user.map(User::state), moment(self.tick)))
    }

    /// Records that this row was made. No other row may have its generation.
    fn enchain(&mut self, row: Row) {
        let made = (row.attempt, row.rotated_at);
        if *self.chain[usize::from(row.generation)].get_or_insert(made) != made {
            self.note(Note::Fork);
        }
    }

    fn bump_epoch(&mut self) {
        if let Some(user) = &mut self.user {
            user.epoch += 1;
        }
    }
}

impl Scenario {
    fn may(&self, event: Event) -> bool {
        self.events.contains(&event)
    }

    fn lifetime(&self) -> Lifetime {
        Lifetime { idle: TICK * self.idle.into(), absolute: TICK * 200 }
    }

    fn attempt(&self, flight: &Flight, now: u8) -> Attempt {
        Attempt {
            generation: flight.token.into(),
            secret_hash: hash(0),
            key: hash(flight.key),
            now: moment(now),
            reuse_interval: TICK * self.interval.into(),
        }
    }

    /// Whether a client that follows the rules refreshes now. One with a key
    /// begins no attempt while another is on its way.
    fn may_send(&self, world: &World, from: usize) -> bool {
        let holder = &world.holders[from];
        (1..=self.last_token).contains(&holder.token)
            && !holder.is_out
            && world.flights.len() < self.flights
            && (self.holders[from] == Keys::Fresh
                || self.may(Event::Straggling)
                || world.flights.iter().all(|flight| flight.from != from || Some(flight.key) == holder.key))
    }

    fn send(&self, world: &mut World, from: usize) {
        let holder = &mut world.holders[from];
        let key = holder.key.unwrap_or_else(|| {
            world.next_key += 1;
            world.next_key - 1
        });
        if self.holders[from] == Keys::Kept {
            holder.key = Some(key);
        }
        let step = Step::Open { now: None, write: None, user: None };
        world.flights.push(Flight { from, token: holder.token, key, is_late: world.is_over, step });
    }

    /// Makes the conditional write. Returns when it was made, and its outcome.
    fn write(&self, world: &mut World, flight: &Flight, now: Option<u8>) -> (u8, Written) {
        let now = now.unwrap_or(world.tick);
        let attempt = self.attempt(flight, now);
        let Some(row) = world.row else {
            return (now, Written::Refused(None));
        };
        let session = row.session();
        if !(self.rules.may_rotate)(&attempt, &session) {
            return (now, Written::Refused(Some(row)));
        }
        if row.expires_at <= now {
            world.note(Note::Outlived);
        }
        if row.generation < flight.token {
            world.note(Note::PullForward);
        }
        let lifetime = self.lifetime();
        let expires_at = lifetime.end(attempt.now, lifetime.absolute_end(session.created_at));
        let row = Row::from(&attempt.rotate(&session, expires_at, Client::default()));
        world.row = Some(row);
        world.enchain(row);
        (now, Written::Done(row))
    }

    /// Takes a step of the flight at `at`. When both the write and the read are
    /// done, the answer follows at once, unless it needs a second write.
    fn proceed(&self, world: &mut World, at: usize, action: Action) {
        let flight = world.flights[at];
        let Step::Open { mut now, mut write, mut user } = flight.step else { return };
        match action {
            Action::Write(_) => {
                let (when, written) = self.write(world, &flight, now);
                (now, write) = (Some(when), Some(written));
            }
            Action::WriteUnheard(_) => now = Some(self.write(world, &flight, now).0),
            _ => (now, user) = (now.or(Some(world.tick)), Some(world.user)),
        }
        world.flights[at].step = Step::Open { now, write, user };
        match self.decision(&world.flights[at]) {
            Some((Decision::Issue { session, .. }, now)) => self.issue(world, at, &session, now),
            Some((Decision::Refuse(_), _)) => refuse(world, at),
            Some((Decision::Impossible, _)) => {
                world.note(Note::Impossible);
                world.flights.remove(at);
            }
            Some((Decision::Revoke(_) | Decision::Discard { .. }, _)) | None => {}
        }
    }

    /// The decision on a refresh and the time at which it began, once its write and
    /// its read are done.
    fn decision(&self, flight: &Flight) -> Option<(Decision, u8)> {
        let Step::Open { now: Some(now), write: Some(write), user: Some(user) } = flight.step else { return None };
        let write = match write {
            Written::Done(row) => Write::Done(row.session()),
            Written::Refused(row) => Write::Refused(row.map(Row::session)),
        };
        Some(((self.rules.decide)(&self.attempt(flight, now), write, user.map(User::state)), now))
    }

    /// Makes the second write, and the answer.
    fn write_again(&self, world: &mut World, at: usize) {
        match self.decision(&world.flights[at]) {
            Some((Decision::Revoke(_), _)) => {
                if let Some(row) = &mut world.row {
                    row.is_revoked = true;
                }
                world.is_over = true;
                world.note(Note::Reuse);
                refuse(world, at);
            }
            Some((Decision::Discard { session, user }, now)) => match world.row {
                Some(row) if !(self.rules.may_discard)(&row.session(), user) => {
                    world.note(Note::Lift);
                    self.issue(world, at, &session, now);
                }
                _ => {
                    world.row = None;
                    refuse(world, at);
                }
            },
            _ => unreachable!("only these two decisions take a second write"),
        }
    }

    fn issue(&self, world: &mut World, at: usize, session: &Session, now: u8) {
        let flight = world.flights[at];
        let row = Row::from(session);
        let is_own = row.attempt == Some(flight.key);
        let is_within = self.interval > 0 && now.saturating_sub(row.rotated_at) <= self.interval;
        let is_repeat = matches!(flight.step, Step::Open { write: Some(Written::Refused(_)), .. });
        let is_itself = row.generation == flight.token && self.interval > 0 && row.attempt.is_some();
        let notes = [
            (Note::Stray, row.generation != flight.token + 1 && !is_itself),
            (Note::LateShare, !is_own && !is_within),
            (Note::Revival, flight.is_late),
            (Note::Outlived, row.expires_at <= now),
            (Note::Share, !is_own),
            (Note::Repeat, is_own && is_repeat),
            (Note::LateRepeat, is_own && is_repeat && !is_within && now > row.rotated_at),
        ];
        for (note, happened) in notes {
            if happened {
                world.note(note);
            }
        }
        world.enchain(row);
        let holder = &mut world.holders[flight.from];
        holder.issued = holder.issued.max(row.generation);
        holder.answered = holder.answered.max(flight.token);
        let jti = if self.holders[flight.from] == Keys::Pair { world.next_key } else { 0 };
        world.next_key += u8::from(jti > 0);
        world.flights[at].step = Step::Issued { token: row.generation, jti };
    }

    /// Delivers an answer. An answer to an attempt that is over is ignored, unless it
    /// is a refusal.
    fn deliver(&self, world: &mut World, at: usize) {
        let flight = world.flights.remove(at);
        let holder = &mut world.holders[flight.from];
        match (flight.step, self.holders[flight.from]) {
            (Step::Open { .. }, _) => {}
            (Step::Refused, _) => holder.is_out = true,
            (Step::Issued { token, .. }, Keys::Fresh) => holder.token = token,
            (Step::Issued { token, jti }, Keys::Pair) => (holder.token, holder.key) = (token, Some(jti)),
            (Step::Issued { token, .. }, Keys::Kept) => {
                let is_over = token != holder.token || self.may(Event::Forgetting);
                if holder.key == Some(flight.key) && is_over {
                    (holder.token, holder.key) = (token, None);
                }
            }
        }
    }

    /// Gives the thief a copy of the token and, with [`Keys::Pair`], of the access token.
    fn steal(&self, world: &mut World) {
        world.stolen = world.holders[0].token;
        world.holders[1].token = world.stolen;
        world.holders[1].key = world.holders[0].key.filter(|_| self.holders[1] == Keys::Pair);
    }

    /// Makes the transaction of a password change that keeps this session.
    fn change_password(&self, world: &mut World) {
        let (Some(read), Some(user)) = (world.change.take(), world.user) else { return };
        let Some(row) = &mut world.row else { return };
        let now = moment(world.tick);
        if (self.rules.may_keep)(read.into(), user.state(), &row.session(), now) {
            row.epoch = read + 1;
            world.user = Some(User { epoch: read + 1, ..user });
            world.is_kept = true;
        }
    }
}

fn refuse(world: &mut World, at: usize) {
    let flight = &mut world.flights[at];
    flight.step = Step::Refused;
    let holder = &mut world.holders[flight.from];
    holder.answered = holder.answered.max(flight.token);
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let first = Row {
            generation: 1,
            attempt: None,
            rotated_at: BEGINNING,
            expires_at: BEGINNING + self.idle,
            epoch: 0,
            is_revoked: false,
        };
        let is_theft = self.may(Event::Theft);
        let holders = self.holders.iter().enumerate().map(|(place, keys)| Holder {
            token: u8::from(!is_theft || place == 0),
            key: (*keys == Keys::Pair).then_some(1),
            is_out: false,
            issued: 0,
            answered: 0,
        });
        let mut world = World {
            tick: BEGINNING,
            row: Some(first),
            user: Some(User { is_active: true, epoch: 0 }),
            backup: None,
            change: None,
            holders: holders.collect(),
            flights: Vec::new(),
            next_key: 2,
            stolen: 0,
            is_over: false,
            is_kept: false,
            chain: [None; GENERATIONS],
            notes: 0,
        };
        world.enchain(first);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        use Action::*;

        actions.extend((0..self.holders.len()).filter(|from| self.may_send(world, *from)).map(Send));
        for (at, flight) in world.flights.iter().enumerate() {
            match flight.step {
                Step::Open { write, user, .. } => {
                    if write.is_none() {
                        actions.push(Write(at));
                    }
                    if write.is_none() && self.may(Event::Unheard) {
                        actions.push(WriteUnheard(at));
                    }
                    if user.is_none() {
                        actions.push(ReadUser(at));
                    }
                    if write.is_some() && user.is_some() {
                        actions.push(WriteAgain(at));
                    }
                }
                Step::Issued { .. } | Step::Refused => actions.push(Deliver(at)),
            }
            if self.may(Event::Doubling) && flight.is_new() && world.flights.len() < self.flights {
                actions.push(Double(at));
            }
            if self.may(Event::Loss) {
                actions.push(Lose(at));
            }
        }
        let is_settled = world.flights.is_empty() && world.holders.iter().all(|it| it.token == world.holders[0].token);
        let may_bump = world.user.is_some_and(|user| user.epoch < 2);
        let is_active = world.user.is_some_and(|user| user.is_active);
        let events = [
            (Event::Theft, world.stolen == 0 && !world.holders[0].is_out, Steal),
            (Event::Logout, world.row.is_some(), Logout),
            (Event::Everywhere, may_bump && is_active, EndAll),
            (Event::Disabling, may_bump && is_active, Disable),
            (Event::Disabling, world.user.is_some() && !is_active, Enable),
            (Event::Deletion, world.user.is_some(), DeleteUser),
            (Event::PasswordChange, world.change.is_none() && may_bump && is_active, ReadForChange),
            (Event::PasswordChange, world.change.is_some(), ChangePassword),
            (Event::Time, world.tick < BEGINNING + self.ticks, Tick),
            (Event::Pause, world.tick < BEGINNING + self.ticks && is_settled, Tick),
            (Event::Restore, world.backup.is_none(), BackUp),
            (Event::Restore, world.backup.is_some() && world.backup != world.row, Restore),
        ];
        actions
            .extend(events.into_iter().filter(|(event, can, _)| *can && self.may(*event)).map(|(.., action)| action));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Send(from) => self.send(&mut next, from),
            Action::Double(at) => next.flights.push(world.flights[at]),
            Action::Write(at) | Action::WriteUnheard(at) | Action::ReadUser(at) => self.proceed(&mut next, at, action),
            Action::WriteAgain(at) => self.write_again(&mut next, at),
            Action::Lose(at) => _ = next.flights.remove(at),
            Action::Deliver(at) => self.deliver(&mut next, at),
            Action::Steal => self.steal(&mut next),
            Action::Logout => {
                next.row = world.row.filter(|row| row.is_revoked);
                next.is_over = true;
            }
            Action::EndAll => {
                next.bump_epoch();
                next.is_over = true;
            }
            Action::Disable => {
                next.bump_epoch();
                next.user = next.user.map(|user| User { is_active: false, ..user });
                next.is_over = true;
            }
            Action::Enable => {
                next.user = next.user.map(|user| User { is_active: true, ..user });
                next.note(Note::Enabling);
            }
            Action::DeleteUser => (next.user, next.is_over) = (None, true),
            Action::ReadForChange => next.change = world.user.map(|user| user.epoch),
            Action::ChangePassword => self.change_password(&mut next),
            Action::Tick => next.tick += 1,
            Action::BackUp => next.backup = world.row,
            Action::Restore => next.row = world.backup,
        }
        next.flights.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.promises.iter().map(|promise| promise()).collect()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.next_key <= 2 + self.attempts
    }
}
