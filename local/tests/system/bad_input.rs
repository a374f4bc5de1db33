//! Bad input and every other refusal: the table of errors, row by row, in both dialects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshkey::id::UserId;
use http::{Method, StatusCode};
use lambda_runtime::Context;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, Sending, User, World, claims, signed_up, signed_up_with, world_with};

const FORM: &str = "application/x-www-form-urlencoded";
const LEXIK_LOGIN: &str = "/api/auth";
const LEXIK_REFRESH: &str = "/api/token/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const REFRESH: &str = "/api/v1/auth/refresh";
const EXCEPTION: &str = r#"{"code":401,"message":"An authentication exception occurred."}"#;

/// A route that takes a body, and the function behind it.
#[derive(Clone, Copy, Debug)]
struct Route {
    function: &'static str,
    method: &'static str,
    path: &'static str,
}

impl Route {
    const fn new(function: &'static str, method: &'static str, path: &'static str) -> Self {
        Self { function, method, path }
    }

    fn is_lexik(self) -> bool {
        [LEXIK_LOGIN, LEXIK_REFRESH].contains(&self.path)
    }

    /// A request to this route, with the access token of `user`.
    fn request<'a>(self, world: &'a World, user: &User) -> Sending<'a> {
        world.request(self.method.parse().unwrap(), self.path).bearer(&user.access_token)
    }

    /// Checks that a reply is this error in the dialect of this route.
    #[track_caller]
    fn expect(self, reply: &Reply, status: StatusCode, error: &str) {
        assert_eq!(reply.status, status, "{} {}", self.path, reply.text);
        let body = reply.json();
        let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        if self.is_lexik() {
            assert_eq!(members, ["code", "message"], "{}", reply.text);
            assert_eq!(body["code"], status.as_u16());
            assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
        } else {
            assert_eq!(members[..6], ["type", "title", "status", "detail", "error", "request_id"], "{}", reply.text);
            assert_eq!(members[6..], ["errors"][usize::from(status != StatusCode::UNPROCESSABLE_ENTITY)..]);
            assert_eq!(body["status"], status.as_u16());
            assert_eq!(body["error"], error, "{}", self.path);
            assert_eq!(reply.headers["content-type"], "application/problem+json");
        }
    }
}

/// Every route that reads a body.
const ROUTES: [Route; 9] = [
    Route::new("register", "POST", "/api/v1/auth/register"),
    Route::new("login", "POST", "/api/v1/auth/login"),
    Route::new("login", "POST", LEXIK_LOGIN),
    Route::new("refresh", "POST", REFRESH),
    Route::new("refresh", "POST", LEXIK_REFRESH),
    Route::new("logout", "POST", LOGOUT),
    Route::new("account", "PATCH", "/api/v1/users/me"),
    Route::new("account", "PUT", "/api/v1/users/me/password"),
    Route::new("account", "POST", "/api/v1/users/me/delete"),
];

/// Every route behind the Bearer check.
const SIGNED_IN: [(&str, &str); 7] = [
    ("GET", "/api/v1/auth/sessions"),
    ("DELETE", "/api/v1/auth/sessions"),
    ("DELETE", "/api/v1/auth/sessions/0b5f3d5e-7f0a-4c37-9a0c-111111111111"),
    ("GET", "/api/v1/users/me"),
    ("PATCH", "/api/v1/users/me"),
    ("PUT", "/api/v1/users/me/password"),
    ("POST", "/api/v1/users/me/delete"),
];

/// A body that every route in [`ROUTES`] accepts.
fn complete(user: &User) -> Value {
    json!({
        "email": EMAIL, "password": PASSWORD, "refresh_token": user.refresh_token,
        "current_password": PASSWORD, "new_password": "eight lanterns in the winter harbour",
    })
}

