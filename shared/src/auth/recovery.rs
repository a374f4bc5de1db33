//! The way back in for a user who has forgotten the password.

use super::{App, Error, FieldError};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::email::Email;
use crate::limit::Counter;
use crate::mail::{Kind, Mail};
use crate::password::Check;
use crate::proof::{MailToken, Proof, Purpose};
use crate::session::Hash;
use crate::store::NotRedeemed;
use crate::user::{Credential, User};
use crate::write::Write;

/// How often a reset is attempted when the account changes during it.
const TRIES: usize = 3;

impl App {
    /// Asks for a mail with a link that resets the password of `email`. Takes the same
    /// two calls whether or not the address has an account, because it does not look.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when `email` cannot be an address; [`Error::RateLimited`]
    /// after too many requests from the client's address; [`Error::Unavailable`] when
    /// DynamoDB fails.
    pub async fn request_password_reset(&self, email: &str, client: Client) -> Result<(), Error> {
        let email = Email::parse(email).map_err(|_| Error::Validation(vec![FieldError::email()]))?;
        let most = self.config.limits.mail_requests_per_address;
        self.count_of_address(&client, Counter::mail_requests, most, "mail_requests").await?;
        Ok(self.store.put_mail(&Mail::new(Kind::Reset, email, None, client, self.now())).await?)
    }

    /// Sets a new password with the token of a mail, ends every session of the user, and
    /// marks the address as verified. Nobody is signed in. `attempt` identifies the
    /// request: the same one gets the same answer again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLink`] when the token is forged, expired, used or void;
    /// [`Error::Validation`] naming `new_password` when it is weak, in which case the
    /// token stays good; [`Error::RateLimited`] after too many links from the client's
    /// address; [`Error::Unavailable`] when DynamoDB fails, the account keeps changing,
    /// or no turn for hashing came in time.
    pub async fn reset_password(&self, token: &str, new: &str, attempt: &Hash, client: Client) -> Result<(), Error> {
        self.count_link(&client).await?;
        let token_hash = MailToken::parse(token).ok_or_else(|| self.invalid_link())?.hash();
        let mut hashed = None;
        for _ in 0..TRIES {
            let proof = self.store.proof(token_hash).await?.ok_or_else(|| self.invalid_link())?;
            let (user, credential) = self.account_to_reset(&proof).await?;
            let chosen = self.new_password(new, Some(&user.email));
            if proof.was_used_by(attempt, self.now()) {
                // The same attempt, but only if it set the same password.
                let password = chosen.map_err(|_| self.invalid_link())?;
                match self.hasher.verify(&password, Some(&credential.password_hash)).await? {
                    Check::Right { .. } => {}
                    Check::Wrong | Check::Unreadable => return Err(self.invalid_link()),
                }
                self.clean_up(&user).await;
                return Ok(());
            }
            let is_bound = proof.purpose == Purpose::Reset { password_changed_at: credential.password_changed_at };
            if !proof.is_open(self.now()) || !is_bound {
                return Err(self.invalid_link());
            }
            let weak = |weak| Error::Validation(vec![FieldError::password("new_password", weak)]);
            let new = match hashed.take() {
                Some(hash) => hash,
                None => self.hasher.hash(&chosen.map_err(weak)?).await?,
            };
            let now = self.now();
            let mail = Mail::new(Kind::PasswordReset, user.email.clone(), Some(user.account()), client.clone(), now);
            match self.store.reset_password(&proof, attempt, (&user, &credential), &new, &mail, now).await? {
                Write::Done(()) => {
                    self.record(Event::of(Act::PasswordChanged).about(user.id).because("reset"));
                    self.clean_up(&user).await;
                    return Ok(());
                }
                Write::Refused(NotRedeemed::Used | NotRedeemed::Raced) => hashed = Some(new),
                Write::Refused(NotRedeemed::EmailTaken | NotRedeemed::KeptSessionDead) => {
                    return Err(Error::Internal("a reset moves no account and keeps no session".into()));
                }
            }
        }
        Err(Error::unavailable())
    }

    /// Reads the account that a proof is about.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLink`] when the proof is not for a reset, or the account is gone,
    /// disabled or at another address.
    async fn account_to_reset(&self, proof: &Proof) -> Result<(User, Credential), Error> {
        if !matches!(proof.purpose, Purpose::Reset { .. }) {
            return Err(self.invalid_link());
        }
        let (user, credential) = tokio::join!(self.store.user(proof.user_id), self.store.credential(&proof.email));
        let user = user?.filter(|user| user.is_active && user.email.key() == proof.email.key());
        let credential = credential?.filter(|credential| credential.user_id == proof.user_id);
        user.zip(credential).ok_or_else(|| self.invalid_link())
    }

    /// Lets the owner log in at once after a reset: forgets the wrong guesses at the
    /// account, and deletes the sessions that have ended. A failure is only logged.
    async fn clean_up(&self, user: &User) {
        let counter = Counter::account(&user.email);
        let (cleared, ()) = tokio::join!(self.store.clear(&counter), self.sweep(user.id));
        if let Err(error) = cleared {
            tracing::warn!(user.id = %user.id, %error, "the guesses at an account were not forgotten");
        }
    }

    /// Counts a link that is about to be redeemed.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] after too many links from the client's address;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub(super) async fn count_link(&self, client: &Client) -> Result<(), Error> {
        self.count_of_address(client, Counter::links, self.config.limits.links_per_address, "links").await
    }

    /// Returns the error for a link that is not accepted, and records it.
    pub(super) fn invalid_link(&self) -> Error {
        self.record(Event::of(Act::AccessDenied).because("invalid_link"));
        Error::InvalidLink
    }
}
