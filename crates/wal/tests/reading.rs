//! Reading entries back: as much as was asked for and no more, with few calls to the disk, and
//! never an entry that the log does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::watched_disk::WatchedDisk;
use common::{base, commands, create, dir, id, identity, index, initial, open, read_all, segment};
use quorate_core::{Entry, Persist};
use quorate_wal::{Damage, Wal, WalError, WalOptions};

fn size_of(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size_bytes).sum()
}

#[test]
fn a_read_takes_entries_up_to_its_limit_to_the_byte() {
    let (mut wal, _) = create(&FaultDisk::default().arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=20)]).unwrap();
    let all = read_all(&mut wal).unwrap();
    for count in 1..=20 {
        let limit = size_of(&all[..count]);
        assert_eq!(wal.read(index(1), index(20), limit).unwrap(), all[..count]);
        let less = (count - 1).max(1);
        assert_eq!(wal.read(index(1), index(20), limit - 1).unwrap(), all[..less]);
    }
}

#[test]
fn a_read_of_many_small_entries_asks_the_disk_few_times() {
    let disk = WatchedDisk::new(FaultDisk::default().arc());
    let options = WalOptions::default();
    let (mut wal, _) = Wal::create(disk.arc(), dir(), options, identity(), initial()).unwrap();
    // About 280 kB of records.
    wal.persist(&[commands(1, 1..=2000)]).unwrap();
    disk.calls();
    assert_eq!(wal.read(index(1), index(2000), 1 << 20).unwrap().len(), 2000);
    let read_count = disk.calls_of("read").len();
    assert!(read_count <= 8, "{read_count}");
    assert_eq!(wal.read(index(1999), index(2000), 1 << 20).unwrap().len(), 2);
    let read: usize = disk.calls_of("read").iter().map(|call| call.length).sum();
    assert!(read <= 128 << 10, "{read} bytes for two entries");
}

#[test]
fn a_start_reads_a_log_of_small_entries_in_large_steps() {
    let disk = WatchedDisk::new(FaultDisk::default().arc());
    let options = WalOptions::default();
    let (mut wal, _) = Wal::create(disk.arc(), dir(), options, identity(), initial()).unwrap();
    wal.persist(&[commands(1, 1..=2000)]).unwrap();
    drop(wal);
    disk.calls();
    let options = WalOptions { tail_bytes_max: 0, ..options };
    let (_wal, recovered) =
        Wal::open(disk.arc(), dir(), options, common::CLUSTER, common::NODE).unwrap();
    assert_eq!((recovered.last_log, recovered.tail.len()), (id(1, 2000), 0));
    let calls = disk.calls_of("read").into_iter().filter(|call| call.path == segment(1));
    let read_count = calls.count();
    assert!(read_count <= 8, "{read_count}");
}

#[test]
fn an_older_segment_that_is_read_piece_by_piece_is_opened_once() {
    let disk = WatchedDisk::new(FaultDisk::default().arc());
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=20)]).unwrap();
    wal.persist(&[commands(1, 21..=60)]).unwrap();
    wal.persist(&[commands(1, 61..=90)]).unwrap();
    disk.calls();
    for at in 1..=20 {
        assert_eq!(wal.read(index(at), index(at), 1).unwrap().len(), 1);
    }
    wal.read(index(70), index(70), 1).unwrap();
    wal.read(index(5), index(5), 1).unwrap();
    let opened = |disk: &WatchedDisk| -> Vec<_> {
        disk.calls_of("open").into_iter().map(|call| call.path).collect()
    };
    assert_eq!(opened(&disk), [segment(1)], "the one that is written is open anyway");
    wal.read(index(30), index(30), 1).unwrap();
    wal.read(index(5), index(5), 1).unwrap();
    assert_eq!(opened(&disk), [segment(2), segment(1)], "one older file is open at a time");
}

#[test]
fn the_tail_that_a_start_returns_is_the_longest_end_of_the_log_that_fits() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    for first in [1, 11, 21, 31, 41] {
        wal.persist(&[commands(1, first..=first + 9)]).unwrap();
    }
    assert!(disk.names().contains(&segment(2)), "over several segments");
    wal.release_prefix(&base(1, 3)).unwrap();
    let all = read_all(&mut wal).unwrap();
    drop(wal);
    for count in 0..=all.len() {
        let wanted = &all[all.len() - count..];
        for spare in [0, 1, 50] {
            let tail_bytes_max = size_of(wanted) + spare;
            let options = WalOptions { tail_bytes_max, ..common::SMALL };
            let disk = disk.fork();
            let (_, recovered) =
                Wal::open(disk.arc(), dir(), options, common::CLUSTER, common::NODE).unwrap();
            assert_eq!(recovered.tail, wanted, "{count} entries and {spare} bytes");
            assert_eq!(recovered.last_log, id(1, 50));
        }
    }
}

/// What reading entry `at` says when the first segment was replaced, in use, by that of `other`.
fn read_from_another_history(other: &[Persist], at: u64) -> WalError {
    let start = FaultDisk::default();
    drop(create(&start.arc(), dir()).unwrap());
    let (ours, theirs) = (start.fork(), start.fork());
    let (mut wal, _) = open(&ours.arc(), dir()).unwrap();
    wal.persist(&[commands(2, 1..=9)]).unwrap();
    let (mut twin, _) = open(&theirs.arc(), dir()).unwrap();
    twin.persist(other).unwrap();
    let bytes = theirs.bytes(&segment(1));
    ours.arc().open(&segment(1)).unwrap().write_at(&bytes, 0).unwrap();
    wal.read(index(at), index(at), 1).unwrap_err()
}

#[test]
fn a_whole_record_that_is_not_the_one_the_log_holds_is_refused() {
    let error = read_from_another_history(&[commands(1, 1..=9)], 3);
    let WalError::Damaged { path, offset_bytes, indexes, damage, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(damage, Damage::Order { expected: id(2, 1), found: id(1, 1) }, "another term");
    assert_eq!((path, offset_bytes), (segment(1), 4096));
    assert_eq!(indexes, Some((index(1), Some(index(3)))));
    // In the place of entry 3: the log ends with entry 1.
    let cut = Persist { truncate_after: Some(index(1)), ..Persist::default() };
    let error = read_from_another_history(&[commands(2, 1..=2), cut], 3);
    let WalError::Damaged { indexes, damage, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(damage, Damage::Order { expected: id(2, 3), found: id(2, 1) }, "another index");
    assert_eq!(indexes, Some((index(3), Some(index(3)))));
}
