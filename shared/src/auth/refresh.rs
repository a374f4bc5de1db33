//! Refreshing a session. `docs/rotation.md` describes the protocol.

use super::ring::Unverified;
use super::{App, Error, SignedIn, Tokens};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::config::DEADLINE;
use crate::mail::Kind;
use crate::metrics::{self, Metric};
use crate::session::{Attempt, Decision, Hash, Issue, Refusal, Rotation, Session, decide};
use crate::token::{KeyRing, RefreshToken, Rejection};
use crate::user::User;
use crate::write::Write;

impl App {
    /// Rotates a refresh token, with one write and one read in parallel. `key`
    /// identifies the attempt: the same token with the same key gets the same
    /// successor, until the next rotation.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidRefreshToken`] when the token is forged, expired or spent,
    ///   or its session has ended. A forged or expired token costs no call to
    ///   the database, unless imported tokens are accepted and it may be one.
    /// - [`Error::RateLimited`] when the session has used up its rotation budget
    /// - [`Error::Unavailable`] when the keys or the table cannot be read
    pub async fn refresh(&self, token: &str, key: Hash, client: Client) -> Result<Tokens, Error> {
        let now = self.now();
        if let Some(tokens) = self.config.imported_tokens.as_ref().filter(|tokens| tokens.may_include(token, now)) {
            return self.exchange(tokens, token, key, client, now).await.map(|refreshed| refreshed.tokens);
        }
        let presented = self.presented(token, now).await?;
        self.rotate(&presented, key, client, now).await.map(|refreshed| refreshed.tokens)
    }

    /// Verifies a refresh token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRefreshToken`] when it is forged or expired;
    /// [`Error::Unavailable`] when the keys cannot be read.
    pub(super) async fn presented(&self, token: &str, now: Timestamp) -> Result<RefreshToken, Error> {
        let verified = self.verified(|ring| self.config.refresh_tokens.verify(ring, token, now)).await;
        verified.map_err(|unverified| match unverified {
            Unverified::Rejected(rejection) => {
                let act = if rejection == Rejection::Expired { Act::SessionOver } else { Act::AccessDenied };
                self.record(Event::of(act).because(rejection));
                Error::InvalidRefreshToken { was_sent: true }
            }
            Unverified::Unknown(error) => error,
        })
    }

    /// Refreshes the session of a token that has been verified.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRefreshToken`] when the token is spent or its session has ended;
    /// [`Error::RateLimited`] when the session has used up its rotation budget;
    /// [`Error::Unavailable`] when the keys or the table cannot be read.
    pub(super) async fn rotate(
        &self,
        presented: &RefreshToken,
        key: Hash,
        client: Client,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let ring = &self.ring().await?;
        self.check_rotation_budget(presented, now)?;
        let attempt = self.attempt_with(presented, key, now);
        let expires_at = self.config.session_lifetime.end(now, presented.absolute_end);
        let (write, user) = tokio::join!(
            self.store.rotate(presented.user_id, presented.session_id, &attempt, expires_at, &client),
            self.store.user(presented.user_id),
        );
        self.settle(ring, presented, &attempt, write?, user?, &client).await
    }

