//! The keys: who verifies with what, by `kid`.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hkdf;
use jsonwebtoken::{DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::json;

/// The `kid` of the one key of JWT_SECRET_KEY: the same that a generated secret
/// has, so that moving from the one to the other signs nobody out.
const ONLY_KEY: &str = "k1";
/// What the refresh tokens' key is derived for; a change signs everyone out.
const REFRESH_LABEL: &[u8] = b"freshkey refresh token v1";
/// The fewest bytes of an HS256 key (RFC 7518, section 3.2).
const MIN_BYTES: usize = 32;
/// The fewest different bytes: a random key of 32 hexadecimal digits has more.
const MIN_DISTINCT: usize = 8;
/// Words that stand in example files, not in secrets.
const PLACEHOLDERS: [&str; 8] = [
    "your-super-secret",
    "your-secret",
    "your_secret",
    "change-me",
    "changeme",
    "change_me",
    "placeholder",
    "example-secret",
];

/// Every key that verifies, and which of them sign.
pub struct Keys {
    ring: BTreeMap<String, Key>,
    signing: String,
    refresh: String,
}

/// One secret, put to its two uses. Access tokens are signed with the secret as
/// it is, so that other services can verify them; refresh tokens with a key
/// derived from it (HKDF-SHA256, RFC 5869), so that neither passes for the other.
struct Key {
    access: Pair,
    refresh: Pair,
}

/// The two halves of a key; with HMAC they are one.
pub(super) struct Pair {
    pub(super) signs: EncodingKey,
    pub(super) verifies: DecodingKey,
}

/// What is wrong with a secret. It never shows any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// It is too short.
    #[error("must be at least {MIN_BYTES} bytes of randomness, such as `openssl rand -base64 48` prints")]
    TooShort,
    /// It is a placeholder from an example, or has a handful of different bytes.
    #[error("is a placeholder or easily guessed: make one with `openssl rand -base64 48`")]
    Guessable,
    /// The secret of Secrets Manager is not one flat JSON object of strings.
    #[error("must be one flat JSON object: {{\"signing\": \"k1\", \"refresh\": \"k1\", \"k1\": \"<secret>\"}}")]
    Shape,
    /// A key's name cannot be a `kid`.
    #[error("the key name {0:?} must be at most 64 letters, digits, `-` or `_`")]
    Name(String),
    /// `signing` or `refresh` names no key.
    #[error("{0:?} must name one of the keys")]
    Missing(&'static str),
    /// This key is not a secret of the kind that HS256 takes.
    #[error("the key {0:?} is a PEM, and JWT_ALGORITHM=HS256 takes random secrets")]
    Pem(String),
    /// One of the keys has a fault of its own.
    #[error("the key {name:?} {fault}")]
    Key {
        /// The name of the key.
        name: String,
        /// Its fault.
        fault: Box<InvalidKeys>,
    },
}

impl Keys {
    /// The one key that JWT_SECRET_KEY holds.
    ///
    /// # Errors
    ///
    /// [`InvalidKeys::TooShort`] or [`InvalidKeys::Guessable`].
    pub fn single(secret: &SecretString) -> Result<Self, InvalidKeys> {
        let ring = BTreeMap::from([(ONLY_KEY.to_owned(), Key::new(secret.expose_secret())?)]);
        Ok(Self { ring, signing: ONLY_KEY.into(), refresh: ONLY_KEY.into() })
    }

    /// The keys in a secret of Secrets Manager:
    /// `{"signing": "k2", "refresh": "k1", "k1": "<secret>", "k2": "<secret>"}`.
    /// Every key verifies; `signing` and `refresh` say which ones sign.
    ///
    /// # Errors
    ///
    /// The first fault that is found.
    pub fn parse(secret: &SecretString) -> Result<Self, InvalidKeys> {
        let members = json::object(secret.expose_secret().as_bytes(), 1).map_err(|_| InvalidKeys::Shape)?;
        let mut texts = BTreeMap::new();
        for (name, value) in members {
            let Value::String(text) = value else { return Err(InvalidKeys::Shape) };
            texts.insert(name, Zeroizing::new(text));
        }
        let mut role = |name| texts.remove(name).ok_or(InvalidKeys::Missing(name));
        let (signing, refresh) = (role("signing")?, role("refresh")?);
        let mut ring = BTreeMap::new();
        for (name, text) in texts {
            if !is_kid(&name) {
                return Err(InvalidKeys::Name(name));
            }
            if text.trim_start().starts_with("-----BEGIN") {
                return Err(InvalidKeys::Pem(name));
            }
            match Key::new(&text) {
                Ok(key) => ring.insert(name, key),
                Err(fault) => return Err(InvalidKeys::Key { name, fault: Box::new(fault) }),
            };
        }
        for (role, name) in [("signing", &signing), ("refresh", &refresh)] {
            if !ring.contains_key(name.as_str()) {
                return Err(InvalidKeys::Missing(role));
            }
        }
        Ok(Self { ring, signing: signing.to_string(), refresh: refresh.to_string() })
    }

    /// The name and the key that sign access tokens.
    pub(super) fn access_signer(&self) -> Option<(&str, &EncodingKey)> {
        self.ring.get(&self.signing).map(|key| (self.signing.as_str(), &key.access.signs))
    }

    /// The name and the key that sign refresh tokens.
    pub(super) fn refresh_signer(&self) -> Option<(&str, &EncodingKey)> {
        self.ring.get(&self.refresh).map(|key| (self.refresh.as_str(), &key.refresh.signs))
    }

    /// The key of this name, to verify access tokens.
    pub(super) fn access_verifier(&self, kid: &str) -> Option<&DecodingKey> {
        self.ring.get(kid).map(|key| &key.access.verifies)
    }

    /// The key of this name, to verify refresh tokens.
    pub(super) fn refresh_verifier(&self, kid: &str) -> Option<&DecodingKey> {
        self.ring.get(kid).map(|key| &key.refresh.verifies)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.ring.keys().collect();
        f.debug_struct("Keys")
            .field("signing", &self.signing)
            .field("refresh", &self.refresh)
            .field("names", &names)
            .finish()
    }
}

impl Key {
    fn new(secret: &str) -> Result<Self, InvalidKeys> {
        check(secret)?;
        Ok(Self {
            access: Pair::hmac(secret.as_bytes()),
            refresh: Pair::hmac(&*derive(secret.as_bytes(), REFRESH_LABEL).ok_or(InvalidKeys::TooShort)?),
        })
    }
}

impl Pair {
    fn hmac(secret: &[u8]) -> Self {
        Self { signs: EncodingKey::from_secret(secret), verifies: DecodingKey::from_secret(secret) }
    }
}

/// HKDF-SHA256, extract and expand, to 32 bytes. `None` never happens for this length.
fn derive(secret: &[u8], label: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut derived = Zeroizing::new([0; 32]);
    let labels = [label];
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    pseudorandom.expand(&labels, hkdf::HKDF_SHA256).ok()?.fill(&mut *derived).ok()?;
    Some(derived)
}

/// Refuses what nobody should sign with.
fn check(secret: &str) -> Result<(), InvalidKeys> {
    let lower = secret.to_lowercase();
    let mut seen = [false; 256];
    for byte in secret.bytes() {
        seen[usize::from(byte)] = true;
    }
    if PLACEHOLDERS.iter().any(|placeholder| lower.contains(placeholder)) {
        Err(InvalidKeys::Guessable)
    } else if secret.len() < MIN_BYTES {
        Err(InvalidKeys::TooShort)
    } else if seen.iter().filter(|seen| **seen).count() < MIN_DISTINCT {
        Err(InvalidKeys::Guessable)
    } else {
        Ok(())
    }
}

fn is_kid(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
    const OTHER: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";

    fn parse(text: &str) -> Result<Keys, InvalidKeys> {
        Keys::parse(&text.into())
    }

    #[test]
    fn se1_jw13_what_nobody_should_sign_with_is_refused() {
        for (secret, fault) in [
            ("", InvalidKeys::TooShort),
            (&SECRET[..31], InvalidKeys::TooShort),
            ("secret", InvalidKeys::TooShort),
            ("your-super-secret-key-here", InvalidKeys::Guessable),
            ("Your-Super-Secret-Key-Here-And-Then-Some", InvalidKeys::Guessable),
            ("changeme-changeme-changeme-changeme", InvalidKeys::Guessable),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", InvalidKeys::Guessable),
            ("abcabcabcabcabcabcabcabcabcabcabcabcabc", InvalidKeys::Guessable),
        ] {
            assert_eq!(Keys::single(&secret.into()).unwrap_err(), fault, "{secret}");
        }
        assert!(Keys::single(&SECRET.into()).is_ok());
        assert!(Keys::single(&format!("secret-token:{SECRET}").into()).is_ok());
    }

    #[test]
    fn a_generated_secret_holds_the_keys_by_name() {
        let keys = parse(&format!(r#"{{"signing":"k2","refresh":"k1","k1":"{SECRET}","k2":"{OTHER}"}}"#)).unwrap();
        assert_eq!(keys.access_signer().unwrap().0, "k2");
        assert_eq!(keys.refresh_signer().unwrap().0, "k1");
        assert!(keys.access_verifier("k1").is_some() && keys.refresh_verifier("k2").is_some());
        assert!(keys.access_verifier("signing").is_none());
    }

    #[test]
    fn a_secret_of_another_shape_is_refused_by_name() {
        let keyed = |members: &str| format!(r#"{{"signing":"k1","refresh":"k1",{members}}}"#);
        for (text, fault) in [
            ("x".into(), InvalidKeys::Shape),
            ("[]".into(), InvalidKeys::Shape),
            (keyed(r#""k1":1"#), InvalidKeys::Shape),
            (keyed(r#""k1":{"a":"b"}"#), InvalidKeys::Shape),
            (keyed(&format!(r#""k1":"{SECRET}","k1":"{OTHER}""#)), InvalidKeys::Shape),
            (keyed(&format!(r#""k2":"{SECRET}""#)), InvalidKeys::Missing("signing")),
            (format!(r#"{{"signing":"k1","k1":"{SECRET}"}}"#), InvalidKeys::Missing("refresh")),
            (keyed(&format!(r#""k1":"{SECRET}","a/b":"{OTHER}""#)), InvalidKeys::Name("a/b".into())),
            (keyed(r#""k1":"-----BEGIN PRIVATE KEY-----""#), InvalidKeys::Pem("k1".into())),
            (keyed(r#""k1":"short""#), InvalidKeys::Key { name: "k1".into(), fault: Box::new(InvalidKeys::TooShort) }),
        ] {
            assert_eq!(parse(&text).unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn se3_the_derived_key_is_hkdf_sha256() {
        // Computed with Python's hmac, by the two steps of RFC 5869.
        let derived = derive(SECRET.as_bytes(), REFRESH_LABEL).unwrap();
        let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c4198e3f22dfbb1c216a8fc2e40b305ed20d059cc0d1beb9a9fb25024597894a");
    }

    #[test]
    fn se5_keys_are_never_printed() {
        let printed = format!("{:?}", Keys::single(&SECRET.into()));
        assert!(!printed.contains(&SECRET[..8]), "{printed}");
    }
}
