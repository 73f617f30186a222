//! One test per rule that clients rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{apply, committed, compact, delete, everything, get, put, snapshot, tiny_limits};
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::*;
use std::sync::Arc;

struct Store {
    machine: KvStateMachine,
    reader: Reader,
    engine: MemoryEngine,
    next_index: u64,
}

impl Store {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let engine = MemoryEngine::new();
        let (machine, reader) =
            open_with(Arc::new(engine.clone()), Arc::new(Inline), limits).unwrap();
        Self { machine, reader, engine, next_index: 1 }
    }

    fn apply(&mut self, kind: CommandKind) -> Result<Outcome, OpError> {
        let entry = committed(self.next_index, kind);
        self.next_index += 1;
        apply(&mut self.machine, entry).into_result()
    }

    fn revision(&self) -> u64 {
        self.reader.revision().get()
    }

    fn one(&self, request: &RangeRequest) -> KeyValue {
        self.reader.range(request).unwrap().kvs[0].clone()
    }

    fn refusal(&self, request: &RangeRequest) -> OpError {
        self.reader.range(request).unwrap_err().refused().unwrap()
    }
}

fn ops(requests: Vec<Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn put_request(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn delete_request(key: &'static str) -> Request {
    Request::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

fn txn(success: Vec<Request>) -> TxnRequest {
    TxnRequest { success: ops(success), ..Default::default() }
}

#[test]
fn a_fresh_store_is_at_revision_1_and_the_first_write_makes_2() {
    let mut store = Store::new();
    assert_eq!(store.revision(), 1);
    store.apply(put("a", "1")).unwrap();
    assert_eq!(store.revision(), 2);
}

#[test]
fn deleting_nothing_does_not_raise_the_revision() {
    let mut store = Store::new();
    let Outcome::DeleteRange(response) = store.apply(delete("a")).unwrap() else { panic!() };
    assert_eq!((response.deleted, store.revision()), (0, 1));
}

#[test]
fn a_key_that_was_deleted_starts_again_at_version_1() {
    let mut store = Store::new();
    for kind in [put("a", "1"), put("a", "2"), delete("a"), put("a", "3")] {
        store.apply(kind).unwrap();
    }
    let kv = store.one(&get("a"));
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (1, 5, 5));
}

#[test]
fn all_writes_of_a_transaction_share_one_revision() {
    let mut store = Store::new();
    let puts = vec![Request::Put(put_request("a", "1")), Request::Put(put_request("b", "2"))];
    store.apply(CommandKind::Txn(txn(puts))).unwrap();
    assert_eq!(store.revision(), 2);
    assert_eq!(store.one(&get("a")).mod_revision, 2);
    assert_eq!(store.one(&get("b")).mod_revision, 2);
}

#[test]
fn a_read_in_a_transaction_sees_its_earlier_writes_and_a_nested_compare_does_not() {
    let mut store = Store::new();
    let created = Compare {
        target: CompareTarget::Create.into(),
        result: CompareResult::Greater.into(),
        key: "a".into(),
        ..Default::default()
    };
    let nested = TxnRequest { compare: vec![created], ..Default::default() };
    let request = txn(vec![
        Request::Put(put_request("a", "1")),
        Request::Range(get("a")),
        Request::Txn(nested),
    ]);
    let Outcome::Txn(response) = store.apply(CommandKind::Txn(request)).unwrap() else { panic!() };
    let Some(Response::Range(read)) = &response.responses[1].response else { panic!() };
    assert_eq!((read.kvs.len(), read.header.unwrap().revision), (1, 2));
    let Some(Response::Txn(nested)) = &response.responses[2].response else { panic!() };
    assert!(!nested.succeeded, "conditions are judged against the state before");
}

#[test]
fn a_missing_key_compares_as_zero_but_its_value_equals_nothing() {
    let mut store = Store::new();
    let mut ask = |target: CompareTarget, union| {
        let compare = Compare {
            target: target.into(),
            key: "missing".into(),
            target_union: union,
            ..Default::default()
        };
        let request = TxnRequest { compare: vec![compare], ..Default::default() };
        let Outcome::Txn(response) = store.apply(CommandKind::Txn(request)).unwrap() else {
            panic!()
        };
        response.succeeded
    };
    assert!(ask(CompareTarget::Create, Some(CompareUnion::CreateRevision(0))));
    assert!(ask(CompareTarget::Version, None));
    assert!(!ask(CompareTarget::Value, Some(CompareUnion::Value(Bytes::new()))));
}

#[test]
fn a_transaction_that_is_refused_half_way_leaves_nothing_behind() {
    let mut store = Store::new();
    store.apply(put("a", "1")).unwrap();
    let keep = PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
    let request = txn(vec![delete_request("a"), Request::Put(keep)]);
    assert_eq!(store.apply(CommandKind::Txn(request)), Err(OpError::KeyNotFound));
    assert_eq!((store.revision(), store.one(&get("a")).value), (2, "1".into()));
    store.apply(put("b", "2")).unwrap();
    assert_eq!(store.one(&get("a")).value, "1", "nor does the next revision bring it back");
    store.apply(put("a", "2")).unwrap();
    assert_eq!(store.one(&get("a")).version, 2);
}

#[test]
fn ignore_value_keeps_the_value_and_refuses_a_missing_key() {
    let mut store = Store::new();
    let keep = PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
    assert_eq!(store.apply(CommandKind::Put(keep.clone())), Err(OpError::KeyNotFound));
    store.apply(put("a", "1")).unwrap();
    store.apply(CommandKind::Put(keep)).unwrap();
    let kv = store.one(&get("a"));
    assert_eq!((kv.value, kv.version), ("1".into(), 2));
}

#[test]
fn a_lease_that_does_not_exist_is_refused() {
    let mut store = Store::new();
    let leased = PutRequest { lease: 7, ..put_request("a", "1") };
    assert_eq!(store.apply(CommandKind::Put(leased)), Err(OpError::LeaseNotFound));
}

#[test]
fn count_is_of_the_whole_range_whatever_limit_and_filters_say() {
    let mut store = Store::new();
    for key in ["a", "b", "c"] {
        store.apply(put(key, "1")).unwrap();
    }
    let limited = store.reader.range(&RangeRequest { limit: 1, ..everything() }).unwrap();
    assert_eq!((limited.kvs.len(), limited.count, limited.more), (1, 3, true));
    let filtered = RangeRequest { min_mod_revision: 4, ..everything() };
    let filtered = store.reader.range(&filtered).unwrap();
    assert_eq!((filtered.kvs.len(), filtered.count, filtered.more), (1, 3, false));
}

#[test]
fn a_compacted_revision_and_a_future_one_are_refused_with_etcds_words() {
    let mut store = Store::new();
    for value in ["1", "2", "3"] {
        store.apply(put("a", value)).unwrap();
    }
    store.apply(compact(3)).unwrap();
    let compacted = store.refusal(&RangeRequest { revision: 2, ..get("a") });
    assert_eq!(compacted.to_string(), "mvcc: required revision has been compacted");
    let future = store.refusal(&RangeRequest { revision: 5, ..get("a") });
    assert_eq!(future.to_string(), "mvcc: required revision is a future revision");
    assert_eq!(store.one(&RangeRequest { revision: 3, ..get("a") }).value, "2");
    assert_eq!(store.apply(compact(3)), Err(OpError::Compacted));
    assert_eq!(store.apply(compact(9)), Err(OpError::FutureRevision));
}

#[test]
fn compaction_frees_what_it_made_superfluous() {
    let mut store = Store::new();
    for _ in 0..20_000 {
        store.apply(put("a", "1")).unwrap();
    }
    for key in ["b", "c", "d"] {
        store.apply(put(key, "1")).unwrap();
        store.apply(delete(key)).unwrap();
    }
    store.machine.flush().unwrap();
    let before = store.reader.size_in_use_bytes();
    store.apply(compact(20_006)).unwrap();
    assert_eq!(store.reader.physically_compacted_revision(), Some(Revision::new(20_006)));
    assert!(store.reader.size_in_use_bytes() < 300, "one change and the last deletion are left");
    assert!(before > 100_000);
}

#[test]
fn bytes_that_are_no_command_get_a_reply_like_any_other() {
    let mut store = Store::new();
    let log_id = LogId::new(Term::new(1), LogIndex::new(1));
    let mut replies = Replies::default();
    for command in [Bytes::from_static(b"\xff\xff\xff"), Bytes::new()] {
        store.machine.apply(&[Committed { log_id, command }], &mut replies).unwrap();
    }
    assert_eq!(replies.count(), 2);
    let empty = CommandKind::Put(PutRequest::default());
    assert_eq!(store.apply(empty), Err(OpError::MalformedCommand));
}

#[test]
fn a_wrapped_request_is_the_command_around_it() {
    use prost::Message;
    let request = PutRequest { key: "a".into(), value: vec![1; 300].into(), ..Default::default() };
    let wrapped = Command::wrap(CommandTag::Put, &request.encode_to_vec());
    assert_eq!(Command::decode(wrapped).unwrap(), Command::new(CommandKind::Put(request)));
}

#[test]
fn what_was_applied_becomes_durable_only_with_a_flush() {
    let mut store = Store::new();
    store.apply(put("a", "1")).unwrap();
    assert_eq!(store.machine.applied(), LogIndex::ORIGIN);
    store.machine.flush().unwrap();
    assert_eq!(store.machine.applied(), LogIndex::new(1));
    let (again, reader) = open(Arc::new(store.engine.after_crash()), Arc::new(Inline)).unwrap();
    assert_eq!((again.applied(), reader.revision().get()), (LogIndex::new(1), 2));
    assert_eq!(reader.hash(None).unwrap(), store.reader.hash(None).unwrap());
}

#[test]
fn an_interrupted_compaction_goes_on_after_a_restart() {
    let mut store = Store::new();
    for _ in 0..100 {
        store.apply(put("a", "1")).unwrap();
    }
    store.apply(compact(90)).unwrap();
    let size = store.reader.size_in_use_bytes();
    // The crash comes between the flush that says "compacted" and the first deletion.
    let engine = MemoryEngine::new();
    let log_end = LogId::new(Term::new(1), LogIndex::new(101));
    let (mut other, _) = open(Arc::new(engine.clone()), Arc::new(Inline)).unwrap();
    other.restore(log_end, &mut snapshot(&store.machine).as_slice()).unwrap();
    let forget = Write::Delete { space: Space::Meta, key: b"scrub".to_vec() };
    engine.write_batch(vec![forget], Durability::Now).unwrap();
    let (_store, reader) = open(Arc::new(engine.after_crash()), Arc::new(Inline)).unwrap();
    assert_eq!(reader.physically_compacted_revision(), Some(Revision::new(90)));
    assert_eq!(reader.size_in_use_bytes(), size);
}

#[test]
fn a_snapshot_with_any_byte_damaged_or_missing_is_refused_and_the_old_state_stays() {
    let mut source = Store::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        source.apply(put(key, value)).unwrap();
    }
    let whole = snapshot(&source.machine);
    let mut target = Store::new();
    target.apply(put("old", "1")).unwrap();
    let log_end = LogId::new(Term::new(1), LogIndex::new(9));
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        assert!(target.machine.restore(log_end, &mut damaged.as_slice()).is_err(), "byte {place}");
        assert!(target.machine.restore(log_end, &mut &whole[..place]).is_err(), "cut at {place}");
    }
    assert_eq!(target.one(&get("old")).value, "1");
    target.machine.restore(log_end, &mut whole.as_slice()).unwrap();
    assert_eq!(target.reader.hash(None).unwrap(), source.reader.hash(None).unwrap());
    assert_eq!(target.machine.applied(), log_end.index);
}

