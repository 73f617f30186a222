//! A disk in memory that can lose what was not synced: writes are visible at once, durable only
//! when the sync behind them has had its time, and a crash leaves any part of the rest. It knows
//! nothing of logs or of Raft; it must not do anything that a real disk could not do.

mod damage;
mod handle;
mod image;
mod journal;

pub use damage::{Damage, DamageKind};

use crate::rng::{Chance, Rng};
use damage::Past;
use image::{Change, Image, Inode};
use journal::Journal;
use quorate_wal::DiskSpace;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A simulated disk; clones are the same disk, as seen by the same life of its node.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
    /// Which life of the node this handle belongs to; it is dead after the next crash.
    life: u64,
}

/// One stretch of disk work, as one thread would do it: it takes time, and a crash may cut it short
/// after any of its operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task(u64);

/// What a stretch of disk work asked of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Files and folders synced.
    pub sync_count: u32,
    /// Bytes written.
    pub written_bytes: usize,
}

/// What a crash does to changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// They are all gone, as if every cache had been empty of luck.
    LoseAll,
    /// They are all still visible, and not durable yet: the process died, the machine did not.
    KeepAll,
    /// Each sector and each name has its own fate.
    Tear,
}

impl fmt::Display for CrashStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoseAll => "no power, all that was not synced is lost",
            Self::KeepAll => "only its process, nothing is lost",
            Self::Tear => "no power, some of what was not synced is lost",
        })
    }
}

/// How a disk misbehaves beyond losing what was not synced.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// A sync fails, and some of what it should have made durable never will be.
    pub sync_fails: Chance,
    /// A write fails, after any part of it.
    pub write_fails: Chance,
    /// A read fails, and may succeed the next time.
    pub read_fails: Chance,
    /// A read gives something else than what is there, and may give that the next time.
    pub misreads: Chance,
    /// A read gives less than there is; whoever asks again gets more.
    pub short_reads: Chance,
    /// A sync reports success and does nothing. No honest disk does this: it proves that the
    /// judges notice.
    pub sync_lies: Chance,
    /// Damage hits nothing but the last batch of a log for which only the log's mark vouches, and takes
    /// the mark with it: then it cannot be told from a torn write. It proves that the judges notice
    /// what is lost then.
    pub damages_last_batch: bool,
}

#[derive(Debug)]
struct State {
    life: u64,
    visible: Image,
    journal: Journal,
    open: BTreeMap<Inode, u32>,
    /// Up to where files have room, whatever else fills the disk.
    reserved: BTreeMap<Inode, usize>,
    locks: BTreeSet<PathBuf>,
    inode_count: u64,
    task_count: u64,
    current: Option<Task>,
    unfinished: BTreeSet<Task>,
    work: Work,
    faults: DiskFaults,
    has_failed: bool,
    failures: DiskFailures,
    /// How many bytes all files together may have.
    capacity_bytes: Option<usize>,
    /// Sectors that cannot be read.
    unreadable: BTreeSet<(Inode, usize)>,
    /// Files with a log's mark that have gone bad: they prove nothing any more.
    spoiled: BTreeSet<Inode>,
    past: Past,
    rng: Rng,
}

/// How often a disk failed its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFailures {
    /// Reads.
    pub reads: u64,
    /// Reads that gave something else than what was there.
    pub misreads: u64,
    /// Reads that gave less than there was.
    pub short_reads: u64,
    /// Writes.
    pub writes: u64,
    /// Writes for want of room.
    pub refused: u64,
    /// Syncs.
    pub syncs: u64,
}

/// With more than this on its way, the system writes back what nobody ever syncs on purpose.
const PENDING_STEPS_MAX: usize = 64;

