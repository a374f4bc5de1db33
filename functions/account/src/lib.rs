//! What a signed-in user does with the account: `/api/v1/users/me` and
//! `/api/v1/auth/sessions`.

use std::sync::Arc;

use freshkey::auth::Identity;
use freshkey::http::{self, Answer, Carrier, Dialect, Members};
use freshkey::id::SessionId;
use freshkey::layer::Authenticate;
use freshkey::session::Session;
use freshkey::user::Profile;
use freshkey::{App, Error};
use lambda_http::http::{Method, StatusCode};
use lambda_http::tower::{Layer, ServiceExt};
use lambda_http::{Request, RequestExt, service_fn};
use serde_json::{Value, json};

/// Answers a request of a signed-in user. An error is rendered behind the
/// layer, so that tokens that it renewed are delivered all the same.
///
/// # Errors
///
/// None.
pub async fn handle(app: Arc<App>, request: Request) -> Answer {
    let layer = Authenticate::new(Arc::clone(&app));
    let account = layer.layer(service_fn(move |request: Request| {
        let app = Arc::clone(&app);
        async move {
            let answer = serve(&app, &request).await;
            Ok(http::render(answer, Dialect::V1, http::request_id(&request)))
        }
    }));
    account.oneshot(request).await
}

async fn serve(app: &App, request: &Request) -> Answer {
    let caller = request.extensions().get::<Identity>().ok_or(Error::InvalidToken { was_sent: false })?;
    let (method, path) = http::route(request);
    let ["api", "v1", resource @ ..] = path.as_slice() else {
        return Err(Error::NotFound);
    };
    match (method, resource) {
        (Method::GET, ["users", "me"]) => Ok((&app.user(caller).await?).into()),
        (Method::PATCH, ["users", "me"]) => {
            let changes = changes(&http::members(request)?)?;
            Ok((&app.update_profile(caller, &changes).await?).into())
        }
        (Method::PUT, ["users", "me", "password"]) => {
            const EXPECTED: &str = "Send current_password and new_password, as strings.";
            let body = http::members(request)?;
            let (current, new) = (body.text("current_password", EXPECTED)?, body.text("new_password", EXPECTED)?);
            let device_token = device_token(app, request)?;
            app.change_password(caller, current, new, &http::client(request), device_token.as_deref()).await?;
            Ok(http::no_content())
        }
        (Method::POST, ["users", "me", "delete"]) => {
            let body = http::members(request)?;
            let password = body.text("password", "Send password, as a string.")?;
            let device_token = device_token(app, request)?;
            app.delete_user(caller, password, &http::client(request), device_token.as_deref()).await?;
            Ok(http::no_content())
        }
        (Method::GET, ["auth", "sessions"]) => {
            let sessions = app.sessions(caller).await?;
            let sessions: Vec<_> = sessions.iter().map(|session| render(session, caller)).collect();
            Ok(http::json(StatusCode::OK, &json!({ "sessions": sessions })))
        }
        (Method::DELETE, ["auth", "sessions"]) => {
            app.end_sessions(caller, keeps_current(request)?).await?;
            Ok(http::no_content())
        }
        (Method::DELETE, ["auth", "sessions", id]) => {
            app.end_session(caller, SessionId::parse(id).ok_or(Error::NotFound)?).await?;
            Ok(http::no_content())
        }
        _ => Err(Error::NotFound),
    }
}

/// The device token, in the header or in a cookie. It grants nothing, so a cookie needs no guard.
fn device_token(app: &App, request: &Request) -> Result<Option<String>, Error> {
    Carrier::picked(&app.config().transport, request)?.device_token(request)
}

/// The profile fields that the body names; `null` takes one away.
fn changes(body: &Members) -> Result<Vec<(&'static str, Option<String>)>, Error> {
    let named = Profile::FIELDS.into_iter().filter(|field| body.has(field));
    named.map(|field| Ok((field, body.optional(field)?.map(str::to_owned)))).collect()
}

fn keeps_current(request: &Request) -> Result<bool, Error> {
    let query = request.query_string_parameters_ref();
    match query.and_then(|query| query.first("except")) {
        None => Ok(false),
        Some("current") => Ok(true),
        Some(_) => Err(Error::InvalidRequest("except must be \"current\".")),
    }
}

fn render(session: &Session, caller: &Identity) -> Value {
    json!({
        "id": session.id.to_string(),
        "created_at": session.created_at.to_string(),
        "last_used_at": session.last_used_at.to_string(),
        "expires_at": session.expires_at.to_string(),
        "ip": session.client.ip,
        "user_agent": session.client.user_agent,
        "current": session.id == caller.session_id,
    })
}
