//! The table: every call to DynamoDB, and what comes back.
//!
//! One table, `pk` and `sk`, TTL on `expires_at`. Users and their sessions share
//! a partition; a credential stands under its e-mail address. Every lookup is by
//! the full key. What must hold of an item when it changes is in the condition
//! of the write, never in a read before it.

mod counter;
mod item;
mod retry;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client as DynamoDb;
use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};

use crate::aws;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::metrics::Metric;
use crate::password::PasswordHash;
use crate::session::{Attempt, EVIDENCE, Rotation, Session};
use crate::user::{Credential, ProfileChange, User, UserState};
use crate::write::Write;
pub use counter::Tally;
use item::{Item, hash, number, text};

/// DynamoDB did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It was slow, throttled, down, or refused the call: come back later.
    #[error("DynamoDB {operation}: {code}")]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// The code of its refusal, or what kept it from answering.
        code: String,
    },
    /// An item has an attribute that cannot be read.
    #[error("an item's attribute {0:?} cannot be read")]
    Corrupt(&'static str),
}

impl StoreError {
    /// Whether DynamoDB asked for fewer calls.
    pub fn is_throttling(&self) -> bool {
        const CODES: [&str; 3] =
            ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"];
        matches!(self, Self::Unavailable { code, .. } if CODES.contains(&code.as_str()))
    }
}

/// What ends every session of a user, but for one that may be kept.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// Logging out everywhere.
    Sessions,
    /// Another password.
    Password {
        /// The hash that the current password was checked against.
        old: &'a PasswordHash,
        /// The hash of the new one.
        new: &'a PasswordHash,
    },
    /// Disabling the user.
    Disable,
}

/// Why the sessions of a user were not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// The user or the credential has changed since it was read.
    Raced,
    /// The session to keep is not alive.
    KeptSessionDead,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Store {
    client: DynamoDb,
    table: String,
}

impl Store {
    /// The table `table` of the DynamoDB at `endpoint`, or of the region's own.
    /// `http_client` takes the place of the SDK's, for tests.
    pub async fn connect(table: &str, endpoint: Option<&str>, http_client: Option<SharedHttpClient>) -> Self {
        Self::with_sdk(&aws::load(endpoint, http_client).await, table, endpoint)
    }

    pub(crate) fn with_sdk(sdk: &SdkConfig, table: &str, endpoint: Option<&str>) -> Self {
        let config = aws::of_table(sdk, endpoint).retry_classifier(retry::Conflicts);
        Self { client: DynamoDb::from_conf(config.build()), table: table.into() }
    }

