//! The audit trail: one log event for each act that matters to security, named
//! as in OWASP's Logging Vocabulary.
//!
//! An event records the act, its time, its outcome and reason, the user and session it
//! is about, the request, and the client's address. It holds no text that a client
//! wrote: an IP address is logged only if it parses as one, a `User-Agent` as its hash,
//! and no field can hold a token or a password.
//!
//! The trail is not part of the transaction: an event that cannot be written is lost,
//! and the act remains done. The table itself keeps what must not be lost: a session
//! that reuse ended retains `revoked_at` and `revoked_reason`.

use std::net::IpAddr;

use tracing::Level;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::metrics::{self, Metric};
use crate::session::Hash;

/// The `target` of audit events, and of no other log events.
pub const TARGET: &str = "freshkey::audit";

/// How many bytes of the hash of a `User-Agent` are logged, enough to tell two apart.
const USER_AGENT_HASH: usize = 8;

/// An act that the trail records, whether it succeeded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A password was right, and a session was opened.
    LoggedIn,
    /// A password was wrong, or its user may not sign in.
    LoginRefused,
    /// A password was changed.
    PasswordChanged,
    /// A change of the password was refused.
    PasswordChangeRefused,
    /// A refresh token was exchanged for its successor.
    Rotated,
    /// The answer to an earlier refresh was given again.
    Reissued,
    /// A session, or every session of a user, was ended.
    Revoked,
    /// A spent refresh token was presented again, and its session was ended.
    Reused,
    /// An authentic refresh token was refused, because its session is over.
    SessionOver,
    /// A token was refused because this system did not issue it for this purpose, or
    /// because it does not grant the requested access.
    AccessDenied,
    /// A limit was exceeded.
    LimitExceeded,
    /// A user was created, with a first session.
    UserCreated,
    /// A profile was changed, or a user disabled or enabled.
    UserUpdated,
    /// A user was deleted, with every session.
    UserDeleted,
}

/// How an act is logged and counted.
struct Words {
    event: &'static str,
    level: Level,
    succeeded: bool,
    message: &'static str,
    counter: Option<Metric>,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 14] = [
        Self::LoggedIn,
        Self::LoginRefused,
        Self::PasswordChanged,
        Self::PasswordChangeRefused,
        Self::Rotated,
        Self::Reissued,
        Self::Revoked,
        Self::Reused,
        Self::SessionOver,
        Self::AccessDenied,
        Self::LimitExceeded,
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDeleted,
    ];

    /// Returns the act's name in OWASP's vocabulary: the `event` in the log.
    pub fn name(self) -> &'static str {
        self.words().event
    }

    fn words(self) -> Words {
        use Metric::{Limited, LoginFailures, Logins, Reissues, ReuseDetected, Rotations};
        let (event, level, succeeded, message, counter) = match self {
            Self::LoggedIn => ("authn_login_success", Level::INFO, true, "logged in", Some(Logins)),
            Self::LoginRefused => ("authn_login_fail", Level::WARN, false, "login refused", Some(LoginFailures)),
            Self::PasswordChanged => ("authn_password_change", Level::INFO, true, "password changed", None),
            Self::PasswordChangeRefused => {
                ("authn_password_change_fail", Level::WARN, false, "password not changed", Some(LoginFailures))
            }
            Self::Rotated => ("authn_token_created", Level::INFO, true, "refreshed", Some(Rotations)),
            Self::Reissued => ("authn_token_created", Level::INFO, true, "refreshed again", Some(Reissues)),
            Self::Revoked => ("authn_token_revoked", Level::INFO, true, "session ended", None),
            Self::Reused => {
                ("authn_token_reuse", Level::ERROR, false, "refresh token reuse: session revoked", Some(ReuseDetected))
            }
            Self::SessionOver => ("session_use_after_expire", Level::WARN, false, "refresh refused", None),
            Self::AccessDenied => ("authz_fail", Level::WARN, false, "access denied", None),
            Self::LimitExceeded => ("excess_rate_limit_exceeded", Level::WARN, false, "limit exceeded", Some(Limited)),
            Self::UserCreated => ("user_created", Level::INFO, true, "registered", None),
            Self::UserUpdated => ("user_updated", Level::INFO, true, "user changed", None),
            Self::UserDeleted => ("user_deleted", Level::INFO, true, "user deleted", None),
        };
        Words { event, level, succeeded, message, counter }
    }
}

/// An act to be recorded.
#[derive(Clone, Debug)]
#[must_use]
pub struct Event {
    act: Act,
    reason: Option<String>,
    user: Option<UserId>,
    session: Option<SessionId>,
    generation: Option<u64>,
}

