//! Imported refresh tokens: tokens of another system, whose users stay signed in when
//! they move here. The table knows them by a keyed hash, because short tokens could be
//! guessed from a plain one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};

use super::ring::{KeyRing, derive};
use super::{jwt, refresh};
use crate::clock::Timestamp;
use crate::id::SessionId;
use crate::session::{Hash, Secret};

/// The HKDF label of the key for the names of imported tokens. Changing it loses them all.
const NAME_LABEL: &[u8] = b"freshkey imported token v1";
/// The HKDF label of the salt for their seals.
const SALT_LABEL: &[u8] = b"freshkey imported token salt v1";
/// The HKDF label of a seal.
const SEAL_LABEL: &[u8] = b"freshkey imported token seal v1";
/// A key seals one message, so its nonce need not differ.
const NONCE: [u8; 12] = [0; 12];

/// How imported refresh tokens are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedTokens {
    /// From this moment on, none is accepted.
    pub until: Timestamp,
    /// The name of the random secret in the ring from which their keys are derived.
    pub kid: String,
}

/// The keys for imported tokens, derived from one random secret.
pub(super) struct ImportKeys {
    name: hmac::Key,
    salt: hkdf::Salt,
}

impl ImportKeys {
    /// Derives the keys. Never `None`.
    pub(super) fn derive(secret: &[u8]) -> Option<Self> {
        Some(Self {
            name: hmac::Key::new(hmac::HMAC_SHA256, &*derive(secret, NAME_LABEL)?),
            salt: hkdf::Salt::new(hkdf::HKDF_SHA256, &*derive(secret, SALT_LABEL)?),
        })
    }

    /// Returns the key that seals the secret of `session` for the bearer of `token`.
    fn seal(&self, token: &str, session: SessionId) -> Option<LessSafeKey> {
        let session = session.to_string();
        let labels = [SEAL_LABEL, session.as_bytes()];
        let key = UnboundKey::from(self.salt.extract(token.as_bytes()).expand(&labels, &AES_256_GCM).ok()?);
        Some(LessSafeKey::new(key))
    }
}

impl ImportedTokens {
    /// Returns whether a token may be an imported one at `now`. A JWT of the type of
    /// Freshkey's own refresh tokens never is, whatever else is wrong with it.
    pub fn may_include(&self, token: &str, now: Timestamp) -> bool {
        now < self.until && Self::is_foreign(token)
    }

    /// Returns whether a token has a form that an imported one may have: at most 4096
    /// bytes, and not that of Freshkey's own refresh tokens.
    pub fn is_foreign(token: &str) -> bool {
        token.len() <= jwt::MAX_TOKEN && !jwt::is_of_type(token, refresh::TYP)
    }

    /// Returns the name under which the table holds a token with this SHA-256. `None`
    /// when the ring lacks the secret [`kid`](Self::kid).
    pub fn name(&self, ring: &KeyRing, sha256: &Hash) -> Option<Hash> {
        let tag = hmac::sign(&ring.import_keys(&self.kid)?.name, sha256.as_bytes());
        Hash::from_bytes(tag.as_ref())
    }

