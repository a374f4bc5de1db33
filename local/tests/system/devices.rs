//! Known devices: whose they are, and how their guesses are counted.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use freshkey::Timestamp;
use freshkey::config::KeySource;
use freshkey::id::UserId;
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::limits::{ELSEWHERE, HERE, WRONG, guarded, guess, hashes, login, on_device, told, wait};
use crate::rows::Row;
use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, User, World, claims, world};

const NEW_PASSWORD: &str = "another river under nine bridges";
const BOB: &str = "bob@example.com";

/// Registers an account, and returns its user and device token.
async fn register(world: &World, email: &str) -> (User, String) {
    let reply = world.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).await;
    let reply = reply.expect(StatusCode::CREATED);
    (reply.user(), reply.text("device_token"))
}

/// The device tokens of this many logins that sent none.
async fn devices(world: &World, email: &str, count: usize) -> Vec<String> {
    let mut tokens = Vec::new();
    for _ in 0..count {
        tokens.push(login(world, email, PASSWORD).await.expect(StatusCode::OK).text("device_token"));
    }
    tokens
}

fn device_token(reply: &Reply) -> Option<String> {
    reply.json()["device_token"].as_str().map(str::to_owned)
}

async fn change_password(world: &World, user: &User, current: &str, new: &str) {
    let body = json!({ "current_password": current, "new_password": new });
    let change = world.request(Method::PUT, "/api/v1/users/me/password").bearer(&user.access_token).json(body);
    change.await.expect(StatusCode::NO_CONTENT);
}

