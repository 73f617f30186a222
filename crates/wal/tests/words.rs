//! What an operator reads when a folder makes trouble: the file, what is wrong, and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::fault_disk::FaultDisk;
use common::watched_disk::WatchedDisk;
use common::{base, commands, create, id, index};
use quorate_core::{NodeId, ProtocolVersion};
use quorate_wal::codec::{self, DecodeError};
use quorate_wal::{Damage, Identity, WalError};
use std::io;
use std::path::{Path, PathBuf};

fn path() -> PathBuf {
    PathBuf::from("/data/log")
}

fn damaged(indexes: Option<(u64, Option<u64>)>, damage: Damage) -> String {
    let indexes = indexes.map(|(first, last)| (index(first), last.map(index)));
    let path = path();
    WalError::Damaged { path, offset_bytes: 4096, indexes, anchor: None, damage }.to_string()
}

#[test]
fn damage_says_which_entries_are_affected_as_far_as_that_is_known_and_what_to_do() {
    let rest = "Nothing was changed or cut, because acknowledged entries may be affected. Keep the \
                folder for analysis; to bring the member back, remove it from the cluster and add \
                it again with an empty folder";
    let start = "/data/log is damaged at byte 4096: the record's content cannot be decoded";
    let content = Damage::Content;
    assert_eq!(damaged(None, content), format!("{start}. {rest}"));
    assert_eq!(damaged(Some((7, None)), content), format!("{start} (entries from 7 on). {rest}"));
    assert_eq!(damaged(Some((7, Some(9))), content), format!("{start} (entries 7 to 9). {rest}"));
    let known = WalError::Damaged {
        path: path(),
        offset_bytes: 4096,
        indexes: Some((index(7), Some(index(9)))),
        anchor: Some(Box::new(id(2, 10))),
        damage: content,
    };
    let expected = format!("{start} (entries 7 to 9), and the log held 10@2 later. {rest}");
    assert_eq!(known.to_string(), expected);
}

#[test]
fn each_kind_of_damage_is_described() {
    let expected = id(2, 5);
    for (damage, words) in [
        (Damage::NotOurs, "this is not a file of this kind, or its first bytes are destroyed"),
        (Damage::Header, "the header's checksum does not fit its bytes"),
        (
            Damage::Misplaced { expected: 2, found: 1 },
            "the header belongs to another file (segment 1, expected 2)",
        ),
        (
            Damage::Record { synced_bytes: 99 },
            "no whole record, although everything before byte 99 was durable",
        ),
        (
            Damage::Order { expected, found: id(1, 4) },
            "record 4@1 is out of order where 5@2 was expected",
        ),
        (
            Damage::ReadsDiffer,
            "two reads of the same record differ: check the disk, then start again",
        ),
        (
            Damage::Unreadable { kind: io::ErrorKind::TimedOut },
            "the disk cannot read it (timed out): check the disk, then start again",
        ),
        (Damage::Content, "the record's content cannot be decoded"),
        (Damage::FileMissing, "the file is missing"),
        (Damage::BothCopies, "both copies of the hard state are unreadable"),
        (Damage::CopiesContradict, "the two copies of the hard state contradict each other"),
        (
            Damage::Gap { expected: id(1, 9), found: id(1, 4) },
            "the log holds 4@1, it must hold 9@1",
        ),
        (
            Damage::Unannounced,
            "the log is newer than the hard state knows: an old copy of that was restored",
        ),
        (Damage::Block, "the block's checksum does not fit its bytes"),
        (Damage::Truncated, "the snapshot ends early"),
    ] {
        assert_eq!(damage.to_string(), words);
    }
}

