//! `freshkey smoke`: the walk of the README against a deployment, with a throw-away user.

use std::time::{Duration, Instant};

use freshkey::entropy;
use reqwest::header::{COOKIE, HeaderValue, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::cli::Smoke;
use crate::failure::{Failure, causes};
use crate::output::Output;

/// How long one request may take. API Gateway gives up after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long a spent token may be answered: the longest reuse interval, and a little more.
const LONGEST_INTERVAL: Duration = Duration::from_secs(63);
/// The pause between two attempts with a spent token.
const PAUSE: Duration = Duration::from_secs(1);
/// The most characters of a text from an answer that are printed: fewer than a password
/// or a token has.
const MOST_SHOWN: usize = 40;

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const FORGOT: &str = "/api/v1/auth/password/forgot";
const ME: &str = "/api/v1/users/me";
const DELETE: &str = "/api/v1/users/me/delete";
const REFRESH_COOKIE: &str = "__Host-refresh_token=";

/// Walks, and prints each step.
///
/// # Errors
///
/// A [`Failure`] that names the step: exit code 1 if the answer is not the expected one,
/// 3 if there is none.
pub async fn run(options: &Smoke, out: &Output) -> Result<(), Failure> {
    let visitor = Visitor::new(options)?;
    let steps = Steps { out };
    let (walked, access_token) = match steps.take("register", visitor.sign_in(REGISTER, StatusCode::CREATED)).await {
        Ok(tokens) => (walk(&steps, &visitor, &tokens).await, Some(tokens.access)),
        // The user may exist even if the answer is lost or makes no sense.
        Err(failure) => (Err(failure), None),
    };
    let deleted = steps.take_if_any("delete", visitor.delete(access_token.as_ref())).await;
    walked.and(deleted)
}

/// Takes every step between the registration and the deletion, until one fails.
async fn walk(steps: &Steps<'_>, visitor: &Visitor, first: &Tokens) -> Result<(), Failure> {
    steps.take("profile", visitor.profile(&first.access)).await?;
    let key = random::<16>();
    let second = steps.take("refresh", visitor.refresh(&first.refresh, Some(&key))).await?;
    steps.take("replay", visitor.replay(&first.refresh, &key, &second.refresh)).await?;
    steps.take("reuse", visitor.reuse(&first.refresh, &second.refresh)).await?;
    let again = steps.take("login", visitor.sign_in(LOGIN, StatusCode::OK)).await?;
    steps.take("logout", visitor.logout(&again.refresh)).await?;
    steps.take_if_any("forgot", visitor.forgot()).await
}

/// Prints the steps.
struct Steps<'a> {
    out: &'a Output,
}

/// Why a step failed.
struct Fault {
    problem: String,
    /// Whether there was an answer, which is not the expected one.
    is_answered: bool,
}

/// Why there was nothing to do, if so.
type Skipped = Option<&'static str>;

impl Steps<'_> {
    /// Takes a step, and prints its outcome and how long it took.
    async fn take<T>(&self, step: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Failure> {
        self.print(step, work, |_| None).await
    }

    /// Takes a step in which there may be nothing to do.
    async fn take_if_any(&self, step: &str, work: impl Future<Output = Result<Skipped, Fault>>) -> Result<(), Failure> {
        self.print(step, work, |skipped| *skipped).await.map(drop)
    }

    async fn print<T>(
        &self,
        step: &str,
        work: impl Future<Output = Result<T, Fault>>,
        skipped: fn(&T) -> Skipped,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let outcome = work.await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, problem) = match &outcome {
            Ok(done) => match skipped(done) {
                Some(reason) => (None, Some(format!("skipped: {reason}"))),
                None => (Some(true), None),
            },
            Err(fault) => (Some(false), Some(fault.problem.clone())),
        };
        let text = problem.as_deref().unwrap_or("ok");
        let object = json!({ "step": step, "ok": ok, "problem": problem, "milliseconds": milliseconds });
        self.out.line_of(&object, &format!("{step}: {text} ({milliseconds} ms)"));
        outcome.map_err(|fault| match fault.is_answered {
            true => Failure::refused("step_failed", format!("The step {step} failed.")),
            false => Failure::unreachable("unavailable", format!("The step {step} was not answered.")),
        })
    }
}

