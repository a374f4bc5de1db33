//! DynamoDB throttles, fails, reports conflicts and goes silent, and no client
//! loses its tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freshkey::client::Client;
use freshkey::config::DEADLINE;
use freshkey::id::{SessionId, UserId};
use freshkey::session::{Attempt, Hash, Secret, Session};
use freshkey::store::Store;
use freshkey::token::{KeyRing, RefreshToken};
use freshkey::user::UserState;
use freshkey::write::Write;
use http::{Method, StatusCode};
use lambda_runtime::Context;
use local::TEMPLATE;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::mail;
use crate::wire::{Fate, Late};
use crate::world::{EMAIL, HASTY, PASSWORD, Reply, User, World, claims, signed_up, signed_up_with, world};

const NEW_PASSWORD: &str = "a loud brook over eight stones";
const SECRET: &str = "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ";
const HOUR: u64 = 3600;
pub const MAX_SESSIONS: usize = 3;
/// More successes than a request that fails for good takes from the SDK's quota
/// of retries, which all clients of a process share.
const SUCCESSES: usize = 30;

/// A request, and its calls to DynamoDB.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub what: What,
    /// The calls that its answer depends on, in order.
    pub calls: &'static [&'static str],
    /// The status of its answer when it succeeds.
    pub success: StatusCode,
    /// The status of its answer if it was carried out before, but not answered.
    pub again: StatusCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Register,
    Login,
    LoginAtTheCap,
    Refresh,
    LexikRefresh,
    Logout,
    Me,
    RenewedMe,
    Rename,
    Sessions,
    EndOne,
    EndAll,
    EndOthers,
    ChangePassword,
    Delete,
    Forgot,
    Reset,
    Verification,
    ChangeEmail,
    ConfirmVerification,
    ConfirmChange,
}

const fn route(what: What, calls: &'static [&'static str], success: StatusCode, again: StatusCode) -> Route {
    Route { what, calls, success, again }
}

pub const ROUTES: [Route; 21] = [
    route(What::Register, &["TransactWriteItems"], StatusCode::CREATED, StatusCode::CONFLICT),
    route(What::Login, &["GetItem", "Query", "PutItem"], StatusCode::OK, StatusCode::OK),
    route(What::LoginAtTheCap, &["GetItem", "Query", "TransactWriteItems"], StatusCode::OK, StatusCode::OK),
    route(What::Refresh, &["GetItem", "UpdateItem"], StatusCode::OK, StatusCode::OK),
    route(What::LexikRefresh, &["GetItem", "UpdateItem"], StatusCode::OK, StatusCode::OK),
    route(What::Logout, &["DeleteItem"], StatusCode::NO_CONTENT, StatusCode::NO_CONTENT),
    route(What::Me, &["GetItem"], StatusCode::OK, StatusCode::OK),
    route(What::RenewedMe, &["GetItem", "UpdateItem"], StatusCode::OK, StatusCode::OK),
    route(What::Rename, &["UpdateItem"], StatusCode::OK, StatusCode::OK),
    route(What::Sessions, &["Query"], StatusCode::OK, StatusCode::OK),
    route(What::EndOne, &["Query", "DeleteItem"], StatusCode::NO_CONTENT, StatusCode::NOT_FOUND),
    route(What::EndAll, &["GetItem", "TransactWriteItems"], StatusCode::NO_CONTENT, StatusCode::NO_CONTENT),
    route(What::EndOthers, &["GetItem", "TransactWriteItems"], StatusCode::NO_CONTENT, StatusCode::NO_CONTENT),
    route(
        What::ChangePassword,
        &["GetItem", "GetItem", "TransactWriteItems"],
        StatusCode::NO_CONTENT,
        StatusCode::UNPROCESSABLE_ENTITY,
    ),
    route(
        What::Delete,
        &["GetItem", "GetItem", "TransactWriteItems"],
        StatusCode::NO_CONTENT,
        StatusCode::UNAUTHORIZED,
    ),
    route(What::Forgot, &["PutItem"], StatusCode::ACCEPTED, StatusCode::ACCEPTED),
    route(
        What::Reset,
        &["GetItem", "GetItem", "GetItem", "TransactWriteItems"],
        StatusCode::NO_CONTENT,
        StatusCode::NO_CONTENT,
    ),
    // Once the mail is counted, the next one has to wait for a minute.
    route(What::Verification, &["GetItem"], StatusCode::ACCEPTED, StatusCode::ACCEPTED),
    route(What::ChangeEmail, &["GetItem", "GetItem"], StatusCode::ACCEPTED, StatusCode::ACCEPTED),
    route(What::ConfirmVerification, &["GetItem", "GetItem", "TransactWriteItems"], StatusCode::OK, StatusCode::OK),
    route(
        What::ConfirmChange,
        &["GetItem", "GetItem", "GetItem", "TransactWriteItems"],
        StatusCode::OK,
        StatusCode::OK,
    ),
];

