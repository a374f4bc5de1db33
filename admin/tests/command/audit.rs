//! `freshkey audit`.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use freshkey::audit::{Act, Event};
use freshkey::id::{SessionId, UserId};
use freshkey::telemetry;
use freshkey::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};
use tracing::Level;
use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;

use crate::aws::{PRINCIPAL, aws};
use crate::world::{EMAIL, World, signed_up};

const HOUR: Duration = Duration::from_secs(3600);

/// Writes events into a file of the world, as a function does or as the local system shows
/// them in the terminal.
fn log(world: &World, name: &str, is_terminal: bool, events: impl Fn()) -> String {
    let path = world.directory.path().join(name);
    let file = Arc::new(File::create(&path).unwrap());
    if is_terminal {
        let lines = tracing_subscriber::fmt::layer().compact().without_time().with_target(false).with_ansi(false);
        let terminal = tracing_subscriber::registry().with(lines.with_writer(file));
        with_default(terminal, || tracing::info_span!("request", route = "/x").in_scope(&events));
    } else {
        with_default(telemetry::subscriber(Level::DEBUG, file), &events);
    }
    path.to_str().unwrap().to_owned()
}

/// What two users did. The session is the first one's.
fn events(alice: UserId, bob: UserId, session: SessionId, now: Timestamp) {
    let of = |act, user| Event::of(act).about(user);
    of(Act::Revoked, alice).in_session(session).because("logout").record(now);
    of(Act::LoggedIn, bob).record(now - Duration::from_secs(1));
    of(Act::Reused, alice).in_session(session).because("spent 1 generation(s) ago").record(now - 2 * HOUR);
    of(Act::UserCreated, alice).record(now - 48 * HOUR);
    tracing::info!("listening");
}

fn row(event: &str, outcome: Option<&str>, more: Value) -> Value {
    let mut row = json!({
        "time": "TIME", "event": event, "outcome": outcome, "reason": null, "user_id": "ID", "session_id": null,
        "ip": null, "request_id": null, "principal": null,
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    row
}

fn reused() -> Value {
    row("authn_token_reuse", Some("failure"), json!({ "reason": "spent 1 generation(s) ago", "session_id": "ID" }))
}

fn logged_in() -> Value {
    row("authn_login_success", Some("success"), json!({}))
}

fn logged_out() -> Value {
    row("authn_token_revoked", Some("success"), json!({ "reason": "logout", "session_id": "ID" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_audit_by_the_log_of_a_function_or_of_the_local_system() {
    let (world, alice) = signed_up().await;
    let (bob, session, now) = (UserId::random(), SessionId::random(), SystemClock.now());
    for is_terminal in [false, true] {
        let file = log(&world, "log", is_terminal, || events(alice.user.id, bob, session, now));
        let audit = |more: &str| world.run(&format!("audit --file {file} {more}")).done();
        assert_eq!(audit(""), [reused(), logged_in(), logged_out()]);
        assert_eq!(audit("--since 1h"), [logged_in(), logged_out()]);
        let all = audit("--since 3d");
        assert_eq!(all[0], row("user_created", Some("success"), json!({})));
        for user in [EMAIL, &alice.user.id.to_string()] {
            assert_eq!(audit(&format!("--user {user}")), [reused(), logged_out()]);
        }
        // The log knows users who have no account.
        assert_eq!(audit(&format!("--user {bob}")), [logged_in()]);
    }
    // The record of the operator is another file.
    world.run("users verify alice@example.com").done();
    let operator = world.run("audit --file log --file freshkey-operator.log").objects;
    let last = operator.last().unwrap();
    assert_eq!((&last["event"], last["user_id"].as_str()), (&json!("users verify"), Some(&*alice.user.id.to_string())));
    assert!(last["principal"].is_string() && last["outcome"].is_null(), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_audit_by_the_log_groups_of_the_stack() {
    let (mut world, alice) = signed_up().await;
    let (bob, session, now) = (UserId::random(), SessionId::random(), SystemClock.now());
    let file = log(&world, "log", false, || events(alice.user.id, bob, session, now));
    let aws = aws(&mut world).await;
    for (at, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
        // The API's own log has requests.
        let groups = [["/aws/lambda/auth-login", "/aws/lambda/auth-refresh"][at % 2], "/aws/vendedlogs/auth-api"];
        for group in groups {
            aws.lock().unwrap().events.push((group.into(), serde_json::from_str(line).unwrap()));
        }
    }
    world.run("users verify alice@example.com").done();
    let verified = row("users verify", None, json!({ "principal": PRINCIPAL }));
    assert_eq!(world.run("audit").done(), [reused(), logged_in(), logged_out(), verified.clone()]);
    assert_eq!(world.run("audit --since 1h --user alice@example.com").done(), [logged_out(), verified]);
    assert_eq!(world.run(&format!("audit --user {bob}")).done(), [logged_in()]);
    for (denied, message) in [
        ("ListStackResources", "cloudformation:ListStackResources: AccessDenied"),
        ("FilterLogEvents", "logs:FilterLogEvents: AccessDeniedException"),
    ] {
        aws.lock().unwrap().denied = [denied].into();
        assert_eq!(world.run("audit").failed(3), ("unavailable".into(), message.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_an_audit_of_nothing_or_nobody_is_refused() {
    let (world, _) = signed_up().await;
    let (error, message) = world.run("audit").failed(2);
    assert_eq!((error.as_str(), message.contains("--file")), ("needs_stack", true), "{message}");
    assert_eq!(world.run("audit --file nowhere").failed(2).0, "no_file");
    assert_eq!(world.run("audit --file nowhere --user nobody@example.com").failed(1).0, "not_found");
    for wrong in ["h", "1", "1w", "-1h", "1.5h"] {
        assert_eq!(world.run(&format!("audit --since={wrong}")).code, 2, "{wrong}");
    }
}