impl Event {
    /// Returns an event that names the act alone.
    pub fn of(act: Act) -> Self {
        Self { act, reason: None, user: None, session: None, generation: None }
    }

    /// Adds the reason. It must not contain text from a client.
    pub fn because(self, reason: impl ToString) -> Self {
        Self { reason: Some(reason.to_string()), ..self }
    }

    /// Adds the user whose account the event is about.
    pub fn about(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    /// Adds the session that the event is about.
    pub fn in_session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// Adds the generation of the refresh token that was presented.
    pub fn with_token(self, generation: u64) -> Self {
        Self { generation: Some(generation), ..self }
    }

    /// Writes the event to the log with the time `now`, and counts it.
    pub fn record(self, now: Timestamp) {
        let Words { event, level, succeeded, message, counter } = self.act.words();
        counter.into_iter().for_each(metrics::count);
        let request = REQUEST.try_with(Clone::clone).unwrap_or_default();
        macro_rules! write {
            ($level:ident) => {
                tracing::event!(
                    target: TARGET,
                    Level::$level,
                    event,
                    datetime = %now,
                    outcome = if succeeded { "success" } else { "failure" },
                    reason = self.reason.as_deref(),
                    user.id = self.user.map(tracing::field::display),
                    session.id = self.session.map(tracing::field::display),
                    token.generation = self.generation,
                    request.id = request.id.as_deref(),
                    source.ip = request.ip.map(tracing::field::display),
                    user_agent.hash = request.user_agent_hash.as_deref(),
                    "{message}"
                )
            };
        }
        match level {
            Level::ERROR => write!(ERROR),
            Level::WARN => write!(WARN),
            _ => write!(INFO),
        }
    }
}

/// The request that events are recorded for.
#[derive(Clone, Default)]
struct Request {
    id: Option<String>,
    ip: Option<IpAddr>,
    user_agent_hash: Option<String>,
}

tokio::task_local! {
    static REQUEST: Request;
}

/// Runs `work`. The events that it records name this request and its client. An IP
/// address that does not parse is left out.
pub(crate) async fn scope<F: Future>(request_id: &str, client: &Client, work: F) -> F::Output {
    REQUEST.scope(Request::new(request_id, client), work).await
}

/// Returns whether events already name a request.
pub(crate) fn is_in_scope() -> bool {
    REQUEST.try_with(|_| ()).is_ok()
}

impl Request {
    fn new(request_id: &str, client: &Client) -> Self {
        let hash = |agent: &str| {
            let hash = Hash::of(&[agent.as_bytes()]);
            hash.as_bytes()[..USER_AGENT_HASH].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Self {
            id: Some(request_id.to_owned()).filter(|id| !id.is_empty()),
            ip: client.ip.parse().ok(),
            user_agent_hash: Some(client.user_agent.as_str()).filter(|agent| !agent.is_empty()).map(hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use lambda_http::http::StatusCode;
    use lambda_http::tower::{Layer, ServiceExt};
    use lambda_http::{Body, Context, Request, RequestExt, Response, request, service_fn};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::tests::parse;
    use crate::layer::Authenticate;
    use crate::{App, telemetry};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn au1_an_event_behind_the_layer_alone_names_its_request() {
        let log = Log::default();
        let writer = log.clone();
        let _guard =
            tracing::subscriber::set_default(telemetry::subscriber(Level::ERROR, move || -> Log { writer.clone() }));
        let config = parse(&[("TABLE_ENDPOINT", "http://127.0.0.1:1")]);
        let clock = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
        let app = App::connect(config.unwrap(), Arc::new(clock), None).await;
        let event = json!({
            "version": "2.0",
            "rawPath": "/greet",
            "headers": { "authorization": "Bearer forged" },
            "requestContext": { "http": { "method": "GET", "path": "/greet", "sourceIp": "192.0.2.1" } },
            "isBase64Encoded": false,
        });
        let mut context = Context::default();
        context.request_id = "request-1".into();
        let request = request::from_str(&event.to_string()).unwrap().with_lambda_context(context);
        let greet = service_fn(|_: Request| async { Ok::<_, lambda_http::Error>(Response::new(Body::Empty)) });
        let answer = Authenticate::new(app).layer(greet).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);

        let line: Value = serde_json::from_slice(&log.0.lock().unwrap()).unwrap();
        for (name, value) in [
            ("event", "authz_fail"),
            ("reason", "malformed"),
            ("outcome", "failure"),
            ("datetime", "2027-01-15T08:00:00Z"),
            ("request.id", "request-1"),
            ("source.ip", "192.0.2.1"),
        ] {
            assert_eq!(line[name], value, "{line}");
        }
        assert_eq!(line["user_agent.hash"], Value::Null);
    }
}
