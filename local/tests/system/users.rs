//! Users, their passwords and their sessions.

use aws_sdk_dynamodb::types::AttributeValue;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::password::PasswordHash;
use freshkey::write::Write;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::rows;
use crate::wire::{Call, Fate};
use crate::world::{EMAIL, HASTY, PASSWORD, Reply, User, World, claims, signed_up, signed_up_with, world, world_with};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const SESSIONS: &str = "/api/v1/auth/sessions";
const ME: &str = "/api/v1/users/me";
const NEW_PASSWORD: &str = "eight lanterns in the winter harbour";

async fn register(world: &World, password: &str) -> Reply {
    world.post(REGISTER, json!({ "email": EMAIL, "password": password })).await
}

async fn login_as(world: &World, email: &str, password: &str) -> Reply {
    world.post(LOGIN, json!({ "email": email, "password": password })).await
}

async fn me(world: &World, user: &User) -> Reply {
    world.get(ME).bearer(&user.access_token).await
}

async fn patch_me(world: &World, user: &User, changes: Value) -> Reply {
    world.request(Method::PATCH, ME).bearer(&user.access_token).json(changes).await
}

async fn change_password(world: &World, user: &User, current: &str, new: &str) -> Reply {
    let body = json!({ "current_password": current, "new_password": new });
    world.request(Method::PUT, "/api/v1/users/me/password").bearer(&user.access_token).json(body).await
}

async fn delete_me(world: &World, user: &User, password: &str) -> Reply {
    world.post("/api/v1/users/me/delete", json!({ "password": password })).bearer(&user.access_token).await
}

async fn sessions(world: &World, user: &User) -> Vec<Value> {
    let reply = world.get(SESSIONS).bearer(&user.access_token).await.expect(StatusCode::OK);
    reply.json()["sessions"].as_array().unwrap().clone()
}

async fn end_session(world: &World, user: &User, session: &str) -> Reply {
    let path = format!("{SESSIONS}/{session}");
    world.request(Method::DELETE, &path).bearer(&user.access_token).await
}

async fn disable(world: &World, user: &User) {
    world.app("account").disable_user(UserId::parse(&user.id).unwrap()).await.unwrap();
}

fn session_id(user: &User) -> String {
    claims(&user.refresh_token)["sid"].as_str().unwrap().to_owned()
}

async fn stored_hash(world: &World) -> PasswordHash {
    let credential = world.app("login").store().credential(&Email::parse(EMAIL).unwrap()).await.unwrap();
    credential.unwrap().password_hash
}

/// How many hashes the function has computed.
fn computed(world: &World, function: &str) -> u64 {
    world.app(function).hasher().computed()
}

/// A reply without its request id, which differs between any two.
fn without_request_id(reply: &Reply) -> (StatusCode, String, Vec<(String, String)>) {
    let request_id = reply.text("request_id");
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let mut headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    headers.sort_unstable();
    (reply.status, reply.text.replace(&request_id, ""), headers)
}

#[tokio::test]
async fn register_keeps_the_profile_and_grants_nothing() {
    let world = world().await;
    let body = json!({
        "email": "Alice@Example.com", "password": PASSWORD, "first_name": "Alice", "last_name": "Liddell",
        "phone": "+44 20 7946 0000", "user_type": "customer", "avatar": "https://example.com/alice.png",
        "roles": ["ROLE_ADMIN"], "is_active": false, "id": "1", "epoch": 9, "created_at": "1865-11-26", "x": [{}],
    });
    let reply = world.post(REGISTER, body).await.expect(StatusCode::CREATED);
    let alice = reply.user();
    let expected = json!({
        "access_token": alice.access_token, "refresh_token": alice.refresh_token, "token_type": "Bearer",
        "expires_in": 3600, "refresh_expires_in": 30 * 86_400, "user_id": alice.id,
        "device_token": reply.text("device_token"),
    });
    assert_eq!(reply.json(), expected);
    let expected = json!({
        "id": alice.id, "email": "Alice@Example.com", "first_name": "Alice", "last_name": "Liddell",
        "phone": "+44 20 7946 0000", "roles": ["ROLE_USER"], "user_type": "customer", "is_active": true,
        "avatar": "https://example.com/alice.png", "created_at": "2100-01-15T08:00:00Z",
    });
    assert_eq!(me(&world, &alice).await.expect(StatusCode::OK).json(), expected);
    assert_eq!(claims(&alice.access_token)["roles"], json!(["ROLE_USER"]));
}

