//! Private keys in all their forms.

use jsonwebtoken::jwk::ThumbprintHash;

use super::*;

const RSA_2048: &str = include_str!("../testdata/rsa-2048.pem");
const P256: &str = include_str!("../testdata/p256.pem");
const ED25519: &str = include_str!("../testdata/ed25519.pem");
const AES: &str = include_str!("../testdata/rsa-2048-aes256-sha256.pem");

fn passphrase(text: &str) -> Option<SecretString> {
    (!text.is_empty()).then(|| text.into())
}

fn fault(text: &str, word: &str) -> KeyError {
    read(text, passphrase(word).as_ref()).map(drop).unwrap_err()
}

#[test]
fn jw13_a_private_key_brings_its_algorithm_in_every_form_that_openssl_writes() {
    // The thumbprints were computed with Python, from OpenSSL's output for the keys.
    let rsa = (Algorithm::RS256, "gRqp0i2LleDGSZAHIOfV-pT--5OEZzQcZPV8Up7EEAI");
    let ec = (Algorithm::ES256, "khjF8eakoIm15SwJ5dFO9F7s7WI7HM6viCL6CGOFtgU");
    let ed = (Algorithm::EdDSA, "tdhw0N6udxgxdiPLbHxPGIyD55hIsNwFtRL9oKOcreo");
    const WORD: &str = "a-passphrase-for-tests-only";
    for (text, word, (algorithm, thumbprint)) in [
        (RSA_2048, "", rsa),
        (include_str!("../testdata/rsa-2048-pkcs1.pem"), "", rsa),
        (AES, WORD, rsa),
        (include_str!("../testdata/rsa-2048-aes128-sha1.pem"), WORD, rsa),
        // The format that PHP, and so `lexik:jwt:generate-keypair`, writes.
        (include_str!("../testdata/rsa-2048-des3-sha256.pem"), WORD, rsa),
        (P256, "", ec),
        (include_str!("../testdata/p256-sec1.pem"), "", ec),
        (include_str!("../testdata/p256-aes256-sha256.pem"), WORD, ec),
        (ED25519, "", ed),
    ] {
        let lines = |between: &str| text.trim_end().replace('\n', between);
        let unwrapped = lines("");
        for text in [
            text,
            // On one line, in every form that variables, YAML and JSON produce.
            &lines("\\n"),
            &lines("\\\\n"),
            &lines("\\r\\n"),
            &lines(" "),
            &lines("\t"),
            &lines("  "),
            &unwrapped,
            &format!("\"{}\"", lines("\\n")),
            // With other white space.
            &lines("\r\n"),
            &lines("\r"),
            &lines("\n\n"),
            &format!("    {}", lines("\n    ")),
            &format!("\n{text}\n"),
            &format!("\u{feff}{text}"),
            // The whole PEM in base64, with and without line breaks.
            &STANDARD.encode(text),
            &format!(
                "{}\n",
                STANDARD.encode(text).as_bytes().chunks(76).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
            ),
            &STANDARD.encode(lines("\r\n")),
        ] {
            assert!(is_pem(text), "{text}");
            let (pair, public) =
                read(text, passphrase(word).as_ref()).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(pair.algorithm, algorithm, "{text}");
            assert_eq!(public.thumbprint(ThumbprintHash::SHA256).unwrap(), thumbprint, "{text}");
        }
    }
    assert!(read(RSA_2048, passphrase("for nothing").as_ref()).is_ok());
}

#[test]
fn jw13_pkcs8_without_its_boundary_lines_is_read() {
    for (text, word) in [(RSA_2048, ""), (AES, "a-passphrase-for-tests-only"), (P256, ""), (ED25519, "")] {
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(is_pem(&body) && read(&body, passphrase(word).as_ref()).is_ok(), "{text}");
    }
}

#[test]
fn a_random_secret_is_not_taken_for_a_key() {
    for secret in ["0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a", "", "x", "MIIB", &STANDARD.encode([0x30; 48])] {
        assert!(!is_pem(secret), "{secret}");
    }
}

#[test]
fn jw13_a_weak_key_or_one_of_another_kind_is_refused() {
    for text in [
        include_str!("../testdata/rsa-1024.pem"),
        include_str!("../testdata/rsa-pss.pem"),
        include_str!("../testdata/p384.pem"),
        include_str!("../testdata/ed448.pem"),
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
        include_str!("../testdata/rsa-2048-public.pem"),
        include_str!("../testdata/rsa-2048-pkcs1-encrypted.pem"),
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
