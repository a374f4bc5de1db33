//! Refresh tokens: `typ: rt+jwt`, which only this system reads.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;

use super::{KeyRing, Rejection, SigningFailed, jwt};
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::{Secret, Session};

pub(super) const TYP: &str = "rt+jwt";
/// `aud`: this system itself. No other kind of token has this audience.
pub const AUDIENCE: &str = "urn:freshkey:refresh";

/// How refresh tokens are issued and verified.
#[derive(Clone, Debug)]
pub struct RefreshTokens {
    /// `iss`: the issuer.
    pub issuer: String,
}

/// The content of an authentic refresh token.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// `sub`: the user.
    pub user_id: UserId,
    /// `sid`: the session.
    pub session_id: SessionId,
    /// `gen`: the generation, from 1, one more with each rotation. An imported token that
    /// was exchanged for the session counts as generation 0.
    pub generation: u64,
    /// `sec`: the secret, which proves that the token belongs to the session.
    pub secret: Secret,
    /// `auth_time`: when the user logged in.
    pub login: Timestamp,
    /// `abs`: the absolute end of the session.
    pub absolute_end: Timestamp,
    /// `iat`: when the token was issued.
    pub issued_at: Timestamp,
    /// `exp`: when the token expires.
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    r#gen: u64,
    sec: String,
    auth_time: i64,
    abs: i64,
    iat: i64,
    exp: i64,
}

impl RefreshToken {
    /// Returns the first token of a session.
    pub fn first(session: &Session, secret: Secret, absolute_end: Timestamp) -> Self {
        Self {
            user_id: session.user_id,
            session_id: session.id,
            generation: session.generation,
            secret,
            login: session.created_at,
            absolute_end,
            issued_at: session.rotated_at.truncated(),
            expires_at: session.expires_at,
        }
    }

    /// Returns the token of the session's generation: this token with the claims
    /// that a rotation changes. Nothing in it is random, so the same token can be
    /// issued again.
    pub fn successor(&self, session: &Session) -> Self {
        Self {
            generation: session.generation,
            issued_at: session.rotated_at.truncated(),
            expires_at: session.expires_at,
            ..self.clone()
        }
    }
}

impl RefreshTokens {
    /// Signs a refresh token.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] when the ring is empty or the key cannot sign.
    pub fn sign(&self, ring: &KeyRing, token: &RefreshToken) -> Result<SecretString, SigningFailed> {
        let (kid, key) = ring.refresh_signer().ok_or(SigningFailed)?;
        let claims = Claims {
            iss: &self.issuer,
            aud: AUDIENCE,
            sub: token.user_id.to_string(),
            sid: token.session_id.to_string(),
            r#gen: token.generation,
            sec: URL_SAFE_NO_PAD.encode(token.secret.expose()),
            auth_time: token.login.seconds(),
            abs: token.absolute_end.seconds(),
            iat: token.issued_at.seconds(),
            exp: token.expires_at.seconds(),
        };
        jwt::sign(TYP, kid, &claims, key).map(SecretString::from)
    }

    /// Verifies that a refresh token is authentic and issued here, and that neither the
    /// token nor its session (`abs`) has expired. There is no leeway, because the table
    /// has none.
    ///
    /// # Errors
    ///
    /// [`Rejection::Expired`] for an authentic token that has expired or whose session
    /// has; [`Rejection::Claim`] for one with a claim that is missing, malformed or
    /// meant for another system; any other [`Rejection`] for a token that this system
    /// did not sign as a refresh token.
    pub fn verify(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<RefreshToken, Rejection> {
        let claims = jwt::verify(token, TYP, |kid| ring.refresh_verifier(kid))?;
        claims.expect("iss", &self.issuer)?;
        claims.expect_audience(AUDIENCE)?;
        let generation = claims.number("gen")?;
        // The successor of the last generation must still be a JSON number.
        if !(1..1 << 53).contains(&generation) {
            return Err(Rejection::Claim("gen"));
        }
        let token = RefreshToken {
            user_id: UserId::parse(claims.text("sub")?).ok_or(Rejection::Claim("sub"))?,
            session_id: SessionId::parse(claims.text("sid")?).ok_or(Rejection::Claim("sid"))?,
            generation,
            secret: secret(claims.text("sec")?).ok_or(Rejection::Claim("sec"))?,
            login: claims.time("auth_time")?,
            absolute_end: claims.time("abs")?,
            issued_at: claims.time("iat")?,
            expires_at: claims.time("exp")?,
        };
        if token.expires_at.min(token.absolute_end) > now { Ok(token) } else { Err(Rejection::Expired) }
    }
}

fn secret(text: &str) -> Option<Secret> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(Secret::from_bytes)
}
