//! Limits on repeated attempts: what is counted, and how many are allowed.
//!
//! A guess is counted before its password is hashed, and given back when it was
//! right, so that many guesses at once cannot all find the counter at zero.
//! Four kinds of counters are used (OWASP, "Slow Down Online Guessing Attacks
//! with Device Cookies"):
//!
//! - failures at an *account*, from devices that have not logged in to it before: after
//!   a few, each guess has to wait longer than the one before;
//! - failures from a *device* that has logged in to it, which its device token proves:
//!   the same rule with a separate counter, so that nobody else can fill it;
//! - failures from all *outdated devices* of a user, whose tokens are older than
//!   the password: the same rule, with one counter for all of them;
//! - failures from an *address*, and the number of accounts they were at, because
//!   passwords that leaked elsewhere are tried once each, at many accounts.
//!
//! An account that does not exist is counted like one that does.
//!
//! Mails are limited too: by the address of the client in front, where a limit is
//! answered with 429, and by the recipient behind, where nobody sees it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::email::Email;
use crate::id::UserId;
use crate::mail::{Kind, MailId};
use crate::session::Hash;

/// How long failures at an account or from a device are remembered: the window
/// of [`Guesses::most`].
const MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The window of what is counted per address.
const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The limits on repeated attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wrong passwords at an account, or from a device that is known to it.
    pub guesses: Guesses,
    /// Wrong passwords from one address in an hour.
    pub failures_per_address: u64,
    /// Different accounts at which one address may fail in an hour.
    pub accounts_per_address: u64,
    /// Registrations from one address in an hour.
    pub registrations_per_address: u64,
    /// Requests for a reset of the password from one address in an hour.
    pub mail_requests_per_address: u64,
    /// Links that one address may redeem, or fail to redeem, in an hour.
    pub links_per_address: u64,
}

/// How many wrong passwords in succession are allowed, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guesses {
    /// How many are allowed without a pause.
    pub free: u64,
    /// How many are allowed until a right one, or until the window of 30 days ends.
    pub most: u64,
    /// The pause after the last free one. Each further wrong password doubles it.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

/// A row of [`Guesses::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The row applies to fewer failures than this.
    pub below: u64,
    /// How long after the latest guess the next one may be made.
    pub pause: Duration,
}

impl Guesses {
    /// Returns the rule as a table, from the fewest failures to the most. The first row
    /// that applies says how long to wait; if none applies, no guess is allowed.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step { below: self.free, pause: Duration::ZERO }];
        let mut pause = self.first_pause.min(self.longest_pause);
        while pause < self.longest_pause {
            steps.push(Step { below: self.free + steps.len() as u64, pause });
            pause *= 2;
        }
        steps.push(Step { below: self.most, pause: self.longest_pause });
        steps.into_iter().map(|step| Step { below: step.below.min(self.most), ..step }).collect()
    }

    /// Returns how long to wait at `now` after `failures`, the last of which was at
    /// `latest`, or `None` when no further guess is allowed.
    pub fn wait(&self, failures: u64, latest: Timestamp, now: Timestamp) -> Option<Duration> {
        let step = self.steps().into_iter().find(|step| failures < step.below)?;
        Some(until(latest + step.pause, now))
    }
}

/// A counter: what it counts, and for how long. Its window begins with its
/// first count, so that the windows of different counters end at different times.
#[derive(Clone, PartialEq, Eq)]
pub struct Counter {
    /// The name: what is counted, and the account, device or address it is counted for.
    pub name: String,
    /// How long the window lasts, from the first count.
    pub window: Duration,
}

impl Counter {
    /// Returns the counter of failures at an account, whether or not it exists.
    pub fn account(email: &Email) -> Self {
        Self { name: format!("account#{}", email.key()), window: MEMORY }
    }

    /// Returns the counter of failures from the device with this id.
    pub fn device(id: &str) -> Self {
        Self { name: format!("device#{id}"), window: MEMORY }
    }

    /// Returns the counter of failures from all devices of a user whose tokens are
    /// older than the password.
    pub fn outdated_devices(user: UserId) -> Self {
        Self { name: format!("outdated-devices#{user}"), window: MEMORY }
    }

