//! What becomes of a request. Every request gets one of these; none is dropped.

use crate::SessionRefusal;
use bytes::Bytes;
use quorate_core::{ChangeWait, Drift, LogId, LogIndex, MembershipRefusal, NodeId};
use std::time::Duration;

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Committed and applied.
    Applied {
        /// Where it stands in the log.
        log_id: LogId,
        /// The state machine's reply.
        reply: Bytes,
    },
    /// It never entered the log: safe to try again.
    NotAppended(Refusal),
    /// It was in the log and another entry took its place: provably without effect, safe to try
    /// again.
    Lost {
        /// Where it had been.
        log_id: LogId,
    },
    /// It may or may not take effect, now or later.
    Unknown(Doubt),
    /// Its session did not take it; never told of a command without a session.
    Refused(SessionRefusal),
}

/// Why a proposal never entered the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No leader was known until the deadline.
    #[error("no leader is known")]
    NoLeader,
    /// The leader is handing over to another node.
    #[error("leadership is being transferred to node {to}")]
    Transferring {
        /// The successor.
        to: NodeId,
    },
    /// A limit is reached; try again later.
    #[error("the limit of {limit} {unit} of {what} is reached")]
    Overloaded {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
        /// Of what unit.
        unit: &'static str,
    },
    /// The node is stopping or has failed.
    #[error("this node has stopped")]
    Stopped,
}

/// Why the fate of a proposal is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The deadline came first.
    #[error("the deadline passed before the outcome was known")]
    Deadline,
    /// The connection to the leader broke after the proposal was forwarded.
    #[error("the connection to the leader, node {leader}, was lost")]
    ConnectionLost {
        /// The leader at that time.
        leader: NodeId,
    },
    /// A snapshot replaced the part of the log where the proposal stood.
    #[error("a snapshot replaced the log where the proposal stood")]
    Superseded,
    /// The node stopped.
    #[error("the node stopped before the outcome was known")]
    Stopped,
}

/// How a wish for other members ended: the version of the configuration in which the members are
/// as wished (or the change is taken back, if that was the wish), or why there is none.
pub type MembershipFate = Result<u64, MembershipError>;

/// Why the members are not as wished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// It was not begun, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] MembershipRefusal),
    /// There is no such member.
    #[error("node {member} is no member in configuration version {version}")]
    UnknownMember {
        /// Who was named.
        member: NodeId,
        /// Where it was looked for.
        version: u64,
    },
    /// It was begun, and another wish took its place before it was done: a cancellation, or
    /// whatever the members of this version are.
    #[error("configuration version {version} took its place before it was done")]
    Superseded {
        /// The version of the configuration that did.
        version: u64,
    },
    /// It was in the log of a leader that lost its office, and another entry took its place:
    /// provably without effect, safe to try again.
    #[error("the leader lost its office before the change was committed; it has no effect")]
    Lost,
    /// The deadline came first. The change goes on, whoever leads; ask again to wait for it.
    #[error("the change goes on{}", match waits.first() {
        Some(wait) => format!("; it waits: {wait}"),
        None => String::new(),
    })]
    UnderWay {
        /// What it waits for, if this node leads and it does not go on by itself.
        waits: Vec<ChangeWait>,
    },
    /// Too many wishes wait on this node; try again later.
    #[error("the limit of {limit_count} waiting requests is reached")]
    Overloaded {
        /// How many may.
        limit_count: usize,
    },
    /// It may or may not be done.
    #[error("it is not known what became of the change: {0}")]
    Unknown(Doubt),
}

/// What a read promises. Any node serves any of them, and reads that wait share one proof; one that
/// cannot be served in time is refused ([`ReadError`]), never weakened.
///
/// | | What it shows | What that rests on | What it costs |
/// |---|---|---|---|
/// | `Linearizable` | every write that was acknowledged to anybody before the read was called, and all that anybody was shown by such a read before | nothing: clocks may do what they like | a round of heartbeats |
/// | `Lease` | the same | no clock of a voter is off by more than `max_drift` | nothing on the leader, a question to it elsewhere |
/// | `Bounded` | every write that was acknowledged at least so long before the read was called | this node's clock does not stand still | mostly nothing; a round when what is known here is older |
/// | `AtLeast` | every entry up to an index that you have | nothing | until this node has applied it |
/// | `Local` | what this node has applied, however old; never less than it has shown before, until it is started again | nothing | nothing |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees everything that was acknowledged before it began, on any node, whatever clocks do
    /// (§6.4): a round of heartbeats proves that the leader still leads.
    #[default]
    Linearizable,
    /// The same as `Linearizable`, as long as no voter's clock is off by more than `max_drift`: the
    /// leader's lease proves that it still leads (§6.4.1), which takes no message. Where there is no
    /// lease, a round of heartbeats does: the members do not set
    /// [`Options::lease_reads`](crate::Options::lease_reads), the leader is new, has been asked to
    /// hand over, hears no majority, or its clock jumped.
    ///
    /// A process may be stopped and go on at any moment: the clock is read after the read was called,
    /// and goes on meanwhile, on Linux also while the machine sleeps. A clock that stands still, as a
    /// virtual machine's may while it is stopped, is off by more than any drift; that is noticed
    /// once the time of day has been set right (by more than 10 ms), and not before.
    Lease {
        /// By how much clocks may be off.
        max_drift: Drift,
    },
    /// It sees every write that was acknowledged at least so long before it was called, by this node's
    /// clock. Zero is as good, and as dear, as `Linearizable`.
    Bounded(Duration),
    /// It sees at least everything up to this index, such as that of a [`Fate::Applied`].
    AtLeast(LogIndex),
    /// It sees what this node has applied; possibly old, never older than what it has shown since it
    /// started.
    Local,
}

/// Why a read was not served. It had no effect: safe to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader was known until the deadline.
    #[error("no leader is known")]
    NoLeader,
    /// The leader changed, or could not prove its office, until the deadline.
    #[error("leadership was not confirmed before the deadline")]
    NotConfirmed,
    /// What the read needs was not applied before the deadline.
    #[error("index {index} was not applied before the deadline")]
    NotApplied {
        /// What it waits for.
        index: LogIndex,
    },
    /// The state machine did not get round to it before the deadline.
    #[error("the state machine did not answer before the deadline")]
    Unanswered,
    /// A limit is reached; try again later.
    #[error("the limit of {limit_count} waiting reads is reached")]
    Overloaded {
        /// How many are allowed.
        limit_count: usize,
    },
    /// The node is stopping or has failed.
    #[error("this node has stopped")]
    Stopped,
    /// The state machine did not answer.
    #[error(transparent)]
    Query(#[from] crate::QueryError),
}
