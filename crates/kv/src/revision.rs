//! The store's own clock: revisions, as etcd counts them. Knows nothing of Raft; a [`Revision`] and
//! a `LogIndex` never mix.

use std::fmt;

/// The number of a change of the store. A fresh store is at 1, the first write makes 2, and every
/// later write, or transaction that writes, adds one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Where a fresh store stands.
    pub const FIRST: Self = Self(1);

    /// Wraps a plain number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The following revision.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number as etcd's messages carry it.
    #[must_use]
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One change of one key: the revision of the transaction, and the change's place within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChangeId {
    /// The transaction's revision.
    pub(crate) main: Revision,
    /// The place within the transaction, from 0.
    pub(crate) sub: u32,
}

impl ChangeId {
    pub(crate) const fn new(main: Revision, sub: u32) -> Self {
        Self { main, sub }
    }

    /// The last change that a reader at `revision` may see.
    pub(crate) const fn last_of(revision: Revision) -> Self {
        Self { main: revision, sub: u32::MAX }
    }
}
