//! Logging in: a new session for a user with a password.

use super::{App, Error, SignedIn};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::{SessionId, UserId};
use crate::mail::Kind;
use crate::password::{Check, Password, PasswordHash};
use crate::session::Session;
use crate::user::{Credential, User, UserState};
use crate::write::Write;

/// How often a login is attempted when the user's epoch changes during it.
const TRIES: usize = 2;

/// The most sessions beyond the cap that one login ends, besides the one that it
/// displaces: the most members of a DynamoDB transaction.
const MOST_BEYOND_CAP: usize = 100;

/// How many expired sessions a login deletes, once there are as many: the most members of
/// a DynamoDB transaction. Fewer are left to the table's TTL, which deletes them for
/// nothing, though it may take days.
const EXPIRED: usize = 100;

impl App {
    /// Checks a password and opens a session, in three round trips: the credential is
    /// read while the guess is counted; the user and the sessions are read while the
    /// hash is computed; the new session is written while the guess is given back and
    /// sessions beyond the cap, or a hundred expired ones, are deleted. A device token that
    /// the account does not accept costs one more.
    ///
    /// With NOTIFY_NEW_DEVICE, the owner gets a notice of an unknown device.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCredentials`] for an unknown address, a wrong password and a
    /// disabled user, after the same work in each case; [`Error::RateLimited`] after
    /// too many wrong passwords, whether or not the account exists;
    /// [`Error::Unavailable`] when DynamoDB fails or no turn for hashing came in time.
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
            let (guess, credential) = self.count_guess(ring, &email, &client, device_token).await?;
            let (user, sessions, credential, is_outdated) = match self.check_login(&password, credential).await {
                Ok(Some(checked)) => checked,
                Err(Error::InvalidCredentials) => return Err(Error::InvalidCredentials),
                Err(error) => {
                    self.take_back(guess).await;
                    return Err(error);
                }
                Ok(None) => {
                    self.take_back(guess).await;
                    continue;
                }
            };
            let now = self.now();
            let is_told = self.config.notify_new_device && !guess.is_from_known_device();
            let notice = is_told.then(|| self.notice(Kind::NewDevice, &user, &client, now)).flatten();
            let (session, secret) = Session::open(user.id, user.epoch, client, now, self.config.session_lifetime);
            let tokens = self.tokens(ring, &user, &session, &self.first_token(&session, secret), now)?;
            let device_token = if guess.is_from_known_device() {
                None
            } else {
                Some(self.config.device_tokens.issue(ring, user.id, credential.password_changed_at, now)?)
            };
            let ending = sessions_to_end(&sessions, user.state(), now, self.config.max_sessions);
            let (displaced, beyond_cap) = match ending.split_first() {
                Some((displaced, beyond_cap)) => (Some(*displaced), beyond_cap),
                None => (None, &[][..]),
            };
            let rehash = async {
                if is_outdated {
                    self.rehash(&email, &password, &credential.password_hash).await;
                }
            };
            let (opened, beyond_cap, (), (), ()) = tokio::join!(
                self.store.open_session(&session, displaced, notice.as_ref()),
                self.end_beyond_cap(user.id, beyond_cap),
                self.delete_expired(user.id, &sessions, now),
                rehash,
                self.give_back(guess),
            );
            let record_ended = |session: &SessionId| {
                self.record(Event::of(Act::Revoked).about(user.id).in_session(*session).because("too_many_sessions"));
            };
            beyond_cap.iter().for_each(record_ended);
            opened?.iter().for_each(record_ended);
            self.record(Event::of(Act::LoggedIn).about(user.id).in_session(session.id));
            return Ok(SignedIn { user, tokens, device_token });
        }
        Err(Error::unavailable())
    }

    /// Checks a password against `credential`. Returns the user, the user's sessions, the
    /// credential, and whether its hash is outdated; or `None` when the user's epoch has
    /// changed since the credential was read.
    ///
    /// Without a credential, the same work is done on a partition that does not exist,
    /// so that the response time does not reveal whether the address has an account.
    async fn check_login(
        &self,
        password: &Password,
        credential: Option<Credential>,
    ) -> Result<Option<(User, Vec<Session>, Credential, bool)>, Error> {
        let known = credential.as_ref().map(|credential| credential.user_id);
        // A wrong password is refused as soon as the hash says so, however long
        // the read beside it takes.
        let check = async {
            let hash = credential.as_ref().map(|credential| &credential.password_hash);
            match self.hasher.verify(password, hash).await? {
                Check::Right { is_outdated } => Ok(is_outdated),
                Check::Wrong if known.is_none() => Err(self.refuse_login("unknown_address", None)),
                Check::Wrong => Err(self.refuse_login("wrong_password", known)),
                Check::Unreadable => Err(self.refuse_login("unreadable_hash", known)),
            }
        };
        let read = async { Ok(self.store.user_and_first_sessions(known.unwrap_or_else(UserId::random)).await) };
        let (is_outdated, read) = tokio::try_join!(check, read)?;
        let (user, sessions) = read?;
        let (Some(credential), Some(user)) = (credential, user) else {
            return Err(self.refuse_login("user_gone", known));
        };
        if !user.is_active {
            return Err(self.refuse_login("user_disabled", known));
        }
        // The password that was checked may be one that has just been changed:
        // the session would be dead on arrival.
        if user.epoch != credential.epoch {
            return Ok(None);
        }
        Ok(Some((user, sessions, credential, is_outdated)))
    }

    /// Deletes sessions beyond the cap, and returns those that it deleted. Sessions
    /// that cannot be deleted are left for the next login.
    async fn end_beyond_cap<'a>(&self, user: UserId, sessions: &'a [SessionId]) -> &'a [SessionId] {
        match self.store.delete_sessions(user, sessions).await {
            Ok(Write::Done(())) => sessions,
            Ok(Write::Refused(())) => &[],
            Err(error) => {
                tracing::warn!(user.id = %user, %error, "sessions beyond the cap were not deleted");
                &[]
            }
        }
    }

    /// Deletes a hundred expired sessions if there are as many, so that logins do not read
    /// ever more of them. A failure is only logged.
    async fn delete_expired(&self, user: UserId, sessions: &[Session], now: Timestamp) {
        let expired = sessions.iter().filter(|session| session.expires_at <= now);
        let expired: Vec<_> = expired.map(|session| session.id).take(EXPIRED).collect();
        if expired.len() < EXPIRED {
            return;
        }
        match self.store.delete_expired_sessions(user, &expired, now).await {
            Ok(Write::Done(()) | Write::Refused(())) => {}
            Err(error) => tracing::warn!(user.id = %user, %error, "expired sessions were not deleted"),
        }
    }

    fn refuse_login(&self, reason: &'static str, user: Option<UserId>) -> Error {
        let event = Event::of(Act::LoginRefused).because(reason);
        self.record(user.into_iter().fold(event, Event::about));
        Error::InvalidCredentials
    }

    /// Replaces an outdated hash. A failure is only logged.
    async fn rehash(&self, email: &Email, password: &Password, old: &PasswordHash) {
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

/// Returns the sessions to end so that at most `most` are live, a new one included:
/// those with the oldest logins, the oldest first, and no more than one login may end.
pub(super) fn sessions_to_end(sessions: &[Session], user: UserState, now: Timestamp, most: usize) -> Vec<SessionId> {
    let mut live: Vec<_> = sessions.iter().filter(|session| session.is_live(Some(user), now)).collect();
    live.sort_unstable_by_key(|session| (session.opened_at, session.id));
    let too_many = (live.len() + 1).saturating_sub(most);
    live.into_iter().take(too_many.min(1 + MOST_BEYOND_CAP)).map(|session| session.id).collect()
}
