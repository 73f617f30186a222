//! How much the log writes, where it goes on to the next file, and how large it says that it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::fault_disk::FaultDisk;
use common::watched_disk::WatchedDisk;
use common::{base, command, commands, dir, id, identity, index, initial, open, read_all, segment};
use quorate_core::{Entry, HardState, NodeId, Payload, Persist, Term};
use quorate_wal::{Wal, WalError, WalOptions};
use std::io::ErrorKind;

fn segments(disk: &FaultDisk) -> usize {
    disk.names().iter().filter(|name| name.extension().is_some_and(|it| it == "wal")).count()
}

/// A log whose first file has room for so many bytes of records.
fn with_room(bytes: u64) -> (FaultDisk, WatchedDisk, Wal) {
    let below = FaultDisk::default();
    let disk = WatchedDisk::new(below.arc());
    let options = WalOptions {
        first_segment_size_bytes: 4096 + bytes,
        segment_size_bytes: 100 << 10,
        ..WalOptions::default()
    };
    let (wal, _) = Wal::create(disk.arc(), dir(), options, identity(), initial()).unwrap();
    disk.calls();
    (below, disk, wal)
}

/// A command whose record takes 512 bytes.
fn sector(at: u64) -> Persist {
    Persist { entries: vec![command(1, at, 472)], ..Persist::default() }
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (_, disk, mut wal) = with_room(8 << 10);
    let hard_state = Some(HardState { current_term: Term::new(3), voted_for: None });
    let vote = Persist { hard_state, ..Persist::default() };
    wal.persist(&[commands(1, 1..=5), vote.clone()]).unwrap();
    wal.release_prefix(&base(1, 2)).unwrap();
    wal.mark_synced().unwrap();
    disk.calls();
    let cut_at_the_end = Persist { truncate_after: Some(index(5)), ..Persist::default() };
    wal.persist(&[]).unwrap();
    wal.persist(&[Persist::default(), cut_at_the_end, vote]).unwrap();
    wal.release_prefix(&base(1, 2)).unwrap();
    wal.release_prefix(&base(1, 1)).unwrap();
    wal.mark_synced().unwrap();
    assert_eq!(disk.calls(), []);
    assert_eq!((wal.last_log(), wal.first_index()), (id(1, 5), index(3)));
}

#[test]
fn a_batch_is_one_write_and_one_sync_a_vote_one_of_each_for_either_copy_and_the_mark_one_write() {
    let (_, disk, mut wal) = with_room(8 << 10);
    let hard_state =
        Some(HardState { current_term: Term::new(3), voted_for: Some(NodeId::new(1)) });
    wal.persist(&[commands(1, 1..=5), Persist { hard_state, ..commands(1, 6..=9) }]).unwrap();
    let calls: Vec<_> = disk.calls().into_iter().map(|call| (call.op, call.path)).collect();
    let expected = [segment(1), dir().join("meta-a"), dir().join("meta-b")]
        .map(|path| [("write", path.clone()), ("sync", path)]);
    let mark = ("write", dir().join("mark"));
    assert_eq!(calls, [expected.concat(), vec![mark.clone()]].concat());
    // It stands in place and is never synced on the way.
    wal.persist(&[commands(3, 10..=10)]).unwrap();
    let calls: Vec<_> = disk.calls().into_iter().map(|call| (call.op, call.path)).collect();
    assert_eq!(calls, [("write", segment(1)), ("sync", segment(1)), mark.clone()]);
    wal.mark_synced().unwrap();
    let calls: Vec<_> = disk.calls().into_iter().map(|call| (call.op, call.path)).collect();
    assert_eq!(calls, [("sync", mark.1)]);
}

#[test]
fn the_size_of_a_log_is_that_of_the_records_in_its_files() {
    let (below, _, mut wal) = with_room(1 << 10);
    assert_eq!(wal.size_bytes(), 0);
    for at in 1..=3 {
        wal.persist(&[sector(at)]).unwrap();
        assert_eq!(wal.size_bytes(), at * 512);
    }
    assert_eq!(segments(&below), 2, "the older one counts too");
    wal.persist(&[Persist { truncate_after: Some(index(2)), ..Persist::default() }]).unwrap();
    assert_eq!(wal.size_bytes(), 3 * 512 + 40);
    drop(wal);
    let (mut wal, _) = open(&below.arc(), dir()).unwrap();
    assert_eq!(wal.size_bytes(), 3 * 512 + 40);
    wal.release_prefix(&base(1, 2)).unwrap();
    assert_eq!((wal.size_bytes(), segments(&below)), (512 + 40, 1));
}

#[test]
fn a_file_is_used_to_its_last_byte_and_a_batch_is_never_split() {
    let (below, _, mut wal) = with_room(1 << 10);
    wal.persist(&[sector(1)]).unwrap();
    wal.persist(&[sector(2)]).unwrap();
    assert_eq!(segments(&below), 1, "it fits exactly");
    wal.persist(&[sector(3)]).unwrap();
    assert_eq!(segments(&below), 2);
    assert_eq!(read_all(&mut wal).unwrap().len(), 3);
}

#[test]
fn a_batch_larger_than_an_empty_file_makes_it_larger() {
    let (below, _, mut wal) = with_room(1 << 10);
    let entries = (1..=10).map(|at| command(1, at, 472)).collect();
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    assert_eq!((segments(&below), below.bytes(&segment(1)).len()), (1, 4096 + 5120));
}

#[test]
fn each_file_is_prepared_four_times_as_large_as_the_last_up_to_the_limit_once_it_is_half_full() {
    let (below, _, mut wal) = with_room(4 << 10);
    let next = dir().join("next-ahead.tmp");
    let (mut at, mut end) = (0, 4096);
    for (capacity, following) in
        [(8 << 10, 32 << 10), (32 << 10, 100 << 10), (100 << 10, 100 << 10)]
    {
        while end + 512 <= capacity {
            assert_eq!(wal.prepare().is_some(), end > capacity / 2, "{end} of {capacity}");
            at += 1;
            wal.persist(&[sector(at)]).unwrap();
            end += 512;
        }
        wal.prepare().unwrap().run().unwrap();
        assert_eq!(below.bytes(&next).len(), following);
        at += 1;
        wal.persist(&[sector(at)]).unwrap();
        assert!(!below.names().contains(&next), "it is the one that is written now");
        end = 4096 + 512;
    }
}

#[test]
fn an_entry_at_the_limit_of_a_record_is_not_refused_and_its_sum_is_not_an_overflow() {
    let (_, disk, mut wal) = with_room(1 << 10);
    // The disk refuses: what counts is that the log tried.
    disk.refuse("write", segment(1), ErrorKind::Other);
    let payload = Payload::Command(Bytes::from(vec![0; 256 << 20]));
    let entries = vec![Entry { log_id: id(1, 1), payload }];
    let error = wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap_err();
    assert!(matches!(error, WalError::Io { op: "append to", .. }), "{error}");
}

#[test]
fn a_base_that_the_log_does_not_hold_cannot_be_released_to() {
    for unknown in [base(2, 2), base(1, 6)] {
        let (_, _, mut wal) = with_room(8 << 10);
        wal.persist(&[commands(1, 1..=5)]).unwrap();
        let error = wal.release_prefix(&unknown).unwrap_err();
        assert!(matches!(error, WalError::OutOfOrder { op: "release", .. }), "{error}");
    }
}
