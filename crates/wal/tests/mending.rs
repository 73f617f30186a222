//! Logs that have lost durable entries: they open with what can be trusted, say how far they once
//! reached, give what stands whole behind the damage, and close when they reach so far again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::{FaultDisk, SECTOR};
use common::model::Model;
use common::wounded::{self, MENDING, open};
use common::{Rng, commands, dir, id, index, read_all, segment};
use quorate_core::{Entry, LogId, Persist};
use quorate_wal::{RecordContent, RottenFile, Scrubber, Sight, Verdict, Wal, WalError, inspect};

/// A sound log of several segments with truncations in it, closed, its end noted.
fn sound() -> (FaultDisk, Model) {
    let (disk, wal, model) = wounded::log();
    drop(wal);
    (disk, model)
}

fn ids(entries: &[Entry]) -> Vec<LogId> {
    entries.iter().map(|entry| entry.log_id).collect()
}

fn everything(disk: &FaultDisk) -> Vec<Vec<u8>> {
    disk.names().iter().map(|name| disk.bytes(name)).collect()
}

/// Gives a log what the model has and it has not, and looks whether it is whole again, now and after a
/// restart.
fn mend(disk: &FaultDisk, mut wal: Wal, model: &Model, context: &str) {
    let kept = read_all(&mut wal).unwrap();
    // What the wound hides may have truncated what stands before it.
    let same = kept.iter().zip(&model.entries).take_while(|(a, b)| a == b).count();
    let missing = &model.entries[same..];
    // In two steps: it is not closed before the last one.
    let (begin, end) = missing.split_at(missing.len() / 2);
    let truncate_after = Some(index(same as u64));
    wal.persist(&[Persist { truncate_after, entries: begin.to_vec(), ..Persist::default() }])
        .unwrap();
    assert!(wal.lost().is_some(), "{context}");
    wal.persist(&[Persist { entries: end.to_vec(), ..Persist::default() }]).unwrap();
    assert_eq!(wal.lost(), None, "{context}");
    assert!(read_all(&mut wal).unwrap() == model.entries, "{context}");
    assert_eq!(wal.spares(index(1), 999).unwrap(), [], "{context}");
    drop(wal);
    let (mut wal, recovered) = open(disk).unwrap();
    assert_eq!((recovered.lost.clone(), wal.lost()), (None, None), "{context}");
    assert!(Model::of(&recovered) == model.restarted(), "{context}");
    assert!(read_all(&mut wal).unwrap() == model.entries, "{context}");
}

/// All that a log offers of what stands behind its wound, each stretch.
fn all_spares(wal: &mut Wal) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let next = all.last().map_or(index(1), |entry| entry.log_id.index.next());
        let more = wal.spares(next, 300).unwrap();
        if more.is_empty() {
            return all;
        }
        assert!(more[0].log_id.index >= next);
        assert!(more.windows(2).all(|it| it[0].log_id.index.next() == it[1].log_id.index));
        all.extend(more);
    }
}

/// What must be true of a start on a damaged log that held `model`, and of its mending.
fn check(damaged: &FaultDisk, model: &Model, context: &str) -> &'static str {
    let before = everything(damaged);
    match open(damaged) {
        Err(WalError::Damaged { .. }) => {
            assert!(before == everything(damaged), "{context}: changed");
            "refused"
        }
        Err(error) => panic!("{context}: {error}"),
        Ok((wal, recovered)) if recovered.lost.is_none() => {
            assert!(Model::of(&recovered) == model.restarted(), "{context}");
            drop(wal);
            "whole"
        }
        Ok((mut wal, recovered)) => {
            let lost = recovered.lost.clone().unwrap();
            assert_eq!(lost.horizon, model.last(), "{context}: {lost}");
            assert_eq!((lost.after, wal.lost()), (wal.last_log(), Some(lost.horizon)), "{context}");
            let kept = read_all(&mut wal).unwrap();
            let once = wounded::overwritten();
            let is_true = |it: &Entry| model.entries.contains(it) || once.contains(it);
            assert!(kept.iter().all(is_true), "{context}: {:?}", ids(&kept));
            let spares = all_spares(&mut wal);
            assert!(spares.iter().all(is_true), "{context}: {:?}", ids(&spares));
            mend(damaged, wal, model, context);
            "wounded"
        }
    }
}

