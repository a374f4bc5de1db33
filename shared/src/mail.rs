//! Mails that are to be sent: the records of the outbox, and the rule that every mail
//! follows.
//!
//! A *request* asks for a mail with a link; somebody typed an address, or wants an
//! address proven. A *notice* tells the owner of an account about a change to a way in,
//! and is written in the same transaction as that change. The function `mailer` sends
//! both, so that no request waits for a mail, and none can tell from the answer whether
//! an account exists.
//!
//! A record never holds a token: the mailer makes the token of a link, and keeps only
//! its hash in the table ([`crate::proof`]).

use std::time::Duration;

use uuid::Uuid;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::email::Email;
use crate::entropy;
use crate::id::UserId;
use crate::session::Hash;

/// The number of partitions of the outbox.
pub const SHARDS: u8 = 8;
/// How long a mail may wait in the outbox.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a request for a reset may wait. Somebody who still wants one has asked
/// again by then.
const RESET_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody has forgotten the password of this address. Asked by anybody.
    Reset,
    /// A user proves that the account's address is theirs.
    Verify,
    /// A user wants to move the account to this address.
    Change,
    /// The password was changed.
    PasswordChanged,
    /// The password was reset by a link.
    PasswordReset,
    /// Somebody asked to move the account to another address. Sent to the current one.
    ChangeRequested,
    /// The account was moved to another address. Sent to the earlier one.
    EmailChanged,
    /// A spent refresh token was presented again, and its session was ended.
    Reused,
    /// The account was deleted.
    AccountDeleted,
    /// A device that was not known before has logged in.
    NewDevice,
    /// An operator made a link that resets the password, which no mail brings.
    ResetLinkMade,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Reset,
        Self::Verify,
        Self::Change,
        Self::PasswordChanged,
        Self::PasswordReset,
        Self::ChangeRequested,
        Self::EmailChanged,
        Self::Reused,
        Self::AccountDeleted,
        Self::NewDevice,
        Self::ResetLinkMade,
    ];

    /// Returns its name in the table and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Verify => "verify",
            Self::Change => "change",
            Self::PasswordChanged => "password_changed",
            Self::PasswordReset => "password_reset",
            Self::ChangeRequested => "email_change_requested",
            Self::EmailChanged => "email_changed",
            Self::Reused => "reuse",
            Self::AccountDeleted => "account_deleted",
            Self::NewDevice => "new_device",
            Self::ResetLinkMade => "reset_link_made",
        }
    }

    /// Returns whether it tells of something that has happened. Notices are sent before
    /// requests, and are not limited.
    pub const fn is_notice(self) -> bool {
        !matches!(self, Self::Reset | Self::Verify | Self::Change)
    }

    /// Returns how long a mail of this kind may wait in the outbox.
    const fn patience(self) -> Duration {
        if matches!(self, Self::Reset) { RESET_PATIENCE } else { PATIENCE }
    }
}

/// The place of a mail in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MailId {
    /// The partition, from 0 to [`SHARDS`] - 1.
    pub shard: u8,
    /// The place within the partition. The mailer works from the lowest to the highest:
    /// notices before requests, older before newer.
    pub order: String,
}

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its place in the outbox.
    pub id: MailId,
    /// What it is about.
    pub kind: Kind,
    /// The address that it is about: the one that somebody typed ([`Kind::Reset`]), the
    /// new one ([`Kind::Change`]), or the account's.
    pub email: Email,
    /// The account, as it was when the mail was asked for, or before the change that the
    /// mail tells of. `None` for [`Kind::Reset`], because nobody looked whether there is
    /// one.
    pub account: Option<Account>,
    /// The client that caused it.
    pub client: Client,
    /// When it was written, in milliseconds.
    pub written_at: Timestamp,
    /// When it is too late to send it, in whole seconds.
    pub expires_at: Timestamp,
}

/// The account that a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub user_id: UserId,
    /// The user's epoch.
    pub epoch: u64,
}

impl Mail {
    /// Returns a mail to be written at `now`. All mails to one address are in the same
    /// shard.
    pub fn new(kind: Kind, email: Email, account: Option<Account>, client: Client, now: Timestamp) -> Self {
        let shard = Hash::of(&[b"mail:", email.key().as_bytes()]).as_bytes()[0] % SHARDS;
        let expires_at = (now + kind.patience()).truncated();
        Self { id: MailId::random(shard, kind, now), kind, email, account, client, written_at: now, expires_at }
    }

    /// Returns the same mail under a new id, in the same place of the order.
    pub fn renewed(&self) -> Self {
        Self { id: MailId::random(self.id.shard, self.kind, self.written_at), ..self.clone() }
    }
}

impl MailId {
    fn random(shard: u8, kind: Kind, written_at: Timestamp) -> Self {
        let class = if kind.is_notice() { 1 } else { 2 };
        let id = uuid::Builder::from_random_bytes(entropy::bytes()).into_uuid();
        Self { shard, order: format!("{class}#{:015}#{id}", written_at.millis()) }
    }

    /// Returns the unique part of the id.
    pub fn uuid(&self) -> Option<Uuid> {
        Uuid::parse_str(self.order.rsplit('#').next()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);

    fn mail(kind: Kind, address: &str, now: Timestamp) -> Mail {
        Mail::new(kind, Email::parse(address).unwrap(), None, Client::default(), now)
    }

    #[test]
    fn ml14_notices_come_before_requests_and_older_mails_before_newer_ones() {
        let later = NOW + Duration::from_millis(1);
        let order = |kind, now| mail(kind, "alice@example.com", now).id.order;
        assert!(order(Kind::PasswordReset, later) < order(Kind::Reset, NOW));
        assert!(order(Kind::Reset, NOW) < order(Kind::Verify, later));
        assert!(order(Kind::Reused, Timestamp::from_millis(999)) < order(Kind::EmailChanged, NOW));
    }

    #[test]
    fn mails_to_one_address_are_in_one_shard_and_many_addresses_use_every_shard() {
        let shard = |address: &str| mail(Kind::Reset, address, NOW).id.shard;
        assert_eq!(shard("alice@example.com"), shard("Alice@Example.COM"));
        let shards: BTreeSet<_> = (0..200).map(|at| shard(&format!("user{at}@example.com"))).collect();
        assert_eq!(shards, (0..SHARDS).collect());
    }

    #[test]
    fn a_request_for_a_reset_waits_15_minutes_and_any_other_mail_a_day() {
        for kind in Kind::ALL {
            let minutes = if kind == Kind::Reset { 15 } else { 24 * 60 };
            let expected = NOW.truncated() + Duration::from_secs(minutes * 60);
            assert_eq!(mail(kind, "alice@example.com", NOW).expires_at, expected, "{kind:?}");
        }
    }

    #[test]
    fn every_kind_has_its_own_name() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
