//! Tokens in cookies, and the guard of the requests that use them.
//!
//! A browser attaches a cookie to the requests of every page. So a request that uses
//! the refresh token's cookie, or whose answer would set it, must be one that a page of
//! another origin can make only after a preflight, which the API refuses.

use std::time::Duration;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use lambda_http::{Body, Request, Response};
use secrecy::{ExposeSecret, SecretString};

use super::{Answer, Dialect, body, header, render, request_id};
use crate::audit::{Act, Event};
use crate::auth::{App, Error, Tokens};
use crate::transport::{Mode, SameSite, Transport};

/// The cookie of the refresh token. Browsers accept a cookie with this prefix only with
/// `Secure` and `Path=/`, and from the host itself, so other hosts of the same domain
/// cannot set it (RFC 6265bis, section 4.1.3.2).
const REFRESH_TOKEN: &str = "__Host-refresh_token";
/// The cookie of the device token, with the same prefix.
const DEVICE_TOKEN: &str = "__Host-device_token";
/// The most bytes of name and value that browsers accept (RFC 6265bis, section 5.6).
const MAX_COOKIE: usize = 4096;
/// The longest time for which browsers keep a cookie (RFC 6265bis, section 5.5).
const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Where a request and its answer carry the refresh token and the device token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the body. A cookie that the browser attached is ignored.
    Body,
    /// In a cookie. A refresh token anywhere else is ignored.
    Cookie(SameSite),
}

impl Carrier {
    /// Returns the carrier of a request that may use or set the refresh token's cookie.
    /// If the carrier is the cookie, the request must pass the guard.
    ///
    /// # Errors
    ///
    /// [`Error::OriginNotAllowed`] when the guard refuses the request; and those of
    /// [`Carrier::picked`].
    pub fn of(app: &App, request: &Request) -> Result<Self, Error> {
        let transport = &app.config().transport;
        let carrier = Self::picked(transport, request)?;
        if carrier != Self::Body {
            guard(&transport.allowed_origins, request)
                .inspect_err(|_| app.record(Event::of(Act::AccessDenied).because("origin_not_allowed")))?;
        }
        Ok(carrier)
    }

    /// Returns the carrier of a request, without the guard.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] when the header `x-token-transport` names a transport
    /// that REFRESH_TOKEN_TRANSPORT does not allow, appears more than once or is not
    /// ASCII.
    pub fn picked(transport: &Transport, request: &Request) -> Result<Self, Error> {
        let cookie = Self::Cookie(transport.same_site);
        match (transport.mode, header(request.headers(), "x-token-transport")?) {
            (Mode::Body | Mode::Both, None | Some("body")) => Ok(Self::Body),
            (Mode::Cookie, None) | (Mode::Cookie | Mode::Both, Some("cookie")) => Ok(cookie),
            (Mode::Body, Some(_)) => {
                Err(Error::InvalidRequest("The header `x-token-transport` must be `body`.".into()))
            }
            (Mode::Cookie, Some(_)) => {
                Err(Error::InvalidRequest("The header `x-token-transport` must be `cookie`.".into()))
            }
            (Mode::Both, Some(_)) => {
                Err(Error::InvalidRequest("The header `x-token-transport` must be `body` or `cookie`.".into()))
            }
        }
    }

    /// Returns the refresh token of the request.
    ///
    /// # Errors
    ///
    /// [`Error::NoRefreshToken`] when the body has none;
    /// [`Error::InvalidRefreshToken`] when there is no cookie, because then there is
    /// no session either; [`Error::InvalidRequest`] when the cookie appears more
    /// than once; and those of [`super::members`].
    pub fn refresh_token(self, request: &Request) -> Result<String, Error> {
        match self {
            Self::Body => super::refresh_token(request),
            Self::Cookie(_) => only_cookie(request)?.ok_or(Error::InvalidRefreshToken { was_sent: false }),
        }
    }

    /// Returns the refresh token of a logout.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] when there is no token, or the cookie appears more
    /// than once; and those of [`super::members`].
    pub fn refresh_token_to_end(self, request: &Request) -> Result<String, Error> {
        match self {
            Self::Body => super::refresh_token_to_end(request),
            Self::Cookie(_) => only_cookie(request)?
                .ok_or_else(|| Error::InvalidRequest(format!("Send the cookie `{REFRESH_TOKEN}`.").into())),
        }
    }

    /// Returns the device token of the request, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] when the header or the cookie appears more than
    /// once or is not ASCII.
    pub fn device_token(self, request: &Request) -> Result<Option<String>, Error> {
        match self {
            Self::Body => Ok(super::device_token(request)?.map(str::to_owned)),
            Self::Cookie(_) => cookie(request, DEVICE_TOKEN),
        }
    }

