//! The Lambda authorizer: checks access tokens in front of functions in any language.

use std::sync::Arc;

use freshkey::App;
use freshkey::http::{self, Answer};
use lambda_http::Request;
use lambda_http::http::StatusCode;
use serde_json::json;

/// The most calls to DynamoDB that a request makes at once. It makes none, except with
/// `CHECK_SESSION_ON_EVERY_CALL`.
pub const CONNECTIONS: usize = 0;

/// Answers with the identity of the caller. The answer is the same for every route, so
/// API Gateway may cache it for all routes.
///
/// # Errors
///
/// Those of [`App::admit`] and, with REQUIRE_VERIFIED_EMAIL, of
/// [`App::check_verified`]: the caller is refused.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let caller = app.admit(http::bearer(&request), None, http::client(&request)).await?.identity;
    if app.config().require_verified_email {
        app.check_verified(&caller).await?;
    }
    let context = json!({
        "sub": caller.user_id.to_string(),
        "sid": caller.session_id.to_string(),
        "roles": caller.roles,
    });
    Ok(http::json(StatusCode::OK, &context))
}
