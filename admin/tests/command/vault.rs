//! Secrets Manager, with one secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use freshkey::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};
use tokio::sync::Barrier;

/// The secret, as the template generates it.
pub const GENERATED: &str =
    r#"{"signing":"k1","refresh":"k1","k1":"V7mQ2sXw9LrTb4KcZ8nYd3HgJ6pFa1eUo5iRtWqSxNvBmCzLkPyDhGfAjEu0IwOr"}"#;

/// The most tags of a secret.
const MOST_TAGS: usize = 50;

/// A secret.
pub struct Vault {
    /// The text and the labels of each version.
    pub versions: BTreeMap<String, (String, BTreeSet<String>)>,
    pub tags: BTreeMap<String, String>,
    /// When the secret was changed.
    pub changed_at: Timestamp,
    /// What reads of the secret wait for before they are answered.
    pub gate: Option<Arc<Barrier>>,
    /// Whether the next move of AWSCURRENT is done, and answered with a fault.
    pub loses_answer: bool,
}

impl Default for Vault {
    fn default() -> Self {
        let labels = BTreeSet::from(["AWSCURRENT".to_owned()]);
        let versions = [("first".to_owned(), (GENERATED.to_owned(), labels))].into();
        Self { versions, tags: BTreeMap::new(), changed_at: SystemClock.now(), gate: None, loses_answer: false }
    }
}

impl Vault {
    /// The secret that the functions read.
    pub fn current(&self) -> Value {
        serde_json::from_str(&self.versions[&self.holder("AWSCURRENT").unwrap()].0).unwrap()
    }

    /// Replaces the secret by hand.
    pub fn edit(&mut self, secret: &Value) {
        let current = self.holder("AWSCURRENT").unwrap();
        self.versions.get_mut(&current).unwrap().0 = secret.to_string();
        self.changed_at = SystemClock.now();
    }

    /// The labels that are on versions.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<_> = self.versions.values().flat_map(|(_, labels)| labels).map(String::as_str).collect();
        labels.sort_unstable();
        labels
    }

    /// Makes everything that has happened earlier by `time`.
    pub fn pass(&mut self, time: Duration) {
        let earlier = |field: &str| {
            let (name, value) = field.split_once('=').unwrap();
            let moved = DateTime::from_str(value, Format::DateTime).map(|at| Timestamp::from_seconds(at.secs()) - time);
            format!("{name}={}", moved.map_or(value.to_owned(), |at| at.to_string()))
        };
        for value in self.tags.values_mut() {
            *value = value.split(' ').map(earlier).collect::<Vec<_>>().join(" ");
        }
        self.changed_at = self.changed_at - time;
    }

    /// Answers a call. An error is the code.
    pub fn answer(&mut self, operation: &str, body: &Value) -> Result<Value, &'static str> {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        match operation {
            "GetSecretValue" => {
                let current = self.holder("AWSCURRENT").unwrap();
                let (secret, labels) = &self.versions[&current];
                return Ok(json!({ "VersionId": current, "SecretString": secret, "VersionStages": labels }));
            }
            "DescribeSecret" => {
                let tags = self.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
                let stages = self.versions.iter().filter(|(_, (_, labels))| !labels.is_empty());
                let stages: BTreeMap<_, _> = stages.map(|(id, (_, labels))| (id, labels)).collect();
                return Ok(json!({
                    "Tags": tags.collect::<Vec<_>>(), "VersionIdsToStages": stages,
                    "LastChangedDate": self.changed_at.seconds(),
                }));
            }
            "PutSecretValue" => {
                let id = text("ClientRequestToken").unwrap();
                assert!((32..=64).contains(&id.len()), "{id}");
                let [label] = body["VersionStages"].as_array().unwrap().as_slice() else { panic!("one label") };
                let label = label.as_str().unwrap();
                self.take(label);
                let version = (text("SecretString").unwrap(), BTreeSet::from([label.to_owned()]));
                self.versions.insert(id, version);
            }
            "UpdateSecretVersionStage" => {
                let label = text("VersionStage").unwrap();
                let (from, to) = (text("RemoveFromVersionId"), text("MoveToVersionId"));
                if (to.is_none() && label == "AWSCURRENT") || self.holder(&label) != from {
                    return Err("InvalidParameterException");
                }
                self.take(&label);
                if let Some(to) = to {
                    if label == "AWSCURRENT" {
                        self.take("AWSPREVIOUS");
                        self.versions.get_mut(&from.unwrap()).unwrap().1.insert("AWSPREVIOUS".into());
                    }
                    let is_lost = label == "AWSCURRENT" && std::mem::take(&mut self.loses_answer);
                    self.versions.get_mut(&to).ok_or("ResourceNotFoundException")?.1.insert(label);
                    if is_lost {
                        return Err("InternalServiceError");
                    }
                }
            }
            "TagResource" => {
                for tag in body["Tags"].as_array().unwrap() {
                    let text = |name: &str| tag[name].as_str().unwrap().to_owned();
                    let (key, value) = (text("Key"), text("Value"));
                    let is_allowed = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
                    if key.len() > 128 || value.len() > 256 || ![&key, &value].iter().all(|s| s.chars().all(is_allowed))
                    {
                        return Err("InvalidParameterException");
                    }
                    self.tags.insert(key, value);
                }
                if self.tags.len() > MOST_TAGS {
                    return Err("InvalidParameterException");
                }
            }
            "UntagResource" => {
                for key in body["TagKeys"].as_array().unwrap() {
                    self.tags.remove(key.as_str().unwrap());
                }
            }
            other => panic!("{other}"),
        }
        self.changed_at = SystemClock.now();
        Ok(json!({}))
    }

    /// The version with this label.
    fn holder(&self, label: &str) -> Option<String> {
        self.versions.iter().find(|(_, (_, labels))| labels.contains(label)).map(|(id, _)| id.clone())
    }

    fn take(&mut self, label: &str) {
        self.versions.values_mut().for_each(|(_, labels)| labels.retain(|one| one != label));
    }
}
