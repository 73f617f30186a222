//! A folder of format 1, as the program before this one left it: it opens, nothing is lost on the
//! way, and afterwards it is of the newest format.
//!
//! `fixtures/v1` was made once by that program, over these batches, killed behind the last one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::model::{Model, assert_allowed};
use common::{Rng, base, command, commands, dir, id, index, initial, open, read_all, segment};
use quorate_core::{Entry, HardState, LogId, NodeId, Payload, Persist, Term};
use quorate_wal::{Standing, WalError};
use std::path::{Path, PathBuf};

fn fixture() -> FaultDisk {
    let disk = FaultDisk::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let made = disk.arc().create(&dir().join(file.file_name())).unwrap();
        made.write_at(&std::fs::read(file.path()).unwrap(), 0).unwrap();
        made.sync().unwrap();
    }
    disk.arc().sync_dir(dir()).unwrap();
    disk
}

/// What was written to it.
fn model() -> Model {
    let configuration =
        Entry { log_id: id(1, 4), payload: Payload::Configuration(common::configuration(5)) };
    let vote = HardState { current_term: Term::new(2), voted_for: Some(NodeId::new(3)) };
    let cut = |after, write| Persist { truncate_after: Some(index(after)), ..write };
    let last = vec![command(2, 14, 472), command(2, 15, 10)];
    let batches = [
        vec![commands(1, 1..=3), Persist { entries: vec![configuration], ..Persist::default() }],
        vec![cut(4, commands(2, 5..=6))],
        vec![cut(5, commands(2, 6..=7))],
        vec![Persist { hard_state: Some(vote), ..commands(2, 8..=11) }],
        vec![commands(2, 12..=13)],
        vec![Persist { entries: last, ..Persist::default() }],
    ];
    let model = batches.iter().fold(Model::new(initial()), |model, batch| model.after(batch));
    model.released(&base(1, 2))
}

fn metas() -> [PathBuf; 2] {
    ["meta-a", "meta-b"].map(|name| dir().join(name))
}

/// The format version that a file names.
fn version(disk: &FaultDisk, path: &Path) -> u8 {
    disk.bytes(path)[8]
}

#[test]
fn a_folder_of_format_1_opens_and_is_format_2_afterwards() {
    let disk = fixture();
    let files = [segment(1), segment(2), metas()[0].clone(), metas()[1].clone()];
    assert_eq!(disk.names(), files);
    assert!(files.iter().all(|path| version(&disk, path) == 1));
    let (mut wal, recovered) = open(&disk.arc(), dir()).unwrap();
    let mut model = model();
    assert_eq!(Model::of(&recovered), model.restarted());
    assert!(recovered.torn_tail.is_none() && !recovered.is_mark_lost);
    assert_eq!(read_all(&mut wal).unwrap(), model.entries);
    assert_eq!((wal.standing(), wal.horizon()), (Standing::Proven, LogId::ORIGIN));
    assert!(metas().iter().all(|path| version(&disk, path) == 2));
    assert!(disk.names().contains(&dir().join("mark")));
    // It goes on in the old segment, and then in a new one.
    for at in 16..=40 {
        let batch = [commands(2, at..=at)];
        wal.persist(&batch).unwrap();
        model = model.after(&batch);
    }
    drop(wal);
    assert_eq!([2, 3].map(|number| version(&disk, &segment(number))), [1, 2]);
    let (mut wal, recovered) = open(&disk.arc(), dir()).unwrap();
    assert_eq!(Model::of(&recovered), model.restarted());
    assert_eq!(read_all(&mut wal).unwrap(), model.entries);
    assert_eq!(wal.standing(), Standing::Proven);
}

#[test]
fn a_crash_at_any_operation_of_the_upgrade_loses_nothing() {
    let model = model().restarted();
    for stop_after in 0.. {
        let disk = fixture();
        disk.stop_at(disk.count() + stop_after);
        let is_open = open(&disk.arc(), dir()).is_ok();
        for seed in 0..9 {
            let after = match seed {
                8 => disk.process_crash(),
                _ => disk.random_power_loss(&mut Rng::new(seed)),
            };
            let context = format!("stopped after {stop_after}, seed {seed}");
            let opened = open(&after.arc(), dir());
            let (wal, recovered) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_allowed(&Model::of(&recovered), std::slice::from_ref(&model), &context);
            assert_eq!(wal.standing(), Standing::Proven, "{context}");
        }
        if is_open {
            break;
        }
    }
}

#[test]
fn damage_in_a_folder_of_format_1_is_found_as_ever_and_changes_nothing() {
    // Into the second record of the first segment, and into the first one of the second.
    for (path, at) in [(segment(1), 4096 + 200), (segment(2), 4096 + 50)] {
        let disk = fixture();
        disk.edit(&path, |bytes| bytes[at] ^= 1);
        let before: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
        let error = open(&disk.arc(), dir()).err().unwrap();
        assert!(matches!(error, WalError::Damaged { .. }), "{error}");
        let after: Vec<_> = disk.names().iter().map(|name| disk.bytes(name)).collect();
        assert!(before == after);
    }
}

#[test]
fn one_copy_of_format_2_beside_one_of_format_1_is_what_a_crash_of_the_upgrade_leaves() {
    for half in metas() {
        let disk = fixture();
        let old = disk.bytes(&half);
        drop(open(&disk.arc(), dir()).unwrap());
        disk.set_bytes(&half, old);
        let (_, recovered) = open(&disk.arc(), dir()).unwrap();
        assert_eq!(Model::of(&recovered), model().restarted());
        assert!(metas().iter().all(|path| version(&disk, path) == 2));
    }
}
