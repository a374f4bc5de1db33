//! The proofs in the table, and the transactions in which one is redeemed.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::credential::from_credential;
use super::item::{self, Item, Reader, hash, number, text, to_hash};
use super::{Store, StoreError, delete_member, put_member, refused, update_member, without_member};
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::mail::Mail;
use crate::password::PasswordHash;
use crate::proof::{Proof, Purpose, USED_LIFETIME};
use crate::session::Hash;
use crate::user::{Credential, ProfileField, User};
use crate::write::Write;

/// Why a proof was not redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRedeemed {
    /// Another attempt has used it.
    Used,
    /// The user or the credential has changed since it was read.
    Raced,
    /// The new address has an account.
    EmailTaken,
    /// The session to keep is not alive.
    KeptSessionDead,
}

/// Why an operator did not move an account to another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRenamed {
    /// The user or the credential has changed since it was read.
    Raced,
    /// The new address has an account.
    EmailTaken,
}

const RESET: &str = "reset";
const VERIFY: &str = "verify";
const CHANGE: &str = "change";

impl Store {
    /// Writes the proof of a link.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn put_proof(&self, proof: &Proof) -> Result<(), StoreError> {
        self.put_item(from_proof(proof)).await
    }

    /// Writes the proof of a link that is sent to nobody, and `notice`, in one
    /// transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn put_proof_and_tell(&self, proof: &Proof, notice: Option<&Mail>) -> Result<(), StoreError> {
        let mut members = vec![put_member(self.put(from_proof(proof)))];
        members.extend(notice.map(|notice| self.mail_member(notice)));
        match self.transact(members).await? {
            Write::Done(()) => Ok(()),
            Write::Refused(_) => Err(refused("TransactWriteItems")),
        }
    }

    /// Reads the proof of a token with strong consistency.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails; [`StoreError::Corrupt`] when the
    /// item cannot be read.
    pub async fn proof(&self, token_hash: Hash) -> Result<Option<Proof>, StoreError> {
        let item = self.get(item::proof_key(&token_hash)).await?;
        item.as_ref().map(|item| to_proof(item, token_hash)).transpose()
    }

    /// Sets a new password, ends every session, marks the address verified, voids every
    /// device token and writes `notice`, in one transaction, if neither `user` nor
    /// `credential` has changed since it was read. If the address was never proven
    /// although the user was asked to, the profile is removed, because somebody else may
    /// have written it. A link that an operator made proves no address: it changes neither.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn reset_password(
        &self,
        proof: &Proof,
        attempt: &Hash,
        (user, credential): (&User, &Credential),
        new: &PasswordHash,
        notice: &Mail,
        now: Timestamp,
    ) -> Result<Write<(), NotRedeemed>, StoreError> {
        let changed_at = number(credential.next_password_change(now).seconds());
        let raised_credential = self
            .raise(item::credential_key(&user.email), user)
            .condition_expression("epoch = :epoch AND user_id = :user AND password_hash = :old")
            .update_expression(
                "SET epoch = :next, password_hash = :new, password_changed_at = :changed_at, \
                 devices_since = :changed_at",
            )
            .expression_attribute_values(":user", text(user.id.to_string()))
            .expression_attribute_values(":old", text(credential.password_hash.as_str()))
            .expression_attribute_values(":new", text(new.as_str()))
            .expression_attribute_values(":changed_at", changed_at);
        let verified =
            self.raise(item::user_key(user.id), user).expression_attribute_values(":true", AttributeValue::Bool(true));
        let raised_user = if proof.by_operator {
            verified.condition_expression("epoch = :epoch AND is_active = :true").update_expression("SET epoch = :next")
        } else if user.email_verified != Some(false) {
            verified
                .condition_expression("epoch = :epoch AND is_active = :true")
                .update_expression("SET epoch = :next, email_verified = :true")
        } else {
            let profile = ProfileField::ALL.map(ProfileField::name).join(", ");
            verified
                .condition_expression("epoch = :epoch AND is_active = :true AND email_verified <> :true")
                .update_expression(format!("SET epoch = :next, email_verified = :true REMOVE {profile}"))
        };
        let members = vec![
            self.use_member(proof, attempt, now),
            update_member(raised_credential),
            update_member(raised_user),
            self.mail_member(notice),
        ];
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(0) => Write::Refused(NotRedeemed::Used),
            Write::Refused(_) => Write::Refused(NotRedeemed::Raced),
        })
    }

    /// Marks the address of `user` as verified, if the user has not changed since it
    /// was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn verify_email(
        &self,
        proof: &Proof,
        attempt: &Hash,
        user: &User,
        now: Timestamp,
    ) -> Result<Write<(), NotRedeemed>, StoreError> {
        let members = vec![self.use_member(proof, attempt, now), self.verified_member(user)];
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(0) => Write::Refused(NotRedeemed::Used),
            Write::Refused(_) => Write::Refused(NotRedeemed::Raced),
        })
    }

    /// Marks the address of `user` as verified because an operator vouches for it.
    /// [`Write::Refused`] when the user has changed since it was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn vouch_for_email(&self, user: &User) -> Result<Write, StoreError> {
        Ok(without_member(self.transact(vec![self.verified_member(user)]).await?))
    }

    fn verified_member(&self, user: &User) -> Result<TransactWriteItem, StoreError> {
        update_member(
            self.update(item::user_key(user.id))
                .condition_expression("epoch = :epoch AND is_active = :active AND email_key = :email_key")
                .update_expression("SET email_verified = :true")
                .expression_attribute_values(":epoch", number(user.epoch))
                .expression_attribute_values(":active", AttributeValue::Bool(user.is_active))
                .expression_attribute_values(":email_key", text(user.email.key()))
                .expression_attribute_values(":true", AttributeValue::Bool(true)),
        )
    }

    /// Moves an account to the address of `proof`, which is then verified, voids every
    /// device token, ends every session but `kept` and writes `notice`, in one
    /// transaction, if neither `user` nor `credential` has changed since it was read.
    /// [`Write::Done`] carries the new credential.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn move_user(
        &self,
        proof: &Proof,
        attempt: &Hash,
        (user, credential): (&User, &Credential),
        kept: SessionId,
        notice: Option<&Mail>,
        now: Timestamp,
    ) -> Result<Write<Credential, NotRedeemed>, StoreError> {
        let (moved, account_members) = self.move_members((user, credential), &proof.email, true, now);
        let mut members = vec![self.use_member(proof, attempt, now)];
        members.extend(account_members);
        members.push(self.lift_member(user, kept, now));
        members.extend(notice.map(|notice| self.mail_member(notice)));
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(moved),
            Write::Refused(0) => Write::Refused(NotRedeemed::Used),
            Write::Refused(1) => Write::Refused(NotRedeemed::EmailTaken),
            Write::Refused(2 | 3) => Write::Refused(NotRedeemed::Raced),
            Write::Refused(_) => Write::Refused(NotRedeemed::KeptSessionDead),
        })
    }

    /// Moves an account to the address `email` because an operator says so: the address is
    /// not verified. Voids every device token, ends every session and writes `notice`, in
    /// one transaction, if neither `user` nor `credential` has changed since it was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when DynamoDB fails.
    pub async fn rename_user(
        &self,
        account: (&User, &Credential),
        email: &Email,
        notice: Option<&Mail>,
        now: Timestamp,
    ) -> Result<Write<(), NotRenamed>, StoreError> {
        let (_, account_members) = self.move_members(account, email, false, now);
        let mut members = Vec::from(account_members);
        members.extend(notice.map(|notice| self.mail_member(notice)));
        Ok(match self.transact(members).await? {
            Write::Done(()) => Write::Done(()),
            Write::Refused(0) => Write::Refused(NotRenamed::EmailTaken),
            Write::Refused(_) => Write::Refused(NotRenamed::Raced),
        })
    }

    /// Moves an account to another address, raises its epoch and voids its device tokens.
    /// Returns the new credential, and the members; the first is refused if the address is
    /// taken.
    fn move_members(
        &self,
        (user, credential): (&User, &Credential),
        email: &Email,
        is_verified: bool,
        now: Timestamp,
    ) -> (Credential, [Result<TransactWriteItem, StoreError>; 3]) {
        let changed_at = credential.next_password_change(now);
        let moved = Credential {
            epoch: user.epoch + 1,
            devices_since: changed_at,
            password_changed_at: changed_at,
            ..credential.clone()
        };
        let new_credential = self.put(from_credential(email, &moved));
        let old_credential = self
            .delete(item::credential_key(&user.email))
            .condition_expression("epoch = :epoch AND user_id = :user AND password_hash = :old")
            .expression_attribute_values(":epoch", number(user.epoch))
            .expression_attribute_values(":user", text(user.id.to_string()))
            .expression_attribute_values(":old", text(credential.password_hash.as_str()));
        let moved_user = self
            .raise(item::user_key(user.id), user)
            .condition_expression("epoch = :epoch AND is_active = :active")
            .update_expression("SET epoch = :next, email = :email, email_key = :email_key, email_verified = :verified")
            .expression_attribute_values(":active", AttributeValue::Bool(user.is_active))
            .expression_attribute_values(":email", text(email.as_str()))
            .expression_attribute_values(":email_key", text(email.key()))
            .expression_attribute_values(":verified", AttributeValue::Bool(is_verified));
        let members = [
            put_member(new_credential.condition_expression("attribute_not_exists(pk)")),
            delete_member(old_credential),
            update_member(moved_user),
        ];
        (moved, members)
    }

    /// Marks a proof as used by `attempt`, if nobody has used it, and keeps it for
    /// [`USED_LIFETIME`].
    fn use_member(&self, proof: &Proof, attempt: &Hash, now: Timestamp) -> Result<TransactWriteItem, StoreError> {
        update_member(
            self.update(item::proof_key(&proof.token_hash))
                .condition_expression("attribute_exists(pk) AND attribute_not_exists(used_by)")
                .update_expression("SET used_by = :attempt, expires_at = :expires_at")
                .expression_attribute_values(":attempt", hash(attempt))
                .expression_attribute_values(":expires_at", number((now + USED_LIFETIME).seconds())),
        )
    }
}

