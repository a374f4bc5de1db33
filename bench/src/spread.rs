//! Medians and percentiles.

use std::time::Duration;

/// Times, in milliseconds.
#[derive(Clone, Debug)]
pub struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    /// Returns the spread of at least one time.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<_> = times.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// Returns the median.
    pub fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len().is_multiple_of(2) {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        } else {
            self.sorted[middle]
        }
    }

    /// Returns the time that `percent` of the times do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.sorted[(self.sorted.len() * percent).div_ceil(100) - 1]
    }
}