#[tokio::test]
async fn register_takes_a_form_and_leaves_out_what_is_not_there() {
    let world = world_with(&[("DEFAULT_ROLES", "ROLE_USER,ROLE_BETA")]).await;
    let form =
        "email=alice%40example.com&password=a+quiet+river+under+seven+bridges&first_name=A%C3%AFda&roles=ROLE_ADMIN";
    let reply = world.request(Method::POST, REGISTER).body("application/x-www-form-urlencoded", form).await;
    let alice = reply.expect(StatusCode::CREATED).user();
    let user = me(&world, &alice).await.expect(StatusCode::OK).json();
    assert_eq!(user["first_name"], "Aïda");
    assert_eq!(user["phone"], Value::Null);
    assert_eq!(user["roles"], json!(["ROLE_USER", "ROLE_BETA"]));
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn en1_unknown_wrong_and_disabled_are_answered_byte_for_byte_alike() {
    let (world, _) = signed_up().await;
    let bob = world.register("bob@example.com").await;
    disable(&world, &bob).await;
    let unknown = login_as(&world, "nobody@example.com", PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(unknown.error(), "invalid_credentials");
    let expected = without_request_id(&unknown);
    for (email, password) in [
        (EMAIL, "not her password"),
        ("bob@example.com", PASSWORD),
        ("bob@example.com", "not his password"),
        ("no address", PASSWORD),
        (EMAIL, ""),
        (EMAIL, &"x".repeat(257)),
        ("nobody@example.com", &"x".repeat(257)),
    ] {
        let reply = login_as(&world, email, password).await;
        assert_eq!(without_request_id(&reply), expected, "{email} {password}");
    }
}

#[tokio::test]
async fn en1_the_lexik_route_tells_no_more() {
    let (world, alice) = signed_up().await;
    disable(&world, &alice).await;
    for (email, password) in [("nobody@example.com", PASSWORD), (EMAIL, "not her password"), (EMAIL, PASSWORD)] {
        let reply = world.post("/api/auth", json!({ "email": email, "password": password })).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.text, r#"{"code":401,"message":"Invalid credentials."}"#);
    }
}

#[tokio::test]
async fn en1_a_wrong_password_is_refused_as_soon_as_the_hash_says_so_however_slow_the_table_is() {
    let (world, _) = signed_up().await;
    world.wire.fault("Query", usize::MAX, Fate::Silence);
    world.login("not her password").await.expect(StatusCode::UNAUTHORIZED);
    let asked = world.wire.take();
    let queries = asked.operations().into_iter().filter(|operation| *operation == "Query").count();
    assert_eq!(queries, 1, "the login waited for the read");
    // A right password needs the user.
    let hasty = world.beside(&[HASTY]).await;
    hasty.wire.fault("Query", usize::MAX, Fate::Silence);
    hasty.login(PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn en2_unknown_wrong_and_disabled_cost_one_hash_each() {
    let (world, _) = signed_up().await;
    let bob = world.register("bob@example.com").await;
    disable(&world, &bob).await;
    for (email, password) in [
        ("nobody@example.com", PASSWORD),
        (EMAIL, "not her password"),
        (EMAIL, ""),
        (EMAIL, PASSWORD),
        ("bob@example.com", PASSWORD),
        ("bob@example.com", "not his password"),
    ] {
        let before = computed(&world, "login");
        login_as(&world, email, password).await;
        assert_eq!(computed(&world, "login") - before, 1, "{email} {password}");
    }
}

#[tokio::test]
async fn en3_a_taken_address_costs_the_hash_of_a_free_one() {
    let (world, _) = signed_up().await;
    assert_eq!(computed(&world, "register"), 1);
    let reply = register(&world, NEW_PASSWORD).await.expect(StatusCode::CONFLICT);
    assert_eq!(reply.error(), "email_taken");
    assert_eq!(computed(&world, "register"), 2);
    world.login(NEW_PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn en4_spellings_of_one_address_are_one_user() {
    let (world, alice) = signed_up().await;
    for email in ["Alice@example.com", "ALICE@EXAMPLE.COM", "  alice@example.com\t"] {
        assert_eq!(login_as(&world, email, PASSWORD).await.expect(StatusCode::OK).user().id, alice.id);
        let reply = world.post(REGISTER, json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(reply.expect(StatusCode::CONFLICT).error(), "email_taken");
    }
    let composed = world.register("r\u{e9}mi@example.com").await;
    let decomposed = login_as(&world, "re\u{301}mi@example.com", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(decomposed.user().id, composed.id);
}

#[tokio::test]
async fn en4_other_addresses_are_other_users_or_none() {
    let (world, alice) = signed_up().await;
    for email in ["alice+news@example.com", "a.lice@example.com"] {
        assert_ne!(world.register(email).await.id, alice.id);
    }
    for email in ["alice\u{ff20}example.com", "alice@\u{ff45}xample.com"] {
        let reply = world.post(REGISTER, json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(reply.expect(StatusCode::UNPROCESSABLE_ENTITY).faults(), ["email: email_invalid"]);
        login_as(&world, email, PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn pw1_a_password_has_the_minimum_of_code_points() {
    for (minimum, exact) in [("8", "zyxwvut8"), ("15", "zyxwvutsrqponm5")] {
        let world = world_with(&[("PASSWORD_MIN_LENGTH", minimum)]).await;
        let reply = register(&world, &exact[1..]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.error(), "validation_failed");
        assert_eq!(reply.faults(), ["password: password_too_short"]);
        assert!(reply.json()["errors"][0]["message"].as_str().unwrap().contains(minimum), "{}", reply.text);
        register(&world, exact).await.expect(StatusCode::CREATED);
        world.login(exact).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn pw3_a_long_password_is_taken_whole_or_refused() {
    let long: String = ('!'..='~').cycle().take(257).collect();
    for length in [64, 100, 256] {
        let world = world().await;
        register(&world, &long[..length]).await.expect(StatusCode::CREATED);
        world.login(&long[..length]).await.expect(StatusCode::OK);
        world.login(&long[..length - 1]).await.expect(StatusCode::UNAUTHORIZED);
        world.login(&long[..length.min(64) - 1]).await.expect(StatusCode::UNAUTHORIZED);
        world.login(&long[..=length]).await.expect(StatusCode::UNAUTHORIZED);
    }
    let world = world().await;
    let reply = register(&world, &long).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["password: password_too_long"]);
    world.login(&long).await.expect(StatusCode::UNAUTHORIZED);
    world.login(&long[..256]).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pw4_a_password_is_composed_and_not_changed_otherwise() {
    let world = world().await;
    register(&world, " cafe\u{301} of\u{fb01}ce 12 ").await.expect(StatusCode::CREATED);
    world.login(" caf\u{e9} of\u{fb01}ce 12 ").await.expect(StatusCode::OK);
    for other in [
        " caf\u{e9} offi\u{200b}ce 12 ",
        " caf\u{e9} office 12 ",
        "caf\u{e9} of\u{fb01}ce 12",
        " CAF\u{c9} of\u{fb01}ce 12 ",
    ] {
        world.login(other).await.expect(StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn in6_a_control_character_in_a_password_cuts_nothing_off() {
    let world = world().await;
    register(&world, "eight lanterns\0 and a half").await.expect(StatusCode::CREATED);
    world.login("eight lanterns\0 and a half").await.expect(StatusCode::OK);
    world.login("eight lanterns").await.expect(StatusCode::UNAUTHORIZED);
    world.login("eight lanterns and a half").await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pw6_a_common_password_is_refused_and_a_long_one_that_contains_it_is_not() {
    let world = world().await;
    for common in ["password", "PassWord", "passwordpassword"] {
        let reply = register(&world, common).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.faults(), ["password: password_blocklisted"]);
        assert!(!reply.json()["errors"][0]["message"].as_str().unwrap().is_empty());
    }
    register(&world, "my passwordpassword of the day").await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn pw7_who_one_is_is_no_password() {
    let world = world().await;
    let email = "alice.liddell@example.com";
    for password in [email, "Alice.Liddell@Example.com", "alice.liddell", "freshkey"] {
        let reply = world.post(REGISTER, json!({ "email": email, "password": password })).await;
        assert_eq!(reply.expect(StatusCode::UNPROCESSABLE_ENTITY).faults(), ["password: password_guessable"]);
    }
    let alice = world.register(email).await;
    let reply = change_password(&world, &alice, PASSWORD, email).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["new_password: password_guessable"]);
}

#[tokio::test]
async fn pw8_a_change_of_the_password_ends_every_other_session() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    change_password(&world, &alice, PASSWORD, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&other.refresh_token).await);
    assert!(world.is_alive(&alice.refresh_token).await);
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    let later = world.login(NEW_PASSWORD).await.expect(StatusCode::OK).user();
    assert!(world.is_alive(&later.refresh_token).await);
}

#[tokio::test]
async fn pw8_a_wrong_current_password_is_named_and_changes_nothing() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    for wrong in ["not her password", "", &"x".repeat(257)] {
        let reply = change_password(&world, &alice, wrong, NEW_PASSWORD).await;
        assert_eq!(reply.expect(StatusCode::UNPROCESSABLE_ENTITY).faults(), ["current_password: password_wrong"]);
    }
    let reply = change_password(&world, &alice, PASSWORD, "short").await;
    assert_eq!(reply.expect(StatusCode::UNPROCESSABLE_ENTITY).faults(), ["new_password: password_too_short"]);
    world.login(NEW_PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    assert!(world.is_alive(&other.refresh_token).await);
}

#[tokio::test]
async fn pw8_a_session_that_has_ended_cannot_change_the_password() {
    let (world, alice) = signed_up().await;
    world.post("/api/v1/auth/logout", json!({ "refresh_token": alice.refresh_token })).await;
    let reply = change_password(&world, &alice, PASSWORD, NEW_PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error(), "invalid_token");
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn pw10_a_login_replaces_a_hash_of_another_work_factor() {
    let (old, alice) = signed_up().await;
    assert!(stored_hash(&old).await.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    let new = old.beside(&[("ARGON2_ITERATIONS", "3")]).await;
    assert_eq!(new.login(PASSWORD).await.expect(StatusCode::OK).user().id, alice.id);
    let replaced = stored_hash(&old).await;
    assert!(replaced.as_str().starts_with("$argon2id$v=19$m=19456,t=3,p=1$"), "{}", replaced.as_str());
    new.login(PASSWORD).await.expect(StatusCode::OK);
    assert!(stored_hash(&old).await == replaced);
}

#[tokio::test]
async fn pw10_a_wrong_password_replaces_nothing() {
    let (old, _) = signed_up().await;
    let hash = stored_hash(&old).await;
    let new = old.beside(&[("ARGON2_ITERATIONS", "3")]).await;
    new.login("not her password").await.expect(StatusCode::UNAUTHORIZED);
    assert!(stored_hash(&old).await == hash);
}

#[tokio::test]
async fn pw10_a_failure_to_replace_the_hash_fails_no_login() {
    let (old, _) = signed_up().await;
    let hash = stored_hash(&old).await;
    let new = old.beside(&[("ARGON2_ITERATIONS", "3")]).await;
    let is_rehash = |call: &Call| call.operation == "UpdateItem" && call.body["Key"]["sk"]["S"] == "CREDENTIAL";
    new.wire.on_call(move |call| {
        let fate = if is_rehash(&call) { Fate::Refused(500, "InternalServerError") } else { Fate::Pass };
        async move { fate }
    });
    let alice = new.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert!(new.wire.take().calls.iter().any(is_rehash));
    assert!(stored_hash(&old).await == hash);
    new.wire.on_call(|_| async { Fate::Pass });
    assert!(new.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn pw12_a_stored_hash_that_cannot_be_read_is_a_wrong_password() {
    let (world, _) = signed_up().await;
    let email = Email::parse(EMAIL).unwrap();
    for broken in ["x", "", "$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHQ$aGFzaA", "$2y$10$abcdefghijklmnopqrstuv"] {
        let old = stored_hash(&world).await;
        let written = world.app("login").store().rehash(&email, &old, &PasswordHash::stored(broken.into())).await;
        assert_eq!(written.unwrap(), Write::Done(()));
        let before = computed(&world, "login");
        let reply = world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error(), "invalid_credentials");
        assert_eq!(computed(&world, "login") - before, 1);
    }
}

#[tokio::test]
async fn pw13_no_hash_is_spent_on_a_password_that_is_too_long() {
    let (world, alice) = signed_up().await;
    let (long, heavy) = ("x".repeat(257), "\u{1f600}".repeat(256) + "x");
    for password in [long, heavy] {
        for email in [EMAIL, "nobody@example.com"] {
            let reply = login_as(&world, email, &password).await.expect(StatusCode::UNAUTHORIZED);
            assert_eq!(reply.error(), "invalid_credentials");
        }
        register(&world, &password).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        change_password(&world, &alice, &password, NEW_PASSWORD).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        delete_me(&world, &alice, &password).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(computed(&world, "login"), 0);
    assert_eq!(computed(&world, "register"), 1);
    assert_eq!(computed(&world, "account"), 0);
}

#[tokio::test]
async fn a_user_changes_the_profile_and_nothing_else() {
    let (world, alice) = signed_up().await;
    let before = me(&world, &alice).await.expect(StatusCode::OK).json();
    let changes = json!({
        "first_name": "Alice", "phone": "", "avatar": format!("/{}", "\u{1f600}".repeat(255)),
        "roles": ["ROLE_ADMIN"], "is_active": false, "email": "mallory@example.com", "epoch": 7, "id": "1",
        "password": "x", "created_at": "1865-11-26", "nonsense": [1, 2],
    });
    let after = patch_me(&world, &alice, changes).await.expect(StatusCode::OK).json();
    let mut expected = before;
    expected["first_name"] = "Alice".into();
    expected["phone"] = "".into();
    expected["avatar"] = format!("/{}", "\u{1f600}".repeat(255)).into();
    assert_eq!(after, expected);
    assert_eq!(me(&world, &alice).await.json(), expected);

    let after = patch_me(&world, &alice, json!({ "first_name": null, "last_name": null, "phone": "1" })).await;
    expected["first_name"] = Value::Null;
    expected["phone"] = "1".into();
    assert_eq!(after.expect(StatusCode::OK).json(), expected);
    assert_eq!(patch_me(&world, &alice, json!({})).await.expect(StatusCode::OK).json(), expected);
    let next = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(claims(&next.text("access_token"))["roles"], json!(["ROLE_USER"]));
}

#[tokio::test]
async fn a_profile_field_that_is_too_long_or_has_control_characters_is_named() {
    let (world, alice) = signed_up().await;
    let before = me(&world, &alice).await.json();
    let fields = json!({
        "first_name": "x".repeat(257), "last_name": "a\0b", "phone": "1\u{7f}", "user_type": "a\nb", "avatar": "/ok",
    });
    let expected = [
        "first_name: too_long",
        "last_name: invalid_characters",
        "phone: invalid_characters",
        "user_type: invalid_characters",
    ];
    let reply = patch_me(&world, &alice, fields.clone()).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), expected);
    assert_eq!(me(&world, &alice).await.json(), before);

    let mut body = fields;
    body["email"] = "bob@example".into();
    body["password"] = "short".into();
    let faults = world.post(REGISTER, body).await.expect(StatusCode::UNPROCESSABLE_ENTITY).faults();
    assert_eq!(faults[..4], expected);
    assert_eq!(faults[4..], ["email: email_invalid", "password: password_too_short"]);
}

#[tokio::test]
async fn a_user_who_deletes_the_account_is_gone_at_once() {
    let (world, alice) = signed_up().await;
    let reply = delete_me(&world, &alice, "not her password").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["password: password_wrong"]);
    assert!(world.is_alive(&alice.refresh_token).await);
    let alice = world.login(PASSWORD).await.expect(StatusCode::OK).user();

    delete_me(&world, &alice, PASSWORD).await.expect(StatusCode::NO_CONTENT);
    assert_is_gone(&world, &alice).await;
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    let id = UserId::parse(&alice.id).unwrap();
    let (user, sessions) = world.app("account").store().user_and_sessions(id).await.unwrap();
    assert!(user.is_none() && sessions.is_empty());

    let again = world.register(EMAIL).await;
    assert_ne!(again.id, alice.id);
    assert_is_gone(&world, &alice).await;
    assert_eq!(me(&world, &again).await.expect(StatusCode::OK).text("id"), again.id);
    assert!(world.is_alive(&again.refresh_token).await);
}

/// Checks that neither token of `user` is accepted, although the access token has
/// not expired.
async fn assert_is_gone(world: &World, user: &User) {
    assert!(!world.is_alive(&user.refresh_token).await);
    let session = session_id(user);
    for reply in [
        me(world, user).await,
        patch_me(world, user, json!({ "phone": "1" })).await,
        patch_me(world, user, json!({})).await,
        change_password(world, user, PASSWORD, NEW_PASSWORD).await,
        delete_me(world, user, PASSWORD).await,
        world.get(SESSIONS).bearer(&user.access_token).await,
        world.request(Method::DELETE, SESSIONS).bearer(&user.access_token).await,
        end_session(world, user, &session).await,
    ] {
        assert_eq!(reply.clone().expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
        assert_eq!(reply.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    }
}

#[tokio::test]
async fn jw18_a_user_who_is_disabled_neither_refreshes_nor_logs_in_nor_acts() {
    let (world, alice) = signed_up().await;
    disable(&world, &alice).await;
    assert_is_gone(&world, &alice).await;
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
}

/// Makes a session in the table expire `seconds` from now, regardless of its token.
async fn let_expire(world: &World, user: &User, seconds: i64) {
    let row = rows::Row::session(&user.id, &session_id(user));
    row.set(world, "expires_at", AttributeValue::N((world.now().seconds() + seconds).to_string())).await;
}

#[tokio::test]
async fn rf8_a_row_that_has_expired_is_refused_and_hidden_while_it_is_still_there() {
    let key = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
    let (world, alice) = signed_up_with(&[key]).await;
    let current = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let_expire(&world, &alice, 30).await;
    // The database deletes by the clock of the first system, which does not move.
    let later = world.beside(&[key]).await;
    assert_eq!(sessions(&later, &current).await.len(), 2);
    later.pass(29);
    assert_eq!(sessions(&later, &current).await.len(), 2);
    later.pass(1);
    let listed = sessions(&later, &current).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], session_id(&current));
    end_session(&later, &current, &session_id(&alice)).await.expect(StatusCode::NOT_FOUND);
    assert!(!later.is_alive(&alice.refresh_token).await);
    let reply = later.request(Method::DELETE, "/api/v1/auth/sessions?except=current").bearer(&alice.access_token).await;
    assert_eq!(reply.expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
    let id = UserId::parse(&alice.id).unwrap();
    assert_eq!(world.app("account").store().user_and_sessions(id).await.unwrap().1.len(), 2);
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn rf10_enabling_a_user_again_revives_no_session() {
    let (world, alice) = signed_up().await;
    disable(&world, &alice).await;
    world.app("account").enable_user(UserId::parse(&alice.id).unwrap()).await.unwrap();
    assert!(!world.is_alive(&alice.refresh_token).await);
    let later = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert_eq!(later.id, alice.id);
    assert!(world.is_alive(&later.refresh_token).await);
}

#[tokio::test]
async fn sessions_are_listed_the_latest_login_first_and_the_calling_one_marked() {
    let (world, alice) = signed_up().await;
    world.pass(60);
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let phone = world.post(LOGIN, body).header("user-agent", "a phone").await.expect(StatusCode::OK).user();
    world.pass(60);
    let refreshed = world.post("/api/v1/auth/refresh", json!({ "refresh_token": alice.refresh_token }));
    refreshed.header("user-agent", &"é".repeat(200)).await.expect(StatusCode::OK);
    world.register("bob@example.com").await;
    let expected = [
        json!({
            "id": session_id(&phone), "created_at": "2100-01-15T08:01:00Z", "last_used_at": "2100-01-15T08:01:00Z",
            "expires_at": "2100-02-14T08:01:00Z", "ip": "127.0.0.1", "user_agent": "a phone", "current": true,
        }),
        json!({
            "id": session_id(&alice), "created_at": "2100-01-15T08:00:00Z", "last_used_at": "2100-01-15T08:02:00Z",
            "expires_at": "2100-02-14T08:02:00Z", "ip": "127.0.0.1", "user_agent": "é".repeat(128), "current": false,
        }),
    ];
    assert_eq!(sessions(&world, &phone).await, expected);
}

#[tokio::test]
async fn re13_every_read_is_consistent_so_that_no_list_lags_behind_an_end() {
    let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", "true")]).await;
    me(&world, &alice).await.expect(StatusCode::OK);
    assert_eq!(sessions(&world, &alice).await.len(), 1);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    change_password(&world, &alice, PASSWORD, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    let calls = world.wire.take().calls;
    let reads: Vec<_> = calls.iter().filter(|call| ["GetItem", "Query"].contains(&call.operation.as_str())).collect();
    assert!(reads.iter().any(|read| read.operation == "GetItem") && reads.iter().any(|read| read.operation == "Query"));
    for Call { operation, body } in reads {
        assert_eq!(body["ConsistentRead"], true, "{operation} {body}");
    }
}

#[tokio::test]
async fn re13_a_user_ends_a_session_of_their_own_and_no_others() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let bob = world.register("bob@example.com").await;
    let nobody = SessionId::random().to_string();
    for session in [session_id(&bob), nobody, "x".into(), session_id(&other).to_uppercase()] {
        let reply = end_session(&world, &alice, &session).await.expect(StatusCode::NOT_FOUND);
        assert_eq!(reply.error(), "not_found", "{session}");
    }
    end_session(&world, &alice, &session_id(&other)).await.expect(StatusCode::NO_CONTENT);
    end_session(&world, &alice, &session_id(&other)).await.expect(StatusCode::NOT_FOUND);
    assert!(!world.is_alive(&other.refresh_token).await);
    assert!(world.is_alive(&bob.refresh_token).await);
    assert_eq!(sessions(&world, &alice).await.len(), 1);
    end_session(&world, &alice, &session_id(&alice)).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn a_user_logs_out_everywhere() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let bob = world.register("bob@example.com").await;
    world.request(Method::DELETE, SESSIONS).bearer(&alice.access_token).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&alice.refresh_token).await);
    assert!(!world.is_alive(&other.refresh_token).await);
    assert!(world.is_alive(&bob.refresh_token).await);
    assert!(world.login(PASSWORD).await.status.is_success());
}

#[tokio::test]
async fn a_user_logs_out_everywhere_else() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let path = "/api/v1/auth/sessions?except=current";
    world.request(Method::DELETE, path).bearer(&alice.access_token).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&other.refresh_token).await);
    assert_eq!(sessions(&world, &alice).await.len(), 1);

    // Only a live session can be kept.
    let reply = world.request(Method::DELETE, path).bearer(&other.access_token).await;
    assert_eq!(reply.expect(StatusCode::UNAUTHORIZED).error(), "invalid_token");
    assert!(world.is_alive(&alice.refresh_token).await);
    for query in [
        "except=",
        "except=all",
        "except=CURRENT",
        "Except=current",
        "except=current&x=1",
        "x=1",
        "except=current&except=current",
        "except=current&except=all",
        "current",
        "except",
        "=",
        "except%20=current",
    ] {
        let path = format!("{SESSIONS}?{query}");
        let reply = world.request(Method::DELETE, &path).bearer(&alice.access_token).await;
        assert_eq!(reply.expect(StatusCode::BAD_REQUEST).error(), "invalid_request", "{query}");
    }
}

#[tokio::test]
async fn rf16_one_session_too_many_ends_the_one_with_the_oldest_login() {
    let (world, first) = signed_up_with(&[("MAX_SESSIONS", "2")]).await;
    world.pass(1);
    let second = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    world.pass(1);
    let used = world.refresh(&first.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    world.pass(1);
    let third = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert!(!world.is_alive(&used).await);
    assert_eq!(sessions(&world, &third).await.len(), 2);
    assert!(world.is_alive(&second.refresh_token).await);
    assert!(world.is_alive(&third.refresh_token).await);
}

#[tokio::test]
async fn rf16_sessions_that_have_ended_do_not_count() {
    let (world, alice) = signed_up_with(&[("MAX_SESSIONS", "2"), ("JWT_REFRESH_TOKEN_EXPIRE_DAYS", "1")]).await;
    world.pass(86_400);
    let second = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let third = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert!(!world.is_alive(&alice.refresh_token).await);
    assert!(world.is_alive(&second.refresh_token).await);
    assert!(world.is_alive(&third.refresh_token).await);
}
