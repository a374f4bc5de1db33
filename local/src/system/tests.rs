use std::net::Ipv4Addr;

use freshkey::SystemClock;
use futures_util::FutureExt;
use serde_json::json;

use super::*;

const ORIGIN: &str = "http://127.0.0.1:3000";
const SECRET: &str = "0nly-for-this-test-Zq8vT2mXw7Lr4KcJ";

fn options() -> Options {
    Options {
        template: crate::TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: vec![ORIGIN.into()],
        variables: BTreeMap::new(),
        clock: LocalClock::new(Arc::new(SystemClock)),
        http_client: None,
    }
}

fn variables(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn request(method: &str, path: &str, token: &str, body: Value) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("origin", ORIGIN)
        .header("authorization", format!("Bearer {token}"))
        .body(Bytes::from(body.to_string()))
        .unwrap()
}

fn sign_in(path: &str) -> Request<Bytes> {
    let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
    request("POST", path, "", body)
}

async fn call(system: &System, request: Request<Bytes>) -> (u16, Value) {
    let response = system.call(Ipv4Addr::LOCALHOST.into(), request).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

async fn register(system: &System) -> Value {
    let (status, tokens) = call(system, sign_in("/api/v1/auth/register")).await;
    assert_eq!(status, 201, "{tokens}");
    tokens
}

async fn me(system: &System, tokens: &Value) -> (u16, Value) {
    let token = tokens["access_token"].as_str().unwrap();
    call(system, request("GET", "/api/v1/users/me", token, Value::Null)).await
}

#[tokio::test]
async fn a_user_registers_refreshes_reads_and_logs_out() {
    let system = System::start(options()).await.unwrap();
    let tokens = register(&system).await;
    let (status, user) = me(&system, &tokens).await;
    assert_eq!((status, &user["email"]), (200, &json!("ada@example.com")));
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    let path = "/api/v1/auth/refresh";
    let (status, next) = call(&system, request("POST", path, "", refresh)).await;
    assert_eq!(status, 200, "{next}");
    assert_ne!(next["refresh_token"], tokens["refresh_token"]);
    let refresh = json!({"refresh_token": next["refresh_token"]});
    let path = "/api/v1/auth/logout";
    assert_eq!(call(&system, request("POST", path, "", refresh.clone())).await.0, 204);
    let path = "/api/v1/auth/refresh";
    assert_eq!(call(&system, request("POST", path, "", refresh)).await.0, 401);
    system.stop().await;
}

#[tokio::test]
async fn in9_a_route_that_the_template_lacks_is_a_404() {
    let system = System::start(options()).await.unwrap();
    for (method, path) in [("GET", "/"), ("GET", "/api/v1/auth/login"), ("HEAD", "/api/v1/users/me")] {
        let answer = call(&system, request(method, path, "", Value::Null)).await;
        assert_eq!(answer, (404, json!({"message": "Not Found"})), "{method} {path}");
    }
}

#[tokio::test]
async fn allowed_origins_are_the_variables_and_the_given_ones() {
    let variables = variables(&[("ALLOWED_ORIGINS", "https://a.example,https://b.example")]);
    let system = System::start(Options { variables, ..options() }).await.unwrap();
    let cases =
        [("https://a.example", true), ("https://b.example", true), (ORIGIN, true), ("https://c.example", false)];
    for (origin, allowed) in cases {
        let preflight = Request::options("/api/v1/auth/login")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .body(Bytes::new())
            .unwrap();
        let response = system.call(Ipv4Addr::LOCALHOST.into(), preflight).await;
        let allow = response.headers().get("access-control-allow-origin");
        assert_eq!(allow.is_some(), allowed, "{origin}");
    }
}

#[tokio::test]
async fn a_variable_overrides_the_templates_value_unless_it_is_empty() {
    let variables = variables(&[("JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "2"), ("JWT_ISSUER", "")]);
    let system = System::start(Options { variables, ..options() }).await.unwrap();
    assert_eq!(register(&system).await["expires_in"], 120);
}

#[tokio::test]
async fn all_faults_of_the_configuration_are_reported_together_and_once() {
    let given = [("MAX_SESSIONS", "none"), ("JWT_SECRET_KEY", "short"), ("MAIL_FROM", "nobody"), ("RESET_URL", "x")];
    let variables = variables(&given);
    let fault = System::start(Options { variables, ..options() }).await.unwrap_err();
    let fault = fault.to_string();
    assert!(fault.starts_with("the configuration has 5 fault(s):\n  "), "{fault}");
    for name in ["MAX_SESSIONS", "JWT_SECRET_KEY", "MAIL_FROM", "RESET_URL", "CONFIRM_URL"] {
        assert_eq!(fault.matches(name).count(), 1, "{fault}");
    }
}

const MAIL: [(&str, &str); 3] = [
    ("MAIL_FROM", "no-reply@example.com"),
    ("RESET_URL", "https://app.example.com/reset"),
    ("CONFIRM_URL", "https://app.example.com/confirm"),
];

#[tokio::test]
async fn mail_is_on_where_it_has_an_address_to_come_from() {
    let forgot = || request("POST", "/api/v1/auth/password/forgot", "", json!({"email": "ada@example.com"}));
    let system = System::start(options()).await.unwrap();
    assert_eq!(call(&system, forgot()).await, (404, json!({"message": "Not Found"})));
    assert!(system.deliver_mail().await.is_none());
    let system = System::start(Options { variables: variables(&MAIL), ..options() }).await.unwrap();
    assert_eq!(call(&system, forgot()).await.0, 202);
    assert!(system.deliver_mail().await.is_some());
}

#[tokio::test]
async fn another_ses_replaces_the_mailbox() {
    let first = System::start(Options { variables: variables(&MAIL), ..options() }).await.unwrap();
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", elsewhere.local_addr().unwrap());
    let server = axum::serve(elsewhere, first.mailbox().ses());
    tokio::spawn(async move { server.await.unwrap() });
    let variables = variables(&[&MAIL[..], &[("MAIL_ENDPOINT", &endpoint)]].concat());
    let second = System::start(Options { variables, ..options() }).await.unwrap();
    register(&second).await;
    second.deliver_mail().await;
    assert_eq!((first.mailbox().mails().len(), second.mailbox().mails().len()), (1, 0));
}

#[tokio::test]
async fn a_function_that_a_stream_or_a_schedule_invokes_must_be_the_mailer() {
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("template.yaml");
    let text = std::fs::read_to_string(crate::TEMPLATE).unwrap();
    std::fs::write(&template, text.replace("FunctionName: !Ref MailerFunction", "FunctionName: !Ref LoginFunction"))
        .unwrap();
    let variables = variables(&MAIL);
    let fault = System::start(Options { template, variables, ..options() }).await.unwrap_err();
    assert!(fault.to_string().contains("the function login has a schedule or a stream"), "{fault}");
}

#[tokio::test]
async fn ck6_cookies_without_an_allowed_origin_are_a_fault() {
    let variables = variables(&[("REFRESH_TOKEN_TRANSPORT", "cookie")]);
    let fault = System::start(Options { variables, allow_origins: Vec::new(), ..options() }).await.unwrap_err();
    assert!(fault.to_string().contains("ALLOWED_ORIGINS is missing"), "{fault}");
}

#[tokio::test]
async fn a_data_file_keeps_users_and_the_secret_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let options = || Options { data: Some(data.clone()), ..options() };
    let system = System::start(options()).await.unwrap();
    let tokens = register(&system).await;
    system.stop().await;
    drop(system);
    let system = System::start(options()).await.unwrap();
    assert_eq!(me(&system, &tokens).await.0, 200);
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    let refresh = request("POST", "/api/v1/auth/refresh", "", refresh);
    assert_eq!(call(&system, refresh).await.0, 200);
}

#[tokio::test]
async fn another_dynamodb_replaces_the_embedded_one() {
    let first = System::start(options()).await.unwrap();
    let second = Options {
        table_endpoint: Some(first.table_endpoint().into()),
        variables: variables(&[("TABLE_NAME", "another"), ("JWT_SECRET_KEY", SECRET)]),
        ..options()
    };
    let second = System::start(second).await.unwrap();
    assert_eq!(second.table_name(), "another");
    register(&second).await;
    assert_eq!(call(&first, sign_in("/api/v1/auth/login")).await.0, 401);
    let third = Options {
        variables: variables(&[("TABLE_ENDPOINT", first.table_endpoint()), ("TABLE_NAME", "another")]),
        ..options()
    };
    let third = System::start(third).await.unwrap();
    assert_eq!(call(&third, sign_in("/api/v1/auth/login")).await.0, 200);
}

#[tokio::test]
async fn a_data_file_and_another_dynamodb_are_an_error() {
    let both = Options { data: Some("data".into()), table_endpoint: Some("http://127.0.0.1:1".into()), ..options() };
    assert!(matches!(System::start(both).await, Err(Error::TwoTables)));
}

#[tokio::test]
async fn a_function_that_is_not_built_in_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("template.yaml");
    let text = std::fs::read_to_string(crate::TEMPLATE).unwrap();
    std::fs::write(&template, text.replace("functions/login", "functions/surprise")).unwrap();
    let fault = System::start(Options { template, ..options() }).await.unwrap_err();
    assert!(fault.to_string().contains("surprise"), "{fault}");
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_runs_to_its_end() {
    let system = System::start(options()).await.unwrap();
    let source = Ipv4Addr::LOCALHOST.into();
    assert!(system.call(source, sign_in("/api/v1/auth/register")).now_or_never().is_none());
    let mut status = 401;
    for _ in 0..200 {
        if status == 401 {
            status = call(&system, sign_in("/api/v1/auth/login")).await.0;
        }
    }
    assert_eq!(status, 200);
}
