//! A new session for a user with a password.

use super::{App, Error, SignedIn};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::email::Email;
use crate::id::UserId;
use crate::password::{Password, PasswordHash};
use crate::session::Session;
use crate::store::StoreError;
use crate::user::{Credential, User};
use crate::write::Write;

/// How often a login starts again because the user's epoch moved under it.
const TRIES: usize = 2;

impl App {
    /// Checks a password and opens a session, in three round trips: the
    /// credential, while the guess is counted; the user with all sessions, while
    /// the hash is computed; the new session, in place of the oldest where the
    /// user has too many, while the guess is given back.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCredentials`] for an unknown address, a wrong password
    /// and a disabled user alike, after the same work; and, alike again,
    /// [`Error::RateLimited`] after too many of them.
    pub async fn login(
        &self,
        email: &str,
        password: &str,
        client: Client,
        device_token: Option<&str>,
    ) -> Result<SignedIn, Error> {
        let ring = &self.ring().await?;
        let (Ok(email), Some(password)) = (Email::parse(email), Password::presented(password)) else {
            return Err(self.refuse_login("impossible_credentials", None));
        };
        for _ in 0..TRIES {
            let guess = self.guess(ring, &email, &client, device_token);
            let (counted, credential) = tokio::join!(self.count(&guess), self.store.credential(&email));
            counted?;
            let (user, sessions, hash) = match self.check_login(&password, credential).await {
                Ok(Some(checked)) => checked,
                Err(Error::InvalidCredentials) => return Err(Error::InvalidCredentials),
                Err(error) => {
                    self.take_back(&guess).await;
                    return Err(error);
                }
                Ok(None) => {
                    self.take_back(&guess).await;
                    continue;
                }
            };
            let now = self.now();
            let (session, secret) = Session::open(user.id, user.epoch, client, now, self.config.session_lifetime);
            let tokens = self.tokens(ring, &user, &session, &self.first_token(&session, secret), now)?;
            let device_token = if guess.is_from_known_device() {
                None
            } else {
                Some(self.config.device_tokens.issue(ring, &email, now)?)
            };
            let live = sessions.iter().filter(|session| session.is_live(Some(user.state()), now));
            let evicted = (live.clone().count() >= self.config.max_sessions)
                .then(|| live.min_by_key(|session| session.created_at))
                .flatten();
            let (opened, (), ()) = tokio::join!(
                self.store.open_session(&session, evicted.map(|session| session.id)),
                self.rehash(&email, &password, &hash),
                self.give_back(&guess),
            );
            opened?;
            if let Some(evicted) = evicted {
                self.record(Event::of(Act::Revoked).about(user.id).in_session(evicted.id).because("too_many_sessions"));
            }
            self.record(Event::of(Act::LoggedIn).about(user.id).in_session(session.id));
            return Ok(SignedIn { user, tokens, device_token });
        }
        Err(Error::unavailable())
    }

    /// The user whose password it is, with all sessions and the hash that says
    /// so. `None` when the user's epoch moved under it.
    async fn check_login(
        &self,
        password: &Password,
        credential: Result<Option<Credential>, StoreError>,
    ) -> Result<Option<(User, Vec<Session>, PasswordHash)>, Error> {
        let Some(credential) = credential? else {
            self.hasher.verify(password, None).await?;
            return Err(self.refuse_login("unknown_address", None));
        };
        // A wrong password is refused when an unknown address would be: as soon
        // as the hash says so, whatever becomes of the read beside it.
        let check = async {
            let is_right = self.hasher.verify(password, Some(&credential.password_hash)).await?;
            is_right.then_some(()).ok_or_else(|| self.refuse_login("wrong_password", Some(credential.user_id)))
        };
        let read = async { Ok(self.store.user_and_sessions(credential.user_id).await) };
        let ((), user) = tokio::try_join!(check, read)?;
        let (Some(user), sessions) = user? else {
            return Err(self.refuse_login("user_gone", Some(credential.user_id)));
        };
        if !user.is_active {
            return Err(self.refuse_login("user_disabled", Some(user.id)));
        }
        // The password that was checked may be one that has just been changed:
        // the session would be dead on arrival.
        if user.epoch != credential.epoch {
            return Ok(None);
        }
        Ok(Some((user, sessions, credential.password_hash)))
    }

    fn refuse_login(&self, reason: &'static str, user: Option<UserId>) -> Error {
        let event = Event::of(Act::LoginRefused).because(reason);
        self.record(user.into_iter().fold(event, Event::about));
        Error::InvalidCredentials
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
            Ok(Write::Done(()) | Write::Refused(())) => {}
            Err(error) => tracing::warn!(%error, "an outdated password hash was not replaced"),
        }
    }
}
