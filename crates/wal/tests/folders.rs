//! A node's folder: made so that its name lasts, taken by one process, cleared of what a crash left,
//! and its hard state read from the copy that counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::watched_disk::{Call, WatchedDisk};
use common::{base, commands, create, id, open, read_all};
use quorate_core::{HardState, NodeId, Persist, Term};
use quorate_wal::{Damage, SnapshotStore, Wal, WalError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DIR: &str = "/data/node";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn in_dir(name: &str) -> PathBuf {
    dir().join(name)
}

fn segment(number: u64) -> PathBuf {
    in_dir(&format!("log-{number:020}.wal"))
}

fn watched() -> (FaultDisk, WatchedDisk) {
    let below = FaultDisk::default();
    (below.clone(), WatchedDisk::new(below.arc()))
}

fn vote(term: u64) -> Persist {
    let voted_for = Some(NodeId::new(term));
    let hard_state = Some(HardState { current_term: Term::new(term), voted_for });
    Persist { hard_state, ..Persist::default() }
}

fn paths(calls: Vec<Call>) -> Vec<PathBuf> {
    calls.into_iter().map(|call| call.path).collect()
}

/// What making the folder says when one thing about it is refused.
fn make(refuse: &[(&'static str, &str, ErrorKind)]) -> Result<(), WalError> {
    let (_, disk) = watched();
    for &(op, path, kind) in refuse {
        disk.refuse(op, path, kind);
    }
    SnapshotStore::open(disk.arc(), dir()).map(drop)
}

#[test]
fn a_folder_is_made_and_the_folders_above_it_are_synced_so_that_its_own_name_lasts() {
    let (_, disk) = watched();
    drop(SnapshotStore::open(disk.arc(), dir()).unwrap());
    let calls = disk.calls();
    let of = |op| paths(calls.iter().filter(|call| call.op == op).cloned().collect());
    assert_eq!(of("create_dir_all"), [dir()]);
    assert_eq!(of("sync_dir")[..2], [Path::new("/data"), Path::new("/")]);
    // Above a relative path stands the folder of the process.
    drop(SnapshotStore::open(disk.arc(), Path::new("node")).unwrap());
    assert_eq!(paths(disk.calls_of("sync_dir"))[0], Path::new("."));
}

#[test]
fn a_new_name_that_could_not_be_synced_is_an_error_at_every_height() {
    for (above, new) in [("/data", &[DIR][..]), ("/", &[DIR, "/data"])] {
        for kind in [ErrorKind::Other, ErrorKind::PermissionDenied] {
            let mut refused = vec![("sync_dir", above, kind)];
            refused.extend(new.iter().map(|path| ("list", *path, ErrorKind::NotFound)));
            let error = make(&refused).unwrap_err();
            assert!(
                matches!(&error, WalError::Io { op: "sync", path, .. } if path == Path::new(above)),
                "{above}, {kind}: {error}"
            );
        }
    }
}

#[test]
fn a_folder_that_was_given_to_us_may_stand_where_we_may_not_look() {
    make(&[("sync_dir", "/data", ErrorKind::PermissionDenied)]).unwrap();
    make(&[("sync_dir", "/", ErrorKind::PermissionDenied)]).unwrap();
    make(&[("sync_dir", "/", ErrorKind::Other)]).unwrap();
    // But an earlier life may have made it, and died before it synced the name.
    let error = make(&[("sync_dir", "/data", ErrorKind::Other)]).unwrap_err();
    assert!(matches!(error, WalError::Io { op: "sync", .. }), "{error}");
}

#[test]
fn a_lock_that_fails_is_not_a_lock_that_somebody_holds() {
    let (_, disk) = watched();
    disk.refuse("lock", in_dir("LOCK"), ErrorKind::Unsupported);
    let error = create(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Io { op: "lock", .. }), "{error}");
    disk.refuse_nothing();
    disk.refuse("lock", in_dir("LOCK"), ErrorKind::WouldBlock);
    let error = create(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Locked { pid: None, .. }), "{error}");
}

#[test]
fn a_missing_folder_holds_no_log_and_one_that_cannot_be_read_is_an_error() {
    let (_, disk) = watched();
    disk.refuse("list", dir(), ErrorKind::NotFound);
    assert!(!Wal::exists(disk.arc().as_ref(), dir()).unwrap());
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Missing { .. }), "{error}");
    disk.refuse_nothing();
    disk.refuse("list", dir(), ErrorKind::PermissionDenied);
    let error = Wal::exists(disk.arc().as_ref(), dir()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Io { op: "list", .. }), "{error}");
}

