//! The headers of every answer, and the times in its body.

use std::time::Duration;

use freshkey::Clock;
use http::{HeaderMap, Method, StatusCode};
use lambda_runtime::Context;
use serde_json::json;

use crate::mail;
use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, World, claims, signed_up, signed_up_with};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const SESSIONS: &str = "/api/v1/auth/sessions";
const ME: &str = "/api/v1/users/me";
const CHANGE: &str = "/api/v1/users/me/password";
const DELETE: &str = "/api/v1/users/me/delete";

/// The headers that this answer must have, and no others. None of them names a
/// technology.
fn expected(reply: &Reply) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &'static str| drop(headers.insert(name, value.parse().unwrap()));
    set("cache-control", "no-store");
    set("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
    set("referrer-policy", "no-referrer");
    set("strict-transport-security", "max-age=63072000; includeSubDomains");
    set("x-content-type-options", "nosniff");
    if reply.status.is_success() && reply.status != StatusCode::NO_CONTENT {
        set("content-type", "application/json; charset=utf-8");
    }
    headers
}

/// The replies of all routes to good requests, made in an order that works.
async fn successes(world: &World) -> Vec<(&'static str, Reply)> {
    let mut replies = Vec::new();
    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    replies.push((REGISTER, world.post(REGISTER, body.clone()).await));
    replies.push((LOGIN, world.post(LOGIN, body.clone()).await));
    replies.push(("/api/auth", world.post("/api/auth", body).await));
    let [bob, other, third] = [0, 1, 2].map(|index: usize| replies[index].1.clone());
    let token = json!({ "refresh_token": other.text("refresh_token") });
    replies.push((REFRESH, world.post(REFRESH, token.clone()).await));
    replies.push((LOGOUT, world.post(LOGOUT, token).await));
    let token = json!({ "refresh_token": third.text("refresh_token") });
    let path = "/api/token/refresh";
    replies.push((path, world.post(path, token).await));
    let session = claims(&third.text("refresh_token"))["sid"].as_str().unwrap().to_owned();
    let one = format!("{SESSIONS}/{session}");
    let change = json!({ "current_password": PASSWORD, "new_password": "eight lanterns in the winter harbour" });
    let delete = json!({ "password": "eight lanterns in the winter harbour" });
    for (method, route, path, body) in [
        (Method::GET, ME, ME, json!({})),
        (Method::PATCH, ME, ME, json!({ "phone": "1" })),
        (Method::GET, SESSIONS, SESSIONS, json!({})),
        (Method::DELETE, "/api/v1/auth/sessions/{session_id}", &one, json!({})),
        (Method::PUT, CHANGE, CHANGE, change),
        (Method::DELETE, SESSIONS, SESSIONS, json!({})),
        (Method::POST, DELETE, DELETE, delete),
    ] {
        let request = world.request(method, path).bearer(&bob.text("access_token"));
        replies.push((route, request.json(body).await));
    }
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration"] {
        replies.push((path, world.get(path).await));
    }
    replies.extend(successes_with_mail(world).await);
    replies
}

async fn successes_with_mail(world: &World) -> Vec<(&'static str, Reply)> {
    const VERIFY: &str = "/api/v1/users/me/email/verification";
    const MOVE: &str = "/api/v1/users/me/email";
    const CONFIRM: &str = "/api/v1/users/me/email/confirm";
    const FORGOT: &str = "/api/v1/auth/password/forgot";
    const RESET: &str = "/api/v1/auth/password/reset";
    let carol = world.register("carol@example.com").await;
    let verify = mail::token(world, "carol@example.com").await;
    let signed_in = |method, path| world.request(method, path).bearer(&carol.access_token);
    let mut replies = vec![(VERIFY, signed_in(Method::POST, VERIFY).await)];
    replies.push((CONFIRM, signed_in(Method::POST, CONFIRM).json(json!({ "token": verify })).await));
    world.pass(60);
    let new = json!({ "email": "carol@new.example.com", "password": PASSWORD });
    replies.push((MOVE, signed_in(Method::PUT, MOVE).json(new).await));
    replies.push((FORGOT, world.post(FORGOT, json!({ "email": "carol@example.com" })).await));
    let reset = mail::token(world, "carol@example.com").await;
    let reset = json!({ "token": reset, "new_password": "eight lanterns in the winter harbour" });
    replies.push((RESET, world.post(RESET, reset).await));
    replies
}

