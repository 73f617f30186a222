//! Renewals on a disk in memory, which loses its power or says no at any moment, and on real files.

use super::place::{Name, Place};
use super::sim_folder::{Doing, Draws, Side, SimFolder};
use super::*;
use crate::{
    Background, Command, CommandKind, CompactionRequest, Inline, Job, KvStateMachine, Limits,
    PutRequest, Reader, StoreHash,
};
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;
const CACHE_BYTES: usize = 1 << 20;
const TINY: Limits = Limits { flush_size_bytes: 1500, overlay_size_bytes_max: 8192 };
const LAST: u64 = 150;

/// Does one part of a renewal after each batch, whether or not there is much to gain, so that batches come
/// in between; and begins anew.
struct InParts {
    engine: RedbEngine,
    outcomes: Arc<Mutex<Vec<Renewal>>>,
}

impl Engine for InParts {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        self.engine.view()
    }
    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        self.engine.write_batch(batch, durability)
    }
    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(next)
    }
    fn renew(&self, in_use_bytes: u64, _: bool) -> Result<Renewal, EngineError> {
        let outcome = self.engine.renew(in_use_bytes, true)?;
        self.outcomes.lock().unwrap().push(outcome.clone());
        Ok(if outcome == Renewal::UnderWay { Renewal::Idle } else { outcome })
    }
    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }
}

fn apply(store: &mut KvStateMachine, index: u64) -> Result<(), quorate::Fatal> {
    let key = format!("key {}", index * 7 % 23).into();
    let kind = match index % 12 {
        11 => {
            let revision = i64::try_from(index / 2).unwrap();
            CommandKind::Compact(CompactionRequest { revision, physical: false })
        }
        5 => CommandKind::DeleteRange(crate::DeleteRangeRequest { key, ..Default::default() }),
        _ => {
            let value = format!("{index}").repeat(60).into();
            CommandKind::Put(PutRequest { key, value, ..Default::default() })
        }
    };
    let log_id = LogId::new(Term::new(1), LogIndex::new(index));
    let command = Command::new(kind).encode_to_vec().into();
    store.apply(&[Committed { log_id, command }], &mut Replies::default())
}

fn expected() -> StoreHash {
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, reader) = crate::open(engine, Arc::new(Inline)).unwrap();
    (1..=LAST).for_each(|index| apply(&mut store, index).unwrap());
    reader.hash(None).unwrap()
}

/// An engine in such a folder; `beside` is where a marker of suspicion would lie.
fn engine_at(folder: &SimFolder, beside: &Path) -> Result<RedbEngine, EngineError> {
    let place = Box::new(folder.clone());
    let mut engine = RedbEngine::open_at(place, beside, CACHE_BYTES, Arc::new(|| false))?;
    engine.part_bytes = 1500;
    Ok(engine)
}

struct Life {
    store: KvStateMachine,
    reader: Reader,
    outcomes: Arc<Mutex<Vec<Renewal>>>,
}

/// A store that is made anew in parts all the time.
fn life(folder: &SimFolder, beside: &Path) -> Life {
    let (engine, outcomes) = (engine_at(folder, beside).unwrap(), Arc::default());
    let engine = InParts { engine, outcomes: Arc::clone(&outcomes) };
    let opened = crate::open_with(Arc::new(engine), Arc::new(Inline), TINY);
    let (store, reader) = opened.unwrap();
    Life { store, reader, outcomes }
}

/// Goes on with the log from where the store says that it is; what it is in the end.
fn brought_to_the_end(folder: &SimFolder, beside: &Path) -> (u64, StoreHash) {
    let engine = Arc::new(engine_at(folder, beside).unwrap());
    let (mut store, reader) = crate::open(engine, Arc::new(Inline)).unwrap();
    let from = store.applied().get();
    (from + 1..=LAST).for_each(|index| apply(&mut store, index).unwrap());
    (from, reader.hash(None).unwrap())
}

