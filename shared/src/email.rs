//! E-mail addresses.

use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::text;

/// The most octets of an address (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAX_OCTETS: usize = 254;
/// The most octets of its local part (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_OCTETS: usize = 64;

/// What a local part may hold of ASCII beside letters, digits and dots (RFC 5322, section 3.2.3).
const ATEXT: &str = "!#$%&'*+-/=?^_`{|}~";
/// The signs that are written inside words: the Catalan, Greek, Hebrew, Sindhi,
/// Tibetan, Chinese and Japanese exceptions of RFC 5892, section 2.6.
const WORD_SIGNS: &str = "\u{b7}\u{375}\u{5f3}\u{5f4}\u{6fd}\u{6fe}\u{f0b}\u{3007}\u{30fb}";
/// Letters of everyday Armenian, Thai and Lao, for which Unicode knows another
/// spelling in compatible characters. The two spellings are one address.
const COMPATIBLE_LETTERS: &str = "\u{587}\u{e33}\u{eb3}\u{edc}\u{edd}";

/// An e-mail address, as its owner writes it, with the key by which the table finds it.
///
/// Two spellings of an address have one key when they differ only in case, in
/// Unicode composition, in white space around them, or in whether the domain is
/// written in Unicode or in its ASCII form (`xn--…`). Dots and `+tags` are kept:
/// what they mean is for the mail server to say. Look-alikes in other scripts
/// are other addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    written: String,
    key: String,
}

