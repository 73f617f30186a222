//! Snapshots that go on where they stopped: after a lost connection, a crash of the receiver and
//! another sender; and what is refused on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{Rng, base, id};
use quorate_core::SnapshotMeta;
use quorate_wal::{Parcel, Received, SnapshotStore, WalError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const DIR: &str = "/node/snapshots";
const CHUNK: u32 = 1000;
const PIECE: usize = 300;
const BODY: usize = 20_000;

fn store(disk: &FaultDisk) -> SnapshotStore {
    let mut store = SnapshotStore::open(disk.arc(), Path::new(DIR)).unwrap();
    store.set_chunk_bytes(CHUNK);
    store
}

fn body(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..BODY).map(|_| rng.next().to_le_bytes()[0]).collect()
}

/// A snapshot with this body, at a sender of its own.
fn parcel(meta: &SnapshotMeta, body: &[u8]) -> Parcel {
    let mut store = store(&FaultDisk::default());
    let mut writer = store.create(meta.clone()).unwrap();
    writer.write_all(body).unwrap();
    writer.finish().unwrap();
    store.pack(meta.last_included).unwrap().step(u64::MAX).unwrap().unwrap()
}

/// Gives pieces until the snapshot is there or so many were given; says how many bytes that were.
fn give(
    parcel: &Parcel,
    to: &mut SnapshotStore,
    count: usize,
) -> Result<(Received, u64), WalError> {
    let mut given = 0;
    let mut received = Received { next_offset: 0, complete: false };
    // What is not there by then never will be.
    for _ in 0..count.min(1000) {
        let (piece, done) = parcel.read_piece(received.next_offset, PIECE).unwrap();
        given += piece.len() as u64;
        received = to.receive(parcel.meta(), received.next_offset, &piece, done)?;
        if received.complete {
            break;
        }
    }
    Ok((received, given))
}

fn manifest_bytes(parcel: &Parcel) -> u64 {
    let mut size = 0;
    loop {
        let (piece, _) = parcel.read_piece(size, usize::MAX).unwrap();
        // No piece holds both of manifest and file.
        if size > 0 {
            return size;
        }
        size += piece.len() as u64;
    }
}

fn expect_whole(disk: &FaultDisk, body: &[u8]) {
    let mut found = Vec::new();
    let reader = store(disk).reader(id(2, 9)).unwrap();
    reader.body().read_to_end(&mut found).unwrap();
    assert!(found == body);
    assert_eq!(disk.names().len(), 1, "{:?}", disk.names());
}

#[test]
fn a_snapshot_goes_on_where_it_stopped_after_a_lost_connection_and_with_another_sender() {
    let (meta, body) = (base(2, 9), body(1));
    let disk = FaultDisk::default();
    let mut to = store(&disk);
    let (stopped, first) = give(&parcel(&meta, &body), &mut to, 30).unwrap();
    let other = parcel(&meta, &body);
    let (received, second) = give(&other, &mut to, usize::MAX).unwrap();
    assert!(received.complete);
    assert_eq!(first, stopped.next_offset);
    assert_eq!(first + second, other.size_bytes() + manifest_bytes(&other), "nothing twice");
    assert_eq!(to.resumed_bytes(), stopped.next_offset - manifest_bytes(&other));
    expect_whole(&disk, &body);
}

#[test]
fn a_receiver_that_was_killed_goes_on_behind_the_last_whole_chunk() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    let (stopped, _) = give(&parcel, &mut store(&disk), 40).unwrap();
    let disk = disk.process_crash();
    let mut to = store(&disk);
    let (received, given) = give(&parcel, &mut to, usize::MAX).unwrap();
    assert!(received.complete);
    let here = stopped.next_offset - manifest_bytes(&parcel);
    let whole = here - here % u64::from(CHUNK);
    assert!(whole > 5000);
    assert_eq!((to.resumed_bytes(), given), (whole, parcel.size_bytes() - whole));
    expect_whole(&disk, &body);
}

#[test]
fn a_power_cut_costs_a_bounded_part_of_what_has_arrived() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    let (stopped, _) = give(&parcel, &mut store(&disk), 60).unwrap();
    let disk = disk.power_loss(|_, _| false);
    let mut to = store(&disk);
    assert!(give(&parcel, &mut to, usize::MAX).unwrap().0.complete);
    let lost = stopped.next_offset - manifest_bytes(&parcel) - to.resumed_bytes();
    assert!(to.resumed_bytes() > 0 && lost <= 9 * u64::from(CHUNK), "{lost} bytes");
    expect_whole(&disk, &body);
}

#[test]
fn a_file_that_was_whole_but_had_no_name_yet_is_not_sent_again() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    let mut to = store(&disk);
    give(&parcel, &mut to, 60).unwrap();
    // The last piece is written, and the process killed at the sync after it.
    let mut at = disk.count();
    let killed = loop {
        at += 1;
        let fork = disk.fork();
        let mut to = store(&fork);
        fork.stop_at(at);
        give(&parcel, &mut to, usize::MAX).expect_err("it stops before it has its name");
        drop(to);
        let killed = fork.process_crash();
        let part = killed.names().into_iter().find(|name| name.ends_with("receiving.part"));
        let file_bytes = parcel.size_bytes() - manifest_bytes(&parcel);
        if part.is_some_and(|part| killed.bytes(&part).len() as u64 == file_bytes) {
            break killed;
        }
    };
    let mut to = store(&killed);
    let (received, given) = give(&parcel, &mut to, usize::MAX).unwrap();
    assert!(received.complete);
    assert_eq!(given, manifest_bytes(&parcel), "the manifest alone");
    expect_whole(&killed, &body);
}

