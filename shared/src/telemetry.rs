//! The log: JSON lines on standard output, where Lambda collects them.

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `level`. Only this crate's own events go below INFO: the
/// runtime and the SDK would print whole requests there, tokens and passwords
/// included. A second call does nothing.
pub fn init(level: Level) {
    let _ = tracing_subscriber::registry()
        .with(targets(level))
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false))
        .try_init();
}

/// What is logged at `level`: everything of this crate, and of all others no
/// more than INFO.
pub fn targets(level: Level) -> Targets {
    let level = LevelFilter::from_level(level);
    Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("freshkey", level)
}