/// A user with a session on a phone and, where a route needs one, on a laptop.
pub struct Alice {
    email: String,
    pub phone: User,
    laptop: Option<User>,
    /// The token of the latest mail.
    link: Option<String>,
}

impl Alice {
    pub async fn of(world: &World, what: What) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let email = format!("alice{}@example.com", COUNT.fetch_add(1, Ordering::Relaxed));
        let phone = world.register(&email).await;
        let mut laptop = None;
        let logins = match what {
            What::LoginAtTheCap => MAX_SESSIONS - 1,
            What::EndOne => 1,
            _ => 0,
        };
        for _ in 0..logins {
            laptop = Some(login(world, &email, PASSWORD).await.expect(StatusCode::OK).user());
        }
        if what == What::RenewedMe {
            world.pass(HOUR);
        }
        // The link that the registration sent is not the latest one.
        if matches!(what, What::Reset | What::ConfirmChange) {
            world.system.deliver_mail().await;
        }
        match what {
            What::Reset => {
                let forgot = world.post("/api/v1/auth/password/forgot", json!({ "email": email }));
                forgot.await.expect(StatusCode::ACCEPTED);
            }
            What::ConfirmChange => {
                let change = json!({ "email": format!("new-{email}"), "password": PASSWORD });
                let change = world.request(Method::PUT, "/api/v1/users/me/email").json(change);
                change.bearer(&phone.access_token).await.expect(StatusCode::ACCEPTED);
            }
            _ => {}
        }
        let link = match what {
            What::Reset | What::ConfirmVerification => Some(mail::token(world, &email).await),
            What::ConfirmChange => Some(mail::token(world, &format!("new-{email}")).await),
            _ => None,
        };
        Self { email, phone, laptop, link }
    }

    pub async fn send(&self, world: &World, what: What) -> Reply {
        let User { access_token, refresh_token, .. } = &self.phone;
        let refresh = json!({ "refresh_token": refresh_token });
        let signed_in = |method, path: &str| world.request(method, path).bearer(access_token);
        match what {
            What::Register => {
                let body = json!({ "email": format!("new-{}", self.email), "password": PASSWORD });
                world.post("/api/v1/auth/register", body).await
            }
            What::Login | What::LoginAtTheCap => login(world, &self.email, PASSWORD).await,
            What::Refresh => world.refresh_with_key(refresh_token, "k").await,
            What::LexikRefresh => world.post("/api/token/refresh", refresh).header("idempotency-key", "k").await,
            What::Logout => world.post("/api/v1/auth/logout", refresh).await,
            What::Me => signed_in(Method::GET, "/api/v1/users/me").await,
            What::RenewedMe => {
                signed_in(Method::GET, "/api/v1/users/me").header("x-refresh-token", refresh_token).await
            }
            What::Rename => signed_in(Method::PATCH, "/api/v1/users/me").json(json!({ "first_name": "Alice" })).await,
            What::Sessions => signed_in(Method::GET, "/api/v1/auth/sessions").await,
            What::EndOne => {
                let laptop = self.laptop.as_ref().map(|laptop| claims(&laptop.refresh_token)["sid"].clone());
                let path = format!("/api/v1/auth/sessions/{}", laptop.unwrap().as_str().unwrap());
                signed_in(Method::DELETE, &path).await
            }
            What::EndAll => signed_in(Method::DELETE, "/api/v1/auth/sessions").await,
            What::EndOthers => signed_in(Method::DELETE, "/api/v1/auth/sessions?except=current").await,
            What::ChangePassword => {
                let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
                signed_in(Method::PUT, "/api/v1/users/me/password").json(body).await
            }
            What::Delete => {
                signed_in(Method::POST, "/api/v1/users/me/delete").json(json!({ "password": PASSWORD })).await
            }
            What::Forgot => world.post("/api/v1/auth/password/forgot", json!({ "email": self.email })).await,
            What::Reset => {
                let body = json!({ "token": self.link, "new_password": NEW_PASSWORD });
                world.post("/api/v1/auth/password/reset", body).header("idempotency-key", "k").await
            }
            What::Verification => signed_in(Method::POST, "/api/v1/users/me/email/verification").await,
            What::ChangeEmail => {
                let body = json!({ "email": format!("new-{}", self.email), "password": PASSWORD });
                signed_in(Method::PUT, "/api/v1/users/me/email").json(body).await
            }
            What::ConfirmVerification | What::ConfirmChange => {
                let confirm = signed_in(Method::POST, "/api/v1/users/me/email/confirm");
                confirm.json(json!({ "token": self.link })).header("idempotency-key", "k").await
            }
        }
    }

    /// Checks that `what` has had its effect, and that the phone is otherwise still
    /// signed in.
    pub async fn check(&self, world: &World, what: What, reply: &Reply) {
        let token = &self.phone.refresh_token;
        match what {
            What::Logout | What::EndAll | What::Delete | What::Reset => assert!(!world.is_alive(token).await),
            What::Refresh | What::LexikRefresh => self.check_successor(world, &reply.text("refresh_token")).await,
            What::RenewedMe => {
                let successor = reply.headers["x-new-refresh-token"].to_str().unwrap();
                self.check_successor(world, successor).await;
            }
            // The session with the oldest login was ended.
            What::LoginAtTheCap => assert!(world.is_alive(&reply.text("refresh_token")).await),
            _ => assert!(world.is_alive(token).await),
        }
    }

    /// Checks that the session has rotated once, however often that was requested.
    async fn check_successor(&self, world: &World, successor: &str) {
        assert_eq!(claims(successor)["gen"], 2);
        let session = Row::of(successor).read(world).await.unwrap();
        assert_eq!(session.generation, 2);
        assert!(world.is_alive(successor).await);
    }
}

