//! A change of JWT_ALGORITHM: older access tokens admit nobody, and nobody is
//! signed out.

use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::wire::Wire;
use crate::world::{EMAIL, Reply, User, World, claims, world_over};

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const ARN: (&str, &str) = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey");
const ME: &str = "/api/v1/users/me";

/// The secret with both keys, of which this one signs access tokens.
fn secret(signing: &str) -> Value {
    let path = format!("{}/../shared/src/token/testdata/rsa-2048.pem", env!("CARGO_MANIFEST_DIR"));
    json!({ "signing": signing, "refresh": "k1", "k1": SECRET, "k2": std::fs::read_to_string(path).unwrap() })
}

/// A system that signs with the key of `algorithm`, on the table of `world`.
async fn beside(world: &World, signing: &str, algorithm: &str) -> World {
    let wire = Wire::new();
    wire.set_secret(secret(signing));
    world.beside_over(wire, &[ARN, ("JWT_ALGORITHM", algorithm)]).await
}

/// A system under HS256, its user, and the same system after a move to RS256.
async fn moved() -> (World, User, World) {
    let wire = Wire::new();
    wire.set_secret(secret("k1"));
    let before = world_over(wire, &[ARN]).await;
    let alice = before.register(EMAIL).await;
    let after = beside(&before, "k2", "RS256").await;
    (before, alice, after)
}

async fn me(world: &World, access_token: &str, refresh_token: Option<&str>) -> Reply {
    let mut request = world.get(ME).bearer(access_token);
    if let Some(refresh_token) = refresh_token {
        request = request.header("x-refresh-token", refresh_token);
    }
    request.await
}

/// An access token with these claims, signed with the random secret.
fn forged(claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("at+jwt".into());
    header.kid = Some("k1".into());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[tokio::test]
async fn jw1_the_random_secret_admits_nobody_where_another_algorithm_signs() {
    let (_before, alice, after) = moved().await;
    let mut said = claims(&alice.access_token);
    said["roles"] = json!(["ROLE_ADMIN"]);
    after.wire.take();
    for token in [&alice.access_token, &forged(&said)] {
        let reply = me(&after, token, None).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error(), "invalid_token");
    }
    assert!(after.wire.take().calls.is_empty());
}

#[tokio::test]
async fn jw1_a_private_key_admits_nobody_under_hs256() {
    let (before, _, after) = moved().await;
    let tokens = after.login(crate::world::PASSWORD).await.user();
    me(&after, &tokens.access_token, None).await.expect(StatusCode::OK);
    me(&before, &tokens.access_token, None).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn jw1_after_a_change_of_algorithm_a_client_refreshes_and_is_not_signed_out() {
    let (_before, alice, after) = moved().await;
    let tokens = after.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    me(&after, &tokens.text("access_token"), None).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn jw1_mw1_a_client_that_renews_through_the_middleware_alone_is_not_stranded() {
    let (_before, alice, after) = moved().await;
    let reply = me(&after, &alice.access_token, Some(&alice.refresh_token)).await.expect(StatusCode::OK);
    let renewed = reply.headers["x-new-access-token"].to_str().unwrap();
    assert_eq!(jsonwebtoken::decode_header(renewed).unwrap().alg, Algorithm::RS256);
    me(&after, renewed, None).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn jw1_mw1_an_access_token_of_another_algorithm_is_never_admitted_beside_a_bad_refresh_token() {
    let (_before, alice, after) = moved().await;
    let mallory = after.register("mallory@example.com").await;
    let mut said = claims(&alice.access_token);
    said["roles"] = json!(["ROLE_ADMIN"]);
    let admin = forged(&said);
    for refresh in [&mallory.refresh_token, "x"] {
        let reply = me(&after, &admin, Some(refresh)).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error(), "invalid_refresh_token");
    }
    // Beside a refresh token of its session it is renewed, with the roles of the user.
    let reply = me(&after, &admin, Some(&alice.refresh_token)).await.expect(StatusCode::OK);
    assert_eq!(claims(reply.headers["x-new-access-token"].to_str().unwrap())["roles"], json!(["ROLE_USER"]));
    assert_eq!(reply.json()["roles"], json!(["ROLE_USER"]));
    // Once the refresh token is spent, it admits nobody either.
    let other = forged(&json!({ "jti": "another", "sub": said["sub"], "sid": said["sid"], "iss": said["iss"],
        "aud": said["aud"], "iat": said["iat"], "nbf": said["nbf"], "exp": said["exp"], "roles": [] }));
    me(&after, &other, Some(&alice.refresh_token)).await.expect(StatusCode::UNAUTHORIZED);
}
