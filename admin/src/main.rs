//! The command `freshkey`, for operators. What it does are flows of the crate
//! `freshkey`; here are the command line, the record of acts and the output.
//!
//! The modules, in reading order; each uses only those above it:
//!
//! - [`cli`]: the command line
//! - [`failure`]: why a command failed, and its exit code
//! - [`stack`]: where the table is and which settings apply
//! - [`lines`]: files of JSON lines that are imported
//! - [`record`]: the operator's log
//! - [`ring`], [`key`], [`secret`]: the keys of a stack
//! - [`output`]: tables and JSON
//! - [`desk`]: all of these together
//! - [`commands`]: what each command does

mod cli;
mod commands;
mod desk;
mod failure;
mod key;
mod lines;
mod output;
mod record;
mod ring;
mod secret;
mod stack;

use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Arguments, Command};
use desk::Desk;
use failure::Failure;
use output::Output;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.options.json;
    show_warnings(json);
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut terminal = std::io::stderr();
            let _ = match json {
                true => writeln!(terminal, "{}", failure.json()),
                false => writeln!(terminal, "{failure}"),
            };
            failure.exit_code()
        }
    }
}

/// Shows the warnings of the flows on standard error, such as rows that an act has left.
/// What a call to AWS reports is part of the failure.
fn show_warnings(json: bool) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).without_time();
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.with_ansi(false).boxed() };
    let warnings = Targets::new().with_target("freshkey::auth", LevelFilter::WARN);
    tracing_subscriber::registry().with(lines.with_filter(warnings)).init();
}

async fn run(Arguments { options, command }: Arguments) -> Result<(), Failure> {
    let out = Rc::new(Output::new(options.json));
    let desk = |needs_keys| Desk::open(&options, needs_keys, Rc::clone(&out));
    match command {
        Command::Users(users) => commands::users::run(&desk(false).await?, users).await?,
        Command::Sessions(sessions) => commands::sessions::run(&desk(false).await?, sessions).await?,
        Command::Limits(limits) => commands::limits::run(&desk(false).await?, limits).await?,
        Command::Mail(mail) => commands::mail::run(&desk(false).await?, mail).await?,
        Command::Keys(keys) => commands::keys::run(&desk(false).await?, keys).await?,
        Command::Audit(audit) => commands::audit::run(&desk(false).await?, audit).await?,
        Command::Import { import, allow_no_password } => {
            commands::import::users(&desk(false).await?, &import, allow_no_password).await?;
        }
        Command::ImportSessions(import) => commands::import::sessions(&desk(true).await?, &import).await?,
        // These work where a desk cannot be opened: with faults of the settings, without AWS.
        Command::Doctor => commands::doctor::run(&options, &out).await?,
        Command::Smoke(smoke) => commands::smoke::run(&smoke, &out).await?,
    }
    out.end()
}
