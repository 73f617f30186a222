//! What the log's thread does: it makes durable whatever has gathered, with one fsync, and does
//! everything else that concerns the log in between. Must not know who asks, or what for.

use super::FileJob;
use crate::{Input, NodeFailure};
use quorate_core::{Entry, LoadRequest, LogIndex, NodeId, Persist, SnapshotMeta};
use quorate_wal::{Wal, WalError};
use std::collections::VecDeque;

/// What the log's thread is asked for. How much can wait is bounded by the core: a leader's by its
/// limit on uncommitted bytes, a follower's by its leader's window, and by the transport, which
/// reads no bulk while too much is queued here.
#[derive(Debug)]
pub enum LogJob {
    /// Makes this durable, in the order asked for.
    Persist(Persist),
    /// Notes for good that this disk holds all that the node has promised.
    Prove,
    /// Reads entries back.
    Load(LoadRequest),
    /// Reads what stands whole behind the damage.
    Spares {
        /// For whom.
        peer: NodeId,
        /// From where on.
        first: LogIndex,
        /// Stop after the entry that exceeds this many bytes.
        max_bytes: usize,
    },
    /// Forgets the entries up to a snapshot, and then the snapshots before it.
    Release(SnapshotMeta),
}

impl LogJob {
    /// What it counts for.
    pub(crate) fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 128;
        OVERHEAD_BYTES
            + match self {
                Self::Persist(persist) => persist.entries.iter().map(Entry::size_bytes).sum(),
                Self::Prove | Self::Load(_) | Self::Spares { .. } | Self::Release(_) => 0,
            }
    }
}

/// The log, and what waits for it.
pub struct LogWorker {
    wal: Wal,
    persists: Vec<Persist>,
    later: VecDeque<LogJob>,
    /// Something was written since anything else was done.
    has_just_written: bool,
    /// The log has noted how far it is durable.
    is_marked: bool,
    room: Room,
}

/// Whether there is room on the disk for what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// There was, when something was last written.
    There,
    /// There was none: nothing was begun, and it is not to be tried again yet.
    Missing,
    /// There was none, and it is to be tried again.
    Unknown,
}

/// What a stretch of work comes to.
#[derive(Default)]
pub struct LogDone {
    /// For the driver.
    pub input: Option<Input>,
    /// For the files' thread.
    pub file_job: Option<FileJob>,
    /// How many writes are durable now.
    pub persist_count: usize,
    /// How many entries that were.
    pub entry_count: usize,
    /// There was no room for what was to be written: see [`LogWorker::try_again`].
    pub is_full: bool,
}

impl LogWorker {
    /// Nothing waits yet.
    #[must_use]
    pub const fn new(wal: Wal) -> Self {
        Self {
            wal,
            persists: Vec::new(),
            later: VecDeque::new(),
            has_just_written: false,
            is_marked: true,
            room: Room::There,
        }
    }

    /// The log.
    pub const fn wal(&mut self) -> &mut Wal {
        &mut self.wal
    }

    /// One more piece of work.
    pub fn add(&mut self, job: LogJob) {
        match job {
            LogJob::Persist(persist) => self.persists.push(persist),
            LogJob::Prove | LogJob::Load(_) | LogJob::Spares { .. } | LogJob::Release(_) => {
                self.later.push_back(job);
            }
        }
    }

