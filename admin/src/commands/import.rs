//! `freshkey import` and `freshkey import-sessions`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use freshkey::auth::{NewToken, NewUser, TokenImport, UserImport};
use freshkey::email::Email;
use freshkey::id::UserId;
use freshkey::password::{PasswordHash, RefusedHash};
use freshkey::session::Hash;
use freshkey::token::ImportedTokens;
use freshkey::user::{Profile, ProfileField};
use freshkey::{Error, Timestamp};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Builder;

use crate::cli::ImportFile;
use crate::desk::Desk;
use crate::failure::Failure;
use crate::lines::{self, Done, Object, Refused, Run, Tally};

/// How many lines of a group are worked on at a time, unless one transaction does.
const PARALLEL: usize = 8;
/// What the id of a user is derived from, besides the address, when the file has none.
const ID: &[u8] = b"freshkey imported user:";

/// Imports users.
pub async fn users(desk: &Desk, import: &ImportFile, allow_no_password: bool) -> Result<(), Failure> {
    let app = if import.dry_run { desk.app() } else { desk.recorded("import", None).await? };
    let allow_no_password = allow_no_password || app.config().mail;
    let no_password = app.unknown_password_hash().await?;
    let seen = Seen::default();
    let read = |number: u64, object: Object| {
        let mut line = Members { object, now: desk.now() };
        let new = user(&mut line, allow_no_password.then_some(&no_password))
            .and_then(|new| seen.once("address", new.email.key().as_bytes(), number).map(|()| new));
        new.map_err(|reason| refused(reason, line.email()))
    };
    let some = async |new: &[NewUser]| {
        let outcomes = match import.dry_run {
            true => stream::iter(new).map(|new| app.try_user_import(new)).buffered(PARALLEL).collect().await,
            false => app.import_users(new).await,
        };
        new.iter().zip(outcomes).map(|(new, outcome)| done_with_user(&new.email, outcome)).collect()
    };
    let what = what("import", desk);
    let tally = lines::import(&import.file, run(&what, import), read, some, |line, why| entry(desk, line, why));
    end(desk, import, &tally.await?)
}

/// Imports refresh tokens.
pub async fn sessions(desk: &Desk, import: &ImportFile) -> Result<(), Failure> {
    let setting = desk.app().config().imported_tokens.as_ref();
    let tokens = setting.ok_or_else(|| {
        let message = "Imported tokens are off. Set ImportedTokensUntil (IMPORTED_TOKENS_UNTIL) first.";
        Failure::usage("imported_tokens_off", message)
    })?;
    if !desk.app().has_key_of(tokens).await? {
        let message = format!("The secret has no random secret {}, which ImportedTokensUntil names.", tokens.kid);
        return Err(Failure::usage("no_key", message));
    }
    let app = if import.dry_run { desk.app() } else { desk.recorded("import-sessions", None).await? };
    let seen = Seen::default();
    let read = |number: u64, object: Object| {
        let mut line = Members { object, now: desk.now() };
        let new = token(&mut line).and_then(|new| seen.once("token", new.sha256.as_bytes(), number).map(|()| new));
        new.map_err(|reason| refused(reason, line.email()))
    };
    let one = async |new: &NewToken| {
        let outcome = match import.dry_run {
            true => app.try_token_import(tokens, new).await?,
            false => app.import_token(tokens, new).await?,
        };
        Ok(done_with_token(&new.email, outcome))
    };
    let some = async |new: &[NewToken]| stream::iter(new).map(&one).buffered(PARALLEL).collect().await;
    let what = what("import-sessions", desk);
    let tally = lines::import(&import.file, run(&what, import), read, some, |line, why| entry(desk, line, why));
    end(desk, import, &tally.await?)
}

fn done_with_user(email: &Email, outcome: Result<UserImport, Error>) -> Result<Done, Error> {
    let reason = match outcome {
        Ok(UserImport::Imported) => return Ok(Done::Imported),
        Ok(UserImport::WasThere) => return Ok(Done::WasThere),
        Ok(UserImport::EmailTaken) => "the address has another account".to_owned(),
        Ok(UserImport::IdTaken) => "the id has another account".to_owned(),
        Err(Error::Validation(faults)) => faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join(" "),
        Err(error) => return Err(error),
    };
    Ok(Done::Refused(refused(reason, Some(email.clone()))))
}

