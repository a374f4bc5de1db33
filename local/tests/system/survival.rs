//! What happens to the functions from outside: events that are delivered twice, invocations
//! that end in the middle, processes that are frozen, and clocks that jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freshkey::Timestamp;
use http::StatusCode;
use tokio::sync::Notify;

use crate::faults::{Alice, MAX_SESSIONS, ROUTES, Route, What, check_unavailable};
use crate::mail;
use crate::wire::{Call, Fate};
use crate::world::{Delivery, Reply, User, World, claims, signed_up, signed_up_with};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Seconds, more than the deadline of a function that is as patient as those of the tests.
const FOREVER: u64 = 1000;
const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");

/// A world in which every route works.
async fn any_world() -> World {
    mail::mailing(&[("MAX_SESSIONS", &MAX_SESSIONS.to_string())]).await
}

fn delivered(world: &World, delivery: Delivery) -> World {
    World { delivery, ..world.clone() }
}

#[tokio::test]
async fn re6_every_route_bears_an_event_that_is_delivered_again() {
    let world = any_world().await;
    for Route { what, success, again, .. } in ROUTES {
        let alice = Alice::of(&world, what).await;
        let reply = alice.send(&delivered(&world, Delivery::Again), what).await;
        // A link is mailed to an address at most once a minute.
        let is_mailed = matches!(what, What::Verification | What::ChangeEmail);
        let again = if is_mailed { StatusCode::TOO_MANY_REQUESTS } else { again };
        assert_eq!(reply.status, again, "{what:?}: {}", reply.text);
        if again == success {
            alice.check(&world, what, &reply).await;
        }
    }
}

#[tokio::test]
async fn re6_every_route_bears_an_event_that_is_delivered_twice_at_once() {
    let world = any_world().await;
    for Route { what, success, .. } in ROUTES {
        let alice = Alice::of(&world, what).await;
        let reply = alice.send(&delivered(&world, Delivery::Twice), what).await;
        assert_eq!(reply.status, success, "{what:?}: {}", reply.text);
        alice.check(&world, what, &reply).await;
    }
}

/// Without an Idempotency-Key, the id of the Lambda request identifies the attempt.
#[tokio::test]
async fn re6_two_deliveries_of_one_refresh_without_a_key_are_one_rotation() {
    for delivery in [Delivery::Again, Delivery::Twice] {
        let (world, alice) = signed_up().await;
        let reply = delivered(&world, delivery).refresh(&alice.refresh_token).await.expect(StatusCode::OK);
        let successor = reply.text("refresh_token");
        assert_eq!(claims(&successor)["gen"], 2);
        assert!(world.is_alive(&successor).await);
    }
}

/// The functions have a deadline of their own, before that of Lambda, and do not ask for Lambda's.
#[tokio::test]
async fn re4_an_invocation_whose_deadline_has_passed_is_answered_as_any_other() {
    let world = any_world().await;
    for Route { what, success, .. } in ROUTES {
        let alice = Alice::of(&world, what).await;
        let reply = alice.send(&delivered(&world, Delivery::Overdue), what).await;
        assert_eq!(reply.status, success, "{what:?}: {}", reply.text);
        alice.check(&world, what, &reply).await;
    }
}

/// Lambda ends an invocation at its deadline, wherever it is: before a call to DynamoDB, or
/// between a write and its answer.
#[tokio::test]
async fn re5_an_invocation_that_ends_in_the_middle_leaves_nothing_half_done() {
    let world = any_world().await;
    for Route { what, calls, success, again } in ROUTES {
        for (index, operation) in calls.iter().enumerate() {
            let is_write = !matches!(*operation, "GetItem" | "Query");
            // Whether a read was executed makes no difference.
            for is_executed in [false, true].into_iter().filter(|is_executed| is_write || !is_executed) {
                let story = format!("{what:?}: ends at {operation}, executed: {is_executed}");
                let spared = calls[..index].iter().filter(|earlier| *earlier == operation).count();
                let alice = Alice::of(&world, what).await;
                let reached = Arc::new(Notify::new());
                world.wire.on_call(nth(operation, spared, is_executed, Arc::clone(&reached)));
                let overdue = delivered(&world, Delivery::Overdue);
                tokio::select! {
                    reply = alice.send(&overdue, what) => panic!("{story}: answered with {}", reply.status),
                    () = reached.notified() => {}
                }
                world.wire.heal();
                let reply = alice.send(&world, what).await;
                assert_eq!(reply.status, if is_executed { again } else { success }, "{story}: {}", reply.text);
                alice.check(&world, what, &reply).await;
            }
        }
    }
}

