//! Private keys in PEM (RFC 7468), as OpenSSL writes them and Symfony projects
//! have them, and as environment variables, YAML and JSON deform them.

#[cfg(test)]
mod tests;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::key::{KeyError, Pair};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The bits of an RSA key: fewer are too weak (RFC 7518, section 3.3), more
/// are not verified everywhere.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The beginning and the end of a boundary line (RFC 7468, section 3).
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// An ASN.1 document in DER.
type Der = Zeroizing<Vec<u8>>;

/// Returns whether a text is meant to be a key: PEM, the base64 of PEM, or PEM without
/// its boundary lines.
pub fn is_pem(text: &str) -> bool {
    text.contains(BEGIN) || unwrapped(text).is_some() || without_boundaries(text).is_some()
}

/// Reads a private key: PKCS#8, also encrypted (PBES2, RFC 8018), PKCS#1 or SEC1. The
/// key determines the algorithm.
///
/// Line ends may be any blanks or the two characters `\n`, lines may be
/// indented, and the whole text may be encoded in base64 once more.
///
/// # Errors
///
/// [`KeyError::NotPem`] for a text without a private key; [`KeyError::Passphrase`] when
/// the key is encrypted and `passphrase` does not open it; [`KeyError::Unsupported`]
/// for a weak key or one of another kind.
pub fn read(text: &str, passphrase: Option<&SecretString>) -> Result<(Pair, Jwk), KeyError> {
    let (label, document) = document(text).ok_or(KeyError::NotPem)?;
    let (algorithm, signs) = match label.as_str() {
        "PRIVATE KEY" => pkcs8(&document)?,
        "ENCRYPTED PRIVATE KEY" => decrypt(&document, passphrase)?,
        "RSA PRIVATE KEY" => (Algorithm::RS256, EncodingKey::from_rsa_der(&document)),
        "EC PRIVATE KEY" => (Algorithm::ES256, p256(&document)?),
        _ => return Err(KeyError::NotPem),
    };
    let public = Jwk::from_encoding_key(&signs, algorithm).map_err(|_| KeyError::Unsupported)?;
    if let AlgorithmParameters::RSA(rsa) = &public.algorithm
        && !RSA_BITS.contains(&bits(&rsa.n))
    {
        return Err(KeyError::Unsupported);
    }
    let verifies = DecodingKey::from_jwk(&public).map_err(|_| KeyError::Unsupported)?;
    Ok((Pair { algorithm, signs, verifies }, public))
}

/// Returns the label and the content of the private key in a text.
fn document(text: &str) -> Option<(String, Der)> {
    if let Some(text) = unwrapped(text) {
        return block(&text);
    }
    block(text).or_else(|| without_boundaries(text))
}

/// Returns the first block with a private key. Other blocks, such as `EC PARAMETERS`,
/// are not needed.
fn block(text: &str) -> Option<(String, Der)> {
    text.split(BEGIN).skip(1).find_map(|block| {
        let (label, rest) = block.split_once(DASHES)?;
        let (body, end) = rest.split_once(END)?;
        if !label.ends_with("PRIVATE KEY") || !end.starts_with(&format!("{label}{DASHES}")) {
            return None;
        }
        Some((label.to_owned(), base64(body)?))
    })
}

/// Decodes PEM that was encoded in base64 as a whole.
fn unwrapped(text: &str) -> Option<Zeroizing<String>> {
    let text = String::from_utf8(base64(text)?.to_vec()).map(Zeroizing::new).ok()?;
    text.contains(BEGIN).then_some(text)
}

/// Reads PKCS#8 without its boundary lines.
fn without_boundaries(text: &str) -> Option<(String, Der)> {
    let der = base64(text)?;
    let label = if PrivateKeyInfoRef::try_from(der.as_slice()).is_ok() {
        "PRIVATE KEY"
    } else if EncryptedPrivateKeyInfoRef::try_from(der.as_slice()).is_ok() {
        "ENCRYPTED PRIVATE KEY"
    } else {
        return None;
    };
    Some((label.to_owned(), der))
}

/// Decodes base64 with any kind of line ends.
fn base64(text: &str) -> Option<Der> {
    let text = Zeroizing::new(text.replace("\\n", " ").replace("\\r", " "));
    let is_kept = |c: &char| !c.is_whitespace() && !"\\\"'\u{feff}".contains(*c);
    let text: Zeroizing<String> = Zeroizing::new(text.chars().filter(is_kept).collect());
    STANDARD.decode(text.as_bytes()).map(Zeroizing::new).ok()
}

fn decrypt(der: &[u8], passphrase: Option<&SecretString>) -> Result<(Algorithm, EncodingKey), KeyError> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::NotPem)?;
    let passphrase = passphrase.ok_or(KeyError::Passphrase)?.expose_secret();
    let document = encrypted.decrypt(passphrase).map_err(|_| KeyError::Passphrase)?;
    pkcs8(document.as_bytes())
}

fn pkcs8(der: &[u8]) -> Result<(Algorithm, EncodingKey), KeyError> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::NotPem)?;
    match info.algorithm.oid {
        RSA => Ok((Algorithm::RS256, EncodingKey::from_rsa_der(info.private_key.as_bytes()))),
        EC => Ok((Algorithm::ES256, p256(der)?)),
        ED25519 => Ok((Algorithm::EdDSA, ed25519(der)?)),
        _ => Err(KeyError::Unsupported),
    }
}

/// Converts a P-256 key, PKCS#8 or SEC1, to the form that jsonwebtoken reads.
fn p256(der: &[u8]) -> Result<EncodingKey, KeyError> {
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
    let der = pair.map_err(|_| KeyError::Unsupported)?.to_pkcs8v1().map_err(|_| KeyError::Unsupported)?;
    Ok(EncodingKey::from_ec_der(der.as_ref()))
}

/// Converts an Ed25519 key to version 1 of PKCS#8, which jsonwebtoken reads.
fn ed25519(der: &[u8]) -> Result<EncodingKey, KeyError> {
    let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Unsupported)?;
    let der = pair.to_pkcs8v1().map_err(|_| KeyError::Unsupported)?;
    Ok(EncodingKey::from_ed_der(der.as_ref()))
}

/// Returns the number of bits of a number in base64url.
fn bits(number: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(number).unwrap_or_default();
    let zeros = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let leading = bytes.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (bytes.len() - zeros) * 8 - leading
}
