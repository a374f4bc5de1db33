//! `POST /api/v1/auth/login` and `POST /api/auth`: checks a password and opens a
//! session.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::{App, Error};
use lambda_http::Request;
use lambda_http::http::StatusCode;

/// The most calls to DynamoDB that a request makes at once. A guess is counted for the
/// account and for the address while the credential is read.
pub const CONNECTIONS: usize = 3;

/// Answers a request to log in.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; [`Error::InvalidRequest`] when `email` or
/// `password` is not a string; and those of [`Carrier::of`], [`Carrier::device_token`],
/// [`http::members`] and [`App::login`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let route = http::route_key(&request);
    if !matches!(&*route, "POST /api/v1/auth/login" | "POST /api/auth") {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    const EXPECTED: &str = "Send `email` and `password` as strings.";
    let body = http::members(&request)?;
    let (email, password) = (body.text("email", EXPECTED)?, body.text("password", EXPECTED)?);
    let device_token = carrier.device_token(&request)?;
    let signed_in = app.login(email, password, http::client(&request), device_token.as_deref()).await?;
    Dialect::of(&route).signed_in(StatusCode::OK, &signed_in, carrier)
}