fn done_with_token(email: &Email, outcome: TokenImport) -> Done {
    let reason = match outcome {
        TokenImport::Imported => return Done::Imported,
        TokenImport::WasThere => return Done::WasThere,
        TokenImport::Taken => "the token was imported for another account",
        TokenImport::NoAccount => "no account has this address",
        TokenImport::OtherSpelling => "the account of this address is written in another way",
        TokenImport::Registered => "the account of this address was registered here, not imported",
        TokenImport::Ended => "the user has ended all sessions since the import, or has moved to this address",
        TokenImport::Disabled => "the account is disabled",
        TokenImport::Expired => "the session has expired",
    };
    Done::Refused(refused(reason, Some(email.clone())))
}

/// Names a command and the table that it works on.
fn what(command: &str, desk: &Desk) -> String {
    let config = desk.app().config();
    format!("{command} into {} of {}", config.table_name, config.table_endpoint.as_deref().unwrap_or("AWS"))
}

fn run<'a>(what: &'a str, import: &ImportFile) -> Run<'a> {
    Run { what, dry_run: import.dry_run, resume: import.resume }
}

/// The lines of a run by what must not appear twice in a file.
#[derive(Default)]
struct Seen(RefCell<HashMap<[u8; 16], u64>>);

impl Seen {
    /// Notes that a line has this name. The error says which earlier line has it too.
    fn once(&self, what: &str, name: &[u8], line: u64) -> Result<(), String> {
        let mut short = [0; 16];
        short.copy_from_slice(&Hash::of(&[name]).as_bytes()[..16]);
        match self.0.borrow_mut().entry(short) {
            Entry::Occupied(earlier) => Err(format!("the {what} is in line {}, too", earlier.get())),
            Entry::Vacant(first) => {
                first.insert(line);
                Ok(())
            }
        }
    }
}

/// Prints a line that was refused.
fn entry(desk: &Desk, line: u64, Refused { reason, email }: &Refused) {
    let about = email.as_ref().map(|email| format!(" ({email})")).unwrap_or_default();
    let object = json!({ "line": line, "email": email, "reason": reason });
    desk.out.entry(&object, &format!("line {line}{about}: {reason}"));
}

/// Prints how many lines had each outcome. Lines that were refused make a failure.
fn end(desk: &Desk, import: &ImportFile, Tally { imported, there, refused }: &Tally) -> Result<(), Failure> {
    let summary = json!({ "imported": imported, "there": there, "refused": refused, "dry_run": import.dry_run });
    desk.out.object(&summary);
    match refused {
        0 => Ok(()),
        lines => {
            let lines = if *lines == 1 { "1 line was".to_owned() } else { format!("{lines} lines were") };
            let others = if import.dry_run { "can be imported" } else { "are imported" };
            Err(Failure::refused("lines_refused", format!("{lines} refused. The others {others}.")))
        }
    }
}

fn refused(reason: impl Into<String>, email: Option<Email>) -> Refused {
    Refused { reason: reason.into(), email: email.map(|email| masked(email.as_str())) }
}

/// Returns an address that shows its domain and its first character, unless that is all.
fn masked(email: &str) -> String {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let shown = if local.chars().count() > 1 { 1 } else { 0 };
    format!("{}***@{domain}", local.chars().take(shown).collect::<String>())
}

/// Reads a user. The error says what is wrong with the line.
fn user(line: &mut Members, no_password: Option<&PasswordHash>) -> Result<NewUser, String> {
    let email = line.address()?;
    let id = match line.text("id")? {
        Some(id) => UserId::parse(&id).ok_or("`id` must be a UUID in lower case")?,
        None => id_of(&email)?,
    };
    let stored = line.hash()?.map(PasswordHash::imported).transpose();
    let password_hash = match (stored, no_password) {
        (Ok(Some(hash)), _) => hash,
        (Ok(None) | Err(RefusedHash::Unknown), Some(no_password)) => no_password.clone(),
        (Ok(None), None) => return Err("it has no password hash, and mail is off: see --allow-no-password".into()),
        (Err(fault), _) => return Err(fault.to_string()),
    };
    let profile = Profile::build(|field: ProfileField| {
        let value = line.text(field.name())?;
        let fault = value.as_deref().and_then(|value| field.check(value).err());
        fault.map_or(Ok(value), |fault| Err(format!("`{}`: {fault}", field.name())))
    })?;
    let new = NewUser {
        id,
        email,
        email_verified: line.flag("email_verified")?,
        password_hash,
        roles: line.texts("roles")?,
        is_active: line.flag("is_active")?.unwrap_or(true),
        profile,
        created_at: line.past("created_at")?,
    };
    line.end()?;
    Ok(new)
}

