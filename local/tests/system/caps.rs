//! MAX_SESSIONS: how many sessions a user may have, and which end first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::session::{Attempt, Hash, Session};
use freshkey::store::Store;
use freshkey::write::Write;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, User, World, claims, signed_up_with, world_with};

const KEY: (&str, &str) = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
const MILLISECOND: Duration = Duration::from_millis(1);

fn store(world: &World) -> &Store {
    world.app("login").store()
}

fn id(user: &User) -> UserId {
    UserId::parse(&user.id).unwrap()
}

fn session_id(user: &User) -> SessionId {
    SessionId::parse(claims(&user.refresh_token)["sid"].as_str().unwrap()).unwrap()
}

/// The rows of the user's sessions, dead or alive.
async fn rows(world: &World, user: &User) -> BTreeSet<SessionId> {
    let (_, sessions) = store(world).user_and_sessions(id(user)).await.unwrap();
    sessions.into_iter().map(|session| session.id).collect()
}

async fn login(world: &World) -> User {
    world.login(PASSWORD).await.expect(StatusCode::OK).user()
}

/// Logs in this many times, a millisecond apart.
async fn logins(world: &World, count: usize) -> Vec<User> {
    let mut users = Vec::new();
    for _ in 0..count {
        world.clock.advance(MILLISECOND);
        users.push(login(world).await);
    }
    users
}

/// Writes sessions of the user that were opened a millisecond apart, the oldest
/// first, with a user agent of this length.
async fn seed(world: &World, alice: &User, count: usize, agent: usize) -> Vec<SessionId> {
    let (user, sessions) = store(world).user_and_sessions(id(alice)).await.unwrap();
    let (user, first) = (user.unwrap(), sessions.into_iter().next().unwrap());
    let credential = store(world).credential(&Email::parse(EMAIL).unwrap()).await.unwrap().unwrap();
    let sessions: Vec<_> = (0..count)
        .map(|number| Session {
            id: SessionId::random(),
            opened_at: first.opened_at + MILLISECOND * u32::try_from(number + 1).unwrap(),
            client: Client { user_agent: "x".repeat(agent), ..first.client.clone() },
            ..first.clone()
        })
        .collect();
    store(world).seed_user(&user, &credential, &sessions.iter().collect::<Vec<_>>()).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    sessions.iter().map(|session| session.id).collect()
}

#[tokio::test]
async fn rf16_sessions_end_in_the_order_of_their_logins_to_the_millisecond() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "3")]).await;
    let later = logins(&world, 8).await;
    let latest: BTreeSet<_> = later[5..].iter().map(session_id).collect();
    assert_eq!(rows(&world, &alice).await, latest);
}

#[tokio::test]
async fn rf16_after_waves_of_parallel_logins_one_that_runs_alone_restores_the_cap() {
    let world = world_with(&[("MAX_SESSIONS", "5")]).await;
    let alice = world.register(EMAIL).await;
    for _ in 0..2 {
        let wave = join_all((0..12).map(|_| world.login(PASSWORD))).await;
        assert!(wave.iter().any(|reply| reply.status == StatusCode::OK));
        world.clock.advance(MILLISECOND);
    }
    let alone = login(&world).await;
    let rows = rows(&world, &alice).await;
    assert_eq!(rows.len(), 5);
    assert!(rows.contains(&session_id(&alone)));
}

#[tokio::test]
async fn rf16_a_lower_cap_holds_after_the_next_login() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    let before = logins(&world, 9).await;
    let lower = world.beside(&[KEY, ("MAX_SESSIONS", "3")]).await;
    lower.clock.advance(Duration::from_secs(1));
    lower.wire.take();
    let next = login(&lower).await;
    assert_eq!(lower.wire.take().round_trips, 3);
    let expected: BTreeSet<_> = before[7..].iter().chain([&next]).map(session_id).collect();
    assert_eq!(rows(&world, &alice).await, expected);
}

#[tokio::test]
async fn rf16_a_login_ends_at_most_a_hundred_beyond_the_cap_and_the_oldest_first() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "5")]).await;
    let seeded = seed(&world, &alice, 220, 1).await;
    let mut newest_first: Vec<_> = seeded.iter().rev().copied().collect();
    newest_first.push(session_id(&alice));
    for left in [121, 21, 5] {
        world.wire.take();
        let next = session_id(&login(&world).await);
        assert_eq!(world.wire.take().round_trips, 3);
        newest_first.insert(0, next);
        newest_first.truncate(left);
        assert_eq!(rows(&world, &alice).await, newest_first.iter().copied().collect());
        world.clock.advance(MILLISECOND);
    }
}

