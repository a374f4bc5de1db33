//! The template's resources and their types.

use serde::Deserialize;
use serde_norway::value::{Mapping, Value};

use super::Error;
use super::intrinsic::Scope;
use super::shape::shape;

pub(super) const EVENT_SOURCE_MAPPING: &str = "AWS::Lambda::EventSourceMapping";
pub(super) const FUNCTION: &str = "AWS::Serverless::Function";
pub(super) const HTTP_API: &str = "AWS::Serverless::HttpApi";
pub(super) const TABLE: &str = "AWS::DynamoDB::Table";

/// Services whose resources do not affect the answer to a request.
const TYPES_WITHOUT_EFFECT: &[&str] = &[
    "AWS::ApiGatewayV2::",
    "AWS::CloudWatch::",
    "AWS::IAM::",
    "AWS::KMS::",
    "AWS::Logs::",
    "AWS::Route53::",
    "AWS::SNS::",
    "AWS::SecretsManager::",
];

const MEMBERS_WITHOUT_EFFECT: &[&str] = &["DeletionPolicy", "DependsOn", "Metadata", "UpdateReplacePolicy"];

/// A resource.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Resource {
    r#type: String,
    condition: Option<String>,
    /// Its properties, before intrinsic functions are evaluated.
    #[serde(default = "none")]
    pub properties: Value,
}

fn none() -> Value {
    Value::Mapping(Mapping::new())
}

/// The resources whose conditions are true, each with its logical name.
pub(super) struct Resources(Vec<(String, Resource)>);

impl Resources {
    /// Reads the section `Resources`.
    ///
    /// # Errors
    ///
    /// A resource is of a type, or has a member, that is not supported; or its
    /// condition cannot be evaluated.
    pub fn new(section: &Mapping, scope: &Scope) -> Result<Self, Error> {
        let mut resources = Vec::new();
        for (name, value) in section {
            let name = name.as_str().unwrap_or_default().to_owned();
            let at = format!("Resources.{name}");
            let resource: Resource = shape(&at, value, MEMBERS_WITHOUT_EFFECT)?;
            let is_known = [EVENT_SOURCE_MAPPING, FUNCTION, HTTP_API, TABLE].contains(&resource.r#type.as_str())
                || TYPES_WITHOUT_EFFECT.iter().any(|prefix| resource.r#type.starts_with(prefix));
            if !is_known {
                return Err(Error::new(at, format!("the type {} is not supported", resource.r#type)));
            }
            let exists = resource.condition.as_deref().map_or(Ok(true), |name| scope.holds(name));
            if exists.map_err(|problem| Error::new(at, problem))? {
                resources.push((name, resource));
            }
        }
        Ok(Self(resources))
    }

    /// Returns the resources of a type, each with its logical name.
    pub fn of_type(&self, r#type: &str) -> impl Iterator<Item = (&str, &Resource)> {
        let of_type = self.0.iter().filter(move |(_, resource)| resource.r#type == r#type);
        of_type.map(|(name, resource)| (name.as_str(), resource))
    }

    /// Returns the only resource of a type, with its logical name.
    ///
    /// # Errors
    ///
    /// There is no resource of the type, or more than one.
    pub fn only(&self, r#type: &str) -> Result<(&str, &Resource), Error> {
        let mut found = self.of_type(r#type);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(Error::new("Resources", format!("there must be exactly one {type}"))),
        }
    }
}
