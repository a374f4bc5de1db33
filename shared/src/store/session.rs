//! The sessions in the table.

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::item::{self, Item, Reader, SESSION, hash, number, text, to_hash, to_seconds};
use super::{Store, StoreError, delete_member, deleted, put_member, refused, unavailable, updated, without_member};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::mail::Mail;
use crate::session::{Attempt, EVIDENCE, Rotation, Session};
use crate::user::UserState;
use crate::write::Write;

/// The condition under which a session may be deleted: a session that reuse ended stays
/// as evidence.
pub(super) const NOT_EVIDENCE: &str = "attribute_not_exists(revoked_at)";

impl Store {
    /// Reads a session, dead or alive, with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when the item cannot be read.
    pub async fn session(&self, user: UserId, session: SessionId) -> Result<Option<Session>, StoreError> {
        self.get(item::session_key(user, session)).await?.as_ref().map(to_session).transpose()
    }

    /// Writes a new session and `notice`, and deletes `displaced` in the same transaction.
    /// Returns the session that was deleted; `None` when there was none to
    /// delete, because another login displaced it, or because reuse has ended it
    /// meanwhile, so that it stays as evidence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn open_session(
        &self,
        session: &Session,
        displaced: Option<SessionId>,
        notice: Option<&Mail>,
    ) -> Result<Option<SessionId>, StoreError> {
        let opened = || {
            let notice = notice.map(|notice| self.mail_member(notice));
            std::iter::once(put_member(self.put(from_session(session)))).chain(notice)
        };
        if let Some(displaced) = displaced {
            let key = item::session_key(session.user_id, displaced);
            let condition = format!("attribute_exists(pk) AND {NOT_EVIDENCE}");
            let delete = self.delete(key).condition_expression(condition);
            let members = opened().chain([delete_member(delete)]).collect();
            if self.transact(members).await? == Write::Done(()) {
                return Ok(Some(displaced));
            }
        }
        if notice.is_none() {
            self.put_new_session(session).await?;
        } else if self.transact(opened().collect()).await? != Write::Done(()) {
            return Err(refused("TransactWriteItems"));
        }
        Ok(None)
    }

    /// Writes a new session. Its id is random, so a session that is there is this one: an
    /// earlier attempt of the call has written it. It may have rotated or been revoked
    /// since, and stays as it is.
    async fn put_new_session(&self, session: &Session) -> Result<(), StoreError> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(from_session(session)))
            .condition_expression("attribute_not_exists(pk)");
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(()),
                _ => Err(unavailable("PutItem")(error)),
            },
        }
    }

    /// Writes a session as given, and overwrites an existing one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    #[cfg(any(test, feature = "testing"))]
    pub async fn seed_session(&self, session: &Session) -> Result<(), StoreError> {
        self.put_item(from_session(session)).await
    }

    /// Moves a session on to the successor of the token that `attempt` presents,
    /// in one write under the condition of [`Attempt::may_rotate`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when the session cannot be read.
    pub async fn rotate(
        &self,
        user: UserId,
        session: SessionId,
        attempt: &Attempt,
        expires_at: Timestamp,
        client: &Client,
    ) -> Result<Rotation, StoreError> {
        let mut condition = "secret_hash = :secret_hash AND generation <= :generation AND expires_at > :now \
                             AND attribute_not_exists(revoked_at)"
            .to_owned();
        let mut call = self.client.update_item();
        if !attempt.reuse_interval.is_zero() {
            condition.push_str(" AND (attribute_not_exists(attempt) OR rotated_at < :interval_start)");
            let start = attempt.now - attempt.reuse_interval;
            call = call.expression_attribute_values(":interval_start", number(start.millis()));
        }
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::session_key(user, session)))
            .condition_expression(condition)
            .update_expression(
                "SET generation = :next, attempt = :attempt, rotated_at = :now_millis, last_used_at = :now, \
                 expires_at = :expires_at, ip = :ip, user_agent = :user_agent",
            )
            .expression_attribute_values(":secret_hash", hash(&attempt.secret_hash))
            .expression_attribute_values(":generation", number(attempt.generation))
            .expression_attribute_values(":next", number(attempt.generation + 1))
            .expression_attribute_values(":attempt", hash(&attempt.key))
            .expression_attribute_values(":now", number(attempt.now.seconds()))
            .expression_attribute_values(":now_millis", number(attempt.now.millis()))
            .expression_attribute_values(":expires_at", number(expires_at.seconds()))
            .expression_attribute_values(":ip", text(&client.ip))
            .expression_attribute_values(":user_agent", text(&client.user_agent))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(written) => {
                let session = written.attributes().ok_or(StoreError::Corrupt("attributes"))?;
                Ok(Write::Done(to_session(session)?))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Write::Refused(failed.item().map(to_session).transpose()?))
                }
                _ => Err(unavailable("UpdateItem")(error)),
            },
        }
    }

    /// Marks a session as ended because `attempt` reused a token, and keeps it for at
    /// most [`EVIDENCE`]. [`Write::Refused`] when the session is gone, or when another
    /// attempt has marked it. The SDK's retry after a lost answer is the same attempt,
    /// so the alarm is not lost.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn revoke_session(&self, session: &Session, attempt: &Attempt) -> Result<Write, StoreError> {
        let expires_at = session.expires_at.min((attempt.now + EVIDENCE).truncated());
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(session.user_id, session.id)))
            .condition_expression(
                "attribute_exists(pk) AND (attribute_not_exists(revoked_at) OR revoked_by = :attempt)",
            )
            .update_expression(
                "SET revoked_at = :now, revoked_by = :attempt, revoked_reason = :reason, expires_at = :expires_at",
            )
            .expression_attribute_values(":now", number(attempt.now.seconds()))
            .expression_attribute_values(":attempt", hash(&attempt.key))
            .expression_attribute_values(":reason", text("reuse"))
            .expression_attribute_values(":expires_at", number(expires_at.seconds()))
            .send()
            .await;
        updated(result)
    }

    /// Deletes a session that its user ended. [`Write::Refused`] when there is no such
    /// session, which is also what the SDK's retry after a lost answer finds, or when
    /// reuse has ended it, so that it stays as evidence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_session(&self, user: UserId, session: SessionId) -> Result<Write, StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(user, session)))
            .condition_expression(format!("attribute_exists(pk) AND {NOT_EVIDENCE}"));
        deleted(call.send().await)
    }

    /// Deletes a session that has expired at `now`. [`Write::Refused`] when it is gone, or
    /// has not expired.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_expired_session(&self, session: &Session, now: Timestamp) -> Result<Write, StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(session.user_id, session.id)))
            .condition_expression("expires_at <= :now")
            .expression_attribute_values(":now", number(now.seconds()));
        deleted(call.send().await)
    }

    /// Deletes sessions in one transaction, at most 100. [`Write::Refused`], with
    /// nothing deleted, when reuse has ended one of them meanwhile: that session stays
    /// as evidence.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_sessions(&self, user: UserId, sessions: &[SessionId]) -> Result<Write, StoreError> {
        if sessions.is_empty() {
            return Ok(Write::Done(()));
        }
        let delete = |session: &SessionId| {
            delete_member(self.delete(item::session_key(user, *session)).condition_expression(NOT_EVIDENCE))
        };
        Ok(without_member(self.transact(sessions.iter().map(delete).collect()).await?))
    }

    /// Deletes sessions that have expired at `now` in one transaction, at most 100.
    /// [`Write::Refused`], with nothing deleted, when one of them was refreshed meanwhile,
    /// by a clock that is behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_expired_sessions(
        &self,
        user: UserId,
        sessions: &[SessionId],
        now: Timestamp,
    ) -> Result<Write, StoreError> {
        if sessions.is_empty() {
            return Ok(Write::Done(()));
        }
        let delete = |session: &SessionId| {
            delete_member(
                self.delete(item::session_key(user, *session))
                    .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
                    .expression_attribute_values(":now", number(now.seconds())),
            )
        };
        Ok(without_member(self.transact(sessions.iter().map(delete).collect()).await?))
    }

    /// Deletes a session whose user is gone, disabled or at a later epoch.
    /// [`Write::Done`] when the session has ended: it is deleted, or kept as
    /// evidence of reuse. [`Write::Refused`] when it was lifted to the user's
    /// epoch meanwhile, and is alive.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn discard_session(&self, session: &Session, user: Option<UserState>) -> Result<Write, StoreError> {
        let mut call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(session.user_id, session.id)));
        call = match user.filter(|user| user.is_active) {
            Some(user) => call
                .condition_expression(format!("epoch < :epoch AND {NOT_EVIDENCE}"))
                .expression_attribute_values(":epoch", number(user.epoch)),
            None => call.condition_expression(NOT_EVIDENCE),
        };
        call = call.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match call.send().await {
            Ok(_) => Ok(Write::Done(())),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    let is_alive = failed.item().is_some_and(|item| !item.contains_key("revoked_at"));
                    Ok(if is_alive { Write::Refused(()) } else { Write::Done(()) })
                }
                _ => Err(unavailable("DeleteItem")(error)),
            },
        }
    }
}

