//! The thread that owns the state machine. It applies whatever has gathered, and tells the callers
//! by itself: an answer takes no way round through the event loop.

use super::queue::lock;
use super::shared::Shared;
use super::waiters::answer;
use crate::{Applier, ApplyBatch, Checkpoint, Input, NodeFailure, Outcome, SnapshotView, Ticket};
use quorate_core::{Entry, LogId, LogIndex, SnapshotMeta};
use quorate_wal::{SnapshotStore, WalError};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Batches that have gathered are applied as one, up to this many bytes.
const APPLY_BYTES_MAX: usize = 8 << 20;
/// A snapshot's bytes are gathered to this size before they go to the file.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// What the state machine's thread is asked for. Its queue is bounded: batches by the core's limit
/// on bytes being applied, queries by the limit on waiting callers.
#[derive(Debug)]
pub(crate) enum ApplyJob {
    Batch(ApplyBatch),
    Restore(SnapshotMeta),
    Checkpoint {
        at_least: LogIndex,
    },
    TakeSnapshot {
        at_least: LogIndex,
    },
    SnapshotTaken(SnapshotMeta),
    /// A snapshot cannot be read: it is no longer at hand.
    SnapshotLost(LogId),
    /// Answers a waiting query, whose barrier has passed.
    Query(Ticket),
}

impl ApplyJob {
    /// What it counts for.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.entries.iter().map(Entry::size_bytes).sum(),
            Self::Restore(_)
            | Self::Checkpoint { .. }
            | Self::TakeSnapshot { .. }
            | Self::SnapshotTaken(_)
            | Self::SnapshotLost(_)
            | Self::Query(_) => 0,
        }
    }
}

/// The state machine's thread.
pub(crate) struct ApplyThread {
    pub(crate) applier: Applier,
    pub(crate) store: Arc<Mutex<SnapshotStore>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: Snapshots,
}

/// Snapshots of the state machine that are wanted or being written, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    wanted: Option<LogIndex>,
    writer: Option<JoinHandle<()>>,
    latest: Option<SnapshotMeta>,
}

impl ApplyThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let result = self.work();
        if let Some(writer) = self.snapshots.writer.take() {
            // It has reported its own failure, if any.
            let _ended = writer.join();
        }
        result?;
        self.applier.finish().map_err(Into::into)
    }

    fn work(&mut self) -> Result<(), NodeFailure> {
        let shared = Arc::clone(&self.shared);
        let mut jobs = Vec::new();
        while shared.apply.take(&mut jobs) {
            let mut jobs = jobs.drain(..).peekable();
            while let Some(job) = jobs.next() {
                match job {
                    ApplyJob::Batch(mut batch) => {
                        gather(&mut batch, &mut jobs);
                        self.apply(&batch)?;
                    }
                    ApplyJob::Restore(meta) => self.restore(&meta)?,
                    ApplyJob::Checkpoint { at_least } => {
                        if self.applier.checkpoint()? == Checkpoint::NeedsSnapshot {
                            self.snapshots.want(at_least);
                        }
                    }
                    ApplyJob::TakeSnapshot { at_least } => self.snapshots.want(at_least),
                    ApplyJob::SnapshotTaken(meta) => self.snapshot_taken(meta),
                    ApplyJob::SnapshotLost(lost) => self.snapshots.lost(lost),
                    ApplyJob::Query(ticket) => self.query(ticket),
                }
            }
            self.take_snapshot_if_wanted()?;
        }
        Ok(())
    }

    fn apply(&mut self, batch: &ApplyBatch) -> Result<(), NodeFailure> {
        let entry_count = batch.entries.len();
        let Outcome { applied, local } = self.applier.apply(batch)?;
        let metrics = &self.shared.metrics;
        metrics.entries_applied.add(entry_count);
        metrics.proposals_applied.add(local.len());
        self.shared.waiters.answer_all(local);
        self.shared.apply.done();
        self.shared.mailbox.push(Input::Applied(applied));
        Ok(())
    }

    fn query(&self, ticket: Ticket) {
        if let Some((query, sender)) = self.shared.waiters.take_query(ticket) {
            let result = self.applier.machine().query(&query);
            self.shared.metrics.reads_answered.add(1);
            answer(sender, result.map_err(Into::into));
        }
    }

    fn restore(&mut self, meta: &SnapshotMeta) -> Result<(), NodeFailure> {
        let last_included = meta.last_included;
        let reader = lock(&self.store).reader(last_included).map_err(NodeFailure::Snapshot)?;
        self.applier.restore(meta, &mut reader.body())?;
        self.snapshots.latest = Some(meta.clone());
        let durable = self.applier.durable();
        self.shared.mailbox.push(Input::SnapshotRestored { last_included, durable });
        Ok(())
    }

    fn snapshot_taken(&mut self, meta: SnapshotMeta) {
        if let Some(writer) = self.snapshots.writer.take() {
            let _ended = writer.join();
        }
        self.snapshots.latest = Some(meta.clone());
        self.shared.mailbox.push(Input::SnapshotReady { meta });
    }

    fn take_snapshot_if_wanted(&mut self) -> Result<(), NodeFailure> {
        let Some(at_least) = self.snapshots.wanted else {
            return Ok(());
        };
        if self.snapshots.writer.is_some() || at_least > self.applier.applied().index {
            return Ok(());
        }
        self.snapshots.wanted = None;
        let latest = self.snapshots.latest.as_ref();
        if let Some(meta) = latest.filter(|meta| meta.last_included.index >= at_least) {
            self.shared.mailbox.push(Input::SnapshotReady { meta: meta.clone() });
            return Ok(());
        }
        let (meta, view) = self.applier.view()?;
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(&self.shared));
        let body = move || {
            let thread = Arc::clone(&shared);
            thread.guard("snapshot", move || {
                let meta = write_snapshot(&store, meta, view)?;
                // On a closed queue the node is ending; the snapshot is found at the next start.
                let _unneeded = shared.apply.push(ApplyJob::SnapshotTaken(meta), 0);
                Ok(())
            });
        };
        let thread = std::thread::Builder::new().name("quorate-snapshot".to_owned());
        let writer = thread.spawn(body).map_err(NodeFailure::View)?;
        self.snapshots.writer = Some(writer);
        Ok(())
    }
}

