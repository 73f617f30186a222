//! What the state machine's thread does: it applies whatever has gathered, takes snapshots when
//! they are wanted, and takes others over. Must not know who waits for an answer.

use super::SharedStore;
use crate::{Applier, ApplyBatch, Checkpoint, Fate, Input, NodeFailure, SnapshotView, Ticket};
use quorate_core::{Entry, LogId, LogIndex, SnapshotMeta};
use std::collections::VecDeque;
use std::io::Write;

/// Batches that have gathered are applied as one, up to this many bytes.
const APPLY_BYTES_MAX: usize = 8 << 20;
/// A snapshot's bytes are gathered to this size before they go to the file.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// What the state machine's thread is asked for. How much can wait is bounded by the core's limit
/// on bytes being applied.
#[derive(Debug)]
pub enum MachineJob {
    /// Applies committed entries.
    Batch(ApplyBatch),
    /// Takes a snapshot's state over.
    Restore(SnapshotMeta),
    /// Makes what is applied durable, up to this index at least.
    Checkpoint {
        /// What it must cover.
        at_least: LogIndex,
    },
    /// Takes a snapshot.
    TakeSnapshot {
        /// What it must cover.
        at_least: LogIndex,
    },
    /// A snapshot is written.
    SnapshotTaken(SnapshotMeta),
    /// There was no room for a snapshot of this much, and it is not written.
    SnapshotUnwritten(LogIndex),
    /// A snapshot cannot be read: it is no longer at hand.
    SnapshotLost(LogId),
    /// A snapshot was found to be damaged before anybody needed it: if it is the newest, another one
    /// is taken.
    SnapshotRotten(LogId),
}

impl MachineJob {
    /// What it counts for.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => size_bytes(batch),
            Self::Restore(_)
            | Self::Checkpoint { .. }
            | Self::TakeSnapshot { .. }
            | Self::SnapshotTaken(_)
            | Self::SnapshotUnwritten(_)
            | Self::SnapshotLost(_)
            | Self::SnapshotRotten(_) => 0,
        }
    }
}

fn size_bytes(batch: &ApplyBatch) -> usize {
    batch.entries.iter().map(Entry::size_bytes).sum()
}

/// The state machine, and what waits for it.
pub struct MachineWorker {
    applier: Applier,
    store: SharedStore,
    jobs: VecDeque<MachineJob>,
    /// A snapshot that is wanted and not begun: what it must cover.
    wanted: Option<LogIndex>,
    /// One is being written; there is one at a time.
    is_writing: bool,
    /// The newest snapshot at hand.
    latest: Option<SnapshotMeta>,
}

/// What a stretch of work comes to.
#[derive(Debug, Default)]
pub struct MachineDone {
    /// For callers on this node.
    pub fates: Vec<(Ticket, Fate)>,
    /// For the driver, in this order.
    pub inputs: Vec<Input>,
    /// How many entries were applied.
    pub entry_count: usize,
    /// A snapshot to write, beside everything else; [`MachineJob::SnapshotTaken`] when it is, or
    /// [`MachineJob::SnapshotUnwritten`] after a pause if there is no room for it.
    pub snapshot: Option<SnapshotJob>,
}

/// A snapshot that is to be written: the state as it was at one moment.
pub struct SnapshotJob {
    store: SharedStore,
    meta: SnapshotMeta,
    /// The state.
    pub view: Box<dyn SnapshotView>,
}

impl MachineWorker {
    /// Nothing waits yet; `latest` is the newest snapshot at hand from before the start.
    #[must_use]
    pub const fn new(applier: Applier, store: SharedStore, latest: Option<SnapshotMeta>) -> Self {
        Self { applier, store, jobs: VecDeque::new(), wanted: None, is_writing: false, latest }
    }

    /// The state machine and what it has applied.
    #[must_use]
    pub const fn applier(&self) -> &Applier {
        &self.applier
    }

    /// The same, to work with beside the jobs.
    pub const fn applier_mut(&mut self) -> &mut Applier {
        &mut self.applier
    }

    /// The newest snapshot at hand.
    #[must_use]
    pub const fn latest(&self) -> Option<&SnapshotMeta> {
        self.latest.as_ref()
    }

    /// One more piece of work.
    pub fn add(&mut self, job: MachineJob) {
        self.jobs.push_back(job);
    }

