//! The table of recovery, seen from outside: each kind of stop, with everything that can vouch for
//! what stood there, made of bytes on a disk. The table itself is tested where it stands.
//!
//! Not of bytes: a record that proves something where nothing was durable, and an anchor behind a
//! stop before which nothing was (both contradict themselves); a sealed segment whose successor does
//! not say how the log went on (it always does), or that stops where it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::{FaultDisk, SECTOR};
use common::{CLUSTER, NODE, base, command, dir, identity, initial, segment};
use quorate_core::{Persist, SnapshotMeta};
use quorate_wal::{Damage, Identity, Sight, Verdict, Wal, WalError, WalOptions, inspect};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    End,
    Blank,
    Residue,
    Invalid,
    Unreadable,
    Ghost,
    Contradiction,
}

/// What says that the stop was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vouch {
    Nothing,
    Mark,
    Meta,
    NextSegment,
}

/// What is left behind the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Nothing,
    SameBatch,
    NextBatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Whole,
    Torn,
    Wounded,
    Refused,
}

const STOPS: [Stop; 7] = [
    Stop::End,
    Stop::Blank,
    Stop::Residue,
    Stop::Invalid,
    Stop::Unreadable,
    Stop::Ghost,
    Stop::Contradiction,
];
const VOUCHERS: [Vouch; 4] = [Vouch::Nothing, Vouch::Mark, Vouch::Meta, Vouch::NextSegment];
const LATER: [Later; 3] = [Later::Nothing, Later::SameBatch, Later::NextBatch];

/// Room for eight records of one sector each.
const OPTIONS: WalOptions = WalOptions {
    segment_size_bytes: 8 << 10,
    first_segment_size_bytes: 8 << 10,
    tail_bytes_max: 1 << 20,
    kept_free_bytes: 0,
    mends: false,
};
/// Where the records of entries 1 and 2 stand.
const FIRST: usize = 4096;
const SECOND: usize = FIRST + SECTOR;

fn create(identity: Identity, initial: SnapshotMeta) -> (FaultDisk, Wal) {
    let disk = FaultDisk::default();
    let (wal, _) = Wal::create(disk.arc(), dir(), OPTIONS, identity, initial).unwrap();
    (disk, wal)
}

fn open(disk: &FaultDisk) -> Result<(Wal, bool), WalError> {
    let (wal, recovered) = Wal::open(disk.arc(), dir(), OPTIONS, CLUSTER, NODE)?;
    Ok((wal, recovered.torn_tail.is_some()))
}

/// Entries that take a sector each.
fn batch(indexes: std::ops::RangeInclusive<u64>) -> [Persist; 1] {
    let entries = indexes.map(|at| command(1, at, SECTOR - 40)).collect();
    [Persist { entries, ..Persist::default() }]
}

/// The sector of the second record in a log that another one would not go on with.
fn second_of(identity: Identity, initial: SnapshotMeta) -> Vec<u8> {
    let first = initial.last_included.index.get() + 1;
    let (disk, wal) = create(identity, initial);
    drop(wal);
    // Of the same era as the records that it comes to stand between.
    let Identity { cluster_id, node_id, .. } = identity;
    let (mut wal, _) = Wal::open(disk.arc(), dir(), OPTIONS, cluster_id, node_id).unwrap();
    wal.persist(&batch(first..=first + 2)).unwrap();
    disk.bytes(&segment(1))[SECOND..SECOND + SECTOR].to_vec()
}

/// A log with entries 1 to 3 in one batch, and perhaps more; and what stood in the place of entry 2
/// in an earlier era.
fn log(vouch: Vouch, later: Later) -> (FaultDisk, Vec<u8>) {
    let (disk, mut wal) = create(identity(), initial());
    disk.stop_at(disk.count());
    wal.persist(&batch(1..=3)).unwrap_err();
    drop(wal);
    let disk = disk.power_loss(|_, offset| offset != FIRST);
    let (mut wal, is_torn) = open(&disk).unwrap();
    assert!(is_torn);
    let ghost = disk.bytes(&segment(1))[SECOND..SECOND + SECTOR].to_vec();
    wal.persist(&batch(1..=3)).unwrap();
    let mut next = 4;
    if later == Later::NextBatch {
        wal.persist(&batch(4..=4)).unwrap();
        next = 5;
    }
    if vouch == Vouch::NextSegment {
        wal.persist(&batch(next..=9)).unwrap();
        assert!(disk.names().contains(&segment(2)));
    }
    drop(wal);
    if vouch == Vouch::Meta {
        drop(open(&disk).unwrap());
    }
    if vouch != Vouch::Mark {
        disk.delete(&dir().join("mark"));
    }
    (disk, ghost)
}

