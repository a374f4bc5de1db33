//! E-mail addresses.

use email_address::{EmailAddress, Options};
use unicode_normalization::UnicodeNormalization;

/// The most octets an address may have (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_OCTETS: usize = 254;

/// An e-mail address, as its owner writes it and as the table finds it.
///
/// Two spellings are one address when they differ only in case, in Unicode
/// composition or in white space around them. Dots and `+tags` are kept: what
/// they mean is for the mail server to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    written: String,
    canonical: String,
}

/// The text is not an e-mail address that this system takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct InvalidEmail;

impl Email {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`InvalidEmail`] for anything but `local@domain.tld` of at most 254
    /// octets; for control characters, quoted local parts and domain literals;
    /// and for characters that turn into `@` or another domain once a mail
    /// server normalises them (a full-width `@`).
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let written: String = text.trim().nfc().collect();
        // Lower-casing can decompose (İ), so it is composed again.
        let canonical: String = written.to_lowercase().nfc().collect();
        let options = Options::default().with_minimum_sub_domains(2).without_display_text().without_domain_literal();
        let parsed = EmailAddress::parse_with_options(&canonical, options).map_err(|_| InvalidEmail)?;
        let compatible: String = canonical.nfkc().collect();
        let is_ambiguous = compatible.matches('@').count() != 1 || !compatible.ends_with(parsed.domain());
        if is_ambiguous
            || written.len() > MAX_OCTETS
            || canonical.len() > MAX_OCTETS
            || canonical.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"')
        {
            return Err(InvalidEmail);
        }
        Ok(Self { written, canonical })
    }

    /// An address that the table holds, with the canonical form that it was
    /// stored under. It is not judged again: a later version of the rules must
    /// not lock out a user who registered under an earlier one.
    pub fn stored(written: String, canonical: String) -> Self {
        Self { written, canonical }
    }

    /// As its owner wrote it, less white space around it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The form under which the table finds it.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// What stands before the `@`, in canonical form.
    pub fn local_part(&self) -> &str {
        self.canonical.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn en4_spellings_of_one_address_are_one() {
        let alice = Email::parse("alice@example.com").unwrap();
        for spelling in ["Alice@Example.COM", " alice@example.com\n", "ALICE@EXAMPLE.COM"] {
            assert_eq!(Email::parse(spelling).unwrap().canonical(), alice.canonical(), "{spelling}");
        }
        assert_eq!(Email::parse("Jose\u{301}@example.com"), Email::parse("Jos\u{e9}@example.com"));
        assert_eq!(Email::parse("Alice@Example.COM").unwrap().as_str(), "Alice@Example.COM");
    }

    #[test]
    fn en4_dots_and_tags_make_another_address() {
        let alice = Email::parse("alice@example.com").unwrap();
        for other in ["alice+news@example.com", "a.lice@example.com"] {
            assert_ne!(Email::parse(other).unwrap().canonical(), alice.canonical());
        }
    }

    #[test]
    fn en4_what_normalises_into_another_address_is_refused() {
        for text in [
            "alice\u{ff20}example.com",
            "admin\u{ff20}example.com@evil.com",
            "alice@\u{ff45}xample.com",
            "alice@example\u{3002}com",
            "alice@ex\u{212b}mple.com\u{fe52}",
        ] {
            assert_eq!(Email::parse(text), Err(InvalidEmail), "{text}");
        }
    }

    #[test]
    fn in6_in7_what_is_no_address_is_refused() {
        let long = format!("{}@{}.com", "a".repeat(64), "b".repeat(190));
        for text in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "alice@localhost",
            "alice@[127.0.0.1]",
            "Alice <alice@example.com>",
            "alice bob@example.com",
            "\"alice bob\"@example.com",
            "alice\0@example.com",
            "alice@exam\u{7}ple.com",
            "al\u{9b}ice@example.com",
            "a@b@example.com",
            long.as_str(),
        ] {
            assert_eq!(Email::parse(text), Err(InvalidEmail), "{text:?}");
        }
    }
}
