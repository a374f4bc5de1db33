//! The promises of docs/rotation.md, as predicates over one state of a world.

use stateright::Property;

use super::{Note, Scenario, World};

/// What a scenario explores: a promise, or a state that must be reachable.
pub(super) type Promise = fn() -> Property<Scenario>;

/// RF1: one write decides, and everybody who is answered gets the same successor.
pub(super) fn the_chain_never_forks() -> Property<Scenario> {
    Property::always("the chain never forks", |_, world: &World| !world.has(Note::Fork))
}

/// RF3, RF4: the interval is for the immediate predecessor only, and begins with
/// the first rotation.
pub(super) fn a_token_is_answered_with_its_successor() -> Property<Scenario> {
    Property::always("token n is answered with n+1, or with n inside the interval", |_, world: &World| {
        !world.has(Note::Stray)
    })
}

/// RF3, RF5: the interval is never longer than configured.
pub(super) fn a_rotation_is_shared_within_the_interval_alone() -> Property<Scenario> {
    Property::always("a rotation is shared within the interval alone", |_, world: &World| !world.has(Note::LateShare))
}

/// RF6, and the main promise: a client that follows the rules stays signed in.
pub(super) fn nobody_is_signed_out() -> Property<Scenario> {
    Property::always("nobody is signed out", |_, world: &World| world.holders.iter().all(|holder| !holder.is_out))
}

/// RF15: only theft raises the alarm.
pub(super) fn no_alarm_is_raised() -> Property<Scenario> {
    Property::always("no alarm is raised", |_, world: &World| !world.has(Note::Reuse))
}

/// RF2: of two parties that hold one token, at most one gets beyond it.
pub(super) fn the_thief_and_the_client_never_both_go_on() -> Property<Scenario> {
    Property::always("the thief and the client never both go on", |_, world: &World| {
        both_went_beyond(world, world.stolen)
    })
}

/// The same if the thief has the access token as well, and so can join the next
/// attempt. Then at most one of them gets beyond the rotation after it.
pub(super) fn the_thief_and_the_client_never_both_go_on_twice() -> Property<Scenario> {
    Property::always("the thief and the client never both go on twice", |_, world: &World| {
        both_went_beyond(world, world.stolen + 1)
    })
}

fn both_went_beyond(world: &World, token: u8) -> bool {
    world.stolen == 0 || world.holders.iter().any(|holder| holder.issued <= token)
}

/// RF2: the session has ended by the time that both have presented the stolen token
/// or a successor of it.
pub(super) fn a_theft_is_found_when_both_have_refreshed() -> Property<Scenario> {
    Property::always("a theft is found when both have refreshed", |_, world: &World| {
        world.stolen == 0 || world.holders.iter().any(|holder| holder.answered < world.stolen) || !world.is_alive()
    })
}

/// RF7, RF10: a revocation is a logout, reuse, ending all sessions, disabling or
/// deletion.
pub(super) fn a_refresh_after_a_revocation_fails() -> Property<Scenario> {
    Property::always("no refresh that began after a revocation returned succeeds", |_, world: &World| {
        !world.has(Note::Revival)
    })
}

/// RF7, RF10: no session revives itself, and enabling a user revives none.
pub(super) fn what_has_ended_stays_ended() -> Property<Scenario> {
    Property::always("what has ended stays ended", |_, world: &World| !world.is_over || !world.is_alive())
}

/// RF7: the kept session lives in every order of the refreshes that run meanwhile.
pub(super) fn the_kept_session_lives() -> Property<Scenario> {
    Property::always("the session that a password change keeps lives", |_, world: &World| {
        !world.is_kept || world.is_over || world.is_alive()
    })
}

/// RF8: the condition of the write checks the end; nothing relies on a sweep.
pub(super) fn no_refresh_outlives_the_session() -> Property<Scenario> {
    Property::always("no refresh outlives the session", |_, world: &World| !world.has(Note::Outlived))
}

/// RF17: an authentic token is ahead of the table, current or spent, and nothing
/// else.
pub(super) fn the_table_holds_what_it_can() -> Property<Scenario> {
    Property::always("the table never holds what it cannot", |_, world: &World| !world.has(Note::Impossible))
}

/// A spent token is detected.
pub(super) fn reuse_is_reached() -> Property<Scenario> {
    Property::sometimes("reuse is found", |_, world: &World| world.has(Note::Reuse))
}

/// A lost answer is given again.
pub(super) fn a_repeat_is_reached() -> Property<Scenario> {
    Property::sometimes("a rotation is answered again", |_, world: &World| world.has(Note::Repeat))
}

/// A lost answer is given again after the interval.
pub(super) fn a_late_repeat_is_reached() -> Property<Scenario> {
    Property::sometimes("a rotation is answered again much later", |_, world: &World| world.has(Note::LateRepeat))
}

/// Two attempts share a rotation.
pub(super) fn a_share_is_reached() -> Property<Scenario> {
    Property::sometimes("a rotation is shared", |_, world: &World| world.has(Note::Share))
}

/// The delete of [`super::Decision::Discard`] finds a session that a password change
/// has kept.
pub(super) fn a_lift_is_reached() -> Property<Scenario> {
    Property::sometimes("a session to be discarded has been lifted", |_, world: &World| world.has(Note::Lift))
}

/// A restored table is pulled forward.
pub(super) fn a_pull_forward_is_reached() -> Property<Scenario> {
    Property::sometimes("a token ahead of the table is accepted", |_, world: &World| world.has(Note::PullForward))
}

/// A user is disabled and enabled again, and a refresh of the old session is refused.
pub(super) fn a_try_after_enabling_is_reached() -> Property<Scenario> {
    Property::sometimes("a refresh is refused after the user was enabled again", |_, world: &World| {
        world.has(Note::Enabling) && world.user.is_some_and(|user| user.is_active) && world.holders[0].is_out
    })
}

/// A session expires.
pub(super) fn a_refusal_at_the_end_is_reached() -> Property<Scenario> {
    Property::sometimes("a refresh is refused at the session's end", |_, world: &World| {
        world.holders[0].is_out && world.row.is_some_and(|row| row.expires_at == world.tick)
    })
}
