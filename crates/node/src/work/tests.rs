//! The workers at what worlds seldom meet: two snapshots on their way at once, and one that is wanted
//! while another is being written.

use super::*;
use crate::{Applier, Committed, Fatal, Input, QueryError, Replies, SnapshotView, StateMachine};
use bytes::Bytes;
use quorate_core::{Configuration, LogId, LogIndex, NodeId, SnapshotMeta, Term};
use quorate_wal::{Identity, RealDisk, SnapshotStore, Standing, Wal, WalOptions};
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

fn snapshot(store: &SharedStore, index: u64, state: &[u8]) -> Bytes {
    let configuration = Arc::new(Configuration::default());
    let meta = SnapshotMeta { last_included: at(index), configuration };
    let mut writer = store.lock().create(meta).unwrap();
    writer.write_all(state).unwrap();
    writer.finish().unwrap();
    let reader = store.lock().reader(at(index)).unwrap();
    reader.read_chunk(0, usize::MAX).unwrap().0
}

#[test]
fn each_peer_is_sent_pieces_of_its_own_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let files = [(4, snapshot(&store, 4, b"four")), (9, snapshot(&store, 9, b"nine and more"))];
    let mut worker = FilesWorker::new(store);
    for offset in [0, 16] {
        for (index, whole) in &files {
            let (peer, last_included, max_bytes) = (NodeId::new(*index), at(*index), 16);
            let offset_bytes = u64::try_from(offset).unwrap();
            worker.add(FileJob::Read { peer, last_included, offset: offset_bytes, max_bytes });
            let done = worker.work().unwrap().unwrap();
            let Some(Input::SnapshotChunk { chunk, .. }) = done.input else { panic!("a piece") };
            assert_eq!(chunk, whole[offset..offset + 16], "of {index} from {offset} on");
        }
    }
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
