//! Segments are zero-filled to their size before records go into them, the next one ahead of time;
//! whatever becomes of that work, the log goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::watched_disk::WatchedDisk;
use common::{commands, create, identity, initial, read_all};
use quorate_wal::{Wal, WalError, WalOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DIR: &str = "/node";
const NEXT: &str = "/node/next-ahead.tmp";

fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("log-{number:020}.wal"))
}

/// A log whose first segment, of 5 KiB, is more than half full.
fn half_full() -> (FaultDisk, WatchedDisk, Wal) {
    let below = FaultDisk::default();
    let disk = WatchedDisk::new(below.arc());
    let (mut wal, _) = create(&disk.arc(), Path::new(DIR)).unwrap();
    wal.persist(&[commands(1, 1..=2)]).unwrap();
    (below, disk, wal)
}

#[test]
fn a_new_log_s_file_is_filled_to_its_size_and_not_beyond() {
    let disk = FaultDisk::default();
    drop(create(&disk.arc(), Path::new(DIR)).unwrap());
    assert_eq!(disk.bytes(&segment(1)).len(), 5 << 10);
}

#[test]
fn a_large_file_is_filled_and_synced_in_small_steps() {
    let below = FaultDisk::default();
    let disk = WatchedDisk::new(below.arc());
    let options = WalOptions { first_segment_size_bytes: 5 << 19, ..WalOptions::default() };
    drop(Wal::create(disk.arc(), Path::new(DIR), options, identity(), initial()).unwrap());
    assert_eq!(below.bytes(&segment(1)).len(), 5 << 19);
    let calls = disk.calls().into_iter().filter(|call| call.path.ends_with("next-inline.tmp"));
    let steps: Vec<_> = calls.map(|call| (call.op, call.length)).collect();
    let step = |length| [("write", length), ("sync", 0)];
    let expected = [step(1 << 20), step(1 << 20), step(1 << 19), step(4096)].concat();
    assert_eq!(steps[1..], expected, "the last write is the header's");
}

#[test]
fn a_prepared_file_is_zeros_of_the_next_size_and_becomes_the_next_segment() {
    let (below, disk, mut wal) = half_full();
    wal.prepare().unwrap().run().unwrap();
    assert_eq!(below.bytes(Path::new(NEXT)), [0; 7 << 10]);
    disk.calls();
    wal.persist(&[commands(1, 3..=20)]).unwrap();
    assert_eq!(disk.calls_of("create"), [], "the prepared file was there");
    assert_eq!(below.bytes(&segment(2)).len(), 7 << 10);
    assert!(!below.names().contains(&PathBuf::from(NEXT)));
    assert_eq!(read_all(&mut wal).unwrap().len(), 20);
    // It was used up: the next one is made at the moment it is needed, and grows.
    wal.persist(&[commands(1, 21..=40)]).unwrap();
    assert_eq!(disk.calls_of("create").len(), 1);
    assert_eq!(read_all(&mut wal).unwrap().len(), 40);
}

#[test]
fn a_file_is_prepared_once_and_again_if_the_work_was_dropped() {
    let (_, _, mut wal) = half_full();
    let job = wal.prepare().unwrap();
    assert!(wal.prepare().is_none(), "it is under way");
    drop(job);
    let job = wal.prepare().unwrap();
    job.run().unwrap();
    assert!(wal.prepare().is_none(), "it is there");
}

#[test]
fn a_preparation_that_fails_leaves_no_file_and_no_harm_and_is_tried_again() {
    for op in ["create", "write", "sync"] {
        let (below, disk, mut wal) = half_full();
        disk.refuse(op, NEXT, ErrorKind::Other);
        let error = wal.prepare().unwrap().run().unwrap_err();
        let said = if op == "create" { "create" } else { "zero-fill" };
        assert!(matches!(error, WalError::Io { op, .. } if op == said), "{error}");
        assert!(!below.names().contains(&PathBuf::from(NEXT)), "{op}");
        disk.refuse_nothing();
        assert!(!wal.is_poisoned());
        wal.prepare().unwrap().run().unwrap();
        wal.persist(&[commands(1, 3..=20)]).unwrap();
        assert_eq!(read_all(&mut wal).unwrap().len(), 20);
    }
}
