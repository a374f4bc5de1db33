//! Sign-in for apps on AWS Lambda and DynamoDB: short-lived access tokens, and
//! refresh tokens that rotate at every use.
//!
//! The modules, in reading order; each uses only those above it:
//!
//! - [`clock`], [`entropy`]: the only sources of time and randomness
//! - [`metrics`]: counts for CloudWatch
//! - [`mod@write`]: the outcome of a conditional write
//! - [`client`]: where a request came from
//! - [`id`], [`email`], [`password`]: parsed values, which are always valid
//! - [`user`], [`session`]: the records, and the rule for rotating a session
//! - [`mail`], [`proof`]: the mails to be sent, and what their links prove
//! - [`audit`]: the record of every act that matters to security
//! - [`telemetry`]: the log
//! - [`limit`]: limits on guesses and registrations
//! - [`token`]: access tokens, refresh tokens, device tokens and their keys
//! - [`transport`]: how refresh tokens travel
//! - [`config`]: the settings, parsed once
//! - [`store`]: the table in DynamoDB
//! - [`auth`]: registration, login, refresh, logout and the account of a user
//! - [`http`]: requests in, answers out, in either dialect
//! - [`layer`]: the middleware for your own functions
//! - [`function`]: a handler as a Lambda function
//! - `mailer` (with the feature of that name): the function that sends the mails

pub mod audit;
pub mod auth;
mod aws;
pub mod client;
pub mod clock;
pub mod config;
pub mod email;
pub mod entropy;
pub mod function;
pub mod http;
pub mod id;
pub mod imported;
pub mod json;
pub mod layer;
pub mod limit;
pub mod mail;
#[cfg(feature = "mailer")]
pub mod mailer;
pub mod metrics;
pub mod password;
pub mod proof;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod transport;
pub mod user;
pub mod write;

mod text;

pub use auth::{App, Error};
#[cfg(any(test, feature = "testing"))]
pub use clock::ManualClock;
pub use clock::{Clock, SystemClock, Timestamp};
pub use config::{Config, ConfigError};
pub use function::Function;
