//! Refresh tokens of another system, whose users stay signed in here.

use std::sync::Arc;
use std::time::Duration;

use freshkey::auth::{NewToken, NewUser, TokenImport, UserImport};
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::password::{Password, PasswordHash};
use freshkey::session::Hash;
use freshkey::token::ImportedTokens;
use freshkey::user::Profile;
use freshkey::{Error, Timestamp};
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;

use crate::wire::{Fate, Wire};
use crate::world::{PASSWORD, User, World, claims, world, world_over, world_with};

/// The setting of every world here: until 2100-02-01, by the key `k1`.
pub const UNTIL: (&str, &str) = ("IMPORTED_TOKENS_UNTIL", "2100-02-01:k1");
/// The address of the imported user.
const EMAIL: &str = "ada@example.com";
/// A token of gesdinet's form.
pub const FOREIGN: &str = "c0ffee5f0e8b1a3d4c6b7a8990817263544536271809f0e1d2c3b4a5968778695a4b3c2d1e0f";
/// Another password that the rules accept.
const NEW: &str = "another river under nine bridges";
const DAY: u64 = 86_400;
const ONCE: (&str, &str) = ("REFRESH_REUSE_INTERVAL_SECONDS", "0");
const WINDOW: (&str, &str) = ("REFRESH_REUSE_INTERVAL_SECONDS", "60");

fn tokens(world: &World) -> ImportedTokens {
    world.app("refresh").config().imported_tokens.clone().unwrap()
}

fn later(world: &World, days: u64) -> Timestamp {
    world.now() + Duration::from_secs(days * DAY)
}

fn new_user(id: UserId, email: &str, password_hash: PasswordHash) -> NewUser {
    NewUser {
        id,
        email: Email::parse(email).unwrap(),
        email_verified: None,
        password_hash,
        roles: None,
        is_active: true,
        profile: Profile::default(),
        created_at: None,
    }
}

async fn import_user(world: &World, id: UserId) {
    let app = world.app("refresh");
    let password_hash = app.hasher().hash(&Password::presented(PASSWORD).unwrap()).await.unwrap();
    let new = new_user(id, EMAIL, password_hash);
    assert_eq!(app.import_user(new).await.unwrap(), UserImport::Imported);
}

async fn import(world: &World, email: &str, token: &str, expires_at: Timestamp) -> TokenImport {
    let login = Some(world.now() - Duration::from_secs(3 * DAY));
    let (email, sha256) = (Email::parse(email).unwrap(), Hash::of(&[token.as_bytes()]));
    let token = NewToken { sha256, email, login, expires_at };
    let app = world.app("refresh");
    let expected = app.try_token_import(&tokens(world), &token).await.unwrap();
    let outcome = app.import_token(&tokens(world), &token).await.unwrap();
    assert_eq!(outcome, expected, "a dry run says the same");
    outcome
}

/// Imports a user, whose token [`FOREIGN`] is good for ten days. Returns the user after a
/// login.
pub async fn prepare(world: &World) -> User {
    import_user(world, UserId::random()).await;
    assert_eq!(import(world, EMAIL, FOREIGN, later(world, 10)).await, TokenImport::Imported);
    let reply = world.post("/api/v1/auth/login", json!({ "email": EMAIL, "password": PASSWORD })).await;
    world.wire.take();
    reply.expect(StatusCode::OK).user()
}

/// A world with such a user.
async fn moved_in(variables: &[(&str, &str)]) -> (World, User) {
    let world = world_with(&[&[UNTIL], variables].concat()).await;
    let ada = prepare(&world).await;
    (world, ada)
}

