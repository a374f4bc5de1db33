//! Users and their credentials.

use std::time::Duration;

use url::Url;

use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::mail::Account;
use crate::password::PasswordHash;
use crate::text;

/// The most characters of a profile field.
pub const MAX_FIELD_CHARS: usize = 256;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The `sub` of every token.
    pub id: UserId,
    /// The e-mail address, as written at registration, with its key.
    pub email: Email,
    /// Whether the user has proven that mails to this address reach them. `None` for a
    /// user who registered while mail was off, and was never asked to.
    pub email_verified: Option<bool>,
    /// What the user may do: the `roles` of an access token.
    pub roles: Vec<String>,
    /// A user who is not active can neither log in nor refresh.
    pub is_active: bool,
    /// A session is alive only while its epoch is at least this one.
    pub epoch: u64,
    /// The profile, which the user edits.
    pub profile: Profile,
    /// When the user registered, here or in the system that the user was imported from.
    pub created_at: Timestamp,
    /// When the user was imported from another system, in whole seconds. `None` for a user
    /// who registered here.
    pub imported_at: Option<Timestamp>,
}

impl User {
    /// Returns whether the user has proven the e-mail address.
    pub fn is_verified(&self) -> bool {
        self.email_verified == Some(true)
    }

    /// Returns what a mail says about the account.
    pub fn account(&self) -> Account {
        Account { user_id: self.id, epoch: self.epoch }
    }

    /// Returns the part of a user that a refresh depends on.
    pub fn state(&self) -> UserState {
        UserState { is_active: self.is_active, epoch: self.epoch }
    }
}

/// The part of a user that a refresh depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserState {
    /// A user who is not active can neither log in nor refresh.
    pub is_active: bool,
    /// A session is alive only while its epoch is at least this one.
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
    /// A word that the client chooses, such as `customer`. It grants nothing.
    pub user_type: Option<String>,
    /// A picture: an http(s) URL, or a path on the application's own site. Unverified.
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

    /// Returns its name in JSON and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::Phone => "phone",
            Self::UserType => "user_type",
            Self::Avatar => "avatar",
        }
    }

    /// Checks a value of this field.
    ///
    /// # Errors
    ///
    /// [`InvalidField::TooLong`] for more than 256 characters;
    /// [`InvalidField::Characters`] for control characters, and invisible ones that
    /// change how the text around them is shown;
    /// [`InvalidField::Avatar`] for an avatar that is neither an http(s) URL nor a path.
    pub fn check(self, value: &str) -> Result<(), InvalidField> {
        if value.chars().count() > MAX_FIELD_CHARS {
            Err(InvalidField::TooLong)
        } else if value.chars().any(text::is_control) {
            Err(InvalidField::Characters)
        } else if self == Self::Avatar && !value.is_empty() && !is_picture(value) {
            Err(InvalidField::Avatar)
        } else {
            Ok(())
        }
    }
}

/// Why the value of a profile field is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// It has more than [`MAX_FIELD_CHARS`] characters.
    #[error("Use at most {MAX_FIELD_CHARS} characters.")]
    TooLong,
    /// It has control characters or invisible formatting characters.
    #[error("Control characters and invisible formatting characters are not allowed.")]
    Characters,
    /// It is neither an http(s) URL nor a path.
    #[error("Enter an http or https URL, or a path that starts with a single /.")]
    Avatar,
}

impl InvalidField {
    /// Returns the machine-readable reason: the `code` of a 422 answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Characters => "invalid_characters",
            Self::Avatar => "avatar_invalid",
        }
    }
}

/// Returns whether browsers load this from an http(s) URL, or from the site that shows
/// it (WHATWG URL Standard).
fn is_picture(text: &str) -> bool {
    const SITE: &str = "https://site.invalid";
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && Url::parse(text).is_ok()
    });
    // A host can hide behind `//` and `/\\`.
    let is_path = || {
        let resolved = Url::parse(SITE).and_then(|site| site.join(text));
        text.starts_with('/') && resolved.is_ok_and(|url| url.origin().ascii_serialization() == SITE)
    };
    is_url || is_path()
}

