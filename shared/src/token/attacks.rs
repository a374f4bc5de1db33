//! Attacks on access tokens of asymmetric keys, whose public half the attacker
//! knows. Each token is made by hand and has one fault; otherwise it is authentic.

use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pkcs8::{Document, SecretDocument};
use serde_json::{Value, json};

use super::{AccessTokens, Algorithm, KeyRing, RefreshTokens, Rejection};
use crate::clock::Timestamp;

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The order of P-256.
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// A key pair of the ring.
struct Owner {
    algorithm: Algorithm,
    pem: &'static str,
    public: &'static str,
}

const OWNERS: [Owner; 3] = [
    Owner {
        algorithm: Algorithm::RS256,
        pem: include_str!("testdata/rsa-2048.pem"),
        public: include_str!("testdata/rsa-2048-public.pem"),
    },
    Owner {
        algorithm: Algorithm::ES256,
        pem: include_str!("testdata/p256.pem"),
        public: include_str!("testdata/p256-public.pem"),
    },
    Owner {
        algorithm: Algorithm::EdDSA,
        pem: include_str!("testdata/ed25519.pem"),
        public: include_str!("testdata/ed25519-public.pem"),
    },
];

impl Owner {
    fn keys(&self) -> KeyRing {
        let ring = json!({ "signing": "k2", "refresh": "k1", "k1": SECRET, "k2": self.pem });
        KeyRing::parse(&ring.to_string().into()).unwrap()
    }

    fn der(&self) -> SecretDocument {
        SecretDocument::from_pem(self.pem).unwrap().1
    }

    fn sign(&self, message: &str) -> Vec<u8> {
        let (der, random) = (self.der(), SystemRandom::new());
        match self.algorithm {
            Algorithm::RS256 => rsa(&der, &RSA_PKCS1_SHA256, message),
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_bytes()).unwrap();
                pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            _ => Ed25519KeyPair::from_pkcs8(der.as_bytes()).unwrap().sign(message.as_bytes()).as_ref().to_vec(),
        }
    }

    fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "typ": "at+jwt", "kid": "k2" })
    }

    /// A token with this header and these claims, signed by the owner.
    fn token(&self, header: impl ToString, claims: impl ToString) -> String {
        let message = message(header, claims);
        let signature = self.sign(&message);
        with_signature(&message, signature)
    }

    fn verify(&self, token: &str) -> Result<(), Rejection> {
        let tokens = AccessTokens {
            issuer: "https://auth.example.com".into(),
            audience: "https://api.example.com".into(),
            lifetime: Duration::from_secs(3600),
            leeway: Duration::ZERO,
        };
        tokens.verify(&self.keys(), token, NOW).map(drop)
    }
}

fn rsa(der: &SecretDocument, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let pair = RsaKeyPair::from_pkcs8(der.as_bytes()).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signature
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: impl ToString, claims: impl ToString) -> String {
    format!("{}.{}", encode(header.to_string()), encode(claims.to_string()))
}

fn with_signature(message: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{message}.{}", encode(signature))
}

fn claims() -> Value {
    json!({
        "iss": "https://auth.example.com", "aud": "https://api.example.com",
        "sub": "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31", "sid": "c2f7e5d4-1b0a-4e9f-8a6d-7c3b5e2f9d10",
        "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_003_600, "jti": "name", "roles": ["ROLE_USER"],
    })
}

fn with(object: Value, name: &str, value: impl Into<Value>) -> Value {
    let mut object = object;
    object[name] = value.into();
    object
}

#[test]
fn a_token_that_the_owner_signs_is_accepted() {
    for owner in OWNERS {
        assert_eq!(owner.verify(&owner.token(owner.header(), claims())), Ok(()));
    }
}

