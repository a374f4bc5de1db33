//! Events as API Gateway sends them, and events that must be refused.

use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use lambda_http::http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::clock::SystemClock;
use crate::config::tests::parse;

async fn function<H, F>(handler: H) -> Function
where
    H: Fn(Arc<App>, Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let config = parse(&[("TABLE_ENDPOINT", "http://127.0.0.1:1")]);
    Function::new(App::connect(config.unwrap(), Arc::new(SystemClock), None).await, handler)
}

/// Answers with the body of the request.
async fn echo(_: Arc<App>, request: Request) -> Answer {
    Ok(Response::new(request.into_body()))
}

/// Reads everything from a request that a handler can read.
async fn ask(_: Arc<App>, request: Request) -> Answer {
    let _ = (http::route_key(&request), http::bearer(&request), http::client(&request));
    let members = http::members(&request)?;
    http::attempt(&request)?;
    let token = http::refresh_token(&request).or_else(|_| http::refresh_token_to_end(&request));
    Ok(http::json(StatusCode::OK, &json!({ "token": token.ok(), "email": members.optional("email")? })))
}

/// A login as API Gateway sends it.
fn event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /api/v1/auth/login",
        "rawPath": "/api/v1/auth/login",
        "rawQueryString": "a=b&c=%20",
        "cookies": ["a=b", "c=d"],
        "headers": {
            "authorization": "Bearer abc",
            "content-type": "application/json",
            "host": "api.example.com",
            "idempotency-key": "one",
            "user-agent": "curl/8.5.0",
            "x-forwarded-proto": "https",
        },
        "queryStringParameters": { "a": "b", "c": " " },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": "api.example.com",
            "domainPrefix": "api",
            "http": {
                "method": "POST",
                "path": "/api/v1/auth/login",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "gateway-1",
            "routeKey": "POST /api/v1/auth/login",
            "stage": "$default",
            "time": "21/Nov/2026:17:57:35 +0000",
            "timeEpoch": 1_795_283_855_000_u64,
        },
        "pathParameters": { "x": "y" },
        "stageVariables": { "x": "y" },
        "body": r#"{"email":"alice@example.com","refresh_token":"abc"}"#,
        "isBase64Encoded": false,
    })
}

/// The event with this value at this JSON pointer, whose parent must exist.
fn with(pointer: &str, value: impl Into<Value>) -> Value {
    let mut event = event();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[name] = value.into();
    event
}

async fn invoke(function: &Function, event: &str) -> Value {
    let mut context = Context::default();
    context.request_id = "lambda-1".into();
    function.invoke(event, context).await
}

fn status(answer: &Value) -> u64 {
    answer["statusCode"].as_u64().unwrap()
}

fn problem(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn an_event_is_answered_by_the_handler() {
    let answer = invoke(&function(echo).await, &event().to_string()).await;
    assert_eq!(status(&answer), 200);
    assert_eq!(answer["body"], event()["body"]);
    let answer = invoke(&function(ask).await, &event().to_string()).await;
    assert_eq!(problem(&answer), json!({ "token": "abc", "email": "alice@example.com" }));
}

#[tokio::test]
async fn in4_a_base64_body_is_decoded_once() {
    let function = function(echo).await;
    let inner = STANDARD.encode("\u{e9}");
    let mut event = with("/body", STANDARD.encode(&inner));
    event["isBase64Encoded"] = true.into();
    assert_eq!(invoke(&function, &event.to_string()).await["body"], inner.as_str());
    let plain = with("/body", inner.as_str());
    assert_eq!(invoke(&function, &plain.to_string()).await["body"], inner.as_str());
}

#[tokio::test]
async fn an_answer_that_is_not_text_is_encoded_in_base64() {
    let answer = |body: &'static [u8]| async move {
        invoke(&function(move |_, _| async move { Ok(Response::new(body.into())) }).await, &event().to_string()).await
    };
    let (text, binary, empty) = (answer("\u{e9}".as_bytes()).await, answer(b"\xff").await, answer(b"").await);
    assert_eq!((&text["body"], &text["isBase64Encoded"]), (&json!("\u{e9}"), &json!(false)));
    assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("/w=="), &json!(true)));
    assert_eq!((&empty["body"], &empty["isBase64Encoded"]), (&json!(null), &json!(false)));
}