/// Work that belongs to no task happens at once.
const IMMEDIATE: Task = Task(0);

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        let state = State {
            life: 0,
            visible: Image::default(),
            journal: Journal::default(),
            open: BTreeMap::new(),
            reserved: BTreeMap::new(),
            locks: BTreeSet::new(),
            inode_count: 0,
            task_count: 0,
            current: None,
            unfinished: BTreeSet::new(),
            work: Work::default(),
            faults: DiskFaults::default(),
            has_failed: false,
            failures: DiskFailures::default(),
            capacity_bytes: None,
            unreadable: BTreeSet::new(),
            spoiled: BTreeSet::new(),
            past: Past::default(),
            rng,
        };
        Self { shared: Arc::new(Mutex::new(state)), life: 0 }
    }

    /// From now on the disk misbehaves like this.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// From now on all files together may have so many bytes, or as many as they like.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity_bytes = bytes;
    }

    /// How often the disk failed its node since this was last asked.
    #[must_use]
    pub fn take_failures(&self) -> DiskFailures {
        std::mem::take(&mut self.state().failures)
    }

    /// Does `work` as one task, which is under way until [`Self::finish`].
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> (T, Task, Work) {
        let task = {
            let mut state = self.state();
            state.task_count += 1;
            let task = Task(state.task_count);
            state.current = Some(task);
            state.unfinished.insert(task);
            state.work = Work::default();
            task
        };
        let result = work();
        let mut state = self.state();
        state.current = None;
        (result, task, state.work)
    }

    /// The time that a task takes is over: everything that it synced is durable.
    pub fn finish(&self, task: Task) {
        let mut state = self.state();
        state.unfinished.remove(&task);
        state.settle();
        if state.journal.step_count() > PENDING_STEPS_MAX {
            state.write_mark_back();
        }
        state.forget_removed_files();
    }

    /// Power loss, or the death of the process. Every handle is dead afterwards; the returned one
    /// sees what is left.
    #[must_use]
    pub fn crash(&self, style: CrashStyle) -> Self {
        let mut state = self.state();
        let mut rng = state.rng.fork("crash");
        let unfinished = std::mem::take(&mut state.unfinished);
        let State { journal, past, visible, .. } = &mut *state;
        *visible = journal.crash(&unfinished, style, &mut rng, past);
        state.open.clear();
        state.locks.clear();
        state.current = None;
        state.has_failed = false;
        state.life += 1;
        Self { shared: Arc::clone(&self.shared), life: state.life }
    }

    /// Another disk, with what a reader of this one would see now, all of it durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.state();
        let rng = state.rng.fork("copy");
        let visible = state.visible.clone();
        let inode_count = state.inode_count;
        drop(state);
        let copy = Self::new(rng);
        let mut state = copy.state();
        state.journal.durable = visible.clone();
        state.visible = visible;
        state.inode_count = inode_count;
        drop(state);
        copy
    }

    /// Whether an operation failed, as [`DiskFaults`] say, since this was last asked: what the
    /// node does about it is then no fault of its own.
    #[must_use]
    pub fn take_failure(&self) -> bool {
        std::mem::take(&mut self.state().has_failed)
    }

    /// How many bytes the visible files take together, with what is reserved for them.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.state().used_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the node of this handle has died since.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("the node has crashed"))
        }
    }
}

impl State {
    fn used_bytes(&self) -> usize {
        self.visible.names.values().map(|inode| self.room_of(*inode)).sum()
    }

    /// How far a file can be written whatever else fills the disk.
    fn room_of(&self, inode: Inode) -> usize {
        let len = self.visible.contents.get(&inode).map_or(0, Vec::len);
        len.max(self.reserved.get(&inode).copied().unwrap_or(0))
    }

    /// Writes, unless the disk is full or fails; then any part of it may have been written.
    fn write(&mut self, inode: Inode, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let fails = self.rng.happens(self.faults.write_fails);
        let refusal = if fails {
            self.failures.writes += 1;
            Some(io::Error::other("simulated failure of a write"))
        } else {
            self.make_room(inode, offset + bytes.len()).err()
        };
        let Some(refusal) = refusal else {
            self.change(Change::Write { inode, offset, bytes: bytes.to_vec() });
            return Ok(());
        };
        self.has_failed = true;
        let part = self.rng.index(bytes.len() + 1);
        let bytes = bytes.get(..part).unwrap_or_default().to_vec();
        if part > 0 && self.has_room(inode, offset + part) {
            self.change(Change::Write { inode, offset, bytes });
        }
        Err(refusal)
    }

    /// Whether a file may grow to this size.
    fn has_room(&self, inode: Inode, size: usize) -> bool {
        let Some(capacity) = self.capacity_bytes else { return true };
        let held = self.room_of(inode);
        size <= held || self.used_bytes() + (size - held) <= capacity
    }

    /// Refuses a file that would grow to this size on a full disk.
    fn make_room(&mut self, inode: Inode, size: usize) -> io::Result<()> {
        if self.has_room(inode, size) {
            return Ok(());
        }
        self.failures.refused += 1;
        self.has_failed = true;
        Err(io::Error::new(io::ErrorKind::StorageFull, "simulated disk: full"))
    }

    /// Whether these bytes of a file can be read now.
    fn check_readable(&mut self, inode: Inode, offset: usize, len: usize) -> io::Result<()> {
        let is_bad = |(file, start): &(Inode, usize)| {
            *file == inode && *start < offset + len && offset < start + image::SECTOR_BYTES
        };
        let fails = self.rng.happens(self.faults.read_fails);
        if fails || self.unreadable.iter().any(is_bad) {
            self.failures.reads += 1;
            self.has_failed |= fails;
            return Err(io::Error::other("simulated failure of a read"));
        }
        Ok(())
    }

    /// How much of this a read gives.
    fn read_count(&mut self, count: usize) -> usize {
        if count < 2 || !self.rng.happens(self.faults.short_reads) {
            return count;
        }
        self.failures.short_reads += 1;
        1 + self.rng.index(count - 1)
    }

