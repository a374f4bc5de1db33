//! `events/`: the gateway makes each event from one of the requests below, and its
//! outcome is in `events/outcomes.json`. `UPDATE_EVENTS=1` rewrites the
//! events; the outcomes are written by hand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use freshkey::id::SessionId;
use freshkey::token::{KeyRing, RefreshToken};
use freshkey::{ManualClock, Timestamp};
use http::{Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lambda_runtime::Context;
use local::demo::{self, Caller};
use local::gateway::{Call, Gateway, Step};
use local::template::Template;
use local::{LocalClock, Options, System, TEMPLATE};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../events");
/// The files in `events/` that are not events.
const NO_EVENTS: [&str; 2] = ["env.json", "outcomes.json"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ANOTHER_SECRET: &str = "a secret that the demo does not know, 0123456789";
const WRONG_PASSWORD: &str = "four friendly cats";
const NEW_PASSWORD: &str = "five friendly foxes";
/// The origin of the one page that may use cookies.
const ORIGIN: &str = "https://app.example.com";
/// The settings of the demo's functions. A client picks the transport of its
/// refresh token, so that the same settings work for all events.
const SETTINGS: [(&str, &str); 4] = [
    ("JWT_SECRET_KEY", demo::SECRET),
    ("REFRESH_TOKEN_TRANSPORT", "both"),
    ("ALLOWED_ORIGINS", ORIGIN),
    ("MAIL_FROM", "no-reply@freshkey.example"),
];
/// The pages that the links of the demo's mails lead to.
const LINKS: [(&str, &str); 2] =
    [("RESET_URL", "http://127.0.0.1:3000/?view=reset"), ("CONFIRM_URL", "http://127.0.0.1:3000/?view=confirm")];
/// The demo's mailbox, for a mailer in another process.
const MAIL_ENDPOINT: &str = "http://127.0.0.1:3000/.local/ses";
/// The function that sends mails. It has no routes.
const MAILER: &str = "mailer";

fn template() -> Template {
    Template::read(Path::new(TEMPLATE), &[("MailFrom", "no-reply@freshkey.example")]).unwrap()
}

fn path(file: &str) -> PathBuf {
    Path::new(EVENTS).join(file)
}

fn read(file: &str) -> Value {
    let text = fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Checks that a file has this `content`, or writes it.
fn check(file: &str, content: &Value) {
    let text = format!("{content:#}\n");
    if std::env::var_os("UPDATE_EVENTS").is_some() {
        fs::write(path(file), &text).unwrap();
    }
    let there = fs::read_to_string(path(file)).unwrap_or_default();
    assert!(there == text, "{file} is out of date: UPDATE_EVENTS=1 rewrites it");
}

/// The tokens of the demo's users. None of them is random.
struct Wallet {
    system: System,
    callers: BTreeMap<&'static str, Caller>,
}

impl Wallet {
    fn caller(&self, name: &str) -> &Caller {
        self.callers.get(name).unwrap_or_else(|| panic!("the demo has no user {name}"))
    }

    fn sign(&self, secret: &str, token: &RefreshToken) -> String {
        let config = self.system.function("refresh").unwrap().app().config();
        let ring = if secret == demo::SECRET { KeyRing::demo() } else { KeyRing::single(&secret.into()) };
        let signed = config.refresh_tokens.sign(&ring.unwrap(), token);
        signed.unwrap().expose_secret().into()
    }

    /// The first refresh token of this user.
    fn refresh(&self, name: &str) -> String {
        self.sign(demo::SECRET, &self.caller(name).refresh_token)
    }

    fn expired_refresh(&self, name: &str) -> String {
        let token = self.caller(name).refresh_token.clone();
        self.sign(demo::SECRET, &RefreshToken { expires_at: demo::LOGIN + 30 * DAY, ..token })
    }

    /// A token whose session has rotated far more often than its budget allows.
    fn refresh_too_often(&self, name: &str) -> String {
        let token = self.caller(name).refresh_token.clone();
        self.sign(demo::SECRET, &RefreshToken { generation: 1_000_000_000, ..token })
    }

    /// A token whose session was ended by its user, so it is not in the table.
    fn revoked_refresh(&self, name: &str) -> String {
        let Caller { user, refresh_token, .. } = self.caller(name);
        let session_id = SessionId::parse(&user.id.to_string()).unwrap();
        self.sign(demo::SECRET, &RefreshToken { session_id, ..refresh_token.clone() })
    }

    fn forged_refresh(&self, name: &str) -> String {
        self.sign(ANOTHER_SECRET, &self.caller(name).refresh_token)
    }

    fn access_until(&self, secret: &str, name: &str, end: Timestamp) -> String {
        let Caller { user, here, .. } = self.caller(name);
        let tokens = &self.system.function("account").unwrap().app().config().access_tokens;
        let claims = json!({
            "iss": tokens.issuer,
            "aud": tokens.audience,
            "sub": user.id.to_string(),
            "sid": here.id.to_string(),
            "iat": demo::LOGIN.seconds(),
            "nbf": demo::LOGIN.seconds(),
            "exp": end.seconds(),
            "jti": format!("the token of {name}"),
            "roles": user.roles,
        });
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some("at+jwt".into());
        header.kid = Some("k1".into());
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    /// An access token of this user that expires with the demo.
    fn access(&self, name: &str) -> String {
        self.access_until(demo::SECRET, name, demo::END)
    }

    fn expired_access(&self, name: &str) -> String {
        self.access_until(demo::SECRET, name, demo::LOGIN + DAY / 24)
    }

    /// The token of the link that was mailed to this user.
    fn link(&self, name: &str) -> &str {
        &self.caller(name).link.as_ref().unwrap_or_else(|| panic!("{name} has no link")).token
    }

    fn forged_access(&self, name: &str) -> String {
        self.access_until(ANOTHER_SECRET, name, demo::END)
    }
}

/// A request for an event, to be completed, and a change to the event afterwards.
struct Sample {
    name: &'static str,
    request: Request<Bytes>,
    change: fn(&mut Value),
}

fn sample(name: &'static str, method: Method, target: &str) -> Sample {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    Sample { name, request, change: |_| {} }.header("host", "api.example.com").header("user-agent", "curl/8.5.0")
}

fn get(name: &'static str, target: &str) -> Sample {
    sample(name, Method::GET, target)
}

fn post(name: &'static str, target: &str) -> Sample {
    sample(name, Method::POST, target)
}

fn delete(name: &'static str, target: &str) -> Sample {
    sample(name, Method::DELETE, target)
}

impl Sample {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn body(mut self, content_type: &str, body: String) -> Self {
        *self.request.body_mut() = body.into();
        self.header("content-type", content_type)
    }

    fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    fn form(self, body: String) -> Self {
        self.body("application/x-www-form-urlencoded", body)
    }

    fn sign_in(self, email: &str, password: &str) -> Self {
        self.json(&json!({ "email": email, "password": password }))
    }

    fn token(self, token: &str) -> Self {
        self.json(&json!({ "refresh_token": token }))
    }

    /// The same request from a page of `origin` that uses the cookie.
    fn on_page(self, origin: &str) -> Self {
        let transport = self.header("x-token-transport", "cookie").header("x-requested-with", "fetch");
        transport.header("origin", origin)
    }

    fn cookie(self, token: &str) -> Self {
        self.header("cookie", &format!("__Host-refresh_token={token}"))
    }

    fn idempotent(self) -> Self {
        self.header("idempotency-key", demo::IDEMPOTENCY_KEY)
    }

    /// The event in the form that API Gateway sends to an authorizer (payload
    /// format 2.0).
    fn for_the_authorizer(self) -> Self {
        let change = |event: &mut Value| {
            let members = event.as_object_mut().unwrap();
            members.retain(|name, _| !["body", "isBase64Encoded"].contains(&name.as_str()));
            event["type"] = "REQUEST".into();
            event["routeArn"] = "arn:aws:execute-api:us-east-1:123456789012:local/$default/GET/orders".into();
            event["identitySource"] = json!([event["headers"]["authorization"]]);
        };
        Self { change, ..self }
    }

    /// The event with the key of a route that the function does not know, which
    /// only a mistake in the template can cause.
    fn astray(self) -> Self {
        let change = |event: &mut Value| {
            let (path, key) = ("/.well-known/nothing", "GET /.well-known/nothing");
            event["rawPath"] = path.into();
            event["requestContext"]["http"]["path"] = path.into();
            event["routeKey"] = key.into();
            event["requestContext"]["routeKey"] = key.into();
        };
        Self { change, ..self }
    }

    /// The name of the file, and the event in it.
    fn event(&self, gateway: &Gateway) -> (String, Value) {
        let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        match gateway.accept(&self.request, Call { id: self.name, now_ms: demo::LOGIN.millis(), source }) {
            Step::Invoke { mut event, .. } => {
                (self.change)(&mut event);
                (format!("{}.json", self.name), event)
            }
            Step::Answer(answer) => panic!("{}: the gateway answers {}", self.name, answer.status()),
        }
    }
}

/// The events. Each event that changes something has its own user in the demo.
fn samples(of: &Wallet) -> Vec<Sample> {
    const REGISTER: &str = "/api/v1/auth/register";
    const LOGIN: &str = "/api/v1/auth/login";
    const REFRESH: &str = "/api/v1/auth/refresh";
    const LOGOUT: &str = "/api/v1/auth/logout";
    const SESSIONS: &str = "/api/v1/auth/sessions";
    const ME: &str = "/api/v1/users/me";
    const PASSWORD: &str = "/api/v1/users/me/password";
    const DELETE: &str = "/api/v1/users/me/delete";
    const FORGOT: &str = "/api/v1/auth/password/forgot";
    const RESET: &str = "/api/v1/auth/password/reset";
    const ADDRESS: &str = "/api/v1/users/me/email";
    const VERIFICATION: &str = "/api/v1/users/me/email/verification";
    const CONFIRM: &str = "/api/v1/users/me/email/confirm";
    const JWKS: &str = "/.well-known/jwks.json";
    const LEXIK_LOGIN: &str = "/api/auth";
    const LEXIK_REFRESH: &str = "/api/token/refresh";

    let elsewhere = of.caller("sessions-end").elsewhere.id;
    let newcomer =
        json!({ "email": demo::NEWCOMER, "password": demo::PASSWORD, "first_name": "New", "last_name": "Comer" });
    let login = json!({ "email": demo::EMAIL, "password": demo::PASSWORD });
    let change = |old: &str, new: &str| json!({ "current_password": old, "new_password": new });
    let forgot = |name, email: &str| post(name, FORGOT).json(&json!({ "email": email }));
    let reset = |name, token: &str, new: &str| post(name, RESET).json(&json!({ "token": token, "new_password": new }));
    let address = |name, of_whom: &str, email: &str, password: &str| {
        sample(name, Method::PUT, ADDRESS).bearer(&of.access(of_whom)).sign_in(email, password)
    };
    let confirm = |name, of_whom: &str, token: &str| {
        post(name, CONFIRM).bearer(&of.access(of_whom)).json(&json!({ "token": token }))
    };
    // No link has this token.
    let stray = "A".repeat(43);

    vec![
        post("register", REGISTER).json(&newcomer),
        post("register-email-taken", REGISTER).sign_in(demo::EMAIL, NEW_PASSWORD),
        post("register-weak-password", REGISTER).sign_in("weak@example.com", "password"),
        post("login", LOGIN).sign_in(demo::EMAIL, demo::PASSWORD),
        post("login-wrong-password", LOGIN).sign_in(demo::EMAIL, WRONG_PASSWORD),
        post("login-not-json", LOGIN).body("application/json", "email=demo@example.com".into()),
        post("login-text-plain", LOGIN).body("text/plain", login.to_string()),
        post("login-too-large", LOGIN).json(&json!({ "email": demo::EMAIL, "password": "x".repeat(8 * 1024) })),
        post("login-cookie", LOGIN).on_page(ORIGIN).json(&login),
        post("login-cookie-foreign-origin", LOGIN).on_page("https://evil.example").json(&login),
        post("login-lexik", LEXIK_LOGIN).sign_in(demo::EMAIL, demo::PASSWORD),
        post("login-lexik-wrong-password", LEXIK_LOGIN).sign_in(demo::EMAIL, WRONG_PASSWORD),
        post("refresh", REFRESH).token(&of.refresh("refresh")).idempotent(),
        post("refresh-form", REFRESH)
            .form(format!("grant_type=refresh_token&refresh_token={}", of.refresh("refresh-form"))),
        post("refresh-retried", REFRESH).token(&of.refresh("refresh-retried")).idempotent(),
        post("refresh-reused", REFRESH).token(&of.refresh("refresh-reused")),
        post("refresh-expired", REFRESH).token(&of.expired_refresh("demo")),
        post("refresh-forged", REFRESH).token(&of.forged_refresh("demo")),
        post("refresh-revoked", REFRESH).token(&of.revoked_refresh("demo")),
        post("refresh-too-often", REFRESH).token(&of.refresh_too_often("demo")),
        post("refresh-cookie", REFRESH).on_page(ORIGIN).cookie(&of.refresh("refresh-cookie")).idempotent(),
        post("refresh-cookie-foreign-origin", REFRESH)
            .on_page("https://evil.example")
            .cookie(&of.refresh("demo"))
            .idempotent(),
        post("refresh-no-token", REFRESH).json(&json!({})),
        post("refresh-lexik", LEXIK_REFRESH).token(&of.refresh("refresh-lexik")),
        post("refresh-lexik-form", LEXIK_REFRESH).form(format!("refresh_token={}", of.refresh("refresh-lexik-form"))),
        post("refresh-lexik-reused", LEXIK_REFRESH).token(&of.refresh("refresh-lexik-reused")),
        post("refresh-lexik-no-token", LEXIK_REFRESH).json(&json!({})),
        post("logout", LOGOUT).token(&of.refresh("logout")),
        post("logout-header", LOGOUT).header("x-refresh-token", &of.refresh("logout-header")),
        post("logout-cookie", LOGOUT).on_page(ORIGIN).cookie(&of.refresh("logout-cookie")),
        post("logout-forged", LOGOUT).token(&of.forged_refresh("demo")),
        post("logout-no-token", LOGOUT),
        get("me", ME).bearer(&of.access("demo")),
        get("me-no-token", ME),
        get("me-forged", ME).bearer(&of.forged_access("demo")),
        get("me-expired", ME).bearer(&of.expired_access("demo")),
        get("me-renewed", ME)
            .bearer(&of.expired_access("me-renewed"))
            .header("x-refresh-token", &of.refresh("me-renewed")),
        sample("me-change", Method::PATCH, ME)
            .bearer(&of.access("me-change"))
            .json(&json!({ "first_name": "Ada", "phone": null })),
        sample("me-change-too-long", Method::PATCH, ME)
            .bearer(&of.access("demo"))
            .json(&json!({ "first_name": "x".repeat(257) })),
        sample("password", Method::PUT, PASSWORD)
            .bearer(&of.access("password"))
            .json(&change(demo::PASSWORD, NEW_PASSWORD)),
        sample("password-wrong", Method::PUT, PASSWORD)
            .bearer(&of.access("demo"))
            .json(&change(WRONG_PASSWORD, NEW_PASSWORD)),
        sample("password-weak", Method::PUT, PASSWORD)
            .bearer(&of.access("demo"))
            .json(&change(demo::PASSWORD, "password")),
        post("me-delete", DELETE).bearer(&of.access("me-delete")).json(&json!({ "password": demo::PASSWORD })),
        post("me-delete-wrong-password", DELETE)
            .bearer(&of.access("demo"))
            .json(&json!({ "password": WRONG_PASSWORD })),
        get("sessions", SESSIONS).bearer(&of.access("demo")),
        get("sessions-no-token", SESSIONS),
        delete("sessions-end", &format!("{SESSIONS}/{elsewhere}")).bearer(&of.access("sessions-end")),
        delete("sessions-end-unknown", &format!("{SESSIONS}/{elsewhere}")).bearer(&of.access("demo")),
        delete("sessions-end-others", &format!("{SESSIONS}?except=current")).bearer(&of.access("sessions-end-others")),
        delete("sessions-end-all", SESSIONS).bearer(&of.access("sessions-end-all")),
        forgot("password-forgot", demo::EMAIL),
        forgot("password-forgot-unknown", "nobody@example.com"),
        forgot("password-forgot-no-address", "nobody"),
        reset("password-reset", of.link("password-reset"), NEW_PASSWORD),
        reset("password-reset-repeated", of.link("password-reset-repeated"), demo::PASSWORD).idempotent(),
        reset("password-reset-used", of.link("password-reset-repeated"), NEW_PASSWORD),
        reset("password-reset-weak", of.link("password-reset-weak"), "password"),
        reset("password-reset-forged", &stray, NEW_PASSWORD),
        reset("password-reset-wrong-link", of.link("email-confirm-taken"), NEW_PASSWORD),
        post("email-verification", VERIFICATION).bearer(&of.access("email-verification")),
        post("email-verification-no-token", VERIFICATION),
        address("email-change", "email-change", "elsewhere@example.com", demo::PASSWORD),
        address("email-change-wrong-password", "demo", "elsewhere@example.com", WRONG_PASSWORD),
        address("email-change-no-address", "demo", "nobody", demo::PASSWORD),
        confirm("email-confirm", "email-confirm", of.link("email-confirm")),
        confirm("email-confirm-change", "email-confirm-change", of.link("email-confirm-change")),
        confirm("email-confirm-taken", "email-confirm-taken", of.link("email-confirm-taken")),
        confirm("email-confirm-wrong-user", "demo", of.link("email-confirm-taken")),
        get("jwks", JWKS),
        sample("jwks-head", Method::HEAD, JWKS),
        get("jwks-astray", JWKS).astray(),
        get("openid-configuration", "/.well-known/openid-configuration"),
        get("authorizer", ME).bearer(&of.access("demo")).for_the_authorizer(),
        get("authorizer-expired", ME).bearer(&of.expired_access("demo")).for_the_authorizer(),
        get("authorizer-forged", ME).bearer(&of.forged_access("demo")).for_the_authorizer(),
    ]
}

/// The demo at `now`.
async fn demo_at(now: Timestamp) -> System {
    let options = Options {
        template: TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables: SETTINGS.into_iter().chain(LINKS).map(|(name, value)| (name.into(), value.into())).collect(),
        clock: LocalClock::new(Arc::new(ManualClock::at(now))),
        http_client: None,
    };
    let system = System::start(options).await.unwrap();
    demo::set_up(system.function("login").unwrap().app()).await.unwrap();
    system
}

/// The files in `events/`, by name, with an event in each.
async fn events() -> Vec<(String, Value)> {
    let wallet = Wallet { system: demo_at(demo::LOGIN).await, callers: demo::callers().unwrap().into_iter().collect() };
    let gateway = Gateway::new(&template()).unwrap();
    let of_routes = samples(&wallet).into_iter().map(|sample| sample.event(&gateway));
    of_routes.chain(mailer_events()).collect()
}

/// What invokes the mailer: a new mail in the stream of the table, and the schedule.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>
/// <https://docs.aws.amazon.com/eventbridge/latest/ref/event-delivery-schedule.html>
fn mailer_events() -> [(String, Value); 2] {
    let key = |text: &str| json!({ "S": text });
    let table = "arn:aws:dynamodb:us-east-1:123456789012:table/Table";
    let stream = json!({ "Records": [{
        "eventID": "c4ca4238a0b923820dcc509a6f75849b",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": demo::LOGIN.seconds(),
            "Keys": {
                "pk": key("MAIL#0"),
                "sk": key("2#001767225600000#0f8fad5b-d9cb-469f-a165-70867728950e"),
            },
            "SequenceNumber": "100000000000000000001",
            "SizeBytes": 64,
            "StreamViewType": "KEYS_ONLY",
        },
        "eventSourceARN": format!("{table}/stream/2026-01-01T00:00:00.000"),
    }] });
    let schedule = json!({
        "version": "0",
        "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": demo::LOGIN.to_string(),
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/freshkey-MailerFunctionEachMinute"],
        "detail": {},
    });
    [("mailer-stream.json".into(), stream), ("mailer-schedule.json".into(), schedule)]
}

fn outcomes() -> BTreeMap<String, Value> {
    serde_json::from_value(read("outcomes.json")).unwrap()
}

/// The outcome of an answer, in the form of `events/outcomes.json`.
fn outcome(function: &str, answer: &Value) -> Value {
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
    let mut outcome = json!({ "function": function });
    for (name, member) in [("status", "statusCode"), ("isAuthorized", "isAuthorized")] {
        if let Some(value) = answer.get(member) {
            outcome[name] = value.clone();
        }
    }
    for name in ["error", "message"] {
        if let Some(value) = body.get(name) {
            outcome[name] = value.clone();
        }
    }
    if answer.pointer("/headers/x-new-refresh-token").is_some() {
        outcome["renewed"] = true.into();
    }
    // How many mails there are to send depends on the events before.
    if answer["sent"].is_u64() {
        outcome["reports"] = true.into();
    }
    outcome
}

/// The events with their expected outcomes.
async fn expectations() -> Vec<(String, Value, Value)> {
    let outcomes = outcomes();
    let events = events().await.into_iter();
    events.map(|(file, event)| (file.clone(), event, outcomes.get(&file).cloned().unwrap_or_default())).collect()
}

async fn expect(system: &System, (file, event, expected): &(String, Value, Value)) {
    let function = expected["function"].as_str().unwrap_or_else(|| panic!("{file} has no outcome"));
    let answer = if function == MAILER {
        serde_json::to_value(system.deliver_mail().await).unwrap()
    } else {
        let mut context = Context::default();
        context.request_id = format!("the request of {file}");
        system.function(function).unwrap().invoke(&event.to_string(), context).await
    };
    assert_eq!(outcome(function, &answer), *expected, "{file}: {answer}");
}

#[tokio::test]
async fn every_event_is_what_the_gateway_makes_of_its_request() {
    let events = events().await;
    for (file, event) in &events {
        check(file, event);
    }
    let named: BTreeSet<_> = events.into_iter().map(|(file, _)| file).collect();
    let there = fs::read_dir(EVENTS).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<_> = there.filter(|file| !NO_EVENTS.contains(&file.as_str())).collect();
    assert_eq!(there, named);
    assert_eq!(outcomes().into_keys().collect::<BTreeSet<_>>(), named);
}

#[tokio::test]
async fn events_have_their_outcomes_in_any_order_until_the_demo_expires() {
    let expectations = expectations().await;
    let young = demo_at(demo::LOGIN + 31 * DAY).await;
    for expectation in &expectations {
        expect(&young, expectation).await;
    }
    let old = demo_at(demo::END - DAY).await;
    for expectation in expectations.iter().rev() {
        expect(&old, expectation).await;
    }
}

#[tokio::test]
async fn a_demo_that_starts_again_on_the_same_table_is_as_new() {
    let expectations = expectations().await;
    let system = demo_at(demo::LOGIN + 31 * DAY).await;
    for _ in 0..2 {
        for expectation in &expectations {
            expect(&system, expectation).await;
        }
        demo::set_up(system.function("login").unwrap().app()).await.unwrap();
    }
}

#[tokio::test]
async fn each_user_of_the_demo_has_an_event() {
    let files: BTreeSet<_> = events().await.into_iter().map(|(file, _)| file).collect();
    for (name, _) in demo::callers().unwrap() {
        assert!(name == "demo" || files.contains(&format!("{name}.json")), "{name}");
    }
}

#[test]
fn every_function_has_an_event_that_succeeds_and_one_that_fails() {
    let outcomes = outcomes();
    // The mailer reports what it has done, whatever that is.
    for function in template().functions.into_iter().filter(|function| function.name != MAILER) {
        let outcomes = outcomes.values().filter(|outcome| outcome["function"] == function.name.as_str());
        let went_well = |outcome: &&Value| match outcome.get("isAuthorized") {
            Some(authorized) => authorized == true,
            None => outcome["status"].as_u64().unwrap() < 400,
        };
        let (well, badly): (Vec<_>, Vec<_>) = outcomes.partition(went_well);
        assert!(!well.is_empty() && !badly.is_empty(), "{}: {well:?} {badly:?}", function.name);
    }
}

/// The functions' names by their logical ids, which `sam local` uses.
fn logical_ids() -> BTreeMap<String, String> {
    let template: serde_norway::Value = serde_norway::from_str(&fs::read_to_string(TEMPLATE).unwrap()).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().iter();
    let functions = resources.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
    let ids = functions.map(|(id, function)| {
        let code = function["Properties"]["CodeUri"].as_str().unwrap();
        (id.as_str().unwrap().to_owned(), code.rsplit('/').next().unwrap().to_owned())
    });
    ids.collect()
}

#[test]
fn env_json_gives_each_function_the_demos_settings_by_variables_that_it_declares() {
    let template = template();
    let variables = |name: &str| {
        let function = template.functions.iter().find(|function| function.name == name).unwrap();
        let endpoint = format!("http://127.0.0.1:{}", demo::TABLE_PORT);
        let defaults = ["TABLE_NAME", "JWT_ISSUER", "JWT_AUDIENCE"].map(|name| (name, &*function.variables[name]));
        let mut settings = [&defaults[..], &[("TABLE_ENDPOINT", &endpoint)], &SETTINGS].concat();
        if name == MAILER {
            settings.extend(LINKS.into_iter().chain([("MAIL_ENDPOINT", MAIL_ENDPOINT)]));
        }
        for (variable, _) in &settings {
            assert!(function.variables.contains_key(*variable), "{name} does not declare {variable}");
        }
        settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let env: BTreeMap<_, _> = logical_ids().into_iter().map(|(id, name)| (id, variables(&name))).collect();
    check("env.json", &json!(env));
}

#[test]
fn the_event_of_the_stream_is_one_that_the_template_lets_through() {
    let functions = template().functions;
    let mailer = functions.iter().find(|function| function.name == MAILER).unwrap();
    let event = read("mailer-stream.json");
    let key = event.pointer("/Records/0/dynamodb/Keys/pk/S").unwrap().as_str().unwrap();
    assert_eq!(event.pointer("/Records/0/eventName").unwrap(), "INSERT");
    assert!(key.starts_with(mailer.wakes_on.as_deref().unwrap()), "{key}");
}

#[test]
fn cargo_lambda_watch_routes_as_the_template_does() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let routes: BTreeMap<String, Vec<BTreeMap<String, String>>> =
        serde_json::from_value(metadata["metadata"]["lambda"]["watch"]["router"].clone()).unwrap();
    let routes: BTreeSet<_> = routes
        .iter()
        .flat_map(|(path, routes)| {
            routes.iter().map(move |route| (route["method"].clone(), path.clone(), route["function"].clone()))
        })
        .collect();
    let functions = template().functions;
    let expected: BTreeSet<_> = functions
        .iter()
        .flat_map(|function| {
            let name = &function.name;
            function.routes.iter().map(move |route| (route.method.to_string(), route.path.clone(), name.clone()))
        })
        .collect();
    assert_eq!(routes, expected);
}

#[test]
fn a_table_port_that_is_taken_is_an_error_that_says_what_to_do() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    let output = command.args(["--port", "0", "--demo", "--table-port", &port]).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("port {port} is taken; choose another with --table-port\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}