#[tokio::test]
async fn in4_a_body_that_is_not_the_base64_it_claims_to_be_is_refused() {
    let function = function(echo).await;
    for body in ["*", "YQ", "YR==", "YQ==\n", "__8=", "\u{e9}", "{}"] {
        let mut event = with("/body", body);
        event["isBase64Encoded"] = true.into();
        assert_eq!(status(&invoke(&function, &event.to_string()).await), 400, "{body:?}");
    }
}

#[tokio::test]
async fn in4_in5_what_is_no_event_of_an_http_api_in_version_2_is_refused() {
    let function = function(echo).await;
    let rest_api = json!({
        "version": "1.0", "resource": "/api/v1/auth/login", "path": "/api/v1/auth/login", "httpMethod": "POST",
        "headers": {}, "multiValueHeaders": {}, "queryStringParameters": null, "pathParameters": null,
        "requestContext": { "accountId": "1", "httpMethod": "POST", "path": "/", "stage": "$default" },
        "body": "{}", "isBase64Encoded": false,
    });
    let mut first_and_second = event();
    first_and_second["version"] = "1.0".into();
    for event in [
        String::new(),
        "x".into(),
        "\u{0}".into(),
        "null".into(),
        "{}".into(),
        "[]".into(),
        "\"2.0\"".into(),
        json!({ "version": "2.0" }).to_string(),
        json!({ "Records": [{ "body": "{}" }] }).to_string(),
        rest_api.to_string(),
        first_and_second.to_string(),
        with("/version", Value::Null).to_string(),
        with("/rawPath", Value::Null).to_string(),
        with("/rawPath", "").to_string(),
        with("/rawPath", "api/v1").to_string(),
        with("/rawPath", "@evil.example/").to_string(),
        with("/requestContext/http/method", "B AD").to_string(),
        with("/headers/x", "a\nb").to_string(),
        with("/isBase64Encoded", "yes").to_string(),
        format!("{}}}", event()),
        "[".repeat(100_000),
    ] {
        let answer = invoke(&function, &event).await;
        assert_eq!(status(&answer), 400, "{:.100}", event);
        assert_eq!(problem(&answer)["error"], "invalid_request", "{:.100}", event);
    }
}

#[tokio::test]
async fn in8_a_query_that_no_url_can_hold_is_refused() {
    let function = function(ask).await;
    for query in ["a b", "a\nb", "\u{0}", &"a".repeat(70_000)] {
        let answer = invoke(&function, &with("/rawQueryString", query).to_string()).await;
        assert_eq!(status(&answer), 400, "{query:.20}");
    }
}

#[tokio::test]
async fn er2_a_handler_that_panics_before_its_first_await_is_a_500_too() {
    let function = function(|_, request: Request| {
        assert!(request.body().is_empty(), "the handler panics");
        pending()
    });
    assert_eq!(status(&invoke(&function.await, &event().to_string()).await), 500);
}

#[tokio::test]
async fn in8_a_url_of_any_length_is_answered() {
    let function = function(ask).await;
    for (path, query, expected) in [
        (format!("/a{}", "\u{e9}".repeat(5119)), String::new(), 200),
        (format!("/{}", "\u{e9}".repeat(5120)), String::new(), 400),
        (format!("/{}", "a".repeat(5119)), "a".repeat(5120), 200),
        (format!("/{}", "a".repeat(5120)), "a".repeat(5120), 400),
        (format!("/{}", "a".repeat(70_000)), String::new(), 400),
    ] {
        let mut event = with("/rawPath", path);
        event["rawQueryString"] = query.into();
        assert_eq!(status(&invoke(&function, &event.to_string()).await), expected);
    }
    let event = with("/requestContext/stage", "a".repeat(70_000));
    assert_eq!(status(&invoke(&function, &event.to_string()).await), 200);
}

