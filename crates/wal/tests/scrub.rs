//! The scrubber finds in a log that is in use what a start would refuse, and nothing else, and reads
//! little at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{base, commands, create, dir, id, identity, index, open, segment};
use quorate_core::Persist;
use quorate_wal::{Damage, Rotten, RottenFile, Scrubber, SnapshotStore, Wal, WalError};
use std::io::Write;
use std::path::{Path, PathBuf};

const SNAPSHOTS: &str = "/node/snapshots";
/// A record of these tests is never larger.
const RECORD_BYTES_MAX: u64 = 200;

fn scrubber(disk: &FaultDisk) -> Scrubber {
    Scrubber::new(disk.arc(), dir().to_owned(), SNAPSHOTS.into(), identity())
}

/// Several sealed segments; leaders have replaced the ends of earlier ones.
fn filled() -> (FaultDisk, Wal) {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=20)]).unwrap();
    wal.persist(&[commands(1, 21..=40)]).unwrap();
    let replaced = |after: u64, term, last| Persist {
        truncate_after: Some(index(after)),
        ..commands(term, after + 1..=last)
    };
    wal.persist(&[replaced(5, 2, 30)]).unwrap();
    wal.persist(&[replaced(28, 3, 45)]).unwrap();
    wal.persist(&[commands(3, 46..=60)]).unwrap();
    assert!(disk.names().contains(&segment(4)), "{:?}", disk.names());
    (disk, wal)
}

fn sealed(disk: &FaultDisk) -> Vec<u64> {
    let numbers = 1..;
    numbers.take_while(|number| disk.names().contains(&segment(number + 1))).collect()
}

/// One round, in steps of this size; and how much was read.
fn round(scrubber: &mut Scrubber, max_bytes: u64) -> (Vec<Rotten>, u64) {
    let (mut rotten, mut total_bytes) = (Vec::new(), 0);
    loop {
        let step = scrubber.step(max_bytes).unwrap();
        assert!(step.read_bytes < max_bytes + RECORD_BYTES_MAX, "{}", step.read_bytes);
        total_bytes += step.read_bytes;
        rotten.extend(step.damage);
        if step.is_round_over {
            return (rotten, total_bytes);
        }
    }
}

fn found(disk: &FaultDisk) -> Vec<RottenFile> {
    let (rotten, _) = round(&mut scrubber(disk), 500);
    rotten.into_iter().map(|rotten| rotten.file).collect()
}

#[test]
fn a_sound_log_is_read_in_pieces_over_and_over_up_to_the_segment_that_is_written() {
    let (disk, mut wal) = filled();
    let mut scrubber = scrubber(&disk);
    let (rotten, total_bytes) = round(&mut scrubber, 1);
    assert!(rotten.is_empty(), "{rotten:?}");
    assert!(total_bytes > 0 && total_bytes < wal.size_bytes(), "not what is written to");
    for max_bytes in [64, 1000, u64::MAX / 2] {
        let (rotten, again_bytes) = round(&mut scrubber, max_bytes);
        assert!(rotten.is_empty(), "{rotten:?}");
        assert_eq!(again_bytes, total_bytes);
    }
    for first in (61..300).step_by(15) {
        wal.persist(&[commands(3, first..=first + 14)]).unwrap();
    }
    let (rotten, more_bytes) = round(&mut scrubber, 1000);
    assert!(rotten.is_empty() && more_bytes > total_bytes, "{rotten:?}");
}

#[test]
fn whatever_flips_in_a_sealed_segment_is_found_and_named_and_a_start_would_refuse_it() {
    let (disk, wal) = filled();
    drop(wal);
    for number in sealed(&disk) {
        let size = disk.bytes(&segment(number)).len();
        let mut found_count = 0;
        for at in (0..size).step_by(7) {
            let damaged = disk.fork();
            damaged.edit(&segment(number), |bytes| bytes[at] ^= 0x10);
            let is_refused = open(&damaged.fork().arc(), dir()).is_err();
            let found = found(&damaged);
            let names = |file: &RottenFile| {
                // Its head also says where the one before it ends.
                matches!(file, RottenFile::Segment { number: it, .. } if *it == number)
            };
            assert_eq!(found.iter().any(names), is_refused, "segment {number}, byte {at}");
            assert!(found.iter().all(names), "segment {number}, byte {at}: {found:?}");
            found_count += usize::from(is_refused);
        }
        assert!(found_count > 100, "segment {number}: {found_count}");
    }
}

#[test]
fn what_is_found_says_which_entries_a_segment_has_lost() {
    let (disk, _wal) = filled();
    disk.edit(&segment(1), |bytes| bytes[4096 + 300] ^= 1);
    let (rotten, _) = round(&mut scrubber(&disk), 500);
    let [Rotten { error, .. }] = rotten.as_slice() else { panic!("{rotten:?}") };
    let WalError::Damaged { path, indexes: Some((first, Some(last))), anchor, .. } = &**error
    else {
        panic!("{error}")
    };
    assert_eq!(path, &segment(1));
    assert!(*first > index(0) && first < last, "{error}");
    assert_eq!(anchor.as_ref().map(|it| it.index), Some(*last));
}

