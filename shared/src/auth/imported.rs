//! Exchanging the imported refresh token of another system for a session.

use super::login::sessions_to_end;
use super::{App, Error, SignedIn};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::imported::ImportedToken;
use crate::session::{Hash, Refusal, Session};
use crate::store::NotExchanged;
use crate::token::{ImportedTokens, RefreshToken};
use crate::user::User;
use crate::write::Write;

/// How often an exchange is attempted while other requests change the token, its user or
/// the user's sessions.
const TRIES: usize = 3;

impl App {
    /// Exchanges an imported token for a session with the same user and login, in one
    /// transaction after two reads. A token that is not in the table costs one read. The
    /// token is then spent: another presentation of it is answered or found out like that
    /// of any other spent token.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRefreshToken`] when the token was not imported, is expired or
    /// spent, or when its user has gone, is disabled or has ended all sessions since the
    /// import; [`Error::Unavailable`] when the keys or the table cannot be read, or the
    /// ring lacks the key of IMPORTED_TOKENS_UNTIL.
    pub(super) async fn exchange(
        &self,
        tokens: &ImportedTokens,
        token: &str,
        key: Hash,
        client: Client,
        now: Timestamp,
    ) -> Result<SignedIn, Error> {
        let ring = &self.ring().await?;
        let Some(name) = tokens.name(ring, &Hash::of(&[token.as_bytes()])) else {
            tracing::error!(kid = tokens.kid, "the secret lacks the key of IMPORTED_TOKENS_UNTIL");
            return Err(Error::unavailable());
        };
        let lifetime = self.config.session_lifetime;
        for _ in 0..TRIES {
            let Some(imported) = self.store.imported_token(name).await? else {
                self.record(Event::of(Act::AccessDenied).because("unknown_token"));
                return Err(Error::InvalidRefreshToken { was_sent: true });
            };
            let (session, secret, write, user) = match &imported.exchange {
                Some(exchange) => {
                    let (session, user) = tokio::join!(
                        self.store.session(imported.user_id, exchange.session_id),
                        self.store.user(imported.user_id),
                    );
                    let Some(session) = session? else {
                        return Err(self.refuse_imported(&imported, Refusal::Ended));
                    };
                    let secret = tokens.open(ring, token, session.id, &exchange.sealed).ok_or_else(unopened)?;
                    (session.clone(), secret, Write::Refused(Some(session)), user?)
                }
                None => {
                    let (user, sessions) = self.store.user_and_first_sessions(imported.user_id).await?;
                    let state = user.as_ref().map(User::state);
                    if let Some(refusal) = imported.refusal(state, lifetime, now) {
                        return Err(self.refuse_imported(&imported, refusal));
                    }
                    let user = user.ok_or_else(Error::unavailable)?;
                    let owner = (user.id, user.epoch);
                    let (session, secret) = Session::adopt(owner, imported.login, client.clone(), key, now, lifetime);
                    let sealed = tokens.seal(ring, token, session.id, &secret).ok_or_else(Error::unavailable)?;
                    let ending = sessions_to_end(&sessions, user.state(), now, self.config.max_sessions);
                    let displaced = ending.first().copied();
                    match self.store.exchange_imported_token(&imported, &session, &sealed, displaced, now).await? {
                        Write::Done(()) => {}
                        Write::Refused(NotExchanged::Raced | NotExchanged::DisplacedGone) => continue,
                    }
                    if let Some(displaced) = displaced {
                        let ended = Event::of(Act::Revoked).about(user.id).in_session(displaced);
                        self.record(ended.because("too_many_sessions"));
                    }
                    (session.clone(), secret, Write::Done(session), Some(user))
                }
            };
            let presented = RefreshToken { generation: 0, ..self.first_token(&session, secret) };
            let attempt = self.attempt_with(&presented, key, now);
            return self.settle(ring, &presented, &attempt, write, user, &client).await;
        }
        Err(Error::unavailable())
    }

    fn refuse_imported(&self, imported: &ImportedToken, refusal: Refusal) -> Error {
        self.record(Event::of(Act::SessionOver).about(imported.user_id).because(refusal));
        Error::InvalidRefreshToken { was_sent: true }
    }
}

fn unopened() -> Error {
    Error::Internal("the seal of an imported token cannot be opened".into())
}
