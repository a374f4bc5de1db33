//! The API in a named stage, under a base path and on a domain of the team: API Gateway
//! then sends other paths and hosts with the same route keys.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use axum::body::Bytes;
use freshkey::Clock;
use http::{Method, Request};
use lambda_runtime::Context;
use local::TEMPLATE;
use local::gateway::{Call, Gateway, Step};
use local::template::Template;
use serde_json::{Value, json};

use crate::world::{PASSWORD, User, World, claims, world_with};

const NEW_PASSWORD: &str = "another river under nine bridges";
const APP: &str = "https://app.example.com";

/// Where an API is, as its events show it.
struct Place {
    host: &'static str,
    stage: &'static str,
    /// What API Gateway puts in front of the path.
    prefix: &'static str,
}

const PLACES: [Place; 5] = [
    Place { host: "a1b2c3.execute-api.eu-central-1.amazonaws.com", stage: "$default", prefix: "" },
    Place { host: "a1b2c3.execute-api.eu-central-1.amazonaws.com", stage: "prod", prefix: "/prod" },
    Place { host: "api.example.com", stage: "$default", prefix: "" },
    Place { host: "api.example.com", stage: "$default", prefix: "/auth" },
    // A route's own segment, and a mapping of two segments.
    Place { host: "api.example.com", stage: "prod", prefix: "/api/v1" },
];

/// The API of a world at a place.
struct Api<'a> {
    world: &'a World,
    gateway: Gateway,
    place: &'a Place,
}

impl Api<'_> {
    /// What the function answers to a request.
    async fn ask(&self, method: &Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("host", self.place.host).body(Bytes::from(body.to_string())).unwrap();
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let call = Call { id: "id", now_ms: self.world.clock.now().millis(), source };
        let Step::Invoke { function, mut event } = self.gateway.accept(&request, call) else { panic!("{path}") };
        let path = format!("{}{}", self.place.prefix, event["rawPath"].as_str().unwrap());
        event["rawPath"] = path.as_str().into();
        event["requestContext"]["http"]["path"] = path.into();
        event["requestContext"]["stage"] = self.place.stage.into();
        let function = self.world.system.function(&function).unwrap();
        function.invoke(&event.to_string(), Context::default()).await
    }

    async fn register(&self, email: &str) -> User {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = self.ask(&Method::POST, "/api/v1/auth/register", &[], &body).await;
        let user: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        let text = |name: &str| user[name].as_str().unwrap().to_owned();
        User { id: text("user_id"), access_token: text("access_token"), refresh_token: text("refresh_token") }
    }
}

/// What is the same in the answers to two requests of the same kind: the status, the
/// names of headers, cookies with their attributes, and the names in the body.
fn shape(answer: &Value) -> Value {
    let names = |value: &Value| value.as_object().map(|members| members.keys().cloned().collect::<BTreeSet<_>>());
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
    let cookies = answer["cookies"].as_array().into_iter().flatten().map(|cookie| {
        let (name, rest) = cookie.as_str().unwrap().split_once('=').unwrap();
        let attributes = rest.split_once(';').unwrap().1;
        format!("{name};{attributes}")
    });
    json!([answer["statusCode"], names(&answer["headers"]), cookies.collect::<Vec<_>>(), names(&body), body["error"]])
}

#[tokio::test]
async fn op7_every_route_answers_alike_in_a_named_stage_under_a_base_path_and_on_another_domain() {
    let mail = [
        ("MAIL_FROM", "no-reply@example.com"),
        ("RESET_URL", "https://app.example.com/reset"),
        ("CONFIRM_URL", "https://app.example.com/confirm"),
    ];
    let world = world_with(&[&mail[..], &[("REFRESH_TOKEN_TRANSPORT", "both")]].concat()).await;
    let template = Template::read(Path::new(TEMPLATE), &[("MailFrom", "no-reply@example.com")]).unwrap();
    let routes: Vec<_> = template.functions.iter().flat_map(|function| function.routes.clone()).collect();
    assert!(routes.len() > 20, "{routes:?}");
    let mut number = 0;
    for route in &routes {
        // Only these routes set cookies or take one.
        let has_cookies = route.path.starts_with("/api/v1/auth/") || route.path == "/api/token/refresh";
        for transport in ["body", "cookie"].into_iter().take(1 + usize::from(has_cookies)) {
            let mut expected = None;
            for place in &PLACES {
                number += 1;
                let email = format!("user-{number}@example.com");
                let api = Api { world: &world, gateway: Gateway::new(&template).unwrap(), place };
                let user = api.register(&email).await;
                let session = claims(&user.access_token)["sid"].as_str().unwrap().to_owned();
                let path = route.path.replace("{session_id}", &session);
                let bearer = format!("Bearer {}", user.access_token);
                let cookie = format!("__Host-refresh_token={}", user.refresh_token);
                let mut headers = vec![("authorization", &*bearer), ("origin", APP), ("x-requested-with", "app")];
                let mut body = match route.path.as_str() {
                    "/api/v1/auth/register" => json!({ "email": format!("new-{email}"), "password": PASSWORD }),
                    "/api/v1/auth/login" | "/api/auth" => json!({ "email": email, "password": PASSWORD }),
                    "/api/v1/auth/refresh" | "/api/token/refresh" | "/api/v1/auth/logout" => {
                        json!({ "refresh_token": user.refresh_token })
                    }
                    "/api/v1/users/me/password" => {
                        json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD })
                    }
                    "/api/v1/users/me/delete" => json!({ "password": PASSWORD }),
                    "/api/v1/users/me/email" => json!({ "email": format!("new-{email}"), "password": PASSWORD }),
                    "/api/v1/auth/password/forgot" => json!({ "email": email }),
                    "/api/v1/auth/password/reset" => json!({ "token": "x", "new_password": NEW_PASSWORD }),
                    "/api/v1/users/me/email/confirm" => json!({ "token": "x" }),
                    _ => json!({}),
                };
                if transport == "cookie" {
                    headers.extend([("x-token-transport", "cookie"), ("cookie", &cookie)]);
                    body.as_object_mut().unwrap().remove("refresh_token");
                }
                let answer = api.ask(&route.method, &path, &headers, &body).await;
                let status = answer["statusCode"].as_u64().unwrap();
                // These links do not exist.
                let is_link = body.get("token").is_some();
                assert_eq!(status, if is_link { 400 } else { status.clamp(200, 204) }, "{route:?}: {answer}");
                let expected = expected.get_or_insert_with(|| shape(&answer));
                assert_eq!(shape(&answer), *expected, "{route:?} at {}{}", place.host, place.prefix);
                // The documents name the issuer of the settings, whatever the host.
                if path == "/.well-known/openid-configuration" && route.method == Method::GET {
                    let text = answer["body"].as_str().unwrap();
                    assert!(text.contains("https://freshkey.example/.well-known/jwks.json"), "{text}");
                    assert!(!text.contains(place.host), "{text}");
                }
            }
        }
    }
}
