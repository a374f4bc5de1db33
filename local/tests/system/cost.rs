//! What each operation costs in DynamoDB, counted below the SDK.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::json;

use crate::mail::{mailing, token};
use crate::wire::Call;
use crate::world::{EMAIL, PASSWORD, World, claims, signed_up, signed_up_with, world};

const PAGE: &str = include_str!("../../../docs/cost.md");

/// The calls of the limits when a password is right: the guess is counted at the
/// account and at the address, and given back at both.
const GUESS: [&str; 4] = ["UpdateItem", "UpdateItem", "DeleteItem", "UpdateItem"];

/// The calls since this was last asked, and their sequential round trips.
fn cost(world: &World) -> (Vec<String>, usize) {
    let log = world.wire.take();
    (log.operations().into_iter().map(str::to_owned).collect(), log.round_trips)
}

fn calls(names: &[&str], round_trips: usize) -> (Vec<String>, usize) {
    (names.iter().map(ToString::to_string).collect(), round_trips)
}

/// The same, with the calls to the limits' counters.
fn with(counters: &[&str], names: &[&str], round_trips: usize) -> (Vec<String>, usize) {
    let (mut names, round_trips) = calls(&[counters, names].concat(), round_trips);
    names.sort_unstable();
    (names, round_trips)
}

#[tokio::test]
async fn register_costs_one_transaction_after_one_write_of_a_counter() {
    let world = world().await;
    world.register(EMAIL).await;
    assert_eq!(cost(&world), calls(&["TransactWriteItems", "UpdateItem"], 2));
}

#[tokio::test]
async fn login_costs_three_round_trips() {
    let (world, _) = signed_up().await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), with(&GUESS, &["GetItem", "PutItem", "Query"], 3));
}

#[tokio::test]
async fn login_from_a_known_device_costs_two_writes_of_a_counter_and_no_more_round_trips() {
    let world = world().await;
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let device_token = world.post("/api/v1/auth/register", body.clone()).await.text("device_token");
    world.wire.take();
    world.post("/api/v1/auth/login", body).header("x-device-token", &device_token).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), with(&["UpdateItem", "DeleteItem"], &["GetItem", "PutItem", "Query"], 3));
}

#[tokio::test]
async fn rl5_a_login_over_a_limit_costs_one_round_trip_and_one_to_spare_the_address() {
    let (world, _) = signed_up_with(&[("LIMIT_FREE_GUESSES", "1")]).await;
    world.login("not her password").await.expect(StatusCode::UNAUTHORIZED);
    world.wire.take();
    world.login("not her password").await.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(cost(&world), calls(&["GetItem", "UpdateItem", "UpdateItem", "UpdateItem"], 2));
}

#[tokio::test]
async fn rf16_login_at_the_cap_of_sessions_costs_no_more_round_trips() {
    let (world, _) = signed_up_with(&[("MAX_SESSIONS", "1")]).await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), with(&GUESS, &["GetItem", "Query", "TransactWriteItems"], 3));
}

#[tokio::test]
async fn refresh_costs_one_write_and_one_read_in_one_round_trip() {
    let (world, alice) = signed_up().await;
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), calls(&["GetItem", "UpdateItem"], 1));
}

#[tokio::test]
async fn users_me_costs_one_read_and_logout_one_write() {
    let (world, alice) = signed_up().await;
    world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), calls(&["GetItem"], 1));
    let body = json!({ "refresh_token": alice.refresh_token });
    world.post("/api/v1/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(cost(&world), calls(&["DeleteItem"], 1));
}

#[tokio::test]
async fn jw18_a_look_at_the_session_on_every_call_costs_two_reads_in_one_round_trip_more() {
    let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", "true")]).await;
    world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), calls(&["GetItem", "GetItem", "GetItem"], 2));
}

#[tokio::test]
async fn a_renewal_in_the_middleware_costs_what_a_refresh_costs_and_looks_at_the_session_by_itself() {
    for check in ["false", "true"] {
        let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", check)]).await;
        world.pass(3600);
        let me = world.get("/api/v1/users/me").bearer(&alice.access_token);
        let reply = me.header("x-refresh-token", &alice.refresh_token).await.expect(StatusCode::OK);
        assert!(reply.headers.contains_key("x-new-access-token"));
        assert_eq!(cost(&world), calls(&["GetItem", "GetItem", "UpdateItem"], 2));
    }
}

#[tokio::test]
async fn the_list_of_sessions_costs_one_read_and_the_end_of_one_a_write_more() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).text("refresh_token");
    world.wire.take();
    world.get("/api/v1/auth/sessions").bearer(&alice.access_token).await.expect(StatusCode::OK);
    assert_eq!(cost(&world), calls(&["Query"], 1));
    let path = format!("/api/v1/auth/sessions/{}", claims(&other)["sid"].as_str().unwrap());
    world.request(Method::DELETE, &path).bearer(&alice.access_token).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(cost(&world), calls(&["DeleteItem", "Query"], 2));
}