/// The text is not an e-mail address that this system takes.
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

    /// The address with its key, as they were stored when it was read. Neither is
    /// judged again: later rules must not lock anybody out.
    pub fn stored(written: impl Into<String>, key: impl Into<String>) -> Self {
        Self { written: written.into(), key: key.into() }
    }

    /// As its owner wrote it, without white space around it.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The form by which the table finds it: the local part case-folded and
    /// composed (NFC), the domain in its ASCII form (RFC 5890, A-labels).
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The part of the key before the `@`.
    pub fn local_part(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

/// Whether this is an unquoted word of a local part. A mark needs a character to stand on.
fn is_atom(text: &str) -> bool {
    let is_mark = |c| GeneralCategoryGroup::Mark.contains(text::category(c));
    text.nfc().all(is_atext) && text.nfc().next().is_some_and(|first| !is_mark(first))
}

/// Whether an unquoted word of an address may hold this character: in ASCII
/// what RFC 5322 lists, outside it what RFC 5892 takes as part of a word.
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

/// Whether a character of a decomposed text is there only for compatibility with
/// older encodings.
fn is_compatible(c: char) -> bool {
    std::iter::once(c).nfkd().ne([c]) && !COMPATIBLE_LETTERS.contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        Email::parse(text).unwrap_or_else(|_| panic!("{text:?} is refused")).key().to_owned()
    }

    #[test]
    fn en4_spellings_of_one_address_have_one_key() {
        for spellings in [
            &["alice@example.com", "Alice@Example.COM", " alice@example.com\n", "ALICE@EXAMPLE.COM"][..],
            &["Jose\u{301}@example.com", "Jos\u{e9}@example.com", "JOS\u{c9}@example.com", "JOSE\u{301}@example.com"],
            &[
                "bob@m\u{fc}nchen.example",
                "bob@xn--mnchen-3ya.example",
                "BOB@MU\u{308}NCHEN.EXAMPLE",
                "bob@XN--MNCHEN-3YA.example",
            ],
            &[
                "\u{39d}\u{399}\u{39a}\u{39f}\u{3a3}.\u{391}@example.gr",
                "\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c2}.\u{3b1}@example.gr",
                "\u{3bd}\u{3b9}\u{3ba}\u{3bf}\u{3c3}.\u{3b1}@example.gr",
            ],
            &["\u{130}nci@example.com", "i\u{307}nci@example.com", "I\u{307}NCI@example.com"],
            &["stra\u{df}e@example.com", "STRASSE@example.com", "STRA\u{1e9e}E@example.com"],
            &[
                "\u{1f80}@example.gr",
                "\u{1f88}@example.gr",
                "\u{3b1}\u{313}\u{345}@example.gr",
                "\u{391}\u{345}\u{313}@example.gr",
            ],
            &["\u{c1}ngstr\u{212b}m@example.com", "\u{e1}ngstr\u{e5}m@example.com"],
            &["\u{e19}\u{e49}\u{e33}@example.com", "\u{e19}\u{e49}\u{e4d}\u{e32}@example.com"],
        ] {
            for spelling in spellings {
                assert_eq!(key(spelling), key(spellings[0]), "{spelling:?}");
            }
        }
    }

    #[test]
    fn en4_the_key_has_the_folded_local_part_and_the_domain_in_ascii() {
        assert_eq!(key("\u{c9}va.ΣΑΣ@M\u{dc}NCHEN.example"), "\u{e9}va.σασ@xn--mnchen-3ya.example");
    }

    #[test]
    fn the_address_is_kept_as_it_was_written() {
        for written in ["Alice@Example.COM", "Jose\u{301}@M\u{fc}nchen.example", "\u{130}nci@example.com"] {
            assert_eq!(Email::parse(&format!("\u{a0}{written}\r\n")).unwrap().as_str(), written);
        }
    }

    #[test]
    fn a_stored_address_is_not_judged_again() {
        let email = Email::stored("No Address", "no key");
        assert_eq!((email.as_str(), email.key(), email.local_part()), ("No Address", "no key", ""));
    }

    #[test]
    fn en4_dots_tags_and_look_alikes_make_another_address() {
        for other in
            ["alice+news@example.com", "a.lice@example.com", "\u{430}lice@example.com", "al\u{131}ce@example.com"]
        {
            assert_ne!(key(other), key("alice@example.com"));
        }
        assert_ne!(key("stra\u{df}e@stra\u{df}e.example"), key("stra\u{df}e@strasse.example"));
    }

    #[test]
    fn letters_with_marks_of_every_script_are_taken() {
        for text in [
            "info@\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}.\u{92d}\u{93e}\u{930}\u{924}",
            "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}@example.com",
            "\u{ba4}\u{bae}\u{bbf}\u{bb4}\u{bcd}@\u{b87}\u{ba8}\u{bcd}\u{ba4}\u{bbf}\u{baf}\u{bbe}.example",
            "\u{e44}\u{e17}\u{e22}@\u{e17}\u{e35}\u{e48}\u{e17}\u{e33}.\u{e44}\u{e17}\u{e22}",
            "\u{627}\u{644}\u{633}\u{64e}\u{644}\u{627}\u{645}@\u{645}\u{62b}\u{627}\u{644}.\u{645}\u{635}\u{631}",
            "\u{5d9}\u{5b0}\u{5d4}\u{5d5}\u{5d3}\u{5d4}@\u{5d3}\u{5d5}\u{5d2}\u{5de}\u{5d4}.example",
            "\u{565}\u{580}\u{587}\u{561}\u{576}@example.am",
            "\u{1100}\u{1161}\u{11a8}@\u{ac01}.example",
            "col\u{b7}lega@example.cat",
            "\u{f56}\u{f7c}\u{f51}\u{f0b}\u{f61}\u{f72}\u{f42}@example.com",
            "nguy\u{1ec5}n@vi\u{1ec7}t.example",
            "x\u{328}\u{301}@example.com",
            "!#$%&'*+-/=?^_`{|}~.9@ex-am--ple.com",
            "\u{967}\u{968}@example.com",
        ] {
            assert!(Email::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn en4_compatibility_characters_are_refused_in_both_parts() {
        for character in [
            '\u{ff41}',
            '\u{1d41a}',
            '\u{1d7d8}',
            '\u{fb01}',
            '\u{fefb}',
            '\u{2460}',
            '\u{b2}',
            '\u{aa}',
            '\u{24d0}',
            '\u{132}',
            '\u{1c6}',
            '\u{17f}',
            '\u{1e9b}',
            '\u{2102}',
            '\u{ff76}',
            '\u{3392}',
            '\u{2170}',
            '\u{1f130}',
            '\u{b5}',
            '\u{ff0e}',
            '\u{fe52}',
            '\u{ff20}',
            '\u{3002}',
            '\u{ff61}',
        ] {
            for text in [format!("al{character}ce@example.com"), format!("alice@exam{character}ple.com")] {
                assert_eq!(Email::parse(&text), Err(InvalidEmail), "{text}");
            }
        }
        for text in ["alice\u{ff20}example.com", "admin\u{ff20}example.com@evil.com", "alice@example\u{3002}com"] {
            assert_eq!(Email::parse(text), Err(InvalidEmail), "{text}");
        }
    }

    #[test]
    fn en4_what_cannot_be_seen_is_refused_in_both_parts() {
        for character in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{206a}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffc}',
            '\u{1bca0}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{a0}',
            '\u{3000}',
            '\u{1680}',
            '\u{80}',
            '\u{9b}',
            '\u{e000}',
            '\u{fdd0}',
            '\u{10ffff}',
            '\u{378}',
        ] {
            for text in [format!("bo{character}ss@example.com"), format!("boss@exa{character}mple.com")] {
                assert_eq!(Email::parse(&text), Err(InvalidEmail), "{}", text.escape_unicode());
            }
        }
    }

    #[test]
    fn in6_in7_what_is_no_address_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_mark = format!("{}@example.com", "\u{939}\u{93f}".repeat(11));
        let long_label = format!("alice@{}.com", "b".repeat(64));
        let long = format!("{}@{}com", "a".repeat(64), "b234567890.".repeat(17));
        for text in [
            "",
            "@",
            "alice",
            "@example.com",
            "alice@",
            "alice@localhost",
            "alice@.com",
            "alice@example..com",
            "alice@example.com.",
            "alice@-example.com",
            "alice@example-.com",
            "alice@exam_ple.com",
            "alice@exam!ple.com",
            "alice@127.0.0.1",
            "alice@[127.0.0.1]",
            "alice@xn--.example",
            "alice@xn--a.example",
            "alice@xn--example-sh2a.com",
            "alice@xn--exmple-4p08a.com",
            "alice@\u{301}example.com",
            "alice@xn--i-7iq.ws",
            "alice@\u{2665}.ws",
            "alice@\u{5d0}b.example",
            "\u{301}alice@example.com",
            "alice.\u{301}@example.com",
            ".alice@example.com",
            "alice.@example.com",
            "al..ice@example.com",
            "Alice <alice@example.com>",
            "alice bob@example.com",
            "\"alice bob\"@example.com",
            "\"alice\"@example.com",
            "alice\\@example.com",
            "alice;@example.com",
            "alice\u{37e}@example.com",
            "alice\u{1f44d}@example.com",
            "alice\u{2019}s@example.com",
            "alice=\u{338}@example.com",
            "alice\0@example.com",
            "alice@exam\u{7}ple.com",
            "al\u{9b}ice@example.com",
            "a@b@example.com",
            long.as_str(),
            long_local.as_str(),
            long_mark.as_str(),
            long_label.as_str(),
        ] {
            assert_eq!(Email::parse(text), Err(InvalidEmail), "{text:?}");
        }
        assert!(Email::parse(&format!("{}@example.com", "a".repeat(64))).is_ok());
    }
}