#[test]
fn a_sector_that_cannot_be_read_is_found() {
    let (disk, _wal) = filled();
    disk.break_sector(&segment(2), 4096 + 512);
    let (rotten, _) = round(&mut scrubber(&disk), 500);
    let [Rotten { file: RottenFile::Segment { number: 2, .. }, error }] = rotten.as_slice() else {
        panic!("{rotten:?}")
    };
    let is_unreadable =
        matches!(**error, WalError::Damaged { damage: Damage::Unreadable { .. }, .. });
    assert!(is_unreadable, "{error}");
}

#[test]
fn a_segment_that_cannot_be_opened_is_found() {
    let (disk, _wal) = filled();
    disk.forbid(&segment(2));
    let (rotten, _) = round(&mut scrubber(&disk), 500);
    // It also says where the one before it ends.
    assert_eq!(rotten.len(), 2, "{rotten:?}");
    for Rotten { file, error } in &rotten {
        assert!(matches!(file, RottenFile::Segment { number: 2, .. }), "{rotten:?}");
        assert!(matches!(&**error, WalError::Io { path, .. } if *path == segment(2)), "{error}");
    }
}

#[test]
fn what_is_released_meanwhile_is_passed_over() {
    let (disk, mut wal) = filled();
    let mut scrubber = scrubber(&disk);
    assert!(!scrubber.step(1).unwrap().is_round_over);
    disk.edit(&segment(1), |bytes| bytes[4096 + 300] ^= 1);
    wal.release_prefix(&base(3, 50)).unwrap();
    assert!(!disk.names().contains(&segment(1)));
    let (rotten, _) = round(&mut scrubber, 500);
    assert!(rotten.is_empty(), "{rotten:?}");
}

fn snapshot(disk: &FaultDisk, at: u64) -> PathBuf {
    let mut store = SnapshotStore::open(disk.arc(), Path::new(SNAPSHOTS)).unwrap();
    let mut writer = store.create(base(3, at)).unwrap();
    let body: Vec<u8> = (0..3000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    writer.write_all(&body).unwrap();
    writer.finish().unwrap();
    let name = |path: &&PathBuf| {
        path.starts_with(SNAPSHOTS) && path.to_string_lossy().contains(&format!("{at:020}-"))
    };
    let names = disk.names();
    names.iter().find(name).unwrap().clone()
}

#[test]
fn a_snapshot_that_was_damaged_is_found_wherever_it_was_and_no_other_one_is() {
    let disk = FaultDisk::default();
    let _wal = create(&disk.arc(), dir()).unwrap();
    let (path, _other) = (snapshot(&disk, 10), snapshot(&disk, 20));
    assert_eq!(found_in_blocks(&disk), []);
    let size = disk.bytes(&path).len();
    for at in 0..size {
        let damaged = disk.fork();
        damaged.edit(&path, |bytes| bytes[at] ^= 4);
        let expected = RottenFile::Snapshot { last_included: id(3, 10) };
        assert_eq!(found_in_blocks(&damaged), [expected], "byte {at}");
    }
    disk.delete(&path);
    assert_eq!(found_in_blocks(&disk), []);
}

#[test]
fn a_snapshot_is_read_block_by_block_and_no_further_than_asked() {
    let disk = FaultDisk::default();
    let _wal = create(&disk.arc(), dir()).unwrap();
    let mut store = SnapshotStore::open(disk.arc(), Path::new(SNAPSHOTS)).unwrap();
    let mut writer = store.create(base(3, 10)).unwrap();
    writer.write_all(&vec![7; 600_000]).unwrap();
    writer.finish().unwrap();
    let block_bytes = scrubber(&disk).step(1).unwrap().read_bytes;
    assert!(block_bytes > 0 && 2 * block_bytes < 600_000, "{block_bytes}");
    for (budget_bytes, expected) in
        [(block_bytes - 1, 1), (block_bytes, 1), (block_bytes + 1, 2), (2 * block_bytes, 2)]
    {
        let step = scrubber(&disk).step(budget_bytes).unwrap();
        assert_eq!(step.read_bytes, expected * block_bytes, "{budget_bytes}");
        assert!(!step.is_round_over && step.damage.is_none());
    }
    // All of it is counted, with what stands around the blocks.
    let whole = scrubber(&disk).step(1 << 30).unwrap();
    assert!(whole.is_round_over && whole.damage.is_none());
    assert!((600_000..601_000).contains(&whole.read_bytes), "{}", whole.read_bytes);
}

/// A block of a snapshot is read whole.
fn found_in_blocks(disk: &FaultDisk) -> Vec<RottenFile> {
    let (mut scrubber, mut found) = (scrubber(disk), Vec::new());
    loop {
        let step = scrubber.step(1).unwrap();
        found.extend(step.damage.map(|rotten| rotten.file));
        if step.is_round_over {
            return found;
        }
    }
}
