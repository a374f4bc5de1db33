//! E-mail addresses.

use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::text;

/// The most octets of an address (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_OCTETS: usize = 254;
/// The most octets of its local part (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_OCTETS: usize = 64;

/// The ASCII characters that a local part may have besides letters, digits and dots
/// (RFC 5322, section 3.2.3).
const ATEXT: &str = "!#$%&'*+-/=?^_`{|}~";
/// The characters that are written inside words without being letters: the Catalan,
/// Greek, Hebrew, Sindhi, Tibetan, Chinese and Japanese exceptions of RFC 5892, section
/// 2.6.
const WORD_SIGNS: &str = "\u{b7}\u{375}\u{5f3}\u{5f4}\u{6fd}\u{6fe}\u{f0b}\u{3007}\u{30fb}";
/// Everyday letters of Armenian, Thai and Lao that have a second, compatible spelling
/// in Unicode. The two spellings are one address.
const COMPATIBLE_LETTERS: &str = "\u{587}\u{e33}\u{eb3}\u{edc}\u{edd}";

/// An e-mail address, as its owner writes it, with the key by which the table finds it.
///
/// Two spellings of an address have the same key if they differ only in case, in
/// Unicode composition, in white space around them, or in whether the domain is written
/// in Unicode or in its ASCII form (`xn--…`). Dots and `+tags` are kept: only the mail
/// server knows what they mean. Look-alikes in other scripts are different addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    written: String,
    key: String,
}

/// The text is not an e-mail address that this system accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct InvalidEmail;

impl Email {
    /// Reads an address: `local@domain`, in ASCII or in the letters of any script
    /// (RFC 6531).
    ///
    /// # Errors
    ///
    /// [`InvalidEmail`] for anything else: over 254 octets, or over 64 before
    /// the `@`; a quoted local part; a domain that is a number, has a single
    /// label or breaks the rules of internationalised names (UTS 46); and for
    /// every character outside ASCII that is not part of a word, that is
    /// invisible, or that Unicode has only for compatibility (full-width letters,
    /// mathematical letters, ligatures), because mail servers may turn those
    /// into others.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let written = text.trim();
        let (local, domain) = written.rsplit_once('@').ok_or(InvalidEmail)?;
        let names = Uts46::new();
        let ascii = names
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| InvalidEmail)?;
        let (unicode, _) = names.to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
        let (_, top) = ascii.rsplit_once('.').ok_or(InvalidEmail)?;

        let is_short = written.len() <= MAX_OCTETS
            && local.len() <= MAX_LOCAL_OCTETS
            && local.len() + "@".len() + ascii.len() <= MAX_OCTETS;
        let is_dot_atom = local.split('.').all(is_atom);
        let is_host = domain.nfc().chain(unicode.chars()).all(|c| c == '.' || is_atext(c));
        let is_number = top.bytes().all(|byte| byte.is_ascii_digit());
        let is_ambiguous = written.chars().any(text::is_ignorable) || written.nfd().any(is_compatible);
        if !is_short || !is_dot_atom || !is_host || is_number || is_ambiguous {
            return Err(InvalidEmail);
        }
        // Nothing but COMPATIBLE_LETTERS makes NFKD differ from NFD here.
        let local = text::caseless(&local.nfkd().collect::<String>());
        Ok(Self { written: written.to_owned(), key: format!("{local}@{ascii}") })
    }

    /// Returns an address and its key as the table holds them. Neither is checked
    /// again, because later rules must not lock anybody out.
    pub fn stored(written: impl Into<String>, key: impl Into<String>) -> Self {
        Self { written: written.into(), key: key.into() }
    }

    /// Returns the address as its owner wrote it, without white space around it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns the key by which the table finds the address: the local part case-folded
    /// and composed (NFC), the domain in its ASCII form (RFC 5890, A-labels).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the part of the key before the `@`.
    pub fn local_part(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

impl Email {
    /// Returns the address as Amazon SES takes it, with the domain in its ASCII form.
    /// `None` if the local part is outside ASCII, because SES cannot send to it.
    /// (Amazon SES API v2 Reference, "Destination".)
    pub fn mailbox(&self) -> Option<String> {
        let (local, _) = self.written.rsplit_once('@')?;
        let (_, domain) = self.key.rsplit_once('@')?;
        local.is_ascii().then(|| format!("{local}@{domain}"))
    }
}

/// Returns whether this is an unquoted word of a local part. A mark needs a character
/// to combine with.
fn is_atom(text: &str) -> bool {
    let is_mark = |c| GeneralCategoryGroup::Mark.contains(text::category(c));
    text.nfc().all(is_atext) && text.nfc().next().is_some_and(|first| !is_mark(first))
}

/// Returns whether an unquoted word of an address may contain this character: an ASCII
/// character that RFC 5322 lists, or another one that RFC 5892 allows in a word.
fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || ATEXT.contains(c);
    }
    let category = text::category(c);
    GeneralCategoryGroup::Letter.contains(category)
        || matches!(
            category,
            GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark | GeneralCategory::DecimalNumber
        )
        || WORD_SIGNS.contains(c)
}

/// Returns whether a character of a decomposed text exists only for compatibility with
/// older encodings.
fn is_compatible(c: char) -> bool {
    std::iter::once(c).nfkd().ne([c]) && !COMPATIBLE_LETTERS.contains(c)
}

#[cfg(test)]
mod tests;
