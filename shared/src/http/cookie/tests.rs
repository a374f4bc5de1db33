use lambda_http::http::StatusCode;

use super::*;
use crate::http::no_content;
use crate::token::access::Issued;

const COOKIE_CARRIER: Carrier = Carrier::Cookie(SameSite::Strict);
const ORIGIN: &str = "https://app.example.com";

fn request(headers: &[(&'static str, &str)]) -> Request {
    let mut request = Request::new(Body::Empty);
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

fn presented(cookies: &[&str]) -> Result<String, Error> {
    let lines: Vec<_> = cookies.iter().map(|line| ("cookie", *line)).collect();
    COOKIE_CARRIER.refresh_token(&request(&lines))
}

fn tokens(refresh_token: &str, refresh_expires_in: i64) -> Tokens {
    let access = Issued { token: "access".into(), expires_in: 60 };
    Tokens { access, refresh_token: refresh_token.into(), refresh_expires_in }
}

fn set_cookie(answer: &Response<Body>) -> &str {
    answer.headers()[SET_COOKIE].to_str().unwrap()
}

#[test]
fn the_refresh_token_is_the_value_of_the_cookie() {
    for cookies in [
        &["__Host-refresh_token=a.b-c_d"][..],
        &["theme=dark; __Host-refresh_token=a.b-c_d; x"],
        &["theme=\u{e9}", "x=y;__Host-refresh_token=a.b-c_d;"],
        &["__Host-refresh_token2=x; x__Host-refresh_token=x; =; __Host-refresh_token=a.b-c_d"],
    ] {
        assert_eq!(presented(cookies), Ok("a.b-c_d".into()), "{cookies:?}");
    }
    assert_eq!(presented(&["__Host-refresh_token=a=b"]), Ok("a=b".into()));
}

#[test]
fn ck5_a_cookie_of_another_spelling_is_none() {
    for cookies in [
        &[][..],
        &[""],
        &["__host-refresh_token=a"],
        &["__HOST-refresh_token=a"],
        &["__Host-Refresh_token=a"],
        &["__Host-refresh_token"],
        &["__Host-refresh_token="],
        &["__Host-refresh_token =a"],
        &["refresh_token=a"],
        &["x=__Host-refresh_token=a"],
    ] {
        assert_eq!(presented(cookies), Err(Error::InvalidRefreshToken { was_sent: false }), "{cookies:?}");
    }
}

#[test]
fn ck4_a_cookie_that_appears_twice_is_refused() {
    for cookies in [
        &["__Host-refresh_token=a; __Host-refresh_token=b"][..],
        &["__Host-refresh_token=a; __Host-refresh_token=a"],
        &["__Host-refresh_token=a; __Host-refresh_token="],
        &["__Host-refresh_token=a", "__Host-refresh_token=b"],
    ] {
        assert!(matches!(presented(cookies), Err(Error::InvalidRequest(_))), "{cookies:?}");
    }
    let spelled_otherwise = ["__host-refresh_token=a; __Host-refresh_token=b; __HOST-REFRESH_TOKEN=c"];
    assert_eq!(presented(&spelled_otherwise), Ok("b".into()));
}

#[test]
fn ck2_with_the_cookie_a_refresh_token_anywhere_else_is_ignored() {
    let mut elsewhere = request(&[("content-type", "application/json"), ("x-refresh-token", "a")]);
    *elsewhere.body_mut() = r#"{"refresh_token":"a"}"#.into();
    assert_eq!(COOKIE_CARRIER.refresh_token(&elsewhere), Err(Error::InvalidRefreshToken { was_sent: false }));
    assert!(matches!(COOKIE_CARRIER.refresh_token_to_end(&elsewhere), Err(Error::InvalidRequest(_))));
    assert_eq!(COOKIE_CARRIER.in_body(&tokens("a", 60).refresh_token), None);
}

#[test]
fn with_the_body_the_cookie_is_neither_read_nor_set() {
    let with_cookie = request(&[("cookie", "__Host-refresh_token=a; __Host-refresh_token=b")]);
    assert_eq!(Carrier::Body.refresh_token(&with_cookie), Err(Error::NoRefreshToken));
    assert!(matches!(Carrier::Body.refresh_token_to_end(&with_cookie), Err(Error::InvalidRequest(_))));
    assert_eq!(Carrier::Body.attach(no_content(), &tokens("a", 60)).unwrap().headers().len(), 0);
    assert_eq!(Carrier::Body.detach(no_content()).unwrap().headers().len(), 0);
    assert_eq!(Carrier::Body.in_body(&tokens("a", 60).refresh_token), Some("a"));
}

#[test]
fn ck1_ck7_the_cookie_is_set_and_cleared_with_the_same_attributes() {
    for same_site in [SameSite::Strict, SameSite::Lax, SameSite::None] {
        let set = Carrier::Cookie(same_site).attach(no_content(), &tokens("a.b", 60)).unwrap();
        let attributes = format!("HttpOnly; Secure; SameSite={same_site:?}; Path=/; Max-Age=");
        assert_eq!(set_cookie(&set), format!("__Host-refresh_token=a.b; {attributes}60"));
        assert!(set.headers()[SET_COOKIE].is_sensitive());
        let cleared = Carrier::Cookie(same_site).detach(no_content()).unwrap();
        assert_eq!(set_cookie(&cleared), format!("__Host-refresh_token=; {attributes}0"));
        assert_eq!(cleared.status(), StatusCode::NO_CONTENT);
    }
}

#[test]
fn ck1_a_cookie_is_kept_for_as_long_as_the_token_is_good_and_for_400_days_at_most() {
    for (left, max_age) in [(1, 1), (400 * 86_400, 34_560_000), (34_560_001, 34_560_000), (0, 0), (-1, 0)] {
        let answer = COOKIE_CARRIER.attach(no_content(), &tokens("a", left)).unwrap();
        assert!(set_cookie(&answer).ends_with(&format!("; Max-Age={max_age}")), "{left}");
    }
}

#[test]
fn ck3_a_cookie_of_4096_bytes_is_set_and_a_longer_one_is_a_fault() {
    let fits = "x".repeat(4096 - "__Host-refresh_token".len());
    assert!(COOKIE_CARRIER.attach(no_content(), &tokens(&fits, 60)).is_ok());
    let longer = COOKIE_CARRIER.attach(no_content(), &tokens(&format!("{fits}x"), 60));
    assert!(matches!(longer, Err(Error::Internal(_))));
}

#[test]
fn a_client_gets_the_transport_that_it_picks_or_is_told_that_there_is_none() {
    let pick = |mode, header: Option<&str>| {
        let headers = header.map(|value| ("x-token-transport", value));
        let transport = Transport { mode, same_site: SameSite::Strict, allowed_origins: vec![ORIGIN.into()] };
        Carrier::picked(&transport, &request(headers.as_slice()))
    };
    for header in [None, Some("body")] {
        assert_eq!(pick(Mode::Body, header), Ok(Carrier::Body), "{header:?}");
        assert_eq!(pick(Mode::Both, header), Ok(Carrier::Body), "{header:?}");
    }
    for header in [None, Some("cookie")] {
        assert_eq!(pick(Mode::Cookie, header), Ok(COOKIE_CARRIER), "{header:?}");
    }
    assert_eq!(pick(Mode::Both, Some("cookie")), Ok(COOKIE_CARRIER));
    for (mode, header) in [(Mode::Body, "cookie"), (Mode::Cookie, "body")] {
        assert!(matches!(pick(mode, Some(header)), Err(Error::InvalidRequest(_))), "{header}");
    }
    for header in ["", "Cookie", "cookies", "cookie,cookie"] {
        for mode in [Mode::Body, Mode::Cookie, Mode::Both] {
            assert!(matches!(pick(mode, Some(header)), Err(Error::InvalidRequest(_))), "{header}");
        }
    }
}

fn guarded(headers: &[(&'static str, &str)], body: &str) -> Result<(), Error> {
    let mut request = request(headers);
    *request.body_mut() = body.into();
    guard(&[ORIGIN.into(), "http://localhost:5173".into()], &request)
}

#[test]
fn ck6_the_guard_lets_through_scripts_of_an_allowed_origin() {
    let script = ("x-requested-with", "fetch");
    for origin in [ORIGIN, "http://localhost:5173"] {
        assert_eq!(guarded(&[("origin", origin), script], ""), Ok(()), "{origin}");
    }
    for content_type in ["application/json", "application/json; charset=utf-8", "application/vnd.api+json"] {
        let headers = [("origin", ORIGIN), script, ("content-type", content_type)];
        assert_eq!(guarded(&headers, "{}"), Ok(()), "{content_type}");
    }
}

#[test]
fn ck6_co1_the_guard_refuses_every_other_origin() {
    for origin in [
        "",
        "null",
        "*",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://app.example.com:443",
        "https://app.example.com/",
        "http://app.example.com",
        "https://APP.example.com",
        "https://example.com",
        "https://app.example.com,https://app.example.com",
        "https://app.example.com https://evil.example",
    ] {
        let headers = [("origin", origin), ("x-requested-with", "fetch")];
        assert_eq!(guarded(&headers, ""), Err(Error::OriginNotAllowed), "{origin}");
    }
    let twice = [("origin", ORIGIN), ("origin", ORIGIN), ("x-requested-with", "fetch")];
    assert_eq!(guarded(&twice, ""), Err(Error::OriginNotAllowed));
    assert_eq!(guarded(&[("x-requested-with", "fetch")], ""), Err(Error::OriginNotAllowed));
    let referer = [("referer", "https://app.example.com/"), ("x-requested-with", "fetch")];
    assert_eq!(guarded(&referer, ""), Err(Error::OriginNotAllowed));
}

#[test]
fn ck6_the_guard_refuses_what_needs_no_preflight() {
    let origin = ("origin", ORIGIN);
    assert_eq!(guarded(&[origin], ""), Err(Error::OriginNotAllowed));
    assert_eq!(guarded(&[origin, ("x-requested-with", "")], ""), Err(Error::OriginNotAllowed));
    for content_type in
        ["", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "text/json"]
    {
        let headers = [origin, ("x-requested-with", "fetch"), ("content-type", content_type)];
        assert_eq!(guarded(&headers, "{}"), Err(Error::OriginNotAllowed), "{content_type}");
    }
    let untyped = [origin, ("x-requested-with", "fetch")];
    assert_eq!(guarded(&untyped, "{}"), Err(Error::OriginNotAllowed));
}
