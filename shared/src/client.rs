//! The client of a request.

/// Where a request came from, for the user's list of sessions, the limits and the
/// audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The IP address, as API Gateway saw it or a trusted proxy reported it.
    pub ip: String,
    /// The `User-Agent`, cut to 256 bytes.
    pub user_agent: String,
}
