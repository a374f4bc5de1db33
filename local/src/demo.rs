//! `--demo`: a system that everybody knows, the same at each start. Its secret
//! is public; nothing in it is worth a secret.

use freshkey::Timestamp;
use freshkey::auth::App;
use freshkey::email::Email;
use freshkey::id::{SessionId, UserId};
use freshkey::password::Password;
use freshkey::session::{Client, Secret, Session};
use freshkey::store::StoreError;
use freshkey::token::{Keys, RefreshToken};
use freshkey::user::{Credential, Profile, User};
use secrecy::SecretString;

/// What signs the tokens.
pub const SECRET: &str = "demo-0123456789-known-to-everyone-abcdefghijklmnop";
/// The user's address.
pub const EMAIL: &str = "demo@example.com";
/// The user's password.
pub const PASSWORD: &str = "four friendly foxes";

const USER: &str = "00000000-0000-4000-8000-000000000001";
const SESSION: &str = "00000000-0000-4000-8000-000000000002";
/// 2026-01-01T00:00:00Z.
const LOGIN: Timestamp = Timestamp::from_seconds(1_767_225_600);
/// 2100-01-01T00:00:00Z: the tokens of the demo are good for as long as it is.
const END: Timestamp = Timestamp::from_seconds(4_102_444_800);

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

/// Writes the demo's user and session over whatever is there, and gives the
/// session's refresh token.
///
/// # Errors
///
/// [`DemoError`] when the table cannot be written.
pub async fn set_up(app: &App) -> Result<SecretString, DemoError> {
    let absent = |what: &str| DemoError::Value(what.into());
    let user = User {
        id: UserId::parse(USER).ok_or_else(|| absent("user"))?,
        email: Email::parse(EMAIL).map_err(|fault| absent(&fault.to_string()))?,
        roles: app.config().default_roles.clone(),
        is_active: true,
        epoch: 0,
        profile: Profile { first_name: Some("Demo".into()), ..Profile::default() },
        created_at: LOGIN,
    };
    let password = Password::presented(PASSWORD).ok_or_else(|| absent("password"))?;
    let hashed = app.hasher().hash(&password).await;
    let password_hash = hashed.map_err(|fault| absent(&fault.to_string()))?;
    let credential = Credential { user_id: user.id, password_hash, epoch: user.epoch };
    let secret = Secret::from_bytes([7; 32]);
    let session = Session {
        id: SessionId::parse(SESSION).ok_or_else(|| absent("session"))?,
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
    app.store().seed_user(&user, &credential, &[&session]).await?;
    let keys = Keys::single(&SECRET.into()).map_err(|fault| absent(&fault.to_string()))?;
    let token = RefreshToken::first(&session, secret, END);
    let signed = app.config().refresh_tokens.sign(&keys, &token);
    signed.map_err(|fault| absent(&fault.to_string()))
}
