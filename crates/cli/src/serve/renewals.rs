//! Looks after the renewal of the state's file: how much room it may take, how fast it goes, and what the log
//! says of it. Must not know how a file is made anew.

use quorate::DiskWatch;
use quorate::wal::{Disk, RealDisk};
use quorate_kv::{Refusal, Steward};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So many bytes are copied in a second, at most: disks have enough left for everything else.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// What is left free in any case.
const SPARE_BYTES: u64 = 64 << 20;
/// The same refusal is told so often.
const TOLD_EVERY: Duration = Duration::from_mins(10);

/// See the module.
pub(super) struct Renewals {
    dir: PathBuf,
    watch: DiskWatch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Option<Instant>,
    /// When the present part began.
    part_begun: Option<Instant>,
    refused: Option<Instant>,
}

impl Renewals {
    /// For the state's file at `path`, on a disk that is watched.
    pub(super) fn new(path: &Path, watch: DiskWatch) -> Self {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { dir: dir.to_owned(), watch, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steward for Renewals {
    /// What is free above what a disk has that is short of room: a renewal is never the reason for that.
    fn room_bytes(&self) -> Option<u64> {
        let free_bytes = RealDisk.space(&self.dir).ok()?.free_bytes;
        let room = self.watch.room();
        let kept_bytes = room.low_bytes.saturating_sub(room.reserved_bytes).max(SPARE_BYTES);
        Some(free_bytes.saturating_sub(kept_bytes))
    }

    fn pace(&self, copied_bytes: u64) {
        let least =
            Duration::from_micros(copied_bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
        let begun = self.state().part_begun;
        if let Some(rest) = begun.and_then(|begun| least.checked_sub(begun.elapsed())) {
            thread::sleep(rest);
        }
        self.state().part_begun = Some(Instant::now());
    }

    fn has_begun(&self, file_bytes: u64, in_use_bytes: u64) {
        *self.state() = State { begun: Some(Instant::now()), ..State::default() };
        tracing::info!(
            file_bytes,
            in_use_bytes,
            "the state's file is made anew beside the old one, since much of it is free"
        );
    }

    fn has_ended(&self, before_bytes: u64, after_bytes: u64) {
        let took = self.state().begun.map(|begun| begun.elapsed()).unwrap_or_default();
        tracing::info!(before_bytes, after_bytes, ?took, "the state's file has been made anew");
    }

    fn has_given_up(&self, why: &Refusal) {
        let mut state = self.state();
        if state.refused.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            state.refused = Some(Instant::now());
            tracing::warn!("the state's file is not made anew, and stays as large as it is: {why}");
        }
    }
}
