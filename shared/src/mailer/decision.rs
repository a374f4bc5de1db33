//! What becomes of a mail, given what the table says at the moment it is to be sent.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::mail::{Kind, Mail};
use crate::proof::Purpose;
use crate::user::{Credential, User};

/// The resolution of a credential's `password_changed_at`.
const RESOLUTION: Duration = Duration::from_secs(1);

/// What the table says about the account of a mail.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The user of the mail's account.
    pub user: Option<User>,
    /// The account that has the mail's address.
    pub holder: Option<(User, Credential)>,
}

impl Facts {
    /// Returns the user whom the mail is about.
    pub fn user_id(&self) -> Option<UserId> {
        self.user.as_ref().or(self.holder.as_ref().map(|(user, _)| user)).map(|user| user.id)
    }
}

/// What becomes of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is sent to this address.
    Send {
        /// The address, as the account holds it.
        to: Email,
        /// The link that the mail brings, if it brings one.
        link: Option<Link>,
    },
    /// It is not sent.
    Drop(Reason),
}

/// What the link of a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The user who may redeem it.
    pub user_id: UserId,
    /// What it is for.
    pub purpose: Purpose,
}

/// Why a mail is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has waited too long.
    Expired,
    /// There is no account.
    NoAccount,
    /// The user is disabled.
    Disabled,
    /// The account has changed since the mail was asked for.
    Superseded,
    /// The user has already proven the address.
    AlreadyVerified,
    /// The recipient has got as many mails as the limits allow.
    OverLimit,
    /// The address is not one that SES sends to.
    Unmailable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::NoAccount => "no_account",
            Self::Disabled => "disabled",
            Self::Superseded => "superseded",
            Self::AlreadyVerified => "already_verified",
            Self::OverLimit => "over_limit",
            Self::Unmailable => "unmailable",
        })
    }
}

/// Decides what becomes of a mail at `now`.
pub fn decide(mail: &Mail, facts: &Facts, now: Timestamp) -> Decision {
    if mail.expires_at <= now {
        return Decision::Drop(Reason::Expired);
    }
    let decided = match mail.kind {
        Kind::Reset => reset(mail, facts),
        Kind::Verify => verify(mail, facts),
        Kind::Change => change(mail, facts),
        _ => Ok((&mail.email, None)),
    };
    match decided {
        Ok((to, link)) => Decision::Send { to: to.clone(), link },
        Err(reason) => Decision::Drop(reason),
    }
}

type Decided<'a> = Result<(&'a Email, Option<Link>), Reason>;

fn reset<'a>(mail: &Mail, facts: &'a Facts) -> Decided<'a> {
    let (user, credential) = facts.holder.as_ref().ok_or(Reason::NoAccount)?;
    let password_changed_at = credential.password_changed_at;
    if !user.is_active {
        Err(Reason::Disabled)
    } else if password_changed_at > mail.written_at + RESOLUTION {
        Err(Reason::Superseded)
    } else {
        Ok((&user.email, Some(Link { user_id: user.id, purpose: Purpose::Reset { password_changed_at } })))
    }
}

fn verify<'a>(mail: &Mail, facts: &'a Facts) -> Decided<'a> {
    let user = unchanged(mail, facts)?;
    if user.email.key() != mail.email.key() {
        Err(Reason::Superseded)
    } else if user.email_verified {
        Err(Reason::AlreadyVerified)
    } else {
        Ok((&user.email, Some(Link { user_id: user.id, purpose: Purpose::Verify { epoch: user.epoch } })))
    }
}

/// Decides about a link to a new address. An account that has the address gets a mail
/// that somebody tried to use it.
fn change<'a>(mail: &'a Mail, facts: &'a Facts) -> Decided<'a> {
    let user = unchanged(mail, facts)?;
    match &facts.holder {
        None => {
            let purpose = Purpose::Change { epoch: user.epoch };
            Ok((&mail.email, Some(Link { user_id: user.id, purpose })))
        }
        // The user has moved to the address, by another link.
        Some((holder, _)) if holder.id == user.id => Err(Reason::Superseded),
        Some((holder, _)) if !holder.is_active => Err(Reason::Disabled),
        Some((holder, _)) => Ok((&holder.email, None)),
    }
}

/// Returns the user of a mail's account, if the account is as it was when the mail was
/// written.
fn unchanged<'a>(mail: &Mail, facts: &'a Facts) -> Result<&'a User, Reason> {
    let (account, user) = mail.account.zip(facts.user.as_ref()).ok_or(Reason::NoAccount)?;
    if !user.is_active {
        Err(Reason::Disabled)
    } else if user.epoch != account.epoch {
        Err(Reason::Superseded)
    } else {
        Ok(user)
    }
}
