//! The threads of a node as the world sees them: each does one stretch of work at a time, which
//! takes virtual time, while the node's loop goes on. Knows what is queued; not what work means.

use crate::disk::Task;
use bytes::Bytes;
use quorate::{ApplyBatch, Fate, Input, SnapshotView, Ticket};
use quorate_core::{LoadRequest, LogId, LogIndex, NodeId, Persist, SnapshotMeta, Time};
use quorate_wal::PrepareJob;
use std::collections::VecDeque;

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

/// Work for the log's thread.
#[derive(Debug)]
pub(super) enum LogJob {
    Persist(Persist),
    Load(LoadRequest),
    Release(SnapshotMeta),
    /// Notes how far the log is durable.
    Mark,
}

/// Work for the files' thread.
pub(super) enum FileJob {
    Read { peer: NodeId, last_included: LogId, offset: u64, max_bytes: usize },
    Store { meta: SnapshotMeta, offset: u64, chunk: Bytes, done: bool },
    RemoveOlder(LogId),
    Prepare(PrepareJob),
}

/// A snapshot to write.
pub(super) struct WriterJob(pub(super) SnapshotMeta, pub(super) Box<dyn SnapshotView>);

/// Work for the state machine's thread.
#[derive(Debug)]
pub(super) enum MachineJob {
    Apply(ApplyBatch),
    Restore(SnapshotMeta),
    Checkpoint { at_least: LogIndex },
    TakeSnapshot { at_least: LogIndex },
    SnapshotTaken(SnapshotMeta),
    SnapshotLost(LogId),
}

/// One thread.
pub(super) struct Lane<J> {
    pub(super) waiting: VecDeque<J>,
    pub(super) under_way: Option<UnderWay>,
}

/// Work that was begun, and what follows when it is done.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    pub(super) task: Option<Task>,
    /// When it is done, as far as that is known.
    pub(super) due: Time,
    /// For the state machine's thread.
    pub(super) taken: Option<SnapshotMeta>,
    /// For the node's loop.
    pub(super) inputs: Vec<Input>,
    /// For callers on this node.
    pub(super) fates: Vec<(Ticket, Fate)>,
    /// Writes that will be durable.
    pub(super) persist_count: usize,
    /// What the log will start after.
    pub(super) released: Option<LogId>,
    /// Whether a node seldom does this.
    pub(super) is_rare: bool,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: None }
    }
}

impl<J> Lane<J> {
    /// The next piece of work, if the thread is free.
    pub(super) fn next(&mut self) -> Option<J> {
        if self.under_way.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Whether it is busy, or has nothing to begin.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_some() || self.waiting.is_empty()
    }
}
