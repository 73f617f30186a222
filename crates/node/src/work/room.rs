//! How much room a node's disk has, and the reserve that is given up and made again by it. Decides
//! from what it sees when it is asked to look; must not know who waits for room, nor a clock.

use quorate_wal::{Disk, DiskSpace, Reserve, WalError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Below so many reserves of room, the held one included, a disk is short of it...
const LOW_RESERVES: u64 = 3;
/// ...until there are so many again.
const HIGH_RESERVES: u64 = 4;
/// No reserve is larger than this part of its disk.
const DISK_PARTS: u64 = 40;

/// How much room a node's disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskRoom {
    /// What is free, beside what the node holds in reserve.
    pub free_bytes: u64,
    /// What it holds in reserve.
    pub reserved_bytes: u64,
    /// Below this, of both together, the disk is short of room; 0 if nobody looks.
    pub low_bytes: u64,
    /// Whether it is: nothing that takes space should be asked of the node.
    pub is_short: bool,
    /// Whether a write waits for room: the node acknowledges nothing new until there is some.
    pub is_waited_for: bool,
}

/// Looks after the room of one node.
pub struct RoomKeeper {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve_bytes: u64,
    /// Absent until the folder is known to be the node's, and what is there could be looked at.
    reserve: Option<Reserve>,
    is_begun: bool,
    room: DiskRoom,
}

/// The reserve that a node has in this folder, which need not exist yet, if it is to have up to so much.
pub(crate) fn reserve_bytes(disk: &dyn Disk, dir: &Path, bytes_max: u64) -> u64 {
    let named = |path| if path == Path::new("") { Path::new(".") } else { path };
    let found = dir.ancestors().find_map(|path| disk.space(named(path)).ok());
    bytes_max.min(found.unwrap_or(DiskSpace::ENDLESS).size_bytes / DISK_PARTS)
}

