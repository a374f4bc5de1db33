//! The command as an operator runs it: against a system in this process, and against an
//! AWS that this process plays.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod audit;
mod aws;
mod deployed;
mod doctor;
mod faults;
mod import;
mod json;
mod keys;
mod record;
mod smoke;
mod vault;
#[expect(dead_code, reason = "shared with the tests of the system")]
#[path = "../../../local/tests/system/wire.rs"]
mod wire;
mod world;
