//! A disk that forgets: a file system of its own, mounted through FUSE, whose power can be cut, and
//! that fails a write or a sync on command. Knows the kernel's questions; what is kept and what is lost
//! is `world`'s decision.

mod answers;
mod world;

pub(crate) use world::{Fault, Order};

use crate::harness::Rng;
use fuser::{BackgroundSession, Config, Errno, MountOption};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use world::{ROOT, World};

/// What the kernel's table of mounts calls these.
const SOURCE: &str = "quorate-forgetful";
/// The device through which such a file system is served.
const DEVICE: &str = "/dev/fuse";
/// How long the kernel may hold on to a file system that nobody uses any more.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// The power has just failed: nothing is answered any more, and nothing changes.
    Failing,
    /// Whoever still waits is told that there is no disk.
    Off,
}

struct State {
    world: World,
    power: Power,
}

/// What the file system's thread and the test share.
#[derive(Clone)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().expect("nobody panics with this lock")
    }

    fn set_power(&self, power: Power) {
        self.state().power = power;
        self.0.1.notify_all();
    }

    /// Asks the world, as long as there is power.
    fn ask<T>(&self, question: impl FnOnce(&mut World) -> Result<T, Errno>) -> Result<T, Errno> {
        let waited = self.0.1.wait_while(self.state(), |it| it.power == Power::Failing);
        let mut state = waited.expect("nobody panics with this lock");
        if state.power == Power::Off { Err(Errno::EIO) } else { question(&mut state.world) }
    }
}

/// A mounted disk that forgets.
pub(crate) struct Disk {
    shared: Shared,
    mountpoint: PathBuf,
    session: Option<BackgroundSession>,
}

/// Why there can be no such disk on this machine.
pub(crate) fn hindrance() -> Option<String> {
    let said = |error: io::Error| format!("{DEVICE}: {error}");
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        return Some(said(error));
    }
    let folder = crate::harness::scratch_folder("forgetful-try");
    Disk::mounted(&folder.path().join("disk"), false).err().map(said)
}

impl Disk {
    /// An empty one, mounted here.
    pub(crate) fn mounted(mountpoint: &Path, has_short_reads: bool) -> io::Result<Self> {
        fs::create_dir_all(mountpoint)?;
        let mut world = World::new();
        world.has_short_reads = has_short_reads;
        let state = State { world, power: Power::On };
        let shared = Shared(Arc::new((Mutex::new(state), Condvar::new())));
        let mut disk = Self { shared, mountpoint: mountpoint.to_owned(), session: None };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(SOURCE.to_owned())];
        let files = answers::Files(self.shared.clone());
        self.session = Some(fuser::spawn_mount(files, &self.mountpoint, &config)?);
        Ok(())
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// The moment at which the power fails: whoever asks from now on hangs until [`Disk::turn_off`].
    pub(crate) fn cut_power(&self) {
        self.shared.set_power(Power::Failing);
    }

    /// Lets go of whoever hangs; they should have been killed by now.
    pub(crate) fn turn_off(&self) {
        self.shared.set_power(Power::Off);
    }

    /// Loses what was not synced, as chance has it, and is there again. Nobody may have it open.
    pub(crate) fn come_back(&mut self, rng: &mut Rng) {
        self.unmount();
        self.shared.state().world.lose(rng);
        self.shared.set_power(Power::On);
        self.mount().expect("what could be mounted once can be mounted again");
    }

    /// Orders a fault.
    pub(crate) fn arm(&self, order: Order) {
        self.shared.state().world.arm(order);
    }

    /// Whether a fault is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.shared.state().world.is_armed()
    }

    /// Copies everything to a real folder.
    pub(crate) fn dump(&self, to: &Path) -> io::Result<()> {
        self.shared.state().world.dump(ROOT, to)
    }

    /// With it goes what the kernel remembers of its pages.
    fn unmount(&mut self) {
        let Some(session) = self.session.take() else { return };
        let begun = Instant::now();
        while !unmount(&self.mountpoint, &[]) {
            assert!(
                begun.elapsed() < UNMOUNT_PATIENCE,
                "somebody still uses {}",
                self.mountpoint.display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        session.join().expect("the file system ends when it is unmounted");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.turn_off();
        if self.session.is_some() {
            // Even if somebody still uses it: a test that fails must not hang.
            unmount(&self.mountpoint, &["-l"]);
        }
    }
}

fn unmount(mountpoint: &Path, flags: &[&str]) -> bool {
    let output = Command::new("umount").args(flags).arg(mountpoint).output();
    output.is_ok_and(|output| output.status.success())
}

/// Unmounts what tests that were killed have left below this folder: their threads are gone, and
/// whoever asks is told so.
pub(crate) fn clear_away_the_dead(folder: &Path) {
    let table = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in table.lines() {
        let mut words = line.split(' ');
        let (Some(SOURCE), Some(place)) = (words.next(), words.next()) else { continue };
        let place = Path::new(place);
        // ENOTCONN: there is nobody who would answer.
        let is_dead = fs::metadata(place).is_err_and(|error| error.raw_os_error() == Some(107));
        if place.starts_with(folder) && is_dead {
            unmount(place, &["-l"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_mounted_disk_keeps_what_programs_synced_and_loses_what_they_did_not() {
        if let Some(hindrance) = hindrance() {
            println!("left out, for there is no {DEVICE} to use: {hindrance}");
            return;
        }
        let folder = crate::harness::scratch_folder("forgetful");
        let mut disk = Disk::mounted(&folder.path().join("disk"), true).unwrap();
        let root = disk.path().to_owned();
        fs::create_dir(root.join("d")).unwrap();
        let mut kept = File::create(root.join("d/kept")).unwrap();
        kept.write_all(&vec![7; 70_000]).unwrap();
        kept.sync_all().unwrap();
        File::open(root.join("d")).unwrap().sync_all().unwrap();
        File::open(&root).unwrap().sync_all().unwrap();
        fs::write(root.join("lost"), "x").unwrap();
        drop(kept);

        // A seed that keeps nothing.
        let seed = (0..100).find(|seed| Rng::new(*seed, 0).below(4) == 0).unwrap();
        disk.come_back(&mut Rng::new(seed, 0));
        assert_eq!(fs::read(root.join("d/kept")).unwrap(), vec![7; 70_000]);
        assert!(!root.join("lost").exists());
        let copy = folder.path().join("copy");
        disk.dump(&copy).unwrap();
        assert_eq!(fs::read(copy.join("d/kept")).unwrap().len(), 70_000);
    }
}
