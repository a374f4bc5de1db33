//! The keys in force: given once and for all, or a copy of a secret in Secrets
//! Manager, which is read again when it may be out of date.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;

use super::{App, Error};
use crate::aws;
use crate::clock::Timestamp;
use crate::config::KeySource;
use crate::token::{KeyRing, Rejection};

/// From this age on, a copy may lack a key that has come into force. A new key
/// waits for longer than that, and than the JWKS is cached, before it signs.
const STALE: Duration = Duration::from_secs(5 * 60);
/// For how long nobody reads the secret again once that has failed: whoever
/// sends tokens of unknown keys must not make an outage worse, or dear.
const PAUSE: Duration = Duration::from_secs(5);

/// A copy of the secret, once it was read.
#[derive(Default)]
pub(super) struct RingCopy {
    held: RwLock<Option<(Arc<KeyRing>, Timestamp)>>,
    /// Whoever reads it holds this: when that last failed.
    failed_at: Mutex<Option<Timestamp>>,
}

impl RingCopy {
    /// The copy, if it was read at this time or later.
    fn since(&self, oldest: Option<Timestamp>) -> Option<Arc<KeyRing>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (ring, read_at) = held.as_ref()?;
        oldest.is_none_or(|oldest| *read_at >= oldest).then(|| Arc::clone(ring))
    }

    fn hold(&self, ring: &Arc<KeyRing>, read_at: Timestamp) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(ring), read_at));
    }
}

impl App {
    /// The public halves of the keys, for others to verify access tokens. While
    /// the secret cannot be read, an old copy will do.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the secret was never read.
    pub async fn public_keys(&self) -> Result<JwkSet, Error> {
        let ring = match self.fresh_ring().await {
            Ok(ring) => ring,
            Err(error) => self.ring_copy.since(None).ok_or(error)?,
        };
        Ok(ring.public())
    }

    /// The keys at hand.
    pub(super) async fn ring(&self) -> Result<Arc<KeyRing>, Error> {
        self.ring_since(None).await
    }

    /// What `verify` says with the keys at hand; where a token names none of
    /// them, with those that are in force by now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the secret cannot be read, or could not a
    /// moment ago: whether the token is good is not known.
    pub(super) async fn verified<T>(
        &self,
        verify: impl Fn(&KeyRing) -> Result<T, Rejection>,
    ) -> Result<Result<T, Rejection>, Error> {
        match verify(&*self.ring().await?) {
            Err(Rejection::UnknownKey) => Ok(verify(&*self.fresh_ring().await?)),
            verified => Ok(verified),
        }
    }

    /// The keys of a copy that is not stale.
    async fn fresh_ring(&self) -> Result<Arc<KeyRing>, Error> {
        self.ring_since(Some(self.now() - STALE)).await
    }

    /// The keys of a copy that was read at this time or later. However many ask
    /// for a new one, one of them reads it; where that fails, it fails for all.
    async fn ring_since(&self, oldest: Option<Timestamp>) -> Result<Arc<KeyRing>, Error> {
        let arn = match &self.config.keys {
            KeySource::Given(ring) => return Ok(Arc::clone(ring)),
            KeySource::Secret(arn) => arn,
        };
        if let Some(ring) = self.ring_copy.since(oldest) {
            return Ok(ring);
        }
        let mut failed_at = self.ring_copy.failed_at.lock().await;
        if let Some(ring) = self.ring_copy.since(oldest) {
            return Ok(ring);
        }
        let now = self.now();
        if failed_at.is_some_and(|failed_at| (failed_at..failed_at + PAUSE).contains(&now)) {
            return Err(unreadable());
        }
        let read = self.read_ring(arn).await.map(Arc::new);
        *failed_at = read.is_err().then_some(now);
        read.inspect(|ring| self.ring_copy.hold(ring, now))
    }

    async fn read_ring(&self, arn: &str) -> Result<KeyRing, Error> {
        let fault = match aws::secret(&self.sdk, arn).await {
            Ok(secret) => match KeyRing::parse(&secret).and_then(|ring| ring.for_algorithm(self.config.algorithm)) {
                Ok(ring) => return Ok(ring),
                Err(fault) => fault.to_string(),
            },
            Err(fault) => fault,
        };
        tracing::error!(secret.arn = arn, fault, "the keys cannot be read");
        Err(unreadable())
    }
}

/// A client that came back sooner would find no new attempt.
fn unreadable() -> Error {
    Error::Unavailable { cause: "the keys cannot be read".into(), retry_after: PAUSE }
}
