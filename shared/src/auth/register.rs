//! Registration: a new user.

use super::{App, Error, FieldError, SignedIn};
use crate::audit::{Act, Event};
use crate::client::Client;
use crate::email::Email;
use crate::id::UserId;
use crate::password::Password;
use crate::session::Session;
use crate::user::{Credential, Profile, ProfileField, User};
use crate::write::Write;

/// The name of this service, which nobody may use as a password.
const SERVICE: &str = "freshkey";

impl App {
    /// Creates a user and opens a session, in one transaction, and with mail on also
    /// sends a link that proves the address. The caller cannot set
    /// roles or anything else that grants rights.
    ///
    /// # Errors
    ///
    /// [`Error::Validation`] with every field that is not accepted;
    /// [`Error::EmailTaken`] when the address has an account, after the same work as
    /// for a free address; [`Error::RateLimited`] when there were too many
    /// registrations from the client's address; [`Error::Unavailable`] when DynamoDB
    /// fails or no turn for hashing came in time.
    pub async fn register(
        &self,
        email: &str,
        password: &str,
        profile: Profile,
        client: Client,
    ) -> Result<SignedIn, Error> {
        let ring = &self.ring().await?;
        let mut faults = profile_faults(ProfileField::ALL.map(|field| (field, profile.get(field))));
        let email = self.mailable(email).map_err(|fault| faults.push(fault));
        let address = email.as_ref().ok();
        let password =
            self.new_password(password, address).map_err(|weak| faults.push(FieldError::password("password", weak)));
        let (Ok(email), Ok(password), []) = (email, password, faults.as_slice()) else {
            return Err(Error::Validation(faults));
        };
        self.count_registration(&client).await?;
        let password_hash = self.hasher.hash(&password).await?;
        let now = self.now();
        let user = User {
            id: UserId::random(),
            email,
            email_verified: self.config.mail.then_some(false),
            roles: self.config.default_roles.clone(),
            is_active: true,
            epoch: 0,
            profile,
            created_at: now.truncated(),
            imported_at: None,
        };
        let credential = Credential::new(&user, password_hash, now);
        let mail = self.first_verification(&user, &client, now);
        let (session, secret) = Session::open(user.id, user.epoch, client, now, self.config.session_lifetime);
        let tokens = self.tokens(ring, &user, &session, &self.first_token(&session, secret), now)?;
        let device_token = self.config.device_tokens.issue(ring, user.id, credential.password_changed_at, now)?;
        match self.store.create_user(&user, &credential, Some(&session), mail.as_ref()).await? {
            Write::Done(()) => {
                self.record(Event::of(Act::UserCreated).about(user.id).in_session(session.id));
                Ok(SignedIn { user, tokens, device_token: Some(device_token) })
            }
            Write::Refused(()) => Err(Error::EmailTaken),
        }
    }

    /// Checks a new password for the user with this address.
    pub(super) fn new_password(
        &self,
        password: &str,
        email: Option<&Email>,
    ) -> Result<Password, crate::password::WeakPassword> {
        let tokens = &self.config.access_tokens;
        let mut context = vec![SERVICE, &tokens.issuer, &tokens.audience];
        context.extend(email.into_iter().flat_map(|email| [email.as_str(), email.key(), email.local_part()]));
        Password::chosen(password, self.config.password_min_length, &context)
    }
}

/// Returns the profile fields with values that are not accepted.
pub(super) fn profile_faults<'a>(values: impl IntoIterator<Item = (ProfileField, Option<&'a str>)>) -> Vec<FieldError> {
    let fault = |(field, value): (ProfileField, Option<&str>)| {
        let invalid = field.check(value?).err()?;
        Some(FieldError { field: field.name(), code: invalid.code(), message: invalid.to_string() })
    };
    values.into_iter().filter_map(fault).collect()
}
