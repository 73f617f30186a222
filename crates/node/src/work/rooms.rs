//! The room of a node whose log may be on another disk than its data folder: both are looked after, and
//! the one that is nearer to its end speaks for the node. Must not know who waits for room.

use super::room::{DiskRoom, RoomKeeper, reserve_bytes};
use quorate_wal::{Disk, WalError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// See the module.
pub(crate) struct RoomKeepers {
    data: RoomKeeper,
    /// That of the log, if it is on a disk of its own.
    log: Option<RoomKeeper>,
}

impl RoomKeepers {
    /// For a data folder, and a log that may be elsewhere; each disk has up to so much of a reserve.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        log_dir: Option<&Path>,
        reserve_bytes_max: u64,
    ) -> Self {
        let keeper = |dir: &Path| {
            let bytes = reserve_bytes(disk.as_ref(), dir, reserve_bytes_max);
            RoomKeeper::new(Arc::clone(disk), dir.to_owned(), bytes)
        };
        let log_dir = log_dir.filter(|log_dir| !is_one_disk(data_dir, log_dir));
        Self { data: keeper(data_dir), log: log_dir.map(keeper) }
    }

    /// Who looks after the disk of the data folder.
    pub(crate) const fn data(&self) -> &RoomKeeper {
        &self.data
    }

    /// Who looks after the disk of the log.
    pub(crate) fn log(&self) -> &RoomKeeper {
        self.log.as_ref().unwrap_or(&self.data)
    }

    /// Whether anybody is to look at all.
    pub(crate) fn is_watching(&self) -> bool {
        self.data.is_watching() || self.log().is_watching()
    }

    /// See [`RoomKeeper::begin`].
    pub(crate) fn begin(&mut self) -> Result<DiskRoom, WalError> {
        let log = self.log.as_mut().map(RoomKeeper::begin).transpose();
        self.data.begin()?;
        log?;
        Ok(self.room())
    }

    /// See [`RoomKeeper::look`]. Whoever waits does not say for which disk: both give their reserve up.
    pub(crate) fn look(&mut self, is_waited_for: bool) -> Result<DiskRoom, WalError> {
        let log = self.log.as_mut().map(|keeper| keeper.look(is_waited_for)).transpose();
        self.data.look(is_waited_for)?;
        log?;
        Ok(self.room())
    }

    /// What was seen last, of the disk that has less beyond what it should have.
    pub(crate) fn room(&self) -> DiskRoom {
        self.nearer().room()
    }

    /// The folder on that disk.
    pub(crate) fn dir(&self) -> &Path {
        self.nearer().dir()
    }

    fn nearer(&self) -> &RoomKeeper {
        let left = |keeper: &RoomKeeper| {
            let room = keeper.room();
            let bytes = room.free_bytes.saturating_add(room.reserved_bytes);
            (!room.is_short, bytes.saturating_sub(room.low_bytes))
        };
        match &self.log {
            Some(log) if left(log) < left(&self.data) => log,
            Some(_) | None => &self.data,
        }
    }
}

/// Whether two folders, which need not exist yet, share a disk; not if nobody knows.
fn is_one_disk(one: &Path, other: &Path) -> bool {
    let device = |dir: &Path| {
        let dir = std::path::absolute(dir).ok()?;
        dir.ancestors().find_map(|dir| Some(std::fs::metadata(dir).ok()?.dev()))
    };
    device(one).is_some() && device(one) == device(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wal::{DiskFile, DiskSpace};
    use std::any::Any;
    use std::io;
    use std::path::PathBuf;
    use std::sync::Mutex;

    /// Two disks without files: `/data` and `/log`, which exist nowhere.
    struct Two(Mutex<[u64; 2]>);

    impl Disk for Two {
        fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn create_dir_all(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn remove(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn space(&self, dir: &Path) -> io::Result<DiskSpace> {
            let free = *self.0.lock().unwrap();
            let free_bytes = if dir.starts_with("/data") { free[0] } else { free[1] };
            Ok(DiskSpace { free_bytes, size_bytes: 100_000 })
        }
        fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
            Ok(Box::new(()))
        }
    }

    #[test]
    fn the_disk_that_is_nearer_to_its_end_speaks_for_the_node() {
        let two = Arc::new(Two(Mutex::new([50_000, 50_000])));
        let disk: Arc<dyn Disk> = two.clone();
        let data = RoomKeeper::new(disk.clone(), PathBuf::from("/data"), 1000);
        let log = RoomKeeper::new(disk, PathBuf::from("/log"), 1000);
        let mut keepers = RoomKeepers { data, log: Some(log) };
        assert!(!keepers.begin().unwrap().is_short);
        for (free, expected) in [([50_000, 2500], "/log"), ([2500, 50_000], "/data")] {
            *two.0.lock().unwrap() = free;
            let room = keepers.look(false).unwrap();
            assert!(room.is_short && room.free_bytes == 2500, "{room:?}");
            assert_eq!(keepers.dir(), Path::new(expected));
        }
        *two.0.lock().unwrap() = [50_000, 49_000];
        let room = keepers.look(false).unwrap();
        assert_eq!((room.is_short, room.free_bytes), (false, 49_000));
    }

    #[test]
    fn one_disk_has_one_reserve() {
        let home = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(quorate_wal::RealDisk);
        let (data, log) = (home.path().join("data"), home.path().join("not/yet"));
        let keepers = RoomKeepers::new(&disk, &data, Some(&log), 4096);
        assert!(keepers.log.is_none() && keepers.is_watching());
        assert_eq!(keepers.log().dir(), data);
    }
}
