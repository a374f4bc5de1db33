//! Users who come from another system, with the hashes that it made of their passwords.

use freshkey::email::Email;
use freshkey::password::PasswordHash;
use freshkey::write::Write;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mail::mailing;
use crate::wire::{Call, Fate};
use crate::world::{EMAIL, Reply, User, World, signed_up};

const NEW_PASSWORD: &str = "eight lanterns in the winter harbour";
/// The composed password of the hashes, and the one that bcrypt cuts.
const COMPOSED: &str = "caf\u{e9} au lait, s'il vous pla\u{ee}t";
const LONG: &str = "a quiet river under seven bridges, and a lantern in every window of the harbour";
/// One origin of each form.
const ORIGINS: [&str; 7] = [
    "Symfony bcrypt",
    "Django 5.2.19 PBKDF2PasswordHasher",
    "Django 5.2.19 BCryptSHA256PasswordHasher",
    "passlib 1.7.4 pbkdf2_sha256",
    "Werkzeug 3.1.9 scrypt",
    "Keycloak argon2id",
    "firebase-scrypt 0.1.0",
];
/// Over the cap: 4 GiB of memory.
const TOO_COSTLY: &str = "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA";

/// A hash of `password` from another system, as testdata/README.md of the crate says.
fn foreign(from: &str, password: &str) -> String {
    let lines = include_str!("../../../shared/src/password/testdata/hashes.jsonl").lines();
    let mut vectors = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let vector = vectors.find(|vector| vector["from"] == from && vector["password"] == password).unwrap();
    vector["hash"].as_str().unwrap().to_owned()
}

async fn stored(world: &World) -> String {
    let credential = world.app("login").store().credential(&Email::parse(EMAIL).unwrap()).await.unwrap();
    credential.unwrap().password_hash.as_str().to_owned()
}

/// Gives the first user a hash of another system.
async fn bring(world: &World, hash: &str) {
    let old = PasswordHash::stored(stored(world).await);
    let new = PasswordHash::stored(hash.into());
    let email = Email::parse(EMAIL).unwrap();
    assert_eq!(world.app("login").store().rehash(&email, &old, &new).await.unwrap(), Write::Done(()));
    world.wire.take();
}

fn is_rehash(call: &Call) -> bool {
    call.operation == "UpdateItem" && call.body["Key"]["sk"]["S"] == "CREDENTIAL"
}

fn rehashes(world: &World) -> usize {
    world.wire.take().calls.iter().filter(|call| is_rehash(call)).count()
}

fn is_todays(hash: &str) -> bool {
    hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
}

async fn change_password(world: &World, user: &User, current: &str) -> Reply {
    let body = json!({ "current_password": current, "new_password": NEW_PASSWORD });
    world.request(Method::PUT, "/api/v1/users/me/password").bearer(&user.access_token).json(body).await
}

async fn change_email(world: &World, user: &User, password: &str) -> Reply {
    let body = json!({ "email": "alice@new.example.com", "password": password });
    world.request(Method::PUT, "/api/v1/users/me/email").bearer(&user.access_token).json(body).await
}

async fn delete(world: &World, user: &User, password: &str) -> Reply {
    let request = world.post("/api/v1/users/me/delete", json!({ "password": password }));
    request.bearer(&user.access_token).await
}

fn password_for(origin: &str) -> &'static str {
    if origin == "Symfony bcrypt" { LONG } else { COMPOSED }
}

#[tokio::test]
async fn mi1_mi2_the_first_right_login_replaces_a_foreign_hash_and_a_wrong_one_does_not() {
    let (world, alice) = signed_up().await;
    for origin in ORIGINS {
        let password = password_for(origin);
        let hash = foreign(origin, password);
        bring(&world, &hash).await;
        world.login("not her password").await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!((stored(&world).await, rehashes(&world)), (hash, 0), "{origin}");
        assert_eq!(world.login(password).await.expect(StatusCode::OK).user().id, alice.id, "{origin}");
        assert_eq!(rehashes(&world), 1, "{origin}");
        let replaced = stored(&world).await;
        assert!(is_todays(&replaced), "{origin}");
        world.login("not her password").await.expect(StatusCode::UNAUTHORIZED);
        world.login(password).await.expect(StatusCode::OK);
        assert_eq!((stored(&world).await, rehashes(&world)), (replaced, 0), "{origin}");
    }
}

