//! A clock that can be moved, so that nobody has to wait an hour to see a token
//! expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freshkey::{Clock, Timestamp};

/// A clock that is ahead of another. All its clones are moved together.
#[derive(Clone, Debug)]
pub struct LocalClock {
    clock: Arc<dyn Clock>,
    seconds_ahead: Arc<AtomicU64>,
}

impl LocalClock {
    /// The furthest that the clock can be ahead: 400 days, which is longer than the
    /// default lifetime of a session.
    pub const MAX_AHEAD: Duration = Duration::from_secs(400 * 24 * 60 * 60);

    /// Returns a clock that shows the time of `clock` until it is moved.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seconds_ahead: Arc::default() }
    }

    /// Moves the clock ahead and returns its new time. Returns `None` without
    /// moving it if it would be more than [`LocalClock::MAX_AHEAD`] ahead.
    pub fn advance(&self, seconds: u64) -> Option<Timestamp> {
        let further = |ahead: u64| ahead.checked_add(seconds).filter(|ahead| *ahead <= Self::MAX_AHEAD.as_secs());
        self.seconds_ahead.fetch_update(Ordering::SeqCst, Ordering::SeqCst, further).ok()?;
        Some(self.now())
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        self.clock.now() + Duration::from_secs(self.seconds_ahead.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use freshkey::ManualClock;

    use super::*;

    #[test]
    fn it_is_ahead_of_the_other_clock_by_as_much_as_it_was_moved() {
        let manual = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
        let clock = LocalClock::new(manual.clone());
        let same = clock.clone();
        assert_eq!(clock.now(), Timestamp::from_seconds(1_000));
        assert_eq!(same.advance(30), Some(Timestamp::from_seconds(1_030)));
        assert_eq!(clock.advance(5), Some(Timestamp::from_seconds(1_035)));
        manual.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Timestamp::from_millis(1_036_500));
    }

    #[test]
    fn it_is_not_moved_beyond_its_limit() {
        let clock = LocalClock::new(Arc::new(ManualClock::at(Timestamp::from_seconds(0))));
        let most = LocalClock::MAX_AHEAD.as_secs();
        assert_eq!(clock.advance(u64::MAX), None);
        assert_eq!(clock.advance(most), Some(Timestamp::from_seconds(most as i64)));
        assert_eq!(clock.advance(1), None);
        assert_eq!(clock.advance(u64::MAX), None);
        assert_eq!(clock.now(), Timestamp::from_seconds(most as i64));
    }
}
