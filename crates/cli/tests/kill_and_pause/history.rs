//! What clients did and what they were told. Knows the shape of operations on one key, and no
//! server.

use std::collections::BTreeMap;

/// What a read shows of a key that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Values are unique: each names the one operation that may have written it.
    pub(crate) value: u64,
    /// How many writes the key has seen since it was created.
    pub(crate) version: i64,
    /// The revision of its last write.
    pub(crate) mod_revision: i64,
}

/// What a client asks of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A linearizable read.
    Read,
    /// Stores this value.
    Put(u64),
    /// Removes the key.
    Delete,
    /// Stores `value` if the key is still as it was at `expected_revision`, when it held
    /// `expected`; 0 and `None` for a key that is not there. Shows the key if not.
    Swap {
        /// The value that the client last saw.
        expected: Option<u64>,
        /// Its `mod_revision`: what the transaction compares.
        expected_revision: i64,
        /// The new value.
        value: u64,
    },
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// What a read saw.
    Read(Option<Seen>),
    /// A put, or a swap whose condition held, was done.
    Written,
    /// Whether there was something to remove.
    Deleted(bool),
    /// The swap's condition did not hold; what the key was instead.
    NotSwapped(Option<Seen>),
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    /// When, among all moments of the run.
    pub(crate) moment: u64,
    /// The answer itself.
    pub(crate) reply: Reply,
    /// The store's revision, as the answer's header says.
    pub(crate) revision: i64,
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// On which key.
    pub(crate) key: String,
    /// What was asked.
    pub(crate) op: Op,
    /// Of which server.
    pub(crate) server: usize,
    /// When, among all moments of the run; no two are equal.
    pub(crate) invoked: u64,
    /// The answer; `None` if the outcome is unknown.
    pub(crate) returned: Option<Returned>,
}

impl Record {
    /// The value that it writes if it takes effect.
    pub(crate) fn value(&self) -> Option<u64> {
        match self.op {
            Op::Put(value) | Op::Swap { value, .. } => Some(value),
            Op::Read | Op::Delete => None,
        }
    }

    /// The revision that it made, if it is known to have made one.
    pub(crate) fn written_revision(&self) -> Option<i64> {
        let returned = self.returned.as_ref()?;
        match returned.reply {
            Reply::Written | Reply::Deleted(true) => Some(returned.revision),
            Reply::Read(_) | Reply::Deleted(false) | Reply::NotSwapped(_) => None,
        }
    }

    /// What it saw of the key.
    pub(crate) fn seen(&self) -> Option<Seen> {
        match self.returned.as_ref()?.reply {
            Reply::Read(seen) | Reply::NotSwapped(seen) => seen,
            Reply::Written | Reply::Deleted(_) => None,
        }
    }
}

/// The records of each key, in the order of their calls.
pub(crate) fn by_key(records: &[Record]) -> Vec<(&str, Vec<&Record>)> {
    let mut keys: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        keys.entry(&record.key).or_default().push(record);
    }
    for records in keys.values_mut() {
        records.sort_by_key(|it| it.invoked);
    }
    keys.into_iter().collect()
}