    /// The user, read consistently.
    ///
    /// # Errors
    ///
    /// [`StoreError`], as for every call below.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.get(item::user_key(id)).await?.as_ref().map(item::to_user).transpose()
    }

    /// The session, dead or alive, read consistently.
    pub async fn session(&self, user: UserId, session: SessionId) -> Result<Option<Session>, StoreError> {
        self.get(item::session_key(user, session)).await?.as_ref().map(item::to_session).transpose()
    }

    /// The credential of an address, read consistently.
    pub async fn credential(&self, email: &Email) -> Result<Option<Credential>, StoreError> {
        self.get(item::credential_key(email)).await?.as_ref().map(item::to_credential).transpose()
    }

    async fn get(&self, key: Item) -> Result<Option<Item>, StoreError> {
        let call = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        Ok(call.send().await.map_err(unavailable("GetItem"))?.item)
    }

    /// The user and all the user's sessions, dead ones included, read consistently.
    pub async fn user_and_sessions(&self, id: UserId) -> Result<(Option<User>, Vec<Session>), StoreError> {
        let (mut user, mut sessions) = (None, Vec::new());
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(item::partition(id)))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable("Query"))?;
            for item in page.items() {
                match item.get("sk").and_then(|sk| sk.as_s().ok()) {
                    Some(sk) if sk.starts_with(item::SESSION) => sessions.push(item::to_session(item)?),
                    _ => user = Some(item::to_user(item)?),
                }
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok((user, sessions));
            }
        }
    }

    /// Writes a new user with a credential and a first session, all or nothing.
    /// [`Write::Refused`] when the address is taken.
    pub async fn create_user(
        &self,
        user: &User,
        credential: &Credential,
        session: &Session,
    ) -> Result<Write, StoreError> {
        let create = |item| self.put(item).condition_expression("attribute_not_exists(pk)");
        let members = vec![
            put(create(item::from_credential(&user.email, credential))),
            put(create(item::from_user(user))),
            put(create(item::from_session(session))),
        ];
        Ok(without_member(self.transact(members).await?))
    }

    /// Writes a user as given, over any item that is there.
    #[cfg(any(test, feature = "testing"))]
    pub async fn seed_user(
        &self,
        user: &User,
        credential: &Credential,
        sessions: &[&Session],
    ) -> Result<(), StoreError> {
        let items = [item::from_credential(&user.email, credential), item::from_user(user)];
        let items = items.into_iter().chain(sessions.iter().map(|session| item::from_session(session)));
        for item in items {
            self.put_item(item).await?;
        }
        Ok(())
    }

    async fn put_item(&self, item: Item) -> Result<(), StoreError> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send().await.map(drop).map_err(unavailable("PutItem"))
    }

    /// Writes a new session, in place of `evicted`.
    pub async fn open_session(&self, session: &Session, evicted: Option<SessionId>) -> Result<(), StoreError> {
        let item = item::from_session(session);
        let Some(evicted) = evicted else {
            return self.put_item(item).await;
        };
        let delete = self.delete(item::session_key(session.user_id, evicted));
        match self.transact(vec![put(self.put(item)), delete_member(delete)]).await? {
            Write::Done(()) => Ok(()),
            Write::Refused(_) => Err(refused("TransactWriteItems")),
        }
    }

    /// Moves a session on to the successor of the token that `attempt` presents,
    /// on the condition of [`Attempt::may_rotate`], in one write.
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
                Ok(Write::Done(item::to_session(session)?))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Write::Refused(failed.item().map(item::to_session).transpose()?))
                }
                _ => Err(unavailable("UpdateItem")(error)),
            },
        }
    }

    /// Marks a session as ended by the reuse that `attempt` made, and keeps it
    /// for [`EVIDENCE`] at the most. [`Write::Refused`] when it is gone or was
    /// marked by another; the SDK's retry after a lost answer is the same
    /// attempt, and does not lose the alarm.
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

    /// Deletes a session that its user ended. [`Write::Refused`] when there is
    /// none, as the SDK's own retry finds after a lost answer, and for one that
    /// reuse ended, which stays as evidence.
    pub async fn delete_session(&self, user: UserId, session: SessionId) -> Result<Write, StoreError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(user, session)))
            .condition_expression("attribute_exists(pk) AND attribute_not_exists(revoked_at)");
        match call.send().await {
            Ok(_) => Ok(Write::Done(())),
            Err(error)
                if matches!(error.as_service_error(), Some(DeleteItemError::ConditionalCheckFailedException(_))) =>
            {
                Ok(Write::Refused(()))
            }
            Err(error) => Err(unavailable("DeleteItem")(error)),
        }
    }

    /// Deletes a session whose user is gone, disabled or of a later epoch;
    /// unless, for the last, it has been lifted meanwhile. [`Write::Done`] when the
    /// session has ended, deleted or kept as evidence of reuse; [`Write::Refused`]
    /// when it has been lifted to the user's new epoch, and lives.
    pub async fn discard_session(&self, session: &Session, user: Option<UserState>) -> Result<Write, StoreError> {
        let mut call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::session_key(session.user_id, session.id)));
        // One that reuse ended stays, as evidence.
        call = match user.filter(|user| user.is_active) {
            Some(user) => call
                .condition_expression("epoch < :epoch AND attribute_not_exists(revoked_at)")
                .expression_attribute_values(":epoch", number(user.epoch)),
            None => call.condition_expression("attribute_not_exists(revoked_at)"),
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

    /// Ends every session of `user`, as it was read, by raising the epoch in user
    /// and credential; `kept` is lifted to the new epoch in the same transaction.
    pub async fn end_sessions(
        &self,
        user: &User,
        ending: Ending<'_>,
        kept: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Write<(), NotEnded>, StoreError> {
        let raise = |key| {
            Update::builder()
                .table_name(&self.table)
                .set_key(Some(key))
                .expression_attribute_values(":epoch", number(user.epoch))
                .expression_attribute_values(":next", number(user.epoch + 1))
        };
        let raised_user = match ending {
            Ending::Sessions | Ending::Password { .. } => raise(item::user_key(user.id))
                .condition_expression("epoch = :epoch AND is_active = :active")
                .update_expression("SET epoch = :next")
                .expression_attribute_values(":active", AttributeValue::Bool(true)),
            Ending::Disable => raise(item::user_key(user.id))
                .condition_expression("epoch = :epoch")
                .update_expression("SET epoch = :next, is_active = :active")
                .expression_attribute_values(":active", AttributeValue::Bool(false)),
        };
        let credential =
            raise(item::credential_key(&user.email)).expression_attribute_values(":user", text(user.id.to_string()));
        let raised_credential = match ending {
            Ending::Password { old, new } => credential
                .condition_expression("epoch = :epoch AND user_id = :user AND password_hash = :old")
                .update_expression("SET epoch = :next, password_hash = :new")
                .expression_attribute_values(":old", text(old.as_str()))
                .expression_attribute_values(":new", text(new.as_str())),
            Ending::Sessions | Ending::Disable => credential
                .condition_expression("epoch = :epoch AND user_id = :user")
                .update_expression("SET epoch = :next"),
        };
        let mut members = vec![update(raised_user), update(raised_credential)];
        members.extend(kept.map(|kept| {
            update(
                raise(item::session_key(user.id, kept))
                    .condition_expression("epoch = :epoch AND expires_at > :now AND attribute_not_exists(revoked_at)")
                    .update_expression("SET epoch = :next")
                    .expression_attribute_values(":now", number(now.seconds())),
            )
        }));
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(0 | 1) => Write::Refused(NotEnded::Raced),
            Write::Refused(_) => Write::Refused(NotEnded::KeptSessionDead),
        })
    }

    /// Lets a disabled user sign in again. The sessions of before stay dead.
    pub async fn enable_user(&self, id: UserId) -> Result<Write, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::user_key(id)))
            .condition_expression("attribute_exists(pk)")
            .update_expression("SET is_active = :active")
            .expression_attribute_values(":active", AttributeValue::Bool(true))
            .send()
            .await;
        updated(result)
    }

    /// Changes profile fields of an active user; `None` takes one away. Answers
    /// the user since, or `None` when there is no such user.
    pub async fn update_profile(&self, id: UserId, changes: &[ProfileChange]) -> Result<Option<User>, StoreError> {
        let mut call = self.client.update_item();
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (field, value) in changes {
            let name = field.name();
            match value {
                Some(value) => {
                    set.push(format!("{name} = :{name}"));
                    call = call.expression_attribute_values(format!(":{name}"), text(value));
                }
                None => remove.push(name),
            }
        }
        let clause = |word: &str, list: String| if list.is_empty() { list } else { format!("{word} {list} ") };
        let expression = clause("SET", set.join(", ")) + &clause("REMOVE", remove.join(", "));
        let result = call
            .table_name(&self.table)
            .set_key(Some(item::user_key(id)))
            .condition_expression("is_active = :active")
            .update_expression(expression)
            .expression_attribute_values(":active", AttributeValue::Bool(true))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match result {
            Ok(written) => written.attributes().map(item::to_user).transpose(),
            Err(error) if is_refused(&error) => Ok(None),
            Err(error) => Err(unavailable("UpdateItem")(error)),
        }
    }

    /// Replaces a password hash by one of the same password; not when it has
    /// changed meanwhile.
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

    /// Deletes a user and the credential, if its hash is still `checked`.
    pub async fn delete_user(&self, user: &User, checked: &PasswordHash) -> Result<Write, StoreError> {
        let members = vec![
            delete_member(self.delete(item::user_key(user.id)).condition_expression("attribute_exists(pk)")),
            delete_member(
                self.delete(item::credential_key(&user.email))
                    .condition_expression("user_id = :user AND password_hash = :checked")
                    .expression_attribute_values(":user", text(user.id.to_string()))
                    .expression_attribute_values(":checked", text(checked.as_str())),
            ),
        ];
        Ok(without_member(self.transact(members).await?))
    }

    fn put(&self, item: Item) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        Put::builder().table_name(&self.table).set_item(Some(item))
    }

    fn delete(&self, key: Item) -> aws_sdk_dynamodb::types::builders::DeleteBuilder {
        Delete::builder().table_name(&self.table).set_key(Some(key))
    }

    /// The SDK gives each transaction a ClientRequestToken and keeps it through
    /// its retries, so that one whose answer was lost is not carried out twice.
    /// Where it is refused, the index is that of the first member whose condition failed.
    async fn transact(
        &self,
        members: Vec<Result<TransactWriteItem, StoreError>>,
    ) -> Result<Write<(), usize>, StoreError> {
        let members = members.into_iter().collect::<Result<Vec<_>, _>>()?;
        match self.client.transact_write_items().set_transact_items(Some(members)).send().await {
            Ok(_) => Ok(Write::Done(())),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let reasons = cancelled.cancellation_reasons();
                    match reasons.iter().position(|reason| reason.code() == Some("ConditionalCheckFailed")) {
                        Some(first) => Ok(Write::Refused(first)),
                        None => Err(unavailable("TransactWriteItems")(error)),
                    }
                }
                _ => Err(unavailable("TransactWriteItems")(error)),
            },
        }
    }
}

