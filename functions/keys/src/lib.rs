//! `/.well-known/jwks.json` and `/.well-known/openid-configuration`: what other
//! services need to verify access tokens.

use std::sync::Arc;

use freshkey::http::{self, Answer};
use freshkey::{App, Error};
use lambda_http::http::header::{CACHE_CONTROL, HeaderValue};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, Request};
use serde_json::json;

/// The most calls to DynamoDB that a request makes at once.
pub const CONNECTIONS: usize = 0;

/// How long a cache may keep the documents: less than the 10 minutes that a new key
/// waits before it signs.
const CACHEABLE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers a request for one of the two documents, or for its headers.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; [`Error::Unavailable`] when the keys
/// could not be read.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let document = match &*http::route_key(&request) {
        "GET /.well-known/jwks.json" | "HEAD /.well-known/jwks.json" => json!(app.public_keys().await?),
        "GET /.well-known/openid-configuration" | "HEAD /.well-known/openid-configuration" => {
            let issuer = &app.config().access_tokens.issuer;
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')),
                "id_token_signing_alg_values_supported": [app.config().algorithm],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            })
        }
        _ => return Err(Error::NotFound),
    };
    let mut answer = http::json(StatusCode::OK, &document);
    answer.headers_mut().insert(CACHE_CONTROL, CACHEABLE);
    if request.method() == Method::HEAD {
        *answer.body_mut() = Body::Empty;
    }
    Ok(answer)
}
