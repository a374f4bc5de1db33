//! The credentials in the table.

use super::item::{self, Item, Reader, number, text};
use super::{Store, StoreError, updated};
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::password::PasswordHash;
use crate::user::Credential;
use crate::write::Write;

impl Store {
    /// Reads the credential of an address with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when the item cannot be read.
    pub async fn credential(&self, email: &Email) -> Result<Option<Credential>, StoreError> {
        self.get(item::credential_key(email)).await?.as_ref().map(to_credential).transpose()
    }

    /// Replaces a password hash with another hash of the same password.
    /// [`Write::Refused`] when the stored hash is no longer `old`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn rehash(&self, email: &Email, old: &PasswordHash, new: &PasswordHash) -> Result<Write, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::credential_key(email)))
            .condition_expression("password_hash = :old")
            .update_expression("SET password_hash = :new")
            .expression_attribute_values(":old", text(old.as_str()))
            .expression_attribute_values(":new", text(new.as_str()))
            .send()
            .await;
        updated(result)
    }
}

/// Returns a credential as an item.
pub(super) fn from_credential(email: &Email, credential: &Credential) -> Item {
    let mut item = item::credential_key(email);
    item.extend([
        ("user_id".into(), text(credential.user_id.to_string())),
        ("password_hash".into(), text(credential.password_hash.as_str())),
        ("epoch".into(), number(credential.epoch)),
        ("devices_since".into(), number(credential.devices_since.seconds())),
        ("password_changed_at".into(), number(credential.password_changed_at.seconds())),
    ]);
    item
}

/// Reads a credential from an item.
fn to_credential(item: &Item) -> Result<Credential, StoreError> {
    let item = Reader(item);
    Ok(Credential {
        user_id: UserId::parse(item.text("user_id")?).ok_or(StoreError::Corrupt("user_id"))?,
        password_hash: PasswordHash::stored(item.text("password_hash")?.to_owned()),
        epoch: item.number("epoch")?,
        devices_since: Timestamp::from_seconds(item.number("devices_since")?),
        password_changed_at: Timestamp::from_seconds(item.number("password_changed_at")?),
    })
}
