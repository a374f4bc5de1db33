//! What `template.yaml` says: the functions and their routes, the table, the
//! CORS settings. Parameters take their defaults where none are given, and a
//! resource is stood in for by its name. What would behave otherwise here than
//! in AWS is an error.

use std::collections::BTreeMap;
use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_norway::value::{Mapping, Value};

/// Why the template cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Error {
    /// Where in the template.
    pub at: String,
    /// What is wrong there.
    pub problem: String,
}

impl Error {
    fn new(at: impl Into<String>, problem: impl ToString) -> Self {
        Self { at: at.into(), problem: problem.to_string() }
    }
}

/// The part of the template that a machine on its own can act out.
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
    /// The routes that lead to it.
    pub routes: Vec<Route>,
    /// Its environment: the global variables, then its own.
    pub variables: BTreeMap<String, String>,
}

/// A method and a path, whose segments may be parameters: `/sessions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The one method.
    pub method: Method,
    /// The path, as the template has it.
    pub path: String,
}

/// A DynamoDB table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name: the one that the template gives, or the resource's.
    pub name: String,
    /// The attributes of the key and their kind, `HASH` or `RANGE`.
    pub keys: Vec<(String, String)>,
    /// The attributes of the key and their type, such as `S`.
    pub attributes: Vec<(String, String)>,
    /// The attribute that says when an item expires.
    pub ttl: Option<String>,
}

/// What other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// The exact origins.
    pub origins: Vec<String>,
    /// The methods they may use.
    pub methods: Vec<String>,
    /// The request headers they may send.
    pub headers: Vec<String>,
    /// The response headers they may read.
    pub exposed: Vec<String>,
    /// Whether they may send cookies.
    pub credentials: bool,
    /// For how many seconds a browser may remember this.
    pub max_age: Option<u32>,
}

impl Template {
    /// Reads the template at `path`, as it is deployed with `parameters`.
    pub fn read(path: &Path, parameters: &[(&str, &str)]) -> Result<Self, Error> {
        let at = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::new(at, error))?;
        Self::parse(&text, parameters)
    }

    /// Reads the template in `text`, as it is deployed with `parameters`.
    pub fn parse(text: &str, parameters: &[(&str, &str)]) -> Result<Self, Error> {
        let template: Value = serde_norway::from_str(text).map_err(|error| Error::new("template", error))?;
        let sections: Sections = shape("template", &template, SECTIONS_WITHOUT_EFFECT)?;
        let document = Document::new(sections, parameters)?;
        let resources = document.resources()?;
        Ok(Self {
            functions: document.functions(&resources)?,
            table: document.table(&resources)?,
            cors: document.cors(&resources)?,
        })
    }
}

const SECTIONS_WITHOUT_EFFECT: &[&str] =
    &["AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Outputs", "Rules"];

const PARAMETER_WITHOUT_EFFECT: &[&str] = &[
    "AllowedPattern",
    "AllowedValues",
    "ConstraintDescription",
    "Description",
    "MaxLength",
    "MaxValue",
    "MinLength",
    "MinValue",
    "NoEcho",
];

const RESOURCE_WITHOUT_EFFECT: &[&str] = &["DeletionPolicy", "DependsOn", "Metadata", "UpdateReplacePolicy"];

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

const EVENT_WITHOUT_EFFECT: &[&str] = &["RouteSettings", "TimeoutInMillis"];

const API_WITHOUT_EFFECT: &[&str] = &[
    "AccessLogSettings",
    "DefaultRouteSettings",
    "Description",
    "DisableExecuteApiEndpoint",
    "Domain",
    "FailOnWarnings",
    "Name",
    "RouteSettings",
    "Tags",
];

const TABLE_WITHOUT_EFFECT: &[&str] = &[
    "BillingMode",
    "ContributorInsightsSpecification",
    "DeletionProtectionEnabled",
    "OnDemandThroughput",
    "PointInTimeRecoverySpecification",
    "SSESpecification",
    "TableClass",
    "Tags",
];

