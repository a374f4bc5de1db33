//! Requests, as API Gateway hands them to a function, and the answers.

use freshkey::Function;
use freshkey::client::Client;
use lambda_runtime::Context;
use serde_json::{Value, json};

use crate::member::client;

/// Returns the event of a browser's request. One with the body null has none.
pub fn event(method: &str, path: &str, access_token: Option<&str>, body: &Value) -> String {
    let Client { ip, user_agent } = client();
    let route = format!("{method} {path}");
    let mut event = json!({
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br",
            "content-length": "720",
            "content-type": "application/json",
            "host": "auth.example.com",
            "idempotency-key": "one",
            "origin": "https://app.example.com",
            "user-agent": user_agent,
            "x-amzn-trace-id": "Root=1-68a1b2c3-0123456789abcdef01234567",
            "x-forwarded-for": ip,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": "auth.example.com",
            "domainPrefix": "auth",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": ip,
                "userAgent": user_agent,
            },
            "requestId": "PzX1Yg3oDoEEJ5w=",
            "routeKey": route,
            "stage": "$default",
            "time": "17/Aug/2026:09:30:00 +0000",
            "timeEpoch": 1_786_959_000_000_u64,
        },
        "isBase64Encoded": false,
    });
    if !body.is_null() {
        event["body"] = body.to_string().into();
    }
    if let Some(token) = access_token {
        event["headers"]["authorization"] = format!("Bearer {token}").into();
    }
    event.to_string()
}

/// Returns the event of a refresh.
pub fn refresh(token: &str) -> String {
    event("POST", "/api/v1/auth/refresh", None, &json!({ "refresh_token": token }))
}

/// Returns the event of a login.
pub fn login(email: &str, password: &str) -> String {
    event("POST", "/api/v1/auth/login", None, &json!({ "email": email, "password": password }))
}

/// Returns the event of a registration.
pub fn register(email: &str, password: &str) -> String {
    event("POST", "/api/v1/auth/register", None, &json!({ "email": email, "password": password }))
}

/// Sends an event to a function, and returns the answer as API Gateway gets it.
pub async fn send(function: &Function, event: &str) -> Value {
    let mut context = Context::default();
    context.request_id = "8d3f6a02-31c1-4c8f-9a65-1f0f6a0b7c11".into();
    function.invoke(event, context).await
}

/// Returns the body of an answer; null if it has none. Fails unless its status is `status`.
pub fn body(answer: &Value, status: u16) -> Value {
    assert_eq!(answer["statusCode"], status, "{answer}");
    let body = answer["body"].as_str().unwrap_or_default();
    if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() }
}

/// Returns the refresh token in the answer to a refresh, a login or a registration.
pub fn refresh_token(answer: &Value, status: u16) -> String {
    body(answer, status)["refresh_token"].as_str().unwrap().to_owned()
}