async fn login(world: &World, email: &str, password: &str) -> Reply {
    world.post("/api/v1/auth/login", json!({ "email": email, "password": password })).await
}

/// The key in the table of a refresh token's session.
#[derive(Clone, Copy)]
struct Row(UserId, SessionId);

impl Row {
    fn of(refresh_token: &str) -> Self {
        let claims = claims(refresh_token);
        let text = |name: &str| claims[name].as_str().unwrap().to_owned();
        Self(UserId::parse(&text("sub")).unwrap(), SessionId::parse(&text("sid")).unwrap())
    }

    async fn read(self, world: &World) -> Option<Session> {
        store(world).session(self.0, self.1).await.unwrap()
    }
}

fn store(world: &World) -> &Store {
    world.app("refresh").store()
}

/// The error of DynamoDB when a call conflicts with a transaction.
fn conflict(operation: &str) -> Option<Fate> {
    match operation {
        "TransactWriteItems" => Some(Fate::Cancelled),
        "GetItem" | "Query" => None,
        _ => Some(Fate::Refused(400, "TransactionConflictException")),
    }
}

/// Injects `fault` into every call of every route: once, and then every time.
async fn every_route_bears(fault: impl Fn(&str) -> Option<Fate>) {
    let world = mail::mailing(&[("MAX_SESSIONS", &MAX_SESSIONS.to_string())]).await;
    for route in ROUTES {
        for (index, operation) in route.calls.iter().enumerate() {
            let Some(fate) = fault(operation) else { continue };
            let spared = route.calls[..index].iter().filter(|earlier| *earlier == operation).count();
            let story = format!("{:?}: {operation} {fate:?}", route.what);

            let alice = Alice::of(&world, route.what).await;
            world.wire.fault_after(spared, operation, 1, fate.clone());
            let reply = alice.send(&world, route.what).await;
            assert_eq!(reply.status, route.success, "once, {story}: {}", reply.text);
            world.wire.heal();
            alice.check(&world, route.what, &reply).await;

            let alice = Alice::of(&world, route.what).await;
            world.wire.fault_after(spared, operation, usize::MAX, fate.clone());
            let reply = alice.send(&world, route.what).await;
            world.wire.heal();
            check_unavailable(&reply, &story);
            let reply = alice.send(&world, route.what).await;
            let is_write = !matches!(*operation, "GetItem" | "Query");
            let was_done = is_write && matches!(fate, Fate::AnswerLost);
            let expected = if was_done { route.again } else { route.success };
            assert_eq!(reply.status, expected, "again, {story}: {}", reply.text);
            alice.check(&world, route.what, &reply).await;
            for _ in 0..SUCCESSES {
                Row::of(&alice.phone.refresh_token).read(&world).await;
            }
        }
    }
}

