//! `--demo`: users, sessions and a secret that are the same at every start. The
//! secret is public, so it is accepted only with `--demo`.
//!
//! There is one user to try things with, and one for each event in `events/` that
//! changes something, so that the events work in any order.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use freshkey::Timestamp;
use freshkey::auth::App;
use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::limit::Counter;
use freshkey::password::Password;
use freshkey::proof::{MailToken, Proof, Purpose};
use freshkey::session::{Hash, Secret, Session};
use freshkey::store::{Store, StoreError};
use freshkey::token::{KeyRing, RefreshToken};
use freshkey::user::{Credential, Profile, User};
use futures_util::future::try_join_all;
use secrecy::SecretString;

/// The secret that signs the tokens.
pub const SECRET: &str = freshkey::token::DEMO_SECRET;
/// The address of the user to try things with.
pub const EMAIL: &str = "demo@example.com";
/// The password of all users.
pub const PASSWORD: &str = "four friendly foxes";
/// The address that `events/register.json` registers.
pub const NEWCOMER: &str = "newcomer@example.com";
/// The address that `events/email-confirm-change.json` moves an account to.
pub const MOVED: &str = "moved@example.com";
/// The Idempotency-Key of the requests that spent the demo's spent tokens and links.
pub const IDEMPOTENCY_KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// The default port of the table on 127.0.0.1.
pub const TABLE_PORT: u16 = 8000;
/// The time when every user logged in: 2026-01-01T00:00:00Z.
pub const LOGIN: Timestamp = Timestamp::from_seconds(1_767_225_600);
/// The time when the demo's tokens expire: 2100-01-01T00:00:00Z.
pub const END: Timestamp = Timestamp::from_seconds(4_102_444_800);

/// The user to try things with and the users of the events. The flag is true if
/// the user's first refresh token is spent.
const CALLERS: [(&str, bool); 27] = [
    ("demo", false),
    ("email-change", false),
    ("email-confirm", false),
    ("email-confirm-change", false),
    ("email-confirm-taken", false),
    ("email-verification", false),
    ("logout", false),
    ("logout-cookie", false),
    ("logout-header", false),
    ("me-change", false),
    ("me-delete", false),
    ("me-renewed", false),
    ("password", false),
    ("password-reset", false),
    ("password-reset-repeated", false),
    ("password-reset-weak", false),
    ("refresh", false),
    ("refresh-cookie", false),
    ("refresh-form", false),
    ("refresh-lexik", false),
    ("refresh-lexik-form", false),
    ("refresh-lexik-reused", true),
    ("refresh-retried", true),
    ("refresh-reused", true),
    ("sessions-end", false),
    ("sessions-end-all", false),
    ("sessions-end-others", false),
];

const RESET: Purpose = Purpose::Reset { password_changed_at: LOGIN };
const VERIFY: Purpose = Purpose::Verify { epoch: 0 };
const CHANGE: Purpose = Purpose::Change { epoch: 0 };

/// The users who were mailed a link: what it is for, the address if it is not the
/// user's, and whether the link has been used.
const LINKS: [(&str, Purpose, Option<&str>, bool); 6] = [
    ("email-confirm", VERIFY, None, false),
    ("email-confirm-change", CHANGE, Some(MOVED), false),
    ("email-confirm-taken", CHANGE, Some(EMAIL), false),
    ("password-reset", RESET, None, false),
    ("password-reset-repeated", RESET, None, true),
    ("password-reset-weak", RESET, None, false),
];

/// Why the demo cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The table cannot be written.
    #[error("the demo's users cannot be written: {0}")]
    Store(#[from] StoreError),
    /// The system refuses a value of the demo.
    #[error("the demo cannot be set up: {0}")]
    Value(String),
}

impl DemoError {
    fn value(fault: impl ToString) -> Self {
        Self::Value(fault.to_string())
    }
}

/// A user who is signed in on two devices, here and elsewhere.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub user: User,
    /// The session here.
    pub here: Session,
    /// The session elsewhere.
    pub elsewhere: Session,
    /// The first refresh token of the session here, spent or not.
    pub refresh_token: RefreshToken,
    /// The link that was mailed to the user, if one was.
    pub link: Option<Link>,
}

/// A link in a mail.
#[derive(Clone, Debug)]
pub struct Link {
    /// The token in it.
    pub token: String,
    proof: Proof,
}

impl Link {
    /// Returns the link that was mailed to the user `name`, if one was.
    fn to(name: &str, user: &User) -> Result<Option<Self>, DemoError> {
        let Some((_, purpose, address, is_used)) = LINKS.into_iter().find(|(of, ..)| *of == name) else {
            return Ok(None);
        };
        let bytes = Hash::of(&[b"link of ", name.as_bytes()]);
        let token = BASE64_URL_SAFE_NO_PAD.encode(bytes.as_bytes());
        let parsed = MailToken::parse(&token).ok_or_else(|| DemoError::value("link"))?;
        let email = address.map_or_else(|| Ok(user.email.clone()), Email::parse).map_err(DemoError::value)?;
        let used_by = is_used.then(spender);
        let proof = Proof { expires_at: END, used_by, ..Proof::new(&parsed, user.id, email, purpose, LOGIN) };
        Ok(Some(Self { token, proof }))
    }
}

