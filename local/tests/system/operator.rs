//! What an operator does to an account. The command `freshkey` has tests of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use freshkey::App;
use freshkey::auth::Error;
use freshkey::auth::operator::{RolesChanged, SessionState};
use freshkey::id::UserId;
use freshkey::mail::{Kind, Mail};
use freshkey::store::{Rows, StoreError};
use freshkey::user::{ProfileField, User};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::rows::Row;
use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, World, claims, signed_up, signed_up_with, world, world_with};

const MAIL: [(&str, &str); 3] = [
    ("MAIL_FROM", "no-reply@example.com"),
    ("RESET_URL", "https://app.example.com/reset"),
    ("CONFIRM_URL", "https://app.example.com/confirm"),
];
const MOVED: &str = "alice@example.org";

fn operator(world: &World) -> &App {
    world.app("account")
}

fn id(user: &crate::world::User) -> UserId {
    UserId::parse(&user.id).unwrap()
}

/// A system with mail on, and a user who has proven the address.
async fn proven() -> (World, crate::world::User) {
    let (world, alice) = signed_up_with(&MAIL).await;
    operator(&world).vouch_for_email(id(&alice)).await.unwrap();
    for mail in outbox(&world).await {
        let _ = operator(&world).store().delete_mail(&mail.id, None).await.unwrap();
    }
    (world, alice)
}

async fn outbox(world: &World) -> Vec<Mail> {
    operator(world).outbox().await.unwrap().mails.into_iter().map(|(mail, _)| mail).collect()
}

async fn kinds(world: &World) -> Vec<Kind> {
    outbox(world).await.iter().map(|mail| mail.kind).collect()
}

async fn read(world: &World, name: &str) -> User {
    operator(world).find_user(name).await.unwrap()
}

#[tokio::test]
async fn a_user_is_found_by_the_id_and_by_any_spelling_of_the_address() {
    let (world, alice) = signed_up().await;
    for name in [&alice.id, EMAIL, " Alice@EXAMPLE.com"] {
        assert_eq!(read(&world, name).await.id, id(&alice), "{name}");
    }
    let find = async |name: &str| operator(&world).find_user(name).await.unwrap_err();
    assert_eq!(find("bob@example.com").await, Error::NotFound);
    assert_eq!(find(&UserId::random().to_string()).await, Error::NotFound);
    assert!(matches!(find("bob").await, Error::Validation(_)));
}

