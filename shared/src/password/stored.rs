//! Stored hashes, in the forms in which systems write them.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::alphabet::{BCRYPT, STANDARD};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::method::Method;

/// The fewest bytes of a hash.
const MIN_HASH: usize = 16;
/// The most bytes of a hash.
const MAX_HASH: usize = 128;

/// Padding and the bits behind the last byte are left to the writer.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, LENIENT);

/// A hash of a password as text. Freshkey writes argon2id in PHC string format,
/// `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`; users who came from another system have
/// hashes in the form of that system until they log in. docs/moving-in.md lists them.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Returns a hash from the table. It is read only when a password is verified.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// Returns a hash that another system wrote, if a login can verify it.
    ///
    /// # Errors
    ///
    /// [`RefusedHash::Unknown`] for a form that is not understood;
    /// [`RefusedHash::Malformed`] for a known form with a fault;
    /// [`RefusedHash::TooCostly`] for parameters over a cap.
    pub fn imported(text: String) -> Result<Self, RefusedHash> {
        Stored::parse(&text)?;
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([REDACTED])")
    }
}

/// Why a hash cannot be verified. No variant holds any part of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedHash {
    /// It is in none of the forms that are understood.
    #[error("the password hash has a form that is not understood")]
    Unknown,
    /// It is in a known form, but has this fault.
    #[error("the password hash is malformed: {0}")]
    Malformed(&'static str),
    /// It would take too much memory or time.
    #[error("the password hash is too costly: {0}")]
    TooCostly(&'static str),
}

/// A stored hash, read.
pub(super) struct Stored {
    /// How it was computed.
    pub method: Method,
    /// The salt.
    pub salt: Vec<u8>,
    /// The result.
    pub hash: Vec<u8>,
}

impl Stored {
    /// Reads a hash in any of the forms.
    ///
    /// # Errors
    ///
    /// Those of [`PasswordHash::imported`].
    pub fn parse(text: &str) -> Result<Self, RefusedHash> {
        use argon2::Algorithm::{Argon2d, Argon2i, Argon2id};
        use pbkdf2::{PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512};

        if text.starts_with('{') {
            return keycloak(text);
        }
        let fields: Vec<_> = text.split('$').collect();
        match fields.as_slice() {
            // PHC strings. Django puts the name of its hasher in front.
            ["" | "argon2", "argon2id", rest @ ..] => phc_argon2(Argon2id, rest),
            ["" | "argon2", "argon2i", rest @ ..] => phc_argon2(Argon2i, rest),
            ["" | "argon2", "argon2d", rest @ ..] => phc_argon2(Argon2d, rest),
            ["", "pbkdf2" | "pbkdf2-sha1", rest @ ..] => phc_pbkdf2(PBKDF2_HMAC_SHA1, rest),
            ["", "pbkdf2-sha256", rest @ ..] => phc_pbkdf2(PBKDF2_HMAC_SHA256, rest),
            ["", "pbkdf2-sha512", rest @ ..] => phc_pbkdf2(PBKDF2_HMAC_SHA512, rest),
            ["", "scrypt", rest @ ..] => phc_scrypt(rest),
            ["", "fbscrypt", rest @ ..] => firebase(rest),
            // crypt(3), also with the name of Django's hasher.
            ["", "2a" | "2b" | "2y", rest @ ..] | ["bcrypt", "", "2a" | "2b" | "2y", rest @ ..] => bcrypt(false, rest),
            ["bcrypt_sha256", "", "2a" | "2b" | "2y", rest @ ..] => bcrypt(true, rest),
            // Django.
            ["pbkdf2_sha1", rest @ ..] => django_pbkdf2(PBKDF2_HMAC_SHA1, rest),
            ["pbkdf2_sha256", rest @ ..] => django_pbkdf2(PBKDF2_HMAC_SHA256, rest),
            ["scrypt", rest @ ..] => django_scrypt(rest),
            // Werkzeug, with which Flask hashes.
            [method, salt, hash] if method.contains(':') => werkzeug(method, salt, hash),
            _ => Err(RefusedHash::Unknown),
        }
    }

    fn new(method: Method, salt: Vec<u8>, mut hash: Vec<u8>) -> Result<Self, RefusedHash> {
        match &method {
            Method::Argon2 { .. } if salt.len() < argon2::MIN_SALT_LEN => {
                Err(RefusedHash::Malformed("the salt has fewer than 8 bytes"))
            }
            Method::Scrypt { signer_key: Some(signer_key), .. } if signer_key.len() != hash.len() => {
                Err(RefusedHash::Malformed("the hash is not as long as the signer key"))
            }
            _ if !(MIN_HASH..=MAX_HASH).contains(&hash.len()) => {
                Err(RefusedHash::Malformed("the hash has fewer than 16 or more than 128 bytes"))
            }
            _ => {
                hash.truncate(method.compared());
                Ok(Self { method, salt, hash })
            }
        }
    }
}

/// `$argon2id$v=19$m=65536,t=4,p=1$salt$hash`. Without `v`, the version is 1.0.
fn phc_argon2(variant: argon2::Algorithm, fields: &[&str]) -> Result<Stored, RefusedHash> {
    let (version, list, salt, hash) = match *fields {
        ["v=19", list, salt, hash] => (argon2::Version::V0x13, list, salt, hash),
        ["v=16", list, salt, hash] | [list, salt, hash] => (argon2::Version::V0x10, list, salt, hash),
        _ => return Err(PARTS),
    };
    let [memory_kib, passes, lanes] = numbers(list, ["m", "t", "p"])?;
    Stored::new(Method::argon2(variant, version, memory_kib, passes, lanes)?, base64(salt)?, base64(hash)?)
}

/// `$pbkdf2-sha256$i=600000,l=32$salt$hash`, and passlib's `$pbkdf2-sha256$29000$salt$hash`.
fn phc_pbkdf2(hmac: pbkdf2::Algorithm, fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[list, salt, hash] = fields else { return Err(PARTS) };
    let hash = base64(hash)?;
    let iterations = if !list.contains('=') {
        number(list)?
    } else if list.contains(',') {
        let [iterations, length] = numbers(list, ["i", "l"])?;
        if length as usize != hash.len() {
            return Err(RefusedHash::Malformed("the hash has another length than it says"));
        }
        iterations
    } else {
        numbers(list, ["i"])?[0]
    };
    Stored::new(Method::pbkdf2(hmac, iterations)?, base64(salt)?, hash)
}

/// `$scrypt$ln=16,r=8,p=1$salt$hash`.
fn phc_scrypt(fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[list, salt, hash] = fields else { return Err(PARTS) };
    let [log_n, r, p] = numbers(list, ["ln", "r", "p"])?;
    Stored::new(Method::scrypt(log_n, r, p, None)?, base64(salt)?, base64(hash)?)
}

/// Firebase's scrypt (github.com/firebase/scrypt) in the form that Supabase's GoTrue
/// gives it: `$fbscrypt$v=1,n=14,r=8,p=1,ss=separator,sk=signer key$salt$hash`, where `n`
/// is Firebase's `mem_cost` and `r` its `rounds`.
fn firebase(fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[list, salt, hash] = fields else { return Err(PARTS) };
    let [version, log_n, r, p, separator, signer_key] = values(list, ["v", "n", "r", "p", "ss", "sk"])?;
    if version != "1" {
        return Err(RefusedHash::Malformed("its version is not 1"));
    }
    let method = Method::scrypt(number(log_n)?, number(r)?, number(p)?, Some(base64(signer_key)?))?;
    Stored::new(method, [base64(salt)?, base64(separator)?].concat(), base64(hash)?)
}

/// `$2y$13$`, and 22 characters of salt and 31 of hash, which are its first 23 bytes.
fn bcrypt(of_sha256: bool, fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[cost, salt_and_hash] = fields else { return Err(PARTS) };
    let method = Method::bcrypt(number(cost)?, of_sha256)?;
    let decode = |text| BCRYPT_BASE64.decode(text).map_err(|_| BASE64_FAULT);
    let parts = salt_and_hash.split_at_checked(22).filter(|(_, hash)| hash.len() == 31);
    let (salt, hash) = parts.ok_or(RefusedHash::Malformed("it has not 53 characters behind the cost"))?;
    Stored::new(method, decode(salt)?, decode(hash)?)
}

/// `pbkdf2_sha256$1000000$salt$hash`: the salt is text, the hash base64.
fn django_pbkdf2(hmac: pbkdf2::Algorithm, fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[iterations, salt, hash] = fields else { return Err(PARTS) };
    Stored::new(Method::pbkdf2(hmac, number(iterations)?)?, salt.into(), base64(hash)?)
}

/// `scrypt$16384$salt$8$5$hash`: N, r and p in numbers; the salt is text, the hash base64.
fn django_scrypt(fields: &[&str]) -> Result<Stored, RefusedHash> {
    let &[n, salt, r, p, hash] = fields else { return Err(PARTS) };
    Stored::new(Method::scrypt(log2(number(n)?)?, number(r)?, number(p)?, None)?, salt.into(), base64(hash)?)
}

/// `pbkdf2:sha256:1000000$salt$hash` and `scrypt:32768:8:1$salt$hash`: the salt is text,
/// the hash hexadecimal.
fn werkzeug(method: &str, salt: &str, hash: &str) -> Result<Stored, RefusedHash> {
    let method = match *method.split(':').collect::<Vec<_>>() {
        ["pbkdf2", "sha1", iterations] => Method::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA1, number(iterations)?)?,
        ["pbkdf2", "sha256", iterations] => Method::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256, number(iterations)?)?,
        ["pbkdf2", "sha512", iterations] => Method::pbkdf2(pbkdf2::PBKDF2_HMAC_SHA512, number(iterations)?)?,
        ["scrypt", n, r, p] => Method::scrypt(log2(number(n)?)?, number(r)?, number(p)?, None)?,
        _ => return Err(RefusedHash::Unknown),
    };
    Stored::new(method, salt.into(), hexadecimal(hash)?)
}

