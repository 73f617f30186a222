//! What a node's replies come to: a hash of each window of the log that it has applied, to be compared
//! with those of others (decision 36). Knows no peers; what is compared with what is the driver's.

mod hash;
mod rolling;

pub(crate) use rolling::Rolling;

use quorate_core::LogIndex;
use std::sync::Arc;

/// The greatest [`DigestRules::window_count`]: the list of a window must fit into a message.
pub const DIGEST_WINDOW_COUNT_MAX: u32 = 1 << 16;

/// What has to be equal on two nodes before their hashes can be: others are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DigestRules {
    /// How many entries a window has: it begins at every index that this divides.
    pub window_count: u32,
    /// The version of the state machine's replies ([`crate::StateMachine::replies_version`]).
    pub version: u32,
}

impl DigestRules {
    /// The first index of the window that ends with `last`.
    pub(crate) fn first_of(self, last: LogIndex) -> LogIndex {
        // There is no entry 0.
        let first = last.get().saturating_sub(u64::from(self.window_count) - 1);
        LogIndex::new(first.max(1))
    }
}

/// A window that was applied as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Its last index.
    pub last: LogIndex,
    /// The hash after each of its entries; that of the window is the last one.
    pub list: Arc<[u64]>,
}

impl Digest {
    /// The hash of the window.
    pub(crate) fn hash(&self) -> u64 {
        self.list.last().copied().unwrap_or_default()
    }
}

/// A node's replies are others than a majority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first entry whose reply is another one; the first of its window if nobody could say.
    pub index: LogIndex,
    /// The hash of the window here.
    pub own: u64,
    /// That of the majority.
    pub others: u64,
}

/// What one node tells another about a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestMessage {
    /// By which rules; a receiver that has others takes no notice.
    pub rules: DigestRules,
    /// The life of the sending driver: another one may have another state.
    pub incarnation: u64,
    /// The last index of the window.
    pub last: LogIndex,
    /// What about it.
    pub news: DigestNews,
}

/// See [`DigestMessage::news`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigestNews {
    /// Its hash at the sender.
    Hash(u64),
    /// The sender has another hash than the receiver, and would like to see where that begins.
    ListWanted,
    /// The hashes after each entry, at the sender.
    List(Vec<u64>),
}