/// Returns a session as an item.
pub(super) fn from_session(session: &Session) -> Item {
    let mut item = item::session_key(session.user_id, session.id);
    item.extend([
        ("generation".into(), number(session.generation)),
        ("secret_hash".into(), hash(&session.secret_hash)),
        ("rotated_at".into(), number(session.rotated_at.millis())),
        ("created_at".into(), number(session.created_at.seconds())),
        ("opened_at".into(), number(session.opened_at.millis())),
        ("last_used_at".into(), number(session.last_used_at.seconds())),
        ("expires_at".into(), number(session.expires_at.seconds())),
        ("epoch".into(), number(session.epoch)),
        ("ip".into(), text(&session.client.ip)),
        ("user_agent".into(), text(&session.client.user_agent)),
    ]);
    if let Some(attempt) = &session.attempt {
        item.insert("attempt".into(), hash(attempt));
    }
    item
}

/// Reads a session from an item.
pub(super) fn to_session(item: &Item) -> Result<Session, StoreError> {
    let item = Reader(item);
    let user_id = item.text("pk")?.strip_prefix("USER#").and_then(UserId::parse);
    let id = item.text("sk")?.strip_prefix(SESSION).and_then(SessionId::parse);
    let seconds = |name| item.number(name).map(Timestamp::from_seconds);
    let secret_hash = item.optional("secret_hash", to_hash)?;
    Ok(Session {
        id: id.ok_or(StoreError::Corrupt("sk"))?,
        user_id: user_id.ok_or(StoreError::Corrupt("pk"))?,
        generation: item.number("generation")?,
        secret_hash: secret_hash.ok_or(StoreError::Corrupt("secret_hash"))?,
        attempt: item.optional("attempt", to_hash)?,
        rotated_at: Timestamp::from_millis(item.number("rotated_at")?),
        created_at: seconds("created_at")?,
        opened_at: Timestamp::from_millis(item.number("opened_at")?),
        last_used_at: seconds("last_used_at")?,
        expires_at: seconds("expires_at")?,
        epoch: item.number("epoch")?,
        revoked_at: item.optional("revoked_at", to_seconds)?,
        client: Client { ip: item.text("ip")?.to_owned(), user_agent: item.text("user_agent")?.to_owned() },
    })
}
