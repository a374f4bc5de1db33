//! Proofs: what the token in a mail's link proves, and what the table keeps of it.
//!
//! The token has 256 random bits and exists only in the mail. The table holds its hash,
//! so nothing in the table can be used as a link (OWASP, Forgot Password Cheat Sheet,
//! "URL Tokens").

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::id::UserId;
use crate::session::Hash;

/// How long a link that resets a password is good.
const RESET_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long any other link is good.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a used proof is kept, so that the same attempt gets the same answer again.
pub const USED_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The token of a link.
pub struct MailToken(Zeroizing<[u8; 32]>);

impl MailToken {
    /// Returns a new token.
    pub fn random() -> Self {
        Self(Zeroizing::new(entropy::bytes()))
    }

    /// Returns the text that goes into the link: 43 characters of base64url.
    pub fn expose(&self) -> SecretString {
        URL_SAFE_NO_PAD.encode(*self.0).into()
    }

    /// Reads the token of a link. Returns `None` for a text that was never in one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// Returns the hash that the table keeps.
    pub fn hash(&self) -> Hash {
        Hash::of(&[b"mail-token:", &*self.0])
    }
}

impl fmt::Debug for MailToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailToken([REDACTED])")
    }
}

/// What a link is for, and the state of the account that it depends on. The link is
/// void once the state is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It sets a new password. It depends on when the password was last set, so that a
    /// thief who ends the sessions in a loop keeps nobody from it.
    Reset {
        /// The credential's `password_changed_at`.
        password_changed_at: Timestamp,
    },
    /// It proves the address. It depends on the user's epoch: whatever ends all sessions
    /// voids it.
    Verify {
        /// The user's epoch.
        epoch: u64,
    },
    /// It moves the account to the address. It depends on the user's epoch too.
    Change {
        /// The user's epoch.
        epoch: u64,
    },
}

/// What a link proves: that its bearer reads the mails of an address, or that an operator
/// gave it to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The hash of the token.
    pub token_hash: Hash,
    /// The user that the link was made for.
    pub user_id: UserId,
    /// The address that the link was sent to, or the account's if it was sent to nobody.
    pub email: Email,
    /// Whether an operator made the link. It was sent to nobody, so it proves no address.
    pub by_operator: bool,
    /// What the link is for.
    pub purpose: Purpose,
    /// When it expires, in whole seconds.
    pub expires_at: Timestamp,
    /// The attempt that used it, if one has.
    pub used_by: Option<Hash>,
}

impl Proof {
    /// Returns the proof of a link that is about to be sent.
    pub fn new(token: &MailToken, user_id: UserId, email: Email, purpose: Purpose, now: Timestamp) -> Self {
        let lifetime = if matches!(purpose, Purpose::Reset { .. }) { RESET_LIFETIME } else { LIFETIME };
        let expires_at = (now + lifetime).truncated();
        Self { token_hash: token.hash(), user_id, email, by_operator: false, purpose, expires_at, used_by: None }
    }

    /// Returns whether nobody has used it and it has not expired.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.used_by.is_none() && self.expires_at > now
    }

    /// Returns whether this attempt has used it, recently enough that its answer may be
    /// given again.
    pub fn was_used_by(&self, attempt: &Hash, now: Timestamp) -> bool {
        self.used_by.as_ref() == Some(attempt) && self.expires_at > now
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn ml4_a_token_has_256_bits_and_is_read_back_from_its_link() {
        let token = MailToken::random();
        let text = token.expose();
        assert_eq!(text.expose_secret().len(), 43);
        assert_eq!(MailToken::parse(text.expose_secret()).unwrap().hash(), token.hash());
        assert_ne!(MailToken::random().hash(), token.hash());
        let debug = format!("{token:?}");
        assert_eq!(debug, "MailToken([REDACTED])");
    }

    #[test]
    fn ml4_what_the_table_holds_is_no_token() {
        let token = MailToken::random();
        let hash = URL_SAFE_NO_PAD.encode(token.hash().as_bytes());
        assert_ne!(MailToken::parse(&hash).unwrap().hash(), token.hash());
    }

    #[test]
    fn a_text_that_was_never_in_a_link_is_no_token() {
        let good = MailToken::random().expose();
        let good = good.expose_secret();
        let padded = format!("{good}=");
        for text in ["", "x", &good[1..], &format!("{good}A"), &padded, &"!".repeat(43), &"a".repeat(44)] {
            assert!(MailToken::parse(text).is_none(), "{text}");
        }
    }
}
