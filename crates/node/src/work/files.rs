//! What the files' thread does with files that nobody commits to: snapshots on their way from and
//! to other nodes, and the log's next segment. Must not know the log or the state machine.

use super::{MachineJob, SharedStore};
use crate::{Input, NodeFailure};
use bytes::Bytes;
use quorate_core::{LogId, NodeId, SnapshotMeta};
use quorate_wal::{PrepareJob, SnapshotReader, WalError};
use std::collections::VecDeque;

/// What the files' thread is asked for. How much can wait is bounded by the core, which has one
/// chunk under way to or from each peer.
pub enum FileJob {
    /// Reads a piece of a snapshot for a peer.
    Read {
        /// For whom.
        peer: NodeId,
        /// Which snapshot.
        last_included: LogId,
        /// From which byte of its file.
        offset: u64,
        /// How much at most.
        max_bytes: usize,
    },
    /// Stores a piece of a snapshot that a leader sends.
    Write {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// From which byte of its file.
        offset: u64,
        /// The piece.
        chunk: Bytes,
        /// Whether it is the last.
        done: bool,
    },
    /// Removes the snapshots before this one.
    RemoveOlder(LogId),
    /// Makes the log's next segment ready.
    Prepare(PrepareJob),
}

/// The snapshots, and what waits for them.
pub struct FilesWorker {
    store: SharedStore,
    jobs: VecDeque<FileJob>,
    /// The snapshot that was read last: the next piece of it is likely wanted next.
    open: Option<SnapshotReader>,
}

/// What a piece of work comes to.
#[derive(Debug, Default)]
pub struct FileDone {
    /// For the state machine's thread, before the driver hears of it and asks for another one.
    pub machine_job: Option<MachineJob>,
    /// For the driver.
    pub input: Option<Input>,
}

impl FilesWorker {
    /// Nothing waits yet.
    #[must_use]
    pub const fn new(store: SharedStore) -> Self {
        Self { store, jobs: VecDeque::new(), open: None }
    }

    /// One more piece of work.
    pub fn add(&mut self, job: FileJob) {
        self.jobs.push_back(job);
    }

    /// Whether something waits.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// What is done next.
    #[must_use]
    pub fn next(&self) -> Option<&FileJob> {
        self.jobs.front()
    }

    /// Does the next piece of work; `None` if nothing waits.
    ///
    /// # Errors
    ///
    /// [`NodeFailure::Snapshot`] if what arrives cannot be stored. What cannot be read, removed or
    /// made ready is no failure of the node.
    pub fn work(&mut self) -> Result<Option<FileDone>, NodeFailure> {
        let Some(job) = self.jobs.pop_front() else { return Ok(None) };
        let mut done = FileDone::default();
        match job {
            FileJob::Read { peer, last_included, offset, max_bytes } => {
                done = self.read_for(peer, last_included, offset, max_bytes);
            }
            FileJob::Write { meta, offset, chunk, done: is_last } => {
                let received = self.store.lock().receive(&meta, offset, &chunk, is_last);
                let received = received.map_err(NodeFailure::Snapshot)?;
                done.input = Some(Input::SnapshotWritten {
                    last_included: meta.last_included,
                    next_offset: received.next_offset,
                    complete: received.complete,
                });
            }
            FileJob::RemoveOlder(keep) => {
                if let Err(error) = self.store.lock().remove_older_than(keep) {
                    tracing::warn!(%keep, "older snapshots are left behind: {error}");
                }
            }
            FileJob::Prepare(job) => {
                if let Err(error) = job.run() {
                    tracing::warn!("the log's next segment is not prepared: {error}");
                }
            }
        }
        Ok(Some(done))
    }

    fn read_for(
        &mut self,
        peer: NodeId,
        last_included: LogId,
        offset: u64,
        max_bytes: usize,
    ) -> FileDone {
        match self.read(last_included, offset, max_bytes) {
            Ok((chunk, done)) => {
                let input = Input::SnapshotChunk { peer, last_included, offset, chunk, done };
                FileDone { machine_job: None, input: Some(input) }
            }
            Err(error) => {
                tracing::warn!(%peer, %last_included, "snapshot not readable: {error}");
                self.open = None;
                FileDone {
                    machine_job: Some(MachineJob::SnapshotLost(last_included)),
                    input: Some(Input::SnapshotGone { peer, last_included }),
                }
            }
        }
    }

    fn read(
        &mut self,
        last_included: LogId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(Bytes, bool), WalError> {
        let is_again = offset == 0 && self.store.lock().note_sending(last_included);
        if let Some(reader) = self
            .open
            .as_ref()
            .filter(|reader| !is_again && reader.meta().last_included == last_included)
        {
            return reader.read_chunk(offset, max_bytes);
        }
        let reader = self.store.lock().reader(last_included)?;
        if is_again {
            reader.verify()?;
        }
        let piece = reader.read_chunk(offset, max_bytes);
        self.open = Some(reader);
        piece
    }
}
