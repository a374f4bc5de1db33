//! The audit trail and the metrics, for every outcome of a request. This is a
//! separate test program, because each test replaces the log.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "system/contract.rs"]
mod contract;
#[path = "system/log.rs"]
mod log;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/rows.rs"]
mod rows;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/wire.rs"]
mod wire;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "system/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use freshkey::Clock as _;
use freshkey::audit::{self, Act};
use freshkey::auth::NewUser;
use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::mail::{Kind, Mail};
use freshkey::metrics::{self, Metric};
use freshkey::password::PasswordHash;
use freshkey::telemetry;
use freshkey::user::Profile;
use http::{Method, StatusCode};
use lambda_runtime::Context;
use local::TEMPLATE;
use mailer::Report;
use serde_json::{Value, json};
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use log::Log;
use rows::Row;
use wire::Fate;
use world::{EMAIL, PASSWORD, Reply, Sending, World, world_over, world_with};

const NEW_PASSWORD: &str = "a loud river over eight bridges";
const AGENT: &str = "a client/1.0";
/// The first 8 bytes of the SHA-256 of [`AGENT`], by `sha256sum`.
const AGENT_HASH: &str = "1f71cddc6a096d81";

/// A system whose log is recorded until the guard is dropped.
async fn watched(variables: &[(&str, &str)]) -> (World, Log, DefaultGuard) {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(telemetry::subscriber(Level::ERROR, log.clone()));
    (world_with(variables).await, log, guard)
}

fn audited(lines: Vec<Value>) -> Vec<Value> {
    lines.into_iter().filter(|line| line["target"] == audit::TARGET).collect()
}

/// The name and the reason of an event.
fn short(event: &Value) -> String {
    let name = event["event"].as_str().unwrap();
    event["reason"].as_str().map_or(name.to_owned(), |reason| format!("{name}: {reason}"))
}

/// The members that every event has, and those that it may have.
const ALWAYS: [&str; 6] = ["timestamp", "level", "message", "event", "datetime", "outcome"];
const SOMETIMES: [&str; 8] =
    ["target", "reason", "user.id", "session.id", "token.generation", "request.id", "source.ip", "user_agent.hash"];

/// Checks an event of a request against the schema.
fn check_schema(world: &World, event: &Value) {
    let names: BTreeSet<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(ALWAYS.iter().all(|name| names.contains(name)), "{event}");
    assert!(names.iter().all(|name| ALWAYS.contains(name) || SOMETIMES.contains(name)), "{event}");
    assert_eq!(event["datetime"], freshkey::Clock::now(&*world.clock).to_string());
    assert_eq!(event["source.ip"], "127.0.0.1", "{event}");
    assert_eq!(event["user_agent.hash"], AGENT_HASH, "{event}");
    assert_eq!(event["request.id"].as_str().unwrap().len(), 36, "{event}");
    let fails = ["fail", "reuse", "expire", "exceeded"].iter().any(|word| short(event).contains(word));
    assert_eq!(event["outcome"], if fails { "failure" } else { "success" }, "{event}");
}

/// Makes requests, and collects the events of each.
struct Watcher<'a> {
    world: &'a World,
    log: &'a Log,
    seen: BTreeSet<String>,
}

impl Watcher<'_> {
    /// Makes a request for which exactly the `expected` events must be recorded.
    /// Returns the reply and the last event.
    async fn sees(&mut self, sending: Sending<'_>, expected: &[&str]) -> (Reply, Value) {
        self.log.take();
        let reply = sending.header("user-agent", AGENT).await;
        let events = audited(self.log.take());
        assert_eq!(events.iter().map(short).collect::<Vec<_>>(), expected, "{}", reply.text);
        events.iter().for_each(|event| check_schema(self.world, event));
        let answered = serde_json::from_str::<Value>(&reply.text).unwrap_or_default();
        if answered["request_id"].is_string() {
            assert!(events.iter().all(|event| event["request.id"] == answered["request_id"]), "{events:?}");
        }
        self.seen.extend(events.iter().map(|event| event["event"].as_str().unwrap().to_owned()));
        (reply, events.into_iter().next_back().unwrap_or_default())
    }
}

fn login<'a>(world: &'a World, email: &str, password: &str) -> Sending<'a> {
    world.post("/api/v1/auth/login", json!({ "email": email, "password": password }))
}

fn refresh<'a>(world: &'a World, token: &str, key: &str) -> Sending<'a> {
    world.post("/api/v1/auth/refresh", json!({ "refresh_token": token })).header("idempotency-key", key)
}

#[tokio::test]
async fn au1_a_guess_over_a_limit_is_an_event_that_names_the_limit() {
    let (world, log, _guard) = watched(&[("LIMIT_FREE_GUESSES", "5"), ("LIMIT_GUESSES", "100")]).await;
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let device = world.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED).text("device_token");
    for (device, limit) in [(None, "account"), (Some(device), "device")] {
        let guess = |password| {
            let sending = login(&world, EMAIL, password);
            device.iter().fold(sending, |sending, device| sending.header("x-device-token", device))
        };
        for _ in 0..5 {
            guess("wrong but long enough").await.expect(StatusCode::UNAUTHORIZED);
        }
        let expected = format!("excess_rate_limit_exceeded: {limit}");
        watcher.sees(guess(PASSWORD), &[&expected]).await.0.expect(StatusCode::TOO_MANY_REQUESTS);
    }
}