/// Stops the call `operation` that comes after `spared` others, and says when it was reached.
fn nth(
    operation: &'static str,
    spared: usize,
    is_executed: bool,
    reached: Arc<Notify>,
) -> impl Fn(Call) -> std::future::Ready<Fate> + Send + Sync + 'static {
    let seen = AtomicUsize::new(0);
    move |call| {
        let is_hit = call.operation == operation && seen.fetch_add(1, Ordering::Relaxed) == spared;
        std::future::ready(match (is_hit, is_executed) {
            (false, _) => Fate::Pass,
            (true, true) => Fate::Deaf(Arc::clone(&reached)),
            (true, false) => {
                reached.notify_one();
                Fate::Silence
            }
        })
    }
}

/// Freezes the process of a refresh before its write; meanwhile the client tries again in
/// another process, and goes on there if it `goes_on`. The first process is thawed after these
/// seconds. Returns its answer, and whether the newest token of the client is alive then.
async fn frozen(goes_on: bool, seconds: u64) -> (Reply, String, bool) {
    let (world, alice) = signed_up_with(&[SECRET]).await;
    let elsewhere = world.beside(&[SECRET]).await;
    let (reached, thawed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gate = (Arc::clone(&reached), Arc::clone(&thawed));
    world.wire.on_call(move |call| {
        let (reached, thawed) = gate.clone();
        async move {
            if call.operation == "UpdateItem" && !call.body["ExpressionAttributeValues"][":next"].is_null() {
                reached.notify_one();
                thawed.notified().await;
            }
            Fate::Pass
        }
    });
    let request = {
        let (world, token) = (world.clone(), alice.refresh_token.clone());
        tokio::spawn(async move { world.refresh_with_key(&token, "first").await })
    };
    reached.notified().await;
    let again = elsewhere.refresh_with_key(&alice.refresh_token, "first").await.expect(StatusCode::OK);
    let mut newest = again.text("refresh_token");
    if goes_on {
        newest = elsewhere.refresh_with_key(&newest, "second").await.expect(StatusCode::OK).text("refresh_token");
    }
    world.pass(seconds);
    thawed.notify_one();
    let reply = request.await.unwrap();
    let is_alive = elsewhere.is_alive(&newest).await;
    (reply, newest, is_alive)
}

#[tokio::test]
async fn re7_a_process_that_thaws_gives_the_successor_that_another_one_has_given() {
    for seconds in [0, FOREVER] {
        let (reply, newest, is_alive) = frozen(false, seconds).await;
        assert_eq!(reply.expect(StatusCode::OK).text("refresh_token"), newest);
        assert!(is_alive);
    }
}

/// The token is spent by then, but the client that sent it has long been told to try again.
#[tokio::test]
async fn re7_a_process_that_was_frozen_beyond_its_deadline_signs_nobody_out() {
    let (reply, _, is_alive) = frozen(true, FOREVER).await;
    check_unavailable(&reply, "thawed");
    assert!(is_alive);
}

/// A client must not begin its next rotation while a request of the one before is on its way.
#[tokio::test]
async fn re7_a_request_within_its_deadline_is_a_replay_if_the_client_has_gone_on() {
    let (reply, _, is_alive) = frozen(true, 0).await;
    reply.expect(StatusCode::UNAUTHORIZED);
    assert!(!is_alive);
}

/// Another system on the table of `world`, whose clock differs by these seconds. The table
/// deletes what has expired by the clock of `world`.
async fn astray(world: &World, seconds: i64) -> World {
    let other = world.beside(&[SECRET]).await;
    other.clock.set(shifted(world, seconds));
    other
}

fn shifted(world: &World, seconds: i64) -> Timestamp {
    Timestamp::from_seconds(world.now().seconds() + seconds)
}

/// A step of seconds, and jumps of an hour, to 1970, and to a time when every session has expired.
const JUMPS: [i64; 6] = [-130 * 365 * DAY, -HOUR, -5, 5, HOUR, 100 * 365 * DAY];

#[tokio::test]
async fn re8_no_route_breaks_and_no_session_is_lost_when_the_clock_jumps() {
    let world = mail::mailing(&[SECRET]).await;
    for seconds in JUMPS {
        let other = astray(&world, seconds).await;
        for what in [What::Refresh, What::RenewedMe, What::Login, What::Logout, What::EndOthers, What::ChangePassword] {
            let story = format!("{what:?} {seconds} s astray");
            let alice = Alice::of(&world, what).await;
            // Alice may have let an hour pass.
            other.clock.set(shifted(&world, seconds));
            let reply = alice.send(&other, what).await;
            // An access token from the future is refused, and so is every token that has expired.
            let is_refused = reply.status == StatusCode::UNAUTHORIZED && seconds.abs() > 5;
            assert!(reply.status.is_success() || is_refused, "{story}: {} {}", reply.status, reply.text);
            let newest = match what {
                What::Refresh if reply.status.is_success() => reply.text("refresh_token"),
                What::RenewedMe if reply.headers.contains_key("x-new-refresh-token") => {
                    reply.headers["x-new-refresh-token"].to_str().unwrap().to_owned()
                }
                _ => alice.phone.refresh_token.clone(),
            };
            // What the clock that is behind gave has expired by the other one.
            let has_expired = claims(&newest)["exp"].as_i64().unwrap() <= world.now().seconds();
            let has_ended = what == What::Logout && seconds < 30 * DAY;
            assert_eq!(world.is_alive(&newest).await, !has_expired && !has_ended, "{story}");
        }
    }
}

/// What an access token of a system with another clock is worth: the tolerance is five seconds.
#[tokio::test]
async fn re8_a_token_from_a_clock_that_differs_has_its_bounds_and_is_good_within_the_tolerance() {
    for seconds in [-40 * DAY, -HOUR, -HOUR + 1, -5, -1, 0, 1, 5, 6, HOUR, 29 * DAY, 30 * DAY, 181 * DAY] {
        let (world, alice) = signed_up_with(&[SECRET]).await;
        let other = astray(&world, seconds).await;
        let reply = other.refresh(&alice.refresh_token).await;
        if seconds >= 30 * DAY {
            reply.expect(StatusCode::UNAUTHORIZED);
            assert!(world.is_alive(&alice.refresh_token).await, "{seconds}");
            continue;
        }
        let reply = reply.expect(StatusCode::OK);
        let (access, refresh) = (reply.text("access_token"), reply.text("refresh_token"));
        let claim = |token: &str, name: &str| claims(token)[name].as_i64().unwrap();
        let (now, end) = (other.now().seconds(), claim(&alice.refresh_token, "abs"));
        assert_eq!(claim(&refresh, "abs"), end);
        assert_eq!(claim(&refresh, "exp"), end.min(now + 30 * DAY), "{seconds}");
        assert_eq!(claim(&access, "exp"), end.min(now + HOUR), "{seconds}");

        let reply = world.get("/api/v1/users/me").bearer(&access).await;
        let is_good = (-HOUR + 1..=5).contains(&seconds);
        assert_eq!(reply.status.is_success(), is_good, "{seconds}: {}", reply.text);
        // The clock is set right in the middle of the session.
        other.clock.set(world.now());
        let is_alive = claim(&refresh, "exp") > world.now().seconds();
        assert_eq!(other.is_alive(&refresh).await, is_alive, "{seconds}");
    }
}

/// Until the clock has caught up, the latest rotation is shared, and there is no other.
#[tokio::test]
async fn re8_a_clock_that_steps_back_under_an_interval_signs_nobody_out() {
    let (world, alice) = signed_up_with(&[("REFRESH_REUSE_INTERVAL_SECONDS", "10")]).await;
    let User { refresh_token: first, .. } = alice;
    let second = world.refresh(&first).await.expect(StatusCode::OK).text("refresh_token");
    let rotated = world.now();
    world.clock.set(Timestamp::from_seconds(rotated.seconds() - HOUR));
    for token in [&first, &second, &first] {
        assert_eq!(world.refresh(token).await.expect(StatusCode::OK).text("refresh_token"), second);
    }
    world.clock.set(rotated + Duration::from_secs(11));
    let third = world.refresh(&second).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&third)["gen"], 3);
}
