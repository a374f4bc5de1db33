//! Logging out.

use super::ring::Unverified;
use super::{App, Error};
use crate::audit::{Act, Event};
use crate::id::{SessionId, UserId};
use crate::write::Write;

impl App {
    /// Ends the session of a refresh token of any generation, in one write. A forged or
    /// expired token, or a session that has already ended, is not an error.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the session cannot be deleted or the keys cannot be
    /// read: the session may still be alive.
    pub async fn logout(&self, token: &str) -> Result<(), Error> {
        let now = self.now();
        let presented = match self.verified(|ring| self.config.refresh_tokens.verify(ring, token, now)).await {
            Ok(presented) => presented,
            Err(Unverified::Rejected(rejection)) => {
                tracing::debug!(%rejection, "logout without a session");
                return Ok(());
            }
            Err(Unverified::Unknown(error)) => return Err(error),
        };
        self.delete_session(presented.user_id, presented.session_id, "logout").await
    }

    /// Deletes a session, and records that if it existed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub(super) async fn delete_session(
        &self,
        user: UserId,
        session: SessionId,
        reason: &'static str,
    ) -> Result<(), Error> {
        if self.store.delete_session(user, session).await? == Write::Done(()) {
            self.record(Event::of(Act::Revoked).about(user).in_session(session).because(reason));
        }
        Ok(())
    }
}