#[tokio::test]
async fn au1_each_act_is_one_event_of_who_what_when_why_and_from_where() {
    let variables = [("REFRESH_BURST", "3"), ("REFRESH_PER_LIFETIME", "1"), ("MAX_SESSIONS", "2")];
    let (world, log, _guard) = watched(&variables).await;
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };

    let body = json!({ "email": EMAIL, "password": PASSWORD });
    let (reply, event) = watcher.sees(world.post("/api/v1/auth/register", body), &["user_created"]).await;
    let alice = reply.expect(StatusCode::CREATED).user();
    assert_eq!(event["user.id"], alice.id);
    assert_eq!(event["session.id"], world::claims(&alice.refresh_token)["sid"]);
    assert_eq!(event["level"], "INFO");

    let (_, event) = watcher.sees(login(&world, EMAIL, "not it"), &["authn_login_fail: wrong_password"]).await;
    assert_eq!((&event["user.id"], &event["level"]), (&json!(alice.id), &json!("WARN")));
    let unknown = login(&world, "nobody@example.com", PASSWORD);
    let (_, event) = watcher.sees(unknown, &["authn_login_fail: unknown_address"]).await;
    assert_eq!(event["user.id"], Value::Null);
    watcher.sees(login(&world, "not an address", ""), &["authn_login_fail: impossible_credentials"]).await;

    world.pass(1);
    let (reply, event) = watcher.sees(login(&world, EMAIL, PASSWORD), &["authn_login_success"]).await;
    let second = reply.user();
    assert_eq!(event["user.id"], alice.id);
    assert_eq!(event["session.id"], world::claims(&second.refresh_token)["sid"]);
    world.pass(1);
    let evicting = ["authn_token_revoked: too_many_sessions", "authn_login_success"];
    let (reply, _) = watcher.sees(login(&world, EMAIL, PASSWORD), &evicting).await;
    let third = reply.user();

    let rotated = ["authn_token_created: rotated"];
    let (reply, event) = watcher.sees(refresh(&world, &second.refresh_token, "one"), &rotated).await;
    assert_eq!(event["session.id"], world::claims(&second.refresh_token)["sid"]);
    assert_eq!((&event["user.id"], &event["token.generation"]), (&json!(alice.id), &json!(1)));
    let next = reply.text("refresh_token");
    let again = refresh(&world, &second.refresh_token, "one");
    watcher.sees(again, &["authn_token_created: repeated"]).await;
    let reused = refresh(&world, &second.refresh_token, "two");
    let (_, event) = watcher.sees(reused, &["authn_token_reuse: spent 1 generation(s) ago"]).await;
    assert_eq!(event["session.id"], world::claims(&second.refresh_token)["sid"]);
    assert_eq!((&event["user.id"], &event["level"]), (&json!(alice.id), &json!("ERROR")));
    watcher.sees(refresh(&world, &next, "three"), &["session_use_after_expire: revoked"]).await;

    let forged = format!("{next}!");
    watcher.sees(refresh(&world, &forged, "four"), &["authz_fail: malformed"]).await;
    let crossed = refresh(&world, &third.access_token, "five");
    watcher.sees(crossed, &["authz_fail: unexpected header"]).await;
    let forged_access = format!("{}!", third.access_token);
    watcher.sees(world.get("/api/v1/users/me").bearer(&forged_access), &["authz_fail: malformed"]).await;
    watcher.sees(world.get("/api/v1/users/me"), &[]).await;

    let mut token = third.refresh_token.clone();
    for key in ["six", "seven", "eight"] {
        token = watcher.sees(refresh(&world, &token, key), &rotated).await.0.text("refresh_token");
    }
    let over = refresh(&world, &token, "nine");
    let (reply, event) = watcher.sees(over, &["excess_rate_limit_exceeded: rotation_budget"]).await;
    reply.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(event["session.id"], world::claims(&token)["sid"]);

    let me =
        |method: Method, path: &str, body: Value| world.request(method, path).bearer(&third.access_token).json(body);
    let name = json!({ "first_name": "Alice" });
    watcher.sees(me(Method::PATCH, "/api/v1/users/me", name), &["user_updated: profile"]).await;
    for (current, expected) in
        [("not it", "authn_password_change_fail: wrong_password"), (PASSWORD, "authn_password_change")]
    {
        let body = json!({ "current_password": current, "new_password": NEW_PASSWORD });
        let (_, event) = watcher.sees(me(Method::PUT, "/api/v1/users/me/password", body), &[expected]).await;
        assert_eq!(event["user.id"], alice.id);
    }
    let fourth = watcher.sees(login(&world, EMAIL, NEW_PASSWORD), &["authn_login_success"]).await.0.user();
    let sid = world::claims(&fourth.refresh_token)["sid"].clone();
    let path = format!("/api/v1/auth/sessions/{}", sid.as_str().unwrap());
    let ended = ["authn_token_revoked: ended_by_user"];
    let (_, event) = watcher.sees(me(Method::DELETE, &path, json!({})), &ended).await;
    assert_eq!(event["session.id"], sid);
    let others = "/api/v1/auth/sessions?except=current";
    let ended = ["authn_token_revoked: all_but_this_ended_by_user"];
    watcher.sees(me(Method::DELETE, others, json!({})), &ended).await;
    let logout = world.post("/api/v1/auth/logout", json!({ "refresh_token": token }));
    watcher.sees(logout, &["authn_token_revoked: logout"]).await;
    let logout = world.post("/api/v1/auth/logout", json!({ "refresh_token": forged }));
    watcher.sees(logout, &[]).await;
    let everywhere = me(Method::DELETE, "/api/v1/auth/sessions", json!({}));
    watcher.sees(everywhere, &["authn_token_revoked: all_ended_by_user"]).await;

    let id = UserId::parse(&alice.id).unwrap();
    log.take();
    world.app("account").disable_user(id).await.unwrap();
    world.app("account").enable_user(id).await.unwrap();
    let operator = audited(log.take());
    assert_eq!(operator.iter().map(short).collect::<Vec<_>>(), ["user_updated: disabled", "user_updated: enabled"]);
    assert!(operator.iter().all(|event| event["user.id"] == alice.id && event["request.id"].is_null()));

    for (password, expected) in [("not it", "authn_login_fail: wrong_password"), (NEW_PASSWORD, "user_deleted")] {
        let body = json!({ "password": password });
        watcher.sees(me(Method::POST, "/api/v1/users/me/delete", body), &[expected]).await;
    }
    let all: BTreeSet<_> = Act::ALL.iter().map(|act| act.name().to_owned()).collect();
    assert_eq!(watcher.seen, all);
}

