//! Flipped bits, strange lengths, foreign and missing files: damage is refused and named, never
//! cut, and never read as something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::model::Model;
use common::{Rng, base, commands, create, dir, id, index, open, read_all, segment};
use quorate_core::{Entry, HardState, NodeId, Payload, Persist, Term};
use quorate_wal::{Damage, Wal, WalError};

/// A log of two segments; nothing but the last batch vouches for the one before it.
fn small_log() -> (FaultDisk, Model) {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    let mut model = Model::new(common::initial());
    let configuration =
        Entry { log_id: id(1, 4), payload: Payload::Configuration(common::configuration(5)) };
    let vote = HardState { current_term: Term::new(2), voted_for: Some(NodeId::new(3)) };
    let batches = [
        vec![commands(1, 1..=3), Persist { entries: vec![configuration], ..Persist::default() }],
        vec![Persist { truncate_after: Some(index(2)), ..commands(2, 3..=4) }],
        vec![Persist { hard_state: Some(vote), ..commands(2, 5..=8) }],
        vec![commands(2, 9..=10)],
        vec![commands(2, 11..=12)],
    ];
    for batch in &batches {
        wal.persist(batch).unwrap();
        model = model.after(batch);
    }
    assert!(disk.names().contains(&segment(2)) && !disk.names().contains(&segment(3)));
    (disk, model)
}

/// What a start on this disk says: the state, or the error.
fn start(disk: &FaultDisk) -> Result<Model, WalError> {
    let (mut wal, recovered) = open(&disk.arc(), dir())?;
    let model = Model::of(&recovered);
    assert_eq!(read_all(&mut wal)?, model.entries);
    Ok(model)
}

/// Every single flip, in every file; `is_marked`: the end of the log was noted as durable.
fn flip_everything(disk: &FaultDisk, model: &Model, is_marked: bool) {
    // The last batch holds the last two entries.
    let mut without_last_batch = model.clone();
    without_last_batch.entries.truncate(model.entries.len() - 2);
    let mut without_last_entry = model.clone();
    without_last_entry.entries.pop();
    let mut rng = Rng::new(1);
    let mut refused_count = 0;
    for name in disk.names() {
        // Of the mark's blocks only the first sector each is ever looked at.
        let is_read = |at: &usize| !name.ends_with("mark") || at % 4096 < 512;
        for at in (0..disk.bytes(&name).len()).filter(is_read) {
            let damaged = disk.fork();
            damaged.edit(&name, |bytes| bytes[at] ^= 1 << rng.below(8));
            let before: Vec<_> = damaged.names().iter().map(|name| damaged.bytes(name)).collect();
            match start(&damaged) {
                Ok(found) if found == model.restarted() => {}
                Ok(found) => {
                    assert!(!is_marked, "{} byte {at}: lost what was durable", name.display());
                    assert!(
                        [without_last_batch.restarted(), without_last_entry.restarted()]
                            .contains(&found),
                        "{} byte {at}: {:?}",
                        name.display(),
                        found.last()
                    );
                }
                Err(WalError::Damaged { .. }) => {
                    refused_count += 1;
                    let after: Vec<_> =
                        damaged.names().iter().map(|name| damaged.bytes(name)).collect();
                    assert!(before == after, "a refused log was changed");
                }
                Err(error) => panic!("{} byte {at}: {error}", name.display()),
            }
        }
    }
    assert!(refused_count > 1000, "{refused_count}");
}

#[test]
fn no_flipped_bit_gives_a_wrong_answer_and_only_the_last_batch_can_pass_for_torn() {
    let (disk, model) = small_log();
    // As after a power cut that took it: with it, see `marks.rs`.
    disk.delete(&dir().join("mark"));
    flip_everything(&disk, &model, false);
}

#[test]
fn once_the_end_is_marked_no_flipped_bit_passes_for_a_torn_write() {
    let (disk, model) = small_log();
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    wal.mark_synced().unwrap();
    drop(wal);
    flip_everything(&disk, &model, true);
}

