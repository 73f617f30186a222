//! Everything that a core can ask for. Effects may be carried out in any order and in parallel,
//! except that [`Effect::Persist`]s are durable in the order of their sequence numbers.

use crate::{
    ChangeId, Entry, HardState, LogId, LogIndex, MembershipRefusal, Message, NodeId, PersistSeq,
    ProposalId, ReadId, SnapshotMeta, Time,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message. It may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Make durable, then report [`crate::Event::Persisted`].
    Persist(Persist),
    /// Apply these committed entries, in order, then report [`crate::Event::Applied`]. They follow
    /// those of the previous `Apply` without a gap.
    Apply {
        /// The entries.
        entries: Vec<Entry>,
    },
    /// A proposal is in the leader's log; its fate is decided when that index is applied: it
    /// succeeded if the applied entry has this `log_id`, and is lost if it has another.
    ProposalAppended {
        /// Which proposal.
        id: ProposalId,
        /// Where.
        log_id: LogId,
    },
    /// A proposal was not appended, and never will be.
    ProposalRefused {
        /// Which proposal.
        id: ProposalId,
        /// Why.
        reason: ProposalRefusal,
    },
    /// The change of the members that was asked for is in the leader's log: it begins there, or was
    /// under way or done already. How it ends is told by the configurations that are applied from
    /// there on.
    MembershipAppended {
        /// Which wish.
        id: ChangeId,
        /// Where the configuration stands.
        log_id: LogId,
    },
    /// Nothing was appended, and nothing will be.
    MembershipRefused {
        /// Which wish.
        id: ChangeId,
        /// Why.
        reason: MembershipRefusal,
    },
    /// A read may be answered once the state machine has applied `index`.
    ReadReady {
        /// Which read.
        id: ReadId,
        /// What must be applied.
        index: LogIndex,
    },
    /// A read cannot be served now; it may be tried again.
    ReadRefused {
        /// Which read.
        id: ReadId,
        /// Why.
        reason: ReadRefusal,
    },
    /// Read entries that memory no longer holds, then report [`crate::Event::Loaded`].
    Load(LoadRequest),
    /// Read what stands whole on the disk behind the damage of the log: the stretch without a gap that
    /// begins at the smallest index not below `first`. Then report [`crate::Event::SparesLoaded`].
    LoadSpares {
        /// For whom; for this server itself if it is its own id.
        peer: NodeId,
        /// From where on.
        first: LogIndex,
        /// Stop after the entry that exceeds this many bytes.
        max_bytes: usize,
    },
    /// Make a snapshot of the state machine that covers at least `at_least`, keep it readable, and
    /// report [`crate::Event::SnapshotReady`].
    TakeSnapshot {
        /// What it must cover.
        at_least: LogIndex,
    },
    /// Read a piece of a snapshot, then report [`crate::Event::SnapshotChunk`].
    ReadSnapshotChunk {
        /// For whom.
        peer: NodeId,
        /// Of which snapshot.
        last_included: LogId,
        /// From where, in bytes.
        offset: u64,
        /// How much at most.
        max_bytes: usize,
    },
    /// Store a piece of a received snapshot, then report [`crate::Event::SnapshotWritten`].
    WriteSnapshotChunk {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where in it, in bytes; 0 is its beginning. The answer says where to go on.
        offset: u64,
        /// The piece.
        chunk: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// Replace the state machine by the received snapshot, which is durable, then report
    /// [`crate::Event::SnapshotRestored`].
    RestoreSnapshot {
        /// Which snapshot.
        meta: SnapshotMeta,
    },
    /// The log up to `base` may be dropped from the disk: the state machine covers it.
    ReleasePrefix {
        /// The new base of the log.
        base: SnapshotMeta,
    },
}

/// A write. Its parts happen in this order: `reset`, `truncate_after`, `entries`, `hard_state`; all
/// of them are durable before [`crate::Event::Persisted`] is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persist {
    /// Its place in the order of writes.
    pub seq: PersistSeq,
    /// When the core asked for it: how long the disk takes is part of a leader's health.
    pub asked_at: Time,
    /// Drop the whole log and start it after this snapshot.
    pub reset: Option<SnapshotMeta>,
    /// Drop every entry after this index.
    pub truncate_after: Option<LogIndex>,
    /// Append these.
    pub entries: Vec<Entry>,
    /// Store this.
    pub hard_state: Option<HardState>,
}

/// Who needs entries from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LoadFor {
    /// A follower that is behind.
    Peer(NodeId),
    /// The state machine, after a restart.
    Apply,
    /// A server whose log was damaged, and that has no leader.
    Mending(NodeId),
}

/// A wish for entries `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// Who needs them.
    pub purpose: LoadFor,
    /// The first.
    pub first: LogIndex,
    /// The last.
    pub last: LogIndex,
    /// Stop after the entry that exceeds this many bytes.
    pub max_bytes: usize,
}

/// Why a proposal was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalRefusal {
    /// Another node leads, or none is known to.
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// The leader is handing over (§3.10).
    Transferring {
        /// The successor.
        to: NodeId,
    },
    /// The uncommitted part of the log is at its limit.
    TooManyUncommitted {
        /// Its size in bytes.
        uncommitted_bytes: usize,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The core is poisoned and takes part in nothing any more.
    Poisoned,
}

/// Why a read was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRefusal {
    /// No leader is known.
    NoLeader,
    /// The leader changed, or lost its office, while the read waited.
    LeaderChanged,
    /// The limit of waiting reads is reached.
    TooManyReads {
        /// The limit.
        limit_count: usize,
    },
    /// The core is poisoned and takes part in nothing any more.
    Poisoned,
}
