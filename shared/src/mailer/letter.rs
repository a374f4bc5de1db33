//! The letters: what each kind of mail says. The words are in [`Parts::of`];
//! `templates/letter.txt` and `templates/letter.html` lay them out. The latter escapes
//! everything.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

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

/// What a letter is made of.
struct Parts<'a> {
    subject: String,
    /// What has happened.
    opening: String,
    /// What the link does.
    action: &'static str,
    link: Option<&'a str>,
    /// What to do, also if it was not the reader.
    advice: String,
    when: String,
    ip: String,
    program: Option<String>,
    app: &'a str,
}

#[derive(Template)]
#[template(path = "letter.txt")]
struct Text<'a> {
    letter: &'a Parts<'a>,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    letter: &'a Parts<'a>,
}

impl Letter {
    /// Writes the letter of a mail, in the name of `app`. `link` is the URL that it
    /// brings.
    ///
    /// # Errors
    ///
    /// [`askama::Error`] when a template cannot be filled in.
    pub fn write(mail: &Mail, app: &str, link: Option<&SecretString>) -> askama::Result<Self> {
        let app = plain(app);
        let letter = &Parts::of(mail, &app, link.map(ExposeSecret::expose_secret));
        let (text, html) = (Text { letter }.render()?, Html { letter }.render()?);
        Ok(Self { subject: letter.subject.clone(), text, html })
    }
}

impl<'a> Parts<'a> {
    fn of(mail: &Mail, app: &'a str, link: Option<&'a str>) -> Self {
        let fine = "If it was you, there is nothing to do. If it was not you,";
        let reset = format!("{fine} reset your password now: ask for a new one where you log in to {app}.");
        let tell = format!("{fine} tell the people behind {app} at once.");
        let (subject, opening, action, advice) = match mail.kind {
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
            Kind::Change if link.is_some() => (
                format!("Confirm your new e-mail address for {app}"),
                format!(
                    "Somebody asked to move their {app} account to this e-mail address. If it was you, confirm it:"
                ),
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
                reset,
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
                format!("{reset} That stops the move."),
            ),
            Kind::EmailChanged => (
                format!("Your {app} account has moved to another e-mail address"),
                format!(
                    "Your {app} account has moved to another e-mail address. You can no longer log in with this one."
                ),
                "",
                tell,
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
                tell,
            ),
            Kind::NewDevice => (
                format!("A new device logged in to your {app} account"),
                format!("A device that has not been used before logged in to your {app} account."),
                "",
                format!("{reset} That logs out every device."),
            ),
            Kind::ResetLinkMade => (
                format!("A link that resets your {app} password was made"),
                format!(
                    "The people behind {app} made a link with which the password of your {app} account can be reset. It \
                 is good for one hour."
                ),
                "",
                "If you asked them for it, there is nothing to do. If you did not, tell them at once.".into(),
            ),
        };
        Self {
            subject,
            opening,
            action,
            link,
            advice,
            when: date(mail.written_at),
            ip: ip(&mail.client),
            // Anybody can cause a request, and would choose this text of somebody else's mail.
            program: if mail.kind.is_notice() { program(&mail.client) } else { None },
            app,
        }
    }
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

/// Returns the address of a client. Any other text is `unknown`.
fn ip(client: &Client) -> String {
    client.ip.parse::<IpAddr>().map_or_else(|_| "unknown".to_owned(), |ip| ip.to_string())
}

/// Returns the `User-Agent` of a client, cut, and with spaces where a mail program might
/// otherwise make a link of a URL, a host name or an address. Anybody can send any
/// `User-Agent` to have it mailed to somebody else.
fn program(client: &Client) -> Option<String> {
    let printable = client.user_agent.chars().filter(|&c| c.is_ascii_graphic() || c == ' ');
    let agent: String = printable.take(MAX_PROGRAM).collect();
    let mut program = String::new();
    let mut characters = agent.trim().chars().peekable();
    let mut before = ' ';
    while let Some(c) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        let is_number = before.is_ascii_digit() && next.is_ascii_digit();
        match c {
            '@' => program.push_str(" at "),
            '.' | ':' if !is_number && next != ' ' => program.extend([c, ' ']),
            c => program.push(c),
        }
        before = c;
    }
    Some(program).filter(|program| !program.is_empty())
}

/// Returns a time as a letter shows it: `21 November 2026, 17:57 UTC`.
fn date(moment: Timestamp) -> String {
    let Ok(date) = OffsetDateTime::from_unix_timestamp(moment.seconds()) else { return moment.to_string() };
    format!("{} {} {}, {:02}:{:02} UTC", date.day(), date.month(), date.year(), date.hour(), date.minute())
}
