//! `POST /api/v1/auth/login` and `POST /api/auth`: a new session for a password.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::{App, Error};
use lambda_http::http::{Method, StatusCode};
use lambda_http::{Request, RequestExt};

/// Answers a request to log in.
///
/// # Errors
///
/// Rendered by the function: see the contract.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let (method, path) = http::route(&request);
    if !matches!((method, path.as_slice()), (Method::POST, ["api", "v1", "auth", "login"] | ["api", "auth"])) {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    const EXPECTED: &str = "Send email and password, as strings.";
    let body = http::members(&request)?;
    let (email, password) = (body.text("email", EXPECTED)?, body.text("password", EXPECTED)?);
    let device_token = carrier.device_token(&request)?;
    let signed_in = app.login(email, password, http::client(&request), device_token.as_deref()).await?;
    Dialect::of(request.raw_http_path()).signed_in(StatusCode::OK, &signed_in, carrier)
}
