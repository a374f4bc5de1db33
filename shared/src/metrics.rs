//! Metrics for CloudWatch. A request that counted something ends with one line in the
//! embedded metric format, which CloudWatch reads from the log, so that no request
//! waits for a call to CloudWatch.
//!
//! Every metric is in the namespace `Freshkey` and has one dimension, `Table`: the
//! functions of a stack share a table with any other functions that mount the layer on
//! it.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Timestamp;

/// The `target` of the lines in the log.
pub const TARGET: &str = "freshkey::metrics";

/// The namespace of the metrics.
pub const NAMESPACE: &str = "Freshkey";

/// The most values of one metric in a line: the limit of the format.
const MAX_VALUES: usize = 100;

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Logins.
    Logins,
    /// Passwords that were refused.
    LoginFailures,
    /// Refresh tokens that were exchanged for their successor.
    Rotations,
    /// Answers to a refresh that were given again.
    Reissues,
    /// Sessions that were ended because a spent token was presented again.
    ReuseDetected,
    /// Requests over a limit.
    Limited,
    /// Calls to DynamoDB that failed after all retries, because of an outage.
    DatabaseFaults,
    /// Sessions in a state that no rotation leads to.
    ImpossibleSessions,
    /// Reads of the secret that failed, or found keys that cannot be used.
    SecretFaults,
    /// Passwords that were refused because the stored hash is damaged, of an unknown form
    /// or too costly.
    UnreadableHashes,
    /// Calls to AWS that cannot succeed with this configuration: permissions, names,
    /// encryption keys.
    Misconfigured,
    /// Mails that were sent.
    MailsSent,
    /// Mails that were not sent because their account has moved on, a limit was
    /// reached, or it was too late.
    MailsDropped,
    /// Mails that cannot be sent, because SES refuses the recipient or the mail cannot
    /// be read.
    MailsRefused,
}

/// The name of the age of the oldest mail that waits to be sent, in seconds.
pub const OLDEST_MAIL: &str = "OldestMailSeconds";

impl Metric {
    /// Every counter.
    pub const ALL: [Self; 14] = [
        Self::Logins,
        Self::LoginFailures,
        Self::Rotations,
        Self::Reissues,
        Self::ReuseDetected,
        Self::Limited,
        Self::DatabaseFaults,
        Self::ImpossibleSessions,
        Self::SecretFaults,
        Self::UnreadableHashes,
        Self::Misconfigured,
        Self::MailsSent,
        Self::MailsDropped,
        Self::MailsRefused,
    ];

    /// Returns the name of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logins => "Logins",
            Self::LoginFailures => "LoginFailures",
            Self::Rotations => "Rotations",
            Self::Reissues => "Reissues",
            Self::ReuseDetected => "ReuseDetected",
            Self::Limited => "LimitsHit",
            Self::DatabaseFaults => "DatabaseFaults",
            Self::ImpossibleSessions => "ImpossibleSessions",
            Self::SecretFaults => "SecretFaults",
            Self::UnreadableHashes => "UnreadableHashes",
            Self::Misconfigured => "Misconfigured",
            Self::MailsSent => "MailsSent",
            Self::MailsDropped => "MailsDropped",
            Self::MailsRefused => "MailsRefused",
        }
    }
}

/// The counts of one request.
#[derive(Debug, Default)]
struct Metrics {
    counts: [u64; Metric::ALL.len()],
    hash_millis: Vec<f64>,
    oldest_mail: Option<Duration>,
}

tokio::task_local! {
    static METRICS: RefCell<Metrics>;
}

/// Adds one to a counter. Outside a request, nothing is counted.
pub(crate) fn count(counter: Metric) {
    let _ = METRICS.try_with(|metrics| metrics.borrow_mut().counts[counter as usize] += 1);
}

/// Records how long a password hash took to compute.
pub(crate) fn hashed(elapsed: Duration) {
    let _ = METRICS.try_with(|metrics| {
        let times = &mut metrics.borrow_mut().hash_millis;
        if times.len() < MAX_VALUES {
            times.push((elapsed.as_secs_f64() * 1e5).round() / 100.0);
        }
    });
}

