//! The account of a signed-in user: `/api/v1/users/me` and `/api/v1/auth/sessions`.

use std::sync::Arc;

use freshkey::auth::Identity;
use freshkey::http::{self, Answer, Carrier, Members};
use freshkey::id::SessionId;
use freshkey::layer::Authenticate;
use freshkey::user::{ProfileChange, ProfileField};
use freshkey::{App, Error};
use lambda_http::{Request, RequestExt};

/// The most calls to DynamoDB that a request makes at once. The session is rotated while
/// the user is read, when the caller's tokens are renewed.
pub const CONNECTIONS: usize = 2;

/// Answers a request of a signed-in user.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let layer = Authenticate::for_account(Arc::clone(&app));
    layer.answer(request, async move |request| serve(&app, &request).await).await
}

async fn serve(app: &App, request: &Request) -> Answer {
    let caller = request.extensions().get::<Identity>().ok_or(Error::InvalidToken { was_sent: false })?;
    match &*http::route_key(request) {
        "GET /api/v1/users/me" => Ok(http::user(app.config(), &app.user(caller).await?)),
        "PATCH /api/v1/users/me" => {
            let changes = changes(&http::members(request)?)?;
            Ok(http::user(app.config(), &app.update_profile(caller, &changes).await?))
        }
        "PUT /api/v1/users/me/password" => {
            const EXPECTED: &str = "Send `current_password` and `new_password` as strings.";
            let body = http::members(request)?;
            let (current, new) = (body.text("current_password", EXPECTED)?, body.text("new_password", EXPECTED)?);
            let device_token = Carrier::picked(&app.config().transport, request)?.device_token(request)?;
            app.change_password(caller, current, new, &http::client(request), device_token.as_deref()).await?;
            Ok(http::no_content())
        }
        "POST /api/v1/users/me/delete" => {
            let body = http::members(request)?;
            let password = body.text("password", "Send `password` as a string.")?;
            let carrier = Carrier::picked(&app.config().transport, request)?;
            let device_token = carrier.device_token(request)?;
            app.delete_user(caller, password, &http::client(request), device_token.as_deref()).await?;
            // This sets cookies without the guard, because no other page has the access token.
            carrier.detach_all(http::no_content())
        }
        "GET /api/v1/auth/sessions" => Ok(http::sessions(&app.sessions(caller).await?, caller.session_id)),
        "DELETE /api/v1/auth/sessions" => {
            app.end_sessions(caller, keeps_current(request)?).await?;
            Ok(http::no_content())
        }
        "DELETE /api/v1/auth/sessions/{session_id}" => {
            let session = http::path_parameter(request, "session_id").and_then(SessionId::parse);
            app.end_session(caller, session.ok_or(Error::NotFound)?).await?;
            Ok(http::no_content())
        }
        _ => Err(Error::NotFound),
    }
}

/// Returns the changes to the profile fields that the body has. `null` removes a field.
fn changes(body: &Members) -> Result<Vec<ProfileChange>, Error> {
    let named = ProfileField::ALL.into_iter().filter(|field| body.has(field.name()));
    named.map(|field| Ok((field, body.optional(field.name())?.map(str::to_owned)))).collect()
}

/// Returns whether the query asks to keep the calling session. Any other query is
/// refused, because a misspelled one would sign the user out everywhere.
fn keeps_current(request: &Request) -> Result<bool, Error> {
    let query = request.query_string_parameters_ref().into_iter().flat_map(|query| query.iter());
    match query.collect::<Vec<_>>().as_slice() {
        [] => Ok(false),
        [("except", "current")] => Ok(true),
        _ => Err(Error::InvalidRequest("The only query parameter is `except=current`.".into())),
    }
}
