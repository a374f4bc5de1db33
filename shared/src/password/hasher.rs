//! Hashes passwords with Argon2id (RFC 9106), and verifies the hashes of other systems.
//! The memory is kept from one hash to the next.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Block, Version};
use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Password;
use super::method::Method;
use super::stored::{PasswordHash, Stored};
use crate::metrics::Metric;
use crate::{entropy, metrics};

/// How long a hash waits for its turn before the request is refused as unavailable.
const PATIENCE: Duration = Duration::from_secs(4);
/// The bytes of a new salt.
const SALT: usize = 16;
/// The bytes of a new hash.
const HASH: usize = 32;

/// The cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkFactor {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
}

impl WorkFactor {
    /// OWASP's minimums for argon2id with one lane, which are equivalent (Password
    /// Storage Cheat Sheet).
    pub const MINIMUM: [Self; 5] =
        [Self::new(47_104, 1), Self::new(19_456, 2), Self::new(12_288, 3), Self::new(9_216, 4), Self::new(7_168, 5)];
    /// The highest cost that can be configured.
    pub const MAXIMUM: Self = Self::new(128 * 1024, 16);

    const fn new(memory_kib: u32, iterations: u32) -> Self {
        Self { memory_kib, iterations }
    }

    /// Returns whether this is at least one of [`MINIMUM`](Self::MINIMUM) and at
    /// most [`MAXIMUM`](Self::MAXIMUM).
    pub fn is_allowed(self) -> bool {
        let is_within = |most: Self| self.memory_kib <= most.memory_kib && self.iterations <= most.iterations;
        let is_from = |least: &Self| self.memory_kib >= least.memory_kib && self.iterations >= least.iterations;
        is_within(Self::MAXIMUM) && Self::MINIMUM.iter().any(is_from)
    }

    /// Returns memory times passes.
    pub(super) const fn total(self) -> u64 {
        self.memory_kib as u64 * self.iterations as u64
    }
}

/// What came of comparing a password with a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The password is right.
    Right {
        /// Whether the stored hash should give way to a new one of this password.
        is_outdated: bool,
    },
    /// The password is wrong, or there is no stored hash.
    Wrong,
    /// The stored hash is damaged, of an unknown form or over a cap.
    Unreadable,
}

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The hash did not get its turn within 4 seconds.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The work factor is invalid, or the computation panicked.
    #[error("the password hash could not be computed")]
    Failed,
}

/// Hashes passwords, a limited number at a time. The buffers are wiped and kept,
/// because allocating 19 MiB takes nearly as long as the hash itself.
#[derive(Debug)]
pub struct Hasher {
    work: WorkFactor,
    inner: Arc<Inner>,
    parallel: usize,
    turns: Arc<Semaphore>,
}

struct Inner {
    buffers: Mutex<Vec<Vec<Block>>>,
    /// The most blocks of a buffer that is kept: those of a new hash.
    kept_blocks: usize,
    computed: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("computed", &self.computed).finish_non_exhaustive()
    }
}

impl Hasher {
    /// Returns a hasher that computes at most `parallel` hashes at once.
    pub fn new(work: WorkFactor, parallel: usize) -> Self {
        Self {
            work,
            inner: Arc::new(Inner {
                buffers: Mutex::default(),
                kept_blocks: work.memory_kib as usize,
                computed: AtomicU64::new(0),
            }),
            parallel,
            turns: Arc::new(Semaphore::new(parallel)),
        }
    }

    /// Hashes a new password under a random salt of 16 bytes.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when the hash did not get its turn within 4 seconds;
    /// [`HashError::Failed`] when the computation failed.
    pub async fn hash(&self, password: &Password) -> Result<PasswordHash, HashError> {
        let new = Arc::new(self.template()?);
        let hash = self.compute(password.expose().as_bytes().to_vec().into(), &new).await?;
        let WorkFactor { memory_kib, iterations } = self.work;
        let (salt, hash) = (STANDARD_NO_PAD.encode(&new.salt), STANDARD_NO_PAD.encode(hash));
        Ok(PasswordHash::stored(format!("$argon2id$v=19$m={memory_kib},t={iterations},p=1${salt}${hash}")))
    }

