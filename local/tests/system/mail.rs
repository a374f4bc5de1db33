//! Mail, from the request to the link in the mailbox and back.

use std::time::Duration;

use freshkey::email::Email;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use local::mailbox::Mail;
use serde_json::{Value, json};

use crate::keys::is_let_in;
use crate::limits::on_device;
use crate::rows::Row;
use crate::wire::Fate;
use crate::world::{EMAIL, PASSWORD, Reply, Sending, User, World, claims, world, world_with};

const NEW_PASSWORD: &str = "a loud brook over eight stones";
const BOB: &str = "bob@example.com";
const NEW_EMAIL: &str = "alice@new.example.com";
const RESET_URL: &str = "https://app.example.com/reset";
const CONFIRM_URL: &str = "https://app.example.com/confirm";
/// The settings with which mail is on.
pub const MAIL: [(&str, &str); 4] = [
    ("MAIL_FROM", "no-reply@example.com"),
    ("APP_NAME", "Example"),
    ("RESET_URL", RESET_URL),
    ("CONFIRM_URL", CONFIRM_URL),
];
const HOUR: u64 = 3600;

/// A system with mail on.
pub async fn mailing(variables: &[(&str, &str)]) -> World {
    world_with(&[&MAIL[..], variables].concat()).await
}

/// The same with a user who has proven the address, and the device token of the
/// registration. The outbox and the log of the wire are empty.
async fn proven(variables: &[(&str, &str)]) -> (World, User, String) {
    let world = mailing(variables).await;
    let reply = register(&world, EMAIL).await;
    let alice = reply.user();
    let token = token(&world, EMAIL).await;
    world.confirm(&alice, &token).await.expect(StatusCode::OK);
    world.deliver().await;
    world.wire.take();
    (world, alice, reply.text("device_token"))
}

async fn register(world: &World, email: &str) -> Reply {
    let reply = world.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD })).await;
    reply.expect(StatusCode::CREATED)
}

/// The token of the latest mail to an address, which must have a link.
pub async fn token(world: &World, to: &str) -> String {
    let mail = world.inbox(to).await.into_iter().next().expect("there is a mail");
    token_of(&mail).unwrap_or_else(|| panic!("a link in {}", mail.text))
}

fn token_of(mail: &Mail) -> Option<String> {
    let word = mail.text.split_whitespace().find(|word| word.contains("#token="))?;
    let (page, token) = word.split_once("#token=")?;
    assert!([RESET_URL, CONFIRM_URL].contains(&page), "{page}");
    Some(token.to_owned())
}

impl World {
    async fn deliver(&self) {
        self.system.deliver_mail().await.expect("mail is on");
    }

    /// Sends what is in the outbox, and returns the mails to an address, the latest first.
    async fn inbox(&self, to: &str) -> Vec<Mail> {
        self.deliver().await;
        self.system.mailbox().mails().into_iter().filter(|mail| mail.to == to).collect()
    }

    /// The subjects of the mails to an address, the latest first.
    async fn subjects(&self, to: &str) -> Vec<String> {
        self.inbox(to).await.into_iter().map(|mail| mail.subject).collect()
    }

    fn forgot(&self, email: &str) -> Sending<'_> {
        self.post("/api/v1/auth/password/forgot", json!({ "email": email }))
    }

    fn reset(&self, token: &str, password: &str) -> Sending<'_> {
        self.post("/api/v1/auth/password/reset", json!({ "token": token, "new_password": password }))
    }

    /// The token of a link that resets the password of an address.
    async fn reset_link(&self, email: &str) -> String {
        // Mails of one pass are sent side by side, so the latest is not always the last.
        self.deliver().await;
        self.forgot(email).await.expect(StatusCode::ACCEPTED);
        token(self, email).await
    }

    fn confirm(&self, user: &User, token: &str) -> Sending<'_> {
        self.post("/api/v1/users/me/email/confirm", json!({ "token": token })).bearer(&user.access_token)
    }

    fn change(&self, user: &User, email: &str, password: &str) -> Sending<'_> {
        let body = json!({ "email": email, "password": password });
        self.request(Method::PUT, "/api/v1/users/me/email").json(body).bearer(&user.access_token)
    }

    /// The token of a link that moves an account to another address.
    async fn change_link(&self, user: &User, email: &str) -> String {
        self.change(user, email, PASSWORD).await.expect(StatusCode::ACCEPTED);
        token(self, email).await
    }

    fn verification(&self, user: &User) -> Sending<'_> {
        self.request(Method::POST, "/api/v1/users/me/email/verification").bearer(&user.access_token)
    }

    async fn me(&self, user: &User) -> Value {
        self.get("/api/v1/users/me").bearer(&user.access_token).await.expect(StatusCode::OK).json()
    }

    async fn end_all(&self, user: &User) {
        let end = self.request(Method::DELETE, "/api/v1/auth/sessions").bearer(&user.access_token);
        end.await.expect(StatusCode::NO_CONTENT);
    }

    async fn change_password(&self, user: &User, current: &str, new: &str) {
        let body = json!({ "current_password": current, "new_password": new });
        let change = self.request(Method::PUT, "/api/v1/users/me/password").json(body).bearer(&user.access_token);
        change.await.expect(StatusCode::NO_CONTENT);
    }

    async fn login_as(&self, email: &str, password: &str) -> Reply {
        self.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await
    }

    async fn disable(&self, user: &User) {
        self.app("account").disable_user(freshkey::id::UserId::parse(&user.id).unwrap()).await.unwrap();
    }
}

