//! A full disk: what does not fit is not begun, what needs no room goes on, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{base, command, commands, create, dir, id, open, read_all, segment};
use quorate_core::{Entry, HardState, NodeId, Persist, Term};
use quorate_wal::{Disk, DiskFile, DiskSpace, RealDisk, Reserve, Wal, WalError, WalOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn is_full(error: &WalError) -> bool {
    matches!(error, WalError::DiskFull { .. })
}

/// What the log is found to hold after this.
fn held(disk: &FaultDisk) -> Vec<Entry> {
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    read_all(&mut wal).unwrap()
}

/// With any room at all, in a segment and between two, a batch is durable as a whole or not begun; the
/// same batch, or one that goes on from it, is taken when there is room.
#[test]
fn a_batch_that_finds_no_room_is_not_begun_and_may_be_given_again() {
    let mut refused_count = 0;
    let coarse = (0..30).flat_map(|before| (0..9).map(move |room| (before, room * 1_024)));
    // A few bytes more or less than the batch takes.
    let fine = (3..9).flat_map(|before| (780..860).map(move |room| (before, room * 8)));
    for (before, room) in coarse.chain(fine) {
        let disk = FaultDisk::default();
        let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
        for index in 1..=before {
            wal.persist(&[commands(1, index..=index)]).unwrap();
        }
        let known = read_all(&mut wal).unwrap();
        disk.leave_room(Some(room));
        let batch = Persist {
            truncate_after: (before > 2).then(|| common::index(before - 1)),
            entries: vec![command(2, before.max(1), 300), command(2, before.max(1) + 1, 2_000)],
            hard_state: Some(HardState { current_term: Term::new(2), voted_for: None }),
            ..Persist::default()
        };
        let batch = if before > 2 {
            batch
        } else {
            Persist { entries: vec![command(1, before + 1, 2_300)], ..Persist::default() }
        };
        let given = wal.persist(std::slice::from_ref(&batch));
        if let Err(error) = &given {
            refused_count += 1;
            assert!(is_full(error), "{error}");
            assert!(!wal.is_poisoned());
            assert_eq!(read_all(&mut wal).unwrap(), known);
            // Term and vote do not need any room.
            let vote = HardState { current_term: Term::new(2), voted_for: Some(NodeId::new(3)) };
            wal.persist(&[Persist { hard_state: Some(vote), ..Persist::default() }]).unwrap();
            assert_eq!(held(&disk.power_loss(|_, _| false)), known);
            assert!(is_full(&wal.persist(std::slice::from_ref(&batch)).unwrap_err()));
            disk.leave_room(None);
            let next = batch.entries.last().unwrap().log_id.index.next().get();
            wal.persist(&[batch.clone(), commands(2, next..=next)]).unwrap();
        }
        let now = read_all(&mut wal).unwrap();
        assert!(now.ends_with(&[batch.entries.last().unwrap().clone()]) || given.is_err());
        assert!(now.contains(&batch.entries[0]));
        drop(wal);
        assert_eq!(held(&disk.power_loss(|_, _| false)), now, "{before} {room}");
    }
    assert!(refused_count > 50, "{refused_count}");
}

#[test]
fn a_log_on_a_full_disk_writes_within_its_prepared_segment_and_makes_room_by_a_release() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=4)]).unwrap();
    wal.prepare().unwrap().run().unwrap();
    disk.leave_room(Some(0));
    // The rest of the first segment, and all of the second.
    let mut next = 5;
    while let Ok(()) = wal.persist(&[commands(1, next..=next)]) {
        next += 1;
    }
    assert!(disk.names().contains(&segment(2)) && next > 20, "{next}");
    let known = read_all(&mut wal).unwrap();
    // What the first segment took is enough to go on.
    wal.release_prefix(&base(1, next - 1)).unwrap();
    assert!(!disk.names().contains(&segment(1)));
    wal.persist(&[commands(1, next..=next)]).unwrap();
    assert_eq!(known.len() as u64, next - 1);
    drop(wal);
    assert_eq!(held(&disk.power_loss(|_, _| false)).last().unwrap().log_id, id(1, next));
}