    /// Whether something waits, for anything but room.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.may_write() || !self.later.is_empty()
    }

    /// Whether something waits for room on the disk.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.room, Room::Missing)
    }

    /// There may be room by now.
    pub fn try_again(&mut self) {
        if self.is_waiting() {
            self.room = Room::Unknown;
        }
    }

    const fn may_write(&self) -> bool {
        !self.persists.is_empty() && !self.is_waiting()
    }

    /// Whether [`LogWorker::work`] would do something other than write next.
    #[must_use]
    pub fn is_in_between(&self) -> bool {
        let may_wait = !self.may_write() || self.has_just_written;
        may_wait && !self.later.is_empty()
    }

    /// Does the next stretch of work: everything that is to be written, as one batch, or one piece
    /// of the rest. One at a time, so that the next write never waits for more than one; but one
    /// after every write, or a follower that is behind would starve while clients are busy. `None`
    /// if nothing waits, or only for room.
    ///
    /// # Errors
    ///
    /// [`NodeFailure::Log`]: the log takes no more.
    pub fn work(&mut self) -> Result<Option<LogDone>, NodeFailure> {
        let in_between = if self.is_in_between() { self.later.pop_front() } else { None };
        if let Some(job) = in_between {
            self.has_just_written = false;
            return self.other(job).map(Some);
        }
        if !self.may_write() {
            return Ok(None);
        }
        let persists = std::mem::take(&mut self.persists);
        self.has_just_written = true;
        self.persist(persists).map(Some)
    }

    /// Whether the log has noted how far it is durable. Until it is noted, damage to the last batch
    /// looks like a write that never ended.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Notes it; for when the log has been idle for a while.
    ///
    /// # Errors
    ///
    /// As [`LogWorker::work`].
    pub fn mark(&mut self) -> Result<(), NodeFailure> {
        self.wal.mark_synced().map_err(NodeFailure::Log)?;
        self.is_marked = true;
        Ok(())
    }

    fn persist(&mut self, persists: Vec<Persist>) -> Result<LogDone, NodeFailure> {
        match self.wal.persist(&persists) {
            Err(error @ WalError::DiskFull { .. }) if !self.wal.is_poisoned() => {
                self.persists = persists;
                return Ok(self.wait(&error));
            }
            written => written.map_err(NodeFailure::Log)?,
        }
        if std::mem::replace(&mut self.room, Room::There) != Room::There {
            tracing::info!("there is room on the disk again: the log goes on");
        }
        self.is_marked = false;
        Ok(LogDone {
            input: persists.last().map(|last| Input::Persisted { seq: last.seq }),
            file_job: self.wal.prepare().map(FileJob::Prepare),
            persist_count: persists.len(),
            entry_count: persists.iter().map(|persist| persist.entries.len()).sum(),
            is_full: false,
        })
    }

    /// Nothing of what is to be written was begun: to the driver the disk hangs. A leader need not find
    /// out by itself.
    fn wait(&mut self, error: &WalError) -> LogDone {
        let is_news = std::mem::replace(&mut self.room, Room::Missing) == Room::There;
        if is_news {
            tracing::error!(
                "the log waits for room: {error}. Until then this member acknowledges nothing new; \
                 it goes on by itself"
            );
        }
        let input = is_news.then_some(Input::TransferLeadership { to: None });
        LogDone { input, is_full: true, ..LogDone::default() }
    }

    fn other(&mut self, job: LogJob) -> Result<LogDone, NodeFailure> {
        match job {
            LogJob::Prove => {
                self.wal.prove().map_err(NodeFailure::Log)?;
                Ok(LogDone { input: Some(Input::Proved), ..LogDone::default() })
            }
            LogJob::Load(request) => {
                let LoadRequest { first, last, max_bytes, .. } = request;
                let entries = self.wal.read(first, last, max_bytes).map_err(NodeFailure::Log)?;
                let input = Some(Input::Loaded { request, entries });
                Ok(LogDone { input, ..LogDone::default() })
            }
            LogJob::Spares { peer, first, max_bytes } => {
                let entries = self.wal.spares(first, max_bytes).map_err(NodeFailure::Log)?;
                let input = Some(Input::SparesLoaded { peer, entries });
                Ok(LogDone { input, ..LogDone::default() })
            }
            LogJob::Release(base) => {
                self.wal.release_prefix(&base).map_err(NodeFailure::Log)?;
                let file_job = Some(FileJob::RemoveOlder(base.last_included));
                Ok(LogDone { file_job, ..LogDone::default() })
            }
            LogJob::Persist(persist) => self.persist(vec![persist]),
        }
    }
}
