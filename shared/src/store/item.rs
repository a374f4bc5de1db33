//! Items: their keys, and how their attributes are written and read.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::StoreError;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::limit::Counter;
use crate::mail::MailId;
use crate::session::Hash;

/// An item, or its key.
pub type Item = HashMap<String, AttributeValue>;

/// The sort key of every user.
pub const PROFILE: &str = "PROFILE";
const CREDENTIAL: &str = "CREDENTIAL";
const COUNTER: &str = "COUNTER";
const PROOF: &str = "PROOF";
const IMPORTED: &str = "TOKEN";
/// The beginning of the partition key of every imported token.
pub const IMPORTED_PARTITION: &str = "IMPORTED#";
/// The beginning of the partition key of every mail.
pub const MAIL: &str = "MAIL#";
/// The beginning of the partition key of every proof.
pub const PROOF_PARTITION: &str = "PROOF#";
/// The beginning of the sort key of every session.
pub const SESSION: &str = "SESSION#";

/// Returns the partition key of a user and of the user's sessions.
pub fn partition(user: UserId) -> String {
    format!("USER#{user}")
}

/// Returns the key of a user.
pub fn user_key(user: UserId) -> Item {
    key(partition(user), PROFILE.into())
}

/// Returns the key of a session.
pub fn session_key(user: UserId, session: SessionId) -> Item {
    key(partition(user), format!("{SESSION}{session}"))
}

/// Returns the key of a credential.
pub fn credential_key(email: &Email) -> Item {
    key(format!("EMAIL#{}", email.key()), CREDENTIAL.into())
}

/// Returns the key of a counter.
pub fn counter_key(counter: &Counter) -> Item {
    key(format!("LIMIT#{}", counter.name), COUNTER.into())
}

/// Returns the partition key of a shard of the outbox.
pub fn shard(shard: u8) -> String {
    format!("{MAIL}{shard}")
}

/// Reads the shard of a mail.
pub fn to_shard(mail: &Item) -> Result<u8, StoreError> {
    let shard = Reader(mail).text("pk")?.strip_prefix(MAIL).and_then(|shard| shard.parse().ok());
    shard.ok_or(StoreError::Corrupt("pk"))
}

/// Returns the key of a mail.
pub fn mail_key(id: &MailId) -> Item {
    key(shard(id.shard), id.order.clone())
}

/// Returns the key of a proof. It has its own partition, so that no other read meets it.
pub fn proof_key(token_hash: &Hash) -> Item {
    key(format!("{PROOF_PARTITION}{}", URL_SAFE_NO_PAD.encode(token_hash.as_bytes())), PROOF.into())
}

/// Reads the hash of the token of a proof. Returns `None` for another item.
pub fn token_hash(proof: &Item) -> Option<Hash> {
    hash_after(PROOF_PARTITION, proof)
}

/// Reads the name of an imported token. Returns `None` for another item.
pub fn imported_name(token: &Item) -> Option<Hash> {
    hash_after(IMPORTED_PARTITION, token)
}

fn hash_after(prefix: &str, item: &Item) -> Option<Hash> {
    let hash = Reader(item).text("pk").ok()?.strip_prefix(prefix)?;
    Hash::from_bytes(&URL_SAFE_NO_PAD.decode(hash).ok()?)
}

/// Returns the key of an imported token.
pub fn imported_key(name: &Hash) -> Item {
    key(format!("{IMPORTED_PARTITION}{}", URL_SAFE_NO_PAD.encode(name.as_bytes())), IMPORTED.into())
}

fn key(pk: String, sk: String) -> Item {
    HashMap::from([("pk".into(), text(pk)), ("sk".into(), text(sk))])
}

/// Returns a string as an attribute.
pub fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// Returns a number as an attribute.
pub fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Returns a hash as an attribute.
pub fn hash(hash: &Hash) -> AttributeValue {
    AttributeValue::B(Blob::new(*hash.as_bytes()))
}

/// Reads a hash from an attribute.
pub fn to_hash(value: &AttributeValue) -> Option<Hash> {
    Hash::from_bytes(value.as_b().ok()?.as_ref())
}

/// Reads a moment from an attribute with its seconds.
pub fn to_seconds(value: &AttributeValue) -> Option<Timestamp> {
    value.as_n().ok()?.parse().ok().map(Timestamp::from_seconds)
}

/// Reads the attributes of an item. The error for an attribute that is missing or
/// malformed is [`StoreError::Corrupt`] with its name.
pub struct Reader<'a>(pub &'a Item);

impl<'a> Reader<'a> {
    /// Returns an attribute that must be present.
    pub fn get(&self, name: &'static str) -> Result<&'a AttributeValue, StoreError> {
        self.0.get(name).ok_or(StoreError::Corrupt(name))
    }

    /// Returns a string that must be present.
    pub fn text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        self.get(name)?.as_s().map(String::as_str).map_err(|_| StoreError::Corrupt(name))
    }

    /// Returns a number that must be present.
    pub fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        let number = self.get(name)?.as_n().map_err(|_| StoreError::Corrupt(name))?;
        number.parse().map_err(|_| StoreError::Corrupt(name))
    }

    /// Returns an attribute that may be missing.
    pub fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a AttributeValue) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.0.get(name).map(|value| read(value).ok_or(StoreError::Corrupt(name))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::SHARDS;

    #[test]
    fn the_key_of_a_mail_has_its_shard() {
        for shard in 0..SHARDS {
            let key = mail_key(&MailId { shard, order: "1".into() });
            assert_eq!(to_shard(&key).unwrap(), shard);
        }
    }
}
