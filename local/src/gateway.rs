//! API Gateway's HTTP API, as far as a function can tell: requests become
//! events of payload format 2.0, answers become responses, and what the gateway
//! answers by itself is answered here. No I/O, no clock.

use std::net::IpAddr;

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::template::{Cors, Route, Template};

/// The most bytes of a body that the gateway takes.
pub const MAX_BODY: usize = 10 * 1024 * 1024;

/// The most bytes of a request line and its headers together.
pub const MAX_HEAD: usize = 10_240;

/// The routes and the CORS settings of a template.
#[derive(Debug)]
pub struct Gateway {
    routes: Vec<(Route, String)>,
    cors: Option<Cors>,
}

/// What the gateway knows of a request besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The request's id.
    pub id: &'a str,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Where it came from.
    pub source: IpAddr,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Step {
    /// The gateway answers it by itself.
    Answer(Response<Bytes>),
    /// A function is called.
    Invoke {
        /// The function's name.
        function: String,
        /// What it is given.
        event: Value,
    },
}

impl Gateway {
    /// The gateway of `template`.
    pub fn new(template: &Template) -> Self {
        let routes = template
            .functions
            .iter()
            .flat_map(|function| function.routes.iter().map(|route| (route.clone(), function.name.clone())));
        Self { routes: routes.collect(), cors: template.cors.clone() }
    }

