//! What the log contains at TRACE, and what it never contains. This is a separate
//! test program, because a process has one log.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "system/contract.rs"]
mod contract;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/log.rs"]
mod log;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/wire.rs"]
mod wire;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/world.rs"]
mod world;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::password::PasswordHash;
use freshkey::telemetry;
use http::{Method, StatusCode};
use lambda_runtime::Context;
use serde_json::{Value, json};
use tracing::Level;
use tracing_subscriber::util::SubscriberInitExt;

use log::Log;
use wire::Fate;
use world::{EMAIL, World, claims, world_with};

const SECRET_KEY: &str = "canary-key-Vq7xTz2LkW9mRb4HsJd8Gf3Np";
const PASSWORD: &str = "canary password of the first year";
const NEW_PASSWORD: &str = "canary password of the second year";
const WRONG_PASSWORD: &str = "canary guess that is wrong";
/// Hashes of other systems: over a cap, malformed, unknown, and one of [`PASSWORD`].
const FOREIGN_HASHES: [&str; 4] = [
    "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$Y2FuYXJ5LWhhc2gtb3Zlci1jYXA",
    "$2y$10$canary-hash-that-is-malformed",
    "canary$hash-of-an-unknown-form",
    "pbkdf2_sha256$1000$canarysalt$dqNrHN+M8j52PeuLjb63qP1hkw28UnZEEckDqnSW/6w=",
];
const KEY: &str = "canary-idempotency-key-0c9f";
/// The addresses of a user who uses every link.
const OWNER: &str = "canary.owner@example.com";
const NEW_ADDRESS: &str = "canary.owner@new.example.com";

/// Everything that must not appear in the log.
#[derive(Default)]
struct Secrets(BTreeSet<Vec<u8>>);

impl Secrets {
    fn add(&mut self, secret: impl AsRef<[u8]>) {
        assert!(secret.as_ref().len() >= 12, "anything shorter could appear by chance");
        self.0.insert(secret.as_ref().to_vec());
    }

    /// Adds a token, and each part of it that is secret.
    fn add_token(&mut self, token: &str) {
        self.add(token);
        let [_, claims_part, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        for part in [claims_part, signature] {
            self.add(part);
            self.add(URL_SAFE_NO_PAD.decode(part).unwrap());
        }
        if let Some(secret) = claims(token)["sec"].as_str() {
            self.add(secret);
            self.add(URL_SAFE_NO_PAD.decode(secret).unwrap());
        }
    }

    fn add_tokens(&mut self, answer: &Value) {
        for name in ["access_token", "refresh_token", "device_token", "token"] {
            if let Some(token) = answer[name].as_str() {
                self.add_token(token);
            }
        }
    }

    /// Every form of a secret that appears in `log`.
    fn found_in(&self, log: &str) -> Vec<String> {
        let forms = self.0.iter().flat_map(|secret| forms(secret));
        forms.filter(|form| log.contains(form.as_str())).collect()
    }
}

/// The secret as it is, in hexadecimal, as Rust prints bytes, and in base64 at
/// each offset that it can have in a longer text.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![hex.to_uppercase(), hex, list];
    forms.extend(std::str::from_utf8(secret).map(str::to_owned));
    for before in 0..3 {
        let shifted = [&vec![0; before], secret].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&shifted);
            // Only the first and the last letters depend on what is around the secret.
            forms.push(encoded[(before * 8).div_ceil(6)..encoded.len() - 1].to_owned());
        }
    }
    forms
}

