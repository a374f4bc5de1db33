//! The layer in front of `functions/account`, and what it renews.

use std::sync::Arc;

use freshkey::client::Client;
use freshkey::id::UserId;
use freshkey::layer::Authenticate;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use jsonwebtoken::EncodingKey;
use lambda_http::Body;
use serde_json::json;

use crate::wire::Fate;
use crate::world::{PASSWORD, Reply, User, World, claims, signed_up, signed_up_with};

const HOUR: u64 = 3600;
const SECRET: &str = "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ";
const NEW: [&str; 3] = ["x-new-access-token", "x-new-refresh-token", "x-new-expires-in"];

async fn me(world: &World, pair: &User) -> Reply {
    let request = world.get("/api/v1/users/me").bearer(&pair.access_token);
    request.header("x-refresh-token", &pair.refresh_token).await
}

fn new_header(reply: &Reply, name: &str) -> String {
    reply.headers[name].to_str().unwrap().to_owned()
}

/// The new pair of tokens in an answer.
fn renewed(reply: &Reply, pair: &User) -> User {
    User {
        id: pair.id.clone(),
        access_token: new_header(reply, "x-new-access-token"),
        refresh_token: new_header(reply, "x-new-refresh-token"),
    }
}

fn brings_tokens(reply: &Reply) -> bool {
    let there = NEW.map(|name| reply.headers.contains_key(name));
    assert!(there == [true; 3] || there == [false; 3], "all three headers or none: {:?}", reply.headers);
    there[0]
}

#[tokio::test]
async fn mw1_an_expired_access_token_is_renewed_on_the_way() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    let reply = me(&world, &alice).await.expect(StatusCode::OK);
    assert_eq!(new_header(&reply, "x-new-expires-in"), "3600");
    assert_eq!(reply.headers["cache-control"], "no-store");
    let pair = renewed(&reply, &alice);
    assert_eq!(claims(&pair.refresh_token)["gen"], 2);
    me(&world, &pair).await.expect(StatusCode::OK);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn mw2_an_access_token_outside_the_window_leaves_the_refresh_token_alone() {
    let (world, alice) = signed_up().await;
    for (seconds, is_due) in [(0, false), (HOUR - 301, false), (1, true)] {
        world.pass(seconds);
        let reply = me(&world, &alice).await.expect(StatusCode::OK);
        assert_eq!(brings_tokens(&reply), is_due, "{seconds}");
    }
    let (world, mut mixed) = signed_up().await;
    mixed.refresh_token = "not a token".into();
    assert!(!brings_tokens(&me(&world, &mixed).await.expect(StatusCode::OK)));
}