#[test]
fn whatever_flips_in_a_log_it_is_refused_untouched_or_mended_to_what_it_was() {
    let (disk, model) = sound();
    let mut rng = Rng::new(1);
    let mut counts = std::collections::BTreeMap::new();
    for name in disk.names() {
        for at in 0..disk.bytes(&name).len() {
            // Behind the mark's slots and the records nothing is read.
            let is_read = if name.ends_with("mark") { at % 4096 < 512 } else { true };
            if !is_read || (disk.bytes(&name)[at] == 0 && at % 8 != 0) {
                continue;
            }
            let damaged = disk.fork();
            damaged.edit(&name, |bytes| bytes[at] ^= 1 << rng.below(8));
            let outcome = check(&damaged, &model, &format!("{} byte {at}", name.display()));
            *counts.entry(outcome).or_insert(0) += 1;
        }
    }
    assert!(counts["wounded"] > 1000 && counts["whole"] > 100, "{counts:?}");
}

#[test]
fn a_sector_that_cannot_be_read_is_refused_untouched_or_mended() {
    let (disk, model) = sound();
    let mut count = 0;
    for number in 1..=3 {
        for sector in 8..disk.bytes(&segment(number)).len() / SECTOR {
            let damaged = disk.fork();
            damaged.break_sector(&segment(number), sector * SECTOR);
            let outcome = check(&damaged, &model, &format!("segment {number}, sector {sector}"));
            count += usize::from(outcome == "wounded");
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn missing_segments_are_mended_as_long_as_the_last_one_says_how_far_the_log_reached() {
    let missing = |numbers: &[u64]| {
        let (disk, model) = sound();
        for &number in numbers {
            disk.delete(&segment(number));
        }
        check(&disk, &model, &format!("without {numbers:?}"))
    };
    assert_eq!(missing(&[1]), "wounded");
    assert_eq!(missing(&[2]), "wounded");
    assert_eq!(missing(&[1, 2]), "wounded");
    assert_eq!(missing(&[3]), "refused");
    assert_eq!(missing(&[2, 3]), "refused");
}

#[test]
fn several_bad_places_are_one_wound_and_what_stands_between_them_is_spare() {
    let (disk, model) = sound();
    let last = disk.bytes(&segment(3)).len();
    let mut rng = Rng::new(5);
    for round in 0..300 {
        let damaged = disk.fork();
        for _ in 0..2 + rng.below(3) {
            let number = 1 + rng.below(3);
            let size = if number == 3 { last } else { damaged.bytes(&segment(number)).len() };
            let at = usize::try_from(rng.below(size as u64)).unwrap();
            damaged.edit(&segment(number), |bytes| bytes[at] ^= 1 << rng.below(8));
        }
        check(&damaged, &model, &format!("round {round}"));
    }
}

/// The place of an entry's record in a segment of this log.
fn place(disk: &FaultDisk, wanted: LogId) -> (u64, usize) {
    let mut found = None;
    inspect(&disk.arc(), dir(), &mut |sight| {
        if let Sight::Record(record) = sight
            && matches!(record.content, RecordContent::Entry(_))
            && record.log_id == wanted
        {
            found = Some((record.segment, usize::try_from(record.position).unwrap()));
        }
    });
    found.unwrap()
}

fn spoil(disk: &FaultDisk, log_id: LogId) {
    let (number, position) = place(disk, log_id);
    disk.edit(&segment(number), |bytes| bytes[position + 50] ^= 1);
}

#[test]
fn a_second_wound_before_or_behind_the_first_is_another_cut() {
    for (first, second) in [(25, 3), (3, 25), (7, 41), (41, 7), (30, 29), (29, 30)] {
        for is_closed in [false, true] {
            let context = format!("{first}, then {second}, closed: {is_closed}");
            let (disk, model) = sound();
            spoil(&disk, model.entries[first - 1].log_id);
            let (mut wal, _) = open(&disk).unwrap();
            let kept = usize::try_from(wal.last_log().index.get()).unwrap();
            assert_eq!(kept, first - 1, "{context}");
            let until = if is_closed { model.entries.len() } else { 42.min(kept + 15) };
            let entries = model.entries[kept..until].to_vec();
            wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
            assert_eq!(wal.lost().is_none(), until == model.entries.len(), "{context}");
            drop(wal);
            if second > until {
                continue;
            }
            spoil(&disk, model.entries[second - 1].log_id);
            let horizon = model.last();
            let (mut wal, recovered) = open(&disk).unwrap();
            assert_eq!(wal.lost(), Some(horizon), "{context}");
            assert_eq!(recovered.last_log.index.get() + 1, second as u64, "{context}");
            let spares = all_spares(&mut wal);
            assert!(spares.iter().all(|it| model.entries.contains(it)), "{context}");
            assert!(
                spares.len() + second + 1 >= model.entries.len(),
                "{context}: {:?}",
                ids(&spares)
            );
            mend(&disk, wal, &model, &context);
        }
    }
}

#[test]
fn what_was_truncated_or_overwritten_behind_the_wound_is_no_spare() {
    let (disk, model) = sound();
    spoil(&disk, id(1, 3));
    let (mut wal, _) = open(&disk).unwrap();
    let spares = all_spares(&mut wal);
    // Entries 6 and 7 of term 1, and 19 and 20 of term 2, are there too, whole.
    assert_eq!(ids(&spares), ids(&model.entries[3..]));
    assert!(spares == model.entries[3..]);
    // The stretch goes on over the segments' ends, and begins where there is something.
    assert_eq!(ids(&wal.spares(index(1), usize::MAX).unwrap()), ids(&model.entries[3..]));
    assert_eq!(ids(&wal.spares(index(30), usize::MAX).unwrap()), ids(&model.entries[29..]));
    assert_eq!(wal.spares(index(43), usize::MAX).unwrap(), []);
    assert_eq!(wal.spares(index(30), 1).unwrap(), model.entries[29..30]);
}

#[test]
fn what_stands_on_both_sides_of_a_bad_place_follows_only_if_it_is_of_one_term() {
    let (disk, model) = sound();
    // The record that truncates to entry 18 is between entries 18 and 19: with it goes what it said.
    let (number, position) = place(&disk, id(3, 19));
    disk.edit(&segment(number), |bytes| bytes[position - 40 + 4] ^= 1);
    spoil(&disk, id(1, 3));
    let (mut wal, _) = open(&disk).unwrap();
    let spares = |wal: &mut Wal, first| ids(&wal.spares(index(first), usize::MAX).unwrap());
    assert_eq!(spares(&mut wal, 4), ids(&model.entries[3..18]), "other terms");
    assert_eq!(spares(&mut wal, 19), ids(&model.entries[18..]));
    drop(wal);
    let (disk, model) = sound();
    spoil(&disk, id(3, 30));
    spoil(&disk, id(1, 3));
    let (mut wal, _) = open(&disk).unwrap();
    let found = wal.spares(index(4), usize::MAX).unwrap();
    assert_eq!(ids(&found), ids(&model.entries[3..29]), "an entry is missing");
}

#[test]
fn a_torn_write_behind_the_wound_is_not_what_the_log_reached() {
    let (disk, mut wal, model) = wounded::log();
    wal.persist(&[commands(3, 43..=50)]).unwrap();
    let model = model.after(&[commands(3, 43..=50)]);
    let (_, end) = place(&disk, id(3, 50));
    let end = end + 144;
    // All of the batch reaches the disk but its first sector, and nobody was told.
    disk.stop_at(disk.count());
    wal.persist(&[commands(4, 51..=58)]).unwrap_err();
    drop(wal);
    let disk = disk.power_loss(|_, offset| offset != end);
    assert!(disk.bytes(&segment(4))[end + 600..end + 700].iter().any(|&byte| byte != 0));
    spoil(&disk, id(1, 3));
    let (mut wal, _) = open(&disk).unwrap();
    assert_eq!(wal.lost(), Some(model.last()));
    assert_eq!(ids(&all_spares(&mut wal)), ids(&model.entries[3..]));
    mend(&disk, wal, &model, "torn");
}

#[test]
fn a_node_that_is_alone_and_one_that_is_asked_not_to_mend_refuse_untouched() {
    let (disk, _) = sound();
    spoil(&disk, id(1, 3));
    let before = everything(&disk);
    let refused = Wal::open(disk.arc(), dir(), common::SMALL, common::CLUSTER, common::NODE);
    assert!(matches!(refused, Err(WalError::Damaged { anchor: Some(_), .. })));
    let alone = FaultDisk::default();
    let (mut wal, _) =
        Wal::create(alone.arc(), dir(), MENDING, common::identity(), common::initial()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    wal.persist(&[commands(1, 4..=9)]).unwrap();
    drop(wal);
    spoil(&alone, id(1, 2));
    let whole = everything(&alone);
    assert!(matches!(open(&alone), Err(WalError::Damaged { anchor: Some(_), .. })));
    assert!(before == everything(&disk) && whole == everything(&alone), "changed");
}

#[test]
fn a_read_that_is_wrong_once_cuts_nothing() {
    let (disk, model) = sound();
    let first = disk.fork();
    let read_count = first.read_count();
    drop(open(&first).unwrap());
    for at in read_count..first.read_count() {
        let disk = disk.fork();
        disk.misread_at(at);
        let begun = open(&disk).map(|(wal, _)| wal.lost());
        assert!(!matches!(begun, Ok(Some(_))), "{at}");
        drop(begun);
        let (_, recovered) = open(&disk.fork()).unwrap();
        assert_eq!(recovered.lost, None, "{at}");
        assert!(Model::of(&recovered) == model.restarted(), "{at}");
    }
}

/// The version of the format of both copies of the hard state.
fn formats(disk: &FaultDisk) -> [u8; 2] {
    ["meta-a", "meta-b"].map(|name| disk.bytes(&dir().join(name))[8])
}

#[test]
fn a_cut_is_forgotten_with_its_files_when_the_log_is_closed_and_released_behind_it() {
    let (disk, model) = sound();
    spoil(&disk, id(2, 12));
    let (mut wal, _) = open(&disk).unwrap();
    assert_eq!(formats(&disk), [4, 4], "an older program must not take it");
    let entries = model.entries[11..30].to_vec();
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    // Still wounded: what stands behind the cut may be wanted.
    wal.release_prefix(&wounded::base(3, 25)).unwrap();
    assert!(disk.names().contains(&segment(2)) && formats(&disk) == [4, 4]);
    assert_eq!(ids(&wal.spares(index(31), usize::MAX).unwrap()), ids(&model.entries[30..]));
    drop(wal);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.lost.map(|lost| lost.horizon), Some(model.last()));
    assert_eq!(wal.base().last_included, id(3, 25));
    let entries = model.entries[30..].to_vec();
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    assert_eq!(wal.lost(), None);
    wal.release_prefix(&wounded::base(3, 28)).unwrap();
    assert_eq!(formats(&disk), [2, 2]);
    for number in 1..=3 {
        assert!(!disk.names().contains(&segment(number)), "{number}");
    }
    drop(wal);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.lost, None);
    assert!(read_all(&mut wal).unwrap() == model.entries[28..]);
}

#[test]
fn a_snapshot_closes_the_wound_only_if_it_reaches_over_it() {
    for (covered, is_closed) in [(id(3, 35), false), (id(3, 42), true), (id(4, 20), true)] {
        let (disk, model) = sound();
        spoil(&disk, id(2, 12));
        let (mut wal, _) = open(&disk).unwrap();
        let base = wounded::base(covered.term.get(), covered.index.get());
        wal.persist(&[Persist { reset: Some(base), ..Persist::default() }]).unwrap();
        for _ in 0..2 {
            assert_eq!(wal.lost().is_none(), is_closed, "{covered}");
            assert_eq!(disk.names().contains(&segment(2)), !is_closed, "{covered}");
            let spares = wal.spares(index(36), usize::MAX).unwrap();
            let expected = if is_closed { &[] } else { &model.entries[35..] };
            assert_eq!(ids(&spares), ids(expected), "{covered}");
            drop(wal);
            wal = open(&disk).unwrap().0;
        }
        assert_eq!((wal.last_log(), wal.base().last_included), (covered, covered));
        if !is_closed {
            let entries = model.entries[35..].to_vec();
            wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
            assert_eq!(wal.lost(), None);
        }
    }
}

#[test]
fn a_truncation_below_the_cut_and_a_later_term_close_the_wound_too() {
    let (disk, _) = sound();
    spoil(&disk, id(2, 12));
    let (mut wal, _) = open(&disk).unwrap();
    let cut = Persist { truncate_after: Some(index(8)), ..commands(3, 9..=41) };
    wal.persist(&[cut]).unwrap();
    assert_eq!(wal.lost(), Some(id(3, 42)), "shorter, of the same term");
    wal.persist(&[Persist { truncate_after: Some(index(5)), ..commands(4, 6..=6) }]).unwrap();
    assert_eq!(wal.lost(), None, "of a later term");
    drop(wal);
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.lost, wal.last_log()), (None, id(4, 6)));
    assert_eq!(read_all(&mut wal).unwrap().len(), 6);
}