#[track_caller]
pub fn check_unavailable(reply: &Reply, story: &str) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{story}: {}", reply.text);
    assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0, "{story}");
    match &reply.json() {
        lexik if lexik.get("code").is_some() => assert_eq!(lexik["code"], 503, "{story}"),
        problem => assert_eq!(problem["error"], "temporarily_unavailable", "{story}"),
    }
}

#[tokio::test]
async fn re1_er3_every_route_bears_a_table_out_of_capacity() {
    every_route_bears(|_| Some(Fate::Refused(400, "ProvisionedThroughputExceededException"))).await;
}

#[tokio::test]
async fn re1_er3_every_route_bears_throttling() {
    every_route_bears(|_| Some(Fate::Refused(400, "ThrottlingException"))).await;
}

#[tokio::test]
async fn re1_er3_every_route_bears_an_internal_error() {
    every_route_bears(|_| Some(Fate::Refused(500, "InternalServerError"))).await;
}

#[tokio::test]
async fn re1_er3_every_route_bears_a_conflict_with_a_transaction() {
    every_route_bears(conflict).await;
}

/// Registers while DynamoDB cancels every transaction for these reasons, and returns the
/// status and how many transactions there were.
async fn cancelled(reasons: [&str; 2]) -> (StatusCode, usize) {
    let world = world().await;
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "injected",
        "CancellationReasons": reasons.map(|code| json!({ "Code": code })),
    });
    world.wire.fault("TransactWriteItems", usize::MAX, Fate::Invented(400, body));
    let reply = world.post("/api/v1/auth/register", json!({ "email": EMAIL, "password": PASSWORD })).await;
    let calls = world.wire.take().calls;
    (reply.status, calls.iter().filter(|call| call.operation == "TransactWriteItems").count())
}

#[tokio::test]
async fn a_transaction_whose_condition_fails_is_not_tried_again() {
    for other in ["None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
        assert_eq!(cancelled([other, "ConditionalCheckFailed"]).await, (StatusCode::CONFLICT, 1), "{other}");
    }
}

#[tokio::test]
async fn re1_a_transaction_that_conflicts_or_is_throttled_is_tried_again() {
    for reason in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
        assert_eq!(cancelled(["None", reason]).await, (StatusCode::SERVICE_UNAVAILABLE, 3), "{reason}");
    }
    assert_eq!(cancelled(["None", "ItemCollectionSizeLimitExceeded"]).await, (StatusCode::SERVICE_UNAVAILABLE, 1));
}

#[tokio::test]
async fn re1_er3_every_route_bears_lost_requests() {
    every_route_bears(|_| Some(Fate::Lost)).await;
}

#[tokio::test]
async fn re1_re2_every_route_bears_lost_answers() {
    every_route_bears(|_| Some(Fate::AnswerLost)).await;
}

#[tokio::test]
async fn re1_what_is_done_at_best_effort_fails_no_request() {
    let world = world().await;
    for (what, operation) in [
        (What::EndAll, "Query"),
        (What::EndAll, "DeleteItem"),
        (What::ChangePassword, "Query"),
        (What::Delete, "Query"),
        (What::Delete, "DeleteItem"),
    ] {
        let alice = Alice::of(&world, what).await;
        world.wire.fault(operation, usize::MAX, Fate::Refused(500, "InternalServerError"));
        let reply = alice.send(&world, what).await.expect(StatusCode::NO_CONTENT);
        world.wire.heal();
        alice.check(&world, what, &reply).await;
    }
}