#[test]
fn a_segment_that_cannot_be_opened_or_read_is_not_a_missing_or_a_damaged_one() {
    for op in ["open", "measure", "read"] {
        let (_, disk) = watched();
        let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
        wal.persist(&[commands(1, 1..=3)]).unwrap();
        drop(wal);
        disk.refuse(op, segment(1), ErrorKind::PermissionDenied);
        let error = open(&disk.arc(), dir()).err().unwrap();
        assert!(matches!(error, WalError::Io { op: it, .. } if it == op), "{error}");
    }
}

#[test]
fn what_a_crash_left_is_removed_at_the_next_start() {
    let (below, disk) = watched();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=20)]).unwrap();
    wal.persist(&[commands(1, 21..=40)]).unwrap();
    wal.persist(&[commands(1, 41..=60)]).unwrap();
    // Released by the hard state, and still there.
    disk.refuse("remove", segment(1), ErrorKind::Other);
    wal.release_prefix(&base(1, 45)).unwrap_err();
    drop(wal);
    disk.refuse_nothing();
    // Made, and not yet announced by the hard state.
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    assert!(!below.names().contains(&segment(1)) && !below.names().contains(&segment(2)));
    disk.refuse("write", in_dir("meta-a"), ErrorKind::Other);
    disk.refuse("write", in_dir("meta-b"), ErrorKind::Other);
    wal.persist(&[commands(1, 61..=80)]).unwrap_err();
    drop(wal);
    disk.refuse_nothing();
    assert!(below.names().contains(&segment(4)));
    // Half-made, and what is none of ours.
    let unfinished = ["next-inline.tmp", "next-ahead.tmp", "mark.tmp", "meta-a.tmp", "meta-b.tmp"];
    for name in unfinished.into_iter().chain(["notes.txt"]) {
        drop(disk.arc().create(&in_dir(name)).unwrap());
    }
    let (mut wal, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!((recovered.base, recovered.last_log), (base(1, 45), id(1, 60)));
    assert_eq!(read_all(&mut wal).unwrap().len(), 15);
    let left = ["mark", "meta-a", "meta-b", "notes.txt"].map(in_dir);
    assert_eq!(below.names(), [&[segment(3)], &left[..]].concat());
}

#[test]
fn a_creation_that_crashed_is_begun_anew_over_its_remains() {
    let (below, disk) = watched();
    disk.refuse("create", in_dir("meta-b.tmp"), ErrorKind::Other);
    create(&disk.arc(), dir()).err().unwrap();
    below.delete(&in_dir("meta-a"));
    disk.refuse_nothing();
    drop(disk.arc().create(&in_dir("meta-b.tmp")).unwrap());
    drop(disk.arc().create(&in_dir("next-inline.tmp")).unwrap());
    assert!(below.names().contains(&segment(1)));
    let (wal, _) = create(&disk.arc(), dir()).unwrap();
    assert_eq!(wal.last_log(), id(0, 0));
    assert_eq!(
        below.names(),
        [&[segment(1)], &["mark", "meta-a", "meta-b"].map(in_dir)[..]].concat()
    );
}

#[test]
fn a_folder_of_which_only_a_mark_is_left_is_not_a_new_one() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let unused = disk.fork();
    wal.persist(&[commands(1, 1..=1)]).unwrap();
    drop(wal);
    for disk in [&disk, &unused] {
        for name in ["meta-a", "meta-b"] {
            disk.delete(&in_dir(name));
        }
        disk.delete(&segment(1));
    }
    let error = create(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Damaged { damage: Damage::BothCopies, .. }), "{error}");
    create(&unused.arc(), dir()).unwrap();
}

#[test]
fn the_last_batch_is_written_once_more_at_a_start_in_one_piece() {
    let (_, disk) = watched();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    disk.calls();
    wal.persist(&[commands(1, 4..=6)]).unwrap();
    let of_segment = |calls: Vec<Call>| -> Vec<_> {
        let calls = calls.into_iter().filter(|call| call.path == segment(1) && call.op == "write");
        calls.map(|call| (call.offset, call.length)).collect()
    };
    let written = of_segment(disk.calls());
    drop(wal);
    let (_wal, _) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(of_segment(disk.calls()), written);
}

#[test]
fn a_last_batch_larger_than_one_step_is_durable_to_its_end_after_a_start() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let entries = (1..=3).map(|at| common::command(1, at, 900 << 10)).collect();
    // The second operation of the batch is its sync.
    disk.fail_at(disk.count() + 1, ErrorKind::Other);
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap_err();
    drop(wal);
    let disk = disk.process_crash();
    let (wal, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(recovered.last_log, id(1, 3));
    drop(wal);
    let disk = disk.power_loss(|_, _| false);
    let (_, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(recovered.last_log, id(1, 3));
}

#[test]
fn a_file_that_shrinks_during_the_start_is_damage_and_is_not_written_over() {
    let (below, disk) = watched();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    drop(wal);
    let reads = |disk: &WatchedDisk| {
        let calls = disk.calls_of("read");
        calls.into_iter().filter(|call| call.path == segment(1)).count()
    };
    disk.calls();
    let twin = WatchedDisk::new(below.fork().arc());
    drop(open(&twin.arc(), dir()).unwrap());
    // The last two reads are those of the last batch, and of the entries that the start returns.
    let whole = reads(&twin) - 2;
    disk.cut_reads(segment(1), whole, 1);
    let before = below.bytes(&segment(1));
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Damaged { damage: Damage::ReadsDiffer, .. }), "{error}");
    assert_eq!(below.bytes(&segment(1)), before);
}

