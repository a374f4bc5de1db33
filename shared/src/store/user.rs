//! The users in the table.

use aws_sdk_dynamodb::types::builders::{PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, TransactWriteItem};

use super::credential::from_credential;
use super::item::{self, Item, PROFILE, Reader, SESSION, number, text, to_seconds};
use super::session::{from_session, to_session};
use super::{
    Store, StoreError, delete_member, is_refused, put_member, unavailable, update_member, updated, without_member,
};
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::mail::Mail;
use crate::password::PasswordHash;
use crate::session::Session;
use crate::user::{Credential, Profile, ProfileChange, ProfileField, User};
use crate::write::Write;

/// The most pages of a user's partition that a login reads.
const MOST_PAGES: usize = 5;

/// The name of the roles, which is a reserved word in expressions (Amazon DynamoDB
/// Developer Guide, "Reserved words").
const ROLES: &str = "roles";

/// Why every session of a user ends, except for one that may be kept.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// The user logs out everywhere.
    Sessions,
    /// The user changes the password.
    Password {
        /// The credential that the current password was checked against.
        old: &'a Credential,
        /// The hash of the new one.
        new: &'a PasswordHash,
    },
    /// The user is disabled.
    Disable,
    /// An operator changes the roles.
    Roles {
        /// The new roles.
        new: &'a [String],
    },
}

/// Why the sessions of a user were not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// The user or the credential has changed since it was read.
    Raced,
    /// The session to keep is not alive.
    KeptSessionDead,
}

