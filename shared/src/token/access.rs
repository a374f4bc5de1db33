//! Access tokens: `typ: at+jwt` (RFC 9068), for any service that verifies them.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::jwt::{self, MAX_SECONDS};
use super::ring::MAX_KID;
use super::{Algorithm, KeyRing, Rejection, SigningFailed};
use crate::clock::Timestamp;
use crate::entropy;
use crate::id::{SessionId, UserId};

const TYP: &str = "at+jwt";
/// How far another machine's clock may be ahead, so that a token it has just
/// issued is accepted.
const SKEW: Duration = Duration::from_secs(5);
/// The time with the most digits.
const LATEST: Timestamp = Timestamp::from_seconds(MAX_SECONDS);

/// How access tokens are issued and verified.
#[derive(Clone, Debug)]
pub struct AccessTokens {
    /// `iss`: the issuer.
    pub issuer: String,
    /// `aud`: the audience.
    pub audience: String,
    /// The time from `iat` to `exp`, in whole seconds. The end of the session
    /// may cut it short.
    pub lifetime: Duration,
    /// How long a token is still accepted after its `exp`.
    pub leeway: Duration,
}

/// The user and the session that an access token is issued for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `sub`: the user.
    pub user_id: UserId,
    /// `sid`: the session.
    pub session_id: SessionId,
    /// `roles`: what the user may do.
    pub roles: &'a [String],
    /// `email_verified` (OpenID Connect Core 1.0, section 5.1): whether the user has
    /// proven the e-mail address. `None`, and no claim, without mail.
    pub email_verified: Option<bool>,
}

/// The content of an authentic access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// `sub`: the user.
    pub user_id: UserId,
    /// `sid`: the session.
    pub session_id: SessionId,
    /// `roles`: the user's roles when the token was issued.
    pub roles: Vec<String>,
    /// `email_verified`: whether the user had proven the e-mail address when the token
    /// was issued. A token without the claim says no.
    pub email_verified: bool,
    /// `jti`: the id of this token.
    pub id: String,
    /// `iat`: when the token was issued.
    pub issued_at: Timestamp,
    /// `exp`: when the token expires.
    pub expires_at: Timestamp,
    /// Whether it was signed with JWT_ALGORITHM. After a change of algorithm, older
    /// tokens can be renewed, but do not admit their callers.
    pub is_of_algorithm: bool,
}

/// The roles do not fit into an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the roles take {length} bytes of an access token, which has room for {room}")]
pub struct RolesTooLong {
    /// The bytes of the roles, as JSON in the token.
    pub length: usize,
    /// The most bytes that they may take, with this issuer, audience and algorithm.
    pub room: usize,
}

/// An access token that was just signed.
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// The whole seconds until it expires.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
}

impl AccessTokens {
    /// Signs an access token for a session, as of `now`. It expires when its
    /// lifetime is over, or earlier at the absolute end of the session.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] when the ring is empty or the key cannot sign.
    pub fn issue(
        &self,
        ring: &KeyRing,
        subject: &Subject<'_>,
        session_end: Timestamp,
        now: Timestamp,
    ) -> Result<Issued, SigningFailed> {
        let (kid, key) = ring.access_signer().ok_or(SigningFailed)?;
        let expires_at = (now.truncated() + self.lifetime).min(session_end);
        let claims = self.claims(subject, expires_at, now);
        let token = jwt::sign(TYP, kid, &claims, key)?;
        Ok(Issued { token: token.into(), expires_in: expires_at.seconds() - now.seconds() })
    }

    fn claims<'a>(&'a self, subject: &Subject<'a>, expires_at: Timestamp, now: Timestamp) -> Claims<'a> {
        Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: subject.user_id.to_string(),
            sid: subject.session_id.to_string(),
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: expires_at.seconds(),
            jti: URL_SAFE_NO_PAD.encode(entropy::bytes::<16>()),
            roles: subject.roles,
            email_verified: subject.email_verified,
        }
    }

    /// Checks that an access token has room for these roles, even with the longest key
    /// of `algorithm`.
    ///
    /// # Errors
    ///
    /// [`RolesTooLong`] when the roles do not fit.
    pub fn check_roles(&self, algorithm: Algorithm, roles: &[String]) -> Result<(), RolesTooLong> {
        // Base64url, without padding (RFC 7515, section 2).
        let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
        let header = json!({ "typ": TYP, "alg": format!("{algorithm:?}"), "kid": "k".repeat(MAX_KID) });
        let signature = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::ES256 | Algorithm::EdDSA => 64,
            // An RSA key of 8192 bits.
            _ => 1024,
        };
        let nobody = Subject {
            user_id: UserId::random(),
            session_id: SessionId::random(),
            roles: &[],
            email_verified: Some(false),
        };
        let claims = self.claims(&nobody, LATEST, LATEST);
        let fixed = encoded(header.to_string().len()) + encoded(signature) + ".".len() * 2;
        let room = jwt::MAX_TOKEN.saturating_sub(fixed) * 3 / 4;
        let length = json!(roles).to_string().len();
        let others = json!(claims).to_string().len() - json!([]).to_string().len();
        let room = room.saturating_sub(others);
        if length > room {
            return Err(RolesTooLong { length, room });
        }
        Ok(())
    }

    /// Verifies that an access token is authentic, issued here, signed with
    /// JWT_ALGORITHM, and not expired.
    ///
    /// # Errors
    ///
    /// [`Rejection::Algorithm`] when the token was signed with another algorithm;
    /// [`Rejection::Expired`] when it has expired; and those of [`read`](Self::read).
    pub fn verify(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<AccessToken, Rejection> {
        let token = self.read(ring, token, now)?;
        if !token.is_of_algorithm {
            Err(Rejection::Algorithm)
        } else if self.has_expired(&token, now) {
            Err(Rejection::Expired)
        } else {
            Ok(token)
        }
    }

    /// Returns whether a token no longer admits its caller: it has expired,
    /// JWT_LEEWAY_SECONDS included, or was signed with an algorithm other than
    /// JWT_ALGORITHM.
    pub fn has_expired(&self, token: &AccessToken, now: Timestamp) -> bool {
        !token.is_of_algorithm || token.expires_at + self.leeway <= now
    }

    /// Like [`verify`](Self::verify), but also returns a token that has expired or was
    /// signed with another algorithm: such a token can be renewed.
    ///
    /// # Errors
    ///
    /// [`Rejection::Claim`] when a claim is missing, malformed or meant for another
    /// system; [`Rejection::NotYetValid`] when `iat` or `nbf` is in the future; any
    /// other [`Rejection`] for a token that is not signed with one of the keys.
    pub fn read(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<AccessToken, Rejection> {
        let mut is_of_algorithm = false;
        let claims = jwt::verify(token, TYP, |kid| {
            let key = ring.access_verifier(kid)?;
            is_of_algorithm = ring.signs_with(key.algorithm);
            Some(key)
        })?;
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
            email_verified: claims.flag("email_verified")?.unwrap_or(false),
            id: claims.text("jti")?.to_owned(),
            issued_at,
            expires_at: claims.time("exp")?,
            is_of_algorithm,
        })
    }
}
