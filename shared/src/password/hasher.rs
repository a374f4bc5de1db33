//! Hashes passwords with Argon2id (RFC 9106). The memory is kept from one hash to the next.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use tokio::sync::Semaphore;
use zeroize::Zeroize;

use super::Password;
use crate::{entropy, metrics};

/// How long a hash waits for its turn before the request is refused as unavailable.
const PATIENCE: Duration = Duration::from_secs(4);
/// The most memory of a stored hash, in KiB: an imported hash must not use up the
/// function's memory.
const MAX_MEMORY_KIB: u32 = 128 * 1024;
/// The most passes of a stored hash.
const MAX_ITERATIONS: u32 = 16;
/// The most lanes of a stored hash.
const MAX_LANES: u32 = 8;

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
    /// The highest cost that a function can bear.
    pub const MAXIMUM: Self = Self::new(MAX_MEMORY_KIB, MAX_ITERATIONS);

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
}

/// A hash in PHC string format: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Returns a hash from the table. It is parsed only when a password is verified.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the PHC string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([REDACTED])")
    }
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
            inner: Arc::new(Inner { buffers: Mutex::default(), computed: AtomicU64::new(0) }),
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
        let phc = self.template(&entropy::bytes::<32>());
        let params = params(&phc).ok_or(HashError::Failed)?;
        let output = self.compute(password, params, &phc).await?;
        Ok(PasswordHash(Phc { hash: Output::new(&output).ok(), ..phc }.to_string()))
    }

    /// Returns whether `password` is the one that was hashed. Without a stored hash,
    /// or with one that cannot be parsed, a hash of the same cost is computed and
    /// the result is `false`.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`] when the hash did not get its turn within 4 seconds;
    /// [`HashError::Failed`] when the computation failed.
    pub async fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<bool, HashError> {
        let readable = stored.and_then(|stored| {
            let phc = Phc::new(stored.as_str()).ok()?;
            Some((params(&phc)?, phc))
        });
        if stored.is_some() && readable.is_none() {
            tracing::error!("a stored password hash cannot be read");
        }
        let is_real = readable.is_some();
        let (params, phc) = match readable {
            Some(readable) => readable,
            None => {
                let phc = self.template(&entropy::bytes::<32>());
                (params(&phc).ok_or(HashError::Failed)?, phc)
            }
        };
        let output = self.compute(password, params, &phc).await?;
        let expected = phc.hash.as_ref().map(AsRef::as_ref).unwrap_or_default();
        Ok(is_real && constant_time::verify_slices_are_equal(&output, expected).is_ok())
    }

    /// Returns whether `stored` costs less than the configured work factor (memory
    /// times passes), or cannot be parsed.
    pub fn is_outdated(&self, stored: &PasswordHash) -> bool {
        let work = |memory_kib: u32, iterations: u32| u64::from(memory_kib) * u64::from(iterations);
        let stored = Phc::new(stored.as_str()).ok().and_then(|phc| params(&phc));
        let stored = stored.map(|stored| work(stored.m_cost(), stored.t_cost()));
        stored.is_none_or(|stored| stored < work(self.work.memory_kib, self.work.iterations))
    }

    /// Returns how many hashes have been computed.
    pub fn computed(&self) -> u64 {
        self.inner.computed.load(Ordering::Relaxed)
    }

    /// Returns whether no hash is being computed.
    pub fn is_idle(&self) -> bool {
        self.turns.available_permits() == self.parallel
    }

    /// Returns a PHC string with the configured work factor and a random salt.
    fn template(&self, output: &[u8; 32]) -> Phc {
        let params = Params::new(self.work.memory_kib, self.work.iterations, 1, Some(output.len())).ok();
        Phc {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: params.and_then(|params| ParamsString::try_from(&params).ok()).unwrap_or_default(),
            salt: Salt::new(&entropy::bytes::<16>()).ok(),
            hash: Output::new(output).ok(),
        }
    }

    async fn compute(&self, password: &Password, params: Params, phc: &Phc) -> Result<Vec<u8>, HashError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_elapsed| HashError::Busy)?.map_err(|_closed| HashError::Failed)?;
        let inner = Arc::clone(&self.inner);
        let password = password.clone();
        let salt = phc.salt.as_ref().map(|salt| salt.to_vec()).unwrap_or_default();
        // The turn ends when the hash has been computed, even if its request was dropped.
        let computed = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            (inner.compute(&password, &params, &salt), start.elapsed(), turn)
        });
        let (output, elapsed, _turn) = computed.await.map_err(|_panicked| HashError::Failed)?;
        metrics::hashed(elapsed);
        output
    }
}

impl Inner {
    fn compute(&self, password: &Password, params: &Params, salt: &[u8]) -> Result<Vec<u8>, HashError> {
        let kept = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        let blocks = params.block_count();
        if buffer.len() < blocks {
            buffer.resize(blocks, Block::new());
        }
        let mut output = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let result = argon2.hash_password_into_with_memory(
            password.expose().as_bytes(),
            salt,
            &mut output,
            &mut buffer[..blocks],
        );
        self.computed.fetch_add(1, Ordering::Relaxed);
        buffer[..blocks].iter_mut().for_each(Zeroize::zeroize);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        // Parameters, salt and length have been checked, so this does not fail.
        result.map(|()| output).map_err(|_| HashError::Failed)
    }
}

/// Returns the parameters of a hash, if this system accepts them.
fn params(phc: &Phc) -> Option<Params> {
    let params = Params::try_from(phc).ok()?;
    let is_ours = phc.algorithm == Algorithm::Argon2id.ident() && phc.version == Some(Version::V0x13.into());
    let is_bearable = params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_ITERATIONS
        && params.p_cost() <= MAX_LANES
        && params.keyid().is_empty()
        && params.data().is_empty();
    let is_whole = phc.salt.is_some() && phc.hash.is_some();
    (is_ours && is_bearable && is_whole).then_some(params)
}

#[cfg(test)]
mod tests;
