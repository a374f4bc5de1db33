//! What each command prints with `--json`, and in tables.

use std::sync::Arc;
use std::time::Duration;

use freshkey::client::Client;
use freshkey::id::SessionId;
use freshkey::session::{Attempt, Hash};
use freshkey::store::Lease;
use freshkey::user::ProfileField;
use freshkey::{ManualClock, Timestamp};
use serde_json::{Value, json};

use crate::world::{EMAIL, World, signed_up, world_at};

fn user(email: &str) -> Value {
    json!({
        "user_id": "ID", "email": email, "email_verified": false, "is_active": true, "roles": ["ROLE_USER"],
        "created_at": "TIME",
    })
}

fn user_with(email: &str, members: Value) -> Value {
    let mut user = user(email);
    user.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    user
}

fn session(state: &str, reason: Option<&str>) -> Value {
    json!({
        "session_id": "ID", "user_id": "ID", "state": state, "reason": reason, "opened_at": "TIME",
        "last_used_at": "TIME", "expires_at": "TIME", "revoked_at": null, "generation": 1, "ip": "", "user_agent": "",
    })
}

fn no_profile() -> Value {
    json!({ "first_name": null, "last_name": null, "phone": null, "user_type": null, "avatar": null })
}

async fn fail_to_log_in(world: &World) {
    let app = world.system.function("login").unwrap().app();
    let client = Client { ip: "192.0.2.1".into(), ..Client::default() };
    app.login(EMAIL, "wrong but long enough", client, None).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_users() {
    let (world, alice) = signed_up().await;
    let verified = |is| json!({ "email_verified": is });
    assert_eq!(world.run("users list").done(), [user(EMAIL)]);
    assert_eq!(world.run("users list --limit 0").done(), [Value::Null; 0]);
    assert_eq!(world.run("users list --disabled").done(), [Value::Null; 0]);
    let shown = json!({ "profile": no_profile(), "sessions": [session("valid", None)], "limits": [] });
    assert_eq!(world.run("users show alice@example.com").done(), [user_with(EMAIL, shown)]);
    assert_eq!(world.run("users create bob@example.com").done(), [user("bob@example.com")]);
    let admin = json!({ "roles": ["A", "B"] });
    let created = world.run("users create carol@example.com --role A --role B").done();
    assert_eq!(created, [user_with("carol@example.com", admin)]);
    assert_eq!(world.run("users verify alice@example.com").done(), [user_with(EMAIL, verified(true))]);
    let roles = |list: &[&str], until: Option<&str>| {
        user_with(EMAIL, json!({ "email_verified": true, "roles": list, "earlier_tokens_until": until }))
    };
    let changed = world.run(&format!("users roles {} --add ROLE_ADMIN", alice.user.id)).done();
    assert_eq!(changed, [roles(&["ROLE_USER", "ROLE_ADMIN"], Some("TIME"))]);
    let changed = world.run("users roles alice@example.com --remove ROLE_ADMIN --end-sessions").done();
    assert_eq!(changed, [roles(&["ROLE_USER"], Some("TIME"))]);
    let changed = world.run("users roles alice@example.com --remove ROLE_ADMIN").done();
    assert_eq!(changed, [roles(&["ROLE_USER"], None)]);
    let disabled = json!({ "is_active": false });
    assert_eq!(world.run("users disable bob@example.com").done(), [user_with("bob@example.com", disabled.clone())]);
    assert_eq!(world.run("users list --disabled").done(), [user_with("bob@example.com", disabled)]);
    assert_eq!(world.run("users enable bob@example.com").done(), [user("bob@example.com")]);
    let renamed = world.run("users rename alice@example.com alice@example.org").done();
    assert_eq!(renamed, [user("alice@example.org")]);
    let [made] = world.run("users reset-link alice@example.org").done().try_into().unwrap();
    let link = made["link"].as_str().unwrap();
    assert!(link.starts_with("https://app.example.com/reset#token="), "{link}");
    assert_eq!(made, json!({ "user_id": "ID", "link": link, "expires_at": "TIME" }));
    let page = "users reset-link alice@example.org --reset-url https://other.example/?x=1";
    assert!(world.run(page).done()[0]["link"].as_str().unwrap().starts_with("https://other.example/?x=1#token="));
    let sent = world.run("users reset-link alice@example.org --send").done();
    assert_eq!(sent, [json!({ "user_id": "ID", "sent": true })]);
    assert_eq!(world.run("users delete bob@example.com").done(), [json!({ "user_id": "ID", "deleted": true })]);
    world.run("users show bob@example.com").failed(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_an_export_has_everything_about_a_user_and_no_hash() {
    let (world, alice) = signed_up().await;
    fail_to_log_in(&world).await;
    world.run("users reset-link alice@example.com").done();
    let export = world.run("users export alice@example.com");
    let text = export.output.clone();
    let limit = json!({ "limit": "account", "count": 1, "most": 100, "until": "TIME", "blocked_until": null });
    let expected = json!({
        "epoch": 0, "profile": no_profile(), "password_changed_at": "TIME", "devices_since": "TIME",
        "sessions": [session("valid", None)],
        "limits": [limit],
        "mails": [{
            "kind": "verify", "email": EMAIL, "written_at": "TIME", "expires_at": "TIME", "ip": "", "user_agent": "",
        }],
        "links": [{ "purpose": "reset", "email": EMAIL, "expires_at": "TIME", "was_used": false }],
        "imported_at": null, "imported_tokens": [],
    });
    assert_eq!(export.done(), [user_with(EMAIL, expected)]);
    let credential = world.app().store().credential(&alice.user.email).await.unwrap().unwrap();
    assert!(!text.contains(credential.password_hash.as_str()) && !text.contains("argon2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_sessions() {
    let (world, alice) = signed_up().await;
    let bob = world.register("bob@example.com").await;
    assert_eq!(world.run("sessions list").done(), [session("valid", None), session("valid", None)]);
    assert_eq!(world.run("sessions list alice@example.com").done(), [session("valid", None)]);
    let [of_bob] = world.run("sessions list bob@example.com").objects.try_into().unwrap();
    assert_eq!(of_bob["user_id"], bob.user.id.to_string());
    assert_eq!(world.run("sessions list --expired").done(), [Value::Null; 0]);
    let id = of_bob["session_id"].as_str().unwrap();
    let revoked = |session: Option<&str>| json!({ "user_id": "ID", "session_id": session, "revoked": true });
    assert_eq!(world.run(&format!("sessions revoke bob@example.com {id}")).done(), [revoked(Some("ID"))]);
    assert_eq!(world.run(&format!("sessions revoke bob@example.com {id}")).failed(1).0, "not_found");
    assert_eq!(world.run(&format!("sessions revoke {}", alice.user.id)).done(), [revoked(None)]);
    assert_eq!(world.run("sessions list").done(), [Value::Null; 0]);
    assert_eq!(world.run("sessions clear").done(), [json!({ "cleared": 0 })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_sessions_are_listed_by_their_state_and_the_expired_are_cleared() {
    // For the system it is 2020, so that it deletes no session that has expired since.
    let world = world_at(Arc::new(ManualClock::at(Timestamp::from_seconds(1_577_836_800)))).await;
    let alice = world.register(EMAIL).await;
    let (_, sessions) = world.app().all_sessions(alice.user.id).await.unwrap();
    let credential = world.app().store().credential(&alice.user.email).await.unwrap().unwrap();
    let later = Timestamp::from_seconds(32_503_680_000);
    let mut live = sessions[0].clone();
    (live.id, live.expires_at, live.epoch) = (SessionId::random(), later, 1);
    let mut ended = live.clone();
    (ended.id, ended.epoch) = (SessionId::random(), 0);
    let mut reused = live.clone();
    reused.id = SessionId::random();
    let mut user = alice.user.clone();
    user.epoch = 1;
    world.app().store().seed_user(&user, &credential, &[&live, &ended, &reused]).await.unwrap();
    let attempt = Attempt {
        generation: 1,
        secret_hash: reused.secret_hash,
        key: reused.secret_hash,
        now: later - Duration::from_secs(3600),
        reuse_interval: Duration::ZERO,
    };
    let _ = world.app().store().revoke_session(&reused, &attempt).await.unwrap();

    let states = |filter: &str| {
        let listed = world.run(&format!("sessions list {filter}")).done();
        let state =
            |one: &Value| format!("{} {}", one["state"].as_str().unwrap(), one["reason"].as_str().unwrap_or("-"));
        let mut states: Vec<_> = listed.iter().map(state).collect();
        states.sort();
        states
    };
    for of in ["", EMAIL] {
        assert_eq!(states(of), ["expired -", "revoked ended", "revoked reuse", "valid -"], "{of}");
        assert_eq!(states(&format!("{of} --valid")), ["valid -"], "{of}");
        assert_eq!(states(&format!("{of} --expired")), ["expired -"], "{of}");
        assert_eq!(states(&format!("{of} --revoked")), ["revoked ended", "revoked reuse"], "{of}");
        assert_eq!(states(&format!("{of} --valid --expired")), ["expired -", "valid -"], "{of}");
    }
    assert_eq!(world.run("sessions clear").done(), [json!({ "cleared": 1 })]);
    assert_eq!(states(""), ["revoked ended", "revoked reuse", "valid -"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_limits() {
    let (world, _) = signed_up().await;
    fail_to_log_in(&world).await;
    let limit = |name: &str| json!({ "limit": name, "count": 1, "most": 100, "until": "TIME", "blocked_until": null });
    // The command has the settings of its environment, not those of the local system.
    let cleared = |user: Option<&str>| [json!({ "user_id": user, "cleared": true })];
    assert_eq!(world.run("limits show alice@example.com").done(), [limit("account")]);
    let mut accounts = limit("address-accounts");
    accounts["most"] = 20.into();
    assert_eq!(world.run("limits show 192.0.2.1").done(), [limit("address"), accounts]);
    assert_eq!(world.run("limits clear alice@example.com").done(), cleared(Some("ID")));
    assert_eq!(world.run("limits show alice@example.com").done(), [Value::Null; 0]);
    assert_eq!(world.run("limits clear 192.0.2.1").done(), cleared(None));
    assert_eq!(world.run("limits show 192.0.2.1").done(), [Value::Null; 0]);
    // Wrong passwords are counted for an address without an account, too.
    let app = world.system.function("login").unwrap().app();
    app.login("nobody@example.com", "wrong but long enough", Client::default(), None).await.unwrap_err();
    assert_eq!(world.run("limits show nobody@example.com").done(), [limit("account")]);
    assert_eq!(world.run("limits clear nobody@example.com").done(), cleared(None));
    assert_eq!(world.run("limits show nobody@example.com").done(), [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn op2_the_json_of_mail() {
    let (world, alice) = signed_up().await;
    let mail = |state: &str| {
        json!({
            "kind": "verify", "state": state, "user_id": "ID", "written_at": "TIME", "expires_at": "TIME",
        })
    };
    let listed = || {
        let mut listed = world.run("mail list").done();
        for mail in &mut listed {
            assert!(mail.as_object_mut().unwrap().remove("age_seconds").unwrap().is_u64());
        }
        listed
    };
    assert_eq!(listed(), [mail("waiting")]);
    let outbox = world.app().outbox().await.unwrap();
    let lease = Lease { holder: Hash::of(&[b"a mailer"]), until: world.app().time() + Duration::from_secs(60) };
    let _ = world.app().store().lease_mail(&outbox.mails[0].0.id, &lease, world.app().time()).await.unwrap();
    assert_eq!(listed(), [mail("taken")]);
    assert_eq!(world.run("mail retry").done(), [json!({ "retried": 1 })]);
    assert_eq!(listed(), [mail("waiting")]);
    let [(renewed, _)] = world.app().outbox().await.unwrap().mails.try_into().unwrap();
    let old = &outbox.mails[0].0;
    // Only a new item wakes the mailer.
    assert_ne!(renewed.id, old.id);
    assert_eq!(freshkey::mail::Mail { id: old.id.clone(), ..renewed }, *old);
    assert!(!world.run("mail list").output.contains(alice.user.email.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_tables_in_which_nothing_controls_the_terminal() {
    let (world, alice) = signed_up().await;
    let change = [(ProfileField::FirstName, Some("Ada".into()))];
    let mut session = world.app().all_sessions(alice.user.id).await.unwrap().1.remove(0);
    session.client.user_agent = "evil\u{1b}[2J\u{9b}2J".into();
    let credential = world.app().store().credential(&alice.user.email).await.unwrap().unwrap();
    world.app().store().seed_user(&alice.user, &credential, &[&session]).await.unwrap();
    world.app().store().update_profile(alice.user.id, &change).await.unwrap();
    let list = world.run_plainly(&["users", "list"], "");
    let lines: Vec<Vec<_>> = list.output.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["email", "user_id", "email_verified", "is_active", "roles", "created_at"]);
    assert_eq!(lines[1][..2], [EMAIL, &alice.user.id.to_string()]);
    assert_eq!(lines[1][2..5], ["no", "yes", "ROLE_USER"]);
    let show = world.run_plainly(&["users", "show", EMAIL], "");
    assert!(show.output.contains("evil\\u{1b}[2J") && !show.output.contains(['\u{1b}', '\u{9b}']), "{}", show.output);
    let json = world.run("users show alice@example.com");
    assert!(!json.output.contains(['\u{1b}', '\u{9b}']), "{}", json.output);
    assert_eq!(json.objects[0]["sessions"][0]["user_agent"], "evil\u{1b}[2J\u{9b}2J");
    assert!(show.output.lines().any(|line| line.split_whitespace().eq(["first_name", "Ada"])), "{}", show.output);
}