/// The throw-away user.
struct Visitor {
    client: Client,
    /// The URL of the API, without a slash at the end.
    api: String,
    /// The origin of a page that uses cookies.
    origin: Option<HeaderValue>,
    email: String,
    password: SecretString,
}

/// The tokens of a session.
struct Tokens {
    access: SecretString,
    refresh: SecretString,
}

/// An answer, with the refresh token of its cookie if there is one.
struct Answer {
    status: StatusCode,
    body: Value,
    cookie: Option<SecretString>,
}

impl Visitor {
    fn new(options: &Smoke) -> Result<Self, Failure> {
        let client = Client::builder().timeout(PATIENCE).redirect(Policy::none()).user_agent("freshkey smoke").build();
        let client = client.map_err(|error| Failure::unreachable("unavailable", causes(&error)))?;
        let origin = options.origin.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client,
            api: options.url.as_str().trim_end_matches('/').to_owned(),
            origin: origin.map_err(|_| Failure::usage("origin", "--origin is not an origin."))?,
            // SES takes mails to this address, and delivers them to nobody.
            email: format!("success+{}@simulator.amazonses.com", random::<8>()),
            password: random::<32>().into(),
        })
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.api));
        match &self.origin {
            None => request,
            Some(origin) => {
                let request = request.header(ORIGIN, origin);
                request.header("x-requested-with", "freshkey smoke").header("x-token-transport", "cookie")
            }
        }
    }

    /// Returns a request with a refresh token: in the body, or in the cookie.
    fn with_refresh_token(&self, path: &str, token: &SecretString) -> Result<RequestBuilder, Fault> {
        let token = token.expose_secret();
        if self.origin.is_none() {
            return Ok(self.post(path, &json!({ "refresh_token": token })));
        }
        let cookie = HeaderValue::from_str(&format!("{REFRESH_COOKIE}{token}"));
        let mut cookie = cookie.map_err(|_| unexpected("the cookie cannot be sent back"))?;
        cookie.set_sensitive(true);
        Ok(self.request(Method::POST, path).header(COOKIE, cookie))
    }

    /// Registers or logs in.
    async fn sign_in(&self, path: &str, expected: StatusCode) -> Result<Tokens, Fault> {
        let body = json!({ "email": self.email, "password": self.password.expose_secret() });
        send(self.post(path, &body)).await?.expect(expected)?.tokens()
    }

    async fn profile(&self, access_token: &SecretString) -> Result<(), Fault> {
        let request = self.request(Method::GET, ME).bearer_auth(access_token.expose_secret());
        let answer = send(request).await?.expect(StatusCode::OK)?;
        if answer.body["email"] == self.email.as_str() {
            Ok(())
        } else {
            Err(unexpected("the profile has another address"))
        }
    }

    async fn refresh(&self, token: &SecretString, key: Option<&str>) -> Result<Tokens, Fault> {
        self.refreshed(token, key).await?.expect(StatusCode::OK)?.tokens()
    }

    async fn refreshed(&self, token: &SecretString, key: Option<&str>) -> Result<Answer, Fault> {
        let mut request = self.with_refresh_token(REFRESH, token)?;
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        send(request).await
    }

    /// Asks again for an answer that may have been lost.
    async fn replay(&self, spent: &SecretString, key: &str, current: &SecretString) -> Result<(), Fault> {
        let again = self.refresh(spent, Some(key)).await?;
        let is_same = again.refresh.expose_secret() == current.expose_secret();
        if is_same { Ok(()) } else { Err(unexpected("the same attempt got another refresh token")) }
    }

    /// Presents a spent token as a thief would, after the reuse interval if there is one.
    async fn reuse(&self, spent: &SecretString, current: &SecretString) -> Result<(), Fault> {
        let began = Instant::now();
        loop {
            let answer = self.refreshed(spent, None).await?;
            if answer.status != StatusCode::OK || began.elapsed() > LONGEST_INTERVAL {
                answer.expect_refused("a spent refresh token")?;
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.refreshed(current, None).await?.expect_refused("the refresh token of a session that reuse has ended")
    }

    async fn logout(&self, token: &SecretString) -> Result<(), Fault> {
        send(self.with_refresh_token(LOGOUT, token)?).await?.expect(StatusCode::NO_CONTENT)?;
        self.refreshed(token, None).await?.expect_refused("a refresh token after the logout")
    }

    async fn forgot(&self) -> Result<Skipped, Fault> {
        let answer = send(self.post(FORGOT, &json!({ "email": self.email }))).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Some("mail is off")),
            _ => answer.expect(StatusCode::ACCEPTED).map(|_| None),
        }
    }

    /// Deletes the user, in a new session or else with `access_token`.
    async fn delete(&self, access_token: Option<&SecretString>) -> Result<Skipped, Fault> {
        let signed_in = self.sign_in(LOGIN, StatusCode::OK).await;
        let access_token = match (&signed_in, access_token) {
            (Ok(tokens), _) => &tokens.access,
            (Err(_), Some(access_token)) => access_token,
            (Err(_), None) => return Ok(Some("nobody can log in as the user, so there is probably none")),
        };
        let body = json!({ "password": self.password.expose_secret() });
        let deleted = send(self.post(DELETE, &body).bearer_auth(access_token.expose_secret())).await;
        deleted.and_then(|answer| answer.expect(StatusCode::NO_CONTENT)).map(|_| None).map_err(|fault| {
            let mend = format!("Delete the user: `freshkey users delete {}`", self.email);
            Fault { problem: format!("{}. {mend}", fault.problem), ..fault }
        })
    }
}

