//! Private keys in PEM, as OpenSSL writes them and Symfony projects have them.

#[cfg(test)]
mod tests;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::ring::{KeyError, Pair};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The bits of an RSA key: fewer are too weak (RFC 7518, section 3.3), more
/// are not verified everywhere.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Whether a text is meant to be PEM.
pub fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN ")
}

/// Reads a private key: PKCS#8, also encrypted (PBES2, RFC 8018), PKCS#1 or
/// SEC1. The algorithm follows from the key. Line ends may be written `\n`, as
/// where a variable can hold one line only.
pub fn read(text: &str, passphrase: Option<&SecretString>) -> Result<(Pair, Jwk), KeyError> {
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    // What stands before it, such as `EC PARAMETERS`, says nothing new.
    let block = text.split("-----BEGIN ").find(|block| block.contains("PRIVATE KEY-----"));
    let block = Zeroizing::new(format!("-----BEGIN {}", block.ok_or(KeyError::NotPem)?));
    let (label, document) = SecretDocument::from_pem(block.trim()).map_err(|_| KeyError::NotPem)?;
    let (algorithm, signs) = match label {
        "PRIVATE KEY" => pkcs8(&document)?,
        "ENCRYPTED PRIVATE KEY" => pkcs8(&decrypt(&document, passphrase)?)?,
        "RSA PRIVATE KEY" => (Algorithm::RS256, EncodingKey::from_rsa_der(document.as_bytes())),
        "EC PRIVATE KEY" => (Algorithm::ES256, p256(document.as_bytes())?),
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

fn decrypt(document: &SecretDocument, passphrase: Option<&SecretString>) -> Result<SecretDocument, KeyError> {
    let passphrase = passphrase.ok_or(KeyError::Passphrase)?.expose_secret();
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyError::NotPem)?;
    encrypted.decrypt(passphrase).map_err(|_| KeyError::Passphrase)
}

fn pkcs8(document: &SecretDocument) -> Result<(Algorithm, EncodingKey), KeyError> {
    let der = document.as_bytes();
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyError::NotPem)?;
    match info.algorithm.oid {
        RSA => Ok((Algorithm::RS256, EncodingKey::from_rsa_der(info.private_key.as_bytes()))),
        EC => Ok((Algorithm::ES256, p256(der)?)),
        ED25519 => Ok((Algorithm::EdDSA, ed25519(der)?)),
        _ => Err(KeyError::Unsupported),
    }
}

/// A key of P-256, PKCS#8 or SEC1, in the one form that jsonwebtoken takes.
fn p256(der: &[u8]) -> Result<EncodingKey, KeyError> {
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
    let der = pair.map_err(|_| KeyError::Unsupported)?.to_pkcs8v1().map_err(|_| KeyError::Unsupported)?;
    Ok(EncodingKey::from_ec_der(der.as_ref()))
}

/// A key of Ed25519, of either version of PKCS#8, in the first.
fn ed25519(der: &[u8]) -> Result<EncodingKey, KeyError> {
    let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Unsupported)?;
    let der = pair.to_pkcs8v1().map_err(|_| KeyError::Unsupported)?;
    Ok(EncodingKey::from_ed_der(der.as_ref()))
}

/// The bits of a number in base64url.
fn bits(number: &str) -> usize {
    let bytes = URL_SAFE_NO_PAD.decode(number).unwrap_or_default();
    let zeros = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let leading = bytes.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (bytes.len() - zeros) * 8 - leading
}
