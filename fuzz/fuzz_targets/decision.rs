//! The decision about a refresh keeps the guarantees of rotation for any session,
//! attempt and user.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use freshkey::Timestamp;
use freshkey::client::Client;
use freshkey::id::{SessionId, UserId};
use freshkey::session::{Attempt, Decision, Hash, Issue, Session, decide};
use freshkey::user::UserState;
use freshkey::write::Write;

/// Small numbers, so that equal values are likely.
#[derive(Arbitrary, Debug)]
struct Case {
    session: Option<Stored>,
    generation: u8,
    secret: u8,
    key: u8,
    now: u8,
    interval: u8,
    user: Option<(bool, u8)>,
}

/// The session in the table.
#[derive(Arbitrary, Debug)]
struct Stored {
    generation: u8,
    secret: u8,
    attempt: Option<u8>,
    rotated_at: u8,
    expires_at: u8,
    epoch: u8,
    is_revoked: bool,
}

fn moment(tick: u8) -> Timestamp {
    Timestamp::from_seconds(tick.into())
}

fn hash(of: u8) -> Hash {
    Hash::of(&[&[of]])
}

libfuzzer_sys::fuzz_target!(|case: Case| {
    let session = case.session.map(|stored| Session {
        id: SessionId::random(),
        user_id: UserId::random(),
        generation: stored.generation.into(),
        secret_hash: hash(stored.secret),
        attempt: stored.attempt.map(hash),
        rotated_at: moment(stored.rotated_at),
        created_at: moment(0),
        opened_at: moment(0),
        last_used_at: moment(stored.rotated_at),
        expires_at: moment(stored.expires_at),
        epoch: stored.epoch.into(),
        revoked_at: stored.is_revoked.then(|| moment(stored.rotated_at)),
        client: Client::default(),
    });
    let attempt = Attempt {
        generation: case.generation.into(),
        secret_hash: hash(case.secret),
        key: hash(case.key),
        now: moment(case.now),
        reuse_interval: Duration::from_secs(case.interval.into()),
    };
    let user = case.user.map(|(is_active, epoch)| UserState { is_active, epoch: epoch.into() });
    let write = match &session {
        Some(session) if attempt.may_rotate(session) => {
            Write::Done(attempt.rotate(session, session.expires_at, Client::default()))
        }
        session => Write::Refused(session.clone()),
    };
    let was_written = matches!(write, Write::Done(_));
    let n = attempt.generation;
    let is_good = |session: &Session| {
        session.secret_hash == attempt.secret_hash && session.revoked_at.is_none() && session.expires_at > attempt.now
    };
    match decide(&attempt, write, user) {
        Decision::Issue { session, how } => {
            let user = user.expect("nothing is issued without a user");
            assert!(user.is_active && session.epoch >= user.epoch && is_good(&session));
            assert_eq!(was_written, how == Issue::Rotated);
            let is_itself = how == Issue::Shared && session.generation == n && session.attempt.is_some();
            assert!(session.generation == n + 1 || is_itself);
        }
        Decision::Discard { session, user } => {
            assert!(is_good(&session) && user.is_none_or(|user| !user.is_active || session.epoch < user.epoch));
        }
        Decision::Revoke(session) => assert!(is_good(&session) && session.generation > n && !was_written),
        Decision::Refuse(_) => assert!(!session.as_ref().is_some_and(is_good)),
        Decision::Impossible => {
            let has_rotated = session.is_some_and(|session| session.attempt.is_some());
            assert!(!was_written && !attempt.reuse_interval.is_zero() && has_rotated);
        }
    }
});