/// Such a log that stops at entry 2; `None` if there is none.
fn damaged(stop: Stop, vouch: Vouch, later: Later) -> Option<FaultDisk> {
    // Nothing stands behind the end of a file.
    if stop == Stop::End && later != Later::Nothing {
        return None;
    }
    let (disk, ghost) = log(vouch, later);
    let in_place = |sector: Vec<u8>| {
        disk.edit(&segment(1), |bytes| bytes[SECOND..SECOND + SECTOR].copy_from_slice(&sector));
    };
    if later == Later::Nothing {
        disk.edit(&segment(1), |bytes| bytes[SECOND + SECTOR..].fill(0));
    }
    match stop {
        Stop::End => disk.edit(&segment(1), |bytes| bytes.truncate(SECOND)),
        Stop::Blank => in_place(vec![0; SECTOR]),
        Stop::Residue => in_place(residue(&disk)),
        Stop::Invalid => disk.edit(&segment(1), |bytes| bytes[SECOND + 50] ^= 1),
        Stop::Unreadable => disk.break_sector(&segment(1), SECOND),
        Stop::Ghost => in_place(ghost),
        Stop::Contradiction => in_place(second_of(identity(), base(0, 5))),
    }
    Some(disk)
}

/// A record of an earlier life of the file, which its header now knows of.
fn residue(disk: &FaultDisk) -> Vec<u8> {
    let earlier = Identity { storage_id: 77, ..identity() };
    let mut seed = Vec::new();
    seed.extend_from_slice(&earlier.cluster_id.to_le_bytes());
    seed.extend_from_slice(&earlier.node_id.get().to_le_bytes());
    seed.extend_from_slice(&earlier.storage_id.to_le_bytes());
    seed.extend_from_slice(&1_u64.to_le_bytes());
    seed.extend_from_slice(&1_u32.to_le_bytes());
    disk.edit(&segment(1), |bytes| {
        bytes[96..100].copy_from_slice(&crc32c::crc32c(&seed).to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[20..4096]).to_le_bytes();
        bytes[16..20].copy_from_slice(&checksum);
    });
    second_of(earlier, initial())
}

fn expected(stop: Stop, vouch: Vouch, later: Later) -> Case {
    let is_durable = vouch != Vouch::Nothing || later == Later::NextBatch;
    match (stop, is_durable) {
        (Stop::Contradiction, _) | (Stop::Unreadable, false) => Case::Refused,
        // That something is lost is known, and nothing of what came after it.
        (_, true) if [Vouch::Meta, Vouch::Mark].contains(&vouch) && later == Later::Nothing => {
            // Zeros reach right up to where the mark says that the log ended, and perhaps beyond.
            Case::Refused
        }
        (_, true) => Case::Wounded,
        (Stop::Ghost, false) => Case::Whole,
        (Stop::Invalid, false) => Case::Torn,
        (Stop::End | Stop::Blank | Stop::Residue, false) => match later {
            Later::Nothing => Case::Whole,
            Later::SameBatch | Later::NextBatch => Case::Torn,
        },
    }
}

