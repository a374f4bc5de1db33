//! `freshkey users`.

use freshkey::auth::operator::{Dossier, Limited, RolesChanged};
use freshkey::id::UserId;
use freshkey::imported::ImportedToken;
use freshkey::proof::{Proof, Purpose};
use freshkey::store::Rows;
use freshkey::user::{Profile, ProfileField, User};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use url::Url;

use super::{limits, mail, sessions};
use crate::cli::Users;
use crate::desk::{Desk, new_password};
use crate::failure::Failure;

const COLUMNS: &[&str] = &["email", "user_id", "email_verified", "is_active", "roles", "created_at"];

pub async fn run(desk: &Desk, command: Users) -> Result<(), Failure> {
    match command {
        Users::List { disabled, limit } => list(desk, disabled, limit).await,
        Users::Show(name) => show(desk, desk.app().find_user(&name.name).await?).await,
        Users::Create { email, role } => create(desk, &email, role).await,
        Users::Delete(name) => {
            let user = desk.app().find_user(&name.name).await?;
            desk.confirm(&format!("Delete the user {} with every session?", named(&user)))?;
            desk.recorded("users delete", user.id).await?.remove_user(user.id).await?;
            desk.out.object(&json!({ "user_id": user.id.to_string(), "deleted": true }));
            Ok(())
        }
        Users::Disable(name) => {
            let id = desk.app().find_user(&name.name).await?.id;
            desk.recorded("users disable", id).await?.disable_user(id).await?;
            reread(desk, id).await
        }
        Users::Enable(name) => {
            let id = desk.app().find_user(&name.name).await?.id;
            desk.recorded("users enable", id).await?.enable_user(id).await?;
            reread(desk, id).await
        }
        Users::Verify(name) => {
            let id = desk.app().find_user(&name.name).await?.id;
            let user = desk.recorded("users verify", id).await?.vouch_for_email(id).await?;
            desk.out.object(&row(&user));
            Ok(())
        }
        Users::Roles { user, add, remove, end_sessions } => {
            let id = desk.app().find_user(&user.name).await?.id;
            let app = desk.recorded("users roles", id).await?;
            let RolesChanged { user, earlier_tokens_until } = app.change_roles(id, &add, &remove, end_sessions).await?;
            let until = earlier_tokens_until.map(|until| until.to_string());
            if let Some(until) = &until {
                desk.out.remark(&format!("Access tokens with the earlier roles may be accepted until {until}."));
            }
            let mut changed = row(&user);
            changed["earlier_tokens_until"] = until.into();
            desk.out.object(&changed);
            Ok(())
        }
        Users::Rename { user, email } => {
            let user = desk.app().find_user(&user.name).await?;
            desk.confirm(&format!("Move the user {} to {email}, and end every session?", named(&user)))?;
            let user = desk.recorded("users rename", user.id).await?.rename_user(user.id, &email).await?;
            desk.out.object(&row(&user));
            Ok(())
        }
        Users::ResetLink { user, send, reset_url } => reset_link(desk, &user.name, send, reset_url).await,
        Users::Export(name) => {
            let id = desk.app().find_user(&name.name).await?.id;
            let dossier = desk.recorded("users export", id).await?.export_user(id).await?;
            desk.out.document(&export(desk, &dossier));
            Ok(())
        }
    }
}

async fn list(desk: &Desk, only_disabled: bool, limit: Option<usize>) -> Result<(), Failure> {
    desk.out.remark("This reads the whole table.");
    let mut list = desk.out.list(COLUMNS);
    let (mut left, mut unreadable, mut place) = (limit.unwrap_or(usize::MAX), 0, None);
    loop {
        let page = desk.app().store().scan(Rows::Users, place).await.map_err(freshkey::Error::from)?;
        unreadable += page.unreadable;
        for user in page.users.iter().filter(|user| !only_disabled || !user.is_active).take(left) {
            list.add(&row(user));
            left -= 1;
        }
        place = page.next;
        if place.is_none() || left == 0 {
            break;
        }
    }
    list.end();
    desk.out.unreadable(unreadable);
    Ok(())
}

async fn show(desk: &Desk, user: User) -> Result<(), Failure> {
    let (id, limited) = (user.id, Limited::User(user));
    let ((user, sessions), limits) = tokio::try_join!(desk.app().all_sessions(id), desk.app().limits(&limited))?;
    let mut shown = row(&user);
    shown["profile"] = profile(&user.profile);
    shown["sessions"] = sessions.iter().map(|one| sessions::row(one, Some(user.state()), desk.now())).collect();
    shown["limits"] = limits.iter().map(limits::row).collect();
    desk.out.object(&shown);
    Ok(())
}

