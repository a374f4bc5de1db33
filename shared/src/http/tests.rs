use lambda_http::http::HeaderValue;
use lambda_http::{Context, request};
use serde_json::{Value, json};

use super::*;

/// A refresh as API Gateway sends it.
fn event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /api/v1/auth/refresh",
        "rawPath": "/api/v1/auth/refresh",
        "rawQueryString": "",
        "headers": { "content-type": "application/json" },
        "requestContext": {
            "stage": "$default",
            "http": { "method": "POST", "path": "/api/v1/auth/refresh", "sourceIp": "192.0.2.1" },
        },
        "isBase64Encoded": false,
    })
}

fn request_of(event: &Value) -> Request {
    let mut context = Context::default();
    context.request_id = "request-1".into();
    request::from_str(&event.to_string()).unwrap().with_lambda_context(context)
}

fn with_body(body: &str) -> Request {
    let mut event = event();
    event["body"] = body.into();
    request_of(&event)
}

fn with_header(name: &'static str, value: &str) -> Request {
    let mut request = request_of(&event());
    request.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    request
}

fn with_headers_twice(name: &'static str) -> Request {
    let mut request = with_header(name, "x");
    request.headers_mut().append(name, HeaderValue::from_static("x"));
    request
}

#[test]
fn a_bearer_token_is_what_follows_the_scheme() {
    for (value, token) in [
        ("Bearer abc", Some("abc")),
        ("bearer abc", Some("abc")),
        ("BEARER   abc ", Some("abc")),
        (" Bearer abc", Some("abc")),
        ("Bearer abc,Bearer def", Some("abc,Bearer def")),
        ("Bearer a b", Some("a b")),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearerabc", None),
        ("abc", None),
        ("", None),
        ("Bearer \u{e9}", None),
    ] {
        assert_eq!(bearer(&with_header("authorization", value)), token, "{value:?}");
    }
    assert_eq!(bearer(&request_of(&event())), None);
}

#[test]
fn rf6_an_attempt_is_the_idempotency_key_or_else_the_lambda_request() {
    let key = |key: &str| attempt(&with_header("idempotency-key", key)).unwrap();
    assert_eq!(key("a"), key("a"));
    assert_eq!(key("a"), key(" a "));
    assert_ne!(key("a"), key("b"));
    assert_ne!(key("a"), key("A"));

    let unnamed = request_of(&event());
    assert_eq!(attempt(&unnamed), attempt(&unnamed));
    assert_ne!(attempt(&unnamed).unwrap(), key("request-1"));
    let mut later = Context::default();
    later.request_id = "request-2".into();
    assert_ne!(attempt(&unnamed), attempt(&request_of(&event()).with_lambda_context(later)));
}

#[test]
fn rf2_without_a_key_and_a_lambda_request_every_request_is_an_attempt_of_its_own() {
    let nameless = request_of(&event()).with_lambda_context(Context::default());
    assert_ne!(attempt(&nameless).unwrap(), attempt(&nameless).unwrap());
    let outside_lambda = request::from_str(&event().to_string()).unwrap();
    assert_ne!(attempt(&outside_lambda).unwrap(), attempt(&outside_lambda).unwrap());
}

#[test]
fn an_idempotency_key_has_1_to_255_characters_and_appears_once() {
    for length in [1, 255] {
        assert!(attempt(&with_header("idempotency-key", &"k".repeat(length))).is_ok(), "{length}");
    }
    for key in ["", " ", &"k".repeat(256), "\u{e9}"] {
        let result = attempt(&with_header("idempotency-key", key));
        assert!(matches!(result, Err(Error::InvalidRequest(_))), "{key:?}");
    }
    assert!(matches!(attempt(&with_headers_twice("idempotency-key")), Err(Error::InvalidRequest(_))));
}

