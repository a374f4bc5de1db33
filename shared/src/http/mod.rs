//! What handlers read from requests, and how answers are rendered.

mod answer;
mod body;
mod cookie;
mod media_type;
mod proxy;
mod route;

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AUTHORIZATION, USER_AGENT};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

pub(crate) use answer::secure;
pub use answer::{Answer, Dialect, confirmed, json, no_content, render, sessions, user};
pub use body::Members;
pub use cookie::Carrier;
pub(crate) use proxy::resolve;
pub use route::{path_parameter, route_key};

use crate::auth::Error;
use crate::client::Client;
use crate::entropy;
use crate::session::Hash;

/// The most bytes of an `Idempotency-Key`.
const MAX_KEY: usize = 255;
/// The most bytes that are kept of a `User-Agent`: a session must stay below 1 KB, so
/// that writing it costs one write unit.
const MAX_USER_AGENT: usize = 256;

/// Returns the members of the body, which is JSON or a form. An empty body has none.
///
/// # Errors
///
/// [`Error::PayloadTooLarge`] for a body over 8 KiB; [`Error::UnsupportedMediaType`]
/// for a body of another type or a compressed body; [`Error::InvalidRequest`] for a
/// malformed body.
pub fn members(request: &Request) -> Result<Members, Error> {
    Members::read(request)
}

/// Returns the access token of `Authorization: Bearer …` (RFC 6750, section 2.1).
/// `None` for another scheme.
pub fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Returns the refresh token in the body. It is never read from the URL, because URLs are logged.
///
/// # Errors
///
/// [`Error::NoRefreshToken`] when the body has none; [`Error::InvalidRequest`] when the
/// URL has one; and those of [`members`].
pub fn refresh_token(request: &Request) -> Result<String, Error> {
    no_token_in_url(request)?;
    let members = members(request)?;
    let token = members.optional("refresh_token")?.filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or(Error::NoRefreshToken)
}

/// Returns the refresh token of a logout, in the body or in the header `x-refresh-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when there is no token, or the header appears more than
/// once; and those of [`refresh_token`].
pub fn refresh_token_to_end(request: &Request) -> Result<String, Error> {
    match refresh_token(request) {
        Err(Error::NoRefreshToken) => refresh_token_header(request)?.map(str::to_owned).ok_or_else(|| {
            Error::InvalidRequest(
                "Send the refresh token as `refresh_token` in the body or in the header `x-refresh-token`.".into(),
            )
        }),
        sent => sent,
    }
}

/// Returns the refresh token in the header `x-refresh-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when the header appears more than once or is not ASCII.
pub fn refresh_token_header(request: &Request) -> Result<Option<&str>, Error> {
    header(request.headers(), "x-refresh-token")
}

/// Returns the device token in the header `x-device-token`.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when the header appears more than once or is not ASCII.
pub fn device_token(request: &Request) -> Result<Option<&str>, Error> {
    header(request.headers(), "x-device-token")
}

fn no_token_in_url(request: &Request) -> Result<(), Error> {
    let query = request.query_string_parameters_ref();
    match query.and_then(|query| query.first("refresh_token")) {
        Some(_) => Err(Error::InvalidRequest("Send the refresh token in the body, not in the URL.".into())),
        None => Ok(()),
    }
}

/// Returns the key of an attempt: a hash of the Idempotency-Key, or else of
/// the id of the Lambda request, which the SDK's own retries share. Without either,
/// every request is a separate attempt.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when the Idempotency-Key is empty, is over 255 bytes,
/// appears more than once or is not ASCII.
pub fn attempt(request: &Request) -> Result<Hash, Error> {
    match header(request.headers(), "idempotency-key")? {
        Some(key) if key.is_empty() || key.len() > MAX_KEY => {
            Err(Error::InvalidRequest("The header `idempotency-key` must have 1 to 255 characters.".into()))
        }
        Some(key) => Ok(Hash::of(&[b"idempotency-key:", key.as_bytes()])),
        None if request_id(request).is_empty() => Ok(Hash::of(&[b"request:", &entropy::bytes::<16>()])),
        None => Ok(Hash::of(&[b"request:", request_id(request).as_bytes()])),
    }
}

/// Returns the id of the Lambda request.
pub fn request_id(request: &Request) -> &str {
    request.lambda_context_ref().map_or("", |context| &context.request_id)
}

/// Returns the client that sent the request.
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

/// Returns the value of a header that may appear at most once.
///
/// # Errors
///
/// [`Error::InvalidRequest`] when it appears more than once or is not ASCII.
fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let value = value.to_str().map(str::trim);
            value.map(Some).map_err(|_| Error::InvalidRequest(format!("The header `{name}` must be ASCII.").into()))
        }
        (Some(_), Some(_)) => Err(Error::InvalidRequest(format!("The header `{name}` appears more than once.").into())),
    }
}

#[cfg(test)]
mod tests;
