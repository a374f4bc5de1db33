//! A login does the same work whether or not the address has an account.

use freshkey::id::UserId;
use serde_json::{Value, json};

use crate::world::{EMAIL, PASSWORD, World, signed_up};

/// The calls of a login, without the names of the account and the guess.
async fn calls(world: &World, email: &str, password: &str) -> Vec<(String, Value)> {
    world.wire.take();
    world.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await;
    let calls = world.wire.take().calls.into_iter().map(|mut call| {
        if let Some(values) = call.body["ExpressionAttributeValues"].as_object_mut() {
            values.values_mut().for_each(|value| *value = Value::Null);
        }
        if let Some(key) = call.body["Key"]["pk"]["S"].as_str() {
            call.body["Key"]["pk"] = key.split('#').take(2).collect::<Vec<_>>().join("#").replace(email, "").into();
        }
        (call.operation, call.body)
    });
    let mut calls: Vec<_> = calls.collect();
    calls.sort_by_key(|(operation, body)| (operation.clone(), body["Key"]["pk"].to_string()));
    calls
}

#[tokio::test]
async fn en2_unknown_wrong_and_disabled_make_the_same_calls() {
    let (world, _) = signed_up().await;
    let bob = world.register("bob@example.com").await;
    world.app("account").disable_user(UserId::parse(&bob.id).unwrap()).await.unwrap();
    let wrong = calls(&world, EMAIL, "not her password").await;
    let operations: Vec<_> = wrong.iter().map(|(operation, _)| operation.as_str()).collect();
    assert_eq!(operations, ["GetItem", "Query", "UpdateItem", "UpdateItem"]);
    for (email, password) in [
        ("nobody@example.com", "not her password"),
        ("nobody@example.com", PASSWORD),
        ("bob@example.com", PASSWORD),
        ("bob@example.com", "not his password"),
    ] {
        assert_eq!(calls(&world, email, password).await, wrong, "{email} {password}");
    }
}

#[tokio::test]
async fn en2_an_unknown_address_is_refused_as_soon_as_the_hash_is_computed_however_slow_the_table_is() {
    let (world, _) = signed_up().await;
    world.wire.fault("Query", usize::MAX, crate::wire::Fate::Silence);
    let reply = world.post("/api/v1/auth/login", json!({ "email": "nobody@example.com", "password": PASSWORD })).await;
    assert_eq!(reply.expect(http::StatusCode::UNAUTHORIZED).error(), "invalid_credentials");
    world.wire.heal();
}
