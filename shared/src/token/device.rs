//! Device tokens: `typ: dt+jwt`, a signed note that a device has logged in to
//! an account before. It grants nothing. The limits count such a device by
//! itself, so that guesses made elsewhere cannot lock it out.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;

use super::{KeyRing, Rejection, SigningFailed, jwt};
use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::session::Hash;

const TYP: &str = "dt+jwt";
/// `aud`: the system that issued it, whatever the audience of access tokens.
pub const AUDIENCE: &str = "urn:freshkey:device";

/// What device tokens say, and how long they last.
#[derive(Clone, Debug)]
pub struct DeviceTokens {
    /// `iss`: who issues them.
    pub issuer: String,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    jti: String,
    iat: i64,
    exp: i64,
}

impl DeviceTokens {
    /// Signs a token for a device that has just logged in to the account of
    /// `email`.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] when the key does not work.
    pub fn issue(&self, ring: &KeyRing, email: &Email, now: Timestamp) -> Result<SecretString, SigningFailed> {
        let (kid, key) = ring.device_signer().ok_or(SigningFailed)?;
        let claims = Claims {
            iss: &self.issuer,
            aud: AUDIENCE,
            sub: account(email),
            jti: URL_SAFE_NO_PAD.encode(entropy::bytes::<16>()),
            iat: now.seconds(),
            exp: (now + self.lifetime).seconds(),
        };
        jwt::sign(TYP, kid, &claims, key).map(SecretString::from)
    }

    /// The name of the device that holds `token`, if it was issued here for the
    /// account of `email`.
    ///
    /// # Errors
    ///
    /// The first reason not to accept it.
    pub fn verify(&self, ring: &KeyRing, token: &str, email: &Email, now: Timestamp) -> Result<String, Rejection> {
        let claims = jwt::verify(token, TYP, |kid| ring.device_verifier(kid))?;
        claims.expect("iss", &self.issuer)?;
        claims.expect_audience(AUDIENCE)?;
        claims.expect("sub", &account(email))?;
        let device = claims.text("jti")?.to_owned();
        if claims.time("exp")? > now { Ok(device) } else { Err(Rejection::Expired) }
    }
}

/// `sub`: the account, without naming it.
fn account(email: &Email) -> String {
    URL_SAFE_NO_PAD.encode(Hash::of(&[b"device:", email.key().as_bytes()]).as_bytes())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::token::{RefreshTokens, refresh};

    const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
    const OTHER: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";
    const ISSUER: &str = "https://auth.example.com";
    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn tokens() -> DeviceTokens {
        DeviceTokens { issuer: ISSUER.into(), lifetime: DAY }
    }

    fn ring(secret: &str) -> KeyRing {
        KeyRing::single(&secret.into()).unwrap()
    }

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    fn issue() -> String {
        tokens().issue(&ring(SECRET), &email("alice@example.com"), NOW).unwrap().expose_secret().to_owned()
    }

    fn verify(token: &str) -> Result<String, Rejection> {
        tokens().verify(&ring(SECRET), token, &email("Alice@Example.com"), NOW)
    }

    #[test]
    fn rl1_each_device_has_a_name_of_its_own_that_its_token_keeps() {
        let (phone, laptop) = (issue(), issue());
        assert_eq!(verify(&phone).unwrap(), verify(&phone).unwrap());
        assert_ne!(verify(&phone).unwrap(), verify(&laptop).unwrap());
    }

    #[test]
    fn rl1_a_device_token_is_good_for_its_account_its_issuer_and_its_time_alone() {
        let token = issue();
        let (alice, ring_of) = (email("alice@example.com"), ring);
        let verify = |tokens: &DeviceTokens, secret: &str, email: &Email, now| {
            tokens.verify(&ring_of(secret), &token, email, now).map(drop)
        };
        let moment = Duration::from_millis(1);
        assert_eq!(verify(&tokens(), SECRET, &alice, NOW + DAY - moment), Ok(()));
        assert_eq!(verify(&tokens(), SECRET, &alice, NOW + DAY), Err(Rejection::Expired));
        assert_eq!(verify(&tokens(), SECRET, &email("bob@example.com"), NOW), Err(Rejection::Claim("sub")));
        assert_eq!(verify(&tokens(), OTHER, &alice, NOW), Err(Rejection::Signature));
        let elsewhere = DeviceTokens { issuer: "https://other.example.com".into(), lifetime: DAY };
        assert_eq!(verify(&elsewhere, SECRET, &alice, NOW), Err(Rejection::Claim("iss")));
    }

    #[test]
    fn a_device_token_does_not_name_the_account() {
        let claims = issue().split('.').nth(1).map(|claims| URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert!(!String::from_utf8(claims).unwrap().contains("alice"));
    }

    #[test]
    fn se3_a_device_token_passes_for_no_other_kind_and_is_signed_by_a_key_of_its_own() {
        let token = issue();
        let refresh = RefreshTokens { issuer: ISSUER.into() };
        assert_eq!(refresh.verify(&ring(SECRET), &token, NOW).unwrap_err(), Rejection::Header);
        let ring = ring(SECRET);
        let claims = Claims {
            iss: ISSUER,
            aud: refresh::AUDIENCE,
            sub: account(&email("alice@example.com")),
            jti: "device".into(),
            iat: NOW.seconds(),
            exp: (NOW + DAY).seconds(),
        };
        let (kid, key) = ring.device_signer().unwrap();
        assert_eq!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()), Err(Rejection::Claim("aud")));
        let claims = Claims { aud: AUDIENCE, ..claims };
        assert!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()).is_ok());
        let (kid, key) = ring.refresh_signer().unwrap();
        assert_eq!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()), Err(Rejection::Signature));
        assert_eq!(verify(&jwt::sign("rt+jwt", kid, &claims, key).unwrap()), Err(Rejection::Header));
    }
}
