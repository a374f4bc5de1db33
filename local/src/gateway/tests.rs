use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::template::{Function, Route, Table};

const ORIGIN_A: &str = "https://a.example";
const CALL: Call<'_> = Call { id: "id-1", now_ms: 1_583_348_638_390, source: IpAddr::V4(Ipv4Addr::LOCALHOST) };

fn route(method: Method, path: &str) -> Route {
    Route { method, path: path.into() }
}

fn template(login: Vec<Route>, account: Vec<Route>) -> Template {
    let function = |name: &str, routes| Function {
        name: name.into(),
        logical: name.into(),
        routes,
        variables: Default::default(),
        schedule: None,
        wakes_on: None,
    };
    Template {
        functions: vec![function("login", login), function("account", account)],
        table: Table { name: "Table".into(), keys: Vec::new(), attributes: Vec::new(), ttl: None, has_stream: false },
        cors: Some(Cors {
            origins: vec![ORIGIN_A.into()],
            methods: vec!["GET".into(), "POST".into()],
            headers: vec!["authorization".into(), "content-type".into()],
            exposed: vec!["retry-after".into(), "x-new-access-token".into()],
            credentials: true,
            max_age: Some(600),
        }),
    }
}

fn gateway() -> Gateway {
    let account = vec![
        route(Method::DELETE, "/sessions/{session_id}"),
        route(Method::DELETE, "/sessions/all"),
        route(Method::GET, "/users/me"),
    ];
    Gateway::new(&template(vec![route(Method::POST, "/login")], account)).unwrap()
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Bytes::copy_from_slice(body)).unwrap()
}

fn event_of(request: &Request<Bytes>) -> Value {
    match gateway().accept(request, CALL) {
        Step::Invoke { event, .. } => event,
        Step::Answer(answer) => panic!("answered {answer:?}"),
    }
}

fn answer_to(request: &Request<Bytes>) -> Response<Bytes> {
    match gateway().accept(request, CALL) {
        Step::Answer(answer) => answer,
        Step::Invoke { function, .. } => panic!("called {function}"),
    }
}

fn headers(response: &Response<Bytes>) -> Vec<(&str, &str)> {
    let headers = response.headers().iter();
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.sort_unstable();
    headers
}

