//! Power loss, crashes and failing operations at every point of histories: what was acknowledged
//! is there, and what is there is a state on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::fault_disk::FaultDisk;
use common::model::{Model, assert_allowed};
use common::{Rng, base, commands, create, id, index, initial, open, read_all};
use quorate_core::{HardState, NodeId, Persist, SnapshotMeta, Term};
use quorate_wal::{Recovered, Wal, WalError};
use std::io;
use std::path::Path;

const DIR: &str = "/node";

/// One operation of a history.
enum Op {
    Persist(Vec<Persist>),
    Release(SnapshotMeta),
    Prepare,
    MarkSynced,
    Reopen,
}

/// A log and what it should hold.
struct Run {
    disk: FaultDisk,
    wal: Option<Wal>,
    model: Model,
    /// What the log may hold if the last operation failed.
    allowed: Vec<Model>,
}

impl Run {
    fn start(disk: FaultDisk) -> Result<Self, WalError> {
        let (wal, _) = create(&disk.arc(), Path::new(DIR))?;
        let model = Model::new(initial());
        Ok(Self { disk, wal: Some(wal), allowed: vec![model.clone()], model })
    }

    fn act(&mut self, op: &Op) -> Result<(), WalError> {
        let wal = self.wal.as_mut().unwrap();
        self.allowed = vec![self.model.clone()];
        match op {
            Op::Persist(batch) => {
                self.allowed = self.model.steps(batch);
                let written = wal.persist(batch);
                if written.is_err() && !wal.is_poisoned() {
                    // It found no room, and was not begun.
                    self.allowed = vec![self.model.clone()];
                }
                written?;
            }
            Op::Release(base) => {
                self.allowed.push(self.model.released(base));
                wal.release_prefix(base)?;
            }
            // A job that fails is no harm to the log.
            Op::Prepare => drop(wal.prepare().map(quorate_wal::PrepareJob::run)),
            Op::MarkSynced => wal.mark_synced()?,
            Op::Reopen => {
                self.wal = None;
                self.wal = Some(open(&self.disk.arc(), Path::new(DIR))?.0);
                self.allowed = vec![self.model.restarted()];
            }
        }
        self.model = self.allowed.pop().unwrap();
        self.allowed = vec![self.model.clone()];
        Ok(())
    }
}

fn script() -> Vec<Op> {
    let vote = |term| HardState { current_term: Term::new(term), voted_for: Some(NodeId::new(1)) };
    let with_vote = |term, write| Persist { hard_state: Some(vote(term)), ..write };
    let cut = |after, write| Persist { truncate_after: Some(index(after)), ..write };
    vec![
        Op::Persist(vec![with_vote(1, commands(1, 1..=3))]),
        Op::Persist(vec![commands(1, 4..=9), commands(1, 10..=12)]),
        Op::Prepare,
        Op::Persist(vec![cut(7, commands(2, 8..=9)), with_vote(3, Persist::default())]),
        Op::Persist(vec![cut(8, Persist::default())]),
        Op::Persist(vec![commands(3, 9..=20)]),
        Op::Prepare,
        Op::MarkSynced,
        Op::Persist(vec![commands(3, 21..=40)]),
        Op::Release(base(3, 15)),
        Op::Reopen,
        Op::Persist(vec![
            cut(30, commands(4, 31..=33)),
            cut(31, with_vote(5, commands(5, 32..=34))),
        ]),
        Op::Release(base(5, 34)),
        Op::Persist(vec![Persist {
            reset: Some(base(6, 90)),
            ..with_vote(6, commands(6, 91..=93))
        }]),
        Op::Persist(vec![commands(6, 94..=96)]),
        Op::Reopen,
    ]
}

/// Runs the script until it ends or the power does.
fn run_script(disk: FaultDisk) -> Option<Run> {
    let mut run = Run::start(disk).ok()?;
    for op in script() {
        if run.act(&op).is_err() {
            break;
        }
    }
    Some(run)
}

