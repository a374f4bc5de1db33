//! `--demo`: a system that everybody knows, the same at each start. Its secret
//! is public; nothing in it is worth a secret.
//!
//! It has one user to play with, and one for each event of `events/` that
//! changes something, so that the events work in any order.

use freshkey::Timestamp;
use freshkey::auth::App;
use freshkey::client::Client;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::password::Password;
use freshkey::session::{Hash, Secret, Session};
use freshkey::store::{Store, StoreError};
use freshkey::token::{KeyRing, RefreshToken};
use freshkey::user::{Credential, Profile, User};
use futures_util::future::try_join_all;
use secrecy::SecretString;

/// What signs the tokens.
pub const SECRET: &str = freshkey::token::DEMO_SECRET;
/// The address of the user to play with.
pub const EMAIL: &str = "demo@example.com";
/// The password of all users.
pub const PASSWORD: &str = "four friendly foxes";
/// The address that `events/register.json` registers.
pub const NEWCOMER: &str = "newcomer@example.com";
/// The Idempotency-Key of the request by which a spent token was spent.
pub const IDEMPOTENCY_KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// Where the table listens, on 127.0.0.1.
pub const TABLE_PORT: u16 = 8000;
/// When everybody logged in: 2026-01-01T00:00:00Z.
pub const LOGIN: Timestamp = Timestamp::from_seconds(1_767_225_600);
/// 2100-01-01T00:00:00Z: the tokens of the demo are good for as long as it is.
pub const END: Timestamp = Timestamp::from_seconds(4_102_444_800);

/// The user to play with, and those of the events; and whether their first
/// refresh token is spent.
const CALLERS: [(&str, bool); 19] = [
    ("demo", false),
    ("logout", false),
    ("logout-cookie", false),
    ("logout-header", false),
    ("me-change", false),
    ("me-delete", false),
    ("me-renewed", false),
    ("password", false),
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

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The table could not be written.
    #[error("the demo's user cannot be written: {0}")]
    Store(#[from] StoreError),
    /// A value of the demo is not acceptable to the system.
    #[error("the demo cannot be made: {0}")]
    Value(String),
}

impl DemoError {
    fn value(fault: impl ToString) -> Self {
        Self::Value(fault.to_string())
    }
}

/// A user who is signed in, here and elsewhere.
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
}

impl Caller {
    /// The user `name`, who is the same at each start.
    fn new(name: &str, is_spent: bool) -> Result<Self, DemoError> {
        let user = User {
            id: UserId::parse(&id_of("user", name)).ok_or_else(|| DemoError::value("user"))?,
            email: Email::parse(&format!("{name}@example.com")).map_err(DemoError::value)?,
            roles: vec!["ROLE_USER".into()],
            is_active: true,
            epoch: 0,
            profile: Profile { first_name: Some("Demo".into()), ..Profile::default() },
            created_at: LOGIN,
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
            here.attempt = Some(Hash::of(&[b"idempotency-key:", IDEMPOTENCY_KEY.as_bytes()]));
        }
        Ok(Self { user, here, elsewhere, refresh_token })
    }
}

/// The id of what `name` has.
fn id_of(what: &str, name: &str) -> String {
    let hash = Hash::of(&[what.as_bytes(), b" of ", name.as_bytes()]);
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Everybody in the demo, by name.
///
/// # Errors
///
/// [`DemoError::Value`] when the system takes other values than these.
pub fn callers() -> Result<Vec<(&'static str, Caller)>, DemoError> {
    CALLERS.into_iter().map(|(name, is_spent)| Ok((name, Caller::new(name, is_spent)?))).collect()
}

/// Writes the demo's users and sessions over whatever is there, and gives the
/// refresh token of the user to play with.
///
/// # Errors
///
/// [`DemoError`] when the table cannot be written.
pub async fn set_up(app: &App) -> Result<SecretString, DemoError> {
    let password = Password::presented(PASSWORD).ok_or_else(|| DemoError::value("password"))?;
    // Dear to compute: one for all.
    let password_hash = app.hasher().hash(&password).await.map_err(DemoError::value)?;
    let callers = callers()?;
    forget(app.store(), NEWCOMER).await?;
    let seeded = callers.iter().map(|(_, caller)| {
        let Caller { user, here, elsewhere, .. } = caller;
        let password_hash = password_hash.clone();
        async move {
            let credential = Credential { user_id: user.id, password_hash, epoch: user.epoch };
            app.store().seed_user(user, &credential, &[here, elsewhere]).await
        }
    });
    try_join_all(seeded).await?;
    let (_, demo) = callers.first().ok_or_else(|| DemoError::value("nobody"))?;
    let keys = KeyRing::demo().map_err(DemoError::value)?;
    app.config().refresh_tokens.sign(&keys, &demo.refresh_token).map_err(DemoError::value)
}

/// Lets `email` register anew, where the table outlived an earlier demo.
async fn forget(store: &Store, email: &str) -> Result<(), DemoError> {
    let email = Email::parse(email).map_err(DemoError::value)?;
    if let Some(credential) = store.credential(&email).await?
        && let Some(user) = store.user(credential.user_id).await?
    {
        // Refused: somebody else is at it, and the address is taken after all.
        let _ = store.delete_user(&user, &credential.password_hash).await?;
    }
    Ok(())
}
