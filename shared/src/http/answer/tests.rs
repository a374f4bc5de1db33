use super::*;
use crate::auth::FieldError;
use crate::clock::Timestamp;
use crate::config::tests::parse;
use crate::email::Email;
use crate::id::UserId;
use crate::token::access::Issued;
use crate::user::Profile;

fn body(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

fn unavailable(retry_after: Duration) -> Error {
    Error::Unavailable { cause: "the cause".into(), retry_after }
}

/// Every error, with its status and code in v1, and its status and message in lexik.
fn errors() -> [(Error, u16, &'static str, u16, &'static str); 18] {
    const EXCEPTION: &str = "An authentication exception occurred.";
    let fault = FieldError { field: "email", code: "email_invalid", message: "No address.".into() };
    [
        (Error::InvalidRequest("Not so.".into()), 400, "invalid_request", 400, "Not so."),
        (Error::NoRefreshToken, 400, "invalid_request", 401, EXCEPTION),
        (Error::InvalidCredentials, 401, "invalid_credentials", 401, "Invalid credentials."),
        (Error::InvalidToken { was_sent: true }, 401, "invalid_token", 401, EXCEPTION),
        (Error::InvalidToken { was_sent: false }, 401, "invalid_token", 401, EXCEPTION),
        (Error::InvalidRefreshToken { was_sent: true }, 401, "invalid_refresh_token", 400, "Invalid refresh token"),
        (Error::InvalidRefreshToken { was_sent: false }, 401, "invalid_refresh_token", 401, EXCEPTION),
        (Error::Forbidden, 403, "forbidden", 403, "You do not have the required role."),
        (
            Error::OriginNotAllowed,
            403,
            "origin_not_allowed",
            403,
            "With cookies, a request needs an allowed `origin`, the header `x-requested-with`, and a JSON body or none.",
        ),
        (Error::EmailTaken, 409, "email_taken", 409, "This e-mail address is already registered."),
        (Error::Validation(vec![fault]), 422, "validation_failed", 422, "Some fields have invalid values."),
        (Error::RateLimited(Duration::from_secs(30)), 429, "rate_limited", 429, "Too many requests. Try again later."),
        (Error::NotFound, 404, "not_found", 404, "Not found."),
        (Error::UnsupportedMediaType("Not so."), 415, "unsupported_media_type", 415, "Not so."),
        (Error::PayloadTooLarge, 413, "payload_too_large", 413, "The body must be at most 8 KiB."),
        (
            unavailable(Duration::from_secs(1)),
            503,
            "temporarily_unavailable",
            503,
            "The service is temporarily unavailable. Try again in a moment.",
        ),
        (
            Error::unavailable(),
            503,
            "temporarily_unavailable",
            503,
            "The service is temporarily unavailable. Try again in a moment.",
        ),
        (Error::Internal("the cause".into()), 500, "internal", 500, "An internal error occurred."),
    ]
}

#[test]
fn er1_every_error_is_a_problem_with_its_code_on_the_v1_routes() {
    for (error, status, code, ..) in errors() {
        let response = Dialect::V1.error(&error, "request-1");
        assert_eq!(response.status(), status, "{error}");
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"), "{error}");
        let mut problem = body(&response);
        let detail = problem["detail"].take();
        assert!(detail.as_str().is_some_and(|detail| !detail.is_empty()), "{error}");
        let mut expected = json!({
            "type": "about:blank",
            "title": response.status().canonical_reason(),
            "status": status,
            "detail": null,
            "error": code,
            "request_id": "request-1",
        });
        if status == 422 {
            expected["errors"] = json!([{ "field": "email", "code": "email_invalid", "message": "No address." }]);
        }
        assert_eq!(problem, expected, "{error}");
    }
}

#[test]
fn er1_every_error_is_a_code_and_a_message_on_the_lexik_routes() {
    for (error, _, _, status, message) in errors() {
        let response = Dialect::Lexik.error(&error, "request-1");
        assert_eq!(response.status(), status, "{error}");
        assert_eq!(header(&response, "content-type"), Some("application/json; charset=utf-8"), "{error}");
        assert_eq!(body(&response), json!({ "code": status, "message": message }), "{error}");
    }
}

#[test]
fn hd3_every_401_and_nothing_else_carries_a_challenge_that_names_a_refused_access_token() {
    for (error, ..) in errors() {
        for dialect in [Dialect::V1, Dialect::Lexik] {
            let response = dialect.error(&error, "");
            let challenge = match error {
                Error::InvalidToken { was_sent: true } => Some("Bearer error=\"invalid_token\""),
                _ if response.status() == 401 => Some("Bearer"),
                _ => None,
            };
            assert_eq!(header(&response, "www-authenticate"), challenge, "{error}");
        }
    }
}

#[test]
fn rl2_retry_after_is_in_whole_seconds_rounded_up_and_only_on_429_and_503() {
    for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (30_000, "30"), (3_599_001, "3600")] {
        let pause = Duration::from_millis(millis);
        for error in [Error::RateLimited(pause), unavailable(pause)] {
            for dialect in [Dialect::V1, Dialect::Lexik] {
                assert_eq!(header(&dialect.error(&error, ""), "retry-after"), Some(seconds), "{millis} ms");
            }
        }
    }
    for (error, status, ..) in errors() {
        let response = Dialect::V1.error(&error, "");
        assert_eq!(header(&response, "retry-after").is_some(), matches!(status, 429 | 503), "{error}");
    }
    assert!(header(&Dialect::V1.error(&Error::RateLimited(Duration::MAX), ""), "retry-after").is_some());
}