fn write_snapshot(
    store: &Mutex<SnapshotStore>,
    meta: SnapshotMeta,
    view: Box<dyn SnapshotView>,
) -> Result<SnapshotMeta, NodeFailure> {
    let writer = lock(store).create(meta).map_err(NodeFailure::Snapshot)?;
    let mut buffered = std::io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, writer);
    view.write_to(&mut buffered).and_then(|()| buffered.flush()).map_err(NodeFailure::View)?;
    let writer = buffered.into_inner().map_err(|error| NodeFailure::View(error.into_error()))?;
    let finished: Result<SnapshotMeta, WalError> = writer.finish();
    finished.map_err(NodeFailure::Snapshot)
}

/// Adds the batches that follow at once: they follow without a gap, and one call of the state
/// machine for all of them costs less than one for each.
fn gather(batch: &mut ApplyBatch, jobs: &mut std::iter::Peekable<std::vec::Drain<'_, ApplyJob>>) {
    let mut size_bytes: usize = batch.entries.iter().map(Entry::size_bytes).sum();
    while size_bytes < APPLY_BYTES_MAX {
        let Some(ApplyJob::Batch(next)) = jobs.next_if(|job| matches!(job, ApplyJob::Batch(_)))
        else {
            return;
        };
        size_bytes += next.entries.iter().map(Entry::size_bytes).sum::<usize>();
        let offset = batch.entries.len();
        batch.entries.extend(next.entries);
        let waiters = next.waiters.into_iter().map(|(place, waiter)| (place + offset, waiter));
        batch.waiters.extend(waiters);
    }
}

impl Snapshots {
    fn want(&mut self, at_least: LogIndex) {
        self.wanted = self.wanted.max(Some(at_least));
    }

    fn lost(&mut self, lost: LogId) {
        self.latest = self.latest.take().filter(|meta| meta.last_included != lost);
    }

    /// With a snapshot at hand from before the start.
    pub(crate) fn starting_with(latest: Option<SnapshotMeta>) -> Self {
        Self { latest, ..Self::default() }
    }
}

impl std::fmt::Debug for ApplyThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplyThread").field("applier", &self.applier).finish_non_exhaustive()
    }
}
