//! The power fails between any two writes of the engine, while the background is late: what is left
//! says itself how much of the log it holds, and the rest of the log makes it whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{apply, committed, compact, delete, put, snapshot, tiny_limits};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::*;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

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
    replay_between(machine, from, LAST);
}

/// Applies the log after `from`, up to `to`.
fn replay_between(machine: &mut KvStateMachine, from: u64, to: u64) {
    for index in from + 1..=to {
        apply(machine, committed(index, nth(index)));
    }
}

/// The same with a background that is late, but not so late that the store waits for it.
fn replay_late(machine: &mut KvStateMachine, later: &Later, from: u64, to: u64) {
    for index in from + 1..=to {
        apply(machine, committed(index, nth(index)));
        if index % 7 == 0 {
            later.work();
        }
    }
}

/// What a store hashes to that has applied the whole log, and its snapshot at `index`.
fn expected_and_snapshot_at(index: u64) -> (StoreHash, Vec<u8>) {
    let (mut source, reader) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    replay_between(&mut source, 0, index);
    let bytes = snapshot(&source);
    replay(&mut source, index);
    (reader.hash(None).unwrap(), bytes)
}

#[test]
fn what_a_crash_leaves_at_any_moment_is_made_whole_by_the_log() {
    let (recorder, later) = (Recorder::default(), Later::default());
    let (mut store, reader) =
        open_with(Arc::new(recorder.clone()), Arc::new(later.clone()), tiny_limits()).unwrap();
    replay_late(&mut store, &later, 0, LAST);
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

/// etcd's was a crash within a defragmentation, which makes the store's file anew: the new file did
/// not know which entries it had, and took some of them in twice.
#[test]
fn etcd_14685_a_crash_while_a_store_is_made_anew_leaves_no_entry_out_and_repeats_none() {
    let (expected, snapshot) = expected_and_snapshot_at(LAST / 2);
    let end = LogId::new(Term::new(1), LogIndex::new(LAST / 2));
    let (recorder, later) = (Recorder::default(), Later::default());
    let (mut store, _) =
        open_with(Arc::new(recorder.clone()), Arc::new(later.clone()), tiny_limits()).unwrap();
    replay_late(&mut store, &later, 0, LAST / 4);
    later.work();
    let before = recorder.left.lock().unwrap().len();
    store.restore(end, &mut snapshot.as_slice()).unwrap();
    replay_late(&mut store, &later, end.index.get(), LAST);
    let left = recorder.left.lock().unwrap().clone();
    assert!(left.len() > before + 1, "it was made anew, and went on: {} writes", left.len());
    for (place, engine) in left.into_iter().enumerate() {
        let (mut again, reader) = open(Arc::new(engine), Arc::new(Inline)).unwrap();
        let from = again.applied().get();
        assert!(place < before || from >= end.index.get(), "the snapshot stays: {from}");
        replay(&mut again, from);
        assert_eq!(reader.hash(None).unwrap(), expected, "after write {place}");
    }
}

/// Stays in the middle of one write until somebody is over with something, or waits for it.
#[derive(Clone, Default)]
struct Halting {
    engine: MemoryEngine,
    halt: Arc<Mutex<Option<Halt>>>,
}

struct Halt {
    begun: mpsc::Sender<()>,
    over: mpsc::Receiver<()>,
}

impl Engine for Halting {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        self.engine.view()
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        let halt = self.halt.lock().unwrap().take();
        if let Some(Halt { begun, over }) = halt {
            begun.send(()).unwrap();
            let _waits = over.recv_timeout(Duration::from_millis(50));
        }
        self.engine.write_batch(batch, durability)
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(next)
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}

/// etcd's member went on writing to the file that a snapshot had replaced, because other work was
/// under way in it, and had lost all that when it was started again.
#[test]
fn etcd_20271_what_follows_a_snapshot_is_kept_although_older_work_was_under_way() {
    let (expected, snapshot) = expected_and_snapshot_at(3 * LAST / 4);
    let end = LogId::new(Term::new(1), LogIndex::new(3 * LAST / 4));
    let (engine, later) = (Halting::default(), Later::default());
    let (mut store, reader) =
        open_with(Arc::new(engine.clone()), Arc::new(later.clone()), tiny_limits()).unwrap();
    replay_late(&mut store, &later, 0, LAST / 4);
    store.start_flush();
    let ((begun, has_begun), (done, over)) = (mpsc::channel(), mpsc::channel());
    *engine.halt.lock().unwrap() = Some(Halt { begun, over });
    let late = later.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || late.work());
        has_begun.recv().expect("the store has something to write");
        store.restore(end, &mut snapshot.as_slice()).unwrap();
        // Nobody listens if the restore has waited, as it should.
        let _done = done.send(());
    });
    let (again, _) = open(Arc::new(engine.engine.after_crash()), Arc::new(Inline)).unwrap();
    assert_eq!(again.applied(), end.index, "the snapshot is what a crash leaves");
    replay_late(&mut store, &later, end.index.get(), LAST);
    while store.applied().get() < LAST {
        store.start_flush();
        later.work();
    }
    assert_eq!(reader.hash(None).unwrap(), expected);
    let (again, reader) = open(Arc::new(engine.engine.after_crash()), Arc::new(Inline)).unwrap();
    assert_eq!((again.applied().get(), reader.hash(None).unwrap()), (LAST, expected));
}
