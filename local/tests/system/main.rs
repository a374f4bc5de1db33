//! The whole system, called as a client calls it: over API Gateway's events,
//! against the embedded DynamoDB, with a clock that the test moves.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod bad_input;
mod contract;
mod cookies;
mod cost;
mod faults;
mod headers;
mod input;
mod keys;
mod limits;
mod middleware;
mod openapi;
mod orders;
mod races;
mod rotation;
mod template;
mod users;
mod wire;
mod world;