fn calls(world: &World) -> Vec<String> {
    world.wire.take().operations().into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_imported_token_opens_a_session_that_goes_on_like_any_other() {
    for path in ["/api/v1/auth/refresh", "/api/token/refresh"] {
        let (world, alice) = moved_in(&[]).await;
        let first = world.post(path, json!({ "refresh_token": FOREIGN })).await.expect(StatusCode::OK);
        let (refresh, access) = (first.text("refresh_token"), first.json());
        let access = access["access_token"].as_str().or(access["token"].as_str()).unwrap().to_owned();
        let token = claims(&refresh);
        assert_eq!((&token["sub"], &token["gen"]), (&json!(alice.id), &json!(1)));
        // The session is as old as it was in the other system.
        let login = world.now().seconds() - 3 * DAY as i64;
        assert_eq!((&token["auth_time"], &token["abs"]), (&json!(login), &json!(login + 180 * DAY as i64)));
        world.get("/api/v1/users/me").bearer(&access).await.expect(StatusCode::OK);
        world.pass(60);
        let second = world.refresh(&refresh).await.expect(StatusCode::OK).text("refresh_token");
        assert_eq!((&claims(&second)["gen"], &claims(&second)["sid"]), (&json!(2), &token["sid"]));
    }
}

#[tokio::test]
async fn mi6_a_crowd_with_one_key_gets_one_session_and_one_refresh_token() {
    let (world, _) = moved_in(&[ONCE]).await;
    let crowd = (0..64).map(|_| world.refresh_with_key(FOREIGN, "k"));
    let replies = join_all(crowd).await;
    let tokens: Vec<_> = replies.into_iter().map(|reply| reply.expect(StatusCode::OK).text("refresh_token")).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert!(world.is_alive(&tokens[0]).await);
}

#[tokio::test]
async fn mi6_without_a_key_the_second_presentation_is_reuse() {
    let (world, _) = moved_in(&[ONCE]).await;
    let first = world.refresh(FOREIGN).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(world.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED).error(), "invalid_refresh_token");
    assert!(!world.is_alive(&first).await);
}

#[tokio::test]
async fn mi6_within_the_reuse_interval_a_crowd_without_keys_gets_one_session() {
    let (world, _) = moved_in(&[WINDOW]).await;
    let replies = join_all((0..64).map(|_| world.refresh(FOREIGN))).await;
    let tokens: Vec<_> = replies.into_iter().map(|reply| reply.expect(StatusCode::OK).text("refresh_token")).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    world.pass(30);
    // The interval has stragglers, so the session does not move on yet.
    let again = world.refresh(&tokens[0]).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(again, tokens[0]);
    world.refresh(FOREIGN).await.expect(StatusCode::OK);
    world.pass(31);
    let next = world.refresh(&tokens[0]).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&next)["gen"], 2);
    world.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&next).await);
}

#[tokio::test]
async fn mi7_a_lost_answer_is_given_again_to_the_same_attempt_until_the_client_has_moved_on() {
    let (world, _) = moved_in(&[ONCE]).await;
    let first = world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::OK).text("refresh_token");
    world.pass(3600);
    let again = world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(again, first);
    let second = world.refresh_with_key(&first, "l").await.expect(StatusCode::OK).text("refresh_token");
    world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&second).await);
}

#[tokio::test]
async fn mi7_the_same_attempt_gets_the_same_session_after_the_refresh_key_has_moved() {
    let secret = |refresh: &str| {
        json!({ "signing": refresh, "refresh": refresh,
            "k1": "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a", "k2": "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o" })
    };
    let wire = Wire::new();
    wire.set_secret(secret("k1"));
    let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey");
    let world = world_over(wire, &[arn, UNTIL, ONCE]).await;
    prepare(&world).await;
    let first = world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::OK).text("refresh_token");
    world.wire.set_secret(secret("k2"));
    world.pass(301);
    let again = world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::OK).text("refresh_token");
    // Signed by another key, it is the same token in all that counts.
    assert_eq!(claims(&again), claims(&first));
    let next = world.refresh_with_key(&first, "l").await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(world.refresh_with_key(&again, "l").await.expect(StatusCode::OK).text("refresh_token"), next);
}

#[tokio::test]
async fn mi7_an_answer_of_the_table_that_is_lost_costs_nobody_the_session() {
    for operation in ["GetItem", "Query", "TransactWriteItems"] {
        for fate in [Fate::Lost, Fate::AnswerLost, Fate::Refused(500, "InternalServerError")] {
            let (world, _) = moved_in(&[ONCE]).await;
            world.wire.fault(operation, usize::MAX, fate.clone());
            let reply = world.refresh_with_key(FOREIGN, "k").await;
            assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&reply.status), "{operation} {fate:?}");
            world.wire.fault(operation, 0, Fate::Pass);
            let token = world.refresh_with_key(FOREIGN, "k").await.expect(StatusCode::OK).text("refresh_token");
            assert!(world.is_alive(&token).await, "{operation} {fate:?}");
        }
    }
}

