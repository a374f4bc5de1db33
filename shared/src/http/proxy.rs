//! The client's IP address when CloudFront is in front of the API.
//!
//! API Gateway then sees CloudFront's address, and CloudFront sends the client's
//! address in a header. Anybody who finds the API's own URL can send that header too,
//! so it counts only with a secret that CloudFront adds. `x-forwarded-for` is never
//! used.

use std::net::IpAddr;

use aws_lc_rs::constant_time;
use lambda_http::Request;
use lambda_http::request::RequestContext;
use secrecy::ExposeSecret;

use super::header;
use crate::config::TrustedProxy;

/// The header with the secret that CloudFront is configured to add.
const SECRET: &str = "x-origin-verify";
/// The header with the client's address.
const VIEWER: &str = "true-client-ip";

/// Replaces the proxy's address with the client's, if the request has the proxy's secret.
pub(crate) fn resolve(request: &mut Request, proxy: Option<&TrustedProxy>) {
    let Some(viewer) = proxy.and_then(|proxy| viewer(request, proxy)) else { return };
    if let Some(RequestContext::ApiGatewayV2(context)) = request.extensions_mut().get_mut() {
        context.http.source_ip = Some(viewer.to_string());
    }
}

fn viewer(request: &Request, proxy: &TrustedProxy) -> Option<IpAddr> {
    let one = |name| header(request.headers(), name).ok().flatten();
    let secret = proxy.secret.expose_secret().as_bytes();
    constant_time::verify_slices_are_equal(one(SECRET)?.as_bytes(), secret).ok()?;
    one(VIEWER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;
    use lambda_http::{Body, RequestExt};

    use super::*;
    use crate::http::client;

    const PROVEN: &str = "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7a";

    /// Returns the client's address for a request with these headers.
    fn source(secret: Option<&str>, headers: &[(&'static str, &str)]) -> String {
        let mut context = lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequestContext::default();
        context.http.source_ip = Some("192.0.2.1".into());
        let mut request = Request::new(Body::Empty).with_request_context(RequestContext::ApiGatewayV2(context));
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let proxy = secret.map(|secret| TrustedProxy { secret: secret.into() });
        resolve(&mut request, proxy.as_ref());
        client(&request).ip
    }

    #[test]
    fn rl3_the_proxy_is_believed_with_its_secret_alone() {
        let viewer = (VIEWER, "198.51.100.7");
        assert_eq!(source(Some(PROVEN), &[(SECRET, PROVEN), viewer]), "198.51.100.7");
        assert_eq!(source(Some(PROVEN), &[(SECRET, PROVEN), (VIEWER, "2001:db8::1")]), "2001:db8::1");
        for headers in [
            &[viewer][..],
            &[(SECRET, ""), viewer],
            &[(SECRET, "0fK3vQxw8Jd1mRzT6yPbLc9sHn2GuE7b"), viewer],
            &[(SECRET, PROVEN), (SECRET, PROVEN), viewer],
            &[(SECRET, PROVEN), viewer, viewer],
            &[(SECRET, PROVEN)],
            &[(SECRET, PROVEN), (VIEWER, "")],
            &[(SECRET, PROVEN), (VIEWER, "198.51.100.7, 203.0.113.1")],
            &[(SECRET, PROVEN), (VIEWER, "example.com")],
            &[(SECRET, PROVEN), ("x-forwarded-for", "198.51.100.7")],
        ] {
            assert_eq!(source(Some(PROVEN), headers), "192.0.2.1", "{headers:?}");
        }
        for headers in [&[viewer][..], &[(SECRET, ""), viewer], &[(SECRET, PROVEN), viewer]] {
            assert_eq!(source(None, headers), "192.0.2.1", "{headers:?}");
        }
    }
}