fn found(disk: &FaultDisk) -> (Case, Option<Damage>) {
    match open(disk) {
        Ok((wal, is_torn)) => {
            assert_eq!(wal.last_log(), common::id(1, 1));
            (if is_torn { Case::Torn } else { Case::Whole }, None)
        }
        Err(WalError::Damaged { path, offset_bytes, anchor, damage, .. }) => {
            assert_eq!((path, offset_bytes), (segment(1), SECOND as u64));
            // Entry 3 is the first one behind the hole, and the log ended with it or a later one.
            assert!(anchor.as_ref().is_none_or(|anchor| anchor.index.get() >= 3));
            (if anchor.is_some() { Case::Wounded } else { Case::Refused }, Some(damage))
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_finding_that_bytes_can_have_leads_to_its_case_and_a_refused_folder_is_unchanged() {
    let mut count = 0;
    for stop in STOPS {
        for vouch in VOUCHERS {
            for later in LATER {
                let Some(disk) = damaged(stop, vouch, later) else { continue };
                let context = format!("{stop:?}, {vouch:?}, {later:?}");
                let before: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
                let (case, damage) = found(&disk);
                assert_eq!(case, expected(stop, vouch, later), "{context}");
                if let Some(damage) = damage {
                    let after: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
                    assert!(before == after, "{context}: changed");
                    let is_unreadable = matches!(damage, Damage::Unreadable { .. });
                    assert_eq!(is_unreadable, stop == Stop::Unreadable, "{context}");
                }
                count += 1;
            }
        }
    }
    assert_eq!(count, 7 * 4 * 3 - 4 * 2);
}

#[test]
fn the_entry_with_which_the_log_ended_is_the_anchor() {
    let anchor_of = |disk: &FaultDisk| match open(disk) {
        Err(WalError::Damaged { anchor, .. }) => anchor.map(|anchor| anchor.index.get()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    };
    let anchor = |vouch, later| anchor_of(&damaged(Stop::Invalid, vouch, later).unwrap());
    // Entry 3 is of the damaged batch: it counts if something says that this was durable.
    assert_eq!(anchor(Vouch::Mark, Later::SameBatch), Some(3));
    assert_eq!(anchor(Vouch::Meta, Later::SameBatch), Some(3));
    assert_eq!(anchor(Vouch::Nothing, Later::NextBatch), Some(4));
    assert_eq!(anchor(Vouch::NextSegment, Later::SameBatch), Some(9));
    assert_eq!(anchor(Vouch::NextSegment, Later::Nothing), Some(9), "as the successor says");
    // Nothing stands behind the bad place: the mark alone knows, if what it knows is all that was.
    let bad_to_the_end = |beyond: &[u8]| {
        let (disk, _) = log(Vouch::Mark, Later::Nothing);
        disk.edit(&segment(1), |bytes| {
            bytes[SECOND + 50] ^= 1;
            bytes[SECOND + SECTOR + 50] ^= 1;
            bytes[SECOND + 2 * SECTOR..][..beyond.len()].copy_from_slice(beyond);
        });
        anchor_of(&disk)
    };
    assert_eq!(bad_to_the_end(&[]), Some(3));
    assert_eq!(bad_to_the_end(&[7; 64]), None, "it may have gone on");
}

#[test]
fn an_unreadable_sector_hides_nothing_that_stands_behind_it() {
    for sector in 0..3 {
        let (disk, _) = log(Vouch::Nothing, Later::NextBatch);
        disk.break_sector(&segment(1), FIRST + sector * SECTOR);
        match open(&disk) {
            Err(WalError::Damaged { damage: Damage::Unreadable { .. }, indexes, .. }) => {
                let first = common::index(sector as u64 + 1);
                assert_eq!(indexes, Some((first, Some(common::index(3)))));
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("opened"),
        }
    }
}

/// What an inspection says of the stop, in the words of the table, and of the whole.
fn words(disk: &FaultDisk) -> (String, Verdict) {
    let mut words = Vec::new();
    let verdict = inspect(&disk.arc(), dir(), &mut |sight| {
        if let Sight::Segment(segment) = sight
            && segment.number == 1
            && let Some(finding) = segment.finding
        {
            assert_eq!(segment.end_bytes, SECOND as u64);
            words.push(finding);
        }
    });
    assert_eq!(words.len(), 1, "{words:?}");
    assert_eq!(words[0].case, verdict.word());
    (words[0].to_string(), verdict)
}

#[test]
fn an_inspection_names_each_finding_and_its_case_as_a_start_would_and_changes_nothing() {
    let mut said = std::collections::BTreeSet::new();
    for stop in STOPS {
        for vouch in VOUCHERS {
            for later in LATER {
                let Some(disk) = damaged(stop, vouch, later) else { continue };
                let context = format!("{stop:?}, {vouch:?}, {later:?}");
                let writes = disk.count();
                let before: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
                let (finding, verdict) = words(&disk);
                let after: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
                assert!(before == after && disk.count() == writes, "{context}: changed");
                assert_eq!(
                    verdict.word(),
                    format!("{:?}", expected(stop, vouch, later)).to_lowercase(),
                    "{context}"
                );
                let stopped = format!("it stops at: {}", format!("{stop:?}").to_lowercase());
                assert!(finding.contains(&stopped), "{context}: {finding}");
                let text = verdict.to_string();
                assert!(text.starts_with(verdict.word()), "{context}: {text}");
                if let Verdict::Refused(error) = verdict {
                    let refused = open(&disk).err().unwrap();
                    assert_eq!(error.to_string(), refused.to_string(), "{context}");
                }
                said.insert(finding);
            }
        }
    }
    // Each row that bytes can have is told apart from the others.
    assert!(said.len() > 30, "{}: {said:#?}", said.len());
}
