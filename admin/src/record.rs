//! The operator's log: every act on a user is recorded before it is done.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client as Logs;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::operation::put_log_events::PutLogEventsError;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use freshkey::Timestamp;
use freshkey::id::UserId;
use serde_json::json;

use crate::failure::Failure;

/// The operator's log.
pub enum Log {
    /// A file, for a table without a stack. The principal is the user of this machine.
    File(PathBuf),
    /// The log group `/freshkey/<stack>/operator`. The principal is the AWS identity.
    Group {
        /// The configuration of the calls.
        aws: Box<SdkConfig>,
        /// The name of the stack.
        stack: String,
    },
}

impl Log {
    /// Records an act, such as `users disable`, on a user.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when it cannot be recorded. The act must not be done then.
    pub async fn record(&self, act: &str, user: Option<UserId>, now: Timestamp) -> Result<(), Failure> {
        let line = |principal: &str| {
            let user = user.map(|id| id.to_string());
            json!({ "time": now.to_string(), "principal": principal, "act": act, "user_id": user }).to_string()
        };
        match self {
            Self::File(path) => {
                let line = line(&whoami::username().map_err(|error| not_recorded(error.to_string()))?);
                let file = OpenOptions::new().append(true).create(true).open(path);
                let written = file.and_then(|mut file| {
                    file.write_all(format!("{line}\n").as_bytes())?;
                    file.sync_data()
                });
                written.map_err(|error| not_recorded(format!("{}: {error}", path.display())))
            }
            Self::Group { aws, stack } => {
                let identity = aws_sdk_sts::Client::new(aws).get_caller_identity().send().await;
                let identity = identity.map_err(|error| Failure::of_call("sts:GetCallerIdentity", &error));
                let identity = identity.map_err(|failure| not_recorded(failure.to_string()))?;
                let principal = identity.arn().ok_or_else(|| not_recorded("STS names no identity.".into()))?;
                let line = line(principal);
                // One stream for each day, in UTC.
                let day = now.to_string().chars().take_while(|&letter| letter != 'T').collect();
                let stream = Stream { logs: Logs::new(aws), group: group_of(stack), name: day };
                stream.write(&line, now).await.map_err(|failure| not_recorded(failure.to_string()))
            }
        }
    }
}

/// Returns the name of the log group in which the acts on a stack are recorded.
pub fn group_of(stack: &str) -> String {
    format!("/freshkey/{stack}/operator")
}

fn not_recorded(cause: String) -> Failure {
    Failure::unreachable("not_recorded", format!("The act cannot be recorded, so it was not done. {cause}"))
}

/// A stream of a log group. The template has the group; the stream is created when it is
/// missing.
struct Stream {
    logs: Logs,
    group: String,
    name: String,
}

impl Stream {
    async fn write(&self, line: &str, now: Timestamp) -> Result<(), Failure> {
        let written = match self.put(line, now).await {
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                self.create().await?;
                self.put(line, now).await
            }
            written => written,
        };
        let is_rejected = written.map_err(|error| Failure::of_call("logs:PutLogEvents", &error))?;
        if is_rejected {
            return Err(Failure::unreachable(
                "unavailable",
                "logs:PutLogEvents: the time of the event is not accepted",
            ));
        }
        Ok(())
    }

    /// Returns whether the event was rejected.
    async fn put(&self, line: &str, now: Timestamp) -> Result<bool, SdkError<PutLogEventsError>> {
        let event = InputLogEvent::builder().timestamp(now.millis()).message(line).build()?;
        let call = self.logs.put_log_events().log_group_name(&self.group).log_stream_name(&self.name);
        Ok(call.log_events(event).send().await?.rejected_log_events_info().is_some())
    }

    /// Creates the stream, unless another operator just has.
    async fn create(&self) -> Result<(), Failure> {
        let stream = self.logs.create_log_stream().log_group_name(&self.group).log_stream_name(&self.name);
        match stream.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => Ok(()),
            Err(error) => Err(Failure::of_call("logs:CreateLogStream", &error)),
        }
    }
}
