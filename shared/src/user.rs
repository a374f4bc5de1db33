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
    /// The email address, as written at registration, with its key.
    pub email: Email,
    /// What the user may do: the `roles` of an access token.
    pub roles: Vec<String>,
    /// A user who is not active can neither log in nor refresh.
    pub is_active: bool,
    /// A session lives only while its epoch is at least this one.
    pub epoch: u64,
    /// What users say about themselves.
    pub profile: Profile,
    /// When the user registered.
    pub created_at: Timestamp,
}

impl User {
    /// What a refresh needs to know of a user.
    pub fn state(&self) -> UserState {
        UserState { is_active: self.is_active, epoch: self.epoch }
    }
}

/// What a refresh needs to know of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserState {
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
    /// A word that the application gives a meaning to, for example `customer`. Clients choose
    /// it, so no right may depend on it.
    pub user_type: Option<String>,
    /// The address of a picture, unverified.
    pub avatar: Option<String>,
}

/// A profile field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileField {
    /// [`Profile::first_name`].
    FirstName,
    /// [`Profile::last_name`].
    LastName,
    /// [`Profile::phone`].
    Phone,
    /// [`Profile::user_type`].
    UserType,
    /// [`Profile::avatar`].
    Avatar,
}

impl ProfileField {
    /// Every field.
    pub const ALL: [Self; 5] = [Self::FirstName, Self::LastName, Self::Phone, Self::UserType, Self::Avatar];

    /// Its name, in JSON and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Phone => "phone",
            Self::UserType => "user_type",
            Self::Avatar => "avatar",
        }
    }
}

/// A profile field with its new value; `None` removes it.
pub type ProfileChange = (ProfileField, Option<String>);

impl Profile {
    /// The value of a field.
    pub fn get(&self, field: ProfileField) -> Option<&str> {
        match field {
            ProfileField::FirstName => self.first_name.as_deref(),
            ProfileField::LastName => self.last_name.as_deref(),
            ProfileField::Phone => self.phone.as_deref(),
            ProfileField::UserType => self.user_type.as_deref(),
            ProfileField::Avatar => self.avatar.as_deref(),
        }
    }

    /// Builds a profile from the value that `value` returns for each field.
    ///
    /// # Errors
    ///
    /// The first error that `value` returns.
    pub fn build<E>(mut value: impl FnMut(ProfileField) -> Result<Option<String>, E>) -> Result<Self, E> {
        Ok(Self {
            first_name: value(ProfileField::FirstName)?,
            last_name: value(ProfileField::LastName)?,
            phone: value(ProfileField::Phone)?,
            user_type: value(ProfileField::UserType)?,
            avatar: value(ProfileField::Avatar)?,
        })
    }
}

/// What a login is checked against, found by the email address.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The user whose credential it is.
    pub user_id: UserId,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// The user's epoch. It is kept here too, so that a login copies the epoch
    /// of the moment at which it read the hash.
    pub epoch: u64,
    /// Device tokens issued before this are void. In whole seconds.
    pub devices_since: Timestamp,
    /// When the password was last set. Devices whose tokens were issued before
    /// this are counted together. In whole seconds.
    pub password_changed_at: Timestamp,
}

impl Credential {
    /// The credential of a user who registers at `now`.
    pub fn new(user: &User, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self {
            user_id: user.id,
            password_hash,
            epoch: user.epoch,
            devices_since: now.truncated(),
            password_changed_at: now.truncated(),
        }
    }
}
