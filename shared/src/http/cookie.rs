//! The refresh token in a cookie, and the guard in front of it.
//!
//! A browser attaches a cookie to whatever request any page makes. So a request
//! that uses the cookie, or whose answer would set it, must show that a page of
//! our own made it: one that other pages cannot make without a preflight, which
//! they do not pass.

use std::time::Duration;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use lambda_http::{Body, Request, Response};
use secrecy::{ExposeSecret, SecretString};

use super::{Answer, body, header};
use crate::audit::{Act, Event};
use crate::auth::{App, Error, Tokens};
use crate::transport::{Mode, SameSite, Transport};

/// Browsers take a cookie of this name only with `Secure` and `Path=/`, from the
/// host itself: no neighbour under the same domain can plant one.
const REFRESH_TOKEN: &str = "__Host-refresh_token";
/// The same for the device token.
const DEVICE_TOKEN: &str = "__Host-device_token";
/// The most bytes of name and value that browsers take (RFC 6265bis, section 5.6).
const MAX_COOKIE: usize = 4096;
/// The longest that browsers keep a cookie.
const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What brings the refresh token of a request, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The body; a cookie that the browser attached is ignored.
    Body,
    /// The cookie; a refresh token anywhere else is ignored.
    Cookie(SameSite),
}

impl Carrier {
    /// The carrier of a request, which is guarded if that is the cookie.
    ///
    /// # Errors
    ///
    /// [`Error::OriginNotAllowed`] where the guard refuses;
    /// [`Error::InvalidRequest`] for an `x-token-transport` that there is not.
    pub fn of(app: &App, request: &Request) -> Result<Self, Error> {
        let transport = &app.config().transport;
        let carrier = Self::picked(transport, request)?;
        if carrier != Self::Body {
            guard(&transport.allowed_origins, request)
                .inspect_err(|_| app.record(Event::of(Act::AccessDenied).because("origin_not_allowed")))?;
        }
        Ok(carrier)
    }

    /// The carrier of a request that neither uses nor sets the refresh token's cookie.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] for an `x-token-transport` that there is not.
    pub fn picked(transport: &Transport, request: &Request) -> Result<Self, Error> {
        let cookie = Self::Cookie(transport.same_site);
        match transport.mode {
            Mode::Body => Ok(Self::Body),
            Mode::Cookie => Ok(cookie),
            Mode::Both => match header(request.headers(), "x-token-transport")? {
                None | Some("body") => Ok(Self::Body),
                Some("cookie") => Ok(cookie),
                Some(_) => Err(Error::InvalidRequest("x-token-transport is either cookie or body.")),
            },
        }
    }

    /// The refresh token of the request.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRefreshToken`] when there is none;
    /// [`Error::InvalidRequest`] for two cookies of the name; as [`super::members`].
    pub fn refresh_token(self, request: &Request) -> Result<String, Error> {
        match self {
            Self::Body => super::refresh_token(request),
            Self::Cookie(_) => only_cookie(request)?.ok_or(Error::InvalidRefreshToken { was_sent: false }),
        }
    }

    /// The refresh token whose session is to be ended.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] when there is none, and for two cookies of the
    /// name; as [`super::members`].
    pub fn refresh_token_to_end(self, request: &Request) -> Result<String, Error> {
        match self {
            Self::Body => super::refresh_token_to_end(request),
            Self::Cookie(_) => {
                only_cookie(request)?.ok_or(Error::InvalidRequest("Send the cookie that has the refresh token."))
            }
        }
    }

    /// The device token of the request, if it brought one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] for two of them.
    pub fn device_token(self, request: &Request) -> Result<Option<String>, Error> {
        match self {
            Self::Body => Ok(super::device_token(request)?.map(str::to_owned)),
            Self::Cookie(_) => cookie(request, DEVICE_TOKEN),
        }
    }

    /// A token, if it goes into the body of the answer.
    pub(super) fn in_body(self, token: &SecretString) -> Option<&str> {
        (self == Self::Body).then(|| token.expose_secret())
    }

    /// The answer, with the device token in its cookie, if that is the carrier.
    pub(super) fn attach_device(self, answer: Response<Body>, device_token: &SecretString) -> Answer {
        self.set(answer, DEVICE_TOKEN, device_token.expose_secret(), MAX_AGE)
    }

    /// The answer, with the cookie, if that is the carrier.
    pub(super) fn attach(self, answer: Response<Body>, tokens: &Tokens) -> Answer {
        let seconds = u64::try_from(tokens.refresh_expires_in).unwrap_or_default();
        self.set(answer, REFRESH_TOKEN, tokens.refresh_token.expose_secret(), Duration::from_secs(seconds))
    }

    /// The answer after which the browser has no such cookie.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`], as for any cookie; but this one always fits.
    pub fn detach(self, answer: Response<Body>) -> Answer {
        self.set(answer, REFRESH_TOKEN, "", Duration::ZERO)
    }

    fn set(self, mut answer: Response<Body>, name: &str, value: &str, max_age: Duration) -> Answer {
        let Self::Cookie(same_site) = self else { return Ok(answer) };
        let seconds = max_age.min(MAX_AGE).as_secs();
        let cookie = format!("{name}={value}; HttpOnly; Secure; SameSite={same_site}; Path=/; Max-Age={seconds}");
        let cookie = HeaderValue::try_from(cookie).ok().filter(|_| name.len() + value.len() <= MAX_COOKIE);
        let mut cookie = cookie.ok_or_else(|| Error::Internal("a token is no cookie value".into()))?;
        cookie.set_sensitive(true);
        answer.headers_mut().append(SET_COOKIE, cookie);
        Ok(answer)
    }
}

/// Lets through what only a page of an allowed origin can send: browsers vouch
/// for `Origin`, and ask before they send another page's `x-requested-with` or
/// JSON.
fn guard(allowed_origins: &[String], request: &Request) -> Result<(), Error> {
    let one = |name| header(request.headers(), name).ok().flatten();
    let has_origin = one("origin").is_some_and(|origin| allowed_origins.iter().any(|allowed| allowed == origin));
    let has_header = one("x-requested-with").is_some_and(|value| !value.is_empty());
    let is_json_or_empty = body::is_json_or_empty(request);
    if has_origin && has_header && is_json_or_empty {
        return Ok(());
    }
    tracing::info!(has_origin, has_header, is_json_or_empty, "request with or for a cookie refused");
    Err(Error::OriginNotAllowed)
}

/// The refresh token's cookie, where no other refresh token counts. The body must
/// still be one that is read here.
fn only_cookie(request: &Request) -> Result<Option<String>, Error> {
    super::no_token_in_url(request)?;
    super::members(request)?;
    cookie(request, REFRESH_TOKEN)
}

/// The value of the cookie `name`.
fn cookie(request: &Request, name: &'static str) -> Result<Option<String>, Error> {
    let mut values = values(request.headers(), name);
    match (values.next(), values.next()) {
        (Some(value), None) => match std::str::from_utf8(value) {
            Ok(value) => Ok(Some(value.to_owned()).filter(|value| !value.is_empty())),
            Err(_) => Err(Error::InvalidRequest("The cookie is not ASCII.")),
        },
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Error::InvalidRequest("The cookie stands twice.")),
    }
}

/// Every value of the cookie, whose name is spelled exactly so: what an old
/// browser takes under another spelling has none of the prefix's warrants.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
