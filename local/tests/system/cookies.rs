//! Refresh tokens in a cookie: what a browser holds and sends, and what a page
//! of another origin cannot do with it.

use std::path::Path;

use http::{Method, StatusCode};
use lambda_runtime::Context;
use local::TEMPLATE;
use local::template::{Route, Template};
use serde_json::{Value, json};

use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, Sending, World, signed_up_with, world_with};

const ORIGIN: &str = "https://app.example.com";
const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const ME: &str = "/api/v1/users/me";
const COOKIE: (&str, &str) = ("REFRESH_TOKEN_TRANSPORT", "cookie");
const BOTH: (&str, &str) = ("REFRESH_TOKEN_TRANSPORT", "both");
const PICKED: (&str, &str) = ("x-token-transport", "cookie");
const MONTH: &str = "HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age=2592000";

/// A request that a script of the app makes.
fn by_script<'a>(world: &'a World, path: &str) -> Sending<'a> {
    world.request(Method::POST, path).header("origin", ORIGIN).header("x-requested-with", "fetch")
}

/// The same request with the cookie that the browser attaches.
fn with_cookie<'a>(world: &'a World, path: &str, refresh_token: &str) -> Sending<'a> {
    by_script(world, path).header("cookie", &format!("theme=dark; __Host-refresh_token={refresh_token}"))
}

/// The request with this `x-token-transport`, if there is one.
fn pick<'a>(request: Sending<'a>, transport: Option<&str>) -> Sending<'a> {
    match transport {
        Some(transport) => request.header(PICKED.0, transport),
        None => request,
    }
}

/// The refresh token's cookie that an answer sets: its value and its attributes.
fn set(reply: &Reply) -> Option<(String, String)> {
    let lines = reply.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    let [line] = lines.filter_map(|line| line.strip_prefix("__Host-refresh_token=")).collect::<Vec<_>>()[..] else {
        return None;
    };
    line.split_once("; ").map(|(value, attributes)| (value.to_owned(), attributes.to_owned()))
}

/// Whether an answer clears a cookie, with the attributes with which it was set.
fn clears(reply: &Reply, name: &str) -> bool {
    let cleared = format!("__Host-{name}=; {}", MONTH.replace("2592000", "0"));
    reply.headers.get_all("set-cookie").iter().any(|line| line == &cleared)
}

/// The refresh token of an answer that has it in the cookie and nowhere else.
#[track_caller]
fn only_in_cookie(reply: &Reply) -> String {
    let (token, attributes) = set(reply).expect("the answer sets the cookie");
    assert_eq!(attributes, MONTH);
    assert_eq!(token.split('.').count(), 3);
    assert!(!reply.text.contains("refresh_token"), "{}", reply.text);
    assert!(!reply.text.contains(&token), "{}", reply.text);
    for (name, value) in reply.headers.iter().filter(|(name, _)| *name != "set-cookie") {
        assert!(!value.to_str().unwrap().contains(&token), "{name}");
    }
    assert_eq!(reply.headers["cache-control"], "no-store");
    token
}

fn ada() -> Value {
    json!({ "email": "ada@example.com", "password": PASSWORD })
}

