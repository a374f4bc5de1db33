//! Evaluates the intrinsic functions of CloudFormation that `template.yaml` uses, in
//! the short form (`!Ref`).
//!
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html>

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_norway::value::{Mapping, Value};

use super::Error;
use super::resource::FUNCTION;
use super::shape::{Text, shape};

/// The type of resources whose `Ref` is their ARN.
const SECRET: &str = "AWS::SecretsManager::Secret";

/// What the pseudo parameters are here.
const PSEUDO: [(&str, &str); 4] = [
    ("AWS::AccountId", "000000000000"),
    ("AWS::Partition", "aws"),
    ("AWS::Region", "local"),
    ("AWS::StackName", "local"),
];

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
    /// Every resource, and the role that SAM adds to each function.
    resources: BTreeMap<String, Referable>,
}

/// A resource that others may refer to.
struct Referable {
    /// What `Ref` returns.
    reference: String,
    /// The condition under which the resource exists.
    condition: Option<String>,
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
        let mut referable = BTreeMap::new();
        for (name, resource) in resources {
            let name = name.as_str().unwrap_or_default();
            let kind = resource.get("Type").and_then(Value::as_str);
            let condition = resource.get("Condition").and_then(Value::as_str).map(str::to_owned);
            let mut add = |name: String, reference: String| {
                referable.insert(name, Referable { reference, condition: condition.clone() });
            };
            add(name.into(), if kind == Some(SECRET) { arn(name) } else { name.into() });
            if kind == Some(FUNCTION) {
                add(format!("{name}Role"), format!("{name}Role"));
            }
        }
        Ok(Self { parameters, conditions, resources: referable })
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
            "Condition" => Value::Bool(self.holds(&self.text(argument)?)?),
            "Sub" => match argument.as_sequence() {
                Some(_) => {
                    let [pattern, values] = arguments(name, argument)?;
                    let values = values.as_mapping().ok_or("!Sub takes a text and a map")?;
                    Value::String(self.substitute(&self.text(pattern)?, values)?)
                }
                None => Value::String(self.substitute(&self.text(argument)?, &Mapping::new())?),
            },
            "GetAtt" => Value::String(self.attribute(&self.text(argument)?)?),
            "Join" => {
                let [separator, list] = arguments(name, argument)?;
                Value::String(self.texts(list)?.join(&self.text(separator)?))
            }
            "Split" => {
                let [separator, text] = arguments(name, argument)?;
                let (separator, text) = (self.text(separator)?, self.text(text)?);
                Value::Sequence(text.split(&separator).map(Value::from).collect())
            }
            "Equals" => {
                let [left, right] = arguments(name, argument)?;
                Value::Bool(self.text(left)? == self.text(right)?)
            }
            "Not" => {
                let [condition] = arguments(name, argument)?;
                Value::Bool(self.text(condition)? != "true")
            }
            "And" => Value::Bool(self.texts(argument)?.iter().all(|condition| condition == "true")),
            "Or" => Value::Bool(self.texts(argument)?.iter().any(|condition| condition == "true")),
            other => return Err(format!("the function !{other} is not supported")),
        };
        Ok(Some(value))
    }

    fn refer(&self, name: &str) -> Result<Option<Value>, String> {
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(value.clone()));
        }
        if let Some((_, value)) = PSEUDO.iter().find(|(pseudo, _)| *pseudo == name) {
            return Ok(Some((*value).into()));
        }
        // SAM's own attributes are referred to as well: `!Ref Api.Stage`.
        match name.split_once('.') {
            Some(_) => self.attribute(name).map(|attribute| Some(attribute.into())),
            None => Ok(Some(self.resource(name)?.reference.as_str().into())),
        }
    }

    /// Returns a resource that exists.
    fn resource(&self, name: &str) -> Result<&Referable, String> {
        let resource = self.resources.get(name);
        let resource = resource.ok_or_else(|| format!("{name} is neither a resource nor a parameter with a value"))?;
        match &resource.condition {
            Some(condition) if !self.holds(condition)? => Err(format!("{name} exists only with {condition}")),
            _ => Ok(resource),
        }
    }

    /// Returns an attribute of a resource: its ARN, that of its stream, or the path of
    /// any other.
    fn attribute(&self, path: &str) -> Result<String, String> {
        let (name, attribute) = path.split_once('.').ok_or_else(|| format!("{path} is not an attribute"))?;
        self.resource(name)?;
        Ok(match attribute {
            "Arn" => arn(name),
            "StreamArn" => stream_arn(name),
            _ => path.to_owned(),
        })
    }

    /// Replaces each `${name}` by its member of `values`, or by what it refers to.
    fn substitute(&self, pattern: &str, values: &Mapping) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("!Sub has a ${ without a }")?;
            text.push_str(before);
            let value = values.get(name).cloned().map_or_else(|| self.refer(name), |value| Ok(Some(value)));
            let value = value?.ok_or("!Sub cannot take AWS::NoValue")?;
            text.push_str(&self.text(&value)?);
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
