//! CORS: API Gateway's answer to a preflight, and the headers that it sets on
//! every other answer.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html>

use axum::body::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::template::Cors;

/// Returns the answer to a preflight with `headers`.
pub(super) fn preflight(cors: &Cors, headers: &HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    if headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && allow_origin(cors, headers, answer) {
        set_list(answer, ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
        set_list(answer, ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
        if let Some(seconds) = cors.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
    }
    response
}

/// Sets the CORS headers of an `answer` to a request with `headers`. Removes those
/// that the function has set, as API Gateway does.
pub(super) fn set_headers(cors: &Cors, headers: &HeaderMap, answer: &mut HeaderMap) {
    for name in [
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ] {
        answer.remove(name);
    }
    if allow_origin(cors, headers, answer) {
        set_list(answer, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.exposed);
    }
}

/// Names the request's origin in `answer` if it is allowed, and returns whether
/// it is.
fn allow_origin(cors: &Cors, headers: &HeaderMap, answer: &mut HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    if !cors.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        return false;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.append(VARY, HeaderValue::from_static("origin"));
    if cors.credentials {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

fn set_list(headers: &mut HeaderMap, name: HeaderName, items: &[String]) {
    if let Ok(value) = HeaderValue::from_str(&items.join(","))
        && !items.is_empty()
    {
        headers.insert(name, value);
    }
}