#[tokio::test]
async fn re4_a_table_that_is_silent_once_costs_one_attempt_and_always_costs_no_client_its_tokens() {
    let (world, alice) = signed_up_with(&[HASTY]).await;
    world.wire.fault("UpdateItem", 1, Fate::Silence);
    let successor = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    world.wire.fault("UpdateItem", usize::MAX, Fate::Silence);
    let began = Instant::now();
    check_unavailable(&world.refresh_with_key(&successor, "k").await, "silence");
    assert!(began.elapsed() < DEADLINE);
    world.wire.heal();
    let successor = world.refresh_with_key(&successor, "k").await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&successor)["gen"], 3);
}

#[test]
fn re4_a_handler_gives_up_before_its_function_and_that_before_api_gateway() {
    let template = std::fs::read_to_string(TEMPLATE).unwrap();
    // No client waits for the mailer.
    let (before, mailer) = template.split_once("\n  MailerFunction:").unwrap();
    let (_, after) = mailer.split_once("\n\n").unwrap();
    let timeouts: Vec<u64> = [before, after]
        .iter()
        .flat_map(|part| part.lines())
        .filter_map(|line| line.trim().strip_prefix("Timeout: ")?.parse().ok())
        .collect();
    assert!(!timeouts.is_empty());
    for timeout in timeouts.into_iter().map(Duration::from_secs) {
        assert!(DEADLINE < timeout && timeout < Duration::from_secs(30), "{timeout:?}");
    }
}

#[tokio::test]
async fn re2_an_unknown_outcome_never_makes_a_second_successor() {
    let (world, alice) = signed_up().await;
    for round in 1..=3 {
        world.wire.fault("UpdateItem", usize::MAX, Fate::AnswerLost);
        check_unavailable(&world.refresh_with_key(&alice.refresh_token, "k").await, &round.to_string());
        world.wire.heal();
        assert_eq!(Row::of(&alice.refresh_token).read(&world).await.unwrap().generation, 2);
    }
    let first = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK).text("refresh_token");
    let again = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(first, again);
    assert!(world.is_alive(&first).await);
}

