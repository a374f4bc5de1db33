//! The rule of rotation, for every branch and every boundary.

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MOMENT: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_secs(10);
const LONG_AGO: Duration = Duration::from_secs(3600);

fn hash(text: &str) -> Hash {
    Hash::of(&[text.as_bytes()])
}

/// A session at generation 5, rotated by the attempt "first" an hour ago.
fn session() -> Session {
    Session {
        id: SessionId::random(),
        user_id: UserId::random(),
        generation: 5,
        secret_hash: hash("secret"),
        attempt: Some(hash("first")),
        rotated_at: NOW - LONG_AGO,
        created_at: NOW - LONG_AGO * 2,
        opened_at: NOW - LONG_AGO * 2,
        last_used_at: NOW - LONG_AGO,
        expires_at: NOW + LONG_AGO,
        epoch: 3,
        revoked_at: None,
        client: Client::default(),
    }
}

fn rotated(ago: Duration) -> Session {
    Session { rotated_at: NOW - ago, ..session() }
}

fn expiring(expires_at: Timestamp) -> Session {
    Session { expires_at, ..session() }
}

fn revoked() -> Session {
    Session { revoked_at: Some(NOW - LONG_AGO), ..session() }
}

fn of_another_secret() -> Session {
    Session { secret_hash: hash("another secret"), ..session() }
}

/// An attempt "second" on the token of `generation`.
fn token(generation: u64) -> Attempt {
    Attempt { generation, secret_hash: hash("secret"), key: hash("second"), now: NOW, reuse_interval: Duration::ZERO }
}

/// The same attempt with a reuse interval of 10 seconds.
fn with_interval(generation: u64) -> Attempt {
    Attempt { reuse_interval: INTERVAL, ..token(generation) }
}

/// A repetition of the attempt "first".
fn first(generation: u64) -> Attempt {
    Attempt { key: hash("first"), ..token(generation) }
}

#[test]
fn rf1_the_write_is_carried_out_only_on_a_live_session_that_is_not_past_the_token() {
    let behind = || Session { generation: 2, ..session() };
    let future = || Session { rotated_at: NOW + MOMENT, ..session() };
    let just_opened = || Session { generation: 1, attempt: None, ..rotated(Duration::ZERO) };
    for (case, attempt, session, expected) in [
        ("the token in force", token(5), session(), true),
        ("a spent token", token(4), session(), false),
        ("a token long spent", token(1), session(), false),
        ("rf17: a token ahead of the table", token(6), session(), true),
        ("rf17: a token far ahead of the table", token(5), behind(), true),
        ("the attempt that made the rotation, again", first(4), session(), false),
        ("rf12: another secret", token(5), of_another_secret(), false),
        ("rf2: a session that reuse ended", token(5), revoked(), false),
        ("rf8: a moment before the end", token(5), expiring(NOW + MOMENT), true),
        ("rf8: the very end", token(5), expiring(NOW), false),
        ("rf8: a moment after the end", token(5), expiring(NOW - MOMENT), false),
        ("rf3: never rotated, with an interval", with_interval(1), just_opened(), true),
        ("rf3: never rotated, and long spent", with_interval(1), Session { generation: 2, ..just_opened() }, false),
        ("rf3: inside the interval", with_interval(5), rotated(Duration::ZERO), false),
        ("rf3: at the edge of the interval", with_interval(5), rotated(INTERVAL), false),
        ("rf3: a moment after the interval", with_interval(5), rotated(INTERVAL + MOMENT), true),
        ("rf3: without an interval, at once", token(5), rotated(Duration::ZERO), true),
        ("rf3: without an interval, whatever the clocks say", token(5), future(), true),
    ] {
        assert_eq!(attempt.may_rotate(&session), expected, "{case}");
    }
}

#[test]
fn the_write_changes_what_belongs_to_a_rotation_and_nothing_else() {
    let before = Session { generation: 2, ..session() };
    let now = NOW + MOMENT * 999;
    let client = Client { ip: "192.0.2.1".into(), user_agent: "curl".into() };
    let after = Attempt { now, ..token(5) }.rotate(&before, NOW + LONG_AGO * 3, client.clone());
    let expected = Session {
        generation: 6,
        attempt: Some(hash("second")),
        rotated_at: now,
        last_used_at: NOW,
        expires_at: NOW + LONG_AGO * 3,
        client,
        ..before
    };
    assert_eq!(after, expected);
}

/// The outcome of a refused write for an active user.
#[derive(Debug, PartialEq)]
enum Outcome {
    Issued(Issue),
    Refused(Refusal),
    Revoked,
    Impossible,
}