    /// Returns the counter of failures from an address.
    pub fn address(address: &Address) -> Self {
        Self { name: format!("address#{address}"), window: HOUR }
    }

    /// Returns the counter of registrations from an address.
    pub fn registrations(address: &Address) -> Self {
        Self { name: format!("register#{address}"), window: HOUR }
    }

    /// Returns the counter of requests for a reset from an address.
    pub fn mail_requests(address: &Address) -> Self {
        Self { name: format!("forgot#{address}"), window: HOUR }
    }

    /// Returns the counter of links that were redeemed from an address.
    pub fn links(address: &Address) -> Self {
        Self { name: format!("link#{address}"), window: HOUR }
    }

    /// Returns the counters of the mails that a user asked for, within a minute and
    /// within a day.
    pub fn mails_of_user(user: UserId) -> [Self; 2] {
        let counter = |window: &str, length| Self { name: format!("mail-of-user-{window}#{user}"), window: length };
        [counter("minute", MINUTE), counter("day", DAY)]
    }

    /// Returns the counter of the first mail on request to a recipient within an hour.
    /// Resets are counted separately, so that no other mail uses up the owner's reset.
    pub fn first_mail_to(email: &Email, kind: Kind) -> Self {
        Self { name: format!("mail-first-{}#{}", class(kind), email.key()), window: HOUR }
    }

    /// Returns the counters of further mails on request to a recipient, within an hour
    /// and within a day. Resets are counted separately.
    pub fn more_mails_to(email: &Email, kind: Kind) -> [Self; 2] {
        let counter = |window: &str, length| Self {
            name: format!("mail-{window}-{}#{}", class(kind), email.key()),
            window: length,
        };
        [counter("hour", HOUR), counter("day", DAY)]
    }

    /// Returns the counter of notices of this kind to a user within an hour.
    pub fn notices_to(user: UserId, kind: Kind) -> Self {
        Self { name: format!("mail-notice-{}#{user}", kind.name()), window: HOUR }
    }

    /// Returns the counter of changes of a user's password.
    pub fn password_changes(user: UserId) -> Self {
        Self { name: format!("password-changes#{user}"), window: DAY }
    }

    /// Returns when a window that begins at `now` ends, in whole seconds.
    pub fn end(&self, now: Timestamp) -> Timestamp {
        (now + self.window).truncated()
    }
}

/// Leaves out the name, which contains the e-mail address or the IP address of a client.
impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("window", &self.window).finish_non_exhaustive()
    }
}

/// The part of a counter's name that separates resets from the other mails on request.
fn class(kind: Kind) -> &'static str {
    if kind == Kind::Reset { "reset" } else { "other" }
}

/// A short hash of a thing that a counter counts once, however often it comes: an
/// account that an address has tried, or a mail. Two things with the same tag count as
/// one, which does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag([u8; 8]);

impl Tag {
    /// Returns the tag of an account.
    pub fn of_account(email: &Email) -> Self {
        Self::of(b"account:", email.key())
    }

    /// Returns the tag of a mail.
    pub fn of_mail(id: &MailId) -> Self {
        Self::of(b"mail:", &id.order)
    }

