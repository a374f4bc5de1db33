//! Reads the table.

use serde::Deserialize;

use super::intrinsic::Scope;
use super::resource::{Resources, TABLE};
use super::{Error, Table};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TableProperties {
    key_schema: Vec<KeyElement>,
    attribute_definitions: Vec<AttributeDefinition>,
    time_to_live_specification: Option<TimeToLive>,
    stream_specification: Option<StreamSpecification>,
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

/// Every view has the keys, and the local system reads no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StreamSpecification {
    #[serde(rename = "StreamViewType")]
    _view: String,
}

/// Reads the only table.
///
/// # Errors
///
/// There is not exactly one table, or it has a property that is not supported.
pub(super) fn table(resources: &Resources, scope: &Scope) -> Result<Table, Error> {
    let (logical, resource) = resources.only(TABLE)?;
    let at = format!("Resources.{logical}.Properties");
    let properties: TableProperties = scope.read(&at, &resource.properties, TABLE_WITHOUT_EFFECT)?;
    let keys = properties.key_schema.into_iter().map(|key| (key.attribute_name, key.key_type));
    let attributes = properties.attribute_definitions.into_iter();
    let ttl = properties.time_to_live_specification.filter(|ttl| ttl.enabled);
    Ok(Table {
        name: logical.to_owned(),
        keys: keys.collect(),
        attributes: attributes.map(|attribute| (attribute.attribute_name, attribute.attribute_type)).collect(),
        ttl: ttl.map(|ttl| ttl.attribute_name),
        has_stream: properties.stream_specification.is_some(),
    })
}
