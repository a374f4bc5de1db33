//! Request bodies: JSON or a form, without duplicate members.

use std::borrow::Cow;

use lambda_http::Request;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::media_type;
use crate::auth::Error;
use crate::json;

/// The most bytes of a body.
const MAX_BODY: usize = 8 * 1024;
/// The deepest nesting of objects and arrays in JSON.
const MAX_DEPTH: usize = 8;

const FORM: &str = "application/x-www-form-urlencoded";

const NOT_JSON: Error = Error::InvalidRequest(Cow::Borrowed(
    "The body must be a single JSON object in UTF-8, nested at most 8 deep, without duplicate members.",
));
const LONE_SURROGATE: Error = Error::InvalidRequest(Cow::Borrowed(
    "A string in the body has half of a surrogate pair: \\ud800 to \\udbff must be followed by \\udc00 to \\udfff.",
));
const NOT_A_FORM: Error =
    Error::InvalidRequest(Cow::Borrowed("The body must be a form in UTF-8, without duplicate fields."));
const OTHER_TYPE: Error =
    Error::UnsupportedMediaType("The `content-type` must be application/json or application/x-www-form-urlencoded.");
const ENCODED: Error =
    Error::UnsupportedMediaType("The body is compressed (`content-encoding`). Send it uncompressed.");

/// The members of a body. Unknown ones are ignored.
#[derive(Clone, Default)]
pub struct Members(Map<String, Value>);

impl Members {
    pub(super) fn read(request: &Request) -> Result<Self, Error> {
        let body: &[u8] = request.body();
        if body.len() > MAX_BODY {
            return Err(Error::PayloadTooLarge);
        }
        if body.is_empty() {
            return Ok(Self::default());
        }
        if is_encoded(request) {
            return Err(ENCODED);
        }
        let content_type = content_type(request).ok_or(OTHER_TYPE)?;
        if is_json(content_type) {
            json::object(body, MAX_DEPTH)
                .map(Self)
                .map_err(|fault| if is_surrogate(&fault) { LONE_SURROGATE } else { NOT_JSON })
        } else if content_type.eq_ignore_ascii_case(FORM) {
            form(body).map(Self).ok_or(NOT_A_FORM)
        } else {
            Err(OTHER_TYPE)
        }
    }

    /// Returns a member that must be a string.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] with the text `missing` when the member is absent or
    /// is not a string.
    pub fn text(&self, name: &str, missing: &'static str) -> Result<&str, Error> {
        self.0.get(name).and_then(Value::as_str).ok_or(Error::InvalidRequest(missing.into()))
    }

    /// Returns a member that is a string, or `None` if it is absent or `null`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] for a value of another type.
    pub fn optional(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::InvalidRequest(format!("`{name}` must be a string.").into())),
        }
    }

    /// Returns whether the member is present, even as `null`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Returns whether the body is declared as JSON, or is empty.
pub(super) fn is_json_or_empty(request: &Request) -> bool {
    request.body().is_empty() || content_type(request).is_some_and(is_json)
}

/// Returns the type and the subtype of the body, or `None` unless there is exactly one
/// `content-type`.
fn content_type(request: &Request) -> Option<&str> {
    let mut values = request.headers().get_all(CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => media_type::essence(value.as_bytes()),
        _ => None,
    }
}

/// Returns whether a media type is `application/json` or `application/*+json` (RFC
/// 6839, section 3.1).
fn is_json(essence: &str) -> bool {
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Returns whether the body is compressed, or otherwise encoded (RFC 9110, section 8.4).
fn is_encoded(request: &Request) -> bool {
    let lines = request.headers().get_all(CONTENT_ENCODING).iter();
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// Returns whether JSON is refused because of half a surrogate pair. Only serde_json's
/// message tells.
fn is_surrogate(fault: &serde_json::Error) -> bool {
    let fault = fault.to_string();
    ["lone leading surrogate in hex escape", "unexpected end of hex escape"]
        .iter()
        .any(|words| fault.starts_with(words))
}

fn form(body: &[u8]) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    for field in std::str::from_utf8(body).ok()?.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        if members.insert(decode(name)?, decode(value)?.into()).is_some() {
            return None;
        }
    }
    Some(members)
}

fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests;
