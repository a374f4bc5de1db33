//! `/api/v1/users/me/email`: a signed-in user proves the account's address, or moves the
//! account to another one.

use std::sync::Arc;

use freshkey::auth::Identity;
use freshkey::http::{self, Answer, Carrier};
use freshkey::layer::Authenticate;
use freshkey::{App, Error};
use lambda_http::Request;
use lambda_http::http::StatusCode;
use serde_json::json;

/// How many calls to DynamoDB a request makes at once.
pub const CONNECTIONS: usize = 3;

/// Answers a request of a signed-in user.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let layer = Authenticate::for_account(Arc::clone(&app));
    layer.answer(request, async move |request| serve(&app, &request).await).await
}

async fn serve(app: &App, request: &Request) -> Answer {
    let caller = request.extensions().get::<Identity>().ok_or(Error::InvalidToken { was_sent: false })?;
    let client = http::client(request);
    let carrier = Carrier::picked(&app.config().transport, request)?;
    match &*http::route_key(request) {
        "POST /api/v1/users/me/email/verification" => {
            app.request_verification(caller, client).await?;
            Ok(http::json(StatusCode::ACCEPTED, &json!({})))
        }
        "PUT /api/v1/users/me/email" => {
            const EXPECTED: &str = "Send `email` and `password` as strings.";
            let body = http::members(request)?;
            let (email, password) = (body.text("email", EXPECTED)?, body.text("password", EXPECTED)?);
            let device_token = carrier.device_token(request)?;
            app.request_email_change(caller, email, password, client, device_token.as_deref()).await?;
            Ok(http::json(StatusCode::ACCEPTED, &json!({})))
        }
        "POST /api/v1/users/me/email/confirm" => {
            let body = http::members(request)?;
            let token = body.text("token", "Send `token` as a string.")?;
            let confirmed = app.confirm_email(caller, token, &http::attempt(request)?, client).await?;
            http::confirmed(app.config(), &confirmed, carrier)
        }
        _ => Err(Error::NotFound),
    }
}