fn from_proof(proof: &Proof) -> Item {
    let (purpose, name, state) = match proof.purpose {
        Purpose::Reset { password_changed_at } => (RESET, "password_changed_at", number(password_changed_at.seconds())),
        Purpose::Verify { epoch } => (VERIFY, "epoch", number(epoch)),
        Purpose::Change { epoch } => (CHANGE, "epoch", number(epoch)),
    };
    let mut item = item::proof_key(&proof.token_hash);
    item.extend([
        ("user_id".into(), text(proof.user_id.to_string())),
        ("purpose".into(), text(purpose)),
        (name.into(), state),
        ("email".into(), text(proof.email.as_str())),
        ("email_key".into(), text(proof.email.key())),
        ("expires_at".into(), number(proof.expires_at.seconds())),
    ]);
    if proof.by_operator {
        item.insert("by_operator".into(), AttributeValue::Bool(true));
    }
    if let Some(attempt) = &proof.used_by {
        item.insert("used_by".into(), hash(attempt));
    }
    item
}

pub(super) fn to_proof(item: &Item, token_hash: Hash) -> Result<Proof, StoreError> {
    let item = Reader(item);
    let seconds = |name| item.number(name).map(Timestamp::from_seconds);
    Ok(Proof {
        token_hash,
        user_id: UserId::parse(item.text("user_id")?).ok_or(StoreError::Corrupt("user_id"))?,
        email: Email::stored(item.text("email")?.to_owned(), item.text("email_key")?.to_owned()),
        by_operator: item.optional("by_operator", |value| value.as_bool().ok().copied())?.unwrap_or(false),
        purpose: match item.text("purpose")? {
            RESET => Purpose::Reset { password_changed_at: seconds("password_changed_at")? },
            VERIFY => Purpose::Verify { epoch: item.number("epoch")? },
            CHANGE => Purpose::Change { epoch: item.number("epoch")? },
            _ => return Err(StoreError::Corrupt("purpose")),
        },
        expires_at: seconds("expires_at")?,
        used_by: item.optional("used_by", to_hash)?,
    })
}
