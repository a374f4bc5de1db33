//! What operators do with the accounts of users: the flows of the command `freshkey`.
//! They ask for neither a token nor a password, and no function offers them. Like a
//! user's own acts, they write on condition that the account is as it was read.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::{join_all, try_join_all};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::account::PASSWORD_CHANGES;
use super::mailing::MAILS_OF_USER;
use super::{App, Error, FieldError};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::id::{SessionId, UserId};
use crate::limit::{Address, Counter};
use crate::mail::{Kind, Mail, MailId, SHARDS};
use crate::password::Password;
use crate::proof::{MailToken, Proof, Purpose};
use crate::session::Session;
use crate::store::{CounterState, Ending, NotRenamed, Traces};
use crate::user::{Credential, Profile, User, UserState};
use crate::write::Write;

/// How often a change is attempted when the account changes between its read and its
/// write.
const TRIES: usize = 3;
/// How many mails of a shard are read at once.
const MAILS_PER_PAGE: i32 = 100;

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It can be refreshed.
    Valid,
    /// Its time is over.
    Expired,
    /// A spent refresh token was presented again.
    Reused,
    /// Its user is gone or disabled, or has ended all sessions.
    Ended,
}

impl SessionState {
    /// Returns the state of a session at `now`.
    pub fn of(session: &Session, user: Option<UserState>, now: Timestamp) -> Self {
        if session.revoked_at.is_some() {
            Self::Reused
        } else if session.expires_at <= now {
            Self::Expired
        } else if session.is_kept_by(user) {
            Self::Valid
        } else {
            Self::Ended
        }
    }
}

/// A user whose roles were changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolesChanged {
    /// The user with the new roles.
    pub user: User,
    /// Until when an access token with the earlier roles may be accepted. `None` when
    /// nothing was changed, or when every such token is refused at once.
    pub earlier_tokens_until: Option<Timestamp>,
}

/// The token of a link that resets a password.
#[derive(Clone, Debug)]
pub struct ResetToken {
    /// The token, which goes into the fragment of the link.
    pub token: SecretString,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// What limits count for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limited {
    /// The IP address of a client.
    Address(Address),
    /// An e-mail address without an account.
    Email(Email),
    /// A user.
    User(User),
}

/// A limit that counts something now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is counted.
    pub name: String,
    /// The number that was counted.
    pub count: u64,
    /// The most that is allowed. `None` where only the mailer knows it.
    pub most: Option<u64>,
    /// When the count is forgotten.
    pub until: Timestamp,
    /// Until when the next attempt is refused. `None` when it is allowed.
    pub blocked_until: Option<Timestamp>,
}

/// The outbox.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// The mails that wait to be sent, and whether a mailer has taken each.
    pub mails: Vec<(Mail, bool)>,
    /// The mails that cannot be read, so that nobody can send them.
    pub unreadable: Vec<MailId>,
}

/// What is held about a user.
#[derive(Clone, Debug)]
pub struct Dossier {
    /// The user.
    pub user: User,
    /// The credential, unless it is lost.
    pub credential: Option<Credential>,
    /// The sessions, dead ones included.
    pub sessions: Vec<Session>,
    /// The limits that count something.
    pub limits: Vec<Limit>,
    /// The mails and the links.
    pub traces: Traces,
}

/// What decides whether the next attempt is allowed.
enum Rule {
    /// The rule for wrong passwords.
    Guesses,
    /// So many in a window.
    Most(u64),
    /// So many different accounts in a window.
    Accounts(u64),
    /// Only the mailer knows.
    Unknown,
}

impl App {
    /// Returns the current time.
    pub fn time(&self) -> Timestamp {
        self.now()
    }

