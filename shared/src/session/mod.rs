//! Sessions, and the rule for rotating one.
//!
//! A refresh presents a token of some generation. One conditional write moves the
//! session on to the next generation: [`Attempt::may_rotate`] is the condition,
//! [`Attempt::rotate`] the write. From the outcome of the write and the user's
//! [`UserState`], [`decide`] determines what the client gets.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use zeroize::ZeroizeOnDrop;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::entropy;
use crate::id::{SessionId, UserId};
use crate::user::UserState;
use crate::write::Write;

/// How long a session that was ended by reuse is kept, as evidence.
pub const EVIDENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One login and its chain of refresh tokens, as the table holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of every token.
    pub id: SessionId,
    /// Its user: the `sub` of every token.
    pub user_id: UserId,
    /// The generation of its current refresh token, from 1.
    pub generation: u64,
    /// The hash of the secret in its tokens.
    pub secret_hash: Hash,
    /// The key of the attempt that made the latest rotation, or exchanged an imported
    /// token for the session. `None` before the first.
    pub attempt: Option<Hash>,
    /// When the current refresh token was issued, in milliseconds.
    pub rotated_at: Timestamp,
    /// The time of the login, in whole seconds.
    pub created_at: Timestamp,
    /// The time of the login, in milliseconds. Sessions give way to newer ones in this order.
    pub opened_at: Timestamp,
    /// The time of the latest rotation, or of the login before the first, in whole seconds.
    pub last_used_at: Timestamp,
    /// The earlier of the idle and the absolute end, in whole seconds. From this moment
    /// on, the session has ended.
    pub expires_at: Timestamp,
    /// The session is alive only while its epoch is at least the user's.
    pub epoch: u64,
    /// When reuse ended the session, in whole seconds. `None` if it did not.
    pub revoked_at: Option<Timestamp>,
    /// The client that made the latest rotation, or the login before the first.
    pub client: Client,
}

impl Session {
    /// Opens a session at `now`. Returns it with the secret for its tokens.
    pub fn open(user_id: UserId, epoch: u64, client: Client, now: Timestamp, lifetime: Lifetime) -> (Self, Secret) {
        let secret = Secret::random();
        let session = Self {
            id: SessionId::random(),
            user_id,
            generation: 1,
            secret_hash: secret.hash(),
            attempt: None,
            rotated_at: now,
            created_at: now.truncated(),
            opened_at: now,
            last_used_at: now.truncated(),
            expires_at: lifetime.end(now, lifetime.absolute_end(now)),
            epoch,
            revoked_at: None,
            client,
        };
        (session, secret)
    }

    /// Opens a session at `now` for an imported token that `attempt` presents: another
    /// system had opened it at `login`, and the imported token counts as its generation 0.
    /// Returns it with the secret for its tokens.
    pub fn adopt(
        (user_id, epoch): (UserId, u64),
        login: Timestamp,
        client: Client,
        attempt: Hash,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> (Self, Secret) {
        let (session, secret) = Self::open(user_id, epoch, client, now, lifetime);
        let session = Self {
            attempt: Some(attempt),
            created_at: login.truncated(),
            expires_at: lifetime.end(now, lifetime.absolute_end(login)),
            ..session
        };
        (session, secret)
    }

    /// Returns whether the session can be used at `now`: it is neither revoked nor
    /// expired, and its user allows it.
    pub fn is_live(&self, user: Option<UserState>, now: Timestamp) -> bool {
        self.is_open(now) && self.is_kept_by(user)
    }

    /// Returns whether the session is neither revoked nor expired at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at > now
    }

    /// Returns whether its user still allows the session: the user exists, is active
    /// and has not ended all sessions since this one was opened or last lifted to a new
    /// epoch.
    pub fn is_kept_by(&self, user: Option<UserState>) -> bool {
        user.is_some_and(|user| user.is_active && self.epoch >= user.epoch)
    }
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long a session lasts after its login or its latest rotation.
    pub idle: Duration,
    /// How long a session lasts after its login. No rotation extends this.
    pub absolute: Duration,
}

impl Lifetime {
    /// Returns the absolute end of a session that is opened at `login`, in whole seconds.
    pub fn absolute_end(self, login: Timestamp) -> Timestamp {
        (login + self.absolute).truncated()
    }

    /// Returns the end of a session that rotates at `now` and not again, in whole seconds.
    pub fn end(self, now: Timestamp, absolute_end: Timestamp) -> Timestamp {
        (now + self.idle).truncated().min(absolute_end)
    }
}

/// The secret of a session: 256 random bits that only its client keeps.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Generates a secret.
    pub fn random() -> Self {
        Self(entropy::bytes())
    }

    /// Returns the secret with the bytes that a token carries.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, which belong in a token and nowhere else.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the hash that the table keeps.
    pub fn hash(&self) -> Hash {
        Hash::of(&[&self.0])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

/// A SHA-256 hash. Hashes are compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Hashes the concatenation of `parts`.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// Reads a hash from the table. Returns `None` unless it has 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes, as the table holds them.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash([REDACTED])")
    }
}