    /// Compares `password` with a stored hash: as it was sent, and then in its composed
    /// form, if that differs. Without a stored hash, or with one that cannot be read, the
    /// same number of hashes of the configured cost are computed.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when a hash did not get its turn within 4 seconds;
    /// [`HashError::Failed`] when the computation failed.
    pub async fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<Check, HashError> {
        // No password has the random hash of a template.
        let (stored, otherwise) = match stored.map(|stored| Stored::parse(stored.as_str())) {
            Some(Ok(stored)) => (stored, Check::Wrong),
            None => (self.template()?, Check::Wrong),
            Some(Err(refused)) => {
                metrics::count(Metric::UnreadableHashes);
                tracing::error!(%refused, "a stored password hash cannot be read");
                (self.template()?, Check::Unreadable)
            }
        };
        let stored = Arc::new(stored);
        for spelling in password.spellings() {
            let spelling = spelling.expose_secret();
            for input in stored.method.inputs(spelling) {
                let hash = self.compute(input.bytes, &stored).await?;
                if constant_time::verify_slices_are_equal(&hash, &stored.hash).is_ok() {
                    // A new hash would make the part count that bcrypt has cut off.
                    let is_outdated = !input.is_cut && (spelling != password.expose() || self.is_outdated(&stored));
                    return Ok(Check::Right { is_outdated });
                }
            }
        }
        Ok(otherwise)
    }

    /// Returns whether a hash is not argon2id, costs less than the configured work factor
    /// (memory times passes), or costs what cannot be configured.
    fn is_outdated(&self, stored: &Stored) -> bool {
        match &stored.method {
            Method::Argon2 { variant: Algorithm::Argon2id, version: Version::V0x13, params } => {
                let work = WorkFactor::new(params.m_cost(), params.t_cost());
                !work.is_allowed() || work.total() < self.work.total()
            }
            _ => true,
        }
    }

    /// Returns how many hashes have been computed.
    pub fn computed(&self) -> u64 {
        self.inner.computed.load(Ordering::Relaxed)
    }

    /// Returns whether no hash is being computed.
    pub fn is_idle(&self) -> bool {
        self.turns.available_permits() == self.parallel
    }

    /// Returns how a new hash is computed, with a random salt and a random hash.
    fn template(&self) -> Result<Stored, HashError> {
        let WorkFactor { memory_kib, iterations } = self.work;
        let method = Method::argon2(Algorithm::Argon2id, Version::V0x13, memory_kib, iterations, 1);
        Ok(Stored {
            method: method.map_err(|_| HashError::Failed)?,
            salt: entropy::bytes::<SALT>().into(),
            hash: entropy::bytes::<HASH>().into(),
        })
    }

    /// Hashes `input` in the way of `stored`.
    async fn compute(&self, input: Zeroizing<Vec<u8>>, stored: &Arc<Stored>) -> Result<Vec<u8>, HashError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_elapsed| HashError::Busy)?.map_err(|_closed| HashError::Failed)?;
        let (inner, stored) = (Arc::clone(&self.inner), Arc::clone(stored));
        // The turn ends when the hash has been computed, even if its request was dropped.
        let computed = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            (inner.compute(&input, &stored), start.elapsed(), turn)
        });
        let (output, elapsed, _turn) = computed.await.map_err(|_panicked| HashError::Failed)?;
        metrics::hashed(elapsed);
        output
    }
}

impl Inner {
    fn compute(&self, input: &[u8], Stored { method, salt, hash }: &Stored) -> Result<Vec<u8>, HashError> {
        let kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        let output = method.compute(input, salt, hash.len(), &mut buffer);
        self.computed.fetch_add(1, Ordering::Relaxed);
        // A hash from elsewhere may have needed more memory than will be needed again.
        buffer.truncate(self.kept_blocks);
        buffer.shrink_to_fit();
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        // Parameters, salt and length have been checked, so this does not fail.
        output.ok_or(HashError::Failed)
    }
}

#[cfg(test)]
mod tests;
