//! The copy of the secret that a warm function works with: read again after five
//! minutes, and kept while the secret cannot be read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use freshkey::config::KeySource;
use http::{Method, StatusCode};
use local::TEMPLATE;
use local::template::Template;
use serde_json::{Value, json};

use crate::keys::is_let_in;
use crate::mail::MAIL;
use crate::wire::{Fate, Wire};
use crate::world::{EMAIL, PASSWORD, User, World, claims, world_over};

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
async fn jw15_op6_while_the_secret_cannot_be_read_or_used_the_last_ring_is_kept() {
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
    assert!((Duration::from_millis(900)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    assert_eq!(reads(&world), 1);
    world.pass(5);
    assert_eq!(me(&world, &alice.access_token).await, StatusCode::OK);
    assert_eq!(reads(&world), 1);
}

/// A system with mail on, whose secret is replaced after sessions were opened.
struct Replaced {
    world: World,
    /// Two sessions for each time that the functions are asked.
    sessions: Vec<[User; 2]>,
}

async fn replaced() -> Replaced {
    let pem = |bits: u32| {
        let path = format!("{}/../shared/src/token/testdata/rsa-{bits}.pem", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let wire = Wire::new();
    wire.set_secret(json!({ "signing": "a1", "refresh": "s1", "a1": pem(2048), "s1": FIRST }));
    let world = world_over(wire, &[&MAIL[..], &[ARN, ("JWT_ALGORITHM", "RS256")]].concat()).await;
    let mut sessions = vec![[world.register(EMAIL).await, world.login(PASSWORD).await.user()]];
    for _ in 0..3 {
        sessions.push([world.login(PASSWORD).await.user(), world.login(PASSWORD).await.user()]);
    }
    world.wire.set_secret(json!({ "signing": "a2", "refresh": "s2", "a2": pem(3072), "s2": SECOND }));
    Replaced { world, sessions }
}

impl Replaced {
    /// Whether the functions accept, publish and sign with the first keys. Every function
    /// that has keys is called, and all of them must agree.
    async fn uses_the_first_keys(&mut self) -> bool {
        let world = &self.world;
        let [alice, other] = self.sessions.pop().unwrap();
        let email = format!("{}@example.com", claims(&alice.access_token)["jti"].as_str().unwrap());
        let new = [world.register(&email).await, world.login(PASSWORD).await.expect(StatusCode::OK).user()];
        let [registered, logged_in] =
            new.map(|user| [kid(&user.access_token), kid(&user.refresh_token)] == ["a1", "s1"]);
        let verification =
            world.request(Method::POST, "/api/v1/users/me/email/verification").bearer(&alice.access_token).await;
        let jwks = world.get("/.well-known/jwks.json").await;
        let me = me(world, &alice.access_token).await;
        let is_let_in = is_let_in(world, &alice.access_token).await;
        let refresh = world.refresh(&alice.refresh_token).await;
        world.wire.take();
        // A logout with a token that is not accepted succeeds, too, but ends nothing.
        world.post("/api/v1/auth/logout", json!({ "refresh_token": other.refresh_token })).await;
        let has_ended = world.wire.take().calls.iter().any(|call| call.operation == "DeleteItem");
        let used = BTreeMap::from([
            ("account", me == StatusCode::OK),
            ("authorizer", is_let_in),
            ("email", verification.status != StatusCode::UNAUTHORIZED),
            ("keys", jwks.json()["keys"][0]["kid"] == "a1"),
            ("login", logged_in),
            ("logout", has_ended),
            ("refresh", refresh.status == StatusCode::OK),
            ("register", registered),
        ]);
        assert_eq!(used.keys().copied().collect::<Vec<_>>(), self.functions_with_keys());
        let is_used = used["account"];
        assert!(used.values().all(|one| *one == is_used), "{used:?}");
        is_used
    }

    fn functions_with_keys(&self) -> Vec<String> {
        let template = Template::read(Path::new(TEMPLATE), &[("MailFrom", "no-reply@example.com")]).unwrap();
        let has_keys = |name: &String| {
            let function = self.world.system.function(name);
            function.is_some_and(|one| matches!(one.app().config().keys, KeySource::Secret(_)))
        };
        let mut names: Vec<_> = template.functions.into_iter().map(|one| one.name).filter(has_keys).collect();
        names.sort_unstable();
        names
    }
}

#[tokio::test]
async fn op6_a_key_that_was_taken_out_is_used_by_no_function_after_five_minutes() {
    let mut replaced = replaced().await;
    replaced.world.pass(5 * MINUTE);
    assert!(replaced.uses_the_first_keys().await);
    replaced.world.pass(1);
    assert!(!replaced.uses_the_first_keys().await);
}

#[tokio::test]
async fn op6_a_secret_that_cannot_be_read_changes_nothing_for_a_function_that_has_read_it() {
    let mut replaced = replaced().await;
    replaced.world.wire.fault("GetSecretValue", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    for _ in 0..2 {
        replaced.world.pass(20 * MINUTE);
        assert!(replaced.uses_the_first_keys().await);
    }
    replaced.world.wire.heal();
    replaced.world.pass(5);
    assert!(!replaced.uses_the_first_keys().await);
}

#[tokio::test]
async fn op6_nothing_runs_between_requests() {
    let (world, alice) = warm().await;
    world.wire.set_secret(second());
    world.wire.take();
    world.pass(30 * MINUTE);
    tokio::task::yield_now().await;
    assert_eq!(reads(&world), 0);
    assert_eq!(me(&world, &alice.access_token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(reads(&world), 1);
}