#[tokio::test]
async fn mi8_switched_off_or_past_its_date_a_foreign_token_costs_no_call() {
    let off = world().await;
    off.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(calls(&off), [""; 0]);
    let world = world_with(&[UNTIL]).await;
    import_user(&world, UserId::random()).await;
    assert_eq!(import(&world, EMAIL, FOREIGN, later(&world, 60)).await, TokenImport::Imported);
    world.pass(17 * DAY);
    world.wire.take();
    world.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(calls(&world), [""; 0]);
}

#[tokio::test]
async fn mi8_a_token_costs_one_read_and_one_that_is_found_a_query_and_a_transaction_more() {
    let (world, alice) = moved_in(&[]).await;
    world.refresh("not imported").await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(calls(&world), ["GetItem"]);
    world.refresh(FOREIGN).await.expect(StatusCode::OK);
    assert_eq!(calls(&world), ["GetItem", "Query", "TransactWriteItems"]);
    // A refresh token of this system is never looked up, whatever is wrong with it.
    let forged = format!("{}x", alice.refresh_token);
    let cut = &alice.refresh_token[..alice.refresh_token.find('.').unwrap() + 1];
    for forged in [forged.as_str(), cut, &"x".repeat(5000)] {
        world.refresh(forged).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(calls(&world), [""; 0]);
    let own = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(
        (calls(&world), claims(&own.text("refresh_token"))["gen"].clone()),
        (vec!["GetItem".into(), "UpdateItem".into()], json!(2))
    );
}

#[tokio::test]
async fn mi8_the_layer_exchanges_no_imported_token() {
    let (world, _) = moved_in(&[]).await;
    let reply = world.get("/api/v1/users/me").header("x-refresh-token", FOREIGN).await;
    reply.expect(StatusCode::UNAUTHORIZED);
    assert!(!calls(&world).iter().any(|call| call.starts_with("Transact")));
}

#[tokio::test]
async fn mi9_the_token_of_a_user_who_is_gone_or_locked_out_or_who_ended_all_sessions_is_refused() {
    let cases = [
        (Method::DELETE, "/api/v1/auth/sessions", json!({})),
        (Method::PUT, "/api/v1/users/me/password", json!({ "current_password": PASSWORD, "new_password": NEW })),
        (Method::POST, "/api/v1/users/me/delete", json!({ "password": PASSWORD })),
    ];
    for (method, path, body) in cases {
        let (world, ada) = moved_in(&[]).await;
        let reply = world.request(method, path).json(body).bearer(&ada.access_token).await;
        assert!(reply.status.is_success(), "{reply:?}");
        refused_without_a_write(&world, FOREIGN).await;
    }
    let (world, ada) = moved_in(&[]).await;
    world.app("account").disable_user(UserId::parse(&ada.id).unwrap()).await.unwrap();
    refused_without_a_write(&world, FOREIGN).await;
}

#[tokio::test]
async fn mi9_a_user_who_is_deleted_and_imported_again_gets_back_no_token() {
    let (world, ada) = moved_in(&[]).await;
    let id = UserId::parse(&ada.id).unwrap();
    let delete = world.post("/api/v1/users/me/delete", json!({ "password": PASSWORD })).bearer(&ada.access_token);
    delete.await.expect(StatusCode::NO_CONTENT);
    world.pass(1);
    import_user(&world, id).await;
    assert_eq!(import(&world, EMAIL, FOREIGN, later(&world, 10)).await, TokenImport::Taken);
    refused_without_a_write(&world, FOREIGN).await;
    assert!(!world.is_alive(&ada.refresh_token).await);
}

async fn refused_without_a_write(world: &World, token: &str) {
    world.wire.take();
    let reply = world.refresh(token).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error(), "invalid_refresh_token");
    let calls = calls(world);
    assert!(calls.iter().all(|call| ["GetItem", "Query"].contains(&call.as_str())), "{calls:?}");
}