#[test]
fn the_newer_of_two_whole_copies_of_the_hard_state_counts_whichever_it_is() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[vote(1)]).unwrap();
    let old = disk.bytes(&in_dir("meta-a"));
    wal.persist(&[vote(2)]).unwrap();
    drop(wal);
    for name in ["meta-a", "meta-b"] {
        let behind = disk.fork();
        behind.set_bytes(&in_dir(name), old.clone());
        let watched = WatchedDisk::new(behind.arc());
        let (wal, recovered) = open(&watched.arc(), dir()).unwrap();
        assert_eq!(recovered.hard_state, vote(2).hard_state.unwrap(), "{name} is older");
        // The one that is worth less is written first: the other is lost at no time.
        let written = paths(watched.calls_of("write"));
        assert_eq!(written.iter().find(|path| **path != segment(1)), Some(&in_dir(name)));
        drop(wal);
        assert_eq!(behind.bytes(&in_dir("meta-a")), behind.bytes(&in_dir("meta-b")));
    }
}

#[test]
fn a_copy_of_the_hard_state_that_cannot_be_opened_is_not_a_missing_one() {
    let (below, disk) = watched();
    drop(create(&disk.arc(), dir()).unwrap());
    let before = below.bytes(&in_dir("meta-b"));
    disk.refuse("open", in_dir("meta-a"), ErrorKind::PermissionDenied);
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Io { op: "open", .. }), "{error}");
    assert_eq!(below.bytes(&in_dir("meta-b")), before);
}

#[test]
fn a_copy_of_the_hard_state_with_an_unreadable_sector_is_replaced_by_the_other() {
    let (below, disk) = watched();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[vote(3)]).unwrap();
    drop(wal);
    disk.refuse("read", in_dir("meta-a"), ErrorKind::Other);
    let (_, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(recovered.hard_state, vote(3).hard_state.unwrap());
    assert_eq!(below.bytes(&in_dir("meta-a")), below.bytes(&in_dir("meta-b")));
}

#[test]
fn two_whole_copies_that_contradict_each_other_are_refused() {
    let disk = FaultDisk::default();
    let (wal, _) = create(&disk.arc(), dir()).unwrap();
    drop(wal);
    let other = disk.fork();
    let voted = |disk: &FaultDisk, term| {
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        wal.persist(&[vote(term)]).unwrap();
    };
    // As often written, with different votes.
    voted(&disk, 2);
    voted(&other, 3);
    disk.set_bytes(&in_dir("meta-b"), other.bytes(&in_dir("meta-b")));
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Damaged { damage: Damage::CopiesContradict, .. }), "{error}");
    // Of another folder of the same node, and written more often.
    let mut identity = common::identity();
    identity.storage_id += 1;
    let foreign = FaultDisk::default();
    let (mut wal, _) =
        Wal::create(foreign.arc(), dir(), common::SMALL, identity, common::initial()).unwrap();
    for term in 1..9 {
        wal.persist(&[vote(term)]).unwrap();
    }
    other.set_bytes(&in_dir("meta-b"), foreign.bytes(&in_dir("meta-b")));
    let error = open(&other.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::Damaged { damage: Damage::CopiesContradict, .. }), "{error}");
}

#[test]
fn sixteen_bytes_are_enough_to_tell_a_kind_and_a_format_and_fifteen_are_not() {
    let disk = FaultDisk::default();
    drop(create(&disk.arc(), dir()).unwrap());
    for (left, expected) in [(16, Damage::Header), (15, Damage::NotOurs)] {
        let cut = disk.fork();
        cut.edit(&segment(1), |bytes| bytes.truncate(left));
        let error = open(&cut.arc(), dir()).err().unwrap();
        assert!(
            matches!(error, WalError::Damaged { damage, .. } if damage == expected),
            "{left}: {error}"
        );
    }
    disk.edit(&in_dir("meta-b"), |bytes| {
        bytes.truncate(16);
        bytes[8] = 5;
        let checksum = crc32c::crc32c(&bytes[..12]).to_le_bytes();
        bytes[12..].copy_from_slice(&checksum);
    });
    let error = open(&disk.arc(), dir()).err().unwrap();
    assert!(matches!(error, WalError::UnsupportedVersion { found: 5, .. }), "{error}");
}
