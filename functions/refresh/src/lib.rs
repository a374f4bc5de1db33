//! `POST /api/v1/auth/refresh` and `POST /api/token/refresh`: exchanges a refresh
//! token for its successor and a new access token.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::{App, Error};
use lambda_http::Request;

/// Answers a request to refresh.
///
/// # Errors
///
/// [`Error::NotFound`] for another route; [`Error::InvalidRequest`] when the
/// request or its Idempotency-Key is malformed; and those of [`Carrier::of`],
/// [`Carrier::refresh_token`] and [`App::refresh`].
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let route = http::route_key(&request);
    if !matches!(&*route, "POST /api/v1/auth/refresh" | "POST /api/token/refresh") {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    let presented = carrier.refresh_token(&request)?;
    let tokens = app.refresh(&presented, http::attempt(&request)?, http::client(&request)).await?;
    Dialect::of(&route).tokens(&tokens, carrier)
}