async fn delete(world: &World, user: &User) {
    let request = world.post("/api/v1/users/me/delete", json!({ "password": PASSWORD }));
    request.bearer(&user.access_token).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rl1_a_device_token_names_the_user() {
    let world = world().await;
    let (alice, first) = register(&world, EMAIL).await;
    let [second] = devices(&world, EMAIL, 1).await.try_into().unwrap();
    for token in [&first, &second] {
        assert_eq!(claims(token)["sub"], alice.id);
    }
    assert_ne!(claims(&first)["jti"], claims(&second)["jti"]);
}

#[tokio::test]
async fn rl1_devices_of_a_deleted_account_are_unknown_to_the_next_one_with_its_address() {
    let (world, first) = guarded(&[]).await;
    let mut tokens = devices(&world, EMAIL, 7).await;
    tokens.push(first);
    let former = login(&world, EMAIL, PASSWORD).await.user();
    delete(&world, &former).await;
    let (_, owners) = register(&world, EMAIL).await;

    let before = hashes(&world);
    let mut statuses = Vec::new();
    for token in &tokens {
        for _ in 0..3 {
            statuses.push(on_device(&world, token, WRONG).await.status.as_u16());
        }
    }
    assert_eq!(hashes(&world) - before, 5);
    assert_eq!(statuses, [vec![401; 5], vec![429; 19]].concat());
    on_device(&world, &owners, PASSWORD).await.expect(StatusCode::OK);
    // A login from one of the old devices makes it a device of the new user.
    world.pass(30);
    let given = device_token(&on_device(&world, &tokens[0], PASSWORD).await.expect(StatusCode::OK)).unwrap();
    assert_eq!(claims(&given)["sub"], claims(&owners)["sub"]);
}

#[tokio::test]
async fn rl1_a_guess_at_an_account_that_does_not_know_the_device_is_counted_there_and_not_for_the_device() {
    let (world, _) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    for _ in 0..4 {
        on_device(&world, &bobs, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    // Alice's account has one guess left; Bob's device has all of its guesses.
    guess(&world, 1).await;
    assert_eq!(wait(on_device(&world, &bobs, WRONG).await), 30);
    let at_bob = |password| login(&world, BOB, password).header("x-device-token", &bobs);
    for _ in 0..5 {
        at_bob(WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(at_bob(PASSWORD).await), 30);
}

#[tokio::test]
async fn rl1_a_device_over_its_limit_is_over_it_at_its_own_account_only() {
    let (world, _) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    for _ in 0..5 {
        login(&world, BOB, WRONG).header("x-device-token", &bobs).await.expect(StatusCode::UNAUTHORIZED);
    }
    wait(login(&world, BOB, PASSWORD).header("x-device-token", &bobs).await);
    on_device(&world, &bobs, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    on_device(&world, &bobs, PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn rl4_a_guess_at_an_account_that_does_not_know_the_device_counts_at_the_address() {
    let (world, _) = guarded(&[("LIMIT_FAILURES_PER_ADDRESS", "3")]).await;
    let (_, bobs) = register(&world, BOB).await;
    for number in 0..3 {
        let email = format!("user-{number}@example.com");
        let guess = login(&world, &email, WRONG).header("x-device-token", &bobs).from(HERE);
        guess.await.expect(StatusCode::UNAUTHORIZED);
    }
    wait(on_device(&world, &bobs, WRONG).from(HERE).await);
    on_device(&world, &bobs, WRONG).from(ELSEWHERE).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn en5_a_foreign_device_token_does_not_tell_whether_an_address_has_an_account() {
    let (world, _) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    for round in 0..7 {
        let [known, unknown] = [(EMAIL, HERE), ("nobody@example.com", ELSEWHERE)].map(|(email, from)| {
            let guess = login(&world, email, WRONG).header("x-device-token", &bobs).from(from);
            async {
                world.wire.take();
                let told = told(guess.await);
                let log = world.wire.take();
                (told, log.operations().into_iter().map(str::to_owned).collect::<Vec<_>>())
            }
        });
        let (known, unknown) = (known.await, unknown.await);
        assert_eq!(known.0, unknown.0, "{round}");
        // Once a limit is exceeded, there is no reason to read the user.
        assert_eq!(known.1, unknown.1, "{round}");
    }
}

#[tokio::test]
async fn rl1_a_device_token_that_the_account_does_not_honour_costs_one_round_trip_more() {
    let (world, owners) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    for (token, round_trips) in [(&owners, 3), (&bobs, 4)] {
        world.wire.take();
        on_device(&world, token, PASSWORD).await.expect(StatusCode::OK);
        assert_eq!(world.wire.take().round_trips, round_trips);
    }
}

#[tokio::test]
async fn rl1_a_device_token_from_before_the_account_forgot_its_devices_counts_as_none() {
    let (world, old) = guarded(&[]).await;
    world.pass(10);
    let since = AttributeValue::N(world.now().seconds().to_string());
    for name in ["devices_since", "password_changed_at"] {
        Row::credential(EMAIL).set(&world, name, since.clone()).await;
    }
    let [new] = devices(&world, EMAIL, 1).await.try_into().unwrap();
    guess(&world, 4).await;
    on_device(&world, &old, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(wait(on_device(&world, &old, PASSWORD).await), 30);
    let reply = on_device(&world, &new, PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(device_token(&reply), None);
    world.pass(30);
    assert!(device_token(&on_device(&world, &old, PASSWORD).await.expect(StatusCode::OK)).is_some());
}

#[tokio::test]
async fn rl1_devices_from_before_a_change_of_the_password_share_one_count_and_a_right_login_replaces_them() {
    let (world, first) = guarded(&[]).await;
    let mut tokens = devices(&world, EMAIL, 5).await;
    tokens.push(first);
    let alice = login(&world, EMAIL, PASSWORD).await.user();
    // This is within the second in which the tokens were issued.
    world.clock.advance(Duration::from_millis(500));
    change_password(&world, &alice, PASSWORD, NEW_PASSWORD).await;
    world.pass(1);

    let before = hashes(&world);
    let mut statuses = Vec::new();
    for token in &tokens {
        for _ in 0..2 {
            statuses.push(on_device(&world, token, PASSWORD).await.status.as_u16());
        }
    }
    assert_eq!(statuses, [vec![401; 5], vec![429; 7]].concat());
    assert_eq!(hashes(&world) - before, 5);
    assert_eq!(wait(on_device(&world, &tokens[5], NEW_PASSWORD).await), 30);
    // The pause holds for these devices alone, and pauses of others do not hold for them.
    login(&world, EMAIL, NEW_PASSWORD).await.expect(StatusCode::OK);
    guess(&world, 5).await;
    world.pass(30);
    let reply = on_device(&world, &tokens[5], NEW_PASSWORD).await.expect(StatusCode::OK);
    let replaced = device_token(&reply).unwrap();
    assert_eq!(claims(&replaced)["sub"], alice.id);
    let reply = on_device(&world, &replaced, NEW_PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(device_token(&reply), None);
    // The right login has reset the count that these devices share.
    for token in &tokens[..5] {
        on_device(&world, token, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    wait(on_device(&world, &tokens[5], WRONG).await);
    on_device(&world, &replaced, WRONG).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rl1_a_token_of_a_login_that_raced_a_change_of_the_password_counts_as_older_than_the_change() {
    let (world, first) = guarded(&[]).await;
    let alice = login(&world, EMAIL, PASSWORD).await.user();
    change_password(&world, &alice, PASSWORD, NEW_PASSWORD).await;
    // Such a login has checked the earlier password, and answers after the change.
    let app = world.system.function("login").unwrap().app();
    let KeySource::Given(ring) = &app.config().keys else { panic!("the secret is given") };
    let time = |claim: &str| Timestamp::from_seconds(claims(&first)[claim].as_i64().unwrap());
    let (changed_at, later) = (time("password_changed_at"), time("iat") + Duration::from_secs(3600));
    let user = UserId::parse(&alice.id).unwrap();
    let racing = || app.config().device_tokens.issue(ring, user, changed_at, later).unwrap();
    let (one, other) = (racing(), racing());
    for _ in 0..5 {
        on_device(&world, one.expose_secret(), WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    on_device(&world, other.expose_secret(), WRONG).await.expect(StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn rl1_the_account_routes_count_by_device_as_the_login_does() {
    let (world, known) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    let alice = on_device(&world, &known, PASSWORD).await.user();
    let change = |current: &str, token: &str| {
        let body = json!({ "current_password": current, "new_password": NEW_PASSWORD });
        let request = world.request(Method::PUT, "/api/v1/users/me/password").json(body);
        request.bearer(&alice.access_token).header("x-device-token", token)
    };
    let delete = |password: &str, token: &str| {
        let request = world.post("/api/v1/users/me/delete", json!({ "password": password }));
        request.bearer(&alice.access_token).header("x-device-token", token)
    };
    for _ in 0..2 {
        change(WRONG, &bobs).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        delete(WRONG, &bobs).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    guess(&world, 1).await;
    for reply in [change(PASSWORD, &bobs).await, delete(PASSWORD, &bobs).await, world.login(PASSWORD).await] {
        assert_eq!(wait(reply), 30);
    }
    world.pass(1);
    change(PASSWORD, &known).await.expect(StatusCode::NO_CONTENT);
    world.pass(1);
    for _ in 0..5 {
        delete(WRONG, &known).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(wait(delete(NEW_PASSWORD, &known).await), 30);
}

#[tokio::test]
async fn rl5_an_outage_costs_no_guesses_of_a_device() {
    let (world, known) = guarded(&[]).await;
    let (_, bobs) = register(&world, BOB).await;
    for operation in ["GetItem", "Query", "PutItem"] {
        for _ in 0..6 {
            for token in [&known, &bobs] {
                world.wire.fault(operation, 1, Fate::Refused(400, "AccessDeniedException"));
                on_device(&world, token, PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
    }
    world.wire.heal();
    for _ in 0..5 {
        on_device(&world, &known, WRONG).await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(on_device(&world, &known, WRONG).await), 30);
    guess(&world, 5).await;
    assert_eq!(wait(world.login(WRONG).await), 30);
    let at_bob = || login(&world, BOB, WRONG).header("x-device-token", &bobs);
    for _ in 0..5 {
        at_bob().await.expect(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(wait(at_bob().await), 30);
}

#[tokio::test]
async fn rl1_a_device_token_that_was_sent_to_register_is_not_given_again() {
    let (world, alices) = guarded(&[]).await;
    let body = json!({ "email": BOB, "password": PASSWORD });
    let reply = world.post("/api/v1/auth/register", body).header("x-device-token", &alices).await;
    let given = device_token(&reply.expect(StatusCode::CREATED)).unwrap();
    assert_ne!(claims(&given)["sub"], claims(&alices)["sub"]);
    assert_ne!(claims(&given)["jti"], claims(&alices)["jti"]);
    let told: Value = claims(&given);
    assert!(!told.to_string().contains("bob"), "{told}");
}
