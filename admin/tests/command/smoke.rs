//! `freshkey smoke` against a system in this process, whole and broken.

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use freshkey::SystemClock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{Run, World, world_over};

const STEPS: [&str; 9] = ["register", "profile", "refresh", "replay", "reuse", "login", "logout", "forgot", "delete"];

/// A system, and its URL.
async fn served(variables: &[(&str, &str)]) -> (World, String) {
    let world = world_over(Arc::new(SystemClock), variables, None).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(Arc::clone(&world.system).serve(listener, pending()));
    (world, url)
}

/// Every request and answer that passed, as text.
type Seen = Arc<Mutex<String>>;

/// The answer instead of the system's, and whether the system gets the request all the
/// same.
type Fault = Option<(u16, &'static str, bool)>;
/// Decides by the method, the path and how often the path was asked for before.
type Breaks = fn(&Method, &str, usize) -> Fault;

/// A proxy in front of a system.
#[derive(Clone)]
struct Proxy {
    url: String,
    breaks: Breaks,
    seen: Seen,
    paths: Arc<Mutex<Vec<String>>>,
}

/// Starts a proxy that breaks what `breaks` decides. Returns its URL.
async fn broken(url: &str, breaks: Breaks) -> (String, Seen) {
    let seen = Seen::default();
    let proxy = Proxy { url: url.to_owned(), breaks, seen: Arc::clone(&seen), paths: Arc::default() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = axum::serve(listener, Router::new().fallback(pass).with_state(proxy));
    tokio::spawn(async move { server.await });
    (format!("http://{address}"), seen)
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    proxy.seen.lock().unwrap().push_str(&format!("{:?} {}\n", head.headers, String::from_utf8_lossy(&body)));
    let before = {
        let mut paths = proxy.paths.lock().unwrap();
        paths.push(path.clone());
        paths.iter().filter(|one| **one == path).count() - 1
    };
    let fault = (proxy.breaks)(&head.method, &path, before);
    let instead = |(status, body, _): (u16, &'static str, bool)| (StatusCode::from_u16(status).unwrap(), body);
    if let Some(fault @ (_, _, false)) = fault {
        return instead(fault).into_response();
    }
    let mut request = reqwest::Client::new().request(head.method.clone(), format!("{}{path}", proxy.url));
    for (name, value) in head.headers.iter().filter(|(name, _)| !["host", "content-length"].contains(&name.as_str())) {
        request = request.header(name, value);
    }
    let answer = request.body(body).send().await.unwrap();
    if let Some(fault) = fault {
        return instead(fault).into_response();
    }
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let body = answer.bytes().await.unwrap();
    proxy.seen.lock().unwrap().push_str(&format!("{}\n", String::from_utf8_lossy(&body)));
    response.body(Body::from(body)).unwrap()
}

fn smoke(world: &World, url: &str, options: &[&str]) -> Run {
    let arguments = ["--json", "smoke", url].iter().chain(options).copied().collect::<Vec<_>>();
    // Not those of the table: it needs nothing but the URL.
    world.run_alone(&arguments)
}

fn steps(run: &Run) -> Vec<&str> {
    run.objects.iter().map(|step| step["step"].as_str().unwrap()).collect()
}

async fn check_no_user_is_left(world: &World) {
    assert!(world.rows().await.users.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_passes_on_a_whole_system_and_leaves_no_user() {
    let (world, url) = served(&[]).await;
    for url in [url.clone(), format!("{url}/")] {
        let run = smoke(&world, &url, &[]);
        assert_eq!((run.code, steps(&run), run.errors.as_str()), (0, STEPS.to_vec(), ""), "{run:?}");
        for step in &run.objects {
            assert!(step["milliseconds"].is_u64(), "{step}");
            let expected =
                json!({ "step": step["step"], "ok": true, "problem": null, "milliseconds": step["milliseconds"] });
            assert_eq!(*step, expected);
        }
        check_no_user_is_left(&world).await;
    }
    let plain = world.run_alone(&["smoke", &url]);
    assert!(plain.output.starts_with("register: ok (") && plain.output.lines().count() == 9, "{}", plain.output);
    let mails = world.system.mailbox().mails();
    assert!(mails.iter().all(|mail| mail.to.starts_with("success+") && mail.to.ends_with("@simulator.amazonses.com")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_passes_with_cookies_and_without_mail() {
    const ORIGIN: &str = "https://app.example.com";
    for transport in ["cookie", "both"] {
        let variables = [("REFRESH_TOKEN_TRANSPORT", transport), ("ALLOWED_ORIGINS", ORIGIN)];
        let (world, url) = served(&variables).await;
        let run = smoke(&world, &url, &["--origin", ORIGIN]);
        assert_eq!((run.code, steps(&run)), (0, STEPS.to_vec()), "{run:?}");
        check_no_user_is_left(&world).await;
        let run = smoke(&world, &url, &[]);
        assert_eq!(run.code, i32::from(transport == "cookie"), "{run:?}");
        if transport == "cookie" {
            assert!(run.objects[0]["problem"].as_str().unwrap().contains("give --origin"), "{run:?}");
        }
    }
    let (world, url) = served(&[("MAIL_FROM", "")]).await;
    let run = smoke(&world, &url, &[]);
    assert_eq!((run.code, steps(&run)), (0, STEPS.to_vec()), "{run:?}");
    assert_eq!((&run.objects[7]["ok"], &run.objects[7]["problem"]), (&Value::Null, &json!("skipped: mail is off")));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_reuse_interval_the_walk_waits_until_the_spent_token_is_refused() {
    let (world, url) = served(&[("REFRESH_REUSE_INTERVAL_SECONDS", "1")]).await;
    let run = smoke(&world, &url, &[]);
    assert_eq!((run.code, steps(&run)), (0, STEPS.to_vec()), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_step_is_named_and_the_user_is_deleted_all_the_same() {
    const REFRESH: &str = "/api/v1/auth/refresh";
    const OUTAGE: &str = r#"{"error":"temporarily_unavailable","request_id":"r-1","detail":"x"}"#;
    let (world, url) = served(&[]).await;
    let cases: [(&str, &str, Breaks); 8] = [
        // The user is created, and the answer is lost.
        ("register", "502 instead of 201", |_, path, _| path.ends_with("register").then_some((502, "", true))),
        ("register", "the answer has no access token", |_, path, _| {
            path.ends_with("register").then_some((201, "{}", true))
        }),
        ("profile", "401 invalid_token instead of 200", |_, path, _| {
            path.ends_with("/me").then_some((401, r#"{"error":"invalid_token"}"#, false))
        }),
        ("refresh", "503 temporarily_unavailable request_id r-1 instead of 200", |_, path, _| {
            (path == REFRESH).then_some((503, OUTAGE, false))
        }),
        ("replay", "401 invalid_refresh_token", |_, path, before| {
            (path == REFRESH && before == 1).then_some((401, r#"{"error":"invalid_refresh_token"}"#, false))
        }),
        ("reuse", "a spent refresh token got 500 instead of 401", |_, path, before| {
            (path == REFRESH && before == 2).then_some((500, "<html>", false))
        }),
        // The walk's own login fails, and the one for the deletion.
        ("login", "503", |_, path, _| path.ends_with("login").then_some((503, "", false))),
        ("logout", "500 instead of 204", |_, path, _| path.ends_with("logout").then_some((500, "", false))),
    ];
    for (step, problem, breaks) in cases {
        let (proxy, _) = broken(&url, breaks).await;
        let run = smoke(&world, &proxy, &[]);
        let failed: Vec<_> = run.objects.iter().filter(|step| step["ok"] == false).collect();
        assert_eq!(failed.len(), 1, "{run:?}");
        assert_eq!(failed[0]["step"], step, "{run:?}");
        assert!(failed[0]["problem"].as_str().unwrap().contains(problem), "{run:?}");
        assert_eq!(steps(&run).last(), Some(&"delete"), "{run:?}");
        let failure: Value = serde_json::from_str(&run.errors).unwrap();
        assert_eq!((run.code, &failure["error"]), (1, &json!("step_failed")), "{run:?}");
        assert_eq!(failure["message"], format!("The step {step} failed."));
        check_no_user_is_left(&world).await;
    }
    let (proxy, _) = broken(&url, |_, path, _| path.ends_with("/me/delete").then_some((500, "", false))).await;
    let run = smoke(&world, &proxy, &[]);
    let problem = run.objects.last().unwrap()["problem"].as_str().unwrap();
    assert!(run.code == 1 && problem.contains("`freshkey users delete success+"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_answers_the_exit_code_is_3() {
    let (world, _) = served(&[]).await;
    let run = smoke(&world, "http://127.0.0.1:1", &[]);
    assert_eq!((run.code, steps(&run)), (3, vec!["register", "delete"]), "{run:?}");
    for wrong in ["auth.example.com", "ftp://auth.example.com", "https://auth.example.com/?x"] {
        assert_eq!(smoke(&world, wrong, &[]).code, 2, "{wrong}");
    }
    assert_eq!(smoke(&world, "http://127.0.0.1:1", &["--origin", "https://app.example.com/"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_prints_no_token_and_no_password() {
    let (world, url) = served(&[]).await;
    let (proxy, seen) = broken(&url, |_, _, _| None).await;
    let runs = [smoke(&world, &proxy, &[]), world.run_alone(&["smoke", &proxy])];
    let seen = seen.lock().unwrap().clone();
    let secrets: Vec<_> = seen.split('"').filter(|text| text.starts_with("eyJ") || text.len() == 64).collect();
    assert!(secrets.iter().any(|text| text.len() == 64) && secrets.len() > 20, "{secrets:?}");
    for run in runs {
        assert_eq!(run.code, 0, "{run:?}");
        assert!(secrets.iter().all(|secret| !run.output.contains(secret) && !run.errors.contains(secret)));
    }
    // Not even of a server that puts them where a code belongs.
    let (echo, _) = broken(&url, |_, path, _| {
        let token =
            r#"{"error":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzb21lYm9keSBlbHNlIn0.c2lnbmF0dXJl","request_id":"a b"}"#;
        path.ends_with("refresh").then_some((500, token, false))
    })
    .await;
    let run = smoke(&world, &echo, &[]);
    assert!(run.code == 1 && !run.output.contains("eyJ") && !run.output.contains("a b"), "{run:?}");
}
