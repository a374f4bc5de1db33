//! Any text as a token. If it has more than one line, the first is also used as the
//! header, and the rest as the claims, of a token with a valid signature.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freshkey::Timestamp;
use freshkey::config::{Config, KeySource};
use freshkey::token::KeyRing;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

static CONFIG: LazyLock<Config> = LazyLock::new(fuzz::config);

fn keys() -> &'static KeyRing {
    match &CONFIG.keys {
        KeySource::Given(keys) => keys,
        KeySource::Secret(_) | KeySource::None => unreachable!("the secret is given"),
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    assert!(CONFIG.access_tokens.verify(keys(), text, NOW).is_err());
    assert!(CONFIG.refresh_tokens.verify(keys(), text, NOW).is_err());

    let Some((header, claims)) = text.split_once('\n') else { return };
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = hmac::Key::new(hmac::HMAC_SHA256, fuzz::SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    assert!(CONFIG.refresh_tokens.verify(keys(), &token, NOW).is_err());
    if let Ok(token) = CONFIG.access_tokens.verify(keys(), &token, NOW) {
        assert!(token.expires_at > NOW && header.contains("at+jwt"));
    }
});
