//! One key, and what can be wrong with it.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// The algorithms of access tokens, by their names in JWT_ALGORITHM.
pub const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// The two halves of a key, and its algorithm. With HMAC both halves are the
/// secret.
pub struct Pair {
    /// The only algorithm accepted with this key.
    pub algorithm: Algorithm,
    /// The half that signs.
    pub signs: EncodingKey,
    /// The half that verifies.
    pub verifies: DecodingKey,
}

impl Pair {
    /// Returns a key for HS256.
    pub fn hmac(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::HS256,
            signs: EncodingKey::from_secret(secret),
            verifies: DecodingKey::from_secret(secret),
        }
    }
}

/// What is wrong with a key, or with the secret that holds all keys. The text never
/// shows the key or the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret has fewer than 32 bytes (RFC 7518, section 3.2).
    #[error("must be at least 32 bytes of randomness, such as `openssl rand -base64 48` prints")]
    TooShort,
    /// The secret is a placeholder, a pattern, or made of common words.
    #[error("is a placeholder or easy to guess: make one with `openssl rand -base64 48`")]
    Guessable,
    /// The secret is published: in a list of JWT secrets, in the documentation
    /// of a library, or in this repository.
    #[error("is published, so everyone can sign with it: make one with `openssl rand -base64 48`")]
    Known,
    /// A key in PEM was given where a random secret belongs.
    #[error("is a key in PEM, not a random secret: a private key goes into JWT_PRIVATE_KEY")]
    Pem,
    /// The secret of Secrets Manager is not one flat JSON object of strings.
    #[error("must be one flat JSON object: {{\"signing\": \"k1\", \"refresh\": \"k1\", \"k1\": \"<secret>\"}}")]
    Shape,
    /// The name of a key cannot be a `kid`.
    #[error("the key name {0:?} must be at most 64 letters, digits, `-` or `_`")]
    Name(String),
    /// `signing` or `refresh` does not name a key.
    #[error("{0:?} must name one of the keys")]
    Missing(&'static str),
    /// `refresh` names a private key.
    #[error("\"refresh\" must name a random secret, with every JWT_ALGORITHM")]
    RefreshKey,
    /// The text is not a private key in PEM.
    #[error("is not a private key in PEM: PKCS#8, PKCS#1 or SEC1 (`openssl pkcs8 -topk8` writes PKCS#8)")]
    NotPem,
    /// The private key is encrypted, and the passphrase does not open it.
    #[error("is encrypted, and its passphrase is missing or wrong")]
    Passphrase,
    /// The private key is of another kind, or too weak.
    #[error("must be RSA with 2048 to 8192 bits, P-256 or Ed25519")]
    Unsupported,
    /// The key that signs access tokens is not a key for JWT_ALGORITHM.
    #[error("is for {found:?}, and JWT_ALGORITHM is {expected:?}")]
    Algorithm {
        /// The setting JWT_ALGORITHM.
        expected: Algorithm,
        /// The algorithm of the key.
        found: Algorithm,
    },
    /// One of the keys in the secret has a fault.
    #[error("the key {name:?} {fault}")]
    Key {
        /// The name of the key.
        name: String,
        /// The fault of the key.
        fault: Box<KeyError>,
    },
}
