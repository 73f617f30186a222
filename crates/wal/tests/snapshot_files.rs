//! Snapshot files at their edges: which are listed and kept, how much is read and synced at a time,
//! and what a disk that refuses leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::fault_disk::FaultDisk;
use common::watched_disk::WatchedDisk;
use common::{base, id};
use quorate_core::SnapshotMeta;
use quorate_wal::{Damage, Parcel, Received, SnapshotStore, WalError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

const DIR: &str = "/node/snapshots";
const BLOCK: usize = 64 << 10;

fn in_dir(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn file(index: u64, term: u64) -> PathBuf {
    in_dir(&format!("snap-{index:020}-{term:020}.snap"))
}

fn stored() -> (FaultDisk, WatchedDisk, SnapshotStore) {
    let below = FaultDisk::default();
    let disk = WatchedDisk::new(below.arc());
    let store = SnapshotStore::open(disk.arc(), Path::new(DIR)).unwrap();
    disk.calls();
    (below, disk, store)
}

fn write(store: &mut SnapshotStore, meta: &SnapshotMeta, body: &[u8]) {
    let mut writer = store.create(meta.clone()).unwrap();
    writer.write_all(body).unwrap();
    writer.finish().unwrap();
}

fn parcel(store: &SnapshotStore, meta: &SnapshotMeta) -> Parcel {
    store.pack(meta.last_included).unwrap().step(u64::MAX).unwrap().unwrap()
}

/// Gives a parcel from `offset` on until something else than what follows is wanted.
fn give(
    store: &mut SnapshotStore,
    parcel: &Parcel,
    meta: &SnapshotMeta,
    offset: u64,
) -> Result<Received, WalError> {
    let mut offset = offset;
    loop {
        let (piece, done) = parcel.read_piece(offset, 500).unwrap();
        let received = store.receive(meta, offset, &piece, done)?;
        offset += piece.len() as u64;
        if received.complete || received.next_offset != offset {
            return Ok(received);
        }
    }
}

#[test]
fn only_files_of_snapshots_are_listed_and_only_unfinished_ones_are_removed() {
    let (below, _, mut store) = stored();
    write(&mut store, &base(1, 5), b"body");
    let snapshot = below.bytes(&file(5, 1));
    let names = ["snap-5-1.snap", "notes.txt", "snap-x-y.snap", "writing-9.tmp", "receiving.part"];
    for name in names {
        below.arc().create(&in_dir(name)).unwrap().write_at(&snapshot, 0).unwrap();
    }
    let store = SnapshotStore::open(below.arc(), Path::new(DIR)).unwrap();
    assert_eq!(store.list().unwrap(), [base(1, 5)]);
    let left = [in_dir("notes.txt"), file(5, 1), in_dir("snap-5-1.snap"), in_dir("snap-x-y.snap")];
    assert_eq!(below.names(), left);
}

#[test]
fn a_snapshot_under_the_name_of_another_is_damaged_and_not_listed() {
    let (below, _, mut store) = stored();
    write(&mut store, &base(1, 5), b"body");
    below.arc().create(&file(6, 1)).unwrap().write_at(&below.bytes(&file(5, 1)), 0).unwrap();
    let error = store.reader(id(1, 6)).err().unwrap();
    let damage = Damage::Gap { expected: id(1, 6), found: id(1, 5) };
    assert!(matches!(error, WalError::Damaged { damage: it, .. } if it == damage), "{error}");
    assert_eq!(store.list().unwrap(), [base(1, 5)]);
}

#[test]
fn a_disk_that_fails_is_an_error_and_not_a_missing_or_a_damaged_snapshot() {
    let (_, disk, mut store) = stored();
    let meta = base(1, 5);
    write(&mut store, &meta, b"body");
    for op in ["open", "read", "measure"] {
        disk.refuse(op, file(5, 1), ErrorKind::Other);
        let error = store.reader(meta.last_included).err().unwrap();
        assert!(matches!(error, WalError::Io { op: it, .. } if it == op), "{error}");
        assert!(matches!(store.list(), Err(WalError::Io { .. })), "{op}");
        let received = store.receive(&meta, 0, &Bytes::new(), false);
        assert!(matches!(received, Err(WalError::Io { .. })), "{op}");
        disk.refuse_nothing();
    }
    let error = store.reader(id(1, 6)).err().unwrap();
    assert!(
        matches!(error, WalError::NoSnapshot { last_included, .. } if last_included == id(1, 6))
    );
    // A read that fails after the header did not.
    let reader = store.reader(meta.last_included).unwrap();
    disk.refuse("read", file(5, 1), ErrorKind::Other);
    assert!(matches!(reader.verify(), Err(WalError::Io { op: "read", .. })));
    assert!(reader.body().read(&mut [0; 9]).is_err());
}

#[test]
fn a_header_of_any_size_is_not_believed_and_nothing_of_that_size_is_read() {
    let (below, disk, mut store) = stored();
    write(&mut store, &base(1, 5), b"body");
    let limit = 16 << 20;
    for (size, expected) in
        [(limit, Damage::Truncated), (limit + 1, Damage::Header), (u32::MAX, Damage::Header)]
    {
        below.edit(&file(5, 1), |bytes| bytes[20..24].copy_from_slice(&size.to_le_bytes()));
        disk.calls();
        let error = store.reader(id(1, 5)).err().unwrap();
        assert!(
            matches!(&error, WalError::Damaged { damage, .. } if *damage == expected),
            "{error}"
        );
        assert_eq!(disk.calls_of("read").len(), 1, "its fixed part alone");
    }
}

#[test]
fn a_newer_format_is_named_and_neither_replaced_nor_left_out() {
    let (below, _, mut store) = stored();
    let meta = base(1, 5);
    write(&mut store, &meta, b"body");
    below.edit(&file(5, 1), |bytes| {
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..12]).to_le_bytes();
        bytes[12..16].copy_from_slice(&checksum);
    });
    assert!(matches!(store.list(), Err(WalError::UnsupportedVersion { found: 2, .. })));
    let received = store.receive(&meta, 0, &Bytes::new(), false);
    assert!(matches!(received, Err(WalError::UnsupportedVersion { found: 2, .. })));
}