#[test]
fn the_last_batch_of_a_log_that_marked_its_end_is_never_taken_for_torn() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    wal.mark_synced().unwrap();
    drop(wal);
    disk.edit(&segment(1), |bytes| bytes[4096 + 50] ^= 1);
    assert!(matches!(start(&disk), Err(WalError::Damaged { .. })));
}

#[test]
fn damage_names_the_file_the_place_and_the_entries() {
    let (disk, _) = small_log();
    // Into the first record of the first segment: a command of entry 1.
    disk.edit(&segment(1), |bytes| bytes[4096 + 50] ^= 1);
    let error = start(&disk).unwrap_err();
    let text = error.to_string();
    let WalError::Damaged { path, offset_bytes, indexes, damage, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((path, offset_bytes), (segment(1), 4096));
    assert_eq!(indexes.unwrap().0, index(1));
    assert!(matches!(damage, Damage::Record { synced_bytes } if synced_bytes > 4096));
    assert!(text.contains("log-00000000000000000001.wal") && text.contains("entries"), "{text}");
}

#[test]
fn zeros_and_garbage_over_any_sector_before_the_last_batch_are_refused() {
    let (disk, model) = small_log();
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    wal.mark_synced().unwrap();
    drop(wal);
    let mut rng = Rng::new(2);
    for name in [segment(1), segment(2)] {
        for sector in 0..disk.bytes(&name).len() / 512 {
            for is_zero in [true, false] {
                let damaged = disk.fork();
                damaged.edit(&name, |bytes| {
                    for byte in &mut bytes[sector * 512..][..512] {
                        *byte = if is_zero { 0 } else { rng.next().to_le_bytes()[0] };
                    }
                });
                let is_same = damaged.bytes(&name) == disk.bytes(&name);
                match start(&damaged) {
                    // Behind the records nothing can be lost.
                    Ok(found) => assert_eq!(found, model.restarted()),
                    Err(error) => {
                        assert!(!is_same && matches!(error, WalError::Damaged { .. }), "{error}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_record_in_another_place_or_of_another_folder_is_not_taken() {
    let (disk, model) = small_log();
    // The first sectors of the records, from one segment over those of the other.
    let misplaced = disk.fork();
    let sectors = misplaced.bytes(&segment(1))[4096..4608].to_vec();
    misplaced.edit(&segment(2), |bytes| bytes[4096..4608].copy_from_slice(&sectors));
    assert!(matches!(start(&misplaced), Err(WalError::Damaged { .. })));
    // A whole segment over another.
    let misplaced = disk.fork();
    misplaced.set_bytes(&segment(2), misplaced.bytes(&segment(1)));
    let error = start(&misplaced).unwrap_err();
    assert!(matches!(
        error,
        WalError::Damaged { damage: Damage::Misplaced { expected: 2, found: 1 }, .. }
    ));
    // The same segment of another folder, byte for byte what a copy of a disk would hold.
    let other = FaultDisk::default();
    let mut identity = common::identity();
    identity.storage_id = 99;
    let (mut wal, _) =
        Wal::create(other.arc(), dir(), common::SMALL, identity, common::initial()).unwrap();
    wal.persist(&[commands(1, 1..=3)]).unwrap();
    let misplaced = disk.fork();
    misplaced.set_bytes(&segment(1), other.bytes(&segment(1)));
    let error = start(&misplaced).unwrap_err();
    assert!(matches!(error, WalError::WrongIdentity { found, .. } if found == identity));
    assert_eq!(start(&disk).unwrap(), model.restarted());
}

#[test]
fn a_missing_segment_is_noticed_the_last_one_too() {
    for number in [1, 2] {
        let (disk, _) = small_log();
        disk.delete(&segment(number));
        let error = start(&disk).unwrap_err();
        assert!(matches!(error, WalError::Damaged { damage: Damage::FileMissing, .. }), "{error}");
    }
}

#[test]
fn a_file_cut_short_is_damage_at_every_length() {
    let (disk, model) = small_log();
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    wal.mark_synced().unwrap();
    drop(wal);
    for name in [segment(1), segment(2)] {
        for length in (0..disk.bytes(&name).len()).step_by(37) {
            let cut = disk.fork();
            cut.edit(&name, |bytes| bytes.truncate(length));
            match start(&cut) {
                Ok(found) => assert_eq!(found, model.restarted(), "the records end before"),
                Err(error) => assert!(matches!(error, WalError::Damaged { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn an_older_copy_of_the_hard_state_beside_a_newer_log_is_refused() {
    let (disk, _) = small_log();
    let old = [dir().join("meta-a"), dir().join("meta-b")].map(|path| (disk.bytes(&path), path));
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    wal.persist(&[commands(2, 13..=40)]).unwrap();
    drop(wal);
    assert!(disk.names().contains(&segment(3)));
    for (bytes, path) in old {
        disk.set_bytes(&path, bytes);
    }
    // The mark shows it, and without it the segment that the copies do not know.
    for (place, offset) in [(dir().join("mark"), 0), (segment(3), 4096)] {
        let error = start(&disk).unwrap_err();
        assert!(
            matches!(&error, WalError::Damaged { path, offset_bytes, damage: Damage::Unannounced, .. }
                if (path, *offset_bytes) == (&place, offset)),
            "{error}"
        );
        disk.delete(&dir().join("mark"));
    }
}

#[test]
fn one_lost_copy_of_the_hard_state_is_made_anew_two_are_refused() {
    let (disk, model) = small_log();
    for name in ["meta-a", "meta-b"] {
        for is_deleted in [true, false] {
            let damaged = disk.fork();
            let path = dir().join(name);
            if is_deleted {
                damaged.delete(&path);
            } else {
                damaged.set_bytes(&path, vec![7; 3]);
            }
            assert_eq!(start(&damaged).unwrap(), model.restarted());
            // Now the other one may go.
            let other = if name == "meta-a" { "meta-b" } else { "meta-a" };
            damaged.delete(&dir().join(other));
            assert_eq!(start(&damaged).unwrap(), model.restarted());
        }
    }
    disk.set_bytes(&dir().join("meta-a"), vec![0; 4096]);
    disk.set_bytes(&dir().join("meta-b"), vec![0; 4096]);
    let error = start(&disk).unwrap_err();
    assert!(matches!(error, WalError::Damaged { damage: Damage::BothCopies, .. }), "{error}");
}

#[test]
fn either_copy_of_the_hard_state_alone_knows_the_latest_vote() {
    let disk = FaultDisk::default();
    let (mut wal, _) = create(&disk.arc(), dir()).unwrap();
    for term in 1..=4 {
        let voted_for = Some(NodeId::new(term));
        let hard_state = Some(HardState { current_term: Term::new(term), voted_for });
        wal.persist(&[Persist { hard_state, ..Persist::default() }]).unwrap();
    }
    drop(wal);
    for name in ["meta-a", "meta-b"] {
        let damaged = disk.fork();
        damaged.edit(&dir().join(name), |bytes| bytes[40] ^= 1);
        let (_, recovered) = open(&damaged.arc(), dir()).unwrap();
        assert_eq!(recovered.hard_state.current_term, Term::new(4), "without {name}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name_in_every_kind_of_file() {
    for name in ["mark", "meta-a", "meta-b", "log-00000000000000000001.wal"] {
        let (disk, _) = small_log();
        disk.edit(&dir().join(name), |bytes| {
            bytes[8] = 9;
            let checksum = crc32c::crc32c(&bytes[..12]).to_le_bytes();
            bytes[12..16].copy_from_slice(&checksum);
        });
        let error = start(&disk).unwrap_err();
        assert!(matches!(error, WalError::UnsupportedVersion { found: 9, .. }), "{error}");
    }
}

#[test]
fn a_huge_length_is_damage_and_not_an_allocation() {
    let (disk, _) = small_log();
    for length in [u32::MAX, 1 << 31, 256 << 20, 100_000] {
        let damaged = disk.fork();
        damaged.edit(&segment(1), |bytes| {
            bytes[4100..4104].copy_from_slice(&length.to_le_bytes());
        });
        assert!(matches!(start(&damaged), Err(WalError::Damaged { .. })));
        damaged.edit(&dir().join("meta-a"), |bytes| {
            bytes[20..24].copy_from_slice(&length.to_le_bytes());
        });
        assert!(matches!(start(&damaged), Err(WalError::Damaged { .. })));
    }
}

#[test]
fn random_bytes_as_files_are_refused() {
    let mut rng = Rng::new(3);
    for _ in 0..200 {
        let (disk, model) = small_log();
        let names: Vec<_> = disk.names();
        for name in &names {
            if rng.chance(2) {
                let size = rng.below(9000);
                disk.set_bytes(name, (0..size).map(|_| rng.next().to_le_bytes()[0]).collect());
            }
        }
        match start(&disk) {
            Ok(found) => assert_eq!(found, model.restarted()),
            Err(error) => assert!(matches!(error, WalError::Damaged { .. }), "{error}"),
        }
    }
}

#[test]
fn damage_that_comes_while_running_is_found_by_the_read() {
    let (disk, model) = small_log();
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    // Through another handle, as a disk would do it.
    let file = disk.arc().open(&segment(1)).unwrap();
    file.write_at(&[0xff], 4096 + 60).unwrap();
    let error = read_all(&mut wal).unwrap_err();
    assert!(matches!(error, WalError::Damaged { .. }), "{error}");
    let last = wal.read(index(9), index(12), 9999).unwrap();
    assert_eq!(last, model.entries[8..], "what is whole can still be read");
}

#[test]
fn what_breaks_the_order_of_the_log_is_refused_and_poisons() {
    let writes = [
        commands(2, 14..=14),
        commands(2, 12..=12),
        commands(1, 13..=13),
        Persist { truncate_after: Some(index(1)), ..Persist::default() },
    ];
    for write in writes {
        let (disk, _) = small_log();
        let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
        wal.release_prefix(&base(1, 2)).unwrap();
        let error = wal.persist(&[write]).unwrap_err();
        assert!(matches!(error, WalError::OutOfOrder { .. }), "{error}");
        assert!(wal.is_poisoned());
    }
    let (disk, _) = small_log();
    let (mut wal, _) = open(&disk.arc(), dir()).unwrap();
    assert!(matches!(wal.release_prefix(&base(1, 4)), Err(WalError::OutOfOrder { .. })));
}

/// Found by the simulator, seeds 647, 1072, 1533 and 2885: what a start read to write it once more
/// was written as it was read.
#[test]
fn a_read_that_is_wrong_once_changes_nothing_on_the_disk() {
    let (disk, model) = small_log();
    let first = disk.process_crash();
    let read_count = first.read_count();
    start(&first).unwrap();
    let last_batch = |found: &Model| found.entries == model.entries[..model.entries.len() - 2];
    let mut differed_count = 0;
    for at in read_count..first.read_count() {
        let disk = disk.process_crash();
        disk.misread_at(at);
        let begun = start(&disk);
        differed_count += usize::from(matches!(
            begun,
            Err(WalError::Damaged { damage: Damage::ReadsDiffer, .. })
        ));
        let found = start(&disk.process_crash()).unwrap_or_else(|error| panic!("{at}: {error}"));
        // Nothing vouches for the last batch: docs/wal-format.md, "What this cannot see".
        assert!(found == model || (begun.is_ok() && last_batch(&found)), "{at}");
    }
    assert!(differed_count > 0);
}