#[test]
fn the_session_decides_the_outcome_of_a_refused_write() {
    use Outcome::{Impossible, Issued, Refused, Revoked};

    let behind = |ago| Session { generation: 3, ..rotated(ago) };
    let never_rotated = || Session { generation: 1, attempt: None, ..session() };
    let just_opened = || Session { rotated_at: NOW, ..never_rotated() };
    let ahead = || Session { rotated_at: NOW + MOMENT, ..session() };
    for (case, attempt, session, expected) in [
        // Refusals without an alarm come first.
        ("rf8: a moment before the end", first(4), expiring(NOW + MOMENT), Issued(Issue::Repeated)),
        ("rf8: the very end", first(4), expiring(NOW), Refused(Refusal::Expired)),
        ("rf8: a spent token, after the end", token(4), expiring(NOW - MOMENT), Refused(Refusal::Expired)),
        ("rf12: another secret", first(4), of_another_secret(), Refused(Refusal::WrongSecret)),
        ("rf12: a spent token of another secret", token(4), of_another_secret(), Refused(Refusal::WrongSecret)),
        ("reuse has ended it: the token in force", token(5), revoked(), Refused(Refusal::Revoked)),
        ("reuse has ended it: the attempt's own rotation", first(4), revoked(), Refused(Refusal::Revoked)),
        ("reuse has ended it: a spent token raises no second alarm", token(1), revoked(), Refused(Refusal::Revoked)),
        // The attempt that made the rotation, until the next rotation.
        ("rf6: n+1 by this attempt", first(4), session(), Issued(Issue::Repeated)),
        ("rf6: n+1 by this attempt, a moment ago", first(4), rotated(MOMENT), Issued(Issue::Repeated)),
        ("rf6: n+2 by an attempt of the same key", first(3), session(), Revoked),
        // Another attempt, without an interval.
        ("rf2: n+1 by another attempt", token(4), session(), Revoked),
        ("rf2: n+1 by another attempt, at this very moment", token(4), rotated(Duration::ZERO), Revoked),
        ("rf3: n+1 by another attempt, in the future", token(4), ahead(), Revoked),
        ("rf2: n+2", token(3), session(), Revoked),
        ("rf2: far behind", token(1), session(), Revoked),
        // Another attempt, with an interval.
        ("rf3: n+1, at once", with_interval(4), rotated(Duration::ZERO), Issued(Issue::Shared)),
        ("rf3: n+1, at the edge of the interval", with_interval(4), rotated(INTERVAL), Issued(Issue::Shared)),
        ("rf5: n+1, a moment after the interval", with_interval(4), rotated(INTERVAL + MOMENT), Revoked),
        ("rf3: n, at once", with_interval(5), rotated(Duration::ZERO), Issued(Issue::Shared)),
        ("rf3: n, at the edge of the interval", with_interval(5), rotated(INTERVAL), Issued(Issue::Shared)),
        ("rf4: n+2, inside the interval", with_interval(3), rotated(Duration::ZERO), Revoked),
        ("rf4: n+2, after the interval", with_interval(3), rotated(INTERVAL + MOMENT), Revoked),
        // Cases that the condition of the write never refuses.
        ("n, without an interval", token(5), session(), Impossible),
        ("n, never rotated", token(1), never_rotated(), Impossible),
        ("rf3: n, never rotated, with an interval", with_interval(1), just_opened(), Impossible),
        ("n, a moment after the interval", with_interval(5), rotated(INTERVAL + MOMENT), Impossible),
        ("rf17: n-1", token(6), session(), Impossible),
        ("rf17: n-2, inside the interval", with_interval(5), behind(MOMENT), Impossible),
    ] {
        let expected = match expected {
            Issued(how) => Decision::Issue { session: session.clone(), how },
            Refused(refusal) => Decision::Refuse(refusal),
            Revoked => Decision::Revoke(session.clone()),
            Impossible => Decision::Impossible,
        };
        let user = Some(UserState { is_active: true, epoch: 3 });
        assert_eq!(decide(&attempt, Write::Refused(Some(session)), user), expected, "{case}");
    }
}

#[test]
fn rf15_without_a_session_there_is_a_refusal_and_no_alarm() {
    for user in [None, Some(UserState { is_active: true, epoch: 3 })] {
        assert_eq!(decide(&token(5), Write::Refused(None), user), Decision::Refuse(Refusal::Ended));
    }
}

