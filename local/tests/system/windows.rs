//! The windows of the limits: each begins with its first count.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshkey::email::Email;
use freshkey::limit::{Address, Counter, Step, Tag};
use freshkey::session::Hash;
use freshkey::store::Tally;
use freshkey::write::Write;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;

use crate::limits::{HERE, HOUR, MONTH, WRONG, guarded, guess, limits, login, wait};
use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Sending, World, world_with};

/// The system that has the table, and another one on the same table with a clock of
/// its own. When only that clock moves, expired counters stay in the table.
async fn with_stale_rows(changes: &[(&'static str, &'static str)]) -> (World, World) {
    let (world, _) = guarded(changes).await;
    let later = world.beside(&limits(changes)).await;
    (world, later)
}

fn from_here<'a>(world: &'a World, email: &str) -> Sending<'a> {
    login(world, email, WRONG).from(HERE)
}

fn register_from_here<'a>(world: &'a World, email: &str) -> Sending<'a> {
    world.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).from(HERE)
}

#[tokio::test]
async fn rl5_no_window_ends_with_the_hour_or_the_month_of_the_calendar() {
    for window in [HOUR, MONTH] {
        let variables = [
            ("LIMIT_FREE_GUESSES", "3"),
            ("LIMIT_GUESSES", "3"),
            ("LIMIT_FAILURES_PER_ADDRESS", "3"),
            ("LIMIT_REGISTRATIONS_PER_ADDRESS", "1"),
        ];
        let world = world_with(&limits(&variables)).await;
        let now = u64::try_from(world.now().seconds()).unwrap();
        world.pass(window - now % window - 10);
        for _ in 0..3 {
            from_here(&world, EMAIL).await.expect(StatusCode::UNAUTHORIZED);
        }
        register_from_here(&world, EMAIL).await.expect(StatusCode::CREATED);
        world.pass(20);
        assert_eq!(wait(login(&world, EMAIL, WRONG).await), MONTH - 20, "the account");
        assert_eq!(wait(from_here(&world, "nobody@example.com").await), HOUR - 20, "the address");
        assert_eq!(wait(register_from_here(&world, "bob@example.com").await), HOUR - 20, "registrations");
    }
}

#[tokio::test]
async fn rl5_a_window_ends_an_hour_after_its_first_count_and_the_next_begins_with_the_next_count() {
    let (_world, later) = with_stale_rows(&[("LIMIT_FAILURES_PER_ADDRESS", "3")]).await;
    from_here(&later, "user-0@example.com").await.expect(StatusCode::UNAUTHORIZED);
    later.pass(HOUR / 2);
    for number in 1..3 {
        from_here(&later, &format!("user-{number}@example.com")).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(from_here(&later, EMAIL).await), HOUR / 2);
    later.pass(HOUR / 2 - 1);
    assert_eq!(wait(from_here(&later, EMAIL).await), 1);
    later.pass(1000);
    for number in 3..6 {
        from_here(&later, &format!("user-{number}@example.com")).await.expect(StatusCode::UNAUTHORIZED);
        later.pass(60);
    }
    assert_eq!(wait(from_here(&later, EMAIL).await), HOUR - 180);
}

#[tokio::test]
async fn rl5_a_new_window_has_forgotten_the_accounts_of_the_one_before() {
    let (_world, later) = with_stale_rows(&[("LIMIT_ACCOUNTS_PER_ADDRESS", "2")]).await;
    for window in 0..3 {
        for number in 0..2 {
            let email = format!("user-{window}-{number}@example.com");
            from_here(&later, &email).await.expect(StatusCode::UNAUTHORIZED);
        }
        assert_eq!(wait(from_here(&later, "one-too-many@example.com").await), HOUR);
        later.pass(HOUR);
    }
}

#[tokio::test]
async fn rl5_an_expired_counter_that_is_still_there_costs_one_write_more() {
    let (_world, later) = with_stale_rows(&[]).await;
    let counts = |world: &World| {
        let log = world.wire.take();
        let is_count = |body: &serde_json::Value| {
            body["UpdateExpression"].as_str().is_some_and(|update| update.contains("expires_at = "))
        };
        log.calls.iter().filter(|call| is_count(&call.body)).count()
    };
    register_from_here(&later, "bob@example.com").await.expect(StatusCode::CREATED);
    assert_eq!(counts(&later), 1);
    later.pass(HOUR);
    register_from_here(&later, "carol@example.com").await.expect(StatusCode::CREATED);
    assert_eq!(counts(&later), 2);
    register_from_here(&later, "dave@example.com").await.expect(StatusCode::CREATED);
    assert_eq!(counts(&later), 1);
}

