//! Why a node does not start, and why one that ran has stopped.

use crate::runtime::LogPlaceError;
use crate::{Fatal, Input};
use quorate_core::{LogId, LogIndex, NodeId, ProtocolVersion};
use quorate_wal::WalError;
use std::io;
use std::path::PathBuf;

/// Why a node ended. The others of its cluster are not affected.
#[derive(Debug, thiserror::Error)]
pub enum NodeFailure {
    /// It was asked to.
    #[error("the node was stopped")]
    Stopped,
    /// The state machine cannot go on.
    #[error(transparent)]
    StateMachine(#[from] Fatal),
    /// The disk failed, or what it gave back is damaged. Nothing that was not durable was
    /// acknowledged. A leader has called its successor.
    #[error("the log failed: {0}{advice}", advice = what_to_do(.0))]
    Log(#[source] WalError),
    /// A snapshot could not be written, read or stored.
    #[error("a snapshot failed: {0}")]
    Snapshot(#[source] WalError),
    /// The state machine could not write its snapshot.
    #[error("the state machine's snapshot could not be written: {0}")]
    View(#[source] io::Error),
    /// The protocol is provably broken, for instance by two nodes with one id. The node takes part
    /// in nothing any more rather than do harm.
    #[error("the protocol is broken: {evidence}")]
    Poisoned {
        /// What was seen.
        evidence: String,
    },
    /// Its state machine has replied otherwise than a majority's: what it holds is not what the log says.
    /// That is noted in its folder, and a start is refused until the state is rebuilt
    /// ([`crate::NodeBuilder::rebuild_state`]). The log is sound; a leader has called its successor.
    #[error(
        "this node's state has diverged: from entry {index} on it replies otherwise than a majority \
         of the voters (hash {own:016x}, theirs {others:016x}). Its log is sound. Find out what the \
         state machine goes by besides the log: a clock, a map without an order, memory that fails, \
         another version of the program. Then start it with its state rebuilt (quorate serve \
         --rebuild-state)"
    )]
    Diverged {
        /// The first entry with another reply, as far as could be found out.
        index: LogIndex,
        /// The hash of its window here.
        own: u64,
        /// The majority's.
        others: u64,
    },
    /// A thread of the node panicked: the state machine's code, or ours.
    #[error("the {thread} thread panicked: {message}")]
    Panicked {
        /// Which thread.
        thread: &'static str,
        /// What it said.
        message: String,
    },
}

impl NodeFailure {
    /// Whether there was no room on the disk, and nothing else is wrong.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Log(error) | Self::Snapshot(error) => matches!(error, WalError::DiskFull { .. }),
            Self::View(error) => quorate_wal::is_full(error),
            Self::Stopped
            | Self::StateMachine(_)
            | Self::Poisoned { .. }
            | Self::Diverged { .. }
            | Self::Panicked { .. } => false,
        }
    }

    /// What the driver is told before the node ends, so that a leader can hand over, if only the disk
    /// under the log is to blame, or the state machine: the protocol is sound then.
    #[must_use]
    pub fn last_input(&self) -> Option<Input> {
        if let Self::Diverged { index, .. } = self {
            return Some(Input::Diverged { index: *index });
        }
        self.allows_handover().then_some(Input::DiskFailed)
    }

    /// Whether there is such an input.
    #[must_use]
    pub const fn allows_handover(&self) -> bool {
        match self {
            Self::Log(error) => is_of_the_disk(error),
            Self::Diverged { .. } => true,
            Self::Stopped
            | Self::StateMachine(_)
            | Self::Snapshot(_)
            | Self::View(_)
            | Self::Poisoned { .. }
            | Self::Panicked { .. } => false,
        }
    }
}

/// Whether a running log can meet this although whoever uses it makes no mistake.
const fn is_of_the_disk(error: &WalError) -> bool {
    match error {
        WalError::Io { .. }
        | WalError::DiskFull { .. }
        | WalError::Poisoned { .. }
        | WalError::Damaged { .. } => true,
        WalError::WrongIdentity { .. }
        | WalError::Locked { .. }
        | WalError::Missing { .. }
        | WalError::AlreadyExists { .. }
        | WalError::UnsupportedVersion { .. }
        | WalError::NewerProtocol { .. }
        | WalError::OutOfOrder { .. }
        | WalError::TooLarge { .. }
        | WalError::NoSnapshot { .. } => false,
    }
}

