//! The ring of keys: which key signs, and which keys verify, by `kid`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hkdf;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::imported::ImportKeys;
use super::key::{KeyError, Pair};
use super::{pem, secret};
use crate::json;

/// The `kid` of the key in JWT_SECRET_KEY. The first key of a generated secret has the
/// same name, so that moving from one to the other signs nobody out.
const ONLY_KEY: &str = "k1";
/// The HKDF label of the key for refresh tokens. Changing it signs everyone out.
const REFRESH_LABEL: &[u8] = b"freshkey refresh token v1";
/// The HKDF label of the key for device tokens. Changing it makes every device unknown.
const DEVICE_LABEL: &[u8] = b"freshkey device token v1";
/// The most characters of a `kid`.
pub(super) const MAX_KID: usize = 64;
/// The end of the name under which a key's passphrase is stored.
const PASSPHRASE: &str = ".passphrase";

/// All keys, and which of them sign. The default ring is empty.
#[derive(Default)]
pub struct KeyRing {
    ring: BTreeMap<String, Key>,
    signing: String,
    refresh: String,
}

/// A random secret with the keys for its uses, or a private key, which signs
/// access tokens only.
///
/// Access tokens are signed with the secret itself, so that other services can
/// verify them. Refresh tokens and device tokens are each signed with a key
/// derived from it (HKDF-SHA256, RFC 5869), so that no kind passes for another. The keys
/// for imported tokens are derived from it, too.
struct Key {
    access: Pair,
    refresh: Option<Pair>,
    device: Option<Pair>,
    import: Option<ImportKeys>,
    public: Option<Jwk>,
}

impl KeyRing {
    /// Returns the ring with the secret of JWT_SECRET_KEY as its only key.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooShort`] for fewer than 32 bytes; [`KeyError::Guessable`] for a
    /// placeholder or a pattern; [`KeyError::Known`] for a published secret;
    /// [`KeyError::Pem`] for a key in PEM.
    pub fn single(secret: &SecretString) -> Result<Self, KeyError> {
        secret::check(secret.expose_secret())?;
        Self::of(secret.expose_secret())
    }

    /// Returns the ring of the demo, whose secret is public. [`Config`](crate::Config)
    /// accepts it only with a table on the same machine.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooShort`] when no key can be derived from the secret.
    pub fn demo() -> Result<Self, KeyError> {
        Self::of(secret::DEMO_SECRET)
    }

    fn of(secret: &str) -> Result<Self, KeyError> {
        let ring = BTreeMap::from([(ONLY_KEY.to_owned(), Key::secret(secret)?)]);
        Ok(Self { ring, signing: ONLY_KEY.into(), refresh: ONLY_KEY.into() })
    }

    /// Adds a private key in PEM, which signs access tokens from now on. Its
    /// name is its thumbprint (RFC 7638).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPem`] for a text without a private key; [`KeyError::Passphrase`]
    /// when the key is encrypted and `passphrase` does not open it;
    /// [`KeyError::Unsupported`] for a weak key or one of another kind.
    pub fn with_private_key(mut self, pem: &str, passphrase: Option<&SecretString>) -> Result<Self, KeyError> {
        let key = Key::private(pem, passphrase)?;
        let thumbprint = key.public.as_ref().map(|public| public.thumbprint(ThumbprintHash::SHA256));
        self.signing = thumbprint.and_then(Result::ok).ok_or(KeyError::Unsupported)?;
        self.ring.insert(self.signing.clone(), key);
        Ok(self)
    }

