//! The events' tokens under another secret. They are signed with the demo's,
//! which is public, so that no function takes it from Secrets Manager.

use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use freshkey::token::DEMO_SECRET;
use serde_json::Value;

/// The secret of the functions that are measured.
pub const SECRET: &str = "0nly-for-this-bench-Zq8vT2mXw7Lr4KcJ";

/// An event with every token that the demo's secret signed signed anew. What is
/// forged stays forged.
pub fn sign_anew(event: &str) -> String {
    event.split_inclusive(|end: char| !is_of_a_token(end)).map(word).collect()
}

fn is_of_a_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

fn word(word: &str) -> String {
    let token = word.trim_end_matches(|end| !is_of_a_token(end));
    match token.rsplit_once('.').filter(|_| token.starts_with("eyJ")) {
        Some((message, signature)) if signature == sign(DEMO_SECRET, message) => {
            format!("{message}.{}{}", sign(SECRET, message), &word[token.len()..])
        }
        _ => word.to_owned(),
    }
}

/// The signature of a message by Freshkey: of an access token with the secret, of
/// another kind with a key that is derived from it.
fn sign(secret: &str, message: &str) -> String {
    let key = match part(message, 0)["typ"].as_str() {
        Some("at+jwt") => hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        _ => {
            let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret.as_bytes());
            hmac::Key::from(pseudorandom.expand(&[b"freshkey refresh token v1"], hmac::HMAC_SHA256).unwrap())
        }
    };
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()))
}

/// What a token says.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
}