#[test]
fn only_those_that_end_before_the_kept_one_are_removed() {
    let (_, disk, mut store) = stored();
    for at in 4..=6 {
        write(&mut store, &base(1, at), b"body");
    }
    disk.calls();
    store.remove_older_than(id(1, 5)).unwrap();
    assert_eq!(store.list().unwrap(), [base(1, 6), base(1, 5)]);
    let removed: Vec<_> = disk.calls_of("remove").into_iter().map(|call| call.path).collect();
    assert_eq!(removed, [file(4, 1)]);
}

#[test]
fn a_whole_snapshot_is_verified_once_and_anew_once_it_was_written_anew() {
    let (_, disk, mut store) = stored();
    let meta = base(1, 5);
    write(&mut store, &meta, &vec![7; 3 * BLOCK]);
    let size = store.reader(meta.last_included).unwrap().size_bytes();
    let reads_of_a_repeat = |store: &mut SnapshotStore| {
        disk.calls();
        let received = store.receive(&meta, 0, &Bytes::new(), false).unwrap();
        assert_eq!(received, Received { next_offset: size, complete: true });
        disk.calls_of("read").len()
    };
    let first = reads_of_a_repeat(&mut store);
    let second = reads_of_a_repeat(&mut store);
    assert_eq!((first, second), (second + 4, 2), "four blocks beside the header");
    write(&mut store, &meta, &vec![8; 3 * BLOCK]);
    assert_eq!(reads_of_a_repeat(&mut store), first);
}

#[test]
fn what_was_received_whole_is_not_verified_a_second_time() {
    let (_, _, mut from) = stored();
    let (_, disk, mut to) = stored();
    let meta = base(1, 5);
    write(&mut from, &meta, &vec![7; 3 * BLOCK]);
    let parcel = parcel(&from, &meta);
    assert!(give(&mut to, &parcel, &meta, 0).unwrap().complete);
    disk.calls();
    assert!(give(&mut to, &parcel, &meta, 0).unwrap().complete);
    assert_eq!(disk.calls_of("read").len(), 2, "its header");
}

