//! Which secrets and rings of keys are accepted.

use serde_json::json;

use super::*;
use crate::token::ALGORITHMS;

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const OTHER: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";

fn parse(text: &str) -> Result<KeyRing, KeyError> {
    KeyRing::parse(&text.into())
}

#[test]
fn se1_se2_jw13_what_nobody_should_sign_with_is_refused() {
    for (secret, fault) in [
        ("", KeyError::TooShort),
        (&SECRET[..31], KeyError::TooShort),
        ("secret", KeyError::TooShort),
        ("your-super-secret-key-here", KeyError::Guessable),
        ("Your-Super-Secret-Key-Here-And-Then-Some", KeyError::Guessable),
        ("changeme-changeme-changeme-changeme", KeyError::Guessable),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", KeyError::Guessable),
        ("abcabcabcabcabcabcabcabcabcabcabcabcabc", KeyError::Guessable),
    ] {
        assert_eq!(KeyRing::single(&secret.into()).unwrap_err(), fault, "{secret}");
    }
    assert!(KeyRing::single(&SECRET.into()).is_ok());
    assert!(KeyRing::single(&format!("secret-token:{SECRET}").into()).is_ok());
}

#[test]
fn a_generated_secret_holds_the_keys_by_name() {
    let keys = parse(&format!(r#"{{"signing":"k2","refresh":"k1","k1":"{SECRET}","k2":"{OTHER}"}}"#)).unwrap();
    assert_eq!(keys.access_signer().unwrap().0, "k2");
    assert_eq!(keys.refresh_signer().unwrap().0, "k1");
    assert!(keys.access_verifier("k1").is_some() && keys.refresh_verifier("k2").is_some());
    assert!(keys.access_verifier("signing").is_none());
}

#[test]
fn a_secret_of_another_shape_is_refused_by_name() {
    let keyed = |members: &str| format!(r#"{{"signing":"k1","refresh":"k1",{members}}}"#);
    for (text, fault) in [
        ("x".into(), KeyError::Shape),
        ("[]".into(), KeyError::Shape),
        (keyed(r#""k1":1"#), KeyError::Shape),
        (keyed(r#""k1":{"a":"b"}"#), KeyError::Shape),
        (keyed(&format!(r#""k1":"{SECRET}","k1":"{OTHER}""#)), KeyError::Shape),
        (keyed(&format!(r#""k2":"{SECRET}""#)), KeyError::Missing("signing")),
        (format!(r#"{{"signing":"k1","k1":"{SECRET}"}}"#), KeyError::Missing("refresh")),
        (keyed(&format!(r#""k1":"{SECRET}","a/b":"{OTHER}""#)), KeyError::Name("a/b".into())),
        (keyed(r#""k1":"short""#), KeyError::Key { name: "k1".into(), fault: Box::new(KeyError::TooShort) }),
    ] {
        assert_eq!(parse(&text).unwrap_err(), fault, "{text}");
    }
}

const RSA: &str = include_str!("../testdata/rsa-2048.pem");
const ENCRYPTED: &str = include_str!("../testdata/rsa-2048-des3-sha256.pem");
const P256: &str = include_str!("../testdata/p256.pem");
const ED25519: &str = include_str!("../testdata/ed25519.pem");

/// A ring with a key of each kind, of which the named one signs access tokens.
fn every_kind(signing: &str) -> KeyRing {
    let keys = json!({
        "signing": signing, "refresh": "k1", "k1": SECRET, "k2": P256, "k3": ENCRYPTED,
        "k3.passphrase": "a-passphrase-for-tests-only", "k4": ED25519,
    });
    parse(&keys.to_string()).unwrap()
}

#[test]
fn jw1_each_key_of_the_ring_is_for_one_algorithm() {
    for (name, algorithm) in
        [("k1", Algorithm::HS256), ("k2", Algorithm::ES256), ("k3", Algorithm::RS256), ("k4", Algorithm::EdDSA)]
    {
        let keys = every_kind(name);
        assert_eq!(keys.access_signer().unwrap().1.algorithm, algorithm);
        for (other, pair) in [("k1", keys.refresh_signer().unwrap().1), (name, keys.access_verifier(name).unwrap())] {
            assert_eq!(pair.algorithm == algorithm, other == name, "{name}");
        }
        for (_, expected) in ALGORITHMS {
            let result = every_kind(name).for_algorithm(expected).map(drop);
            let fault = KeyError::Algorithm { expected, found: algorithm };
            assert_eq!(result, if expected == algorithm { Ok(()) } else { Err(fault) });
        }
    }
}

#[test]
fn se3_a_private_key_signs_no_refresh_token() {
    let keys = every_kind("k3");
    assert!(keys.refresh_verifier("k1").is_some());
    for name in ["k2", "k3", "k4"] {
        assert!(keys.access_verifier(name).is_some() && keys.refresh_verifier(name).is_none(), "{name}");
    }
    let text = json!({ "signing": "k2", "refresh": "k2", "k1": SECRET, "k2": P256 });
    assert_eq!(parse(&text.to_string()).unwrap_err(), KeyError::RefreshKey);
}

#[test]
fn a_faulty_private_key_of_the_ring_is_named() {
    let with = |name: &str, value: &str| {
        let mut text = json!({ "signing": "k1", "refresh": "k1", "k1": SECRET, "k3": ENCRYPTED });
        text["k3.passphrase"] = "a-passphrase-for-tests-only".into();
        text[name] = value.into();
        parse(&text.to_string()).unwrap_err()
    };
    let fault = |fault| KeyError::Key { name: "k3".into(), fault: Box::new(fault) };
    assert_eq!(with("k3.passphrase", "wrong"), fault(KeyError::Passphrase));
    assert_eq!(with("k3", "-----BEGIN nothing"), fault(KeyError::NotPem));
    assert_eq!(with("k3", include_str!("../testdata/p384.pem")), fault(KeyError::Unsupported));
    assert_eq!(with("k9.passphrase", "of no key"), KeyError::Name("k9.passphrase".into()));
}

#[test]
fn jw14_the_public_halves_are_published_and_nothing_else() {
    assert_eq!(json!(KeyRing::single(&SECRET.into()).unwrap().public()), json!({ "keys": [] }));
    let published = json!(every_kind("k1").public());
    let keys = published["keys"].as_array().unwrap();
    let members: [&[&str]; 3] = [
        &["alg", "crv", "kid", "kty", "use", "x", "y"],
        &["alg", "e", "kid", "kty", "n", "use"],
        &["alg", "crv", "kid", "kty", "use", "x"],
    ];
    for (key, (expected, values)) in keys.iter().zip(members.into_iter().zip([
        ["k2", "ES256", "EC", "P-256"],
        ["k3", "RS256", "RSA", ""],
        ["k4", "EdDSA", "OKP", "Ed25519"],
    ])) {
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{key}");
        let found = ["kid", "alg", "kty", "crv"].map(|name| key[name].as_str().unwrap_or_default());
        assert_eq!(found, values, "{key}");
        assert_eq!(key["use"], "sig");
    }
    assert_eq!(keys.len(), 3);
}

#[test]
fn jw14_the_public_halves_of_the_largest_secret_are_below_150_kb() {
    // Secrets Manager accepts 65,536 bytes. The smallest keys make the longest list.
    let mut secret = json!({ "signing": "k1", "refresh": "k1", "k1": SECRET });
    for n in 0.. {
        secret[format!("{n:x}")] = ED25519.into();
        if secret.to_string().len() > 65_536 {
            break;
        }
    }
    let published = json!(parse(&secret.to_string()).unwrap().public());
    assert!(published["keys"].as_array().unwrap().len() > 400);
    assert!(published.to_string().len() < 150_000, "{}", published.to_string().len());
}

#[test]
fn a_private_key_beside_the_one_secret_is_named_by_its_thumbprint() {
    let keys = KeyRing::single(&SECRET.into()).unwrap().with_private_key(RSA, None).unwrap();
    assert_eq!(keys.access_signer().unwrap().0, "gRqp0i2LleDGSZAHIOfV-pT--5OEZzQcZPV8Up7EEAI");
    assert_eq!(keys.refresh_signer().unwrap().0, "k1");
    assert!(keys.access_verifier("k1").is_some());
    assert_eq!(json!(keys.public())["keys"][0]["kid"], "gRqp0i2LleDGSZAHIOfV-pT--5OEZzQcZPV8Up7EEAI");
}

#[test]
fn se3_the_derived_key_is_hkdf_sha256() {
    // Computed with Python's hmac, by the two steps of RFC 5869.
    let derived = derive(SECRET.as_bytes(), REFRESH_LABEL).unwrap();
    let hex: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "c4198e3f22dfbb1c216a8fc2e40b305ed20d059cc0d1beb9a9fb25024597894a");
}

#[test]
fn se5_keys_are_never_printed() {
    let printed = format!("{:?} {:?}", KeyRing::single(&SECRET.into()), every_kind("k2"));
    for secret in [&SECRET[..8], "MIIEv", "MIGHAg", "passphrase"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
