//! The whole system on one machine: the functions, the table and the API of
//! `template.yaml`, with nothing to install.
//!
//! - [`template`]: what `template.yaml` says
//! - [`gateway`]: requests into events and answers into responses
//! - [`engine`]: a DynamoDB, and the table in it
//! - [`extra`]: a page, the contract, and a clock to move
//! - [`clock`]: time that can be made to pass
//! - [`secret`]: the key that signs the tokens
//! - [`demo`]: a user and a session that are always the same
//! - [`system`]: all of it together

pub mod clock;
pub mod demo;
pub mod engine;
pub mod extra;
pub mod gateway;
pub mod secret;
pub mod system;
pub mod template;

pub use clock::LocalClock;
pub use system::{Error, Options, System};

/// The template of this project.
pub const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