#[test]
fn a_power_cut_at_any_operation_leaves_something_to_go_on_with_and_never_a_wrong_snapshot() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    give(&parcel, &mut store(&disk), usize::MAX).unwrap();
    let mut resumed = 0;
    for stop_at in 0..disk.count() {
        for seed in 0..3 {
            let disk = FaultDisk::default();
            disk.stop_at(stop_at);
            if let Ok(mut to) = SnapshotStore::open(disk.arc(), Path::new(DIR)) {
                let _ = give(&parcel, &mut to, usize::MAX);
            }
            let disk = disk.random_power_loss(&mut Rng::new(seed));
            let mut to = store(&disk);
            let listed = to.list().unwrap();
            assert!(listed.is_empty() || to.reader(id(2, 9)).unwrap().verify().is_ok());
            assert!(give(&parcel, &mut to, usize::MAX).unwrap().0.complete, "{stop_at}");
            resumed += to.resumed_bytes();
            drop(to);
            let mut found = Vec::new();
            store(&disk).reader(id(2, 9)).unwrap().body().read_to_end(&mut found).unwrap();
            assert!(found == body, "{stop_at}");
        }
    }
    assert!(resumed > 0);
}

#[test]
fn a_chunk_that_is_not_what_its_hash_says_is_refused_at_once_and_it_alone_is_fetched_again() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    let mut to = store(&disk);
    let damaged = manifest_bytes(&parcel) + 4_500;
    let (mut offset, mut given) = (0, 0);
    let mut is_sound = false;
    loop {
        let (piece, done) = parcel.read_piece(offset, PIECE).unwrap();
        given += piece.len() as u64;
        let mut bytes = piece.to_vec();
        let is_here = (offset..offset + piece.len() as u64).contains(&damaged);
        if is_here && !is_sound {
            bytes[usize::try_from(damaged - offset).unwrap()] ^= 1;
            is_sound = true;
        }
        let received = to.receive(&meta, offset, &bytes.into(), done).unwrap();
        if received.complete {
            break;
        }
        offset = received.next_offset;
    }
    // The manifest once more, and what was sent of that chunk.
    let twice = given - parcel.size_bytes() - manifest_bytes(&parcel);
    assert!(twice > 0 && twice <= u64::from(CHUNK) + PIECE as u64, "{twice} bytes twice");
    expect_whole(&disk, &body);
}

#[test]
fn another_content_for_the_same_place_in_the_log_begins_anew() {
    let meta = base(2, 9);
    let (first, second) = (parcel(&meta, &body(1)), parcel(&meta, &body(2)));
    let disk = FaultDisk::default();
    let mut to = store(&disk);
    give(&first, &mut to, 40).unwrap();
    assert!(give(&second, &mut to, usize::MAX).unwrap().0.complete);
    assert_eq!(to.resumed_bytes(), 0);
    expect_whole(&disk, &body(2));
}

#[test]
fn whatever_flips_in_what_has_arrived_is_fetched_again_and_never_believed() {
    let (meta, body) = (base(2, 9), body(1));
    let parcel = parcel(&meta, &body);
    let disk = FaultDisk::default();
    give(&parcel, &mut store(&disk), 60).unwrap();
    let mut rng = Rng::new(3);
    let names: Vec<PathBuf> = disk.names();
    assert_eq!(names.len(), 2);
    for path in &names {
        let size = disk.bytes(path).len();
        for at in (0..60).chain((60..size).step_by(997)) {
            let (flipped, cut) = (disk.fork(), disk.fork());
            flipped.edit(path, |bytes| bytes[at] ^= 1 << rng.below(8));
            cut.edit(path, |bytes| bytes.truncate(at));
            for disk in [flipped, cut] {
                let mut to = store(&disk);
                let (received, given) = give(&parcel, &mut to, usize::MAX).unwrap();
                assert!(received.complete && given <= parcel.size_bytes(), "{at}: {given}");
                drop(to);
                expect_whole(&disk, &body);
            }
        }
    }
}

#[test]
fn what_nobody_will_go_on_with_is_removed_with_the_snapshots_before_it() {
    let disk = FaultDisk::default();
    let meta = base(2, 9);
    give(&parcel(&meta, &body(1)), &mut store(&disk), 40).unwrap();
    let mut to = store(&disk);
    to.remove_older_than(id(2, 9)).unwrap();
    assert_eq!(disk.names().len(), 2, "it may still be of use");
    to.remove_older_than(id(2, 10)).unwrap();
    assert_eq!(disk.names(), Vec::<PathBuf>::new());
}

#[test]
fn a_snapshot_that_has_gone_bad_is_not_packed() {
    let disk = FaultDisk::default();
    let mut from = store(&disk);
    let mut writer = from.create(base(2, 9)).unwrap();
    writer.write_all(&body(1)).unwrap();
    writer.finish().unwrap();
    let path = disk.names().pop().unwrap();
    for at in [0, 30, 10_000, disk.bytes(&path).len() - 1] {
        let disk = disk.fork();
        disk.edit(&path, |bytes| bytes[at] ^= 1);
        let from = store(&disk);
        let packed = from.pack(id(2, 9)).and_then(|mut packing| packing.step(u64::MAX));
        assert!(matches!(packed, Err(WalError::Damaged { .. })), "flip at {at}");
    }
    // It is read a stretch at a time, whatever its size.
    let mut packing = from.pack(id(2, 9)).unwrap();
    let mut count = 1;
    while packing.step(4000).unwrap().is_none() {
        count += 1;
    }
    assert!(count >= 5, "{count} stretches");
}
