//! What the benchmarks share: settings, users, requests, medians and plots.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

pub mod member;
pub mod plot;
pub mod request;
pub mod spread;

use std::collections::BTreeMap;

/// The repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The settings of the functions, except for `TABLE_ENDPOINT`.
pub fn settings() -> BTreeMap<String, String> {
    let settings = [
        ("JWT_SECRET_KEY", "0nly-for-this-bench-Zq8vT2mXw7Lr4KcJ"),
        ("JWT_ISSUER", "https://auth.example.com"),
        ("JWT_AUDIENCE", "https://api.example.com"),
        ("TABLE_NAME", "freshkey"),
        // A benchmark rotates one session without a pause.
        ("REFRESH_BURST", "1000000000"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
