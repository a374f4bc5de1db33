//! Importing users and refresh tokens of another system. An import runs any number of
//! times with the same result: nothing that exists is changed.

use std::collections::HashSet;
use std::slice;

use futures_util::{StreamExt, stream};

use super::operator::unknown_password;
use super::{App, Error};
use crate::audit::{Act, Event};
use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::imported::ImportedToken;
use crate::password::PasswordHash;
use crate::session::{Hash, Refusal};
use crate::token::ImportedTokens;
use crate::user::{Credential, Profile, User};
use crate::write::Write;

/// How many users of a group are imported at a time if not all are new.
const PARALLEL: usize = 8;

/// A user of another system.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The id, which must be the same in every run.
    pub id: UserId,
    /// The e-mail address.
    pub email: Email,
    /// Whether the user has proven the address; `None` if the other system never asked.
    pub email_verified: Option<bool>,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// What the user may do; `None` for the roles of every new user.
    pub roles: Option<Vec<String>>,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// The profile.
    pub profile: Profile,
    /// When the user registered in the other system; `None` for the time of the import.
    pub created_at: Option<Timestamp>,
}

/// What became of a user who is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserImport {
    /// The user is new.
    Imported,
    /// The user was imported before, and may have changed since.
    WasThere,
    /// Another account has the address.
    EmailTaken,
    /// Another account has the id.
    IdTaken,
}

/// What became of a refresh token that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenImport {
    /// The token is new.
    Imported,
    /// The token was imported before, and may have been used since.
    WasThere,
    /// The token was imported before, for another user.
    Taken,
    /// No account has the address.
    NoAccount,
    /// The address of the account is written in another way. In the other system, that may
    /// have been another user.
    OtherSpelling,
    /// Somebody registered the account here, who need not be the owner of the token.
    Registered,
    /// The user has ended all sessions since the import of the account, or has moved to
    /// this address.
    Ended,
    /// The account is disabled.
    Disabled,
    /// The token or its session has expired.
    Expired,
}

