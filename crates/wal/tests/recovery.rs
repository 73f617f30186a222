//! What a start concludes from files that do not fit each other: each misfit is told by its own
//! name, at its place, with the entries that are lost; and a survivor of a torn write is found
//! wherever it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::{
    base, command, commands, configuration, create, dir, id, index, open, read_all, segment,
};
use quorate_core::{Entry, LogIndex, Payload, Persist, SnapshotMeta};
use quorate_wal::{Damage, Recovered, Wal, WalError};
use std::path::PathBuf;

/// A new log, closed, and a twin that shares its past.
fn twins() -> (FaultDisk, FaultDisk) {
    let disk = FaultDisk::default();
    drop(create(&disk.arc(), dir()).unwrap());
    let twin = disk.fork();
    (disk, twin)
}

fn opened(disk: &FaultDisk) -> (Wal, Recovered) {
    open(&disk.arc(), dir()).unwrap()
}

fn take_over(disk: &FaultDisk, from: &FaultDisk, names: &[PathBuf]) {
    for name in names {
        disk.set_bytes(name, from.bytes(name));
    }
}

fn metas() -> [PathBuf; 2] {
    ["meta-a", "meta-b"].map(|name| dir().join(name))
}

/// The file, the place and the kind of damage that a start reports.
fn damage(disk: &FaultDisk) -> (PathBuf, u64, Damage) {
    match open(&disk.arc(), dir()) {
        Err(WalError::Damaged { path, offset_bytes, damage, .. }) => (path, offset_bytes, damage),
        Err(error) => panic!("{error}"),
        Ok((_, recovered)) => panic!("opened with {}", recovered.last_log),
    }
}

/// Entries 1 to 6 fill the first segment of 5 KiB; 7 goes into the second.
fn fill(wal: &mut Wal, term: u64) {
    wal.persist(&[commands(term, 1..=6)]).unwrap();
    wal.persist(&[commands(term, 7..=8)]).unwrap();
}

#[test]
fn a_segment_of_a_later_start_than_the_hard_state_knows_is_refused() {
    let (ours, twin) = twins();
    fill(&mut opened(&ours).0, 1);
    drop(opened(&twin));
    fill(&mut opened(&twin).0, 1);
    take_over(&ours, &twin, &[segment(2)]);
    assert_eq!(damage(&ours), (segment(2), 0, Damage::Unannounced));
}

#[test]
fn a_segment_of_an_earlier_start_than_the_records_before_it_is_refused() {
    let (ours, twin) = twins();
    fill(&mut opened(&twin).0, 1);
    drop(opened(&ours));
    fill(&mut opened(&ours).0, 1);
    take_over(&ours, &twin, &[segment(2)]);
    assert_eq!(damage(&ours), (segment(2), 0, Damage::Unannounced));
}

#[test]
fn a_segment_that_follows_on_another_log_is_refused() {
    let (ours, twin) = twins();
    fill(&mut opened(&ours).0, 1);
    fill(&mut opened(&twin).0, 2);
    take_over(&ours, &twin, &[segment(2)]);
    let gap = Damage::Gap { expected: id(2, 6), found: id(1, 6) };
    assert_eq!(damage(&ours), (segment(2), 0, gap));
}

#[test]
fn records_of_a_later_start_than_the_hard_state_knows_are_refused() {
    let (ours, twin) = twins();
    let (mut wal, _) = opened(&twin);
    wal.persist(&[commands(1, 1..=1)]).unwrap();
    drop(wal);
    take_over(&ours, &twin, &metas());
    let (mut wal, _) = opened(&twin);
    wal.persist(&[commands(1, 2..=2)]).unwrap();
    drop(wal);
    take_over(&ours, &twin, &[segment(1)]);
    assert_eq!(damage(&ours), (segment(1), 4096 + 144, Damage::Unannounced));
}

#[test]
fn a_base_before_or_beyond_what_the_segments_hold_is_refused() {
    let reset = |disk: &FaultDisk, at: u64| {
        let (mut wal, _) = opened(disk);
        let reset = Persist { reset: Some(base(6, at)), ..commands(6, at + 1..=at + 3) };
        wal.persist(&[reset]).unwrap();
    };
    for (at, theirs, found) in [(90, 80, id(6, 90)), (80, 90, id(6, 83))] {
        let (ours, twin) = twins();
        reset(&ours, at);
        reset(&twin, theirs);
        take_over(&ours, &twin, &metas());
        let gap = Damage::Gap { expected: id(6, theirs), found };
        assert_eq!(damage(&ours), (dir().to_owned(), 0, gap));
    }
}

fn lost(disk: &FaultDisk) -> Option<(LogIndex, Option<LogIndex>)> {
    match open(&disk.arc(), dir()) {
        Err(WalError::Damaged { indexes, .. }) => indexes,
        Err(error) => panic!("{error}"),
        Ok((_, recovered)) => panic!("opened with {}", recovered.last_log),
    }
}

