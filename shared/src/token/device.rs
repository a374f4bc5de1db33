//! Device tokens: `typ: dt+jwt`, signed proof that a device has logged in as a user
//! before. A device token grants no access. The limits count such a device separately,
//! so that guesses made elsewhere cannot lock it out.
//!
//! The token names the user, not the e-mail address, so that it is worthless once the
//! address belongs to another user.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;

use super::{KeyRing, Rejection, SigningFailed, jwt};
use crate::clock::Timestamp;
use crate::entropy;
use crate::id::UserId;

const TYP: &str = "dt+jwt";
/// `aud`: the same for every installation. It does not depend on the audience of access tokens.
pub const AUDIENCE: &str = "urn:freshkey:device";

/// The settings of device tokens.
#[derive(Clone, Debug)]
pub struct DeviceTokens {
    /// `iss`: the issuer.
    pub issuer: String,
    /// The time from `iat` to `exp`.
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
    password_changed_at: i64,
}

/// The device that holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The id of the device: the token's `jti`.
    pub id: String,
    /// The user who logged in on it: `sub`.
    pub user_id: UserId,
    /// When the password was last changed that the user logged in with: the
    /// claim `password_changed_at`, in whole seconds.
    pub password_changed_at: Timestamp,
}

impl DeviceTokens {
    /// Signs a token for a new device on which `user` has just logged in, with a
    /// password that was last changed at `password_changed_at`.
    ///
    /// # Errors
    ///
    /// [`SigningFailed`] when the ring has no key for device tokens, or the key does not work.
    pub fn issue(
        &self,
        ring: &KeyRing,
        user: UserId,
        password_changed_at: Timestamp,
        now: Timestamp,
    ) -> Result<SecretString, SigningFailed> {
        let (kid, key) = ring.device_signer().ok_or(SigningFailed)?;
        let claims = Claims {
            iss: &self.issuer,
            aud: AUDIENCE,
            sub: user.to_string(),
            jti: URL_SAFE_NO_PAD.encode(entropy::bytes::<16>()),
            iat: now.seconds(),
            exp: (now + self.lifetime).seconds(),
            password_changed_at: password_changed_at.seconds(),
        };
        jwt::sign(TYP, kid, &claims, key).map(SecretString::from)
    }

    /// Returns the device that holds `token`, if this system issued it and it has not
    /// expired at `now`. The caller must check whether the user still exists and still
    /// accepts the device.
    ///
    /// # Errors
    ///
    /// [`Rejection::Expired`] for an authentic token that has expired;
    /// [`Rejection::Claim`] for one with a claim that is missing, malformed or meant
    /// for another system; any other [`Rejection`] for a token that this system did not
    /// sign as a device token.
    pub fn verify(&self, ring: &KeyRing, token: &str, now: Timestamp) -> Result<Device, Rejection> {
        let claims = jwt::verify(token, TYP, |kid| ring.device_verifier(kid))?;
        claims.expect("iss", &self.issuer)?;
        claims.expect_audience(AUDIENCE)?;
        let device = Device {
            id: claims.text("jti")?.to_owned(),
            user_id: UserId::parse(claims.text("sub")?).ok_or(Rejection::Claim("sub"))?,
            password_changed_at: claims.time("password_changed_at")?,
        };
        if claims.time("exp")? > now { Ok(device) } else { Err(Rejection::Expired) }
    }
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

    fn issue(user: UserId) -> String {
        tokens().issue(&ring(SECRET), user, NOW - DAY, NOW).unwrap().expose_secret().to_owned()
    }

    fn verify(token: &str) -> Result<Device, Rejection> {
        tokens().verify(&ring(SECRET), token, NOW)
    }

    #[test]
    fn rl1_a_token_names_its_user_and_an_id_for_each_device() {
        let alice = UserId::random();
        let (phone, laptop) = (issue(alice), issue(alice));
        let device = verify(&phone).unwrap();
        assert_eq!(device, Device { id: device.id.clone(), user_id: alice, password_changed_at: NOW - DAY });
        assert_eq!(verify(&phone).unwrap(), device);
        assert_ne!(verify(&laptop).unwrap().id, device.id);
    }

    #[test]
    fn rl1_a_token_is_accepted_from_its_issuer_until_it_expires() {
        let token = issue(UserId::random());
        let ring_of = ring;
        let verify =
            |tokens: &DeviceTokens, secret: &str, now| tokens.verify(&ring_of(secret), &token, now).map(|_device| ());
        assert_eq!(verify(&tokens(), SECRET, NOW + DAY - Duration::from_millis(1)), Ok(()));
        assert_eq!(verify(&tokens(), SECRET, NOW + DAY), Err(Rejection::Expired));
        assert_eq!(verify(&tokens(), OTHER, NOW), Err(Rejection::Signature));
        let elsewhere = DeviceTokens { issuer: "https://other.example.com".into(), lifetime: DAY };
        assert_eq!(verify(&elsewhere, SECRET, NOW), Err(Rejection::Claim("iss")));
    }

    #[test]
    fn se3_a_token_is_not_accepted_as_another_kind_and_has_a_key_of_its_own() {
        let token = issue(UserId::random());
        let refresh = RefreshTokens { issuer: ISSUER.into() };
        assert_eq!(refresh.verify(&ring(SECRET), &token, NOW).unwrap_err(), Rejection::Header);
        let ring = ring(SECRET);
        let claims = Claims {
            iss: ISSUER,
            aud: refresh::AUDIENCE,
            sub: UserId::random().to_string(),
            jti: "device".into(),
            iat: NOW.seconds(),
            exp: (NOW + DAY).seconds(),
            password_changed_at: NOW.seconds(),
        };
        let (kid, key) = ring.device_signer().unwrap();
        assert_eq!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()), Err(Rejection::Claim("aud")));
        let claims = Claims { aud: AUDIENCE, ..claims };
        assert!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()).is_ok());
        let (kid, key) = ring.refresh_signer().unwrap();
        assert_eq!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()), Err(Rejection::Signature));
        assert_eq!(verify(&jwt::sign("rt+jwt", kid, &claims, key).unwrap()), Err(Rejection::Header));
        let (kid, key) = ring.device_signer().unwrap();
        let claims = Claims { sub: "alice@example.com".into(), ..claims };
        assert_eq!(verify(&jwt::sign(TYP, kid, &claims, key).unwrap()), Err(Rejection::Claim("sub")));
    }
}
