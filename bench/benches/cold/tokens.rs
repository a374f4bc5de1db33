//! The tokens of the events, signed with another secret. The demo's is public, and no
//! function accepts a public secret from Secrets Manager.

use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use freshkey::token::DEMO_SECRET;
use serde_json::Value;

/// The secret of the functions that are measured.
pub const SECRET: &str = "0nly-for-this-bench-Zq8vT2mXw7Lr4KcJ";

/// Returns an event in which every token with a signature by the demo's secret has one by
/// [`SECRET`]. Forged tokens stay forged.
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

/// Signs a message as Freshkey does: an access token with the secret itself, a refresh
/// token with a key that is derived from it.
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

/// Returns the claims of a token.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
}