#[test]
fn a_request_becomes_an_event_of_payload_format_2() {
    let login = request(
        "POST",
        "/login?a=1&a=2&b=x%20y",
        &[
            ("Host", "api.example:3000"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("User-Agent", "curl/8"),
            ("Cookie", "one=1; two=2"),
            ("Cookie", "three=3"),
            ("X-Twice", "a"),
            ("X-Twice", "b"),
        ],
        br#"{"a":1}"#,
    );
    let expected = json!({
        "version": "2.0",
        "routeKey": "POST /login",
        "rawPath": "/login",
        "rawQueryString": "a=1&a=2&b=x%20y",
        "cookies": ["one=1", "two=2", "three=3"],
        "headers": {
            "host": "api.example:3000",
            "content-type": "application/json; charset=utf-8",
            "user-agent": "curl/8",
            "x-twice": "a,b",
        },
        "queryStringParameters": {"a": "1,2", "b": "x y"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": "api.example",
            "domainPrefix": "api",
            "http": {
                "method": "POST",
                "path": "/login",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl/8",
            },
            "requestId": "id-1",
            "routeKey": "POST /login",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390_i64,
        },
        "body": "{\"a\":1}",
        "isBase64Encoded": false,
    });
    assert_eq!(event_of(&login), expected);
}

#[test]
fn what_a_request_lacks_is_not_in_the_event() {
    let event = event_of(&request("GET", "/users/me", &[], b""));
    for member in ["body", "cookies", "pathParameters", "queryStringParameters"] {
        assert_eq!(event.get(member), None, "{member}");
    }
    assert_eq!(event["isBase64Encoded"], false);
}

#[test]
fn a_body_is_text_only_for_the_types_that_the_gateway_takes_for_text() {
    let cases = [
        ("application/json", true),
        ("Application/JSON;charset=UTF-8", true),
        ("text/plain", true),
        ("application/xml", true),
        ("application/javascript", true),
        ("application/x-www-form-urlencoded", false),
        ("application/problem+json", false),
        ("application/octet-stream", false),
        ("", false),
    ];
    for (content_type, as_text) in cases {
        let headers = [("content-type", content_type)];
        let event = event_of(&request("POST", "/login", &headers, b"a=1"));
        let expected = if as_text { "a=1" } else { "YT0x" };
        assert_eq!(event["body"], expected, "{content_type}");
        assert_eq!(event["isBase64Encoded"], !as_text, "{content_type}");
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_encoded() {
    let headers = [("content-type", "application/json")];
    let event = event_of(&request("POST", "/login", &headers, b"\xff"));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/w=="), &json!(true)));
}

#[test]
fn a_path_parameter_takes_one_segment_and_an_exact_path_has_priority() {
    let event = event_of(&request("DELETE", "/sessions/a%20b", &[], b""));
    assert_eq!(event["pathParameters"], json!({"session_id": "a b"}));
    assert_eq!(event["routeKey"], "DELETE /sessions/{session_id}");
    assert_eq!(event["rawPath"], "/sessions/a%20b");
    assert_eq!(event["requestContext"]["routeKey"], event["routeKey"]);
    for (path, route_key) in [
        ("/sessions/all", "DELETE /sessions/all"),
        ("/sessions/al", "DELETE /sessions/{session_id}"),
        ("/sessions/alligator", "DELETE /sessions/{session_id}"),
        ("/sessions/%61ll", "DELETE /sessions/{session_id}"),
    ] {
        let event = event_of(&request("DELETE", path, &[], b""));
        assert_eq!(event["routeKey"], route_key, "{path}");
        assert_eq!(event.get("pathParameters").is_some(), route_key.contains('{'), "{path}");
    }
}

#[test]
fn two_routes_that_take_the_same_requests_are_an_error_that_names_one() {
    for (first, second) in [("/login", "/login"), ("/sessions/{id}", "/sessions/{session_id}")] {
        let twice = template(vec![route(Method::POST, first)], vec![route(Method::POST, second)]);
        let error = Gateway::new(&twice).unwrap_err().to_string();
        assert!(error.contains(&format!("POST {second}")), "{error}");
        let apart = template(vec![route(Method::POST, first)], vec![route(Method::GET, second)]);
        assert!(Gateway::new(&apart).is_ok());
    }
}

#[test]
fn spaces_and_tabs_around_a_cookie_are_cut_off_and_no_other_white_space() {
    const BESIDE: [&str; 8] =
        ["\u{a0}", "\u{1680}", "\u{2000}", "\u{2028}", "\u{202f}", "\u{205f}", "\u{3000}", "\u{85}"];
    let cookies = |line: &str| {
        let sent = Request::post("/login").header("cookie", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        event_of(&sent.body(Bytes::new()).unwrap())["cookies"].clone()
    };
    assert_eq!(cookies(" a=1 ;\tb=2\t; ;c=3"), json!(["a=1", "b=2", "c=3"]));
    for space in BESIDE {
        let cookie = format!("{space}__Host-refresh_token=x{space}");
        assert_eq!(cookies(&format!("a=1; {cookie}")), json!(["a=1", cookie]), "{space:?}");
    }
}

#[test]
fn a_query_is_decoded_as_a_form_is() {
    for (query, expected) in [
        ("a=x+y&b=%2B&c=%C3%A9", json!({"a": "x y", "b": "+", "c": "é"})),
        ("a=1&b=2&a=3", json!({"a": "1,3", "b": "2"})),
        ("a&b=&&c=1=2", json!({"a": "", "b": "", "c": "1=2"})),
        ("a=%zz&b=%FF", json!({"a": "%zz", "b": "\u{fffd}"})),
    ] {
        let event = event_of(&request("GET", &format!("/users/me?{query}"), &[], b""));
        assert_eq!(event["queryStringParameters"], expected, "{query}");
        assert_eq!(event["rawQueryString"], query);
    }
}

#[test]
fn an_unknown_route_or_method_gets_the_gateways_own_404() {
    let unknown = [
        ("GET", "/"),
        ("GET", "/login"),
        ("HEAD", "/users/me"),
        ("POST", "/login/"),
        ("POST", "/login/x"),
        ("POST", "/Login"),
        ("DELETE", "/sessions/"),
        ("DELETE", "/sessions/a/b"),
        ("BREW", "/login"),
    ];
    for (method, path) in unknown {
        let answer = answer_to(&request(method, path, &[], b""));
        assert_eq!(answer.status(), 404, "{method} {path}");
        assert_eq!(answer.body(), r#"{"message":"Not Found"}"#);
        assert_eq!(headers(&answer), [("content-type", "application/json")]);
    }
}

#[test]
fn too_long_headers_and_bodies_never_reach_a_function() {
    let fits = "x".repeat(MAX_HEAD - "POST /login HTTP/1.1\r\nx-long: \r\n\r\n".len());
    event_of(&request("POST", "/login", &[("x-long", &fits)], b""));
    let longer = format!("{fits}x");
    let answer = answer_to(&request("POST", "/login", &[("x-long", &longer)], b""));
    assert_eq!(answer.status(), 431);
    event_of(&request("POST", "/login", &[], &vec![0; MAX_BODY]));
    let answer = answer_to(&request("POST", "/login", &[], &vec![0; MAX_BODY + 1]));
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.body(), r#"{"message":"Request Entity Too Large"}"#);
}

#[test]
fn a_preflight_of_an_allowed_origin_is_told_what_is_allowed() {
    let headers_sent = [("origin", ORIGIN_A), ("access-control-request-method", "POST")];
    let answer = answer_to(&request("OPTIONS", "/login", &headers_sent, b""));
    assert_eq!(answer.status(), 204);
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-origin", ORIGIN_A),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ];
    assert_eq!(headers(&answer), expected);
}

#[test]
fn co1_any_other_preflight_is_told_nothing() {
    let method = ("access-control-request-method", "POST");
    let origins = [
        "",
        "*",
        "null",
        "https://a.example.evil",
        "https://evil-a.example",
        "https://b.example",
        "http://a.example",
        "https://a.example:443",
        "https://a.example/",
        "HTTPS://a.example",
        "https://a.example,https://b.example",
    ];
    for origin in origins {
        let headers_sent = [("origin", origin), method];
        let answer = answer_to(&request("OPTIONS", "/login", &headers_sent, b""));
        assert_eq!((answer.status().as_u16(), headers(&answer)), (204, vec![]), "{origin}");
    }
    let answer = answer_to(&request("OPTIONS", "/login", &[("origin", ORIGIN_A)], b""));
    assert_eq!((answer.status().as_u16(), headers(&answer)), (204, vec![]));
}

#[test]
fn co2_a_preflight_is_answered_without_a_function_whatever_it_carries() {
    let sent = [
        ("origin", ORIGIN_A),
        ("access-control-request-method", "GET"),
        ("authorization", "Bearer x"),
        ("cookie", "x=y"),
        ("x-refresh-token", "x"),
    ];
    for path in ["/login", "/users/me", "/sessions/x", "/nowhere"] {
        assert_eq!(answer_to(&request("OPTIONS", path, &sent, b"{}")).status(), 204, "{path}");
    }
    assert_eq!(answer_to(&request("OPTIONS", "/login", &[], b"")).status(), 204);
}

#[test]
fn co1_credentials_are_allowed_only_where_the_template_allows_them() {
    let mut gateway = gateway();
    gateway.cors.as_mut().unwrap().credentials = false;
    let sent = request("OPTIONS", "/login", &[("origin", ORIGIN_A), ("access-control-request-method", "POST")], b"");
    let Step::Answer(preflight) = gateway.accept(&sent, CALL) else { panic!("called") };
    let response = gateway.respond(sent.headers(), &json!({"statusCode": 200}));
    for answer in [preflight, response] {
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN_A);
        assert_eq!(answer.headers().get(ACCESS_CONTROL_ALLOW_CREDENTIALS), None);
    }
}

#[test]
fn an_answer_becomes_a_response() {
    let answer = json!({
        "statusCode": 201,
        "headers": {"content-type": "application/json", "content-length": "999"},
        "multiValueHeaders": {"x-more": ["a"]},
        "cookies": ["a=1; Secure", "b=2"],
        "body": "{}",
        "isBase64Encoded": false,
    });
    let response = gateway().respond(&HeaderMap::new(), &answer);
    assert_eq!(response.status(), 201);
    assert_eq!(response.body(), "{}");
    let expected = [("content-type", "application/json"), ("set-cookie", "a=1; Secure"), ("set-cookie", "b=2")];
    assert_eq!(headers(&response), expected);
}

#[test]
fn an_encoded_body_is_decoded() {
    let answer = json!({"statusCode": 200, "body": "/w==", "isBase64Encoded": true});
    let response = gateway().respond(&HeaderMap::new(), &answer);
    assert_eq!(response.body().as_ref(), b"\xff");
}

#[test]
fn what_is_no_answer_is_a_crash() {
    let crashes = [
        json!(null),
        json!("text"),
        json!({"errorType": "panic", "errorMessage": "boom"}),
        json!({"statusCode": 99}),
        json!({"statusCode": 101}),
        json!({"statusCode": "200"}),
        json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
        json!({"statusCode": 200, "headers": {"a b": "c"}}),
        json!({"statusCode": 200, "headers": {"a": "b\r\nc: d"}}),
    ];
    for crash in crashes {
        let response = gateway().respond(&HeaderMap::new(), &crash);
        assert_eq!(response.status(), 500, "{crash}");
        assert_eq!(response.body(), r#"{"message":"Internal Server Error"}"#);
    }
}

#[test]
fn the_gateway_sets_the_cors_headers_of_a_response_and_drops_a_functions_own() {
    let answer = json!({
        "statusCode": 200,
        "headers": {"access-control-allow-origin": "*", "vary": "accept"},
    });
    let sent = request("GET", "/users/me", &[("origin", ORIGIN_A)], b"");
    let response = gateway().respond(sent.headers(), &answer);
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-origin", ORIGIN_A),
        ("access-control-expose-headers", "retry-after,x-new-access-token"),
        ("vary", "accept"),
        ("vary", "origin"),
    ];
    assert_eq!(headers(&response), expected);
    for origin in ["null", "https://evil-a.example", "https://a.example.evil"] {
        let sent = request("GET", "/users/me", &[("origin", origin)], b"");
        let response = gateway().respond(sent.headers(), &answer);
        assert_eq!(headers(&response), [("vary", "accept")], "{origin}");
    }
}

#[test]
fn without_cors_settings_options_is_a_route_like_any_other() {
    let gateway = Gateway { cors: None, ..gateway() };
    let headers_sent = [("origin", ORIGIN_A), ("access-control-request-method", "POST")];
    let step = gateway.accept(&request("OPTIONS", "/login", &headers_sent, b""), CALL);
    assert!(matches!(step, Step::Answer(answer) if answer.status() == 404));
}

proptest! {
    #[test]
    fn any_bytes_pass_the_gateway_unharmed(
        name in "[a-z]{1,9}",
        value in prop::collection::vec(prop_oneof![32u8..127, 128u8..=255], 0..40),
        content_type in "(application/json|text/x|a/b)?",
        body in prop::collection::vec(any::<u8>(), 1..60),
        query in "[a-zA-Z0-9%&=+.~]{0,40}",
    ) {
        let mut sent = Request::builder()
            .method("POST")
            .uri(format!("/login?{query}"))
            .header("content-type", content_type)
            .body(Bytes::from(body.clone()))
            .unwrap();
        let value = HeaderValue::from_bytes(&value).unwrap();
        sent.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        let event = event_of(&sent);
        let given = event["body"].as_str().unwrap();
        let given = match event["isBase64Encoded"].as_bool().unwrap() {
            true => BASE64_STANDARD.decode(given).unwrap(),
            false => given.into(),
        };
        prop_assert_eq!(given, body);
    }
}
