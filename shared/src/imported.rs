//! Imported refresh tokens, as the table holds them.
//!
//! The first presentation exchanges such a token for a session. For the session, the
//! imported token is its generation 0: [`decide`](crate::session::decide) decides what a
//! later presentation gets, as for any other spent token.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::{Hash, Lifetime, Refusal};
use crate::user::UserState;

/// The least time for which an exchanged token is kept, so that another presentation of it
/// is answered or found out.
const EXCHANGED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// An imported refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedToken {
    /// The keyed hash of the token ([`ImportedTokens::name`](crate::token::ImportedTokens::name)).
    pub name: Hash,
    /// The user who was signed in with it.
    pub user_id: UserId,
    /// The user's epoch at the import. The token is void once the user's epoch is another.
    pub epoch: u64,
    /// When the user had logged in to the other system, in whole seconds.
    pub login: Timestamp,
    /// When it expires, in whole seconds. Once exchanged: when it is forgotten.
    pub expires_at: Timestamp,
    /// The session that it was exchanged for, if it was.
    pub exchange: Option<Exchange>,
}

/// What an imported token was exchanged for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The session.
    pub session_id: SessionId,
    /// The session's secret, which the imported token opens.
    pub sealed: Vec<u8>,
}

impl ImportedToken {
    /// Returns when the token is forgotten if it is exchanged at `now`: not before it
    /// expires, because another import would bring it back.
    pub fn forgotten_at(&self, now: Timestamp) -> Timestamp {
        self.expires_at.max((now + EXCHANGED_LIFETIME).truncated())
    }

    /// Returns why the token, which was not exchanged yet, cannot be exchanged at `now`.
    /// `None` if it can.
    pub fn refusal(&self, user: Option<UserState>, lifetime: Lifetime, now: Timestamp) -> Option<Refusal> {
        let is_kept = user.is_some_and(|user| user.is_active && user.epoch == self.epoch);
        if self.expires_at.min(lifetime.absolute_end(self.login)) <= now {
            Some(Refusal::Expired)
        } else if !is_kept {
            Some(Refusal::UserLocked)
        } else {
            None
        }
    }
}