#[tokio::test]
async fn re3_a_user_who_cannot_be_read_while_the_session_was_written_recovers_with_the_key() {
    let (world, alice) = signed_up().await;
    world.wire.fault("GetItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    check_unavailable(&world.refresh_with_key(&alice.refresh_token, "k").await, "the user is unreadable");
    world.wire.heal();
    assert_eq!(Row::of(&alice.refresh_token).read(&world).await.unwrap().generation, 2);
    let successor = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    let again = world.refresh_with_key(&alice.refresh_token, "k").await.expect(StatusCode::OK);
    assert_eq!(successor.text("refresh_token"), again.text("refresh_token"));
    assert!(world.is_alive(&successor.text("refresh_token")).await);
}

/// A refresh as API Gateway delivers it.
fn event(refresh_token: &str, key: Option<&str>) -> String {
    let path = "/api/v1/auth/refresh";
    let mut event = json!({
        "version": "2.0",
        "routeKey": format!("POST {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "content-type": "application/json" },
        "requestContext": {
            "requestId": "r",
            "routeKey": format!("POST {path}"),
            "stage": "$default",
            "timeEpoch": 0,
            "http": { "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1" },
        },
        "body": json!({ "refresh_token": refresh_token }).to_string(),
        "isBase64Encoded": false,
    });
    if let Some(key) = key {
        event["headers"]["idempotency-key"] = key.into();
    }
    event.to_string()
}

/// Delivers an event to the refresh function. Returns the status and the refresh token.
async fn deliver(world: &World, event: &str, request_id: &str) -> (u64, Value) {
    let mut context = Context::default();
    context.request_id = request_id.to_owned();
    let answer = world.system.function("refresh").unwrap().invoke(event, context).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    (answer["statusCode"].as_u64().unwrap(), body["refresh_token"].clone())
}

#[tokio::test]
async fn re6_an_event_that_is_delivered_twice_gets_the_same_answer() {
    let (world, alice) = signed_up().await;
    let keyed = event(&alice.refresh_token, Some("k"));
    let first = deliver(&world, &keyed, "one").await;
    assert_eq!(first.0, 200);
    assert_eq!(deliver(&world, &keyed, "two").await, first);
    // Without a key, the id of the Lambda request identifies the attempt.
    let bare = event(first.1.as_str().unwrap(), None);
    let second = deliver(&world, &bare, "three").await;
    assert_eq!(second.0, 200);
    assert_eq!(deliver(&world, &bare, "three").await, second);
    assert_eq!(deliver(&world, &bare, "four").await.0, 401);
    assert!(!world.is_alive(second.1.as_str().unwrap()).await);
}

#[tokio::test]
async fn re11_a_register_whose_answer_was_lost_has_made_one_user() {
    let world = world().await;
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    world.wire.fault("TransactWriteItems", 1, Fate::AnswerLost);
    let alice = world.register(EMAIL).await;
    world.wire.heal();
    assert!(world.is_alive(&alice.refresh_token).await);
    assert_eq!(world.post("/api/v1/auth/register", body).await.expect(StatusCode::CONFLICT).error(), "email_taken");

    let body = json!({ "email": "bob@example.com", "password": PASSWORD });
    world.wire.fault("TransactWriteItems", usize::MAX, Fate::AnswerLost);
    check_unavailable(&world.post("/api/v1/auth/register", body.clone()).await, "the answers are lost");
    world.wire.heal();
    world.post("/api/v1/auth/register", body).await.expect(StatusCode::CONFLICT);
    let bob = login(&world, "bob@example.com", PASSWORD).await.expect(StatusCode::OK).user();
    let (user, sessions) = store(&world).user_and_sessions(UserId::parse(&bob.id).unwrap()).await.unwrap();
    assert!(user.is_some());
    assert_eq!(sessions.len(), 2, "the register's and the login's");
}

#[tokio::test]
async fn re11_a_register_that_never_arrived_leaves_nothing() {
    let world = world().await;
    let body = json!({ "email": EMAIL, "password": PASSWORD });
    world.wire.fault("TransactWriteItems", usize::MAX, Fate::Lost);
    check_unavailable(&world.post("/api/v1/auth/register", body.clone()).await, "nothing arrives");
    world.wire.heal();
    login(&world, EMAIL, PASSWORD).await.expect(StatusCode::UNAUTHORIZED);
    world.register(EMAIL).await;
}

#[tokio::test]
async fn rf2_a_copy_of_a_logins_write_that_arrives_late_revives_no_token() {
    let (world, _) = signed_up().await;
    let late = Arc::new(Late::default());
    world.wire.on_call({
        let late = Arc::clone(&late);
        move |call| {
            let fate = match call.operation.as_str() {
                "PutItem" => Fate::Doubled(Arc::clone(&late), call.body),
                _ => Fate::Pass,
            };
            async move { fate }
        }
    });
    let first = world.login(PASSWORD).await.expect(StatusCode::OK).user().refresh_token;
    world.wire.heal();
    let second = world.refresh(&first).await.expect(StatusCode::OK).text("refresh_token");
    world.refresh(&first).await.expect(StatusCode::UNAUTHORIZED);
    let before = Row::of(&first).read(&world).await;
    late.arrive().await;
    assert_eq!(Row::of(&first).read(&world).await, before);
    for token in [first, second] {
        world.refresh(&token).await.expect(StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn re12_a_logout_can_be_repeated_and_a_failed_one_is_no_logout() {
    let (world, alice) = signed_up().await;
    let logout = || world.post("/api/v1/auth/logout", json!({ "refresh_token": alice.refresh_token }));
    world.wire.fault("DeleteItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    check_unavailable(&logout().await, "the session cannot be deleted");
    world.wire.heal();
    assert!(Row::of(&alice.refresh_token).read(&world).await.is_some());
    for _ in 0..2 {
        logout().await.expect(StatusCode::NO_CONTENT);
        assert!(Row::of(&alice.refresh_token).read(&world).await.is_none());
    }
    world.pass(31 * 24 * HOUR);
    logout().await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rf19_a_replay_whose_revocation_fails_is_not_answered_and_the_next_one_revokes() {
    let (world, alice) = signed_up().await;
    let successor = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    // The first write tries to rotate; the second one revokes.
    world.wire.fault_after(1, "UpdateItem", usize::MAX, Fate::Refused(500, "InternalServerError"));
    check_unavailable(&world.refresh(&alice.refresh_token).await, "the revocation fails");
    world.wire.heal();
    assert_eq!(Row::of(&successor).read(&world).await.unwrap().revoked_at, None);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    assert!(Row::of(&successor).read(&world).await.unwrap().revoked_at.is_some());
    assert!(!world.is_alive(&successor).await);
}

/// Signs tokens that only the system, or a thief of its key, can sign.
struct Forger {
    keys: KeyRing,
}

impl Forger {
    fn new() -> Self {
        Self { keys: KeyRing::single(&SECRET.into()).unwrap() }
    }

    /// `token` with another generation and another secret.
    fn forge(&self, world: &World, token: &str, generation: u64) -> String {
        let tokens = &world.app("refresh").config().refresh_tokens;
        let authentic = tokens.verify(&self.keys, token, world.now()).unwrap();
        let forged = RefreshToken { generation, secret: Secret::random(), ..authentic };
        tokens.sign(&self.keys, &forged).unwrap().expose_secret().to_owned()
    }
}

#[tokio::test]
async fn rf12_a_token_with_the_wrong_secret_neither_consumes_nor_revokes() {
    let (world, alice) = signed_up_with(&[("JWT_SECRET_KEY", SECRET)]).await;
    let token = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    let before = Row::of(&token).read(&world).await;
    let forger = Forger::new();
    // A spent token, the current one, and one that is ahead of the table.
    for generation in [1, 2, 3, 9] {
        let forged = forger.forge(&world, &token, generation);
        world.refresh(&forged).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(Row::of(&token).read(&world).await, before, "{generation}");
    }
    assert!(world.is_alive(&token).await);
}

#[tokio::test]
async fn rf17_after_a_restore_an_authentic_token_pulls_the_table_forward_and_a_forged_one_does_not() {
    let (world, alice) = signed_up_with(&[("JWT_SECRET_KEY", SECRET)]).await;
    let backup = Row::of(&alice.refresh_token).read(&world).await.unwrap();
    let second = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    let third = world.refresh(&second).await.expect(StatusCode::OK).text("refresh_token");

    store(&world).seed_session(&backup).await.unwrap();
    let forged = Forger::new().forge(&world, &third, 3);
    world.refresh(&forged).await.expect(StatusCode::UNAUTHORIZED);
    assert_eq!(Row::of(&third).read(&world).await.unwrap(), backup);

    let fourth = world.refresh(&third).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&fourth)["gen"], 4);
    assert_eq!(Row::of(&fourth).read(&world).await.unwrap().generation, 4);
    // A token that was spent before the restore is still spent after it.
    world.refresh(&second).await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&fourth).await);
}

#[tokio::test]
async fn rf17_a_token_that_was_spent_since_the_backup_works_once_and_is_reuse_after_its_owners_next_refresh() {
    let (world, alice) = signed_up().await;
    let backup = Row::of(&alice.refresh_token).read(&world).await.unwrap();
    let mut tokens = vec![alice.refresh_token];
    for _ in 0..3 {
        let next = world.refresh(tokens.last().unwrap()).await.expect(StatusCode::OK).text("refresh_token");
        tokens.push(next);
    }
    let [_, spent, between, newest] = tokens.as_slice() else { unreachable!() };
    store(&world).seed_session(&backup).await.unwrap();

    let stolen = world.refresh(spent).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&stolen)["gen"], claims(between)["gen"]);
    let owned = world.refresh(newest).await.expect(StatusCode::OK).text("refresh_token");
    world.refresh(&stolen).await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&owned).await);
}

