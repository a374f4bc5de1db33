//! Shared by the fuzz targets: a function that reads everything from a request
//! that a handler can read, and never calls the table.

use std::sync::{Arc, LazyLock};

use freshkey::http::{self, Answer, Carrier};
use freshkey::{App, Config, Function, SystemClock};
use lambda_http::http::StatusCode;
use lambda_http::{Context, Request};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The secret that signs the function's tokens.
pub const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("there is a runtime"));

static FUNCTION: LazyLock<Function> = LazyLock::new(|| {
    let app = RUNTIME.block_on(App::connect(config(), Arc::new(SystemClock), None));
    Function::new(app, ask)
});

/// Returns valid settings, with cookies enabled.
pub fn config() -> Config {
    let config = Config::parse(|name| {
        let value = match name {
            "JWT_SECRET_KEY" => SECRET,
            "JWT_ISSUER" => "https://freshkey.example",
            "JWT_AUDIENCE" => "freshkey",
            "TABLE_NAME" => "freshkey",
            "TABLE_ENDPOINT" => "http://127.0.0.1:1",
            "REFRESH_TOKEN_TRANSPORT" => "both",
            "ALLOWED_ORIGINS" => "https://app.example.com",
            _ => return None,
        };
        Some(value.to_owned())
    });
    config.expect("the settings are complete")
}

/// Calls the function with an event. The answer must not be a server error.
pub fn invoke(event: &str) {
    let mut context = Context::default();
    context.request_id = "request-1".into();
    let answer = RUNTIME.block_on(FUNCTION.invoke(event, context));
    let status = answer["statusCode"].as_u64().expect("an answer has a status");
    assert!((200..500).contains(&status), "{answer}");
}

/// Returns the event of a refresh as API Gateway sends it. A target changes it.
pub fn event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /api/v1/auth/refresh",
        "rawPath": "/api/v1/auth/refresh",
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "origin": "https://app.example.com",
            "x-requested-with": "fuzz",
            "x-token-transport": "cookie",
        },
        "requestContext": {
            "http": { "method": "POST", "path": "/api/v1/auth/refresh", "sourceIp": "192.0.2.1" },
            "routeKey": "POST /api/v1/auth/refresh",
        },
        "isBase64Encoded": false,
    })
}

async fn ask(app: Arc<App>, request: Request) -> Answer {
    let _ = (http::route_key(&request), http::bearer(&request), http::client(&request), http::attempt(&request));
    let _ = (http::refresh_token(&request), http::refresh_token_to_end(&request), http::device_token(&request));
    if let Ok(carrier) = Carrier::of(&app, &request) {
        let _ = (carrier.refresh_token(&request), carrier.device_token(&request));
        let tokens = json!({ "refresh_token": "x", "refresh_expires_in": 1 });
        let _ = carrier.detach(http::json(StatusCode::OK, &tokens));
    }
    let members = http::members(&request)?;
    let email = members.optional("email")?;
    Ok(http::json(StatusCode::OK, &json!({ "email": email })))
}
