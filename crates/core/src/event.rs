//! Everything that can happen to a core.

use crate::recording::payload;
use crate::{
    ChangeId, Drift, Entry, HardState, LoadRequest, LogId, LogIndex, MembershipCommand, Message,
    NodeId, Options, Payload, PersistSeq, ProposalId, ProtocolVersion, ReadId, SnapshotMeta, Term,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A message arrived: late, twice, or out of order, as it may.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Commands to append, if this node leads.
    Propose(Vec<Proposal>),
    /// Somebody wants to read linearizably (§6.4).
    Read {
        /// The caller's name for the read.
        id: ReadId,
    },
    /// Somebody wants to read linearizably, and says how far clocks may be off: if that suffices, the
    /// leader's lease is the proof (§6.4.1); if not, a round of heartbeats is.
    ReadByLease {
        /// The caller's name for the read.
        id: ReadId,
        /// By how much.
        max_drift: Drift,
    },
    /// The clock has jumped, or stood still, since the last event: what was measured across that
    /// moment may be wrong.
    ClockJumped {
        /// By so much, in whichever direction.
        by: Duration,
    },
    /// [`crate::Raft::next_deadline`] has come.
    Deadline,
    /// The write `seq` of [`crate::Effect::Persist`], and so every earlier one, is durable.
    Persisted {
        /// Which write.
        seq: PersistSeq,
    },
    /// The state machine has applied everything up to `index`.
    Applied {
        /// The last applied entry.
        index: LogIndex,
    },
    /// The answer to [`crate::Effect::Load`]: entries without a gap from `request.first` on, at
    /// least one, unless the log no longer holds them.
    Loaded {
        /// The request that this answers.
        request: LoadRequest,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The answer to [`crate::Effect::LoadSpares`].
    SparesLoaded {
        /// For whom they were read.
        peer: NodeId,
        /// What was found: entries without a gap; empty if there is nothing.
        entries: Vec<Entry>,
    },
    /// The state machine's durable state covers the log up to `through`, which may be released.
    Compact {
        /// The last entry that is no longer needed here.
        through: LogIndex,
    },
    /// The answer to [`crate::Effect::TakeSnapshot`]: a durable snapshot is at hand.
    SnapshotReady {
        /// Which snapshot.
        meta: SnapshotMeta,
    },
    /// The answer to [`crate::Effect::ReadSnapshotChunk`].
    SnapshotChunk {
        /// For whom it was read.
        peer: NodeId,
        /// Of which snapshot.
        last_included: LogId,
        /// From which offset, in bytes.
        offset: u64,
        /// The piece.
        #[serde(with = "payload")]
        chunk: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// A snapshot that was asked for cannot be read any more; start over.
    SnapshotGone {
        /// For whom it was read.
        peer: NodeId,
        /// Which snapshot.
        last_included: LogId,
    },
    /// The answer to [`crate::Effect::WriteSnapshotChunk`].
    SnapshotWritten {
        /// Of which snapshot.
        last_included: LogId,
        /// The offset wanted next, in bytes.
        next_offset: u64,
        /// Whether the snapshot is whole, verified and durable.
        complete: bool,
    },
    /// The answer to [`crate::Effect::RestoreSnapshot`]: the state machine now is that snapshot.
    SnapshotRestored {
        /// Which snapshot.
        last_included: LogId,
    },
    /// An operator asks the leader to hand over (§3.10), to `to` or to the best follower.
    TransferLeadership {
        /// The wished-for successor.
        to: Option<NodeId>,
    },
    /// A node says which disk it has, this server itself among them. A leader has that recorded in
    /// the configuration.
    Introduced {
        /// Who.
        from: NodeId,
        /// The identity of its disk.
        storage_id: u128,
        /// Whether the disk is known to hold all that this node has ever promised. One that is not
        /// is recorded only for a learner, which has promised nothing that counts.
        is_proven: bool,
    },
    /// A node says which protocol it speaks at most, this server itself among them; it may be another
    /// program each time that it starts. A leader has the highest that all know recorded.
    Speaks {
        /// Who.
        from: NodeId,
        /// The newest version.
        version: ProtocolVersion,
    },
    /// A node's process has ended, as it seems: its connection broke, and nobody listens at its
    /// address. May be said at any moment and be wrong; a follower of that node asks early whether it
    /// would win an election, and nothing else comes of it.
    PeerGone {
        /// Who.
        peer: NodeId,
    },
    /// Other settings, from now on. Those that do not pass [`Options::validate`] change nothing.
    SetOptions(Box<Options>),
    /// An operator wants other members (§4), or the change under way taken back.
    ChangeMembership {
        /// The caller's name for the wish.
        id: ChangeId,
        /// What is wanted.
        command: MembershipCommand,
    },
    /// The log takes no more: a write of it failed, and what was written last may be lost. A leader
    /// calls its successor; after that the server takes part in nothing any more, until it is
    /// started again from what its disk holds.
    DiskFailed,
    /// The state machine has replied otherwise than those of a majority: what it holds is not what the
    /// log says. The same comes of it as of [`Event::DiskFailed`].
    Diverged {
        /// The first entry whose reply is another one.
        index: LogIndex,
    },
    /// A member has a log and no state for what that begins after. A leader sends it a snapshot.
    StateWanted {
        /// Who.
        peer: NodeId,
        /// What the snapshot has to cover: the peer's log begins after this.
        at_least: LogIndex,
    },
}

/// One command to append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The caller's name for it.
    pub id: ProposalId,
    /// For whom the command is.
    pub kind: CommandKind,
    /// The command.
    #[serde(with = "payload")]
    pub command: Bytes,
}

/// For whom a command is; to Raft all are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandKind {
    /// For the state machine: becomes a [`crate::Payload::Command`].
    #[default]
    Plain,
    /// For the layer that keeps the sessions (§6.3): becomes a [`crate::Payload::Session`].
    Session,
}

impl Proposal {
    /// A command for the state machine.
    #[must_use]
    pub const fn plain(id: ProposalId, command: Bytes) -> Self {
        Self { id, kind: CommandKind::Plain, command }
    }

    /// What it becomes in the log.
    pub(crate) fn into_payload(self) -> Payload {
        match self.kind {
            CommandKind::Plain => Payload::Command(self.command),
            CommandKind::Session => Payload::Session(self.command),
        }
    }
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log starts after: the last snapshot or release, or [`LogId::ORIGIN`] with the
    /// initial configuration.
    pub base: SnapshotMeta,
    /// The first index of each run of entries with one term, in order: the terms of the whole log.
    pub term_runs: Vec<(LogIndex, Term)>,
    /// The configurations in the log, with their indexes, in order.
    pub configurations: Vec<(LogIndex, std::sync::Arc<crate::Configuration>)>,
    /// The last entry of the log; equals `base.last_included` if it is empty.
    pub last_log: LogId,
    /// The end of the log, without a gap up to `last_log`: as much as should be held in memory.
    pub tail: Vec<Entry>,
    /// What the state machine has durably applied; at least `base`, at most `last_log` or
    /// what was lost behind it. Or nothing at
    /// all, with a `base` behind it: the state was lost or given up, and a snapshot is fetched before
    /// anything is applied. Until then the server neither campaigns nor leads.
    pub applied: LogIndex,
    /// The last entry that the log is known to have held durably, if entries behind `last_log` were
    /// lost: whatever this server can have acknowledged is not beyond it. `None` for a sound log.
    pub lost: Option<LogId>,
}