async fn create(desk: &Desk, email: &str, roles: Vec<String>) -> Result<(), Failure> {
    let password = if desk.app().config().mail { None } else { Some(new_password()?) };
    let password = password.as_ref().map(ExposeSecret::expose_secret);
    let roles = Some(roles).filter(|roles| !roles.is_empty());
    let id = UserId::random();
    let user = desk.recorded("users create", id).await?.create_user(id, email, password, roles).await?;
    if password.is_none() {
        desk.out.remark("The user gets a mail with a link that sets a password.");
    }
    desk.out.object(&row(&user));
    Ok(())
}

async fn reset_link(desk: &Desk, name: &str, send: bool, page: Option<Url>) -> Result<(), Failure> {
    let user = desk.app().find_user(name).await?;
    let id = user.id;
    if send {
        desk.confirm(&format!("Mail the user {} a link that resets the password?", named(&user)))?;
        desk.recorded("users reset-link --send", id).await?.send_reset_link(id).await?;
        desk.out.object(&json!({ "user_id": id.to_string(), "sent": true }));
        return Ok(());
    }
    let setting = || desk.setting("RESET_URL").and_then(|url| Url::parse(url).ok());
    let missing = || Failure::usage("no_reset_url", "Give --reset-url, the page of your app that resets a password.");
    let mut link = page.or_else(setting).ok_or_else(missing)?;
    desk.confirm(&format!("Make a link with which anybody can log in as the user {}?", named(&user)))?;
    let reset = desk.recorded("users reset-link", id).await?.make_reset_link(id).await?;
    link.set_fragment(Some(&format!("token={}", reset.token.expose_secret())));
    let (link, expires_at) = (link.as_str(), reset.expires_at.to_string());
    desk.out.object(&json!({ "user_id": id.to_string(), "link": link, "expires_at": expires_at }));
    Ok(())
}

/// Names a user in a question.
fn named(user: &User) -> String {
    format!("{} ({})", user.email.as_str(), user.id)
}

/// Prints a user as the table has it after an act.
async fn reread(desk: &Desk, id: UserId) -> Result<(), Failure> {
    desk.out.object(&row(&desk.app().find_user(&id.to_string()).await?));
    Ok(())
}

fn row(user: &User) -> Value {
    json!({
        "user_id": user.id.to_string(),
        "email": user.email.as_str(),
        "email_verified": user.is_verified(),
        "is_active": user.is_active,
        "roles": user.roles,
        "created_at": user.created_at.to_string(),
    })
}

fn profile(profile: &Profile) -> Value {
    let fields = ProfileField::ALL.into_iter();
    fields.map(|field| (field.name().to_owned(), profile.get(field).into())).collect::<Map<_, _>>().into()
}

/// Returns everything that is held about a user, without hashes.
fn export(desk: &Desk, dossier: &Dossier) -> Value {
    let Dossier { user, credential, sessions, limits, traces } = dossier;
    let mut export = row(user);
    export["epoch"] = user.epoch.into();
    export["profile"] = profile(&user.profile);
    let credential = credential.as_ref();
    export["password_changed_at"] = credential.map(|credential| credential.password_changed_at.to_string()).into();
    export["devices_since"] = credential.map(|credential| credential.devices_since.to_string()).into();
    export["sessions"] = sessions.iter().map(|one| sessions::row(one, Some(user.state()), desk.now())).collect();
    export["limits"] = limits.iter().map(limits::row).collect();
    export["mails"] = traces.mails.iter().map(mail::in_full).collect();
    export["links"] = traces.proofs.iter().map(link).collect();
    export["imported_at"] = user.imported_at.map(|moment| moment.to_string()).into();
    export["imported_tokens"] = traces.imported_tokens.iter().map(imported_token).collect();
    export
}

fn imported_token(token: &ImportedToken) -> Value {
    json!({
        "login": token.login.to_string(),
        "expires_at": token.expires_at.to_string(),
        "session_id": token.exchange.as_ref().map(|exchange| exchange.session_id.to_string()),
    })
}

fn link(proof: &Proof) -> Value {
    let purpose = match proof.purpose {
        Purpose::Reset { .. } => "reset",
        Purpose::Verify { .. } => "verify",
        Purpose::Change { .. } => "change",
    };
    json!({
        "purpose": purpose,
        "email": proof.email.as_str(),
        "expires_at": proof.expires_at.to_string(),
        "was_used": proof.used_by.is_some(),
    })
}
