//! What the local system serves besides the API: a page to try the system out, the
//! contract, the mailbox, and a way to move the clock.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::LocalClock;
use crate::gateway;
use crate::mailbox::Mail;
use crate::system::System;

/// The contract of the API, in OpenAPI.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

const PAGE: &str = include_str!("../page/dist/index.html");

/// The largest body of a request to move the clock, in bytes.
const MAX_BODY: usize = 1024;
/// The furthest that one request can move the clock, in seconds.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// The policy of a mail's HTML: it loads nothing, runs nothing, and its links open in
/// tabs that are not restricted like this.
const MAIL_POLICY: &str = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; \
                           style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'";

/// Returns the routes of the page, of the contract, of the mailbox and of the request
/// that moves the clock.
///
/// # Errors
///
/// `openapi.yaml` cannot be written as JSON, or the page's security policy is not
/// a valid header.
pub fn routes(system: &System) -> io::Result<Router<Arc<System>>> {
    let clock = system.clock().clone();
    let contract: Value = serde_norway::from_str(OPENAPI).map_err(io::Error::other)?;
    let contract = document("application/json", contract.to_string());
    let yaml = document("application/yaml", OPENAPI.into());
    let mut page = document("text/html; charset=utf-8", PAGE.into());
    let policy = HeaderValue::try_from(policy(PAGE)).map_err(io::Error::other)?;
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    let always = |response: Response<Bytes>| get(async move || response.map(Body::from));
    Ok(Router::new()
        .route("/", always(page))
        .route("/openapi.json", always(contract))
        .route("/openapi.yaml", always(yaml))
        .route("/.local/clock", post(move |request| move_clock(clock, request)))
        .route("/.local/mail", get(mails))
        .route("/.local/mail/{id}", get(mail))
        // For functions in other processes: see events/env.json.
        .nest("/.local/ses", system.mailbox().ses()))
}

fn document(content_type: &'static str, text: String) -> Response<Bytes> {
    const HEADERS: [(HeaderName, &str); 3] =
        [(CACHE_CONTROL, "no-store"), (REFERRER_POLICY, "no-referrer"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let mut response = Response::new(text.into());
    let named = HEADERS.into_iter().chain([(CONTENT_TYPE, content_type)]);
    response.headers_mut().extend(named.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// Returns a Content-Security-Policy with which `page` can run only its own scripts
/// and styles, and call only the system that served it.
fn policy(page: &str) -> String {
    let (scripts, styles) = (hashes(page, "script"), hashes(page, "style"));
    format!(
        "default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; \
         frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the hashes of the elements `name` of `page`, as CSP sources; `'none'` if
/// the page has no such element.
fn hashes(page: &str, name: &str) -> String {
    let (start, end) = (format!("<{name}"), format!("</{name}>"));
    let elements = page.split(&start).skip(1);
    let texts = elements.filter_map(|element| element.split_once(&end)?.0.split_once('>'));
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let sources: Vec<_> = texts.map(|(_, text)| format!("'sha256-{}'", hash(text))).collect();
    if sources.is_empty() { "'none'".into() } else { sources.join(" ") }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    advance_seconds: u64,
}

/// Moves the clock ahead, and answers with its new time in milliseconds since the epoch.
async fn move_clock(clock: LocalClock, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let answer = if !is_our_own(&head.headers) {
        gateway::message(StatusCode::FORBIDDEN)
    } else if head.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        gateway::message(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else {
        let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
        let seconds = serde_json::from_slice::<Move>(&body).map(|body| body.advance_seconds);
        let seconds = seconds.ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
        match seconds.and_then(|seconds| clock.advance(seconds)) {
            Some(now) => gateway::json_response(StatusCode::OK, &json!({ "now": now.millis() })),
            None => gateway::message(StatusCode::BAD_REQUEST),
        }
    };
    answer.map(Body::from)
}

/// Delivers what is in the outbox, and answers with the mails, the newest first. The
/// parameter `to` selects those to one address.
async fn mails(State(system): State<Arc<System>>, request: Request) -> Response<Body> {
    if !is_to_this_machine(request.headers()) {
        return gateway::message(StatusCode::FORBIDDEN).map(Body::from);
    }
    system.deliver_mail().await;
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let to = form_urlencoded::parse(query).find_map(|(name, value)| (name == "to").then_some(value));
    let mails = system.mailbox().mails();
    let mails = mails.iter().filter(|mail| to.as_ref().is_none_or(|to| mail.to == *to));
    let shown = |mail: &Mail| {
        let Mail { id, to, subject, text, html, sent_at, .. } = mail;
        json!({ "id": id, "to": to, "subject": subject, "text": text, "html": html, "sent_at": sent_at.to_string() })
    };
    document("application/json", Value::from_iter(mails.map(shown)).to_string()).map(Body::from)
}

/// Answers with the HTML of one mail, for a frame.
async fn mail(State(system): State<Arc<System>>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    let mail = id.parse().ok().and_then(|id| system.mailbox().mail(id));
    let Some(mail) = mail.filter(|_| is_to_this_machine(&headers)) else {
        return gateway::message(StatusCode::NOT_FOUND).map(Body::from);
    };
    // The frame cannot navigate itself, so links open in a new tab.
    let html = mail.html.replacen("<head>", "<head><base target=\"_blank\">", 1);
    let mut response = document("text/html; charset=utf-8", html);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(MAIL_POLICY));
    response.map(Body::from)
}

/// Whether the request names this machine as the host. One that a page of another host
/// makes (DNS rebinding) names that host.
fn is_to_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.split(':').next();
    ["127.0.0.1", "localhost"].map(Some).contains(&name)
}

/// Whether the request was made by a page of this system, or not by a page at all.
/// A page that reaches this system under another host name (DNS rebinding) sends
/// that name as its origin.
fn is_our_own(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    is_to_this_machine(headers) && *origin == format!("http://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_each_script_and_style_of_the_page_by_its_hash() {
        let page = "<style>b{}</style><p>x</p><script type=\"module\">alert(1)</script><script>\n</script>";
        let policy = policy(page);
        for source in [
            "script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI=' \
             'sha256-AbpHGcgLb+kRsJGnwFEktk7uzpZOCcBY74+YBdrKVGs=';",
            "style-src 'sha256-7yqHVAesot11p6HczDsgKRipvI5UPgs97z80zNXlans=';",
        ] {
            assert!(policy.contains(source), "{source} in {policy}");
        }
        assert!(super::policy("<p>x</p>").contains("script-src 'none'; style-src 'none';"));
    }

    #[test]
    fn a_page_of_another_origin_is_not_our_own() {
        for (host, origin, is_own) in [
            ("127.0.0.1:3000", None, true),
            ("127.0.0.1:3000", Some("http://127.0.0.1:3000"), true),
            ("localhost:3000", Some("http://localhost:3000"), true),
            ("127.0.0.1:3000", Some("http://localhost:3000"), false),
            ("127.0.0.1:3000", Some("http://127.0.0.1:4000"), false),
            ("127.0.0.1:3000", Some("https://evil.example"), false),
            ("127.0.0.1:3000", Some("null"), false),
            ("evil.example:3000", Some("http://evil.example:3000"), false),
            ("127.0.0.1.evil.example:3000", Some("http://127.0.0.1.evil.example:3000"), false),
        ] {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(is_our_own(&headers), is_own, "{host} {origin:?}");
        }
    }
}
