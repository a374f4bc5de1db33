//! `POST /api/v1/auth/refresh` and `POST /api/token/refresh`: exchanges a refresh
//! token for its successor and a new access token.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::{App, Error};
use lambda_http::Request;

/// The most calls to DynamoDB that a request makes at once. The session is rotated while
/// the user is read.
pub const CONNECTIONS: usize = 2;

/// Answers a request to refresh.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; and those of [`Carrier::of`],
/// [`Carrier::refresh_token`], [`http::attempt`] and [`App::refresh`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let route = http::route_key(&request);
    if !matches!(&*route, "POST /api/v1/auth/refresh" | "POST /api/token/refresh") {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    let presented = carrier.refresh_token(&request)?;
    let dialect = Dialect::of(&route);
    match app.refresh(&presented, http::attempt(&request)?, http::client(&request)).await {
        Ok(tokens) => dialect.tokens(&tokens, carrier),
        Err(error) => carrier.refused(error, dialect, &request),
    }
}
