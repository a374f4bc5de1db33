//! Which random secrets are accepted: those that are long enough, hard to guess and not published.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD,
};
use zeroize::Zeroizing;

use super::key::KeyError;
use super::pem;
use crate::session::Hash;

/// The secret of the demo (`make dev -- --demo`). It is public: a function
/// accepts it only with a table on the same machine.
pub const DEMO_SECRET: &str = "demo-0123456789-known-to-everyone-abcdefghijklmnop";

/// The fewest bytes of a secret: those of an HS256 key (RFC 7518, section 3.2).
const MIN_BYTES: usize = 32;
/// The fewest different bytes. A random key of 32 hexadecimal digits has more.
const MIN_DISTINCT: usize = 7;
/// The fewest [`steps`] of a secret.
const MIN_STEPS: usize = 14;
/// The fewest bytes that must repeat before a secret counts as a repetition.
const MIN_REPEATED: usize = 8;
/// How many bytes of a secret are searched for a pattern. Every pattern shows in fewer.
const SEARCHED: usize = 512;
/// The shortest repetition that counts as one step.
const MIN_MATCH: usize = 3;
/// The characters between words, which are skipped.
const SEPARATORS: &[u8] = b"-_ ./:";
/// How far apart the members of a sequence may be: `abcd…`, `a1b2…`, `ab12cd34…`.
const MAX_LAG: usize = 4;

/// Phrases from example files, without punctuation.
const PLACEHOLDERS: [&str; 14] = [
    "yoursupersecret",
    "yoursecret",
    "yourjwtsecret",
    "your256bitsecret",
    "256bitsecret",
    "384bitsecret",
    "512bitsecret",
    "changeme",
    "changethis",
    "changeinproduction",
    "replaceme",
    "placeholder",
    "examplesecret",
    "supersecretkey",
];

/// Common parts of secrets that people make up: the rows of a keyboard, the alphabet,
/// and the words of example files.
const COMMON: &str = "0123456789 9876543210 abcdefghijklmnopqrstuvwxyz zyxwvutsrqponmlkjihgfedcba \
    qwertyuiopasdfghjklzxcvbnm qwertz azertyuiopqsdfghjklmwxcvbn 1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p \
    !@#$%^&*() secret password passphrase jwt json web token access refresh super very really long string random \
    key keys private public your this that these there with change please here must should least at bits bytes \
    characters default example sample test testing demo development production staging local secure security \
    thisis thisisa thisismy isnot isonly ismy isan isthe thatis thatmust mustbe shouldbe atleast forjwt foryour \
    donotuse inproduction whichis ofmy tobe signing signature auth authentication authorization application api \
    server backend service user admin login session cookie hello world value dummy foobar do not use in for the is \
    and my our some any valid only enough minimum length generate generated freshkey company project hmac sha \
    256 384 512 hs256 rs256 es256";

/// The first 8 bytes, in hexadecimal, of the SHA-256 of every published secret of at
/// least 32 bytes, as [`normalized`]: those of wallarm/jwt-secrets and
/// FaqZul/JWT-secrets (both MIT), and of the documentation of widely used libraries and
/// of RFCs 7515, 7520 and 8037. They are hashed so that this repository does not spread
/// them.
static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("known.txt").lines().collect());

/// Checks that a secret is long enough, hard to guess and not published.
///
/// # Errors
///
/// [`KeyError::TooShort`] for fewer than 32 bytes; [`KeyError::Guessable`] for a
/// placeholder or a pattern; [`KeyError::Known`] for a published secret;
/// [`KeyError::Pem`] for a key in PEM, whose public half may be published.
pub fn check(secret: &str) -> Result<(), KeyError> {
    let letters = secret.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    let letters = Zeroizing::new(letters.collect::<String>());
    if pem::is_pem(secret) {
        Err(KeyError::Pem)
    } else if PLACEHOLDERS.iter().any(|placeholder| letters.contains(placeholder)) {
        Err(KeyError::Guessable)
    } else if secret.len() < MIN_BYTES {
        Err(KeyError::TooShort)
    } else if is_known(secret.as_bytes()) {
        Err(KeyError::Known)
    } else if distinct(secret.as_bytes()) < MIN_DISTINCT
        || is_repetition(secret.as_bytes())
        || is_pattern(secret.as_bytes(), SEPARATORS)
    {
        Err(KeyError::Guessable)
    } else {
        // A weak secret is no better in another encoding.
        for bytes in decoded(secret) {
            if is_known(&bytes) || written(&bytes).iter().any(|text| is_known(text.as_bytes())) {
                return Err(KeyError::Known);
            }
            // Bytes of the value of a separator mean nothing in what is not text.
            let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
            if is_pattern(&bytes, if is_text { SEPARATORS } else { b"" }) {
                return Err(KeyError::Guessable);
            }
        }
        Ok(())
    }
}