/// One attempt to refresh: an authentic token, and the request that brought it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The generation of the token.
    pub generation: u64,
    /// The hash of the token's secret.
    pub secret_hash: Hash,
    /// Identifies the attempt, so that an attempt that is made twice rotates once.
    pub key: Hash,
    /// The moment of the refresh.
    pub now: Timestamp,
    /// The setting REFRESH_REUSE_INTERVAL_SECONDS.
    pub reuse_interval: Duration,
}

impl Attempt {
    /// Returns whether this attempt rotates `session`. This is the condition of the write.
    ///
    /// The generations are compared with `<=`, not `=`: an authentic token can be ahead
    /// of the table, when the table was restored from a backup or a replica lags.
    pub fn may_rotate(&self, session: &Session) -> bool {
        session.secret_hash == self.secret_hash
            && session.generation <= self.generation
            && session.is_open(self.now)
            && !self.is_within_interval(session)
    }

    /// Returns `session` with the token's successor as its current token. This is the write.
    pub fn rotate(&self, session: &Session, expires_at: Timestamp, client: Client) -> Session {
        Session {
            generation: self.generation + 1,
            attempt: Some(self.key),
            rotated_at: self.now,
            last_used_at: self.now.truncated(),
            expires_at,
            client,
            ..session.clone()
        }
    }

    /// Returns whether the latest rotation was within the reuse interval. A session
    /// that has never rotated has no late requests to wait for.
    fn is_within_interval(&self, session: &Session) -> bool {
        !self.reuse_interval.is_zero()
            && session.attempt.is_some()
            && session.rotated_at >= self.now - self.reuse_interval
    }
}

/// The outcome of the write that rotates a session: the session as written, or the
/// session as it was when the condition failed, if it exists.
pub type Rotation = Write<Session, Option<Session>>;

/// The outcome of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Issue the refresh token of this session's generation, and an access token.
    Issue {
        /// The session.
        session: Session,
        /// How it got to this generation.
        how: Issue,
    },
    /// Refuse the token.
    Refuse(Refusal),
    /// The token is spent: revoke the session, raise the alarm, refuse the token.
    Revoke(Session),
    /// The user is gone, disabled or has ended all sessions: delete this one and refuse
    /// the token, unless the session was lifted to the new epoch meanwhile. In that
    /// case, issue the tokens.
    Discard {
        /// The session to delete.
        session: Session,
        /// The state of the user, if there is one.
        user: Option<UserState>,
    },
    /// The session is in a state that no rotation leads to: raise an alarm and answer 503.
    Impossible,
}

/// Where an issued token comes from. `Display` writes it for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// This attempt rotated the session.
    Rotated,
    /// The same attempt had rotated the session before, and its answer was lost.
    Repeated,
    /// Another attempt rotated the session, within the reuse interval.
    Shared,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotated => "rotated",
            Self::Repeated => "repeated",
            Self::Shared => "shared",
        })
    }
}

/// Why a refresh token is refused. `Display` writes it for the log; the client is
/// not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session does not exist: it was ended, or deleted after its expiry.
    Ended,
    /// The session has expired.
    Expired,
    /// The secret of the token is not the session's.
    WrongSecret,
    /// Reuse ended the session.
    Revoked,
    /// The user is gone or disabled, or has ended all sessions.
    UserLocked,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::WrongSecret => "wrong_secret",
            Self::Revoked => "revoked",
            Self::UserLocked => "user_locked",
        })
    }
}

/// Decides the outcome of a refresh.
///
/// An attempt that made the write gets the successor. For any other, the refusals
/// without an alarm are checked first, then the two cases in which an earlier
/// answer may be given again. What remains is a spent token.
pub fn decide(attempt: &Attempt, write: Rotation, user: Option<UserState>) -> Decision {
    let n = attempt.generation;
    match write {
        Write::Done(session) => issue(session, Issue::Rotated, user),
        Write::Refused(None) => Decision::Refuse(Refusal::Ended),
        Write::Refused(Some(session)) => {
            if session.expires_at <= attempt.now {
                Decision::Refuse(Refusal::Expired)
            } else if session.secret_hash != attempt.secret_hash {
                Decision::Refuse(Refusal::WrongSecret)
            } else if session.revoked_at.is_some() {
                Decision::Refuse(Refusal::Revoked)
            } else if session.generation == n + 1 && session.attempt == Some(attempt.key) {
                issue(session, Issue::Repeated, user)
            } else if matches!(session.generation.checked_sub(n), Some(0 | 1)) && attempt.is_within_interval(&session) {
                issue(session, Issue::Shared, user)
            } else if session.generation > n {
                Decision::Revoke(session)
            } else {
                Decision::Impossible
            }
        }
    }
}

fn issue(session: Session, how: Issue, user: Option<UserState>) -> Decision {
    if session.is_kept_by(user) { Decision::Issue { session, how } } else { Decision::Discard { session, user } }
}
