//! Tokens: signing them, verifying them, and the keys for both.
//!
//! An access token is a JWT that any service can verify ([`access`]). A refresh token
//! is a JWT of another kind, which only this system reads ([`refresh`]). A device token
//! is a JWT that proves an earlier login ([`device`]). The three differ in `typ`, `aud`
//! and key, so that none passes for another.

pub mod access;
#[cfg(test)]
mod attacks;
pub mod device;
mod imported;
mod jwt;
mod key;
mod pem;
pub mod refresh;
mod ring;
mod secret;
#[cfg(test)]
mod tests;

pub use access::{AccessToken, AccessTokens, RolesTooLong, Subject};
pub use device::{Device, DeviceTokens};
pub use imported::ImportedTokens;
pub use jsonwebtoken::Algorithm;
pub(crate) use key::ALGORITHMS;
pub use key::KeyError;
pub(crate) use pem::is_pem;
pub use refresh::{RefreshToken, RefreshTokens};
pub use ring::KeyRing;
pub(crate) use ring::is_kid;
pub use secret::DEMO_SECRET;
pub(crate) use secret::check as check_secret;

/// Why a token is not accepted. This goes into the log; the client is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is longer than any token that is issued here.
    #[error("too large")]
    TooLarge,
    /// It is not a JWS in compact form (RFC 7515, section 3.1), or not in its
    /// one canonical encoding.
    #[error("malformed")]
    Malformed,
    /// Its header is not one that is issued here: `alg` is not that of the key, `typ`
    /// is another kind, or there are other members.
    #[error("unexpected header")]
    Header,
    /// Its `kid` is not in the ring.
    #[error("unknown key")]
    UnknownKey,
    /// Its signature does not verify.
    #[error("wrong signature")]
    Signature,
    /// It is authentic, but was signed with an algorithm other than JWT_ALGORITHM.
    #[error("another algorithm")]
    Algorithm,
    /// This claim is missing, or has the wrong type or an unexpected value.
    #[error("claim {0}")]
    Claim(&'static str),
    /// It is not valid yet.
    #[error("not yet valid")]
    NotYetValid,
    /// It has expired.
    #[error("expired")]
    Expired,
}

/// A token could not be signed: the ring is empty, or the key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign")]
pub struct SigningFailed;
