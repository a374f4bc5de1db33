//! What each command does.

pub mod doctor;
pub mod limits;
pub mod mail;
pub mod sessions;
pub mod smoke;
pub mod users;
