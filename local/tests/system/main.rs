//! The whole system, called as a client calls it: over API Gateway's events,
//! against the embedded DynamoDB, with a clock that the test moves.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod cost;
mod middleware;
mod rotation;
mod wire;
mod world;
