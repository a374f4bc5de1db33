//! Rules with one fault each. A promise that no fault breaks would prove nothing.

use std::time::Duration;

use super::promises::*;
use super::scenarios::*;
use super::{Event, Rules, SHIPPED, Scenario, hash};
use crate::session::{Attempt, Decision, Issue, Refusal, Rotation, Session, decide};
use crate::user::UserState;
use crate::write::Write;

/// A description of the fault, the rules with it, a scenario that reveals it, and the
/// promise that it breaks.
type Fault = (&'static str, Rules, Scenario, Promise);

const MOMENT: Duration = Duration::from_millis(1);

const fn rotating(may_rotate: fn(&Attempt, &Session) -> bool) -> Rules {
    Rules { may_rotate, ..SHIPPED }
}

const fn deciding(decide: fn(&Attempt, Rotation, Option<UserState>) -> Decision) -> Rules {
    Rules { decide, ..SHIPPED }
}

/// The outcome of a write, with the session that refused it altered.
fn met(write: Rotation, alter: fn(Session) -> Session) -> Rotation {
    match write {
        Write::Refused(session) => Write::Refused(session.map(alter)),
        done => done,
    }
}

fn is_within_interval(attempt: &Attempt, session: &Session) -> bool {
    session.rotated_at + attempt.reuse_interval >= attempt.now
}

fn assert_each_is_found(faults: &[Fault]) {
    for (fault, rules, scenario, promise) in faults {
        let name = promise().name;
        assert!(scenario.promises.iter().any(|kept| kept().name == name), "not explored without a fault: {name}");
        assert!(is_broken(Scenario { rules: *rules, ..*scenario }, *promise), "{fault}: not revealed by {name}");
    }
}

#[test]
fn every_fault_in_the_condition_of_the_write_is_found() {
    assert_each_is_found(&[
        (
            "RF1: the generation is ignored",
            rotating(|attempt, session| {
                let generation = session.generation.min(attempt.generation);
                attempt.may_rotate(&Session { generation, ..session.clone() })
            }),
            KEYLESS_THEFT,
            the_chain_never_forks,
        ),
        (
            "RF2: the predecessor rotates too",
            rotating(|attempt, session| {
                attempt.may_rotate(&Session { generation: session.generation - 1, ..session.clone() })
            }),
            THEFT,
            the_thief_and_the_client_never_both_go_on,
        ),
        (
            "RF3: a rotation does not wait for the interval",
            rotating(|attempt, session| {
                Attempt { reuse_interval: Duration::ZERO, ..attempt.clone() }.may_rotate(session)
            }),
            BURST,
            nobody_is_signed_out,
        ),
        (
            "RF3: the first rotation waits for the interval",
            rotating(|attempt, session| {
                attempt.may_rotate(session)
                    && (attempt.reuse_interval.is_zero() || !is_within_interval(attempt, session))
            }),
            BURST,
            the_table_holds_what_it_can,
        ),
        (
            "RF3: the first rotation waits, and the login's token is answered with itself",
            Rules {
                may_rotate: |attempt, session| {
                    attempt.may_rotate(session)
                        && (attempt.reuse_interval.is_zero() || !is_within_interval(attempt, session))
                },
                decide: |attempt, write, user| match decide(attempt, write.clone(), user) {
                    Decision::Impossible => match write {
                        Write::Refused(Some(session)) => Decision::Issue { session, how: Issue::Shared },
                        _ => Decision::Impossible,
                    },
                    decision => decision,
                },
                ..SHIPPED
            },
            BURST,
            a_token_is_answered_with_its_successor,
        ),
        (
            "RF7: a session that reuse ended rotates",
            rotating(|attempt, session| attempt.may_rotate(&Session { revoked_at: None, ..session.clone() })),
            THEFT,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF8: a session rotates at the moment of its end",
            rotating(|attempt, session| {
                attempt.may_rotate(&Session { expires_at: session.expires_at + MOMENT, ..session.clone() })
            }),
            EXPIRY,
            no_refresh_outlives_the_session,
        ),
        (
            "RF17: `=` instead of `<=`",
            rotating(|attempt, session| session.generation == attempt.generation && attempt.may_rotate(session)),
            RESTORE,
            the_table_holds_what_it_can,
        ),
        (
            "RF17: `=` instead of `<=`, with an interval",
            rotating(|attempt, session| session.generation == attempt.generation && attempt.may_rotate(session)),
            INTERVAL_RESTORE,
            the_table_holds_what_it_can,
        ),
    ]);
}

#[test]
fn every_fault_in_the_answer_to_a_token_is_found() {
    let forgetting: Rules =
        deciding(|attempt, write, user| decide(&Attempt { key: hash(u8::MAX), ..attempt.clone() }, write, user));
    assert_each_is_found(&[
        (
            "RF2: reuse is refused, but the session lives on",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Revoke(_) => Decision::Refuse(Refusal::Revoked),
                decision => decision,
            }),
            THEFT,
            a_theft_is_found_when_both_have_refreshed,
        ),
        (
            "RF2: reuse is answered",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Revoke(session) => Decision::Issue { session, how: Issue::Shared },
                decision => decision,
            }),
            KEYLESS_THEFT,
            the_thief_and_the_client_never_both_go_on,
        ),
        (
            "RF3: an interval of zero lasts for a moment",
            deciding(|attempt, write, user| {
                let reuse_interval = attempt.reuse_interval.max(MOMENT);
                decide(&Attempt { reuse_interval, ..attempt.clone() }, write, user)
            }),
            THEFT,
            a_rotation_is_shared_within_the_interval_alone,
        ),
        (
            "RF3: nothing is shared within the interval",
            deciding(|attempt, write, user| {
                decide(&Attempt { reuse_interval: Duration::ZERO, ..attempt.clone() }, write, user)
            }),
            BURST,
            nobody_is_signed_out,
        ),
        (
            "RF3: a token in force is not answered with itself",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Issue { session, .. } if session.generation == attempt.generation => Decision::Impossible,
                decision => decision,
            }),
            BURST,
            the_table_holds_what_it_can,
        ),
        (
            "RF4: the interval is for every predecessor",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Revoke(session) if is_within_interval(attempt, &session) => {
                    Decision::Issue { session, how: Issue::Shared }
                }
                decision => decision,
            }),
            INTERVAL_THEFT,
            a_token_is_answered_with_its_successor,
        ),
        (
            "RF5: the interval lasts twice as long",
            deciding(|attempt, write, user| {
                decide(&Attempt { reuse_interval: attempt.reuse_interval * 2, ..attempt.clone() }, write, user)
            }),
            INTERVAL_THEFT,
            a_rotation_is_shared_within_the_interval_alone,
        ),
        (
            "RF5: an attempt is recognised only within the interval",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Issue { session, how: Issue::Repeated } if !is_within_interval(attempt, &session) => {
                    Decision::Revoke(session)
                }
                decision => decision,
            }),
            PATIENT,
            nobody_is_signed_out,
        ),
        ("RF6: the SDK's repetition is not recognised", forgetting, SDK, nobody_is_signed_out),
        ("the client's retry is not recognised", forgetting, KEY, nobody_is_signed_out),
        ("RF15: and so raises an alarm", forgetting, KEY, no_alarm_is_raised),
        ("requests with one pair are not one attempt", forgetting, MIDDLEWARE, nobody_is_signed_out),
        (
            "RF7: the decision ignores that reuse ended the session",
            deciding(|attempt, write, user| {
                decide(attempt, met(write, |session| Session { revoked_at: None, ..session }), user)
            }),
            THEFT,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF8: an answer is given again at the moment of the end",
            deciding(|attempt, write, user| {
                let write = met(write, |session| Session { expires_at: session.expires_at + MOMENT, ..session });
                decide(attempt, write, user)
            }),
            EXPIRY,
            no_refresh_outlives_the_session,
        ),
        (
            "RF17: a session that is behind its token is refused",
            Rules {
                may_rotate: |attempt, session| session.generation == attempt.generation && attempt.may_rotate(session),
                decide: |attempt, write, user| match decide(attempt, write, user) {
                    Decision::Impossible => Decision::Refuse(Refusal::Ended),
                    decision => decision,
                },
                ..SHIPPED
            },
            RESTORE,
            nobody_is_signed_out,
        ),
    ]);
}