#[tokio::test]
async fn in8_neither_a_bad_host_nor_an_odd_path_keeps_an_event_from_its_handler() {
    let function = function(ask).await;
    for host in ["", " ", "a b", "[::1", "host:99999", "\u{e9}", "a/b?c#d", "user@host"] {
        for pointer in ["/headers/host", "/requestContext/domainName"] {
            assert_eq!(status(&invoke(&function, &with(pointer, host).to_string()).await), 200, "{host:?}");
        }
    }
    for path in ["/", "//", "//[::1", "/a b", "/\u{0}", "/\u{e9}", "/%zz", "/..", "/a#b", "/a?b", "/\\", "/{}`|^"] {
        assert_eq!(status(&invoke(&function, &with("/rawPath", path).to_string()).await), 200, "{path:?}");
    }
    for stage in ["", "a b", "@", ":99999", "\u{e9}", "//[", "?#"] {
        let event = with("/requestContext/stage", stage);
        assert_eq!(status(&invoke(&function, &event.to_string()).await), 200, "{stage:?}");
    }
}

#[tokio::test]
async fn in5_header_names_are_read_in_any_case() {
    let mut event = event();
    event["headers"] = json!({ "CONTENT-TYPE": "application/json", "Idempotency-Key": "" });
    let answer = invoke(&function(ask).await, &event.to_string()).await;
    assert_eq!(status(&answer), 400);
    event["headers"] = json!({ "CONTENT-TYPE": "application/json" });
    assert_eq!(status(&invoke(&function(ask).await, &event.to_string()).await), 200);
}

#[tokio::test]
async fn er2_a_handler_that_panics_is_a_500_and_the_next_request_is_served() {
    let calls = Arc::new(Mutex::new(0));
    let function = function(move |app, request| {
        let calls = Arc::clone(&calls);
        async move {
            let first = {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                *calls == 1
            };
            assert!(!first, "a secret of the handler");
            echo(app, request).await
        }
    })
    .await;
    let answer = invoke(&function, &event().to_string()).await;
    assert_eq!(status(&answer), 500);
    assert_eq!(answer["headers"]["content-type"], "application/problem+json");
    let problem = problem(&answer);
    assert_eq!((&problem["error"], &problem["request_id"]), (&json!("internal"), &json!("lambda-1")));
    assert!(!answer.to_string().contains("a secret of the handler"));
    assert_eq!(status(&invoke(&function, &event().to_string()).await), 200);
}

