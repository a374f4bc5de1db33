//! Tokens, and texts that look like tokens. Most tokens here are written by hand and
//! signed with the right key, so that each is refused for its only fault.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::*;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::{Lifetime, Secret, Session};

const SECRET: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";
const OTHER: &str = "Zq8LmW4tYc0RbXnV5sKe2HgJd7UfPa1o";
const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com";
const USER: &str = "6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31";
const SESSION: &str = "c2f7e5d4-1b0a-4e9f-8a6d-7c3b5e2f9d10";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The end of a session that outlives every test.
const NEVER: Timestamp = Timestamp::from_seconds(4_000_000_000);

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::single(&SECRET.into()).unwrap());

/// The text of a JSON object, which may have values that no serializer writes.
#[derive(Clone)]
struct Text(Vec<(&'static str, String)>);

impl Text {
    fn of(members: &[(&'static str, &str)]) -> Self {
        Self(members.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|member| member.0 != name).cloned().collect())
    }

    /// The object with this member in place of any other of the same name.
    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut text = self.without(name);
        text.0.push((name, value.to_owned()));
        text
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.0.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        write!(f, "{{{}}}", members.join(","))
    }
}

/// Access tokens or refresh tokens: the parts of a good token, and how it is
/// verified.
struct Kind {
    key: hmac::Key,
    header: Text,
    claims: Text,
    verify: fn(&KeyRing, &str, Timestamp) -> Result<(), Rejection>,
}

impl Kind {
    fn forge(&self, header: impl fmt::Display, claims: impl fmt::Display) -> String {
        sign(&self.key, &format!("{}.{}", encode(header.to_string()), encode(claims.to_string())))
    }

    fn good(&self) -> String {
        self.forge(&self.header, &self.claims)
    }

    fn verify(&self, token: &str) -> Result<(), Rejection> {
        (self.verify)(&KEYS, token, NOW)
    }

    fn verify_header(&self, header: impl fmt::Display) -> Result<(), Rejection> {
        self.verify(&self.forge(header, &self.claims))
    }

    fn verify_claims(&self, claims: impl fmt::Display) -> Result<(), Rejection> {
        self.verify(&self.forge(&self.header, claims))
    }
}

fn access() -> Kind {
    Kind {
        key: key(SECRET.as_bytes()),
        header: Text::of(&[("alg", r#""HS256""#), ("typ", r#""at+jwt""#), ("kid", r#""k1""#)]),
        claims: Text::of(&[
            ("iss", r#""https://auth.example.com""#),
            ("aud", r#""https://api.example.com""#),
            ("sub", r#""6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31""#),
            ("sid", r#""c2f7e5d4-1b0a-4e9f-8a6d-7c3b5e2f9d10""#),
            ("iat", "1800000000"),
            ("nbf", "1800000000"),
            ("exp", "1800003600"),
            ("jti", r#""name""#),
            ("roles", r#"["ROLE_USER"]"#),
        ]),
        verify: |keys, token, now| access_tokens().verify(keys, token, now).map(drop),
    }
}

fn refresh() -> Kind {
    Kind {
        key: refresh_key(SECRET),
        header: Text::of(&[("alg", r#""HS256""#), ("typ", r#""rt+jwt""#), ("kid", r#""k1""#)]),
        claims: Text::of(&[
            ("iss", r#""https://auth.example.com""#),
            ("aud", r#""urn:freshkey:refresh""#),
            ("sub", r#""6a3c1f0e-8d2b-4b7e-9c55-2f1e0d9a7b31""#),
            ("sid", r#""c2f7e5d4-1b0a-4e9f-8a6d-7c3b5e2f9d10""#),
            ("gen", "7"),
            ("sec", r#""AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#),
            ("auth_time", "1799990000"),
            ("abs", "1800007200"),
            ("iat", "1800000000"),
            ("exp", "1800003600"),
        ]),
        verify: |keys, token, now| refresh_tokens().verify(keys, token, now).map(drop),
    }
}

fn kinds() -> [Kind; 2] {
    [access(), refresh()]
}

fn subject(roles: &[String]) -> Subject<'_> {
    Subject { user_id: user_id(), session_id: session_id(), roles, email_verified: Some(false) }
}

fn access_tokens() -> AccessTokens {
    AccessTokens { issuer: ISSUER.into(), audience: AUDIENCE.into(), lifetime: HOUR, leeway: Duration::ZERO }
}

fn with_leeway(seconds: u64) -> AccessTokens {
    AccessTokens { leeway: Duration::from_secs(seconds), ..access_tokens() }
}

fn refresh_tokens() -> RefreshTokens {
    RefreshTokens { issuer: ISSUER.into() }
}

fn user_id() -> UserId {
    UserId::parse(USER).unwrap()
}

fn session_id() -> SessionId {
    SessionId::parse(SESSION).unwrap()
}

/// An access token as the system issues it.
fn issued(keys: &KeyRing, now: Timestamp) -> String {
    let issued = access_tokens().issue(keys, &subject(&["ROLE_USER".into()]), NEVER, now);
    issued.unwrap().token.expose_secret().to_owned()
}

/// A session that has just been opened, and its first refresh token.
fn opened() -> (Session, RefreshToken) {
    let lifetime = Lifetime { idle: HOUR, absolute: HOUR * 2 };
    let (session, secret) = Session::open(user_id(), 0, Client::default(), NOW + MOMENT, lifetime);
    let token = RefreshToken::first(&session, secret, lifetime.absolute_end(session.created_at));
    (session, token)
}

/// A refresh token as the system signs it.
fn signed(keys: &KeyRing, token: &RefreshToken) -> String {
    refresh_tokens().sign(keys, token).unwrap().expose_secret().to_owned()
}

fn ring(members: &str) -> KeyRing {
    KeyRing::parse(&format!("{{{members}}}").into()).unwrap()
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// The key of refresh tokens, by the two steps of HKDF (RFC 5869), from HMAC alone.
fn refresh_key(secret: &str) -> hmac::Key {
    let extracted = hmac::sign(&key(&[0; 32]), secret.as_bytes());
    let expanded = hmac::sign(&key(extracted.as_ref()), b"freshkey refresh token v1\x01");
    key(expanded.as_ref())
}

fn sign(key: &hmac::Key, message: &str) -> String {
    format!("{message}.{}", encode(hmac::sign(key, message.as_bytes())))
}

fn is_signed_by(key: &hmac::Key, token: &str) -> bool {
    let (message, signature) = token.rsplit_once('.').unwrap();
    hmac::verify(key, message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// One part of a token, decoded.
fn read(part: &str) -> Map<String, Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_written_by_hand_is_as_good_as_one_that_was_issued() {
    for kind in kinds() {
        assert_eq!(kind.verify(&kind.good()), Ok(()));
    }
    assert_eq!(access().verify(&issued(&KEYS, NOW)), Ok(()));
    assert_eq!(refresh().verify(&signed(&KEYS, &opened().1)), Ok(()));
}

#[test]
fn jw1_no_other_algorithm_than_the_one_of_the_key_is_accepted() {
    for kind in kinds() {
        for alg in ["none", "None", "noNE", "NONE", "", "hs256", "HS256 ", "HS384", "HS512", "RS256", "ES256", "EdDSA"]
        {
            let header = kind.header.with("alg", &format!("{alg:?}"));
            assert_eq!(kind.verify_header(&header), Err(Rejection::Header), "{header}");
            let message = format!("{}.{}", encode(header.to_string()), encode(kind.claims.to_string()));
            assert!(kind.verify(&format!("{message}.")).is_err(), "{header}");
        }
        for alg in ["null", "256", r#"["HS256"]"#, r#"{"HS256":1}"#] {
            assert_eq!(kind.verify_header(kind.header.with("alg", alg)), Err(Rejection::Header), "{alg}");
        }
        assert_eq!(kind.verify_header(kind.header.without("alg")), Err(Rejection::Header));
        for header in ["null", "[]", "1", r#""HS256""#, "{}", "", "x"] {
            assert_eq!(kind.verify_header(header), Err(Rejection::Header), "{header}");
        }
    }
}

#[test]
fn jw2_a_signature_of_any_other_key_is_refused() {
    for kind in kinds() {
        let message = format!("{}.{}", encode(kind.header.to_string()), encode(kind.claims.to_string()));
        for other in [
            key(OTHER.as_bytes()),
            refresh_key(OTHER),
            key(b""),
            key(b"k1"),
            key(&[0; 32]),
            key(format!("{SECRET}\n").as_bytes()),
            key(format!(" {SECRET}").as_bytes()),
            hmac::Key::new(hmac::HMAC_SHA384, SECRET.as_bytes()),
            hmac::Key::new(hmac::HMAC_SHA512, SECRET.as_bytes()),
        ] {
            let forged = sign(&other, &message);
            assert_eq!(kind.verify(&forged), Err(Rejection::Signature), "{forged}");
        }
    }
}

#[test]
fn jw3_jw5_a_header_with_any_other_member_is_refused() {
    for kind in kinds() {
        for (name, value) in [
            ("jwk", r#"{"kty":"oct","k":"AAAA"}"#),
            ("jku", r#""https://evil.example/jwks.json""#),
            ("x5u", r#""https://evil.example/cert.pem""#),
            ("x5c", r#"["MIIB"]"#),
            ("x5t", r#""AAAA""#),
            ("crit", r#"["exp"]"#),
            ("crit", "[]"),
            ("b64", "false"),
            ("b64", "true"),
            ("cty", r#""JWT""#),
            ("zip", r#""DEF""#),
            ("x", "null"),
        ] {
            let header = kind.header.with(name, value);
            assert_eq!(kind.verify_header(&header), Err(Rejection::Header), "{header}");
            let instead = kind.header.without("kid").with(name, value);
            assert_eq!(kind.verify_header(&instead), Err(Rejection::Header), "{instead}");
        }
    }
}

#[test]
fn jw4_a_kid_is_one_of_the_names_in_the_ring_and_nothing_else() {
    for kind in kinds() {
        for kid in ["../../dev/null", "' OR 1", "k2", "K1", "k1 ", "", "k1\u{0}", "signing", "https://evil.example/key"]
        {
            let header = kind.header.with("kid", &json!(kid).to_string());
            assert_eq!(kind.verify_header(&header), Err(Rejection::UnknownKey), "{header}");
        }
        for kid in ["null", "1", r#"["k1"]"#, r#"{"k1":"k1"}"#, "true"] {
            assert_eq!(kind.verify_header(kind.header.with("kid", kid)), Err(Rejection::Header), "{kid}");
        }
        assert_eq!(kind.verify_header(kind.header.without("kid")), Err(Rejection::Header));
        for length in [1100, 10_000] {
            let kid = format!("{:?}", "k".repeat(length));
            assert_eq!(kind.verify_header(kind.header.with("kid", &kid)), Err(Rejection::TooLarge), "{length}");
        }
    }
}

#[test]
fn jw6_a_token_has_three_parts() {
    for kind in kinds() {
        let good = kind.good();
        let [header, claims, signature] = parts(&good);
        let json = json!({ "protected": header, "payload": claims, "signature": signature });
        let general = json!({ "payload": claims, "signatures": [{ "protected": header, "signature": signature }] });
        for token in [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            header.into(),
            format!("{header}.{claims}"),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}"),
            format!("{header}.{claims}.{claims}.{signature}"),
            sign(&kind.key, &format!("{header}.{claims}.{claims}")),
            sign(&kind.key, header),
            sign(&kind.key, &format!(".{claims}")),
            sign(&kind.key, &format!("{header}.")),
            format!("{header}.{claims}."),
            json.to_string(),
            general.to_string(),
        ] {
            assert!(kind.verify(&token).is_err(), "{token}");
        }
    }
}

#[test]
fn jw6_every_part_has_one_encoding() {
    for kind in kinds() {
        // Spaces around JSON are harmless; here they make each part end in stray bits.
        let padded = |text: &Text| (0..3).map(|n| format!("{text}{}", " ".repeat(n))).find(|text| text.len() % 3 == 1);
        let (header, claims) = (padded(&kind.header).unwrap(), padded(&kind.claims).unwrap());
        let good = kind.forge(&header, &claims);
        assert_eq!(kind.verify(&good), Ok(()));
        let [header, claims, signature] = parts(&good);
        for (name, disguise) in DISGUISES {
            let signed_in_disguise =
                [format!("{}.{claims}", disguise(header)), format!("{header}.{}", disguise(claims))];
            for message in signed_in_disguise {
                let token = sign(&kind.key, &message);
                assert_eq!(kind.verify(&token), Err(Rejection::Malformed), "{name}: {token}");
            }
            let token = format!("{header}.{claims}.{}", disguise(signature));
            assert_eq!(kind.verify(&token), Err(Rejection::Malformed), "{name}: {token}");
        }
    }
}

/// Another spelling of a part, which a lenient decoder reads as the same bytes.
type Disguise = (&'static str, fn(&str) -> String);

const DISGUISES: [Disguise; 9] = [
    ("padding", |part| format!("{part}{}", "=".repeat(part.len().wrapping_neg() % 4))),
    ("too much padding", |part| format!("{part}====")),
    ("a stray bit", |part| {
        let last = part.chars().next_back().unwrap();
        format!("{}{}", &part[..part.len() - 1], char::from_u32(u32::from(last) + 1).unwrap())
    }),
    ("a space in front", |part| format!(" {part}")),
    ("a space behind", |part| format!("{part} ")),
    ("a newline inside", |part| format!("{}\n{}", &part[..8], &part[8..])),
    ("a NUL behind", |part| format!("{part}\0")),
    ("the other alphabet", |part| format!("{}+/{}", &part[..4], &part[6..])),
    ("percent encoding", |part| format!("%65{}", &part[1..])),
];

#[test]
fn jw6_white_space_around_a_token_is_refused() {
    for kind in kinds() {
        let good = kind.good();
        for token in [format!(" {good}"), format!("{good} "), format!("{good}\n"), format!("Bearer {good}")] {
            assert!(kind.verify(&token).is_err(), "{token:?}");
        }
        assert!(kind.verify(&good.replace('.', " . ")).is_err());
        assert!(kind.verify(&STANDARD.encode(&good)).is_err());
    }
}

#[test]
fn a_token_with_any_one_bit_flipped_is_refused() {
    for kind in kinds() {
        let good = kind.good();
        for at in 0..good.len() {
            for bit in 0..7 {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let token = String::from_utf8(bytes).unwrap();
                assert!(kind.verify(&token).is_err(), "bit {bit} of character {at}: {token}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_signature_is_noticed() {
    for kind in kinds() {
        let good = kind.good();
        let (message, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bit in 0..256 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let token = format!("{message}.{}", encode(flipped));
            assert_eq!(kind.verify(&token), Err(Rejection::Signature), "bit {bit}");
        }
        for length in [0, 1, 16, 31] {
            let token = format!("{message}.{}", encode(&signature[..length]));
            assert_eq!(kind.verify(&token), Err(Rejection::Signature), "{length} bytes");
        }
    }
}

#[test]
fn jw7_iss_aud_sub_and_the_other_texts_are_required_and_texts() {
    let texts = [("iss", access()), ("aud", access()), ("sub", access()), ("sid", access()), ("jti", access())];
    let texts = texts.into_iter().chain(["iss", "aud", "sub", "sid", "sec"].map(|name| (name, refresh())));
    for (name, kind) in texts {
        let fault = Err(Rejection::Claim(name));
        assert_eq!(kind.verify_claims(kind.claims.without(name)), fault, "no {name}");
        for value in [r#""""#, "1", "1.5", "null", "true", "[]", "[1]", r#"["wrong"]"#, "{}", r#"{"x":"y"}"#] {
            assert_eq!(kind.verify_claims(kind.claims.with(name, value)), fault, "{name}: {value}");
        }
        if name != "jti" {
            let wrong = [r#""wrong""#, r#""https://auth.example.com/""#, r#""HTTPS://API.EXAMPLE.COM""#];
            for value in wrong {
                assert_eq!(kind.verify_claims(kind.claims.with(name, value)), fault, "{name}: {value}");
            }
        }
    }
}

#[test]
fn jw7_a_list_that_holds_the_right_audience_is_an_audience_and_no_other_list() {
    for kind in kinds() {
        let ours = kind.claims.0.iter().find(|(name, _)| *name == "aud").unwrap().1.clone();
        for aud in [format!("[{ours}]"), format!(r#"["https://other.example",{ours}]"#)] {
            assert_eq!(kind.verify_claims(kind.claims.with("aud", &aud)), Ok(()), "{aud}");
        }
        for aud in [
            "[]".into(),
            r#"["https://other.example"]"#.into(),
            format!("[{ours},1]"),
            format!("[[{ours}]]"),
            format!(r#"{{"aud":{ours}}}"#),
        ] {
            let result = kind.verify_claims(kind.claims.with("aud", &aud));
            assert_eq!(result, Err(Rejection::Claim("aud")), "{aud}");
        }
        for name in ["iss", "sub", "sid"] {
            let value = kind.claims.0.iter().find(|member| member.0 == name).unwrap().1.clone();
            let result = kind.verify_claims(kind.claims.with(name, &format!("[{value}]")));
            assert_eq!(result, Err(Rejection::Claim(name)), "{name} in a list");
        }
    }
}

#[test]
fn jw7_sub_and_sid_are_ids_in_their_canonical_form() {
    for kind in kinds() {
        for (name, id) in [("sub", USER), ("sid", SESSION)] {
            for id in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!(" {id}"), "0".into()] {
                let result = kind.verify_claims(kind.claims.with(name, &format!("{id:?}")));
                assert_eq!(result, Err(Rejection::Claim(name)), "{id}");
            }
        }
    }
}

#[test]
fn roles_are_a_list_of_texts() {
    let kind = access();
    assert_eq!(kind.verify_claims(kind.claims.with("roles", "[]")), Ok(()));
    assert_eq!(kind.verify_claims(kind.claims.without("roles")), Err(Rejection::Claim("roles")));
    for roles in [r#""ROLE_ADMIN""#, "null", "1", "[1]", r#"["ROLE_USER",null]"#, r#"[["ROLE_USER"]]"#, "{}"] {
        assert_eq!(kind.verify_claims(kind.claims.with("roles", roles)), Err(Rejection::Claim("roles")), "{roles}");
    }
}

#[test]
fn jw8_in7_a_time_is_a_whole_number_of_seconds_and_must_be_there() {
    let times = [("iat", access()), ("nbf", access()), ("exp", access())];
    let times = times.into_iter().chain(["auth_time", "abs", "iat", "exp"].map(|name| (name, refresh())));
    for (name, kind) in times {
        let fault = Err(Rejection::Claim(name));
        assert_eq!(kind.verify_claims(kind.claims.without(name)), fault, "no {name}");
        for value in [
            r#""1800000000""#,
            r#""9999999999""#,
            "1800000000.0",
            "1800000000.5",
            "1.8e9",
            "1e300",
            "null",
            "true",
            "[1800000000]",
            "{}",
            "-1",
            "-0",
            "-1800000000",
            "253402300800",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999",
        ] {
            assert_eq!(kind.verify_claims(kind.claims.with(name, value)), fault, "{name}: {value}");
        }
        for value in ["1e400", "-1e400", "NaN", "Infinity", "01800000000", "+1800000000", "0x6b49d200", ""] {
            let result = kind.verify_claims(kind.claims.with(name, value));
            assert_eq!(result, Err(Rejection::Malformed), "{name}: {value}");
        }
    }
}

#[test]
fn jw8_the_last_second_of_the_year_9999_is_still_a_time() {
    let kind = access();
    assert_eq!(kind.verify_claims(kind.claims.with("exp", "253402300799")), Ok(()));
    let kind = refresh();
    let claims = kind.claims.with("exp", "253402300799").with("abs", "253402300799");
    assert_eq!(kind.verify_claims(claims), Ok(()));
}

#[test]
fn jw8_re8_a_token_from_the_near_future_is_accepted_to_the_millisecond() {
    for (leeway, skew) in [(0, 5), (3, 5), (60, 60)] {
        let tokens = with_leeway(leeway);
        for name in ["iat", "nbf"] {
            let kind = access();
            let token = kind.forge(&kind.header, kind.claims.with(name, "1800001000"));
            let earliest = NOW + Duration::from_secs(1000 - skew);
            assert_eq!(tokens.verify(&KEYS, &token, earliest).map(drop), Ok(()), "{name}, leeway {leeway}");
            let result = tokens.verify(&KEYS, &token, earliest - MOMENT);
            assert_eq!(result.map(drop), Err(Rejection::NotYetValid), "{name}, leeway {leeway}");
        }
    }
}

#[test]
fn jw8_an_access_token_expires_to_the_millisecond_and_leeway_defers_it() {
    let (kind, end) = (access(), NOW + HOUR);
    for leeway in [0, 60] {
        let (tokens, token) = (with_leeway(leeway), kind.good());
        let last = end + Duration::from_secs(leeway) - MOMENT;
        assert_eq!(tokens.verify(&KEYS, &token, last).map(drop), Ok(()), "leeway {leeway}");
        let result = tokens.verify(&KEYS, &token, last + MOMENT);
        assert_eq!(result.map(drop), Err(Rejection::Expired), "leeway {leeway}");
        assert_eq!(tokens.read(&KEYS, &token, last + HOUR).unwrap().expires_at, end);
    }
}

#[test]
fn an_expired_token_that_is_read_must_be_authentic_all_the_same() {
    let kind = access();
    let later = NOW + HOUR * 2;
    let forged = Kind { key: key(OTHER.as_bytes()), ..access() }.good();
    assert_eq!(access_tokens().read(&KEYS, &forged, later), Err(Rejection::Signature));
    let stranger = kind.forge(&kind.header, kind.claims.with("aud", r#""wrong""#));
    assert_eq!(access_tokens().read(&KEYS, &stranger, later), Err(Rejection::Claim("aud")));
    let timeless = kind.forge(&kind.header, kind.claims.without("exp"));
    assert_eq!(access_tokens().read(&KEYS, &timeless, later), Err(Rejection::Claim("exp")));
}

#[test]
fn jw9_the_typ_of_a_token_is_exactly_its_own() {
    for (kind, typ, other) in [(access(), "at+jwt", "rt+jwt"), (refresh(), "rt+jwt", "at+jwt")] {
        let long = format!(r#""application/{typ}""#);
        assert_eq!(kind.verify_header(kind.header.with("typ", &long)), Ok(()));
        for typ in [
            "JWT",
            "jwt",
            "",
            other,
            &typ.to_uppercase(),
            &format!("{typ} "),
            &format!("x/{typ}"),
            &format!("application/application/{typ}"),
            &format!("application/{other}"),
            "application/",
        ] {
            let result = kind.verify_header(kind.header.with("typ", &format!("{typ:?}")));
            assert_eq!(result, Err(Rejection::Header), "{typ}");
        }
        for typ in [format!("[{typ:?}]"), "null".into(), "1".into()] {
            assert_eq!(kind.verify_header(kind.header.with("typ", &typ)), Err(Rejection::Header), "{typ}");
        }
        assert_eq!(kind.verify_header(kind.header.without("typ")), Err(Rejection::Header));
    }
}

#[test]
fn jw10_neither_kind_of_token_passes_for_the_other() {
    assert_eq!(refresh().verify(&issued(&KEYS, NOW)), Err(Rejection::Header));
    assert_eq!(access().verify(&signed(&KEYS, &opened().1)), Err(Rejection::Header));
    for (kind, other) in [(access(), refresh()), (refresh(), access())] {
        assert_eq!(kind.verify(&other.good()), Err(Rejection::Header));
        let relabelled = other.forge(&kind.header, &other.claims);
        assert_eq!(kind.verify(&relabelled), Err(Rejection::Signature));
        let with_our_claims = other.forge(&kind.header, &kind.claims);
        assert_eq!(kind.verify(&with_our_claims), Err(Rejection::Signature));
        let with_our_key = kind.forge(&kind.header, &other.claims);
        assert_eq!(kind.verify(&with_our_key), Err(Rejection::Claim("aud")));
        let mislabelled = kind.forge(&other.header, &kind.claims);
        assert_eq!(kind.verify(&mislabelled), Err(Rejection::Header));
    }
}

#[test]
fn jw11_a_member_that_appears_twice_is_refused_even_when_both_agree() {
    for kind in kinds() {
        for (name, value) in kind.header.0.clone() {
            let mut header = kind.header.clone();
            header.0.push((name, value));
            assert_eq!(kind.verify_header(&header), Err(Rejection::Header), "{header}");
        }
        for (name, value) in kind.claims.0.clone() {
            for value in [value.as_str(), "null"] {
                let mut claims = kind.claims.clone();
                claims.0.push((name, value.into()));
                assert_eq!(kind.verify_claims(&claims), Err(Rejection::Malformed), "{claims}");
                claims.0.rotate_right(1);
                assert_eq!(kind.verify_claims(&claims), Err(Rejection::Malformed), "{claims}");
            }
        }
        for (name, value) in [(r"\u0073ub", r#""x""#), ("x", r#"{"a":1,"a":1}"#), ("x", r#"[{"a":1,"\u0061":2}]"#)] {
            let claims = kind.claims.with(name, value);
            assert_eq!(kind.verify_claims(&claims), Err(Rejection::Malformed), "{claims}");
        }
    }
}

#[test]
fn claims_that_are_not_one_json_object_are_refused() {
    for kind in kinds() {
        let text = kind.claims.to_string();
        for claims in
            ["", "{", "[]", "null", "1", &format!("[{text}]"), &format!("{text}{text}"), &format!("\u{feff}{text}")]
        {
            assert_eq!(kind.verify_claims(claims), Err(Rejection::Malformed), "{claims}");
        }
        let not_utf8 = [text.trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}"].concat();
        let token = sign(&kind.key, &format!("{}.{}", encode(kind.header.to_string()), encode(not_utf8)));
        assert_eq!(kind.verify(&token), Err(Rejection::Malformed));
        assert_eq!(kind.verify_claims(kind.claims.with("x", r#""\ud800""#)), Err(Rejection::Malformed));
        assert_eq!(kind.verify_claims(kind.claims.with("unknown", "1")), Ok(()));
    }
}

#[test]
fn jw12_a_token_of_4096_bytes_is_read_and_a_longer_one_is_not() {
    for kind in kinds() {
        let mut lengths = BTreeSet::new();
        // A space in the header reaches the lengths that base64 skips.
        for (claims, header) in (2400..3000).flat_map(|claims| [(claims, 0), (claims, 1)]) {
            let claims = kind.claims.with("x", &format!("{:?}", "x".repeat(claims)));
            let token = kind.forge(format!("{}{}", kind.header, " ".repeat(header)), claims);
            let expected = if token.len() <= 4096 { Ok(()) } else { Err(Rejection::TooLarge) };
            assert_eq!(kind.verify(&token), expected, "{} bytes", token.len());
            lengths.insert(token.len());
        }
        assert!(lengths.contains(&4096) && lengths.contains(&4097));
        assert_eq!(kind.verify(&"x".repeat(9000)), Err(Rejection::TooLarge));
    }
}

#[test]
fn jw12_a_header_of_1024_bytes_is_read_and_a_longer_one_is_not() {
    for kind in kinds() {
        let spaces = 1024 - kind.header.to_string().len();
        assert_eq!(kind.verify_header(format!("{}{}", kind.header, " ".repeat(spaces))), Ok(()));
        let longer = format!("{}{}", kind.header, " ".repeat(spaces + 1));
        assert_eq!(kind.verify_header(longer), Err(Rejection::TooLarge));
    }
}

#[test]
fn jw12_claims_nest_four_deep_and_no_deeper() {
    for kind in kinds() {
        let nested =
            |depth: usize| kind.claims.with("x", &format!("{}1{}", "[".repeat(depth - 1), "]".repeat(depth - 1)));
        assert_eq!(kind.verify_claims(nested(4)), Ok(()));
        for depth in [5, 6, 100, 1000] {
            assert_eq!(kind.verify_claims(nested(depth)), Err(Rejection::Malformed), "{depth}");
        }
        assert_eq!(kind.verify_claims(nested(10_000)), Err(Rejection::TooLarge));
        assert_eq!(kind.verify_claims(kind.claims.with("x", r#"{"a":{"b":{"c":1}}}"#)), Ok(()));
        let objects = kind.claims.with("x", r#"{"a":{"b":{"c":{}}}}"#);
        assert_eq!(kind.verify_claims(objects), Err(Rejection::Malformed));
        assert_eq!(kind.verify_header(kind.header.with("kid", r#"{"a":[]}"#)), Err(Rejection::Header));
    }
}

#[test]
fn jw17_an_access_token_says_exactly_what_the_contract_says() {
    let token = issued(&KEYS, NOW + MOMENT * 999);
    let [header, claims, _] = parts(&token);
    assert_eq!(Value::Object(read(header)), json!({ "alg": "HS256", "typ": "at+jwt", "kid": "k1" }));
    let claims = read(claims);
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(jti).unwrap().len(), 16);
    let expected = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": USER, "sid": SESSION, "iat": 1_800_000_000, "nbf": 1_800_000_000,
        "exp": 1_800_003_600, "jti": jti, "roles": ["ROLE_USER"], "email_verified": false,
    });
    assert_eq!(Value::Object(claims.clone()), expected);
    let without_mail = Subject { email_verified: None, ..subject(&[]) };
    let other = access_tokens().issue(&KEYS, &without_mail, NEVER, NOW).unwrap().token;
    assert!(!read(parts(other.expose_secret())[1]).contains_key("email_verified"));
    let expected = AccessToken {
        email_verified: false,
        user_id: user_id(),
        session_id: session_id(),
        roles: vec!["ROLE_USER".into()],
        id: jti.into(),
        issued_at: NOW,
        expires_at: NOW + HOUR,
        is_of_algorithm: true,
    };
    assert_eq!(access_tokens().verify(&KEYS, &token, NOW), Ok(expected));
}

#[test]
fn jw17_no_two_access_tokens_have_the_same_name() {
    let names: BTreeSet<_> = (0..1000).map(|_| read(parts(&issued(&KEYS, NOW))[1])["jti"].to_string()).collect();
    assert_eq!(names.len(), 1000);
}

#[test]
fn rf13_expires_in_is_the_time_from_iat_to_exp() {
    for seconds in [1, 6, 3600, 86_400] {
        let tokens = AccessTokens { lifetime: Duration::from_secs(seconds), ..access_tokens() };
        for now in [NOW, NOW + MOMENT, NOW + MOMENT * 999] {
            let issued = tokens.issue(&KEYS, &subject(&[]), NEVER, now).unwrap();
            let claims = read(parts(issued.token.expose_secret())[1]);
            assert_eq!(issued.expires_in.unsigned_abs(), seconds);
            assert_eq!(issued.expires_in, claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap());
        }
    }
}

#[test]
fn rf9_an_access_token_ends_with_its_session() {
    for (end, expected) in [(NOW + HOUR - MOMENT * 1000, 3599), (NOW + HOUR, 3600), (NOW + HOUR * 2, 3600)] {
        let issued = access_tokens().issue(&KEYS, &subject(&[]), end, NOW + MOMENT * 999).unwrap();
        assert_eq!(issued.expires_in, expected);
        let claims = read(parts(issued.token.expose_secret())[1]);
        assert_eq!(claims["exp"].as_i64().unwrap(), NOW.seconds() + expected);
    }
}

#[test]
fn jw1_an_access_token_of_another_algorithm_is_authentic_and_admits_nobody() {
    let p256 = include_str!("testdata/p256.pem");
    let of = |signing: &str| {
        let keys = json!({ "signing": signing, "refresh": "k1", "k1": SECRET, "k2": p256 });
        KeyRing::parse(&keys.to_string().into()).unwrap()
    };
    for (before, after) in [("k1", "k2"), ("k2", "k1")] {
        let token = issued(&of(before), NOW);
        assert!(access_tokens().verify(&of(before), &token, NOW).unwrap().is_of_algorithm);
        assert_eq!(access_tokens().verify(&of(after), &token, NOW), Err(Rejection::Algorithm));
        let read = access_tokens().read(&of(after), &token, NOW).unwrap();
        assert!(!read.is_of_algorithm && access_tokens().has_expired(&read, NOW));
        // Refresh tokens have the same algorithm whatever JWT_ALGORITHM is.
        let refresh = signed(&of(before), &opened().1);
        assert!(refresh_tokens().verify(&of(after), &refresh, NOW).is_ok());
    }
}

/// A token with the most roles that are allowed, and the longest names and key.
#[test]
fn jw12_roles_are_allowed_as_long_as_the_token_is_accepted() {
    let pem = |name| std::fs::read_to_string(format!("{}/src/token/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR")));
    let kid = "k".repeat(64);
    for (algorithm, key) in [
        (Algorithm::HS256, SECRET.to_owned()),
        (Algorithm::RS256, pem("rsa-2048").unwrap()),
        (Algorithm::ES256, pem("p256").unwrap()),
        (Algorithm::EdDSA, pem("ed25519").unwrap()),
    ] {
        let keys = json!({ "signing": kid, "refresh": "s", (kid.as_str()): key, "s": OTHER }).to_string();
        let keys = KeyRing::parse(&keys.into()).unwrap();
        for role in ["R", "ROLE_OF_SOME_LENGTH", "\"\u{e9}\""] {
            let roles = |count: usize| vec![role.to_owned(); count];
            let is_allowed = |count| access_tokens().check_roles(algorithm, &roles(count)).is_ok();
            let most = (0..5000).take_while(|count| is_allowed(*count)).last().unwrap();
            let token = |count| access_tokens().issue(&keys, &subject(&roles(count)), NEVER, NOW).unwrap();
            let length = |count| token(count).token.expose_secret().len();
            assert!(access_tokens().verify(&keys, token(most).token.expose_secret(), NOW).is_ok(), "{algorithm:?}");
            // `spare` is for an RSA key of 8192 bits, and for times after 2286, which have more digits.
            let spare = if algorithm == Algorithm::RS256 { 1366 - 342 } else { 0 } + 12;
            assert!(length(most + 1) + spare > 4096, "{algorithm:?} {}", length(most));
        }
    }
}

#[test]
fn se3_the_plain_secret_verifies_access_tokens_and_no_refresh_token() {
    let (plain, derived) = (key(SECRET.as_bytes()), refresh_key(SECRET));
    let (access, refresh) = (issued(&KEYS, NOW), signed(&KEYS, &opened().1));
    assert!(is_signed_by(&plain, &access) && !is_signed_by(&derived, &access));
    assert!(is_signed_by(&derived, &refresh) && !is_signed_by(&plain, &refresh));
}

#[test]
fn se4_every_key_of_the_ring_verifies_and_one_that_was_taken_out_does_not() {
    let first = ring(&format!(r#""signing":"k1","refresh":"k1","k1":"{SECRET}""#));
    let both = ring(&format!(r#""signing":"k2","refresh":"k2","k1":"{SECRET}","k2":"{OTHER}""#));
    let second = ring(&format!(r#""signing":"k2","refresh":"k2","k2":"{OTHER}""#));
    let (_, token) = opened();
    let old = [issued(&first, NOW), signed(&first, &token)];
    let new = [issued(&both, NOW), signed(&both, &token)];
    for (at, kind) in kinds().into_iter().enumerate() {
        let verify = |keys, token| (kind.verify)(keys, token, NOW);
        assert_eq!(read(parts(&old[at])[0])["kid"], "k1");
        assert_eq!(read(parts(&new[at])[0])["kid"], "k2");
        assert_eq!(verify(&both, &old[at]), Ok(()));
        assert_eq!(verify(&both, &new[at]), Ok(()));
        assert_eq!(verify(&second, &new[at]), Ok(()));
        assert_eq!(verify(&second, &old[at]), Err(Rejection::UnknownKey));
        assert_eq!(verify(&first, &new[at]), Err(Rejection::UnknownKey));
    }
}

#[test]
fn se4_a_token_that_names_another_key_of_the_ring_than_its_own_is_refused() {
    let both = ring(&format!(r#""signing":"k1","refresh":"k1","k1":"{SECRET}","k2":"{OTHER}""#));
    for kind in kinds() {
        let token = kind.forge(kind.header.with("kid", r#""k2""#), &kind.claims);
        assert_eq!((kind.verify)(&both, &token, NOW), Err(Rejection::Signature));
    }
}

#[test]
fn se4_access_and_refresh_tokens_may_be_signed_by_different_keys_of_the_ring() {
    let both = ring(&format!(r#""signing":"k2","refresh":"k1","k1":"{SECRET}","k2":"{OTHER}""#));
    assert!(is_signed_by(&key(OTHER.as_bytes()), &issued(&both, NOW)));
    assert!(is_signed_by(&refresh_key(SECRET), &signed(&both, &opened().1)));
}

#[test]
fn a_refresh_token_says_exactly_what_its_session_says() {
    let (session, token) = opened();
    let text = signed(&KEYS, &token);
    let [header, claims, _] = parts(&text);
    assert_eq!(Value::Object(read(header)), json!({ "alg": "HS256", "typ": "rt+jwt", "kid": "k1" }));
    let expected = json!({
        "iss": ISSUER, "aud": "urn:freshkey:refresh", "sub": USER, "sid": session.id.to_string(), "gen": 1,
        "sec": encode(token.secret.expose()), "auth_time": 1_800_000_000, "abs": 1_800_007_200,
        "iat": 1_800_000_000, "exp": 1_800_003_600,
    });
    assert_eq!(Value::Object(read(claims)), expected);
}

#[test]
fn a_refresh_token_comes_back_as_it_was_signed() {
    let token = RefreshToken {
        user_id: user_id(),
        session_id: session_id(),
        generation: (1 << 53) - 1,
        secret: Secret::from_bytes(std::array::from_fn(|at| at as u8 * 8)),
        login: NOW - HOUR,
        absolute_end: NOW + HOUR * 3,
        issued_at: NOW - Duration::from_secs(1),
        expires_at: NOW + HOUR,
    };
    let read = refresh_tokens().verify(&KEYS, &signed(&KEYS, &token), NOW).unwrap();
    assert_eq!(read.secret.expose(), token.secret.expose());
    assert_eq!(read.secret.hash(), token.secret.hash());
    assert_eq!(format!("{read:?}"), format!("{token:?}"));
}

#[test]
fn rf1_the_successor_is_the_same_string_each_time_and_differs_in_gen_iat_and_exp_alone() {
    let (session, token) = opened();
    let rotated = Session {
        generation: 2,
        rotated_at: NOW + Duration::from_secs(600) + MOMENT * 7,
        expires_at: NOW + Duration::from_secs(600) + HOUR,
        ..session
    };
    let before = signed(&KEYS, &token);
    let after = signed(&KEYS, &token.successor(&rotated));
    assert_eq!(signed(&KEYS, &token.successor(&rotated)), after);
    // The successor of the token that a client presents is the same.
    let presented = refresh_tokens().verify(&KEYS, &before, NOW).unwrap();
    assert_eq!(signed(&KEYS, &presented.successor(&rotated)), after);

    let mut expected = read(parts(&before)[1]);
    expected.insert("gen".into(), 2.into());
    expected.insert("iat".into(), 1_800_000_600.into());
    expected.insert("exp".into(), 1_800_004_200.into());
    assert_eq!(read(parts(&after)[1]), expected);
}

#[test]
fn rf9_a_refresh_token_ends_with_exp_or_abs_whichever_is_first_to_the_millisecond() {
    let kind = refresh();
    for (exp, abs) in [("1800003600", "1800007200"), ("1800007200", "1800003600"), ("1800003600", "1800003600")] {
        let token = kind.forge(&kind.header, kind.claims.with("exp", exp).with("abs", abs));
        let end = NOW + HOUR;
        assert_eq!((kind.verify)(&KEYS, &token, end - MOMENT), Ok(()), "exp {exp}, abs {abs}");
        assert_eq!((kind.verify)(&KEYS, &token, end), Err(Rejection::Expired), "exp {exp}, abs {abs}");
    }
}

#[test]
fn a_generation_is_a_whole_number_from_1_that_json_can_hold() {
    let kind = refresh();
    for generation in ["1", "2", "9007199254740991"] {
        assert_eq!(kind.verify_claims(kind.claims.with("gen", generation)), Ok(()), "{generation}");
    }
    let fault = Err(Rejection::Claim("gen"));
    assert_eq!(kind.verify_claims(kind.claims.without("gen")), fault);
    for generation in [
        "0",
        "-1",
        "-0",
        "1.0",
        "1.5",
        "1e3",
        "null",
        r#""1""#,
        "[1]",
        "true",
        "9007199254740992",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
    ] {
        assert_eq!(kind.verify_claims(kind.claims.with("gen", generation)), fault, "{generation}");
    }
}

#[test]
fn a_secret_is_32_bytes_in_their_one_encoding() {
    let kind = refresh();
    let fault = Err(Rejection::Claim("sec"));
    for length in [1, 31, 33, 64] {
        let sec = encode(vec![7; length]);
        assert_eq!(kind.verify_claims(kind.claims.with("sec", &format!("{sec:?}"))), fault, "{length} bytes");
    }
    let good = encode([0xff; 32]);
    assert_eq!(kind.verify_claims(kind.claims.with("sec", &format!("{good:?}"))), Ok(()));
    for sec in [
        format!("{good}="),
        format!("{} ", good),
        format!("{}9", &good[..42]),
        good.replacen('_', "/", 1),
        STANDARD.encode([0xff; 32]),
        "ff".repeat(32),
    ] {
        assert_eq!(kind.verify_claims(kind.claims.with("sec", &format!("{sec:?}"))), fault, "{sec}");
    }
}

#[test]
fn se5_neither_kind_of_token_is_ever_printed() {
    let (_, token) = opened();
    let printed = format!("{token:?} {:#?}", token.secret);
    assert!(printed.contains("[REDACTED]"), "{printed}");
    let sec = encode(token.secret.expose());
    let hex: String = token.secret.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", token.secret.expose());
    for secret in [sec, hex, list.trim_matches(['[', ']']).to_owned()] {
        assert!(!printed.contains(&secret), "{printed}");
    }
    let issued = access_tokens().issue(&KEYS, &subject(&[]), NEVER, NOW).unwrap();
    let printed = format!("{issued:?} {:?}", issued.token);
    assert!(!printed.contains("eyJ"), "{printed}");
    let signed = refresh_tokens().sign(&KEYS, &token).unwrap();
    assert!(!format!("{signed:?}").contains("eyJ"));
}

fn is_refused_everywhere(token: &str) -> bool {
    kinds().iter().all(|kind| kind.verify(token).is_err())
}

/// A text that is often JSON, or part of it.
fn almost_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"alg\"",
        "\"HS256\"",
        "\"typ\"",
        "\"at+jwt\"",
        "\"kid\"",
        "\"k1\"",
        "\"exp\"",
        "1800003600",
        "1e400",
        "-0",
        "null",
        "\\u0000",
        "\\ud800",
        "\u{feff}",
        " ",
    ]);
    prop_oneof![".{0,60}", prop::collection::vec(word, 0..40).prop_map(|words| words.concat())]
}

proptest! {
    #[test]
    fn in8_no_text_at_all_is_a_token(text in any::<String>()) {
        prop_assert!(is_refused_everywhere(&text));
    }

    #[test]
    fn in8_no_text_in_the_shape_of_a_token_is_one(text in r"[A-Za-z0-9_=+/ -]{0,200}(\.[A-Za-z0-9_=+/ -]{0,200}){0,4}") {
        prop_assert!(is_refused_everywhere(&text));
    }

    #[test]
    fn in8_no_other_json_is_a_token_however_authentic(header in almost_json(), claims in almost_json()) {
        for kind in kinds() {
            prop_assert!(kind.verify_header(&header).is_err());
            prop_assert!(kind.verify_claims(&claims).is_err());
        }
    }

    #[test]
    fn in8_a_token_that_was_cut_spliced_or_doubled_is_refused(
        at in any::<prop::sample::Index>(),
        end in any::<prop::sample::Index>(),
        piece in "[A-Za-z0-9_.=-]{0,80}",
        part in 0..3_usize,
    ) {
        for kind in kinds() {
            let good = kind.good();
            let (from, to) = (at.index(good.len()), end.index(good.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            let [header, claims, signature] = parts(&good);
            let mut doubled = vec![header, claims, signature];
            doubled.insert(part, doubled[part]);
            for token in [
                good[..from].to_owned(),
                good[to.max(1)..].to_owned(),
                format!("{}{piece}{}", &good[..from], &good[to..]),
                format!("{}{}", &good[..to], &good[from..]),
                doubled.join("."),
            ] {
                prop_assert!(token == good || kind.verify(&token).is_err(), "{}", token);
            }
        }
    }
}
