//! The middleware: a tower layer that admits callers with an access token, and
//! renews tokens that are about to expire.
//!
//! Mount it in your own function:
//!
//! ```no_run
//! use freshkey::auth::{App, Identity};
//! use freshkey::layer::Authenticate;
//! use lambda_http::tower::ServiceBuilder;
//! use lambda_http::{Error, Request, run, service_fn};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     let layer = Authenticate::new(App::from_env().await?);
//!     run(ServiceBuilder::new().layer(layer).service(service_fn(greet))).await
//! }
//!
//! async fn greet(request: Request) -> Result<String, Error> {
//!     let caller = request.extensions().get::<Identity>().ok_or("the layer is not mounted")?;
//!     Ok(format!("Hello, {}", caller.user_id))
//! }
//! ```
//!
//! A client that also sends `x-refresh-token` gets `x-new-access-token`,
//! `x-new-refresh-token` and `x-new-expires-in` in the answer when its access token
//! has expired or will expire within five minutes.

use std::sync::Arc;
use std::task::{Context, Poll};

use lambda_http::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use lambda_http::tower::{Layer, ServiceExt};
use lambda_http::{Body, BoxFuture, IntoResponse, Request, Response, Service};
use secrecy::ExposeSecret;

use crate::audit::{Act, Event};
use crate::auth::{App, Error, Identity, Tokens};
use crate::http::{self, Answer, Carrier, Dialect};

const NEW_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-new-access-token");
const NEW_REFRESH_TOKEN: HeaderName = HeaderName::from_static("x-new-refresh-token");
const NEW_EXPIRES_IN: HeaderName = HeaderName::from_static("x-new-expires-in");

/// Puts [`Authenticated`] in front of a service.
#[derive(Clone, Debug)]
pub struct Authenticate {
    app: Arc<App>,
    dialect: Dialect,
    role: Option<&'static str>,
    needs_verified: bool,
}

impl Authenticate {
    /// Returns a layer that admits every caller with a valid access token. With
    /// REQUIRE_VERIFIED_EMAIL, callers who have not proven their e-mail address get 403.
    pub fn new(app: Arc<App>) -> Self {
        let needs_verified = app.config().require_verified_email;
        Self { app, dialect: Dialect::V1, role: None, needs_verified }
    }

    /// Returns a layer for the routes with which callers manage their own account, which
    /// they need before they have proven their address.
    pub fn for_account(app: Arc<App>) -> Self {
        Self { needs_verified: false, ..Self::new(app) }
    }

    /// Renders errors in this dialect on every route.
    #[must_use]
    pub fn dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Admits only callers with this role. Others get 403.
    #[must_use]
    pub fn require_role(self, role: &'static str) -> Self {
        Self { role: Some(role), ..self }
    }
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { layer: self.clone(), inner }
    }
}

/// A service behind [`Authenticate`]. It finds the caller's [`Identity`] in the
/// extensions of the request.
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    layer: Authenticate,
    inner: S,
}

impl<S> Service<Request> for Authenticated<S>
where
    S: Service<Request> + Clone + Send + 'static,
    S::Response: IntoResponse + Send,
    S::Error: Send,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    /// Always ready: `call` waits until the inner service is ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { layer, inner } = self.clone();
        let serve = |request| async { Ok(inner.oneshot(request).await?.into_response().await) };
        Box::pin(async move { layer.around(request, serve).await })
    }
}

impl Authenticate {
    /// Answers as [`around`](Self::around) does. The errors of `serve` are rendered
    /// behind the layer, so that their answers also carry the tokens that the layer
    /// renewed.
    pub async fn answer<F>(&self, request: Request, serve: impl FnOnce(Request) -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let (dialect, id) = (self.dialect, http::request_id(&request).to_owned());
        self.around(request, async |request| Ok(http::render(serve(request).await, dialect, &id))).await
    }

    /// Answers with `serve` if the caller is admitted, as the layer does around a service.
    ///
    /// # Errors
    ///
    /// Those of `serve`. A caller who is not admitted gets an answer that says so.
    pub async fn around<F, E>(
        &self,
        mut request: Request,
        serve: impl FnOnce(Request) -> F,
    ) -> Result<Response<Body>, E>
    where
        F: Future<Output = Result<Response<Body>, E>>,
    {
        let app = &self.app;
        http::resolve(&mut request, app.config().trusted_proxy.as_ref());
        let (request_id, client) = (http::request_id(&request).to_owned(), http::client(&request));
        // Boxed, because the futures of the SDK are large, and unoptimised code copies a future
        // on the stack whenever it is moved.
        let answer = Box::pin(async {
            let (identity, renewed) = match self.admit(&request).await {
                Ok(admitted) => admitted,
                Err(error) => return Ok(self.refusal(error, &request)),
            };
            let mut response = match self.check(&identity).await {
                Ok(()) => {
                    request.extensions_mut().insert(identity);
                    Box::pin(serve(request)).await?
                }
                Err(error) => self.refusal(error, &request),
            };
            if let Some(renewed) = renewed {
                response.headers_mut().extend(renewed);
            }
            Ok(response)
        });
        app.observe(&request_id, &client, answer).await
    }

    async fn admit(&self, request: &Request) -> Result<(Identity, Option<HeaderMap>), Error> {
        let access = http::bearer(request);
        let refresh = match Carrier::picked(&self.app.config().transport, request)? {
            Carrier::Body => http::refresh_token_header(request)?,
            // In cookie mode, scripts must never see a refresh token.
            Carrier::Cookie(_) => None,
        };
        let admitted = self.app.admit(access, refresh, http::client(request)).await?;
        Ok((admitted.identity, admitted.renewed.as_ref().map(headers).transpose()?))
    }

    /// Checks what the layer requires of a caller besides a token.
    async fn check(&self, identity: &Identity) -> Result<(), Error> {
        if let Some(role) = self.role.filter(|role| !identity.has_role(role)) {
            let denied = Event::of(Act::AccessDenied).about(identity.user_id).in_session(identity.session_id);
            self.app.record(denied.because(format_args!("the role {role} is required")));
            return Err(Error::Forbidden);
        }
        if self.needs_verified {
            self.app.check_verified(identity).await?;
        }
        Ok(())
    }

    fn refusal(&self, error: Error, request: &Request) -> Response<Body> {
        let mut refusal = http::render(Err(error), self.dialect, http::request_id(request));
        http::secure(refusal.headers_mut());
        refusal
    }
}

/// Returns the headers with the new tokens, which no cache may keep.
fn headers(tokens: &Tokens) -> Result<HeaderMap, Error> {
    let secret = |token: &str| {
        let mut value =
            HeaderValue::from_str(token).map_err(|_| Error::Internal("a token is not a valid header value".into()))?;
        value.set_sensitive(true);
        Ok::<_, Error>(value)
    };
    Ok(HeaderMap::from_iter([
        (NEW_ACCESS_TOKEN, secret(tokens.access.token.expose_secret())?),
        (NEW_REFRESH_TOKEN, secret(tokens.refresh_token.expose_secret())?),
        (NEW_EXPIRES_IN, tokens.access.expires_in.into()),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]))
}