#[test]
fn a_wounded_log_is_mended_whenever_the_power_fails() {
    let (disk, model) = sound();
    spoil(&disk, id(2, 12));
    let act = |disk: &FaultDisk| -> Result<(), WalError> {
        let (mut wal, _) = open(disk)?;
        let give = |wal: &mut Wal, until: usize| {
            let from = usize::try_from(wal.last_log().index.get()).unwrap();
            let entries = model.entries[from..until].to_vec();
            wal.persist(&[Persist { entries, ..Persist::default() }])
        };
        give(&mut wal, 30)?;
        wal.release_prefix(&wounded::base(2, 10))?;
        give(&mut wal, 42)?;
        assert_eq!(wal.lost(), None);
        wal.release_prefix(&wounded::base(3, 40))
    };
    let all = disk.fork();
    let start = all.count();
    act(&all).unwrap();
    let mut rng = Rng::new(9);
    for stop in start..all.count() {
        for _ in 0..6 {
            let disk = disk.fork();
            disk.stop_at(stop);
            act(&disk).unwrap_err();
            let disk = disk.random_power_loss(&mut rng);
            let (mut wal, recovered) = open(&disk).unwrap_or_else(|it| panic!("{stop}: {it}"));
            let last = recovered.last_log;
            let is_whole = last == model.last();
            let horizon = recovered.lost.map(|lost| lost.horizon);
            assert_eq!(horizon, (!is_whole).then_some(model.last()), "{stop}");
            let kept = usize::try_from(last.index.get()).unwrap();
            let begin = usize::try_from(wal.base().last_included.index.get()).unwrap();
            assert!(kept >= 11, "{stop}: {last}");
            assert!(read_all(&mut wal).unwrap() == model.entries[begin..kept], "{stop}");
            let entries = model.entries[kept..].to_vec();
            wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
            drop(wal);
            let (mut wal, recovered) = open(&disk).unwrap();
            assert_eq!(recovered.lost, None, "{stop}");
            assert!(read_all(&mut wal).unwrap() == model.entries[begin..], "{stop}");
        }
    }
}

