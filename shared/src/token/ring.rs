//! The keys: who verifies with what, by `kid`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hkdf;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::pem;
use crate::json;

/// The `kid` of the one key of JWT_SECRET_KEY: the same that a generated secret
/// has, so that moving from the one to the other signs nobody out.
const ONLY_KEY: &str = "k1";
/// What the refresh tokens' key is derived for; a change signs everyone out.
const REFRESH_LABEL: &[u8] = b"freshkey refresh token v1";
/// What the device tokens' key is derived for; a change makes every device a stranger.
const DEVICE_LABEL: &[u8] = b"freshkey device token v1";
/// What follows a key's name in the name of its passphrase.
const PASSPHRASE: &str = ".passphrase";
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

/// The algorithms of access tokens, by the names that JWT_ALGORITHM has for them.
pub const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// Every key that verifies, and which of them sign. By default there is none.
#[derive(Default)]
pub struct KeyRing {
    ring: BTreeMap<String, Key>,
    signing: String,
    refresh: String,
}

/// A random secret, put to its three uses, or a private key, which has but one.
/// Access tokens are signed with the secret as it is, so that other services
/// can verify them; refresh tokens and device tokens each with a key derived
/// from it (HKDF-SHA256, RFC 5869), so that none passes for another.
struct Key {
    access: Pair,
    refresh: Option<Pair>,
    device: Option<Pair>,
    public: Option<Jwk>,
}

/// The two halves of a key, and the one algorithm that it is for. With HMAC
/// they are one.
pub struct Pair {
    /// What no other algorithm is accepted than.
    pub algorithm: Algorithm,
    /// The secret half.
    pub signs: EncodingKey,
    /// The half to compare with.
    pub verifies: DecodingKey,
}

/// What is wrong with a secret. It never shows any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
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
    /// `refresh` names a private key.
    #[error("\"refresh\" must name a random secret, whatever signs access tokens")]
    RefreshKey,
    /// It is no private key in PEM.
    #[error("is not a private key in PEM: PKCS#8, PKCS#1 or SEC1 (`openssl pkcs8 -topk8` writes the first)")]
    NotPem,
    /// It is encrypted, and this does not open it.
    #[error("is encrypted, and its passphrase is missing or wrong")]
    Passphrase,
    /// It is a key of another kind, or a weak one.
    #[error("must be RSA with 2048 to 8192 bits, P-256 or Ed25519")]
    Unsupported,
    /// The key that signs is not one for JWT_ALGORITHM.
    #[error("is for {found:?}, and JWT_ALGORITHM is {expected:?}")]
    Algorithm {
        /// What the settings say.
        expected: Algorithm,
        /// What the key is for.
        found: Algorithm,
    },
    /// One of the keys has a fault of its own.
    #[error("the key {name:?} {fault}")]
    Key {
        /// The name of the key.
        name: String,
        /// Its fault.
        fault: Box<KeyError>,
    },
}

impl KeyRing {
    /// The one key that JWT_SECRET_KEY holds.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooShort`] or [`KeyError::Guessable`].
    pub fn single(secret: &SecretString) -> Result<Self, KeyError> {
        let ring = BTreeMap::from([(ONLY_KEY.to_owned(), Key::secret(secret.expose_secret())?)]);
        Ok(Self { ring, signing: ONLY_KEY.into(), refresh: ONLY_KEY.into() })
    }

    /// These keys and a private one, in PEM, which signs access tokens from now
    /// on. Its name is its thumbprint (RFC 7638).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPem`], [`KeyError::Passphrase`] or [`KeyError::Unsupported`].
    pub fn with_private_key(mut self, pem: &str, passphrase: Option<&SecretString>) -> Result<Self, KeyError> {
        let key = Key::private(pem, passphrase)?;
        let thumbprint = key.public.as_ref().map(|public| public.thumbprint(ThumbprintHash::SHA256));
        self.signing = thumbprint.and_then(Result::ok).ok_or(KeyError::Unsupported)?;
        self.ring.insert(self.signing.clone(), key);
        Ok(self)
    }

