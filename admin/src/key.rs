//! New keys.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshkey::entropy;
use freshkey::token::Algorithm;
use pkcs8::{LineEnding, SecretDocument};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Returns a new key: 384 random bits in base64 for HS256, and otherwise a private key
/// in PEM (PKCS#8): RSA with 3072 bits, P-256 or Ed25519.
///
/// # Errors
///
/// A [`Failure`] when the key cannot be generated, or there are no keys for `algorithm`.
pub fn generate(algorithm: Algorithm) -> Result<SecretString, Failure> {
    let der = match algorithm {
        Algorithm::HS256 => return Ok(STANDARD.encode(*Zeroizing::new(entropy::bytes::<48>())).into()),
        Algorithm::RS256 => rsa().map_err(failed)?,
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        other => return Err(failed(other)),
    };
    let pem = SecretDocument::try_from(der).and_then(|der| der.to_pem("PRIVATE KEY", LineEnding::LF));
    Ok(pem.map_err(failed)?.as_str().into())
}

fn rsa() -> Result<Vec<u8>, Unspecified> {
    let der: Pkcs8V1Der<'_> = rsa::KeyPair::generate(KeySize::Rsa3072)?.as_der()?;
    Ok(der.as_ref().to_vec())
}

/// The cause says nothing that helps, and may hold a part of the key.
fn failed<E>(_: E) -> Failure {
    Failure::refused("internal", "A key cannot be generated.")
}