/// Returns whether a secret is published.
fn is_known(secret: &[u8]) -> bool {
    let normalized = normalized(secret);
    let hash = Hash::of(&[&normalized]);
    let name: String = hash.as_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    normalized.as_slice() == DEMO_SECRET.as_bytes() || KNOWN.contains(name.as_str())
}

/// Returns a secret in the form of the list: in lower case, without blanks and quotes around it.
fn normalized(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let is_around = |byte: &u8| b" \t\r\n\"'".contains(byte);
    let start = secret.iter().position(|byte| !is_around(byte)).unwrap_or(secret.len());
    let end = secret.iter().rposition(|byte| !is_around(byte)).map_or(start, |last| last + 1);
    Zeroizing::new(secret[start..end].to_ascii_lowercase())
}

fn distinct(secret: &[u8]) -> usize {
    secret.iter().collect::<HashSet<_>>().len()
}

/// Returns whether a secret repeats a text that is too short to be a secret.
fn is_repetition(secret: &[u8]) -> bool {
    let periods = 1..MIN_BYTES.min((secret.len() + 1).saturating_sub(MIN_REPEATED));
    periods.into_iter().any(|period| secret[period..] == secret[..secret.len() - period])
}

/// Returns whether a secret takes few steps to describe: it repeats itself, runs
/// through a sequence, or consists of common words.
fn is_pattern(secret: &[u8], skipped: &[u8]) -> bool {
    let secret = &secret[..secret.len().min(SEARCHED)];
    let is_text = |byte: &&u8| !skipped.contains(byte);
    let text: Zeroizing<Vec<u8>> = Zeroizing::new(secret.iter().filter(is_text).map(u8::to_ascii_lowercase).collect());
    let differences = (1..=MAX_LAG).map(|lag| {
        let ahead = secret.iter().skip(lag);
        Zeroizing::new(ahead.zip(secret).map(|(next, byte)| next.wrapping_sub(*byte)).collect::<Vec<_>>())
    });
    steps(&text, COMMON.as_bytes()) < MIN_STEPS || differences.into_iter().any(|text| steps(&text, b"") < MIN_STEPS)
}

/// Returns how many steps it takes to write `text`, up to [`MIN_STEPS`]: each is a
/// byte, or a copy of something in `common` or earlier in the text (LZ77).
fn steps(text: &[u8], common: &[u8]) -> usize {
    let (mut steps, mut at) = (0, 0);
    while at < text.len() && steps < MIN_STEPS {
        let rest = &text[at..];
        at += longest_copy(common, common.len(), rest).max(longest_copy(text, at, rest)).unwrap_or(1);
        steps += 1;
    }
    steps
}

/// Returns the length of the longest prefix of `rest` that begins at one of the first
/// `starts` bytes of `source`, if it is long enough to count.
fn longest_copy(source: &[u8], starts: usize, rest: &[u8]) -> Option<usize> {
    let beginning = rest.get(..MIN_MATCH)?;
    let places = source.windows(MIN_MATCH).enumerate().take(starts).filter(|(_, window)| *window == beginning);
    places.map(|(start, _)| source[start..].iter().zip(rest).take_while(|(a, b)| a == b).count()).max()
}

/// Decodes the secret from hexadecimal and from base64. Skips what cannot be decoded or
/// is too short to be judged.
fn decoded(secret: &str) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    let secret = secret.trim();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(secret).ok();
    [hexadecimal(secret), base64(&alphabet::STANDARD), base64(&alphabet::URL_SAFE)]
        .into_iter()
        .flatten()
        .filter(|bytes| bytes.len() >= MIN_STEPS + MAX_LAG)
        .map(Zeroizing::new)
}

/// The ways to write bytes: a published secret may be given in another.
fn written(bytes: &[u8]) -> [Zeroizing<String>; 5] {
    let hexadecimal = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(bytes));
    let [standard, standard_no_pad, url_safe, url_safe_no_pad] = base64;
    [hexadecimal, standard, standard_no_pad, url_safe, url_safe_no_pad].map(Zeroizing::new)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = Zeroizing::new(digits?);
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
