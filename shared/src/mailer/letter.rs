//! The letters: what each kind of mail says, in words that can be changed here.
//!
//! The words are in [`words`]; `templates/letter.txt` and `templates/letter.html` lay
//! them out, the latter with everything escaped.

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use url::Url;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::mail::{Kind, Mail};
use crate::text;

/// The most characters of a `User-Agent` in a letter.
const MAX_PROGRAM: usize = 100;

/// A letter. It may hold a token, so it has no `Debug`.
pub struct Letter {
    /// The subject.
    pub subject: String,
    /// The letter as text.
    pub text: String,
    /// The letter as HTML.
    pub html: String,
}

/// The words of a letter.
struct Words {
    subject: String,
    /// What has happened.
    opening: String,
    /// What the link does.
    action: &'static str,
    /// What to do, also if it was not the reader.
    advice: String,
}

#[derive(Template)]
#[template(path = "letter.txt")]
struct Text<'a> {
    words: &'a Words,
    link: Option<&'a str>,
    when: &'a str,
    ip: &'a str,
    program: Option<&'a str>,
    app: &'a str,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    words: &'a Words,
    link: Option<&'a str>,
    when: &'a str,
    ip: &'a str,
    program: Option<&'a str>,
    app: &'a str,
}

impl Letter {
    /// Writes the letter of a mail, in the name of `app`. `link` is the URL that it
    /// brings.
    ///
    /// # Errors
    ///
    /// [`askama::Error`] when a template cannot be filled in, which happens with no
    /// words of this module.
    pub fn write(mail: &Mail, app: &str, link: Option<&SecretString>) -> askama::Result<Self> {
        let app = &plain(app);
        let words = &words(mail.kind, link.is_some(), app);
        let link = link.map(ExposeSecret::expose_secret);
        let when = &date(mail.written_at);
        let (ip, program) = origin(&mail.client);
        let (ip, program) = (ip.as_str(), program.as_deref());
        Ok(Self {
            subject: words.subject.clone(),
            text: Text { words, link, when, ip, program, app }.render()?,
            html: Html { words, link, when, ip, program, app }.render()?,
        })
    }
}

/// Returns what a letter says.
fn words(kind: Kind, has_link: bool, app: &str) -> Words {
    let reset = format!("If it was not you, reset your password now: ask for a new one where you log in to {app}.");
    let (subject, opening, action, advice) = match kind {
        Kind::Reset => (
            format!("Reset your {app} password"),
            format!("Somebody asked to reset the password of your {app} account. If it was you, choose a new one:"),
            "Choose a new password",
            "The link is good for one hour and works once. If it was not you, ignore this mail: nothing changes."
                .into(),
        ),
        Kind::Verify => (
            format!("Confirm your e-mail address for {app}"),
            format!("Please confirm that this is the e-mail address of your {app} account:"),
            "Confirm this address",
            format!(
                "The link is good for one day and works once, where you are logged in. If you have no account with \
                 {app}, ignore this mail."
            ),
        ),
        Kind::Change if has_link => (
            format!("Confirm your new e-mail address for {app}"),
            format!("Somebody asked to move their {app} account to this e-mail address. If it was you, confirm it:"),
            "Use this address",
            "The link is good for one day and works once, where you are logged in. If it was not you, ignore this \
             mail: nothing changes."
                .into(),
        ),
        Kind::Change => (
            format!("Somebody tried to use your e-mail address for {app}"),
            format!("Somebody asked to move another {app} account to this e-mail address."),
            "",
            "This address already has an account, so nothing changes. If it was you, log in with this address, or \
             reset its password. If it was not you, there is nothing to do."
                .into(),
        ),
        Kind::PasswordChanged => (
            format!("Your {app} password was changed"),
            format!("The password of your {app} account was changed."),
            "",
            format!("If it was you, there is nothing to do. {reset}"),
        ),
        Kind::PasswordReset => (
            format!("Your {app} password was reset"),
            format!(
                "The password of your {app} account was reset with a link from a mail, and every device was logged out."
            ),
            "",
            "If it was you, there is nothing to do. If it was not you, somebody else reads your mails: change the \
             password of your mailbox first, then reset this one again."
                .into(),
        ),
        Kind::ChangeRequested => (
            format!("Your {app} account is about to move to another e-mail address"),
            format!(
                "Somebody who knows your password asked to move your {app} account to another e-mail address. It \
                 moves when the new address is confirmed."
            ),
            "",
            format!("If it was you, there is nothing to do. {reset} That stops the move."),
        ),
        Kind::EmailChanged => (
            format!("Your {app} account has moved to another e-mail address"),
            format!("Your {app} account has moved to another e-mail address. You can no longer log in with this one."),
            "",
            format!("If it was you, there is nothing to do. If it was not you, tell the people behind {app} at once."),
        ),
        Kind::Reused => (
            format!("You were logged out of {app} on one device"),
            format!(
                "A login of your {app} account was used in two places, as if somebody had copied it, so it was \
                 ended. The last use came from the address below."
            ),
            "",
            format!(
                "Log in again on the device that asks you to. If you do not know the address, change your password \
                 in {app} too."
            ),
        ),
        Kind::AccountDeleted => (
            format!("Your {app} account was deleted"),
            format!("Your {app} account was deleted, and every device was logged out."),
            "",
            format!("If it was you, there is nothing to do. If it was not you, tell the people behind {app} at once."),
        ),
        Kind::NewDevice => (
            format!("A new device logged in to your {app} account"),
            format!("A device that has not been used before logged in to your {app} account."),
            "",
            format!("If it was you, there is nothing to do. {reset} That logs out every device."),
        ),
    };
    Words { subject, opening, action, advice }
}

