//! Which leases there are: a persistent map, so that a view of the store costs nothing, however many
//! there are. Knows nothing of keys.

use quorate::core::LogIndex;
use rpds::RedBlackTreeMapSync;

/// The longest time to live that a lease may have, in seconds: etcd's.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// What is replicated of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long it lives without being renewed, in seconds.
    pub ttl: i64,
    /// The entry of the log that granted it, or renewed it last. An id that was revoked and granted
    /// anew has another one, so that nobody takes the new lease for the old one.
    pub renewed_at: LogIndex,
}

/// The leases of one moment, by id.
#[derive(Clone, Default)]
pub(crate) struct Leases {
    table: RedBlackTreeMapSync<i64, Lease>,
    /// Those that changed and of which nobody was told yet.
    touched: Vec<i64>,
}

impl Leases {
    pub(crate) fn get(&self, id: i64) -> Option<Lease> {
        self.table.get(&id).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.size()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, Lease)> + '_ {
        self.table.iter().map(|(id, lease)| (*id, *lease))
    }

    pub(crate) fn insert(&mut self, id: i64, lease: Lease) {
        self.table.insert_mut(id, lease);
        self.touched.push(id);
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.table.remove_mut(&id);
        self.touched.push(id);
    }

    /// The ids that changed since this was called last.
    pub(crate) fn take_touched(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.touched)
    }
}

impl FromIterator<(i64, Lease)> for Leases {
    fn from_iter<I: IntoIterator<Item = (i64, Lease)>>(leases: I) -> Self {
        Self { table: leases.into_iter().collect(), touched: Vec::new() }
    }
}