    /// Whether something waits.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Does the next stretch of work; `None` if nothing waits.
    ///
    /// # Errors
    ///
    /// [`NodeFailure::StateMachine`] if the state machine cannot go on, [`NodeFailure::Snapshot`]
    /// if a snapshot that is to be taken over cannot be read.
    pub fn work(&mut self) -> Result<Option<MachineDone>, NodeFailure> {
        let Some(job) = self.jobs.pop_front() else { return Ok(None) };
        let mut done = MachineDone::default();
        match job {
            MachineJob::Batch(batch) => self.apply(batch, &mut done)?,
            MachineJob::Restore(meta) => self.restore(meta, &mut done)?,
            MachineJob::Checkpoint { at_least } => {
                if self.applier.checkpoint()? == Checkpoint::NeedsSnapshot {
                    self.wanted = self.wanted.max(Some(at_least));
                }
            }
            MachineJob::TakeSnapshot { at_least } => {
                self.wanted = self.wanted.max(Some(at_least));
            }
            MachineJob::SnapshotTaken(meta) => {
                self.is_writing = false;
                self.latest = Some(meta.clone());
                done.inputs.push(self.ready(meta));
            }
            MachineJob::SnapshotUnwritten(at_least) => {
                self.is_writing = false;
                self.wanted = self.wanted.max(Some(at_least));
            }
            MachineJob::SnapshotLost(lost) => {
                self.latest = self.latest.take().filter(|meta| meta.last_included != lost);
            }
            MachineJob::SnapshotRotten(rotten) => {
                if self.latest.take_if(|meta| meta.last_included == rotten).is_some() {
                    self.wanted = self.wanted.max(Some(rotten.index));
                }
            }
        }
        if self.jobs.is_empty() {
            self.take_snapshot_if_wanted(&mut done)?;
        }
        Ok(Some(done))
    }

    fn apply(&mut self, first: ApplyBatch, done: &mut MachineDone) -> Result<(), NodeFailure> {
        let batch = self.gather(first);
        let outcome = self.applier.apply(&batch)?;
        done.entry_count = batch.entries.len();
        done.fates = outcome.local;
        done.inputs.push(Input::Applied(outcome.applied));
        Ok(())
    }

    /// Adds the batches that follow at once: they follow without a gap, and one call of the state
    /// machine for all of them costs less than one for each.
    fn gather(&mut self, mut batch: ApplyBatch) -> ApplyBatch {
        let mut gathered_bytes = size_bytes(&batch);
        while gathered_bytes < APPLY_BYTES_MAX {
            let next = match self.jobs.pop_front() {
                Some(MachineJob::Batch(next)) => next,
                Some(other) => {
                    self.jobs.push_front(other);
                    return batch;
                }
                None => return batch,
            };
            gathered_bytes += size_bytes(&next);
            let offset = batch.entries.len();
            batch.entries.extend(next.entries);
            let waiters = next.waiters.into_iter().map(|(place, waiter)| (place + offset, waiter));
            batch.waiters.extend(waiters);
        }
        batch
    }

    fn restore(&mut self, meta: SnapshotMeta, done: &mut MachineDone) -> Result<(), NodeFailure> {
        let last_included = meta.last_included;
        let reader = self.store.lock().reader(last_included).map_err(NodeFailure::Snapshot)?;
        self.applier.restore(&meta, &mut reader.body())?;
        // A state that was emptied is there again, and so is the snapshot that it came from.
        self.store.lock().unmark().map_err(NodeFailure::Snapshot)?;
        self.latest = Some(meta);
        let durable = self.applier.durable();
        done.inputs.push(Input::SnapshotRestored { last_included, durable });
        Ok(())
    }

    /// One snapshot at a time, not before everything that it must cover is applied, and none if one
    /// is at hand.
    fn take_snapshot_if_wanted(&mut self, done: &mut MachineDone) -> Result<(), NodeFailure> {
        let Some(at_least) = self.wanted else { return Ok(()) };
        let is_due = at_least <= self.applier.applied().index && self.applier.is_placed();
        if self.is_writing || !is_due {
            return Ok(());
        }
        self.wanted = None;
        let latest = self.latest.as_ref();
        if let Some(meta) = latest.filter(|meta| meta.last_included.index >= at_least) {
            done.inputs.push(self.ready(meta.clone()));
            return Ok(());
        }
        let (meta, view) = self.applier.view()?;
        self.is_writing = true;
        done.snapshot = Some(SnapshotJob { store: self.store.clone(), meta, view });
        Ok(())
    }
}

impl MachineWorker {
    /// A snapshot that cannot be read is noticed when it is sent.
    fn ready(&self, meta: SnapshotMeta) -> Input {
        let reader = self.store.lock().reader(meta.last_included);
        let size_bytes = reader.map_or(0, |reader| reader.size_bytes());
        Input::SnapshotReady { meta, size_bytes }
    }
}

impl SnapshotJob {
    /// What it covers.
    #[must_use]
    pub fn covers(&self) -> LogIndex {
        self.meta.last_included.index
    }

    /// Writes it; it is durable, and can be read and sent, when this returns.
    ///
    /// # Errors
    ///
    /// [`NodeFailure::View`] if the state cannot be written out, [`NodeFailure::Snapshot`] if its
    /// file cannot. One for which there is no room ([`NodeFailure::is_full`]) leaves nothing, and may
    /// be begun anew.
    pub fn run(self) -> Result<SnapshotMeta, NodeFailure> {
        let writer = self.store.lock().create(self.meta).map_err(NodeFailure::Snapshot)?;
        let mut buffered = std::io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, writer);
        let written = self.view.write_to(&mut buffered).and_then(|()| buffered.flush());
        written.map_err(NodeFailure::View)?;
        let writer =
            buffered.into_inner().map_err(|error| NodeFailure::View(error.into_error()))?;
        writer.finish().map_err(NodeFailure::Snapshot)
    }
}

impl std::fmt::Debug for SnapshotJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotJob").field("meta", &self.meta).finish_non_exhaustive()
    }
}
