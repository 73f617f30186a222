//! Everything that goes into a driver and comes out of it. The runtime and the simulator both speak
//! this; neither can do anything to a node that is not written here.

use super::DriverOptions;
use crate::{
    Consistency, Digest, DigestMessage, Divergence, Fate, MembershipFate, ReadError, Rot,
    SessionRequest, SessionTime,
};
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, LoadRequest, LogId, LogIndex, MembershipCommand, MembershipRefusal,
    Message, NodeId, Options, Persist, PersistSeq, ProtocolVersion, SnapshotMeta, Term, Time,
};
use std::sync::Arc;
use std::time::Duration;

/// The runtime's name for a request of a local caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What two drivers say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// From core to core.
    Raft(Message),
    /// Commands that arrived at a follower, for the leader to append: at most once each, also if
    /// this message arrives twice.
    Forward {
        /// The term whose leader is meant. A later leadership of the same node is not.
        term: Term,
        /// The life of the sending driver, so that a restart's numbers are not taken for old ones.
        incarnation: u64,
        /// The commands, their numbers rising.
        requests: Vec<Forwarded>,
    },
    /// What became of some of them.
    ForwardReplies {
        /// The life of the driver that forwarded them.
        incarnation: u64,
        /// The follower's name for each request, and its fate.
        replies: Vec<(u64, Fate)>,
    },
    /// A wish for other members that arrived at a follower.
    ChangeMembership {
        /// The term whose leader is meant.
        term: Term,
        /// The life of the sending driver.
        incarnation: u64,
        /// The follower's name for the wish; the names of one life rise.
        request: u64,
        /// The wish.
        command: MembershipCommand,
    },
    /// Where it stands in the log, or why it does not.
    MembershipReply {
        /// The life of the driver that sent the wish.
        incarnation: u64,
        /// Its name for the wish.
        request: u64,
        /// The answer.
        outcome: Result<LogId, MembershipRefusal>,
    },
    /// Which disk the sender has.
    Introduce(Introduction),
    /// What the sender's replies come to, or a question about that.
    Digest(DigestMessage),
    /// For the leader: the sender's state was emptied, and its log begins later than at the beginning.
    StateWanted {
        /// What a snapshot has to cover.
        at_least: LogIndex,
    },
}

/// A node says which disk it has, and what it knows of the one that it speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The identity of its disk.
    pub storage_id: u128,
    /// How often that disk's log was opened.
    pub era: u32,
    /// Whether the disk is known to hold all that the node has ever promised.
    pub is_proven: bool,
    /// Whether the node knows of a term or an entry after what its log began with: somebody has
    /// promised something.
    pub has_history: bool,
    /// What its log began with, if not with nothing.
    pub beginning: Option<Beginning>,
    /// In an answer, what was said. What is no answer wants one.
    pub answers: Option<Seen>,
}

/// The state that a log began with, made before it: equal for all founders of a cluster that goes on
/// from one backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The entry up to which it stands, which the log does not have.
    pub last_included: LogId,
    /// The checksum of its snapshot, configuration included.
    pub checksum: u32,
}

/// What is known of the receiver's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its identity, as it was just told.
    pub storage_id: u128,
    /// The highest era of it that was ever told.
    pub era: u32,
}

/// A command on its way from a follower to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The follower's name for the request.
    pub request: u64,
    /// The command.
    pub proposed: Proposed,
}

/// What a client wants in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// A command for the state machine.
    Command(Bytes),
    /// A request of a session, in a box: most proposals are none.
    Session(Box<SessionRequest>),
}