/// For an operator whose node has ended: what that means, and what comes next. Damage says so
/// itself.
const fn what_to_do(error: &WalError) -> &'static str {
    match error {
        WalError::Io { .. } | WalError::Poisoned { .. } => {
            ". What was written since the last success may be lost although the file shows it; \
             nobody was told of it. This member leads no more and has stopped. Check the disk \
             (dmesg, smartctl), then start the member again: it reads its log back, writes the end \
             of it once more, and goes on"
        }
        WalError::DiskFull { .. } => {
            ". This file system had promised the room, and broke that: what was being written may \
             be there in part, and was promised to nobody. This member leads no more and has \
             stopped. Free space, then start it again"
        }
        WalError::Damaged { .. }
        | WalError::WrongIdentity { .. }
        | WalError::Locked { .. }
        | WalError::Missing { .. }
        | WalError::AlreadyExists { .. }
        | WalError::UnsupportedVersion { .. }
        | WalError::NewerProtocol { .. }
        | WalError::OutOfOrder { .. }
        | WalError::TooLarge { .. }
        | WalError::NoSnapshot { .. } => "",
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address to listen on cannot be had: it is in use, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The node is not among the members given for its new cluster.
    #[error("node {id} is not among the {member_count} members given")]
    NotAMember {
        /// The node.
        id: NodeId,
        /// How many members were given.
        member_count: usize,
    },
    /// The cluster speaks a later protocol than this program, or than it was told to speak: it does not
    /// go back.
    #[error(
        "this node's cluster speaks protocol version {cluster_version}, and this program is to speak none \
         after {newest}: start the program that the other members run{}",
        if newest < &ProtocolVersion::NEWEST { ", without --protocol-version-max" } else { "" }
    )]
    ProtocolTooOld {
        /// What the cluster speaks, by this node's log or snapshots.
        cluster_version: ProtocolVersion,
        /// The newest that this program is to speak.
        newest: ProtocolVersion,
    },
    /// A node that joins can only be added where it listens.
    #[error("a node that joins a cluster needs an address to listen on")]
    NotListening,
    /// Other nodes are to call over TLS, and there is nothing to show them.
    #[error("a node that listens with TLS needs a certificate and its key")]
    NoCertificate,
    /// Limits that exclude each other.
    #[error(transparent)]
    Limits(#[from] crate::SettingsError),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The log is not where it was, or is another one.
    #[error(transparent)]
    LogPlace(#[from] LogPlaceError),
    /// The log's settings and content do not make a server.
    #[error(transparent)]
    Core(#[from] quorate_core::StartError),
    /// The state machine has less than the log leaves out, and no snapshot fills the gap.
    #[error(
        "the state machine has applied {applied}, the log starts after {base}, and no snapshot \
         reaches so far; was the state machine's folder lost or replaced?"
    )]
    StateBehind {
        /// What the state machine has.
        applied: LogIndex,
        /// What the log starts after.
        base: LogId,
    },
    /// The state machine has more than the log: they do not belong together.
    #[error(
        "the state machine has applied {applied}, but the log ends at {last_log}; was the log's \
         folder lost or replaced?"
    )]
    StateAhead {
        /// What the state machine has.
        applied: LogIndex,
        /// The end of the log.
        last_log: LogId,
    },
    /// The state was found to be another one than a majority's: nobody is served from it.
    #[error(
        "the state of this node was found to have diverged from a majority's, from entry {index} on \
         (hash {own:016x}, theirs {others:016x}), and serves nobody any more. Nothing was changed. Its \
         log is sound: start it once with --rebuild-state (in a program with the library: \
         `NodeBuilder::rebuild_state`), which empties the state, and fetches it from the leader as far \
         as the log does not have it. If what made it differ is still there, it will differ again"
    )]
    Diverged {
        /// The first entry with another reply.
        index: LogIndex,
        /// The hash of its window here.
        own: u64,
        /// The majority's.
        others: u64,
    },
    /// The state could not be emptied.
    #[error("emptying the state machine, to rebuild it: {source}")]
    Empty {
        /// What it says.
        source: Fatal,
    },
    /// There is a snapshot and no log: the term and the vote that the log kept are lost.
    #[error(
        "there is no log in {}, but a snapshot of {last_included}: the term and the vote that this \
         node gave are lost with its log, and without them it could vote twice. Nothing was \
         changed; put the folder back, or remove the member from the cluster and add it again \
         with an empty folder", dir.display()
    )]
    LogGone {
        /// Where the log should be.
        dir: PathBuf,
        /// What the newest snapshot covers.
        last_included: LogId,
    },
    /// The state machine could not be opened.
    #[error("opening the state machine: {source}")]
    Machine {
        /// What it says.
        source: Fatal,
    },
    /// The state machine could not be restored from a snapshot.
    #[error("restoring snapshot {last_included}: {source}")]
    Restore {
        /// Which snapshot.
        last_included: LogId,
        /// What the state machine says.
        source: Fatal,
    },
    /// The operating system gave no thread, or no event queue.
    #[error("the node's threads cannot be started: {0}")]
    Threads(#[source] io::Error),
    /// The state machine panicked, or our code did.
    #[error("starting panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wal::Damage;

    fn log(error: WalError) -> NodeFailure {
        NodeFailure::Log(error)
    }

    #[test]
    fn only_a_log_whose_disk_is_to_blame_leaves_a_leader_the_time_to_hand_over() {
        let (op, path, kind) = ("sync", PathBuf::from("wal/log-1"), io::ErrorKind::Other);
        let damage = Damage::ReadsDiffer;
        let of_the_disk = [
            WalError::Io { op, path: path.clone(), source: io::Error::other("gone") },
            WalError::DiskFull { op, path: path.clone() },
            WalError::Poisoned { op, kind },
            WalError::Damaged { path, offset_bytes: 0, indexes: None, damage, anchor: None },
        ];
        for error in of_the_disk {
            let failure = log(error);
            assert!(failure.allows_handover(), "{failure}");
        }
        let of_ours = [
            NodeFailure::Stopped,
            NodeFailure::Poisoned { evidence: String::new() },
            NodeFailure::Panicked { thread: "log", message: String::new() },
            log(WalError::OutOfOrder { op, expected: LogId::ORIGIN, found: LogId::ORIGIN }),
        ];
        for failure in of_ours {
            assert!(!failure.allows_handover(), "{failure}");
        }
    }

    #[test]
    fn a_full_disk_and_a_failing_one_ask_for_different_things() {
        let (op, path) = ("append to", PathBuf::from("wal/log-1"));
        let full = log(WalError::DiskFull { op, path: path.clone() }).to_string();
        assert!(full.contains("free space") && !full.contains("smartctl"), "{full}");
        let source = io::Error::other("gone");
        let failing = log(WalError::Io { op, path, source }).to_string();
        assert!(failing.contains("smartctl") && !failing.contains("free space"), "{failing}");
    }
}