    /// Decides the outcome of a refresh, and does what follows from it.
    ///
    /// # Errors
    ///
    /// Those of [`rotate`](Self::rotate), except for [`Error::RateLimited`].
    pub(super) async fn settle(
        &self,
        ring: &KeyRing,
        presented: &RefreshToken,
        attempt: &Attempt,
        write: Rotation,
        user: Option<User>,
        client: &Client,
    ) -> Result<SignedIn, Error> {
        let now = attempt.now;
        let session = match decide(attempt, write, user.as_ref().map(User::state)) {
            Decision::Issue { session, how } => {
                let act = if how == Issue::Rotated { Act::Rotated } else { Act::Reissued };
                self.record(about(presented, act).because(how));
                session
            }
            Decision::Refuse(refusal) => return Err(self.refuse(presented, refusal)),
            // The process was frozen. Its client has long been told to try again, and has gone on
            // elsewhere, which is why the token is spent.
            Decision::Revoke(_) if self.now() > now + DEADLINE * self.config.patience => {
                return Err(Error::unavailable());
            }
            Decision::Revoke(session) => {
                let revoked = self.revoke(presented, &session, attempt).await?;
                if let Some(user) = revoked.then_some(user).flatten() {
                    self.tell_of_reuse(&user, client, now).await;
                }
                return Err(Error::InvalidRefreshToken { was_sent: true });
            }
            Decision::Discard { session, user } => match self.store.discard_session(&session, user).await? {
                Write::Refused(()) => {
                    self.record(about(presented, Act::Rotated).because("lifted"));
                    session
                }
                Write::Done(()) => return Err(self.refuse(presented, Refusal::UserLocked)),
            },
            Decision::Impossible => {
                let RefreshToken { session_id, generation, .. } = presented;
                metrics::count(Metric::ImpossibleSessions);
                tracing::error!(session.id = %session_id, token.generation = generation, "impossible session");
                return Err(Error::unavailable());
            }
        };
        let user = user.ok_or_else(Error::unavailable)?;
        let tokens = self.tokens(ring, &user, &session, &presented.successor(&session), now)?;
        Ok(SignedIn { user, tokens, device_token: None })
    }

    /// Returns the attempt with this key to refresh with a token.
    pub(super) fn attempt_with(&self, presented: &RefreshToken, key: Hash, now: Timestamp) -> Attempt {
        Attempt {
            generation: presented.generation,
            secret_hash: presented.secret.hash(),
            key,
            now,
            reuse_interval: self.config.reuse_interval,
        }
    }

    /// Checks that the session has not rotated more than `burst` times, plus
    /// `per_lifetime` times for each access-token lifetime since the login. The number
    /// of rotations, this one included, is the token's generation.
    fn check_rotation_budget(&self, presented: &RefreshToken, now: Timestamp) -> Result<(), Error> {
        let budget = self.config.rotation_budget;
        let lifetime = self.config.access_tokens.lifetime.as_millis().max(1) as i64;
        let age = now.millis() - presented.login.millis();
        let allowance = (age.max(0) / lifetime) as u64 * budget.per_lifetime + budget.burst;
        if presented.generation <= allowance {
            return Ok(());
        }
        self.record(about(presented, Act::LimitExceeded).because("rotation_budget"));
        let lifetimes = (presented.generation - budget.burst).div_ceil(budget.per_lifetime) as i64;
        let wait = lifetimes.saturating_mul(lifetime) - age;
        Err(Error::RateLimited(std::time::Duration::from_millis(wait.max(0) as u64)))
    }

    /// Ends a session whose spent token was presented again. The thief and the client
    /// must then both log in again, which only the client can do. Returns whether this
    /// attempt ended it, and not another one before.
    async fn revoke(&self, presented: &RefreshToken, session: &Session, attempt: &Attempt) -> Result<bool, Error> {
        match self.store.revoke_session(session, attempt).await? {
            Write::Done(()) => {
                let behind = session.generation - presented.generation;
                self.record(about(presented, Act::Reused).because(format_args!("spent {behind} generation(s) ago")));
                Ok(true)
            }
            Write::Refused(()) => {
                self.refuse(presented, Refusal::Revoked);
                Ok(false)
            }
        }
    }

    /// Writes the notice of a reuse. The session has ended already, because nothing may
    /// stand in the way of that, so a failure is only logged.
    async fn tell_of_reuse(&self, user: &User, client: &Client, now: Timestamp) {
        let Some(notice) = self.notice(Kind::Reused, user, client, now) else { return };
        if let Err(error) = self.store.put_mail(&notice).await {
            tracing::warn!(user.id = %user.id, %error, "the notice of a reuse was not written");
        }
    }

    fn refuse(&self, presented: &RefreshToken, refusal: Refusal) -> Error {
        self.record(about(presented, Act::SessionOver).because(refusal));
        Error::InvalidRefreshToken { was_sent: true }
    }
}

fn about(presented: &RefreshToken, act: Act) -> Event {
    Event::of(act).about(presented.user_id).in_session(presented.session_id).with_token(presented.generation)
}