#[tokio::test(start_paused = true)]
async fn re4_a_handler_that_never_answers_is_a_503_at_the_deadline() {
    let function = function(|_, _| pending()).await;
    let start = Instant::now();
    let answer = invoke(&function, &event().to_string()).await;
    assert_eq!(status(&answer), 503);
    assert_eq!(problem(&answer)["error"], "temporarily_unavailable");
    assert_eq!(answer["headers"]["retry-after"], "1");
    // The resolution of timers is a millisecond.
    assert!((DEADLINE..=DEADLINE + Duration::from_millis(1)).contains(&start.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn re4_a_handler_that_answers_just_before_the_deadline_is_heard() {
    let function = function(|app, request| async move {
        tokio::time::sleep(DEADLINE - Duration::from_millis(2)).await;
        echo(app, request).await
    });
    assert_eq!(status(&invoke(&function.await, &event().to_string()).await), 200);
}

#[tokio::test(start_paused = true)]
async fn re9_an_authorizer_admits_a_caller_only_if_its_handler_answers_200() {
    let ask = async |function: Function| {
        let authorizer = Function { trigger: Trigger::Authorizer, ..function };
        let start = Instant::now();
        let answer = invoke(&authorizer, &with("/identitySource", json!(["Bearer abc"])).to_string()).await;
        assert!(start.elapsed() <= DEADLINE + Duration::from_millis(1));
        answer
    };
    let answers = |status| move |_, _| async move { Ok(http::json(status, &json!({ "sub": "alice" }))) };
    let let_in = json!({ "isAuthorized": true, "context": { "sub": "alice" } });
    assert_eq!(ask(function(answers(StatusCode::OK)).await).await, let_in);
    for function in [
        function(answers(StatusCode::ACCEPTED)).await,
        function(answers(StatusCode::FORBIDDEN)).await,
        function(|_, _| async { Ok(http::no_content()) }).await,
        function(|_, _| async { Err(Error::InvalidToken { was_sent: true }) }).await,
        function(|_, _| async { panic!("the handler panics") }).await,
        function(|_, _| pending()).await,
    ] {
        assert_eq!(ask(function).await, json!({ "isAuthorized": false }));
    }
}

#[tokio::test]
async fn hd1_hd2_every_answer_has_the_security_headers() {
    let no_content = function(|_, _| async { Ok(http::no_content()) }).await;
    let panicking = function(|_, _| async { panic!("the handler panics") }).await;
    let refusing = function(|_, _| async { Err(Error::InvalidCredentials) }).await;
    let (event, not_an_event) = (event().to_string(), "x".to_owned());
    for (function, event, expected) in [
        (&no_content, &event, 204),
        (&panicking, &event, 500),
        (&refusing, &event, 401),
        (&no_content, &not_an_event, 400),
    ] {
        let answer = invoke(function, event).await;
        assert_eq!(status(&answer), expected);
        for (name, value) in [
            ("cache-control", "no-store"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer["headers"][name], value, "{expected}");
        }
    }
}

#[tokio::test]
async fn er1_an_error_is_rendered_in_the_dialect_of_its_route() {
    let refusing = function(|_, _| async { Err(Error::InvalidCredentials) }).await;
    let answer = invoke(&refusing, &event().to_string()).await;
    assert_eq!(problem(&answer)["error"], "invalid_credentials");
    let answer = invoke(&refusing, &with("/requestContext/routeKey", "POST /api/auth").to_string()).await;
    assert_eq!(problem(&answer), json!({ "code": 401, "message": "Invalid credentials." }));
}

/// The JSON pointers of `value` and everything in it.
fn pointers(value: &Value) -> Vec<String> {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(values) => values.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = members.iter().flat_map(|(name, value)| {
        let name = name.replace('~', "~0").replace('/', "~1");
        pointers(value).into_iter().map(move |pointer| format!("/{name}{pointer}"))
    });
    std::iter::once(String::new()).chain(below).collect()
}

/// A value for a place in an event where it often does not belong.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
        "/[ -~]{0,40}".prop_map(Value::from),
        "[a-z\u{0}-\u{20}\u{80}-\u{ff}%&=#?/:@\\[\\]]{0,40}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["x", "y\n"])),
        Just(json!({ "x": "y" })),
        Just(json!({ "": ["x"] })),
    ]
}

/// An event with a few of its values replaced by odd ones.
fn odd_event() -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..4);
    changes.prop_map(|changes| {
        let mut event = event();
        for (at, value) in changes {
            let pointers = pointers(&event);
            // The first pointer is the event itself.
            if let Some(pointer) = pointers.get(1..).filter(|pointers| !pointers.is_empty()).map(|all| at.get(all)) {
                *event.pointer_mut(pointer).unwrap() = value;
            }
        }
        event
    })
}

/// Checks the status of the answer to each of these events.
fn for_every<S: Strategy<Value = String>>(cases: u32, events: S, check: impl Fn(u64) -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let function = runtime.block_on(function(ask));
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() });
    let result = runner.run(&events, |event| {
        let status = status(&runtime.block_on(invoke(&function, &event)));
        prop_assert!(check(status), "{} for {}", status, event);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn in8_any_text_as_an_event_is_refused() {
    for_every(1000, any::<String>(), |status| status == 400);
}

#[test]
fn in8_an_event_with_odd_values_never_causes_a_500() {
    for_every(5000, odd_event().prop_map(|event| event.to_string()), |status| status < 500);
}

#[test]
fn in8_an_event_with_any_text_spliced_into_it_never_causes_a_500() {
    let splices = (any::<prop::sample::Index>(), 0..20_usize, ".{0,10}");
    let spliced = splices.prop_map(|(at, length, piece)| {
        let event = event().to_string();
        let from = at.index(event.len());
        let to = (from + length).min(event.len());
        format!("{}{piece}{}", &event[..from], &event[to..])
    });
    for_every(2000, spliced, |status| status < 500);
}
