//! Users and their credentials.

use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::password::PasswordHash;

/// The most characters a profile field may have.
pub const MAX_FIELD_CHARS: usize = 256;

/// Someone who can sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The `sub` of every token.
    pub id: UserId,
    /// The address, as it was written at registration.
    pub email: Email,
    /// What the user may do: the `roles` of an access token.
    pub roles: Vec<String>,
    /// A user who is not active can neither log in nor refresh.
    pub is_active: bool,
    /// A session lives only while its epoch is at least this one.
    pub epoch: u64,
    /// What the user says of themselves.
    pub profile: Profile,
    /// When the user registered.
    pub created_at: Timestamp,
}

impl User {
    /// All that a refresh needs to know of a user.
    pub fn standing(&self) -> Standing {
        Standing { is_active: self.is_active, epoch: self.epoch }
    }
}

/// All that a refresh needs to know of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// A user who is not active can neither log in nor refresh.
    pub is_active: bool,
    /// A session lives only while its epoch is at least this one.
    pub epoch: u64,
}

/// The profile fields of a user, all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Telephone number, unverified.
    pub phone: Option<String>,
    /// A word of the application's own, such as `customer`.
    pub user_type: Option<String>,
    /// Address of a picture, unverified.
    pub avatar: Option<String>,
}

impl Profile {
    /// The names of the fields, in the order of [`Profile::fields`].
    pub const FIELDS: [&str; 5] = ["first_name", "last_name", "phone", "user_type", "avatar"];

    /// Every field with its name.
    pub fn fields(&self) -> [(&'static str, &Option<String>); 5] {
        let [first_name, last_name, phone, user_type, avatar] = Self::FIELDS;
        [
            (first_name, &self.first_name),
            (last_name, &self.last_name),
            (phone, &self.phone),
            (user_type, &self.user_type),
            (avatar, &self.avatar),
        ]
    }

    /// Builds a profile by asking for each field.
    ///
    /// # Errors
    ///
    /// The first error that `field` returns.
    pub fn build<E>(mut field: impl FnMut(&'static str) -> Result<Option<String>, E>) -> Result<Self, E> {
        let [first_name, last_name, phone, user_type, avatar] = Self::FIELDS;
        Ok(Self {
            first_name: field(first_name)?,
            last_name: field(last_name)?,
            phone: field(phone)?,
            user_type: field(user_type)?,
            avatar: field(avatar)?,
        })
    }
}

/// What a login is checked against; found by the e-mail address.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Whose it is.
    pub user_id: UserId,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// The user's epoch, kept here too, so that a login copies the one that
    /// was in force when it read the hash.
    pub epoch: u64,
}
