//! The end of a session, by its own client.

use super::{App, Error};
use crate::audit::{Act, Event};
use crate::id::{SessionId, UserId};
use crate::write::Write;

impl App {
    /// Ends the session of a refresh token, whatever the token's generation,
    /// in one write. A forged or expired token ends nothing and is no error,
    /// nor is a session that has ended before.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the session could not be deleted: it still lives.
    pub async fn logout(&self, token: &str) -> Result<(), Error> {
        let now = self.now();
        let verified = self.verified(|ring| self.config.refresh_tokens.verify(ring, token, now));
        let presented = match verified.await? {
            Ok(presented) => presented,
            Err(rejection) => {
                tracing::debug!(%rejection, "logout without a session");
                return Ok(());
            }
        };
        self.delete_session(presented.user_id, presented.session_id, "logout").await
    }

    /// Deletes a session, and records that if it was there.
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
