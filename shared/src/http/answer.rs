//! Answers, in the dialect of the route.

use std::time::Duration;

use lambda_http::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{HeaderMap, StatusCode};
use lambda_http::{Body, Response};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::cookie::Carrier;
use crate::auth::{Confirmed, Error, SignedIn, Tokens};
use crate::config::Config;
use crate::id::SessionId;
use crate::session::Session;
use crate::user::User;

/// The answer of a handler. An error is rendered in the dialect of its route.
pub type Answer = Result<Response<Body>, Error>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// How answers are worded: the names of members, and the shape of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The routes under `/api/v1`.
    V1,
    /// The routes of a Symfony backend with LexikJWTAuthenticationBundle and
    /// gesdinet/jwt-refresh-token-bundle.
    Lexik,
}

impl Dialect {
    /// Returns the dialect of a route, by its [key](super::route_key).
    pub fn of(route_key: &str) -> Self {
        match route_key {
            "POST /api/auth" | "POST /api/token/refresh" => Self::Lexik,
            _ => Self::V1,
        }
    }

    /// Returns the answer to a user who has just signed in.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when a token does not fit into a cookie.
    pub fn signed_in(self, status: StatusCode, signed_in: &SignedIn, carrier: Carrier) -> Answer {
        let SignedIn { user, tokens, device_token } = signed_in;
        let mut body = self.token_members(tokens, carrier);
        match self {
            Self::V1 => body["user_id"] = user.id.to_string().into(),
            Self::Lexik => {
                body["user"] = json!({
                    "id": user.id.to_string(),
                    "email": user.email.as_str(),
                    "firstName": user.profile.first_name,
                    "lastName": user.profile.last_name,
                    "phone": user.profile.phone,
                    "roles": user.roles,
                    "userType": user.profile.user_type,
                    "isActive": user.is_active,
                    "avatar": user.profile.avatar,
                });
            }
        }
        if let Some(token) = device_token.as_ref().and_then(|token| carrier.in_body(token)) {
            body["device_token"] = token.into();
        }
        let answer = carrier.attach(json(status, &body), tokens)?;
        match device_token {
            Some(device_token) => carrier.attach_device(answer, device_token),
            None => Ok(answer),
        }
    }

    /// Returns the answer to a refresh.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the refresh token does not fit into a cookie.
    pub fn tokens(self, tokens: &Tokens, carrier: Carrier) -> Answer {
        carrier.attach(json(StatusCode::OK, &self.token_members(tokens, carrier)), tokens)
    }

    fn token_members(self, tokens: &Tokens, carrier: Carrier) -> Value {
        let access_token = tokens.access.token.expose_secret();
        let refresh_token = carrier.in_body(&tokens.refresh_token);
        let mut members = match self {
            Self::V1 => json!({
                "access_token": access_token,
                "refresh_token": refresh_token,
                "token_type": "Bearer",
                "expires_in": tokens.access.expires_in,
                "refresh_expires_in": tokens.refresh_expires_in,
            }),
            Self::Lexik => json!({ "token": access_token, "refresh_token": refresh_token }),
        };
        if let Some(members) = members.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        members
    }