#[tokio::test]
async fn rf16_sessions_that_are_dead_take_no_place_from_those_that_live() {
    let (world, alice) = signed_up_with(&[KEY, ("MAX_SESSIONS", "2"), ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "1")]).await;
    // Reuse ends the second session, and its row stays as evidence.
    let [stolen] = logins(&world, 1).await.try_into().unwrap();
    world.refresh(&stolen.refresh_token).await.expect(StatusCode::OK);
    world.refresh(&stolen.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    logins(&world, 1).await;
    assert!(rows(&world, &alice).await.is_superset(&[session_id(&alice), session_id(&stolen)].into()));
    let alive = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");

    // The first session is used again after half a day; the last one expires unused.
    let later = world.beside(&[KEY, ("MAX_SESSIONS", "2"), ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "1")]).await;
    later.pass(43_200);
    let alive = later.refresh(&alive).await.expect(StatusCode::OK).text("refresh_token");
    later.pass(43_200);
    login(&later).await;
    assert!(later.is_alive(&alive).await);
}

#[tokio::test]
async fn rf16_sessions_that_their_user_ended_take_no_place_while_their_rows_are_still_there() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "2")]).await;
    let [ended] = logins(&world, 1).await.try_into().unwrap();
    world.wire.fault("DeleteItem", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    let others = world.request(Method::DELETE, "/api/v1/auth/sessions?except=current").bearer(&alice.access_token);
    others.await.expect(StatusCode::NO_CONTENT);
    world.wire.heal();
    assert!(rows(&world, &alice).await.contains(&session_id(&ended)));
    logins(&world, 1).await;
    assert!(world.is_alive(&alice.refresh_token).await);
}

/// Ends this session by reuse.
async fn revoke(store: &Store, user: UserId, session: SessionId, now: freshkey::Timestamp) {
    let session = store.session(user, session).await.unwrap().unwrap();
    let attempt = Attempt {
        generation: 1,
        secret_hash: session.secret_hash,
        key: Hash::of(&[b"theft"]),
        now,
        reuse_interval: Duration::ZERO,
    };
    assert_eq!(store.revoke_session(&session, &attempt).await.unwrap(), Write::Done(()));
}

#[tokio::test]
async fn rf16_evidence_of_reuse_that_is_found_during_a_login_is_kept() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    let others = logins(&world, 3).await;
    let lower = world.beside(&[KEY, ("MAX_SESSIONS", "2")]).await;
    lower.clock.advance(Duration::from_secs(1));
    // The displaced session and one beyond the cap end after the login has read them.
    let stolen = [session_id(&alice), session_id(&others[0])];
    let found = Arc::new(OnceCell::new());
    lower.wire.on_call({
        let (store, user, now) = (store(&world).clone(), id(&alice), world.now());
        move |call| {
            let (store, found) = (store.clone(), Arc::clone(&found));
            async move {
                if call.operation == "TransactWriteItems" {
                    let revoke = async { join_all(stolen.map(|session| revoke(&store, user, session, now))).await };
                    found.get_or_init(|| revoke).await;
                }
                Fate::Pass
            }
        }
    });
    let next = login(&lower).await;
    lower.wire.heal();
    assert!(lower.is_alive(&next.refresh_token).await);
    for session in stolen {
        let evidence = store(&world).session(id(&alice), session).await.unwrap();
        assert!(evidence.is_some_and(|evidence| evidence.revoked_at.is_some()), "{session}");
    }
}

#[tokio::test]
async fn rf16_sessions_beyond_the_first_page_count() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "2")]).await;
    let seeded = seed(&world, &alice, 10, 300_000).await;
    world.wire.take();
    let next = login(&world).await;
    let queries = world.wire.take().operations().into_iter().filter(|operation| *operation == "Query").count();
    assert!((2..=5).contains(&queries), "{queries}");
    assert_eq!(rows(&world, &alice).await, [seeded[9], session_id(&next)].into());
}

#[tokio::test]
async fn rf16_a_login_reads_at_most_five_pages() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "2")]).await;
    seed(&world, &alice, 30, 300_000).await;
    world.wire.take();
    let next = login(&world).await;
    let queries = world.wire.take().operations().into_iter().filter(|operation| *operation == "Query").count();
    assert_eq!(queries, 5);
    assert!(world.is_alive(&next.refresh_token).await);
    // The user's list shows all of them.
    let left = rows(&world, &alice).await;
    let list = world.get("/api/v1/auth/sessions").bearer(&next.access_token).await.expect(StatusCode::OK).json();
    let listed = list["sessions"].as_array().unwrap().iter();
    let listed = listed.map(|session| SessionId::parse(session["id"].as_str().unwrap()).unwrap());
    assert_eq!(listed.collect::<BTreeSet<_>>(), left);
    assert!(left.len() > 2, "some are beyond the fifth page");
}

/// How many deletions each of the login's transactions has.
fn deletions(world: &World) -> Vec<usize> {
    let calls = world.wire.take().calls;
    let members = calls.iter().filter_map(|call| call.body["TransactItems"].as_array());
    members.map(|members| members.iter().filter(|member| member["Delete"].is_object()).count()).collect()
}

