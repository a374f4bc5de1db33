//! What a server asks of its database.

/// The statements that a server sent to its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statements {
    /// They read.
    pub reads: usize,
    /// They write.
    pub writes: usize,
    /// They begin or end a transaction.
    pub transactions: usize,
}

impl Statements {
    /// Those that came after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            reads: self.reads - earlier.reads,
            writes: self.writes - earlier.writes,
            transactions: self.transactions - earlier.transactions,
        }
    }
}