#[test]
fn pieces_are_forgotten_when_the_disk_refuses_one() {
    let (_, _, mut from) = stored();
    let (below, disk, mut to) = stored();
    let meta = base(1, 5);
    write(&mut from, &meta, &[7; 1000]);
    let parcel = parcel(&from, &meta);
    let (manifest, _) = parcel.read_piece(0, 500).unwrap();
    let next = manifest.len() as u64;
    assert_eq!(to.receive(&meta, 0, &manifest, false).unwrap().next_offset, next);
    disk.refuse("write", in_dir("receiving.part"), ErrorKind::StorageFull);
    let error = give(&mut to, &parcel, &meta, next).unwrap_err();
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
    disk.refuse_nothing();
    assert_eq!(below.names(), Vec::<PathBuf>::new(), "the room is of use to others");
    let wanted = give(&mut to, &parcel, &meta, next).unwrap();
    assert_eq!(wanted, Received { next_offset: 0, complete: false });
    // A start over replaces what is there; if that cannot be removed, it is said.
    disk.refuse("remove", in_dir("receiving.part"), ErrorKind::PermissionDenied);
    let error = give(&mut to, &parcel, &meta, 0).unwrap_err();
    assert!(matches!(error, WalError::Io { op: "remove", .. }), "{error}");
    disk.refuse_nothing();
    assert!(give(&mut to, &parcel, &meta, 0).unwrap().complete);
    assert_eq!(below.names(), [file(5, 1)]);
}

#[test]
fn a_file_that_arrived_for_another_snapshot_or_in_a_newer_format_is_discarded() {
    let (source, _, mut from) = stored();
    let (below, disk, mut to) = stored();
    let meta = base(1, 5);
    write(&mut from, &meta, b"body");
    let nothing = Received { next_offset: 0, complete: false };
    let whole = parcel(&from, &meta);
    assert_eq!(give(&mut to, &whole, &base(1, 6), 0).unwrap(), nothing);
    let mut same_place = base(1, 5);
    same_place.configuration = common::configuration(9);
    assert_eq!(give(&mut to, &whole, &same_place, 0).unwrap(), nothing);
    // What changes behind the manifest's back is refused with its chunk, and kept for nothing.
    let bytes = source.bytes(&file(5, 1));
    source.edit(&file(5, 1), |bytes| bytes[8] = 2);
    assert_eq!(give(&mut to, &whole, &meta, 0).unwrap(), nothing);
    assert_eq!(to.list().unwrap(), []);
    source.edit(&file(5, 1), |now| *now = bytes);
    // A disk that fails while the file is verified is another matter.
    disk.refuse("read", in_dir("receiving.part"), ErrorKind::Other);
    let error = give(&mut to, &whole, &meta, 0).unwrap_err();
    assert!(matches!(error, WalError::Io { op: "read", .. }), "{error}");
    disk.refuse_nothing();
    assert!(give(&mut to, &whole, &meta, 0).unwrap().complete);
    assert_eq!(below.names(), [file(5, 1)]);
}

#[test]
fn how_a_body_is_cut_into_pieces_does_not_show_in_its_file() {
    let body: Vec<u8> = (0..3 * BLOCK + 5).map(|at| at.to_le_bytes()[at % 2]).collect();
    let written = |piece_size: usize| {
        let (below, _, mut store) = stored();
        let mut writer = store.create(base(1, 5)).unwrap();
        for piece in body.chunks(piece_size) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap();
        below.bytes(&file(5, 1))
    };
    let at_once = written(body.len());
    for piece_size in [1000, BLOCK - 1, BLOCK, BLOCK + 1] {
        assert!(written(piece_size) == at_once, "in pieces of {piece_size} bytes");
    }
}

#[test]
fn a_large_body_is_written_block_by_block_and_synced_on_the_way() {
    let (_, disk, mut store) = stored();
    let mut writer = store.create(base(1, 5)).unwrap();
    let piece = vec![5; 1 << 20];
    for _ in 0..20 {
        writer.write_all(&piece).unwrap();
        writer.flush().unwrap();
    }
    let calls = disk.calls();
    let syncs = calls.iter().filter(|call| call.op == "sync").count();
    assert_eq!(syncs, 2, "after every 8 MiB");
    let largest = calls.iter().filter(|call| call.op == "write").map(|call| call.length).max();
    assert_eq!(largest, Some(BLOCK + 8));
    writer.finish().unwrap();
    let reader = store.reader(id(1, 5)).unwrap();
    // What is sent at a time is bounded, whatever is asked for.
    let (chunk, done) = reader.read_chunk(0, usize::MAX).unwrap();
    assert_eq!((chunk.len(), done), (16 << 20, false));
    let (rest, done) = reader.read_chunk(16 << 20, usize::MAX).unwrap();
    assert_eq!((rest.len() as u64, done), (reader.size_bytes() - (16 << 20), true));
    assert_eq!(reader.read_chunk(reader.size_bytes(), 9).unwrap(), (Bytes::new(), true));
    assert_eq!(reader.read_chunk(u64::MAX, 9).unwrap(), (Bytes::new(), true));
    // And what is read at a time.
    disk.calls();
    reader.verify().unwrap();
    let largest = disk.calls_of("read").into_iter().map(|call| call.length).max();
    assert_eq!(largest, Some(BLOCK + 8));
}

