//! The copy of the secret that a warm function works with: read again after five
//! minutes, and kept while the secret cannot be read.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::wire::{Fate, Wire};
use crate::world::{EMAIL, PASSWORD, User, World, world_over};

const FIRST: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const SECOND: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";
const ARN: (&str, &str) = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey");
const MINUTE: u64 = 60;

/// The secret before and after its key was replaced.
fn first() -> Value {
    json!({ "signing": "k1", "refresh": "k1", "k1": FIRST })
}

fn second() -> Value {
    json!({ "signing": "k2", "refresh": "k2", "k2": SECOND })
}

/// A warm system with the first key, and a user of it.
async fn warm() -> (World, User) {
    let wire = Wire::new();
    wire.set_secret(first());
    let world = world_over(wire, &[ARN]).await;
    let alice = world.register(EMAIL).await;
    (world, alice)
}

async fn me(world: &World, access_token: &str) -> StatusCode {
    world.get("/api/v1/users/me").bearer(access_token).await.status
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// How often the secret was read since this was last asked.
fn reads(world: &World) -> usize {
    world.wire.take().calls.iter().filter(|call| call.operation == "GetSecretValue").count()
}

#[tokio::test]
async fn jw15_a_key_that_was_taken_out_neither_verifies_nor_signs_after_five_minutes() {
    let (world, alice) = warm().await;
    world.wire.set_secret(second());
    world.pass(4 * MINUTE);
    assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK);
    world.pass(MINUTE + 1);
    assert_eq!(me(&world, &alice.access_token).await, StatusCode::UNAUTHORIZED);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    let login = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    assert_eq!((kid(&login.access_token), kid(&login.refresh_token)), ("k2".into(), "k2".into()));
    assert_eq!(me(&world, &login.access_token).await, StatusCode::OK);
}

#[tokio::test]
async fn jw15_a_warm_login_gives_no_tokens_that_fresh_functions_refuse() {
    let (world, _) = warm().await;
    world.wire.set_secret(second());
    world.pass(5 * MINUTE + 1);
    let login = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let wire = Wire::new();
    wire.set_secret(second());
    let fresh = world.beside_over(wire, &[ARN]).await;
    assert_eq!(me(&fresh, &login.access_token).await, StatusCode::OK);
    fresh.refresh(&login.refresh_token).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn jw15_a_warm_function_reads_the_secret_once_in_five_minutes() {
    let (world, alice) = warm().await;
    world.wire.take();
    for (seconds, expected) in [(0, 0), (5 * MINUTE, 0), (1, 1), (5 * MINUTE, 0), (1, 1)] {
        world.pass(seconds);
        for _ in 0..3 {
            assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK);
        }
        assert_eq!(reads(&world), expected, "{seconds} seconds later");
    }
}

#[tokio::test]
async fn jw15_while_the_secret_cannot_be_read_or_used_the_last_ring_is_kept() {
    let rsa =
        std::fs::read_to_string(format!("{}/../shared/src/token/testdata/rsa-2048.pem", env!("CARGO_MANIFEST_DIR")));
    let of_another_algorithm = json!({ "signing": "k2", "refresh": "k1", "k1": SECOND, "k2": rsa.unwrap() });
    let faults = [
        (Fate::Refused(400, "AccessDeniedException"), second()),
        (Fate::Refused(500, "InternalServiceError"), second()),
        (Fate::Lost, second()),
        (Fate::Pass, json!({ "signing": "k2" })),
        (Fate::Pass, json!({ "signing": "k2", "refresh": "k2", "k2": "your-256-bit-secret" })),
        (Fate::Pass, of_another_algorithm),
    ];
    let (world, alice) = warm().await;
    let wire = Wire::new();
    wire.set_secret(second());
    let newer = world.beside_over(wire, &[ARN]).await.login(PASSWORD).await.user();
    for (fate, secret) in faults {
        world.wire.set_secret(secret);
        world.wire.fault("GetSecretValue", usize::MAX, fate.clone());
        world.pass(5 * MINUTE + 1);
        world.wire.take();
        for _ in 0..3 {
            assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK, "{fate:?}");
        }
        let login = world.login(PASSWORD).await.expect(StatusCode::OK).user();
        assert_eq!(kid(&login.access_token), "k1");
        // A token with an unknown key may be good.
        assert_eq!(me(&world, &newer.access_token).await, StatusCode::SERVICE_UNAVAILABLE, "{fate:?}");
        world.refresh(&newer.refresh_token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        world.wire.heal();
        world.wire.set_secret(first());
        world.pass(5);
        assert_eq!(me(&world, &newer.access_token).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn jw15_a_slow_secret_holds_up_one_request_in_five_seconds_for_a_second() {
    let (world, alice) = warm().await;
    world.wire.fault("GetSecretValue", usize::MAX, Fate::Silence);
    world.pass(5 * MINUTE + 1);
    world.wire.take();
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK);
    }
    let waited = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(2500)).contains(&waited), "{waited:?}");
    assert_eq!(reads(&world), 1);
    world.pass(5);
    assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK);
    assert_eq!(reads(&world), 1);
}
