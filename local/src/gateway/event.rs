//! Turns requests into events of payload format 2.0.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use matchit::Params;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::Call;

/// Returns the event of a `request` that matches the route `route_key` with these
/// path `parameters`.
pub(super) fn event(request: &Request<Bytes>, route_key: &str, parameters: &Params<'_, '_>, call: Call<'_>) -> Value {
    let header = |name| request.headers().get(name).map(text).unwrap_or_default();
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let host = header(HOST);
    let domain = host.rsplit_once(':').map_or(host.as_str(), |(domain, _)| domain);
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": joined_headers(request.headers()),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": domain.split('.').next(),
            "http": {
                "method": request.method().as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version()),
                "sourceIp": call.source.to_string(),
                "userAgent": header(USER_AGENT),
            },
            "requestId": call.id,
            "routeKey": route_key,
            "stage": "$default",
            "time": common_log_time(call.now_ms),
            "timeEpoch": call.now_ms,
        },
        "isBase64Encoded": false,
    });
    let cookies = cookies(request.headers());
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    let query = query_parameters(query);
    if !query.is_empty() {
        event["queryStringParameters"] = query.into();
    }
    if !parameters.is_empty() {
        let decoded = parameters.iter().map(|(name, value)| (name, percent_decode_str(value).decode_utf8_lossy()));
        event["pathParameters"] = decoded.collect();
    }
    let body = request.body();
    if !body.is_empty() {
        let body_as_text = std::str::from_utf8(body).ok().filter(|_| is_text(&header(CONTENT_TYPE)));
        event["isBase64Encoded"] = body_as_text.is_none().into();
        event["body"] = body_as_text.map_or_else(|| BASE64_STANDARD.encode(body), str::to_owned).into();
    }
    event
}

/// Whether the gateway passes on a body of this type as text. It encodes all other
/// bodies in base64, including forms.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["application/json", "application/javascript", "application/xml"].contains(&essence.as_str())
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn joined_headers(headers: &HeaderMap) -> Map<String, Value> {
    let names = headers.keys().filter(|name| **name != COOKIE);
    let joined = names.map(|name| {
        let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
        (name.to_string(), values.join(",").into())
    });
    joined.collect()
}

/// Returns the cookies, without the spaces and tabs around each. Other white space
/// is part of the name. If it were removed too, a page could pass off its cookie
/// as one whose name begins with `__Host-`, which browsers protect.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines: Vec<_> = headers.get_all(COOKIE).iter().map(text).collect();
    let cookies = lines.iter().flat_map(|line| line.split(';')).map(|cookie| cookie.trim_matches([' ', '\t']));
    cookies.filter(|cookie| !cookie.is_empty()).map(str::to_owned).collect()
}

/// Returns the parameters of the query. The values of a repeated parameter are
/// joined with commas.
fn query_parameters(query: &str) -> Map<String, Value> {
    let mut parameters = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let joined = match parameters.get(&*name).and_then(Value::as_str) {
            Some(earlier) => format!("{earlier},{value}"),
            None => value.into_owned(),
        };
        parameters.insert(name.into_owned(), joined.into());
    }
    parameters
}

/// Formats a time, in milliseconds since the epoch, as `12/Mar/2020:19:03:58 +0000`.
fn common_log_time(now_ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = moment.month().to_string();
    format!(
        "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000",
        moment.day(),
        month.get(..3).unwrap_or_default(),
        moment.year(),
        moment.hour(),
        moment.minute(),
        moment.second(),
    )
}
