//! Input as people and their software write it: addresses in every script,
//! passwords in either Unicode form, media types with parameters.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::world::{EMAIL, PASSWORD, Reply, World, signed_up, world, world_with};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const LEXIK_LOGIN: &str = "/api/auth";
const ME: &str = "/api/v1/users/me";

async fn register(world: &World, email: &str) -> Reply {
    world.post(REGISTER, json!({ "email": email, "password": PASSWORD })).await
}

async fn login(world: &World, email: &str, password: &str) -> Reply {
    world.post(LOGIN, json!({ "email": email, "password": password })).await
}

#[tokio::test]
async fn en4_every_spelling_of_an_address_is_the_same_account() {
    let world = world().await;
    for (written, others) in [
        ("bob@m\u{fc}nchen.example", &["bob@xn--mnchen-3ya.example", "BOB@MU\u{308}NCHEN.EXAMPLE"][..]),
        (
            "\u{39d}\u{399}\u{39a}\u{39f}\u{3a3}.\u{391}@example.gr",
            &["\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c2}.\u{3b1}@example.gr"],
        ),
        ("\u{130}nci@example.com", &["i\u{307}nci@example.com", "I\u{307}nci@EXAMPLE.com"]),
        ("Stra\u{df}e@example.com", &["STRASSE@example.com"]),
        ("Jose\u{301}@example.com", &["jos\u{e9}@example.com"]),
        (
            "info@\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}.\u{92d}\u{93e}\u{930}\u{924}",
            &["INFO@xn--j2bd4cyah0f.xn--h2brj9c"],
        ),
    ] {
        let registered = register(&world, written).await.expect(StatusCode::CREATED).user();
        for spelling in others.iter().chain([&written]) {
            assert_eq!(register(&world, spelling).await.expect(StatusCode::CONFLICT).error(), "email_taken");
            let signed_in = login(&world, spelling, PASSWORD).await.expect(StatusCode::OK).user();
            assert_eq!(signed_in.id, registered.id, "{spelling}");
            let me = world.get(ME).bearer(&signed_in.access_token).await.expect(StatusCode::OK);
            assert_eq!(me.text("email"), written);
        }
    }
}

#[tokio::test]
async fn en4_an_address_with_invisible_or_compatibility_characters_is_refused() {
    let world = world().await;
    for email in [
        "boss@exa\u{1160}mple.com",
        "bo\u{200b}ss@example.com",
        "boss@example\u{ad}.com",
        "\u{ff42}oss@example.com",
        "boss@ex\u{1d41a}mple.com",
        "boss\u{ff20}example.com",
        "\u{fb01}sh@example.com",
        "boss@example\u{3002}com",
    ] {
        let refused = register(&world, email).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.faults(), ["email: email_invalid"], "{email}");
        let refused = login(&world, email, PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(refused.error(), "invalid_credentials");
    }
    for look_alike in [EMAIL, "\u{430}lice@example.com"] {
        register(&world, look_alike).await.expect(StatusCode::CREATED);
    }
}

#[tokio::test]
async fn pw7_an_address_is_no_password_in_any_spelling() {
    let world = world().await;
    for password in ["Bob@M\u{fc}nchen.example", "bob@xn--mnchen-3ya.example", "bob@mu\u{308}nchen.example"] {
        let body = json!({ "email": "bob@m\u{fc}nchen.example", "password": password });
        let refused = world.post(REGISTER, body).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.faults(), ["password: password_guessable"], "{password}");
    }
}

#[tokio::test]
async fn pw4_a_password_is_the_same_in_nfc_and_nfd_up_to_the_longest() {
    let world = world().await;
    for (number, length) in [130, 256].into_iter().enumerate() {
        let composed: String = "\u{e9}\u{e8}\u{ea}\u{e2}".chars().cycle().take(length).collect();
        let decomposed: String = composed.nfd().collect();
        for (form, registered) in [&composed, &decomposed].into_iter().enumerate() {
            let email = format!("user-{number}-{form}@example.com");
            world.post(REGISTER, json!({ "email": email, "password": registered })).await.expect(StatusCode::CREATED);
            for presented in [&composed, &decomposed] {
                login(&world, &email, presented).await.expect(StatusCode::OK);
                login(&world, &email, &format!("{presented}x")).await.expect(StatusCode::UNAUTHORIZED);
            }
        }
        let long = json!({ "email": "long@example.com", "password": "\u{e9}\u{e8}a".repeat(86) });
        let refused = world.post(REGISTER, long).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.faults(), ["password: password_too_long"]);
    }
}