#[test]
fn every_other_failure_names_its_place_and_the_way_out() {
    let (path, source) = (path(), io::Error::from(io::ErrorKind::PermissionDenied));
    let found = Identity { cluster_id: 0xbeef, node_id: NodeId::new(4), storage_id: 9 };
    let wrong = WalError::WrongIdentity {
        path: path.clone(),
        expected_cluster_id: 0x1234,
        expected_node_id: NodeId::new(5),
        found,
    };
    for (error, words) in [
        (
            wrong,
            "/data/log belongs to cluster 000000000000beef, node 4, but this process was started \
             as cluster 0000000000001234, node 5; start it with the folder of that node, or with \
             an empty one",
        ),
        (
            WalError::Locked { path: path.clone(), pid: Some(17) },
            "/data/log is in use by process 17; stop that process first, two processes must never \
             write one log",
        ),
        (
            WalError::Locked { path: path.clone(), pid: None },
            "/data/log is in use by another process; stop that process first, two processes must \
             never write one log",
        ),
        (WalError::Missing { path: path.clone() }, "/data/log holds no log; create one first"),
        (
            WalError::AlreadyExists { path: path.clone() },
            "/data/log already holds a log; open it, or choose an empty folder",
        ),
        (
            WalError::UnsupportedVersion { path: path.clone(), found: 9, supported: 1 },
            "/data/log has format version 9, this program knows versions up to 1; start a newer \
             release",
        ),
        (
            WalError::DiskFull { op: "append to", path: path.clone() },
            "/data/log: no space left to append to; free space on this disk",
        ),
        (
            WalError::Io { op: "sync", path: path.clone(), source },
            "/data/log: cannot sync: permission denied",
        ),
        (
            WalError::OutOfOrder { op: "append", expected: id(2, 5), found: id(1, 4) },
            "cannot append: expected 5@2, got 4@1; this is a bug, please report it",
        ),
        (
            WalError::TooLarge { log_id: id(2, 5), size_bytes: 9, limit_bytes: 8 },
            "entry 5@2 has 9 bytes, a record holds at most 8",
        ),
        (
            WalError::Poisoned { op: "sync", kind: io::ErrorKind::StorageFull },
            "the log stopped after a failure to sync (no storage space) and takes no more writes; \
             check the disk, then restart",
        ),
        (
            WalError::NoSnapshot { path, last_included: id(2, 5) },
            "there is no snapshot 5@2 in /data/log",
        ),
    ] {
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn a_log_that_stopped_says_for_good_what_stopped_it() {
    let dir = Path::new("/node");
    for (kind, said) in [
        (io::ErrorKind::Other, io::ErrorKind::Other),
        (io::ErrorKind::StorageFull, io::ErrorKind::StorageFull),
        (io::ErrorKind::QuotaExceeded, io::ErrorKind::StorageFull),
    ] {
        let disk = WatchedDisk::new(FaultDisk::default().arc());
        let (mut wal, _) = create(&disk.arc(), dir).unwrap();
        disk.refuse("sync", dir.join("log-00000000000000000001.wal"), kind);
        wal.persist(&[commands(1, 1..=1)]).unwrap_err();
        disk.refuse_nothing();
        for _ in 0..2 {
            let error = wal.mark_synced().unwrap_err();
            assert!(
                matches!(error, WalError::Poisoned { op: "sync", kind } if kind == said),
                "{error}"
            );
        }
    }
    let (mut wal, _) = create(&FaultDisk::default().arc(), dir).unwrap();
    wal.release_prefix(&base(1, 4)).unwrap_err();
    let error = wal.persist(&[]).unwrap_err();
    let kind = io::ErrorKind::InvalidInput;
    assert!(matches!(error, WalError::Poisoned { op: "release", kind: it } if it == kind));
}

#[test]
fn bytes_that_do_not_decode_are_described() {
    let what = "rank";
    for (error, words) in [
        (
            DecodeError::TooShort { what, wanted: 4, available: 1 },
            "rank needs 4 more bytes, 1 are left",
        ),
        (DecodeError::UnknownTag { what, found: 7 }, "rank has the unknown tag 7"),
        (DecodeError::OutOfRange { what }, "rank exceeds its range"),
        (DecodeError::NotUtf8 { what }, "rank is not UTF-8"),
        (
            DecodeError::MemberOrder { after: NodeId::new(5), found: NodeId::new(4) },
            "member 4 is listed after member 5",
        ),
        (DecodeError::Trailing { what, count: 3 }, "3 bytes follow after rank"),
    ] {
        assert_eq!(error.to_string(), words);
    }
    assert_eq!(codec::expect_end(&Bytes::new(), what), Ok(()));
    let trailing = codec::expect_end(&Bytes::from_static(b"abc"), what);
    assert_eq!(trailing, Err(DecodeError::Trailing { what, count: 3 }));
}

#[test]
fn a_log_of_a_later_protocol_is_named_with_both_versions_and_what_to_start() {
    let (found, newest) = (ProtocolVersion::new(8), ProtocolVersion::new(6));
    assert_eq!(
        WalError::NewerProtocol { path: path(), found, newest }.to_string(),
        "/data/log is of a cluster that speaks protocol version 8, this program knows versions up to 6; \
         start the program that the other members run"
    );
}
