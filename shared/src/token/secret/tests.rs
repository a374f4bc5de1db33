//! Secrets that others know or can guess, and good secrets.

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::entropy;

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

#[track_caller]
fn assert_refused(secrets: &[&str]) {
    for secret in secrets {
        assert!(check(secret).is_err(), "{secret}");
    }
}

#[test]
fn se1_a_short_secret_is_refused() {
    assert_eq!(check(""), Err(KeyError::TooShort));
    assert_eq!(check("secret"), Err(KeyError::TooShort));
    assert_eq!(check(&SECRET[..31]), Err(KeyError::TooShort));
    assert_eq!(check(SECRET), Ok(()));
}

#[test]
fn se1_a_placeholder_is_refused_however_it_is_written() {
    for secret in [
        "your-super-secret-key-here",
        "Your-Super-Secret-Key-Here-And-Then-Some",
        "YOUR_SUPER_SECRET_KEY_HERE_0fK3vQxw8Jd1mRzT6yPbLc",
        "your-256-bit-secret",
        "your_256_bit_secret_0fK3vQxw8Jd1mRzT6yPb",
        "changeme-changeme-changeme-changeme",
        "please change this 0fK3vQxw8Jd1mRzT6yPb",
    ] {
        assert_eq!(check(secret), Err(KeyError::Guessable), "{secret}");
    }
}

#[test]
fn se1_what_jwt_io_shows_is_refused() {
    assert_refused(&[
        "your-256-bit-secret",
        "your-384-bit-secret",
        "your-512-bit-secret",
        "your-256-bit-secretyour-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-384-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    ]);
}

#[test]
fn se1_a_published_secret_is_refused_also_in_capitals_in_quotes_and_encoded() {
    // From wallarm/jwt-secrets, two tutorials, and RFCs 7515 and 7520.
    for secret in [
        "!RCR#hJFp*d8nHUZ@U79vC*HndVg292phyZ#5^Xb",
        "$gbK!srXc2Oivn8ZjHa8WRel&Zy4481W",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        DEMO_SECRET,
    ] {
        for written in [secret.to_owned(), secret.to_uppercase(), format!(" \"{secret}\"\n")] {
            assert_eq!(check(&written), Err(KeyError::Known), "{written}");
        }
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for encoded in [STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret), hex] {
            assert!(check(&encoded).is_err(), "{encoded}");
        }
    }
}

#[test]
fn se1_a_published_secret_is_refused_in_each_way_to_write_its_bytes() {
    let rfc_7515 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let bytes = URL_SAFE_NO_PAD.decode(rfc_7515).unwrap();
    for text in written(&bytes) {
        assert_eq!(check(&text), Err(KeyError::Known), "{}", *text);
    }
}

#[test]
fn se1_random_secrets_that_look_odd_are_accepted() {
    for secret in ["573a58095f7a65602d2f9f45a5eabd3a6539", "31535187488347387753415138448673"] {
        assert_eq!(check(secret), Ok(()), "{secret}");
    }
}

#[test]
fn se1_every_hash_of_a_published_secret_is_one() {
    assert!(KNOWN.len() > 1800);
    for hash in KNOWN.iter() {
        assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    }
}

#[test]
fn se1_a_short_text_that_is_repeated_is_refused() {
    assert_refused(&[
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabcabcabcabcabcabcabcabc",
        "12345678901234567890123456789012",
        "abcdefghabcdefghabcdefghabcdefgh",
        "abcdefghabcdefghabcdefghabcdefgha",
        "xK9#qLw2xK9#qLw2xK9#qLw2xK9#qLw2",
        "T7$kPz9Qm2W-T7$kPz9Qm2W-T7$kPz9Qm2W-",
        "passwordpasswordpasswordpassword",
        "0123456789abcdef0123456789abcdef",
        "deadbeefdeadbeefdeadbeefdeadbeef",
        "mysecret1mysecret2mysecret3mysecret4",
        "0fK3vQxw8Jd1mRzT6yPb0fK3vQxw8Jd1mRzT6yPb",
        "0fK3vQxw8Jd1mRzT6yPbLc90fK3vQxw8J",
        "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE70fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7",
    ]);
}

#[test]
fn se1_a_secret_that_ends_as_it_begins_is_refused() {
    assert_eq!(check("Zq8vT2mXw7Lr4KcJ9bNhYd3sZq8vT2mX"), Err(KeyError::Guessable));
    assert_eq!(check("Zq8vT2mXw7Lr4KcJ9bNhYd3sZq8vT2mY"), Ok(()));
}

#[test]
fn se1_a_sequence_is_refused() {
    assert_refused(&[
        "abcdefghijklmnopqrstuvwxyz123456",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF",
        "zyxwvutsrqponmlkjihgfedcba987654",
        "98765432109876543210987654321098",
        "acegikmoqsuwybdfhjlnprtvxzacegik",
        "aabbccddeeffgghhiijjkkllmmnnoopp",
        "a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6",
        "ab12cd34ef56gh78ij90kl12mn34op56",
        "abcd1234efgh5678ijkl9012mnop3456",
        "qwertyuiopasdfghjklzxcvbnm123456",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "YWJjZGVmZ2hhYmNkZWZnaGFiY2RlZmdoYWJjZGVmZ2g",
    ]);
}

#[test]
fn se1_a_sentence_about_secrets_is_refused() {
    assert_refused(&[
        "this-is-my-very-long-secret-key-for-jwt",
        "MySuperSecretKeyForJWTAuthentication2024",
        "jwt_secret_key_for_development_only_123",
        "thisisaverysecuresecretkeyforsigningtokens",
        "secretsecretsecretpasswordpassword",
        "default-secret-key-do-not-use-in-production",
    ]);
}

#[test]
fn jw2_a_key_in_pem_is_not_a_secret() {
    for key in ["rsa-2048-public", "rsa-2048", "p256", "ed25519-public"] {
        let path = format!("{}/src/token/testdata/{key}.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read_to_string(path).unwrap();
        for text in [pem.clone(), pem.replace('\n', " "), STANDARD.encode(&pem)] {
            assert_eq!(check(&text), Err(KeyError::Pem), "{text}");
        }
    }
}

#[test]
fn se2_a_prefix_for_scanners_is_accepted() {
    assert_eq!(check(&format!("secret-token:{SECRET}")), Ok(()));
}

#[test]
fn a_long_secret_twice_and_a_sentence_of_other_things_are_accepted() {
    assert_eq!(check(&SECRET.repeat(2)), Ok(()));
    assert_eq!(check("a loud brook over eight stones runs down the hill"), Ok(()));
}

#[test]
fn a_secret_of_any_length_is_judged_at_once() {
    let random: String = (0..1000).map(|_| URL_SAFE_NO_PAD.encode(entropy::bytes::<48>())).collect();
    assert_eq!(check(&random), Ok(()));
    assert!(check(&"ab".repeat(32_000)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_generators_make_is_accepted(
        bytes in any::<[u8; 32]>(),
        alphanumeric in "[a-zA-Z0-9]{64}",
        digits in "[0-9]{48}",
    ) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (base64, url_safe) = (STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes));
        for secret in [&base64, &url_safe, &hex, &hex[..32], &alphanumeric, &alphanumeric[..32], &digits] {
            prop_assert_eq!(check(secret), Ok(()), "{}", secret);
        }
    }
}
