//! Turns a function's answers into responses, and makes the gateway's own.

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// Returns the gateway's answer to a body larger than [`MAX_BODY`](super::MAX_BODY).
pub fn too_large() -> Response<Bytes> {
    json_response(StatusCode::PAYLOAD_TOO_LARGE, &json!({"message": "Request Entity Too Large"}))
}

/// Returns an answer of the gateway itself.
pub(crate) fn message(status: StatusCode) -> Response<Bytes> {
    json_response(status, &json!({"message": status.canonical_reason()}))
}

/// Returns an answer in JSON, without the headers that functions set.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Returns the response that `answer` describes; `None` if it does not describe
/// one. Does not read `multiValueHeaders`, which payload format 2.0 does not have.
pub(super) fn response(answer: &Value) -> Option<Response<Bytes>> {
    let status = answer.get("statusCode")?.as_u64()?;
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let body = answer.get("body").and_then(Value::as_str).unwrap_or_default();
    let encoded = answer.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default();
    let body = if encoded { BASE64_STANDARD.decode(body).ok()? } else { body.into() };
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let mut response = Response::new(if bodiless { Bytes::new() } else { body.into() });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let name: HeaderName = name.parse().ok()?;
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            headers.insert(name, value.as_str()?.parse().ok()?);
        }
    }
    for cookie in answer.get("cookies").and_then(Value::as_array).into_iter().flatten() {
        headers.append(SET_COOKIE, cookie.as_str()?.parse().ok()?);
    }
    (status.as_u16() >= 200).then_some(response)
}
