//! Snapshot files: visible only when whole and durable, verified when read and when received.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{Rng, base, id};
use quorate_core::SnapshotMeta;
use quorate_wal::{Disk, Parcel, RealDisk, Received, SnapshotReader, SnapshotStore, WalError};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/node/snapshots";

fn store(disk: &FaultDisk) -> SnapshotStore {
    SnapshotStore::open(disk.arc(), Path::new(DIR)).unwrap()
}

fn body(size: usize) -> Vec<u8> {
    let mut rng = Rng::new(size as u64);
    (0..size).map(|_| rng.next().to_le_bytes()[0]).collect()
}

fn write(store: &mut SnapshotStore, meta: &SnapshotMeta, body: &[u8]) {
    let mut writer = store.create(meta.clone()).unwrap();
    writer.write_all(body).unwrap();
    assert_eq!(writer.finish().unwrap(), *meta);
}

fn read(reader: &SnapshotReader) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.body().read_to_end(&mut body)?;
    Ok(body)
}

fn parcel(store: &SnapshotStore, meta: &SnapshotMeta) -> Parcel {
    store.pack(meta.last_included).unwrap().step(u64::MAX).unwrap().unwrap()
}

/// Sends a snapshot piece by piece, until it is there or refused; `change` may damage a piece on the
/// way.
fn send(
    from: &Parcel,
    to: &mut SnapshotStore,
    piece_bytes: usize,
    mut change: impl FnMut(u64, &mut Vec<u8>),
) -> Received {
    let mut offset = 0;
    loop {
        let (piece, done) = from.read_piece(offset, piece_bytes).unwrap();
        let mut bytes = piece.to_vec();
        change(offset, &mut bytes);
        let received = to.receive(from.meta(), offset, &bytes.into(), done).unwrap();
        if done || received.complete || received.next_offset == 0 {
            return received;
        }
        assert!(received.next_offset >= offset + piece.len() as u64);
        offset = received.next_offset;
    }
}

#[test]
fn bodies_of_every_size_around_a_block_come_back() {
    let disk = FaultDisk::default();
    let mut store = store(&disk);
    let block = 64 << 10;
    for (at, size) in
        [0, 1, block - 1, block, block + 1, 3 * block, 3 * block + 7].into_iter().enumerate()
    {
        let meta = base(1, at as u64 + 1);
        write(&mut store, &meta, &body(size));
        let reader = store.reader(meta.last_included).unwrap();
        assert_eq!(*reader.meta(), meta);
        assert_eq!(read(&reader).unwrap(), body(size));
        assert_eq!(store.list().unwrap()[0], meta);
    }
    store.remove_older_than(id(1, 6)).unwrap();
    assert_eq!(store.list().unwrap(), [base(1, 7), base(1, 6)]);
    assert!(matches!(store.reader(id(1, 5)), Err(WalError::NoSnapshot { .. })));
}

#[test]
fn a_snapshot_is_visible_whole_or_not_at_all_after_power_loss_at_every_operation() {
    let history = |disk: &FaultDisk| -> Result<(), WalError> {
        let mut store = SnapshotStore::open(disk.arc(), Path::new(DIR))?;
        let mut writer = store.create(base(1, 5))?;
        let written = writer.write_all(&body(150_000));
        written.map_err(|_| WalError::NoSnapshot { path: DIR.into(), last_included: id(1, 5) })?;
        writer.finish()?;
        Ok(())
    };
    let disk = FaultDisk::default();
    history(&disk).unwrap();
    for stop_at in 0..=disk.count() {
        for seed in 0..4 {
            let disk = FaultDisk::default();
            disk.stop_at(stop_at);
            let is_finished = history(&disk).is_ok();
            let disk = disk.random_power_loss(&mut Rng::new(seed));
            let store = store(&disk);
            let listed = store.list().unwrap();
            assert!(!listed.is_empty() || !is_finished, "a finished snapshot is lost");
            if !listed.is_empty() {
                let reader = store.reader(id(1, 5)).unwrap();
                assert_eq!(read(&reader).unwrap(), body(150_000));
            }
        }
    }
}

