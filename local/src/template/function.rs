//! Reads the functions with their variables, routes and schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_norway::value::Value;

use super::intrinsic::Scope;
use super::resource::{FUNCTION, HTTP_API, Resources};
use super::shape::{Text, shape};
use super::{Error, Function, Route};

const FUNCTION_WITHOUT_EFFECT: &[&str] = &[
    "Architectures",
    "Description",
    "FunctionName",
    "Handler",
    "LoggingConfig",
    "MemorySize",
    "Policies",
    "ReservedConcurrentExecutions",
    "Role",
    "Runtime",
    "Tags",
    "Timeout",
    "Tracing",
];

const ROUTE_WITHOUT_EFFECT: &[&str] = &["RouteSettings", "TimeoutInMillis"];

/// The methods of a route. `ANY` is not supported.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GlobalFunction {
    environment: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FunctionProperties {
    code_uri: Value,
    environment: Option<Value>,
    #[serde(default)]
    events: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Event {
    r#type: String,
    properties: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ScheduleProperties {
    schedule: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RouteProperties {
    api_id: Text,
    method: Text,
    path: Text,
    payload_format_version: Option<Text>,
}

/// Reads every function, with the settings of `Globals.Function`.
///
/// # Errors
///
/// A function, a variable, a route or a schedule cannot be read.
pub(super) fn functions(globals: Option<&Value>, resources: &Resources, scope: &Scope) -> Result<Vec<Function>, Error> {
    let shared = global_variables(globals, scope)?;
    let (api, _) = resources.only(HTTP_API)?;
    let mut functions = Vec::new();
    for (logical, resource) in resources.of_type(FUNCTION) {
        let at = format!("Resources.{logical}.Properties");
        let properties: FunctionProperties = shape(&at, &resource.properties, FUNCTION_WITHOUT_EFFECT)?;
        let Text(code) = scope.read(&format!("{at}.CodeUri"), &properties.code_uri, &[])?;
        let name = code.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let mut all = shared.clone();
        all.extend(variables(&at, properties.environment.as_ref(), scope)?);
        let mut function = Function {
            name: name.into(),
            logical: logical.into(),
            routes: Vec::new(),
            variables: all,
            schedule: None,
            wakes_on: None,
        };
        for (event, value) in &properties.events {
            let at = format!("{at}.Events.{event}");
            let event: Event = shape(&at, value, &[])?;
            match event.r#type.as_str() {
                "HttpApi" => function.routes.push(route(&at, &event.properties, api, scope)?),
                "Schedule" if function.schedule.is_none() => {
                    function.schedule = Some(schedule(&at, &event.properties, scope)?);
                }
                "Schedule" => return Err(Error::new(at, "a second schedule is not supported")),
                other => return Err(Error::new(at, format!("the event type {other} is not supported"))),
            }
        }
        functions.push(function);
    }
    Ok(functions)
}

fn global_variables(globals: Option<&Value>, scope: &Scope) -> Result<BTreeMap<String, String>, Error> {
    const AT: &str = "Globals.Function";
    let Some(globals) = globals else { return Ok(BTreeMap::new()) };
    let globals: GlobalFunction = shape(AT, globals, FUNCTION_WITHOUT_EFFECT)?;
    variables(AT, globals.environment.as_ref(), scope)
}

fn variables(at: &str, environment: Option<&Value>, scope: &Scope) -> Result<BTreeMap<String, String>, Error> {
    let Some(environment) = environment else { return Ok(BTreeMap::new()) };
    let environment: Environment = scope.read(&format!("{at}.Environment"), environment, &[])?;
    Ok(environment.variables.into_iter().map(|(name, Text(value))| (name, value)).collect())
}

/// Reads a schedule: every so many minutes. No other is supported.
fn schedule(at: &str, properties: &Value, scope: &Scope) -> Result<Duration, Error> {
    let ScheduleProperties { schedule: Text(schedule) } = scope.read(at, properties, &["Description"])?;
    let rate = schedule.strip_prefix("rate(").and_then(|rate| rate.strip_suffix(')'));
    let number = rate.and_then(|rate| rate.strip_suffix(" minute").or_else(|| rate.strip_suffix(" minutes")));
    let minutes = number.and_then(|number| number.parse::<u32>().ok()).filter(|minutes| *minutes > 0);
    let minutes = minutes.ok_or_else(|| Error::new(at, format!("the schedule {schedule} is not supported")))?;
    Ok(Duration::from_secs(60) * minutes)
}

fn route(at: &str, properties: &Value, api: &str, scope: &Scope) -> Result<Route, Error> {
    let fault = |problem: String| Error::new(at, problem);
    let properties: RouteProperties = scope.read(at, properties, ROUTE_WITHOUT_EFFECT)?;
    if properties.api_id.0 != api {
        return Err(fault(format!("ApiId does not refer to {api}")));
    }
    if properties.payload_format_version.is_some_and(|version| version.0 != "2.0") {
        return Err(fault("PayloadFormatVersion must be 2.0".into()));
    }
    let name = properties.method.0.to_uppercase();
    let method = METHODS.into_iter().find(|method| *method == *name);
    let method = method.ok_or_else(|| fault(format!("the method {name} is not supported")))?;
    let path = properties.path.0;
    if !is_path(&path) {
        return Err(fault(format!("the path {path} is not supported")));
    }
    Ok(Route { method, path })
}

/// Whether a path begins with a slash, and each of its segments is either text or
/// one parameter. The greedy parameter `{name+}` is not supported.
fn is_path(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let is_segment = |segment: &str| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => is_name(name),
        None => !segment.contains(['{', '}']),
    };
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment))
}
