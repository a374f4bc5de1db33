//! Evaluates the intrinsic functions of CloudFormation that `template.yaml` uses, in
//! the short form (`!Ref`).
//!
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html>

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_norway::value::{Mapping, Value};

use super::Error;
use super::shape::{Text, shape};

/// The type of resources whose `Ref` is their ARN.
const SECRET: &str = "AWS::SecretsManager::Secret";

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Parameter {
    r#type: String,
    default: Option<Text>,
}

/// What an intrinsic function may refer to.
pub(super) struct Scope {
    parameters: BTreeMap<String, Value>,
    conditions: BTreeMap<String, Value>,
    /// What `Ref` returns for each resource.
    resources: BTreeMap<String, String>,
}

impl Scope {
    /// Returns the scope of a template that is deployed with the parameters in `given`.
    ///
    /// # Errors
    ///
    /// A given parameter is not declared, or a parameter has an unsupported type.
    pub fn new(
        declared: &BTreeMap<String, Value>,
        conditions: BTreeMap<String, Value>,
        resources: &Mapping,
        given: &[(&str, &str)],
    ) -> Result<Self, Error> {
        if let Some((name, _)) = given.iter().find(|(name, _)| !declared.contains_key(*name)) {
            return Err(Error::new("Parameters", format!("there is no parameter {name}")));
        }
        let mut parameters = BTreeMap::new();
        for (name, declaration) in declared {
            let given = given.iter().find(|(given, _)| given == name).map(|(_, value)| *value);
            if let Some(value) = parameter(&format!("Parameters.{name}"), declaration, given)? {
                parameters.insert(name.clone(), value);
            }
        }
        let resources = resources.iter().filter_map(|(name, resource)| {
            let name = name.as_str()?;
            let is_secret = resource.get("Type").and_then(Value::as_str) == Some(SECRET);
            Some((name.to_owned(), if is_secret { arn(name) } else { name.to_owned() }))
        });
        Ok(Self { parameters, conditions, resources: resources.collect() })
    }

    /// Evaluates the intrinsic functions in `value`, then reads it with [`shape`].
    ///
    /// # Errors
    ///
    /// [`shape`] refuses the value, or an intrinsic function is not supported, has
    /// wrong arguments, or refers to something that does not exist.
    pub fn read<T: DeserializeOwned>(&self, at: &str, value: &Value, without_effect: &[&str]) -> Result<T, Error> {
        let value: Value = shape(at, value, without_effect)?;
        let value = self.evaluate(&value).map_err(|problem| Error::new(at, problem))?;
        shape(at, &value.unwrap_or_default(), &[])
    }

    /// Whether `condition` is true.
    ///
    /// # Errors
    ///
    /// There is no such condition, or it cannot be evaluated.
    pub fn holds(&self, condition: &str) -> Result<bool, String> {
        let rule = self.conditions.get(condition);
        let rule = rule.ok_or_else(|| format!("there is no condition {condition}"))?;
        Ok(self.text(rule)? == "true")
    }

    /// Evaluates the intrinsic functions in `value`. Returns `None` for
    /// `AWS::NoValue`, which removes the member or element that has this value.
    fn evaluate(&self, value: &Value) -> Result<Option<Value>, String> {
        match value {
            Value::Tagged(tagged) => self.call(tagged.tag.to_string().trim_start_matches('!'), &tagged.value),
            Value::Mapping(members) => {
                let mut evaluated = Mapping::new();
                for (key, member) in members {
                    if let Some(long) = key.as_str().filter(|key| *key == "Ref" || key.starts_with("Fn::")) {
                        return Err(format!("{long} must be in its short form, !{}", long.trim_start_matches("Fn::")));
                    }
                    if let Some(member) = self.evaluate(member)? {
                        evaluated.insert(key.clone(), member);
                    }
                }
                Ok(Some(Value::Mapping(evaluated)))
            }
            Value::Sequence(items) => {
                let items = items.iter().filter_map(|item| self.evaluate(item).transpose());
                items.collect::<Result<_, _>>().map(|items| Some(Value::Sequence(items)))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>, String> {
        let value = match name {
            "Ref" => return self.refer(&self.text(argument)?),
            "If" => {
                let [condition, yes, no] = arguments(name, argument)?;
                return self.evaluate(if self.holds(&self.text(condition)?)? { yes } else { no });
            }
            "Sub" => Value::String(self.substitute(&self.text(argument)?)?),
            "GetAtt" => Value::String(self.attribute(&self.text(argument)?)?),
            "Join" => {
                let [separator, list] = arguments(name, argument)?;
                Value::String(self.texts(list)?.join(&self.text(separator)?))
            }
            "Equals" => {
                let [left, right] = arguments(name, argument)?;
                Value::Bool(self.text(left)? == self.text(right)?)
            }
            "Not" => {
                let [condition] = arguments(name, argument)?;
                Value::Bool(self.text(condition)? != "true")
            }
            other => return Err(format!("the function !{other} is not supported")),
        };
        Ok(Some(value))
    }

    fn refer(&self, name: &str) -> Result<Option<Value>, String> {
        let text = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::StackName" => "local",
            name if self.parameters.contains_key(name) => return Ok(self.parameters.get(name).cloned()),
            name => {
                let resource = self.resources.get(name);
                resource.ok_or_else(|| format!("{name} is neither a resource nor a parameter with a value"))?
            }
        };
        Ok(Some(text.into()))
    }

    fn attribute(&self, path: &str) -> Result<String, String> {
        match path.split_once('.') {
            Some((name, "Arn")) if self.resources.contains_key(name) => Ok(arn(name)),
            Some((name, "StreamArn")) if self.resources.contains_key(name) => Ok(stream_arn(name)),
            _ => Err(format!("the attribute {path} is not supported")),
        }
    }

    fn substitute(&self, pattern: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("!Sub has a ${ without a }")?;
            text.push_str(before);
            if name.contains('.') {
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

    fn text(&self, value: &Value) -> Result<String, String> {
        let value = self.evaluate(value)?.unwrap_or_default();
        Text::try_from(value).map(|Text(text)| text)
    }

    fn texts(&self, value: &Value) -> Result<Vec<String>, String> {
        let value = self.evaluate(value)?.unwrap_or_default();
        value.as_sequence().ok_or("expected a list")?.iter().map(|item| self.text(item)).collect()
    }
}

/// Returns the given value of a parameter, or its default if it has one.
fn parameter(at: &str, declaration: &Value, given: Option<&str>) -> Result<Option<Value>, Error> {
    let parameter: Parameter = shape(at, declaration, PARAMETER_WITHOUT_EFFECT)?;
    let default = parameter.default.map(|Text(default)| default);
    let Some(text) = given.map(str::to_owned).or(default) else { return Ok(None) };
    Ok(Some(match parameter.r#type.as_str() {
        "String" | "Number" => Value::String(text),
        "CommaDelimitedList" => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
        }
        other => return Err(Error::new(at, format!("the type {other} is not supported"))),
    }))
}

fn arguments<'a, const N: usize>(name: &str, argument: &'a Value) -> Result<[&'a Value; N], String> {
    let items = argument.as_sequence().map(|items| items.iter().collect::<Vec<_>>());
    items.and_then(|items| items.try_into().ok()).ok_or_else(|| format!("!{name} takes a list of {N}"))
}

fn arn(name: &str) -> String {
    format!("arn:aws:local:local:000000000000:{name}")
}

/// Returns what the attribute `StreamArn` of the table `name` is.
pub(super) fn stream_arn(name: &str) -> String {
    arn(name) + "/stream"
}
