//! `openapi.yaml` agrees with the code and the template.

use std::collections::BTreeSet;
use std::iter::successors;
use std::path::Path;
use std::time::Duration;

use freshkey::Error;
use freshkey::http::Dialect;
use http::{Method, StatusCode};
use local::TEMPLATE;
use local::template::Template;
use serde_json::Value;

use crate::contract::{CONTRACT, SELF_EVIDENT, faults, members, operations, resolved, unsaid};
use crate::world::{Reply, signed_up};

/// Response headers that scripts do not need.
const NOT_FOR_SCRIPTS: [&str; 2] = ["set-cookie", "www-authenticate"];

/// One error of each kind. This does not compile if a kind is missing.
fn errors() -> impl Iterator<Item = Error> {
    successors(Some(Error::InvalidRequest("Not so.".into())), |error| {
        Some(match error {
            Error::InvalidRequest(_) => Error::NoRefreshToken,
            Error::NoRefreshToken => Error::InvalidCredentials,
            Error::InvalidCredentials => Error::InvalidToken { was_sent: true },
            Error::InvalidToken { was_sent: true } => Error::InvalidToken { was_sent: false },
            Error::InvalidToken { was_sent: false } => Error::InvalidRefreshToken { was_sent: true },
            Error::InvalidRefreshToken { was_sent: true } => Error::InvalidRefreshToken { was_sent: false },
            Error::InvalidRefreshToken { was_sent: false } => Error::OriginNotAllowed,
            Error::OriginNotAllowed => Error::EmailTaken,
            Error::EmailTaken => Error::InvalidLink,
            Error::InvalidLink => Error::EmailUnverified,
            Error::EmailUnverified => Error::field("email", "email_invalid", "Not so."),
            Error::Validation(_) => Error::RateLimited(Duration::from_secs(1)),
            Error::RateLimited(_) => Error::NotFound,
            Error::NotFound => Error::UnsupportedMediaType("Not so."),
            Error::UnsupportedMediaType(_) => Error::PayloadTooLarge,
            Error::PayloadTooLarge => Error::unavailable(),
            Error::Unavailable { .. } => Error::Internal(String::new()),
            Error::Internal(_) => Error::Forbidden,
            Error::Forbidden => return None,
        })
    })
}

/// An error as a function answers it.
fn answer(dialect: Dialect, error: &Error) -> Reply {
    let (mut head, body) = dialect.error(error, "request-1").into_parts();
    head.headers.insert("cache-control", "no-store".parse().unwrap());
    Reply { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
}

/// How many operations, with the tag `symfony` or without it, may give this answer.
fn answerable(is_symfony: bool, reply: &Reply) -> usize {
    let operations = operations().filter(|(.., operation)| (operation["tags"][0] == "symfony") == is_symfony);
    operations.filter(|(method, path, _)| unsaid(method, path, reply).is_empty()).count()
}

#[test]
fn the_contract_has_the_routes_of_the_template_and_no_others() {
    let functions = Template::read(Path::new(TEMPLATE), &[("MailFrom", "no-reply@example.com")]).unwrap().functions;
    let routes = functions.into_iter().flat_map(|function| function.routes);
    let routes: BTreeSet<_> = routes.map(|route| (route.method.to_string(), route.path)).collect();
    let contract: BTreeSet<_> = operations().map(|(method, path, _)| (method.to_string(), path.to_owned())).collect();
    assert_eq!(contract, routes);
}

#[test]
fn er1_the_contract_has_the_error_codes_of_the_code_and_no_others() {
    let code = |error: Error| answer(Dialect::V1, &error).error();
    let codes: BTreeSet<_> = errors().map(code).collect();
    let contract = CONTRACT["components"]["schemas"]["ErrorCode"]["enum"].as_array().unwrap();
    assert_eq!(contract.iter().map(|code| code.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), codes);
}

#[test]
fn er1_each_error_is_an_answer_of_some_operation_in_its_dialect() {
    for error in errors() {
        // Only the routes of other functions require a role or a proven address.
        let is_of_a_route = !matches!(error, Error::Forbidden | Error::EmailUnverified);
        assert_eq!(answerable(false, &answer(Dialect::V1, &error)) > 0, is_of_a_route, "{error}");
        // No Symfony route takes an access token or checks a value. Their 403s look alike.
        let is_of_a_symfony_route = !matches!(
            error,
            Error::InvalidToken { was_sent: true } | Error::EmailTaken | Error::Validation(_) | Error::NotFound
        );
        assert_eq!(answerable(true, &answer(Dialect::Lexik, &error)) > 0, is_of_a_symfony_route, "{error}");
    }
}

#[test]
fn co1_the_contract_has_the_headers_that_other_origins_may_send_and_read() {
    let cors = Template::read(Path::new(TEMPLATE), &[("AllowedOrigins", "https://app.example.com")]).unwrap().cors;
    let cors = cors.unwrap();
    let headers = |names: Vec<String>| names.into_iter().map(|name| name.to_lowercase()).collect::<BTreeSet<_>>();

    let parameters =
        members(&CONTRACT["components"]["parameters"]).filter(|(_, parameter)| parameter["in"] == "header");
    let names = parameters.map(|(_, parameter)| parameter["name"].as_str().unwrap().to_owned());
    let sent = names.chain(["authorization".into(), "content-type".into()]).collect();
    assert_eq!(headers(sent), headers(cors.headers));

    let responses = operations().flat_map(|(.., operation)| members(&operation["responses"]));
    let responses = responses.map(|(_, response)| resolved(response)).filter_map(|response| response.get("headers"));
    let names = responses.flat_map(members).map(|(name, _)| name.to_lowercase());
    let is_for_scripts =
        |name: &String| !NOT_FOR_SCRIPTS.contains(&name.as_str()) && !SELF_EVIDENT.contains(&name.as_str());
    assert_eq!(headers(names.filter(is_for_scripts).collect()), headers(cors.exposed));
}

/// Every example below `value`, with its schema.
fn examples<'a>(value: &'a Value, found: &mut Vec<(&'a Value, &'a Value)>) {
    if let Some(schema) = value.get("schema") {
        found.extend(value.get("example").map(|example| (schema, example)));
        let named = value.get("examples").into_iter().flat_map(members);
        found.extend(named.map(|(_, example)| (schema, &example["value"])));
    }
    match value {
        Value::Object(members) => members.values().for_each(|value| examples(value, found)),
        Value::Array(items) => items.iter().for_each(|value| examples(value, found)),
        _ => {}
    }
}

