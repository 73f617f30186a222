//! A disk in memory on which everything can go wrong: the power fails at a chosen operation, and takes
//! any part of what was not synced with it; an operation fails; a read fails, or gives less than it was
//! asked for. What was synced, it keeps. Must not know what the bytes mean, nor who writes them.

mod content;
mod files;

use crate::rng::Rng;
use content::Content;
use quorate_wal::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What of the unsynced survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Nothing of it.
    Nothing,
    /// All of it.
    Everything,
    /// Any part of it: each sector of each write, each change of a length, each name, as chance has it.
    /// The same number, the same part.
    AnyPart(u64),
}

/// A disk in memory that breaks on command. Copies of it are the same disk;
/// [`CrashDisk::after_power_cut`] is another one.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk(Arc<Mutex<World>>);

#[derive(Clone, Debug, Default)]
struct World {
    files: BTreeMap<usize, Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// The names that a failed sync of their folder should have made durable. They are seen, and are
    /// never so on the disk.
    doomed_names: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    next_file: usize,
    /// Operations that change something, so far.
    change_count: u64,
    /// The power fails at this one: it may happen in part, later ones not at all.
    cut_at: Option<u64>,
    /// This one fails.
    fail_at: Option<u64>,
    read_count: u64,
    fail_read_at: Option<u64>,
    read_size_max: Option<usize>,
}

enum Outcome {
    Go,
    Cut,
    Fail,
}

fn power_is_off() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the power is off")
}

/// What every injected fault says: the system's EIO.
fn input_output_error() -> io::Error {
    io::Error::other("an input/output error that was ordered")
}

impl CrashDisk {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same disk, as the log takes it.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // Each change is whole before the lock is given back, whoever panicked meanwhile.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations have changed something so far: files created, renamed, removed, written,
    /// resized or synced, and folders synced.
    #[must_use]
    pub fn change_count(&self) -> u64 {
        self.world().change_count
    }

    /// How often something was looked at so far: files opened, measured or read, folders listed.
    #[must_use]
    pub fn read_count(&self) -> u64 {
        self.world().read_count
    }

    /// Lets the power fail at this operation, counted as [`CrashDisk::change_count`] does, from 0: if it
    /// is a write, any part of it may arrive, and nothing after it happens.
    pub fn cut_power_at(&self, change: u64) {
        self.world().cut_at = Some(change);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.world().is_off()
    }

    /// Lets this operation fail. A write has arrived in half then; what a sync should have made durable,
    /// bytes or names, never is, unless it is written or named anew, although it can still be read and a
    /// second sync succeeds. Everything else has not happened.
    pub fn fail_at(&self, change: u64) {
        self.world().fail_at = Some(change);
    }

    /// Whether the failure that was ordered has happened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let world = self.world();
        world.fail_at.is_some_and(|at| world.change_count > at)
            || world.fail_read_at.is_some_and(|at| world.read_count > at)
    }

    /// Lets this look at something fail, counted as [`CrashDisk::read_count`] does, from 0.
    pub fn fail_read_at(&self, read: u64) {
        self.world().fail_read_at = Some(read);
    }

    /// From now on no read gives more than this, wherever the file ends.
    pub fn shorten_reads(&self, size_max: usize) {
        self.world().read_size_max = Some(size_max.max(1));
    }

    /// What a process finds that starts after one was killed: everything that was written, durable or
    /// not. Nothing that was ordered happens any more.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut world = self.world().clone();
        world.locks.clear();
        world.cut_at = None;
        world.fail_at = None;
        world.fail_read_at = None;
        world.read_size_max = None;
        Self(Arc::new(Mutex::new(world)))
    }

    /// What a process finds that starts after the power failed.
    #[must_use]
    pub fn after_power_cut(&self, survives: Survives) -> Self {
        let disk = self.after_kill();
        disk.world().lose(survives);
        disk
    }

    /// The names of all files, for looking at a failure.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }
}

impl World {
    fn step(&mut self) -> Outcome {
        let now = self.change_count;
        self.change_count += 1;
        if self.cut_at.is_some_and(|at| now >= at) {
            Outcome::Cut
        } else if self.fail_at == Some(now) {
            Outcome::Fail
        } else {
            Outcome::Go
        }
    }

    /// For what happens whole or not at all.
    fn step_whole(&mut self) -> io::Result<()> {
        match self.step() {
            Outcome::Go => Ok(()),
            Outcome::Cut => Err(power_is_off()),
            Outcome::Fail => Err(input_output_error()),
        }
    }

    /// For what changes nothing.
    fn look(&mut self) -> io::Result<()> {
        let fails = self.fail_read_at == Some(self.read_count);
        self.read_count += 1;
        if fails { Err(input_output_error()) } else { Ok(()) }
    }

    fn is_off(&self) -> bool {
        self.cut_at.is_some_and(|at| self.change_count > at)
    }

    /// Gives a name to a file, or takes it away.
    fn set_name(&mut self, name: &Path, file: Option<usize>) {
        self.doomed_names.remove(name);
        set(&mut self.names, name, file);
    }

    /// The names that are not durable as they are.
    fn unsynced_names(&self) -> BTreeSet<PathBuf> {
        let all = self.names.keys().chain(self.durable_names.keys());
        all.filter(|name| self.names.get(*name) != self.durable_names.get(*name)).cloned().collect()
    }

    fn sync_names(&mut self, dir: &Path) {
        for name in self.unsynced_names().iter().filter(|name| name.parent() == Some(dir)) {
            if !self.doomed_names.contains(name) {
                set(&mut self.durable_names, name, self.names.get(name).copied());
            }
        }
    }

    fn fail_to_sync_names(&mut self, dir: &Path) {
        let lost = self.unsynced_names().into_iter().filter(|name| name.parent() == Some(dir));
        self.doomed_names.extend(lost);
    }

    fn lose(&mut self, survives: Survives) {
        let mut keep = keeper(survives);
        for name in self.unsynced_names() {
            if self.doomed_names.contains(&name) || !keep() {
                set(&mut self.names, &name, self.durable_names.get(&name).copied());
            }
        }
        self.doomed_names.clear();
        self.durable_names.clone_from(&self.names);
        self.files.values_mut().for_each(|content| content.lose(&mut keep));
        let reachable: BTreeSet<usize> = self.names.values().copied().collect();
        self.files.retain(|file, _| reachable.contains(file));
    }
}

fn set(names: &mut BTreeMap<PathBuf, usize>, name: &Path, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name.to_owned(), file),
        None => names.remove(name),
    };
}

/// Decides for one piece after the other. Chance is not always fair: sometimes most survives, sometimes
/// little.
fn keeper(survives: Survives) -> impl FnMut() -> bool {
    let seed = if let Survives::AnyPart(seed) = survives { seed } else { 0 };
    let mut rng = Rng::new(seed);
    let of_eight = rng.pick(&[1, 4, 7]).copied().unwrap_or(4);
    move || match survives {
        Survives::Nothing => false,
        Survives::Everything => true,
        Survives::AnyPart(_) => rng.below(8) < of_eight,
    }
}
