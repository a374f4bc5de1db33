//! The local system: the functions, the table and the API of `template.yaml` in
//! one process, with nothing to install.
//!
//! The modules, in reading order; each uses only those above it:
//!
//! - [`clock`]: a clock that can be moved
//! - [`template`]: reads `template.yaml`
//! - [`gateway`]: API Gateway: turns requests into events, and answers into responses
//! - [`engine`]: the embedded DynamoDB, and the table
//! - [`secret`]: the secret that signs the tokens
//! - [`mailbox`]: keeps the mails that the mailer sends, in place of SES
//! - `bell`: wakes the mailer, in place of the table's stream
//! - [`system`]: the functions, the API in front of them and the table behind them
//! - [`extra`]: a page to try the system out, the contract, the mailbox, and a way to
//!   move the clock
//! - `server`: serves all of that over HTTP
//! - [`demo`]: users and sessions that are the same at every start
//! - [`env_file`]: the file `.env`

mod bell;
pub mod clock;
pub mod demo;
pub mod engine;
pub mod env_file;
pub mod extra;
pub mod gateway;
pub mod mailbox;
pub mod secret;
mod server;
pub mod system;
pub mod template;

pub use clock::LocalClock;
pub use mailbox::{Mail, Mailbox};
pub use system::{Error, Options, System};

/// The path of this project's template.
pub const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