fn expect_invalid(reply: Reply) {
    assert_eq!(reply.expect(StatusCode::BAD_REQUEST).error(), "invalid_link");
}

#[tokio::test]
async fn ml11_a_reset_sets_the_password_ends_every_session_signs_nobody_in_and_tells_the_owner() {
    let (world, alice, _) = proven(&[]).await;
    let laptop = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    let link = world.reset_link(EMAIL).await;
    let reply = world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    assert!(reply.text.is_empty() && !reply.headers.contains_key("set-cookie"));
    for session in [&alice, &laptop] {
        assert!(!world.is_alive(&session.refresh_token).await);
    }
    world.login(PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    world.login(NEW_PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example password was reset");
}

#[tokio::test]
async fn ml11_the_profile_of_a_verified_user_outlives_a_reset() {
    let (world, alice, _) = proven(&[]).await;
    let name = world.request(Method::PATCH, "/api/v1/users/me").json(json!({ "first_name": "Alice" }));
    name.bearer(&alice.access_token).await.expect(StatusCode::OK);
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    let again = world.login(NEW_PASSWORD).await.user();
    assert_eq!(world.me(&again).await["first_name"], "Alice");
}

#[tokio::test]
async fn a_reset_forgets_the_wrong_guesses_at_the_account() {
    let (world, ..) = proven(&[("LIMIT_FREE_GUESSES", "1"), ("LIMIT_GUESSES", "2")]).await;
    world.login("wrong").await.expect(StatusCode::UNAUTHORIZED);
    world.login(PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    world.login(NEW_PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn ml1_asking_for_a_reset_is_answered_alike_whatever_there_is_at_the_address() {
    let (world, _, _) = proven(&[]).await;
    let bob = world.register(BOB).await;
    world.disable(&bob).await;
    let mut answers = Vec::new();
    for email in [EMAIL, BOB, "nobody@example.com", "Alice@Example.COM"] {
        world.wire.take();
        let mut reply = world.forgot(email).await.expect(StatusCode::ACCEPTED);
        assert_eq!(reply.text, "{}");
        reply.headers.remove("x-request-id");
        let log = world.wire.take();
        let operations: Vec<_> = log.operations().into_iter().map(str::to_owned).collect();
        let shapes: Vec<_> = log.calls.iter().map(|call| shape(&call.body)).collect();
        answers.push((reply.headers, operations, shapes));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].1, ["PutItem", "UpdateItem"]);
}

/// A call without its values.
fn shape(body: &Value) -> Value {
    match body {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(values) => values.iter().map(shape).collect(),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn ml1_only_an_active_user_gets_a_mail() {
    let (world, _, _) = proven(&[]).await;
    let bob = world.register(BOB).await;
    world.disable(&bob).await;
    world.deliver().await;
    let before = world.system.mailbox().mails().len();
    for email in [BOB, "nobody@example.com"] {
        world.forgot(email).await.expect(StatusCode::ACCEPTED);
    }
    world.deliver().await;
    assert_eq!(world.system.mailbox().mails().len(), before);
    world.forgot(EMAIL).await.expect(StatusCode::ACCEPTED);
    assert_eq!(world.subjects(EMAIL).await[0], "Reset your Example password");
}

#[tokio::test]
async fn ml3_links_come_from_the_settings_whatever_the_request_says() {
    let world = mailing(&[]).await;
    world.register(EMAIL).await;
    world.deliver().await;
    let forgot = world.forgot(EMAIL).header("host", "evil.example").header("origin", "https://evil.example");
    let forgot = forgot.header("x-forwarded-host", "evil.example").header("referer", "https://evil.example/");
    forgot.await.expect(StatusCode::ACCEPTED);
    let mail = world.inbox(EMAIL).await.remove(0);
    assert!(mail.text.contains(&format!("{RESET_URL}#token=")), "{}", mail.text);
    assert!(!mail.text.contains("evil") && !mail.html.contains("evil"));
}

#[tokio::test]
async fn ml4_a_login_works_beside_any_number_of_links_and_no_row_is_a_link() {
    let (world, ..) = proven(&[]).await;
    for _ in 0..3 {
        world.forgot(EMAIL).await.expect(StatusCode::ACCEPTED);
        world.deliver().await;
    }
    world.wire.take();
    world.login(PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(world.wire.take().round_trips, 3);
    for (pk, _) in Row::keys(&world).await {
        if let Some(hash) = pk.strip_prefix("PROOF#") {
            expect_invalid(world.reset(hash, NEW_PASSWORD).await);
        }
    }
}

#[tokio::test]
async fn ml5_reading_a_link_changes_nothing() {
    let (world, alice, _) = proven(&[]).await;
    let reset = world.reset_link(EMAIL).await;
    let change = world.change_link(&alice, NEW_EMAIL).await;
    let rows = Row::keys(&world).await;
    for (path, token) in [("/api/v1/auth/password/reset", &reset), ("/api/v1/users/me/email/confirm", &change)] {
        for method in [Method::GET, Method::HEAD] {
            for path in [path.to_owned(), format!("{path}?token={token}")] {
                let read = world.request(method.clone(), &path).bearer(&alice.access_token).await;
                assert_eq!(read.status, StatusCode::NOT_FOUND);
            }
        }
    }
    assert_eq!(Row::keys(&world).await, rows);
    world.confirm(&alice, &change).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn ml6_of_many_resets_at_once_one_succeeds() {
    let (world, ..) = proven(&[]).await;
    let (first, second) = (world.reset_link(EMAIL).await, world.reset_link(EMAIL).await);
    let resets = (0..64).map(|at| {
        let link = if at % 2 == 0 { &first } else { &second };
        let password = format!("{NEW_PASSWORD} {at}");
        let world = &world;
        async move {
            // A function that has too much to hash answers 503, and its client tries again.
            loop {
                let reset = world.reset(link, &password).header("idempotency-key", &at.to_string());
                match reset.await {
                    reply if reply.status == StatusCode::SERVICE_UNAVAILABLE => {}
                    reply => break (reply, password),
                }
            }
        }
    });
    let replies = join_all(resets).await;
    let (done, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|(reply, _)| reply.status.is_success());
    assert_eq!(done.len(), 1);
    refused.into_iter().for_each(|(reply, _)| expect_invalid(reply));
    world.login(&done[0].1).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn ml7_a_password_that_is_refused_leaves_the_link_good() {
    let (world, ..) = proven(&[]).await;
    let link = world.reset_link(EMAIL).await;
    for weak in ["short", "password1", EMAIL] {
        let reply = world.reset(&link, weak).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(reply.faults()[0].starts_with("new_password: "), "{}", reply.text);
    }
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn ml8_a_reset_a_password_change_and_a_move_void_every_link() {
    for act in ["reset", "password", "move"] {
        let (world, alice, _) = proven(&[]).await;
        let (reset, other) = (world.reset_link(EMAIL).await, world.reset_link(EMAIL).await);
        let change = world.change_link(&alice, NEW_EMAIL).await;
        world.pass(60);
        let second = world.change_link(&alice, "alice@other.example.com").await;
        match act {
            "reset" => drop(world.reset(&other, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT)),
            "password" => world.change_password(&alice, PASSWORD, NEW_PASSWORD).await,
            _ => drop(world.confirm(&alice, &second).await.expect(StatusCode::OK)),
        }
        expect_invalid(world.reset(&reset, "a still lake below four hills").await);
        expect_invalid(world.confirm(&alice, &change).await);
    }
}

#[tokio::test]
async fn ml8_logging_out_everywhere_voids_the_links_to_addresses_and_never_a_reset() {
    let (world, alice, _) = proven(&[]).await;
    let (reset, change) = (world.reset_link(EMAIL).await, world.change_link(&alice, NEW_EMAIL).await);
    // A thief with an access token logs out everywhere in a loop.
    for _ in 0..5 {
        world.end_all(&alice).await;
    }
    expect_invalid(world.confirm(&alice, &change).await);
    world.reset(&reset, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_link_is_good_for_an_hour_or_for_a_day() {
    let (world, alice, _) = proven(&[]).await;
    let reset = world.reset_link(EMAIL).await;
    let change = world.change_link(&alice, NEW_EMAIL).await;
    world.pass(HOUR);
    expect_invalid(world.reset(&reset, NEW_PASSWORD).await);
    world.pass(22 * HOUR + 1800);
    let alice = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    world.pass(1800);
    expect_invalid(world.confirm(&alice, &change).await);
}

#[tokio::test]
async fn ml9_a_link_serves_its_own_purpose_its_own_user_and_its_own_address() {
    let (world, alice, _) = proven(&[]).await;
    let bob = world.register(BOB).await;
    let verify = token(&world, BOB).await;
    let (reset, change) = (world.reset_link(EMAIL).await, world.change_link(&alice, NEW_EMAIL).await);
    expect_invalid(world.confirm(&alice, &reset).await);
    for link in [&change, &verify] {
        expect_invalid(world.reset(link, NEW_PASSWORD).await);
    }
    expect_invalid(world.confirm(&bob, &change).await);
    expect_invalid(world.confirm(&alice, &verify).await);
    // Each is still good where it belongs. A move voids what was mailed to the old address.
    world.confirm(&bob, &verify).await.expect(StatusCode::OK);
    world.confirm(&alice, &change).await.expect(StatusCode::OK);
    expect_invalid(world.reset(&reset, NEW_PASSWORD).await);
}

#[tokio::test]
async fn ml9_a_request_that_was_overtaken_by_a_change_brings_no_link() {
    let (world, alice, _) = proven(&[]).await;
    let before = world.inbox(EMAIL).await.len();
    world.forgot(EMAIL).await.expect(StatusCode::ACCEPTED);
    world.pass(5);
    world.change_password(&alice, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example password was changed");
    assert_eq!(world.inbox(EMAIL).await.len(), before + 1);

    world.change(&alice, NEW_EMAIL, NEW_PASSWORD).await.expect(StatusCode::ACCEPTED);
    world.end_all(&alice).await;
    assert!(world.inbox(NEW_EMAIL).await.is_empty());
}

#[tokio::test]
async fn ml10_nothing_of_somebody_who_registered_a_strangers_address_outlives_the_strangers_reset() {
    let world = mailing(&[]).await;
    let reply = register(&world, EMAIL).await;
    let (mallory, device) = (reply.user(), reply.text("device_token"));
    let name = world.request(Method::PATCH, "/api/v1/users/me").json(json!({ "first_name": "M", "phone": "+1 555" }));
    name.bearer(&mallory.access_token).await.expect(StatusCode::OK);
    let verify = token(&world, EMAIL).await;
    let change = world.change_link(&mallory, "mallory@evil.example").await;
    // The owner of the address is told nothing of an account that is not theirs.
    assert_eq!(world.subjects(EMAIL).await, ["Confirm your e-mail address for Example"]);
    // Alice clicks on the verification. She is not signed in as Mallory.
    let alice = world.register(BOB).await;
    expect_invalid(world.confirm(&alice, &verify).await);
    assert_eq!(world.me(&mallory).await["email_verified"], false);

    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    assert!(!world.is_alive(&mallory.refresh_token).await);
    expect_invalid(world.confirm(&mallory, &change).await);
    expect_invalid(world.confirm(&mallory, &verify).await);
    let owner = world.login(NEW_PASSWORD).await.user();
    let me = world.me(&owner).await;
    assert_eq!((&me["first_name"], &me["phone"], &me["email_verified"]), (&Value::Null, &Value::Null, &json!(true)));
    // The device token counts as none: a right login gets a new one.
    let reply = on_device(&world, &device, NEW_PASSWORD).await.expect(StatusCode::OK);
    assert_ne!(reply.json()["device_token"], Value::Null);
}

#[tokio::test]
async fn ml10_a_login_in_flight_during_a_reset_brings_no_device_that_is_known() {
    let (world, ..) = proven(&[]).await;
    let link = world.reset_link(EMAIL).await;
    // The login has read the credential when the reset comes, within the same second.
    let racing = {
        let app = world.app("login");
        let email = Email::parse(EMAIL).unwrap();
        app.store().credential(&email).await.unwrap().unwrap().password_changed_at
    };
    world.clock.advance(Duration::from_millis(200));
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    let after = {
        let email = Email::parse(EMAIL).unwrap();
        world.app("login").store().credential(&email).await.unwrap().unwrap()
    };
    assert!(after.devices_since > racing && after.devices_since == after.password_changed_at);
}

#[tokio::test]
async fn ml15_a_change_of_the_address_asks_for_the_password_and_tells_both_addresses() {
    let (world, alice, _) = proven(&[("LIMIT_FREE_GUESSES", "3"), ("LIMIT_GUESSES", "3")]).await;
    let reply = world.change(&alice, NEW_EMAIL, "wrong").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["password: password_wrong"]);
    world.change(&alice, NEW_EMAIL, PASSWORD).await.expect(StatusCode::ACCEPTED);
    assert_eq!(world.subjects(NEW_EMAIL).await, ["Confirm your new e-mail address for Example"]);
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example account is about to move to another e-mail address");
    for _ in 0..3 {
        world.change(&alice, NEW_EMAIL, "wrong").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
    world.change(&alice, NEW_EMAIL, PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
    world.login(PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn ml15_an_address_that_is_taken_is_answered_like_a_free_one_and_its_owner_is_told_without_a_link() {
    let mut answers = Vec::new();
    for email in [BOB, NEW_EMAIL] {
        let (world, alice, _) = proven(&[]).await;
        world.register(BOB).await;
        world.deliver().await;
        world.wire.take();
        let reply = world.change(&alice, email, PASSWORD).await.expect(StatusCode::ACCEPTED);
        let log = world.wire.take();
        let operations: Vec<_> = log.operations().into_iter().map(str::to_owned).collect();
        answers.push((reply.text, operations));
        let told = &world.inbox(email).await[0];
        let is_taken = told.subject == "Somebody tried to use your e-mail address for Example";
        assert_eq!((is_taken, token_of(told).is_none()), (email == BOB, email == BOB), "{}", told.text);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, "{}");
}

#[tokio::test]
async fn a_move_takes_the_account_to_the_new_address_and_keeps_the_calling_session_alone() {
    let (world, alice, device) = proven(&[]).await;
    let laptop = world.login(PASSWORD).await.user();
    let link = world.change_link(&alice, NEW_EMAIL).await;
    let reply = world.confirm(&alice, &link).await.expect(StatusCode::OK);
    let me = reply.json();
    assert_eq!((&me["email"], &me["email_verified"]), (&json!(NEW_EMAIL), &json!(true)));
    assert!(world.is_alive(&alice.refresh_token).await && !world.is_alive(&laptop.refresh_token).await);
    world.login_as(EMAIL, PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    let login = |device: String| {
        let body = json!({ "email": NEW_EMAIL, "password": PASSWORD });
        world.post("/api/v1/auth/login", body).header("x-device-token", &device)
    };
    // The new device token is known; the earlier one counts as none.
    let known = login(reply.text("device_token")).await.expect(StatusCode::OK);
    assert_eq!(known.json()["device_token"], Value::Null);
    assert_ne!(login(device).await.expect(StatusCode::OK).json()["device_token"], Value::Null);
    let moved = world.app("login").store().credential(&Email::parse(NEW_EMAIL).unwrap()).await.unwrap().unwrap();
    assert_eq!(moved.devices_since, moved.password_changed_at);
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example account has moved to another e-mail address");
    // The old address is free again.
    world.register(EMAIL).await;
}

#[tokio::test]
async fn a_move_to_an_address_that_was_taken_meanwhile_is_refused_and_changes_nothing() {
    let (world, alice, _) = proven(&[]).await;
    let link = world.change_link(&alice, NEW_EMAIL).await;
    world.register(NEW_EMAIL).await;
    let reply = world.confirm(&alice, &link).await.expect(StatusCode::CONFLICT);
    assert_eq!(reply.error(), "email_taken");
    assert_eq!(world.me(&alice).await["email"], EMAIL);
    assert!(world.is_alive(&alice.refresh_token).await);
}

#[tokio::test]
async fn an_address_that_cannot_be_mailed_to_is_refused_with_mail_on() {
    let (world, alice, _) = proven(&[]).await;
    let address = "j\u{f6}rg@example.com";
    let body = json!({ "email": address, "password": PASSWORD });
    let reply = world.post("/api/v1/auth/register", body.clone()).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["email: email_invalid"]);
    for (email, fault) in [
        (address, "email: email_invalid"),
        ("nonsense", "email: email_invalid"),
        ("Alice@EXAMPLE.com", "email: email_unchanged"),
    ] {
        let reply = world.change(&alice, email, PASSWORD).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.faults(), [fault]);
    }
    let reply = world.forgot("nonsense").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.faults(), ["email: email_invalid"]);
    let without = world_with(&[]).await;
    without.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn ml17_the_same_attempt_gets_the_same_answer_and_another_one_does_not() {
    let (world, _, _) = proven(&[]).await;
    let reset = world.reset_link(EMAIL).await;
    let attempt = |key: &str, password| world.reset(&reset, password).header("idempotency-key", key);
    attempt("1", NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    attempt("1", NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    expect_invalid(attempt("2", NEW_PASSWORD).await);
    expect_invalid(attempt("1", PASSWORD).await);
    expect_invalid(world.reset(&reset, NEW_PASSWORD).await);
    world.login(NEW_PASSWORD).await.expect(StatusCode::OK);
    world.pass(HOUR);
    expect_invalid(attempt("1", NEW_PASSWORD).await);

    let alice = User { ..world.login(NEW_PASSWORD).await.user() };
    world.change(&alice, NEW_EMAIL, NEW_PASSWORD).await.expect(StatusCode::ACCEPTED);
    let change = token(&world, NEW_EMAIL).await;
    let first = world.confirm(&alice, &change).header("idempotency-key", "1").await.expect(StatusCode::OK).json();
    let again = world.confirm(&alice, &change).header("idempotency-key", "1").await.expect(StatusCode::OK).json();
    assert_eq!(first["email"], again["email"]);
    assert_eq!(claims(again["device_token"].as_str().unwrap())["sub"], alice.id);
    expect_invalid(world.confirm(&alice, &change).header("idempotency-key", "2").await);
}

#[tokio::test]
async fn ml17_an_answer_that_was_lost_is_given_again() {
    for operation in ["TransactWriteItems", "DeleteItem"] {
        let (world, ..) = proven(&[]).await;
        let reset = world.reset_link(EMAIL).await;
        let attempt = || world.reset(&reset, NEW_PASSWORD).header("idempotency-key", "1");
        world.wire.fault(operation, usize::MAX, Fate::AnswerLost);
        let lost = attempt().await;
        world.wire.heal();
        assert!([StatusCode::SERVICE_UNAVAILABLE, StatusCode::NO_CONTENT].contains(&lost.status), "{}", lost.text);
        attempt().await.expect(StatusCode::NO_CONTENT);
        world.login(NEW_PASSWORD).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn ml19_requests_and_links_are_counted_for_the_address_of_the_client() {
    let (world, alice, _) = proven(&[("LIMIT_MAIL_REQUESTS_PER_ADDRESS", "3"), ("LIMIT_LINKS_PER_ADDRESS", "3")]).await;
    for _ in 0..3 {
        world.forgot(EMAIL).await.expect(StatusCode::ACCEPTED);
        expect_invalid(world.reset("x", NEW_PASSWORD).from("192.0.2.1").await);
    }
    let reply = world.forgot(BOB).await.expect(StatusCode::TOO_MANY_REQUESTS);
    assert!(reply.headers.contains_key("retry-after"));
    world.reset("x", NEW_PASSWORD).from("192.0.2.1").await.expect(StatusCode::TOO_MANY_REQUESTS);
    world.confirm(&alice, "x").from("192.0.2.1").await.expect(StatusCode::TOO_MANY_REQUESTS);
    world.forgot(BOB).from("192.0.2.2").await.expect(StatusCode::ACCEPTED);
    world.pass(HOUR);
    world.forgot(BOB).await.expect(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn ml19_a_user_asks_for_one_mail_a_minute_and_ten_a_day() {
    let world = mailing(&[]).await;
    let alice = world.register(EMAIL).await;
    for _ in 0..10 {
        world.verification(&alice).await.expect(StatusCode::ACCEPTED);
        let reply = world.change(&alice, NEW_EMAIL, PASSWORD).await.expect(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.headers["retry-after"], "60");
        world.pass(60);
    }
    world.verification(&alice).await.expect(StatusCode::TOO_MANY_REQUESTS);
    world.pass(24 * HOUR);
    let alice = world.login(PASSWORD).await.user();
    world.verification(&alice).await.expect(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn registration_sends_a_link_that_proves_the_address_and_the_next_token_says_so() {
    let world = mailing(&[]).await;
    let alice = world.register(EMAIL).await;
    assert_eq!(claims(&alice.access_token)["email_verified"], false);
    assert_eq!(world.me(&alice).await["email_verified"], false);
    let link = token(&world, EMAIL).await;
    let confirmed = world.confirm(&alice, &link).await.expect(StatusCode::OK).json();
    assert_eq!((&confirmed["email_verified"], confirmed.get("device_token")), (&json!(true), None));
    let refreshed = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(claims(&refreshed.text("access_token"))["email_verified"], true);
    // A proven address needs no further mail.
    let before = world.inbox(EMAIL).await.len();
    world.verification(&alice).await.expect(StatusCode::ACCEPTED);
    assert_eq!(world.inbox(EMAIL).await.len(), before);
}

#[tokio::test]
async fn the_owner_is_told_of_every_change_to_a_way_in() {
    let (world, alice, _) = proven(&[]).await;
    world.change_password(&alice, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example password was changed");
    let spent = alice.refresh_token.clone();
    world.refresh(&spent).await.expect(StatusCode::OK);
    world.refresh(&spent).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(world.subjects(EMAIL).await[0], "You were logged out of Example on one device");
    let again = world.login(NEW_PASSWORD).await.user();
    let delete = world.post("/api/v1/users/me/delete", json!({ "password": NEW_PASSWORD }));
    delete.bearer(&again.access_token).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(world.subjects(EMAIL).await[0], "Your Example account was deleted");
}

#[tokio::test]
async fn an_unknown_device_is_told_of_once_an_hour_where_that_is_asked_for() {
    for (notifies, expected) in [("false", 0), ("true", 1)] {
        let (world, _, device) = proven(&[("NOTIFY_NEW_DEVICE", notifies)]).await;
        let before = world.inbox(EMAIL).await.len();
        on_device(&world, &device, PASSWORD).await.expect(StatusCode::OK);
        assert_eq!(world.inbox(EMAIL).await.len(), before);
        for path in ["/api/v1/auth/login", "/api/auth", "/api/v1/auth/login"] {
            let login = world.post(path, json!({ "email": EMAIL, "password": PASSWORD }));
            login.await.expect(StatusCode::OK);
        }
        assert_eq!(world.inbox(EMAIL).await.len(), before + expected);
    }
}

#[tokio::test]
async fn without_mail_there_are_no_such_routes_and_nothing_tells_of_addresses() {
    let world = world().await;
    let alice = world.register(EMAIL).await;
    assert!(claims(&alice.access_token).get("email_verified").is_none());
    assert!(world.me(&alice).await.get("email_verified").is_none());
    world.forgot(EMAIL).await.expect(StatusCode::NOT_FOUND);
    world.confirm(&alice, "x").await.expect(StatusCode::NOT_FOUND);
    assert!(world.system.deliver_mail().await.is_none());
    assert!(Row::keys(&world).await.iter().all(|(pk, _)| !pk.starts_with("MAIL#")));
}

#[tokio::test]
async fn ml10_a_token_of_a_session_that_the_reset_ended_gains_nothing_from_the_proof() {
    use freshkey::auth::Error;
    let world = mailing(&[("REQUIRE_VERIFIED_EMAIL", "true")]).await;
    let mallory = world.register(EMAIL).await;
    let app = world.app("account");
    let admitted = app.admit(Some(&mallory.access_token), None, Default::default()).await.unwrap().identity;
    assert_eq!(app.check_verified(&admitted).await, Err(Error::EmailUnverified));
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(app.check_verified(&admitted).await, Err(Error::EmailUnverified));
}

#[tokio::test]
async fn ml19_no_other_mail_uses_up_the_reset_of_an_owner() {
    let (world, ..) = proven(&[]).await;
    for at in 0..5 {
        let mallory = world.register(&format!("mallory{at}@example.com")).await;
        world.change(&mallory, EMAIL, PASSWORD).await.expect(StatusCode::ACCEPTED);
    }
    let told = world.subjects(EMAIL).await;
    let tried = told.iter().filter(|subject| subject.starts_with("Somebody tried")).count();
    assert_eq!(tried, 2, "the verification was the first of three: {told:?}");
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn ml8_a_thief_who_changes_the_password_in_a_loop_keeps_nobody_from_a_reset() {
    let (world, alice, _) = proven(&[]).await;
    let passwords = [PASSWORD, NEW_PASSWORD];
    for at in 0..10 {
        world.change_password(&alice, passwords[at % 2], passwords[(at + 1) % 2]).await;
    }
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let change = world.request(Method::PUT, "/api/v1/users/me/password").json(body).bearer(&alice.access_token);
    change.await.expect(StatusCode::TOO_MANY_REQUESTS);
    world.pass(15);
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, "a still lake below four hills").await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_reset_leaves_the_profile_of_a_user_who_was_never_asked_to_prove_the_address() {
    let before = world().await;
    let alice = before.register(EMAIL).await;
    let name = before.request(Method::PATCH, "/api/v1/users/me").json(json!({ "first_name": "Alice" }));
    name.bearer(&alice.access_token).await.expect(StatusCode::OK);
    let world = before.beside(&MAIL).await;
    let link = world.reset_link(EMAIL).await;
    world.reset(&link, NEW_PASSWORD).await.expect(StatusCode::NO_CONTENT);
    let again = world.login(NEW_PASSWORD).await.user();
    let me = world.me(&again).await;
    assert_eq!((&me["first_name"], &me["email_verified"]), (&json!("Alice"), &json!(true)));
}

#[tokio::test]
async fn ml12_a_change_and_its_notice_are_one_write() {
    for fate in [Fate::Lost, Fate::Cancelled, Fate::Refused(500, "InternalServerError")] {
        let (world, alice, _) = proven(&[]).await;
        let reset = world.reset_link(EMAIL).await;
        let before = world.inbox(EMAIL).await.len();
        world.wire.fault("TransactWriteItems", usize::MAX, fate.clone());
        world.reset(&reset, NEW_PASSWORD).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        let change = world.request(Method::PUT, "/api/v1/users/me/password").json(body).bearer(&alice.access_token);
        change.await.expect(StatusCode::SERVICE_UNAVAILABLE);
        world.wire.heal();
        assert_eq!(world.inbox(EMAIL).await.len(), before, "{fate:?}");
        world.login(PASSWORD).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn ml12_a_reuse_ends_the_session_even_where_its_notice_cannot_be_written() {
    let (world, alice, _) = proven(&[]).await;
    let next = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    world.wire.fault("PutItem", usize::MAX, Fate::Lost);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    world.wire.heal();
    assert!(!world.is_alive(&next).await);
}

#[tokio::test]
async fn mail_adds_no_round_trip_to_what_there_was() {
    let (world, alice, _) = proven(&[("NOTIFY_NEW_DEVICE", "true")]).await;
    let cost = || {
        let log = world.wire.take();
        (log.calls.len(), log.round_trips)
    };
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    assert_eq!(cost(), (2, 1));
    world.me(&alice).await;
    assert_eq!(cost(), (1, 1));
    world.login(PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(cost().1, 3);
    world.register(BOB).await;
    assert_eq!(cost(), (2, 2));
}

#[tokio::test]
async fn an_unproven_address_is_refused_where_that_is_required_until_it_is_proven() {
    use freshkey::layer::Authenticate;
    use lambda_http::tower::{Layer, ServiceExt};
    use lambda_http::{Body, Request, Response, service_fn};

    let world = mailing(&[("REQUIRE_VERIFIED_EMAIL", "true")]).await;
    let alice = world.register(EMAIL).await;
    let call = async |token: &str| {
        let greet = service_fn(|_: Request| async { Ok::<_, lambda_http::Error>(Response::new(Body::Empty)) });
        let mut request = Request::new(Body::Empty);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Authenticate::new(world.app("account").clone()).layer(greet).oneshot(request).await.unwrap()
    };
    assert!(!is_let_in(&world, &alice.access_token).await);
    let refused = call(&alice.access_token).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let Body::Text(problem) = refused.body() else { panic!("{refused:?}") };
    assert!(problem.contains("email_unverified"), "{problem}");
    // The account's own routes are open, or nobody could prove an address.
    let link = token(&world, EMAIL).await;
    world.confirm(&alice, &link).await.expect(StatusCode::OK);
    // The confirmation counts at once, with the same token, for two reads; a new token costs none.
    world.wire.take();
    assert_eq!(call(&alice.access_token).await.status(), StatusCode::OK);
    let log = world.wire.take();
    assert_eq!((log.operations(), log.round_trips), (vec!["GetItem", "GetItem"], 1));
    assert!(is_let_in(&world, &alice.access_token).await);
    let fresh = world.refresh(&alice.refresh_token).await.text("access_token");
    world.wire.take();
    assert_eq!(call(&fresh).await.status(), StatusCode::OK);
    assert!(world.wire.take().calls.is_empty());
}