#[test]
fn er1_the_cause_of_a_fault_stays_in_the_log() {
    for error in [unavailable(Duration::ZERO), Error::Internal("the cause".into())] {
        for dialect in [Dialect::V1, Dialect::Lexik] {
            assert!(!body(&dialect.error(&error, "")).to_string().contains("the cause"), "{error}");
        }
    }
}

#[test]
fn hd1_hd2_every_answer_is_guarded_and_keeps_what_it_says_of_itself() {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    secure(&mut headers);
    assert_eq!(headers[CACHE_CONTROL], "public, max-age=300");
    headers.remove(CACHE_CONTROL);
    secure(&mut headers);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(headers[name], value);
    }
    assert_eq!(headers.len(), 5);
}

#[test]
fn the_two_routes_of_a_symfony_backend_speak_its_dialect() {
    for (route, dialect) in [
        ("POST /api/auth", Dialect::Lexik),
        ("POST /api/token/refresh", Dialect::Lexik),
        ("POST /api/v1/auth/login", Dialect::V1),
        ("GET /api/auth", Dialect::V1),
        ("POST /api/auth/", Dialect::V1),
        ("$default", Dialect::V1),
        ("", Dialect::V1),
    ] {
        assert_eq!(Dialect::of(route), dialect, "{route}");
    }
}

fn alice() -> User {
    User {
        id: UserId::parse("6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31").unwrap(),
        email: Email::parse("Alice@example.com").unwrap(),
        email_verified: None,
        roles: vec!["ROLE_USER".into()],
        is_active: true,
        epoch: 3,
        profile: Profile { first_name: Some("Alice".into()), user_type: Some("customer".into()), ..Profile::default() },
        created_at: Timestamp::from_seconds(1_795_283_855),
        imported_at: None,
    }
}

fn tokens() -> Tokens {
    Tokens {
        access: Issued { token: "access".into(), expires_in: 3600 },
        refresh_token: "refresh".into(),
        refresh_expires_in: 2_592_000,
    }
}

#[test]
fn a_sign_in_is_answered_in_the_words_of_the_route() {
    let signed_in = SignedIn { user: alice(), tokens: tokens(), device_token: None };
    let response = Dialect::V1.signed_in(StatusCode::CREATED, &signed_in, Carrier::Body).unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(header(&response, "content-type"), Some("application/json; charset=utf-8"));
    let expected = json!({
        "access_token": "access", "refresh_token": "refresh", "token_type": "Bearer", "expires_in": 3600,
        "refresh_expires_in": 2_592_000, "user_id": "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31",
    });
    assert_eq!(body(&response), expected);

    let expected = json!({ "token": "access", "refresh_token": "refresh", "user": {
        "id": "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31", "email": "Alice@example.com", "firstName": "Alice",
        "lastName": null, "phone": null, "roles": ["ROLE_USER"], "userType": "customer", "isActive": true,
        "avatar": null,
    } });
    assert_eq!(body(&Dialect::Lexik.signed_in(StatusCode::OK, &signed_in, Carrier::Body).unwrap()), expected);
}

#[test]
fn rf13_a_refresh_is_answered_with_the_pair_alone() {
    let expected = json!({
        "access_token": "access", "refresh_token": "refresh", "token_type": "Bearer", "expires_in": 3600,
        "refresh_expires_in": 2_592_000,
    });
    assert_eq!(body(&Dialect::V1.tokens(&tokens(), Carrier::Body).unwrap()), expected);
    let expected = json!({ "token": "access", "refresh_token": "refresh" });
    assert_eq!(body(&Dialect::Lexik.tokens(&tokens(), Carrier::Body).unwrap()), expected);
}

#[test]
fn a_user_is_shown_without_anything_of_the_credential() {
    let response = user(&parse(&[]).unwrap(), &alice());
    assert_eq!(response.status(), 200);
    let expected = json!({
        "id": "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31", "email": "Alice@example.com", "first_name": "Alice",
        "last_name": null, "phone": null, "roles": ["ROLE_USER"], "user_type": "customer", "is_active": true,
        "avatar": null, "created_at": "2026-11-21T17:57:35Z",
    });
    assert_eq!(body(&response), expected);
    let with_mail = parse(&[("MAIL_FROM", "no-reply@example.com")]).unwrap();
    assert_eq!(body(&user(&with_mail, &alice()))["email_verified"], false);
    let verified = User { email_verified: Some(true), ..alice() };
    assert_eq!(body(&user(&with_mail, &verified))["email_verified"], true);
}

#[test]
fn an_answer_without_a_body_has_no_content_type_either() {
    let response = no_content();
    assert_eq!((response.status(), response.body().is_empty()), (StatusCode::NO_CONTENT, true));
    assert_eq!(header(&response, "content-type"), None);
}
