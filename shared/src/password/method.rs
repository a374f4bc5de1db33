//! The ways to hash a password: today's, and those of the systems that users come from.

use std::num::NonZeroU32;

use argon2::{Argon2, Block};
use aws_lc_rs::cipher::{AES_256, AES_256_KEY_LEN, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::hasher::WorkFactor;
use super::stored::RefusedHash;

// The caps let in what every system of docs/moving-in.md writes by default. No hash at a
// cap takes longer than 2 seconds of a core, where one of today's takes 17 ms, so a check
// with four hashes ends before the functions' timeout of 10 seconds.

/// The most memory of a hash, in KiB. The functions that check passwords have 1,769 MB
/// and handle one request at a time.
pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// The most work of an argon2 hash, in KiB of memory times passes: the most that can be
/// configured (1.7 s).
const MAX_ARGON2_WORK: u64 = WorkFactor::MAXIMUM.total();
/// The highest cost of a bcrypt hash (0.9 s). Symfony's is 13.
const MAX_BCRYPT_COST: u32 = 14;
/// The most iterations of a PBKDF2 hash (0.6 s, and 1.3 s with SHA-512). Keycloak has
/// 1,300,000 with SHA-1.
const MAX_PBKDF2_ITERATIONS: u32 = 2_000_000;
/// The most work of a scrypt hash, in KiB of memory times lanes (0.6 s). Django's is
/// 80 MiB.
const MAX_SCRYPT_WORK: u64 = MAX_MEMORY_KIB as u64;

/// The bytes of a password that bcrypt reads.
const BCRYPT_BYTES: usize = 72;

/// A way to hash a password, with its parameters, which are within the caps.
pub(super) enum Method {
    /// Argon2 (RFC 9106).
    Argon2 {
        /// Which of the three.
        variant: argon2::Algorithm,
        /// 1.0 or 1.3.
        version: argon2::Version,
        /// Memory, passes and lanes.
        params: argon2::Params,
    },
    /// bcrypt.
    Bcrypt {
        /// The base-2 logarithm of the rounds.
        cost: u32,
        /// Whether the password was hashed with SHA-256 first, as Django does.
        of_sha256: bool,
    },
    /// PBKDF2 with HMAC (RFC 8018).
    Pbkdf2 {
        /// The hash function of the HMAC.
        hmac: pbkdf2::Algorithm,
        /// How often it is applied.
        iterations: NonZeroU32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// Memory, block size and lanes.
        params: scrypt::Params,
        /// What Firebase encrypts with the output.
        signer_key: Option<Vec<u8>>,
    },
}

/// What a [`Method`] hashes for a password.
pub(super) struct Input {
    /// The bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether other passwords have the same hash, because bcrypt does not read the end.
    pub is_cut: bool,
}

impl Method {
    /// Returns argon2 with these parameters.
    ///
    /// # Errors
    ///
    /// [`RefusedHash::TooCostly`] over a cap; [`RefusedHash::Malformed`] for parameters
    /// that argon2 does not allow.
    pub fn argon2(
        variant: argon2::Algorithm,
        version: argon2::Version,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    ) -> Result<Self, RefusedHash> {
        if memory_kib > MAX_MEMORY_KIB {
            return Err(RefusedHash::TooCostly("its memory is above 256 MiB"));
        }
        if u64::from(memory_kib) * u64::from(passes) > MAX_ARGON2_WORK {
            return Err(RefusedHash::TooCostly("its memory times its passes is above 2 GiB"));
        }
        let params = argon2::Params::new(memory_kib, passes, lanes, None);
        let params = params.map_err(|_| RefusedHash::Malformed("argon2 does not allow its parameters"))?;
        Ok(Self::Argon2 { variant, version, params })
    }

    /// Returns bcrypt with this cost.
    ///
    /// # Errors
    ///
    /// [`RefusedHash::TooCostly`] over the cap; [`RefusedHash::Malformed`] under 4.
    pub fn bcrypt(cost: u32, of_sha256: bool) -> Result<Self, RefusedHash> {
        match cost {
            0..4 => Err(RefusedHash::Malformed("the cost of bcrypt is at least 4")),
            4..=MAX_BCRYPT_COST => Ok(Self::Bcrypt { cost, of_sha256 }),
            _ => Err(RefusedHash::TooCostly("its cost is above 14")),
        }
    }

    /// Returns PBKDF2 with these parameters.
    ///
    /// # Errors
    ///
    /// [`RefusedHash::TooCostly`] over the cap; [`RefusedHash::Malformed`] without
    /// iterations.
    pub fn pbkdf2(hmac: pbkdf2::Algorithm, iterations: u32) -> Result<Self, RefusedHash> {
        match NonZeroU32::new(iterations) {
            None => Err(RefusedHash::Malformed("it has no iterations")),
            Some(iterations) if iterations.get() <= MAX_PBKDF2_ITERATIONS => Ok(Self::Pbkdf2 { hmac, iterations }),
            Some(_) => Err(RefusedHash::TooCostly("its iterations are above 2,000,000")),
        }
    }

    /// Returns scrypt with 2^`log_n` blocks of 128 times `r` bytes, in `p` lanes.
    ///
    /// # Errors
    ///
    /// [`RefusedHash::TooCostly`] over the cap; [`RefusedHash::Malformed`] for parameters
    /// that scrypt does not allow.
    pub fn scrypt(log_n: u32, r: u32, p: u32, signer_key: Option<Vec<u8>>) -> Result<Self, RefusedHash> {
        let malformed = RefusedHash::Malformed("scrypt does not allow its parameters");
        if log_n == 0 || r == 0 || p == 0 {
            return Err(malformed);
        }
        let bytes =
            1_u64.checked_shl(log_n).and_then(|n| n.checked_mul(128)?.checked_mul(r.into())?.checked_mul(p.into()));
        if bytes.is_none_or(|bytes| bytes / 1024 > MAX_SCRYPT_WORK) {
            return Err(RefusedHash::TooCostly("its memory times its lanes is above 256 MiB"));
        }
        let params = u8::try_from(log_n).ok().and_then(|log_n| scrypt::Params::new(log_n, r, p).ok());
        Ok(Self::Scrypt { params: params.ok_or(malformed)?, signer_key })
    }

    /// Returns how many bytes of a hash are compared. PBKDF2 computes blocks of output one
    /// by one, and each of them takes all iterations; the first is enough to tell.
    pub fn compared(&self) -> usize {
        match self {
            Self::Pbkdf2 { hmac, .. } if *hmac == pbkdf2::PBKDF2_HMAC_SHA1 => digest::SHA1_OUTPUT_LEN,
            Self::Pbkdf2 { hmac, .. } if *hmac == pbkdf2::PBKDF2_HMAC_SHA256 => digest::SHA256_OUTPUT_LEN,
            _ => usize::MAX,
        }
    }

    /// Returns what may have been hashed for `password`, in the order to try.
    ///
    /// bcrypt reads 72 bytes, and starts over after a NUL. Symfony's
    /// `NativePasswordHasher` hashes longer passwords and those with a NUL with SHA-512
    /// first. Other systems leave them to bcrypt.
    pub fn inputs(&self, password: &str) -> Vec<Input> {
        let whole = |bytes: Vec<u8>| Input { bytes: bytes.into(), is_cut: false };
        match self {
            Self::Bcrypt { of_sha256: true, .. } => {
                let hash = digest::digest(&digest::SHA256, password.as_bytes());
                vec![whole(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes())]
            }
            Self::Bcrypt { .. } => {
                let has_nul = password.contains('\0');
                let is_cut = password.len() >= BCRYPT_BYTES || has_nul;
                let mut inputs = vec![Input { is_cut, ..whole(password.into()) }];
                if password.len() > BCRYPT_BYTES || has_nul {
                    let hash = digest::digest(&digest::SHA512, password.as_bytes());
                    inputs.insert(0, whole(STANDARD.encode(hash).into_bytes()));
                }
                inputs
            }
            _ => vec![whole(password.into())],
        }
    }

    /// Hashes `input` under `salt` to `length` bytes. argon2 works in `memory`, which is
    /// made larger if it is too small, and wiped. Returns `None` for a salt or a length
    /// that the method does not allow.
    pub fn compute(&self, input: &[u8], salt: &[u8], length: usize, memory: &mut Vec<Block>) -> Option<Vec<u8>> {
        let mut output = vec![0; length];
        match self {
            Self::Argon2 { variant, version, params } => {
                let blocks = params.block_count();
                if memory.len() < blocks {
                    memory.resize(blocks, Block::new());
                }
                let argon2 = Argon2::new(*variant, *version, params.clone());
                let result = argon2.hash_password_into_with_memory(input, salt, &mut output, &mut memory[..blocks]);
                memory[..blocks].iter_mut().for_each(Zeroize::zeroize);
                result.ok()?;
            }
            Self::Bcrypt { cost, .. } => {
                let salt = salt.try_into().ok()?;
                // As C has it: the end of the text is a byte as well, where it is reached.
                let mut text = Zeroizing::new([0; BCRYPT_BYTES]);
                let read = input.len().min(BCRYPT_BYTES);
                text[..read].copy_from_slice(&input[..read]);
                let hash = bcrypt::bcrypt(*cost, salt, &text[..BCRYPT_BYTES.min(read + 1)]);
                output.copy_from_slice(hash.get(..length)?);
            }
            Self::Pbkdf2 { hmac, iterations } => pbkdf2::derive(*hmac, *iterations, salt, input, &mut output),
            Self::Scrypt { params, signer_key: None } => scrypt::scrypt(input, salt, params, &mut output).ok()?,
            Self::Scrypt { params, signer_key: Some(signer_key) } => {
                let mut key = Zeroizing::new([0; AES_256_KEY_LEN]);
                scrypt::scrypt(input, salt, params, &mut *key).ok()?;
                output.clone_from(signer_key);
                let cipher = EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, &*key).ok()?).ok()?;
                let counter = EncryptionContext::Iv128(FixedLength::from([0; 16]));
                cipher.less_safe_encrypt(&mut output, counter).ok()?;
            }
        }
        Some(output)
    }
}
