//! The outcome of a conditional write.

/// A conditional write was either made or refused; any other outcome is an
/// error. What each carries depends on the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Write<Done = (), Refused = ()> {
    /// The condition held, and the item was written.
    Done(Done),
    /// The condition failed, and nothing was written.
    Refused(Refused),
}
