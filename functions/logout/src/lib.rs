//! `POST /api/v1/auth/logout`: ends the session of a refresh token.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier};
use freshkey::{App, Error};
use lambda_http::Request;

/// The most calls to DynamoDB that a request makes at once.
pub const CONNECTIONS: usize = 1;

/// Answers a request to log out.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; and those of [`Carrier::of`],
/// [`Carrier::refresh_token_to_end`] and [`App::logout`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    if http::route_key(&request) != "POST /api/v1/auth/logout" {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    app.logout(&carrier.refresh_token_to_end(&request)?).await?;
    carrier.detach(http::no_content())
}
