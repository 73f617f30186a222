//! The power fails between any two writes of the engine, while the background is late: what is left
//! says itself how much of the log it holds, and the rest of the log makes it whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{apply, committed, compact, delete, put, snapshot, tiny_limits};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::*;
use std::sync::{Arc, Mutex};

/// Remembers what a crash after each write would leave.
#[derive(Clone, Default)]
struct Recorder {
    engine: MemoryEngine,
    left: Arc<Mutex<Vec<MemoryEngine>>>,
}

impl Recorder {
    fn record(&self) {
        self.left.lock().unwrap().push(self.engine.after_crash());
    }
}

impl Engine for Recorder {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        self.engine.view()
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        self.engine.write_batch(batch, durability)?;
        self.record();
        Ok(())
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(next)?;
        self.record();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}

/// A background that works when it is told to.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Job>>>);

impl Background for Later {
    fn spawn(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

impl Later {
    fn work(&self) {
        let jobs = std::mem::take(&mut *self.0.lock().unwrap());
        for job in jobs {
            job();
        }
    }
}

fn nth(index: u64) -> CommandKind {
    match index % 10 {
        3 => delete("a"),
        7 => compact(i64::try_from(index / 3).unwrap()),
        even if even % 2 == 0 => put("a", "a value that is long enough to fill the overlay"),
        _ => put("b", "another one of those, so that both keys have many versions"),
    }
}

const LAST: u64 = 400;

/// Applies the log after `from`.
fn replay(machine: &mut KvStateMachine, from: u64) {
    for index in from + 1..=LAST {
        apply(machine, committed(index, nth(index)));
    }
}

#[test]
fn what_a_crash_leaves_at_any_moment_is_made_whole_by_the_log() {
    let (recorder, later) = (Recorder::default(), Later::default());
    let (mut store, reader) =
        open_with(Arc::new(recorder.clone()), Arc::new(later.clone()), tiny_limits()).unwrap();
    for index in 1..=LAST {
        apply(&mut store, committed(index, nth(index)));
        if index % 7 == 0 {
            later.work();
        }
    }
    let expected = reader.hash(None).unwrap();
    let left = recorder.left.lock().unwrap().clone();
    assert!(left.len() > 10, "{} writes", left.len());
    for (place, engine) in left.into_iter().enumerate() {
        let (mut again, reader) = open(Arc::new(engine), Arc::new(Inline)).unwrap();
        let from = again.applied().get();
        replay(&mut again, from);
        assert_eq!(reader.hash(None).unwrap(), expected, "after write {place}");
    }
}

#[test]
fn a_store_that_took_a_snapshot_over_has_applied_what_it_covers() {
    let (mut source, reader) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    replay(&mut source, 0);
    let expected = reader.hash(None).unwrap();
    // Behind the last command the log had two more entries, no-ops.
    let end = LogId::new(Term::new(1), LogIndex::new(LAST + 2));
    let engine = MemoryEngine::new();
    let (mut store, reader) = open(Arc::new(engine.clone()), Arc::new(Inline)).unwrap();
    store.restore(end, &mut snapshot(&source).as_slice()).unwrap();
    assert_eq!((store.applied(), reader.hash(None).unwrap()), (end.index, expected));
    let (again, _) = open(Arc::new(engine.after_crash()), Arc::new(Inline)).unwrap();
    assert_eq!(again.applied(), end.index, "durably");
}