#[tokio::test]
async fn rl1_after_a_month_a_paused_account_starts_with_its_free_guesses() {
    let (_world, later) = with_stale_rows(&[("LIMIT_GUESSES", "5")]).await;
    guess(&later, 1).await;
    later.pass(MONTH - 10);
    guess(&later, 4).await;
    assert_eq!(wait(later.login(PASSWORD).await), 10);
    later.pass(10);
    guess(&later, 5).await;
    assert_eq!(wait(later.login(PASSWORD).await), MONTH);
}

#[tokio::test]
async fn rl1_no_pause_outlasts_the_window_that_it_is_in() {
    let (_world, later) = with_stale_rows(&[]).await;
    guess(&later, 1).await;
    later.pass(MONTH - 10);
    guess(&later, 4).await;
    assert_eq!(wait(later.login(PASSWORD).await), 10);
    later.pass(10);
    later.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl5_parallel_guesses_at_an_expired_counter_share_the_new_window() {
    let (_world, later) = with_stale_rows(&[]).await;
    guess(&later, 5).await;
    wait(later.login(WRONG).await);
    later.pass(MONTH);
    let replies =
        join_all((0..12).map(|number| login(&later, EMAIL, WRONG).from(&format!("203.0.113.{number}")).into_future()));
    let mut statuses: Vec<_> = replies.await.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![401; 5], vec![429; 7]].concat());
}

#[tokio::test]
async fn re2_a_restart_whose_answer_was_lost_is_counted_once() {
    let (_world, later) = with_stale_rows(&[]).await;
    guess(&later, 5).await;
    later.pass(MONTH);
    let is_met = AtomicBool::new(false);
    later.wire.on_call(move |call| {
        let is_account = call.body["Key"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("LIMIT#account#"));
        let is_restart = is_account && call.body["ConditionExpression"] == "expires_at = :ended";
        let is_lost = is_restart && !is_met.swap(true, Ordering::Relaxed);
        async move { if is_lost { Fate::AnswerLost } else { Fate::Pass } }
    });
    guess(&later, 1).await;
    later.wire.heal();
    guess(&later, 4).await;
    assert_eq!(wait(later.login(PASSWORD).await), 30);
}

#[tokio::test]
async fn rl5_a_guess_is_neither_given_nor_taken_back_to_a_later_window() {
    let (_world, later) = with_stale_rows(&[]).await;
    let store = later.app("login").store();
    let counter = Counter::device("a phone");
    let steps = [1, 2].map(|below| Step { below, pause: Duration::ZERO });
    let attempts = [0, 1, 2, 3, 4, 5].map(|number| Hash::of(&[&[number]]));
    let count = |number: usize| store.count_guess(&counter, &steps, &attempts[number], later.now());
    assert!(matches!(count(0).await.unwrap(), Write::Done(_)));
    let Write::Done(old) = count(1).await.unwrap() else { panic!("it is the second of two") };
    assert_eq!(old.before, Some(later.now()));
    later.pass(MONTH);
    for number in 2..4 {
        let Write::Done(new) = count(number).await.unwrap() else { panic!("the new window is empty") };
        assert_eq!(new.until, later.now() + counter.window);
    }
    let full = Write::Refused(Tally { tries: 2, latest: later.now(), until: later.now() + counter.window });
    store.uncount_guess(&counter, &attempts[1], old).await.unwrap();
    assert_eq!(count(4).await.unwrap(), full);
    store.reset(&counter, old.until).await.unwrap();
    assert_eq!(count(5).await.unwrap(), full);
}

#[tokio::test]
async fn rl5_an_address_is_not_spared_in_a_later_window() {
    let (_world, later) = with_stale_rows(&[]).await;
    let store = later.app("login").store();
    let counter = Counter::address(&Address::of(HERE));
    let tag = |name: &str| Tag::of_account(&Email::parse(&format!("{name}@example.com")).unwrap());
    let count = |name: &str| store.count(&counter, 9, Some((tag(name), 1)), later.now());
    let Write::Done(old) = count("alice").await.unwrap() else { panic!("it is the first") };
    later.pass(HOUR);
    let Write::Done(new) = count("alice").await.unwrap() else { panic!("the new window is empty") };
    store.uncount(&counter, Some(tag("alice")), old).await.unwrap();
    assert_eq!(count("bob").await.unwrap(), Write::Refused(new));
    store.uncount(&counter, Some(tag("alice")), new).await.unwrap();
    assert_eq!(count("bob").await.unwrap(), Write::Done(new));
}