#[test]
fn jw1_the_header_may_only_name_the_algorithm_of_the_key() {
    for owner in OWNERS {
        let names =
            ["none", "None", "NONE", "", "HS256", "HS384", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384"];
        for name in names.into_iter().chain(["EdDSA", "rs256", "es256", "eddsa", "Ed25519", " RS256", "RS256 "]) {
            let header = with(owner.header(), "alg", name);
            if header == owner.header() {
                continue;
            }
            assert_eq!(owner.verify(&owner.token(&header, claims())), Err(Rejection::Header), "{header}");
            let unsigned = format!("{}.", message(&header, claims()));
            assert_eq!(owner.verify(&unsigned), Err(Rejection::Header), "{header}");
        }
        let unsigned = format!("{}.", message(owner.header(), claims()));
        assert_eq!(owner.verify(&unsigned), Err(Rejection::Signature));
    }
}

#[test]
fn jw2_a_published_key_is_nobodys_secret() {
    for owner in OWNERS {
        let der = Document::from_pem(owner.public).unwrap().1.as_bytes().to_vec();
        let jwk = json!(owner.keys().public())["keys"][0].to_string();
        let mut secrets = vec![
            owner.public.as_bytes().to_vec(),
            owner.public.trim_end().as_bytes().to_vec(),
            format!(" {}", owner.public).into_bytes(),
            format!("\n{}", owner.public).into_bytes(),
            owner.public.replace('\n', "\r\n").into_bytes(),
            owner.public.lines().filter(|line| !line.starts_with('-')).collect::<String>().into_bytes(),
            der.clone(),
            der[der.len() - 32..].to_vec(),
            der[der.len().saturating_sub(65)..].to_vec(),
            jwk.clone().into_bytes(),
            json!({ "keys": [serde_json::from_str::<Value>(&jwk).unwrap()] }).to_string().into_bytes(),
            b"k2".to_vec(),
            Vec::new(),
        ];
        if owner.algorithm == Algorithm::RS256 {
            let pkcs1 = include_str!("testdata/rsa-2048-public-pkcs1.pem");
            secrets.extend([pkcs1.as_bytes().to_vec(), Document::from_pem(pkcs1).unwrap().1.as_bytes().to_vec()]);
            let jwk: Value = serde_json::from_str(&jwk).unwrap();
            secrets.push(URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap());
        }
        for secret in secrets {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let forge = |header: &Value| {
                let message = message(header, claims());
                with_signature(&message, hmac::sign(&key, message.as_bytes()))
            };
            let confused = with(owner.header(), "alg", "HS256");
            assert_eq!(owner.verify(&forge(&confused)), Err(Rejection::Header));
            assert_eq!(owner.verify(&forge(&owner.header())), Err(Rejection::Signature));
            let as_secret = with(confused, "kid", "k1");
            assert_eq!(owner.verify(&forge(&as_secret)), Err(Rejection::Signature));
        }
    }
}

#[test]
fn jw2_a_token_names_the_key_that_signed_it_and_no_other() {
    for owner in OWNERS {
        let as_secret = with(owner.header(), "kid", "k1");
        assert_eq!(owner.verify(&owner.token(&as_secret, claims())), Err(Rejection::Header));
        let as_hmac = with(as_secret, "alg", "HS256");
        assert_eq!(owner.verify(&owner.token(&as_hmac, claims())), Err(Rejection::Signature));
        for other in OWNERS.into_iter().filter(|other| other.algorithm != owner.algorithm) {
            assert_eq!(owner.verify(&other.token(owner.header(), claims())), Err(Rejection::Signature));
            assert_eq!(owner.verify(&other.token(other.header(), claims())), Err(Rejection::Header));
        }
    }
}

#[test]
fn jw3_jw4_jw5_a_header_brings_no_key_and_no_orders() {
    for owner in OWNERS {
        let jwk = json!(owner.keys().public())["keys"][0].clone();
        for (name, value) in [
            ("jwk", jwk.clone()),
            ("jku", "https://auth.example.com/.well-known/jwks.json".into()),
            ("x5u", "https://auth.example.com/cert.pem".into()),
            ("x5c", json!(["MIIB"])),
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("b64", false.into()),
            ("zip", "DEF".into()),
        ] {
            let header = with(owner.header(), name, value);
            assert_eq!(owner.verify(&owner.token(&header, claims())), Err(Rejection::Header), "{header}");
        }
        for kid in ["../../dev/null", "' OR 1", "k3", "K2", "k2\0", "k2.passphrase", "signing", ""] {
            let header = with(owner.header(), "kid", kid);
            assert_eq!(owner.verify(&owner.token(&header, claims())), Err(Rejection::UnknownKey), "{header}");
        }
        for kid in [json!(["k2"]), json!(null), json!(2), json!({ "k2": 1 }), jwk] {
            let header = with(owner.header(), "kid", kid);
            assert_eq!(owner.verify(&owner.token(&header, claims())), Err(Rejection::Header), "{header}");
        }
    }
}

#[test]
fn jw6_every_signature_has_one_encoding() {
    for owner in OWNERS {
        let good = owner.token(owner.header(), claims());
        let (head, last) = good.split_at(good.len() - 1);
        let stray = format!("{head}{}", char::from(last.as_bytes()[0] + 1));
        for token in [stray, format!("{good}="), format!("{good}=="), format!("{good}\n")] {
            assert_eq!(owner.verify(&token), Err(Rejection::Malformed), "{token}");
        }
    }
}

#[test]
fn jw7_jw8_jw11_authentic_claims_are_held_to_their_types_all_the_same() {
    for owner in OWNERS {
        let token = |claims: String| owner.token(owner.header(), claims);
        for exp in ["\"1800003600\"", "\"9999999999\"", "1800003600.0", "1.8e9", "null", "true", "[1800003600]", "-1"] {
            let claims = claims().to_string().replace("1800003600", exp);
            assert_eq!(owner.verify(&token(claims)), Err(Rejection::Claim("exp")), "{exp}");
        }
        assert_eq!(owner.verify(&token(with(claims(), "exp", 1_800_000_000).to_string())), Err(Rejection::Expired));
        let late = with(claims(), "nbf", 1_800_000_006);
        assert_eq!(owner.verify(&token(late.to_string())), Err(Rejection::NotYetValid));
        for (name, value) in [("aud", "https://other.example"), ("iss", "https://other.example"), ("sub", "")] {
            assert_eq!(owner.verify(&token(with(claims(), name, value).to_string())), Err(Rejection::Claim(name)));
        }
        let twice = claims().to_string().replacen('{', r#"{"sub":"6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31","#, 1);
        assert_eq!(owner.verify(&token(twice)), Err(Rejection::Malformed));
        let header = owner.header().to_string().replacen('{', r#"{"kid":"k1","#, 1);
        assert_eq!(owner.verify(&owner.token(header, claims())), Err(Rejection::Header));
    }
}

#[test]
fn jw9_jw10_a_private_key_makes_no_other_kind_of_token() {
    for owner in OWNERS {
        for typ in ["JWT", "rt+jwt", "dt+jwt", ""] {
            let header = with(owner.header(), "typ", typ);
            assert_eq!(owner.verify(&owner.token(&header, claims())), Err(Rejection::Header), "{header}");
        }
        let refresh = RefreshTokens { issuer: "https://auth.example.com".into() };
        let header = with(owner.header(), "typ", "rt+jwt");
        let result = refresh.verify(&owner.keys(), &owner.token(&header, claims()), NOW);
        assert_eq!(result.map(drop), Err(Rejection::UnknownKey));
        let header = with(header, "kid", "k1");
        let result = refresh.verify(&owner.keys(), &owner.token(&header, claims()), NOW);
        assert_eq!(result.map(drop), Err(Rejection::Header));
    }
}

#[test]
fn jw1_a_signature_by_another_scheme_of_the_same_key_is_refused() {
    let [owner, ..] = OWNERS;
    let message = message(owner.header(), claims());
    let encodings: [&'static dyn RsaEncoding; 3] = [&RSA_PKCS1_SHA384, &RSA_PKCS1_SHA512, &RSA_PSS_SHA256];
    for encoding in encodings {
        let token = with_signature(&message, rsa(&owner.der(), encoding, &message));
        assert_eq!(owner.verify(&token), Err(Rejection::Signature));
    }
    let good = owner.sign(&message);
    for signature in [&good[1..], &good[..255], &[&[0], good.as_slice()].concat(), &[good.as_slice(), &[0]].concat()] {
        assert_eq!(owner.verify(&with_signature(&message, signature)), Err(Rejection::Signature));
    }
}

#[test]
fn jw16_an_es256_signature_is_two_numbers_of_32_bytes_below_the_order_and_above_zero() {
    let [_, owner, _] = OWNERS;
    let message = message(owner.header(), claims());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, owner.der().as_bytes()).unwrap();
    let der = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    assert_eq!(owner.verify(&with_signature(&message, der.as_ref())), Err(Rejection::Signature));

    let good = owner.sign(&message);
    assert_eq!(owner.verify(&with_signature(&message, &good)), Ok(()));
    let (r, s) = good.split_at(32);
    let order: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).unwrap()).collect();
    let (zero, one, all) = ([0; 32], [&[0; 31][..], &[1]].concat(), [0xff; 32]);
    let number = |bytes: &[u8]| bytes.to_vec();
    for (r, s) in [
        (number(&zero), number(&zero)),
        (number(&zero), number(s)),
        (number(r), number(&zero)),
        (number(&zero), one.clone()),
        (one.clone(), number(&zero)),
        (order.clone(), number(s)),
        (number(r), order.clone()),
        (order.clone(), order.clone()),
        (number(&all), number(s)),
        (number(r), number(&all)),
        (one.clone(), one),
        (number(&r[1..]), number(s)),
        (number(r), number(&s[..31])),
        (number(r), [&[0], s].concat()),
        ([&[0], r].concat(), [&[0], s].concat()),
        (number(r), Vec::new()),
    ] {
        let signature = [r, s].concat();
        assert_eq!(owner.verify(&with_signature(&message, &signature)), Err(Rejection::Signature), "{signature:?}");
    }
}