#[test]
fn a_client_is_an_address_and_a_user_agent_of_at_most_256_bytes() {
    let agent = |agent: &str| client(&with_header("user-agent", agent)).user_agent;
    assert_eq!(agent("curl/8.5.0"), "curl/8.5.0");
    assert_eq!(agent(&"x".repeat(256)), "x".repeat(256));
    assert_eq!(agent(&"x".repeat(257)), "x".repeat(256));
    assert_eq!(agent(&format!("x{}", "\u{e9}".repeat(128))), format!("x{}", "\u{e9}".repeat(127)));
    let unnamed = Client { ip: "192.0.2.1".into(), user_agent: String::new() };
    assert_eq!(client(&request_of(&event())), unnamed);
}

#[test]
fn a_user_agent_that_is_no_text_is_kept_as_far_as_it_is_one() {
    let mut request = request_of(&event());
    request.headers_mut().insert("user-agent", HeaderValue::from_bytes(&[0xff; 300]).unwrap());
    let agent = client(&request).user_agent;
    assert_eq!(agent, "\u{fffd}".repeat(85));
}

#[test]
fn rl3_a_forwarded_address_is_not_believed() {
    let request = with_header("x-forwarded-for", "198.51.100.7");
    assert_eq!(client(&request).ip, "192.0.2.1");
}

#[test]
fn the_refresh_token_is_a_member_of_the_body() {
    assert_eq!(refresh_token(&with_body(r#"{"refresh_token":"abc"}"#)), Ok("abc".into()));
    for body in ["", "{}", r#"{"refresh_token":null}"#, r#"{"refresh_token":""}"#] {
        assert_eq!(refresh_token(&with_body(body)), Err(Error::NoRefreshToken), "{body}");
    }
    for body in [r#"{"refresh_token":1}"#, r#"{"refresh_token":["abc"]}"#, "x"] {
        assert!(matches!(refresh_token(&with_body(body)), Err(Error::InvalidRequest(_))), "{body}");
    }
    let in_a_header = with_header("x-refresh-token", "abc");
    assert_eq!(refresh_token(&in_a_header), Err(Error::NoRefreshToken));
}

#[test]
fn rf13_a_refresh_token_in_the_url_is_refused_even_beside_one_in_the_body() {
    for query in ["refresh_token=abc", "a=b&refresh_token=", "refresh%5Ftoken=abc"] {
        let mut event = event();
        event["rawQueryString"] = query.into();
        event["body"] = r#"{"refresh_token":"abc"}"#.into();
        for result in [refresh_token(&request_of(&event)), refresh_token_to_end(&request_of(&event))] {
            assert!(matches!(result, Err(Error::InvalidRequest(_))), "{query}");
        }
    }
}

#[test]
fn mw6_a_logout_takes_the_refresh_token_of_the_body_or_of_one_header() {
    assert_eq!(refresh_token_to_end(&with_body(r#"{"refresh_token":"abc"}"#)), Ok("abc".into()));
    assert_eq!(refresh_token_to_end(&with_header("x-refresh-token", " abc ")), Ok("abc".into()));
    for request in [request_of(&event()), with_body("x"), with_headers_twice("x-refresh-token")] {
        assert!(matches!(refresh_token_to_end(&request), Err(Error::InvalidRequest(_))));
    }
}

#[test]
fn mw6_a_fault_of_a_header_names_the_header() {
    for name in ["idempotency-key", "x-refresh-token", "x-device-token"] {
        let read = |request: &Request| match name {
            "idempotency-key" => attempt(request).err(),
            "x-refresh-token" => refresh_token_header(request).err(),
            _ => device_token(request).err(),
        };
        let twice = format!("The header `{name}` appears more than once.");
        assert_eq!(read(&with_headers_twice(name)), Some(Error::InvalidRequest(twice.into())));
        let other = format!("The header `{name}` must be ASCII.");
        assert_eq!(read(&with_header(name, "\u{e9}")), Some(Error::InvalidRequest(other.into())));
    }
}