    /// What is there is not what was read.
    fn misread(&mut self, inode: Inode, offset: usize, bytes: &mut [u8]) {
        if self.rng.happens(self.faults.misreads) && self.garble(inode, offset, bytes).is_some() {
            self.failures.misreads += 1;
            self.has_failed = true;
        }
    }

    fn change(&mut self, change: Change) {
        if let Change::Write { inode, offset, bytes } = &change {
            self.work.written_bytes += bytes.len();
            let end = offset + bytes.len();
            // A sector that is written anew can be read again.
            self.unreadable.retain(|(file, start)| {
                let is_elsewhere = *start >= end || *offset >= start + image::SECTOR_BYTES;
                file != inode || is_elsewhere
            });
        }
        self.visible.make(&change);
        let task = self.current.unwrap_or(IMMEDIATE);
        self.journal.change(task, change);
    }

    fn sync(&mut self, inode: Inode) -> io::Result<()> {
        self.work.sync_count += 1;
        if self.rng.happens(self.faults.sync_fails) {
            let mut rng = self.rng.fork("dirty");
            self.journal.lose_dirty(inode, &mut rng);
            self.has_failed = true;
            self.failures.syncs += 1;
            return Err(io::Error::other("simulated failure of a sync"));
        }
        if !self.rng.happens(self.faults.sync_lies) {
            self.journal.sync(self.current.unwrap_or(IMMEDIATE), inode);
            self.settle_if_immediate();
        }
        Ok(())
    }

    /// If it fails, what it should have made durable is as it was: it may become so, or not.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.work.sync_count += 1;
        if self.rng.happens(self.faults.sync_fails) {
            self.has_failed = true;
            self.failures.syncs += 1;
            return Err(io::Error::other("simulated failure of a folder's sync"));
        }
        if !self.rng.happens(self.faults.sync_lies) {
            self.journal.sync_folder(self.current.unwrap_or(IMMEDIATE), folder.to_path_buf());
            self.settle_if_immediate();
        }
        Ok(())
    }

    /// Makes a file shorter or longer, unless the disk is full or fails; then nothing has happened.
    fn resize(&mut self, inode: Inode, size: usize) -> io::Result<()> {
        self.make_room(inode, size)?;
        self.change_or_fail(Change::Size { inode, size })?;
        if let Some(reserved) = self.reserved.get_mut(&inode) {
            *reserved = size.min(*reserved);
        }
        Ok(())
    }

    /// Takes room for a file up to this size, unless the disk is full.
    fn reserve(&mut self, inode: Inode, size: usize) -> io::Result<()> {
        self.make_room(inode, size)?;
        let reserved = self.reserved.entry(inode).or_default();
        *reserved = size.max(*reserved);
        Ok(())
    }

    fn space(&self) -> DiskSpace {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.capacity_bytes.map_or(DiskSpace::ENDLESS, |capacity| DiskSpace {
            free_bytes: bytes(capacity.saturating_sub(self.used_bytes())),
            size_bytes: bytes(capacity),
        })
    }

    /// Makes a change that happens whole, unless the disk fails; then nothing has happened.
    fn change_or_fail(&mut self, change: Change) -> io::Result<()> {
        if self.rng.happens(self.faults.write_fails) {
            self.has_failed = true;
            self.failures.writes += 1;
            return Err(io::Error::other("simulated failure of a change"));
        }
        self.change(change);
        Ok(())
    }

    fn settle_if_immediate(&mut self) {
        if self.current.is_none() {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let (unfinished, past) = (&self.unfinished, &mut self.past);
        self.journal.settle(|task| !unfinished.contains(&task), past);
    }

    /// Frees the bytes of files that no name, handle or pending change leads to.
    fn forget_removed_files(&mut self) {
        if self.visible.contents.len() == self.visible.names.len()
            && self.journal.durable.contents.len() == self.journal.durable.names.len()
        {
            return;
        }
        let named: BTreeSet<Inode> = self
            .visible
            .names
            .values()
            .chain(self.journal.durable.names.values())
            .copied()
            .collect();
        let (open, journal) = (&self.open, &self.journal);
        let is_needed = |inode: &Inode| {
            named.contains(inode) || open.contains_key(inode) || journal.mentions(*inode)
        };
        let gone: Vec<Inode> =
            self.visible.contents.keys().copied().filter(|inode| !is_needed(inode)).collect();
        for inode in gone {
            self.visible.contents.remove(&inode);
            self.journal.durable.contents.remove(&inode);
            self.journal.last_syncs.remove(&inode);
            self.unreadable.retain(|(file, _)| *file != inode);
            self.spoiled.remove(&inode);
            self.reserved.remove(&inode);
        }
    }
}

#[cfg(test)]
mod tests;
