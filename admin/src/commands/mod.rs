//! What each command does.

pub mod audit;
pub mod doctor;
pub mod import;
pub mod keys;
pub mod limits;
pub mod mail;
pub mod sessions;
pub mod smoke;
pub mod users;