/// Records the age of the oldest mail that waits to be sent.
#[cfg(feature = "mailer")]
pub(crate) fn oldest_mail(age: Duration) {
    let _ = METRICS.try_with(|metrics| metrics.borrow_mut().oldest_mail = Some(age));
}

/// Runs `work`, and then logs its counts for `table`.
pub(crate) async fn scope<F: Future>(table: &str, now: impl Fn() -> Timestamp, work: F) -> F::Output {
    let counted = async {
        let output = work.await;
        (output, METRICS.with(RefCell::take))
    };
    let (output, metrics) = METRICS.scope(RefCell::default(), counted).await;
    if let Some(line) = metrics.line(table, now()) {
        tracing::info!(target: TARGET, emf = %line);
    }
    output
}

impl Metrics {
    /// Returns the line in the embedded metric format, if anything was counted.
    fn line(&self, table: &str, now: Timestamp) -> Option<Value> {
        let counted = Metric::ALL.into_iter().map(|counter| (counter.name(), self.counts[counter as usize]));
        let counted = counted.filter(|&(_, count)| count > 0);
        let mut metrics: Vec<Value> =
            counted.clone().map(|(name, _)| json!({ "Name": name, "Unit": "Count" })).collect();
        if !self.hash_millis.is_empty() {
            metrics.push(json!({ "Name": "HashTime", "Unit": "Milliseconds" }));
        }
        if self.oldest_mail.is_some() {
            metrics.push(json!({ "Name": OLDEST_MAIL, "Unit": "Seconds" }));
        }
        if metrics.is_empty() {
            return None;
        }
        let mut line = json!({
            "_aws": {
                "Timestamp": now.millis(),
                "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [["Table"]], "Metrics": metrics }],
            },
            "Table": table,
        });
        counted.for_each(|(name, count)| line[name] = count.into());
        if !self.hash_millis.is_empty() {
            line["HashTime"] = self.hash_millis.clone().into();
        }
        if let Some(age) = self.oldest_mail {
            line[OLDEST_MAIL] = age.as_secs().into();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_counted_is_one_line_in_the_embedded_metric_format() {
        let mut metrics = Metrics::default();
        metrics.counts[Metric::Logins as usize] = 1;
        metrics.counts[Metric::DatabaseFaults as usize] = 2;
        metrics.hash_millis = vec![16.25];
        metrics.oldest_mail = Some(Duration::from_millis(90_500));
        let line = metrics.line("the-table", Timestamp::from_millis(1_800_000_000_123)).unwrap();
        let expected = json!({
            "_aws": {
                "Timestamp": 1_800_000_000_123_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Freshkey",
                    "Dimensions": [["Table"]],
                    "Metrics": [
                        { "Name": "Logins", "Unit": "Count" },
                        { "Name": "DatabaseFaults", "Unit": "Count" },
                        { "Name": "HashTime", "Unit": "Milliseconds" },
                        { "Name": "OldestMailSeconds", "Unit": "Seconds" },
                    ],
                }],
            },
            "Table": "the-table",
            "Logins": 1,
            "DatabaseFaults": 2,
            "HashTime": [16.25],
            "OldestMailSeconds": 90,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_request_that_counted_nothing_writes_nothing() {
        assert_eq!(Metrics::default().line("the-table", Timestamp::default()), None);
    }

    #[test]
    fn every_counter_has_its_own_place_and_name() {
        for (place, counter) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
            assert_eq!(Metric::ALL.iter().filter(|other| other.name() == counter.name()).count(), 1);
        }
    }

    #[tokio::test]
    async fn each_request_counts_for_itself() {
        let request = |times: u64| async move {
            for _ in 0..times {
                count(Metric::Rotations);
                tokio::task::yield_now().await;
            }
            METRICS.with(|metrics| metrics.borrow().counts[Metric::Rotations as usize])
        };
        let counts =
            tokio::join!(scope("t", Timestamp::default, request(2)), scope("t", Timestamp::default, request(5)),);
        assert_eq!(counts, (2, 5));
        count(Metric::Rotations);
    }
}
