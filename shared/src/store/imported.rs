//! The imported refresh tokens in the table.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};

use super::item::{self, Item, Reader, number, text};
use super::session::{NOT_EVIDENCE, from_session};
use super::{Store, StoreError, delete_member, put_member, refused, update_member};
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::imported::{Exchange, ImportedToken};
use crate::session::{Hash, Session};
use crate::write::Write;

/// Why an imported token was not exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotExchanged {
    /// The token or its user has changed since it was read.
    Raced,
    /// The session to displace is gone, or was ended by reuse.
    DisplacedGone,
}

impl Store {
    /// Reads an imported token with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`] when the
    /// item cannot be read.
    pub async fn imported_token(&self, name: Hash) -> Result<Option<ImportedToken>, StoreError> {
        self.get(item::imported_key(&name)).await?.as_ref().map(|item| to_imported(item, name)).transpose()
    }

    /// Writes an imported token. [`Write::Refused`] when it was imported before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn put_imported_token(&self, token: &ImportedToken) -> Result<Write, StoreError> {
        let put = self.put(from_imported(token)).condition_expression("attribute_not_exists(pk)");
        Ok(super::without_member(self.transact(vec![put_member(put)]).await?))
    }

    /// Exchanges an imported token for `session`, whose secret is `sealed`, and deletes
    /// `displaced`, in one transaction, if neither the token nor its user has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn exchange_imported_token(
        &self,
        token: &ImportedToken,
        session: &Session,
        sealed: &[u8],
        displaced: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Write<(), NotExchanged>, StoreError> {
        let exchanged = self
            .update(item::imported_key(&token.name))
            .condition_expression("user_id = :user AND attribute_not_exists(session_id) AND expires_at > :now")
            .update_expression("SET session_id = :session, sealed = :sealed, expires_at = :expires_at")
            .expression_attribute_values(":user", text(token.user_id.to_string()))
            .expression_attribute_values(":now", number(now.seconds()))
            .expression_attribute_values(":session", text(session.id.to_string()))
            .expression_attribute_values(":sealed", AttributeValue::B(Blob::new(sealed)))
            .expression_attribute_values(":expires_at", number(token.forgotten_at(now).seconds()));
        let user = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(item::user_key(token.user_id)))
            .condition_expression("epoch = :epoch AND is_active = :true")
            .expression_attribute_values(":epoch", number(token.epoch))
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .build()
            .map(|check| TransactWriteItem::builder().condition_check(check).build())
            .map_err(|_| refused("ConditionCheck"));
        let mut members = vec![update_member(exchanged), user, put_member(self.put(from_session(session)))];
        members.extend(displaced.map(|displaced| {
            let delete = self.delete(item::session_key(token.user_id, displaced));
            delete_member(delete.condition_expression(format!("attribute_exists(pk) AND {NOT_EVIDENCE}")))
        }));
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(3) => Write::Refused(NotExchanged::DisplacedGone),
            Write::Refused(_) => Write::Refused(NotExchanged::Raced),
        })
    }
}

fn from_imported(token: &ImportedToken) -> Item {
    let mut item = item::imported_key(&token.name);
    item.extend([
        ("user_id".into(), text(token.user_id.to_string())),
        ("epoch".into(), number(token.epoch)),
        ("created_at".into(), number(token.login.seconds())),
        ("expires_at".into(), number(token.expires_at.seconds())),
    ]);
    if let Some(Exchange { session_id, sealed }) = &token.exchange {
        item.insert("session_id".into(), text(session_id.to_string()));
        item.insert("sealed".into(), AttributeValue::B(Blob::new(sealed.as_slice())));
    }
    item
}

pub(super) fn to_imported(item: &Item, name: Hash) -> Result<ImportedToken, StoreError> {
    let item = Reader(item);
    let session_id = item.optional("session_id", |value| SessionId::parse(value.as_s().ok()?))?;
    let exchange = session_id.map(|session_id| {
        let sealed = item.get("sealed")?.as_b().map_err(|_| StoreError::Corrupt("sealed"))?;
        Ok(Exchange { session_id, sealed: sealed.as_ref().to_vec() })
    });
    Ok(ImportedToken {
        name,
        user_id: UserId::parse(item.text("user_id")?).ok_or(StoreError::Corrupt("user_id"))?,
        epoch: item.number("epoch")?,
        login: Timestamp::from_seconds(item.number("created_at")?),
        expires_at: Timestamp::from_seconds(item.number("expires_at")?),
        exchange: exchange.transpose()?,
    })
}