    /// Returns the token, if it goes into the body of the answer.
    pub(super) fn in_body(self, token: &SecretString) -> Option<&str> {
        (self == Self::Body).then(|| token.expose_secret())
    }

    /// Returns the answer, with the device token in a cookie if the carrier is the cookie.
    pub(super) fn attach_device(self, answer: Response<Body>, device_token: &SecretString) -> Answer {
        self.set(answer, DEVICE_TOKEN, device_token.expose_secret(), MAX_AGE)
    }

    /// Returns the answer, with the refresh token in a cookie if the carrier is the cookie.
    pub(super) fn attach(self, answer: Response<Body>, tokens: &Tokens) -> Answer {
        let seconds = u64::try_from(tokens.refresh_expires_in).unwrap_or_default();
        self.set(answer, REFRESH_TOKEN, tokens.refresh_token.expose_secret(), Duration::from_secs(seconds))
    }

    /// Clears the refresh token's cookie with the answer, because the session has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the cookie could not be written.
    pub fn detach(self, answer: Response<Body>) -> Answer {
        self.set(answer, REFRESH_TOKEN, "", Duration::ZERO)
    }

    /// Clears both cookies with the answer, because the account is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a cookie could not be written.
    pub fn detach_all(self, answer: Response<Body>) -> Answer {
        self.set(self.detach(answer)?, DEVICE_TOKEN, "", Duration::ZERO)
    }

    /// Returns the answer to a refresh that failed. If the token can never be used
    /// again, the answer clears its cookie. The device token's cookie stays, because
    /// the device is still known.
    ///
    /// # Errors
    ///
    /// `error`, if the token may still be good.
    pub fn refused(self, error: Error, dialect: Dialect, request: &Request) -> Answer {
        match error {
            Error::InvalidRefreshToken { was_sent: true } => {
                self.detach(render(Err(error), dialect, request_id(request)))
            }
            error => Err(error),
        }
    }

    fn set(self, mut answer: Response<Body>, name: &str, value: &str, max_age: Duration) -> Answer {
        let Self::Cookie(same_site) = self else { return Ok(answer) };
        let seconds = max_age.min(MAX_AGE).as_secs();
        let cookie = format!("{name}={value}; HttpOnly; Secure; SameSite={same_site}; Path=/; Max-Age={seconds}");
        let cookie = HeaderValue::try_from(cookie).ok().filter(|_| name.len() + value.len() <= MAX_COOKIE);
        let mut cookie = cookie.ok_or_else(|| Error::Internal("a token does not fit into a cookie".into()))?;
        cookie.set_sensitive(true);
        answer.headers_mut().append(SET_COOKIE, cookie);
        Ok(answer)
    }
}

/// Accepts only requests that pages of other origins cannot make: browsers set
/// `Origin` themselves, and send a preflight before a cross-origin request with
/// `x-requested-with` or a JSON body.
fn guard(allowed_origins: &[String], request: &Request) -> Result<(), Error> {
    let one = |name| header(request.headers(), name).ok().flatten();
    let has_origin = one("origin").is_some_and(|origin| allowed_origins.iter().any(|allowed| allowed == origin));
    let has_header = one("x-requested-with").is_some_and(|value| !value.is_empty());
    let is_json_or_empty = body::is_json_or_empty(request);
    if has_origin && has_header && is_json_or_empty {
        return Ok(());
    }
    tracing::info!(has_origin, has_header, is_json_or_empty, "request with cookies refused");
    Err(Error::OriginNotAllowed)
}

/// Returns the refresh token in the cookie, and ignores any other. The URL and the body
/// are checked as in requests without cookies.
fn only_cookie(request: &Request) -> Result<Option<String>, Error> {
    super::no_token_in_url(request)?;
    super::members(request)?;
    cookie(request, REFRESH_TOKEN)
}

/// Returns the value of the cookie `name`, or `None` if it is absent or empty.
fn cookie(request: &Request, name: &'static str) -> Result<Option<String>, Error> {
    let mut values = values(request.headers(), name);
    match (values.next(), values.next()) {
        (Some(value), None) => match std::str::from_utf8(value) {
            Ok(value) => Ok(Some(value.to_owned()).filter(|value| !value.is_empty())),
            Err(_) => Err(Error::InvalidRequest(format!("The cookie `{name}` must be ASCII.").into())),
        },
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Error::InvalidRequest(format!("The cookie `{name}` appears more than once.").into())),
    }
}

/// Returns the values of the cookies with exactly this name. A name that differs in
/// case is another cookie, for which old browsers do not enforce the prefix.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
