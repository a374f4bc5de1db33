//! The worlds that are explored, each as small as its promises allow.

use stateright::{Checker, HasDiscoveries, Model};

use super::promises::*;
use super::{Event, Keys, LONG, SHIPPED, Scenario};

/// The base of the other scenarios: a client with a key, and no events.
const STILL: Scenario = Scenario {
    rules: SHIPPED,
    holders: &[Keys::Kept],
    interval: 0,
    idle: LONG,
    events: &[],
    flights: 2,
    last_token: 2,
    attempts: 6,
    ticks: 0,
    promises: &[],
};

/// A client with a key, in several tabs, while messages are lost or delivered twice and
/// writes are repeated.
pub(super) const KEY: Scenario = Scenario {
    events: &[Event::Loss, Event::Doubling, Event::Unheard],
    flights: 4,
    last_token: 4,
    promises: &[
        nobody_is_signed_out,
        no_alarm_is_raised,
        the_chain_never_forks,
        a_token_is_answered_with_its_successor,
        the_table_holds_what_it_can,
        a_repeat_is_reached,
    ],
    ..STILL
};

/// The same client, which presents a token again much later.
pub(super) const PATIENT: Scenario = Scenario {
    events: &[Event::Loss, Event::Time],
    ticks: 5,
    promises: &[
        nobody_is_signed_out,
        no_alarm_is_raised,
        the_chain_never_forks,
        the_table_holds_what_it_can,
        a_late_repeat_is_reached,
    ],
    ..STILL
};

/// A client without a key, one request at a time, whose writes the SDK repeats.
pub(super) const SDK: Scenario = Scenario {
    holders: &[Keys::Fresh],
    events: &[Event::Unheard],
    flights: 1,
    last_token: 3,
    promises: &[nobody_is_signed_out, no_alarm_is_raised, the_chain_never_forks, a_repeat_is_reached],
    ..STILL
};

/// The middleware: parallel requests with one pair.
pub(super) const MIDDLEWARE: Scenario = Scenario {
    holders: &[Keys::Pair],
    events: &[Event::Loss, Event::Doubling],
    flights: 3,
    promises: &[nobody_is_signed_out, no_alarm_is_raised, the_chain_never_forks, a_repeat_is_reached],
    ..STILL
};

/// Two tabs without a key that do not share their tokens. Each burst of refreshes is
/// within the interval.
pub(super) const BURST: Scenario = Scenario {
    holders: &[Keys::Fresh, Keys::Fresh],
    interval: 1,
    events: &[Event::Pause],
    ticks: 3,
    promises: &[
        nobody_is_signed_out,
        no_alarm_is_raised,
        the_chain_never_forks,
        a_token_is_answered_with_its_successor,
        a_rotation_is_shared_within_the_interval_alone,
        the_table_holds_what_it_can,
        a_share_is_reached,
    ],
    ..STILL
};

/// A client with a key, and a thief with one of its tokens.
pub(super) const THEFT: Scenario = Scenario {
    holders: &[Keys::Kept, Keys::Fresh],
    events: &[Event::Loss, Event::Theft],
    last_token: 3,
    attempts: 4,
    promises: &[
        the_thief_and_the_client_never_both_go_on,
        a_theft_is_found_when_both_have_refreshed,
        a_refresh_after_a_revocation_fails,
        what_has_ended_stays_ended,
        the_chain_never_forks,
        a_token_is_answered_with_its_successor,
        a_rotation_is_shared_within_the_interval_alone,
        reuse_is_reached,
    ],
    ..STILL
};

/// A client without a key, and a thief.
pub(super) const KEYLESS_THEFT: Scenario = Scenario { holders: &[Keys::Fresh, Keys::Fresh], ..THEFT };

/// A thief who stole both tokens of a pair, and joins the client's attempt.
pub(super) const PAIR_THEFT: Scenario = Scenario {
    holders: &[Keys::Pair, Keys::Pair],
    events: &[Event::Theft],
    last_token: 3,
    promises: &[the_thief_and_the_client_never_both_go_on_twice, the_chain_never_forks, reuse_is_reached],
    ..STILL
};

/// A client and a thief, with an interval, while time passes.
pub(super) const INTERVAL_THEFT: Scenario = Scenario {
    holders: &[Keys::Kept, Keys::Fresh],
    interval: 1,
    events: &[Event::Time, Event::Theft],
    attempts: 4,
    ticks: 3,
    promises: &[
        a_refresh_after_a_revocation_fails,
        the_chain_never_forks,
        a_token_is_answered_with_its_successor,
        a_rotation_is_shared_within_the_interval_alone,
        the_table_holds_what_it_can,
        reuse_is_reached,
        a_share_is_reached,
    ],
    ..STILL
};

/// All the ways in which a user or an operator ends a session.
pub(super) const ENDING: Scenario = Scenario {
    events: &[Event::Loss, Event::Logout, Event::Everywhere, Event::Disabling, Event::Deletion],
    promises: &[
        a_refresh_after_a_revocation_fails,
        what_has_ended_stays_ended,
        no_alarm_is_raised,
        the_chain_never_forks,
        a_try_after_enabling_is_reached,
    ],
    ..STILL
};