impl Store {
    /// Reads a user with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when the item cannot be read.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.get(item::user_key(id)).await?.as_ref().map(to_user).transpose()
    }

    /// Reads a user and all the user's sessions, dead ones included, with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when an item cannot be read.
    pub async fn user_and_sessions(&self, id: UserId) -> Result<(Option<User>, Vec<Session>), StoreError> {
        self.partition(id, usize::MAX).await
    }

    /// Reads a user and the sessions in the first five pages of the user's partition,
    /// with strong consistency. A page holds 1 MB, which is more than a thousand
    /// sessions.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when an item cannot be read.
    pub async fn user_and_first_sessions(&self, id: UserId) -> Result<(Option<User>, Vec<Session>), StoreError> {
        self.partition(id, MOST_PAGES).await
    }

    /// Reads at most `pages` pages of a user's partition. Rows of a kind that
    /// this version does not know are skipped: a later version may add kinds,
    /// and the two run side by side during a deployment.
    async fn partition(&self, id: UserId, pages: usize) -> Result<(Option<User>, Vec<Session>), StoreError> {
        let (mut user, mut sessions) = (None, Vec::new());
        let mut start = None;
        for _ in 0..pages {
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
                match Reader(item).text("sk")? {
                    PROFILE => user = Some(to_user(item)?),
                    sk if sk.starts_with(SESSION) => sessions.push(to_session(item)?),
                    _ => {}
                }
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok((user, sessions))
    }

    /// Writes a new user with a credential, a first session and a mail, if there are
    /// any, in one transaction. [`Write::Refused`] when the address is taken.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn create_user(
        &self,
        user: &User,
        credential: &Credential,
        session: Option<&Session>,
        mail: Option<&Mail>,
    ) -> Result<Write, StoreError> {
        let mut members = self.new_account(user, credential);
        members.extend(session.map(|session| put_member(self.new_item(from_session(session)))));
        members.extend(mail.map(|mail| self.mail_member(mail)));
        Ok(without_member(self.transact(members).await?))
    }

    /// Writes new users with their credentials, at most 50, in one transaction.
    /// [`Write::Refused`] when an id or an address is taken.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn create_users(&self, accounts: &[(User, Credential)]) -> Result<Write, StoreError> {
        let members = accounts.iter().flat_map(|(user, credential)| self.new_account(user, credential));
        Ok(without_member(self.transact(members.collect()).await?))
    }

    fn new_account(&self, user: &User, credential: &Credential) -> Vec<Result<TransactWriteItem, StoreError>> {
        let items = [from_credential(&user.email, credential), from_user(user)];
        items.into_iter().map(|item| put_member(self.new_item(item))).collect()
    }

    fn new_item(&self, item: Item) -> PutBuilder {
        self.put(item).condition_expression("attribute_not_exists(pk)")
    }

    /// Writes a user with a credential and sessions as given, and overwrites existing items.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    #[cfg(any(test, feature = "testing"))]
    pub async fn seed_user(
        &self,
        user: &User,
        credential: &Credential,
        sessions: &[&Session],
    ) -> Result<(), StoreError> {
        let items = [from_credential(&user.email, credential), from_user(user)];
        let items = items.into_iter().chain(sessions.iter().map(|session| from_session(session)));
        for item in items {
            self.put_item(item).await?;
        }
        Ok(())
    }

    /// Ends every session of `user` by raising the epoch in the user and the
    /// credential, if neither has changed since `user` was read. `kept` is lifted to
    /// the new epoch, and `notice` is written, in the same transaction.
    /// [`Write::Refused`] carries the reason why no session was ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn end_sessions(
        &self,
        user: &User,
        ending: Ending<'_>,
        kept: Option<SessionId>,
        notice: Option<&Mail>,
        now: Timestamp,
    ) -> Result<Write<(), NotEnded>, StoreError> {
        let raise = |key| self.raise(key, user);
        let raised_user = match ending {
            Ending::Sessions | Ending::Password { .. } => raise(item::user_key(user.id))
                .condition_expression("epoch = :epoch AND is_active = :active")
                .update_expression("SET epoch = :next")
                .expression_attribute_values(":active", AttributeValue::Bool(true)),
            Ending::Disable => raise(item::user_key(user.id))
                .condition_expression("epoch = :epoch")
                .update_expression("SET epoch = :next, is_active = :active")
                .expression_attribute_values(":active", AttributeValue::Bool(false)),
            Ending::Roles { new } => raise(item::user_key(user.id))
                .condition_expression("epoch = :epoch AND #roles = :old_roles")
                .update_expression("SET epoch = :next, #roles = :new_roles")
                .expression_attribute_names("#roles", ROLES)
                .expression_attribute_values(":old_roles", texts(&user.roles))
                .expression_attribute_values(":new_roles", texts(new)),
        };
        let credential =
            raise(item::credential_key(&user.email)).expression_attribute_values(":user", text(user.id.to_string()));
        let raised_credential = match ending {
            Ending::Password { old, new } => credential
                .condition_expression("epoch = :epoch AND user_id = :user AND password_hash = :old")
                .update_expression("SET epoch = :next, password_hash = :new, password_changed_at = :changed_at")
                .expression_attribute_values(":changed_at", number(old.next_password_change(now).seconds()))
                .expression_attribute_values(":old", text(old.password_hash.as_str()))
                .expression_attribute_values(":new", text(new.as_str())),
            Ending::Sessions | Ending::Disable | Ending::Roles { .. } => credential
                .condition_expression("epoch = :epoch AND user_id = :user")
                .update_expression("SET epoch = :next"),
        };
        let mut members = vec![update_member(raised_user), update_member(raised_credential)];
        members.extend(kept.map(|kept| self.lift_member(user, kept, now)));
        members.extend(notice.map(|notice| self.mail_member(notice)));
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(0 | 1) => Write::Refused(NotEnded::Raced),
            Write::Refused(_) => Write::Refused(NotEnded::KeptSessionDead),
        })
    }

    /// Returns an update that sees the user's epoch as `:epoch`, and the next one as
    /// `:next`.
    pub(super) fn raise(&self, key: Item, user: &User) -> UpdateBuilder {
        self.update(key)
            .expression_attribute_values(":epoch", number(user.epoch))
            .expression_attribute_values(":next", number(user.epoch + 1))
    }

    /// Lifts a live session to the user's next epoch, so that it outlives the end of the
    /// others.
    pub(super) fn lift_member(
        &self,
        user: &User,
        session: SessionId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, StoreError> {
        update_member(
            self.raise(item::session_key(user.id, session), user)
                .condition_expression("epoch = :epoch AND expires_at > :now AND attribute_not_exists(revoked_at)")
                .update_expression("SET epoch = :next")
                .expression_attribute_values(":now", number(now.seconds())),
        )
    }

    /// Lets a disabled user sign in again. Earlier sessions stay dead.
    /// [`Write::Refused`] when there is no such user.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
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

    /// Changes the roles of `user`, if they have not changed since it was read. Sessions
    /// go on. [`Write::Refused`] when the user has changed or is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn set_roles(&self, user: &User, new: &[String]) -> Result<Write, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::user_key(user.id)))
            .condition_expression("epoch = :epoch AND #roles = :old_roles")
            .update_expression("SET #roles = :new_roles")
            .expression_attribute_names("#roles", ROLES)
            .expression_attribute_values(":epoch", number(user.epoch))
            .expression_attribute_values(":old_roles", texts(&user.roles))
            .expression_attribute_values(":new_roles", texts(new))
            .send()
            .await;
        updated(result)
    }

    /// Changes profile fields of an active user; a `None` removes a field. Returns
    /// the changed user, or `None` when there is no such user.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`]
    /// when the user cannot be read.
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
            Ok(written) => written.attributes().map(to_user).transpose(),
            Err(error) if is_refused(&error) => Ok(None),
            Err(error) => Err(unavailable("UpdateItem")(error)),
        }
    }

    /// Deletes a user and the credential, and writes `notice`, in one transaction.
    /// [`Write::Refused`] when the user is gone or the credential's hash is no longer
    /// `checked`. Without `checked`, no credential is deleted, and the user must be as it
    /// was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn delete_user(
        &self,
        user: &User,
        checked: Option<&PasswordHash>,
        notice: Option<&Mail>,
    ) -> Result<Write, StoreError> {
        let deleted_user = self.delete(item::user_key(user.id));
        let mut members = vec![delete_member(match checked {
            Some(_) => deleted_user.condition_expression("attribute_exists(pk)"),
            None => deleted_user
                .condition_expression("epoch = :epoch")
                .expression_attribute_values(":epoch", number(user.epoch)),
        })];
        members.extend(checked.map(|checked| {
            delete_member(
                self.delete(item::credential_key(&user.email))
                    .condition_expression("user_id = :user AND password_hash = :checked")
                    .expression_attribute_values(":user", text(user.id.to_string()))
                    .expression_attribute_values(":checked", text(checked.as_str())),
            )
        }));
        members.extend(notice.map(|notice| self.mail_member(notice)));
        Ok(without_member(self.transact(members).await?))
    }
}