impl Answer {
    /// Returns the answer, if it has this status.
    fn expect(self, status: StatusCode) -> Result<Self, Fault> {
        if self.status == status {
            return Ok(self);
        }
        let hint = if self.code() == "origin_not_allowed" {
            ": the refresh token is in a cookie, so give --origin with one of the AllowedOrigins"
        } else {
            ""
        };
        Err(unexpected(format!("{} instead of {}{hint}", self.summary(), status.as_u16())))
    }

    /// Checks that the request was refused because of its refresh token.
    fn expect_refused(&self, token: &str) -> Result<(), Fault> {
        if self.status == StatusCode::UNAUTHORIZED && self.code() == "invalid_refresh_token" {
            return Ok(());
        }
        Err(unexpected(format!("{token} got {} instead of 401 invalid_refresh_token", self.summary())))
    }

    /// Returns the access token, and the refresh token from the body or the cookie.
    fn tokens(self) -> Result<Tokens, Fault> {
        let text = |name: &str| self.body[name].as_str().map(SecretString::from);
        let access = text("access_token").ok_or_else(|| unexpected("the answer has no access token"))?;
        let refresh = self.cookie.clone().or_else(|| text("refresh_token"));
        let refresh = refresh.ok_or_else(|| unexpected("the answer has no refresh token"))?;
        Ok(Tokens { access, refresh })
    }

    fn code(&self) -> &str {
        shown(&self.body["error"])
    }

    /// Returns the status, the code, and the id with which the log has the request.
    fn summary(&self) -> String {
        let mut summary = self.status.as_u16().to_string();
        for (word, value) in [("", self.code()), ("request_id ", shown(&self.body["request_id"]))] {
            if !value.is_empty() {
                summary += &format!(" {word}{value}");
            }
        }
        summary
    }
}

/// Returns a short word from an answer, such as a code or an id.
fn shown(value: &Value) -> &str {
    let is_word = |text: &&str| {
        text.len() <= MOST_SHOWN && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
    };
    value.as_str().filter(is_word).unwrap_or_default()
}

fn unexpected(problem: impl Into<String>) -> Fault {
    Fault { problem: problem.into(), is_answered: true }
}

async fn send(request: RequestBuilder) -> Result<Answer, Fault> {
    let unanswered = |error: reqwest::Error| Fault { problem: causes(&error), is_answered: false };
    let response = request.send().await.map_err(unanswered)?;
    let cookies = response.headers().get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let token = cookies.filter_map(|cookie| cookie.strip_prefix(REFRESH_COOKIE)?.split(';').next()).next_back();
    let cookie = token.filter(|token| !token.is_empty()).map(SecretString::from);
    let status = response.status();
    let body = response.bytes().await.map_err(unanswered)?;
    Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default(), cookie })
}

/// Returns `N` random bytes as hexadecimal digits.
fn random<const N: usize>() -> String {
    entropy::bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