#[test]
fn each_example_of_the_contract_is_one() {
    let mut found = Vec::new();
    examples(&CONTRACT, &mut found);
    assert!(found.len() > 40, "{}", found.len());
    for (schema, example) in found {
        assert_eq!(faults(schema, true, example), [""; 0], "{example}");
    }
    let content = operations().flat_map(|(.., operation)| members(&operation["responses"]));
    for (status, response) in content {
        for (content_type, body) in resolved(response).get("content").into_iter().flat_map(members) {
            let has_example = body.get("example").or(body.get("examples")).is_some();
            assert!(has_example, "{status} {content_type} has no example");
        }
    }
}

#[tokio::test]
async fn an_answer_that_the_contract_does_not_tell_of_is_noticed() {
    const ME: &str = "/api/v1/users/me";
    let (world, alice) = signed_up().await;
    let me = world.get(ME).bearer(&alice.access_token).await;
    let is_noticed = |change: fn(&mut Reply)| {
        let mut reply = me.clone();
        change(&mut reply);
        !unsaid(&Method::GET, ME, &reply).is_empty()
    };
    fn change(reply: &mut Reply, change: fn(&mut Value)) {
        let mut body = reply.json();
        change(&mut body);
        reply.text = body.to_string();
    }
    assert!(!is_noticed(|_| ()));
    assert!(is_noticed(|reply| reply.status = StatusCode::IM_A_TEAPOT));
    assert!(is_noticed(|reply| drop(reply.headers.remove("cache-control"))));
    assert!(is_noticed(|reply| drop(reply.headers.insert("cache-control", "public".parse().unwrap()))));
    assert!(is_noticed(|reply| drop(reply.headers.insert("x-new", "x".parse().unwrap()))));
    assert!(is_noticed(|reply| drop(reply.headers.insert("content-type", "text/plain".parse().unwrap()))));
    assert!(is_noticed(|reply| change(reply, |body| drop(body.as_object_mut().unwrap().remove("roles")))));
    assert!(is_noticed(|reply| change(reply, |body| body["id"] = 7.into())));
    assert!(is_noticed(|reply| change(reply, |body| body["password_hash"] = "x".into())));
    assert_eq!(unsaid(&Method::GET, "/api/v1/users/you", &me), ["the operation"]);

    let mut sessions = world.get("/api/v1/auth/sessions").bearer(&alice.access_token).await;
    change(&mut sessions, |body| body["sessions"][0]["secret_hash"] = "x".into());
    assert!(!unsaid(&Method::GET, "/api/v1/auth/sessions", &sessions).is_empty());
}
