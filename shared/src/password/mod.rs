//! Passwords: what may be one, and how they are kept.

mod hasher;

use std::collections::HashSet;
use std::sync::LazyLock;

use secrecy::{ExposeSecret, SecretString};
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

pub use hasher::{HashError, Hasher, PasswordHash, WorkFactor};

/// The most code points a password may have. Longer ones are refused, never cut.
pub const MAX_CHARS: usize = 256;
/// The most bytes a password may have, in UTF-8.
pub const MAX_BYTES: usize = 1024;

/// 19,300 of the most common passwords, in lower case and sorted: the list
/// that Django ships, collected by Royce Williams from breached accounts (BSD-3-Clause).
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("common.txt").lines().collect());

/// A password in Unicode's composed form (NFC; NIST SP 800-63B-4, 3.1.1.2), and
/// no other change: no trimming, no folding. Never printed.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer code points than the minimum.
    #[error("Use at least {minimum} characters.")]
    TooShort {
        /// The fewest code points it may have.
        minimum: usize,
    },
    /// It is over [`MAX_CHARS`] or [`MAX_BYTES`].
    #[error("Use at most {MAX_CHARS} characters.")]
    TooLong,
    /// It is one of the most common passwords, or one of them repeated.
    #[error("This password is one of the first that an attacker tries.")]
    Blocklisted,
    /// It is the user's address, a part of it, or the name of the service.
    #[error("This password is easily guessed from who you are.")]
    Guessable,
}

impl WeakPassword {
    /// The machine's word for it, the `code` of a 422 answer.
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
    /// A password that someone signs in with. `None` for one that is longer
    /// than any password may be: no hash is spent on it.
    pub fn presented(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES || text.chars().count() > MAX_CHARS {
            return None;
        }
        Some(Self(text.nfc().collect::<String>().into()))
    }

    /// A password that someone chooses: at least `minimum` code points, not a
    /// common one, and none of `context` (the address, names of the service).
    /// There are no rules of composition (NIST SP 800-63B-4, 3.1.1.2).
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn chosen(text: &str, minimum: usize, context: &[&str]) -> Result<Self, WeakPassword> {
        let password = Self::presented(text).ok_or(WeakPassword::TooLong)?;
        let folded = fold(password.expose());
        if password.expose().chars().count() < minimum {
            Err(WeakPassword::TooShort { minimum })
        } else if context.iter().any(|word| fold(word) == folded) {
            Err(WeakPassword::Guessable)
        } else if is_common(&folded) {
            Err(WeakPassword::Blocklisted)
        } else {
            Ok(password)
        }
    }

    fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// One form for all spellings that differ in case alone.
fn fold(text: &str) -> String {
    UniCase::unicode(text.nfc().collect::<String>()).to_folded_case()
}

/// Whether the whole of `folded` is a common password, or a shorter piece
/// repeated that is one or is a single character.
fn is_common(folded: &str) -> bool {
    let mut ends = folded.char_indices().skip(1).map(|(end, _)| end);
    let unit = ends
        .find(|&end| folded.len().is_multiple_of(end) && folded.as_bytes().starts_with(&folded.as_bytes()[end..]))
        .map(|end| &folded[..end]);
    COMMON.contains(folded) || unit.is_some_and(|unit| unit.chars().nth(1).is_none() || COMMON.contains(unit))
}

#[cfg(test)]
mod tests;
