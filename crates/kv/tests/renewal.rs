//! A store whose file is made anew again and again, on real files and with real threads, is the same store
//! to whoever reads and writes it meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{apply, committed, compact, everything, snapshot, tiny_limits};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LAST: u64 = 3000;

fn nth(index: u64) -> CommandKind {
    if index % 50 == 49 {
        return compact(i64::try_from(index / 2).unwrap());
    }
    let key = format!("{}", index * 7 % 100).into();
    let value = format!("{index}").repeat(50).into();
    CommandKind::Put(PutRequest { key, value, ..Default::default() })
}

fn replay(machine: &mut KvStateMachine, from: u64, to: u64) {
    for index in from + 1..=to {
        apply(machine, committed(index, nth(index)));
    }
}

#[test]
fn a_store_is_read_and_written_as_ever_while_its_file_is_made_anew_again_and_again() {
    let (mut model, of_model) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    replay(&mut model, 0, LAST);
    let expected = of_model.hash(None).unwrap();
    let key_count = of_model.range(&everything()).unwrap().kvs.len();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let engine = Arc::new(RedbEngine::open_with_cache(&path, 1 << 20).unwrap());
    let background = Arc::new(BackgroundThread::start().unwrap());
    let (mut store, reader) = open_with(engine, background, tiny_limits()).unwrap();
    replay(&mut store, 0, 200);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let renewing = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(reader.renew().unwrap(), None);
                count += 1;
            }
            count
        });
        let reading = scope.spawn(|| {
            let mut seen = 0;
            while !is_over.load(Ordering::Relaxed) {
                let all = reader.range(&everything()).unwrap();
                let revision = all.header.unwrap().revision;
                assert!(revision >= seen && all.kvs.len() == key_count, "{revision} after {seen}");
                seen = revision;
                // Every row is found by the index, and is what it was.
                reader.hash(None).unwrap();
            }
        });
        replay(&mut store, 200, LAST / 2);
        let bytes = snapshot(&store);
        replay(&mut store, LAST / 2, LAST);
        is_over.store(true, Ordering::Relaxed);
        assert!(renewing.join().unwrap() > 0);
        reading.join().unwrap();
        let (mut other, of_other) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
        let at = LogId::new(Term::new(1), LogIndex::new(LAST / 2));
        other.restore(at, &mut bytes.as_slice()).unwrap();
        replay(&mut other, LAST / 2, LAST);
        assert_eq!(of_other.hash(None).unwrap(), expected, "a snapshot of that time");
    });
    assert_eq!(reader.hash(None).unwrap(), expected);
    store.flush().unwrap();
    assert_eq!(reader.renew().unwrap(), None);
    // What a SIGKILL now would leave.
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let engine = RedbEngine::open(&copy).unwrap();
    let (again, reader) = open(Arc::new(engine), Arc::new(Inline)).unwrap();
    assert_eq!((again.applied().get(), reader.hash(None).unwrap()), (LAST, expected));
}
