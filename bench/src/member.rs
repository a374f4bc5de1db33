//! Users who are signed in.

use freshkey::client::Client;
use freshkey::config::KeySource;
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::password::PasswordHash;
use freshkey::session::Session;
use freshkey::token::{KeyRing, RefreshToken, Subject};
use freshkey::user::{Credential, Profile, User};
use freshkey::{App, Clock, Config, SystemClock};
use secrecy::SecretString;

/// A user with a session and its first tokens.
pub struct Member {
    /// The user.
    pub user: User,
    /// The session.
    pub session: Session,
    /// Its first access token.
    pub access_token: SecretString,
    /// Its first refresh token.
    pub refresh_token: SecretString,
}

impl Member {
    /// Returns a user with this address who logs in now.
    pub fn new(email: &str, app: &App) -> Self {
        let (config, now) = (app.config(), SystemClock.now());
        let user = User {
            id: UserId::random(),
            email: Email::parse(email).unwrap(),
            email_verified: None,
            roles: config.default_roles.clone(),
            is_active: true,
            epoch: 0,
            profile: Profile::default(),
            created_at: now,
            imported_at: None,
        };
        let (session, secret) = Session::open(user.id, user.epoch, client(), now, config.session_lifetime);
        let first = RefreshToken::first(&session, secret, config.session_lifetime.absolute_end(now));
        let refresh_token = config.refresh_tokens.sign(keys(config), &first).unwrap();
        let subject = Subject {
            user_id: user.id,
            session_id: session.id,
            roles: &user.roles,
            email_verified: user.email_verified,
        };
        let access = config.access_tokens.issue(keys(config), &subject, first.absolute_end, now).unwrap();
        Self { user, session, access_token: access.token, refresh_token }
    }

    /// Writes the user, the session and `others` into the table.
    pub async fn write(&self, app: &App, password: &PasswordHash, others: &[Session]) {
        let credential = Credential::new(&self.user, password.clone(), self.user.created_at);
        let sessions: Vec<_> = std::iter::once(&self.session).chain(others).collect();
        app.store().seed_user(&self.user, &credential, &sessions).await.unwrap();
    }
}

/// Returns the client of every request.
pub fn client() -> Client {
    Client { ip: "198.51.100.7".into(), user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0".into() }
}

/// Returns the keys that [`settings`](crate::settings) give.
pub fn keys(config: &Config) -> &KeyRing {
    match &config.keys {
        KeySource::Given(keys) => keys,
        KeySource::None => unreachable!("the configuration was read with keys"),
        KeySource::Secret(_) => unreachable!("the settings hold a key"),
    }
}
