//! The mark: what it proves after the death of a process, what is left of that after a power cut,
//! and that nothing but proof is lost with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::model::{Model, assert_allowed};
use common::watched_disk::WatchedDisk;
use common::{Rng, commands, create, dir, initial, open, read_all, segment};
use quorate_core::{HardState, NodeId, Persist, Term};
use quorate_wal::{Damage, Wal, WalError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

fn mark() -> PathBuf {
    dir().join("mark")
}

fn metas() -> [PathBuf; 2] {
    ["meta-a", "meta-b"].map(|name| dir().join(name))
}

fn vote(term: u64) -> Persist {
    let hard_state = Some(HardState { current_term: Term::new(term), voted_for: None });
    Persist { hard_state, ..Persist::default() }
}

/// A log of two segments, killed right behind its last batch: two entries of 144 bytes each.
fn killed() -> (FaultDisk, Model) {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let mut model = Model::new(initial());
    for batch in [commands(1, 1..=6), commands(1, 7..=8), commands(2, 9..=10), commands(2, 11..=12)]
    {
        let batch = [batch];
        wal.persist(&batch).unwrap();
        model = model.after(&batch);
    }
    drop(wal);
    assert!(disk.names().contains(&segment(2)) && !disk.names().contains(&segment(3)));
    (disk.process_crash(), model)
}

/// Where the last batch of that log begins.
const LAST_BATCH: usize = 4096 + 4 * 144;

fn start(disk: &FaultDisk) -> Result<Model, WalError> {
    let (mut wal, recovered) = open(&disk.arc(), dir())?;
    let model = Model::of(&recovered);
    assert_eq!(read_all(&mut wal)?, model.entries);
    Ok(model)
}

fn is_damage(started: &Result<Model, WalError>) -> bool {
    matches!(started, Err(WalError::Damaged { .. }))
}

#[test]
fn after_a_kill_no_flipped_bit_passes_for_a_torn_write() {
    let (disk, model) = killed();
    let mut rng = Rng::new(1);
    for name in [segment(1), segment(2), mark()] {
        // Of the mark's blocks only the first sector each is ever looked at.
        let is_read = |at: &usize| name != mark() || at % 4096 < 512;
        for at in (0..disk.bytes(&name).len()).filter(is_read) {
            let damaged = disk.fork();
            damaged.edit(&name, |bytes| bytes[at] ^= 1 << rng.below(8));
            match start(&damaged) {
                Ok(found) => assert_eq!(found, model.restarted(), "{} byte {at}", name.display()),
                Err(WalError::Damaged { .. }) => {
                    assert_ne!(name, mark(), "it is proof and nothing else: byte {at}");
                }
                Err(error) => panic!("{} byte {at}: {error}", name.display()),
            }
        }
    }
}

#[test]
fn after_a_kill_a_last_batch_of_zeros_or_cut_off_or_unreadable_is_damage_and_how_far_it_reaches_is_not_sure()
 {
    let (disk, _) = killed();
    let zeroed = disk.fork();
    zeroed.edit(&segment(2), |bytes| bytes[LAST_BATCH..].fill(0));
    let cut = disk.fork();
    cut.edit(&segment(2), |bytes| bytes.truncate(LAST_BATCH));
    let unreadable = disk.fork();
    unreadable.break_sector(&segment(2), LAST_BATCH + 144);
    // What is bad may reach beyond where the mark says that the log ended.
    for (damaged, first) in [(zeroed, 11), (cut, 11), (unreadable, 10)] {
        match start(&damaged) {
            Err(WalError::Damaged { indexes: Some((from, Some(to))), anchor, .. }) => {
                assert_eq!((from, to), (common::index(first), common::index(12)));
                assert_eq!(anchor, None);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_mark_that_ends_where_the_log_stops_names_no_end_of_what_is_lost_behind_it() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    let before = disk.bytes(&mark());
    wal.persist(&[commands(1, 4..=5)]).unwrap();
    // The hard state knows how far the log was durable, and no entry.
    wal.persist(&[vote(3)]).unwrap();
    drop(wal);
    let disk = disk.process_crash();
    disk.edit(&mark(), |bytes| *bytes = before);
    disk.edit(&segment(1), |bytes| bytes[4096 + 3 * 144..].fill(0));
    match start(&disk) {
        Err(WalError::Damaged { indexes: Some((from, None)), anchor: None, .. }) => {
            assert_eq!(from, common::index(4));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_marked_when_idle_is_known_after_a_power_cut_too() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    let unmarked = disk.power_loss(|_, _| false);
    wal.mark_synced().unwrap();
    drop(wal);
    let marked = disk.power_loss(|_, _| false);
    for (disk, is_known) in [(unmarked, false), (marked, true)] {
        disk.edit(&segment(1), |bytes| bytes[4096 + 50] ^= 1);
        assert_eq!(is_damage(&start(&disk)), is_known);
    }
}

#[test]
fn a_mark_that_lags_is_no_damage() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let mut model = Model::new(initial());
    let mut marks = vec![disk.bytes(&mark())];
    for at in 1..=20 {
        let batch = [commands(1, at..=at), vote(at)];
        wal.persist(&batch).unwrap();
        model = model.after(&batch);
        marks.push(disk.bytes(&mark()));
        let cut = disk.power_loss(|path, _| path != mark());
        assert_eq!(start(&cut).unwrap(), model.restarted(), "a power cut took the last of it");
    }
    drop(wal);
    for old in marks {
        let lagging = disk.fork();
        lagging.set_bytes(&mark(), old);
        assert_eq!(start(&lagging).unwrap(), model.restarted());
    }
}

#[test]
fn a_lost_or_foreign_mark_weakens_and_never_refuses() {
    let (disk, model) = killed();
    let mut foreign_identity = common::identity();
    foreign_identity.storage_id += 1;
    let foreign = FaultDisk::default();
    let (mut wal, _) =
        Wal::create(foreign.arc(), dir(), common::SMALL, foreign_identity, initial()).unwrap();
    wal.persist(&[commands(9, 1..=30)]).unwrap();
    wal.persist(&[commands(9, 31..=60)]).unwrap();
    drop(wal);
    let whole = disk.bytes(&mark());
    let mut slots_gone = whole.clone();
    slots_gone[4096..].fill(7);
    let mut header_gone = whole.clone();
    header_gone[30] ^= 1;
    let mut rng = Rng::new(4);
    let garbage: Vec<u8> = (0..12288).map(|_| rng.next().to_le_bytes()[0]).collect();
    let replaced = [
        foreign.bytes(&mark()),
        slots_gone,
        header_gone,
        garbage,
        Vec::new(),
        whole[..15].to_vec(),
        whole[..600].to_vec(),
    ];
    for bytes in replaced.into_iter().map(Some).chain([None]) {
        let weak = disk.fork();
        match bytes {
            Some(bytes) => weak.set_bytes(&mark(), bytes),
            None => weak.delete(&mark()),
        }
        let (mut wal, recovered) = open(&weak.arc(), dir()).unwrap();
        assert!(recovered.is_mark_lost);
        assert_eq!(Model::of(&recovered), model.restarted());
        // There is one again, and it is worth as much as the lost one was.
        wal.persist(&[commands(2, 13..=13)]).unwrap();
        drop(wal);
        let end = LAST_BATCH + 2 * 144;
        weak.edit(&segment(2), |bytes| bytes[end + 50] ^= 1);
        assert!(is_damage(&start(&weak)));
    }
    let (_, recovered) = open(&disk.arc(), dir()).unwrap();
    assert!(!recovered.is_mark_lost);
}

#[test]
fn a_mark_with_one_slot_is_one() {
    let (disk, model) = killed();
    for slot in [4096, 8192] {
        let halved = disk.fork();
        halved.edit(&mark(), |bytes| bytes[slot..slot + 64].fill(0));
        let (_, recovered) = open(&halved.arc(), dir()).unwrap();
        assert!(!recovered.is_mark_lost);
        assert_eq!(Model::of(&recovered), model.restarted());
    }
}

#[test]
fn a_mark_that_cannot_be_read_is_not_a_missing_one() {
    let (below, model) = killed();
    for op in ["open", "read"] {
        let disk = WatchedDisk::new(below.arc());
        disk.refuse(op, mark(), ErrorKind::Other);
        let error = open(&disk.arc(), dir()).err().unwrap();
        assert!(matches!(error, WalError::Io { op: it, .. } if it == op), "{error}");
    }
    assert_eq!(start(&below).unwrap(), model.restarted());
}

/// Lets a log go on; returns both metas from before that.
type History = fn(&FaultDisk) -> [Vec<u8>; 2];

#[test]
fn two_metas_from_before_a_segment_or_a_start_or_a_vote_are_refused() {
    // In each of them the segment with the old end is whole, and nothing but the mark is newer.
    let segment_later = |disk: &FaultDisk| {
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        let copies = metas().map(|path| disk.bytes(&path));
        wal.persist(&[commands(1, 2..=6)]).unwrap();
        wal.persist(&[commands(1, 7..=8)]).unwrap();
        assert!(disk.names().contains(&segment(2)));
        drop(wal);
        disk.delete(&segment(2));
        copies
    };
    let start_later = |disk: &FaultDisk| {
        drop(open(&disk.arc(), dir()).unwrap());
        let copies = metas().map(|path| disk.bytes(&path));
        let before = disk.bytes(&segment(1));
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        wal.persist(&[commands(1, 2..=2)]).unwrap();
        drop(wal);
        disk.set_bytes(&segment(1), before);
        copies
    };
    let vote_later = |disk: &FaultDisk| {
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        let copies = metas().map(|path| disk.bytes(&path));
        wal.persist(&[vote(7)]).unwrap();
        copies
    };
    let histories: [History; 3] = [segment_later, start_later, vote_later];
    for (number, history) in histories.into_iter().enumerate() {
        let disk = FaultDisk::default();
        let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
        wal.persist(&[commands(1, 1..=1)]).unwrap();
        drop(wal);
        let copies = history(&disk);
        for (path, bytes) in metas().iter().zip(copies) {
            disk.set_bytes(path, bytes);
        }
        let error = start(&disk).unwrap_err();
        assert!(
            matches!(&error, WalError::Damaged { path, damage: Damage::Unannounced, .. }
                if *path == mark()),
            "{number}: {error}"
        );
    }
}

#[test]
fn one_meta_from_before_is_overruled_by_the_other_as_ever() {
    for name in metas() {
        let disk = FaultDisk::default();
        let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
        let old = disk.bytes(&name);
        let batch = [commands(1, 1..=3), vote(4)];
        wal.persist(&batch).unwrap();
        drop(wal);
        disk.set_bytes(&name, old);
        assert_eq!(start(&disk).unwrap(), Model::new(initial()).after(&batch).restarted());
    }
}

/// Lives until the power fails; returns what the log may hold then.
fn live(disk: &FaultDisk, seed: u64) -> Option<Vec<Model>> {
    let mut rng = Rng::new(seed);
    let mut wal = Some(create(&disk.arc(), dir()).ok()?.0);
    let mut model = Model::new(initial());
    for step in 0..14 {
        if step == 6 || step == 11 {
            drop(wal.take());
            let Ok((opened, _)) = open(&disk.arc(), dir()) else {
                return Some(vec![model]);
            };
            wal = Some(opened);
            model = model.restarted();
        }
        let wal = wal.as_mut().unwrap();
        let batch = model.random_batch(&mut rng);
        if wal.persist(&batch).is_err() {
            return Some(model.steps(&batch));
        }
        model = model.after(&batch);
        if step % 5 == 4 && wal.mark_synced().is_err() {
            return Some(vec![model]);
        }
        if let Some(base) = model.random_base(&mut rng).filter(|_| step % 3 == 2) {
            if wal.release_prefix(&base).is_err() {
                return Some(vec![model.released(&base), model]);
            }
            model = model.released(&base);
        }
    }
    Some(vec![model])
}

#[test]
fn the_mark_is_never_ahead_of_the_disk_at_any_operation() {
    for seed in 0..6 {
        let whole = FaultDisk::default();
        live(&whole, seed).unwrap();
        for stop_at in 0..whole.count() {
            let disk = FaultDisk::default();
            disk.stop_at(stop_at);
            let Some(allowed) = live(&disk, seed) else { continue };
            // Of all that was not synced the mark alone reached the disk.
            let is_mark = |path: &Path| path == mark() || path == dir().join("mark.tmp");
            for after in [disk.power_loss(|path, _| is_mark(path)), disk.process_crash()] {
                let context = format!("seed {seed}, stopped at {stop_at}");
                let opened = open(&after.arc(), dir());
                let (_, recovered) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_allowed(&Model::of(&recovered), &allowed, &context);
            }
        }
    }
}

#[test]
fn a_failed_write_or_sync_of_the_mark_poisons() {
    for op in ["write", "sync"] {
        let (below, _) = killed();
        let disk = WatchedDisk::new(below.arc());
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        disk.refuse(op, mark(), ErrorKind::Other);
        let done = wal.persist(&[commands(2, 13..=13)]).and_then(|()| wal.mark_synced());
        assert!(matches!(done, Err(WalError::Io { op: it, .. }) if it == op));
        assert!(wal.is_poisoned());
    }
}

#[test]
fn a_disk_that_gives_little_at_a_time_is_read_all_the_same() {
    let (disk, model) = killed();
    for bytes_max in [1, 7, 512] {
        let slow = disk.fork();
        slow.shorten_reads(bytes_max);
        assert_eq!(start(&slow).unwrap(), model.restarted());
    }
}

#[test]
fn a_vote_alone_is_in_the_mark_too() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let before = disk.bytes(&mark());
    let voted_for = Some(NodeId::new(2));
    let hard_state = Some(HardState { current_term: Term::new(5), voted_for });
    wal.persist(&[Persist { hard_state, ..Persist::default() }]).unwrap();
    assert_ne!(disk.bytes(&mark()), before);
}