#[tokio::test]
async fn au1_a_session_that_has_already_ended_is_not_recorded_as_ended_again() {
    let (world, log, _guard) = watched(&[]).await;
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };
    let alice = world.register(EMAIL).await;
    let laptop = world.login(PASSWORD).await.user();
    let logout = |token: &str| world.post("/api/v1/auth/logout", json!({ "refresh_token": token }));
    for expected in [&["authn_token_revoked: logout"][..], &[], &[]] {
        let (reply, _) = watcher.sees(logout(&laptop.refresh_token), expected).await;
        reply.expect(StatusCode::NO_CONTENT);
    }

    // Another call ends the session between the list and the deletion.
    let tablet = world.login(PASSWORD).await.user();
    let store = world.app("account").store().clone();
    let sid = world::claims(&tablet.refresh_token)["sid"].as_str().unwrap().to_owned();
    let (user, session) = (UserId::parse(&alice.id).unwrap(), SessionId::parse(&sid).unwrap());
    let beside = world.beside(&[]).await;
    world.wire.on_call({
        let store = beside.app("account").store().clone();
        move |call| {
            let (store, is_deletion) = (store.clone(), call.operation == "DeleteItem");
            async move {
                if is_deletion {
                    assert_eq!(store.delete_session(user, session).await.unwrap(), freshkey::write::Write::Done(()));
                }
                Fate::Pass
            }
        }
    });
    let end = world.request(Method::DELETE, &format!("/api/v1/auth/sessions/{sid}")).bearer(&alice.access_token);
    let (reply, _) = watcher.sees(end, &[]).await;
    reply.expect(StatusCode::NO_CONTENT);
    world.wire.heal();
    assert_eq!(store.delete_session(user, session).await.unwrap(), freshkey::write::Write::Refused(()));
    let end = world.request(Method::DELETE, &format!("/api/v1/auth/sessions/{sid}")).bearer(&alice.access_token);
    watcher.sees(end, &[]).await.0.expect(StatusCode::NOT_FOUND);

    // A logout does not end a session that reuse has already ended.
    refresh(&world, &alice.refresh_token, "one").await.expect(StatusCode::OK);
    refresh(&world, &alice.refresh_token, "two").await.expect(StatusCode::UNAUTHORIZED);
    let (reply, _) = watcher.sees(logout(&alice.refresh_token), &[]).await;
    reply.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rf2_the_alarm_is_raised_even_if_the_answer_to_the_revocation_is_lost() {
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    refresh(&world, &alice.refresh_token, "one").await.expect(StatusCode::OK);
    // The first write tries to rotate; the second one revokes.
    world.wire.fault_after(1, "UpdateItem", 1, Fate::AnswerLost);
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };
    let reused = refresh(&world, &alice.refresh_token, "two");
    watcher.sees(reused, &["authn_token_reuse: spent 1 generation(s) ago"]).await;
}

#[tokio::test]
async fn au1_a_disabled_user_is_recorded_as_the_reason() {
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    world.app("account").disable_user(UserId::parse(&alice.id).unwrap()).await.unwrap();
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };
    watcher.sees(login(&world, EMAIL, PASSWORD), &["authn_login_fail: user_disabled"]).await;
    let refused = refresh(&world, &alice.refresh_token, "one");
    watcher.sees(refused, &["session_use_after_expire: ended"]).await;
}

#[tokio::test]
async fn au1_a_change_is_recorded_before_dead_sessions_are_deleted_and_does_not_wait_long_for_that() {
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    let me = |method, path, body: Value| world.request(method, path).bearer(&alice.access_token).json(body);
    let new_password = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    // Nothing answers the sweep.
    for (request, expected) in [
        (me(Method::PUT, "/api/v1/users/me/password", new_password), "authn_password_change"),
        (
            me(Method::DELETE, "/api/v1/auth/sessions?except=current", json!({})),
            "authn_token_revoked: all_but_this_ended_by_user",
        ),
        (me(Method::POST, "/api/v1/users/me/delete", json!({ "password": NEW_PASSWORD })), "user_deleted"),
    ] {
        log.take();
        let is_recorded_first = Arc::new(OnceLock::new());
        world.wire.on_call({
            let (log, is_recorded_first) = (log.clone(), Arc::clone(&is_recorded_first));
            move |call| {
                let is_sweep = call.operation == "Query";
                if is_sweep {
                    is_recorded_first.get_or_init(|| audited(log.take()).iter().map(short).eq([expected]));
                }
                async move { if is_sweep { Fate::Silence } else { Fate::Pass } }
            }
        });
        let start = Instant::now();
        request.await.expect(StatusCode::NO_CONTENT);
        assert_eq!(is_recorded_first.get(), Some(&true), "{expected}");
        assert!(start.elapsed() < Duration::from_secs(60), "{expected}");
    }
    world.wire.heal();
    world.register(EMAIL).await;
}