    /// Reads the keys of a secret in Secrets Manager:
    /// `{"signing": "k2", "refresh": "k1", "k1": "<secret>", "k2": "<PEM>", "k2.passphrase": "…"}`.
    /// `signing` names the key that signs access tokens, `refresh` the one that
    /// signs refresh tokens.
    ///
    /// # Errors
    ///
    /// The first fault: [`KeyError::Shape`] for anything but a flat JSON object of
    /// strings; [`KeyError::Missing`] when `signing` or `refresh` does not name a key;
    /// [`KeyError::RefreshKey`] when `refresh` names a private key; [`KeyError::Name`]
    /// for a name that cannot be a `kid`; [`KeyError::Key`] for a fault of one key.
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
            let key = if pem::is_pem(&text) {
                Key::private(&text, passphrase.as_ref())
            } else {
                secret::check(&text).and_then(|()| Key::secret(&text))
            };
            match key {
                Ok(key) => ring.insert(name, key),
                Err(fault) => return Err(KeyError::Key { name, fault: Box::new(fault) }),
            };
        }
        // The remaining members are passphrases without a key.
        if let Some((name, _)) = texts.pop_first() {
            return Err(KeyError::Name(name));
        }
        let of = |role, name: &str| ring.get(name).ok_or(KeyError::Missing(role));
        of("signing", &signing)?;
        of("refresh", &refresh)?.refresh.as_ref().ok_or(KeyError::RefreshKey)?;
        Ok(Self { ring, signing: signing.to_string(), refresh: refresh.to_string() })
    }

    /// Returns the ring if its signing key is for `expected`, which is JWT_ALGORITHM.
    ///
    /// # Errors
    ///
    /// [`KeyError::Algorithm`] when the signing key is for another algorithm.
    pub fn for_algorithm(self, expected: Algorithm) -> Result<Self, KeyError> {
        match self.access_signer() {
            Some((_, pair)) if pair.algorithm != expected => {
                Err(KeyError::Algorithm { expected, found: pair.algorithm })
            }
            _ => Ok(self),
        }
    }

    /// Returns the name of each key with the algorithm of the access tokens that it signs.
    /// A key for HS256 is a random secret, and can sign refresh tokens, too.
    pub fn algorithms(&self) -> impl Iterator<Item = (&str, Algorithm)> {
        self.ring.iter().map(|(name, key)| (name.as_str(), key.access.algorithm))
    }

    /// Returns the public halves as a JWK set (RFC 7517), with which other
    /// services verify access tokens. A random secret has no public half.
    pub fn public(&self) -> JwkSet {
        let public = self.ring.iter().filter_map(|(name, key)| {
            let mut public = key.public.clone()?;
            public.common.key_id = Some(name.clone());
            public.common.public_key_use = Some(PublicKeyUse::Signature);
            Some(public)
        });
        JwkSet { keys: public.collect() }
    }

    /// Returns the key that signs access tokens, and its name.
    pub(super) fn access_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.signing).map(|key| (self.signing.as_str(), &key.access))
    }

    /// Returns the key that signs refresh tokens, and its name.
    pub(super) fn refresh_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.refresh)?.refresh.as_ref().map(|pair| (self.refresh.as_str(), pair))
    }

    /// Returns the key that signs device tokens, and its name.
    pub(super) fn device_signer(&self) -> Option<(&str, &Pair)> {
        self.ring.get(&self.refresh)?.device.as_ref().map(|pair| (self.refresh.as_str(), pair))
    }

    /// Returns the key that verifies device tokens with this `kid`.
    pub(super) fn device_verifier(&self, kid: &str) -> Option<&Pair> {
        self.ring.get(kid)?.device.as_ref()
    }

    /// Returns the key that verifies access tokens with this `kid`. A token is accepted
    /// only if [`signs_with`](Self::signs_with) is true for the key's algorithm.
    pub(super) fn access_verifier(&self, kid: &str) -> Option<&Pair> {
        self.ring.get(kid).map(|key| &key.access)
    }

    /// Returns whether access tokens are signed with this algorithm.
    pub(super) fn signs_with(&self, algorithm: Algorithm) -> bool {
        self.access_signer().is_some_and(|(_, pair)| pair.algorithm == algorithm)
    }

    /// Returns the keys for imported tokens that are derived from the secret `kid`.
    pub(super) fn import_keys(&self, kid: &str) -> Option<&ImportKeys> {
        self.ring.get(kid)?.import.as_ref()
    }

    /// Returns the key that verifies refresh tokens with this `kid`.
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
        let derived = |label| derive(secret.as_bytes(), label).ok_or(KeyError::TooShort);
        Ok(Self {
            access: Pair::hmac(secret.as_bytes()),
            refresh: Some(Pair::hmac(&*derived(REFRESH_LABEL)?)),
            device: Some(Pair::hmac(&*derived(DEVICE_LABEL)?)),
            import: Some(ImportKeys::derive(secret.as_bytes()).ok_or(KeyError::TooShort)?),
            public: None,
        })
    }

    fn private(pem: &str, passphrase: Option<&SecretString>) -> Result<Self, KeyError> {
        let (access, public) = pem::read(pem, passphrase)?;
        Ok(Self { access, refresh: None, device: None, import: None, public: Some(public) })
    }
}

/// Derives 32 bytes with HKDF-SHA256, extract and expand. Never `None` for this length.
pub(super) fn derive(secret: &[u8], label: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut derived = Zeroizing::new([0; 32]);
    let labels = [label];
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    pseudorandom.expand(&labels, hkdf::HKDF_SHA256).ok()?.fill(&mut *derived).ok()?;
    Some(derived)
}

/// Returns whether a name can be that of a key.
pub(crate) fn is_kid(name: &str) -> bool {
    (1..=MAX_KID).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