#[test]
fn rf10_every_branch_that_issues_passes_the_user_first() {
    let refused: fn(Session) -> Rotation = |session| Write::Refused(Some(session));
    let issuing = [
        (token(4), Write::Done as fn(Session) -> Rotation, session(), Issue::Rotated),
        (first(4), refused, session(), Issue::Repeated),
        (with_interval(4), refused, rotated(MOMENT), Issue::Shared),
        (with_interval(5), refused, rotated(MOMENT), Issue::Shared),
    ];
    let users = [
        ("active, of the session's epoch", Some(UserState { is_active: true, epoch: 3 }), true),
        ("read before the session was lifted", Some(UserState { is_active: true, epoch: 2 }), true),
        ("active, of the next epoch", Some(UserState { is_active: true, epoch: 4 }), false),
        ("disabled", Some(UserState { is_active: false, epoch: 3 }), false),
        ("disabled, of an epoch before", Some(UserState { is_active: false, epoch: 2 }), false),
        ("gone", None, false),
    ];
    for (attempt, write, session, how) in issuing {
        for (case, user, passes) in users {
            let decision = decide(&attempt, write(session.clone()), user);
            let session = session.clone();
            let expected = if passes { Decision::Issue { session, how } } else { Decision::Discard { session, user } };
            assert_eq!(decision, expected, "{how:?}, {case}");
        }
    }
}

#[test]
fn a_spent_token_is_found_for_every_state_of_the_user() {
    for user in [None, Some(UserState { is_active: false, epoch: 4 })] {
        let session = session();
        assert_eq!(decide(&token(4), Write::Refused(Some(session.clone())), user), Decision::Revoke(session));
    }
}

#[test]
fn rf9_a_session_ends_at_the_earlier_of_its_two_ends_in_whole_seconds() {
    let lifetime = Lifetime { idle: Duration::from_secs(30), absolute: Duration::from_secs(100) };
    let login = NOW + MOMENT * 999;
    let end = lifetime.absolute_end(login);
    assert_eq!(end, NOW + lifetime.absolute);
    for (used_after, expected) in [(0, 30), (69, 99), (70, 100), (71, 100), (99, 100)] {
        let used = login + Duration::from_secs(used_after);
        assert_eq!(lifetime.end(used, end), NOW + Duration::from_secs(expected), "{used_after}");
    }
}

#[test]
fn mi5_an_adopted_session_is_as_old_as_the_login_in_the_other_system() {
    let lifetime = Lifetime { idle: Duration::from_secs(30), absolute: Duration::from_secs(100) };
    for (age, left) in [(10, 30), (70, 30), (80, 20), (99, 1)] {
        let login = NOW - Duration::from_secs(age);
        let owner = (UserId::random(), 3);
        let (session, _) = Session::adopt(owner, login, Client::default(), hash("first"), NOW, lifetime);
        assert_eq!((session.created_at, session.opened_at), (login, NOW));
        assert_eq!((session.generation, session.attempt), (1, Some(hash("first"))));
        assert_eq!(session.expires_at, NOW + Duration::from_secs(left), "{age}");
    }
}

#[test]
fn a_new_session_is_alive_until_its_end_and_knows_its_secret_by_hash_alone() {
    let lifetime = Lifetime { idle: LONG_AGO, absolute: LONG_AGO * 2 };
    let (session, secret) = Session::open(UserId::random(), 3, Client::default(), NOW, lifetime);
    assert_eq!((session.generation, session.epoch), (1, 3));
    assert_eq!(session.secret_hash, secret.hash());
    assert_ne!(session.secret_hash.as_bytes(), secret.expose());
    let user = |is_active, epoch| Some(UserState { is_active, epoch });
    assert!(session.is_live(user(true, 3), session.expires_at - MOMENT));
    assert!(!session.is_live(user(true, 3), session.expires_at));
    for user in [None, user(false, 3), user(true, 4)] {
        assert!(!session.is_live(user, NOW), "{user:?}");
    }
    assert!(!Session { revoked_at: Some(NOW), ..session }.is_live(user(true, 3), NOW));
}

/// Whether the comparison takes constant time shows only in the source.
#[test]
fn se7_hashes_are_compared_by_the_librarys_own_function() {
    let source = include_str!("mod.rs");
    let (_, compare) = source.split_once("impl PartialEq for Hash").unwrap();
    let (body, _) = compare.split_once("\n}").unwrap();
    assert!(body.contains("constant_time::verify_slices_are_equal"), "{body}");
    let (before, _) = source.split_once("pub struct Hash(").unwrap();
    let derived = before.lines().rev().find(|line| line.starts_with("#[derive")).unwrap();
    assert!(!derived.contains("PartialEq"), "{derived}");
}