impl Proposed {
    /// What it counts for in limits.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Command(command) => command.len(),
            Self::Session(request) => request.size_bytes(),
        }
    }
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message arrived.
    Peer {
        /// From whom.
        from: NodeId,
        /// The identity of the sender's disk, as its connection was opened with.
        storage_id: u128,
        /// The newest protocol that the sender speaks, as its connection was opened with.
        version: ProtocolVersion,
        /// What.
        message: PeerMessage,
    },
    /// The connection to a peer broke: replies that it still owed will not come.
    Disconnected {
        /// Which peer.
        peer: NodeId,
    },
    /// A peer's process has ended, as it seems: its connection broke, and nobody listens where it did.
    PeerGone {
        /// Which peer.
        peer: NodeId,
    },
    /// A local caller proposes a command.
    Propose {
        /// The caller.
        ticket: Ticket,
        /// The command.
        command: Bytes,
        /// When the caller wants to know at the latest.
        deadline: Time,
    },
    /// A local caller proposes something of a session.
    ProposeInSession {
        /// The caller.
        ticket: Ticket,
        /// What.
        request: Box<SessionRequest>,
        /// When the caller wants to know at the latest.
        deadline: Time,
        /// Whether it was sent before, in vain: then it waits a moment, so that whoever asks again
        /// at once does not keep the node busy.
        is_retry: bool,
    },
    /// A local caller wants to read: [`Output::Barrier`] says when it may.
    Barrier {
        /// The caller.
        ticket: Ticket,
        /// What the read promises.
        consistency: Consistency,
        /// When the caller wants to know at the latest.
        deadline: Time,
    },
    /// A local caller wants other members: [`Output::MembershipAnswer`] says how that ended.
    ChangeMembership {
        /// The caller.
        ticket: Ticket,
        /// The wish.
        command: MembershipCommand,
        /// When the caller wants to know at the latest.
        deadline: Time,
    },
    /// [`crate::Driver::next_deadline`] has come.
    Deadline,
    /// The clock has jumped, or stood still, since the last turn. Comes before everything else of its
    /// turn.
    ClockJumped {
        /// By so much, in whichever direction.
        by: Duration,
    },
    /// A write is durable, and so is every earlier one.
    Persisted {
        /// Which write.
        seq: PersistSeq,
    },
    /// The answer to [`Output::Prove`]: it is durable.
    Proved,
    /// The answer to [`Output::Load`].
    Loaded {
        /// The request.
        request: LoadRequest,
        /// The entries; none if the log does not hold the first one any more.
        entries: Vec<Entry>,
    },
    /// The answer to [`Output::LoadSpares`].
    SparesLoaded {
        /// For whom.
        peer: NodeId,
        /// The entries, without a gap; none if there is nothing.
        entries: Vec<Entry>,
    },
    /// The state machine has applied a batch, or restored a snapshot.
    Applied(Applied),
    /// The answer to [`Output::TakeSnapshot`].
    SnapshotReady {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// How large its file is.
        size_bytes: u64,
    },
    /// The answer to [`Output::ReadSnapshotChunk`].
    SnapshotChunk {
        /// For whom.
        peer: NodeId,
        /// Of which snapshot.
        last_included: LogId,
        /// From where, in bytes.
        offset: u64,
        /// The piece.
        chunk: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// A snapshot cannot be read any more.
    SnapshotGone {
        /// For whom it was read.
        peer: NodeId,
        /// Which snapshot.
        last_included: LogId,
    },
    /// The answer to [`Output::WriteSnapshotChunk`].
    SnapshotWritten {
        /// Of which snapshot.
        last_included: LogId,
        /// The offset wanted next, in bytes.
        next_offset: u64,
        /// Whether the snapshot is whole, verified and durable.
        complete: bool,
    },
    /// The answer to [`Output::RestoreSnapshot`].
    SnapshotRestored {
        /// Which snapshot.
        last_included: LogId,
        /// What the state machine has durably applied.
        durable: LogIndex,
    },
    /// The answer to [`Output::Scrub`].
    Scrubbed {
        /// How much was read.
        read_bytes: u64,
        /// Which files are damaged, if that has changed.
        rotten: Option<Arc<[Rot]>>,
    },
    /// An operator wants another leader.
    TransferLeadership {
        /// Whom; `None` for the best follower.
        to: Option<NodeId>,
    },
    /// Other settings for the core, from now on; they have passed
    /// [`Options::validate`](quorate_core::Options::validate).
    SetOptions(Box<Options>),
    /// Other settings for the driver, from now on.
    SetDriverOptions(Box<DriverOptions>),
    /// The log takes no more: a write of it failed. What comes of this is the last that the node says;
    /// it is to be ended then.
    DiskFailed,
    /// [`Output::NoteDivergence`] is done: as after [`Input::DiskFailed`], the node has its last word.
    Diverged {
        /// From which entry on.
        index: LogIndex,
    },
}

