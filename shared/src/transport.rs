//! How refresh tokens travel between a client and the API.

use std::fmt;

use url::{Origin, Url};

/// The settings of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The setting REFRESH_TOKEN_TRANSPORT.
    pub mode: Mode,
    /// The setting COOKIE_SAME_SITE.
    pub same_site: SameSite,
    /// The setting ALLOWED_ORIGINS: the origins whose pages may use the cookie,
    /// compared byte for byte.
    pub allowed_origins: Vec<String>,
}

/// Where clients and answers put a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In bodies, and in the headers of the middleware.
    Body,
    /// Only in a cookie that no script can read.
    Cookie,
    /// In either: the client picks for each request.
    Both,
}

/// The requests with which a browser sends the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Requests from pages of the API's own site.
    Strict,
    /// Those, and links to the API from pages of other sites.
    Lax,
    /// All requests.
    None,
}

impl fmt::Display for SameSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Returns whether `text` is an origin exactly as browsers send it (RFC 6454, section
/// 6.2): scheme, host, and the port if it is not the default; in lower case, and
/// without path. Apps use their own schemes, such as `capacitor://localhost`.
pub fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let canonical = match url.origin() {
        origin @ Origin::Tuple(..) => origin.ascii_serialization(),
        // The host of a URL with a scheme outside the web is kept as written.
        Origin::Opaque(_) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()).to_lowercase()
        }
    };
    canonical == text && url.has_host() && !text.contains(['*', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co1_an_origin_is_exact() {
        for origin in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "http://localhost:5173",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://xn--mnchen-3ya.example",
            "capacitor://localhost",
            "ionic://localhost:8100",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ] {
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
            "https://a.example:443",
            "http://a.example:80",
            "https://a.example:0443",
            "https://a.example:",
            "https://a:99999",
            "https://a:-1",
            "https://a:x",
            "https://[::1",
            "https://[0:0:0:0:0:0:0:1]",
            "https://127.1",
            "https://256.0.0.1",
            "https://m\u{fc}nchen.example",
            "https://app.example.com?",
            "https://app.example.com#",
            "https:app.example.com",
            "https:///app.example.com",
            "https://app.example.com\\",
            "https://%61pp.example.com",
            "Capacitor://localhost",
            "capacitor://Localhost",
            "capacitor://localhost/",
            "capacitor://localhost:99999",
            "capacitor:localhost",
            "file:///",
            "data:text/html,x",
            "blob:https://app.example.com",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
