//! Bodies: JSON or a form, and nothing twice.

use lambda_http::Request;
use lambda_http::http::header::CONTENT_TYPE;
use mime::Mime;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::auth::Error;
use crate::json;

/// The most bytes a body may have.
const MAX_BODY: usize = 8 * 1024;
/// How deep JSON may nest.
const MAX_DEPTH: usize = 8;

const NOT_JSON: Error = Error::InvalidRequest("The body must be one JSON object, no member twice.");
const NOT_A_FORM: Error = Error::InvalidRequest("The body must be a form in UTF-8, no field twice.");

/// The members of a body. Those that nobody asks for are ignored.
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
        let content_type = content_type(request).ok_or(Error::UnsupportedMediaType)?;
        if content_type.get_param(mime::CHARSET).is_some_and(|charset| charset != mime::UTF_8) {
            return Err(Error::UnsupportedMediaType);
        }
        if is_json(&content_type) {
            json::object(body, MAX_DEPTH).map(Self).map_err(|_| NOT_JSON)
        } else if content_type.essence_str() == mime::APPLICATION_WWW_FORM_URLENCODED.essence_str() {
            form(body).map(Self).ok_or(NOT_A_FORM)
        } else {
            Err(Error::UnsupportedMediaType)
        }
    }

    /// A string that must be there.
    ///
    /// # Errors
    ///
    /// `missing` when it is not there, or is no string.
    pub fn text(&self, name: &str, missing: &'static str) -> Result<&str, Error> {
        self.0.get(name).and_then(Value::as_str).ok_or(Error::InvalidRequest(missing))
    }

    /// A string that may be absent or `null`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] for another type.
    pub fn optional(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::InvalidRequest("A member has the wrong type: a string is expected.")),
        }
    }

    /// Whether the member is there at all, be it `null`.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Whether the body is said to be JSON, or there is none.
pub(super) fn is_json_or_empty(request: &Request) -> bool {
    request.body().is_empty() || content_type(request).is_some_and(|content_type| is_json(&content_type))
}

fn content_type(request: &Request) -> Option<Mime> {
    request.headers().get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

fn is_json(content_type: &Mime) -> bool {
    let format = content_type.suffix().unwrap_or(content_type.subtype());
    content_type.type_() == mime::APPLICATION && format == mime::JSON
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