    /// Decides what becomes of `request`.
    pub fn accept(&self, request: &Request<Bytes>, call: Call<'_>) -> Step {
        if head_size(request) > MAX_HEAD {
            return Step::Answer(message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        if request.body().len() > MAX_BODY {
            return Step::Answer(too_large());
        }
        if let Some(cors) = &self.cors
            && request.method() == Method::OPTIONS
        {
            return Step::Answer(preflight(cors, request.headers()));
        }
        let path = request.uri().path();
        let candidates = self.routes.iter().filter(|(route, _)| route.method == request.method());
        let matching = candidates
            .filter_map(|(route, function)| Some((route, function, path_parameters(route, path)?)))
            .min_by_key(|(route, ..)| route.path.split('/').map(is_parameter).collect::<Vec<_>>());
        match matching {
            None => Step::Answer(message(StatusCode::NOT_FOUND)),
            Some((route, function, parameters)) => {
                let event = event(request, route, parameters, call);
                Step::Invoke { function: function.clone(), event }
            }
        }
    }

    /// The response to a request with `headers` for which a function answered
    /// `answer`; an answer that is none means that it crashed.
    pub fn respond(&self, headers: &HeaderMap, answer: &Value) -> Response<Bytes> {
        let Some(mut response) = response(answer) else {
            return message(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let Some(cors) = &self.cors else { return response };
        for name in [
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            response.headers_mut().remove(name);
        }
        if allow_origin(cors, headers, response.headers_mut()) {
            set_list(response.headers_mut(), ACCESS_CONTROL_EXPOSE_HEADERS, &cors.exposed);
        }
        response
    }
}

/// The gateway's answer to a body beyond [`MAX_BODY`].
pub fn too_large() -> Response<Bytes> {
    let body = json!({"message": "Request Entity Too Large"});
    json_response(StatusCode::PAYLOAD_TOO_LARGE, &body)
}

/// An answer of the gateway's own.
pub(crate) fn message(status: StatusCode) -> Response<Bytes> {
    json_response(status, &json!({"message": status.canonical_reason()}))
}

/// JSON, without the functions' headers.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The bytes that the request line and the headers had on the wire.
fn head_size(request: &Request<Bytes>) -> usize {
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter();
    line + headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}

fn preflight(cors: &Cors, headers: &HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    if headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && allow_origin(cors, headers, answer) {
        set_list(answer, ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
        set_list(answer, ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
        if let Some(seconds) = cors.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
    }
    response
}

/// Names the request's origin in `answer`, if it is an allowed one.
fn allow_origin(cors: &Cors, headers: &HeaderMap, answer: &mut HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    if !cors.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        return false;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.append(VARY, HeaderValue::from_static("origin"));
    if cors.credentials {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

fn set_list(headers: &mut HeaderMap, name: HeaderName, items: &[String]) {
    if let Ok(value) = HeaderValue::from_str(&items.join(","))
        && !items.is_empty()
    {
        headers.insert(name, value);
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// What the parameters of `route` stand for in `path`, if the two match.
fn path_parameters(route: &Route, path: &str) -> Option<Map<String, Value>> {
    let mut parameters = Map::new();
    let mut segments = path.split('/');
    for expected in route.path.split('/') {
        let segment = segments.next()?;
        if is_parameter(expected) {
            let name = expected.trim_matches(['{', '}']);
            let value = percent_decode_str(segment).decode_utf8_lossy();
            parameters.insert(name.into(), Some(value).filter(|value| !value.is_empty())?.into());
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(parameters)
}

fn event(request: &Request<Bytes>, route: &Route, path_parameters: Map<String, Value>, call: Call<'_>) -> Value {
    let header = |name| request.headers().get(name).map(text).unwrap_or_default();
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let route_key = format!("{} {}", route.method, route.path);
    let host = header(HOST);
    let domain = host.rsplit_once(':').map_or(host.as_str(), |(domain, _)| domain);
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": joined_headers(request.headers()),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": domain.split('.').next(),
            "http": {
                "method": request.method().as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version()),
                "sourceIp": call.source.to_string(),
                "userAgent": header(USER_AGENT),
            },
            "requestId": call.id,
            "routeKey": route_key,
            "stage": "$default",
            "time": common_log_time(call.now_ms),
            "timeEpoch": call.now_ms,
        },
        "isBase64Encoded": false,
    });
    let cookies = cookies(request.headers());
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    let query = query_parameters(query);
    if !query.is_empty() {
        event["queryStringParameters"] = query.into();
    }
    if !path_parameters.is_empty() {
        event["pathParameters"] = path_parameters.into();
    }
    let body = request.body();
    if !body.is_empty() {
        let body_as_text = std::str::from_utf8(body).ok().filter(|_| is_text(&header(CONTENT_TYPE)));
        event["isBase64Encoded"] = body_as_text.is_none().into();
        event["body"] = body_as_text.map_or_else(|| BASE64_STANDARD.encode(body), str::to_owned).into();
    }
    event
}

/// The gateway hands these on as they are, and every other body, forms too, in
/// base64.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["application/json", "application/javascript", "application/xml"].contains(&essence.as_str())
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn joined_headers(headers: &HeaderMap) -> Map<String, Value> {
    let names = headers.keys().filter(|name| **name != COOKIE);
    let joined = names.map(|name| {
        let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
        (name.to_string(), values.join(",").into())
    });
    joined.collect()
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(text).collect();
    let cookies = lines.iter().flat_map(|line| line.split(';')).map(str::trim);
    cookies.filter(|cookie| !cookie.is_empty()).map(str::to_owned).collect()
}

fn query_parameters(query: &str) -> Map<String, Value> {
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let mut parameters = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let joined = match parameters.get(&name).and_then(Value::as_str) {
            Some(earlier) => format!("{earlier},{value}"),
            None => value,
        };
        parameters.insert(name, joined.into());
    }
    parameters
}

/// As in `12/Mar/2020:19:03:58 +0000`.
fn common_log_time(now_ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = moment.month().to_string();
    format!(
        "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000",
        moment.day(),
        month.get(..3).unwrap_or_default(),
        moment.year(),
        moment.hour(),
        moment.minute(),
        moment.second(),
    )
}

/// The response that `answer` describes, if it is one. Payload format 2.0 has no
/// `multiValueHeaders`: the gateway does not read them.
fn response(answer: &Value) -> Option<Response<Bytes>> {
    let status = answer.get("statusCode")?.as_u64()?;
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let body = answer.get("body").and_then(Value::as_str).unwrap_or_default();
    let encoded = answer.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default();
    let body = if encoded { BASE64_STANDARD.decode(body).ok()? } else { body.into() };
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let mut response = Response::new(if bodiless { Bytes::new() } else { body.into() });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let name: HeaderName = name.parse().ok()?;
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            headers.insert(name, value.as_str()?.parse().ok()?);
        }
    }
    for cookie in answer.get("cookies").and_then(Value::as_array).into_iter().flatten() {
        headers.append(SET_COOKIE, cookie.as_str()?.parse().ok()?);
    }
    (status.as_u16() >= 200).then_some(response)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::template::{Function, Table};

    const ORIGIN_A: &str = "https://a.example";
    const CALL: Call<'_> = Call { id: "id-1", now_ms: 1_583_348_638_390, source: IpAddr::V4(Ipv4Addr::LOCALHOST) };

    fn route(method: Method, path: &str) -> Route {
        Route { method, path: path.into() }
    }

    fn gateway() -> Gateway {
        let function = |name: &str, routes| Function { name: name.into(), routes, variables: Default::default() };
        Gateway::new(&Template {
            functions: vec![
                function("login", vec![route(Method::POST, "/login")]),
                function(
                    "account",
                    vec![
                        route(Method::DELETE, "/sessions/{session_id}"),
                        route(Method::DELETE, "/sessions/all"),
                        route(Method::GET, "/users/me"),
                    ],
                ),
            ],
            table: Table { name: "Table".into(), keys: Vec::new(), attributes: Vec::new(), ttl: None },
            cors: Some(Cors {
                origins: vec![ORIGIN_A.into()],
                methods: vec!["GET".into(), "POST".into()],
                headers: vec!["authorization".into(), "content-type".into()],
                exposed: vec!["retry-after".into(), "x-new-access-token".into()],
                credentials: true,
                max_age: Some(600),
            }),
        })
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
    fn a_path_parameter_takes_one_segment_and_an_exact_path_goes_first() {
        let event = event_of(&request("DELETE", "/sessions/a%20b", &[], b""));
        assert_eq!(event["pathParameters"], json!({"session_id": "a b"}));
        assert_eq!(event["routeKey"], "DELETE /sessions/{session_id}");
        assert_eq!(event["rawPath"], "/sessions/a%20b");
        let event = event_of(&request("DELETE", "/sessions/all", &[], b""));
        assert_eq!(event["routeKey"], "DELETE /sessions/all");
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
        let sent =
            request("OPTIONS", "/login", &[("origin", ORIGIN_A), ("access-control-request-method", "POST")], b"");
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
}