#[test]
fn a_piece_that_ends_with_the_file_is_the_last_and_one_that_is_short_is_damage() {
    let (_, disk, mut store) = stored();
    write(&mut store, &base(1, 5), &[7; 1000]);
    let reader = store.reader(id(1, 5)).unwrap();
    let size = reader.size_bytes();
    let length = usize::try_from(size).unwrap();
    assert!(reader.read_chunk(0, length).unwrap().1);
    assert!(!reader.read_chunk(0, length - 1).unwrap().1);
    assert!(reader.read_chunk(size - 1, 1).unwrap().1);
    disk.cut_reads(file(5, 1), 0, 1);
    let error = reader.read_chunk(0, 100).unwrap_err();
    let WalError::Damaged { offset_bytes, damage, .. } = error else { panic!("{error}") };
    assert_eq!((offset_bytes, damage), (99, Damage::Truncated));
}

#[test]
fn a_body_is_handed_out_in_pieces_of_any_size_and_nothing_is_read_for_nothing() {
    let (_, disk, mut store) = stored();
    let body: Vec<u8> = (0..BLOCK + 100).map(|at| at.to_le_bytes()[0]).collect();
    write(&mut store, &base(1, 5), &body);
    let reader = store.reader(id(1, 5)).unwrap();
    disk.calls();
    assert_eq!(reader.body().read(&mut []).unwrap(), 0);
    assert_eq!(disk.calls_of("read"), []);
    for piece in [1, 999, BLOCK, BLOCK + 1, 1 << 20] {
        let (mut from, mut found) = (reader.body(), Vec::<u8>::new());
        let mut buffer = vec![0; piece];
        loop {
            let count = from.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            found.extend(&buffer[..count]);
        }
        assert_eq!(found, body, "pieces of {piece}");
    }
}

#[test]
fn a_snapshot_that_cannot_be_finished_stays_invisible_and_leaves_nothing() {
    for op in ["write", "sync"] {
        let (below, disk, mut store) = stored();
        let mut writer = store.create(base(1, 5)).unwrap();
        writer.write_all(&[7; 100]).unwrap();
        disk.refuse(op, in_dir("writing-1.tmp"), ErrorKind::Other);
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, WalError::Io { op: it, .. } if it == op), "{error}");
        assert_eq!(below.names(), Vec::<PathBuf>::new());
    }
    // Once it has its name, it is whole: a name that could not be synced is not taken away again.
    let (below, disk, mut store) = stored();
    let mut writer = store.create(base(1, 5)).unwrap();
    writer.write_all(&[7; 100]).unwrap();
    disk.refuse("sync_dir", DIR, ErrorKind::Other);
    writer.finish().unwrap_err();
    assert_eq!(below.names(), [file(5, 1)]);
    assert_eq!(disk.calls_of("remove"), []);
}

#[test]
fn two_snapshots_can_be_written_at_the_same_time() {
    let (_, _, mut store) = stored();
    let mut first = store.create(base(1, 5)).unwrap();
    let mut second = store.create(base(1, 6)).unwrap();
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    second.finish().unwrap();
    first.finish().unwrap();
    for (at, wanted) in [(id(1, 5), "first"), (id(1, 6), "second")] {
        let mut body = String::new();
        store.reader(at).unwrap().body().read_to_string(&mut body).unwrap();
        assert_eq!(body, wanted);
    }
}

#[test]
fn a_file_s_checksum_tells_it_from_others_and_the_end_of_the_file_has_it() {
    let of = |body: &[u8]| {
        let (_, _, mut store) = stored();
        write(&mut store, &base(1, 5), body);
        let reader = store.reader(id(1, 5)).unwrap();
        let (whole, _) = reader.read_chunk(0, 1 << 20).unwrap();
        let checksum = reader.checksum().unwrap();
        assert!(whole.windows(4).rev().take(32).any(|bytes| bytes == checksum.to_le_bytes()));
        checksum
    };
    assert_eq!(of(b"body"), of(b"body"));
    assert_ne!(of(b"body"), of(b"bodY"));
}