/// A credential of a Keycloak user, as in the export of a realm.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    secret_data: String,
    credential_data: String,
}

/// The JSON in [`Credential::secret_data`].
#[derive(Deserialize)]
struct SecretData {
    value: String,
    salt: String,
}

/// The JSON in [`Credential::credential_data`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialData {
    hash_iterations: u32,
    algorithm: String,
    #[serde(default)]
    additional_parameters: HashMap<String, Vec<String>>,
}

/// `{"secretData":"{…}","credentialData":"{…}"}`.
fn keycloak(text: &str) -> Result<Stored, RefusedHash> {
    fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, RefusedHash> {
        serde_json::from_str(json).map_err(|_| RefusedHash::Malformed("it is no credential of Keycloak"))
    }
    let credential: Credential = read(text)?;
    let secret: SecretData = read(&credential.secret_data)?;
    let data: CredentialData = read(&credential.credential_data)?;
    let (salt, hash) = (base64(&secret.salt)?, base64(&secret.value)?);
    let pbkdf2 = |hmac| Method::pbkdf2(hmac, data.hash_iterations);
    let method = match data.algorithm.as_str() {
        "argon2" => {
            let parameter = |name: &str| match data.additional_parameters.get(name).map(Vec::as_slice) {
                Some([value]) => Ok(value.as_str()),
                _ => Err(PARAMETERS),
            };
            let variant = match parameter("type")? {
                "id" => argon2::Algorithm::Argon2id,
                "i" => argon2::Algorithm::Argon2i,
                "d" => argon2::Algorithm::Argon2d,
                _ => return Err(PARAMETERS),
            };
            let version = match parameter("version")? {
                "1.3" => argon2::Version::V0x13,
                "1.0" => argon2::Version::V0x10,
                _ => return Err(PARAMETERS),
            };
            let (memory_kib, lanes) = (number(parameter("memory")?)?, number(parameter("parallelism")?)?);
            Method::argon2(variant, version, memory_kib, data.hash_iterations, lanes)?
        }
        "pbkdf2" => pbkdf2(pbkdf2::PBKDF2_HMAC_SHA1)?,
        "pbkdf2-sha256" => pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256)?,
        "pbkdf2-sha512" => pbkdf2(pbkdf2::PBKDF2_HMAC_SHA512)?,
        _ => return Err(RefusedHash::Unknown),
    };
    Stored::new(method, salt, hash)
}