    /// The keys in a secret of Secrets Manager:
    /// `{"signing": "k2", "refresh": "k1", "k1": "<secret>", "k2": "<PEM>", "k2.passphrase": "…"}`.
    /// Every key verifies; `signing` and `refresh` say which ones sign.
    ///
    /// # Errors
    ///
    /// The first fault that is found.
    pub fn parse(secret: &SecretString) -> Result<Self, KeyError> {
        let members = json::object(secret.expose_secret().as_bytes(), 1).map_err(|_| KeyError::Shape)?;
        let mut texts = BTreeMap::new();
        for (name, value) in members {
            let Value::String(text) = value else { return Err(KeyError::Shape) };
            texts.insert(name, Zeroizing::new(text));
        }
        let mut role = |name| texts.remove(name).ok_or(KeyError::Missing(name));
        let (signing, refresh) = (role("signing")?, role("refresh")?);
        let names: Vec<_> = texts.keys().filter(|name| !name.ends_with(PASSPHRASE)).cloned().collect();
        let mut ring = BTreeMap::new();
        for name in names {
            let text = texts.remove(&name).unwrap_or_default();
            let passphrase = texts.remove(&format!("{name}{PASSPHRASE}")).map(|text| text.as_str().into());
            if !is_kid(&name) {
                return Err(KeyError::Name(name));
            }
            let key = if pem::is_pem(&text) { Key::private(&text, passphrase.as_ref()) } else { Key::secret(&text) };
            match key {
                Ok(key) => ring.insert(name, key),
                Err(fault) => return Err(KeyError::Key { name, fault: Box::new(fault) }),
            };
        }
        // A passphrase of no key.
        if let Some((name, _)) = texts.pop_first() {
            return Err(KeyError::Name(name));
        }
        let of = |role, name: &str| ring.get(name).ok_or(KeyError::Missing(role));
        of("signing", &signing)?;
        of("refresh", &refresh)?.refresh.as_ref().ok_or(KeyError::RefreshKey)?;
        Ok(Self { ring, signing: signing.to_string(), refresh: refresh.to_string() })
    }

    /// These keys, if the one that signs access tokens is for `expected`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Algorithm`].
    pub fn for_algorithm(self, expected: Algorithm) -> Result<Self, KeyError> {
        match self.access_signer() {
            Some((_, pair)) if pair.algorithm != expected => {
                Err(KeyError::Algorithm { expected, found: pair.algorithm })
            }
            _ => Ok(self),
        }
    }

    /// What others need to verify access tokens: a JWK set (RFC 7517) of the
    /// public halves. A random secret has none.
    pub fn public(&self) -> JwkSet {
        let public = self.ring.iter().filter_map(|(name, key)| {
            let mut public = key.public.clone()?;
            public.common.key_id = Some(name.clone());
            public.common.public_key_use = Some(PublicKeyUse::Signature);
            Some(public)
        });
        JwkSet { keys: public.collect() }
    }

    /// The name and the key that sign access tokens.
    pub(super) fn access_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.signing).map(|key| (self.signing.as_str(), &key.access))
    }

    /// The name and the key that sign refresh tokens.
    pub(super) fn refresh_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.refresh)?.refresh.as_ref().map(|pair| (self.refresh.as_str(), pair))
    }

    /// The name and the key that sign device tokens: those of refresh tokens.
    pub(super) fn device_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.refresh)?.device.as_ref().map(|pair| (self.refresh.as_str(), pair))
    }

    /// The key of this name, to verify device tokens.
    pub(super) fn device_verifier(&self, kid: &str) -> Option<&Pair> {
        self.ring.get(kid)?.device.as_ref()
    }

    /// The key of this name, to verify access tokens.
    pub(super) fn access_verifier(&self, kid: &str) -> Option<&Pair> {
        self.ring.get(kid).map(|key| &key.access)
    }

    /// The key of this name, to verify refresh tokens.
    pub(super) fn refresh_verifier(&self, kid: &str) -> Option<&Pair> {
        self.ring.get(kid)?.refresh.as_ref()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.ring.keys().collect();
        f.debug_struct("KeyRing")
            .field("signing", &self.signing)
            .field("refresh", &self.refresh)
            .field("names", &names)
            .finish()
    }
}

impl Key {
    fn secret(secret: &str) -> Result<Self, KeyError> {
        check(secret)?;
        let derived = |label| derive(secret.as_bytes(), label).ok_or(KeyError::TooShort);
        Ok(Self {
            access: Pair::hmac(secret.as_bytes()),
            refresh: Some(Pair::hmac(&*derived(REFRESH_LABEL)?)),
            device: Some(Pair::hmac(&*derived(DEVICE_LABEL)?)),
            public: None,
        })
    }

    fn private(pem: &str, passphrase: Option<&SecretString>) -> Result<Self, KeyError> {
        let (access, public) = pem::read(pem, passphrase)?;
        Ok(Self { access, refresh: None, device: None, public: Some(public) })
    }
}

impl Pair {
    fn hmac(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            signs: EncodingKey::from_secret(secret),
            verifies: DecodingKey::from_secret(secret),
        }
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
fn check(secret: &str) -> Result<(), KeyError> {
    let lower = secret.to_lowercase();
    let mut seen = [false; 256];
    for byte in secret.bytes() {
        seen[usize::from(byte)] = true;
    }
    if PLACEHOLDERS.iter().any(|placeholder| lower.contains(placeholder)) {
        Err(KeyError::Guessable)
    } else if secret.len() < MIN_BYTES {
        Err(KeyError::TooShort)
    } else if seen.iter().filter(|seen| **seen).count() < MIN_DISTINCT {
        Err(KeyError::Guessable)
    } else {
        Ok(())
    }
}

fn is_kid(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
