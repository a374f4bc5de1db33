//! Many refreshes of one token at once, over HTTP, and refreshes that the reuse
//! interval allows. The chain never forks, no matter which request is first.

use std::iter::{repeat, successors};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freshkey::id::{SessionId, UserId};
use freshkey::session::Session;
use futures_util::future::{join_all, pending};
use http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::wire::Fate;
use crate::world::{Reply, User, World, claims, signed_up, signed_up_with};

/// The number of refreshes that are sent at once.
const CROWD: usize = 64;
const INTERVAL: (&str, &str) = ("REFRESH_REUSE_INTERVAL_SECONDS", "10");

/// A system that listens, and an HTTP client for it.
struct Server {
    world: World,
    url: String,
    client: reqwest::Client,
}

async fn listening(variables: &[(&str, &str)]) -> (Server, User) {
    let (world, alice) = signed_up_with(variables).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/api/v1/auth/refresh", listener.local_addr().unwrap());
    tokio::spawn(Arc::clone(&world.system).serve(listener, pending()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    (Server { world, url, client }, alice)
}

impl Server {
    async fn refresh(&self, token: &str, key: Option<&str>) -> Reply {
        let mut request = self.client.post(&self.url).json(&json!({ "refresh_token": token }));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, text: response.text().await.unwrap() }
    }

    /// Sends a crowd of refreshes with these tokens in turn, after these delays.
    async fn crowd(&self, tokens: &[&str], key: Option<&str>, delays: impl Iterator<Item = Duration>) -> Vec<Reply> {
        let refresh = |(token, delay)| async move {
            sleep(delay).await;
            self.refresh(token, key).await
        };
        join_all(tokens.iter().copied().cycle().zip(delays).take(CROWD).map(refresh)).await
    }

    /// Sends a crowd of refreshes with one token. All their writes reach the table
    /// together.
    async fn stampede(&self, token: &str, key: Option<&str>) -> Vec<Reply> {
        let (arrived, _) = watch::channel(0);
        let arrived = Arc::new(arrived);
        self.world.wire.on_call(move |call| {
            let arrived = Arc::clone(&arrived);
            async move {
                if call.operation == "UpdateItem" {
                    arrived.send_modify(|count| *count += 1);
                    arrived.subscribe().wait_for(|count| *count >= CROWD).await.unwrap();
                }
                Fate::Pass
            }
        });
        self.crowd(&[token], key, repeat(Duration::ZERO)).await
    }

    /// Delays every call by up to 50 ms.
    fn slow_down(&self, seed: u64) {
        let delays = Mutex::new(delays(seed));
        self.world.wire.on_call(move |_| {
            let delay = delays.lock().unwrap().next();
            async move {
                sleep(delay.unwrap()).await;
                Fate::Pass
            }
        });
    }
}

/// Delays of up to 50 ms, the same for the same seed (a congruential generator,
/// with Knuth's constants).
fn delays(seed: u64) -> impl Iterator<Item = Duration> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    successors(next(&seed), next).map(|state| Duration::from_millis((state >> 33) % 51))
}

/// Returns the refresh token of the answers, which must be the same in all of them.
#[track_caller]
fn the_one_successor(replies: Vec<Reply>) -> String {
    assert_eq!(replies.len(), CROWD);
    let mut tokens: Vec<_> =
        replies.into_iter().map(|reply| reply.expect(StatusCode::OK).text("refresh_token")).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "the chain has forked");
    tokens.remove(0)
}

/// The session in the table.
async fn session(world: &World, token: &str) -> Session {
    let claims = claims(token);
    let user = UserId::parse(claims["sub"].as_str().unwrap()).unwrap();
    let id = SessionId::parse(claims["sid"].as_str().unwrap()).unwrap();
    let (_, sessions) = world.app("refresh").store().user_and_sessions(user).await.unwrap();
    sessions.into_iter().find(|session| session.id == id).unwrap()
}

async fn refreshed(world: &World, token: &str) -> String {
    world.refresh(token).await.expect(StatusCode::OK).text("refresh_token")
}

async fn refused(world: &World, token: &str) {
    let reply = world.refresh(token).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error(), "invalid_refresh_token");
}

/// A session that has just rotated for the first time, under an interval of 10
/// seconds: the spent token and its successor.
async fn rotated() -> (World, String, String) {
    let (world, alice) = signed_up_with(&[INTERVAL]).await;
    world.pass(11);
    let successor = refreshed(&world, &alice.refresh_token).await;
    (world, alice.refresh_token, successor)
}