#[test]
fn power_loss_at_every_operation_of_a_renewal_leaves_one_whole_state_and_nothing_older() {
    let dir = tempfile::tempdir().unwrap();
    let beside = dir.path().join("state");
    let folder = SimFolder::default();
    // Made durable before the first cut, as a data folder is.
    drop(engine_at(&folder, &beside).unwrap());
    Place::sync_names(&folder).unwrap();
    let Life { mut store, reader, outcomes } = life(&folder, &beside);
    let (expected, vouched) = (expected(), Arc::new(AtomicU64::new(0)));
    let seen = Arc::new(Mutex::new((BTreeSet::new(), 0_u64)));
    let (of_look, counted) = (Arc::clone(&vouched), Arc::clone(&seen));
    let mut draws = Draws(7);
    folder.look(Box::new(move |disk, doing| {
        let left = disk.survivors(&mut draws);
        let (from, hash) = brought_to_the_end(&left, &beside);
        let at_least = of_look.load(Ordering::Relaxed);
        assert!(from >= at_least, "{from} after {at_least} was vouched for; before {doing:?}");
        assert_eq!(hash, expected, "before {doing:?}");
        assert!(!left.has_next(), "the leftover is gone");
        let mut counted = counted.lock().unwrap();
        counted.0.insert(doing);
        counted.1 += 1;
    }));
    for index in 1..=LAST {
        apply(&mut store, index).unwrap();
        vouched.store(reader.stored_applied().get(), Ordering::Relaxed);
    }
    folder.stop_looking();
    let outcomes = outcomes.lock().unwrap();
    let done = outcomes.iter().filter(|outcome| **outcome == Renewal::Done).count();
    assert!(done >= 3, "{outcomes:?}");
    let (kinds, count) = &*seen.lock().unwrap();
    assert!(*count > 500, "{count} cuts");
    for kind in [
        Doing::Write(Side::State),
        Doing::Write(Side::Next),
        Doing::Sync(Side::Next),
        Doing::Rename,
        Doing::SyncNames,
    ] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

/// Each change of the next file's fails once, and from then on, with either error; so does what is done to
/// the names.
#[test]
fn a_next_file_that_cannot_be_written_is_given_up_and_the_store_goes_on() {
    // The changes until the first of them is done, its name included.
    let count = Arc::new(AtomicU64::new(0));
    {
        let (dir, folder) = (tempfile::tempdir().unwrap(), SimFolder::default());
        let Life { mut store, .. } = life(&folder, &dir.path().join("state"));
        let last = Arc::clone(&count);
        folder.look(Box::new(move |disk, doing| {
            if !disk.has_been_renewed() || doing == Doing::SyncNames {
                last.fetch_max(disk.count + 1, Ordering::Relaxed);
            }
        }));
        (1..=LAST / 2).for_each(|index| apply(&mut store, index).unwrap());
    }
    let count = count.load(Ordering::Relaxed);
    let expected = expected();
    let (mut given_up, mut failed) = (0, 0);
    for (at, kind) in (1..=count).zip([ErrorKind::StorageFull, ErrorKind::Other].iter().cycle()) {
        let (dir, folder) = (tempfile::tempdir().unwrap(), SimFolder::default());
        let beside = dir.path().join("state");
        let failing = Arc::new(Mutex::new(None));
        let Ok(engine) = engine_at(&folder, &beside) else { continue };
        drop(engine);
        Place::sync_names(&folder).unwrap();
        let Life { mut store, reader, outcomes } = life(&folder, &beside);
        let first = folder.disk().count.max(at);
        folder.disk().fails = Some((first, *kind));
        let seen = Arc::clone(&failing);
        folder.look(Box::new(move |disk, doing| {
            if disk.count + 1 == first {
                *seen.lock().unwrap() = Some((doing, disk.has_been_renewed()));
            }
        }));
        let end = (1..=LAST).find(|index| apply(&mut store, *index).is_err());
        let Some((doing, is_later)) = *failing.lock().unwrap() else { continue };
        let of_state = matches!(doing, Doing::Write(Side::State) | Doing::Sync(Side::State));
        if of_state || is_later || doing == Doing::SyncNames {
            failed += u64::from(end.is_some());
        } else {
            assert_eq!(end, None, "{doing:?}: {:?}", reader.failure());
            assert_eq!(reader.hash(None).unwrap(), expected, "{doing:?}");
            assert!(!beside.with_added_extension("suspect").exists(), "{doing:?}");
            let outcomes = outcomes.lock().unwrap();
            let refused = outcomes.iter().any(|outcome| matches!(outcome, Renewal::Refused(_)));
            assert!(refused || doing == Doing::Remove, "{doing:?} {outcomes:?}");
            given_up += 1;
        }
        if doing == Doing::SyncNames {
            assert!(
                beside.with_added_extension("suspect").exists(),
                "which name counts is unknown"
            );
        }
    }
    assert!(given_up > 20 && failed > 0, "{given_up} {failed}");
}

/// A store with much history, and little left of it: a real file.
fn compacted(path: &Path) -> (KvStateMachine, Reader) {
    let engine = Arc::new(RedbEngine::open(path).unwrap());
    let (mut store, reader) = crate::open(engine, Arc::new(Inline)).unwrap();
    for index in 1..=2000 {
        let value = vec![b'v'; 2000].into();
        let put = PutRequest { key: "k".into(), value, ..Default::default() };
        committed(&mut store, index, CommandKind::Put(put));
    }
    store.flush().unwrap();
    let compaction = CompactionRequest { revision: 2000, physical: false };
    committed(&mut store, 2001, CommandKind::Compact(compaction));
    store.flush().unwrap();
    (store, reader)
}

fn committed(store: &mut KvStateMachine, index: u64, kind: CommandKind) {
    let log_id = LogId::new(Term::new(1), LogIndex::new(index));
    let command = Command::new(kind).encode_to_vec().into();
    store.apply(&[Committed { log_id, command }], &mut Replies::default()).unwrap();
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_renewed_file_is_small_and_who_reads_the_old_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut store, reader) = compacted(&path);
    let (before, hash) = (file_bytes(&path), reader.hash(None).unwrap());
    assert!(before > 4 << 20, "{before}");
    let snapshot = store.view().unwrap();
    let view = reader.engine_view();
    let mut rows = view.scan(Space::Rows, &[], None, Direction::Forward).unwrap();
    assert!(rows.advance().unwrap());
    let first = rows.value().to_vec();
    assert_eq!(reader.renew().unwrap(), None);
    let after = file_bytes(&path);
    assert!(after < 1 << 20, "{after} of {before}, {} in use", reader.size_in_use_bytes());
    assert_eq!((reader.hash(None).unwrap(), reader.size_bytes()), (hash, after));
    // What follows is of another store to the old readers.
    committed(
        &mut store,
        2002,
        CommandKind::Put(PutRequest { key: "new".into(), ..Default::default() }),
    );
    store.flush().unwrap();
    assert_eq!(rows.value(), first);
    while rows.advance().unwrap() {}
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes).unwrap();
    drop((rows, view));
    let hash = reader.hash(None).unwrap();
    drop((store, reader));
    let engine = Arc::new(RedbEngine::open(&path).unwrap());
    let (again, reader) = crate::open(engine, Arc::new(Inline)).unwrap();
    assert_eq!((again.applied().get(), reader.hash(None).unwrap()), (2002, hash));
    let (mut other, reader) = crate::open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    other.restore(LogId::new(Term::new(1), LogIndex::new(2001)), &mut bytes.as_slice()).unwrap();
    assert_eq!(reader.revision().get(), 2001);
}