/// A profile field with its new value. `None` removes it.
pub type ProfileChange = (ProfileField, Option<String>);

impl Profile {
    /// Returns the value of a field.
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

/// The credential that a login is checked against, found by e-mail address.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The user that the credential belongs to.
    pub user_id: UserId,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// The user's epoch. It is kept here too, so that a login reads it at the same
    /// moment as the hash.
    pub epoch: u64,
    /// Device tokens that name an earlier `password_changed_at` are void, in whole
    /// seconds. A reset of the password and a move to another address set it.
    pub devices_since: Timestamp,
    /// When the password was last set or the account last moved to another address, in
    /// whole seconds. Devices whose tokens name another time are counted together.
    pub password_changed_at: Timestamp,
}

impl Credential {
    /// Returns the credential of a user who registers at `now`.
    pub fn new(user: &User, password_hash: PasswordHash, now: Timestamp) -> Self {
        Self {
            user_id: user.id,
            password_hash,
            epoch: user.epoch,
            devices_since: now.truncated(),
            password_changed_at: now.truncated(),
        }
    }

    /// The `password_changed_at` of a change at `now`: later than the current one,
    /// because device tokens name the password by it.
    pub fn next_password_change(&self, now: Timestamp) -> Timestamp {
        now.truncated().max(self.password_changed_at + Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avatar_is_an_http_url_or_a_path() {
        for value in [
            "",
            "/uploads/profile/avatar.jpg",
            "/",
            "/a//b?x=1#y",
            "/my picture.jpg",
            "/../avatar.jpg",
            "/https://example.com/",
            "https://example.com/avatar.jpg",
            "HTTPS://example.com/avatar.jpg",
            "http://m\u{fc}nchen.example:8080/\u{e9}?x=y",
            "https://user@example.com/",
        ] {
            assert_eq!(ProfileField::Avatar.check(value), Ok(()), "{value}");
        }
        for value in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            " javascript:alert(1)",
            "data:image/png;base64,AAAA",
            "vbscript:x",
            "blob:https://example.com/x",
            "file:///etc/passwd",
            "ftp://example.com/avatar.jpg",
            "//example.com/avatar.jpg",
            "/\\example.com/avatar.jpg",
            "\\\\example.com",
            "uploads/avatar.jpg",
            "avatar.jpg",
            "https:",
            "https://",
            "https:example.com",
            "https:/example.com",
            "http://[::1",
            "https://exa mple.com/",
            " https://example.com/",
            "?x",
            "#x",
        ] {
            assert_eq!(ProfileField::Avatar.check(value), Err(InvalidField::Avatar), "{value}");
        }
        assert_eq!(ProfileField::FirstName.check("javascript:alert(1)"), Ok(()));
    }

    #[test]
    fn controls_and_invisible_formatting_are_in_no_field() {
        let refused = [
            '\0', '\n', '\t', '\u{7f}', '\u{85}', '\u{61c}', '\u{200b}', '\u{200e}', '\u{200f}', '\u{2028}',
            '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2060}', '\u{2066}', '\u{2067}',
            '\u{2068}', '\u{2069}', '\u{206a}', '\u{feff}', '\u{fff9}',
        ];
        for field in ProfileField::ALL {
            for character in refused {
                let value = format!("/A{character}da");
                assert_eq!(field.check(&value), Err(InvalidField::Characters), "{}", value.escape_unicode());
            }
        }
    }

    #[test]
    fn names_are_written_in_every_script() {
        for name in [
            "Ada",
            "O\u{2019}Brien-Smith, Jr.",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{5d0}\u{5d3}\u{5d4}",
            "\u{1f469}\u{200d}\u{1f680}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{2764}\u{fe0f}",
        ] {
            assert_eq!(ProfileField::FirstName.check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_field_has_at_most_256_characters() {
        assert_eq!(ProfileField::Phone.check(&"\u{e9}".repeat(256)), Ok(()));
        assert_eq!(ProfileField::Phone.check(&"x".repeat(257)), Err(InvalidField::TooLong));
    }
}
