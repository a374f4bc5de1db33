//! The log: JSON lines on standard output, where Lambda collects them.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{audit, metrics};

/// Starts logging at `level`, to standard output. A second call does nothing.
pub fn init(level: Level) {
    let _ = subscriber(level, std::io::stdout).try_init();
}

/// Returns the subscriber that writes a function's log at `level`, and its metrics, to `writer`.
///
/// A line that cannot be written is lost silently. By default, the subscriber would
/// write a message to standard error, and panic if that fails too.
pub fn subscriber<W>(level: Level, writer: W) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .map_event_format(Lines)
        .log_internal_errors(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(targets(level).with_target(metrics::TARGET, LevelFilter::INFO)).with(lines)
}

/// Returns what is logged at `level`: everything of this crate except the metrics,
/// and other crates at most at INFO. Below INFO, the runtime and the SDK print
/// whole requests, with tokens and passwords. The audit trail is logged at every
/// level.
pub fn targets(level: Level) -> Targets {
    let level = LevelFilter::from_level(level);
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target("freshkey", level)
        .with_target(audit::TARGET, level.max(LevelFilter::INFO))
        .with_target(metrics::TARGET, LevelFilter::OFF)
}

/// Writes each event as a line of JSON. CloudWatch's metrics are written as they
/// are, everything else by the inner format.
struct Lines<F>(F);

impl<F, S, N> FormatEvent<S, N> for Lines<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() != metrics::TARGET {
            return self.0.format_event(context, writer, event);
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        writeln!(writer, "{}", line.0)
    }
}

/// The value of an event's only field.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0 = format!("{value:?}");
    }
}
