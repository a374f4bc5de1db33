//! What signed-in users can do with their own account.

use std::time::Duration;

use futures_util::future::join_all;

use super::guess::CountedGuess;
use super::register::profile_faults;
use super::{App, Error, FieldError, GONE, Identity};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::id::{SessionId, UserId};
use crate::limit::Counter;
use crate::mail::{Kind, Mail};
use crate::password::{Check, Password};
use crate::session::Session;
use crate::store::{Ending, NotEnded, StoreError};
use crate::user::{Credential, ProfileChange, User};
use crate::write::Write;

/// How often a change is attempted when another change comes between its read and its write.
const TRIES: usize = 2;
/// How often a user may change the password within a day. Each change voids the links
/// that reset it, so a thief who knows the password could otherwise keep the owner from
/// a reset.
pub(super) const PASSWORD_CHANGES: u64 = 10;
/// How long an answer waits for the deletion of dead sessions, well within the
/// functions' deadline.
const SWEEP: Duration = Duration::from_secs(2);
/// How many dead sessions are deleted at the same time.
const SWEPT_AT_ONCE: usize = 25;

impl App {
    /// Returns the caller's own record.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn user(&self, caller: &Identity) -> Result<User, Error> {
        self.store.user(caller.user_id).await?.filter(|user| user.is_active).ok_or(GONE)
    }

    /// Changes profile fields; a `None` removes a field. Returns the changed user.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] naming every field with a value that is not accepted;
    /// [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn update_profile(&self, caller: &Identity, changes: &[ProfileChange]) -> Result<User, Error> {
        let faults = profile_faults(changes.iter().map(|(field, value)| (*field, value.as_deref())));
        if !faults.is_empty() {
            return Err(Error::Validation(faults));
        }
        if changes.is_empty() {
            return self.user(caller).await;
        }
        let user = self.store.update_profile(caller.user_id, changes).await?.ok_or(GONE)?;
        self.record(Event::of(Act::UserUpdated).about(user.id).in_session(caller.session_id).because("profile"));
        Ok(user)
    }

    /// Returns the caller's live sessions, the latest login first.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn sessions(&self, caller: &Identity) -> Result<Vec<Session>, Error> {
        let (user, mut sessions) = self.store.user_and_sessions(caller.user_id).await?;
        let user = user.filter(|user| user.is_active).ok_or(GONE)?;
        let now = self.now();
        sessions.retain(|session| session.is_live(Some(user.state()), now));
        sessions.sort_by_key(|session| std::cmp::Reverse((session.opened_at, session.id)));
        Ok(sessions)
    }

    /// Ends one of the caller's own sessions.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the session is not alive or belongs to another user;
    /// [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn end_session(&self, caller: &Identity, session: SessionId) -> Result<(), Error> {
        if !self.sessions(caller).await?.iter().any(|live| live.id == session) {
            return Err(Error::NotFound);
        }
        self.delete_session(caller.user_id, session, "ended_by_user").await
    }

    /// Ends every session of the caller; with `keep_current`, all but the calling one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] when the user is gone or disabled, or the session to
    /// keep is not alive; [`Error::Unavailable`] when DynamoDB fails or the user keeps
    /// changing.
    pub async fn end_sessions(&self, caller: &Identity, keep_current: bool) -> Result<(), Error> {
        let kept = keep_current.then_some(caller.session_id);
        for _ in 0..TRIES {
            let user = self.user(caller).await?;
            if self.end(&user, Ending::Sessions, kept, None).await? == Write::Done(()) {
                let reason = if keep_current { "all_but_this_ended_by_user" } else { "all_ended_by_user" };
                self.record(Event::of(Act::Revoked).about(user.id).in_session(caller.session_id).because(reason));
                self.sweep(user.id).await;
                return Ok(());
            }
        }
        Err(Error::unavailable())
    }

    /// Changes the password and ends every session but the calling one.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] naming `current_password` when it is wrong, or
    /// `new_password` when it is weak; [`Error::RateLimited`] after too many wrong
    /// passwords, here or at login, or ten changes in a day; [`Error::InvalidToken`]
    /// when the user is gone or disabled, or the calling session has ended;
    /// [`Error::Unavailable`] when DynamoDB fails, the user keeps changing, or no turn
    /// for hashing came in time.
    pub async fn change_password(
        &self,
        caller: &Identity,
        current: &str,
        new: &str,
        client: &Client,
        device_token: Option<&str>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let user = self.user(caller).await?;
            let new = self.new_password(new, Some(&user.email));
            let new = new.map_err(|weak| Error::Validation(vec![FieldError::password("new_password", weak)]))?;
            // Boxed, because the futures of the SDK are large.
            let check = Box::pin(self.check_password(&user, "current_password", current, client, device_token));
            let (guess, credential) = check.await?;
            let counter = Counter::password_changes(user.id);
            let counted = self.count_request(&counter, PASSWORD_CHANGES, "password_changes");
            let (new, counted, ()) = tokio::join!(self.hasher.hash(&new), counted, self.give_back(guess));
            counted?;
            let ending = Ending::Password { old: &credential, new: &new? };
            let notice = self.notice(Kind::PasswordChanged, &user, client, self.now());
            if self.end(&user, ending, Some(caller.session_id), notice.as_ref()).await? == Write::Done(()) {
                self.record(Event::of(Act::PasswordChanged).about(user.id).in_session(caller.session_id));
                self.sweep(user.id).await;
                return Ok(());
            }
        }
        Err(Error::unavailable())
    }

    /// Deletes the caller's user, credential and sessions.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] naming `password` when it is wrong; [`Error::RateLimited`]
    /// after too many wrong passwords, here or at login; [`Error::InvalidToken`] when
    /// the user is gone or disabled; [`Error::Unavailable`] when DynamoDB fails, the
    /// user keeps changing, or no turn for hashing came in time.
    pub async fn delete_user(
        &self,
        caller: &Identity,
        password: &str,
        client: &Client,
        device_token: Option<&str>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let user = self.user(caller).await?;
            let check = Box::pin(self.check_password(&user, "password", password, client, device_token));
            let (guess, credential) = check.await?;
            let notice = self.notice(Kind::AccountDeleted, &user, client, self.now());
            let delete = self.store.delete_user(&user, Some(&credential.password_hash), notice.as_ref());
            let (deleted, ()) = tokio::join!(delete, self.give_back(guess));
            if deleted? == Write::Done(()) {
                self.record(Event::of(Act::UserDeleted).about(user.id).in_session(caller.session_id));
                self.sweep(user.id).await;
                return Ok(());
            }
        }
        Err(Error::unavailable())
    }

    /// Ends the user's sessions and writes `notice`. [`Write::Refused`] when the user has
    /// changed since the read. The caller records the act and then sweeps.
    pub(super) async fn end(
        &self,
        user: &User,
        ending: Ending<'_>,
        kept: Option<SessionId>,
        notice: Option<&Mail>,
    ) -> Result<Write, Error> {
        match self.store.end_sessions(user, ending, kept, notice, self.now()).await? {
            Write::Done(()) => Ok(Write::Done(())),
            Write::Refused(NotEnded::Raced) => Ok(Write::Refused(())),
            Write::Refused(NotEnded::KeptSessionDead) => Err(GONE),
        }
    }

    /// Counts a guess at the password and checks it. If it is right, returns the guess,
    /// which the caller must give back, and the credential.
    pub(super) async fn check_password(
        &self,
        user: &User,
        field: &'static str,
        password: &str,
        client: &Client,
        device_token: Option<&str>,
    ) -> Result<(CountedGuess, Credential), Error> {
        let wrong = |reason| {
            let act = if field == "current_password" { Act::PasswordChangeRefused } else { Act::LoginRefused };
            self.record(Event::of(act).about(user.id).because(reason));
            Error::field(field, "password_wrong", "This is not the current password.")
        };
        let password = Password::presented(password).ok_or_else(|| wrong("wrong_password"))?;
        let ring = self.ring().await?;
        let (guess, credential) = self.count_guess(&ring, &user.email, client, device_token).await?;
        let checked = async {
            let credential = credential.filter(|credential| credential.user_id == user.id).ok_or(GONE)?;
            let check = self.hasher.verify(&password, Some(&credential.password_hash)).await?;
            Ok::<_, Error>((check, credential))
        };
        match checked.await {
            Ok((Check::Right { .. }, credential)) => Ok((guess, credential)),
            Ok((Check::Wrong, _)) => Err(wrong("wrong_password")),
            Ok((Check::Unreadable, _)) => Err(wrong("unreadable_hash")),
            Err(error) => {
                self.take_back(guess).await;
                Err(error)
            }
        }
    }

    /// Deletes the rows of a user's dead sessions. The sessions can no longer be used,
    /// so a failure is only logged, the caller waits at most [`SWEEP`], and the table's
    /// TTL deletes the rest.
    pub(super) async fn sweep(&self, id: UserId) {
        match tokio::time::timeout(SWEEP, self.delete_dead_sessions(id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(user.id = %id, %error, "dead sessions were not deleted"),
            Err(_elapsed) => tracing::warn!(user.id = %id, "dead sessions were not deleted in time"),
        }
    }

    /// Deletes the rows of a user's dead sessions, except for those that reuse has ended.
    /// Expired ones of a user who is still there are left to the table's TTL, which deletes
    /// them for nothing: there may be thousands.
    pub(super) async fn delete_dead_sessions(&self, id: UserId) -> Result<(), StoreError> {
        let (user, sessions) = self.store.user_and_sessions(id).await?;
        let (user, now) = (user.as_ref().map(User::state), self.now());
        let is_left = |session: &Session| session.revoked_at.is_some() || user.is_some() && session.expires_at <= now;
        let dead = sessions.iter().filter(|session| !session.is_kept_by(user) && !is_left(session));
        for some in dead.collect::<Vec<_>>().chunks(SWEPT_AT_ONCE) {
            let deletions = some.iter().map(|session| self.store.discard_session(session, user));
            join_all(deletions).await.into_iter().try_for_each(|discarded| discarded.map(drop))?;
        }
        Ok(())
    }
}