    /// Returns the user with this id or e-mail address.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when `name` is neither; [`Error::NotFound`] when there is no
    /// such user; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn find_user(&self, name: &str) -> Result<User, Error> {
        let id = match UserId::parse(name) {
            Some(id) => id,
            None => {
                let email = Email::parse(name).map_err(|_| Error::Validation(vec![FieldError::email()]))?;
                self.store.credential(&email).await?.ok_or(Error::NotFound)?.user_id
            }
        };
        self.existing(id).await
    }

    /// Creates a user without a session. Without a password, the user gets a mail with a
    /// link that sets one; until then nobody can log in. Without roles, the user gets
    /// those of every new user.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when the address, the password or the roles are not
    /// accepted, or there is no password and mail is off; [`Error::EmailTaken`] when the
    /// address has an account; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn create_user(
        &self,
        id: UserId,
        email: &str,
        password: Option<&str>,
        roles: Option<Vec<String>>,
    ) -> Result<User, Error> {
        let email = self.mailable(email).map_err(|fault| Error::Validation(vec![fault]))?;
        let roles = roles.unwrap_or_else(|| self.config.default_roles.clone());
        self.check_roles(&roles)?;
        let chosen = match password {
            Some(password) => self
                .new_password(password, Some(&email))
                .map_err(|weak| Error::Validation(vec![FieldError::password("password", weak)]))?,
            None if self.config.mail => unknown_password()?,
            None => {
                let message = "Mail is off, so the user cannot get a link that sets one. Give a password.";
                return Err(Error::field("password", "password_required", message));
            }
        };
        let password_hash = self.hasher.hash(&chosen).await?;
        let now = self.now();
        let user = User {
            id,
            email,
            email_verified: self.config.mail.then_some(false),
            roles,
            is_active: true,
            epoch: 0,
            profile: Profile::default(),
            created_at: now.truncated(),
            imported_at: None,
        };
        let credential = Credential::new(&user, password_hash, now);
        let mail = match password {
            Some(_) => self.first_verification(&user, &Client::default(), now),
            None => Some(Mail::new(Kind::Reset, user.email.clone(), None, Client::default(), now)),
        };
        match self.store.create_user(&user, &credential, None, mail.as_ref()).await? {
            Write::Done(()) => {
                self.record(Event::of(Act::UserCreated).about(id).because("by_operator"));
                Ok(user)
            }
            Write::Refused(()) => Err(Error::EmailTaken),
        }
    }

    /// Deletes a user, the credential and every session. A user whose credential is lost
    /// is deleted, too.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Validation`] when the
    /// account keeps changing; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn remove_user(&self, id: UserId) -> Result<(), Error> {
        for _ in 0..TRIES {
            let user = self.existing(id).await?;
            let credential = self.credential(&user).await?;
            let notice = self.notice(Kind::AccountDeleted, &user, &Client::default(), self.now());
            let checked = credential.as_ref().map(|credential| &credential.password_hash);
            if self.store.delete_user(&user, checked, notice.as_ref()).await? == Write::Done(()) {
                self.record(Event::of(Act::UserDeleted).about(id).because("by_operator"));
                self.sweep_all(id).await;
                return Ok(());
            }
        }
        Err(keeps_changing())
    }

    /// Disables a user, who can then neither log in nor refresh, and ends every
    /// session: enabling the user again revives none.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Validation`] when the
    /// user keeps changing; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn disable_user(&self, id: UserId) -> Result<(), Error> {
        for _ in 0..TRIES {
            let user = self.existing(id).await?;
            if self.end(&user, Ending::Disable, None, None).await? == Write::Done(()) {
                self.record(Event::of(Act::UserUpdated).about(id).because("disabled"));
                self.sweep_all(id).await;
                return Ok(());
            }
        }
        Err(keeps_changing())
    }

    /// Enables a user who was disabled.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`]
    /// when DynamoDB fails.
    pub async fn enable_user(&self, id: UserId) -> Result<(), Error> {
        match self.store.enable_user(id).await? {
            Write::Done(()) => {
                self.record(Event::of(Act::UserUpdated).about(id).because("enabled"));
                Ok(())
            }
            Write::Refused(()) => Err(Error::NotFound),
        }
    }

    /// Marks the user's address as verified.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Validation`] when the
    /// user keeps changing; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn vouch_for_email(&self, id: UserId) -> Result<User, Error> {
        for _ in 0..TRIES {
            let user = self.existing(id).await?;
            if user.is_verified() {
                return Ok(user);
            }
            if self.store.vouch_for_email(&user).await? == Write::Done(()) {
                self.record(Event::of(Act::UserUpdated).about(id).because("email_vouched_for"));
                return Ok(User { email_verified: Some(true), ..user });
            }
        }
        Err(keeps_changing())
    }

    /// Gives roles to a user and takes others away. A role that is in both lists is
    /// given. With `end_sessions`, every session ends in the same transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when an access token cannot hold the roles or the user keeps
    /// changing; [`Error::NotFound`] when there is no such user; [`Error::Unavailable`]
    /// when DynamoDB fails.
    pub async fn change_roles(
        &self,
        id: UserId,
        add: &[String],
        remove: &[String],
        end_sessions: bool,
    ) -> Result<RolesChanged, Error> {
        for _ in 0..TRIES {
            let user = self.existing(id).await?;
            let mut new: Vec<_> = user.roles.iter().filter(|role| !remove.contains(role)).cloned().collect();
            for role in add {
                if !new.contains(role) {
                    new.push(role.clone());
                }
            }
            self.check_roles(&new)?;
            let is_changed = new != user.roles;
            if !is_changed && !end_sessions {
                return Ok(RolesChanged { user, earlier_tokens_until: None });
            }
            let written = if end_sessions {
                self.end(&user, Ending::Roles { new: &new }, None, None).await?
            } else {
                self.store.set_roles(&user, &new).await?
            };
            if written == Write::Done(()) {
                self.record(Event::of(Act::UserUpdated).about(id).because("roles"));
                if end_sessions {
                    self.sweep_all(id).await;
                }
                let is_refused = end_sessions && self.config.check_session_on_every_call;
                let tokens = &self.config.access_tokens;
                let until = (is_changed && !is_refused).then(|| self.now() + tokens.lifetime + tokens.leeway);
                let epoch = user.epoch + u64::from(end_sessions);
                return Ok(RolesChanged { user: User { roles: new, epoch, ..user }, earlier_tokens_until: until });
            }
        }
        Err(keeps_changing())
    }

    /// Moves an account to another address, which is then unverified, and ends every
    /// session. The owner of the earlier address is told.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when the address is not accepted or is the current one, or the
    /// account keeps changing; [`Error::EmailTaken`] when the address has an account;
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`] when DynamoDB
    /// fails.
    pub async fn rename_user(&self, id: UserId, email: &str) -> Result<User, Error> {
        let email = self.mailable(email).map_err(|fault| Error::Validation(vec![fault]))?;
        for _ in 0..TRIES {
            let Some((user, credential)) = self.account(id).await? else { continue };
            if email.key() == user.email.key() {
                let message = "This is already the user's e-mail address.";
                return Err(Error::field("email", "email_unchanged", message));
            }
            let now = self.now();
            let notice = self.notice(Kind::EmailChanged, &user, &Client::default(), now);
            match self.store.rename_user((&user, &credential), &email, notice.as_ref(), now).await? {
                Write::Done(()) => {
                    self.record(Event::of(Act::UserUpdated).about(id).because("email_changed"));
                    self.sweep_all(id).await;
                    return Ok(User { email, email_verified: Some(false), epoch: user.epoch + 1, ..user });
                }
                Write::Refused(NotRenamed::Raced) => {}
                Write::Refused(NotRenamed::EmailTaken) => return Err(Error::EmailTaken),
            }
        }
        Err(keeps_changing())
    }

    /// Makes a link that resets the user's password, and tells the owner of the account.
    /// The link leaves the address as it is, verified or not.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when the user is disabled or the account keeps changing;
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`] when DynamoDB
    /// fails.
    pub async fn make_reset_link(&self, id: UserId) -> Result<ResetToken, Error> {
        for _ in 0..TRIES {
            let Some((user, credential)) = self.account(id).await? else { continue };
            let (user, now) = (enabled(user)?, self.now());
            let token = MailToken::random();
            let purpose = Purpose::Reset { password_changed_at: credential.password_changed_at };
            let proof = Proof::new(&token, user.id, user.email.clone(), purpose, now);
            let proof = Proof { by_operator: true, ..proof };
            let notice = self.notice(Kind::ResetLinkMade, &user, &Client::default(), now);
            self.store.put_proof_and_tell(&proof, notice.as_ref()).await?;
            return Ok(ResetToken { token: token.expose(), expires_at: proof.expires_at });
        }
        Err(keeps_changing())
    }

    /// Sends the user a mail with a link that resets the password.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when mail is off or the user is disabled;
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`] when
    /// DynamoDB fails.
    pub async fn send_reset_link(&self, id: UserId) -> Result<(), Error> {
        if !self.config.mail {
            return Err(Error::field(
                "mail",
                "mail_off",
                "Mail is off: set MAIL_FROM, or make the link without a mail.",
            ));
        }
        let user = enabled(self.existing(id).await?)?;
        let mail = Mail::new(Kind::Reset, user.email, None, Client::default(), self.now());
        Ok(self.store.put_mail(&mail).await?)
    }

    /// Returns everything that is held about a user. Scans the table.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`] when
    /// DynamoDB fails.
    pub async fn export_user(&self, id: UserId) -> Result<Dossier, Error> {
        let user = self.existing(id).await?;
        let credential = self.credential(&user).await?;
        let (_, sessions) = self.store.user_and_sessions(id).await?;
        let limited = Limited::User(user.clone());
        let (limits, traces) = tokio::join!(self.limits(&limited), self.store.traces(&user));
        Ok(Dossier { user, credential, sessions, limits: limits?, traces: traces? })
    }

    /// Returns a user with every session, dead ones included, the latest login first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Unavailable`] when
    /// DynamoDB fails.
    pub async fn all_sessions(&self, id: UserId) -> Result<(User, Vec<Session>), Error> {
        let (user, mut sessions) = self.store.user_and_sessions(id).await?;
        sessions.sort_by_key(|session| std::cmp::Reverse((session.opened_at, session.id)));
        Ok((user.ok_or(Error::NotFound)?, sessions))
    }

    /// Ends one session of a user.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such session, or reuse has ended it, so that
    /// it stays as evidence; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn revoke_session(&self, id: UserId, session: SessionId) -> Result<(), Error> {
        match self.store.delete_session(id, session).await? {
            Write::Done(()) => {
                let event = Event::of(Act::Revoked).about(id).in_session(session);
                self.record(event.because("ended_by_operator"));
                Ok(())
            }
            Write::Refused(()) => Err(Error::NotFound),
        }
    }

    /// Ends every session of a user.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such user; [`Error::Validation`] when the
    /// user keeps changing; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn revoke_sessions(&self, id: UserId) -> Result<(), Error> {
        for _ in 0..TRIES {
            let user = self.existing(id).await?;
            // Disabling a user has ended every session.
            if !user.is_active || self.end(&user, Ending::Sessions, None, None).await? == Write::Done(()) {
                self.record(Event::of(Act::Revoked).about(id).because("all_ended_by_operator"));
                self.sweep_all(id).await;
                return Ok(());
            }
        }
        Err(keeps_changing())
    }

    /// Deletes a session that has expired. Returns whether it was there and had expired.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn clear_session(&self, session: &Session) -> Result<bool, Error> {
        Ok(self.store.delete_expired_session(session, self.now()).await? == Write::Done(()))
    }

    /// Returns what `name` names: an IP address, the id or the e-mail address of a user, or
    /// an e-mail address without an account.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when `name` is none of these; [`Error::NotFound`] when there is
    /// no user with this id; [`Error::Unavailable`] when DynamoDB fails.
    pub async fn find_limited(&self, name: &str) -> Result<Limited, Error> {
        if name.parse::<IpAddr>().is_ok() {
            return Ok(Limited::Address(Address::of(name)));
        }
        match (self.find_user(name).await, Email::parse(name)) {
            (Err(Error::NotFound), Ok(email)) => Ok(Limited::Email(email)),
            (found, _) => Ok(Limited::User(found?)),
        }
    }

    /// Returns the limits that count something for `limited`. Wrong passwords from known
    /// devices are counted by the device, and are not among them.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn limits(&self, limited: &Limited) -> Result<Vec<Limit>, Error> {
        let (rules, now) = (self.rules(limited), self.now());
        let read = rules.iter().map(async |(counter, rule)| {
            let state = self.store.counted(counter, now).await?;
            let limit = state.map(|state| self.limit(counter, rule, state, now));
            Ok(limit.filter(|limit| limit.count > 0))
        });
        join_all(read).await.into_iter().filter_map(Result::transpose).collect()
    }

    /// Forgets what the limits have counted for `limited`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn clear_limits(&self, limited: &Limited) -> Result<(), Error> {
        let rules = self.rules(limited);
        let cleared = rules.iter().map(|(counter, _)| self.store.clear(counter));
        Ok(try_join_all(cleared).await.map(drop)?)
    }

    /// Returns the outbox, shard by shard, in the order in which the mails are sent.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn outbox(&self) -> Result<Outbox, Error> {
        // At the end of time, no mailer holds a mail.
        const END: Timestamp = Timestamp::from_millis(i64::MAX);
        let mut outbox = Outbox::default();
        for shard in 0..SHARDS {
            let mut after = None;
            loop {
                let page = self.store.mails(shard, after.as_ref(), MAILS_PER_PAGE, END).await?;
                outbox.mails.extend(page.waiting.into_iter().map(|waiting| (waiting.mail, waiting.was_taken)));
                outbox.unreadable.extend(page.unreadable);
                after = page.last;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(outbox)
    }

    /// Writes a mail to the outbox anew, which wakes the mailer. If a mailer is sending it
    /// right now, it is sent twice. Returns whether it was still there.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn retry_mail(&self, mail: &Mail) -> Result<bool, Error> {
        Ok(self.store.rewrite_mail(mail).await? == Write::Done(()))
    }

    async fn existing(&self, id: UserId) -> Result<User, Error> {
        self.store.user(id).await?.ok_or(Error::NotFound)
    }

    /// Deletes the rows of a user's dead sessions. They can no longer be used, so a failure
    /// is only logged.
    async fn sweep_all(&self, id: UserId) {
        if let Err(error) = self.delete_dead_sessions(id).await {
            tracing::warn!(user.id = %id, %error, "dead sessions were not deleted; the table deletes them once they expire");
        }
    }

    /// Reads a user and the credential. Returns `None` when the account has moved to
    /// another address between the two reads.
    async fn account(&self, id: UserId) -> Result<Option<(User, Credential)>, Error> {
        let user = self.existing(id).await?;
        Ok(self.credential(&user).await?.map(|credential| (user, credential)))
    }

    /// Reads the credential of a user. Returns `None` when it is lost, or the account has
    /// moved to another address.
    async fn credential(&self, user: &User) -> Result<Option<Credential>, Error> {
        Ok(self.store.credential(&user.email).await?.filter(|credential| credential.user_id == user.id))
    }

    pub(super) fn check_roles(&self, roles: &[String]) -> Result<(), Error> {
        let fits = self.config.check_roles(roles);
        fits.map_err(|fault| {
            Error::field("roles", "roles_too_long", format!("An access token cannot hold the roles: {fault}."))
        })
    }

    fn rules(&self, limited: &Limited) -> Vec<(Counter, Rule)> {
        match limited {
            Limited::Address(address) => self.rules_of_address(address),
            Limited::Email(email) => rules_of_email(email),
            Limited::User(user) => rules_of_email(&user.email).into_iter().chain(rules_of_id(user.id)).collect(),
        }
    }

    fn rules_of_address(&self, address: &Address) -> Vec<(Counter, Rule)> {
        let limits = &self.config.limits;
        vec![
            (Counter::address(address), Rule::Most(limits.failures_per_address)),
            (Counter::address(address), Rule::Accounts(limits.accounts_per_address)),
            (Counter::registrations(address), Rule::Most(limits.registrations_per_address)),
            (Counter::mail_requests(address), Rule::Most(limits.mail_requests_per_address)),
            (Counter::links(address), Rule::Most(limits.links_per_address)),
        ]
    }

    fn limit(&self, counter: &Counter, rule: &Rule, state: CounterState, now: Timestamp) -> Limit {
        let CounterState { tries, latest, accounts, until } = state;
        let guesses = &self.config.limits.guesses;
        let (most, blocked_until) = match rule {
            Rule::Guesses => {
                let wait = guesses.wait(tries, latest.unwrap_or(now), now);
                let end = wait.map_or(Some(until), |wait| (wait > Duration::ZERO).then(|| now + wait));
                (Some(guesses.most), end)
            }
            Rule::Most(most) => (Some(*most), (tries >= *most).then_some(until)),
            Rule::Accounts(most) => (Some(*most), (accounts >= *most).then_some(until)),
            Rule::Unknown => (None, None),
        };
        let name = counter.name.split('#').next().unwrap_or_default();
        let (name, count) = match rule {
            Rule::Accounts(_) => (format!("{name}-accounts"), accounts),
            _ => (name.to_owned(), tries),
        };
        Limit { name, count, most, until, blocked_until }
    }
}