#[test]
fn every_fault_in_what_is_asked_of_the_user_is_found() {
    let blind: Rules =
        deciding(|attempt, write, _| decide(attempt, write, Some(UserState { is_active: true, epoch: 0 })));
    let disabling = Scenario { events: &[Event::Disabling], ..ENDING };
    assert_each_is_found(&[
        ("RF7: nothing is asked", blind, ENDING, a_refresh_after_a_revocation_fails),
        (
            "RF10: only whether the user is active is checked",
            deciding(|attempt, write, user| decide(attempt, write, user.map(|user| UserState { epoch: 0, ..user }))),
            disabling,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF10: a deleted user is not treated as locked",
            deciding(|attempt, write, user| {
                decide(attempt, write, user.or(Some(UserState { is_active: true, epoch: 0 })))
            }),
            ENDING,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF7: the epochs are compared the wrong way round",
            deciding(|attempt, write, user| match decide(attempt, write, None) {
                Decision::Discard { session, .. } => match user {
                    Some(user) if user.is_active && session.epoch <= user.epoch => {
                        Decision::Issue { session, how: Issue::Rotated }
                    }
                    user => Decision::Discard { session, user },
                },
                decision => decision,
            }),
            ENDING,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF7: a session of the wrong epoch is refused without asking the table again",
            deciding(|attempt, write, user| match decide(attempt, write, user) {
                Decision::Discard { .. } => Decision::Refuse(Refusal::UserLocked),
                decision => decision,
            }),
            PASSWORD_CHANGE,
            nobody_is_signed_out,
        ),
    ]);
}

#[test]
fn every_fault_in_the_conditions_of_the_other_writes_is_found() {
    assert_each_is_found(&[
        (
            "RF7: a session is discarded even if a password change kept it",
            Rules { may_discard: |_, _| true, ..SHIPPED },
            PASSWORD_CHANGE,
            the_kept_session_lives,
        ),
        (
            "RF7: a session is never discarded",
            Rules { may_discard: |_, _| false, ..SHIPPED },
            ENDING,
            a_refresh_after_a_revocation_fails,
        ),
        (
            "RF7: a password change ignores the user's epoch",
            Rules { may_keep: |read, _, session, now| session.epoch == read && session.is_open(now), ..SHIPPED },
            CONTESTED_CHANGE,
            what_has_ended_stays_ended,
        ),
        (
            "RF7: a password change ignores the session's epoch",
            Rules { may_keep: |read, user, session, now| user.epoch == read && session.is_open(now), ..SHIPPED },
            CONTESTED_CHANGE,
            what_has_ended_stays_ended,
        ),
    ]);
}
