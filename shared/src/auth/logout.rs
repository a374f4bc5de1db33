//! The end of a session, by its own client.

use super::{App, Error};

impl App {
    /// Ends the session of a refresh token, whatever the token's generation,
    /// in one write. A forged or expired token ends nothing and is no error,
    /// nor is a session that has ended before.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the session could not be deleted: it still lives.
    pub async fn logout(&self, token: &str) -> Result<(), Error> {
        let verified = self.config.refresh_tokens.verify(self.keys().await?, token, self.now());
        let presented = match verified {
            Ok(presented) => presented,
            Err(rejection) => {
                tracing::debug!(%rejection, "logout without a session");
                return Ok(());
            }
        };
        self.store.delete_session(presented.user_id, presented.session_id).await?;
        tracing::info!(user.id = %presented.user_id, session.id = %presented.session_id, "logged out");
        Ok(())
    }
}