#[tokio::test]
async fn mi9_a_token_that_has_expired_or_is_changed_is_refused() {
    let (world, _) = moved_in(&[]).await;
    let mut changed = FOREIGN.to_owned();
    changed.replace_range(0..1, "d");
    for other in [changed.as_str(), &FOREIGN[1..], &format!("{FOREIGN}0"), &FOREIGN.to_uppercase()] {
        refused_without_a_write(&world, other).await;
    }
    world.pass(10 * DAY);
    refused_without_a_write(&world, FOREIGN).await;

    // Its own time is not over, but the session's is.
    let (world, _) = moved_in(&[("SESSION_ABSOLUTE_EXPIRE_DAYS", "5")]).await;
    world.pass(2 * DAY);
    refused_without_a_write(&world, FOREIGN).await;
}

#[tokio::test]
async fn mi9_the_end_of_all_sessions_beside_the_exchange_leaves_no_session_alive() {
    const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ");
    let (world, alice) = moved_in(&[SECRET]).await;
    let other = Arc::new((world.beside(&[UNTIL, SECRET]).await, alice));
    world.wire.on_call(move |call| {
        let other = Arc::clone(&other);
        async move {
            if call.operation == "TransactWriteItems" {
                let (world, alice) = &*other;
                let end = world.request(Method::DELETE, "/api/v1/auth/sessions").bearer(&alice.access_token);
                end.await.expect(StatusCode::NO_CONTENT);
            }
            Fate::Pass
        }
    });
    world.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn mi5_a_token_is_attached_to_no_user_who_was_not_imported_and_imported_once() {
    let world = world_with(&[UNTIL]).await;
    let tomorrow = later(&world, 1);
    assert_eq!(import(&world, EMAIL, FOREIGN, tomorrow).await, TokenImport::NoAccount);
    world.register("bob@example.com").await;
    assert_eq!(import(&world, "bob@example.com", FOREIGN, tomorrow).await, TokenImport::Registered);
    import_user(&world, UserId::random()).await;
    assert_eq!(import(&world, "Ada@example.com", FOREIGN, tomorrow).await, TokenImport::OtherSpelling);
    assert_eq!(import(&world, EMAIL, FOREIGN, world.now()).await, TokenImport::Expired);
    assert_eq!(import(&world, EMAIL, FOREIGN, tomorrow).await, TokenImport::Imported);
    assert_eq!(import(&world, EMAIL, FOREIGN, tomorrow).await, TokenImport::WasThere);
}

#[tokio::test]
async fn mi5_a_spent_token_is_not_brought_back_by_another_import_however_late() {
    let (world, ada) = moved_in(&[ONCE]).await;
    let first = world.refresh(FOREIGN).await.expect(StatusCode::OK).text("refresh_token");
    // The table keeps the token for as long as a line with it could be imported.
    let store = world.app("refresh").store();
    let user = store.user(UserId::parse(&ada.id).unwrap()).await.unwrap().unwrap();
    let [held] = store.traces(&user).await.unwrap().imported_tokens.try_into().unwrap();
    assert_eq!(held.expires_at, later(&world, 10));
    world.pass(9 * DAY);
    assert_eq!(import(&world, EMAIL, FOREIGN, later(&world, 1)).await, TokenImport::WasThere);
    world.refresh(FOREIGN).await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&first).await);
}

#[tokio::test]
async fn mi5_no_token_is_attached_to_a_user_who_has_ended_all_sessions_since_the_import() {
    let (world, ada) = moved_in(&[]).await;
    let end = world.request(Method::DELETE, "/api/v1/auth/sessions").bearer(&ada.access_token);
    end.await.expect(StatusCode::NO_CONTENT);
    assert_eq!(import(&world, EMAIL, "another token", later(&world, 1)).await, TokenImport::Ended);
}

#[tokio::test]
async fn mi5_a_user_whose_id_or_address_another_account_has_is_not_imported() {
    let (world, ada) = moved_in(&[]).await;
    let app = world.app("refresh");
    let bob = world.register("bob@example.com").await;
    let hash = app.unknown_password_hash().await.unwrap();
    let new = |id: &str, email: &str| new_user(UserId::parse(id).unwrap(), email, hash.clone());
    let fresh = UserId::random().to_string();
    for (id, email, expected) in [
        (&ada.id, EMAIL, UserImport::WasThere),
        (&ada.id, "ADA@example.com", UserImport::EmailTaken),
        (&ada.id, "carol@example.com", UserImport::IdTaken),
        (&bob.id, "carol@example.com", UserImport::IdTaken),
        (&fresh, EMAIL, UserImport::EmailTaken),
        (&fresh, "bob@example.com", UserImport::EmailTaken),
    ] {
        assert_eq!(app.try_user_import(&new(id, email)).await.unwrap(), expected, "{id} {email}");
        assert_eq!(app.import_user(new(id, email)).await.unwrap(), expected, "{id} {email}");
    }
}

