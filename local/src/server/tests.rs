use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use freshkey::SystemClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::{LocalClock, Options};

async fn served() -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let options = Options {
        template: crate::TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables: BTreeMap::new(),
        clock: LocalClock::new(Arc::new(SystemClock)),
        http_client: None,
    };
    let system = Arc::new(System::start(options).await.unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        Arc::clone(&system).serve(listener, stopped.map(drop)).await.unwrap();
        system.stop().await;
    });
    (address, stop, server)
}

#[tokio::test]
async fn it_serves_http_and_stops_when_asked() {
    let (address, stop, server) = served().await;
    let client = reqwest::Client::new();
    let url = format!("http://{address}/api/v1/auth/register");
    let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
    assert_eq!(client.post(&url).json(&body).send().await.unwrap().status(), 201);
    let long = "x".repeat(gateway::MAX_HEAD);
    let answer = client.post(&url).header("x-long", long).send().await.unwrap();
    assert_eq!(answer.status(), 431);
    let answer = client.post(&url).body(vec![0; gateway::MAX_BODY + 1]).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.text().await.unwrap(), r#"{"message":"Request Entity Too Large"}"#);
    stop.send(()).unwrap();
    server.await.unwrap();
    assert!(client.post(&url).json(&body).send().await.is_err());
}

#[tokio::test]
async fn it_serves_a_page_that_may_run_only_its_own_scripts_and_styles() {
    let (address, _stop, _server) = served().await;
    let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert!(answer.text().await.unwrap().contains("<title>Freshkey"));
    // Every other method at that path goes to the API, which has no such route.
    let answer = reqwest::Client::new().post(format!("http://{address}/")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (404, r#"{"message":"Not Found"}"#));
}

#[tokio::test]
async fn it_serves_the_contract_in_json_and_as_it_is_written() {
    let (address, _stop, _server) = served().await;
    let json = reqwest::get(format!("http://{address}/openapi.json")).await.unwrap();
    assert_eq!((json.status().as_u16(), &json.headers()["content-type"]), (200, &"application/json".parse().unwrap()));
    let json: Value = json.json().await.unwrap();
    assert_eq!(json["openapi"], "3.1.0");
    let yaml = reqwest::get(format!("http://{address}/openapi.yaml")).await.unwrap();
    assert_eq!((yaml.status().as_u16(), &yaml.headers()["content-type"]), (200, &"application/yaml".parse().unwrap()));
    let yaml = yaml.text().await.unwrap();
    assert_eq!(yaml, extra::OPENAPI);
    assert_eq!(serde_norway::from_str::<Value>(&yaml).unwrap(), json);
}

#[tokio::test]
async fn a_token_expires_when_the_clock_is_moved() {
    let (address, _stop, _server) = served().await;
    let url = |path: &str| format!("http://{address}{path}");
    let client = reqwest::Client::new();
    let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
    let tokens = client.post(url("/api/v1/auth/register")).json(&body).send().await.unwrap();
    let tokens: Value = tokens.json().await.unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    let me = async || client.get(url("/api/v1/users/me")).bearer_auth(token).send().await.unwrap().status();
    assert_eq!(me().await, 200);

    let advance = |body: Value| client.post(url("/.local/clock")).json(&body);
    let moved: Value = advance(json!({"advance_seconds": 1})).send().await.unwrap().json().await.unwrap();
    let further = advance(json!({"advance_seconds": 3599})).header("origin", format!("http://{address}"));
    let further: Value = further.send().await.unwrap().json().await.unwrap();
    let passed = further["now"].as_i64().unwrap() - moved["now"].as_i64().unwrap();
    assert!((3_599_000..3_659_000).contains(&passed), "{passed}");
    assert_eq!(me().await, 401);
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(client.post(url("/api/v1/auth/refresh")).json(&refresh).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_our_own_pages_move_the_clock_and_never_back() {
    let (address, _stop, _server) = served().await;
    let client = reqwest::Client::new();
    let post = || client.post(format!("http://{address}/.local/clock"));
    let json = |body: Value| post().json(&body);
    let advance = json!({"advance_seconds": 60});
    let text = post().header("content-type", "text/plain").body(advance.to_string());
    let cases = [
        (json(advance.clone()).header("origin", "https://evil.example"), 403),
        (json(advance.clone()).header("origin", "null"), 403),
        (text, 415),
        (post().body(advance.to_string()), 415),
        (json(json!({})), 400),
        (json(json!({"advance_seconds": 0})), 400),
        (json(json!({"advance_seconds": -1})), 400),
        (json(json!({"advance_seconds": 1.5})), 400),
        (json(json!({"advance_seconds": 86_401})), 400),
        (json(json!({"advance_seconds": 60, "more": " ".repeat(2000)})), 400),
        (json(json!({"advance_seconds": 86_400})), 200),
    ];
    for (request, status) in cases {
        let answer = request.send().await.unwrap();
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
        assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn a_connection_that_never_ends_its_request_does_not_keep_it_from_stopping() {
    let (address, stop, server) = served().await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    connection.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stop.send(()).unwrap();
    tokio::time::timeout(2 * GRACE, server).await.unwrap().unwrap();
}