/// Returns the URL of a link: the page of the app, with the token in the fragment, which
/// browsers send to no server.
pub fn url(page: &Url, token: &SecretString) -> SecretString {
    let mut url = page.clone();
    url.set_fragment(Some(&format!("token={}", token.expose_secret())));
    String::from(url).into()
}

/// Returns the sender for the header `From` (RFC 5322, section 3.4; RFC 2047, section 2,
/// for a name outside ASCII).
pub fn sender(app: &str, address: &str) -> String {
    let name = plain(app);
    if name.is_empty() {
        address.to_owned()
    } else if name.is_ascii() {
        format!("\"{}\" <{address}>", name.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        format!("=?UTF-8?B?{}?= <{address}>", STANDARD.encode(name))
    }
}

/// Returns a text without line ends and other controls.
fn plain(text: &str) -> String {
    text.chars().filter(|&c| !text::is_control(c)).collect()
}

/// Returns where a request came from: its IP address, and its program. Both were chosen
/// by whoever sent the request, so they must not become a link: mail programs make links
/// of host names too.
fn origin(client: &Client) -> (String, Option<String>) {
    let ip = client.ip.parse::<std::net::IpAddr>().map_or_else(|_| "unknown".to_owned(), |ip| ip.to_string());
    let cut: String =
        client.user_agent.chars().filter(|&c| c.is_ascii_graphic() || c == ' ').take(MAX_PROGRAM).collect();
    let mut program = String::new();
    let mut rest = cut.trim().chars().peekable();
    while let Some(c) = rest.next() {
        let is_apart = |next: &char| !next.is_ascii_digit() && *next != ' ';
        match c {
            '@' => program.push_str(" at "),
            '.' | ':' if rest.peek().is_some_and(is_apart) => {
                program.push(c);
                program.push(' ');
            }
            c => program.push(c),
        }
    }
    (ip, Some(program).filter(|program| !program.is_empty()))
}

/// Returns a time as a letter shows it: `21 November 2026, 17:57 UTC`.
fn date(moment: Timestamp) -> String {
    let Ok(date) = OffsetDateTime::from_unix_timestamp(moment.seconds()) else { return moment.to_string() };
    format!("{} {} {}, {:02}:{:02} UTC", date.day(), date.month(), date.year(), date.hour(), date.minute())
}