#[tokio::test]
async fn evidence_of_reuse_stays_when_the_user_ends_every_session() {
    let (world, alice) = signed_up().await;
    let other = world.login(PASSWORD).await.expect(StatusCode::OK).user();
    world.refresh(&alice.refresh_token).await.expect(StatusCode::OK);
    world.refresh(&alice.refresh_token).await.expect(StatusCode::UNAUTHORIZED);
    let evidence = Row::of(&alice.refresh_token).read(&world).await.unwrap();
    let user = Some(UserState { is_active: false, epoch: 1 });
    for user in [user, None, user.map(|user| UserState { is_active: true, ..user })] {
        assert_eq!(store(&world).discard_session(&evidence, user).await.unwrap(), Write::Done(()));
        assert_eq!(Row::of(&alice.refresh_token).read(&world).await.unwrap(), evidence);
    }
    let everywhere = world.request(Method::DELETE, "/api/v1/auth/sessions").bearer(&other.access_token);
    everywhere.await.expect(StatusCode::NO_CONTENT);
    assert_eq!(Row::of(&alice.refresh_token).read(&world).await.unwrap(), evidence);
    assert!(!world.is_alive(&other.refresh_token).await);
}

#[tokio::test]
async fn re15_a_token_used_on_both_sides_of_a_lagging_replica_leads_to_one_generation() {
    let (world, alice) = signed_up().await;
    let before = Row::of(&alice.refresh_token).read(&world).await.unwrap();
    let here = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    // The other Region has not seen that write.
    store(&world).seed_session(&before).await.unwrap();
    let there = world.refresh(&alice.refresh_token).await.expect(StatusCode::OK).text("refresh_token");
    for claim in ["gen", "sid", "sec", "abs"] {
        assert_eq!(claims(&here)[claim], claims(&there)[claim], "{claim}");
    }
    let next = world.refresh(&here).await.expect(StatusCode::OK).text("refresh_token");
    assert_eq!(claims(&next)["gen"], 3);
    world.refresh(&there).await.expect(StatusCode::UNAUTHORIZED);
    assert!(!world.is_alive(&next).await);
}