/// Everything that a client, an attacker or an outage can do to each function.
async fn walk(world: &World) -> Secrets {
    let mut secrets = Secrets::default();
    for secret in [SECRET_KEY, PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, KEY] {
        secrets.add(secret);
    }
    let credentials = json!({ "email": EMAIL, "password": PASSWORD, "phone": "1" });
    let registered = world.post("/api/v1/auth/register", credentials.clone()).await.expect(StatusCode::CREATED);
    secrets.add_tokens(&registered.json());
    let alice = registered.user();
    for path in ["/api/v1/auth/register", "/api/v1/auth/login", "/api/auth"] {
        secrets.add_tokens(&world.post(path, credentials.clone()).await.json());
        world.post(path, json!({ "email": EMAIL, "password": WRONG_PASSWORD })).await;
        world.post(path, json!({ "email": "nobody@example.com", "password": WRONG_PASSWORD, "phone": "\0" })).await;
        world.request(Method::POST, path).body("application/json", format!("{{\"password\": \"{PASSWORD}\"")).await;
        world.request(Method::POST, path).body("text/plain", PASSWORD).await;
    }
    remember_hashes(world, &alice.id, &mut secrets).await;
    for hash in FOREIGN_HASHES {
        let (store, email) = (world.app("login").store(), Email::parse(EMAIL).unwrap());
        let old = store.credential(&email).await.unwrap().unwrap().password_hash;
        let _ = store.rehash(&email, &old, &PasswordHash::stored(hash.into())).await.unwrap();
        secrets.add(hash);
        secrets.add(hash.rsplit('$').next().unwrap());
        for password in [WRONG_PASSWORD, PASSWORD] {
            secrets.add_tokens(&world.login(password).await.json());
        }
    }
    remember_hashes(world, &alice.id, &mut secrets).await;

    let thief = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    secrets.add_token(&thief.access_token);
    secrets.add_token(&thief.refresh_token);
    for token in [&thief.refresh_token, &thief.refresh_token, &alice.access_token] {
        let path = "/api/token/refresh";
        secrets.add_tokens(&world.post(path, json!({ "refresh_token": token })).await.json());
    }
    let forged = format!("{}canary", alice.refresh_token);
    secrets.add(&forged);
    for token in [&alice.refresh_token, &alice.refresh_token, &forged] {
        secrets.add_tokens(&world.refresh_with_key(token, KEY).await.json());
    }
    let in_url = format!("/api/v1/auth/refresh?refresh_token={}", alice.refresh_token);
    world.post(&in_url, json!({})).await.expect(StatusCode::BAD_REQUEST);
    remember_hashes(world, &alice.id, &mut secrets).await;

    for token in [&alice.access_token, &alice.refresh_token, &forged] {
        let request = world.get("/api/v1/users/me").bearer(token).header("x-refresh-token", &alice.refresh_token);
        request.header("cookie", &format!("__Host-refresh_token={token}")).await;
        world.get("/api/v1/auth/sessions").bearer(token).await;
    }
    for current in [WRONG_PASSWORD, PASSWORD] {
        let body = json!({ "current_password": current, "new_password": NEW_PASSWORD });
        world.request(Method::PUT, "/api/v1/users/me/password").bearer(&alice.access_token).json(body).await;
    }
    remember_hashes(world, &alice.id, &mut secrets).await;

    world.wire.on_call(|_| async { Fate::Refused(500, "InternalServerError") });
    world.login(NEW_PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    world.refresh_with_key(&alice.refresh_token, KEY).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    world.wire.on_call(|_| async { Fate::Lost });
    world.post("/api/v1/auth/logout", json!({ "refresh_token": alice.refresh_token })).await;
    world.wire.on_call(|_| async { Fate::Pass });

    for function in ["register", "login", "refresh", "logout", "account", "recovery", "email"] {
        let event = json!({ "version": "1.0", "body": PASSWORD, "headers": { "authorization": alice.access_token } });
        world.system.function(function).unwrap().invoke(&event.to_string(), Context::default()).await;
        world.system.function(function).unwrap().invoke(PASSWORD, Context::default()).await;
    }
    let last = world.login(NEW_PASSWORD).await.expect(StatusCode::OK).user();
    secrets.add_token(&last.access_token);
    secrets.add_token(&last.refresh_token);
    world.pass(3600);
    let request = world.get("/api/v1/users/me").bearer(&last.access_token);
    let renewed = request.header("x-refresh-token", &last.refresh_token).await.expect(StatusCode::OK);
    let [access_token, refresh_token] = ["x-new-access-token", "x-new-refresh-token"].map(|name| {
        let token = renewed.headers[name].to_str().unwrap();
        secrets.add_token(token);
        token
    });
    for password in [WRONG_PASSWORD, NEW_PASSWORD] {
        world.post("/api/v1/users/me/delete", json!({ "password": password })).bearer(access_token).await;
    }
    world.request(Method::POST, "/api/v1/auth/logout").header("x-refresh-token", refresh_token).await;
    walk_with_mail(world, &mut secrets).await;
    secrets
}

/// Everything that can be done with the links of mails, and with SES down.
async fn walk_with_mail(world: &World, secrets: &mut Secrets) {
    for address in [OWNER, NEW_ADDRESS] {
        secrets.add(address);
    }
    let credentials = json!({ "email": OWNER, "password": PASSWORD });
    let registered = world.post("/api/v1/auth/register", credentials).await.expect(StatusCode::CREATED);
    secrets.add_tokens(&registered.json());
    let owner = registered.user();
    let change = json!({ "email": NEW_ADDRESS, "password": PASSWORD });
    let change = world.request(Method::PUT, "/api/v1/users/me/email").bearer(&owner.access_token).json(change);
    change.await.expect(StatusCode::ACCEPTED);
    world.post("/api/v1/auth/password/forgot", json!({ "email": OWNER })).await.expect(StatusCode::ACCEPTED);
    world.wire.on_call(|call| async move {
        if call.operation == "SendEmail" { Fate::Refused(500, "InternalServerError") } else { Fate::Pass }
    });
    world.system.deliver_mail().await;
    world.wire.on_call(|_| async { Fate::Pass });
    world.pass(61);
    world.system.deliver_mail().await;
    let mails = world.system.mailbox().mails();
    let tokens: Vec<_> =
        mails.iter().filter_map(|mail| mail.text.split("#token=").nth(1)?.split_whitespace().next()).collect();
    assert_eq!(tokens.len(), 3);
    for token in tokens {
        secrets.add(token);
        secrets.add(URL_SAFE_NO_PAD.decode(token).unwrap());
        let confirm = world.post("/api/v1/users/me/email/confirm", json!({ "token": token }));
        confirm.bearer(&owner.access_token).await;
        world.post("/api/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
        world.get(&format!("/api/v1/auth/password/reset?token={token}")).await;
    }
    for path in ["/api/v1/auth/password/forgot", "/api/v1/auth/password/reset"] {
        world.request(Method::POST, path).body("application/json", format!("{{\"email\": \"{OWNER}\"")).await;
    }
    world.system.deliver_mail().await;
}

/// Adds the hashes that are in the table now.
async fn remember_hashes(world: &World, user: &str, secrets: &mut Secrets) {
    let store = world.app("account").store();
    let credential = store.credential(&Email::parse(EMAIL).unwrap()).await.unwrap().unwrap();
    secrets.add(credential.password_hash.as_str());
    secrets.add(credential.password_hash.as_str().rsplit('$').next().unwrap());
    for session in store.user_and_sessions(UserId::parse(user).unwrap()).await.unwrap().1 {
        for hash in [Some(session.secret_hash), session.attempt].into_iter().flatten() {
            secrets.add(hash.as_bytes());
        }
    }
}

#[tokio::test]
async fn er4_au2_se5_ml2_the_log_follows_a_token_by_its_ids_and_never_tells_a_secret() {
    let log = Log::default();
    telemetry::subscriber(Level::TRACE, log.clone()).init();
    let settings = [
        ("JWT_SECRET_KEY", SECRET_KEY),
        ("LOG_LEVEL", "TRACE"),
        ("MAIL_FROM", "no-reply@example.com"),
        ("RESET_URL", "https://app.example.com/reset"),
        ("CONFIRM_URL", "https://app.example.com/confirm"),
    ];
    let world = world_with(&settings).await;
    let secrets = walk(&world).await;
    let printed = format!("{:?} {:?}", world.system, world.app("login"));

    let text = log.text();
    assert_eq!(secrets.found_in(&text), Vec::<String>::new());
    assert_eq!(secrets.found_in(&printed), Vec::<String>::new());

    // The log is not empty, and a secret in it would be found.
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let follows = |line: &&Value| line["user.id"].is_string() && line["session.id"].is_string();
    assert!(lines.iter().any(|line| follows(&line)), "{text}");
    for message in
        ["registered", "logged in", "refreshed", "refresh token reuse: session revoked", "unavailable", "mail sent"]
    {
        assert!(lines.iter().any(|line| line["message"] == message), "{message} is not in {text}");
    }
    for before in ["", "x", "xy"] {
        let told = format!("{before}{PASSWORD}z");
        for form in [told.clone(), STANDARD.encode(&told), format!("{:?}", told.as_bytes()), format!("{told:?}")] {
            assert!(!secrets.found_in(&format!("{text}{form}")).is_empty(), "{form}");
        }
    }
}
