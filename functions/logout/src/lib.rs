//! `POST /api/v1/auth/logout`: the end of a session.

use std::sync::Arc;

use freshkey::http::{self, Answer, Carrier};
use freshkey::{App, Error};
use lambda_http::Request;
use lambda_http::http::Method;

/// Answers a request to log out.
///
/// # Errors
///
/// Rendered by the function: see the contract.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let (method, path) = http::route(&request);
    if (method, path.as_slice()) != (Method::POST, &["api", "v1", "auth", "logout"]) {
        return Err(Error::NotFound);
    }
    let carrier = Carrier::of(&app, &request)?;
    app.logout(&carrier.refresh_token_to_end(&request)?).await?;
    carrier.detach(http::no_content())
}
