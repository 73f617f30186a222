//! What becomes of a request. Every request gets one of these; none is dropped.

use crate::SessionRefusal;
use bytes::Bytes;
use quorate_core::{ChangeWait, LogId, LogIndex, MembershipRefusal, NodeId};

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

/// What a read promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees everything that was acknowledged before it began, on any node (§6.4).
    #[default]
    Linearizable,
    /// It sees at least everything up to this index.
    AtLeast(LogIndex),
    /// It sees what this node has; possibly old.
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