#[tokio::test]
async fn a_user_created_with_a_password_logs_in_with_it() {
    let world = world().await;
    let roles = Some(vec!["ROLE_ADMIN".to_owned()]);
    let created = operator(&world).create_user(UserId::random(), EMAIL, Some(PASSWORD), roles).await.unwrap();
    let login = world.login(PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(login.user().id, created.id.to_string());
    assert_eq!(claims(&login.user().access_token)["roles"], json!(["ROLE_ADMIN"]));
    let again = operator(&world).create_user(UserId::random(), EMAIL, Some(PASSWORD), None).await;
    assert_eq!(again.unwrap_err(), Error::EmailTaken);
}

#[tokio::test]
async fn a_user_created_without_a_password_sets_one_by_the_link_in_a_mail() {
    let world = world_with(&MAIL).await;
    operator(&world).create_user(UserId::random(), EMAIL, None, None).await.unwrap();
    assert_eq!(kinds(&world).await, [Kind::Reset]);
    assert_eq!(world.system.deliver_mail().await.unwrap().sent, 1);
    let mail = world.system.mailbox().mails().pop().unwrap();
    let token = mail.text.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap();
    let reset = json!({ "token": token, "new_password": PASSWORD });
    world.post("/api/v1/auth/password/reset", reset).await.expect(StatusCode::NO_CONTENT);
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_user_cannot_be_created_with_what_registration_refuses() {
    let world = world().await;
    let create = async |email: &str, password, roles| match operator(&world)
        .create_user(UserId::random(), email, password, roles)
        .await
    {
        Err(Error::Validation(faults)) => faults[0].code,
        other => panic!("{other:?}"),
    };
    assert_eq!(create("alice", Some(PASSWORD), None).await, "email_invalid");
    assert_eq!(create(EMAIL, Some("short"), None).await, "password_too_short");
    assert_eq!(create(EMAIL, None, None).await, "password_required");
    assert_eq!(create(EMAIL, Some(PASSWORD), Some(vec!["x".repeat(5000)])).await, "roles_too_long");
}

#[tokio::test]
async fn a_removed_user_is_gone_and_told() {
    let (world, alice) = proven().await;
    operator(&world).remove_user(id(&alice)).await.unwrap();
    assert!(!world.is_alive(&alice.refresh_token).await);
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(kinds(&world).await, [Kind::AccountDeleted]);
    assert_eq!(operator(&world).remove_user(id(&alice)).await, Err(Error::NotFound));
    world.register(EMAIL).await;
}

#[tokio::test]
async fn a_user_whose_credential_is_lost_is_exported_and_removed_and_nothing_else() {
    let (world, alice) = signed_up().await;
    let other = AttributeValue::S(UserId::random().to_string());
    Row::credential(EMAIL).set(&world, "user_id", other).await;
    let dossier = operator(&world).export_user(id(&alice)).await.unwrap();
    assert_eq!((dossier.user.id, dossier.credential.is_some()), (id(&alice), false));
    let renamed = operator(&world).rename_user(id(&alice), MOVED).await;
    assert!(matches!(renamed, Err(Error::Validation(faults)) if faults[0].code == "keeps_changing"));
    operator(&world).remove_user(id(&alice)).await.unwrap();
    assert!(!Row::of_user(&alice.id, "PROFILE").exists(&world).await);
    assert!(Row::credential(EMAIL).exists(&world).await, "it belongs to somebody else");
}

#[tokio::test]
async fn roles_are_changed_with_or_without_an_end_of_the_sessions() {
    let (world, alice) = signed_up_with(&[("JWT_LEEWAY_SECONDS", "5")]).await;
    let change = async |add: &[&str], remove: &[&str], end| {
        let list = |roles: &[&str]| roles.iter().map(|role| role.to_string()).collect::<Vec<_>>();
        operator(&world).change_roles(id(&alice), &list(add), &list(remove), end).await
    };
    let RolesChanged { user, earlier_tokens_until } = change(&["ROLE_ADMIN"], &[], false).await.unwrap();
    assert_eq!(user, read(&world, EMAIL).await);
    assert_eq!(user.roles, ["ROLE_USER", "ROLE_ADMIN"]);
    assert_eq!(earlier_tokens_until.unwrap().seconds(), world.now().seconds() + 3600 + 5);
    let refreshed = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(claims(&refreshed.text("access_token"))["roles"], json!(["ROLE_USER", "ROLE_ADMIN"]));

    // Nothing changes.
    assert_eq!(change(&["ROLE_ADMIN"], &["ROLE_OTHER"], false).await.unwrap().earlier_tokens_until, None);

    let RolesChanged { user, .. } = change(&[], &["ROLE_USER"], true).await.unwrap();
    assert_eq!(user, read(&world, EMAIL).await);
    assert_eq!(user.roles, ["ROLE_ADMIN"]);
    assert!(!world.is_alive(&refreshed.text("refresh_token")).await);

    let too_long = "x".repeat(5000);
    assert!(matches!(change(&[&too_long], &[], false).await, Err(Error::Validation(_))));
    assert_eq!(read(&world, EMAIL).await.roles, ["ROLE_ADMIN"]);
}

#[tokio::test]
async fn earlier_roles_are_refused_at_once_where_every_call_checks_the_session_and_the_sessions_end() {
    let (world, alice) = signed_up_with(&[("CHECK_SESSION_ON_EVERY_CALL", "true")]).await;
    let changed = operator(&world).change_roles(id(&alice), &["ROLE_ADMIN".into()], &[], true).await.unwrap();
    assert_eq!(changed.earlier_tokens_until, None);
    world.get("/api/v1/users/me").bearer(&alice.access_token).await.expect(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn op4_two_operators_who_give_roles_at_once_both_succeed() {
    let (world, alice) = signed_up().await;
    let change = async |role: &str| operator(&world).change_roles(id(&alice), &[role.to_owned()], &[], false).await;
    let (a, b) = tokio::join!(change("A"), change("B"));
    a.unwrap();
    b.unwrap();
    let mut roles = read(&world, EMAIL).await.roles;
    roles.sort();
    assert_eq!(roles, ["A", "B", "ROLE_USER"]);
}

#[tokio::test]
async fn a_renamed_user_logs_in_with_the_new_address_which_is_unverified() {
    let (world, alice) = proven().await;
    let renamed = operator(&world).rename_user(id(&alice), MOVED).await.unwrap();
    assert_eq!(renamed, read(&world, MOVED).await);
    assert!(!renamed.is_verified());
    assert!(!world.is_alive(&alice.refresh_token).await);
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    let login = json!({ "email": MOVED, "password": PASSWORD });
    world.post("/api/v1/auth/login", login).await.expect(StatusCode::OK);
    let [told] = outbox(&world).await.try_into().unwrap();
    assert_eq!((told.kind, told.email.as_str()), (Kind::EmailChanged, EMAIL));
}

#[tokio::test]
async fn an_account_is_not_moved_to_an_address_that_is_taken_or_its_own() {
    let (world, alice) = signed_up().await;
    world.register(MOVED).await;
    assert_eq!(operator(&world).rename_user(id(&alice), MOVED).await, Err(Error::EmailTaken));
    let own = operator(&world).rename_user(id(&alice), "ALICE@example.com").await;
    assert!(matches!(own, Err(Error::Validation(faults)) if faults[0].code == "email_unchanged"));
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn a_link_that_an_operator_makes_resets_the_password_once_and_the_owner_is_told() {
    let (world, alice) = proven().await;
    let made = operator(&world).make_reset_link(id(&alice)).await.unwrap();
    assert_eq!(made.expires_at.seconds(), world.now().seconds() + 3600);
    let [told] = outbox(&world).await.try_into().unwrap();
    assert_eq!((told.kind, told.email.as_str()), (Kind::ResetLinkMade, EMAIL));
    let new = "another quiet river";
    let reset = json!({ "token": made.token.expose_secret(), "new_password": new });
    world.post("/api/v1/auth/password/reset", reset.clone()).await.expect(StatusCode::NO_CONTENT);
    world.post("/api/v1/auth/password/reset", reset).await.expect(StatusCode::BAD_REQUEST);
    world.login(new).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_link_that_an_operator_makes_proves_no_address_and_keeps_the_profile() {
    let (world, alice) = signed_up_with(&MAIL).await;
    let change = [(ProfileField::FirstName, Some("Ada".to_owned()))];
    operator(&world).store().update_profile(id(&alice), &change).await.unwrap();
    let made = operator(&world).make_reset_link(id(&alice)).await.unwrap();
    let reset = json!({ "token": made.token.expose_secret(), "new_password": "another quiet river" });
    world.post("/api/v1/auth/password/reset", reset).await.expect(StatusCode::NO_CONTENT);
    let user = read(&world, EMAIL).await;
    assert!(!user.is_verified());
    assert_eq!(user.profile.first_name.as_deref(), Some("Ada"));
    assert!(!world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn a_link_and_its_notice_are_written_together_or_not_at_all() {
    let (world, alice) = proven().await;
    world.wire.fault("TransactWriteItems", usize::MAX, Fate::Refused(500, "InternalServerError"));
    assert!(operator(&world).make_reset_link(id(&alice)).await.is_err());
    world.wire.heal();
    let user = read(&world, EMAIL).await;
    let traces = operator(&world).store().traces(&user).await.unwrap();
    assert!(traces.mails.is_empty() && traces.proofs.is_empty(), "{traces:?}");
}

#[tokio::test]
async fn a_disabled_user_gets_no_link() {
    let (world, alice) = proven().await;
    operator(&world).disable_user(id(&alice)).await.unwrap();
    let code = |made: Result<(), Error>| match made {
        Err(Error::Validation(faults)) => faults[0].code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(operator(&world).make_reset_link(id(&alice)).await.map(drop)), "user_disabled");
    assert_eq!(code(operator(&world).send_reset_link(id(&alice)).await), "user_disabled");
}

#[tokio::test]
async fn sessions_are_revoked_one_by_one_or_all_and_evidence_stays() {
    let (world, alice) = signed_up().await;
    let laptop = world.login(PASSWORD).await.user();
    let phone = freshkey::id::SessionId::parse(claims(&alice.access_token)["sid"].as_str().unwrap()).unwrap();
    operator(&world).revoke_session(id(&alice), phone).await.unwrap();
    assert_eq!(operator(&world).revoke_session(id(&alice), phone).await, Err(Error::NotFound));
    assert!(!world.is_alive(&alice.refresh_token).await);
    let reused = laptop.refresh_token.clone();
    world.refresh(&reused).await.expect(StatusCode::OK);
    world.refresh(&reused).await.expect(StatusCode::UNAUTHORIZED);
    world.login(PASSWORD).await.expect(StatusCode::OK);
    let states = async || {
        let (user, sessions) = operator(&world).all_sessions(id(&alice)).await.unwrap();
        let state = |session| SessionState::of(session, Some(user.state()), world.now());
        sessions.iter().map(state).collect::<Vec<_>>()
    };
    let mut both = states().await;
    both.sort_by_key(|state| *state == SessionState::Reused);
    assert_eq!(both, [SessionState::Valid, SessionState::Reused]);
    operator(&world).revoke_sessions(id(&alice)).await.unwrap();
    assert_eq!(states().await, [SessionState::Reused]);
    // Once more for a user who is disabled, whose sessions have ended.
    operator(&world).disable_user(id(&alice)).await.unwrap();
    operator(&world).revoke_sessions(id(&alice)).await.unwrap();
}

#[tokio::test]
async fn only_sessions_that_have_expired_are_cleared() {
    let (world, alice) = signed_up().await;
    let store = operator(&world).store();
    let expired = async || store.scan(Rows::Expired(world.now()), None).await.unwrap().sessions;
    let (_, sessions) = operator(&world).all_sessions(id(&alice)).await.unwrap();
    assert!(expired().await.is_empty());
    assert!(!operator(&world).clear_session(&sessions[0]).await.unwrap());
    world.pass(30 * 24 * 60 * 60);
    if let [session] = expired().await.as_slice() {
        assert!(operator(&world).clear_session(session).await.unwrap());
    }
    assert_eq!(operator(&world).all_sessions(id(&alice)).await.unwrap().1, []);
}

#[tokio::test]
async fn a_scan_returns_every_user_and_session_and_counts_what_it_cannot_read() {
    let (world, alice) = signed_up().await;
    let bob = world.register("bob@example.com").await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    let page = operator(&world).store().scan(Rows::Accounts, None).await.unwrap();
    let mut users: Vec<_> = page.users.iter().map(|user| user.id).collect();
    users.sort();
    let mut expected = [id(&alice), id(&bob)];
    expected.sort();
    assert_eq!(users, expected);
    assert_eq!((page.sessions.len(), page.unreadable), (3, 0));
    assert_eq!(operator(&world).store().scan(Rows::Users, None).await.unwrap().sessions, []);
    Row::of_user(&alice.id, "PROFILE").set(&world, "epoch", AttributeValue::S("x".into())).await;
    let page = operator(&world).store().scan(Rows::Accounts, None).await.unwrap();
    assert_eq!((page.users.len(), page.sessions.len(), page.unreadable), (1, 3, 1));
}

#[tokio::test]
async fn a_scan_goes_on_where_a_page_ends() {
    let world = world().await;
    // A page has at most 1 MB.
    for number in 0..5 {
        let user = world.register(&format!("user{number}@example.com")).await;
        let long = AttributeValue::S("x".repeat(300_000));
        Row::of_user(&user.id, "PROFILE").set(&world, "unknown", long).await;
    }
    let (mut users, mut pages, mut place) = (BTreeSet::new(), 0, None);
    loop {
        let page = operator(&world).store().scan(Rows::Users, place).await.unwrap();
        users.extend(page.users.iter().map(|user| user.id));
        pages += 1;
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(users.len(), 5);
    assert!(pages > 1);
}

#[tokio::test]
async fn the_limits_of_an_account_are_shown_and_cleared() {
    // Without the limits that the local system raises.
    let (world, _) = signed_up_with(&[("LIMIT_FREE_GUESSES", "5"), ("LIMIT_GUESSES", "100")]).await;
    for _ in 0..5 {
        world.login("wrong but long enough").await.expect(StatusCode::UNAUTHORIZED);
    }
    world.login(PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
    let alice = operator(&world).find_limited(EMAIL).await.unwrap();
    let limits = operator(&world).limits(&alice).await.unwrap();
    let [limit] = limits.try_into().unwrap();
    assert_eq!((limit.name.as_str(), limit.count, limit.most), ("account", 5, Some(100)));
    assert_eq!(limit.blocked_until.unwrap().seconds(), world.now().seconds() + 30);
    operator(&world).clear_limits(&alice).await.unwrap();
    assert_eq!(operator(&world).limits(&alice).await.unwrap(), []);
    world.login(PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_guess_that_was_given_back_is_no_limit() {
    let (world, _) = signed_up().await;
    world.login(PASSWORD).await.expect(StatusCode::OK);
    let alice = operator(&world).find_limited(EMAIL).await.unwrap();
    assert_eq!(operator(&world).limits(&alice).await.unwrap(), []);
    // The counters of the address are still there.
    let address = operator(&world).find_limited("127.0.0.1").await.unwrap();
    let limits = operator(&world).limits(&address).await.unwrap();
    assert_eq!(limits.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["register"]);
}

#[tokio::test]
async fn a_limit_is_over_when_its_window_ends() {
    let (world, _) = signed_up().await;
    world.login("wrong but long enough").await.expect(StatusCode::UNAUTHORIZED);
    let alice = operator(&world).find_limited(EMAIL).await.unwrap();
    let [limit] = operator(&world).limits(&alice).await.unwrap().try_into().unwrap();
    world.clock.set(limit.until - Duration::from_millis(1));
    assert_eq!(operator(&world).limits(&alice).await.unwrap().len(), 1);
    world.clock.set(limit.until);
    assert_eq!(operator(&world).limits(&alice).await.unwrap(), []);
}

#[tokio::test]
async fn an_address_is_vouched_for_in_one_write() {
    let (world, alice) = signed_up().await;
    operator(&world).vouch_for_email(id(&alice)).await.unwrap();
    assert_eq!(world.wire.take().operations(), ["GetItem", "TransactWriteItems"]);
}

#[tokio::test]
async fn roles_that_stay_the_same_end_the_sessions_where_that_is_asked_for() {
    let (world, alice) = signed_up().await;
    let same = operator(&world).change_roles(id(&alice), &[], &[], false).await.unwrap();
    assert_eq!((same.user.epoch, world.wire.take().operations()), (0, vec!["GetItem"]));
    let same = operator(&world).change_roles(id(&alice), &[], &[], true).await.unwrap();
    assert_eq!((same.user.epoch, same.earlier_tokens_until), (1, None));
    assert!(!world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn an_export_has_everything_about_a_user_and_nothing_about_others() {
    let (world, alice) = proven().await;
    let bob = world.register("bob@example.com").await;
    // Bob asks to move his account to her address.
    let change = json!({ "email": EMAIL, "password": PASSWORD });
    let change = world.request(Method::PUT, "/api/v1/users/me/email").bearer(&bob.access_token).json(change);
    change.await.expect(StatusCode::ACCEPTED);
    operator(&world).make_reset_link(id(&alice)).await.unwrap();
    let dossier = operator(&world).export_user(id(&alice)).await.unwrap();
    assert_eq!(dossier.user.id, id(&alice));
    assert_eq!(dossier.sessions.len(), 1);
    assert_eq!(dossier.traces.mails.iter().map(|mail| mail.kind).collect::<Vec<_>>(), [Kind::ResetLinkMade]);
    assert_eq!(dossier.traces.proofs.iter().map(|proof| proof.user_id).collect::<Vec<_>>(), [id(&alice)]);
}

#[tokio::test]
async fn a_refused_call_names_its_action() {
    let (world, _) = signed_up().await;
    world.wire.fault("Scan", usize::MAX, Fate::Refused(400, "AccessDeniedException"));
    let refused = operator(&world).store().scan(Rows::Users, None).await.unwrap_err();
    assert_eq!(refused, StoreError::Unavailable { operation: "Scan", code: "AccessDeniedException".into() });
    assert_eq!(refused.to_string(), "DynamoDB Scan: AccessDeniedException");
}