#[tokio::test]
async fn mi1_a_password_that_was_hashed_decomposed_is_right_as_sent_and_afterwards_in_any_form() {
    let (world, _) = signed_up().await;
    let decomposed = "cafe\u{301} au lait, s'il vous plai\u{302}t";
    bring(&world, &foreign("Django 5.2.19 PBKDF2PasswordHasher", decomposed)).await;
    world.login(COMPOSED).await.expect(StatusCode::UNAUTHORIZED);
    for password in [decomposed, COMPOSED, decomposed] {
        world.login(password).await.expect(StatusCode::OK);
        assert!(is_todays(&stored(&world).await));
    }
}

#[tokio::test]
async fn mi1_every_function_that_asks_for_the_password_knows_the_foreign_hashes() {
    for origin in ORIGINS {
        let (world, password) = (mailing(&[]).await, password_for(origin));
        let alice = world.register(EMAIL).await;
        let wrong = "not her password";
        bring(&world, &foreign(origin, password)).await;
        change_email(&world, &alice, wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        change_email(&world, &alice, password).await.expect(StatusCode::ACCEPTED);
        change_password(&world, &alice, wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        change_password(&world, &alice, password).await.expect(StatusCode::NO_CONTENT);
        assert!(is_todays(&stored(&world).await), "{origin}");
        world.login(NEW_PASSWORD).await.expect(StatusCode::OK);
        bring(&world, &foreign(origin, password)).await;
        delete(&world, &alice, wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        delete(&world, &alice, password).await.expect(StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn mi2_a_fault_while_a_foreign_hash_is_replaced_fails_no_login() {
    let hash = foreign("Symfony bcrypt", LONG);
    for fate in [Fate::Refused(500, "InternalServerError"), Fate::Lost, Fate::AnswerLost] {
        let (world, _) = signed_up().await;
        bring(&world, &hash).await;
        world.wire.on_call({
            let fate = fate.clone();
            move |call| {
                let fate = if is_rehash(&call) { fate.clone() } else { Fate::Pass };
                async move { fate }
            }
        });
        let alice = world.login(LONG).await.expect(StatusCode::OK).user();
        world.wire.heal();
        assert!(rehashes(&world) >= 1);
        assert!(world.is_alive(&alice.refresh_token).await);
        let is_written = matches!(fate, Fate::AnswerLost);
        assert_eq!(is_todays(&stored(&world).await), is_written, "{fate:?}");
        world.login(LONG).await.expect(StatusCode::OK);
        assert!(is_todays(&stored(&world).await));
    }
}

#[tokio::test]
async fn mi2_a_password_that_changes_during_the_login_is_not_replaced_by_the_old_one() {
    let (world, _) = signed_up().await;
    bring(&world, &foreign("Symfony bcrypt", LONG)).await;
    // The change is made by another function, between the check and the write.
    let (other, changed) = (world.beside(&[]).await, foreign("Werkzeug 3.1.9 scrypt", COMPOSED));
    world.wire.on_call({
        let changed = changed.clone();
        move |call| {
            let (other, changed) = (other.clone(), changed.clone());
            async move {
                if is_rehash(&call) {
                    bring(&other, &changed).await;
                }
                Fate::Pass
            }
        }
    });
    world.login(LONG).await.expect(StatusCode::OK);
    assert_eq!(stored(&world).await, changed);
}

#[tokio::test]
async fn mi2_the_hash_of_a_password_that_bcrypt_cut_stays() {
    let (world, _) = signed_up().await;
    let hash = foreign("PHP 8.2 bcrypt", LONG);
    bring(&world, &hash).await;
    for password in [LONG, &format!("{LONG}!"), &LONG[..72], LONG] {
        world.login(password).await.expect(StatusCode::OK);
        assert_eq!((stored(&world).await.as_str(), rehashes(&world)), (hash.as_str(), 0));
    }
    world.login(&LONG[..71]).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn mi3_a_hash_over_the_cap_is_a_wrong_password_after_one_hash() {
    let world = mailing(&[]).await;
    let alice = world.register(EMAIL).await;
    bring(&world, TOO_COSTLY).await;
    let computed = |function: &str| world.app(function).hasher().computed();
    let reply = world.login(COMPOSED).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!((reply.error().as_str(), computed("login")), ("invalid_credentials", 1));
    change_email(&world, &alice, COMPOSED).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(computed("email"), 1);
    let reply = change_password(&world, &alice, COMPOSED).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!((reply.faults(), computed("account")), (vec!["current_password: password_wrong".to_owned()], 1));
    delete(&world, &alice, COMPOSED).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!((stored(&world).await.as_str(), computed("account")), (TOO_COSTLY, 2));
}
