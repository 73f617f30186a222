//! The workers at what worlds seldom meet: two snapshots on their way at once, and one that is wanted
//! while another is being written.

use super::*;
use crate::{Applier, Committed, Fatal, Input, QueryError, Replies, SnapshotView, StateMachine};
use bytes::Bytes;
use quorate_core::{Configuration, LogId, LogIndex, NodeId, SnapshotMeta, Term};
use quorate_wal::{
    Identity, Parcel, RealDisk, RottenFile, Scrubber, SnapshotStore, Standing, Wal, WalOptions,
};
use std::io::{Read, Write};

/// A state that is nothing but how far it has come.
struct Counting(LogIndex);

impl StateMachine for Counting {
    fn applied(&self) -> LogIndex {
        self.0
    }

    fn apply(&mut self, batch: &[Committed], _: &mut Replies) -> Result<(), Fatal> {
        self.0 = batch.last().map_or(self.0, |last| last.log_id.index);
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(View))
    }

    fn restore(&mut self, last_included: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        self.0 = last_included.index;
        Ok(())
    }
}

struct View;

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(b"state")
    }
}

fn at(index: u64) -> LogId {
    LogId::new(Term::new(1), LogIndex::new(index))
}

fn store(dir: &tempfile::TempDir) -> SharedStore {
    SharedStore::new(SnapshotStore::open(Arc::new(RealDisk), dir.path()).unwrap())
}

fn snapshot(store: &SharedStore, index: u64, state: &[u8]) {
    let configuration = Arc::new(Configuration::default());
    let meta = SnapshotMeta { last_included: at(index), configuration };
    let mut writer = store.lock().create(meta).unwrap();
    writer.write_all(state).unwrap();
    writer.finish().unwrap();
}

#[test]
fn each_peer_is_sent_pieces_of_its_own_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let files = [(4, b"four".as_slice()), (9, b"nine and more")].map(|(index, state)| {
        snapshot(&store, index, state);
        (index, parcel(&store, index))
    });
    let mut worker = FilesWorker::new(store);
    for offset in [0, 16, 80] {
        for (index, parcel) in &files {
            let expected = parcel.read_piece(offset, 16).unwrap();
            let (_, piece) = piece(&mut worker, *index, *index, offset);
            assert_eq!(piece, Some(expected), "of {index} from {offset} on");
        }
    }
}

fn parcel(store: &SharedStore, index: u64) -> Parcel {
    store.lock().pack(at(index)).unwrap().step(u64::MAX).unwrap().unwrap()
}

/// How many stretches of work it took to read a piece for a peer, and the piece.
fn piece(
    worker: &mut FilesWorker,
    peer: u64,
    index: u64,
    offset: u64,
) -> (usize, Option<(Bytes, bool)>) {
    let (peer, last_included, max_bytes) = (NodeId::new(peer), at(index), 16);
    worker.add(FileJob::Read { peer, last_included, offset, max_bytes });
    let mut count = 1;
    loop {
        let done = worker.work().unwrap().unwrap();
        if let Some(Input::SnapshotChunk { chunk, done, .. }) = done.input {
            return (count, Some((chunk, done)));
        }
        if let Some(Input::SnapshotGone { .. }) = done.input {
            return (count, None);
        }
        assert!(done.input.is_none() && done.is_unfinished);
        count += 1;
    }
}

#[test]
fn a_large_snapshot_is_looked_through_a_stretch_at_a_time_before_its_first_piece_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    snapshot(&store, 5, &vec![7; 20 << 20]);
    let mut worker = FilesWorker::new(store);
    assert_eq!(piece(&mut worker, 2, 5, 0).0, 3);
    assert_eq!(piece(&mut worker, 2, 5, 16).0, 1);
    assert_eq!(piece(&mut worker, 3, 5, 0).0, 1, "another peer gets it as it is");
    assert_eq!(piece(&mut worker, 2, 5, 0).0, 3, "who wants it again may have found it damaged");
}

#[test]
fn a_snapshot_that_goes_bad_while_it_is_sent_is_given_up_when_it_is_wanted_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    snapshot(&store, 5, b"state");
    let mut worker = FilesWorker::new(store);
    assert!(piece(&mut worker, 2, 5, 0).1.is_some());
    let mut paths = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.next().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 20;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(piece(&mut worker, 2, 5, 16).1.is_some(), "the receiver will find out");
    assert!(piece(&mut worker, 2, 5, 0).1.is_none());
}

