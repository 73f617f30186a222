//! The thread that owns the log. It makes durable whatever has gathered, with one fsync, and does
//! everything else that concerns the log in between, one piece after each write.

use super::files_thread::FileJob;
use super::queue::Queue;
use super::shared::Shared;
use crate::{Input, NodeFailure};
use quorate_core::{Entry, LoadRequest, Persist, SnapshotMeta};
use quorate_wal::Wal;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long without a write the log notes how far it is durable.
const IDLE_BEFORE_MARK: Duration = Duration::from_millis(100);

/// What the log's thread is asked for. Its queue is bounded by the core: a leader's by its limit
/// on uncommitted bytes, a follower's by its leader's window, and by the transport, which reads no
/// bulk while too much is queued here.
#[derive(Debug)]
pub(crate) enum WalJob {
    Persist(Persist),
    Load(LoadRequest),
    Release(SnapshotMeta),
}

impl WalJob {
    /// What it counts for.
    pub(crate) fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 128;
        OVERHEAD_BYTES
            + match self {
                Self::Persist(persist) => persist.entries.iter().map(Entry::size_bytes).sum(),
                Self::Load(_) | Self::Release(_) => 0,
            }
    }
}

/// The log's thread.
pub(crate) struct WalThread {
    pub(crate) wal: Wal,
    pub(crate) queue: Arc<Queue<WalJob>>,
    pub(crate) files: Arc<Queue<FileJob>>,
    pub(crate) shared: Arc<Shared>,
}

impl WalThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        let mut persists = Vec::new();
        let mut later = VecDeque::new();
        let mut is_marked = true;
        loop {
            let is_open = if later.is_empty() && is_marked {
                self.queue.take(&mut jobs)
            } else if later.is_empty() {
                self.queue.take_within(&mut jobs, IDLE_BEFORE_MARK)
            } else {
                self.queue.take_now(&mut jobs);
                true
            };
            for job in jobs.drain(..) {
                match job {
                    WalJob::Persist(persist) => persists.push(persist),
                    WalJob::Load(_) | WalJob::Release(_) => later.push_back(job),
                }
            }
            let is_idle = persists.is_empty() && later.is_empty();
            if !persists.is_empty() {
                self.persist(&persists)?;
                persists.clear();
                is_marked = false;
            }
            // One at a time, so that the next write never waits for more than one; but one after
            // every write, or a follower that is behind would starve while clients are busy.
            if let Some(job) = later.pop_front() {
                self.other(job)?;
            }
            // Until it is noted, damage to the last batch looks like a write that never ended.
            if is_idle && !is_marked {
                self.wal.mark_synced().map_err(NodeFailure::Log)?;
                is_marked = true;
            }
            if is_idle && !is_open {
                return Ok(());
            }
        }
    }

    fn persist(&mut self, persists: &[Persist]) -> Result<(), NodeFailure> {
        let start = Instant::now();
        self.wal.persist(persists).map_err(NodeFailure::Log)?;
        self.queue.done();
        if let Some(Persist { seq, .. }) = persists.last() {
            self.shared.mailbox.push(Input::Persisted { seq: *seq });
        }
        let metrics = &self.shared.metrics;
        metrics.fsync.record(start.elapsed());
        metrics.entries_persisted.add(persists.iter().map(|write| write.entries.len()).sum());
        if let Some(job) = self.wal.prepare() {
            // On a closed queue the node is ending, and needs no next segment.
            let _unneeded = self.files.push(FileJob::Prepare(job), 0);
        }
        Ok(())
    }

    fn other(&mut self, job: WalJob) -> Result<(), NodeFailure> {
        match job {
            WalJob::Load(request) => {
                let LoadRequest { first, last, max_bytes, .. } = request;
                let entries = self.wal.read(first, last, max_bytes).map_err(NodeFailure::Log)?;
                self.shared.mailbox.push(Input::Loaded { request, entries });
                Ok(())
            }
            WalJob::Release(base) => {
                self.wal.release_prefix(&base).map_err(NodeFailure::Log)?;
                let job = FileJob::RemoveOlder(base.last_included);
                let _unneeded = self.files.push(job, 0);
                Ok(())
            }
            WalJob::Persist(persist) => self.persist(&[persist]),
        }
    }
}
