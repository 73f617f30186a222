//! What the files' thread does with files that nobody commits to: snapshots on their way from and
//! to other nodes, and the log's next segment. Must not know the log or the state machine.

use super::parcels::Parcels;
use super::scrub::{Rots, ScrubDone};
use super::{MachineJob, SharedStore};
use crate::{Divergence, Input, NodeFailure};
use bytes::Bytes;
use quorate_core::{LogId, NodeId, SnapshotMeta};
use quorate_wal::{PrepareJob, Scrubber, StateMark, WalError};
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
        /// From which byte of its parcel.
        offset: u64,
        /// How much at most.
        max_bytes: usize,
    },
    /// Stores a piece of a snapshot that a leader sends.
    Write {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// From which byte of its parcel.
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
    /// Notes that the state is not what the log says.
    NoteDivergence(Divergence),
    /// Nothing but a look at how much room there is, after this.
    LookForRoom,
    /// Reads on in what is read again over and over.
    Scrub {
        /// How much, about.
        max_bytes: u64,
    },
}

/// The snapshots, and what waits for them.
pub struct FilesWorker {
    store: SharedStore,
    jobs: VecDeque<FileJob>,
    parcels: Parcels,
    /// A piece of a snapshot for which there was no room. There is one at a time: the leader waits for
    /// the answer.
    waiting: Option<FileJob>,
    scrubber: Option<Scrubber>,
    rots: Rots,
}

/// What a piece of work comes to.
#[derive(Debug, Default)]
pub struct FileDone {
    /// For the state machine's thread, before the driver hears of it and asks for another one.
    pub machine_job: Option<MachineJob>,
    /// For the driver.
    pub input: Option<Input>,
    /// There was no room for what arrived: see [`FilesWorker::try_again`].
    pub is_full: bool,
    /// For whoever counts.
    pub scrub: Option<ScrubDone>,
    /// So many bytes of a snapshot were here already, and will not be sent again.
    pub resumed_bytes: u64,
    /// It was only a part of a job, and others may come first.
    pub is_unfinished: bool,
}

impl FilesWorker {
    /// Nothing waits yet.
    #[must_use]
    pub const fn new(store: SharedStore) -> Self {
        let rots = Rots::new();
        let parcels = Parcels::new();
        Self { store, jobs: VecDeque::new(), parcels, waiting: None, scrubber: None, rots }
    }

    /// The same, with something that reads again what nobody needs.
    #[must_use]
    pub fn with_scrubber(self, scrubber: Scrubber) -> Self {
        Self { scrubber: Some(scrubber), ..self }
    }

    /// One more piece of work.
    pub fn add(&mut self, job: FileJob) {
        self.jobs.push_back(job);
    }

    /// Whether something waits for room on the disk.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// There may be room by now. What came of the snapshot so far is gone, and it begins anew.
    pub fn try_again(&mut self) {
        self.jobs.extend(self.waiting.take());
    }

    /// Whether something waits, for anything but room.
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
    /// [`NodeFailure::Snapshot`] if what arrives cannot be stored, [`NodeFailure::Diverged`] once that
    /// is noted. What cannot be read, removed or made ready is no failure of the node.
    pub fn work(&mut self) -> Result<Option<FileDone>, NodeFailure> {
        let Some(job) = self.jobs.pop_front() else { return Ok(None) };
        let mut done = FileDone::default();
        match job {
            FileJob::Read { peer, last_included, offset, max_bytes } => {
                done = self.read_for(peer, last_included, offset, max_bytes);
            }
            FileJob::Write { meta, offset, chunk, done: is_last } => {
                let mut store = self.store.lock();
                let resumed_bytes = store.resumed_bytes();
                let received = store.receive(&meta, offset, &chunk, is_last);
                done.resumed_bytes = store.resumed_bytes() - resumed_bytes;
                drop(store);
                if let Err(error @ WalError::DiskFull { .. }) = &received {
                    tracing::warn!(%meta.last_included, "a snapshot waits for room: {error}");
                    done.is_full = true;
                    self.waiting = Some(FileJob::Write { meta, offset, chunk, done: is_last });
                    return Ok(Some(done));
                }
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
            FileJob::LookForRoom => {}
            FileJob::NoteDivergence(divergence) => return self.diverged(divergence),
            FileJob::Scrub { max_bytes } => done = self.scrub(max_bytes),
            FileJob::Prepare(job) => {
                if let Err(error) = job.run() {
                    tracing::warn!("the log's next segment is not prepared: {error}");
                }
            }
        }
        Ok(Some(done))
    }

    /// The node ends when this returns, with the mark on its disk: what it holds must serve nobody after
    /// another start. Where there is no room for the mark it ends all the same.
    fn diverged(&self, divergence: Divergence) -> Result<Option<FileDone>, NodeFailure> {
        let Divergence { index, own, others } = divergence;
        if let Err(error) = self.store.lock().mark(StateMark::Diverged { index, own, others }) {
            tracing::error!(
                "that this node's state has diverged cannot be noted: {error}; the next start would \
                 use it, and find out again"
            );
        }
        Err(NodeFailure::Diverged { index, own, others })
    }

    fn scrub(&mut self, max_bytes: u64) -> FileDone {
        let Some(scrubber) = &mut self.scrubber else {
            let input = Some(Input::Scrubbed { read_bytes: 0, rotten: None });
            return FileDone { input, ..FileDone::default() };
        };
        self.rots.stretch(scrubber.step(max_bytes), &self.store)
    }

    fn read_for(
        &mut self,
        peer: NodeId,
        last_included: LogId,
        offset: u64,
        max_bytes: usize,
    ) -> FileDone {
        match self.parcels.read(&self.store, peer, last_included, offset, max_bytes) {
            Ok(Some((chunk, done))) => {
                let input = Input::SnapshotChunk { peer, last_included, offset, chunk, done };
                FileDone { input: Some(input), ..FileDone::default() }
            }
            Ok(None) => {
                self.jobs.push_back(FileJob::Read { peer, last_included, offset, max_bytes });
                FileDone { is_unfinished: true, ..FileDone::default() }
            }
            Err(error) => {
                tracing::warn!(%peer, %last_included, "snapshot not readable: {error}");
                FileDone {
                    machine_job: Some(MachineJob::SnapshotLost(last_included)),
                    input: Some(Input::SnapshotGone { peer, last_included }),
                    ..FileDone::default()
                }
            }
        }
    }
}