    /// Seals the secret of the session that `token` was exchanged for, so that only the
    /// token opens it. `None` when the ring lacks the secret [`kid`](Self::kid).
    pub fn seal(&self, ring: &KeyRing, token: &str, session: SessionId, secret: &Secret) -> Option<Vec<u8>> {
        let key = ring.import_keys(&self.kid)?.seal(token, session)?;
        let mut sealed = secret.expose().to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut sealed).ok()?;
        Some(sealed)
    }

    /// Opens what [`seal`](Self::seal) has sealed. `None` when the token or the session is
    /// another, or the ring lacks the secret [`kid`](Self::kid).
    pub fn open(&self, ring: &KeyRing, token: &str, session: SessionId, sealed: &[u8]) -> Option<Secret> {
        let key = ring.import_keys(&self.kid)?.seal(token, session)?;
        let mut opened = zeroize::Zeroizing::new(sealed.to_vec());
        let secret = key.open_in_place(Nonce::assume_unique_for_key(NONCE), Aad::empty(), &mut opened).ok()?;
        Some(Secret::from_bytes((&*secret).try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const TOKENS: ImportedTokens = ImportedTokens { until: Timestamp::from_seconds(2_000_000_000), kid: String::new() };

    fn ring(first: &str) -> KeyRing {
        let second = "Zk3vQxw8Jd1mRzT6yPbLc9sQ7HnXo2eWu5AfVgKi";
        let text = format!(r#"{{"signing": "k2", "refresh": "k2", "k1": "{first}", "k2": "{second}"}}"#);
        KeyRing::parse(&SecretString::from(text)).unwrap()
    }

    #[test]
    fn mi6_only_the_token_opens_the_seal_of_its_session() {
        let tokens = ImportedTokens { kid: "k1".into(), ..TOKENS };
        let ring = ring("pT4Wc8Vn1Lx6Rk9Bs3Yd7Hq2Mf5Jg0Ea8Uz1Xi6");
        let (session, secret) = (SessionId::random(), Secret::random());
        let sealed = tokens.seal(&ring, "token", session, &secret).unwrap();
        let opened = |tokens: &ImportedTokens, token, session, sealed: &[u8]| {
            tokens.open(&ring, token, session, sealed).map(|secret| *secret.expose())
        };
        assert_eq!(opened(&tokens, "token", session, &sealed), Some(*secret.expose()));
        assert!(!sealed.windows(8).any(|window| window == &secret.expose()[..8]));
        assert_eq!(opened(&tokens, "token2", session, &sealed), None);
        assert_eq!(opened(&tokens, "token", SessionId::random(), &sealed), None);
        assert_eq!(opened(&ImportedTokens { kid: "k2".into(), ..TOKENS }, "token", session, &sealed), None);
        assert_eq!(opened(&ImportedTokens { kid: "k3".into(), ..TOKENS }, "token", session, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(opened(&tokens, "token", session, &changed), None);
        }
    }

    #[test]
    fn mi6_the_name_of_a_token_depends_on_the_secret_and_hides_its_hash() {
        let tokens = ImportedTokens { kid: "k1".into(), ..TOKENS };
        let hash = Hash::of(&[b"token"]);
        let name = |secret| tokens.name(&ring(secret), &hash).unwrap();
        let first = name("pT4Wc8Vn1Lx6Rk9Bs3Yd7Hq2Mf5Jg0Ea8Uz1Xi6");
        assert_eq!(first, name("pT4Wc8Vn1Lx6Rk9Bs3Yd7Hq2Mf5Jg0Ea8Uz1Xi6"));
        assert_ne!(first, name("Qe7Tb2Kd9Wm4Zx1Vn6Rf8Ly3Hs5Jp0Gc2Ua7Oi4"));
        assert_ne!(first, hash);
    }

    #[test]
    fn mi8_no_token_of_this_system_and_none_after_the_end_may_be_an_imported_one() {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;

        let (before, end) = (Timestamp::from_seconds(1_999_999_999), TOKENS.until);
        let jwt = |header: &str| format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
        for foreign in ["", "x", "a.b.c", &"f".repeat(128), &jwt(r#"{"typ":"JWT","alg":"HS256"}"#), &"f".repeat(4096)] {
            assert!(TOKENS.may_include(foreign, before), "{foreign}");
            assert!(!TOKENS.may_include(foreign, end), "{foreign}");
        }
        for own in [r#"{"typ":"rt+jwt"}"#, r#"{"typ":"application/rt+jwt","alg":"none","kid":7,"x":[]}"#] {
            assert!(!TOKENS.may_include(&jwt(own), before), "{own}");
        }
        assert!(!TOKENS.may_include(&"f".repeat(4097), before));
    }
}
