//! Who calls: the access token of a request, renewed where it is about to expire.

use std::time::Duration;

use super::{App, Error, Tokens};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::Hash;
use crate::token::{AccessToken, RefreshToken};
use crate::user::User;

/// How long before its expiry an access token is renewed; half its lifetime,
/// where that is shorter.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// The caller of a function, by an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user_id: UserId,
    /// By which session.
    pub session_id: SessionId,
    /// What the user could do when the token was issued.
    pub roles: Vec<String>,
}

impl Identity {
    /// Whether the user has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

/// A caller who is let in.
#[derive(Debug)]
pub struct Admitted {
    /// Who it is.
    pub identity: Identity,
    /// The session's new tokens, if it was refreshed on the way.
    pub renewed: Option<Tokens>,
}

/// Why a session was not refreshed on the way.
enum NotRenewed {
    /// The refresh token belongs to another session or user than the access
    /// token: the request is refused, even if the access token is still good.
    OtherSession,
    /// The refresh failed: the request fails with it only if its access token
    /// has expired.
    Failed(Error),
}

impl App {
    /// Lets a caller in by the access token of the request. Where that is about
    /// to expire, or has expired, and a refresh token came along, the session is
    /// refreshed first. Requests that carry the same pair are one attempt, and
    /// all get the same refresh token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] when there is no access token, or it is not to be
    /// accepted; [`Error::InvalidRefreshToken`] when the two tokens are not of
    /// one session. Where the refresh itself fails, the request fails with it
    /// only if the access token has expired.
    pub async fn admit(&self, access: Option<&str>, refresh: Option<&str>, client: Client) -> Result<Admitted, Error> {
        let now = self.now();
        let access = access.ok_or(Error::InvalidToken { was_sent: false })?;
        let read = self.verified(|ring| self.config.access_tokens.read(ring, access, now)).await?;
        let access = read.map_err(|rejection| {
            self.record(Event::of(Act::AccessDenied).because(rejection));
            Error::InvalidToken { was_sent: true }
        })?;
        let has_expired = self.config.access_tokens.has_expired(&access, now);
        if let Some(refresh) = refresh.filter(|_| is_due(&access, now)) {
            match self.renew(&access, refresh, client, now).await {
                Ok(admitted) => return Ok(admitted),
                Err(NotRenewed::OtherSession) => return Err(Error::InvalidRefreshToken { was_sent: true }),
                Err(NotRenewed::Failed(error)) if has_expired => return Err(error),
                Err(NotRenewed::Failed(error)) => tracing::debug!(%error, "not renewed, and not yet expired"),
            }
        }
        if has_expired {
            tracing::debug!(session.id = %access.session_id, "access token expired");
            return Err(Error::InvalidToken { was_sent: true });
        }
        if self.config.check_session_on_every_call {
            self.check_session(&access, now).await?;
        }
        let AccessToken { user_id, session_id, roles, .. } = access;
        Ok(Admitted { identity: Identity { user_id, session_id, roles }, renewed: None })
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
        let key = Hash::of(&[b"access-token:", access.id.as_bytes()]);
        let refreshed = self.rotate(&presented, key, client, now).await.map_err(NotRenewed::Failed)?;
        let RefreshToken { user_id, session_id, .. } = presented;
        let identity = Identity { user_id, session_id, roles: refreshed.user.roles };
        Ok(Admitted { identity, renewed: Some(refreshed.tokens) })
    }

    /// Whether session and user are alive at this moment, not only when the
    /// access token was issued: two reads, in one round trip.
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

fn is_due(access: &AccessToken, now: Timestamp) -> bool {
    let lifetime = access.expires_at.millis() - access.issued_at.millis();
    let window = RENEWAL.min(Duration::from_millis(lifetime.max(0) as u64 / 2));
    access.expires_at - window <= now
}