    fn of(kind: &[u8], name: &str) -> Self {
        let hash = Hash::of(&[kind, name.as_bytes()]);
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.as_bytes()[..8]);
        Self(tag)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The address that a request is counted by: a whole IPv4 address, or the /64 network
/// of an IPv6 address, because one customer usually gets a whole /64. All texts that
/// are not IP addresses count as one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Returns the address of a client.
    pub fn of(ip: &str) -> Self {
        Self(match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            Err(_) => "unknown".into(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns how long to wait at `now` until `moment`; zero when it has passed.
pub fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(moment.millis().saturating_sub(now.millis()).max(0) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const GUESSES: Guesses =
        Guesses { free: 5, most: 100, first_pause: Duration::from_secs(30), longest_pause: Duration::from_secs(3600) };

    fn pause(guesses: &Guesses, failures: u64) -> Option<u64> {
        guesses.wait(failures, NOW, NOW).map(|wait| wait.as_secs())
    }

    #[test]
    fn rl1_five_guesses_are_free_and_then_the_pause_doubles_from_30_seconds_to_an_hour() {
        for failures in 0..5 {
            assert_eq!(pause(&GUESSES, failures), Some(0), "{failures}");
        }
        let pauses = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600];
        for (failures, expected) in (5..).zip(pauses) {
            assert_eq!(pause(&GUESSES, failures), Some(expected), "{failures}");
        }
        assert_eq!(pause(&GUESSES, 99), Some(3600));
        assert_eq!(pause(&GUESSES, 100), None);
    }

    #[test]
    fn the_wait_is_the_rest_of_the_pause() {
        let later = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!(GUESSES.wait(5, NOW, later(10)), Some(Duration::from_secs(20)));
        assert_eq!(GUESSES.wait(5, NOW, later(30)), Some(Duration::ZERO));
        assert_eq!(GUESSES.wait(5, NOW, later(31)), Some(Duration::ZERO));
    }

    #[test]
    fn rows_rise_in_failures_and_in_pause_for_every_rule() {
        let odd = [
            GUESSES,
            Guesses { most: 3, ..GUESSES },
            Guesses { free: 1_000_000, most: 1_000_000, ..GUESSES },
            Guesses { first_pause: Duration::from_secs(7200), ..GUESSES },
            Guesses { first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(86_400), ..GUESSES },
        ];
        for guesses in odd {
            let steps = guesses.steps();
            assert!(steps.is_sorted_by(|one, next| one.below <= next.below && one.pause < next.pause), "{steps:?}");
            assert!(steps.len() <= 20, "{steps:?}");
            assert_eq!(steps.last().unwrap().below, guesses.most);
            assert_eq!(steps.last().unwrap().pause, guesses.longest_pause);
        }
    }

    #[test]
    fn rl3_an_address_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        for (ip, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("", "unknown"),
            ("192.0.2.1, 198.51.100.7", "unknown"),
        ] {
            assert_eq!(Address::of(ip).to_string(), address, "{ip}");
        }
    }

    #[test]
    fn rl5_a_window_is_counted_from_its_first_count() {
        let address = Counter::address(&Address::of("192.0.2.1"));
        for seconds in [0, 1, 1234] {
            let first = NOW + Duration::from_secs(seconds);
            assert_eq!(address.end(first), first + HOUR);
            assert_eq!(address.end(first + Duration::from_millis(999)), first + HOUR);
        }
    }

    #[test]
    fn resets_are_counted_apart_from_the_other_mails() {
        let alice = Email::parse("alice@example.com").unwrap();
        assert_eq!(Counter::first_mail_to(&alice, Kind::Reset).name, "mail-first-reset#alice@example.com");
        assert_eq!(Counter::first_mail_to(&alice, Kind::Verify).name, "mail-first-other#alice@example.com");
    }

    #[test]
    fn counters_of_different_things_have_different_names() {
        let alice = Email::parse("alice@example.com").unwrap();
        let bob = Email::parse("bob@example.com").unwrap();
        let address = Address::of("192.0.2.1");
        let user = UserId::random();
        let counters = [
            Counter::account(&alice),
            Counter::account(&bob),
            Counter::device("alice@example.com"),
            Counter::device(&user.to_string()),
            Counter::outdated_devices(user),
            Counter::outdated_devices(UserId::random()),
            Counter::address(&address),
            Counter::registrations(&address),
            Counter::mail_requests(&address),
            Counter::links(&address),
            Counter::first_mail_to(&alice, Kind::Reset),
            Counter::first_mail_to(&alice, Kind::Verify),
            Counter::notices_to(user, Kind::Reused),
            Counter::notices_to(user, Kind::NewDevice),
            Counter::password_changes(user),
        ];
        let counters =
            counters.into_iter().chain(Counter::mails_of_user(user)).chain(Counter::more_mails_to(&alice, Kind::Reset));
        let counters = counters.chain(Counter::more_mails_to(&alice, Kind::Change));
        let counters: Vec<_> = counters.collect();
        let names: BTreeSet<_> = counters.iter().map(|counter| &counter.name).collect();
        assert_eq!(names.len(), counters.len());
        assert_eq!(Counter::account(&Email::parse("Alice@Example.com").unwrap()), counters[0]);
    }
}