/// Reads a refresh token. The error says what is wrong with the line.
fn token(line: &mut Members) -> Result<NewToken, String> {
    let email = line.address()?;
    let sha256 = match (line.text("refresh_token")?, line.text("refresh_token_sha256")?) {
        (Some(token), None) if !ImportedTokens::is_foreign(&token) => {
            return Err("`refresh_token` has more than 4096 bytes, or is one of Freshkey's own".into());
        }
        (Some(token), None) if !token.is_empty() => Hash::of(&[token.as_bytes()]),
        (None, Some(hash)) => sha256(&hash).ok_or("`refresh_token_sha256` must be 64 hexadecimal digits")?,
        _ => return Err("it must have either `refresh_token` or `refresh_token_sha256`".into()),
    };
    let login = line.past("created_at")?;
    let expires_at = line.time("expires_at")?.ok_or("`expires_at` is missing")?;
    line.end()?;
    Ok(NewToken { sha256, email, login, expires_at })
}

fn sha256(digits: &str) -> Option<Hash> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Hash::from_bytes(&(0..64).step_by(2).map(byte).collect::<Option<Vec<_>>>()?)
}

/// Returns the id of a user whose line has none: a UUID of version 8 (RFC 9562, section
/// 5.8) from the SHA-256 of the address, so that another run makes the same.
fn id_of(email: &Email) -> Result<UserId, String> {
    let hash = Hash::of(&[ID, email.key().as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    UserId::parse(&Builder::from_custom_bytes(bytes).into_uuid().to_string()).ok_or_else(|| "no id can be made".into())
}

/// The members of a line that were not read yet. `null` counts as missing.
struct Members {
    object: Object,
    /// When the line is read.
    now: Timestamp,
}

impl Members {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.object.remove(name).filter(|value| !value.is_null())
    }

    /// Returns the address, if the line has one that can be read.
    fn email(&self) -> Option<Email> {
        self.object.get("email").and_then(Value::as_str).and_then(|email| Email::parse(email).ok())
    }

    fn address(&mut self) -> Result<Email, String> {
        let Some(Value::String(email)) = self.object.get("email") else { return Err("`email` is missing".into()) };
        let email = Email::parse(email).map_err(|_| "`email` is no e-mail address")?;
        Ok(email)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{name}` must be a string")),
        }
    }

    /// Returns the password hash: a string, or the object of Keycloak's credential.
    fn hash(&mut self) -> Result<Option<String>, String> {
        match self.take("password_hash") {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Object(credential)) => Ok(Some(Value::Object(credential).to_string())),
            Some(_) => Err("`password_hash` must be a string, or a credential of Keycloak".into()),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(format!("`{name}` must be true or false")),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, String> {
        let fault = || format!("`{name}` must be a list of strings that are not empty");
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(list) = value else { return Err(fault()) };
        let texts = list.into_iter().map(|value| match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(fault()),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Returns a moment that is not in the future.
    fn past(&mut self, name: &str) -> Result<Option<Timestamp>, String> {
        let time = self.time(name)?;
        if time.is_some_and(|time| time > self.now) { Err(format!("`{name}` is in the future")) } else { Ok(time) }
    }

    /// Returns a moment: RFC 3339, or whole seconds since the epoch.
    fn time(&mut self, name: &str) -> Result<Option<Timestamp>, String> {
        let seconds = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => {
                OffsetDateTime::parse(&text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
            }
            Some(value) => value.as_i64(),
        };
        let seconds = seconds.filter(|seconds| (0..=MAX_SECONDS).contains(seconds));
        let fault = || format!("`{name}` must be a time such as 2026-11-26T12:00:00Z, or seconds since 1970");
        seconds.map(|seconds| Some(Timestamp::from_seconds(seconds))).ok_or_else(fault)
    }

    /// Checks that every member was read, so that nothing is lost because of a typing error.
    fn end(&mut self) -> Result<(), String> {
        const KNOWN: [&str; 1] = ["email"];
        match self.object.keys().filter(|name| !KNOWN.contains(&name.as_str())).count() {
            0 => Ok(()),
            1 => Err("it has a member that is not known here".into()),
            others => Err(format!("it has {others} members that are not known here")),
        }
    }
}

/// The last second of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;
