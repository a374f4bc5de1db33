//! `POST /api/v1/auth/password/forgot` and `POST /api/v1/auth/password/reset`: the way
//! back in for a user who has forgotten the password.

use std::sync::Arc;

use freshkey::http::{self, Answer};
use freshkey::{App, Error};
use lambda_http::Request;
use lambda_http::http::StatusCode;
use serde_json::json;

/// How many calls to DynamoDB a request makes at once.
pub const CONNECTIONS: usize = 2;

/// Answers a request for a link, or one that redeems a link.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; [`Error::InvalidRequest`] when a member is not
/// a string; and those of [`http::members`], [`http::attempt`],
/// [`App::request_password_reset`] and [`App::reset_password`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    match &*http::route_key(&request) {
        "POST /api/v1/auth/password/forgot" => {
            let body = http::members(&request)?;
            let email = body.text("email", "Send `email` as a string.")?;
            app.request_password_reset(email, http::client(&request)).await?;
            Ok(http::json(StatusCode::ACCEPTED, &json!({})))
        }
        "POST /api/v1/auth/password/reset" => {
            const EXPECTED: &str = "Send `token` and `new_password` as strings.";
            let body = http::members(&request)?;
            let (token, new) = (body.text("token", EXPECTED)?, body.text("new_password", EXPECTED)?);
            let attempt = http::attempt(&request)?;
            app.reset_password(token, new, &attempt, http::client(&request)).await?;
            Ok(http::no_content())
        }
        _ => Err(Error::NotFound),
    }
}
