//! The thread for files that nobody commits to: snapshots on their way from and to other nodes,
//! and the log's next segment. It may be slow without delaying an fsync of the log.

use super::apply_thread::ApplyJob;
use super::queue::{Queue, lock};
use super::shared::Shared;
use crate::{Input, NodeFailure};
use bytes::Bytes;
use quorate_core::{LogId, NodeId, SnapshotMeta};
use quorate_wal::{PrepareJob, SnapshotReader, SnapshotStore, WalError};
use std::sync::{Arc, Mutex};

/// What the files' thread is asked for. Its queue is bounded by the core, which has one chunk
/// under way to or from each peer.
pub(crate) enum FileJob {
    Read { peer: NodeId, last_included: LogId, offset: u64, max_bytes: usize },
    Write { meta: SnapshotMeta, offset: u64, chunk: Bytes, done: bool },
    RemoveOlder(LogId),
    Prepare(PrepareJob),
}

/// The files' thread.
pub(crate) struct FilesThread {
    pub(crate) store: Arc<Mutex<SnapshotStore>>,
    pub(crate) queue: Arc<Queue<FileJob>>,
    pub(crate) shared: Arc<Shared>,
    /// The snapshot that was read last: the next piece of it is likely wanted next.
    pub(crate) open: Option<SnapshotReader>,
}

impl FilesThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs) {
            for job in jobs.drain(..) {
                self.work(job)?;
            }
        }
        Ok(())
    }

    fn work(&mut self, job: FileJob) -> Result<(), NodeFailure> {
        match job {
            FileJob::Read { peer, last_included, offset, max_bytes } => {
                let input = match self.read(last_included, offset, max_bytes) {
                    Ok((chunk, done)) => {
                        Input::SnapshotChunk { peer, last_included, offset, chunk, done }
                    }
                    Err(error) => {
                        tracing::warn!(%peer, %last_included, "snapshot not readable: {error}");
                        self.open = None;
                        // Before the core hears of it and asks for another one. On a closed queue
                        // the node is ending.
                        let _unneeded =
                            self.shared.apply.push(ApplyJob::SnapshotLost(last_included), 0);
                        Input::SnapshotGone { peer, last_included }
                    }
                };
                self.shared.mailbox.push(input);
            }
            FileJob::Write { meta, offset, chunk, done } => {
                let received = lock(&self.store).receive(&meta, offset, &chunk, done);
                let received = received.map_err(NodeFailure::Snapshot)?;
                self.shared.mailbox.push(Input::SnapshotWritten {
                    last_included: meta.last_included,
                    next_offset: received.next_offset,
                    complete: received.complete,
                });
            }
            FileJob::RemoveOlder(keep) => {
                if let Err(error) = lock(&self.store).remove_older_than(keep) {
                    tracing::warn!(%keep, "older snapshots are left behind: {error}");
                }
            }
            FileJob::Prepare(job) => {
                if let Err(error) = job.run() {
                    tracing::warn!("the log's next segment is not prepared: {error}");
                }
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        last_included: LogId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<(Bytes, bool), WalError> {
        let is_again = offset == 0 && lock(&self.store).note_sending(last_included);
        if let Some(reader) = self
            .open
            .as_ref()
            .filter(|reader| !is_again && reader.meta().last_included == last_included)
        {
            return reader.read_chunk(offset, max_bytes);
        }
        let reader = lock(&self.store).reader(last_included)?;
        if is_again {
            reader.verify()?;
        }
        let piece = reader.read_chunk(offset, max_bytes);
        self.open = Some(reader);
        piece
    }
}