/// Services whose resources have no part in what a request gets.
const TYPES_WITHOUT_EFFECT: &[&str] =
    &["AWS::CloudWatch::", "AWS::IAM::", "AWS::KMS::", "AWS::Logs::", "AWS::SNS::", "AWS::SecretsManager::"];

const FUNCTION: &str = "AWS::Serverless::Function";
const HTTP_API: &str = "AWS::Serverless::HttpApi";
const TABLE: &str = "AWS::DynamoDB::Table";
const SECRET: &str = "AWS::SecretsManager::Secret";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Sections {
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
    #[serde(default)]
    mappings: Mapping,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameter {
    r#type: String,
    default: Option<Text>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Resource {
    r#type: String,
    condition: Option<String>,
    #[serde(default = "empty")]
    properties: Value,
}

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
struct EventProperties {
    api_id: Text,
    method: Text,
    path: Text,
    payload_format_version: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ApiProperties {
    stage_name: Option<Text>,
    cors_configuration: Option<CorsProperties>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CorsProperties {
    #[serde(default)]
    allow_origins: Vec<Text>,
    #[serde(default)]
    allow_methods: Vec<Text>,
    #[serde(default)]
    allow_headers: Vec<Text>,
    #[serde(default)]
    expose_headers: Vec<Text>,
    allow_credentials: Option<Text>,
    max_age: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TableProperties {
    table_name: Option<Text>,
    key_schema: Vec<KeyElement>,
    attribute_definitions: Vec<AttributeDefinition>,
    time_to_live_specification: Option<TimeToLive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct KeyElement {
    attribute_name: String,
    key_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct AttributeDefinition {
    attribute_name: String,
    attribute_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TimeToLive {
    attribute_name: String,
    enabled: bool,
}

/// A scalar, as CloudFormation sees it: `60` and `"60"` are the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
struct Text(String);

impl TryFrom<Value> for Text {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(truth) => Ok(Self(truth.to_string())),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                Err("expected a text, a number or a truth value".into())
            }
        }
    }
}

fn empty() -> Value {
    Value::Mapping(Mapping::new())
}

/// `value` without the members that change nothing here; any member that is
/// neither among those nor in `T` is an error.
fn shape<T: DeserializeOwned>(at: &str, value: &Value, without_effect: &[&str]) -> Result<T, Error> {
    let mut value = value.clone();
    if let Some(members) = value.as_mapping_mut() {
        members.retain(|key, _| !key.as_str().is_some_and(|key| without_effect.contains(&key)));
    }
    serde_norway::from_value(value).map_err(|error| Error::new(at, error))
}

/// Everything that an intrinsic function may refer to.
struct Document {
    parameters: BTreeMap<String, Value>,
    conditions: BTreeMap<String, Value>,
    globals: Globals,
    raw_resources: Mapping,
}

impl Document {
    fn new(sections: Sections, given: &[(&str, &str)]) -> Result<Self, Error> {
        if !sections.mappings.is_empty() {
            return Err(Error::new("Mappings", "not understood by the local system"));
        }
        if let Some((name, _)) = given.iter().find(|(n, _)| !sections.parameters.contains_key(*n)) {
            return Err(Error::new("Parameters", format!("there is no {name}")));
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in &sections.parameters {
            let at = format!("Parameters.{name}");
            let parameter: Parameter = shape(&at, value, PARAMETER_WITHOUT_EFFECT)?;
            let given = given.iter().find(|(given, _)| given == name);
            let given = given.map(|(_, value)| value.to_string());
            let default = parameter.default.map(|Text(default)| default);
            let Some(text) = given.or(default) else { continue };
            let value = match parameter.r#type.as_str() {
                "String" | "Number" => Value::String(text),
                "CommaDelimitedList" => text
                    .split(',')
                    .map(|part| Value::String(part.trim().into()))
                    .filter(|part| part.as_str() != Some(""))
                    .collect(),
                other => return Err(Error::new(at, format!("the type {other} is not understood"))),
            };
            parameters.insert(name.clone(), value);
        }
        Ok(Self {
            parameters,
            conditions: sections.conditions,
            globals: sections.globals,
            raw_resources: sections.resources,
        })
    }

    /// The resources that exist under the default parameters.
    fn resources(&self) -> Result<Vec<(String, Resource)>, Error> {
        let mut resources = Vec::new();
        for (name, value) in &self.raw_resources {
            let name = name.as_str().unwrap_or_default().to_owned();
            let at = format!("Resources.{name}");
            let resource: Resource = shape(&at, value, RESOURCE_WITHOUT_EFFECT)?;
            let known = [FUNCTION, HTTP_API, TABLE].contains(&resource.r#type.as_str())
                || TYPES_WITHOUT_EFFECT.iter().any(|prefix| resource.r#type.starts_with(prefix));
            if !known {
                let problem = format!("the type {} is not understood", resource.r#type);
                return Err(Error::new(at, problem));
            }
            let exists = resource.condition.as_deref().map_or(Ok(true), |name| self.holds(name));
            if exists.map_err(|problem| Error::new(at, problem))? {
                resources.push((name, resource));
            }
        }
        Ok(resources)
    }

    fn functions(&self, resources: &[(String, Resource)]) -> Result<Vec<Function>, Error> {
        let mut shared = BTreeMap::new();
        if let Some(globals) = &self.globals.function {
            let at = "Globals.Function";
            let globals: GlobalFunction = shape(at, globals, FUNCTION_WITHOUT_EFFECT)?;
            shared = self.variables(at, globals.environment.as_ref())?;
        }
        let api = only(HTTP_API, resources)?.0;
        let mut functions: Vec<Function> = Vec::new();
        for (logical, resource) in of_type(FUNCTION, resources) {
            let at = format!("Resources.{logical}.Properties");
            let properties: FunctionProperties = shape(&at, &resource.properties, FUNCTION_WITHOUT_EFFECT)?;
            let Text(code) = self.read(&format!("{at}.CodeUri"), &properties.code_uri, &[])?;
            let name = code.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let mut routes = Vec::new();
            for (event, value) in &properties.events {
                let route = self.route(&format!("{at}.Events.{event}"), value, api)?;
                if routes.contains(&route) || functions.iter().any(|other| other.routes.contains(&route)) {
                    let problem = format!("{} {} is there twice", route.method, route.path);
                    return Err(Error::new(format!("{at}.Events.{event}"), problem));
                }
                routes.push(route);
            }
            let mut variables = shared.clone();
            variables.extend(self.variables(&at, properties.environment.as_ref())?);
            functions.push(Function { name: name.into(), routes, variables });
        }
        Ok(functions)
    }

    fn variables(&self, at: &str, environment: Option<&Value>) -> Result<BTreeMap<String, String>, Error> {
        let Some(environment) = environment else { return Ok(BTreeMap::new()) };
        let environment: Environment = self.read(&format!("{at}.Environment"), environment, &[])?;
        Ok(environment.variables.into_iter().map(|(name, Text(value))| (name, value)).collect())
    }

    fn route(&self, at: &str, event: &Value, api: &str) -> Result<Route, Error> {
        let fault = |problem: String| Error::new(at, problem);
        let event: Event = shape(at, event, &[])?;
        if event.r#type != "HttpApi" {
            return Err(fault(format!("the event type {} is not understood", event.r#type)));
        }
        let properties: EventProperties = self.read(at, &event.properties, EVENT_WITHOUT_EFFECT)?;
        if properties.api_id.0 != api {
            return Err(fault(format!("ApiId does not refer to {api}")));
        }
        if properties.payload_format_version.is_some_and(|version| version.0 != "2.0") {
            return Err(fault("only the payload format 2.0 is understood".into()));
        }
        let method = properties.method.0.to_uppercase();
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|method| known.contains(&method.as_str()))
            .ok_or_else(|| fault(format!("the method {method} is not understood")))?;
        let path = properties.path.0;
        let understood = path.strip_prefix('/').is_some_and(|path| {
            path.split('/').all(|segment| {
                let name = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                !name.unwrap_or(segment).contains(['{', '}', '+'])
            })
        });
        if !understood {
            return Err(fault(format!("the path {path} is not understood")));
        }
        Ok(Route { method, path })
    }

    fn table(&self, resources: &[(String, Resource)]) -> Result<Table, Error> {
        let (logical, resource) = only(TABLE, resources)?;
        let at = format!("Resources.{logical}.Properties");
        let table: TableProperties = self.read(&at, &resource.properties, TABLE_WITHOUT_EFFECT)?;
        Ok(Table {
            name: table.table_name.map_or_else(|| logical.to_owned(), |Text(name)| name),
            keys: table.key_schema.into_iter().map(|key| (key.attribute_name, key.key_type)).collect(),
            attributes: table
                .attribute_definitions
                .into_iter()
                .map(|attribute| (attribute.attribute_name, attribute.attribute_type))
                .collect(),
            ttl: table.time_to_live_specification.filter(|ttl| ttl.enabled).map(|ttl| ttl.attribute_name),
        })
    }

    fn cors(&self, resources: &[(String, Resource)]) -> Result<Option<Cors>, Error> {
        let (logical, resource) = only(HTTP_API, resources)?;
        let at = format!("Resources.{logical}.Properties");
        let api: ApiProperties = self.read(&at, &resource.properties, API_WITHOUT_EFFECT)?;
        if api.stage_name.is_some_and(|stage| stage.0 != "$default") {
            return Err(Error::new(at, "StageName must be $default: another prefixes the path"));
        }
        let Some(cors) = api.cors_configuration else { return Ok(None) };
        let texts = |list: Vec<Text>| list.into_iter().map(|Text(item)| item).collect::<Vec<_>>();
        let origins = texts(cors.allow_origins);
        if origins.iter().any(|origin| origin.contains('*')) {
            return Err(Error::new(at, "AllowOrigins must be exact, without *"));
        }
        let max_age = cors.max_age.map(|Text(seconds)| seconds.parse()).transpose();
        Ok(Some(Cors {
            origins,
            methods: texts(cors.allow_methods),
            headers: texts(cors.allow_headers),
            exposed: texts(cors.expose_headers),
            credentials: cors.allow_credentials.is_some_and(|allowed| allowed.0 == "true"),
            max_age: max_age.map_err(|_| Error::new(at, "MaxAge must be whole seconds"))?,
        }))
    }

    /// [`shape`], with the intrinsic functions carried out.
    fn read<T: DeserializeOwned>(&self, at: &str, value: &Value, without_effect: &[&str]) -> Result<T, Error> {
        let value: Value = shape(at, value, without_effect)?;
        let value = self.resolve(&value).map_err(|problem| Error::new(at, problem))?;
        shape(at, &value.unwrap_or_default(), &[])
    }

    /// `value` with the intrinsic functions carried out; nothing for
    /// `AWS::NoValue`, which takes the member that has it away.
    fn resolve(&self, value: &Value) -> Result<Option<Value>, String> {
        match value {
            Value::Tagged(tagged) => self.call(tagged.tag.to_string().trim_start_matches('!'), &tagged.value),
            Value::Mapping(members) => {
                if let Some((name, argument)) = long_form(members) {
                    return self.call(name, argument);
                }
                let mut resolved = Mapping::new();
                for (key, member) in members {
                    if let Some(member) = self.resolve(member)? {
                        resolved.insert(key.clone(), member);
                    }
                }
                Ok(Some(Value::Mapping(resolved)))
            }
            Value::Sequence(items) => {
                let items = items.iter().filter_map(|item| self.resolve(item).transpose());
                items.collect::<Result<_, _>>().map(|items| Some(Value::Sequence(items)))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>, String> {
        let value = match name {
            "Ref" => return self.refer(&self.text(argument)?),
            "If" => {
                let [condition, yes, no] = self.arguments(name, argument)?;
                let chosen = if self.holds(&self.text(condition)?)? { yes } else { no };
                return self.resolve(chosen);
            }
            "Sub" => Value::String(self.substitute(argument)?),
            "GetAtt" => Value::String(self.attribute(&self.text(argument)?)?),
            "Join" => {
                let [separator, list] = self.arguments(name, argument)?;
                Value::String(self.texts(list)?.join(&self.text(separator)?))
            }
            "Split" => {
                let [separator, text] = self.arguments(name, argument)?;
                let text = self.text(text)?;
                text.split(&self.text(separator)?).map(|part| Value::String(part.into())).collect()
            }
            "Equals" | "Not" | "And" | "Or" | "Condition" => Value::Bool(self.truth(name, argument)?),
            other => return Err(format!("the function !{other} is not understood")),
        };
        Ok(Some(value))
    }

    fn truth(&self, name: &str, argument: &Value) -> Result<bool, String> {
        let each = |items: &Value| -> Result<Vec<bool>, String> {
            let items = items.as_sequence().ok_or(format!("!{name} takes a list"))?;
            items.iter().map(|item| Ok(self.text(item)? == "true")).collect()
        };
        match name {
            "Condition" => self.holds(&self.text(argument)?),
            "Equals" => {
                let [left, right] = self.arguments(name, argument)?;
                Ok(self.text(left)? == self.text(right)?)
            }
            "Not" => {
                let [inner] = self.arguments(name, argument)?;
                Ok(self.text(inner)? != "true")
            }
            "And" => Ok(each(argument)?.into_iter().all(|truth| truth)),
            _ => Ok(each(argument)?.into_iter().any(|truth| truth)),
        }
    }

    fn holds(&self, condition: &str) -> Result<bool, String> {
        let rule = self.conditions.get(condition);
        let rule = rule.ok_or_else(|| format!("there is no condition {condition}"))?;
        Ok(self.text(rule)? == "true")
    }

    fn refer(&self, name: &str) -> Result<Option<Value>, String> {
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(value.clone()));
        }
        let pseudo = match name {
            "AWS::AccountId" => "000000000000",
            "AWS::Partition" => "aws",
            "AWS::Region" => "local",
            "AWS::StackName" => "local",
            "AWS::URLSuffix" => "localhost",
            _ => return self.resource(name).map(|text| Some(Value::String(text))),
        };
        Ok(Some(Value::String(pseudo.into())))
    }

    /// What `Ref` gives for a resource: a secret's is its ARN.
    fn resource(&self, name: &str) -> Result<String, String> {
        let resource = self.raw_resources.get(name);
        let resource =
            resource.ok_or_else(|| format!("{name} is neither a resource nor a parameter with a default"))?;
        if resource.get("Type").and_then(Value::as_str) == Some(SECRET) {
            return Ok(arn(name));
        }
        let given = resource.get("Properties").and_then(|properties| properties.get("TableName"));
        given.map_or_else(|| Ok(name.to_owned()), |given| self.text(given))
    }

    fn attribute(&self, path: &str) -> Result<String, String> {
        match path.split_once('.') {
            Some((name, "Arn")) if self.raw_resources.contains_key(name) => Ok(arn(name)),
            _ => Err(format!("the attribute {path} is not understood")),
        }
    }

    fn substitute(&self, argument: &Value) -> Result<String, String> {
        let (pattern, own) = match argument {
            Value::Sequence(_) => {
                let [pattern, own] = self.arguments("Sub", argument)?;
                (self.text(pattern)?, own.as_mapping().cloned().unwrap_or_default())
            }
            pattern => (self.text(pattern)?, Mapping::new()),
        };
        let mut text = String::new();
        let mut rest = pattern.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("!Sub has a ${ without a }")?;
            text.push_str(before);
            if let Some(literal) = name.strip_prefix('!') {
                text.push_str(&format!("${{{literal}}}"));
            } else if let Some(value) = own.get(name) {
                text.push_str(&self.text(value)?);
            } else if name.contains('.') {
                text.push_str(&self.attribute(name)?);
            } else {
                let value = self.refer(name)?.ok_or("!Sub cannot take AWS::NoValue")?;
                text.push_str(&self.text(&value)?);
            }
            rest = after;
        }
        text.push_str(rest);
        Ok(text)
    }

    fn arguments<'a, const N: usize>(&self, name: &str, argument: &'a Value) -> Result<[&'a Value; N], String> {
        let items = argument.as_sequence().map(|items| items.iter().collect::<Vec<_>>());
        items.and_then(|items| items.try_into().ok()).ok_or_else(|| format!("!{name} takes a list of {N}"))
    }

    fn text(&self, value: &Value) -> Result<String, String> {
        let value = self.resolve(value)?.unwrap_or_default();
        Text::try_from(value).map(|Text(text)| text)
    }

    fn texts(&self, value: &Value) -> Result<Vec<String>, String> {
        let value = self.resolve(value)?.unwrap_or_default();
        value.as_sequence().ok_or("expected a list")?.iter().map(|item| self.text(item)).collect()
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:local:local:000000000000:{name}")
}

/// `{"Fn::Join": …}` and `{"Ref": …}`: the intrinsic functions without a tag.
fn long_form(members: &Mapping) -> Option<(&str, &Value)> {
    let (key, argument) = members.iter().next().filter(|_| members.len() == 1)?;
    match key.as_str()? {
        name @ ("Ref" | "Condition") => Some((name, argument)),
        name => name.strip_prefix("Fn::").map(|name| (name, argument)),
    }
}

fn of_type<'a>(r#type: &str, resources: &'a [(String, Resource)]) -> impl Iterator<Item = (&'a str, &'a Resource)> {
    resources
        .iter()
        .filter(move |(_, resource)| resource.r#type == r#type)
        .map(|(name, resource)| (name.as_str(), resource))
}

fn only<'a>(r#type: &str, resources: &'a [(String, Resource)]) -> Result<(&'a str, &'a Resource), Error> {
    let mut found = of_type(r#type, resources);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Error::new("Resources", format!("there must be exactly one {type}", type = r#type))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Issuer: { Type: String, Default: freshkey }
  Minutes: { Type: Number, Default: 60 }
  AllowedOrigins: { Type: CommaDelimitedList, Default: "https://a.example, https://b.example" }
  SecretArn: { Type: String, Default: "" }
  Needed: { Type: String }
Conditions:
  MakesSecret: !Equals [!Ref SecretArn, ""]
  HasSecret: !Not [!Condition MakesSecret]
Globals:
  Function:
    Runtime: provided.al2023
    Environment:
      Variables:
        TABLE_NAME: !Ref Table
        JWT_ISSUER: !Ref Issuer
        MINUTES: !Ref Minutes
        ALLOWED_ORIGINS: !Join [",", !Ref AllowedOrigins]
        JWT_SECRET_ARN: !If [MakesSecret, !Ref Secret, !Ref SecretArn]
        GONE: !If [HasSecret, here, !Ref AWS::NoValue]
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefaultRouteSettings: { ThrottlingBurstLimit: 10 }
      CorsConfiguration:
        AllowOrigins: !Ref AllowedOrigins
        AllowMethods: [GET, POST]
        AllowHeaders: [content-type]
        ExposeHeaders: [retry-after]
        AllowCredentials: !Equals [!Ref Issuer, freshkey]
        MaxAge: 600
  LoginFunction:
    Type: AWS::Serverless::Function
    Metadata: { BuildMethod: rust-cargolambda }
    Properties:
      CodeUri: functions/login
      FunctionName: !Sub "${AWS::StackName}-login"
      Policies:
        - Statement: [{ Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Table.Arn }]
      Environment:
        Variables:
          OWN: !Sub ["${Issuer}-${table}-${Table.Arn}-${!kept}", { table: !Ref Table }]
      Events:
        Login:
          Type: HttpApi
          Properties: { ApiId: !Ref Api, Method: post, Path: "/api/v1/sessions/{session_id}" }
  Absent:
    Type: AWS::Serverless::Function
    Condition: HasSecret
    Properties: { CodeUri: functions/absent }
  Secret:
    Type: AWS::SecretsManager::Secret
    Condition: MakesSecret
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: pk, AttributeType: S }
        - { AttributeName: sk, AttributeType: S }
      KeySchema:
        - { AttributeName: pk, KeyType: HASH }
        - { AttributeName: sk, KeyType: RANGE }
      TimeToLiveSpecification: { AttributeName: expires_at, Enabled: true }
Outputs:
  Url: { Value: !Cidr [a, b, c] }
"#;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    fn with(replaced: &str, by: &str) -> Result<Template, Error> {
        assert!(SMALL.contains(replaced));
        Template::parse(&SMALL.replacen(replaced, by, 1), &[])
    }

    fn problem(replaced: &str, by: &str) -> String {
        with(replaced, by).unwrap_err().to_string()
    }

    #[test]
    fn a_function_is_named_after_its_code_and_has_its_routes() {
        let template = Template::parse(SMALL, &[]).unwrap();
        let [login] = template.functions.as_slice() else { panic!("{template:?}") };
        assert_eq!(login.name, "login");
        let path = "/api/v1/sessions/{session_id}".into();
        assert_eq!(login.routes, [Route { method: Method::POST, path }]);
    }

    #[test]
    fn variables_are_the_global_ones_and_a_functions_own() {
        let template = Template::parse(SMALL, &[]).unwrap();
        let variables = template.functions[0].variables.clone().into_iter().collect::<Vec<_>>();
        let expected = [
            ("ALLOWED_ORIGINS", "https://a.example,https://b.example"),
            ("JWT_ISSUER", "freshkey"),
            ("JWT_SECRET_ARN", "arn:aws:local:local:000000000000:Secret"),
            ("MINUTES", "60"),
            ("OWN", "freshkey-Table-arn:aws:local:local:000000000000:Table-${kept}"),
            ("TABLE_NAME", "Table"),
        ];
        assert_eq!(variables, pairs(&expected));
    }

    #[test]
    fn the_table_has_its_key_and_its_ttl() {
        let table = Template::parse(SMALL, &[]).unwrap().table;
        assert_eq!(table.name, "Table");
        assert_eq!(table.keys, pairs(&[("pk", "HASH"), ("sk", "RANGE")]));
        assert_eq!(table.attributes, pairs(&[("pk", "S"), ("sk", "S")]));
        assert_eq!(table.ttl.as_deref(), Some("expires_at"));
    }

    #[test]
    fn a_table_with_a_name_of_its_own_is_referred_to_by_it() {
        let named = with("BillingMode: PAY", "TableName: !Sub '${Issuer}-table'\n      BillingMode: PAY");
        let named = named.unwrap();
        assert_eq!(named.table.name, "freshkey-table");
        assert_eq!(named.functions[0].variables["TABLE_NAME"], "freshkey-table");
    }

    #[test]
    fn cors_settings_are_read_with_their_parameters() {
        let cors = Template::parse(SMALL, &[]).unwrap().cors.unwrap();
        let expected = Cors {
            origins: vec!["https://a.example".into(), "https://b.example".into()],
            methods: vec!["GET".into(), "POST".into()],
            headers: vec!["content-type".into()],
            exposed: vec!["retry-after".into()],
            credentials: true,
            max_age: Some(600),
        };
        assert_eq!(cors, expected);
    }

    #[test]
    fn an_empty_list_parameter_is_an_empty_list() {
        let template = with("\"https://a.example, https://b.example\"", "\"\"").unwrap();
        assert_eq!(template.cors.unwrap().origins, Vec::<String>::new());
        assert_eq!(template.functions[0].variables["ALLOWED_ORIGINS"], "");
    }

    #[test]
    fn a_condition_decides_which_resources_exist() {
        let template = with("Default: \"\"", "Default: \"arn:of:mine\"").unwrap();
        assert_eq!(template.functions.len(), 2);
        assert_eq!(template.functions[0].variables["JWT_SECRET_ARN"], "arn:of:mine");
        assert_eq!(template.functions[0].variables["GONE"], "here");
    }

    #[test]
    fn a_given_parameter_goes_before_its_default() {
        let given = [("AllowedOrigins", "https://c.example"), ("Needed", "x")];
        let template = Template::parse(SMALL, &given).unwrap();
        assert_eq!(template.cors.unwrap().origins, ["https://c.example"]);
        let unknown = Template::parse(SMALL, &[("Nothing", "x")]).unwrap_err();
        assert_eq!(unknown.to_string(), "Parameters: there is no Nothing");
    }

    #[test]
    fn the_templates_own_file_is_understood() {
        let path = Path::new(crate::TEMPLATE);
        let template = Template::read(path, &[("AllowedOrigins", "https://c.example")]).unwrap();
        let names: Vec<_> = template.functions.iter().map(|function| &function.name).collect();
        assert!(names.iter().any(|name| *name == "refresh"), "{names:?}");
        assert_eq!(template.functions[0].variables["TABLE_NAME"], template.table.name);
        assert_eq!(template.table.ttl.as_deref(), Some("expires_at"));
        assert_eq!(template.cors.unwrap().origins, ["https://c.example"]);
        assert_eq!(Template::read(path, &[]).unwrap().cors, None);
        for (transport, credentials) in [("body", false), ("cookie", true), ("both", true)] {
            let given = [("AllowedOrigins", "https://c.example"), ("RefreshTokenTransport", transport)];
            let cors = Template::read(path, &given).unwrap().cors.unwrap();
            assert_eq!(cors.credentials, credentials, "{transport}");
        }
    }

    #[test]
    fn the_long_form_of_an_intrinsic_is_the_same() {
        let template = with("!Ref Issuer", "{ 'Fn::Sub': 'x-${Issuer}' }").unwrap();
        assert_eq!(template.functions[0].variables["JWT_ISSUER"], "x-freshkey");
    }

    #[test]
    fn what_would_change_behaviour_and_is_not_understood_is_an_error() {
        let cases = [
            ("BillingMode: PAY", "StreamSpecification: {}\n      BillingMode: PAY", "StreamSpecification"),
            ("DefaultRouteSettings", "Auth", "Auth"),
            ("Runtime: provided", "Layers: []\n    Runtime: provided", "Layers"),
            ("Type: AWS::SecretsManager::Secret", "Type: AWS::SQS::Queue", "AWS::SQS::Queue"),
            ("Type: HttpApi", "Type: Schedule", "Schedule"),
            ("Method: post", "Method: any", "ANY"),
            ("{session_id}", "{rest+}", "{rest+}"),
            ("Method: post", "PayloadFormatVersion: '1.0', Method: post", "2.0"),
            ("!Ref Issuer", "!ImportValue there", "!ImportValue"),
            ("!Ref Issuer", "!Ref Needed", "Needed"),
            ("!Ref Issuer", "!Ref Nobody", "Nobody"),
            ("AllowMethods: [GET", "AllowWhatever: [GET", "AllowWhatever"),
            ("https://a.example", "https://*.example", "AllowOrigins"),
            ("MaxAge: 600", "MaxAge: soon", "MaxAge"),
            ("ApiId: !Ref Api", "ApiId: !Ref Table", "ApiId"),
            ("Conditions:", "Mappings: { A: 1 }\nConditions:", "Mappings"),
            ("Outputs:", "Hooks: {}\nOutputs:", "Hooks"),
            ("DefaultRouteSettings:", "StageName: v1\n      DefaultRouteSettings:", "StageName"),
        ];
        for (replaced, by, named) in cases {
            let problem = problem(replaced, by);
            assert!(problem.contains(named), "{by}: {problem}");
        }
    }

    #[test]
    fn an_error_says_where_it_is() {
        let problem = problem("MINUTES: !Ref Minutes", "MINUTES: !Ref Nobody");
        assert!(problem.starts_with("Globals.Function.Environment: "), "{problem}");
    }

    #[test]
    fn a_route_that_is_there_twice_is_an_error() {
        let event = "Type: HttpApi\n          Properties: { ApiId: !Ref Api, Method: POST, Path: '/x' }";
        let twice = format!("Events:\n        A:\n          {event}\n        B:\n          {event}");
        let start = SMALL.find("Events:").unwrap();
        let end = SMALL.find("  Absent:").unwrap();
        let text = format!("{}{twice}\n{}", &SMALL[..start], &SMALL[end..]);
        let problem = Template::parse(&text, &[]).unwrap_err().to_string();
        assert!(problem.contains("POST /x is there twice"), "{problem}");
    }
}
