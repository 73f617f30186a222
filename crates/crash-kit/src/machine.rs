//! What a check runs on: a disk, and a way to crash the machine that it is in. Must not know what is
//! checked.

use crate::CrashDisk;
use crate::crash_disk::Survives;
use quorate_wal::Disk;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a process ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed: the system, and whatever is beneath the disk, goes on.
    Kill,
    /// The power fails, and takes what was not synced, or any part of it.
    PowerCut(Survives),
}

/// A disk under test in a machine that can crash. A check makes many, one after the other, each with an
/// empty folder.
pub trait Machine {
    /// The disk as a process has it that has just started: nothing is left of an earlier process but
    /// what it gave to the machine.
    fn disk(&mut self) -> Arc<dyn Disk>;

    /// The folder on it for the check; empty at first, and perhaps not there.
    fn dir(&self) -> &Path;

    /// Crashes. A machine whose power cannot be cut does what it can, which is to kill.
    fn crash(&mut self, crash: Crash);

    /// What is beneath the disk, if faults can be ordered there. Without it the power fails between the
    /// check's own operations only, and nothing else goes wrong.
    fn beneath(&self) -> Option<&CrashDisk> {
        None
    }
}

/// A disk that is a layer above another one, as most are: a cipher, a cache, a meter. Beneath it is a
/// [`CrashDisk`], on which the check orders what it likes.
pub struct Layered<L> {
    beneath: CrashDisk,
    layer: L,
    dir: PathBuf,
}

impl<L: Fn(Arc<dyn Disk>) -> Arc<dyn Disk>> Layered<L> {
    /// `layer` puts the disk under test above the one that it is given, as at the start of a process.
    #[must_use]
    pub fn new(layer: L) -> Self {
        Self { beneath: CrashDisk::new(), layer, dir: PathBuf::from("/kit") }
    }
}

impl<L: Fn(Arc<dyn Disk>) -> Arc<dyn Disk>> Machine for Layered<L> {
    fn disk(&mut self) -> Arc<dyn Disk> {
        (self.layer)(self.beneath.disk())
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn crash(&mut self, crash: Crash) {
        self.beneath = match crash {
            Crash::Kill => self.beneath.after_kill(),
            Crash::PowerCut(survives) => self.beneath.after_power_cut(survives),
        };
    }

    fn beneath(&self) -> Option<&CrashDisk> {
        Some(&self.beneath)
    }
}

/// A layer that adds nothing.
pub type NoLayer = fn(Arc<dyn Disk>) -> Arc<dyn Disk>;

/// A machine with nothing above its [`CrashDisk`]: for a log that is to be checked on a disk that is
/// known to be right.
#[must_use]
pub fn crash_machine() -> Layered<NoLayer> {
    Layered::new(|disk| disk)
}

/// A disk that is what it is, in a folder of its own: nothing can be ordered, and to crash is to begin
/// anew with what is there. Shows that a disk keeps the contract while all is well.
pub struct InPlace {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl InPlace {
    /// An empty folder on this disk.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir }
    }
}

impl Machine for InPlace {
    fn disk(&mut self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn crash(&mut self, _: Crash) {}
}
