//! Passwords: which are accepted, and how they are hashed.

mod hasher;
mod method;
mod stored;

use std::collections::HashSet;
use std::sync::LazyLock;

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

pub use hasher::{Check, HashError, Hasher, WorkFactor};
pub use method::MAX_MEMORY_KIB;
pub use stored::{PasswordHash, RefusedHash};

use crate::text::caseless;

/// The most code points of a password, in NFC. Longer ones are refused, never cut.
pub const MAX_CHARS: usize = 256;
/// The most bytes of a password, in NFC and UTF-8.
pub const MAX_BYTES: usize = 1024;

/// The 19,300 most common passwords, in lower case and sorted: the list that Django
/// ships, collected by Royce Williams from breached accounts (BSD-3-Clause).
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("common.txt").lines().collect());

/// A password in Unicode's composed form (NFC; NIST SP 800-63B-4, section 3.1.1.2).
/// Nothing else is changed: no trimming, no folding. Never printed.
#[derive(Clone, Debug)]
pub struct Password {
    composed: SecretString,
    /// The password as it was sent, if that is something else.
    sent: Option<SecretString>,
}

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer code points than the minimum, in NFC.
    #[error("Use at least {minimum} characters.")]
    TooShort {
        /// The fewest code points it may have.
        minimum: usize,
    },
    /// It is longer than [`MAX_CHARS`] or [`MAX_BYTES`].
    #[error("Use at most {MAX_CHARS} characters.")]
    TooLong,
    /// It is one of the most common passwords, or one of them repeated.
    #[error("This password is too common.")]
    Blocklisted,
    /// It is the user's address, its local part, or the name of the service.
    #[error("This password is too easy to guess: it is your e-mail address or the name of this service.")]
    Guessable,
}

impl WeakPassword {
    /// Returns the machine-readable reason: the `code` of a 422 answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "password_too_short",
            Self::TooLong => "password_too_long",
            Self::Blocklisted => "password_blocklisted",
            Self::Guessable => "password_guessable",
        }
    }
}

impl Password {
    /// Returns a password that a user signs in with, or `None` if it is too long to be
    /// a password: it is then refused without a hash.
    pub fn presented(text: &str) -> Option<Self> {
        let composed = text.nfc().collect::<String>();
        let sent = (text != composed).then(|| text.into());
        let is_bearable = composed.len() <= MAX_BYTES && composed.chars().count() <= MAX_CHARS;
        let composed = SecretString::from(composed);
        is_bearable.then_some(Self { composed, sent })
    }

    /// Returns a password that a user chooses: it has at least `minimum` code points,
    /// is not a common one, and is not a word of `context` (the address, names of the
    /// service). There are no composition rules (NIST SP 800-63B-4, section 3.1.1.2).
    ///
    /// # Errors
    ///
    /// The first that applies: [`WeakPassword::TooLong`] over [`MAX_CHARS`] or
    /// [`MAX_BYTES`]; [`WeakPassword::TooShort`] under `minimum`;
    /// [`WeakPassword::Guessable`] for a word of `context`;
    /// [`WeakPassword::Blocklisted`] for a common password.
    pub fn chosen(text: &str, minimum: usize, context: &[&str]) -> Result<Self, WeakPassword> {
        let password = Self::presented(text).ok_or(WeakPassword::TooLong)?;
        let folded = caseless(password.expose());
        if password.expose().chars().count() < minimum {
            Err(WeakPassword::TooShort { minimum })
        } else if context.iter().any(|word| caseless(word) == folded) {
            Err(WeakPassword::Guessable)
        } else if is_common(&folded) {
            Err(WeakPassword::Blocklisted)
        } else {
            Ok(password)
        }
    }

    fn expose(&self) -> &str {
        self.composed.expose_secret()
    }

    /// Returns what to compare with a stored hash, in this order: the password as it was
    /// sent, which is what other systems hash, and its composed form. Mostly, the two are
    /// one.
    fn spellings(&self) -> impl Iterator<Item = &SecretString> {
        self.sent.iter().chain([&self.composed])
    }
}

/// Returns whether `folded` is a common password, or repeats one or a single character.
fn is_common(folded: &str) -> bool {
    let mut ends = folded.char_indices().skip(1).map(|(end, _)| end);
    let unit = ends
        .find(|&end| folded.len().is_multiple_of(end) && folded.as_bytes().starts_with(&folded.as_bytes()[end..]))
        .map(|end| &folded[..end]);
    COMMON.contains(folded) || unit.is_some_and(|unit| unit.chars().nth(1).is_none() || COMMON.contains(unit))
}

#[cfg(test)]
mod tests;