#[tokio::test]
async fn pw8_a_change_of_the_password_costs_five_round_trips() {
    let (world, alice) = signed_up().await;
    let body = json!({ "current_password": PASSWORD, "new_password": "a loud brook over eight stones" });
    let change = world.request(Method::PUT, "/api/v1/users/me/password").bearer(&alice.access_token).json(body);
    change.await.expect(StatusCode::NO_CONTENT);
    // The user, the credential, the count of changes, the transaction, and the search for dead sessions.
    assert_eq!(cost(&world), with(&GUESS, &["GetItem", "GetItem", "UpdateItem", "TransactWriteItems", "Query"], 5));
}

#[tokio::test]
async fn a_deletion_costs_four_round_trips_and_one_for_the_sessions() {
    let (world, alice) = signed_up().await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    world.wire.take();
    let body = json!({ "password": PASSWORD });
    let delete = world.post("/api/v1/users/me/delete", body).bearer(&alice.access_token);
    delete.await.expect(StatusCode::NO_CONTENT);
    let sessions = ["DeleteItem", "DeleteItem"];
    let once = ["GetItem", "GetItem", "TransactWriteItems", "Query"];
    assert_eq!(cost(&world), with(&GUESS, &[&once[..], &sessions].concat(), 5));
}

#[tokio::test]
async fn rf11_a_token_that_is_not_to_be_accepted_costs_nothing() {
    let (world, alice) = signed_up().await;
    let mut forged = alice.refresh_token.clone().into_bytes();
    let last = forged.len() - 3;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for token in [forged.as_str(), alice.access_token.as_str(), "x", "a.b.c"] {
        world.refresh(token).await.expect(StatusCode::UNAUTHORIZED);
        world.post("/api/v1/auth/logout", json!({ "refresh_token": token })).await.expect(StatusCode::NO_CONTENT);
        let me = world.request(Method::GET, "/api/v1/users/me").bearer(&alice.refresh_token).await;
        me.expect(StatusCode::UNAUTHORIZED);
    }
    world.pass(31 * 86_400);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(cost(&world), calls(&[], 0));
}

#[tokio::test]
async fn a_spent_rotation_budget_costs_nothing() {
    let (world, alice) = signed_up_with(&[("REFRESH_BURST", "2"), ("REFRESH_PER_LIFETIME", "1")]).await;
    let mut token = alice.refresh_token;
    for _ in 0..2 {
        token = world.refresh(&token).await.expect(StatusCode::OK).text("refresh_token");
    }
    world.wire.take();
    let reply = world.refresh(&token).await.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.error(), "rate_limited");
    assert_eq!(reply.headers["retry-after"], "3600");
    assert_eq!(cost(&world), calls(&[], 0));
    world.pass(3600);
    assert!(world.is_alive(&token).await);
}

/// The units that the calls since this was last asked write and read, if each item is
/// small: two for each member of a transaction (Amazon DynamoDB Developer Guide,
/// "Read and write operations").
fn units(world: &World, is_counted: impl Fn(&Call) -> bool) -> (usize, usize) {
    let calls = world.wire.take().calls;
    calls.iter().filter(|call| is_counted(call)).fold((0, 0), |(writes, reads), call| match call.operation.as_str() {
        "GetItem" | "Query" => (writes, reads + 1),
        "PutItem" | "UpdateItem" | "DeleteItem" => (writes + 1, reads),
        "TransactWriteItems" => (writes + 2 * call.body["TransactItems"].as_array().unwrap().len(), reads),
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn the_page_on_cost_has_the_units_of_every_operation() {
    let credentials = json!({ "email": EMAIL, "password": PASSWORD });
    let mut found = BTreeMap::new();
    let mut count = |name, world: &World| found.insert(name, units(world, |_| true));

    let world = world().await;
    let registered = world.post("/api/v1/auth/register", credentials.clone()).await.expect(StatusCode::CREATED);
    count("register", &world);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    count("login", &world);
    let login = world.post("/api/v1/auth/login", credentials);
    let known = login.header("x-device-token", &registered.text("device_token")).await.expect(StatusCode::OK).user();
    count("login_known_device", &world);
    let refresh_token = world.refresh(&known.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    count("refresh", &world);
    world.get("/api/v1/users/me").bearer(&known.access_token).await.expect(StatusCode::OK);
    count("me", &world);
    let body = json!({ "refresh_token": refresh_token });
    world.post("/api/v1/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
    count("logout", &world);

    let world = mailing(&[]).await;
    world.register(EMAIL).await;
    count("register_with_mail", &world);
    token(&world, EMAIL).await;
    world.wire.take();
    world.post("/api/v1/auth/password/forgot", json!({ "email": EMAIL })).await.expect(StatusCode::ACCEPTED);
    count("forgot", &world);
    let token = token(&world, EMAIL).await;
    // Without the search for mails, which is the same for one mail as for many.
    let is_of_mail = |call: &Call| !["Query", "SendEmail"].contains(&call.operation.as_str());
    let (writes, reads) = units(&world, is_of_mail);
    let body = json!({ "token": token, "new_password": "a loud brook over eight stones" });
    world.post("/api/v1/auth/password/reset", body).await.expect(StatusCode::NO_CONTENT);
    count("reset", &world);

    assert!(PAGE.contains(&format!("+ {writes} * write + {reads} * read\n")), "a mail: {writes} writes, {reads} reads");
    for (name, (writes, reads)) in found {
        assert!(
            PAGE.contains(&format!("| `{name}` | {writes} | {reads} | ")),
            "{name}: {writes} writes, {reads} reads"
        );
    }
}