#[tokio::test(flavor = "multi_thread")]
async fn rf1_a_crowd_with_one_key_is_one_rotation() {
    let (server, alice) = listening(&[]).await;
    let successor = the_one_successor(server.stampede(&alice.refresh_token, Some("k")).await);
    assert_eq!(session(&server.world, &successor).await.generation, 2);
    assert_eq!(claims(&successor)["gen"], 2);
    assert!(server.world.is_alive(&successor).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rf1_in_a_crowd_without_a_key_one_wins_and_the_session_ends() {
    let (server, alice) = listening(&[]).await;
    let replies = server.stampede(&alice.refresh_token, None).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == StatusCode::OK);
    assert_eq!((won.len(), lost.len()), (1, CROWD - 1));
    for reply in lost {
        assert_eq!(reply.expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token");
    }
    let successor = won[0].text("refresh_token");
    refused(&server.world, &successor).await;
    let session = session(&server.world, &successor).await;
    assert_eq!(session.generation, 2);
    assert!(session.revoked_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rf1_rf3_a_crowd_without_a_key_is_one_rotation_under_an_interval() {
    let (server, alice) = listening(&[INTERVAL]).await;
    server.world.pass(11);
    let successor = the_one_successor(server.stampede(&alice.refresh_token, None).await);
    assert_eq!(session(&server.world, &successor).await.generation, 2);
    server.world.pass(11);
    let third = refreshed(&server.world, &successor).await;
    assert_eq!(claims(&third)["gen"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rf1_rf3_neither_delays_nor_stragglers_fork_the_chain_under_an_interval() {
    let (server, alice) = listening(&[INTERVAL]).await;
    let mut token = alice.refresh_token;
    for round in 1..=3 {
        server.world.pass(11);
        server.slow_down(round);
        let successor = the_one_successor(server.crowd(&[&token], None, delays(100 + round)).await);
        assert_eq!(session(&server.world, &successor).await.generation, round + 1);

        server.world.pass(10);
        let stragglers_and_others = server.crowd(&[&token, &successor], None, delays(200 + round)).await;
        assert_eq!(the_one_successor(stragglers_and_others), successor);
        assert_eq!(session(&server.world, &successor).await.generation, round + 1);
        token = successor;
    }
    server.world.pass(11);
    assert!(server.world.is_alive(&token).await);
}

#[tokio::test]
async fn rf2_a_then_b_then_a_again_is_a_replay_and_b_is_dead_too() {
    let (server, alice) = listening(&[]).await;
    let b = server.refresh(&alice.refresh_token, None).await.expect(StatusCode::OK).text("refresh_token");
    for token in [&alice.refresh_token, &b] {
        let reply = server.refresh(token, None).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error(), "invalid_refresh_token");
    }
}

#[tokio::test]
async fn rf3_at_zero_neither_the_predecessor_nor_the_current_token_is_given_again_whatever_the_clocks_say() {
    const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a");
    let (ahead, alice) = signed_up_with(&[SECRET]).await;
    let behind = ahead.beside(&[SECRET]).await;
    ahead.pass(5);
    let second = refreshed(&ahead, &alice.refresh_token).await;
    let third = refreshed(&behind, &second).await;
    assert_eq!(claims(&third)["gen"], 3);
    let fourth = refreshed(&ahead, &third).await;
    refused(&behind, &third).await;
    refused(&ahead, &fourth).await;
}

#[tokio::test]
async fn rf3_within_the_interval_the_predecessor_gets_its_successor_and_the_current_token_itself() {
    let (world, first, second) = rotated().await;
    let before = session(&world, &second).await;
    for seconds in [0, 0, 4, 6] {
        world.pass(seconds);
        assert_eq!(refreshed(&world, &first).await, second);
        assert_eq!(refreshed(&world, &second).await, second);
    }
    assert_eq!(session(&world, &second).await, before);
    assert!(before.revoked_at.is_none());
}

#[tokio::test]
async fn rf3_rf5_replays_do_not_extend_the_interval_and_after_it_a_spent_token_revokes() {
    let (world, first, second) = rotated().await;
    for _ in 0..2 {
        world.pass(5);
        assert_eq!(refreshed(&world, &first).await, second);
    }
    world.clock.advance(Duration::from_millis(1));
    refused(&world, &first).await;
    refused(&world, &second).await;
}

#[tokio::test]
async fn rf4_the_interval_is_for_the_immediate_predecessor_only() {
    let (world, first, second) = rotated().await;
    world.pass(11);
    let third = refreshed(&world, &second).await;
    refused(&world, &first).await;
    refused(&world, &third).await;
}

#[tokio::test]
async fn rf5_a_clients_own_attempt_is_recognised_until_the_next_rotation_whatever_the_interval() {
    for variables in [&[][..], &[INTERVAL]] {
        let (world, alice) = signed_up_with(variables).await;
        world.pass(11);
        let first = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
        let second = first.text("refresh_token");
        for _ in 0..2 {
            world.pass(86_400);
            let again = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
            assert_eq!(again.text("refresh_token"), second);
        }
        let third = refreshed(&world, &second).await;
        assert_eq!(claims(&third)["gen"], 3);
        let late = world.refresh_with_key(&alice.refresh_token, "k").await;
        late.expect(StatusCode::UNAUTHORIZED);
        refused(&world, &third).await;
    }
}

#[tokio::test]
async fn rf5_without_an_interval_another_key_is_another_attempt() {
    let (world, alice) = signed_up().await;
    let first = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    world.refresh_with_key(&alice.refresh_token, "l").await.expect(StatusCode::UNAUTHORIZED);
    refused(&world, &first.text("refresh_token")).await;
}
