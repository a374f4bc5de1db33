//! Histories written by hand, right ones and wrong ones.

use super::account::Answer::{Done, Issued, Refused, WrongPassword};
use super::account::Op::{ChangePassword, Disable, Enable, EndAll, EndOthers, Login, Logout, Refresh};
use super::account::{Answer, Op, Token};
use super::record::{History, Operation};

/// The tokens of session 0, and those of session 1.
const A: [Token; 4] = [token(0, 1, 0), token(0, 2, 1), token(0, 3, 2), token(0, 4, 3)];
const B: [Token; 2] = [token(1, 1, 10), token(1, 2, 11)];
/// Another second token of session 0.
const FORK: Token = token(0, 2, 20);
/// The first token of a session that a login opens.
const C: Token = token(2, 1, 30);

const fn token(session: usize, generation: u64, text: usize) -> Token {
    Token { session, generation, text }
}

const fn refresh(token: Token, attempt: usize) -> Op {
    Refresh { token, attempt }
}

const fn change(kept: usize, current: usize, new: usize) -> Op {
    ChangePassword { kept, current, new }
}

/// An operation from one moment to another. Without an answer, its client knows nothing.
fn told(op: Op, answer: impl Into<Option<Answer>>, begun: usize, ended: usize) -> Operation {
    let answer = answer.into();
    Operation { client: 0, op, begun, ended: Some(ended), answer, is_repeated: false, may_arrive_late: false }
}

fn history(operations: Vec<Operation>) -> History {
    History { first: vec![A[0], B[0]], operations, calls: Vec::new() }
}

/// Whether operations may be answered so, each begun when the one before had ended.
fn may_follow(steps: &[(Op, Answer)]) -> bool {
    let steps = steps.iter().enumerate();
    history(steps.map(|(number, (op, answer))| told(*op, *answer, 2 * number, 2 * number + 1)).collect())
        .is_linearizable()
}

#[test]
fn rf2_a_token_rotates_once_and_a_spent_one_ends_its_session() {
    let rotated = (refresh(A[0], 1), Issued(A[1]));
    assert!(may_follow(&[rotated, (refresh(A[1], 2), Issued(A[2])), (refresh(A[2], 3), Issued(A[3]))]));
    assert!(may_follow(&[rotated, (refresh(A[0], 2), Refused), (refresh(A[1], 3), Refused)]));
    assert!(may_follow(&[rotated, (refresh(A[0], 2), Refused), (refresh(B[0], 3), Issued(B[1]))]));
    assert!(!may_follow(&[rotated, (refresh(A[0], 2), Issued(A[1]))]));
    assert!(!may_follow(&[rotated, (refresh(A[0], 2), Issued(FORK))]));
    assert!(!may_follow(&[rotated, (refresh(A[0], 2), Refused), (refresh(A[1], 3), Issued(A[2]))]));
    assert!(!may_follow(&[(refresh(A[0], 1), Refused)]), "nothing had ended the session");
    assert!(!may_follow(&[(refresh(A[0], 1), Issued(A[0]))]), "a token is not its own successor");
    assert!(!may_follow(&[(refresh(A[0], 1), Issued(B[1]))]));
    assert!(!may_follow(&[(refresh(A[0], 1), Issued(A[2]))]));
}

#[test]
fn rf5_the_same_attempt_gets_the_same_token_until_the_next_rotation() {
    let rotated = (refresh(A[0], 1), Issued(A[1]));
    assert!(may_follow(&[rotated, rotated, rotated]));
    assert!(!may_follow(&[rotated, (refresh(A[0], 1), Issued(FORK))]));
    assert!(!may_follow(&[rotated, (refresh(A[0], 1), Refused)]));
    let next = (refresh(A[1], 2), Issued(A[2]));
    assert!(may_follow(&[rotated, next, (refresh(A[0], 1), Refused), (refresh(A[2], 3), Refused)]));
    assert!(!may_follow(&[rotated, next, rotated]));
}

#[test]
fn rf7_what_has_ended_is_refused_and_what_is_kept_is_not() {
    for (end, ends_a, ends_b) in [
        (Logout { session: 0 }, true, false),
        (EndAll, true, true),
        (EndOthers { kept: 0 }, false, true),
        (change(1, 0, 1), true, false),
        (Disable, true, true),
    ] {
        for (has_ended, alive, answers) in [(ends_a, A[0], A[1]), (ends_b, B[0], B[1])] {
            let after = |answer| may_follow(&[(end, Done), (Enable, Done), (refresh(alive, 1), answer)]);
            assert_eq!((after(Refused), after(Issued(answers))), (has_ended, !has_ended), "{end}: {alive}");
        }
    }
    assert!(!may_follow(&[(Disable, Done), (refresh(A[0], 1), Issued(A[1]))]));
}

#[test]
fn rf7_a_session_that_has_ended_keeps_nothing() {
    for end in [Logout { session: 0 }, EndOthers { kept: 1 }, EndAll] {
        for keep in [EndOthers { kept: 0 }, change(0, 0, 1)] {
            assert!(may_follow(&[(end, Done), (keep, Refused)]));
            assert!(!may_follow(&[(end, Done), (keep, Done)]));
            assert!(!may_follow(&[(keep, Refused)]));
        }
        // Its access token is good until it expires.
        assert!(may_follow(&[(end, Done), (EndAll, Done)]));
    }
    assert!(may_follow(&[(Disable, Done), (EndAll, Refused)]));
    assert!(!may_follow(&[(Disable, Done), (EndAll, Done)]));
}

