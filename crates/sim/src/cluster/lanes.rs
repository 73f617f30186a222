//! The threads of a node as the world sees them: each does one stretch of work at a time, which
//! takes virtual time, while the node's loop goes on. Must not know what work means.

use crate::disk::Task;
use quorate::parts::{FileJob, MachineJob, SnapshotJob};
use quorate::{Fate, Input, Ticket};
use quorate_core::Time;
use std::fmt;

/// Which thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneName {
    /// Writes and reads the log.
    Log,
    /// Snapshots from and to other nodes, and the log's next file.
    Files,
    /// Writes a snapshot of the state machine.
    Writer,
    /// Applies to the state machine.
    Machine,
}

/// Whose work it is, for a story.
impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "its log",
            Self::Files => "a file that it prepares or receives",
            Self::Writer => "the snapshot that it writes",
            Self::Machine => "its state machine",
        })
    }
}

impl LaneName {
    /// Those whose work is the disk's.
    pub(super) const OF_DISK: [Self; 3] = [Self::Log, Self::Files, Self::Writer];

    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Log => 0,
            Self::Files => 1,
            Self::Writer => 2,
            Self::Machine => 3,
        }
    }
}

/// One thread: its worker, which is the shipped one and holds what waits, and what it is busy with.
pub(super) struct Lane<W> {
    pub(super) worker: W,
    pub(super) under_way: Option<UnderWay>,
}

/// Work that was begun, and what follows when it is done.
#[derive(Default)]
pub(super) struct UnderWay {
    pub(super) task: Option<Task>,
    /// When it is done, as far as that is known.
    pub(super) due: Time,
    /// For the other threads.
    pub(super) machine_job: Option<MachineJob>,
    pub(super) file_job: Option<FileJob>,
    pub(super) snapshot: Option<SnapshotJob>,
    /// For the node's loop.
    pub(super) inputs: Vec<Input>,
    /// For callers on this node.
    pub(super) fates: Vec<(Ticket, Fate)>,
    /// Writes that will be durable.
    pub(super) persist_count: usize,
    /// Bytes of a snapshot that were here already.
    pub(super) resumed_bytes: u64,
    /// Whether a node seldom does this.
    pub(super) is_rare: bool,
    /// There was no room for what was to be written: it is tried again when this is over.
    pub(super) is_full: bool,
}

impl<W> Lane<W> {
    /// A thread that is free.
    pub(super) const fn new(worker: W) -> Self {
        Self { worker, under_way: None }
    }
}