#[tokio::test]
async fn a_login_deletes_a_hundred_expired_sessions_once_there_are_as_many() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    seed(&world, &alice, 220, 1).await;
    // The engine keeps the first clock, and deletes nothing.
    let later = world.beside(&[KEY]).await;
    later.clock.advance(Duration::from_secs(31 * 86_400));
    for left in [121, 21] {
        later.wire.take();
        let next = login(&later).await;
        assert_eq!(deletions(&later), [100]);
        let rows = rows(&later, &alice).await;
        assert!(rows.contains(&session_id(&next)));
        later.post("/api/v1/auth/logout", json!({ "refresh_token": next.refresh_token })).await;
        assert_eq!(rows.len(), left + 1);
    }
    // TTL deletes fewer for nothing.
    later.wire.take();
    login(&later).await;
    assert_eq!(deletions(&later), [0usize; 0]);
    assert_eq!(rows(&later, &alice).await.len(), 22);
}

#[tokio::test]
async fn a_session_that_a_slower_clock_refreshes_is_not_deleted_as_expired() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    seed(&world, &alice, 99, 1).await;
    world.clock.advance(Duration::from_secs(29 * 86_400));
    let later = world.beside(&[KEY]).await;
    later.clock.advance(Duration::from_secs(2 * 86_400));
    let newest = Arc::new(OnceCell::new());
    later.wire.on_call({
        let (world, newest) = (world.clone(), Arc::clone(&newest));
        move |call| {
            let (world, newest, spent) = (world.clone(), Arc::clone(&newest), alice.refresh_token.clone());
            async move {
                if call.operation == "TransactWriteItems" {
                    let refreshed = world.refresh(&spent).await.expect(StatusCode::OK);
                    newest.set(refreshed.text("refresh_token")).unwrap();
                }
                Fate::Pass
            }
        }
    });
    login(&later).await;
    assert!(world.is_alive(newest.get().expect("the login deletes expired sessions")).await);
}

#[tokio::test]
async fn expired_sessions_that_cannot_be_deleted_fail_no_login() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    seed(&world, &alice, 120, 1).await;
    let later = world.beside(&[KEY]).await;
    later.clock.advance(Duration::from_secs(31 * 86_400));
    later.wire.fault("TransactWriteItems", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    let next = login(&later).await;
    assert_eq!(deletions(&later), [100]);
    assert!(later.is_alive(&next.refresh_token).await);
}

#[tokio::test]
async fn rf16_a_session_beyond_the_cap_that_cannot_be_deleted_fails_no_login() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    logins(&world, 4).await;
    let lower = world.beside(&[KEY, ("MAX_SESSIONS", "2")]).await;
    lower.clock.advance(Duration::from_secs(1));
    // The login's transaction writes the session; the other transaction only deletes.
    lower.wire.on_call(|call| {
        let members = call.body["TransactItems"].as_array();
        let deletes_alone = members.is_some_and(|members| members.iter().all(|member| member["Delete"].is_object()));
        async move { if deletes_alone { Fate::Refused(400, "AccessDeniedException") } else { Fate::Pass } }
    });
    lower.post("/api/v1/auth/login", json!({ "email": EMAIL, "password": PASSWORD })).await.expect(StatusCode::OK);
    assert_eq!(rows(&world, &alice).await.len(), 5);
    lower.wire.heal();
    lower.clock.advance(Duration::from_secs(1));
    login(&lower).await;
    assert_eq!(rows(&world, &alice).await.len(), 2);
}

#[tokio::test]
async fn dead_sessions_are_deleted_a_few_at_a_time() {
    let (world, alice) = signed_up_with(&[]).await;
    seed(&world, &alice, 70, 1).await;
    let most = Arc::new(AtomicUsize::new(0));
    world.wire.on_call({
        let (wire, most) = (world.wire.clone(), Arc::clone(&most));
        move |_| {
            most.fetch_max(wire.in_flight(), Ordering::Relaxed);
            async { Fate::Pass }
        }
    });
    let everywhere = world.request(Method::DELETE, "/api/v1/auth/sessions").bearer(&alice.access_token);
    everywhere.await.expect(StatusCode::NO_CONTENT);
    let deleted = world.wire.take().operations().into_iter().filter(|operation| *operation == "DeleteItem").count();
    let most = most.load(Ordering::Relaxed);
    assert!(deleted > 25 && most <= 25, "{deleted} deletions, {most} at the same time");
}

#[tokio::test]
async fn the_end_of_all_sessions_deletes_no_expired_ones_and_the_deletion_of_the_account_does() {
    let (world, alice) = signed_up_with(&[KEY]).await;
    seed(&world, &alice, 30, 1).await;
    // The engine keeps the first clock, and deletes nothing.
    let later = world.beside(&[KEY]).await;
    later.clock.advance(Duration::from_secs(31 * 86_400));
    for path in ["/api/v1/auth/sessions", "/api/v1/auth/sessions?except=current"] {
        let next = login(&later).await;
        login(&later).await;
        let everywhere = later.request(Method::DELETE, path).bearer(&next.access_token);
        everywhere.await.expect(StatusCode::NO_CONTENT);
        let kept = usize::from(path.ends_with("current"));
        assert_eq!(rows(&later, &alice).await.len(), 31 + kept, "{path}");
    }
    let next = login(&later).await;
    let delete = later.post("/api/v1/users/me/delete", json!({ "password": PASSWORD })).bearer(&next.access_token);
    delete.await.expect(StatusCode::NO_CONTENT);
    assert!(rows(&later, &alice).await.is_empty());
}
