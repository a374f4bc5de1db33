//! Identifies the caller of a request by its access token, and renews a token that is
//! about to expire.

use std::time::Duration;

use super::ring::Unverified;
use super::{App, Error, Tokens};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::Hash;
use crate::token::{AccessToken, RefreshToken, Rejection};
use crate::user::User;

/// How long before its expiry an access token is renewed, but at most half its lifetime.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// The caller of a function, as identified by an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// The session that the access token belongs to.
    pub session_id: SessionId,
    /// The user's roles when the access token was issued.
    pub roles: Vec<String>,
    /// Whether the user had proven the e-mail address when the access token was issued.
    pub email_verified: bool,
}

impl Identity {
    /// Returns whether the user has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

/// A caller who was admitted.
#[derive(Debug)]
pub struct Admitted {
    /// The caller.
    pub identity: Identity,
    /// The new tokens of the session, if it was refreshed.
    pub renewed: Option<Tokens>,
}

/// Why a session was not refreshed.
enum NotRenewed {
    /// The refresh token belongs to another session or user than the access
    /// token: the request is refused, even if the access token is still good.
    OtherSession,
    /// The access token expires when its session ends, so a refresh would not
    /// gain any time.
    NotDue,
    /// The refresh failed: the request fails too, if its access token has expired.
    Failed(Error),
}

impl App {
    /// Admits a caller by the access token of a request. If the token has expired or is
    /// about to, and the request also has a refresh token, the session is refreshed
    /// first. Requests with the same pair of tokens count as one attempt, and all get
    /// the same refresh token.
    ///
    /// An access token signed with an algorithm other than JWT_ALGORITHM counts as
    /// expired: it can be renewed, but does not admit the caller.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidToken`] when the access token is missing or forged, or has
    ///   expired and the request has no refresh token; with CHECK_SESSION_ON_EVERY_CALL
    ///   also when the session has ended
    /// - [`Error::InvalidRefreshToken`] when the two tokens belong to different
    ///   sessions, or the access token has expired and the refresh token is forged,
    ///   expired or spent
    /// - [`Error::RateLimited`] when the access token has expired and the session has
    ///   used up its rotation budget
    /// - [`Error::Unavailable`] when the keys or the table cannot be read
    pub async fn admit(&self, access: Option<&str>, refresh: Option<&str>, client: Client) -> Result<Admitted, Error> {
        let now = self.now();
        let access = access.ok_or(Error::InvalidToken { was_sent: false })?;
        let read = self.verified(|ring| self.config.access_tokens.read(ring, access, now)).await;
        let access = read.map_err(|unverified| match unverified {
            Unverified::Rejected(rejection) => {
                self.record(Event::of(Act::AccessDenied).because(rejection));
                Error::InvalidToken { was_sent: true }
            }
            Unverified::Unknown(error) => error,
        })?;
        let has_expired = self.config.access_tokens.has_expired(&access, now);
        if let Some(refresh) = refresh.filter(|_| has_expired || is_due(&access, now)) {
            match self.renew(&access, refresh, client, now).await {
                Ok(admitted) => return Ok(admitted),
                Err(NotRenewed::OtherSession) => return Err(Error::InvalidRefreshToken { was_sent: true }),
                Err(NotRenewed::NotDue) => {}
                Err(NotRenewed::Failed(error)) if has_expired => return Err(error),
                Err(NotRenewed::Failed(error)) => tracing::debug!(%error, "not renewed, and not yet expired"),
            }
        }
        if !access.is_of_algorithm {
            self.record(Event::of(Act::AccessDenied).because(Rejection::Algorithm));
            return Err(Error::InvalidToken { was_sent: true });
        }
        if has_expired {
            tracing::debug!(session.id = %access.session_id, "access token expired");
            return Err(Error::InvalidToken { was_sent: true });
        }
        if self.config.check_session_on_every_call {
            self.check_session(&access, now).await?;
        }
        let AccessToken { user_id, session_id, roles, email_verified, .. } = access;
        Ok(Admitted { identity: Identity { user_id, session_id, roles, email_verified }, renewed: None })
    }

    /// Refreshes the session of `access`.
    async fn renew(
        &self,
        access: &AccessToken,
        refresh: &str,
        client: Client,
        now: Timestamp,
    ) -> Result<Admitted, NotRenewed> {
        let presented = self.presented(refresh, now).await.map_err(NotRenewed::Failed)?;
        if (presented.user_id, presented.session_id) != (access.user_id, access.session_id) {
            let denied = Event::of(Act::AccessDenied).about(access.user_id).in_session(access.session_id);
            self.record(denied.because(format_args!("refresh token of session {}", presented.session_id)));
            return Err(NotRenewed::OtherSession);
        }
        if access.is_of_algorithm && access.expires_at >= presented.absolute_end {
            return Err(NotRenewed::NotDue);
        }
        let key = Hash::of(&[b"access-token:", access.id.as_bytes()]);
        let refreshed = self.rotate(&presented, key, client, now).await.map_err(NotRenewed::Failed)?;
        let RefreshToken { user_id, session_id, .. } = presented;
        let email_verified = refreshed.user.is_verified();
        let User { roles, .. } = refreshed.user;
        let identity = Identity { user_id, session_id, roles, email_verified };
        Ok(Admitted { identity, renewed: Some(refreshed.tokens) })
    }

    /// Checks that a caller has proven the e-mail address. If the access token says no,
    /// the user is read, so that a confirmation counts at once. The session is read too:
    /// if the owner of the address has reset the password, the caller may be somebody
    /// else who had registered it.
    ///
    /// # Errors
    ///
    /// [`Error::EmailUnverified`] when the address is not proven;
    /// [`Error::Unavailable`] when the table cannot be read.
    pub async fn check_verified(&self, caller: &Identity) -> Result<(), Error> {
        if caller.email_verified {
            return Ok(());
        }
        let Identity { user_id, session_id, .. } = *caller;
        let (user, session) = tokio::join!(self.store.user(user_id), self.store.session(user_id, session_id));
        let (user, session) = (user?, session?);
        let state = user.as_ref().map(User::state);
        let is_live = session.is_some_and(|session| session.is_live(state, self.now()));
        if is_live && user.is_some_and(|user| user.is_verified()) {
            return Ok(());
        }
        let denied = Event::of(Act::AccessDenied).about(caller.user_id).in_session(caller.session_id);
        self.record(denied.because("email_unverified"));
        Err(Error::EmailUnverified)
    }

    /// Checks that the session of `access` is still alive, with two parallel reads.
    async fn check_session(&self, access: &AccessToken, now: Timestamp) -> Result<(), Error> {
        let (session, user) =
            tokio::join!(self.store.session(access.user_id, access.session_id), self.store.user(access.user_id));
        let (session, user) = (session?, user?);
        let user = user.as_ref().map(User::state);
        match session {
            Some(session) if session.is_live(user, now) => Ok(()),
            _ => Err(Error::InvalidToken { was_sent: true }),
        }
    }
}

/// Returns whether an access token is about to expire.
fn is_due(access: &AccessToken, now: Timestamp) -> bool {
    let lifetime = access.expires_at.millis() - access.issued_at.millis();
    let window = RENEWAL.min(Duration::from_millis(lifetime.max(0) as u64 / 2));
    access.expires_at - window <= now
}
