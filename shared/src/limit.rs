//! Limits on guessing: what is counted, and how much of it is too much.
//!
//! A guess is counted before its password is hashed, and given back when it was
//! right, so that many guesses at once cannot all find the counter at zero.
//! Three kinds of counters share the work (OWASP, "Slow Down Online Guessing
//! Attacks with Device Cookies"):
//!
//! - failures at an *account*, by whoever has not logged in to it before: after
//!   a few, each has to wait longer than the one before;
//! - failures from a *device* that has, which proves it by its device token: the
//!   same rule, but a counter of its own, so that nobody else can fill it;
//! - failures from an *address*, and at how many accounts: passwords that leaked
//!   elsewhere are tried once each, at many accounts.
//!
//! An account that does not exist is counted like one that does.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::email::Email;
use crate::session::Hash;

/// How long failures at an account or from a device are remembered: the window
/// of [`Guesses::most`].
const MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The window of what is counted per address.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How often what may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wrong passwords at an account, or from a device that is known to it.
    pub guesses: Guesses,
    /// Wrong passwords from one address in an hour.
    pub failures_per_address: u64,
    /// At how many accounts those may be.
    pub accounts_per_address: u64,
    /// Registrations from one address in an hour.
    pub registrations_per_address: u64,
}

/// How many wrong passwords in succession are taken, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guesses {
    /// So many without a pause.
    pub free: u64,
    /// So many at all, until a right one or the end of the month's window.
    pub most: u64,
    /// The pause after the last free one; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

/// A row of [`Guesses::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// With fewer failures than this …
    pub below: u64,
    /// … the next guess may be made so long after the latest.
    pub pause: Duration,
}

impl Guesses {
    /// The rule as a table, from the fewest failures to the most: the first row
    /// that applies says how long to wait, and where none does, it is over.
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

    /// How long to wait at `now`, after `failures` of which `latest` was the
    /// last. `None` when it is over.
    pub fn wait(&self, failures: u64, latest: Timestamp, now: Timestamp) -> Option<Duration> {
        let step = self.steps().into_iter().find(|step| failures < step.below)?;
        Some(until(latest + step.pause, now))
    }
}

/// A counter: of what, and in which window of time.
#[derive(Clone, PartialEq, Eq)]
pub struct Counter {
    /// Its name, by what and whom it counts.
    pub name: String,
    /// When its window began.
    pub since: Timestamp,
    /// When the window ends, and the counter with it.
    pub until: Timestamp,
}

impl Counter {
    /// Failures at an account, whether or not it exists.
    pub fn account(email: &Email, now: Timestamp) -> Self {
        Self::of(format!("account#{}", email.key()), MEMORY, now)
    }

    /// Failures from a device that is known to the account of its token.
    pub fn device(id: &str, now: Timestamp) -> Self {
        Self::of(format!("device#{id}"), MEMORY, now)
    }

    /// Failures from an address.
    pub fn address(address: &Address, now: Timestamp) -> Self {
        Self::of(format!("address#{address}"), HOUR, now)
    }

    /// Registrations from an address.
    pub fn registrations(address: &Address, now: Timestamp) -> Self {
        Self::of(format!("register#{address}"), HOUR, now)
    }

    fn of(name: String, window: Duration, now: Timestamp) -> Self {
        let window_seconds = window.as_secs() as i64;
        let since = Timestamp::from_seconds(now.seconds().div_euclid(window_seconds) * window_seconds);
        Self { name, since, until: since + window }
    }

    /// How long until its window ends.
    pub fn rest(&self, now: Timestamp) -> Duration {
        until(self.until, now)
    }
}

/// Without the name, which is an e-mail address or the address of a client.
impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("until", &self.until).finish_non_exhaustive()
    }
}

/// A few bytes that stand for an account among those that an address has tried.
/// Two accounts that share them count as one, which does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountTag([u8; 8]);

impl AccountTag {
    /// The tag of an account.
    pub fn of(email: &Email) -> Self {
        let hash = Hash::of(&[b"account:", email.key().as_bytes()]);
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.as_bytes()[..8]);
        Self(tag)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whom an address is counted for: IPv4 whole, IPv6 by /64, because that is
/// what one customer is given. What is no address is one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address of a client.
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

fn until(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(moment.millis().saturating_sub(now.millis()).max(0) as u64)
}

#[cfg(test)]
mod tests {
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
    fn a_wait_is_what_is_left_of_the_pause() {
        let later = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!(GUESSES.wait(5, NOW, later(10)), Some(Duration::from_secs(20)));
        assert_eq!(GUESSES.wait(5, NOW, later(30)), Some(Duration::ZERO));
        assert_eq!(GUESSES.wait(5, NOW, later(31)), Some(Duration::ZERO));
    }

    #[test]
    fn the_rows_of_a_rule_rise_in_failures_and_in_pause_whatever_it_says() {
        let odd = [
            GUESSES,
            Guesses { most: 3, ..GUESSES },
            Guesses { free: 1_000_000, most: 1_000_000, ..GUESSES },
            Guesses { first_pause: Duration::from_secs(7200), ..GUESSES },
            Guesses { first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(86_400), ..GUESSES },
        ];
        for guesses in odd {
            let steps = guesses.steps();
            assert!(steps.is_sorted_by_key(|step| (step.below, step.pause)), "{steps:?}");
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
    fn rl5_a_counter_ends_with_its_window() {
        let address = Address::of("192.0.2.1");
        let counter = Counter::address(&address, NOW);
        assert_eq!(counter.until, counter.since + HOUR);
        assert!(counter.since <= NOW && NOW < counter.until);
        let last = counter.until - Duration::from_millis(1);
        assert_eq!(Counter::address(&address, last), counter);
        assert_ne!(Counter::address(&address, counter.until), counter);
        assert_eq!(counter.rest(last), Duration::from_millis(1));
    }

    #[test]
    fn counters_of_different_things_have_different_names() {
        let email = Email::parse("alice@example.com").unwrap();
        let address = Address::of("192.0.2.1");
        let mut names = vec![
            Counter::account(&email, NOW).name,
            Counter::account(&Email::parse("bob@example.com").unwrap(), NOW).name,
            Counter::device("alice@example.com", NOW).name,
            Counter::address(&address, NOW).name,
            Counter::registrations(&address, NOW).name,
        ];
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
        assert_eq!(Counter::account(&Email::parse("Alice@Example.com").unwrap(), NOW), Counter::account(&email, NOW));
    }
}