/// A password change that keeps the session.
pub(super) const PASSWORD_CHANGE: Scenario = Scenario {
    events: &[Event::Loss, Event::Unheard, Event::PasswordChange],
    flights: 3,
    promises: &[the_kept_session_lives, nobody_is_signed_out, the_chain_never_forks, a_lift_is_reached],
    ..STILL
};

/// The same, while others end the session.
pub(super) const CONTESTED_CHANGE: Scenario = Scenario {
    events: &[Event::PasswordChange, Event::Logout, Event::Everywhere, Event::Disabling],
    promises: &[what_has_ended_stays_ended, a_refresh_after_a_revocation_fails, the_kept_session_lives],
    ..STILL
};

/// A session that nobody uses for its idle lifetime.
pub(super) const EXPIRY: Scenario = Scenario {
    idle: 2,
    events: &[Event::Loss, Event::Time],
    ticks: 5,
    promises: &[no_refresh_outlives_the_session, the_chain_never_forks, a_refusal_at_the_end_is_reached],
    ..STILL
};

/// A table that is restored while a client with a key uses it.
pub(super) const RESTORE: Scenario = Scenario {
    events: &[Event::Loss, Event::Doubling, Event::Restore],
    last_token: 3,
    promises: &[nobody_is_signed_out, the_table_holds_what_it_can, a_pull_forward_is_reached],
    ..STILL
};

/// The same with an interval, while time passes.
pub(super) const INTERVAL_RESTORE: Scenario =
    Scenario { interval: 1, events: &[Event::Restore, Event::Time], last_token: 2, ticks: 4, ..RESTORE };

/// Explores all of `scenario`, and checks that every promise holds and that every
/// state that must be reachable is reached.
fn explore(scenario: Scenario) {
    scenario.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join().assert_properties();
}

/// Whether `scenario` has a state in which `promise` does not hold.
pub(super) fn is_broken(scenario: Scenario, promise: Promise) -> bool {
    let name = promise().name;
    let promises: &'static [Promise] = Box::leak(Box::new([promise]));
    Scenario { promises, ..scenario }.checker().spawn_bfs().join().discovery(name).is_some()
}

#[test]
fn rf5_a_client_with_a_key_is_never_signed_out() {
    explore(KEY);
}

#[test]
fn a_client_with_a_key_that_begins_the_next_rotation_too_early_can_be_signed_out() {
    let hasty = Scenario { events: &[Event::Doubling, Event::Straggling], ..KEY };
    assert!(is_broken(hasty, nobody_is_signed_out));
}

#[test]
fn a_client_that_drops_its_key_before_it_has_a_new_token_can_be_signed_out() {
    let forgetful = Scenario { interval: 1, events: &[Event::Forgetting, Event::Loss, Event::Time], ..PATIENT };
    assert!(is_broken(forgetful, nobody_is_signed_out));
}

#[test]
fn rf5_an_attempt_is_recognised_at_any_time() {
    for interval in [0, 1] {
        explore(Scenario { interval, ..PATIENT });
    }
}

#[test]
fn rf6_a_write_that_the_sdk_repeats_is_one_rotation() {
    explore(SDK);
}

#[test]
fn requests_of_the_middleware_with_one_pair_are_one_attempt() {
    explore(MIDDLEWARE);
}

#[test]
fn rf3_a_burst_without_a_key_within_the_interval_is_not_signed_out() {
    explore(BURST);
}

#[test]
fn rf2_a_burst_without_a_key_is_a_replay_if_the_interval_is_zero() {
    assert!(is_broken(Scenario { interval: 0, ..BURST }, nobody_is_signed_out));
}

#[test]
fn rf2_a_theft_is_found_at_the_latest_by_the_next_rotation_of_either() {
    explore(THEFT);
}

#[test]
fn rf2_a_theft_from_a_client_without_a_key_is_found_as_well() {
    explore(KEYLESS_THEFT);
}

#[test]
fn rf2_a_theft_of_both_tokens_is_found_one_rotation_later() {
    explore(PAIR_THEFT);
    assert!(is_broken(PAIR_THEFT, the_thief_and_the_client_never_both_go_on));
}

#[test]
fn rf4_the_interval_is_for_the_immediate_predecessor_and_never_extended() {
    explore(INTERVAL_THEFT);
}

#[test]
fn a_thief_within_the_interval_is_not_noticed() {
    assert!(is_broken(INTERVAL_THEFT, the_thief_and_the_client_never_both_go_on));
}

#[test]
fn rf7_rf10_rf15_what_was_ended_stays_ended_without_an_alarm() {
    explore(ENDING);
}

#[test]
fn rf7_the_session_that_a_password_change_keeps_lives_in_every_order() {
    explore(PASSWORD_CHANGE);
}

#[test]
fn rf7_a_session_that_was_just_ended_cannot_lift_itself() {
    explore(CONTESTED_CHANGE);
}

#[test]
fn rf8_no_refresh_outlives_its_session() {
    explore(EXPIRY);
}

#[test]
fn rf17_a_restored_table_is_pulled_forward() {
    explore(RESTORE);
}

#[test]
fn rf17_a_restored_table_is_pulled_forward_with_an_interval_too() {
    explore(INTERVAL_RESTORE);
}