#[tokio::test]
async fn a_compressed_body_and_half_a_surrogate_pair_are_named() {
    let (world, _) = signed_up().await;
    let gzip = [0x1f_u8, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
    for path in [LOGIN, LEXIK_LOGIN] {
        let detail = |reply: &Reply| reply.text(if path == LOGIN { "detail" } else { "message" });
        let request = world.request(Method::POST, path).body("application/json", gzip.to_vec());
        let refused = request.header("content-encoding", "gzip").await.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(detail(&refused).contains("content-encoding"), "{}", refused.text);
        let plain = world.request(Method::POST, path).header("content-encoding", "identity");
        plain.json(json!({ "email": EMAIL, "password": PASSWORD })).await.expect(StatusCode::OK);
        for password in [r"\ud800", r"\udc00x", r"\ud83d\n"] {
            let body = format!(r#"{{"email":"{EMAIL}","password":"{password}"}}"#);
            let refused = world.request(Method::POST, path).body("application/json", body).await;
            assert!(detail(&refused.expect(StatusCode::BAD_REQUEST)).contains("surrogate"), "{password}");
        }
    }
}

#[tokio::test]
async fn in1_with_cookies_json_is_json_whatever_the_parameters_of_its_type() {
    let world = world_with(&[("REFRESH_TOKEN_TRANSPORT", "cookie")]).await;
    let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    let post = |path, content_type| {
        let request = world.request(Method::POST, path).body(content_type, body.clone());
        request.header("origin", "https://app.example.com").header("x-requested-with", "fetch")
    };
    post(REGISTER, "application/json").await.expect(StatusCode::CREATED);
    for content_type in ["application/json; charset=utf8", "application/json ; charset=utf-8", "APPLICATION/JSON;"] {
        post(LOGIN, content_type).await.expect(StatusCode::OK);
    }
    for content_type in ["text/plain; x=application/json", "application/json; charset", "application/json, text/plain"]
    {
        post(LOGIN, content_type).await.expect(StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_header_that_is_not_ascii_is_named() {
    let (world, alice) = signed_up().await;
    let token = alice.refresh_token.as_str();
    for (name, request) in [
        ("x-refresh-token", world.get(ME).bearer(&alice.access_token)),
        ("x-refresh-token", world.request(Method::POST, "/api/v1/auth/logout")),
        ("idempotency-key", world.post("/api/v1/auth/refresh", json!({ "refresh_token": token }))),
        ("x-device-token", world.post(LOGIN, json!({ "email": EMAIL, "password": PASSWORD }))),
    ] {
        let refused = request.header(name, "clé").await.expect(StatusCode::BAD_REQUEST);
        assert_eq!(refused.text("detail"), format!("The header `{name}` must be ASCII."));
    }
    assert!(world.is_alive(token).await);
}

#[tokio::test]
async fn an_avatar_is_a_url_or_a_path_and_no_field_turns_the_text_around_it() {
    let (world, alice) = signed_up().await;
    let patch = |body: Value| world.request(Method::PATCH, ME).bearer(&alice.access_token).json(body);
    for avatar in ["/uploads/profile/avatar.jpg", "https://example.com/a.png", "http://example.com", ""] {
        assert_eq!(patch(json!({ "avatar": avatar })).await.expect(StatusCode::OK).json()["avatar"], avatar);
    }
    for avatar in ["javascript:alert(1)", "data:text/html,x", "//evil.example/a.png", "/\\evil.example", "a.png"] {
        for reply in [
            patch(json!({ "avatar": avatar })).await,
            world.post(REGISTER, json!({ "email": "bob@example.com", "password": PASSWORD, "avatar": avatar })).await,
        ] {
            assert_eq!(reply.expect(StatusCode::UNPROCESSABLE_ENTITY).faults(), ["avatar: avatar_invalid"], "{avatar}");
        }
    }
    for control in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}', '\u{2028}', '\u{206a}', '\u{7}'] {
        for field in ["first_name", "last_name", "phone", "user_type", "avatar"] {
            let refused = patch(json!({ field: format!("/A{control}da") })).await;
            let faults = refused.expect(StatusCode::UNPROCESSABLE_ENTITY).faults();
            assert_eq!(faults, [format!("{field}: invalid_characters")], "{}", control.escape_unicode());
        }
    }
    let name = "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}";
    assert_eq!(patch(json!({ "first_name": name })).await.expect(StatusCode::OK).text("first_name"), name);
}