#[tokio::test]
async fn users_who_are_all_new_are_imported_in_one_transaction() {
    let (world, _) = moved_in(&[]).await;
    let app = world.app("refresh");
    let hash = app.unknown_password_hash().await.unwrap();
    let new: Vec<_> =
        (0..50).map(|n| new_user(UserId::random(), &format!("user{n}@example.com"), hash.clone())).collect();
    world.wire.take();
    let outcomes = app.import_users(&new).await;
    assert_eq!(outcomes, vec![Ok(UserImport::Imported); 50]);
    assert_eq!(world.wire.take().operations(), ["TransactWriteItems"]);
    assert_eq!(app.import_users(&new).await, vec![Ok(UserImport::WasThere); 50]);
}

#[tokio::test]
async fn mi5_a_user_who_cannot_be_imported_keeps_no_other_from_it() {
    let (world, _) = moved_in(&[]).await;
    let app = world.app("refresh");
    let hash = app.unknown_password_hash().await.unwrap();
    let new = |email: &str| new_user(UserId::random(), email, hash.clone());
    let new_in_pairs = |email: &str| [new(&format!("first.{email}")), new(&format!("second.{email}"))];

    let taken = [new(EMAIL), new("bob@example.com")];
    assert_eq!(app.import_users(&taken).await, [Ok(UserImport::EmailTaken), Ok(UserImport::Imported)]);

    let mut demanding = new_in_pairs("demanding@example.com");
    demanding[0].roles = Some(vec!["x".repeat(5000)]);
    let outcomes = app.import_users(&demanding).await;
    assert!(matches!(outcomes[0], Err(Error::Validation(_))), "{outcomes:?}");
    assert_eq!(outcomes[1], Ok(UserImport::Imported));

    // DynamoDB refuses a transaction that writes an item twice.
    let mut one_id = new_in_pairs("id@example.com");
    one_id[1].id = one_id[0].id;
    let mut outcomes: Vec<_> = app.import_users(&one_id).await.into_iter().map(Result::unwrap).collect();
    outcomes.sort_by_key(|outcome| *outcome == UserImport::IdTaken);
    assert_eq!(outcomes, [UserImport::Imported, UserImport::IdTaken]);
    let one_address = [new("Carol@example.com"), new("carol@example.com")];
    let mut outcomes: Vec<_> = app.import_users(&one_address).await.into_iter().map(Result::unwrap).collect();
    outcomes.sort_by_key(|outcome| *outcome == UserImport::EmailTaken);
    assert_eq!(outcomes, [UserImport::Imported, UserImport::EmailTaken]);
}

#[tokio::test]
async fn users_are_imported_all_or_not_at_all_when_the_table_fails() {
    let (world, _) = moved_in(&[]).await;
    let app = world.app("refresh");
    let hash = app.unknown_password_hash().await.unwrap();
    let new = ["bob@example.com", "carol@example.com"].map(|email| new_user(UserId::random(), email, hash.clone()));
    world.wire.fault("TransactWriteItems", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    world.wire.take();
    let outcomes = app.import_users(&new).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Error::Unavailable { .. }))), "{outcomes:?}");
    assert_eq!(world.wire.take().operations(), ["TransactWriteItems"], "no user is tried alone");
}

#[tokio::test]
async fn rf16_an_exchange_at_the_cap_of_sessions_ends_the_oldest() {
    let (world, alice) = moved_in(&[("MAX_SESSIONS", "1")]).await;
    let first = world.refresh(FOREIGN).await.expect(StatusCode::OK).text("refresh_token");
    assert!(!world.is_alive(&alice.refresh_token).await);
    assert!(world.is_alive(&first).await);
}

#[tokio::test]
async fn a_key_that_the_secret_lacks_is_an_outage_and_not_a_refusal() {
    let world = world_with(&[("IMPORTED_TOKENS_UNTIL", "2100-02-01:k7")]).await;
    world.refresh(FOREIGN).await.expect(StatusCode::SERVICE_UNAVAILABLE);
}