/// A refresh token of another system.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The SHA-256 of the token.
    pub sha256: Hash,
    /// The address of the user who is signed in with it.
    pub email: Email,
    /// When the user logged in; `None` for the time of the import.
    pub login: Option<Timestamp>,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl App {
    /// Imports at most 50 users, and returns the outcome of each, in order. If all are new,
    /// one transaction writes them, which has room for a hundred items (Amazon DynamoDB API
    /// Reference, TransactWriteItems). Otherwise each is imported by itself.
    pub async fn import_users(&self, new: &[NewUser]) -> Vec<Result<UserImport, Error>> {
        match self.import_together(new).await {
            Ok(true) => new.iter().map(|_| Ok(UserImport::Imported)).collect(),
            Ok(false) => stream::iter(new).map(|new| self.import_if_new(new)).buffered(PARALLEL).collect().await,
            Err(error) => new.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Imports users all at once. Returns whether it did.
    async fn import_together(&self, new: &[NewUser]) -> Result<bool, Error> {
        let accounts = new.iter().cloned().map(|new| self.imported(new));
        let Ok(accounts) = accounts.collect::<Result<Vec<_>, _>>() else { return Ok(false) };
        // A transaction cannot write an item twice.
        let ids: HashSet<_> = new.iter().map(|new| new.id).collect();
        let addresses: HashSet<_> = new.iter().map(|new| new.email.key()).collect();
        if ids.len().min(addresses.len()) < new.len() {
            return Ok(false);
        }
        let is_done = self.store.create_users(&accounts).await? == Write::Done(());
        if is_done {
            accounts.iter().for_each(|(user, _)| self.record_import(user.id));
        }
        Ok(is_done)
    }

    /// Imports a user by itself, but looks first: a refused transaction costs as much as one
    /// that succeeds.
    async fn import_if_new(&self, new: &NewUser) -> Result<UserImport, Error> {
        match self.try_user_import(new).await? {
            UserImport::Imported => self.import_user(new.clone()).await,
            earlier => Ok(earlier),
        }
    }

    /// Imports a user, with a credential and no session, in one transaction. Nobody is
    /// told by mail.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] when an access token cannot hold the roles;
    /// [`Error::Unavailable`] when DynamoDB fails.
    pub async fn import_user(&self, new: NewUser) -> Result<UserImport, Error> {
        let account = self.imported(new)?;
        let user = &account.0;
        match self.store.create_users(slice::from_ref(&account)).await? {
            Write::Done(()) => {
                self.record_import(user.id);
                Ok(UserImport::Imported)
            }
            Write::Refused(()) => match self.look_up(user.id, &user.email).await? {
                // What was in the way has just been deleted.
                UserImport::Imported => Err(Error::unavailable()),
                earlier => Ok(earlier),
            },
        }
    }

    fn imported(&self, new: NewUser) -> Result<(User, Credential), Error> {
        let now = self.now();
        let roles = new.roles.unwrap_or_else(|| self.config.default_roles.clone());
        self.check_roles(&roles)?;
        let user = User {
            id: new.id,
            email: new.email,
            email_verified: new.email_verified,
            roles,
            is_active: new.is_active,
            epoch: first_epoch(now),
            profile: new.profile,
            created_at: new.created_at.unwrap_or(now).truncated(),
            imported_at: Some(now.truncated()),
        };
        let credential = Credential::new(&user, new.password_hash, now);
        Ok((user, credential))
    }

    fn record_import(&self, id: UserId) {
        self.record(Event::of(Act::UserCreated).about(id).because("imported"));
    }

    /// Returns what [`import_user`](Self::import_user) would do. Nothing is written.
    ///
    /// # Errors
    ///
    /// Those of [`import_user`](Self::import_user).
    pub async fn try_user_import(&self, new: &NewUser) -> Result<UserImport, Error> {
        self.check_roles(new.roles.as_deref().unwrap_or(&self.config.default_roles))?;
        self.look_up(new.id, &new.email).await
    }

    /// Returns what keeps a user from being imported, if anything does. Two addresses that
    /// differ only in case are one account here.
    async fn look_up(&self, id: UserId, email: &Email) -> Result<UserImport, Error> {
        let (user, credential) = tokio::try_join!(self.store.user(id), self.store.credential(email))?;
        let is_of_another = credential.as_ref().is_some_and(|credential| credential.user_id != id);
        Ok(match user {
            None if credential.is_none() => UserImport::Imported,
            _ if is_of_another => UserImport::EmailTaken,
            Some(user) if user.email.key() == email.key() && user.email.as_str() != email.as_str() => {
                UserImport::EmailTaken
            }
            // The user may have moved to another address since the import.
            Some(user) if user.email.key() != email.key() && !has_changed(&user) => UserImport::IdTaken,
            _ => UserImport::WasThere,
        })
    }

    /// Returns a hash that no password matches, for users who come without one. The way in
    /// is a reset.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no turn for hashing came in time.
    pub async fn unknown_password_hash(&self) -> Result<PasswordHash, Error> {
        Ok(self.hasher.hash(&unknown_password()?).await?)
    }

    /// Imports a refresh token, unless the account of its address is not an imported one.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the keys or the table cannot be read, or the ring lacks
    /// the key of `tokens`.
    pub async fn import_token(&self, tokens: &ImportedTokens, new: &NewToken) -> Result<TokenImport, Error> {
        match self.readied(tokens, new).await? {
            Ok(token) if self.store.put_imported_token(&token).await? == Write::Done(()) => Ok(TokenImport::Imported),
            Ok(token) => self.earlier_token(&token).await,
            Err(refused) => Ok(refused),
        }
    }

    /// Returns what [`import_token`](Self::import_token) would do. Nothing is written.
    ///
    /// # Errors
    ///
    /// Those of [`import_token`](Self::import_token).
    pub async fn try_token_import(&self, tokens: &ImportedTokens, new: &NewToken) -> Result<TokenImport, Error> {
        match self.readied(tokens, new).await? {
            Ok(token) => self.earlier_token(&token).await,
            Err(refused) => Ok(refused),
        }
    }

    /// Returns what keeps a token from being imported, if anything does.
    async fn earlier_token(&self, token: &ImportedToken) -> Result<TokenImport, Error> {
        Ok(match self.store.imported_token(token.name).await? {
            None => TokenImport::Imported,
            Some(earlier) if (earlier.user_id, earlier.epoch) == (token.user_id, token.epoch) => TokenImport::WasThere,
            Some(_) => TokenImport::Taken,
        })
    }

    /// Returns whether the ring has the key by which imported tokens are known.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the keys cannot be read.
    pub async fn has_key_of(&self, tokens: &ImportedTokens) -> Result<bool, Error> {
        Ok(tokens.name(&*self.ring().await?, &Hash::of(&[])).is_some())
    }

    /// Returns a token in the form in which the table holds it, or why it is refused.
    async fn readied(
        &self,
        tokens: &ImportedTokens,
        new: &NewToken,
    ) -> Result<Result<ImportedToken, TokenImport>, Error> {
        let now = self.now();
        let name = tokens.name(&*self.ring().await?, &new.sha256).ok_or_else(Error::unavailable)?;
        let Some(credential) = self.store.credential(&new.email).await? else { return Ok(Err(TokenImport::NoAccount)) };
        let Some(user) = self.store.user(credential.user_id).await? else { return Ok(Err(TokenImport::NoAccount)) };
        if user.imported_at.is_none() {
            return Ok(Err(TokenImport::Registered));
        } else if has_changed(&user) {
            return Ok(Err(TokenImport::Ended));
        } else if user.email.as_str() != new.email.as_str() {
            return Ok(Err(TokenImport::OtherSpelling));
        }
        let login = new.login.unwrap_or(now).truncated();
        let end = self.config.session_lifetime.absolute_end(login);
        let expires_at = new.expires_at.truncated().min(end);
        let token = ImportedToken { name, user_id: user.id, epoch: user.epoch, login, expires_at, exchange: None };
        Ok(match token.refusal(Some(user.state()), self.config.session_lifetime, now) {
            None => Ok(token),
            Some(Refusal::Expired) => Err(TokenImport::Expired),
            Some(_) => Err(TokenImport::Disabled),
        })
    }
}

/// Returns the epoch of a user who is imported at `now`. It never repeats, so nothing that
/// is left of a user who was deleted belongs to the same user who is imported again.
fn first_epoch(now: Timestamp) -> u64 {
    now.seconds().unsigned_abs()
}

/// Returns whether a user who was imported has ended all sessions since, or changed the
/// password or the address, which ends them too.
fn has_changed(user: &User) -> bool {
    user.imported_at.is_some_and(|imported_at| user.epoch != first_epoch(imported_at))
}
