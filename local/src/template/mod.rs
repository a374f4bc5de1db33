//! Reads `template.yaml`: the functions with their routes and variables, the
//! table, and the API's CORS settings.
//!
//! A parameter has the given value, or its default. A resource is represented by
//! its logical name, and an attribute by its path. Anything that would make AWS behave differently from the local
//! system is an error, so an unknown property is never ignored.

mod api;
mod function;
mod intrinsic;
mod resource;
mod shape;
mod stream;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_norway::value::{Mapping, Value};

use intrinsic::Scope;
use resource::Resources;
use shape::shape;

/// Why the template cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Error {
    /// The place in the template, such as `Resources.Api.Properties`.
    pub at: String,
    /// What is wrong there.
    pub problem: String,
}

impl Error {
    fn new(at: impl Into<String>, problem: impl ToString) -> Self {
        Self { at: at.into(), problem: problem.to_string() }
    }
}

/// The parts of the template that affect the answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The functions, in the template's order.
    pub functions: Vec<Function>,
    /// The one table.
    pub table: Table,
    /// The API's CORS settings, if it has any.
    pub cors: Option<Cors>,
}

/// A Lambda function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The last part of its `CodeUri`.
    pub name: String,
    /// The logical name of the resource.
    pub logical: String,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Its environment: the global variables, then its own.
    pub variables: BTreeMap<String, String>,
    /// How often a schedule invokes it, if one does.
    pub schedule: Option<Duration>,
    /// The beginning of a partition key. When an item with such a key is put into the
    /// table for the first time, the table's stream invokes the function.
    pub wakes_on: Option<String>,
}

/// A method and a path. A segment of the path may be a parameter: `/sessions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, as it is written in the template.
    pub path: String,
}

/// A DynamoDB table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The logical name of the resource.
    pub name: String,
    /// The attributes of the key, each with its kind, `HASH` or `RANGE`.
    pub keys: Vec<(String, String)>,
    /// The attributes of the key, each with its type, such as `S`.
    pub attributes: Vec<(String, String)>,
    /// The attribute with an item's expiry, in seconds since the epoch. Without it,
    /// items do not expire.
    pub ttl: Option<String>,
    /// Whether it has a stream of its changes.
    pub has_stream: bool,
}

/// The CORS settings: what pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// The allowed origins, each exact.
    pub origins: Vec<String>,
    /// The methods that these pages may use.
    pub methods: Vec<String>,
    /// The request headers that these pages may send.
    pub headers: Vec<String>,
    /// The response headers that these pages may read.
    pub exposed: Vec<String>,
    /// Whether these pages may send cookies.
    pub credentials: bool,
    /// For how many seconds a browser may cache the answer to a preflight.
    pub max_age: Option<u32>,
}

const SECTIONS_WITHOUT_EFFECT: &[&str] =
    &["AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Outputs", "Rules"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Sections {
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    #[serde(default)]
    conditions: BTreeMap<String, Value>,
    #[serde(default)]
    globals: Globals,
    resources: Mapping,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Globals {
    function: Option<Value>,
}

/// What must hold for the parameters if a condition does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Rule {
    rule_condition: bool,
    assertions: Vec<Assertion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Assertion {
    assert: bool,
    assert_description: String,
}

impl Template {
    /// Reads the template in the file `path`, deployed with `parameters`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or [`Template::parse`] refuses its text.
    pub fn read(path: &Path, parameters: &[(&str, &str)]) -> Result<Self, Error> {
        Self::parse(&text(path)?, parameters)
    }

    /// Reads the template in `text`, deployed with `parameters`.
    ///
    /// # Errors
    ///
    /// The text is not YAML; a parameter is not declared; or something would
    /// behave differently here than in AWS.
    pub fn parse(text: &str, parameters: &[(&str, &str)]) -> Result<Self, Error> {
        let template = document(text)?;
        let sections: Sections = shape("template", &template, SECTIONS_WITHOUT_EFFECT)?;
        let scope = Scope::new(&sections.parameters, sections.conditions, &sections.resources, parameters)?;
        let resources = Resources::new(&sections.resources, &scope)?;
        let mut functions = function::functions(sections.globals.function.as_ref(), &resources, &scope)?;
        let table = table::table(&resources, &scope)?;
        stream::connect(&mut functions, &table, &resources, &scope)?;
        Ok(Self { functions, table, cors: api::cors(&resources, &scope)? })
    }
}

fn text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::new(path.display().to_string(), error))
}

fn document(text: &str) -> Result<Value, Error> {
    serde_norway::from_str(text).map_err(|error| Error::new("template", error))
}

/// Returns the sections `Globals`, `Resources` and `Outputs` of the template in the
/// file `path` as they are deployed with `parameters`: what exists, without intrinsic
/// functions.
///
/// # Errors
///
/// The file cannot be read, its text is not YAML, a parameter is not declared, a rule is
/// broken, or something refers to what does not exist.
pub fn deployed(path: &Path, parameters: &[(&str, &str)]) -> Result<Value, Error> {
    let template = document(&text(path)?)?;
    let sections: Sections = shape("template", &template, SECTIONS_WITHOUT_EFFECT)?;
    let scope = Scope::new(&sections.parameters, sections.conditions, &sections.resources, parameters)?;
    for (name, rule) in template.get("Rules").and_then(Value::as_mapping).into_iter().flatten() {
        let at = format!("Rules.{}", name.as_str().unwrap_or_default());
        let Rule { rule_condition: applies, assertions } = scope.read(&at, rule, &[])?;
        if let Some(broken) = assertions.into_iter().find(|assertion| applies && !assertion.assert) {
            return Err(Error::new(at, broken.assert_description));
        }
    }
    let mut deployed = Mapping::new();
    for section in ["Globals", "Resources", "Outputs"] {
        let mut members = Mapping::new();
        for (name, member) in template.get(section).and_then(Value::as_mapping).into_iter().flatten() {
            let at = format!("{section}.{}", name.as_str().unwrap_or_default());
            let condition = member.get("Condition").and_then(Value::as_str);
            let exists = condition.map_or(Ok(true), |condition| scope.holds(condition));
            if exists.map_err(|problem| Error::new(&at, problem))? {
                members.insert(name.clone(), scope.read(&at, member, &[])?);
            }
        }
        deployed.insert(section.into(), members.into());
    }
    Ok(deployed.into())
}

#[cfg(test)]
mod tests;