/// The outcome of one [`Output::Apply`].
#[derive(Clone, Debug)]
pub struct Applied {
    /// The last entry of the batch.
    pub index: LogIndex,
    /// What the state machine has durably applied ([`crate::StateMachine::applied`]).
    pub durable: LogIndex,
    /// The time of the table of sessions.
    pub session_time: SessionTime,
    /// The fates of requests that other nodes forwarded.
    pub remote: Vec<RemoteFate>,
    /// The windows that this finished, if replies are hashed.
    pub digests: Vec<Digest>,
}

/// The fate of a request that another node forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFate {
    /// Whose request.
    pub requester: Requester,
    /// Its fate.
    pub fate: Fate,
}

/// Something to do. May be done in any order, except that each kind among `Persist`, and each among
/// `Apply` and `RestoreSnapshot`, keeps its own order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message; it may be lost. If a `Forward` certainly cannot be delivered (no connection,
    /// queue full), say so by [`Input::Disconnected`], or the caller waits until its deadline.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Make durable.
    Persist(Persist),
    /// Note for good that this node's disk holds all that it has promised.
    Prove,
    /// Read from the log.
    Load(LoadRequest),
    /// Read what stands whole behind the damage of the log.
    LoadSpares {
        /// For whom.
        peer: NodeId,
        /// From where on.
        first: LogIndex,
        /// Stop after the entry that exceeds this many bytes.
        max_bytes: usize,
    },
    /// Apply committed entries and answer those who wait for them.
    Apply(ApplyBatch),
    /// The fate of a local proposal that will not be answered by an [`ApplyBatch`].
    Answer {
        /// The caller.
        ticket: Ticket,
        /// The fate.
        fate: Fate,
    },
    /// How a local wish for other members ended, or where it is at the caller's deadline.
    MembershipAnswer {
        /// The caller.
        ticket: Ticket,
        /// The end.
        fate: MembershipFate,
    },
    /// A local read may go on, or not.
    Barrier {
        /// The caller.
        ticket: Ticket,
        /// The index that is applied at least; or why not.
        result: Result<LogIndex, ReadError>,
    },
    /// The log has grown long: ask the state machine for a checkpoint, or, if it has none, write a
    /// snapshot of at least this much.
    Checkpoint {
        /// What it should cover.
        at_least: LogIndex,
    },
    /// Write a snapshot of the state machine.
    TakeSnapshot {
        /// What it must cover.
        at_least: LogIndex,
    },
    /// Read a stretch of the sealed part of the log, or of the snapshots, again, and see whether it is
    /// damaged.
    Scrub {
        /// How much, about.
        max_bytes: u64,
    },
    /// Read a piece of a snapshot.
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
    /// Store a piece of a received snapshot.
    WriteSnapshotChunk {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where, in bytes.
        offset: u64,
        /// The piece.
        chunk: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// Replace the state machine by a received snapshot.
    RestoreSnapshot {
        /// Which snapshot.
        meta: SnapshotMeta,
    },
    /// Note for good that this node's state is not what its log says, so that no start uses it. Then the
    /// node is to be ended.
    NoteDivergence(Divergence),
    /// Drop the log up to this base from the disk, and snapshots that only older logs needed.
    ReleasePrefix {
        /// The new base.
        base: SnapshotMeta,
    },
}

/// Committed entries, in order and without a gap.
#[derive(Clone, Debug, Default)]
pub struct ApplyBatch {
    /// The entries, of every kind.
    pub entries: Vec<Entry>,
    /// Who waits for which entry: positions in `entries`, rising.
    pub waiters: Vec<(usize, Waiter)>,
    /// What the entry before these is, and the configuration in force there, for a state machine that
    /// was ahead of its log when that was damaged, and could not look it up.
    pub place: Option<(LogId, Arc<Configuration>)>,
}

/// Who waits for the fate of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A caller on this node.
    Local(Ticket),
    /// A caller on another node.
    Remote(Requester),
}

/// A request of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requester {
    /// The node.
    pub node: NodeId,
    /// The life of its driver.
    pub incarnation: u64,
    /// Its name for the request.
    pub request: u64,
}