#[test]
fn pw8_a_login_needs_the_password_of_its_time() {
    let login = |password| Login { password };
    assert!(may_follow(&[(login(0), Issued(C)), (refresh(C, 1), Issued(token(2, 2, 31)))]));
    assert!(may_follow(&[(change(0, 0, 1), Done), (login(0), Refused), (login(1), Issued(C))]));
    assert!(may_follow(&[(change(0, 1, 2), WrongPassword), (login(0), Issued(C))]));
    assert!(may_follow(&[(Disable, Done), (login(0), Refused), (Enable, Done), (login(0), Issued(C))]));
    assert!(!may_follow(&[(login(0), Refused)]));
    assert!(!may_follow(&[(login(1), Issued(C))]));
    assert!(!may_follow(&[(change(0, 0, 1), Done), (login(0), Issued(C))]));
    assert!(!may_follow(&[(change(0, 0, 1), WrongPassword)]));
    assert!(!may_follow(&[(change(0, 1, 2), Done)]));
    assert!(!may_follow(&[(Disable, Done), (login(0), Issued(C))]));
    assert!(!may_follow(&[(login(0), Issued(C)), (EndAll, Done), (refresh(C, 1), Issued(token(2, 2, 31)))]));
}

#[test]
fn rf7_operations_at_the_same_time_take_effect_in_either_order() {
    let together = |answer| history(vec![told(EndAll, Done, 0, 3), told(refresh(A[0], 1), answer, 1, 2)]);
    assert!(together(Issued(A[1])).is_linearizable());
    assert!(together(Refused).is_linearizable());
    let after = |answer| history(vec![told(EndAll, Done, 0, 1), told(refresh(A[0], 1), answer, 2, 3)]);
    assert!(!after(Issued(A[1])).is_linearizable());
    let before = |answer| history(vec![told(refresh(A[0], 1), answer, 0, 1), told(EndAll, Done, 2, 3)]);
    assert!(!before(Refused).is_linearizable());
    // Of two refreshes without a key, one is issued tokens.
    let two = |one, other| history(vec![told(refresh(A[0], 1), one, 0, 3), told(refresh(A[0], 2), other, 1, 2)]);
    assert!(two(Issued(A[1]), Refused).is_linearizable());
    assert!(!two(Issued(A[1]), Issued(A[1])).is_linearizable());
    assert!(!two(Refused, Refused).is_linearizable());
}

#[test]
fn re2_what_was_not_answered_took_effect_or_not_but_not_after_its_end() {
    let then = |op, answer| history(vec![told(refresh(A[0], 1), None, 0, 1), told(op, answer, 2, 3)]);
    assert!(then(refresh(A[0], 1), Issued(A[1])).is_linearizable());
    assert!(then(refresh(A[0], 2), Issued(A[1])).is_linearizable(), "the first was not carried out");
    assert!(then(refresh(A[0], 2), Refused).is_linearizable(), "the first was carried out");
    assert!(!then(refresh(A[0], 1), Refused).is_linearizable());
    let lost_logout = |may_arrive_late| {
        let logout = Operation { may_arrive_late, ..told(Logout { session: 0 }, None, 0, 1) };
        let refreshed = told(refresh(A[0], 1), Issued(A[1]), 2, 3);
        history(vec![logout, refreshed, told(refresh(A[1], 2), Refused, 4, 5)])
    };
    assert!(!lost_logout(false).is_linearizable());
    assert!(lost_logout(true).is_linearizable());
}

/// A refresh that has rotated reads the user after all sessions were ended. Meanwhile its
/// token counts as spent.
#[test]
fn rf7_a_refresh_that_is_refused_may_have_rotated_if_sessions_were_ended_meanwhile() {
    let refreshes = || vec![told(refresh(A[0], 1), Refused, 0, 5), told(refresh(A[0], 2), Refused, 1, 2)];
    let with = |end| history(refreshes().into_iter().chain([end]).collect()).is_linearizable();
    assert!(with(told(EndAll, Done, 3, 4)));
    assert!(!with(told(EndAll, Done, 6, 7)));
    assert!(!with(told(Logout { session: 1 }, Done, 3, 4)));
    assert!(!history(refreshes()).is_linearizable());
}

/// The answer to its write was lost, and another client found the token spent before the SDK
/// repeated it.
#[test]
fn rf7_a_refresh_that_is_refused_may_have_rotated_if_its_write_was_repeated() {
    let repeated = |is_repeated| {
        let refused = Operation { is_repeated, ..told(refresh(A[0], 1), Refused, 0, 3) };
        history(vec![refused, told(refresh(A[0], 2), Refused, 1, 2)]).is_linearizable()
    };
    assert!(repeated(true));
    assert!(!repeated(false));
}

#[test]
fn the_shortest_beginning_ends_with_the_first_wrong_answer() {
    let steps = vec![
        told(refresh(A[0], 1), Issued(A[1]), 0, 1),
        told(Logout { session: 0 }, Done, 2, 3),
        told(refresh(A[1], 2), Issued(A[2]), 4, 5),
        told(refresh(B[0], 3), Issued(B[1]), 6, 7),
    ];
    let shortest = history(steps).shortest();
    assert_eq!(shortest.operations.len(), 3);
    let told = shortest.told();
    assert!(told.ends_with("client 0 is done: issued token 3 of session 0 (text 2)\n"), "{told}");
}
