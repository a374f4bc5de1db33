//! Reads the event source mappings: which functions the table's stream invokes.

use serde::Deserialize;
use serde_json::json;

use super::intrinsic::{Scope, stream_arn};
use super::resource::{EVENT_SOURCE_MAPPING, Resources};
use super::shape::Text;
use super::{Error, Function, Table};

const MAPPING_WITHOUT_EFFECT: &[&str] = &[
    "BatchSize",
    "BisectBatchOnFunctionError",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "ParallelizationFactor",
    "Tags",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct MappingProperties {
    function_name: Text,
    event_source_arn: Text,
    filter_criteria: FilterCriteria,
    starting_position: Text,
    maximum_retry_attempts: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FilterCriteria {
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Filter {
    pattern: String,
}

/// Reads the event source mappings into the functions that they invoke.
///
/// # Errors
///
/// A mapping is not one from the table's stream to a function, of new items whose
/// partition key begins with some text, without retries.
pub(super) fn connect(
    functions: &mut [Function],
    table: &Table,
    resources: &Resources,
    scope: &Scope,
) -> Result<(), Error> {
    for (logical, resource) in resources.of_type(EVENT_SOURCE_MAPPING) {
        let at = format!("Resources.{logical}.Properties");
        let fault = |problem: &str| Error::new(&at, problem);
        let mapping: MappingProperties = scope.read(&at, &resource.properties, MAPPING_WITHOUT_EFFECT)?;
        if mapping.event_source_arn.0 != stream_arn(&table.name) || !table.has_stream {
            return Err(fault("EventSourceArn must be the stream of the table"));
        }
        if mapping.starting_position.0 != "LATEST" || mapping.maximum_retry_attempts.0 != "0" {
            return Err(fault("StartingPosition must be LATEST, and MaximumRetryAttempts 0"));
        }
        let function = functions.iter_mut().find(|function| function.logical == mapping.function_name.0);
        let function = function.ok_or_else(|| fault("FunctionName must refer to a function"))?;
        if function.wakes_on.is_some() {
            return Err(fault("the function has another mapping"));
        }
        let [Filter { pattern }] = &mapping.filter_criteria.filters[..] else {
            return Err(fault("FilterCriteria must have exactly one filter"));
        };
        let prefix = prefix(pattern, table).ok_or_else(|| {
            fault("the filter must be of INSERT events, by a prefix of the partition key: no other is supported")
        })?;
        function.wakes_on = Some(prefix);
    }
    Ok(())
}

/// Returns the prefix in a filter of new items by the beginning of their partition key.
fn prefix(pattern: &str, table: &Table) -> Option<String> {
    let pattern: serde_json::Value = serde_json::from_str(pattern).ok()?;
    let (partition_key, _) = table.keys.iter().find(|(_, kind)| kind == "HASH")?;
    let prefix = pattern.pointer(&format!("/dynamodb/Keys/{partition_key}/S/0/prefix"))?.as_str()?;
    let expected = json!({
        "eventName": ["INSERT"],
        "dynamodb": { "Keys": { partition_key: { "S": [{ "prefix": prefix }] } } },
    });
    (pattern == expected).then(|| prefix.to_owned())
}