#[test]
fn a_log_takes_room_for_a_sixteenth_of_a_segment_ahead() {
    let (disk, kib) = (FaultDisk::default(), 1 << 10);
    // The first segment is filled when it is made; the second, four times as large, is made in a
    // hurry.
    let options = WalOptions {
        segment_size_bytes: 256 * kib,
        first_segment_size_bytes: 64 * kib,
        ..common::SMALL
    };
    let made = Wal::create(disk.arc(), dir(), options, common::identity(), common::initial());
    let (mut wal, _) = made.unwrap();
    let mut reserved = Vec::new();
    for index in 1.. {
        wal.persist(&[commands(1, index..=index)]).unwrap();
        if disk.names().contains(&segment(3)) {
            break;
        }
        if disk.names().contains(&segment(2)) {
            reserved.push(disk.reserved_bytes(&segment(2)) as u64);
        }
    }
    reserved.dedup();
    let sixteenths: Vec<u64> = (1..=16).map(|part| part * 16 * kib).collect();
    assert_eq!(reserved, sixteenths);
}

#[test]
fn a_file_that_was_prepared_late_promises_no_more_room_than_it_has() {
    let disk = FaultDisk::default();
    let options = WalOptions { segment_size_bytes: 64 << 10, ..common::SMALL };
    let made = Wal::create(disk.arc(), dir(), options, common::identity(), common::initial());
    let (mut wal, _) = made.unwrap();
    wal.persist(&[commands(1, 1..=4)]).unwrap();
    let late = wal.prepare().unwrap();
    let mut next = 5;
    let mut go_on_to = |wal: &mut Wal, number: u64| {
        while !disk.names().contains(&segment(number)) {
            wal.persist(&[commands(1, next..=next)])?;
            next += 1;
        }
        Ok::<(), WalError>(())
    };
    go_on_to(&mut wal, 2).unwrap();
    // It is as large as the second segment, and becomes the third, which may hold more.
    late.run().unwrap();
    go_on_to(&mut wal, 3).unwrap();
    disk.leave_room(Some(0));
    let error = go_on_to(&mut wal, 4).unwrap_err();
    assert!(is_full(&error) && !wal.is_poisoned(), "{error}");
    disk.leave_room(None);
    go_on_to(&mut wal, 4).unwrap();
    let known = read_all(&mut wal).unwrap();
    drop(wal);
    assert_eq!(held(&disk.power_loss(|_, _| false)), known);
}

#[test]
fn a_reset_without_room_leaves_the_log_as_it_was() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    let known = read_all(&mut wal).unwrap();
    let reset = Persist {
        reset: Some(base(2, 9)),
        entries: vec![command(2, 10, 50)],
        ..Persist::default()
    };
    for room in [0, 2_000, 4_096] {
        disk.leave_room(Some(room));
        assert!(is_full(&wal.persist(std::slice::from_ref(&reset)).unwrap_err()), "{room}");
        assert_eq!(read_all(&mut wal).unwrap(), known);
        let names: Vec<PathBuf> = disk.names();
        assert!(names.iter().all(|name| !name.ends_with("next-inline.tmp")), "{names:?}");
        assert_eq!(held(&disk.power_loss(|_, _| false)), known);
    }
    disk.leave_room(None);
    wal.persist(&[reset]).unwrap();
    assert_eq!((wal.first_index().get(), wal.last_log()), (10, id(2, 10)));
}

#[test]
fn a_segment_is_prepared_only_where_enough_stays_free() {
    let below = FaultDisk::default();
    let options = WalOptions { kept_free_bytes: 1_000, ..common::SMALL };
    let made = Wal::create(below.arc(), dir(), options, common::identity(), common::initial());
    let (mut wal, _) = made.unwrap();
    wal.persist(&[commands(1, 1..=2)]).unwrap();
    for (room, is_made) in [(7 * 1_024 + 999, false), (7 * 1_024 + 1_000, true)] {
        below.leave_room(Some(room));
        wal.prepare().unwrap().run().unwrap();
        let is_there = below.names().contains(&dir().join("next-ahead.tmp"));
        assert_eq!(is_there, is_made, "{room}");
    }
}