/// Says what room there is, and remembers what it was told.
#[derive(Default)]
struct Told {
    room_bytes: AtomicU64,
    refused: Mutex<Vec<Refusal>>,
    begun: AtomicU64,
}

impl Steward for Told {
    fn room_bytes(&self) -> Option<u64> {
        Some(self.room_bytes.load(Ordering::Relaxed))
    }
    fn pace(&self, _: u64) {}
    fn has_begun(&self, _: u64, _: u64) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }
    fn has_ended(&self, _: u64, _: u64) {}
    fn has_given_up(&self, why: &Refusal) {
        self.refused.lock().unwrap().push(why.clone());
    }
}

#[test]
fn without_room_for_two_files_nothing_is_begun_and_it_is_said_why() {
    let dir = tempfile::tempdir().unwrap();
    let folder = SimFolder::default();
    let mut engine = engine_at(&folder, &dir.path().join("state")).unwrap();
    let told = Arc::new(Told { room_bytes: AtomicU64::new(MIB), ..Told::default() });
    engine.steward = Arc::<Told>::clone(&told);
    let needs_more = |refusal: &Refusal| match refusal {
        Refusal::NoRoom { needed_bytes, free_bytes } => needed_bytes > free_bytes,
        Refusal::Interrupted | Refusal::Failed { .. } => false,
    };
    let Renewal::Refused(why) = engine.renew(1000, true).unwrap() else { panic!("it was begun") };
    assert!(needs_more(&why) && why.to_string().contains("make room"), "{why}");
    assert!(!folder.has_next() && told.begun.load(Ordering::Relaxed) == 0);
    assert_eq!(*told.refused.lock().unwrap(), [why]);
}

