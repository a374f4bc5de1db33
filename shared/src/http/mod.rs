//! Requests in: what a handler asks of one.

mod answer;
mod body;
mod cookie;
mod proxy;
mod route;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AUTHORIZATION, USER_AGENT};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

pub(crate) use answer::secure;
pub use answer::{Answer, Dialect, json, no_content, render, sessions, user};
pub use body::Members;
pub use cookie::Carrier;
pub(crate) use proxy::resolve;
pub use route::{path_parameter, route_key};

use crate::auth::Error;
use crate::client::Client;
use crate::session::Hash;

/// The most bytes an Idempotency-Key may have.
const MAX_KEY: usize = 255;
/// The most bytes that are kept of a `User-Agent`, so that a session stays
/// below 1 KB and a write of it costs one unit.
const MAX_USER_AGENT: usize = 256;

/// The members of the body, JSON or form. An empty body has none.
///
/// # Errors
///
/// [`Error::PayloadTooLarge`], [`Error::UnsupportedMediaType`] or
/// [`Error::InvalidRequest`].
pub fn members(request: &Request) -> Result<Members, Error> {
    Members::read(request)
}

/// The access token of `Authorization: Bearer …` (RFC 6750, section 2.1).
/// `None` for another scheme.
pub fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The refresh token of the body. It is never taken from the URL, which is logged.
///
/// # Errors
///
/// [`Error::InvalidRefreshToken`] when there is none; as [`members`].
pub fn refresh_token(request: &Request) -> Result<String, Error> {
    no_token_in_url(request)?;
    let members = members(request)?;
    let token = members.optional("refresh_token")?.filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or(Error::InvalidRefreshToken { was_sent: false })
}

/// The refresh token of the body or of the header `x-refresh-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when there is none; as [`members`].
pub fn refresh_token_to_end(request: &Request) -> Result<String, Error> {
    match refresh_token(request) {
        Err(Error::InvalidRefreshToken { was_sent: false }) => {
            header(request.headers(), "x-refresh-token")?.map(str::to_owned).ok_or(Error::InvalidRequest(
                "Send the refresh token, as refresh_token in the body or as x-refresh-token.",
            ))
        }
        sent => sent,
    }
}

/// The refresh token of the header `x-refresh-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when the header stands twice.
pub fn refresh_token_header(request: &Request) -> Result<Option<&str>, Error> {
    header(request.headers(), "x-refresh-token")
}

/// The device token of the header `x-device-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when the header stands twice.
pub fn device_token(request: &Request) -> Result<Option<&str>, Error> {
    header(request.headers(), "x-device-token")
}

fn no_token_in_url(request: &Request) -> Result<(), Error> {
    let query = request.query_string_parameters_ref();
    match query.and_then(|query| query.first("refresh_token")) {
        Some(_) => Err(Error::InvalidRequest("Send the refresh token in the body, not in the URL.")),
        None => Ok(()),
    }
}

/// What identifies the attempt that a refresh is: the Idempotency-Key, or the
/// Lambda request, which the SDK's own retries share.
///
/// # Errors
///
/// [`Error::InvalidRequest`] for a key that is empty or over 255 bytes.
pub fn attempt(request: &Request) -> Result<Hash, Error> {
    match header(request.headers(), "idempotency-key")? {
        Some(key) if key.is_empty() || key.len() > MAX_KEY => {
            Err(Error::InvalidRequest("The Idempotency-Key must have 1 to 255 characters."))
        }
        Some(key) => Ok(Hash::of(&[b"idempotency-key:", key.as_bytes()])),
        None => Ok(Hash::of(&[b"request:", request_id(request).as_bytes()])),
    }
}

/// The id of the Lambda request.
pub fn request_id(request: &Request) -> &str {
    request.lambda_context_ref().map_or("", |context| &context.request_id)
}

/// Where the request comes from.
pub fn client(request: &Request) -> Client {
    let ip = context(request).and_then(|context| context.http.source_ip.clone());
    let user_agent = request.headers().get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut user_agent = user_agent.unwrap_or_default().into_owned();
    user_agent.truncate(user_agent.floor_char_boundary(MAX_USER_AGENT));
    Client { ip: ip.unwrap_or_default(), user_agent }
}

fn context(request: &Request) -> Option<&ApiGatewayV2httpRequestContext> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => Some(context),
        _ => None,
    }
}

/// A header that may stand once.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(|value| Some(value.trim())).map_err(|_| Error::InvalidRequest("A header is not ASCII."))
        }
        (Some(_), Some(_)) => Err(Error::InvalidRequest("A header stands twice.")),
    }
}

#[cfg(test)]
mod tests;
