//! What the threads of a node do, without the threads: one stretch of work at a time, for whoever
//! brings threads, or virtual time. Must not know of queues, callers, sockets or clocks.

mod files;
mod log;
mod machine;
mod parcels;
mod room;
mod rooms;
mod scrub;

pub use files::{FileDone, FileJob, FilesWorker};
pub use log::{LogDone, LogJob, LogWorker};
pub use machine::{MachineDone, MachineJob, MachineWorker, SnapshotJob};
pub use room::{DiskRoom, RoomKeeper};
pub(crate) use rooms::RoomKeepers;
pub use scrub::{Rot, ScrubDone};

use crate::Output;
use quorate_wal::SnapshotStore;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The snapshots of a node. Several of its threads look at them, one at a time.
#[derive(Clone)]
pub struct SharedStore(Arc<Mutex<SnapshotStore>>);

impl SharedStore {
    /// Shares a store.
    #[must_use]
    pub fn new(store: SnapshotStore) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// The store, for one operation. It is as good after a panic of somebody who held it.
    pub fn lock(&self) -> MutexGuard<'_, SnapshotStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an output of the driver asks one of the threads for.
pub enum Job {
    /// The log's.
    Log(LogJob),
    /// The state machine's.
    Machine(MachineJob),
    /// The files'.
    File(FileJob),
}

impl TryFrom<Output> for Job {
    type Error = Output;

    /// Gives back what is no work for a thread: messages and answers.
    fn try_from(output: Output) -> Result<Self, Output> {
        Ok(match output {
            Output::Persist(persist) => Self::Log(LogJob::Persist(persist)),
            Output::Prove => Self::Log(LogJob::Prove),
            Output::Load(request) => Self::Log(LogJob::Load(request)),
            Output::LoadSpares { peer, first, max_bytes } => {
                Self::Log(LogJob::Spares { peer, first, max_bytes })
            }
            Output::ReleasePrefix { base } => Self::Log(LogJob::Release(base)),
            Output::Apply(batch) => Self::Machine(MachineJob::Batch(batch)),
            Output::RestoreSnapshot { meta } => Self::Machine(MachineJob::Restore(meta)),
            Output::Checkpoint { at_least } => Self::Machine(MachineJob::Checkpoint { at_least }),
            Output::TakeSnapshot { at_least } => {
                Self::Machine(MachineJob::TakeSnapshot { at_least })
            }
            Output::NoteDivergence(divergence) => Self::File(FileJob::NoteDivergence(divergence)),
            Output::Scrub { max_bytes } => Self::File(FileJob::Scrub { max_bytes }),
            Output::ReadSnapshotChunk { peer, last_included, offset, max_bytes } => {
                Self::File(FileJob::Read { peer, last_included, offset, max_bytes })
            }
            Output::WriteSnapshotChunk { meta, offset, chunk, done } => {
                Self::File(FileJob::Write { meta, offset, chunk, done })
            }
            Output::Send { .. }
            | Output::Answer { .. }
            | Output::Barrier { .. }
            | Output::MembershipAnswer { .. } => return Err(output),
        })
    }
}

#[cfg(test)]
mod tests;
