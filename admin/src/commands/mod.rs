//! What each command does.

pub mod import;
pub mod limits;
pub mod mail;
pub mod sessions;
pub mod users;