fn open_or_create(disk: &FaultDisk) -> Result<(Wal, Recovered), WalError> {
    if Wal::exists(disk.arc().as_ref(), Path::new(DIR)).unwrap() {
        open(&disk.arc(), Path::new(DIR))
    } else {
        create(&disk.arc(), Path::new(DIR))
    }
}

#[test]
fn power_loss_at_every_operation_keeps_what_was_acknowledged() {
    let whole = run_script(FaultDisk::default()).unwrap();
    let operation_count = whole.disk.count();
    assert_eq!(whole.model.last(), id(6, 96), "the script runs to its end");
    for stop_at in 0..operation_count {
        let disk = FaultDisk::default();
        disk.stop_at(stop_at);
        let run = run_script(disk.clone());
        assert!(disk.is_off());
        let allowed = run.as_ref().map_or(vec![Model::new(initial())], |run| run.allowed.clone());
        for seed in 0..8 {
            let context = format!("stopped at {stop_at}, seed {seed}");
            let mut rng = Rng::new(seed);
            let mut disk = disk.random_power_loss(&mut rng);
            assert!(
                run.is_none() || Wal::exists(disk.arc().as_ref(), Path::new(DIR)).unwrap(),
                "{context}"
            );
            check_and_go_on(&mut disk, &allowed, &context);
        }
    }
}

/// The log opens in an allowed state, takes more, and still has it after another power loss.
fn check_and_go_on(disk: &mut FaultDisk, allowed: &[Model], context: &str) {
    let (mut wal, recovered) = open_or_create(disk).unwrap_or_else(|error| {
        panic!("{context}: {error}");
    });
    let found = Model::of(&recovered);
    assert_allowed(&found, allowed, context);
    assert_eq!(read_all(&mut wal).unwrap(), found.entries, "{context}");
    let next = found.last().index.get() + 1;
    let more = [commands(found.last().term.get().max(1), next..=next)];
    wal.persist(&more).unwrap();
    drop(wal);
    *disk = disk.power_loss(|_, _| false);
    let (_, recovered) = open_or_create(disk).unwrap();
    assert_allowed(&Model::of(&recovered), &[found.after(&more)], context);
}

#[test]
fn long_lives_of_crashes_power_losses_and_failing_operations_lose_nothing() {
    // More on demand: QUORATE_WAL_SEEDS=100000 cargo test --release -p quorate-wal --test crash
    let count = std::env::var("QUORATE_WAL_SEEDS").map_or(150, |count| count.parse().unwrap());
    for seed in 0..count {
        live(seed);
    }
}