/// Returns the attempt that spent what is spent.
fn spender() -> Hash {
    Hash::of(&[b"idempotency-key:", IDEMPOTENCY_KEY.as_bytes()])
}

impl Caller {
    /// Returns the user `name`, who is the same at every start.
    fn new(name: &str, is_spent: bool) -> Result<Self, DemoError> {
        let user = User {
            id: UserId::parse(&id_of("user", name)).ok_or_else(|| DemoError::value("user"))?,
            email: Email::parse(&format!("{name}@example.com")).map_err(DemoError::value)?,
            email_verified: None,
            roles: vec!["ROLE_USER".into()],
            is_active: true,
            epoch: 0,
            profile: Profile { first_name: Some("Demo".into()), ..Profile::default() },
            created_at: LOGIN,
            imported_at: None,
        };
        let session = |place: &str| {
            let id = SessionId::parse(&id_of(place, name)).ok_or_else(|| DemoError::value("session"))?;
            let secret = Secret::from_bytes(*Hash::of(&[b"secret of ", id.to_string().as_bytes()]).as_bytes());
            let session = Session {
                id,
                user_id: user.id,
                generation: 1,
                secret_hash: secret.hash(),
                attempt: None,
                rotated_at: LOGIN,
                created_at: LOGIN,
                opened_at: LOGIN,
                last_used_at: LOGIN,
                expires_at: END,
                epoch: user.epoch,
                revoked_at: None,
                client: Client { ip: "192.0.2.1".into(), user_agent: "the demo".into() },
            };
            Ok::<_, DemoError>((session, secret))
        };
        let ((mut here, secret), (elsewhere, _)) = (session("here")?, session("elsewhere")?);
        let refresh_token = RefreshToken::first(&here, secret, END);
        if is_spent {
            here.generation = 2;
            here.attempt = Some(spender());
        }
        let link = Link::to(name, &user)?;
        Ok(Self { user, here, elsewhere, refresh_token, link })
    }
}

/// Returns the id of the user `name` or of one of their sessions. `what` is `user`,
/// `here` or `elsewhere`.
fn id_of(what: &str, name: &str) -> String {
    let hash = Hash::of(&[what.as_bytes(), b" of ", name.as_bytes()]);
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Returns all users of the demo, each with their name.
///
/// # Errors
///
/// [`DemoError::Value`] if the system refuses one of their values.
pub fn callers() -> Result<Vec<(&'static str, Caller)>, DemoError> {
    CALLERS.into_iter().map(|(name, is_spent)| Ok((name, Caller::new(name, is_spent)?))).collect()
}

/// Writes the demo's users and sessions, over those of an earlier demo, and
/// returns the refresh token of the user to try things with.
///
/// # Errors
///
/// [`DemoError::Store`] if the table cannot be written; [`DemoError::Value`] if
/// the system refuses a value.
pub async fn set_up(app: &App) -> Result<SecretString, DemoError> {
    let password = Password::presented(PASSWORD).ok_or_else(|| DemoError::value("password"))?;
    // Hashing is slow by design, so all users share one hash.
    let password_hash = app.hasher().hash(&password).await.map_err(DemoError::value)?;
    let callers = callers()?;
    for email in [NEWCOMER, MOVED] {
        forget(app.store(), email).await?;
    }
    let seeded = callers.iter().map(|(_, caller)| {
        let Caller { user, here, elsewhere, link, .. } = caller;
        let password_hash = password_hash.clone();
        async move {
            let credential = Credential::new(user, password_hash, LOGIN);
            app.store().seed_user(user, &credential, &[here, elsewhere]).await?;
            if let Some(Link { proof, .. }) = link {
                app.store().put_proof(proof).await?;
            }
            for counter in Counter::mails_of_user(user.id) {
                app.store().clear(&counter).await?;
            }
            Ok::<_, StoreError>(())
        }
    });
    try_join_all(seeded).await?;
    let (_, demo) = callers.first().ok_or_else(|| DemoError::value("nobody"))?;
    let keys = KeyRing::demo().map_err(DemoError::value)?;
    app.config().refresh_tokens.sign(&keys, &demo.refresh_token).map_err(DemoError::value)
}

/// Deletes the user of `email`, so that the address can be registered again in the
/// table of an earlier demo.
async fn forget(store: &Store, email: &str) -> Result<(), DemoError> {
    let email = Email::parse(email).map_err(DemoError::value)?;
    if let Some(credential) = store.credential(&email).await?
        && let Some(user) = store.user(credential.user_id).await?
    {
        // A refusal means that the user has just changed. Then the address stays taken.
        let _ = store.delete_user(&user, Some(&credential.password_hash), None).await?;
    }
    Ok(())
}