    /// Returns the answer to a request that failed. The log has the details under the request id.
    pub fn error(self, error: &Error, request_id: &str) -> Response<Body> {
        let rendered = Rendered::of(error);
        let (status, body, content_type) = match self {
            Self::V1 => (rendered.status, rendered.problem(error, request_id), PROBLEM),
            Self::Lexik => {
                let (status, message) = rendered.lexik(error);
                (status, json!({ "code": status.as_u16(), "message": message }), JSON)
            }
        };
        let mut response = json(status, &body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        if status == StatusCode::UNAUTHORIZED {
            let is_refused = matches!(error, Error::InvalidToken { was_sent: true });
            let challenge = if is_refused { "Bearer error=\"invalid_token\"" } else { "Bearer" };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(pause) = rendered.retry_after {
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        response
    }
}

/// Returns the response of `answer`. An error is rendered, and logged here only.
pub fn render(answer: Answer, dialect: Dialect, request_id: &str) -> Response<Body> {
    answer.unwrap_or_else(|error| {
        match &error {
            Error::Internal(_) => tracing::error!(%error, "failed"),
            Error::Unavailable { .. } => tracing::warn!(%error, "unavailable"),
            error => tracing::debug!(%error, "refused"),
        }
        dialect.error(&error, request_id)
    })
}

/// An error as a client sees it.
struct Rendered<'a> {
    status: StatusCode,
    code: &'static str,
    detail: &'a str,
    retry_after: Option<Duration>,
}

impl<'a> Rendered<'a> {
    fn of(error: &'a Error) -> Self {
        let (status, code, detail) = match error {
            Error::InvalidRequest(detail) => (StatusCode::BAD_REQUEST, "invalid_request", detail.as_ref()),
            Error::NoRefreshToken => {
                (StatusCode::BAD_REQUEST, "invalid_request", "Send the refresh token as `refresh_token` in the body.")
            }
            Error::InvalidCredentials => {
                (StatusCode::UNAUTHORIZED, "invalid_credentials", "The e-mail address or the password is wrong.")
            }
            Error::InvalidToken { .. } => {
                (StatusCode::UNAUTHORIZED, "invalid_token", "The access token is missing, expired or invalid.")
            }
            Error::InvalidRefreshToken { .. } => {
                (StatusCode::UNAUTHORIZED, "invalid_refresh_token", "The refresh token is missing, expired or invalid.")
            }
            Error::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "You do not have the required role."),
            Error::OriginNotAllowed => (
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "With cookies, a request needs an allowed `origin`, the header `x-requested-with`, and a JSON body or none.",
            ),
            Error::EmailUnverified => (StatusCode::FORBIDDEN, "email_unverified", "Confirm your e-mail address first."),
            Error::InvalidLink => {
                (StatusCode::BAD_REQUEST, "invalid_link", "This link is invalid or has expired. Ask for a new one.")
            }
            Error::EmailTaken => (StatusCode::CONFLICT, "email_taken", "This e-mail address is already registered."),
            Error::Validation(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", "Some fields have invalid values.")
            }
            Error::RateLimited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests. Try again later.")
            }
            Error::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found."),
            Error::UnsupportedMediaType(detail) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", *detail)
            }
            Error::PayloadTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body must be at most 8 KiB.")
            }
            Error::Unavailable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "The service is temporarily unavailable. Try again in a moment.",
            ),
            Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "An internal error occurred."),
        };
        let retry_after = match error {
            Error::RateLimited(pause) | Error::Unavailable { retry_after: pause, .. } => Some(*pause),
            _ => None,
        };
        Self { status, code, detail, retry_after }
    }

    /// Returns the problem document (RFC 9457).
    fn problem(&self, error: &Error, request_id: &str) -> Value {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "error": self.code,
            "request_id": request_id,
        });
        if let Error::Validation(faults) = error {
            let faults = faults
                .iter()
                .map(|fault| json!({ "field": fault.field, "code": fault.code, "message": fault.message }));
            problem["errors"] = faults.collect();
        }
        problem
    }

    /// Returns the status and the message that the two Symfony bundles give.
    fn lexik(&self, error: &Error) -> (StatusCode, &'a str) {
        match error {
            Error::InvalidCredentials => (self.status, "Invalid credentials."),
            Error::InvalidRefreshToken { was_sent: true } => (StatusCode::BAD_REQUEST, "Invalid refresh token"),
            Error::NoRefreshToken | Error::InvalidRefreshToken { was_sent: false } | Error::InvalidToken { .. } => {
                (StatusCode::UNAUTHORIZED, "An authentication exception occurred.")
            }
            _ => (self.status, self.detail),
        }
    }
}

/// Returns a user as the v1 routes do. With mail on, the answer tells whether the
/// address is verified.
pub fn user(config: &Config, user: &User) -> Response<Body> {
    json(StatusCode::OK, &user_members(config, user))
}

fn user_members(config: &Config, user: &User) -> Value {
    let mut members = json!({
        "id": user.id.to_string(),
        "email": user.email.as_str(),
        "first_name": user.profile.first_name,
        "last_name": user.profile.last_name,
        "phone": user.profile.phone,
        "roles": user.roles,
        "user_type": user.profile.user_type,
        "is_active": user.is_active,
        "avatar": user.profile.avatar,
        "created_at": user.created_at.to_string(),
    });
    if config.mail {
        members["email_verified"] = user.is_verified().into();
    }
    members
}

/// Returns the answer to a link that was redeemed for an address: the user, and the new
/// device token if the account has moved.
///
/// # Errors
///
/// [`Error::Internal`] when the device token does not fit into a cookie.
pub fn confirmed(config: &Config, confirmed: &Confirmed, carrier: Carrier) -> Answer {
    let mut members = user_members(config, &confirmed.user);
    let Some(device_token) = &confirmed.device_token else { return Ok(json(StatusCode::OK, &members)) };
    if let Some(token) = carrier.in_body(device_token) {
        members["device_token"] = token.into();
    }
    carrier.attach_device(json(StatusCode::OK, &members), device_token)
}

/// Returns the sessions of a user as the v1 routes do. The one with the id `current` is marked.
pub fn sessions(sessions: &[Session], current: SessionId) -> Response<Body> {
    let render = |session: &Session| {
        json!({
            "id": session.id.to_string(),
            "created_at": session.created_at.to_string(),
            "last_used_at": session.last_used_at.to_string(),
            "expires_at": session.expires_at.to_string(),
            "ip": session.client.ip,
            "user_agent": session.client.user_agent,
            "current": session.id == current,
        })
    };
    let sessions: Vec<_> = sessions.iter().map(render).collect();
    json(StatusCode::OK, &json!({ "sessions": sessions }))
}

/// Returns a JSON answer.
pub fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Text(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Returns an answer without a body: 204.
pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds the security headers of every answer: no caching, no type sniffing, no
/// framing, no referrer, HTTPS only. A header that is already set is kept.
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (REFERRER_POLICY, "no-referrer"),
        (STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests;
