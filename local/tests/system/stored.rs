//! Stored values are read tolerantly, because rules change, and functions of two
//! versions run side by side during a deployment.

use aws_sdk_dynamodb::types::AttributeValue;
use http::{Method, StatusCode};
use serde_json::json;

use crate::rows::Row;
use crate::world::{EMAIL, PASSWORD, User, World, signed_up};

const NEW_PASSWORD: &str = "eight lanterns in the winter harbour";

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

async fn email_shown(world: &World, user: &User) -> String {
    world.get("/api/v1/users/me").bearer(&user.access_token).await.expect(StatusCode::OK).text("email")
}

#[tokio::test]
async fn en4_a_stored_address_is_shown_as_given_and_its_key_is_never_derived_again() {
    let (world, alice) = signed_up().await;
    let row = Row::of_user(&alice.id, "PROFILE");
    // Some of these addresses are refused today; others would have another key.
    for email in ["not an address", "b\u{1160}b@local", "bob@example.com", "@", "\u{ff20}"] {
        row.set(&world, "email", text(email)).await;
        assert_eq!(email_shown(&world, &alice).await, email);
        change_everything(&world, &alice, email).await;
    }
}

/// Logs in, refreshes, changes the password and back, renames the user and ends the
/// other sessions. Each finds the credential under the stored key.
async fn change_everything(world: &World, former: &User, email: &str) {
    let alice = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert_eq!(alice.id, former.id);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let me = |method, path, body| world.request(method, path).bearer(&alice.access_token).json(body);
    for (current, new) in [(PASSWORD, NEW_PASSWORD), (NEW_PASSWORD, PASSWORD)] {
        let body = json!({ "current_password": current, "new_password": new });
        me(Method::PUT, "/api/v1/users/me/password", body).await.expect(StatusCode::NO_CONTENT);
    }
    let renamed = me(Method::PATCH, "/api/v1/users/me", json!({ "first_name": "Alice" })).await;
    assert_eq!(renamed.expect(StatusCode::OK).text("email"), email);
    let others = world.request(Method::DELETE, "/api/v1/auth/sessions?except=current").bearer(&alice.access_token);
    others.await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn en4_an_account_is_deleted_with_the_credential_of_its_stored_key() {
    let (world, alice) = signed_up().await;
    Row::of_user(&alice.id, "PROFILE").set(&world, "email", text("bob@example.com")).await;
    let delete = world.post("/api/v1/users/me/delete", json!({ "password": PASSWORD })).bearer(&alice.access_token);
    delete.await.expect(StatusCode::NO_CONTENT);
    assert!(!Row::credential(EMAIL).exists(&world).await);
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    world.register(EMAIL).await;
}

#[tokio::test]
async fn rows_of_an_unknown_kind_in_a_users_partition_are_skipped() {
    let (world, alice) = signed_up().await;
    // In the order of sort keys, these rows are before the user, between the user and
    // the sessions, and after them.
    for sk in ["FACTOR#1", "PROFILE#2", "RECOVERY", "SESSIONS", "ZONE"] {
        let row = Row::of_user(&alice.id, sk);
        row.put(&world, &[("email", text("mallory@example.com")), ("epoch", AttributeValue::N("9".into()))]).await;
    }
    let second = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert_eq!(second.id, alice.id);
    assert_eq!(email_shown(&world, &second).await, EMAIL);
    let list = world.get("/api/v1/auth/sessions").bearer(&alice.access_token).await.expect(StatusCode::OK).json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 2);
    let others = world.request(Method::DELETE, "/api/v1/auth/sessions?except=current").bearer(&alice.access_token);
    others.await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&second.refresh_token).await);
    assert!(world.is_alive(&alice.refresh_token).await);
    assert!(Row::of_user(&alice.id, "FACTOR#1").exists(&world).await);
}