#[test]
fn a_wound_that_was_cut_is_not_found_again_by_whoever_reads_on() {
    let (disk, model) = sound();
    spoil(&disk, id(2, 12));
    let (mut wal, _) = open(&disk).unwrap();
    let entries = model.entries[11..].to_vec();
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    let snapshots = dir().join("snapshots");
    let mut scrubber = Scrubber::new(disk.arc(), dir().to_owned(), snapshots, common::identity());
    let mut read_bytes = 0;
    loop {
        let step = scrubber.step(1 << 20).unwrap();
        assert!(step.damage.is_none(), "{:?}", step.damage);
        read_bytes += step.read_bytes;
        if step.is_round_over {
            break;
        }
    }
    assert!(read_bytes > 0);
    // But damage in front of the cut is.
    spoil(&disk, id(1, 2));
    let damage = scrubber.step(1 << 20).unwrap().damage.unwrap();
    assert!(matches!(damage.file, RottenFile::Segment { number: 1, .. }), "{damage:?}");
}

#[test]
fn an_inspection_says_what_is_wounded_and_what_was_mended() {
    let look = |disk: &FaultDisk| inspect(&disk.arc(), dir(), &mut |_| {});
    let (disk, model) = sound();
    spoil(&disk, id(2, 12));
    let found = look(&disk);
    let text = found.to_string();
    assert_eq!(found.word(), "wounded");
    assert!(text.contains("ends with 11@2, and is known to have held 42@3"), "{text}");
    let (mut wal, _) = open(&disk).unwrap();
    assert!(matches!(look(&disk), Verdict::Wounded { .. }));
    let entries = model.entries[11..].to_vec();
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    let found = look(&disk);
    assert!(matches!(found, Verdict::Whole { cut_count: 1, .. }), "{found}");
    assert!(found.to_string().contains("is mended"), "{found}");
}
