//! `POST /api/v1/auth/refresh` and `POST /api/token/refresh`: a refresh token
//! for its successor and an access token.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier, Dialect};
use freshkey::{App, Error};
use lambda_http::http::Method;
use lambda_http::{Request, RequestExt};

/// Answers a request to refresh.
///
/// # Errors
///
/// Rendered by the function: see the contract.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let (method, path) = http::route(&request);
    if !matches!(
        (method, path.as_slice()),
        (Method::POST, ["api", "v1", "auth", "refresh"] | ["api", "token", "refresh"])
    ) {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    let presented = carrier.refresh_token(&request)?;
    let tokens = app.refresh(&presented, http::attempt(&request)?, http::client(&request)).await?;
    Dialect::of(request.raw_http_path()).tokens(&tokens, carrier)
}