#[test]
fn a_snapshot_that_covers_less_than_was_applied_is_refused() {
    let old = snapshot(&Store::new().machine);
    let mut store = Store::new();
    store.apply(put("a", "1")).unwrap();
    assert!(store.machine.restore(LogId::ORIGIN, &mut old.as_slice()).is_err());
    assert_eq!(store.one(&get("a")).value, "1");
}

#[test]
fn readers_on_other_threads_never_see_half_a_transaction() {
    let engine = Arc::new(MemoryEngine::new());
    let background = Arc::new(BackgroundThread::start().unwrap());
    let (mut store, reader) = open_with(engine, background, tiny_limits()).unwrap();
    let watch = std::thread::spawn(move || {
        let mut last = 0;
        loop {
            let answer = reader.range(&everything()).unwrap();
            let values: Vec<_> = answer.kvs.iter().map(|kv| kv.value.clone()).collect();
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
            let revision = answer.header.unwrap().revision;
            assert!(revision >= last, "a reader never goes back");
            last = revision;
            if values.first().is_some_and(|value| value == "last") {
                return;
            }
        }
    });
    for round in 0..2000_u64 {
        let value = if round == 1999 { Bytes::from("last") } else { round.to_string().into() };
        let puts = ["a", "b", "c"].map(|key| {
            Request::Put(PutRequest { key: key.into(), value: value.clone(), ..Default::default() })
        });
        apply(&mut store, committed(2 * round + 1, CommandKind::Txn(txn(puts.to_vec()))));
        if round % 50 == 49 {
            let revision = i64::try_from(round).unwrap();
            apply(&mut store, committed(2 * round + 2, compact(revision)));
        }
    }
    watch.join().unwrap();
}