/// The outcome of a transaction in which it does not matter whose condition failed.
fn without_member(transaction: Write<(), usize>) -> Write {
    match transaction {
        Write::Done(()) => Write::Done(()),
        Write::Refused(_) => Write::Refused(()),
    }
}

fn put(builder: aws_sdk_dynamodb::types::builders::PutBuilder) -> Result<TransactWriteItem, StoreError> {
    let put = builder.build().map_err(|_| refused("Put"))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn update(builder: aws_sdk_dynamodb::types::builders::UpdateBuilder) -> Result<TransactWriteItem, StoreError> {
    let update = builder.build().map_err(|_| refused("Update"))?;
    Ok(TransactWriteItem::builder().update(update).build())
}

fn delete_member(builder: aws_sdk_dynamodb::types::builders::DeleteBuilder) -> Result<TransactWriteItem, StoreError> {
    let delete = builder.build().map_err(|_| refused("Delete"))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

fn refused(operation: &'static str) -> StoreError {
    StoreError::Unavailable { operation, code: "refused".into() }
}

fn unavailable<E: ProvideErrorMetadata, R>(operation: &'static str) -> impl FnOnce(SdkError<E, R>) -> StoreError {
    move |error| {
        let fault = aws::Fault::of(&error);
        fault.report(format_args!("dynamodb:{operation}"), Some(Metric::DatabaseFaults));
        StoreError::Unavailable { operation, code: fault.code }
    }
}

fn is_refused<R>(error: &SdkError<UpdateItemError, R>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}

fn updated<T, R>(result: Result<T, SdkError<UpdateItemError, R>>) -> Result<Write, StoreError> {
    match result {
        Ok(_) => Ok(Write::Done(())),
        Err(error) if is_refused(&error) => Ok(Write::Refused(())),
        Err(error) => Err(unavailable("UpdateItem")(error)),
    }
}
