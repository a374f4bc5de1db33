//! The command as an operator runs it: against a system in this process, and against an
//! AWS that this process plays.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod aws;
mod deployed;
mod doctor;
mod faults;
mod json;
mod record;
mod smoke;
mod world;
