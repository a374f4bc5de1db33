//! Records to items and back.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::StoreError;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::limit::Counter;
use crate::password::PasswordHash;
use crate::session::{Hash, Session};
use crate::user::{Credential, Profile, ProfileField, User};

/// An item, or its key.
pub type Item = HashMap<String, AttributeValue>;

const PROFILE: &str = "PROFILE";
const CREDENTIAL: &str = "CREDENTIAL";
/// What the sort key of every session begins with.
pub const SESSION: &str = "SESSION#";

/// The partition of a user and of the user's sessions.
pub fn partition(user: UserId) -> String {
    format!("USER#{user}")
}

/// The key of a user.
pub fn user_key(user: UserId) -> Item {
    key(partition(user), PROFILE.into())
}

/// The key of a session.
pub fn session_key(user: UserId, session: SessionId) -> Item {
    key(partition(user), format!("{SESSION}{session}"))
}

/// The key of a credential.
pub fn credential_key(email: &Email) -> Item {
    key(format!("EMAIL#{}", email.key()), CREDENTIAL.into())
}

/// The key of a counter.
pub fn counter_key(counter: &Counter) -> Item {
    key(format!("LIMIT#{}", counter.name), counter.since.to_string())
}

fn key(pk: String, sk: String) -> Item {
    HashMap::from([("pk".into(), text(pk)), ("sk".into(), text(sk))])
}

/// A string.
pub fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number.
pub fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A hash.
pub fn hash(hash: &Hash) -> AttributeValue {
    AttributeValue::B(Blob::new(*hash.as_bytes()))
}

/// A user as an item.
pub fn from_user(user: &User) -> Item {
    let mut item = user_key(user.id);
    item.extend([
        ("email".into(), text(user.email.as_str())),
        ("roles".into(), AttributeValue::L(user.roles.iter().map(text).collect())),
        ("is_active".into(), AttributeValue::Bool(user.is_active)),
        ("epoch".into(), number(user.epoch)),
        ("created_at".into(), number(user.created_at.seconds())),
    ]);
    for field in ProfileField::ALL {
        if let Some(value) = user.profile.get(field) {
            item.insert(field.name().into(), text(value));
        }
    }
    item
}

/// A user from an item.
pub fn to_user(item: &Item) -> Result<User, StoreError> {
    let item = Reader(item);
    let id = item.text("pk")?.strip_prefix("USER#").and_then(UserId::parse);
    let roles = item.get("roles")?.as_l().map_err(|_| StoreError::Corrupt("roles"))?;
    let roles = roles.iter().map(|role| role.as_s().cloned()).collect::<Result<_, _>>();
    Ok(User {
        id: id.ok_or(StoreError::Corrupt("pk"))?,
        email: Email::parse(item.text("email")?).map_err(|_| StoreError::Corrupt("email"))?,
        roles: roles.map_err(|_| StoreError::Corrupt("roles"))?,
        is_active: *item.get("is_active")?.as_bool().map_err(|_| StoreError::Corrupt("is_active"))?,
        epoch: item.number("epoch")?,
        profile: Profile::build(|field| item.optional(field.name(), |value| value.as_s().ok().cloned()))?,
        created_at: Timestamp::from_seconds(item.number("created_at")?),
    })
}

/// A credential as an item.
pub fn from_credential(email: &Email, credential: &Credential) -> Item {
    let mut item = credential_key(email);
    item.extend([
        ("user_id".into(), text(credential.user_id.to_string())),
        ("password_hash".into(), text(credential.password_hash.as_str())),
        ("epoch".into(), number(credential.epoch)),
    ]);
    item
}

/// A credential from an item.
pub fn to_credential(item: &Item) -> Result<Credential, StoreError> {
    let item = Reader(item);
    Ok(Credential {
        user_id: UserId::parse(item.text("user_id")?).ok_or(StoreError::Corrupt("user_id"))?,
        password_hash: PasswordHash::stored(item.text("password_hash")?.to_owned()),
        epoch: item.number("epoch")?,
    })
}

/// A session as an item.
pub fn from_session(session: &Session) -> Item {
    let mut item = session_key(session.user_id, session.id);
    item.extend([
        ("generation".into(), number(session.generation)),
        ("secret_hash".into(), hash(&session.secret_hash)),
        ("rotated_at".into(), number(session.rotated_at.millis())),
        ("created_at".into(), number(session.created_at.seconds())),
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

/// A session from an item.
pub fn to_session(item: &Item) -> Result<Session, StoreError> {
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
        last_used_at: seconds("last_used_at")?,
        expires_at: seconds("expires_at")?,
        epoch: item.number("epoch")?,
        revoked_at: item.optional("revoked_at", |value| value.as_n().ok()?.parse().ok())?.map(Timestamp::from_seconds),
        client: Client { ip: item.text("ip")?.to_owned(), user_agent: item.text("user_agent")?.to_owned() },
    })
}

/// A hash from an attribute.
pub fn to_hash(value: &AttributeValue) -> Option<Hash> {
    Hash::from_bytes(value.as_b().ok()?.as_ref())
}

/// Reads the attributes of an item.
pub struct Reader<'a>(pub &'a Item);

impl<'a> Reader<'a> {
    fn get(&self, name: &'static str) -> Result<&'a AttributeValue, StoreError> {
        self.0.get(name).ok_or(StoreError::Corrupt(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        self.get(name)?.as_s().map(String::as_str).map_err(|_| StoreError::Corrupt(name))
    }

    /// A number that must be there.
    pub fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        let number = self.get(name)?.as_n().map_err(|_| StoreError::Corrupt(name))?;
        number.parse().map_err(|_| StoreError::Corrupt(name))
    }

    /// An attribute that may be missing.
    pub fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a AttributeValue) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.0.get(name).map(|value| read(value).ok_or(StoreError::Corrupt(name))).transpose()
    }
}