#[tokio::test]
async fn hd1_hd2_hd4_every_answer_of_every_route_is_guarded_and_says_no_more() {
    let (world, _) = signed_up_with(&mail::MAIL).await;
    let replies = successes(&world).await;
    for (route, reply) in &replies {
        assert!(reply.status.is_success(), "{route} {}", reply.text);
        let mut expected = expected(reply);
        if route.starts_with("/.well-known/") {
            expected.insert("cache-control", "public, max-age=300".parse().unwrap());
        }
        assert_eq!(reply.headers, expected, "{route}");
        assert_eq!(reply.text.is_empty(), reply.status == StatusCode::NO_CONTENT, "{route}");
    }
    let template = std::fs::read_to_string(local::TEMPLATE).unwrap();
    let missing = template.lines().filter(|line| line.contains("ApiId:") && line.contains("Path:")).find(|line| {
        let path = line.split("Path: ").nth(1).unwrap().trim_matches(['"', ' ', '}']);
        !replies.iter().any(|(route, _)| route.trim_end_matches('}') == path)
    });
    assert_eq!(missing, None, "every route of the template is asked");
}

#[tokio::test]
async fn hd1_hd3_hd4_every_refusal_is_guarded_and_every_401_names_the_scheme() {
    let (world, alice) = signed_up_with(&[("REFRESH_BURST", "1"), ("REFRESH_PER_LIFETIME", "1")]).await;
    let other = world.login(PASSWORD).await.user();
    let spent = world.refresh(&other.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    let mut replies = Vec::new();
    for path in [REGISTER, LOGIN, "/api/auth", REFRESH, "/api/token/refresh", LOGOUT, DELETE] {
        let post = || world.request(Method::POST, path).bearer(&alice.access_token);
        replies.push(post().body("application/json", "{").await);
        replies.push(post().body("text/plain", "{}").await);
        replies.push(post().body("application/json", "x".repeat(8193)).await);
        replies.push(post().await);
        replies.push(post().json(json!({ "email": EMAIL, "password": "x", "refresh_token": "x" })).await);
        replies.push(post().json(json!({ "email": EMAIL, "password": PASSWORD, "refresh_token": spent })).await);
        if path == LOGIN {
            world.wire.on_call(|_| async { Fate::Refused(500, "InternalServerError") });
            replies.push(post().json(json!({ "email": EMAIL, "password": PASSWORD })).await);
            world.wire.on_call(|_| async { Fate::Pass });
        }
    }
    for (method, path) in [
        (Method::GET, ME),
        (Method::PATCH, ME),
        (Method::PUT, CHANGE),
        (Method::GET, SESSIONS),
        (Method::DELETE, SESSIONS),
        (Method::DELETE, "/api/v1/auth/sessions/x"),
    ] {
        replies.push(world.request(method.clone(), path).await);
        replies.push(world.request(method.clone(), path).bearer("x").await);
    }
    let again = world.register("carol@example.com").await;
    let end = world.request(Method::DELETE, "/api/v1/auth/sessions/x").bearer(&again.access_token);
    replies.push(end.await.expect(StatusCode::NOT_FOUND));

    let mut seen = std::collections::BTreeSet::new();
    for reply in replies.iter().filter(|reply| !reply.status.is_success()) {
        seen.insert(reply.status.as_u16());
        let mut headers = reply.headers.clone();
        let challenge = headers.remove("www-authenticate");
        assert_eq!(challenge.is_some(), reply.status == StatusCode::UNAUTHORIZED, "{}", reply.text);
        assert!(challenge.is_none_or(|challenge| challenge.as_bytes().starts_with(b"Bearer")));
        let content_type = headers.remove("content-type").unwrap();
        let is_problem = reply.json().get("error").is_some();
        let expected_type = if is_problem { "application/problem+json" } else { "application/json; charset=utf-8" };
        assert_eq!(content_type, expected_type, "{}", reply.text);
        let pause = headers.remove("retry-after");
        assert_eq!(pause.is_some(), matches!(reply.status.as_u16(), 429 | 503), "{}", reply.text);
        assert!(pause.is_none_or(|pause| pause.to_str().unwrap().parse::<u64>().unwrap() > 0));
        assert_eq!(headers, expected(reply), "{}", reply.text);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [400, 401, 404, 409, 413, 415, 422, 429, 503]);
}

#[tokio::test]
async fn hd1_hd2_the_answer_to_what_is_no_event_is_guarded() {
    let (world, _) = signed_up().await;
    for function in ["register", "login", "refresh", "logout", "account"] {
        let answer = world.system.function(function).unwrap().invoke("{}", Context::default()).await;
        let header = |name: &str| answer["headers"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("strict-transport-security"), "max-age=63072000; includeSubDomains");
        assert_eq!(header("content-type"), "application/problem+json");
    }
}

/// The seconds until the `exp` of a token.
fn left(world: &World, token: &str) -> i64 {
    claims(token)["exp"].as_i64().unwrap() - world.clock.now().seconds()
}

fn assert_tells_the_seconds_left(world: &World, reply: &Reply) {
    assert_eq!(reply.json()["expires_in"], left(world, &reply.text("access_token")));
    assert_eq!(reply.json()["refresh_expires_in"], left(world, &reply.text("refresh_token")));
}

#[tokio::test]
async fn rf13_expires_in_is_the_whole_seconds_left() {
    let (world, alice) = signed_up_with(&[
        ("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "1440"),
        ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "2"),
        ("SESSION_ABSOLUTE_EXPIRE_DAYS", "3"),
    ])
    .await;
    assert_tells_the_seconds_left(&world, &world.login(PASSWORD).await);
    world.clock.advance(Duration::from_millis(86_400_000 - 1));
    let second = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    assert_tells_the_seconds_left(&world, &second);
    assert_eq!(second.json()["refresh_expires_in"], 2 * 86_400);
    world.clock.advance(Duration::from_millis(3_600_000 + 1));

    // The same refresh token now has an hour less; the access token is new.
    let again = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    assert_eq!(again.text("refresh_token"), second.text("refresh_token"));
    assert_tells_the_seconds_left(&world, &again);
    assert_eq!(again.json()["refresh_expires_in"], 2 * 86_400 - 3601);
    assert_eq!(again.json()["expires_in"], 86_400);

    // Both tokens end with the session.
    world.pass(2 * 86_400 - 7200);
    let last = world.refresh(&second.text("refresh_token")).await.expect(StatusCode::OK);
    assert_tells_the_seconds_left(&world, &last);
    assert_eq!(last.json()["refresh_expires_in"], 3600);
    assert_eq!(last.json()["expires_in"], 3600);
}

#[tokio::test]
async fn created_at_is_rfc_3339_in_utc_to_the_second() {
    let (world, _) = signed_up().await;
    for (millis, expected) in [
        (999, "2100-01-15T08:00:00Z"),
        (1, "2100-01-15T08:00:01Z"),
        (44 * 86_400_000, "2100-02-28T08:00:01Z"),
        (86_400_000, "2100-03-01T08:00:01Z"),
    ] {
        world.clock.advance(Duration::from_millis(millis));
        let user = world.register(&format!("{}@example.com", world.clock.now().millis())).await;
        let me = world.get(ME).bearer(&user.access_token).await.expect(StatusCode::OK);
        assert_eq!(me.text("created_at"), expected);
    }
}
