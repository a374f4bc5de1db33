//! The promises of rotation, tested on the real table.

use http::StatusCode;
use serde_json::json;

use crate::wire::Fate;
use crate::world::{PASSWORD, claims, signed_up, signed_up_with};

#[tokio::test]
async fn rf2_a_spent_token_revokes_its_session() {
    let (world, alice) = signed_up().await;
    let successor = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    let reply = world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error(), "invalid_refresh_token");
    assert!(!world.is_alive(&successor).await);
}

#[tokio::test]
async fn re8_a_clock_that_is_behind_takes_the_tokens_of_one_that_is_not_and_revives_nothing() {
    const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
    let (world, _) = signed_up_with(&[SECRET]).await;
    let behind = world.beside(&[SECRET]).await;
    world.pass(5);
    let login = async || world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let (ended, reused, kept) = (login().await, login().await, login().await);
    behind.get("/api/v1/users/me").bearer(&kept.access_token).await.expect(StatusCode::OK);

    let logout = json!({ "refresh_token": ended.refresh_token });
    world.post("/api/v1/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    assert!(!behind.is_alive(&ended.refresh_token).await);

    // The rotation was at a time that is in the other's future; the token is spent anyway.
    let successor = world.refresh(&reused.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    assert!(!behind.is_alive(&reused.refresh_token).await);
    assert!(!behind.is_alive(&successor).await);
    assert!(!world.is_alive(&successor).await);

    // Both rotate in turn, so the time goes forward and back.
    let mut token = kept.refresh_token;
    for world in [&behind, &world, &behind, &world] {
        token = world.refresh(&token).await.expect(StatusCode::OK).text("refresh_token");
    }
}

#[tokio::test]
async fn re5_a_key_gives_the_same_successor_again_also_a_day_later() {
    let (world, alice) = signed_up().await;
    let first = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    world.pass(86_400);
    let again = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    assert_eq!(again.text("refresh_token"), first.text("refresh_token"));
    assert_ne!(again.text("access_token"), first.text("access_token"));
    assert!(world.is_alive(&first.text("refresh_token")).await);
}

#[tokio::test]
async fn re5_a_key_is_forgotten_at_the_next_rotation() {
    let (world, alice) = signed_up().await;
    let second = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK).text("refresh_token");
    let third = world.refresh_with_key(&second, "l").await.expect(StatusCode::OK).text("refresh_token");
    world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&third).await);
}

#[tokio::test]
async fn rf6_the_sdk_retries_a_rotation_whose_answer_was_lost() {
    let (world, alice) = signed_up().await;
    world.wire.fault("UpdateItem", 1, Fate::AnswerLost);
    let successor = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&successor)["gen"], 2);
    assert!(world.is_alive(&successor).await);
}

#[tokio::test]
async fn rf9_no_rotation_extends_the_absolute_end() {
    let (world, alice) = signed_up_with(&[("SESSION_ABSOLUTE_EXPIRE_DAYS", "3")]).await;
    let mut token = alice.refresh_token;
    let end = claims(&token)["abs"].clone();
    for _ in 0..2 {
        world.pass(86_400);
        token = world.refresh(&token).await.expect(StatusCode::OK).text("refresh_token");
        assert_eq!(claims(&token)["abs"], end);
        assert_eq!(claims(&token)["exp"], end);
    }
    world.pass(86_400);
    assert!(!world.is_alive(&token).await);
}

#[tokio::test]
async fn rf15_a_token_of_a_session_that_its_user_ended_is_refused() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let body = json!({ "refresh_token": alice.refresh_token });
    world.post("/api/v1/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&alice.refresh_token).await);
    assert!(world.is_alive(&other.refresh_token).await);
}
