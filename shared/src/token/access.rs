//! Access tokens: `typ: at+jwt` (RFC 9068), for any service that verifies them.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;

use super::{KeyRing, Rejection, SigningFailed, jwt};
use crate::clock::Timestamp;
use crate::entropy;
use crate::id::{SessionId, UserId};

const TYP: &str = "at+jwt";
/// How far another machine's clock may be ahead: a token that it issued just
/// now is not refused because it comes from the near future.
const SKEW: Duration = Duration::from_secs(5);

/// What access tokens say, and how long they last.
#[derive(Clone, Debug)]
pub struct AccessTokens {
    /// `iss`: who issues them.
    pub issuer: String,
    /// `aud`: who they are for.
    pub audience: String,
    /// From `iat` to `exp`, in whole seconds.
    pub lifetime: Duration,
    /// How long after `exp` one is still accepted.
    pub leeway: Duration,
}

/// What an authentic access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// `sub`.
    pub user_id: UserId,
    /// `sid`.
    pub session_id: SessionId,
    /// `roles`.
    pub roles: Vec<String>,
    /// `jti`: this token's own name.
    pub id: String,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
}

/// An access token that was just signed.
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// The whole seconds that it is good for.
    pub expires_in: i64,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    roles: &'a [String],
}

impl AccessTokens {
    /// Signs an access token for a session, as of `now`.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] when the key does not work.
    pub fn issue(
        &self,
        ring: &KeyRing,
        user_id: UserId,
        session_id: SessionId,
        roles: &[String],
        now: Timestamp,
    ) -> Result<Issued, SigningFailed> {
        let (kid, key) = ring.access_signer().ok_or(SigningFailed)?;
        let expires_at = now.truncated() + self.lifetime;
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: user_id.to_string(),
            sid: session_id.to_string(),
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: expires_at.seconds(),
            jti: URL_SAFE_NO_PAD.encode(entropy::bytes::<16>()),
            roles,
        };
        let token = jwt::sign(TYP, kid, &claims, key)?;
        Ok(Issued { token: token.into(), expires_in: expires_at.seconds() - now.seconds() })
    }

    /// Verifies an access token: authentic, ours, and within its time.
    ///
    /// # Errors
    ///
    /// The first reason not to accept it.
    pub fn verify(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<AccessToken, Rejection> {
        let token = self.read(ring, token, now)?;
        if self.has_expired(&token, now) { Err(Rejection::Expired) } else { Ok(token) }
    }

    /// Whether a token's time is over, JWT_LEEWAY_SECONDS included.
    pub fn has_expired(&self, token: &AccessToken, now: Timestamp) -> bool {
        token.expires_at + self.leeway <= now
    }

    /// Like [`verify`](Self::verify), but an expired token will do: to be
    /// refreshed, not to be obeyed.
    ///
    /// # Errors
    ///
    /// The first reason not to accept it.
    pub fn read(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<AccessToken, Rejection> {
        let claims = jwt::verify(token, TYP, |kid| ring.access_verifier(kid))?;
        claims.expect("iss", &self.issuer)?;
        claims.expect_audience(&self.audience)?;
        let latest = now + SKEW.max(self.leeway);
        let issued_at = claims.time("iat")?;
        if issued_at > latest || claims.time("nbf")? > latest {
            return Err(Rejection::NotYetValid);
        }
        Ok(AccessToken {
            user_id: UserId::parse(claims.text("sub")?).ok_or(Rejection::Claim("sub"))?,
            session_id: SessionId::parse(claims.text("sid")?).ok_or(Rejection::Claim("sid"))?,
            roles: claims.texts("roles")?,
            id: claims.text("jti")?.to_owned(),
            issued_at,
            expires_at: claims.time("exp")?,
        })
    }
}