#[test]
fn apply_waits_for_room_when_the_overlay_is_at_its_limit() {
    /// Holds jobs back until the test runs them.
    #[derive(Default)]
    struct Held(std::sync::Mutex<Vec<Job>>, std::sync::Condvar);
    impl Background for Held {
        fn spawn(&self, job: Job) {
            self.0.lock().unwrap().push(job);
            self.1.notify_all();
        }
    }
    let held = Arc::new(Held::default());
    let background: Arc<dyn Background> = held.clone();
    let limits = Limits { flush_size_bytes: 1, overlay_size_bytes_max: 1000 };
    let (mut store, reader) = open_with(Arc::new(MemoryEngine::new()), background, limits).unwrap();
    let writer = std::thread::spawn(move || {
        for index in 1..=100 {
            apply(&mut store, committed(index, put("a", "1")));
        }
        store
    });
    let mut overlays_size_bytes_max = 0;
    while reader.revision().get() < 101 {
        let mut jobs = held.0.lock().unwrap();
        while jobs.is_empty() && reader.revision().get() < 101 {
            jobs = held.1.wait_timeout(jobs, std::time::Duration::from_millis(1)).unwrap().0;
        }
        overlays_size_bytes_max = overlays_size_bytes_max.max(reader.size_bytes());
        let jobs = std::mem::take(&mut *jobs);
        for job in jobs {
            job();
        }
    }
    writer.join().unwrap();
    assert_eq!(reader.revision().get(), 101);
    assert!(overlays_size_bytes_max < 100 * 200, "{overlays_size_bytes_max}");
}

