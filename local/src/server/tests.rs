use std::net::Ipv4Addr;

use freshkey::SystemClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::{LocalClock, Options};

async fn served() -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (_, address, stop, server) = served_with(&[]).await;
    (address, stop, server)
}

async fn served_with(
    variables: &[(&str, &str)],
) -> (Arc<System>, String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let options = Options {
        template: crate::TEMPLATE.into(),
        data: None,
        table_endpoint: None,
        allow_origins: Vec::new(),
        variables: variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        clock: LocalClock::new(Arc::new(SystemClock)),
        http_client: None,
    };
    let system = Arc::new(System::start(options).await.unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = Arc::clone(&system);
    let server = tokio::spawn(async move {
        Arc::clone(&running).serve(listener, stopped.map(drop)).await.unwrap();
        running.stop().await;
    });
    (system, address, stop, server)
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

const MAIL: [(&str, &str); 3] = [
    ("MAIL_FROM", "no-reply@example.com"),
    ("RESET_URL", "https://app.example.com/reset"),
    ("CONFIRM_URL", "https://app.example.com/confirm"),
];

/// Sends a mail to the mailbox, as a mailer in another process does.
async fn send(address: &str, to: &str, subject: &str, html: &str) {
    let mut mail = crate::mailbox::tests::send_email(to, subject);
    mail["Content"]["Simple"]["Body"]["Html"]["Data"] = html.into();
    let url = format!("http://{address}/.local/ses/v2/email/outbound-emails");
    assert_eq!(reqwest::Client::new().post(url).json(&mail).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_mailbox_lists_the_mails_to_an_address_the_newest_first() {
    let (system, address, _stop, _server) = served_with(&[]).await;
    for (to, subject) in [("ada@example.com", "1"), ("bob@example.com", "2"), ("ada+x@example.com", "3")] {
        send(&address, to, subject, "<p>x</p>").await;
    }
    system.clock().advance(60);
    send(&address, "ada@example.com", "4", "<p>x</p>").await;
    let list = async |query: &str| -> Value {
        reqwest::get(format!("http://{address}/.local/mail{query}")).await.unwrap().json().await.unwrap()
    };
    let subjects = async |query: &str| -> Vec<String> {
        let list = list(query).await;
        list.as_array().unwrap().iter().map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(subjects("").await, ["4", "3", "2", "1"]);
    assert_eq!(subjects("?to=ada@example.com").await, ["4", "1"]);
    assert_eq!(subjects("?to=ada%2Bx@example.com").await, ["3"]);
    assert_eq!(subjects("?to=nobody@example.com").await, [""; 0]);
    let mails = list("").await;
    let [newest, .., oldest] = &mails.as_array().unwrap()[..] else { panic!() };
    let expected = json!({
        "id": 1, "to": "ada@example.com", "subject": "1", "text": "Grüße", "html": "<p>x</p>",
        "sent_at": oldest["sent_at"],
    });
    assert_eq!(*oldest, expected);
    assert!(newest["sent_at"].as_str() > oldest["sent_at"].as_str(), "{newest}");
}

#[tokio::test]
async fn a_mail_in_a_frame_runs_and_loads_nothing_and_its_links_open_in_a_tab() {
    let (_, address, _stop, _server) = served_with(&[]).await;
    send(&address, "ada@example.com", "1", "<html><head></head><body><a href=\"https://x\">x</a></body></html>").await;
    let answer = reqwest::get(format!("http://{address}/.local/mail/1")).await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in
        ["sandbox allow-popups allow-popups-to-escape-sandbox;", "default-src 'none';", "frame-ancestors 'self'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("script"), "{policy}");
    assert!(answer.text().await.unwrap().contains("<base target=\"_blank\">"));
    for nothing in ["2", "x"] {
        let answer = reqwest::get(format!("http://{address}/.local/mail/{nothing}")).await.unwrap();
        assert_eq!(answer.status(), 404);
    }
}

#[tokio::test]
async fn no_page_that_reaches_the_mailbox_under_another_name_reads_a_mail() {
    let (_, address, _stop, _server) = served_with(&[]).await;
    send(&address, "ada@example.com", "1", "<p>x</p>").await;
    let client = reqwest::Client::new();
    for path in ["/.local/mail", "/.local/mail/1"] {
        let get = || client.get(format!("http://{address}{path}"));
        assert_eq!(get().send().await.unwrap().status(), 200);
        let evil = get().header("host", "evil.example:3000").send().await.unwrap();
        assert!([403, 404].contains(&evil.status().as_u16()), "{path}: {}", evil.status());
    }
}

#[tokio::test]
async fn a_mail_that_a_function_writes_is_delivered_at_once() {
    let (_, address, _stop, _server) = served_with(&MAIL).await;
    let url = |path: &str| format!("http://{address}{path}");
    let client = reqwest::Client::new();
    let body = json!({"email": "ada@example.com", "password": "correct horse battery"});
    assert_eq!(client.post(url("/api/v1/auth/register")).json(&body).send().await.unwrap().status(), 201);
    // The schedule would take a minute, and to read a single mail delivers nothing.
    let mut status = 404;
    for _ in 0..5000 {
        if status == 404 {
            status = client.get(url("/.local/mail/1")).send().await.unwrap().status().as_u16();
        }
    }
    assert_eq!(status, 200);
}