#[tokio::test]
async fn ck1_ck2_ck7_a_session_in_a_cookie_from_its_beginning_to_its_end() {
    let world = world_with(&[COOKIE]).await;
    let registered = by_script(&world, REGISTER).json(ada()).await.expect(StatusCode::CREATED);
    let first = only_in_cookie(&registered);
    assert_eq!(registered.json()["refresh_expires_in"], 2_592_000);
    let me = world.get(ME).bearer(&registered.text("access_token")).await.expect(StatusCode::OK);
    assert_eq!(me.text("email"), "ada@example.com");

    let refreshed = with_cookie(&world, REFRESH, &first).await.expect(StatusCode::OK);
    let second = only_in_cookie(&refreshed);
    assert_ne!(first, second);
    world.get(ME).bearer(&refreshed.text("access_token")).await.expect(StatusCode::OK);
    // A refresh token anywhere else is ignored.
    let elsewhere = json!({ "refresh_token": first });
    let refreshed = with_cookie(&world, REFRESH, &second).header("x-refresh-token", &first).json(elsewhere).await;
    let third = only_in_cookie(&refreshed.expect(StatusCode::OK));

    let logged_in = by_script(&world, LOGIN).json(ada()).await.expect(StatusCode::OK);
    let other = only_in_cookie(&logged_in);

    for _ in 0..2 {
        let logged_out = with_cookie(&world, LOGOUT, &third).await.expect(StatusCode::NO_CONTENT);
        assert!(clears(&logged_out, "refresh_token"));
    }
    let refused = with_cookie(&world, REFRESH, &third).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(refused.error(), "invalid_refresh_token");
    with_cookie(&world, REFRESH, &other).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rf2_ck7_a_spent_cookie_ends_the_session_and_is_cleared() {
    let world = world_with(&[COOKIE]).await;
    let first = only_in_cookie(&by_script(&world, REGISTER).json(ada()).await);
    let second = only_in_cookie(&with_cookie(&world, REFRESH, &first).await);
    for spent in [first, second] {
        let refused = with_cookie(&world, REFRESH, &spent).await.expect(StatusCode::UNAUTHORIZED);
        assert!(clears(&refused, "refresh_token"));
    }
}

#[tokio::test]
async fn ck7_a_final_refusal_clears_the_refresh_cookie_and_no_other_answer_does() {
    for (path, status) in [(REFRESH, StatusCode::UNAUTHORIZED), ("/api/token/refresh", StatusCode::BAD_REQUEST)] {
        for transport in [COOKIE, BOTH] {
            let world = world_with(&[transport, ("REFRESH_BURST", "1"), ("REFRESH_PER_LIFETIME", "1")]).await;
            let picked = |token: &str| with_cookie(&world, path, token).header(PICKED.0, PICKED.1);
            let registered = by_script(&world, REGISTER).header(PICKED.0, PICKED.1).json(ada()).await;
            let token = only_in_cookie(&registered);

            world.wire.fault("UpdateItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
            let outage = picked(&token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
            world.wire.heal();
            let keyless = picked(&token).header("idempotency-key", "").await.expect(StatusCode::BAD_REQUEST);
            let foreign = world.request(Method::POST, path).header("cookie", &format!("__Host-refresh_token={token}"));
            let foreign = foreign.header(PICKED.0, PICKED.1).await.expect(StatusCode::FORBIDDEN);
            let second = only_in_cookie(&picked(&token).await.expect(StatusCode::OK));
            let limited = picked(&second).await.expect(StatusCode::TOO_MANY_REQUESTS);
            let none = by_script(&world, path).header(PICKED.0, PICKED.1).await.expect(StatusCode::UNAUTHORIZED);
            for reply in [outage, keyless, foreign, limited, none] {
                assert_eq!(reply.headers.get("set-cookie"), None, "{}", reply.text);
            }

            let mut forged = second.clone();
            forged.truncate(second.len() - 3);
            for dead in ["x", "a.b.c", &forged, &token] {
                let refused = picked(dead).await.expect(status);
                assert!(clears(&refused, "refresh_token"), "{dead}");
                // The device is still known.
                assert_eq!(refused.headers.get_all("set-cookie").iter().count(), 1);
                assert_eq!(refused.headers["cache-control"], "no-store");
            }
        }
        let (world, alice) = signed_up_with(&[]).await;
        world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
        let refused = world.post(path, json!({ "refresh_token": alice.refresh_token })).await.expect(status);
        assert_eq!(refused.headers.get("set-cookie"), None);
    }
}

#[tokio::test]
async fn ck7_deleting_the_account_clears_both_cookies() {
    const DELETE: &str = "/api/v1/users/me/delete";
    for (transport, picks) in [(COOKIE, None), (BOTH, Some("cookie")), (BOTH, None), (("LOG_LEVEL", "INFO"), None)] {
        let world = world_with(&[transport]).await;
        let is_cookie = transport == COOKIE || picks.is_some();
        let registered = pick(by_script(&world, REGISTER), picks).json(ada()).await.expect(StatusCode::CREATED);
        let delete = |password: &str| {
            let request = world.post(DELETE, json!({ "password": password }));
            pick(request, picks).bearer(&registered.text("access_token"))
        };
        let wrong = delete("not her password").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(wrong.headers.get("set-cookie"), None);
        let deleted = delete(PASSWORD).await.expect(StatusCode::NO_CONTENT);
        for name in ["refresh_token", "device_token"] {
            assert_eq!(clears(&deleted, name), is_cookie, "{transport:?} {name}");
        }
    }
}

#[tokio::test]
async fn ck2_the_lexik_routes_keep_to_the_cookie_too() {
    let world = world_with(&[COOKIE]).await;
    by_script(&world, REGISTER).json(ada()).await.expect(StatusCode::CREATED);
    let logged_in = by_script(&world, "/api/auth").json(ada()).await.expect(StatusCode::OK);
    let members: Vec<_> = logged_in.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["token", "user"]);
    let first = only_in_cookie(&logged_in);
    let path = "/api/token/refresh";
    let refreshed = with_cookie(&world, path, &first).await.expect(StatusCode::OK);
    only_in_cookie(&refreshed);
    let refused = with_cookie(&world, path, &first).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(refused.json(), json!({ "code": 400, "message": "Invalid refresh token" }));
    let refused = by_script(&world, path).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json(), json!({ "code": 401, "message": "An authentication exception occurred." }));
    let refused = world.post("/api/auth", ada()).await.expect(StatusCode::FORBIDDEN);
    assert_eq!(refused.json()["code"], 403);
}

#[tokio::test]
async fn ck1_same_site_and_max_age_are_as_configured() {
    for same_site in ["Strict", "Lax", "None"] {
        let days = ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "2");
        let absolute = ("SESSION_ABSOLUTE_EXPIRE_DAYS", "2.5");
        let world = world_with(&[COOKIE, ("COOKIE_SAME_SITE", same_site), days, absolute]).await;
        let registered = by_script(&world, REGISTER).json(ada()).await;
        let attributes = |seconds| format!("HttpOnly; Secure; SameSite={same_site}; Path=/; Max-Age={seconds}");
        let (first, given) = set(&registered).unwrap();
        assert_eq!(given, attributes(2 * 86_400));
        world.pass(86_400);
        let refreshed = with_cookie(&world, REFRESH, &first).await.expect(StatusCode::OK);
        let (second, given) = set(&refreshed).unwrap();
        assert_eq!(given, attributes(36 * 3600));
        let logged_out = with_cookie(&world, LOGOUT, &second).await;
        assert_eq!(set(&logged_out).unwrap().1, attributes(0));
    }
}

