//! Random commands, reads, flushes, crashes and snapshots against a naive model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::model::Model;
use common::ops::{self, Step};
use common::{apply, committed, everything, snapshot, tiny_limits};
use proptest::prelude::*;
use quorate::StateMachine;
use quorate_kv::*;
use std::sync::Arc;

/// An engine that a test can crash.
trait Disk {
    fn engine(&mut self) -> Arc<dyn Engine>;
    /// The engine of a new, empty disk, for a snapshot.
    fn fresh(&mut self) -> Arc<dyn Engine>;
}

struct Memory(MemoryEngine);

impl Disk for Memory {
    fn engine(&mut self) -> Arc<dyn Engine> {
        self.0 = self.0.after_crash();
        Arc::new(self.0.clone())
    }

    fn fresh(&mut self) -> Arc<dyn Engine> {
        self.0 = MemoryEngine::new();
        Arc::new(self.0.clone())
    }
}

struct File(tempfile::TempDir, u32);

impl Disk for File {
    fn engine(&mut self) -> Arc<dyn Engine> {
        let path = self.0.path().join(self.1.to_string());
        Arc::new(RedbEngine::open_with_cache(&path, 1 << 20).unwrap())
    }

    fn fresh(&mut self) -> Arc<dyn Engine> {
        self.1 += 1;
        self.engine()
    }
}

struct World<D: Disk> {
    disk: D,
    store: Option<(KvStateMachine, Reader)>,
    model: Model,
    /// Every command, with the reply that it got.
    log: Vec<(CommandKind, CommandReply)>,
}

impl<D: Disk> World<D> {
    fn new(mut disk: D) -> Self {
        let store = open_with(disk.engine(), Arc::new(Inline), tiny_limits()).unwrap();
        Self { disk, store: Some(store), model: Model::default(), log: Vec::new() }
    }

    fn store(&mut self) -> &mut KvStateMachine {
        &mut self.store.as_mut().unwrap().0
    }

    fn reader(&self) -> &Reader {
        &self.store.as_ref().unwrap().1
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Command(kind) => self.command(kind.clone()),
            Step::Compact(behind) => {
                let revision = self.model.revision() - behind;
                self.command(CommandKind::Compact(CompactionRequest { revision, physical: false }));
            }
            Step::Range(request) => self.check_range(request),
            Step::Flush => self.store().flush().unwrap(),
            Step::Crash => self.crash(),
            Step::Snapshot => self.move_by_snapshot(),
        }
    }

    fn command(&mut self, kind: CommandKind) {
        let index = self.log.len() as u64 + 1;
        let reply = apply(self.store(), committed(index, kind.clone()));
        assert_eq!(reply, self.model.apply(&kind), "{kind:?}");
        self.log.push((kind, reply));
    }

    fn check_range(&self, request: &RangeRequest) {
        let got = self.reader().range(request).map_err(|error| error.refused().unwrap());
        assert_eq!(got, self.model.range(request), "{request:?}");
    }

    fn check_all(&self) {
        self.check_range(&everything());
        for revision in 1..=self.model.revision() {
            self.check_range(&RangeRequest { revision, ..everything() });
        }
        assert_eq!(self.reader().revision().to_wire(), self.model.revision());
        assert_eq!(self.reader().key_count(), self.model.key_count() as u64);
        let compacted = self.reader().compacted_revision().map(Revision::to_wire);
        assert_eq!(compacted, self.model.compacted());
    }

    fn crash(&mut self) {
        let before = self.reader().hash(None).unwrap();
        self.store = None;
        self.store = Some(open_with(self.disk.engine(), Arc::new(Inline), tiny_limits()).unwrap());
        let applied = usize::try_from(self.store().applied().get()).unwrap();
        let log = std::mem::take(&mut self.log);
        for (index, (kind, reply)) in log.iter().enumerate().skip(applied) {
            let again = apply(self.store(), committed(index as u64 + 1, kind.clone()));
            assert_eq!(again, *reply, "a replay gives the replies that there were: {kind:?}");
        }
        self.log = log;
        assert_eq!(self.reader().hash(None).unwrap(), before);
    }

    fn move_by_snapshot(&mut self) {
        let before = self.reader().hash(None).unwrap();
        let bytes = snapshot(self.store());
        let last = committed(self.log.len() as u64, common::put("", "")).log_id;
        self.store = None;
        self.store = Some(open_with(self.disk.fresh(), Arc::new(Inline), tiny_limits()).unwrap());
        self.store().restore(last, &mut bytes.as_slice()).unwrap();
        assert_eq!(self.reader().hash(None).unwrap(), before);
        assert_eq!(self.store().applied(), last.index, "a restored state is durable");
        assert_eq!(snapshot(self.store()), bytes, "a snapshot's bytes do not depend on the place");
    }
}

fn run<D: Disk>(disk: D, steps: &[Step]) -> StoreHash {
    let mut world = World::new(disk);
    for step in steps {
        world.step(step);
    }
    world.check_all();
    world.crash();
    world.check_all();
    world.reader().hash(None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_store_in_memory_does_what_the_model_does(steps in prop::collection::vec(ops::step(), 1..60)) {
        run(Memory(MemoryEngine::new()), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_give_the_same_answers_and_hash(steps in prop::collection::vec(ops::step(), 1..60)) {
        let memory = run(Memory(MemoryEngine::new()), &steps);
        let file = run(File(tempfile::tempdir().unwrap(), 0), &steps);
        prop_assert_eq!(memory, file);
    }
}
