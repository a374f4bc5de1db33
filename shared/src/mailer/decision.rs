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
    /// Returns the user that the mail is about.
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
    } else if user.is_verified() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::password::PasswordHash;
    use crate::user::Profile;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_700);
    const REQUESTS: [Kind; 3] = [Kind::Reset, Kind::Verify, Kind::Change];

    fn email(address: &str) -> Email {
        Email::parse(address).unwrap()
    }

    fn user(address: &str) -> User {
        User {
            id: UserId::random(),
            email: email(address),
            email_verified: Some(false),
            roles: Vec::new(),
            is_active: true,
            epoch: 3,
            profile: Profile::default(),
            created_at: NOW,
            imported_at: None,
        }
    }

    fn account(user: &User) -> (User, Credential) {
        (user.clone(), Credential::new(user, PasswordHash::stored("hash".into()), NOW))
    }

    /// A mail to alice@example.com, or about her move to carol@example.com, as it is
    /// written at [`NOW`].
    fn mail(kind: Kind, alice: &User) -> Mail {
        let address = if kind == Kind::Change { "carol@example.com" } else { "Alice@example.com" };
        let account = (kind != Kind::Reset).then(|| alice.account());
        Mail::new(kind, email(address), account, Client::default(), NOW)
    }

    /// What becomes of a mail of each kind of request, in the state that the table has
    /// for `alice`, where she is at her address if `is_there`.
    fn decided(alice: &User, now: &User, is_there: bool) -> [Decision; 3] {
        REQUESTS.map(|kind| {
            let holder = (kind == Kind::Reset && is_there).then(|| account(now));
            decide(&mail(kind, alice), &Facts { user: Some(now.clone()), holder }, NOW)
        })
    }

    fn link(user: &User, to: &str, purpose: Purpose) -> Decision {
        Decision::Send { to: email(to), link: Some(Link { user_id: user.id, purpose }) }
    }

    #[test]
    fn a_request_gets_a_link_for_the_state_of_the_account() {
        let alice = user("alice@example.com");
        let reset = Purpose::Reset { password_changed_at: NOW.truncated() };
        let expected = [
            link(&alice, "alice@example.com", reset),
            link(&alice, "alice@example.com", Purpose::Verify { epoch: 3 }),
            link(&alice, "carol@example.com", Purpose::Change { epoch: 3 }),
        ];
        assert_eq!(decided(&alice, &alice, true), expected);
    }

    #[test]
    fn ml9_a_request_is_dropped_when_its_account_has_moved_on() {
        use Reason::{AlreadyVerified, Disabled, NoAccount, Superseded};
        let alice = user("alice@example.com");
        let sent = decided(&alice, &alice, true);
        let moved = User { email: email("alice@example.org"), epoch: 4, ..alice.clone() };
        let table = [
            (User { is_active: false, ..alice.clone() }, true, [Some(Disabled); 3]),
            (moved, false, [Some(NoAccount), Some(Superseded), Some(Superseded)]),
            (
                User { email: email("alice@example.org"), ..alice.clone() },
                false,
                [Some(NoAccount), Some(Superseded), None],
            ),
            (User { email_verified: Some(true), ..alice.clone() }, true, [None, Some(AlreadyVerified), None]),
            // Her sessions have ended, which keeps her from no reset.
            (User { epoch: 4, ..alice.clone() }, true, [None, Some(Superseded), Some(Superseded)]),
        ];
        for (now, is_there, reasons) in table {
            for ((decision, reason), sent) in decided(&alice, &now, is_there).into_iter().zip(reasons).zip(&sent) {
                assert_eq!(decision, reason.map_or(sent.clone(), Decision::Drop), "{now:?}");
            }
        }
        for kind in REQUESTS {
            let decision = decide(&mail(kind, &alice), &Facts::default(), NOW);
            assert_eq!(decision, Decision::Drop(NoAccount), "{kind:?}");
        }
    }

    #[test]
    fn ml9_a_reset_asked_for_before_the_password_changed_is_dropped() {
        let alice = user("alice@example.com");
        let reset = mail(Kind::Reset, &alice);
        for (seconds, is_dropped) in [(0, false), (1, false), (2, true), (60, true)] {
            let (user, credential) = account(&alice);
            let password_changed_at = credential.password_changed_at + Duration::from_secs(seconds);
            let facts = Facts { user: None, holder: Some((user, Credential { password_changed_at, ..credential })) };
            let decision = decide(&reset, &facts, NOW + Duration::from_secs(120));
            assert_eq!(decision == Decision::Drop(Reason::Superseded), is_dropped, "{seconds}: {decision:?}");
        }
    }

    #[test]
    fn a_reset_goes_to_the_address_as_the_account_holds_it_and_so_does_the_news_of_an_attempt_to_use_it() {
        let (alice, bob) = (user("alice@example.com"), user("CAROL@example.com"));
        let facts = Facts { user: Some(alice.clone()), holder: Some(account(&bob)) };
        let taken = decide(&mail(Kind::Change, &alice), &facts, NOW);
        assert_eq!(taken, Decision::Send { to: bob.email.clone(), link: None });
        let facts = Facts { user: None, holder: Some(account(&alice)) };
        let Decision::Send { to, .. } = decide(&mail(Kind::Reset, &alice), &facts, NOW) else { panic!("dropped") };
        assert_eq!(to.as_str(), "alice@example.com");
    }

    #[test]
    fn nobody_is_told_of_an_attempt_to_use_the_address_of_a_disabled_account_or_their_own() {
        let alice = user("alice@example.com");
        let disabled = User { is_active: false, ..user("carol@example.com") };
        let own = User { email: email("carol@example.com"), ..alice.clone() };
        for (holder, reason) in [(disabled, Reason::Disabled), (own, Reason::Superseded)] {
            let facts = Facts { user: Some(alice.clone()), holder: Some(account(&holder)) };
            assert_eq!(decide(&mail(Kind::Change, &alice), &facts, NOW), Decision::Drop(reason));
        }
    }

    #[test]
    fn a_notice_is_sent_whatever_has_become_of_the_account() {
        let alice = user("alice@example.com");
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_notice()) {
            let mail = mail(kind, &alice);
            let decision = decide(&mail, &Facts::default(), NOW);
            assert_eq!(decision, Decision::Send { to: mail.email, link: None }, "{kind:?}");
        }
    }

    #[test]
    fn a_mail_that_has_waited_too_long_is_dropped() {
        let alice = user("alice@example.com");
        let facts = |kind| Facts { user: Some(alice.clone()), holder: (kind == Kind::Reset).then(|| account(&alice)) };
        for kind in Kind::ALL {
            let mail = mail(kind, &alice);
            let just_before = mail.expires_at - Duration::from_millis(1);
            assert!(matches!(decide(&mail, &facts(kind), just_before), Decision::Send { .. }), "{kind:?}");
            assert_eq!(decide(&mail, &facts(kind), mail.expires_at), Decision::Drop(Reason::Expired), "{kind:?}");
        }
    }
}
