//! Time. Only this module reads the machine's clock.

use std::fmt;
use std::ops::{Add, Sub};
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

/// A moment, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the moment `seconds` seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Returns the beginning of a day in UTC, written `2027-03-31`. A day after the end of
    /// its month is one of the next month. `None` for any other text.
    pub fn of_date(date: &str) -> Option<Self> {
        let mut parts = date.split('-');
        let mut number = |digits: usize| {
            let part =
                parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
            part.parse::<u16>().ok()
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        if parts.next().is_some() || !(1..=31).contains(&day) {
            return None;
        }
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let first = Date::from_calendar_date(year.into(), month, 1).ok()?;
        let seconds = first.midnight().assume_utc().unix_timestamp() + i64::from(day - 1) * 86_400;
        Some(Self::from_seconds(seconds))
    }

    /// Returns the milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns the same moment without its milliseconds, as in JWT claims and the table's TTL.
    pub const fn truncated(self) -> Self {
        Self::from_seconds(self.seconds())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Writes RFC 3339, in UTC, to the second: `2026-11-21T17:57:35Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            OffsetDateTime::from_unix_timestamp(self.seconds()).ok().and_then(|moment| moment.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("out of range"))
    }
}

/// A clock.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only use of the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default() + since_epoch
    }
}

/// A clock that moves only when a test moves it.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    /// Returns a clock that shows `now`.
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the clock ahead.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_beginning_of_its_day_in_utc() {
        let text = |date| Timestamp::of_date(date).map(|day| day.to_string());
        assert_eq!(text("2027-03-31").as_deref(), Some("2027-03-31T00:00:00Z"));
        assert_eq!(text("2028-02-29").as_deref(), Some("2028-02-29T00:00:00Z"));
        assert_eq!(text("2027-02-30").as_deref(), Some("2027-03-02T00:00:00Z"));
        for other in ["", "2027-3-31", "2027-13-01", "2027-00-01", "2027-01-00", "2027-01-32", "2027/01/01"] {
            assert_eq!(text(other), None, "{other}");
        }
        for other in ["+027-01-01", "2027-01-01T", "2027-01-0é", "20270-1-01", "-027-01-01", "é027-01-0"] {
            assert_eq!(text(other), None, "{other}");
        }
    }
}
