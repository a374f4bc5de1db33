//! The route of a request.

use std::borrow::Cow;

use lambda_http::{Request, RequestExt};
use percent_encoding::percent_decode_str;

use super::context;

/// The route key of requests that no route matched, and of every request that
/// `cargo lambda watch` sends.
const DEFAULT: &str = "$default";

/// Returns the route of a request as template.yaml writes it: the method, a space and
/// the path with the names of its parameters, such as
/// `DELETE /api/v1/auth/sessions/{session_id}`.
///
/// API Gateway sends it as `requestContext.routeKey`, without any stage or base
/// path. Under `cargo lambda watch`, which sends `$default`, it is rebuilt from
/// the method, the path and the path parameters.
pub fn route_key(request: &Request) -> Cow<'_, str> {
    match context(request).and_then(|context| context.route_key.as_deref()) {
        Some(key) if key != DEFAULT => Cow::Borrowed(key),
        _ => Cow::Owned(rebuilt(request)),
    }
}

/// Returns the value of a path parameter, percent-decoded.
pub fn path_parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.path_parameters_ref().and_then(|parameters| parameters.first(name))
}

fn rebuilt(request: &Request) -> String {
    let mut segments: Vec<Cow<'_, str>> = request.raw_http_path().split('/').map(Cow::Borrowed).collect();
    let parameters = request.path_parameters_ref().into_iter().flat_map(|parameters| parameters.iter());
    for (name, value) in parameters {
        let is_value = |segment: &Cow<'_, str>| percent_decode_str(segment).decode_utf8_lossy() == value;
        // From the end: a value may equal a literal segment before it.
        if let Some(at) = segments.iter().rposition(is_value) {
            segments[at] = Cow::Owned(format!("{{{name}}}"));
        }
    }
    format!("{} {}", request.method(), segments.join("/"))
}

#[cfg(test)]
mod tests {
    use lambda_http::request;
    use serde_json::{Value, json};

    use super::*;

    fn request_of(route_key: &str, path: &str, parameters: Value) -> Request {
        let event = json!({
            "version": "2.0",
            "routeKey": route_key,
            "rawPath": path,
            "rawQueryString": "",
            "headers": {},
            "pathParameters": parameters,
            "requestContext": { "routeKey": route_key, "http": { "method": "DELETE", "path": path } },
            "isBase64Encoded": false,
        });
        request::from_str(&event.to_string()).unwrap()
    }

    #[test]
    fn op7_a_route_is_known_by_its_key_under_a_stage_and_a_base_path_too() {
        let key = "DELETE /api/v1/auth/sessions/{session_id}";
        for path in ["/api/v1/auth/sessions/x", "/prod/api/v1/auth/sessions/x", "/identity/api/v1/auth/sessions/x"] {
            let request = request_of(key, path, json!({ "session_id": "x" }));
            assert_eq!(route_key(&request), key, "{path}");
            assert_eq!(path_parameter(&request, "session_id"), Some("x"));
            assert_eq!(path_parameter(&request, "id"), None);
        }
    }

    #[test]
    fn a_route_key_is_rebuilt_from_the_path_where_none_is_sent() {
        for (path, parameters, key) in [
            ("/api/v1/auth/logout", Value::Null, "DELETE /api/v1/auth/logout"),
            ("/sessions/x", json!({ "id": "x" }), "DELETE /sessions/{id}"),
            ("/sessions/sessions", json!({ "id": "sessions" }), "DELETE /sessions/{id}"),
            ("/sessions/a%20b%2Fc", json!({ "id": "a b/c" }), "DELETE /sessions/{id}"),
            ("/users/x/sessions/y", json!({ "user": "x", "id": "y" }), "DELETE /users/{user}/sessions/{id}"),
            ("/sessions/x", json!({ "id": "other" }), "DELETE /sessions/x"),
            ("/", Value::Null, "DELETE /"),
        ] {
            assert_eq!(route_key(&request_of("$default", path, parameters)), key, "{path}");
        }
    }
}
