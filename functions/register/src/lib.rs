//! `POST /api/v1/auth/register`: creates a user and opens a session.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::user::Profile;
use freshkey::{App, Error};
use lambda_http::Request;
use lambda_http::http::StatusCode;

/// The most calls to DynamoDB that a request makes at once.
pub const CONNECTIONS: usize = 1;

/// Answers a request to register.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; [`Error::InvalidRequest`] when `email`,
/// `password` or a profile field is not a string; and those of [`Carrier::of`],
/// [`http::members`] and [`App::register`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    if http::route_key(&request) != "POST /api/v1/auth/register" {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    const EXPECTED: &str = "Send `email` and `password` as strings.";
    let body = http::members(&request)?;
    let (email, password) = (body.text("email", EXPECTED)?, body.text("password", EXPECTED)?);
    let profile = Profile::build(|field| Ok::<_, Error>(body.optional(field.name())?.map(str::to_owned)))?;
    let signed_in = app.register(email, password, profile, http::client(&request)).await?;
    Dialect::V1.signed_in(StatusCode::CREATED, &signed_in, carrier)
}
