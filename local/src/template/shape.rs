//! Turns YAML values into types. A member is known, or has no effect on the local
//! system, or is an error.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_norway::value::Value;

use super::Error;

/// A scalar as CloudFormation sees it: `60` and `"60"` are the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Text(pub String);

impl TryFrom<Value> for Text {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(boolean) => Ok(Self(boolean.to_string())),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                Err("expected a string, a number or a boolean".into())
            }
        }
    }
}

/// Reads `value`, which is at `at` in the template, as a `T`. Leaves out the
/// members in `without_effect`.
///
/// # Errors
///
/// A member is missing, of the wrong type, or in neither `T` nor `without_effect`.
pub(super) fn shape<T: DeserializeOwned>(at: &str, value: &Value, without_effect: &[&str]) -> Result<T, Error> {
    let mut value = value.clone();
    if let Some(members) = value.as_mapping_mut() {
        members.retain(|key, _| !key.as_str().is_some_and(|key| without_effect.contains(&key)));
    }
    serde_norway::from_value(value).map_err(|error| Error::new(at, error))
}
