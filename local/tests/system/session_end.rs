//! Access tokens at the end of their session.

use http::StatusCode;

use crate::world::{Reply, User, World, claims, signed_up_with};

const MINUTE: u64 = 60;
/// Sessions of 90 minutes, with access tokens of 60.
const SHORT: [(&str, &str); 1] = [("SESSION_ABSOLUTE_EXPIRE_DAYS", "0.0625")];

async fn me(world: &World, pair: &User) -> Reply {
    let request = world.get("/api/v1/users/me").bearer(&pair.access_token);
    request.header("x-refresh-token", &pair.refresh_token).await
}

#[tokio::test]
async fn rf9_no_access_token_outlives_its_session() {
    let (world, alice) = signed_up_with(&SHORT).await;
    assert_eq!(claims(&alice.access_token)["exp"], world.now().seconds() + 60 * 60);
    world.pass(60 * MINUTE);
    let reply = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let (access, end) = (reply.text("access_token"), claims(&alice.refresh_token)["abs"].clone());
    assert_eq!(claims(&access)["exp"], end);
    assert_eq!(reply.json()["expires_in"], 30 * 60);
    world.pass(30 * MINUTE - 1);
    world.get("/api/v1/users/me").bearer(&access).await.expect(StatusCode::OK);
    world.pass(1);
    world.get("/api/v1/users/me").bearer(&access).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rf9_a_session_shorter_than_an_access_token_cuts_the_first_one_too() {
    let (_, alice) = signed_up_with(&[("SESSION_ABSOLUTE_EXPIRE_DAYS", "0.01")]).await;
    assert_eq!(claims(&alice.access_token)["exp"], claims(&alice.refresh_token)["abs"]);
}

#[tokio::test]
async fn mw2_an_access_token_that_ends_with_its_session_is_not_due_for_renewal() {
    let (world, alice) = signed_up_with(&SHORT).await;
    world.pass(60 * MINUTE);
    let reply = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let (access_token, refresh_token) = (reply.text("access_token"), reply.text("refresh_token"));
    let pair = User { access_token, refresh_token, ..alice.clone() };
    world.pass(29 * MINUTE);
    world.wire.take();
    let reply = me(&world, &pair).await.expect(StatusCode::OK);
    assert!(!reply.headers.contains_key("x-new-access-token"));
    assert!(!world.wire.take().operations().contains(&"UpdateItem"));
    // The two tokens must be of the same session even so.
    let mallory = world.register("mallory@example.com").await;
    let mixed = User { refresh_token: mallory.refresh_token, ..pair.clone() };
    assert_eq!(me(&world, &mixed).await.expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token");
    world.pass(MINUTE);
    assert_eq!(me(&world, &pair).await.expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token");
}