#[test]
fn a_snapshot_that_is_wanted_while_another_is_written_is_taken_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Box::new(Counting(LogIndex::new(5)));
    let applier = Applier::new(machine, at(5), Arc::new(Configuration::default())).unwrap();
    let mut worker = MachineWorker::new(applier, store(&dir), None);
    worker.add(MachineJob::TakeSnapshot { at_least: LogIndex::new(5) });
    let first = worker.work().unwrap().unwrap().snapshot.unwrap();
    worker.add(MachineJob::TakeSnapshot { at_least: LogIndex::new(3) });
    assert!(worker.work().unwrap().unwrap().snapshot.is_none(), "one at a time");
    worker.add(MachineJob::SnapshotTaken(first.run().unwrap()));
    let done = worker.work().unwrap().unwrap();
    let ready = done.inputs.iter().filter(|input| matches!(input, Input::SnapshotReady { .. }));
    assert_eq!(ready.count(), 2, "the one that was written covers what the other was wanted for");
}

#[test]
fn a_disk_is_called_proven_once_that_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let node_id = NodeId::new(1);
    let identity = Identity { cluster_id: 7, node_id, storage_id: 1 };
    let configuration = Arc::new(Configuration::default());
    let initial = SnapshotMeta { last_included: LogId::ORIGIN, configuration };
    let disk = Arc::new(RealDisk);
    let options = WalOptions::default();
    let (wal, _) = Wal::create(disk.clone(), dir.path(), options, identity, initial).unwrap();
    assert_eq!(wal.standing(), Standing::Unproven);
    let mut worker = LogWorker::new(wal);
    worker.add(LogJob::Prove);
    let done = worker.work().unwrap().unwrap();
    assert!(matches!(done.input, Some(Input::Proved)));
    drop(worker);
    let (wal, _) = Wal::open(disk, dir.path(), options, 7, node_id).unwrap();
    assert_eq!((wal.standing(), wal.era()), (Standing::Proven, 2));
}

/// What came of reading everything again once: the last that was said of what is damaged, which
/// snapshot is to be replaced, and how many files are damaged.
type Round = (Option<Vec<(RottenFile, Option<LogId>)>>, Option<LogId>, u64);

fn round(files: &mut FilesWorker) -> Round {
    let (mut said, mut replaced) = (None, None);
    loop {
        files.add(FileJob::Scrub { max_bytes: 1 << 20 });
        let FileDone { machine_job, input, scrub, .. } = files.work().unwrap().unwrap();
        let Some(Input::Scrubbed { rotten, .. }) = input else { panic!("{input:?}") };
        let all = rotten.map(|all| all.iter().map(|rot| (rot.file, rot.covered_by)).collect());
        said = all.or(said);
        if let Some(MachineJob::SnapshotRotten(rotten)) = machine_job {
            replaced = Some(rotten);
        }
        let scrub = scrub.unwrap();
        if scrub.is_round_over {
            return (said, replaced, scrub.rotten_count);
        }
    }
}

#[test]
fn a_damaged_snapshot_is_named_once_replaced_and_forgotten_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    snapshot(&store, 5, b"state");
    let identity = Identity { cluster_id: 7, node_id: NodeId::new(1), storage_id: 3 };
    let wal_dir = dir.path().join("wal");
    std::fs::create_dir(&wal_dir).unwrap();
    let snapshots = dir.path().to_owned();
    let scrubber = Scrubber::new(Arc::new(RealDisk), wal_dir, snapshots, identity);
    let mut files = FilesWorker::new(store.clone()).with_scrubber(scrubber);
    assert_eq!(round(&mut files), (None, None, 0));

    let is_snapshot = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "snap");
    let paths = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.into_iter().find(is_snapshot).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 20;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let file = RottenFile::Snapshot { last_included: at(5) };
    assert_eq!(round(&mut files), (Some(vec![(file, None)]), Some(at(5)), 1));
    assert_eq!(round(&mut files), (None, Some(at(5)), 1), "it was said already");
    snapshot(&store, 7, b"newer");
    assert_eq!(round(&mut files).0, Some(vec![(file, Some(at(7)))]));
    store.lock().remove_older_than(at(7)).unwrap();
    assert_eq!(round(&mut files), (Some(Vec::new()), None, 0));
}

#[test]
fn another_snapshot_is_taken_for_the_newest_one_if_that_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let configuration = Arc::new(Configuration::default());
    let latest = SnapshotMeta { last_included: at(5), configuration: Arc::clone(&configuration) };
    let applier = Applier::new(Box::new(Counting(LogIndex::new(9))), at(9), configuration).unwrap();
    let mut machine = MachineWorker::new(applier, store, Some(latest));
    machine.add(MachineJob::SnapshotRotten(at(4)));
    assert!(machine.work().unwrap().unwrap().snapshot.is_none(), "it was not the newest");
    machine.add(MachineJob::SnapshotRotten(at(5)));
    assert!(machine.work().unwrap().unwrap().snapshot.is_some());
    machine.add(MachineJob::SnapshotRotten(at(5)));
    assert!(machine.work().unwrap().unwrap().snapshot.is_none(), "one is on its way");
}