#[tokio::test]
async fn ck6_what_a_page_of_another_origin_can_send_is_refused_before_anything_is_done() {
    const SCRIPT: (&str, &str) = ("x-requested-with", "fetch");
    const OURS: (&str, &str) = ("origin", ORIGIN);
    let json = ("application/json", r#"{"email":"ada@example.com","password":"a quiet river under seven bridges"}"#);
    let form = ("application/x-www-form-urlencoded", "email=ada%40example.com&password=a+quiet+river");
    let text = ("text/plain", json.1);
    let multipart = ("multipart/form-data; boundary=x", "--x--");
    let untyped = ("", json.1);
    let world = world_with(&[COOKIE]).await;
    let token = only_in_cookie(&by_script(&world, REGISTER).json(ada()).await);
    world.wire.take();
    for path in [REGISTER, LOGIN, "/api/auth", REFRESH, "/api/token/refresh", LOGOUT] {
        for (headers, (content_type, body)) in [
            (&[SCRIPT][..], json),
            (&[OURS], json),
            (&[], json),
            (&[("origin", "https://evil.example"), SCRIPT], json),
            (&[("origin", "https://app.example.com.evil.example"), SCRIPT], json),
            (&[("origin", "https://evil-app.example.com"), SCRIPT], json),
            (&[("origin", "null"), SCRIPT], json),
            (&[OURS, OURS, SCRIPT], json),
            (&[OURS, SCRIPT], form),
            (&[OURS, SCRIPT], text),
            (&[OURS, SCRIPT], multipart),
            (&[OURS, SCRIPT], untyped),
            (&[("origin", "https://evil.example")], form),
        ] {
            let request = world.request(Method::POST, path).body(content_type, body);
            let request = request.header("cookie", &format!("__Host-refresh_token={token}"));
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let refused = request.await.expect(StatusCode::FORBIDDEN);
            if !["/api/auth", "/api/token/refresh"].contains(&path) {
                assert_eq!(refused.error(), "origin_not_allowed");
            }
            assert_eq!(refused.headers.get("set-cookie"), None);
            assert_eq!(refused.headers["cache-control"], "no-store");
        }
    }
    assert!(world.wire.take().calls.is_empty());
    with_cookie(&world, REFRESH, &token).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn with_both_the_client_picks_and_a_cookie_that_was_not_picked_is_ignored() {
    let world = world_with(&[BOTH]).await;
    let picked = |path| by_script(&world, path).header("x-token-transport", "cookie");
    let in_body = world.post(REGISTER, ada()).await.expect(StatusCode::CREATED);
    assert_eq!(set(&in_body), None);
    let body_token = in_body.text("refresh_token");
    let cookie_token = only_in_cookie(&picked(LOGIN).json(ada()).await.expect(StatusCode::OK));
    let cookie = format!("__Host-refresh_token={cookie_token}");

    // Cookies are not chosen: the request is not guarded, and the cookie is ignored.
    let ignored = world.request(Method::POST, REFRESH).header("cookie", &cookie).await;
    assert_eq!(ignored.expect(StatusCode::BAD_REQUEST).error(), "invalid_request");
    let ignored = world.request(Method::POST, LOGOUT).header("cookie", &cookie).await;
    ignored.expect(StatusCode::BAD_REQUEST);
    let body = json!({ "refresh_token": body_token });
    let refreshed = world.post(REFRESH, body).header("cookie", &cookie).await.expect(StatusCode::OK);
    assert_eq!(set(&refreshed), None);
    let body_token = refreshed.text("refresh_token");

    // Cookies are chosen: the request is guarded, and the body is ignored.
    for path in [LOGIN, REFRESH, LOGOUT] {
        let unguarded = world.request(Method::POST, path).header("x-token-transport", "cookie");
        unguarded.header("cookie", &cookie).json(ada()).await.expect(StatusCode::FORBIDDEN);
    }
    let body = json!({ "refresh_token": body_token });
    picked(REFRESH).json(body.clone()).await.expect(StatusCode::UNAUTHORIZED);
    picked(LOGOUT).json(body.clone()).await.expect(StatusCode::BAD_REQUEST);
    let cookie_token = only_in_cookie(&picked(REFRESH).header("cookie", &cookie).await.expect(StatusCode::OK));
    let cookie = format!("__Host-refresh_token={cookie_token}");
    picked(LOGOUT).header("cookie", &cookie).await.expect(StatusCode::NO_CONTENT);
    assert!(world.is_alive(&body_token).await);
    let typo = world.post(LOGIN, ada()).header("x-token-transport", "cookies").await;
    assert_eq!(typo.expect(StatusCode::BAD_REQUEST).error(), "invalid_request");
}

#[tokio::test]
async fn without_cookie_mode_a_cookie_is_neither_read_nor_set() {
    let (world, alice) = signed_up_with(&[]).await;
    let sent = |path| with_cookie(&world, path, &alice.refresh_token);
    sent(REFRESH).await.expect(StatusCode::BAD_REQUEST);
    sent(LOGOUT).await.expect(StatusCode::BAD_REQUEST);
    let login = sent(LOGIN).json(json!({ "email": EMAIL, "password": PASSWORD })).await.expect(StatusCode::OK);
    assert_eq!(login.headers.get("set-cookie"), None);
    login.text("refresh_token");
}

#[tokio::test]
async fn a_transport_that_the_server_does_not_have_is_a_400_and_nothing_is_done() {
    let (world, alice) = signed_up_with(&[]).await;
    let body = json!({ "email": EMAIL, "password": PASSWORD, "refresh_token": alice.refresh_token });
    for path in [REGISTER, LOGIN, "/api/auth", REFRESH, "/api/token/refresh", LOGOUT] {
        for transport in ["cookie", "Cookie", "cookies", ""] {
            let refused = by_script(&world, path).header(PICKED.0, transport).json(body.clone()).await;
            let refused = refused.expect(StatusCode::BAD_REQUEST);
            assert!(!refused.text.contains("eyJ") && refused.headers.get("set-cookie").is_none(), "{}", refused.text);
        }
    }
    let request = || world.get(ME).bearer(&alice.access_token);
    assert_eq!(request().header(PICKED.0, "cookie").await.expect(StatusCode::BAD_REQUEST).error(), "invalid_request");
    assert!(world.wire.take().calls.is_empty());
    request().header(PICKED.0, "body").await.expect(StatusCode::OK);
    assert!(world.is_alive(&alice.refresh_token).await);

    let world = world_with(&[COOKIE]).await;
    let refused = by_script(&world, REGISTER).header(PICKED.0, "body").json(ada()).await;
    refused.expect(StatusCode::BAD_REQUEST);
    by_script(&world, REGISTER).header(PICKED.0, PICKED.1).json(ada()).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn ck2_the_middleware_neither_reads_the_cookie_nor_renews_where_it_is_the_transport() {
    for transport in [COOKIE, BOTH] {
        let world = world_with(&[transport]).await;
        let picks = || ("x-token-transport", "cookie");
        let registered = by_script(&world, REGISTER).header(picks().0, picks().1).json(ada()).await;
        let token = only_in_cookie(&registered);
        let call = || {
            let call = world.get(ME).bearer(&registered.text("access_token")).header("origin", ORIGIN);
            call.header(picks().0, picks().1).header("cookie", &format!("__Host-refresh_token={token}"))
        };
        world.pass(3600 - 60);
        world.wire.take();
        let due = call().header("x-refresh-token", &token).await.expect(StatusCode::OK);
        assert!(!due.headers.keys().any(|name| name.as_str().starts_with("x-new-")), "{:?}", due.headers);
        assert_eq!(due.headers.get("set-cookie"), None);
        world.pass(60);
        for request in [call(), call().header("x-refresh-token", &token)] {
            let expired = request.await.expect(StatusCode::UNAUTHORIZED);
            assert_eq!((expired.error().as_str(), set(&expired)), ("invalid_token", None));
        }
        assert!(!world.wire.take().operations().contains(&"UpdateItem"));
        with_cookie(&world, REFRESH, &token).header(picks().0, picks().1).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_logout_without_a_cookie_is_a_400_and_one_that_failed_leaves_it() {
    let world = world_with(&[COOKIE]).await;
    let token = only_in_cookie(&by_script(&world, REGISTER).json(ada()).await);
    assert_eq!(by_script(&world, LOGOUT).await.expect(StatusCode::BAD_REQUEST).error(), "invalid_request");
    world.wire.fault("DeleteItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    let failed = with_cookie(&world, LOGOUT, &token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(set(&failed), None);
    world.wire.heal();
    with_cookie(&world, REFRESH, &token).await.expect(StatusCode::OK);
    let forged = with_cookie(&world, LOGOUT, "a.b.c").await.expect(StatusCode::NO_CONTENT);
    assert_eq!(set(&forged).unwrap().0, "");
}

#[tokio::test]
async fn rf13_in1_in2_in3_the_url_and_the_body_are_held_to_the_same_rules() {
    let world = world_with(&[COOKIE]).await;
    let token = only_in_cookie(&by_script(&world, REGISTER).json(ada()).await);
    for path in [REFRESH, LOGOUT] {
        let in_url = format!("{path}?refresh_token={token}");
        with_cookie(&world, &in_url, &token).await.expect(StatusCode::BAD_REQUEST);
        let send = |body: String| with_cookie(&world, path, &token).body("application/json", body);
        send(r#"{"a":1,"a":1}"#.into()).await.expect(StatusCode::BAD_REQUEST);
        send("x".repeat(8193)).await.expect(StatusCode::PAYLOAD_TOO_LARGE);
        let gzip = with_cookie(&world, path, &token).header("content-encoding", "gzip").json(json!({}));
        gzip.await.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    with_cookie(&world, REFRESH, &token).await.expect(StatusCode::OK);
}

/// A function's answer to an event with these cookies.
async fn refresh_event(world: &World, cookies: &[&str]) -> Value {
    let event = json!({
        "version": "2.0",
        "rawPath": REFRESH,
        "rawQueryString": "",
        "cookies": cookies,
        "headers": { "origin": ORIGIN, "x-requested-with": "fetch" },
        "requestContext": {
            "http": { "method": "POST", "path": REFRESH, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1" },
            "timeEpoch": 0,
        },
        "isBase64Encoded": false,
    });
    let function = world.system.function("refresh").unwrap();
    function.invoke(&event.to_string(), Context::default()).await
}

#[tokio::test]
async fn ck4_ck5_cookies_travel_in_the_cookies_of_the_payload_and_count_once_and_as_they_are_spelled() {
    let world = world_with(&[COOKIE]).await;
    let token = only_in_cookie(&by_script(&world, REGISTER).json(ada()).await);
    let ours = format!("__Host-refresh_token={token}");
    let ours = ours.as_str();
    world.wire.take();
    for twice in [&[ours, ours][..], &[ours, "__Host-refresh_token=x"], &["__Host-refresh_token=", "theme=dark", ours]]
    {
        let answer = refresh_event(&world, twice).await;
        assert_eq!(answer["statusCode"], 400, "{twice:?}");
    }
    for otherwise in [ours.to_lowercase(), ours.to_uppercase(), ours.replacen("__Host-", "", 1)] {
        let answer = refresh_event(&world, &[&otherwise]).await;
        assert_eq!(answer["statusCode"], 401, "{otherwise}");
    }
    assert!(world.wire.take().calls.is_empty());
    let planted = ["__host-refresh_token=planted", "theme=dark", ours, "__HOST-refresh_token=planted"];
    let answer = refresh_event(&world, &planted).await;
    assert_eq!(answer["statusCode"], 200);
    let [cookie] = answer["cookies"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert!(cookie.as_str().unwrap().starts_with("__Host-refresh_token=eyJ"), "{cookie}");
    for headers in ["headers", "multiValueHeaders"] {
        assert_eq!(answer[headers].get("set-cookie"), None, "{headers}");
    }
}

fn routes() -> Vec<Route> {
    let template = Template::read(Path::new(TEMPLATE), &[("MailFrom", "no-reply@example.com")]).unwrap();
    template.functions.into_iter().flat_map(|function| function.routes).collect()
}

#[tokio::test]
async fn ck8_no_get_and_no_head_changes_anything() {
    let world = world_with(&[COOKIE]).await;
    let registered = by_script(&world, REGISTER).json(ada()).await;
    let token = only_in_cookie(&registered);
    world.wire.take();
    let routes = routes();
    for route in &routes {
        for method in [Method::GET, Method::HEAD] {
            let request = world.request(method.clone(), &route.path.replace("{session_id}", "x"));
            let request = request.header("cookie", &format!("__Host-refresh_token={token}"));
            let request = request.header("origin", ORIGIN).header("x-requested-with", "fetch");
            let reply = request.bearer(&registered.text("access_token")).await;
            let is_route = routes.iter().any(|other| other.method == method && other.path == route.path);
            assert_eq!(reply.status == StatusCode::NOT_FOUND, !is_route, "{method} {}", route.path);
            assert_eq!(set(&reply), None);
        }
    }
    for call in world.wire.take().calls {
        assert!(["GetItem", "Query"].contains(&call.operation.as_str()), "{}", call.operation);
    }
    with_cookie(&world, REFRESH, &token).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn co1_co2_a_preflight_does_nothing_and_credentials_are_allowed_for_cookies_alone() {
    for (transport, credentials) in [("body", None), ("cookie", Some("true")), ("both", Some("true"))] {
        let world = world_with(&[("REFRESH_TOKEN_TRANSPORT", transport)]).await;
        let picked = if transport == "body" { "body" } else { "cookie" };
        let registered = by_script(&world, REGISTER).header("x-token-transport", picked).json(ada()).await;
        let registered = registered.expect(StatusCode::CREATED);
        let token = set(&registered).map_or_else(|| registered.text("refresh_token"), |(token, _)| token);
        let header =
            |reply: &Reply, name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(&registered, "access-control-allow-credentials").as_deref(), credentials);
        world.wire.take();
        for route in routes() {
            for (origin, is_allowed) in [(ORIGIN, true), ("https://evil-app.example.com", false), ("null", false)] {
                let path = route.path.replace("{session_id}", "x");
                let preflight = world.request(Method::OPTIONS, &path).header("origin", origin);
                let preflight = preflight.header("access-control-request-method", route.method.as_str());
                let preflight = preflight.header("x-refresh-token", &token).bearer(&registered.text("access_token"));
                let reply = preflight.header("cookie", &format!("__Host-refresh_token={token}")).await;
                assert_eq!(reply.status, StatusCode::NO_CONTENT);
                let allowed = header(&reply, "access-control-allow-origin");
                assert_eq!(allowed.as_deref(), is_allowed.then_some(origin), "{path}");
                let expected = credentials.filter(|_| is_allowed);
                assert_eq!(header(&reply, "access-control-allow-credentials").as_deref(), expected, "{path}");
                assert_eq!(set(&reply), None);
            }
        }
        assert!(world.wire.take().calls.is_empty());
    }
}
