//! Private keys in PEM, as OpenSSL writes them and Symfony projects have them.

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

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::ThumbprintHash;

    use super::*;

    const RSA_2048: &str = include_str!("testdata/rsa-2048.pem");
    const P256: &str = include_str!("testdata/p256.pem");
    const ED25519: &str = include_str!("testdata/ed25519.pem");
    const AES: &str = include_str!("testdata/rsa-2048-aes256-sha256.pem");

    fn passphrase(text: &str) -> Option<SecretString> {
        (!text.is_empty()).then(|| text.into())
    }

    fn fault(text: &str, word: &str) -> KeyError {
        read(text, passphrase(word).as_ref()).map(drop).unwrap_err()
    }

    #[test]
    fn jw13_a_private_key_brings_its_algorithm_in_every_form_that_openssl_writes() {
        // The thumbprints were computed with Python, from what OpenSSL says of the keys.
        let rsa = (Algorithm::RS256, "gRqp0i2LleDGSZAHIOfV-pT--5OEZzQcZPV8Up7EEAI");
        let ec = (Algorithm::ES256, "khjF8eakoIm15SwJ5dFO9F7s7WI7HM6viCL6CGOFtgU");
        let ed = (Algorithm::EdDSA, "tdhw0N6udxgxdiPLbHxPGIyD55hIsNwFtRL9oKOcreo");
        const WORD: &str = "a-passphrase-for-tests-only";
        for (text, word, (algorithm, thumbprint)) in [
            (RSA_2048, "", rsa),
            (include_str!("testdata/rsa-2048-pkcs1.pem"), "", rsa),
            (AES, WORD, rsa),
            (include_str!("testdata/rsa-2048-aes128-sha1.pem"), WORD, rsa),
            // What PHP, and so `lexik:jwt:generate-keypair`, writes.
            (include_str!("testdata/rsa-2048-des3-sha256.pem"), WORD, rsa),
            (P256, "", ec),
            (include_str!("testdata/p256-sec1.pem"), "", ec),
            (include_str!("testdata/p256-aes256-sha256.pem"), WORD, ec),
            (ED25519, "", ed),
        ] {
            let one_line = text.trim_end().replace('\n', "\\n");
            let windows = text.replace('\n', "\r\n");
            for text in [text, &one_line, &windows, &format!("\n{text}\n")] {
                let (pair, public) =
                    read(text, passphrase(word).as_ref()).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(pair.algorithm, algorithm, "{text}");
                assert_eq!(public.thumbprint(ThumbprintHash::SHA256).unwrap(), thumbprint, "{text}");
            }
        }
        assert!(read(RSA_2048, passphrase("for nothing").as_ref()).is_ok());
    }

    #[test]
    fn jw13_a_weak_key_or_one_of_another_kind_is_refused() {
        for text in [
            include_str!("testdata/rsa-1024.pem"),
            include_str!("testdata/rsa-pss.pem"),
            include_str!("testdata/p384.pem"),
            include_str!("testdata/ed448.pem"),
        ] {
            assert_eq!(fault(text, ""), KeyError::Unsupported, "{text}");
        }
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_alone() {
        for word in ["", "wrong", "A-passphrase-for-tests-only", "a-passphrase-for-tests-only "] {
            assert_eq!(fault(AES, word), KeyError::Passphrase, "{word:?}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for text in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            include_str!("testdata/rsa-2048-public.pem"),
            include_str!("testdata/rsa-2048-pkcs1-encrypted.pem"),
            &RSA_2048.replace("PRIVATE", "OPENSSH PRIVATE"),
            &RSA_2048[..RSA_2048.len() / 2],
            &RSA_2048.replace('A', "?"),
        ] {
            assert_eq!(fault(text, ""), KeyError::NotPem, "{text}");
        }
    }

    #[test]
    fn jw13_the_bits_of_a_number_are_counted_from_the_first_that_is_set() {
        for (bytes, expected) in
            [(vec![], 0), (vec![0, 0], 0), (vec![1], 1), (vec![0, 0x80, 0], 16), (vec![0x7f; 256], 2047)]
        {
            assert_eq!(bits(&URL_SAFE_NO_PAD.encode(&bytes)), expected, "{bytes:?}");
        }
    }
}
