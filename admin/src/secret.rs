//! The stack's secret in Secrets Manager. It is changed only if it is still as it was
//! read, so that of two operators at once, one is told to run the command again.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::Tag;
use freshkey::{Timestamp, entropy};
use secrecy::{ExposeSecret, SecretString};

use crate::failure::Failure;
use crate::ring::History;

/// The label of the version that the functions read.
const CURRENT: &str = "AWSCURRENT";
/// The label of the version that was current before.
const PREVIOUS: &str = "AWSPREVIOUS";
/// The label of a new version until it is current. A version cannot be made without one.
const NEXT: &str = "freshkey-next";
/// The beginning of the name of a key's tag.
const TAG: &str = "freshkey:key:";

/// The secret of a stack.
pub struct Secret {
    client: Client,
    arn: String,
}

/// The secret as it was read.
pub struct Held {
    /// The keys.
    pub text: SecretString,
    /// What is known about keys, by their names. Some of them may be gone.
    pub histories: BTreeMap<String, History>,
    /// When the secret was last changed, or later.
    pub changed_at: Timestamp,
    version: String,
}

impl Secret {
    /// Returns the secret with this ARN.
    pub fn new(aws: &SdkConfig, arn: &str) -> Self {
        Self { client: Client::new(aws), arn: arn.to_owned() }
    }

    /// Reads the secret.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when Secrets Manager cannot be asked, or the secret holds no text.
    pub async fn read(&self, now: Timestamp) -> Result<Held, Failure> {
        let value = self.client.get_secret_value().secret_id(&self.arn).send().await;
        let value = value.map_err(|error| Failure::of_call("secretsmanager:GetSecretValue", &error))?;
        let no_text = || Failure::refused("secret_unusable", "The secret holds no text.");
        let text = value.secret_string.ok_or_else(no_text)?.into();
        // This is asked for second, so that the change is no earlier than that of the text.
        let described = self.describe().await?;
        let changed_at = described.last_changed_date().and_then(|date| date.to_millis().ok());
        let history = |tag: &Tag| Some((tag.key()?.strip_prefix(TAG)?.to_owned(), History::parse(tag.value()?)));
        Ok(Held {
            text,
            histories: described.tags().iter().filter_map(history).collect(),
            changed_at: changed_at.map_or(now, Timestamp::from_millis),
            version: value.version_id.unwrap_or_default(),
        })
    }

    /// Notes what is known about a key.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when it cannot be noted.
    pub async fn note(&self, name: &str, history: &History) -> Result<(), Failure> {
        let tag = Tag::builder().key(format!("{TAG}{name}")).value(history.to_string()).build();
        let noted = self.client.tag_resource().secret_id(&self.arn).tags(tag).send().await;
        noted.map(drop).map_err(|error| Failure::of_call("secretsmanager:TagResource", &error))
    }

    /// Forgets what is known about these keys.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when it cannot be forgotten.
    pub async fn forget(&self, names: &[&str]) -> Result<(), Failure> {
        if names.is_empty() {
            return Ok(());
        }
        let tags = names.iter().map(|name| format!("{TAG}{name}")).collect();
        let forgotten = self.client.untag_resource().secret_id(&self.arn).set_tag_keys(Some(tags)).send().await;
        forgotten.map(drop).map_err(|error| Failure::of_call("secretsmanager:UntagResource", &error))
    }

    /// Replaces the secret, if it is still as it was read.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when somebody else has changed it, or it cannot be replaced.
    pub async fn replace(&self, held: &Held, text: &SecretString) -> Result<(), Failure> {
        let next = format!("{:032x}", u128::from_be_bytes(entropy::bytes()));
        let put = self.client.put_secret_value().secret_id(&self.arn).client_request_token(&next);
        let put = put.secret_string(text.expose_secret()).version_stages(NEXT).send().await;
        let replaced = match put {
            Ok(_) => self.make_current(&next, &held.version).await,
            Err(error) => Err(Failure::of_call("secretsmanager:PutSecretValue", &error)),
        };
        // Secrets Manager deletes a version without a label, but none within 24 hours, so an
        // operator loses nothing to another one who has taken the label over meanwhile.
        // (AWS Secrets Manager API Reference, "PutSecretValue".) If this call fails, the next
        // change takes it over.
        let label = self.client.update_secret_version_stage().secret_id(&self.arn).version_stage(NEXT);
        let _ = label.remove_from_version_id(&next).send().await;
        replaced
    }

    async fn make_current(&self, next: &str, read: &str) -> Result<(), Failure> {
        let label = self.client.update_secret_version_stage().secret_id(&self.arn).version_stage(CURRENT);
        let Err(error) = label.remove_from_version_id(read).move_to_version_id(next).send().await else {
            return Ok(());
        };
        // The answer to an attempt that succeeded may have been lost, and somebody else may
        // have changed the secret once more.
        let described = self.describe().await?;
        let labels = described.version_ids_to_stages().and_then(|versions| versions.get(next));
        if labels.is_some_and(|labels| labels.iter().any(|label| [CURRENT, PREVIOUS].contains(&label.as_str()))) {
            return Ok(());
        }
        // The label is not on the version from which it should be taken. (AWS Secrets Manager
        // API Reference, "UpdateSecretVersionStage".)
        Err(match error.code() {
            Some("InvalidParameterException") => Failure::refused(
                "secret_changed",
                "Somebody else has just changed the secret, so it was left as it is. Run the command again.",
            ),
            _ => Failure::of_call("secretsmanager:UpdateSecretVersionStage", &error),
        })
    }

    async fn describe(&self) -> Result<DescribeSecretOutput, Failure> {
        let described = self.client.describe_secret().secret_id(&self.arn).send().await;
        described.map_err(|error| Failure::of_call("secretsmanager:DescribeSecret", &error))
    }
}