/// Returns a list of strings as an attribute.
fn texts(list: &[String]) -> AttributeValue {
    AttributeValue::L(list.iter().map(text).collect())
}

/// A user as an item.
fn from_user(user: &User) -> Item {
    let mut item = item::user_key(user.id);
    item.extend([
        ("email".into(), text(user.email.as_str())),
        ("email_key".into(), text(user.email.key())),
        ("roles".into(), texts(&user.roles)),
        ("is_active".into(), AttributeValue::Bool(user.is_active)),
        ("epoch".into(), number(user.epoch)),
        ("created_at".into(), number(user.created_at.seconds())),
    ]);
    if let Some(is_verified) = user.email_verified {
        item.insert("email_verified".into(), AttributeValue::Bool(is_verified));
    }
    if let Some(imported_at) = user.imported_at {
        item.insert("imported_at".into(), number(imported_at.seconds()));
    }
    for field in ProfileField::ALL {
        if let Some(value) = user.profile.get(field) {
            item.insert(field.name().into(), text(value));
        }
    }
    item
}

/// Reads a user from an item.
pub(super) fn to_user(item: &Item) -> Result<User, StoreError> {
    let item = Reader(item);
    let id = item.text("pk")?.strip_prefix("USER#").and_then(UserId::parse);
    let roles = item.get("roles")?.as_l().map_err(|_| StoreError::Corrupt("roles"))?;
    let roles = roles.iter().map(|role| role.as_s().cloned()).collect::<Result<_, _>>();
    Ok(User {
        id: id.ok_or(StoreError::Corrupt("pk"))?,
        email: Email::stored(item.text("email")?.to_owned(), item.text("email_key")?.to_owned()),
        email_verified: item.optional("email_verified", |value| value.as_bool().ok().copied())?,
        roles: roles.map_err(|_| StoreError::Corrupt("roles"))?,
        is_active: *item.get("is_active")?.as_bool().map_err(|_| StoreError::Corrupt("is_active"))?,
        epoch: item.number("epoch")?,
        profile: Profile::build(|field| item.optional(field.name(), |value| value.as_s().ok().cloned()))?,
        created_at: Timestamp::from_seconds(item.number("created_at")?),
        imported_at: item.optional("imported_at", to_seconds)?,
    })
}