#[tokio::test]
async fn au1_a_request_that_another_site_forges_is_recorded() {
    let (world, log, _guard) = watched(&[("REFRESH_TOKEN_TRANSPORT", "cookie")]).await;
    let mut watcher = Watcher { world: &world, log: &log, seen: BTreeSet::new() };
    let forged = login(&world, EMAIL, PASSWORD).header("origin", "https://evil.example");
    let (reply, _) = watcher.sees(forged, &["authz_fail: origin_not_allowed"]).await;
    reply.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn au3_nothing_that_a_client_writes_gets_into_the_log_or_breaks_a_line() {
    const INJECTED: [&str; 4] = [
        "x\n{\"event\":\"authn_login_success\",\"injected\":true}\n",
        "x\r\ninjected",
        "\u{1b}[2K\u{1b}[31minjected\u{1b}[0m",
        "\",\"event\":\"user_deleted\",\"injected\":\"",
    ];
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    for injected in INJECTED {
        log.take();
        for (function, path, body) in [
            ("login", "/api/v1/auth/login", json!({ "email": injected, "password": injected })),
            ("login", "/api/v1/auth/login", json!({ "email": EMAIL, "password": injected })),
            (
                "register",
                "/api/v1/auth/register",
                json!({ "email": injected, "password": PASSWORD, "phone": injected }),
            ),
            ("refresh", "/api/v1/auth/refresh", json!({ "refresh_token": injected })),
            ("refresh", "/api/v1/auth/refresh", json!({ "refresh_token": alice.refresh_token })),
        ] {
            let one_line = injected.replace(char::is_control, " ");
            let event = json!({
                "version": "2.0",
                "routeKey": format!("POST {path}"),
                "rawPath": path,
                "rawQueryString": "",
                "headers": { "content-type": "application/json", "user-agent": one_line, "authorization": one_line },
                "requestContext": {
                    "http": { "method": "POST", "path": path, "sourceIp": injected, "userAgent": injected },
                },
                "body": body.to_string(),
                "isBase64Encoded": false,
            });
            world.system.function(function).unwrap().invoke(&event.to_string(), Context::default()).await;
        }
        let text = log.text();
        assert!(!text.contains("injected") && !text.contains('\u{1b}'), "{text}");
        let events = audited(log.take());
        assert!(events.len() >= 3, "{text}");
        assert!(events.iter().all(|event| event["source.ip"].is_null()), "{text}");
    }
}

/// A log that fails every write.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// The test runs itself again in a process whose standard error is closed, where
/// reporting a failed write to the log would panic.
#[test]
fn au4_a_log_that_cannot_be_written_fails_no_request_and_undoes_nothing() {
    const INSIDE: &str = "FRESHKEY_TEST_WITHOUT_A_LOG";
    if std::env::var_os(INSIDE).is_some() {
        return without_a_log();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "--nocapture", "au4_a_log_that_cannot_be_written_fails_no_request_and_undoes_nothing"]);
    let mut process =
        again.env(INSIDE, "1").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the test runs again");
    drop(process.stderr.take());
    assert!(process.wait().unwrap().success());
}

#[tokio::main(flavor = "current_thread")]
async fn without_a_log() {
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(Level::TRACE, || Broken));
    let world = world_with(&[]).await;
    let alice = world.register(EMAIL).await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    world.login("not it").await.expect(StatusCode::UNAUTHORIZED);
    let next = world.refresh_with_key(&alice.refresh_token, "one").await.expect(StatusCode::OK).text("refresh_token");
    world.refresh_with_key(&alice.refresh_token, "two").await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&next).await);
}

/// The lines with metrics for CloudWatch.
fn counted(lines: Vec<Value>) -> Vec<Value> {
    lines.into_iter().filter(|line| line.get("_aws").is_some()).collect()
}