#[test]
fn a_background_job_that_fails_makes_apply_fail_instead_of_waiting() {
    struct Broken;
    impl Engine for Broken {
        fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
            MemoryEngine::new().view()
        }
        fn write_batch(&self, _: Vec<Write>, _: Durability) -> Result<(), EngineError> {
            Err(EngineError::Aborted)
        }
        fn replace(&self, _: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
            Err(EngineError::Aborted)
        }
        fn size_bytes(&self) -> u64 {
            0
        }
    }
    let (mut store, _) = open_with(Arc::new(Broken), Arc::new(Inline), tiny_limits()).unwrap();
    apply(&mut store, committed(1, put("a", "1")));
    assert!(store.flush().is_err());
    let entry = committed(2, put("a", "1"));
    assert!(store.apply(&[entry], &mut Replies::default()).is_err());
    assert_eq!(store.applied(), LogIndex::ORIGIN);
}

#[test]
fn a_put_that_is_refused_counts_before_a_range_that_is_wherever_they_stand() {
    let mut store = Store::new();
    let future = RangeRequest { key: "a".into(), revision: 9, ..Default::default() };
    let keep = PutRequest { key: "absent".into(), ignore_value: true, ..Default::default() };
    let nested = txn(vec![Request::Put(keep)]);
    let both = txn(vec![Request::Range(future.clone()), Request::Txn(nested)]);
    assert_eq!(store.apply(CommandKind::Txn(both)), Err(OpError::KeyNotFound));
    let put = Request::Put(put_request("a", "1"));
    let range_alone = txn(vec![put, Request::Range(future)]);
    assert_eq!(store.apply(CommandKind::Txn(range_alone)), Err(OpError::FutureRevision));
    assert_eq!(store.revision(), 1, "nothing was written");
}
