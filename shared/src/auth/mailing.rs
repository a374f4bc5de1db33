//! The address of a user: proving it, and moving the account to another one. And the
//! notices that the owner of an account gets.

use secrecy::SecretString;

use super::{App, Error, FieldError, GONE, Identity};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::limit::Counter;
use crate::mail::{Kind, Mail};
use crate::proof::{MailToken, Proof, Purpose};
use crate::session::Hash;
use crate::store::NotRedeemed;
use crate::user::{Credential, User};
use crate::write::Write;

/// How often a link is redeemed when the account changes meanwhile.
const TRIES: usize = 3;
/// How many mails a user may ask for within a minute, and within a day.
pub(super) const MAILS_OF_USER: [u64; 2] = [1, 10];

/// What a link to an address did.
#[derive(Debug)]
pub struct Confirmed {
    /// The user.
    pub user: User,
    /// A new device token for the client to keep, if the account has moved.
    pub device_token: Option<SecretString>,
}

impl App {
    /// Sends the link that proves the caller's address again. Does nothing if the
    /// address is proven.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`] after one request in a minute or ten in a day;
    /// [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn request_verification(&self, caller: &Identity, client: Client) -> Result<(), Error> {
        let user = self.user(caller).await?;
        if user.is_verified() {
            return Ok(());
        }
        self.count_mail_of(user.id).await?;
        let mail = Mail::new(Kind::Verify, user.email.clone(), Some(user.account()), client, self.now());
        Ok(self.store.put_mail(&mail).await?)
    }

    /// Asks to move the caller's account to another address: a link goes there, and a
    /// notice to the current one. The answer does not tell whether the new address has
    /// an account.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] naming `email` when it cannot be mailed to or is the
    /// current one, or `password` when it is wrong; [`Error::RateLimited`] after too
    /// many wrong passwords, and as [`request_verification`](Self::request_verification)
    /// does; [`Error::InvalidToken`] when the user is gone or disabled;
    /// [`Error::Unavailable`] when DynamoDB fails or no turn for hashing came in time.
    pub async fn request_email_change(
        &self,
        caller: &Identity,
        email: &str,
        password: &str,
        client: Client,
        device_token: Option<&str>,
    ) -> Result<(), Error> {
        let email = self.mailable(email).map_err(|fault| Error::Validation(vec![fault]))?;
        let user = self.user(caller).await?;
        if email.key() == user.email.key() {
            return Err(Error::field("email", "email_unchanged", "This is already your e-mail address."));
        }
        let check = self.check_password(&user, "password", password, &client, device_token);
        let (guess, _) = Box::pin(check).await?;
        let (counted, ()) = tokio::join!(self.count_mail_of(user.id), self.give_back(guess));
        counted?;
        let now = self.now();
        let notice = self.notice(Kind::ChangeRequested, &user, &client, now);
        let request = Mail::new(Kind::Change, email, Some(user.account()), client, now);
        Ok(self.store.put_mails(&request, notice.as_ref()).await?)
    }

    /// Redeems a link that was sent to an address: proves the caller's address, or moves
    /// the caller's account to the new one and ends every session but the calling one.
    /// `attempt` identifies the request: the same one gets the same answer again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLink`] when the token is forged, expired, used, void or for
    /// another user; [`Error::EmailTaken`] when the new address has an account by now;
    /// [`Error::RateLimited`] after too many links from the client's address;
    /// [`Error::InvalidToken`] when the user is gone or disabled, or the calling session
    /// has ended; [`Error::Unavailable`] when DynamoDB fails or the account keeps
    /// changing.
    pub async fn confirm_email(
        &self,
        caller: &Identity,
        token: &str,
        attempt: &Hash,
        client: Client,
    ) -> Result<Confirmed, Error> {
        self.count_link(&client).await?;
        let token_hash = MailToken::parse(token).ok_or_else(|| self.invalid_link())?.hash();
        for _ in 0..TRIES {
            let (proof, user) = tokio::join!(self.store.proof(token_hash), self.user(caller));
            let user = user?;
            let proof = proof?.filter(|proof| proof.user_id == user.id).ok_or_else(|| self.invalid_link())?;
            let (epoch, moves) = match proof.purpose {
                Purpose::Reset { .. } => return Err(self.invalid_link()),
                Purpose::Verify { epoch } => (epoch, false),
                Purpose::Change { epoch } => (epoch, true),
            };
            let now = self.now();
            if proof.was_used_by(attempt, now) {
                // The user may have been read before the link was used. And a move has ended
                // every session but the one that made it.
                let session = self.store.session(caller.user_id, caller.session_id);
                let (user, session) = tokio::join!(self.user(caller), session);
                let (user, session) = (user?, session?);
                session.filter(|session| session.is_live(Some(user.state()), now)).ok_or(GONE)?;
                if !moves {
                    return Ok(Confirmed { user, device_token: None });
                }
                match self.store.credential(&user.email).await? {
                    Some(credential) if credential.user_id == user.id => return self.moved(user, &credential).await,
                    // The account is moving again.
                    _ => continue,
                }
            }
            if !proof.is_open(now) || epoch != user.epoch {
                return Err(self.invalid_link());
            }
            let redeemed = if moves {
                self.move_user(caller, &proof, attempt, &user, &client, now).await?
            } else if proof.email.key() == user.email.key() {
                match self.store.verify_email(&proof, attempt, &user, now).await? {
                    Write::Done(()) => Write::Done(None),
                    Write::Refused(reason) => Write::Refused(reason),
                }
            } else {
                return Err(self.invalid_link());
            };
            match redeemed {
                Write::Done(moved) => {
                    let reason = if moves { "email_changed" } else { "email_verified" };
                    let event = Event::of(Act::UserUpdated).about(user.id).in_session(caller.session_id);
                    self.record(event.because(reason));
                    let user = User { email: proof.email, email_verified: Some(true), ..user };
                    return match moved {
                        Some(credential) => self.moved(User { epoch: credential.epoch, ..user }, &credential).await,
                        None => Ok(Confirmed { user, device_token: None }),
                    };
                }
                Write::Refused(NotRedeemed::Used | NotRedeemed::Raced) => {}
                Write::Refused(NotRedeemed::EmailTaken) => return Err(Error::EmailTaken),
                Write::Refused(NotRedeemed::KeptSessionDead) => return Err(GONE),
            }
        }
        Err(Error::unavailable())
    }

    async fn move_user(
        &self,
        caller: &Identity,
        proof: &Proof,
        attempt: &Hash,
        user: &User,
        client: &Client,
        now: Timestamp,
    ) -> Result<Write<Option<Credential>, NotRedeemed>, Error> {
        let credential = self.store.credential(&user.email).await?;
        let Some(credential) = credential.filter(|credential| credential.user_id == user.id) else {
            return Ok(Write::Refused(NotRedeemed::Raced));
        };
        let notice = self.notice(Kind::EmailChanged, user, client, now);
        let account = (user, &credential);
        let moved = self.store.move_user(proof, attempt, account, caller.session_id, notice.as_ref(), now).await?;
        Ok(match moved {
            Write::Done(credential) => Write::Done(Some(credential)),
            Write::Refused(reason) => Write::Refused(reason),
        })
    }

    /// Returns the answer to a link that moved an account, and deletes the sessions that
    /// have ended.
    async fn moved(&self, user: User, credential: &Credential) -> Result<Confirmed, Error> {
        let (ring, ()) = tokio::join!(self.ring(), self.sweep(user.id));
        let device_tokens = &self.config.device_tokens;
        let device_token = device_tokens.issue(&*ring?, user.id, credential.password_changed_at, self.now())?;
        Ok(Confirmed { user, device_token: Some(device_token) })
    }

    /// Reads an address for an account. With mail on, it must be one that can be mailed to.
    pub(super) fn mailable(&self, email: &str) -> Result<Email, FieldError> {
        let email = Email::parse(email).map_err(|_| FieldError::email())?;
        if self.config.mail && email.mailbox().is_none() {
            return Err(FieldError {
                field: "email",
                code: "email_invalid",
                message: "Use an e-mail address with only ASCII characters before the @.".into(),
            });
        }
        Ok(email)
    }

    /// Returns the mail with which a new user proves the address, if mail is on.
    pub(super) fn first_verification(&self, user: &User, client: &Client, now: Timestamp) -> Option<Mail> {
        let mail = || Mail::new(Kind::Verify, user.email.clone(), Some(user.account()), client.clone(), now);
        self.config.mail.then(mail)
    }

    /// Returns a notice for the owner of an account, if mail is on. An address that was
    /// never proven gets none, because it may belong to somebody else.
    pub(super) fn notice(&self, kind: Kind, user: &User, client: &Client, now: Timestamp) -> Option<Mail> {
        let is_sent = self.config.mail && user.is_verified();
        is_sent.then(|| Mail::new(kind, user.email.clone(), Some(user.account()), client.clone(), now))
    }

    /// Counts a mail that a user asks for.
    async fn count_mail_of(&self, user: UserId) -> Result<(), Error> {
        for (counter, most) in Counter::mails_of_user(user).into_iter().zip(MAILS_OF_USER) {
            self.count_request(&counter, most, "mails_of_user").await?;
        }
        Ok(())
    }
}