#[test]
fn a_renewal_is_given_up_when_room_gets_short_and_before_a_batch_waits_for_it() {
    for is_batch in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let folder = SimFolder::default();
        let mut engine = engine_at(&folder, &dir.path().join("state")).unwrap();
        let told = Arc::new(Told { room_bytes: AtomicU64::new(100 * MIB), ..Told::default() });
        engine.steward = Arc::<Told>::clone(&told);
        assert_eq!(engine.renew(MIB, true).unwrap(), Renewal::UnderWay);
        assert!(folder.has_next());
        told.room_bytes.store(MIB, Ordering::Relaxed);
        if is_batch {
            engine.write_batch(Vec::new(), Durability::Now).unwrap();
        } else {
            let outcome = engine.renew(MIB, false).unwrap();
            assert!(matches!(outcome, Renewal::Refused(Refusal::NoRoom { .. })), "{outcome:?}");
        }
        assert!(!folder.has_next(), "its room is free again");
        assert_eq!(told.refused.lock().unwrap().len(), 1);
        // It was no failure: with room it begins anew.
        told.room_bytes.store(100 * MIB, Ordering::Relaxed);
        assert_eq!(engine.renew(MIB, true).unwrap(), Renewal::UnderWay);
    }
}

#[test]
fn a_renewal_is_due_only_if_much_is_to_be_gained() {
    let dir = tempfile::tempdir().unwrap();
    let folder = SimFolder::default();
    let engine = engine_at(&folder, &dir.path().join("state")).unwrap();
    let file_bytes = engine.size_bytes();
    assert_eq!(engine.renew(0, false).unwrap(), Renewal::Idle, "{file_bytes} are few");
    Place::open(&folder, Name::State).unwrap().set_len(400 * MIB).unwrap();
    assert_eq!(engine.renew(80 * MIB, false).unwrap(), Renewal::Idle, "it holds much");
    assert_eq!(engine.renew(10 * MIB, false).unwrap(), Renewal::UnderWay);
    assert_eq!(engine.renew(80 * MIB, false).unwrap(), Renewal::UnderWay, "what is begun goes on");
}

#[test]
fn a_copy_that_lacks_a_row_never_takes_the_place_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = SimFolder::default();
    let engine = engine_at(&folder, &dir.path().join("state")).unwrap();
    let put = |key: u8| Write::Put { space: Space::Rows, key: vec![key], value: vec![key; 9] };
    engine.write_batch((0..5).map(put).collect(), Durability::Now).unwrap();
    engine.renew(0, true).unwrap();
    engine.renew(0, true).unwrap();
    engine.lose_from_next(&Write::Delete { space: Space::Rows, key: vec![3] });
    let error = engine.renew(0, true).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("4 rows"), "{error}");
    assert!(!folder.has_next());
}

/// A background whose jobs wait until they are asked for.
#[derive(Default)]
struct Later(Mutex<Vec<Job>>);

impl Background for Later {
    fn spawn(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

#[test]
fn who_waits_for_a_renewal_is_told_when_the_store_is_closing() {
    let background = Arc::new(Later::default());
    let engine = Arc::new(MemoryEngine::new());
    let (mut store, reader) = crate::open(engine, Arc::<Later>::clone(&background)).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| reader.renew().unwrap());
        store.finish().unwrap();
        assert_eq!(waits.join().unwrap(), Some(Refusal::Interrupted));
    });
}

#[test]
fn a_renewal_ends_with_the_store_and_its_leftover_goes_with_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    drop(compacted(&path));
    let mut engine = RedbEngine::open(&path).unwrap();
    engine.part_bytes = 1;
    // The only row of the first space is copied.
    for _ in 0..3 {
        assert_eq!(engine.renew(1000, true).unwrap(), Renewal::UnderWay);
    }
    let next = path.with_added_extension("next");
    assert!(next.exists());
    let background = Arc::new(Later::default());
    let opened = crate::open(Arc::new(engine), Arc::<Later>::clone(&background));
    drop(opened.unwrap());
    for job in std::mem::take(&mut *background.0.lock().unwrap()) {
        job();
    }
    assert!(next.exists(), "nobody waited for the end");
    std::fs::write(&next, "what a crash left").unwrap();
    let engine = Arc::new(RedbEngine::open(&path).unwrap());
    assert!(!next.exists());
    let (store, reader) = crate::open(engine, Arc::new(Inline)).unwrap();
    assert_eq!((store.applied().get(), reader.revision().get()), (2001, 2001));
}