#[test]
fn an_unfinished_snapshot_leaves_nothing() {
    let disk = FaultDisk::default();
    let mut store = store(&disk);
    let mut writer = store.create(base(1, 5)).unwrap();
    writer.write_all(&body(100_000)).unwrap();
    drop(writer);
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(disk.names(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn every_flip_and_every_cut_of_a_file_is_an_error_and_never_a_shorter_body() {
    let disk = FaultDisk::default();
    let mut store = store(&disk);
    let meta = base(1, 5);
    let wanted = body(70_000);
    write(&mut store, &meta, &wanted);
    let path = disk.names().pop().unwrap();
    let size = disk.bytes(&path).len();
    let mut rng = Rng::new(1);
    let places =
        (0..300).chain((300..size).step_by(501)).chain(65_600..65_700).chain(size - 40..size);
    for at in places {
        let damaged = disk.fork();
        damaged.edit(&path, |bytes| bytes[at] ^= 1 << rng.below(8));
        expect_refusal(&damaged, &format!("flip at {at}"));
        let cut = disk.fork();
        cut.edit(&path, |bytes| bytes.truncate(at));
        expect_refusal(&cut, &format!("cut at {at}"));
        assert_eq!(self::store(&cut).list().unwrap(), [], "a cut file is not listed");
    }
    let longer = disk.fork();
    longer.edit(&path, |bytes| bytes.push(0));
    expect_refusal(&longer, "a byte more");
}

fn expect_refusal(disk: &FaultDisk, context: &str) {
    match store(disk).reader(id(1, 5)) {
        Ok(reader) => assert!(read(&reader).is_err() && reader.verify().is_err(), "{context}"),
        Err(error) => assert!(matches!(error, WalError::Damaged { .. }), "{context}: {error}"),
    }
}

#[test]
fn a_received_snapshot_is_the_one_that_was_sent() {
    let (source, target) = (FaultDisk::default(), FaultDisk::default());
    let meta = base(2, 9);
    let mut from = store(&source);
    write(&mut from, &meta, &body(200_000));
    let parcel = parcel(&from, &meta);
    for piece_bytes in [999, 65_536, 1 << 20] {
        let target = target.fork();
        let mut to = store(&target);
        let received = send(&parcel, &mut to, piece_bytes, |_, _| {});
        assert_eq!(received, Received { next_offset: parcel.size_bytes(), complete: true });
        // It is durable, and a repeated piece changes nothing.
        let target = target.power_loss(|_, _| false);
        let mut to = store(&target);
        assert_eq!(read(&to.reader(meta.last_included).unwrap()).unwrap(), body(200_000));
        let (piece, _) = parcel.read_piece(0, 10).unwrap();
        assert!(to.receive(&meta, 0, &piece, false).unwrap().complete);
    }
}

#[test]
fn a_wrong_offset_stores_nothing_and_answers_the_wanted_one() {
    let (source, target) = (FaultDisk::default(), FaultDisk::default());
    let meta = base(2, 9);
    let mut from = store(&source);
    write(&mut from, &meta, &body(5000));
    let parcel = parcel(&from, &meta);
    let mut to = store(&target);
    let manifest_bytes =
        parcel.size_bytes() - from.reader(meta.last_included).unwrap().size_bytes();
    let piece = |offset| parcel.read_piece(offset, 1000).unwrap().0;
    let mut give = |meta: &SnapshotMeta, offset| {
        let received = to.receive(meta, offset, &piece(offset), false).unwrap();
        assert!(!received.complete);
        received.next_offset
    };
    let (first, second, third) = (manifest_bytes, manifest_bytes + 1000, manifest_bytes + 2000);
    assert_eq!(give(&meta, first), 0, "none begun");
    assert_eq!(give(&meta, 0), first);
    assert_eq!(give(&meta, second), first, "a gap");
    assert_eq!(give(&meta, first), second);
    assert_eq!(give(&meta, third), second, "a gap");
    assert_eq!(give(&meta, second), third);
    assert_eq!(give(&meta, second), third, "a repeat");
    let other = base(3, 12);
    assert_eq!(give(&other, third), 0, "another one");
    assert_eq!(give(&meta, 0), third, "what is here is here");
    assert!(send(&parcel, &mut to, 1000, |_, _| {}).complete);
}

#[test]
fn a_snapshot_damaged_on_the_way_is_discarded_and_wanted_again() {
    let (source, target) = (FaultDisk::default(), FaultDisk::default());
    let meta = base(2, 9);
    let mut from = store(&source);
    write(&mut from, &meta, &body(90_000));
    let parcel = parcel(&from, &meta);
    let mut to = store(&target);
    for damaged_piece in 0..4 {
        let mut number = 0;
        let received = send(&parcel, &mut to, 30_000, |_, bytes| {
            if number == damaged_piece {
                bytes[20] ^= 4;
            }
            number += 1;
        });
        assert_eq!(received, Received { next_offset: 0, complete: false });
        assert_eq!(to.list().unwrap(), []);
    }
    assert!(send(&parcel, &mut to, 30_000, |_, _| {}).complete);
}

#[test]
fn pieces_of_two_files_never_make_one_snapshot() {
    // Two leaders can have different files for the same snapshot.
    let meta = base(2, 9);
    let (mut first, mut second) = (store(&FaultDisk::default()), store(&FaultDisk::default()));
    write(&mut first, &meta, &body(200_000));
    write(&mut second, &meta, &body(200_000).into_iter().rev().collect::<Vec<_>>());
    let second = parcel(&second, &meta);
    let mut to = store(&FaultDisk::default());
    let first = parcel(&first, &meta);
    let received = send(&first, &mut to, 50_000, |offset, bytes| {
        if offset >= 100_000 {
            *bytes = second.read_piece(offset, 50_000).unwrap().0.to_vec();
        }
    });
    assert_eq!(received, Received { next_offset: 0, complete: false });
}

#[test]
fn a_damaged_snapshot_at_the_receiver_is_replaced() {
    let (source, target) = (FaultDisk::default(), FaultDisk::default());
    let meta = base(2, 9);
    let mut from = store(&source);
    write(&mut from, &meta, &body(90_000));
    write(&mut store(&target), &meta, &body(90_000));
    let path = target.names().pop().unwrap();
    target.edit(&path, |bytes| bytes[50_000] ^= 1);
    let parcel = parcel(&from, &meta);
    let mut to = store(&target);
    assert!(send(&parcel, &mut to, 30_000, |_, _| {}).complete);
    assert_eq!(read(&to.reader(meta.last_included).unwrap()).unwrap(), body(90_000));
}

#[test]
fn a_snapshot_that_is_seen_at_a_start_is_durable_from_then_on() {
    let disk = FaultDisk::default();
    let mut first = store(&disk);
    let meta = base(1, 5);
    let count = disk.count();
    write(&mut first, &meta, &body(100));
    let operation_count = disk.count() - count;
    for stopped in 0..operation_count {
        let disk = FaultDisk::default();
        let mut first = store(&disk);
        disk.stop_at(disk.count() + stopped);
        let mut writer = first.create(meta.clone());
        if let Ok(writer) = &mut writer {
            let _ = writer.write_all(&body(100));
        }
        let _ = writer.map(quorate_wal::SnapshotWriter::finish);
        drop(first);
        // The process was killed; the machine goes on, and loses its power later.
        let disk = disk.process_crash();
        let seen = store(&disk).list().unwrap();
        let disk = disk.power_loss(|_, _| false);
        assert_eq!(store(&disk).list().unwrap(), seen, "stopped at operation {stopped}");
    }
}

#[test]
fn a_snapshot_that_arrives_leaves_older_ones_alone() {
    let (here, there) = (FaultDisk::default(), FaultDisk::default());
    let (mut from, mut to) = (store(&there), store(&here));
    write(&mut to, &base(1, 5), &body(50));
    write(&mut from, &base(2, 9), &body(500));
    let newer = parcel(&from, &base(2, 9));
    assert!(send(&newer, &mut to, 64, |_, _| {}).complete);
    assert_eq!(to.list().unwrap(), [base(2, 9), base(1, 5)], "the log may still need it");
}

#[test]
fn a_snapshot_leaves_room_for_others_or_is_not_written() {
    let (disk, sender_disk) = (FaultDisk::default(), FaultDisk::default());
    let mut from = store(&sender_disk);
    write(&mut from, &base(2, 9), &body(300));
    let parcel = parcel(&from, &base(2, 9));
    let mut store = store(&disk);
    store.keep_free(10_000);
    let is_full = |error: &WalError| matches!(error, WalError::DiskFull { .. });
    let (piece, done) = parcel.read_piece(0, 64).unwrap();
    for (room, is_refused) in [(9_999, true), (10_000, false), (1 << 20, false)] {
        disk.leave_room(Some(room));
        let created = store.create(base(1, 5));
        assert_eq!(created.as_ref().is_err_and(is_full), is_refused, "{room}");
        assert_eq!(created.is_err(), is_refused, "{room}");
        drop(created);
        let received = store.receive(parcel.meta(), 0, &piece, done);
        assert_eq!(received.as_ref().is_err_and(is_full), is_refused, "{room}");
        assert_eq!(received.is_err(), is_refused, "{room}");
    }
    // Nothing is kept free: whatever fits may be written.
    store.keep_free(0);
    disk.leave_room(Some(9_999));
    write(&mut store, &base(1, 5), &body(100));
}

#[test]
fn a_folder_that_is_missing_has_no_snapshots_and_one_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    assert!(SnapshotStore::look(real.clone(), &folder.path().join("none")).unwrap().is_none());
    assert!(SnapshotStore::look(real, folder.path()).unwrap().is_some());
    let disk = FaultDisk::default();
    disk.forbid(Path::new(DIR));
    let looked = SnapshotStore::look(disk.arc(), Path::new(DIR)).map(|_| ());
    assert!(matches!(looked, Err(WalError::Io { .. })), "{looked:?}");
}
