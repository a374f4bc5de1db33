//! An HTTP API of API Gateway, as functions and clients see it: requests become
//! events of payload format 2.0, and a function's answers become responses. The
//! gateway itself answers the requests that the real one answers itself. No I/O,
//! no clock.

mod cors;
mod event;
mod response;

use std::collections::HashMap;
use std::net::IpAddr;

use axum::body::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use matchit::{InsertError, Router};
use serde_json::Value;

use crate::template::{Cors, Template};

pub use response::too_large;
pub(crate) use response::{json_response, message};

/// The largest body that the gateway accepts, in bytes.
pub const MAX_BODY: usize = 10 * 1024 * 1024;

/// The largest request line and headers together that the gateway accepts, in bytes.
pub const MAX_HEAD: usize = 10_240;

/// The routes and the CORS settings of a template.
#[derive(Debug)]
pub struct Gateway {
    routes: HashMap<Method, Router<Target>>,
    cors: Option<Cors>,
}

/// The function that a route leads to.
#[derive(Clone, Debug)]
struct Target {
    /// The route as events name it, such as `GET /users/me`.
    route_key: String,
    function: String,
}

/// A route that the gateway cannot add, because another route takes the same requests.
#[derive(Debug, thiserror::Error)]
#[error("the route {route_key} cannot be added: {source}")]
pub struct RouteError {
    /// The route, such as `GET /users/me`.
    pub route_key: String,
    /// The reason.
    pub source: InsertError,
}

/// What the gateway knows about a request besides the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The time, in milliseconds since the epoch.
    pub now_ms: i64,
    /// The address that the request came from.
    pub source: IpAddr,
}

/// What the gateway does with a request.
#[derive(Debug)]
pub enum Step {
    /// It answers the request itself.
    Answer(Response<Bytes>),
    /// It calls a function.
    Invoke {
        /// The function's name.
        function: String,
        /// The event for the function.
        event: Value,
    },
}

impl Gateway {
    /// Returns the gateway of `template`.
    ///
    /// # Errors
    ///
    /// [`RouteError`] if two routes take the same requests.
    pub fn new(template: &Template) -> Result<Self, RouteError> {
        let mut routes: HashMap<_, Router<_>> = HashMap::new();
        for function in &template.functions {
            for route in &function.routes {
                let target =
                    Target { route_key: format!("{} {}", route.method, route.path), function: function.name.clone() };
                let router = routes.entry(route.method.clone()).or_default();
                let inserted = router.insert(&route.path, target.clone());
                inserted.map_err(|source| RouteError { route_key: target.route_key, source })?;
            }
        }
        Ok(Self { routes, cors: template.cors.clone() })
    }

    /// Decides what to do with `request`.
    pub fn accept(&self, request: &Request<Bytes>, call: Call<'_>) -> Step {
        if head_size(request) > MAX_HEAD {
            return Step::Answer(message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        }
        if request.body().len() > MAX_BODY {
            return Step::Answer(too_large());
        }
        if let Some(cors) = &self.cors
            && request.method() == Method::OPTIONS
        {
            return Step::Answer(cors::preflight(cors, request.headers()));
        }
        let router = self.routes.get(request.method());
        match router.and_then(|router| router.at(request.uri().path()).ok()) {
            None => Step::Answer(message(StatusCode::NOT_FOUND)),
            Some(route) => Step::Invoke {
                function: route.value.function.clone(),
                event: event::event(request, &route.value.route_key, &route.params, call),
            },
        }
    }

    /// Returns the response for a function's `answer` to a request with `headers`. If
    /// the answer does not describe a response, the function has crashed, and the
    /// response is a 500.
    pub fn respond(&self, headers: &HeaderMap, answer: &Value) -> Response<Bytes> {
        let Some(mut response) = response::response(answer) else {
            return message(StatusCode::INTERNAL_SERVER_ERROR);
        };
        if let Some(cors) = &self.cors {
            cors::set_headers(cors, headers, response.headers_mut());
        }
        response
    }
}

/// Returns the size of the request line and the headers as they were sent, in bytes.
fn head_size(request: &Request<Bytes>) -> usize {
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter();
    line + headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}

#[cfg(test)]
mod tests;