const PARTS: RefusedHash = RefusedHash::Malformed("it has too few or too many parts");
const PARAMETERS: RefusedHash = RefusedHash::Malformed("a parameter is missing, unknown or not a number");
const BASE64_FAULT: RefusedHash = RefusedHash::Malformed("the salt or the hash is not base64");

/// Returns the values of the members of `a=1,b=2` with these names, which are all that it
/// has.
fn values<'a, const N: usize>(list: &'a str, names: [&str; N]) -> Result<[&'a str; N], RefusedHash> {
    if list.split(',').count() != N {
        return Err(PARAMETERS);
    }
    let value = |name| list.split(',').find_map(|member| member.strip_prefix(name)?.strip_prefix('='));
    let mut values = [""; N];
    for (place, name) in values.iter_mut().zip(names) {
        *place = value(name).ok_or(PARAMETERS)?;
    }
    Ok(values)
}

fn numbers<const N: usize>(list: &str, names: [&str; N]) -> Result<[u32; N], RefusedHash> {
    let mut numbers = [0; N];
    for (place, value) in numbers.iter_mut().zip(values(list, names)?) {
        *place = number(value)?;
    }
    Ok(numbers)
}

fn number(text: &str) -> Result<u32, RefusedHash> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits).ok_or(PARAMETERS)
}

/// Returns the logarithm of scrypt's N, which is a power of two.
fn log2(n: u32) -> Result<u32, RefusedHash> {
    if n.is_power_of_two() { Ok(n.ilog2()) } else { Err(RefusedHash::Malformed("N is not a power of two")) }
}

/// Decodes base64 in the alphabets that are in use: the standard one, the one for URLs,
/// and passlib's, which writes `.` for `+`.
fn base64(text: &str) -> Result<Vec<u8>, RefusedHash> {
    let standard = text.replace(['-', '.'], "+").replace('_', "/");
    BASE64.decode(standard).map_err(|_| BASE64_FAULT)
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, RefusedHash> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let is_byte = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok().filter(|_| is_byte)
    });
    pairs.collect::<Option<_>>().ok_or(RefusedHash::Malformed("the hash is not hexadecimal"))
}

#[cfg(test)]
mod tests;