#[tokio::test]
async fn rf18_the_condition_of_the_write_is_the_rule_of_the_session() {
    let (world, alice) = signed_up().await;
    let store = store(&world);
    let Row(user, id) = Row::of(&alice.refresh_token);
    let fresh = store.session(user, id).await.unwrap().unwrap();
    let client = Client { ip: "192.0.2.1".into(), user_agent: "test".into() };
    // The time is not a whole second, because the table holds some times in seconds.
    let now = world.now() + Duration::from_millis(500);
    let millisecond = Duration::from_millis(1);
    let (mut rotated, mut refused) = (0, 0);
    for reuse_interval in [Duration::ZERO, Duration::from_secs(10)] {
        let attempt = Attempt {
            generation: 2,
            secret_hash: fresh.secret_hash,
            key: Hash::of(&[b"attempt"]),
            now,
            reuse_interval,
        };
        for generation in [1, 2, 3] {
            for secret_hash in [fresh.secret_hash, Hash::of(&[b"another"])] {
                for expires_at in [now.truncated(), now.truncated() + Duration::from_secs(1)] {
                    for (rotated_at, earlier) in [
                        (now - reuse_interval - millisecond, Some(Hash::of(&[b"earlier"]))),
                        (now - reuse_interval, Some(Hash::of(&[b"earlier"]))),
                        (now, Some(Hash::of(&[b"earlier"]))),
                        (now, None),
                    ] {
                        for is_revoked in [false, true] {
                            let mut session = Session {
                                generation,
                                secret_hash,
                                expires_at,
                                rotated_at,
                                attempt: earlier,
                                ..fresh.clone()
                            };
                            store.seed_session(&session).await.unwrap();
                            if is_revoked {
                                assert_eq!(store.revoke_session(&session, &attempt).await.unwrap(), Write::Done(()));
                                session.revoked_at = Some(now.truncated());
                            }
                            let ends = now.truncated() + Duration::from_secs(60);
                            let write = store.rotate(user, id, &attempt, ends, &client).await.unwrap();
                            let (count, expected) = if attempt.may_rotate(&session) {
                                (&mut rotated, Write::Done(attempt.rotate(&session, ends, client.clone())))
                            } else {
                                (&mut refused, Write::Refused(Some(session)))
                            };
                            *count += 1;
                            assert_eq!(write, expected, "{attempt:?}");
                        }
                    }
                }
            }
        }
    }
    assert_eq!((rotated, refused), (2 * 4 + 2 * 2, 192 - 12));
}