#[test]
fn the_entries_that_are_lost_are_named_up_to_the_first_that_is_known_to_be_later() {
    let (disk, _) = twins();
    let (mut wal, _) = opened(&disk);
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    wal.persist(&[commands(1, 4..=5)]).unwrap();
    drop(wal);
    for (record, first) in [(0, 1), (1, 2), (2, 3)] {
        let damaged = disk.fork();
        damaged.edit(&segment(1), |bytes| bytes[4096 + record * 144 + 50] ^= 1);
        assert_eq!(lost(&damaged), Some((index(first), Some(index(3)))));
    }
}

#[test]
fn if_a_truncation_is_lost_no_last_entry_is_named() {
    let cut = |after| Persist { truncate_after: Some(index(after)), ..Persist::default() };
    for after in [5, 8] {
        let (disk, _) = twins();
        let (mut wal, _) = opened(&disk);
        let entries = (1..=9).map(|at| Entry { log_id: id(1, at), payload: Payload::Noop });
        wal.persist(&[Persist { entries: entries.collect(), ..Persist::default() }]).unwrap();
        let noop = |at| Entry { log_id: id(2, at), payload: Payload::Noop };
        let replaced = Persist { entries: vec![noop(after + 1)], ..cut(after) };
        wal.persist(&[replaced]).unwrap();
        wal.persist(&[Persist { entries: vec![noop(after + 2)], ..Persist::default() }]).unwrap();
        drop(wal);
        disk.edit(&segment(1), |bytes| bytes[4096 + 9 * 40 + 20] ^= 1);
        assert_eq!(lost(&disk), Some((index(10), None)), "cut after {after}");
    }
}

#[test]
fn configurations_go_with_the_entries_that_held_them_and_not_one_entry_sooner() {
    let changed =
        |at| Entry { log_id: id(1, at), payload: Payload::Configuration(configuration(at)) };
    let (disk, _) = twins();
    let (mut wal, _) = opened(&disk);
    let entries = vec![changed(1), changed(2), command(1, 3, 9), changed(4), changed(5)];
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    wal.persist(&[Persist { truncate_after: Some(index(4)), ..Persist::default() }]).unwrap();
    drop(wal);
    let held = |at| (index(at), configuration(at));
    let (mut wal, recovered) = opened(&disk);
    assert_eq!(recovered.configurations, [held(1), held(2), held(4)]);
    wal.release_prefix(&base(1, 2)).unwrap();
    drop(wal);
    let (wal, recovered) = opened(&disk);
    assert_eq!(recovered.configurations, [held(4)]);
    let SnapshotMeta { last_included, .. } = wal.base();
    assert_eq!((*last_included, wal.last_log()), (id(1, 2), id(1, 4)));
}

#[test]
fn a_survivor_of_a_torn_write_is_found_wherever_it_stands() {
    let disk = FaultDisk::default();
    let options = quorate_wal::WalOptions::default();
    let identity = common::identity();
    drop(Wal::create(disk.arc(), dir(), options, identity, common::initial()).unwrap());
    for size in (0..9000).step_by(104).chain((3900..4200).step_by(8)) {
        let disk = disk.fork();
        let (mut wal, _) = opened(&disk);
        let entries = vec![command(1, 1, size), command(1, 2, 10)];
        wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
        drop(wal);
        let first = 4096..4096 + 40 + size.next_multiple_of(8);
        disk.edit(&segment(1), |bytes| bytes[first].fill(0));
        // It was never acknowledged: nothing says that it was durable.
        disk.delete(&dir().join("mark"));
        let (_, recovered) = opened(&disk);
        assert_eq!(recovered.last_log, id(0, 0), "{size}");
        assert_eq!(recovered.torn_tail.map(|torn| torn.offset_bytes), Some(4096), "{size}");
    }
}

#[test]
fn a_torn_header_at_the_very_end_of_the_file_is_torn_and_zeros_there_are_not() {
    for length in 1..40 {
        for fill in [0, 7] {
            let (disk, _) = twins();
            let (mut wal, _) = opened(&disk);
            wal.persist(&[commands(1, 1..=2)]).unwrap();
            drop(wal);
            disk.edit(&segment(1), |bytes| {
                bytes.truncate(4096 + 2 * 144);
                bytes.extend(std::iter::repeat_n(fill, length));
            });
            let (mut wal, recovered) = opened(&disk);
            assert_eq!(recovered.torn_tail.is_some(), fill != 0, "{length} bytes of {fill}");
            wal.persist(&[commands(1, 3..=3)]).unwrap();
            assert_eq!(read_all(&mut wal).unwrap().len(), 3);
        }
    }
}
