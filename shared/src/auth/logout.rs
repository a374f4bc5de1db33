//! The end of a session.

use super::ring::Unverified;
use super::{App, Error};
use crate::audit::{Act, Event};
use crate::id::{SessionId, UserId};
use crate::write::Write;

impl App {
    /// Ends the session of a refresh token of any generation, in one write. It is
    /// no error if the token is forged or expired, or the session has ended before.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the session could not be deleted, or the keys
    /// cannot be read: the session is still alive.
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

    /// Deletes a session, and records it if there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the table could not be written.
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
