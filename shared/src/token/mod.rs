//! Tokens: signing, verifying, and the keys for both.
//!
//! An access token is a JWT that any service can verify ([`access`]). A refresh
//! token is a JWT of another kind, for this system alone ([`refresh`]). They
//! differ in `typ`, in `aud` and in key, so that neither passes for the other.

pub mod access;
#[cfg(test)]
mod attacks;
pub mod device;
mod jwt;
mod pem;
pub mod refresh;
pub mod ring;
#[cfg(test)]
mod tests;

pub use access::{AccessToken, AccessTokens};
pub use device::{Device, DeviceTokens};
pub use jsonwebtoken::Algorithm;
pub(crate) use pem::is_pem;
pub use refresh::{RefreshToken, RefreshTokens};
pub use ring::{KeyError, KeyRing};

/// Why a token is not accepted. For the log: the client is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is longer than any that is issued here.
    #[error("too large")]
    TooLarge,
    /// It is not a JWS in compact form (RFC 7515, section 3.1), or not in its
    /// one canonical encoding.
    #[error("malformed")]
    Malformed,
    /// Its header is not one that is written here: another algorithm or `typ`,
    /// or a member that has no business there.
    #[error("unexpected header")]
    Header,
    /// Its `kid` names none of the keys.
    #[error("unknown key")]
    UnknownKey,
    /// Its signature does not verify.
    #[error("wrong signature")]
    Signature,
    /// This claim is absent, of the wrong type or not the expected one.
    #[error("claim {0}")]
    Claim(&'static str),
    /// Its time has not come.
    #[error("not yet valid")]
    NotYetValid,
    /// Its time is over.
    #[error("expired")]
    Expired,
}

/// A token could not be signed: the key does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign")]
pub struct SigningFailed;