fn nested(depth: usize) -> String {
    format!("{{\"x\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
}

async fn logout(world: &World, refresh_token: &str) -> Reply {
    world.post(LOGOUT, json!({ "refresh_token": refresh_token })).await
}

/// The token with another letter in its signature.
fn forged(token: &str) -> String {
    let mut token = token.to_owned();
    let letter = token.len() - 5;
    let other = if &token[letter..=letter] == "A" { "B" } else { "A" };
    token.replace_range(letter..=letter, other);
    token
}

#[tokio::test]
async fn in3_in4_in7_a_body_that_is_not_one_strict_json_object_is_a_400_on_every_route() {
    let (world, alice) = signed_up().await;
    let deep = nested(9);
    let bodies: [&[u8]; 18] = [
        b"{",
        b" ",
        b"[]",
        b"null",
        b"true",
        b"17",
        b"\"text\"",
        b"email=alice%40example.com",
        br#"{"email":"a@example.com"} {}"#,
        br#"{"email":"a@example.com",}"#,
        br#"{'email':'a@example.com'}"#,
        br#"{"x":1,"x":1}"#,
        br#"{"x":{"y":1,"\u0079":2}}"#,
        br#"{"x":"\ud800"}"#,
        br#"{"x":1e999}"#,
        b"{\"x\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        deep.as_bytes(),
    ];
    for route in ROUTES {
        for body in bodies {
            let reply = route.request(&world, &alice).body("application/json", body.to_vec()).await;
            route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
        }
    }
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn in3_in7_strange_members_that_nobody_asks_for_are_ignored() {
    let (world, _) = signed_up().await;
    for member in [&nested(8)[1..], r#""x":123456789012345678901234567890}"#, r#""x":-0}"#, r#""":null}"#] {
        let body = format!("{{\"email\":\"{EMAIL}\",\"password\":\"{PASSWORD}\",{member}");
        for path in ["/api/v1/auth/login", LEXIK_LOGIN] {
            let reply = world.request(Method::POST, path).body("application/json", body.clone()).await;
            reply.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_form_with_a_field_twice_or_not_in_utf_8_is_a_400_on_every_route() {
    let (world, alice) = signed_up().await;
    for route in ROUTES {
        for body in [&b"x=1&x=2"[..], b"x=1&%78=2", b"x=%ff", b"%c3%28=1", b"x=\xff"] {
            let reply = route.request(&world, &alice).body(FORM, body.to_vec()).await;
            route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
        }
    }
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_is_a_400() {
    let (world, alice) = signed_up().await;
    for route in ROUTES {
        let needed: &[&str] = match route.path {
            "/api/v1/users/me/password" => &["current_password", "new_password"],
            "/api/v1/users/me/delete" => &["password"],
            "/api/v1/users/me" => &[],
            path if path.contains("refresh") || path == LOGOUT => &["refresh_token"],
            _ => &["email", "password"],
        };
        for name in needed {
            for wrong in [json!(1), json!(true), json!([PASSWORD]), json!({ "x": PASSWORD })] {
                let mut body = complete(&alice);
                body[*name] = wrong;
                let reply = route.request(&world, &alice).json(body).await;
                route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
            }
            if *name != "refresh_token" {
                let mut body = complete(&alice);
                body.as_object_mut().unwrap().remove(*name);
                for reply in [
                    route.request(&world, &alice).json(body).await,
                    route.request(&world, &alice).json(json!({})).await,
                    route.request(&world, &alice).await,
                ] {
                    route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
                }
            }
        }
    }
    for route in [ROUTES[0], ROUTES[6]] {
        for field in ["first_name", "last_name", "phone", "user_type", "avatar"] {
            let mut body = json!({ "email": "bob@example.com", "password": PASSWORD });
            body[field] = json!(1);
            let reply = route.request(&world, &alice).json(body).await;
            route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
        }
    }
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn in2_a_body_over_8_kib_is_a_413_on_every_route() {
    let (world, alice) = signed_up().await;
    for route in ROUTES {
        for content_type in ["application/json", FORM, "text/plain"] {
            let reply = route.request(&world, &alice).body(content_type, vec![b'x'; 8193]).await;
            route.expect(&reply, StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large");
        }
    }
    let mut body = json!({ "email": EMAIL, "password": PASSWORD, "x": "" });
    let missing = 8192 - body.to_string().len();
    body["x"] = "x".repeat(missing).into();
    world.post("/api/v1/auth/login", body).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn in1_a_body_of_another_type_is_a_415_on_every_route() {
    let (world, alice) = signed_up().await;
    let body = complete(&alice).to_string();
    for route in ROUTES {
        for content_type in [
            "text/plain",
            "text/json",
            "application/xml",
            "application/jsonp",
            "multipart/form-data; boundary=x",
            "application/json; charset",
            "application/json; charset=\"utf-8",
            "application/json, text/plain",
            "text/plain; x=application/json",
            "json",
            "",
        ] {
            let reply = route.request(&world, &alice).body(content_type, body.clone()).await;
            route.expect(&reply, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
        }
    }
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn in1_json_is_read_whatever_the_parameters_of_its_type() {
    let (world, _) = signed_up().await;
    let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    for content_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json; charset=utf8",
        "application/json ; charset=utf-8",
        "application/json; charset=latin1; x=\"a;b\\\"\";",
        "application/vnd.api+json",
    ] {
        for path in ["/api/v1/auth/login", LEXIK_LOGIN] {
            world.request(Method::POST, path).body(content_type, body.clone()).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn every_route_of_the_tokens_takes_a_form() {
    let (world, alice) = signed_up().await;
    let login = "email=alice%40example.com&password=a+quiet+river%20under+seven+bridges&x=1";
    for path in ["/api/v1/auth/login", LEXIK_LOGIN] {
        world.request(Method::POST, path).body(FORM, login).await.expect(StatusCode::OK);
    }
    let form = format!("grant_type=refresh_token&refresh_token={}", alice.refresh_token);
    let reply =
        world.request(Method::POST, REFRESH).body("application/x-www-form-urlencoded ; charset=utf8", form).await;
    let token = reply.expect(StatusCode::OK).text("refresh_token");
    let form = format!("refresh_token={token}");
    let reply = world.request(Method::POST, LEXIK_REFRESH).body(FORM, form).await.expect(StatusCode::OK);
    let token = reply.text("refresh_token");
    let form = format!("refresh_token={token}");
    world.request(Method::POST, LOGOUT).body(FORM, form).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&token).await);
}

#[tokio::test]
async fn wrong_credentials_are_a_401_in_either_dialect() {
    let (world, _) = signed_up().await;
    for route in [ROUTES[1], ROUTES[2]] {
        for body in [json!({ "email": EMAIL, "password": "x" }), json!({ "email": "x", "password": PASSWORD })] {
            let reply = world.post(route.path, body).await;
            route.expect(&reply, StatusCode::UNAUTHORIZED, "invalid_credentials");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
            if route.is_lexik() {
                assert_eq!(reply.text, r#"{"code":401,"message":"Invalid credentials."}"#);
            }
        }
    }
}

#[tokio::test]
async fn hd3_an_access_token_is_asked_for_and_called_invalid_only_when_one_was_sent() {
    let (world, alice) = signed_up().await;
    let elsewhere = signed_up().await.1;
    let forged = forged(&alice.access_token);
    let short = &alice.access_token[..alice.access_token.len() - 1];
    let padded = format!("{}=", alice.access_token);
    let twice = format!("{0},Bearer {0}", alice.access_token);
    let sent = [&alice.refresh_token, &elsewhere.access_token, &forged, short, &padded, &twice, "x", "a.b.c", ".."];
    for (method, path) in SIGNED_IN {
        let request = || world.request(method.parse().unwrap(), path).json(complete(&alice));
        let mut unsent = vec![request().await];
        for value in ["", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "Token x", &alice.access_token] {
            unsent.push(request().header("authorization", value).await);
        }
        unsent.push(request().header("x-refresh-token", &alice.refresh_token).await);
        for reply in unsent {
            assert_eq!(reply.clone().expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
        }
        for token in sent {
            let reply = request().bearer(token).await;
            assert_eq!(reply.clone().expect(StatusCode::UNAUTHORIZED).error(), "invalid_token", "{token}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer error=\"invalid_token\"", "{path} {token}");
        }
    }
    world.pass(3600);
    for (method, path) in SIGNED_IN {
        let reply = world.request(method.parse().unwrap(), path).bearer(&alice.access_token).await;
        assert_eq!(reply.clone().expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
        assert_eq!(reply.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    }
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn the_scheme_of_an_access_token_is_read_in_any_case() {
    let (world, alice) = signed_up().await;
    for scheme in ["bearer ", "BEARER ", " Bearer  "] {
        let value = format!("{scheme}{}", alice.access_token);
        world.get("/api/v1/users/me").header("authorization", &value).await.expect(StatusCode::OK);
    }
}

/// Bodies with a refresh token for each reason to refuse it.
async fn refused_refresh_tokens(world: &World) -> Vec<(&'static str, Value)> {
    let [alice, reused, ended, bob, locked] = [
        world.register(EMAIL).await,
        world.login(PASSWORD).await.user(),
        world.login(PASSWORD).await.user(),
        world.register("bob@example.com").await,
        world.register("carol@example.com").await,
    ];
    let elsewhere = signed_up().await.1;
    let successor = world.refresh(&reused.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    world.refresh(&reused.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    logout(world, &ended.refresh_token).await.expect(StatusCode::NO_CONTENT);
    let path = "/api/v1/users/me/delete";
    let deleted = world.post(path, json!({ "password": PASSWORD })).bearer(&bob.access_token).await;
    deleted.expect(StatusCode::NO_CONTENT);
    let id = UserId::parse(&locked.id).unwrap();
    world.app("account").disable_user(id).await.unwrap();
    let tokens = [
        ("malformed", "x".to_owned()),
        ("of three empty parts", "..".to_owned()),
        ("huge", "x".repeat(8000)),
        ("with a control character", "a\0b".to_owned()),
        ("forged", forged(&alice.refresh_token)),
        ("an access token", alice.access_token),
        ("of another system", elsewhere.refresh_token),
        ("reused", reused.refresh_token),
        ("revoked", successor),
        ("of a session that has ended", ended.refresh_token),
        ("of a user who is gone", bob.refresh_token),
        ("of a user who is disabled", locked.refresh_token),
    ];
    tokens.map(|(reason, token)| (reason, json!({ "refresh_token": token }))).into()
}

#[tokio::test]
async fn a_refused_refresh_token_gets_one_answer_whatever_the_reason() {
    let world = world_with(&[("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "1")]).await;
    let dora = world.register("dora@example.com").await;
    world.pass(86_400);
    let mut bodies = vec![("expired", json!({ "refresh_token": dora.refresh_token }))];
    bodies.extend(refused_refresh_tokens(&world).await);
    let missing = [
        ("missing", json!({})),
        ("empty", json!({ "refresh_token": "" })),
        ("null", json!({ "refresh_token": null })),
        ("by another name", json!({ "refreshToken": dora.refresh_token })),
    ];

    let mut answers = Vec::new();
    for (reason, body) in &bodies {
        let reply = world.post(REFRESH, body.clone()).await;
        assert_eq!(reply.clone().expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token", "{reason}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        answers.push((reason, reply.text.replace(&reply.text("request_id"), ""), reply.headers));
    }
    for (reason, text, headers) in &answers {
        assert_eq!((text, headers), (&answers[0].1, &answers[0].2), "{reason}");
    }

    for (reason, body) in bodies {
        let reply = world.post(LEXIK_REFRESH, body).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(reply.text, r#"{"code":400,"message":"Invalid refresh token"}"#, "{reason}");
        assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
    for (reason, body) in missing {
        let reply = world.post(REFRESH, body.clone()).await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(reply.error(), "invalid_request", "{reason}");
        assert!(!reply.headers.contains_key("www-authenticate"));
        let reply = world.post(LEXIK_REFRESH, body).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.text, EXCEPTION, "{reason}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_request_without_a_body_has_no_refresh_token() {
    let (world, _) = signed_up().await;
    let reply = world.request(Method::POST, REFRESH).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(reply.error(), "invalid_request");
    let reply = world.request(Method::POST, LEXIK_REFRESH).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.text, EXCEPTION);
}

#[tokio::test]
async fn the_lexik_routes_answer_in_the_words_of_the_two_bundles() {
    let (world, alice) = signed_up().await;
    let reply = world.post(LEXIK_LOGIN, json!({ "email": EMAIL, "password": PASSWORD })).await.expect(StatusCode::OK);
    let (token, refresh_token) = (reply.text("token"), reply.text("refresh_token"));
    let device_token = reply.text("device_token");
    let expected = json!({ "token": token, "refresh_token": refresh_token, "device_token": device_token, "user": {
        "id": alice.id, "email": EMAIL, "firstName": null, "lastName": null, "phone": null, "roles": ["ROLE_USER"],
        "userType": null, "isActive": true, "avatar": null,
    } });
    assert_eq!(reply.json(), expected);
    world.get("/api/v1/users/me").bearer(&token).await.expect(StatusCode::OK);
    let reply = world.post(LEXIK_REFRESH, json!({ "refresh_token": refresh_token })).await.expect(StatusCode::OK);
    let (token, successor) = (reply.text("token"), reply.text("refresh_token"));
    assert_eq!(reply.json(), json!({ "token": token, "refresh_token": successor }));
    assert_eq!(claims(&successor)["gen"], 2);
    world.get("/api/v1/users/me").bearer(&token).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_on_a_change_or_a_deletion_is_a_422_that_names_the_field() {
    let (world, alice) = signed_up().await;
    for (route, field) in [(ROUTES[7], "current_password"), (ROUTES[8], "password")] {
        let mut body = complete(&alice);
        body[field] = "not her password".into();
        let reply = route.request(&world, &alice).json(body).await;
        route.expect(&reply, StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
        assert_eq!(reply.faults(), [format!("{field}: password_wrong")]);
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn a_taken_address_is_a_409() {
    let (world, alice) = signed_up().await;
    let reply = ROUTES[0].request(&world, &alice).json(complete(&alice)).await;
    ROUTES[0].expect(&reply, StatusCode::CONFLICT, "email_taken");
}

#[tokio::test]
async fn in6_in7_a_bad_address_or_a_weak_password_is_a_422_that_names_the_field() {
    let (world, alice) = signed_up().await;
    // An address of 254 octets is accepted, and one of 255 is not.
    let octets = |last| format!("{}@{1}.{1}.{2}.com", "a".repeat(64), "b".repeat(61), "c".repeat(last));
    assert_eq!(octets(61).len(), 254);
    world.register(&octets(61)).await;
    let octets = octets(62);
    let long = "x".repeat(257);
    let cases = [
        ("alice", PASSWORD, "email: email_invalid"),
        ("", PASSWORD, "email: email_invalid"),
        ("bob\0@example.com", PASSWORD, "email: email_invalid"),
        ("bob@exam\u{7}ple.com", PASSWORD, "email: email_invalid"),
        (&octets, PASSWORD, "email: email_invalid"),
        ("bob@example.com", "", "password: password_too_short"),
        ("bob@example.com", "password", "password: password_blocklisted"),
        ("bob@example.com", "bob@example.com", "password: password_guessable"),
        ("bob@example.com", &long, "password: password_too_long"),
    ];
    for (email, password, fault) in cases {
        let reply = ROUTES[0].request(&world, &alice).json(json!({ "email": email, "password": password })).await;
        ROUTES[0].expect(&reply, StatusCode::UNPROCESSABLE_ENTITY, "validation_failed");
        assert_eq!(reply.faults(), [fault], "{email:?}");
        let messages = reply.json()["errors"].clone();
        assert!(messages[0]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(email.is_empty() || !reply.text.contains(email), "{}", reply.text);
    }
}

#[tokio::test]
async fn rl2_a_spent_budget_is_a_429_that_says_when_to_come_back() {
    let (world, alice) = signed_up_with(&[("REFRESH_BURST", "1"), ("REFRESH_PER_LIFETIME", "1")]).await;
    let token = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    world.pass(600);
    for route in [ROUTES[3], ROUTES[4]] {
        let reply = world.post(route.path, json!({ "refresh_token": token })).await;
        route.expect(&reply, StatusCode::TOO_MANY_REQUESTS, "rate_limited");
        assert_eq!(reply.headers["retry-after"], "3000");
    }
    world.pass(3000);
    assert!(world.is_alive(&token).await);
}

#[tokio::test]
async fn er3_an_outage_of_the_table_is_a_503_on_every_route_and_costs_no_session() {
    let (world, alice) = signed_up().await;
    let routes = ROUTES.into_iter().chain(
        SIGNED_IN.iter().filter(|(method, _)| ["GET", "DELETE"].contains(method)).map(|(method, path)| Route {
            function: "account",
            method,
            path,
        }),
    );
    for (status, code) in [(500, "InternalServerError"), (400, "ProvisionedThroughputExceededException")] {
        world.wire.on_call(move |_| async move { Fate::Refused(status, code) });
        for route in routes.clone() {
            let mut body = complete(&alice);
            body["phone"] = "1".into();
            if route.function == "register" {
                body["email"] = "bob@example.com".into();
            }
            let reply = route.request(&world, &alice).json(body).await;
            // RL5: a limit whose counter is throttled counts as exceeded.
            let is_limited = code != "InternalServerError" && ["login", "register"].contains(&route.function);
            let (status, error) = match is_limited {
                true => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            };
            route.expect(&reply, status, error);
            assert_eq!(reply.headers["retry-after"], "1");
        }
    }
    world.wire.on_call(|_| async { Fate::Pass });
    assert!(world.is_alive(&alice.refresh_token).await);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    world.register("bob@example.com").await;
}

#[tokio::test]
async fn in9_a_route_or_method_that_no_function_has_is_the_gateways_own_404() {
    let (world, alice) = signed_up().await;
    for (method, path) in [
        ("GET", "/api/v1/auth/login"),
        ("PUT", REFRESH),
        ("GET", LOGOUT),
        ("GET", LEXIK_LOGIN),
        ("HEAD", "/api/v1/users/me"),
        ("DELETE", "/api/v1/users/me"),
        ("GET", "/api/v1/users/me/password"),
        ("POST", "/api/v1/auth/login/"),
        ("POST", "//api/v1/auth/login"),
        ("POST", "/API/v1/auth/login"),
        ("GET", "/api/v1/users/1"),
        ("DELETE", "/api/v1/auth/sessions/"),
        ("POST", "/"),
    ] {
        let request = world.request(method.parse().unwrap(), path).bearer(&alice.access_token);
        let reply = request.json(complete(&alice)).await.expect(StatusCode::NOT_FOUND);
        assert_eq!(reply.text, r#"{"message":"Not Found"}"#, "{method} {path}");
        assert!(!reply.headers.contains_key("strict-transport-security"));
    }
}

#[tokio::test]
async fn rf13_a_refresh_token_in_the_url_is_a_400_and_is_not_spent() {
    let (world, alice) = signed_up().await;
    let token = &alice.refresh_token;
    for route in [ROUTES[3], ROUTES[4], ROUTES[5]] {
        for query in [
            format!("refresh_token={token}"),
            "refresh_token=".into(),
            "refresh_token".into(),
            format!("x=1&refresh%5Ftoken={token}"),
            "refresh_token=x&refresh_token=y".into(),
        ] {
            for body in [json!({}), json!({ "refresh_token": token })] {
                let reply = world.post(&format!("{}?{query}", route.path), body).await;
                route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
                assert!(!reply.text.contains(token.as_str()));
            }
        }
    }
    assert!(world.is_alive(token).await);
}

#[tokio::test]
async fn re12_logout_needs_a_token_and_nothing_more() {
    let (world, alice) = signed_up().await;
    for body in [json!({}), json!({ "refresh_token": "" }), json!({ "refresh_token": null })] {
        let reply = world.post(LOGOUT, body).await;
        ROUTES[5].expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
    }
    let reply = world.request(Method::POST, LOGOUT).bearer(&alice.access_token).await;
    ROUTES[5].expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");

    let twice = format!("{0},{0}", alice.refresh_token);
    for token in ["x", "a.b.c", &forged(&alice.refresh_token), &alice.access_token, &twice] {
        let reply = logout(&world, token).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(reply.text, "");
        world.request(Method::POST, LOGOUT).header("x-refresh-token", token).await.expect(StatusCode::NO_CONTENT);
    }
    let repeated = world.request(Method::POST, LOGOUT).header("x-refresh-token", &alice.refresh_token);
    repeated.header("x-refresh-token", &alice.refresh_token).await.expect(StatusCode::NO_CONTENT);
    let spent = alice.refresh_token;
    let token = world.refresh(&spent).await.expect(StatusCode::OK).text("refresh_token");

    // A spent token also ends its session.
    for _ in 0..2 {
        logout(&world, &spent).await.expect(StatusCode::NO_CONTENT);
    }
    assert!(!world.is_alive(&token).await);
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    for _ in 0..2 {
        let request = world.request(Method::POST, LOGOUT).header("x-refresh-token", &other.refresh_token);
        request.await.expect(StatusCode::NO_CONTENT);
    }
    assert!(!world.is_alive(&other.refresh_token).await);
    let late = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    world.pass(31 * 86_400);
    logout(&world, &late.refresh_token).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_idempotency_key_that_is_none_is_a_400_and_spends_nothing() {
    let (world, alice) = signed_up().await;
    let body = json!({ "refresh_token": alice.refresh_token });
    for route in [ROUTES[3], ROUTES[4]] {
        for key in ["", "  ", &"x".repeat(256), "clé"] {
            let reply = world.post(route.path, body.clone()).header("idempotency-key", key).await;
            route.expect(&reply, StatusCode::BAD_REQUEST, "invalid_request");
        }
    }
    let longest = "x".repeat(255);
    world.refresh_with_key(&alice.refresh_token, &longest).await.expect(StatusCode::OK);
    world.refresh_with_key(&alice.refresh_token, &longest).await.expect(StatusCode::OK);
}

/// An event as API Gateway sends it.
fn event(method: &str, path: &str, body: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": format!("{method} {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "content-type": "application/json", "host": "api.example.com" },
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "api.example.com", "domainPrefix": "api",
            "http": {
                "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "a test",
            },
            "requestId": "id", "routeKey": format!("{method} {path}"), "stage": "$default",
            "time": "15/Jan/2027:08:00:00 +0000", "timeEpoch": 1_800_000_000_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

/// Calls a function with `event`, and returns the status and, if it is JSON, the
/// body.
async fn invoke(world: &World, function: &str, event: &str) -> (u64, Value) {
    let answer = world.system.function(function).unwrap().invoke(event, Context::default()).await;
    let body = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
    (answer["statusCode"].as_u64().unwrap(), body.unwrap_or_default())
}

fn login_event() -> Value {
    event("POST", "/api/v1/auth/login", &json!({ "email": EMAIL, "password": PASSWORD }).to_string())
}

#[tokio::test]
async fn in4_a_body_in_base64_is_decoded_once() {
    let (world, _) = signed_up().await;
    let plain = login_event();
    assert_eq!(invoke(&world, "login", &plain.to_string()).await.0, 200);
    let encoded = STANDARD.encode(plain["body"].as_str().unwrap());
    let cases = [
        (true, encoded.clone(), 200),
        (false, encoded.clone(), 400),
        (true, STANDARD.encode(&encoded), 400),
        (true, plain["body"].as_str().unwrap().to_owned(), 400),
        (true, encoded.trim_end_matches('=').to_owned() + "*", 400),
        (true, STANDARD.encode(b"{\"email\":\"\xff\"}"), 400),
        (true, STANDARD.encode(b"\xef\xbb\xbf{}"), 400),
    ];
    for (is_encoded, body, status) in cases {
        let mut event = login_event();
        event["isBase64Encoded"] = is_encoded.into();
        event["body"] = body.into();
        let (answered, problem) = invoke(&world, "login", &event.to_string()).await;
        assert_eq!(answered, status, "{event}");
        if status == 400 {
            assert_eq!(problem["error"], "invalid_request", "{problem}");
        }
    }
}

#[tokio::test]
async fn in5_the_names_of_headers_are_read_in_any_case() {
    let (world, alice) = signed_up().await;
    for name in ["Content-Type", "CONTENT-TYPE", "content-type"] {
        let mut event = login_event();
        event["headers"] = json!({ name: "application/json" });
        assert_eq!(invoke(&world, "login", &event.to_string()).await.0, 200);
    }
    for name in ["Authorization", "AUTHORIZATION", "authorization"] {
        let mut event = event("GET", "/api/v1/users/me", "");
        event["headers"] = json!({ name: format!("Bearer {}", alice.access_token) });
        let (status, user) = invoke(&world, "account", &event.to_string()).await;
        assert_eq!((status, &user["email"]), (200, &json!(EMAIL)));
    }
}

#[tokio::test]
async fn in5_an_event_of_payload_version_1_is_refused_cleanly() {
    let (world, _) = signed_up().await;
    let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    let version_1 = json!({
        "version": "1.0", "resource": "/api/v1/auth/login", "path": "/api/v1/auth/login", "httpMethod": "POST",
        "headers": { "content-type": "application/json" },
        "multiValueHeaders": { "content-type": ["application/json"] },
        "queryStringParameters": null, "multiValueQueryStringParameters": null, "pathParameters": null,
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "httpMethod": "POST", "path": "/api/v1/auth/login",
            "identity": { "sourceIp": "192.0.2.1" }, "requestId": "id", "stage": "$default",
        },
        "body": body, "isBase64Encoded": false,
    });
    let mut half = login_event();
    half["version"] = "1.0".into();
    for event in [version_1, half] {
        let (status, problem) = invoke(&world, "login", &event.to_string()).await;
        assert_eq!((status, &problem["error"]), (400, &json!("invalid_request")));
    }
}

#[tokio::test]
async fn in8_what_is_no_event_is_refused_cleanly_by_every_function() {
    let (world, _) = signed_up().await;
    let long = event("POST", &format!("/{}", "x".repeat(70_000)), "").to_string();
    let mut stage = login_event();
    stage["requestContext"]["stage"] = "x".repeat(70_000).into();
    let stage = stage.to_string();
    for function in ["register", "login", "refresh", "logout", "account"] {
        for event in ["", "{", "null", "[]", "{}", "\"x\"", "1e999", r#"{"version":"2.0"}"#, &nested(500), &long] {
            let (status, problem) = invoke(&world, function, event).await;
            assert_eq!((status, &problem["error"]), (400, &json!("invalid_request")), "{function} {event:.60}");
        }
        assert!(invoke(&world, function, &stage).await.0 < 500);
    }
}

#[tokio::test]
async fn in9_a_function_that_is_called_on_a_route_it_does_not_know_answers_404() {
    let (world, alice) = signed_up().await;
    let body = complete(&alice).to_string();
    for function in ["register", "login", "refresh", "logout", "account"] {
        for (method, path) in [
            ("POST", "/"),
            ("GET", "/api/v1/auth/login"),
            ("PUT", "/api/v1/auth/register"),
            ("DELETE", REFRESH),
            ("GET", LEXIK_LOGIN),
            ("POST", "/api/v1/users/me"),
            ("GET", "/api/v1/auth/sessions/x"),
            ("POST", "/api/v1/nothing/\u{0}%00\u{1f600}/../x?y#z"),
            ("POST", "/prod/api/v1/auth/login"),
        ] {
            let mut event = event(method, path, &body);
            event["headers"]["authorization"] = format!("Bearer {}", alice.access_token).into();
            let (status, answer) = invoke(&world, function, &event.to_string()).await;
            assert_eq!(status, 404, "{function} {method} {path} {answer}");
            assert_eq!(answer["error"], "not_found", "{function} {path} {answer}");
        }
    }
    assert!(world.is_alive(&alice.refresh_token).await);
}

/// Runs `property` on one world for all its cases.
fn on_one_world<S: Strategy>(
    cases: S,
    property: impl Fn(&Runtime, &World, &User, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = Runtime::new().unwrap();
    let (world, alice) = runtime.block_on(signed_up());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) };
    let run = |case| property(&runtime, &world, &alice, case);
    proptest::test_runner::TestRunner::new(config).run(&cases, run).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(runtime.block_on(world.is_alive(&alice.refresh_token)));
}

/// JSON of any shape, in which members often have the names that a route reads. It never has
/// the right password, which deletes the account.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        3 => select(vec!["email", "password", "refresh_token", "current_password", "new_password", "phone", "roles"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        3 => any::<String>().prop_map(Value::from),
        1 => select(vec![EMAIL, "bob@example.com", "a wrong password", "a.b.c"]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(9, 32, 4, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn in8_no_bytes_as_a_body_of_any_route_are_a_5xx() {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..256),
        any_json().prop_map(|json| json.to_string().into_bytes()),
        prop::collection::vec((any::<String>(), any::<String>()), 0..4).prop_map(|fields| {
            let fields = fields.into_iter().map(|(name, value)| format!("{name}={value}"));
            fields.collect::<Vec<_>>().join("&").into_bytes()
        }),
    ];
    let content_type = select(vec!["application/json", FORM, "application/x+json; charset=utf-8", "text/plain"]);
    on_one_world((select(ROUTES.to_vec()), content_type, body), |runtime, world, alice, case| {
        let (route, content_type, body) = case;
        let reply = runtime.block_on(async { route.request(world, alice).body(content_type, body).await });
        prop_assert!(!reply.status.is_server_error(), "{}", reply.text);
        Ok(())
    });
}

#[test]
fn in8_no_text_as_a_token_or_a_key_is_a_5xx_or_accepted() {
    // Any text, or an authentic token with one piece replaced.
    let text = prop_oneof![
        any::<String>().prop_map(|text| (None, text)),
        "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,43}".prop_map(|text| (None, text)),
        (any::<Index>(), any::<Index>(), "[ -~]{0,3}").prop_map(|(from, to, piece)| (Some((from, to)), piece)),
    ];
    on_one_world((text, any::<bool>()), |runtime, world, alice, ((place, text), of_access)| {
        let authentic = if of_access { &alice.access_token } else { &alice.refresh_token };
        let token = match place {
            None => text,
            Some((from, to)) => {
                let (from, to) = (from.index(authentic.len()), to.index(authentic.len()));
                let (from, to) = (from.min(to), from.max(to));
                format!("{}{text}{}", &authentic[..from], &authentic[to..])
            }
        };
        let body = json!({ "refresh_token": token }).to_string();
        let mut me = event("GET", "/api/v1/users/me", "");
        me["headers"]["authorization"] = format!("Bearer {token}").into();
        let mut refresh = event("POST", REFRESH, &body);
        refresh["headers"]["idempotency-key"] = token.as_str().into();
        let mut lexik = event("POST", LEXIK_REFRESH, &body);
        lexik["headers"]["x-refresh-token"] = token.as_str().into();
        let mut logout = event("POST", LOGOUT, &body);
        logout["headers"]["x-refresh-token"] = token.as_str().into();
        logout["body"] = Value::Null;
        for (function, event) in [("account", me), ("refresh", refresh), ("refresh", lexik), ("logout", logout)] {
            // With the token unchanged, a logout would end the session.
            if token.trim() != *authentic {
                let (status, answer) = runtime.block_on(invoke(world, function, &event.to_string()));
                let is_refused = (400..500).contains(&status) || (function == "logout" && status == 204);
                prop_assert!(is_refused, "{function} {status} {answer}");
            }
        }
        Ok(())
    });
}

#[test]
fn in8_no_text_as_an_event_is_a_5xx() {
    // Any text, any JSON, or an event with one value replaced.
    let places = vec![
        "/version",
        "/rawPath",
        "/rawQueryString",
        "/headers",
        "/headers/content-type",
        "/headers/host",
        "/body",
        "/isBase64Encoded",
        "/requestContext",
        "/requestContext/http",
        "/requestContext/http/method",
        "/requestContext/http/sourceIp",
        "/requestContext/http/path",
        "/requestContext/stage",
        "/requestContext/domainName",
        "/requestContext/requestId",
        "/requestContext/timeEpoch",
        "/routeKey",
    ];
    let replaced = (select(places), any_json()).prop_map(|(place, value)| {
        let mut event = login_event();
        *event.pointer_mut(place).unwrap() = value;
        event.to_string()
    });
    let path = any::<String>().prop_map(|path| event("POST", &format!("/{path}"), "{}").to_string());
    let query = any::<String>().prop_map(|query| {
        let mut event = login_event();
        event["rawQueryString"] = query.into();
        event.to_string()
    });
    let text = prop_oneof![1 => any::<String>(), 1 => any_json().prop_map(|json| json.to_string()), 4 => replaced, 1 => path, 1 => query];
    let functions = select(vec!["register", "login", "refresh", "logout", "account"]);
    on_one_world((functions, text), |runtime, world, _, (function, text)| {
        let (status, answer) = runtime.block_on(invoke(world, function, &text));
        prop_assert!(status < 500, "{answer}");
        Ok(())
    });
}
