//! Everything that can be due in a world. Each happening names the life of the node that it is
//! meant for: what was on its way to a node that crashed finds nobody.

use super::lanes::LaneName;
use crate::application::{OpId, Outcome, Request};
use crate::network::Piece;
use bytes::Bytes;
use quorate::Ticket;
use quorate_core::NodeId;

/// Something that is due at some time.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A frame or a piece of one reaches a node, if its connection still exists.
    Deliver { from: NodeId, to: NodeId, connection: u64, piece: Piece },
    /// What a cut has held back reaches a node.
    Release { from: NodeId, to: NodeId },
    /// A copy of a frame reaches a node long after it was sent, if both still live.
    DeliverStale { from: NodeId, to: NodeId, lives: (u64, u64), frame: Bytes },
    /// A node notices that the connection to a peer broke.
    Disconnected { node: NodeId, peer: NodeId },
    /// A node is told that a peer's process has ended, which may be so.
    Gone { node: NodeId, peer: NodeId },
    /// A node's loop looks at what has happened.
    Turn { node: NodeId, life: u64 },
    /// A stretch of work is done.
    LaneDone { node: NodeId, life: u64, lane: LaneName },
    /// A node has read its disk and begins.
    Started { node: NodeId, life: u64 },
    /// A node that is down starts.
    Start { node: NodeId, life: u64 },
    /// A node crashes in the middle of something that it seldom does.
    CrashAtWork { node: NodeId, life: u64 },
    /// A log that may have been idle for a while.
    Mark { node: NodeId, life: u64 },
    /// A node looks how full its disk is.
    LookForRoom { node: NodeId, life: u64 },
    /// A full disk has room again.
    EndFull { node: NodeId },
    /// A node that was stopped goes on.
    Resume { node: NodeId },
    /// A client thinks of something to ask.
    Think { client: usize },
    /// A watch client looks for what it is told.
    Look { watcher: usize },
    /// A request reaches a node.
    Ask { op: OpId, node: NodeId, request: Request },
    /// A node comes to answer a read that may be answered.
    Read { node: NodeId, life: u64, ticket: Ticket },
    /// An answer reaches its client.
    Answer { op: OpId, outcome: Outcome },
    /// Something goes wrong.
    Trouble(Trouble),
    /// Links are cut.
    Cut { links: Vec<(NodeId, NodeId)> },
    /// Links are mended.
    Mend { links: Vec<(NodeId, NodeId)> },
    /// Links lose nothing by rule any more.
    EndOmission { links: Vec<(NodeId, NodeId)> },
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Crash,
    Partition,
    Swizzle,
    Break,
    Omission,
    Pause,
    ClockJump,
    Transfer,
    Hang,
    Full,
    Damage,
    Loss,
    Change,
    Wipe,
    Rumour,
    Settings,
    Upgrade,
}

impl Trouble {
    /// All of them.
    pub(super) const ALL: [Self; 17] = [
        Self::Crash,
        Self::Partition,
        Self::Swizzle,
        Self::Break,
        Self::Omission,
        Self::Pause,
        Self::ClockJump,
        Self::Transfer,
        Self::Hang,
        Self::Full,
        Self::Damage,
        Self::Loss,
        Self::Change,
        Self::Wipe,
        Self::Rumour,
        Self::Settings,
        Self::Upgrade,
    ];
}

impl Happening {
    /// Numbers for the trace hash: the kind, the node, and the content.
    pub(super) fn fingerprint(&self) -> (u64, u64, u64) {
        match self {
            Self::Deliver { from, to, piece, .. } => {
                (1, to.get(), from.get() ^ crate::hash::hash_of(&piece.bytes))
            }
            Self::Release { from, to } => (19, to.get(), from.get()),
            Self::DeliverStale { from, to, frame, .. } => {
                (13, to.get(), from.get() ^ crate::hash::hash_of(frame))
            }
            Self::Disconnected { node, peer } => (2, node.get(), peer.get()),
            Self::Gone { node, peer } => (22, node.get(), peer.get()),
            Self::Read { node, ticket, .. } => (23, node.get(), ticket.0),
            Self::Turn { node, life } => (3, node.get(), *life),
            Self::LaneDone { node, life, lane } => (4, node.get(), (*life << 8) | lane.number()),
            Self::Started { node, life } => (5, node.get(), *life),
            Self::Start { node, life } => (6, node.get(), *life),
            Self::Resume { node } => (7, node.get(), 0),
            Self::Think { client } => (8, 0, u64::try_from(*client).unwrap_or(0)),
            Self::Ask { op, node, request } => (9, node.get(), op.0 ^ request_number(request)),
            Self::Answer { op, outcome } => (10, 0, op.0 ^ outcome_number(outcome)),
            Self::Trouble(trouble) => (11, 0, u64::from(*trouble as u8)),
            Self::Mend { links } => (12, 0, count(links)),
            Self::Cut { links } => (14, 0, count(links)),
            Self::Mark { node, life } => (16, node.get(), *life),
            Self::CrashAtWork { node, life } => (18, node.get(), *life),
            Self::EndFull { node } => (17, node.get(), 0),
            Self::EndOmission { links } => (15, 0, count(links)),
            Self::LookForRoom { node, life } => (21, node.get(), *life),
            Self::Look { watcher } => (20, 0, u64::try_from(*watcher).unwrap_or(0)),
        }
    }
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(0)
}

fn request_number(request: &Request) -> u64 {
    match request {
        Request::Command(bytes) | Request::Query(bytes) | Request::Weak { query: bytes, .. } => {
            crate::hash::hash_of(bytes)
        }
        Request::InSession(request) => crate::hash::hash_of(format!("{request:?}").as_bytes()),
    }
}

fn outcome_number(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Applied { log_id, reply } => {
            log_id.index.get().rotate_left(32) ^ crate::hash::hash_of(reply)
        }
        Outcome::Read { reply } => crate::hash::hash_of(reply),
        Outcome::Weak { reply, node, .. } => crate::hash::hash_of(reply) ^ node.get(),
        Outcome::Refused { refusal } => crate::hash::hash_of(format!("{refusal:?}").as_bytes()),
        Outcome::NoEffect => 1 << 62,
        Outcome::Unknown => 1 << 63,
    }
}
