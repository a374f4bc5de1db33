//! The whole system, called as a client calls it: over API Gateway's events,
//! against the embedded DynamoDB, with a clock that the test moves.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod algorithms;
mod bad_input;
mod caps;
mod connections;
mod contract;
mod cookies;
mod cost;
mod devices;
mod equal_work;
mod faults;
mod headers;
mod histories;
mod imported;
mod input;
mod keys;
mod limits;
mod mail;
mod mailer;
mod middleware;
mod moving;
mod openapi;
mod operator;
mod orders;
mod places;
mod races;
mod reuse_interval;
mod rotation;
mod rows;
mod secret_copy;
mod session_end;
mod stored;
mod survival;
mod template;
mod users;
mod windows;
mod wire;
mod world;
