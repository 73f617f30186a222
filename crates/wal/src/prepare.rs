//! Zero-fills the next segment ahead of time, off the hot path: writing into a file whose blocks
//! exist needs no journal commit per sync. Must not know the log.

use crate::{Disk, DiskFile, WalError};
use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name under which a segment is prepared.
pub(crate) const PREPARED_NAME: &str = "next-ahead.tmp";
/// Zeros are written and synced in steps of this size, so that the hot path's sync never has to
/// wait for much of them.
const FILL_STEP_BYTES: usize = 1 << 20;

/// Where a prepared file waits for the log.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    Empty,
    UnderWay,
    Ready(Box<dyn DiskFile>),
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced whole: a panic elsewhere cannot leave it half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the slot for a job, if it is empty.
    pub(crate) fn begin(&self) -> bool {
        let mut state = self.state();
        let is_empty = matches!(*state, State::Empty);
        if is_empty {
            *state = State::UnderWay;
        }
        is_empty
    }

    /// Takes the prepared file, if there is one.
    pub(crate) fn take(&self) -> Option<Box<dyn DiskFile>> {
        let mut state = self.state();
        if !matches!(*state, State::Ready(_)) {
            return None;
        }
        match std::mem::take(&mut *state) {
            State::Ready(file) => Some(file),
            State::Empty | State::UnderWay => None,
        }
    }
}

/// Work that the log would like done ahead of time. Run it on any thread, or drop it: the log then
/// does without.
pub struct PrepareJob {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    size: Size,
    slot: Slot,
    /// The folder stays ours until the job is over.
    _lock: Arc<dyn Any + Send + Sync>,
}

/// How large a prepared file is, and what it must leave free.
pub(crate) struct Size {
    pub(crate) file_bytes: u64,
    pub(crate) kept_free_bytes: u64,
}

impl PrepareJob {
    /// A job for a slot that was reserved for it.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        size: Size,
        slot: Slot,
        lock: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self { disk, path, size, slot, _lock: lock }
    }

    /// Does the work, unless the disk would be nearly full afterwards: then the next file grows with
    /// what is written to it. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`WalError::DiskFull`] or [`WalError::Io`]. The log is not affected: it goes on without the
    /// prepared file, and meets the same trouble itself if it lasts.
    pub fn run(self) -> Result<(), WalError> {
        if !self.has_room() {
            return Ok(());
        }
        let file = self.disk.create(&self.path).map_err(WalError::io("create", &self.path))?;
        let filled = fill(file.as_ref(), self.size.file_bytes);
        if let Err(error) = filled {
            // Half a file is of no use; the space is.
            self.disk.remove(&self.path).map_err(WalError::io("remove", &self.path))?;
            return Err(WalError::io("zero-fill", &self.path)(error));
        }
        *self.slot.state() = State::Ready(file);
        Ok(())
    }

    /// A disk that does not say how full it is finds out by itself.
    fn has_room(&self) -> bool {
        let Size { file_bytes, kept_free_bytes } = self.size;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let space = self.disk.space(dir);
        space.map_or(true, |space| space.free_bytes >= file_bytes.saturating_add(kept_free_bytes))
    }
}

impl Drop for PrepareJob {
    fn drop(&mut self) {
        let mut state = self.slot.state();
        if matches!(*state, State::UnderWay) {
            *state = State::Empty;
        }
    }
}

/// Writes and syncs `size_bytes` of zeros.
pub(crate) fn fill(file: &dyn DiskFile, size_bytes: u64) -> std::io::Result<()> {
    let zeros = vec![0; FILL_STEP_BYTES];
    let mut position = 0;
    while position < size_bytes {
        let left = usize::try_from(size_bytes - position).unwrap_or(usize::MAX);
        let step = zeros.get(..left.min(FILL_STEP_BYTES)).unwrap_or_default();
        file.write_at(step, position)?;
        file.sync()?;
        position += step.len() as u64;
    }
    Ok(())
}