impl RoomKeeper {
    /// For a folder in which so much is held in reserve; nothing, and nobody looks, if that is 0.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, reserve_bytes: u64) -> Self {
        let low_bytes = reserve_bytes.saturating_mul(LOW_RESERVES);
        let room = DiskRoom { low_bytes, ..DiskRoom::default() };
        Self { disk, dir, reserve_bytes, reserve: None, is_begun: false, room }
    }

    /// Whether anybody is to look at all.
    #[must_use]
    pub const fn is_watching(&self) -> bool {
        self.reserve_bytes > 0
    }

    /// What the log and snapshots should leave free of themselves.
    #[must_use]
    pub const fn kept_free_bytes(&self) -> u64 {
        self.room.low_bytes
    }

    /// The folder whose disk is looked at.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was seen last.
    #[must_use]
    pub const fn room(&self) -> DiskRoom {
        self.room
    }

    /// The first look, before anything that needs room is opened: on a full disk the reserve of an
    /// earlier life is given up.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn begin(&mut self) -> Result<DiskRoom, WalError> {
        self.is_begun = true;
        let is_full = self.free_bytes()? < self.reserve_bytes;
        self.look(is_full)
    }

    /// Looks how much room there is. If somebody waits for some, the reserve is given up for them; once
    /// there is plenty it is made again.
    ///
    /// # Errors
    ///
    /// What the disk says; what was seen before still counts then.
    pub fn look(&mut self, is_waited_for: bool) -> Result<DiskRoom, WalError> {
        self.room.is_waited_for = is_waited_for;
        if self.reserve.is_none() && self.is_begun && self.is_watching() {
            let disk = Arc::clone(&self.disk);
            self.reserve = Some(Reserve::open(disk, &self.dir, self.reserve_bytes)?);
        }
        let Some(reserve) = &mut self.reserve else { return Ok(self.room) };
        if is_waited_for {
            reserve.release()?;
        }
        let held_bytes = reserve.held_bytes();
        let bytes = self.free_bytes()?.saturating_add(held_bytes);
        let low_bytes = self.room.low_bytes;
        let high_bytes = self.reserve_bytes.saturating_mul(HIGH_RESERVES);
        self.room.is_short = bytes < if self.room.is_short { high_bytes } else { low_bytes };
        if !self.room.is_short && !is_waited_for && bytes >= high_bytes {
            self.hold();
        }
        self.room.reserved_bytes = self.reserve.as_ref().map_or(0, Reserve::held_bytes);
        self.room.free_bytes = bytes.saturating_sub(self.room.reserved_bytes);
        Ok(self.room)
    }

    fn hold(&mut self) {
        let Some(reserve) = &mut self.reserve else { return };
        if let Err(error) = reserve.hold() {
            // Somebody was faster: the next look tries again.
            tracing::warn!("the disk's reserve is not made: {error}");
        }
    }

    fn free_bytes(&self) -> Result<u64, WalError> {
        let op = "ask for the free space of";
        let space = self.disk.space(&self.dir);
        let space = space.map_err(|source| WalError::Io { op, path: self.dir.clone(), source })?;
        Ok(space.free_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wal::DiskFile;
    use std::any::Any;
    use std::collections::BTreeMap;
    use std::io;
    use std::sync::Mutex;

    const RESERVE: u64 = 100;

    /// A disk of 100 reserves of which others take as much as they are told to.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<World>>);

    #[derive(Default)]
    struct World {
        files: BTreeMap<PathBuf, u64>,
        others_bytes: u64,
    }

    impl World {
        fn free_bytes(&self) -> u64 {
            100 * RESERVE - self.others_bytes - self.files.values().sum::<u64>()
        }
    }

    struct File(Shared, PathBuf);

    impl DiskFile for File {
        fn size_bytes(&self) -> io::Result<u64> {
            Ok(self.0.0.lock().unwrap().files[&self.1])
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn set_size(&self, size_bytes: u64) -> io::Result<()> {
            self.0.0.lock().unwrap().files.insert(self.1.clone(), size_bytes);
            Ok(())
        }
        fn reserve(&self, _: u64, size_bytes: u64) -> io::Result<bool> {
            let is_there = self.0.0.lock().unwrap().free_bytes() >= size_bytes;
            if is_there { Ok(true) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Shared {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.0.lock().unwrap().files.insert(path.to_owned(), 0);
            Ok(Box::new(File(self.clone(), path.to_owned())))
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            let is_there = self.0.lock().unwrap().files.contains_key(path);
            if !is_there {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Box::new(File(self.clone(), path.to_owned())))
        }
        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn create_dir_all(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            let mut world = self.0.lock().unwrap();
            let size_bytes = world.files.remove(from).unwrap();
            world.files.insert(to.to_owned(), size_bytes);
            Ok(())
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            let gone = self.0.lock().unwrap().files.remove(path);
            gone.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn space(&self, _: &Path) -> io::Result<DiskSpace> {
            let free_bytes = self.0.lock().unwrap().free_bytes();
            Ok(DiskSpace { free_bytes, size_bytes: 100 * RESERVE })
        }
        fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
            Ok(Box::new(()))
        }
    }

    impl Shared {
        /// Others leave so much of the disk to the node, what it holds included.
        fn leave(&self, bytes: u64) {
            self.0.lock().unwrap().others_bytes = 100 * RESERVE - bytes;
        }
    }

    fn keeper() -> (Shared, RoomKeeper) {
        let disk = Shared::default();
        let keeper = RoomKeeper::new(Arc::new(disk.clone()), "/node".into(), RESERVE);
        (disk, keeper)
    }

    #[test]
    fn a_disk_is_short_below_three_reserves_and_until_there_are_four() {
        let (disk, mut keeper) = keeper();
        assert!(!keeper.begin().unwrap().is_short);
        let mut is_short = |bytes| {
            disk.leave(bytes);
            keeper.look(false).unwrap().is_short
        };
        assert!(!is_short(300));
        assert!(is_short(299));
        assert!(is_short(399));
        assert!(!is_short(400));
        assert!(!is_short(300));
    }

    #[test]
    fn a_reserve_is_given_up_for_whoever_waits_and_made_again_when_there_is_plenty() {
        let (disk, mut keeper) = keeper();
        let room = keeper.begin().unwrap();
        assert_eq!((room.free_bytes, room.reserved_bytes), (99 * RESERVE, RESERVE));
        disk.leave(RESERVE);
        let room = keeper.look(false).unwrap();
        assert_eq!((room.free_bytes, room.reserved_bytes), (0, RESERVE), "nobody needs it");
        let room = keeper.look(true).unwrap();
        assert_eq!((room.free_bytes, room.reserved_bytes), (RESERVE, 0));
        assert!(room.is_short && room.is_waited_for);
        disk.leave(399);
        assert_eq!(keeper.look(false).unwrap().reserved_bytes, 0, "it is short still");
        disk.leave(400);
        let room = keeper.look(false).unwrap();
        assert_eq!((room.free_bytes, room.reserved_bytes), (300, RESERVE));
        assert!(!room.is_short && !room.is_waited_for);
    }

    #[test]
    fn a_start_on_a_full_disk_gives_up_the_reserve_of_the_life_before() {
        let (disk, mut first) = keeper();
        first.begin().unwrap();
        for (left, held) in [(2 * RESERVE, RESERVE), (RESERVE, 0)] {
            disk.leave(left);
            let mut next = RoomKeeper::new(Arc::new(disk.clone()), "/node".into(), RESERVE);
            assert_eq!(next.begin().unwrap().reserved_bytes, held, "{left}");
        }
    }

    #[test]
    fn a_reserve_is_a_fortieth_of_its_disk_at_most_and_where_nobody_looks_there_is_none() {
        let (disk, _) = keeper();
        let dir = Path::new("/node");
        assert_eq!(reserve_bytes(&disk, dir, 1 << 20), 100 * RESERVE / 40);
        assert_eq!(reserve_bytes(&disk, dir, 7), 7);
        let mut none = RoomKeeper::new(Arc::new(disk.clone()), dir.into(), 0);
        assert!(!none.is_watching());
        disk.leave(0);
        assert_eq!(none.begin().unwrap(), DiskRoom::default());
        let waited_for = DiskRoom { is_waited_for: true, ..DiskRoom::default() };
        assert_eq!(none.look(true).unwrap(), waited_for);
        assert!(disk.0.lock().unwrap().files.is_empty());
    }
}
