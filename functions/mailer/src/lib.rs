//! Sends the mails of the outbox. It is invoked by the table's stream when a mail is
//! written, and by a schedule, which makes up for a stream that is late. Both say the
//! same: look at the outbox.

use std::sync::Arc;

use freshkey::config::MailerConfig;
pub use freshkey::mailer::{Mailer, Report};
use freshkey::{SystemClock, telemetry};
pub use lambda_runtime::Error;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::de::IgnoredAny;

/// Runs the mailer as this process's Lambda function, with the settings of the
/// environment. Any JSON is an event.
///
/// # Errors
///
/// [`ConfigError`](freshkey::ConfigError) for faults of the settings; the error of the
/// Lambda Runtime API when it cannot be reached.
pub async fn run() -> Result<(), Error> {
    let config = MailerConfig::parse(|name| std::env::var(name).ok())?;
    telemetry::init(config.log_level);
    let mailer = Mailer::connect(config, Arc::new(SystemClock), None).await;
    let work = |event: LambdaEvent<IgnoredAny>| {
        let mailer = Arc::clone(&mailer);
        async move { Ok::<_, Error>(mailer.work(&event.context.request_id).await) }
    };
    lambda_runtime::run(service_fn(work)).await
}
