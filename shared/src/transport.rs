//! How refresh tokens travel between a client and the system.

use std::fmt;

/// What is set about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// REFRESH_TOKEN_TRANSPORT.
    pub mode: Mode,
    /// COOKIE_SAME_SITE.
    pub same_site: SameSite,
    /// ALLOWED_ORIGINS: the origins whose pages may use the cookie, to the letter.
    pub allowed_origins: Vec<String>,
}

/// Where a refresh token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In bodies, and in the headers of the middleware.
    Body,
    /// In a cookie that no script can read, and nowhere else.
    Cookie,
    /// In either: the client picks, request by request.
    Both,
}

/// With which requests a browser sends the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Those that a page of the API's own site makes.
    Strict,
    /// Those, and a link's or a bookmark's.
    Lax,
    /// All.
    None,
}

impl fmt::Display for SameSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whether `text` is an origin as browsers write it: scheme, host and port, in
/// small letters, no `*` and no slash at the end.
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = |c: char| c.is_ascii_lowercase() || c == '-';
    let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:[]-_".contains(c);
    !scheme.is_empty() && !host.is_empty() && scheme.chars().all(is_scheme) && host.chars().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co1_an_origin_is_exact() {
        for origin in ["https://app.example.com", "http://localhost:5173", "http://[::1]:3000", "capacitor://localhost"]
        {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "",
            "*",
            "null",
            "https://",
            "://app.example.com",
            "app.example.com",
            "https://*.example.com",
            "https://app.example.com/",
            "https://App.example.com",
            "https://app.example.com https://b.example",
            "https://user@app.example.com",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