#[tokio::test]
async fn mw2_the_window_of_a_short_lifetime_is_its_second_half() {
    let (world, alice) = signed_up_with(&[("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "4")]).await;
    world.pass(119);
    assert!(!brings_tokens(&me(&world, &alice).await.expect(StatusCode::OK)));
    world.pass(1);
    assert!(brings_tokens(&me(&world, &alice).await.expect(StatusCode::OK)));
}

#[tokio::test]
async fn mw1_the_two_tokens_must_be_of_one_session() {
    let (world, alice) = signed_up().await;
    let other_session = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let mallory = world.register("mallory@example.com").await;
    for seconds in [HOUR - 60, 60] {
        world.pass(seconds);
        for stranger in [&other_session, &mallory] {
            let mixed = User { refresh_token: stranger.refresh_token.clone(), ..alice.clone() };
            let reply = me(&world, &mixed).await.expect(StatusCode::UNAUTHORIZED);
            assert_eq!(reply.error(), "invalid_refresh_token");
        }
    }
    assert!(world.is_alive(&mallory.refresh_token).await);
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn mw1_the_two_tokens_must_be_of_one_user_whatever_the_session() {
    let (world, alice) = signed_up_with(&[("JWT_SECRET_KEY", SECRET)]).await;
    let mallory = world.register("mallory@example.com").await;
    let mut said = claims(&alice.access_token);
    said["sub"] = mallory.id.into();
    let header = jsonwebtoken::decode_header(&alice.access_token).unwrap();
    let access_token = jsonwebtoken::encode(&header, &said, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    world.pass(HOUR);
    let mixed = User { access_token, ..alice.clone() };
    assert_eq!(me(&world, &mixed).await.expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token");
    assert!(brings_tokens(&me(&world, &alice).await.expect(StatusCode::OK)));
}

#[tokio::test]
async fn mw1_the_request_is_served_as_what_the_user_is_by_now() {
    let (world, alice) = signed_up().await;
    let app = world.app("account");
    let mut user = app.store().user(UserId::parse(&alice.id).unwrap()).await.unwrap().unwrap();
    let credential = app.store().credential(&user.email).await.unwrap().unwrap();
    user.roles = vec!["ROLE_ADMIN".into()];
    app.store().seed_user(&user, &credential, &[]).await.unwrap();
    let admit = |refresh| app.admit(Some(&alice.access_token), refresh, Client::default());
    assert_eq!(admit(None).await.unwrap().identity.roles, ["ROLE_USER"]);
    world.pass(HOUR);
    let admitted = admit(Some(&alice.refresh_token)).await.unwrap();
    assert_eq!(admitted.identity.roles, ["ROLE_ADMIN"]);
    assert_eq!((admitted.identity.user_id, admitted.renewed.is_some()), (user.id, true));
}

#[tokio::test]
async fn mw1_a_forged_access_token_renews_nothing() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    world.wire.take();
    let forged = User { access_token: format!("{}x", alice.access_token), ..alice.clone() };
    assert_eq!(me(&world, &forged).await.expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
    assert!(world.wire.take().calls.is_empty());
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn mw3_new_tokens_come_with_whatever_the_handler_answers() {
    let (world, mut pair) = signed_up().await;
    let weak = json!({ "current_password": PASSWORD, "new_password": "short" });
    for (path, body, status) in [
        ("/api/v1/users/me/password", weak, StatusCode::UNPROCESSABLE_ENTITY),
        ("/api/v1/users/me/password", json!([]), StatusCode::BAD_REQUEST),
    ] {
        world.pass(HOUR);
        let request = world.request(http::Method::PUT, path).json(body).bearer(&pair.access_token);
        let reply = request.header("x-refresh-token", &pair.refresh_token).await.expect(status);
        assert!(brings_tokens(&reply));
        assert_eq!(reply.headers["cache-control"], "no-store");
        pair = renewed(&reply, &pair);
    }
    world.pass(HOUR);
    world.wire.on_call(|call| async move {
        // The rotation and its read of the user pass; the handler's own read fails.
        if call.operation == "Query" { Fate::Refused(500, "InternalServerError") } else { Fate::Pass }
    });
    let request = world.get("/api/v1/auth/sessions").bearer(&pair.access_token);
    let reply = request.header("x-refresh-token", &pair.refresh_token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(brings_tokens(&reply));
}

#[tokio::test]
async fn mw4_parallel_requests_with_one_expired_pair_are_one_attempt() {
    let (world, mut pair) = signed_up().await;
    for generation in 2..=4 {
        world.pass(HOUR);
        let replies = join_all((0..20).map(|_| me(&world, &pair))).await;
        for reply in &replies {
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            assert_eq!(new_header(reply, "x-new-refresh-token"), new_header(&replies[0], "x-new-refresh-token"));
        }
        pair = renewed(&replies[7], &pair);
        assert_eq!(claims(&pair.refresh_token)["gen"], generation);
    }
    assert!(world.is_alive(&pair.refresh_token).await);
}

#[tokio::test]
async fn mw4_a_lost_answer_costs_nothing() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    let lost = renewed(&me(&world, &alice).await.expect(StatusCode::OK), &alice);
    world.pass(60);
    let again = renewed(&me(&world, &alice).await.expect(StatusCode::OK), &alice);
    assert_eq!(again.refresh_token, lost.refresh_token);
    assert_ne!(again.access_token, lost.access_token);
    assert!(world.is_alive(&again.refresh_token).await);
}

#[tokio::test]
async fn mw6_a_refresh_token_header_that_appears_twice_is_refused() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    let request = world.get("/api/v1/users/me").bearer(&alice.access_token);
    let twice = request.header("x-refresh-token", &alice.refresh_token).header("x-refresh-token", "x").await;
    twice.expect(StatusCode::UNAUTHORIZED);
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn mw7_the_tokens_leave_room_in_the_headers() {
    let (_, alice) = signed_up_with(&[("DEFAULT_ROLES", &["ROLE_OF_A_LONG_NAME"; 20].join(","))]).await;
    let size = alice.access_token.len() + alice.refresh_token.len();
    assert!(size <= 6 * 1024, "{size}");
}

#[tokio::test]
async fn a_renewal_that_fails_fails_the_request_only_when_the_access_token_has_expired() {
    let (world, alice) = signed_up().await;
    let forged = User { refresh_token: format!("{}x", alice.refresh_token), ..alice.clone() };
    let cases = [
        (forged, None, StatusCode::UNAUTHORIZED, "invalid_refresh_token"),
        (alice.clone(), Some("UpdateItem"), StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
    ];
    world.pass(HOUR - 60);
    for (pair, outage, _, _) in &cases {
        world.wire.fault(outage.unwrap_or("none"), 9, Fate::Refused(500, "InternalServerError"));
        assert!(!brings_tokens(&me(&world, pair).await.expect(StatusCode::OK)));
    }
    world.pass(60);
    for (pair, outage, status, error) in &cases {
        world.wire.fault(outage.unwrap_or("none"), 9, Fate::Refused(500, "InternalServerError"));
        assert_eq!(me(&world, pair).await.expect(*status).error(), *error);
    }
    world.wire.on_call(|_| async { Fate::Pass });
    assert!(brings_tokens(&me(&world, &alice).await.expect(StatusCode::OK)));
}

#[tokio::test]
async fn a_spent_budget_fails_no_request_whose_access_token_is_good() {
    let (world, alice) = signed_up_with(&[("REFRESH_BURST", "1")]).await;
    let refreshed = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    let refresh_token = refreshed.text("refresh_token");
    let pair = User { access_token: refreshed.text("access_token"), refresh_token, ..alice };
    world.pass(HOUR - 60);
    assert!(!brings_tokens(&me(&world, &pair).await.expect(StatusCode::OK)));
    world.pass(60);
    assert!(brings_tokens(&me(&world, &pair).await.expect(StatusCode::OK)));
}

#[tokio::test]
async fn an_expired_access_token_without_a_refresh_token_is_401() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    let reply = world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error(), "invalid_token");
    assert_eq!(reply.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn the_identity_is_that_of_the_refreshed_session() {
    let (world, alice) = signed_up().await;
    world.pass(HOUR);
    let reply = me(&world, &alice).await.expect(StatusCode::OK);
    let (old, new) = (claims(&alice.access_token), claims(&new_header(&reply, "x-new-access-token")));
    assert_eq!((&new["sub"], &new["sid"]), (&old["sub"], &old["sid"]));
    assert_ne!(new["jti"], old["jti"]);
}

#[tokio::test]
async fn jw18_a_look_at_every_call_ends_a_session_at_once() {
    for (setting, status) in [("false", StatusCode::OK), ("true", StatusCode::UNAUTHORIZED)] {
        let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", setting)]).await;
        me(&world, &alice).await.expect(StatusCode::OK);
        let body = json!({ "refresh_token": alice.refresh_token });
        world.post("/api/v1/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
        me(&world, &alice).await.expect(status);
    }
}

#[tokio::test]
async fn jw18_a_look_at_every_call_refuses_a_session_whose_row_is_kept_as_evidence() {
    let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", "true")]).await;
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    me(&world, &alice).await.expect(StatusCode::OK);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    me(&world, &alice).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_required_role_is_one_of_those_in_the_access_token() {
    let (world, alice) = signed_up_with(&[("DEFAULT_ROLES", "ROLE_USER,ROLE_EDITOR")]).await;
    for (role, status) in [
        ("ROLE_USER", StatusCode::OK),
        ("ROLE_EDITOR", StatusCode::OK),
        ("ROLE_ADMIN", StatusCode::FORBIDDEN),
        ("ROLE", StatusCode::FORBIDDEN),
    ] {
        let layer = Authenticate::new(Arc::clone(world.app("account"))).require_role(role);
        let bearer = format!("Bearer {}", alice.access_token);
        let request = Request::get("/reports").header("authorization", bearer).body(Body::Empty).unwrap();
        let served = layer.answer(request, async |_| Ok(Response::new(Body::Empty))).await;
        assert_eq!(served.unwrap().status(), status, "{role}");
    }
}
