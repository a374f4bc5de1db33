//! Answers are compared with `openapi.yaml`. Every answer of a
//! [`World`](crate::world::World) goes through [`check`], so every test of the
//! system also tests the contract.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use http::{HeaderMap, Method};
use jsonschema::{Draft, Validator};
use local::extra::OPENAPI;
use serde_json::{Value, json};

use crate::world::Reply;

/// Headers that mean nothing to a client, or that every answer of a function has.
/// Other tests check those.
pub const SELF_EVIDENT: [&str; 7] = [
    "cache-control",
    "content-security-policy",
    "content-type",
    "referrer-policy",
    "strict-transport-security",
    "vary",
    "x-content-type-options",
];
/// The document.
pub static CONTRACT: LazyLock<Value> = LazyLock::new(|| serde_norway::from_str(OPENAPI).unwrap());
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// The members of a value, if it is an object.
pub fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// Resolves `value` if it is a `$ref`.
pub fn resolved(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => CONTRACT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// Every operation, with its method and path.
pub fn operations() -> impl Iterator<Item = (Method, &'static str, &'static Value)> {
    let paths = members(&CONTRACT["paths"]);
    let methods =
        paths.flat_map(|(path, item)| members(item).map(move |(method, operation)| (method, path, operation)));
    let operations = methods.filter(|(_, _, operation)| operation.get("operationId").is_some());
    operations.map(|(method, path, operation)| (method.to_uppercase().parse().unwrap(), path, operation))
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let is_at = |template: &str| {
        let (expected, found) = (template.split('/'), path.split('/'));
        let mut segments = expected.clone().zip(found.clone());
        expected.count() == found.count()
            && segments.all(|(expected, found)| expected == found || expected.starts_with('{') && !found.is_empty())
    };
    operations().find(|(m, template, _)| m == method && is_at(template)).map(|(.., operation)| operation)
}

/// A schema of the contract. If it is closed, it accepts no member that the
/// contract does not name: everything that clients see must be in it.
fn validator(schema: &Value, is_closed: bool) -> Arc<Validator> {
    let key = format!("{is_closed} {schema}");
    let mut validators = VALIDATORS.lock().unwrap();
    let build = || {
        let mut components = CONTRACT["components"].clone();
        let mut root = json!({ "allOf": [schema] });
        if is_closed {
            root["unevaluatedProperties"] = false.into();
            close(&mut components["schemas"]);
        }
        root["components"] = components;
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        Arc::new(options.build(&root).unwrap())
    };
    Arc::clone(validators.entry(key).or_insert_with(build))
}

/// Closes the schemas of the members and elements of a schema.
fn close(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let close_reference = |value: &mut Value| {
        if let Some(reference) = value.as_object_mut().filter(|value| value.contains_key("$ref")) {
            reference.insert("unevaluatedProperties".into(), false.into());
        }
    };
    members.get_mut("items").map(close_reference);
    let properties = members.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, value)| close_reference(value));
    members.values_mut().for_each(close);
    let branches = members.get_mut("allOf").and_then(Value::as_array_mut);
    branches.into_iter().flatten().for_each(close);
}

/// The faults of `value` by `schema`. If the schema is closed, a member that it does
/// not name is a fault.
pub fn faults(schema: &Value, is_closed: bool, value: &Value) -> Vec<String> {
    validator(schema, is_closed).iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}

/// What this answer has that the contract does not describe.
pub fn unsaid(method: &Method, path: &str, reply: &Reply) -> Vec<String> {
    let Reply { status, headers, text } = reply;
    let Some(operation) = operation(method, path) else {
        let is_the_gateways = headers.get("cache-control").is_none();
        return if is_the_gateways { vec![] } else { vec!["the operation".into()] };
    };
    let Some(response) = operation["responses"].get(status.as_str()).map(resolved) else {
        return vec![format!("the status {status}")];
    };
    let mut unsaid = header_faults(response, headers);
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap().split(';').next().unwrap());
    match (response.get("content"), content_type) {
        // The answer to a HEAD has no body, whatever its headers say (RFC 9110, section 9.3.2).
        _ if *method == Method::HEAD => unsaid.extend((!text.is_empty()).then(|| "a body".into())),
        (None, None) if text.is_empty() => {}
        (Some(content), Some(content_type)) if content.get(content_type).is_some() => {
            unsaid.extend(faults(&content[content_type]["schema"], true, &reply.json()));
        }
        (_, content_type) => unsaid.push(format!("the content type {content_type:?}")),
    }
    unsaid
}

fn header_faults(response: &'static Value, headers: &HeaderMap) -> Vec<String> {
    let mut faults = Vec::new();
    let declared: HashMap<_, _> = match response.get("headers") {
        Some(headers) => members(headers).map(|(name, header)| (name.to_lowercase(), resolved(header))).collect(),
        None => HashMap::new(),
    };
    for (name, header) in &declared {
        if header["required"] == true && !headers.contains_key(name) {
            faults.push(format!("no header {name}"));
        }
    }
    for (name, value) in headers {
        let value = value.to_str().unwrap();
        match declared.get(name.as_str()) {
            Some(header) => {
                let is_number = resolved(&header["schema"])["type"] == "integer";
                let value = if is_number { value.parse::<u64>().unwrap().into() } else { value.into() };
                faults.extend(self::faults(&header["schema"], false, &value));
            }
            None if SELF_EVIDENT.contains(&name.as_str()) || name.as_str().starts_with("access-control-") => {}
            None => faults.push(format!("the header {name}")),
        }
    }
    faults
}

/// Checks an answer against the contract.
pub fn check(method: &Method, path: &str, reply: &Reply) {
    let unsaid = unsaid(method, path, reply);
    assert!(unsaid.is_empty(), "openapi.yaml lacks, for {method} {path}, {}: {unsaid:#?}", reply.status);
}
