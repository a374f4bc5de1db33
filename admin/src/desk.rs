//! Where an operator works: the table, the log of acts, and the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use freshkey::id::UserId;
use freshkey::{App, SystemClock, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::cli::Options;
use crate::failure::Failure;
use crate::output::Output;
use crate::record::Log;
use crate::secret::Secret;
use crate::stack::{Settings, Stack};

/// How long to wait for a connection. An operator may be far from the Region.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one attempt at a call may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Where an operator works.
pub struct Desk {
    app: Arc<App>,
    log: Log,
    settings: Settings,
    yes: bool,
    /// Where the results go.
    pub out: Rc<Output>,
}

impl Desk {
    /// Opens the table that the options name. The secret is read only if the command
    /// needs the keys. Results go to `out`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the stack cannot be read or the settings have faults.
    pub async fn open(options: &Options, needs_keys: bool, out: Rc<Output>) -> Result<Self, Failure> {
        let aws = aws(options).await;
        let (settings, log) = match (&options.endpoint, &options.table) {
            (Some(endpoint), Some(table)) => {
                (Settings::of_environment(table, endpoint), Log::File(options.log.clone()))
            }
            (_, table) => {
                let stack = Stack::read(&aws, &options.stack).await?;
                let settings = stack.settings(table.as_deref())?;
                (settings, Log::Group { aws: Box::new(aws.clone()), stack: stack.name })
            }
        };
        let app = App::with_sdk(settings.config(needs_keys)?, Arc::new(SystemClock), aws);
        Ok(Self { app, log, settings, yes: options.yes, out })
    }

    /// Returns the flows, for reading.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns the flows for an act, once the act is recorded.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the act cannot be recorded.
    pub async fn recorded(&self, act: &str, user: impl Into<Option<UserId>>) -> Result<&App, Failure> {
        self.log.record(act, user.into(), self.now()).await?;
        Ok(&self.app)
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.app.time()
    }

    /// Returns a setting.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name)
    }

    /// Returns the stack's secret.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when there is no stack, or it has no secret.
    pub fn secret(&self) -> Result<Secret, Failure> {
        let (aws, stack) = self.deployed(
            "There is no secret without a stack. The key of the local system is JWT_SECRET_KEY (with JWT_PRIVATE_KEY) \
             in .env, or in the file FILE.secret beside that of --data: see docs/keys.md.",
        )?;
        let missing = || Failure::refused("not_freshkey", format!("The stack {stack} has no output SecretArn."));
        Ok(Secret::new(aws, self.setting("JWT_SECRET_ARN").ok_or_else(missing)?))
    }

    /// Returns the configuration of AWS and the name of the stack.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with this message when there is no stack.
    pub fn deployed(&self, message: &str) -> Result<(&SdkConfig, &str), Failure> {
        match &self.log {
            Log::Group { aws, stack } => Ok((aws, stack)),
            Log::File(_) => Err(Failure::usage("needs_stack", message)),
        }
    }

    /// Refuses to go on, unless `--yes` was given.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with this error and message.
    pub fn refuse(&self, error: &'static str, message: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        Err(Failure::refused(error, format!("{message} With --yes, it is done all the same.")))
    }

    /// Asks whether to go on, unless `--yes` was given.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the answer is no, or nobody is there to give one.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::refused("not_confirmed", "This asks first. Where nobody can answer, give --yes."));
        }
        let mut answer = String::new();
        let asked = write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stdin().read_line(&mut answer));
        match (asked, answer.trim()) {
            (Ok(_), "y" | "Y" | "yes") => Ok(()),
            _ => Err(Failure::refused("not_confirmed", "Nothing was done.")),
        }
    }
}

/// Returns the configuration of the calls to AWS.
pub async fn aws(options: &Options) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
    match options.endpoint {
        // No Region, profile or metadata service is looked for.
        Some(_) => SdkConfig::builder().behavior_version(BehaviorVersion::latest()).timeout_config(timeouts).build(),
        None => aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).load().await,
    }
}

/// Reads a new password: twice from the terminal, or a line of standard input.
///
/// # Errors
///
/// A [`Failure`] when it cannot be read, or the two differ.
pub fn new_password() -> Result<SecretString, Failure> {
    let password = asked("Password: ")?;
    if io::stdin().is_terminal() && asked("Again: ")?.expose_secret() != password.expose_secret() {
        return Err(Failure::refused("passwords_differ", "The two passwords differ."));
    }
    Ok(password)
}

/// Reads the passphrase of a key: from the terminal, or a line of standard input.
///
/// # Errors
///
/// A [`Failure`] when it cannot be read.
pub fn passphrase() -> Result<SecretString, Failure> {
    asked("Passphrase: ")
}

fn asked(question: &str) -> Result<SecretString, Failure> {
    let answer = if io::stdin().is_terminal() {
        rpassword::prompt_password(question)
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let unreadable = |error| Failure::usage("no_password", format!("The password cannot be read: {error}"));
    Ok(answer.map_err(unreadable)?.into())
}
