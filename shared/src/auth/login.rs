//! A new session for a user with a password.

use super::{App, Error, SignedIn};
use crate::email::Email;
use crate::password::{Password, PasswordHash};
use crate::session::{Client, Session};
use crate::store::Outcome;

/// How often a login starts again because the user's epoch moved under it.
const TRIES: usize = 2;

impl App {
    /// Checks a password and opens a session, in three round trips: the
    /// credential; the user with all sessions, while the hash is computed; the
    /// new session, in place of the oldest where the user has too many.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCredentials`] for an unknown address, a wrong password
    /// and a disabled user alike, after the same work.
    pub async fn login(&self, email: &str, password: &str, client: Client) -> Result<SignedIn, Error> {
        let keys = self.keys().await?;
        let (Ok(email), Some(password)) = (Email::parse(email), Password::presented(password)) else {
            return Err(Error::InvalidCredentials);
        };
        for _ in 0..TRIES {
            let Some(credential) = self.store.credential(&email).await? else {
                self.hasher.verify(&password, None).await?;
                return Err(refused("unknown address"));
            };
            let (is_right, user) = tokio::join!(
                self.hasher.verify(&password, Some(&credential.password_hash)),
                self.store.user_and_sessions(credential.user_id),
            );
            if !is_right? {
                return Err(refused("wrong password"));
            }
            let (Some(user), sessions) = user? else {
                return Err(refused("user gone"));
            };
            if !user.is_active {
                return Err(refused("user disabled"));
            }
            // The password that was checked may be one that has just been
            // changed: the session would be dead on arrival.
            if user.epoch != credential.epoch {
                continue;
            }
            let now = self.now();
            let (session, secret) = Session::open(user.id, user.epoch, client, now, self.config.session_lifetime);
            let tokens = self.tokens(keys, &user, &session, &self.first_token(&session, secret), now)?;
            let live = sessions.iter().filter(|session| session.is_live(now) && session.epoch >= user.epoch);
            let evicted = (live.clone().count() >= self.config.max_sessions)
                .then(|| live.min_by_key(|session| session.created_at))
                .flatten();
            let (opened, ()) = tokio::join!(
                self.store.open_session(&session, evicted.map(|session| session.id)),
                self.rehash(&email, &password, &credential.password_hash),
            );
            opened?;
            tracing::info!(user.id = %user.id, session.id = %session.id, "logged in");
            return Ok(SignedIn { user, tokens });
        }
        Err(Error::unavailable())
    }

    /// Replaces a hash of an outdated work factor. A failure is logged and no more.
    async fn rehash(&self, email: &Email, password: &Password, old: &PasswordHash) {
        if !self.hasher.is_outdated(old) {
            return;
        }
        let replaced = async {
            let new = self.hasher.hash(password).await?;
            Ok::<_, Error>(self.store.rehash(email, old, &new).await?)
        };
        match replaced.await {
            Ok(Outcome::Done | Outcome::Refused) => {}
            Err(error) => tracing::warn!(%error, "an outdated password hash was not replaced"),
        }
    }
}

fn refused(reason: &'static str) -> Error {
    tracing::info!(reason, "login refused");
    Error::InvalidCredentials
}