#[test]
fn a_reserve_holds_room_until_it_is_released_and_is_recognised_by_the_next_life() {
    let disk = FaultDisk::default();
    let reserve = |size_bytes| Reserve::open(disk.arc(), dir(), size_bytes).unwrap();
    let free_bytes = || disk.space(dir()).unwrap().free_bytes;
    disk.leave_room(Some(1_000));
    let mut first = reserve(700);
    assert_eq!((first.held_bytes(), free_bytes()), (0, 1_000));
    first.hold().unwrap();
    first.hold().unwrap();
    assert_eq!((first.held_bytes(), free_bytes()), (700, 300));
    let mut second = reserve(700);
    assert_eq!((second.held_bytes(), free_bytes()), (700, 300));
    second.release().unwrap();
    assert_eq!((second.held_bytes(), free_bytes()), (0, 1_000));
    second.hold().unwrap();
    // Another size is another reserve, and one for which there is no room takes nothing.
    let mut third = reserve(1_001);
    assert_eq!((third.held_bytes(), free_bytes()), (0, 1_000));
    assert!(is_full(&third.hold().unwrap_err()));
    assert_eq!((third.held_bytes(), free_bytes()), (0, 1_000));
    assert_eq!(disk.names(), Vec::<PathBuf>::new());
}

#[test]
fn the_systems_disk_tells_its_room_and_reserves_without_changing_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let DiskSpace { free_bytes, size_bytes } = RealDisk.space(folder.path()).unwrap();
    assert!(0 < free_bytes && free_bytes < size_bytes, "{free_bytes} of {size_bytes}");
    let path = folder.path().join("file");
    let file = RealDisk.create(&path).unwrap();
    file.write_at(b"abc", 0).unwrap();
    // ext4, XFS, tmpfs and overlays of them can; tests run on no other.
    assert!(file.reserve(3, 1 << 20).unwrap());
    let (mut bytes, size_bytes) = ([0; 10], file.size_bytes().unwrap());
    assert_eq!((file.read_at(&mut bytes, 0).unwrap(), size_bytes), (3, 3));
    // Blocks of 512 bytes, as stat has them.
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
    assert!(blocks >= 2_048, "{blocks}");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut reserve = Reserve::open(Arc::clone(&disk), folder.path(), 1 << 20).unwrap();
    reserve.hold().unwrap();
    let blocks = |name: &str| {
        std::os::unix::fs::MetadataExt::blocks(
            &std::fs::metadata(folder.path().join(name)).unwrap(),
        )
    };
    assert!(blocks("reserve") >= 2_048, "the room is really taken");
    reserve.release().unwrap();
    assert!(!Path::new(&folder.path().join("reserve")).exists());
}

#[test]
fn a_reserve_that_cannot_be_looked_at_is_an_error_and_an_empty_one_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let open = |size_bytes| Reserve::open(Arc::new(RealDisk), folder.path(), size_bytes);
    let (path, temporary) = (folder.path().join("reserve"), folder.path().join("reserve.tmp"));
    std::fs::write(&path, b"").unwrap();
    assert_eq!(open(0).unwrap().held_bytes(), 0);
    assert!(!path.exists());
    // No file has the name of a folder, and no folder is removed as one.
    for at in [path, temporary] {
        std::fs::create_dir(&at).unwrap();
        assert!(matches!(open(1), Err(WalError::Io { .. })), "{}", at.display());
        std::fs::remove_dir(&at).unwrap();
    }
}

/// A file of a disk that says nothing of room.
struct Silent;

impl DiskFile for Silent {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_says_nothing_of_room_promises_none() {
    assert!(!Silent.reserve(0, 1).unwrap());
}