#[tokio::test]
async fn each_request_writes_its_metrics_in_one_line() {
    let (world, log, _guard) = watched(&[("REFRESH_BURST", "2"), ("REFRESH_PER_LIFETIME", "1")]).await;
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut hashes = 0;
    let mut count = |expected: &[&str]| {
        let lines = counted(log.take());
        assert!(lines.len() <= 1, "{lines:?}");
        let line = lines.into_iter().next().unwrap_or_default();
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = metrics.iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{line}");
        if names.is_empty() {
            return;
        }
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], metrics::NAMESPACE);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Table"]]));
        assert_eq!(line["_aws"]["Timestamp"], freshkey::Clock::now(&*world.clock).millis());
        assert_eq!(line["Table"], world.system.table_name());
        for name in names {
            if name == "HashTime" {
                let times = line[name].as_array().unwrap();
                assert!(times.iter().all(|time| time.as_f64().unwrap() > 0.0), "{line}");
                hashes += times.len();
            } else {
                *totals.entry(name.to_owned()).or_default() += line[name].as_u64().unwrap();
            }
        }
    };

    let alice = world.register(EMAIL).await;
    count(&["HashTime"]);
    let thief = world.login(PASSWORD).await.user();
    count(&["Logins", "HashTime"]);
    world.login("not it").await;
    count(&["LoginFailures", "HashTime"]);
    world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::OK);
    count(&[]);
    let next = world.refresh_with_key(&alice.refresh_token, "one").await.text("refresh_token");
    count(&["Rotations"]);
    world.refresh_with_key(&alice.refresh_token, "one").await.expect(StatusCode::OK);
    count(&["Reissues"]);
    let last = world.refresh_with_key(&next, "two").await.text("refresh_token");
    count(&["Rotations"]);
    world.refresh_with_key(&last, "three").await.expect(StatusCode::TOO_MANY_REQUESTS);
    count(&["LimitsHit"]);
    world.refresh_with_key(&thief.refresh_token, "four").await.expect(StatusCode::OK);
    count(&["Rotations"]);
    world.refresh_with_key(&thief.refresh_token, "five").await.expect(StatusCode::UNAUTHORIZED);
    count(&["ReuseDetected"]);
    world.refresh_with_key(&thief.refresh_token, "six").await.expect(StatusCode::UNAUTHORIZED);
    count(&[]);
    world.wire.on_call(|_| async { Fate::Refused(400, "AccessDeniedException") });
    world.refresh_with_key(&alice.refresh_token, "seven").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    count(&["Misconfigured"]);
    world.wire.on_call(|_| async { Fate::Refused(500, "InternalServerError") });
    world.refresh_with_key(&alice.refresh_token, "eight").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    count(&["DatabaseFaults"]);

    let expected = [
        ("DatabaseFaults", 2),
        ("LimitsHit", 1),
        ("LoginFailures", 1),
        ("Logins", 1),
        ("Misconfigured", 2),
        ("Reissues", 1),
        ("ReuseDetected", 1),
        ("Rotations", 3),
    ];
    assert_eq!(totals, BTreeMap::from(expected.map(|(name, count)| (name.to_owned(), count))));
    assert_eq!(hashes, 3);
}

#[tokio::test]
async fn pw12_mi3_a_hash_that_cannot_be_read_is_counted_and_recorded_with_its_user() {
    const TOO_COSTLY: &str = "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA";
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    let (store, email) = (world.app("login").store(), Email::parse(EMAIL).unwrap());
    let old = store.credential(&email).await.unwrap().unwrap().password_hash;
    let _ = store.rehash(&email, &old, &PasswordHash::stored(TOO_COSTLY.into())).await.unwrap();
    let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let change = world.request(Method::PUT, "/api/v1/users/me/password").bearer(&alice.access_token).json(change);
    for (request, expected) in [
        (login(&world, EMAIL, PASSWORD), "authn_login_fail: unreadable_hash"),
        (change, "authn_password_change_fail: unreadable_hash"),
    ] {
        log.take();
        request.await;
        let lines = log.take();
        let error = lines.iter().find(|line| line["level"] == "ERROR").unwrap();
        assert!(error["refused"].as_str().unwrap().contains("too costly"), "{error}");
        let events = audited(lines.clone());
        assert_eq!(events.iter().map(short).collect::<Vec<_>>(), [expected]);
        assert_eq!(events[0]["user.id"], alice.id);
        let counts = counted(lines).remove(0);
        assert_eq!((&counts["UnreadableHashes"], counts["HashTime"].as_array().unwrap().len()), (&json!(1), 1));
    }
}

