//! The ring of keys in use. It is given by the settings, or a copy of a secret in
//! Secrets Manager that is read again every five minutes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;

use super::{App, Error};
use crate::aws;
use crate::clock::Timestamp;
use crate::config::KeySource;
use crate::metrics::{self, Metric};
use crate::token::{KeyRing, Rejection};

/// The age at which the secret is read again. A key that was removed from the secret
/// neither signs nor verifies after that. A new key must be in the secret for twice as
/// long before it signs.
pub const MAX_COPY_AGE: Duration = Duration::from_secs(5 * 60);
/// The time between two attempts to read a secret that cannot be read, so that requests
/// do not make an outage worse or more expensive.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a request waits for the secret when it can use an older ring instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// A copy of the secret.
#[derive(Default)]
pub(super) struct RingCopy {
    held: RwLock<Option<Held>>,
    /// When the last read failed, unless one has succeeded since. The request that
    /// reads the secret holds the lock.
    failed_at: Mutex<Option<Timestamp>>,
}

/// A ring, and when it was read.
#[derive(Clone)]
struct Held {
    ring: Arc<KeyRing>,
    read_at: Timestamp,
}

impl RingCopy {
    fn get(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the copy, if it is not older than [`MAX_COPY_AGE`].
    fn fresh(&self, now: Timestamp) -> Option<Current> {
        let Held { ring, read_at } = self.get()?;
        // A copy from the future was read before the clock was set back: its age is unknown.
        (read_at..=read_at + MAX_COPY_AGE).contains(&now).then_some(Current { ring, is_stale: false })
    }

    /// Lets the next request read the secret, even if a read has just failed.
    pub(super) async fn retry_at_once(&self) {
        *self.failed_at.lock().await = None;
    }

    fn set(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

/// The ring that a request uses.
struct Current {
    ring: Arc<KeyRing>,
    /// Whether the secret cannot be read, so that keys may be missing.
    is_stale: bool,
}

/// Why a token was not verified.
pub(super) enum Unverified {
    /// The token is not accepted.
    Rejected(Rejection),
    /// It is not known whether the token is good. The error is [`Error::Unavailable`].
    Unknown(Error),
}

impl App {
    /// Returns the public halves of the keys, with which other services verify
    /// access tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the secret has never been read.
    pub async fn public_keys(&self) -> Result<JwkSet, Error> {
        Ok(self.ring().await?.public())
    }

    /// Returns the ring in use: at most [`MAX_COPY_AGE`] old, or the last one while the
    /// secret cannot be read.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the secret has never been read.
    pub(super) async fn ring(&self) -> Result<Arc<KeyRing>, Error> {
        Ok(self.current_ring().await?.ring)
    }

    /// Verifies a token: returns the result of `verify` with the ring in use.
    ///
    /// # Errors
    ///
    /// [`Unverified::Rejected`] with the rejection of `verify`;
    /// [`Unverified::Unknown`] when there is no ring, or the token names an
    /// unknown key while the secret, which may have it, cannot be read.
    pub(super) async fn verified<T>(&self, verify: impl Fn(&KeyRing) -> Result<T, Rejection>) -> Result<T, Unverified> {
        let Current { ring, is_stale } = self.current_ring().await.map_err(Unverified::Unknown)?;
        verify(&ring).map_err(|rejection| match rejection {
            Rejection::UnknownKey if is_stale => Unverified::Unknown(unreadable()),
            rejection => Unverified::Rejected(rejection),
        })
    }

    /// Returns the ring in use. If several requests need a new copy, one of them reads
    /// it for all; if that fails, it fails for all.
    async fn current_ring(&self) -> Result<Current, Error> {
        let arn = match &self.config.keys {
            KeySource::Given(ring) => return Ok(Current { ring: Arc::clone(ring), is_stale: false }),
            KeySource::Secret(arn) => arn,
            KeySource::None => return Err(Error::Internal("this function has no keys".into())),
        };
        if let Some(current) = self.ring_copy.fresh(self.now()) {
            return Ok(current);
        }
        let mut failed_at = self.ring_copy.failed_at.lock().await;
        let now = self.now();
        if let Some(current) = self.ring_copy.fresh(now) {
            return Ok(current);
        }
        let held = self.ring_copy.get();
        if !failed_at.is_some_and(|failed_at| (failed_at..failed_at + PAUSE).contains(&now)) {
            let read = self.read_ring(arn);
            let read = match &held {
                None => read.await,
                Some(_) => tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| Err("timeout".to_owned())),
            };
            match read {
                Ok(ring) => {
                    *failed_at = None;
                    let ring = Arc::new(ring);
                    self.ring_copy.set(Held { ring: Arc::clone(&ring), read_at: now });
                    return Ok(Current { ring, is_stale: false });
                }
                Err(fault) => {
                    *failed_at = Some(now);
                    metrics::count(Metric::SecretFaults);
                    tracing::error!(secret.arn = arn, fault, "the secret with the keys cannot be read");
                }
            }
        }
        held.map(|held| Current { ring: held.ring, is_stale: true }).ok_or_else(unreadable)
    }

    /// Reads the secret. The error says what is wrong with the secret or the call.
    async fn read_ring(&self, arn: &str) -> Result<KeyRing, String> {
        let secret = aws::secret(&self.sdk, arn).await.map_err(|fault| {
            fault.report("secretsmanager:GetSecretValue", None);
            fault.code
        })?;
        let ring = KeyRing::parse(&secret).and_then(|ring| ring.for_algorithm(self.config.algorithm));
        ring.map_err(|fault| fault.to_string())
    }
}

/// Returns the error for a secret that cannot be read. Before the pause ends, the
/// secret is not read again.
fn unreadable() -> Error {
    Error::Unavailable { cause: "the secret with the keys cannot be read".into(), retry_after: PAUSE }
}