fn rules_of_email(email: &Email) -> Vec<(Counter, Rule)> {
    // All requests but resets are counted together.
    let requests = [Kind::Reset, Kind::Verify].into_iter().flat_map(|kind| {
        let first = Counter::first_mail_to(email, kind);
        Counter::more_mails_to(email, kind).into_iter().chain([first])
    });
    let requests = requests.map(|counter| (counter, Rule::Unknown));
    std::iter::once((Counter::account(email), Rule::Guesses)).chain(requests).collect()
}

fn rules_of_id(id: UserId) -> impl Iterator<Item = (Counter, Rule)> {
    let guesses = [(Counter::outdated_devices(id), Rule::Guesses)];
    let changes = [(Counter::password_changes(id), Rule::Most(PASSWORD_CHANGES))];
    let asked = Counter::mails_of_user(id).into_iter().zip(MAILS_OF_USER.map(Rule::Most));
    let notices = Kind::ALL.into_iter().filter(|kind| kind.is_notice());
    let notices = notices.map(move |kind| (Counter::notices_to(id, kind), Rule::Unknown));
    guesses.into_iter().chain(changes).chain(asked).chain(notices)
}

/// Returns the error for an account that another act changes at every attempt. The account
/// of a user without a credential looks like one that is being moved.
fn keeps_changing() -> Error {
    let message = "The account changes at every attempt, or has no credential. Nothing was done.";
    Error::field("user", "keeps_changing", message)
}

/// Returns the user, unless disabled.
fn enabled(user: User) -> Result<User, Error> {
    if user.is_active {
        return Ok(user);
    }
    Err(Error::field("user", "user_disabled", "The user is disabled. Enable the user first."))
}

/// Returns a password of 256 random bits that nobody learns.
pub(super) fn unknown_password() -> Result<Password, Error> {
    let text = SecretString::from(URL_SAFE_NO_PAD.encode(*Zeroizing::new(entropy::bytes::<32>())));
    Password::presented(text.expose_secret()).ok_or_else(|| Error::Internal("a random password is too long".into()))
}