#[tokio::test]
async fn au1_each_user_who_is_imported_is_an_event() {
    let (world, log, _guard) = watched(&[]).await;
    let app = world.app("login");
    let password_hash = app.unknown_password_hash().await.unwrap();
    let new = [0, 1, 2].map(|n| NewUser {
        id: UserId::random(),
        email: Email::parse(&format!("user{n}@example.com")).unwrap(),
        email_verified: None,
        password_hash: password_hash.clone(),
        roles: None,
        is_active: true,
        profile: Profile::default(),
        created_at: None,
    });
    // Two together, and then the third alone, because the others are there.
    for (users, imported) in [(&new[..2], 2), (&new[..], 1)] {
        app.import_users(users).await;
        let events = audited(log.take());
        let about: Vec<_> = events.iter().map(|event| (short(event), event["user.id"].as_str().unwrap())).collect();
        let ids = users[users.len() - imported..].iter().map(|user| user.id.to_string());
        let expected: Vec<_> = ids.map(|id| ("user_created: imported".to_owned(), id)).collect();
        assert_eq!(about, expected.iter().map(|(name, id)| (name.clone(), id.as_str())).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn re1_a_fault_of_the_configuration_is_an_error_that_names_the_action() {
    let (world, log, _guard) = watched(&[]).await;
    let alice = world.register(EMAIL).await;
    for code in ["AccessDeniedException", "ValidationException", "ResourceNotFoundException"] {
        log.take();
        world.wire.fault("GetItem", usize::MAX, Fate::Refused(400, code));
        let reply = world.get("/api/v1/users/me").bearer(&alice.access_token).await;
        assert_eq!(reply.expect(StatusCode::SERVICE_UNAVAILABLE).error(), "temporarily_unavailable");
        let lines = log.take();
        let error = lines.iter().find(|line| line["level"] == "ERROR").unwrap();
        assert_eq!((&error["aws.action"], &error["aws.code"]), (&json!("dynamodb:GetItem"), &json!(code)));
    }
    log.take();
    world.wire.fault("GetItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    let reply = world.get("/api/v1/users/me").bearer(&alice.access_token).await;
    reply.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(log.take().iter().all(|line| line.get("aws.action").is_none()));
}

#[tokio::test]
async fn jw15_a_secret_that_cannot_be_read_is_counted() {
    const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(Level::ERROR, log.clone()));
    let wire = wire::Wire::new();
    wire.set_secret(json!({ "signing": "k1", "refresh": "k1", "k1": SECRET }));
    let arn = ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey");
    let world = world_over(wire, &[arn]).await;
    let alice = world.register(EMAIL).await;
    for (fate, secret, expected) in [
        (Fate::Refused(500, "InternalServiceError"), json!({}), vec!["SecretFaults"]),
        (Fate::Refused(400, "AccessDeniedException"), json!({}), vec!["SecretFaults", "Misconfigured"]),
        (Fate::Pass, json!({ "signing": "k1", "refresh": "k1", "k1": "short" }), vec!["SecretFaults"]),
    ] {
        world.wire.set_secret(secret);
        world.wire.fault("GetSecretValue", usize::MAX, fate);
        world.pass(301);
        log.take();
        world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::OK);
        let lines = log.take();
        assert!(lines.iter().any(|line| line["level"] == "ERROR" && line["secret.arn"] == arn.1), "{lines:?}");
        let line = counted(lines).remove(0);
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        let names: Vec<_> = metrics.iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn the_log_level_affects_neither_the_trail_nor_the_metrics_and_a_terminal_shows_no_metrics() {
    let targets = telemetry::targets(Level::ERROR);
    assert!(targets.would_enable(audit::TARGET, &Level::INFO));
    assert!(!targets.would_enable(audit::TARGET, &Level::DEBUG));
    assert!(!targets.would_enable("freshkey::auth", &Level::INFO));
    assert!(!telemetry::targets(Level::TRACE).would_enable(metrics::TARGET, &Level::ERROR));
}

/// The parameters with which the stack has mail.
const MAIL: [(&str, &str); 3] = [
    ("MailFrom", "no-reply@example.com"),
    ("ResetUrl", "https://app.example.com/reset"),
    ("ConfirmUrl", "https://app.example.com/confirm"),
];

/// The alarms of a stack with these parameters, by name, and all that is deployed.
fn alarms(parameters: &[(&str, &str)]) -> (BTreeMap<String, Value>, Value) {
    let deployed = local::template::deployed(Path::new(TEMPLATE), parameters).unwrap();
    let deployed = serde_json::to_value(deployed).unwrap();
    let resources = deployed["Resources"].as_object().unwrap().iter();
    let alarms = resources.filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");
    (alarms.map(|(name, alarm)| (name.clone(), alarm["Properties"].clone())).collect(), deployed)
}

/// What AWS publishes, with the name of the dimension by which an alarm takes it.
/// (Amazon API Gateway Developer Guide, "Monitor CloudWatch metrics for HTTP APIs"; AWS
/// Lambda Developer Guide, "Types of metrics for Lambda functions"; Amazon DynamoDB
/// Developer Guide, "DynamoDB Metrics and dimensions".)
const PUBLISHED: [(&str, &str, &str); 6] = [
    ("AWS/ApiGateway", "5xx", "ApiId"),
    ("AWS/ApiGateway", "Latency", "ApiId"),
    ("AWS/Lambda", "Errors", "FunctionName"),
    ("AWS/Lambda", "Throttles", "FunctionName"),
    ("AWS/DynamoDB", "ReadThrottleEvents", "TableName"),
    ("AWS/DynamoDB", "WriteThrottleEvents", "TableName"),
];

#[test]
fn op8_every_alarm_watches_what_the_code_or_aws_emits_and_says_what_to_do_first() {
    const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:ops";
    let existing = [("ExistingTable", "restored")];
    let told = [("AlarmTopicArn", TOPIC), ("AlarmEmail", "ops@example.com")];
    for (parameters, table) in [(&[][..], "Table"), (&MAIL, "Table"), (&[&MAIL[..], &existing].concat(), "restored")] {
        let (alarms, deployed) = alarms(&[parameters, &told].concat());
        let resources = deployed["Resources"].as_object().unwrap().iter();
        let functions = resources.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
        let functions: BTreeSet<_> = functions.map(|(name, _)| name.as_str()).collect();
        assert_eq!(deployed["Globals"]["Function"]["Environment"]["Variables"]["TABLE_NAME"], table);
        let mut watched = BTreeSet::new();
        for (name, alarm) in &alarms {
            assert!(alarm["AlarmDescription"].as_str().unwrap().contains(". First, "), "{name}");
            assert_eq!(alarm["AlarmActions"], json!([TOPIC, "AlarmTopic"]), "{name}");
            let parts = alarm["Metrics"].as_array().cloned().unwrap_or_default();
            let mut metrics: Vec<_> = parts.iter().filter_map(|part| part.pointer("/MetricStat/Metric")).collect();
            // CloudWatch takes no more in one alarm.
            assert!(metrics.len() <= 10, "{name}");
            if metrics.is_empty() {
                metrics.push(alarm);
            } else {
                assert_eq!(parts[0], json!({ "Id": "all", "Expression": "SUM(METRICS())" }), "{name}");
                assert!(parts[1..].iter().all(|part| part["ReturnData"] == false), "{name}");
            }
            let mut of_functions = BTreeSet::new();
            for metric in metrics {
                let [namespace, metric_name] = ["Namespace", "MetricName"].map(|name| metric[name].as_str().unwrap());
                let [dimension] = &metric["Dimensions"].as_array().unwrap()[..] else { panic!("{name}") };
                let [dimension, value] = ["Name", "Value"].map(|name| dimension[name].as_str().unwrap());
                let is_ours = namespace == metrics::NAMESPACE
                    && dimension == "Table"
                    && Metric::ALL
                        .map(Metric::name)
                        .into_iter()
                        .chain([metrics::OLDEST_MAIL])
                        .any(|it| it == metric_name);
                assert!(is_ours || PUBLISHED.contains(&(namespace, metric_name, dimension)), "{name}: {metric}");
                match dimension {
                    "FunctionName" => assert!(of_functions.insert(value), "{name}"),
                    "ApiId" => assert_eq!(value, "Api", "{name}"),
                    _ => assert_eq!(value, table, "{name}"),
                }
                watched.insert(metric_name.to_owned());
            }
            assert!(of_functions.is_empty() || of_functions == functions, "{name}: {of_functions:?}");
        }
        let expected = PUBLISHED.map(|(_, name, _)| name).into_iter().chain(OURS);
        let of_mail = [metrics::OLDEST_MAIL, "MailsRefused"].into_iter().filter(|_| !parameters.is_empty());
        assert_eq!(watched, expected.chain(of_mail).map(str::to_owned).collect());
    }
    assert!(alarms(&[&MAIL[..], &[("Alarms", "false")]].concat()).0.is_empty());
}

/// The metrics of Freshkey that have an alarm, with mail or without.
const OURS: [&str; 5] = ["ReuseDetected", "ImpossibleSessions", "SecretFaults", "Misconfigured", "DatabaseFaults"];

/// Whether the metrics in the log set off an alarm, if they are all of one period.
fn is_set_off(alarm: &Value, lines: &[Value], table: &str) -> bool {
    let name = alarm["MetricName"].as_str().unwrap();
    let of_alarm = lines.iter().filter(|line| {
        let written = &line["_aws"]["CloudWatchMetrics"][0];
        let is_named = written["Metrics"].as_array().unwrap().iter().any(|metric| metric["Name"] == name);
        let dimensions = alarm["Dimensions"].as_array().unwrap().iter().map(|dimension| &dimension["Name"]);
        let is_of_table = written["Dimensions"] == json!([dimensions.collect::<Vec<_>>()]) && line["Table"] == table;
        is_named && is_of_table && written["Namespace"] == alarm["Namespace"]
    });
    let values = of_alarm.map(|line| line[name].as_u64().unwrap());
    let value = match alarm["Statistic"].as_str() {
        Some("Sum") => values.sum(),
        Some("Maximum") => values.max().unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    let threshold = alarm["Threshold"].as_u64().unwrap();
    match alarm["ComparisonOperator"].as_str() {
        Some("GreaterThanThreshold") => value > threshold,
        Some("GreaterThanOrEqualToThreshold") => value >= threshold,
        other => panic!("{other:?}"),
    }
}

/// The reuse interval, in seconds.
const INTERVAL: u64 = 10;

/// Makes happen what the alarm on a metric is for.
async fn cause(world: &World, metric: &str) {
    let user = world.register(&format!("{}@example.com", metric.to_lowercase())).await;
    let mail = async |number: usize| {
        let client = Client { ip: "192.0.2.1".into(), user_agent: AGENT.into() };
        let address = Email::parse(&format!("user-{number}@example.com")).unwrap();
        let mail = Mail::new(Kind::PasswordChanged, address, None, client, world.clock.now());
        world.app("refresh").store().put_mail(&mail).await.unwrap();
    };
    match metric {
        "ReuseDetected" => {
            world.refresh_with_key(&user.refresh_token, "one").await.expect(StatusCode::OK);
            world.pass(INTERVAL + 1);
            world.refresh_with_key(&user.refresh_token, "two").await.expect(StatusCode::UNAUTHORIZED);
        }
        "ImpossibleSessions" => {
            let next = world.refresh_with_key(&user.refresh_token, "one").await.text("refresh_token");
            let session = world::claims(&next)["sid"].as_str().unwrap().to_owned();
            // As if somebody had brought back a part of an older row.
            Row::session(&user.id, &session).set(world, "generation", AttributeValue::N("0".into())).await;
            world.refresh_with_key(&next, "two").await.expect(StatusCode::SERVICE_UNAVAILABLE);
        }
        "SecretFaults" => {
            world.wire.fault("GetSecretValue", usize::MAX, Fate::Refused(500, "InternalServiceError"));
            world.pass(301);
            world.get("/api/v1/users/me").bearer(&user.access_token).await.expect(StatusCode::OK);
        }
        "Misconfigured" => {
            world.wire.fault("GetItem", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
            world.get("/api/v1/users/me").bearer(&user.access_token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        }
        "DatabaseFaults" => {
            world.wire.fault("GetItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
            for _ in 0..5 {
                world.get("/api/v1/users/me").bearer(&user.access_token).await.expect(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
        metrics::OLDEST_MAIL => {
            world.wire.fault("SendEmail", usize::MAX, Fate::Refused(500, "InternalServerError"));
            mail(0).await;
            world.pass(301);
            world.system.deliver_mail().await.unwrap();
        }
        "MailsRefused" => {
            world.wire.fault("SendEmail", usize::MAX, Fate::Refused(400, "BadRequestException"));
            for number in 0..10 {
                mail(number).await;
            }
            world.system.deliver_mail().await.unwrap();
        }
        other => panic!("nothing causes {other}"),
    }
    world.wire.heal();
}

#[tokio::test]
async fn op8_each_alarm_on_a_metric_of_the_code_goes_off_when_its_fault_occurs_and_not_before() {
    let (mut alarms, _) = alarms(&MAIL);
    alarms.retain(|_, alarm| alarm["Namespace"] == metrics::NAMESPACE);
    assert_eq!(alarms.len(), OURS.len() + 2);
    for (name, alarm) in alarms {
        let log = Log::default();
        let _guard = tracing::subscriber::set_default(telemetry::subscriber(Level::ERROR, log.clone()));
        let wire = wire::Wire::new();
        wire.set_secret(json!({ "signing": "k1", "refresh": "k1", "k1": "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a" }));
        let interval = INTERVAL.to_string();
        let variables = [
            ("JWT_SECRET_ARN", "arn:aws:secretsmanager:local:123456789012:secret:freshkey"),
            ("REFRESH_REUSE_INTERVAL_SECONDS", &interval),
            ("MAIL_FROM", "no-reply@example.com"),
            ("RESET_URL", "https://app.example.com/reset"),
            ("CONFIRM_URL", "https://app.example.com/confirm"),
        ];
        let world = world_over(wire, &variables).await;
        let alice = world.register(EMAIL).await;
        world.login("not it").await.expect(StatusCode::UNAUTHORIZED);
        world.refresh_with_key(&alice.refresh_token, "one").await.expect(StatusCode::OK);
        world.system.deliver_mail().await.unwrap();
        let before = counted(log.take());
        assert!(!before.is_empty() && !is_set_off(&alarm, &before, world.system.table_name()), "{name}: {before:?}");
        cause(&world, alarm["MetricName"].as_str().unwrap()).await;
        let lines = counted(log.take());
        assert!(is_set_off(&alarm, &lines, world.system.table_name()), "{name}: {lines:?}");
    }
}

#[tokio::test]
async fn ml2_ml14_a_pass_of_the_mailer_tells_what_became_of_each_mail_and_names_no_address() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(Level::TRACE, log.clone()));
    let world = world_with(&[
        ("MAIL_FROM", "no-reply@example.com"),
        ("RESET_URL", "https://app.example.com/reset"),
        ("CONFIRM_URL", "https://app.example.com/confirm"),
    ])
    .await;
    let alice = world.register(EMAIL).await;
    let write = async |kind, address: &str| {
        let client = Client { ip: "192.0.2.1".into(), user_agent: AGENT.into() };
        let mail = Mail::new(kind, Email::parse(address).unwrap(), None, client, world.clock.now());
        world.app("refresh").store().put_mail(&mail).await.unwrap();
    };
    let deliver = async || {
        log.take();
        let report = world.system.deliver_mail().await.unwrap();
        let text = log.text();
        let (metrics, lines): (Vec<_>, _) = log.take().into_iter().partition(|line| line["_aws"].is_object());
        let [metrics] = metrics.try_into().unwrap();
        let names = ["MailsSent", "MailsDropped", "MailsRefused", "Misconfigured", metrics::OLDEST_MAIL];
        (report, names.map(|name| metrics[name].as_u64()), lines, text)
    };
    let (_, counts, ..) = deliver().await;
    assert_eq!(counts, [Some(1), None, None, None, Some(0)]);

    write(Kind::PasswordChanged, "denied@example.com").await;
    world.pass(100);
    write(Kind::PasswordChanged, "refused@example.com").await;
    write(Kind::Reset, EMAIL).await;
    write(Kind::Reset, "nobody@example.com").await;
    world.wire.on_call(|call| {
        let fate = match call.body["Destination"]["ToAddresses"][0].as_str() {
            Some("denied@example.com") => Fate::Refused(403, "AccessDeniedException"),
            Some("refused@example.com") => Fate::Refused(400, "BadRequestException"),
            _ => Fate::Pass,
        };
        async move { fate }
    });
    let (report, counts, lines, text): (_, _, Vec<Value>, _) = deliver().await;
    assert_eq!(report, Report { sent: 1, dropped: 1, refused: 1, left: 1 });
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(1), Some(100)]);
    let line = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap_or(&Value::Null);
    assert_eq!((&line("mail sent")["user.id"], &line("mail sent")["mail.kind"]), (&json!(alice.id), &json!("reset")));
    assert_eq!(line("mail dropped")["reason"], "no_account");
    assert_eq!(line("mail refused by SES")["reason"], "BadRequestException");
    assert_eq!(line("mail left for later")["reason"], "AccessDeniedException");
    assert_eq!(line("AWS refuses a misconfigured call")["level"], "ERROR");
    let of_mails = lines.iter().filter(|line| line["mail.id"].is_string());
    assert_eq!(of_mails.filter(|line| line["span"]["request.id"].is_string()).count(), 4, "{text}");
    let mails = world.system.mailbox().mails();
    let token = mails[0].text.split("#token=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    for secret in [token, "example.com", "alice", "nobody", "192.0.2.1", AGENT] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }

    world.pass(50);
    let (.., counts, _, _) = deliver().await;
    assert_eq!(counts, [None, None, None, None, Some(150)]);
}
