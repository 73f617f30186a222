//! What becomes of a request. Every request gets one of these; none is dropped.

use crate::SessionRefusal;
use bytes::Bytes;
use quorate_core::{LogId, LogIndex, NodeId};

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
