//! The flows: what a user or an operator can do, from parsed input to a typed outcome. Besides the
//! errors that it lists, every flow returns [`Error::Internal`] when a stored item
//! cannot be read, or hashing or signing fails.

mod account;
mod caller;
mod error;
mod guess;
mod import;
mod imported;
mod login;
mod logout;
mod mailing;
pub mod operator;
mod recovery;
mod refresh;
mod register;
mod ring;

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_types::SdkConfig;
use secrecy::SecretString;

use crate::audit::{self, Event};
use crate::aws;
use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, ConfigError};
use crate::metrics;
use crate::password::Hasher;
use crate::session::{Secret, Session};
use crate::store::Store;
use crate::token::access::Issued;
use crate::token::{KeyRing, RefreshToken, Subject};
use crate::user::User;

pub use caller::{Admitted, Identity};
pub use error::{Error, FieldError};
pub use import::{NewToken, NewUser, TokenImport, UserImport};
pub use mailing::Confirmed;
pub use ring::MAX_COPY_AGE;

/// The error when the user of an access token is gone or disabled.
const GONE: Error = Error::InvalidToken { was_sent: true };

/// What every handler works with: settings, clock, table and keys.
pub struct App {
    config: Config,
    clock: Arc<dyn Clock>,
    store: Store,
    hasher: Hasher,
    sdk: SdkConfig,
    ring_copy: ring::RingCopy,
}

/// An access token and a refresh token that were just issued.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access: Issued,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// The whole seconds until the refresh token expires.
    pub refresh_expires_in: i64,
}

/// A user with the tokens of a session.
#[derive(Debug)]
pub struct SignedIn {
    /// The user who signed in.
    pub user: User,
    /// The session's tokens.
    pub tokens: Tokens,
    /// A new device token for the client to keep, unless it sent one that is still good.
    pub device_token: Option<SecretString>,
}

impl App {
    /// Returns an app with the settings in this process's environment, and opens the
    /// connections to DynamoDB that the [layer](crate::layer) uses.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every fault of the configuration.
    pub async fn from_env() -> Result<Arc<Self>, ConfigError> {
        /// The layer rotates a session and reads its user at once.
        const OF_THE_LAYER: usize = 2;
        Self::start(OF_THE_LAYER).await
    }

    /// Returns an app with the settings in this process's environment, after opening so
    /// many connections to DynamoDB and reading the secret.
    pub(crate) async fn start(connections: usize) -> Result<Arc<Self>, ConfigError> {
        let config = Config::parse(|name| std::env::var(name).ok())?;
        crate::telemetry::init(config.log_level);
        let app = Self::new(config, Arc::new(SystemClock), None);
        tokio::join!(app.read_secret(), app.store.open_connections(connections));
        Ok(Arc::new(app))
    }

    /// Returns an app like [`start`](Self::start), but without keys: it signs and
    /// verifies no tokens.
    pub(crate) async fn start_without_keys(connections: usize) -> Result<Arc<Self>, ConfigError> {
        let config = Config::parse_without_keys(|name| std::env::var(name).ok())?;
        crate::telemetry::init(config.log_level);
        let app = Self::new(config, Arc::new(SystemClock), None);
        app.store.open_connections(connections).await;
        Ok(Arc::new(app))
    }

    /// Returns an app with these settings. `http_client` replaces the SDK's own,
    /// for tests. Keys in Secrets Manager are read now; if that fails, requests
    /// are answered with 503 until it succeeds.
    pub async fn connect(config: Config, clock: Arc<dyn Clock>, http_client: Option<SharedHttpClient>) -> Arc<Self> {
        let app = Self::new(config, clock, http_client);
        app.read_secret().await;
        Arc::new(app)
    }

    /// Returns an app whose calls to AWS have this configuration, for a program on the
    /// machine of an operator: credentials may come from a profile there. The app of a
    /// function looks for none. Without keys: it signs and verifies no tokens.
    pub fn with_sdk(config: Config, clock: Arc<dyn Clock>, sdk: SdkConfig) -> Arc<Self> {
        Arc::new(Self::over(config, clock, sdk))
    }

    fn new(config: Config, clock: Arc<dyn Clock>, http_client: Option<SharedHttpClient>) -> Self {
        let sdk = aws::load(http_client, config.patience);
        Self::over(config, clock, sdk)
    }

    fn over(config: Config, clock: Arc<dyn Clock>, sdk: SdkConfig) -> Self {
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store: Store::with_sdk(&sdk, &config.table_name, config.table_endpoint.as_deref()),
            hasher: Hasher::new(config.password_work, parallel),
            ring_copy: ring::RingCopy::default(),
            sdk,
            clock,
            config,
        }
    }

    /// Reads keys in Secrets Manager. A failure is logged and counted; the first
    /// request tries again.
    async fn read_secret(&self) {
        let _ = metrics::scope(&self.config.table_name, || self.now(), self.ring()).await;
        self.ring_copy.retry_at_once().await;
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the table.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the hasher of passwords.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Runs the work of a request. Its audit events name the request, and its metrics
    /// are written at the end. Work within another request's work counts as part of
    /// that request.
    pub(crate) async fn observe<F: Future>(&self, request_id: &str, client: &Client, work: F) -> F::Output {
        if audit::is_in_scope() {
            return work.await;
        }
        let work = audit::scope(request_id, client, work);
        metrics::scope(&self.config.table_name, || self.now(), work).await
    }

    /// Records an audit event now.
    pub(crate) fn record(&self, event: Event) {
        event.record(self.now());
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Signs an access token and this refresh token.
    fn tokens(
        &self,
        ring: &KeyRing,
        user: &User,
        session: &Session,
        refresh: &RefreshToken,
        now: Timestamp,
    ) -> Result<Tokens, Error> {
        let subject = Subject {
            user_id: user.id,
            session_id: session.id,
            roles: &user.roles,
            email_verified: self.config.mail.then_some(user.is_verified()),
        };
        Ok(Tokens {
            access: self.config.access_tokens.issue(ring, &subject, refresh.absolute_end, now)?,
            refresh_token: self.config.refresh_tokens.sign(ring, refresh)?,
            refresh_expires_in: refresh.expires_at.seconds() - now.seconds(),
        })
    }

    /// Returns the first refresh token of a session that was just opened.
    fn first_token(&self, session: &Session, secret: Secret) -> RefreshToken {
        let absolute_end = self.config.session_lifetime.absolute_end(session.created_at);
        RefreshToken::first(session, secret, absolute_end)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}
