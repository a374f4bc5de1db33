//! The JWS compact form, read as strictly as RFC 8725 asks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, crypto};
use serde::Serialize;
use serde_json::{Map, Value};

use super::key::Pair;
use super::{Rejection, SigningFailed};
use crate::clock::Timestamp;
use crate::json;

/// The most bytes of a token, issued or presented.
pub const MAX_TOKEN: usize = 4096;
/// The most bytes of its header, decoded.
const MAX_HEADER: usize = 1024;
/// How deep its claims may be nested.
const MAX_DEPTH: usize = 4;
/// The last second of the year 9999. Later times are refused.
pub const MAX_SECONDS: i64 = 253_402_300_799;

/// Signs `claims`, with a header of `alg`, `typ` and `kid`.
///
/// # Errors
///
/// [`SigningFailed`] when the key cannot sign.
pub fn sign(typ: &str, kid: &str, claims: &impl Serialize, key: &Pair) -> Result<String, SigningFailed> {
    let mut header = Header::new(key.algorithm);
    header.typ = Some(typ.into());
    header.kid = Some(kid.into());
    jsonwebtoken::encode(&header, claims, &key.signs).map_err(|_| SigningFailed)
}

/// Verifies all of `token` except its claims, and returns the claims.
///
/// The header must have exactly `alg`, `typ` and `kid`: any other member (`jwk`, `jku`,
/// `x5c`, `crit`, …) could change how the token is verified. `key_of` finds the key by
/// its `kid`. The key determines the algorithm; the header must agree.
///
/// # Errors
///
/// [`Rejection::TooLarge`] for a token over 4096 bytes or a header over 1024;
/// [`Rejection::Malformed`] for a token that is not in canonical compact form, or whose
/// claims are not a JSON object; [`Rejection::Header`] for a header with other members,
/// `typ` or `alg`; [`Rejection::UnknownKey`] for an unknown `kid`;
/// [`Rejection::Signature`] for a wrong signature.
pub fn verify<'k>(token: &str, typ: &str, key_of: impl FnOnce(&str) -> Option<&'k Pair>) -> Result<Claims, Rejection> {
    if token.len() > MAX_TOKEN {
        return Err(Rejection::TooLarge);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Rejection::Malformed)?;
    let header = decode(header)?;
    if header.len() > MAX_HEADER {
        return Err(Rejection::TooLarge);
    }
    let header = json::object(&header, 1).map_err(|_| Rejection::Header)?;
    let member = |name| header.get(name).and_then(Value::as_str).ok_or(Rejection::Header);
    let (alg, kid) = (member("alg")?.parse::<Algorithm>(), member("kid")?);
    if header.len() != 3 || !is_media_type(member("typ")?, typ) {
        return Err(Rejection::Header);
    }
    let key = key_of(kid).ok_or(Rejection::UnknownKey)?;
    if alg.ok() != Some(key.algorithm) {
        return Err(Rejection::Header);
    }
    decode(signature)?;
    let is_authentic = crypto::verify(signature, message.as_bytes(), &key.verifies, key.algorithm);
    if !is_authentic.unwrap_or(false) {
        return Err(Rejection::Signature);
    }
    json::object(&decode(claims)?, MAX_DEPTH).map(Claims).map_err(|_| Rejection::Malformed)
}

/// Returns whether the header of `token` says that it is of type `typ`. Nothing else of
/// it is looked at.
pub fn is_of_type(token: &str, typ: &str) -> bool {
    let header = token.split_once('.').and_then(|(header, _)| decode(header).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Map<String, Value>>(&header).ok());
    let presented = header.as_ref().and_then(|header| header.get("typ")?.as_str());
    presented.is_some_and(|presented| is_media_type(presented, typ))
}

/// Returns whether `presented` is the media type `typ`. It may leave out `application/`
/// (RFC 7515, section 4.1.9).
fn is_media_type(presented: &str, typ: &str) -> bool {
    presented.strip_prefix("application/").unwrap_or(presented) == typ
}

/// Decodes base64url without padding or stray bits, so that each value has one encoding.
fn decode(part: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed)
}

/// The claims of an authentic token. A claim that is read must have the right type, and
/// be present unless said otherwise; otherwise the error is [`Rejection::Claim`] with its name.
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Returns a string that is not empty.
    pub fn text(&self, name: &'static str) -> Result<&str, Rejection> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).ok_or(Rejection::Claim(name))
    }

    /// Returns a list of strings.
    pub fn texts(&self, name: &'static str) -> Result<Vec<String>, Rejection> {
        let texts = self.0.get(name).and_then(Value::as_array).ok_or(Rejection::Claim(name))?;
        let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or(Rejection::Claim(name))
    }

    /// Returns a boolean, or `None` if the claim is missing.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, Rejection> {
        self.0.get(name).map(|flag| flag.as_bool().ok_or(Rejection::Claim(name))).transpose()
    }

    /// Returns a whole number that is not negative.
    pub fn number(&self, name: &'static str) -> Result<u64, Rejection> {
        self.0.get(name).and_then(Value::as_u64).ok_or(Rejection::Claim(name))
    }

    /// Returns a NumericDate (RFC 7519, section 2) of whole seconds.
    pub fn time(&self, name: &'static str) -> Result<Timestamp, Rejection> {
        let seconds = i64::try_from(self.number(name)?).map_err(|_| Rejection::Claim(name))?;
        let is_sane = (0..=MAX_SECONDS).contains(&seconds);
        is_sane.then_some(Timestamp::from_seconds(seconds)).ok_or(Rejection::Claim(name))
    }

    /// Checks that a string is `expected`.
    pub fn expect(&self, name: &'static str, expected: &str) -> Result<(), Rejection> {
        (self.text(name)? == expected).then_some(()).ok_or(Rejection::Claim(name))
    }

    /// Checks that `aud`, a string or a list of strings (RFC 7519, section 4.1.3),
    /// contains `expected`.
    pub fn expect_audience(&self, expected: &str) -> Result<(), Rejection> {
        match self.0.get("aud") {
            Some(Value::Array(_)) => self.texts("aud")?.iter().any(|audience| audience == expected),
            _ => self.text("aud")? == expected,
        }
        .then_some(())
        .ok_or(Rejection::Claim("aud"))
    }
}
