//! Worlds in which something is done wrong: the oracle must see it, or proves nothing.

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mutation {
    /// Nothing.
    #[default]
    None,
    /// A node that comes back does not look at the tombstones that its stores hold.
    TombstonesUnread,
    /// A node that comes back does not look at the deletions that its log holds.
    DeletionsUnread,
    /// The disk is not asked to keep what was written before that is called durable.
    SyncLeftOut,
}
