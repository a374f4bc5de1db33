//! The operator's log.

use std::fs;

use freshkey::auth::SignedIn;
use freshkey::auth::operator::Limited;
use serde_json::{Value, json};

use crate::aws::{PRINCIPAL, aws};
use crate::world::{EMAIL, World, signed_up};

/// Every command that changes something, with the name of its act.
fn acts(alice: &SignedIn) -> Vec<(String, &'static str)> {
    let acts = [
        ("users create bob@example.com", "users create"),
        ("users verify EMAIL", "users verify"),
        ("users roles EMAIL --add ROLE_ADMIN", "users roles"),
        ("users roles EMAIL --remove ROLE_ADMIN --end-sessions", "users roles"),
        ("users reset-link EMAIL", "users reset-link"),
        ("users reset-link EMAIL --send", "users reset-link --send"),
        ("users export EMAIL", "users export"),
        ("limits clear EMAIL", "limits clear"),
        ("limits clear 192.0.2.1", "limits clear"),
        ("sessions revoke EMAIL", "sessions revoke"),
        ("sessions clear", "sessions clear"),
        ("mail retry", "mail retry"),
        ("users disable EMAIL", "users disable"),
        ("users enable EMAIL", "users enable"),
        ("users rename EMAIL moved@example.com", "users rename"),
        ("users delete ID", "users delete"),
    ];
    let id = alice.user.id.to_string();
    acts.map(|(command, act)| (command.replace("EMAIL", EMAIL).replace("ID", &id), act)).to_vec()
}

/// Everything that the acts change.
async fn state(world: &World) -> String {
    let mut rows = world.rows().await;
    rows.users.sort_by_key(|user| user.id);
    rows.sessions.sort_by_key(|session| session.id);
    let outbox = world.app().outbox().await.unwrap();
    let mut state = format!("{:?} {:?} {:?}", rows.users, rows.sessions, outbox.mails);
    for user in &rows.users {
        let limits = world.app().limits(&Limited::User(user.clone())).await.unwrap();
        state += &format!("{limits:?} {:?}", world.app().store().traces(user).await.unwrap());
    }
    state
}

/// Checks that each record names the principal, the act and the user, and nothing else.
fn check(records: &[Value], alice: &SignedIn, principal: &str) {
    let acts = acts(alice);
    assert_eq!(records.len(), acts.len());
    for (record, (command, act)) in records.iter().zip(acts) {
        let record = record.as_object().unwrap();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["time", "principal", "act", "user_id"]);
        assert_eq!((&record["principal"], &record["act"]), (&json!(principal), &json!(act)));
        let is_about_alice = command.contains(EMAIL) || command.contains(&alice.user.id.to_string());
        match record["user_id"].as_str() {
            Some(id) if is_about_alice => assert_eq!(id, alice.user.id.to_string(), "{command}"),
            id => assert_eq!(id.is_some(), act == "users create", "{command}"),
        }
        let text = Value::Object(record.clone()).to_string();
        assert!(!text.contains(EMAIL) && !text.contains("192.0.2.1") && !text.contains("token"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn op3_every_act_is_recorded_in_the_file_of_a_table_without_a_stack() {
    let (world, alice) = signed_up().await;
    for (command, _) in acts(&alice) {
        world.run(&command).done();
    }
    let file = fs::read_to_string(world.directory.path().join("freshkey-operator.log")).unwrap();
    let records: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let principal = records[0]["principal"].as_str().unwrap().to_owned();
    assert!(!principal.is_empty());
    check(&records, &alice, &principal);
}

#[tokio::test(flavor = "multi_thread")]
async fn op3_every_act_is_recorded_in_the_log_group_of_the_stack() {
    let (mut world, alice) = signed_up().await;
    let aws = aws(&mut world).await;
    for (command, _) in acts(&alice) {
        world.run(&command).done();
    }
    let aws = aws.lock().unwrap();
    assert!(aws.events.iter().all(|(group, _)| group == "/freshkey/auth/operator"));
    let records: Vec<_> = aws.events.iter().map(|(_, record)| record.clone()).collect();
    check(&records, &alice, PRINCIPAL);
}

#[tokio::test(flavor = "multi_thread")]
async fn op3_an_act_that_cannot_be_recorded_in_the_file_is_not_done() {
    let (world, alice) = signed_up().await;
    // A directory is no file.
    fs::create_dir(world.directory.path().join("freshkey-operator.log")).unwrap();
    let before = state(&world).await;
    for (command, _) in acts(&alice) {
        assert_eq!(world.run(&command).failed(3).0, "not_recorded", "{command}");
    }
    assert_eq!(state(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn op3_an_act_that_cannot_be_recorded_in_the_log_group_is_not_done() {
    let (mut world, alice) = signed_up().await;
    let aws = aws(&mut world).await;
    let before = state(&world).await;
    for denied in ["GetCallerIdentity", "CreateLogStream", "PutLogEvents"] {
        aws.lock().unwrap().denied = [denied].into();
        let (error, message) = world.run("users delete alice@example.com").failed(3);
        assert_eq!(error, "not_recorded");
        assert!(message.contains(&format!(":{denied}: AccessDenied")), "{message}");
    }
    aws.lock().unwrap().denied.clear();
    aws.lock().unwrap().rejects_events = true;
    for (command, _) in acts(&alice) {
        assert_eq!(world.run(&command).failed(3).0, "not_recorded", "{command}");
    }
    assert_eq!(state(&world).await, before);
    assert!(aws.lock().unwrap().events.is_empty());
}