fn live(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut disk = FaultDisk::default();
    let mut allowed = vec![Model::new(initial())];
    let mut is_created = false;
    for round in 0..12 {
        let context = format!("seed {seed}, round {round}");
        let at = disk.count() + rng.below(25);
        match rng.below(6) {
            0 | 1 => disk.stop_at(at),
            2 => disk.fail_at(at, io::ErrorKind::Other),
            _ => {}
        }
        let exists = Wal::exists(disk.arc().as_ref(), Path::new(DIR)).unwrap();
        assert!(exists || !is_created, "{context}");
        match open_or_create(&disk) {
            Err(WalError::Io { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
            Ok((wal, recovered)) => {
                is_created = true;
                let model = Model::of(&recovered);
                assert_allowed(&model, &allowed, &context);
                let run = Run { disk: disk.clone(), wal: Some(wal), allowed: Vec::new(), model };
                allowed = work(run, &mut rng, &context);
            }
        }
        disk = if rng.chance(3) { disk.process_crash() } else { disk.random_power_loss(&mut rng) };
    }
}

/// Works until something fails or it is enough; returns what the log may hold then.
fn work(mut run: Run, rng: &mut Rng, context: &str) -> Vec<Model> {
    let entries = run.model.entries.clone();
    assert_eq!(read_all(run.wal.as_mut().unwrap()).unwrap(), entries, "{context}");
    run.allowed = vec![run.model.clone()];
    let at = run.disk.count() + rng.below(60);
    match rng.below(4) {
        0 | 1 => run.disk.stop_at(at),
        2 => run.disk.fail_at(at, io::ErrorKind::StorageFull),
        _ => {}
    }
    for _ in 0..rng.below(30) {
        let op = match rng.below(12) {
            0 => run.model.random_base(rng).map_or(Op::MarkSynced, Op::Release),
            1 | 2 => Op::Prepare,
            3 => Op::MarkSynced,
            _ => Op::Persist(run.model.random_batch(rng)),
        };
        let mut done = run.act(&op);
        let wal = run.wal.as_mut().unwrap();
        if !wal.is_poisoned()
            && let Err(error) = &done
        {
            assert!(matches!(error, WalError::DiskFull { .. }), "{context}: {error}");
            assert_eq!(read_all(wal).unwrap(), run.model.entries, "{context}");
            done = run.act(&op);
        }
        if done.is_err() {
            assert_poisoned(run.wal.as_mut().unwrap());
            return run.allowed;
        }
        let read = read_all(run.wal.as_mut().unwrap()).unwrap();
        assert_eq!(read, run.model.entries, "{context}");
    }
    run.allowed
}

fn assert_poisoned(wal: &mut Wal) {
    assert!(wal.is_poisoned());
    assert!(matches!(wal.persist(&[]), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.read(index(1), index(9), 9), Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.release_prefix(&base(1, 1)), Err(WalError::Poisoned { .. })));
    assert!(wal.prepare().is_none());
}

#[test]
fn a_failed_sync_poisons_for_good_and_its_pages_are_not_believed_after_a_restart() {
    let disk = FaultDisk::default();
    let mut run = Run::start(disk.clone()).unwrap();
    run.act(&Op::Persist(vec![commands(1, 1..=2)])).unwrap();
    // The second operation of the next batch is its sync.
    disk.fail_at(disk.count() + 1, io::ErrorKind::Other);
    let error = run.act(&Op::Persist(vec![commands(1, 3..=4)])).unwrap_err();
    assert!(matches!(error, WalError::Io { op: "sync", .. }), "{error}");
    assert_poisoned(run.wal.as_mut().unwrap());
    drop(run.wal.take());
    // The records are still readable from memory, and a restart takes them: then they must be
    // durable, although the system counts their pages as clean.
    let disk = disk.process_crash();
    let (wal, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_log, id(1, 4));
    drop(wal);
    let disk = disk.power_loss(|_, _| false);
    let (_, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_log, id(1, 4));
}

#[test]
fn a_failed_sync_of_either_copy_of_the_hard_state_is_an_error_and_poisons() {
    // Each copy is written, then synced.
    for sync in [1, 3] {
        let disk = FaultDisk::default();
        let mut run = Run::start(disk.clone()).unwrap();
        run.act(&Op::Persist(vec![commands(1, 1..=2)])).unwrap();
        disk.fail_at(disk.count() + sync, io::ErrorKind::Other);
        let hard_state = Some(HardState { current_term: Term::new(9), voted_for: None });
        let write = Persist { hard_state, ..Persist::default() };
        let error = run.act(&Op::Persist(vec![write])).unwrap_err();
        assert!(matches!(error, WalError::Io { op: "sync", .. }), "{error}");
        assert_poisoned(run.wal.as_mut().unwrap());
    }
}

#[test]
fn a_full_disk_where_room_was_promised_is_named_and_poisons() {
    let disk = FaultDisk::default();
    let mut run = Run::start(disk.clone()).unwrap();
    disk.fail_at(disk.count(), io::ErrorKind::StorageFull);
    let error = run.act(&Op::Persist(vec![commands(1, 1..=2)])).unwrap_err();
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
    assert_poisoned(run.wal.as_mut().unwrap());
}

#[test]
fn a_survivor_of_a_torn_batch_never_joins_the_records_written_after_it() {
    let disk = FaultDisk::default();
    let mut run = Run::start(disk.clone()).unwrap();
    // Records of 472 + 40 bytes: one a sector.
    let entries: Vec<_> = (1..=3).map(|index| common::command(1, index, 472)).collect();
    let torn = Persist { entries, ..Persist::default() };
    disk.stop_at(disk.count());
    run.act(&Op::Persist(vec![torn])).unwrap_err();
    let disk = disk.power_loss(|_, offset| offset != 4096);
    let (mut wal, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_log, id(0, 0));
    assert_eq!(recovered.torn_tail.unwrap().offset_bytes, 4096);
    // It ends exactly where the second record of the torn batch begins.
    let entries = vec![common::command(1, 1, 472)];
    wal.persist(&[Persist { entries, ..Persist::default() }]).unwrap();
    drop(wal);
    let disk = disk.power_loss(|_, _| false);
    let (_, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_log, id(1, 1));
}

#[test]
fn a_truncated_suffix_never_comes_back() {
    let disk = FaultDisk::default();
    let mut run = Run::start(disk.clone()).unwrap();
    run.act(&Op::Persist(vec![commands(1, 1..=10)])).unwrap();
    let cut = Persist { truncate_after: Some(index(5)), ..Persist::default() };
    run.act(&Op::Persist(vec![cut])).unwrap();
    for replacement in [None, Some(commands(2, 6..=6))] {
        if let Some(replacement) = replacement {
            run.act(&Op::Persist(vec![replacement])).unwrap();
        }
        let disk = disk.power_loss(|_, _| false);
        let (mut wal, recovered) = open(&disk.arc(), Path::new(DIR)).unwrap();
        assert_eq!(Model::of(&recovered), run.model.restarted());
        assert_eq!(read_all(&mut wal).unwrap(), run.model.entries);
    }
}

/// Opens the log with the power failing at every operation of the opening, in several ways, and
/// expects `model` each time.
fn open_with_power_failing(disk: &FaultDisk, model: &Model, context: &str) {
    for stop_after in 0.. {
        let stopping = disk.fork();
        stopping.stop_at(stopping.count() + stop_after);
        let is_open = open(&stopping.arc(), Path::new(DIR)).is_ok();
        for seed in 0..8 {
            let after = stopping.random_power_loss(&mut Rng::new(seed));
            let context = format!("{context}, stopped after {stop_after}, seed {seed}");
            let opened = open(&after.arc(), Path::new(DIR));
            let (_, recovered) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_allowed(&Model::of(&recovered), std::slice::from_ref(model), &context);
        }
        if is_open {
            return;
        }
    }
}

#[test]
fn one_bad_copy_of_the_hard_state_survives_power_loss_during_the_repair() {
    let run = run_script(FaultDisk::default()).unwrap();
    for name in ["meta-a", "meta-b"] {
        let disk = run.disk.power_loss(|_, _| false);
        disk.edit(&Path::new(DIR).join(name), |bytes| bytes[30] ^= 1);
        open_with_power_failing(&disk, &run.model.restarted(), name);
    }
}

/// A release whose first copy of the hard state is readable after a restart and was never durable:
/// the segments that it released are still needed. Found by seed 1245 of the long lives.
#[test]
fn a_release_that_never_reached_the_disk_has_removed_nothing() {
    let disk = FaultDisk::default();
    let mut run = Run::start(disk.clone()).unwrap();
    run.act(&Op::Persist(vec![commands(1, 1..=9)])).unwrap();
    run.act(&Op::Persist(vec![commands(1, 10..=20)])).unwrap();
    // Its first operation writes the first copy, the second syncs it.
    disk.fail_at(disk.count() + 1, io::ErrorKind::Other);
    run.act(&Op::Release(base(1, 15))).unwrap_err();
    let disk = disk.process_crash();
    for stop_after in 0..20 {
        let stopping = disk.fork();
        stopping.stop_at(stopping.count() + stop_after);
        drop(open(&stopping.arc(), Path::new(DIR)));
        for seed in 0..8 {
            let after = stopping.random_power_loss(&mut Rng::new(seed));
            let context = format!("stopped after {stop_after}, seed {seed}");
            let opened = open(&after.arc(), Path::new(DIR));
            let (_, recovered) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_allowed(&Model::of(&recovered), &run.allowed, &context);
        }
    }
}
