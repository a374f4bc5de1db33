//! The end of a session, by its own client.

use super::{App, Error};
use crate::audit::{Act, Event};

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
        let verified = self.verified(|keys| self.config.refresh_tokens.verify(keys, token, now));
        let presented = match verified.await? {
            Ok(presented) => presented,
            Err(rejection) => {
                tracing::debug!(%rejection, "logout without a session");
                return Ok(());
            }
        };
        self.store.delete_session(presented.user_id, presented.session_id).await?;
        let ended = Event::of(Act::Revoked).by(presented.user_id).in_session(presented.session_id);
        self.record(ended.because("logout"));
        Ok(())
    }
}
