//! The node's notes in the store: durable together with what was applied, and replaced together
//! with the state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Note, StateMachine};
use quorate_kv::{Inline, KvStateMachine, MemoryEngine, open};
use std::sync::Arc;

fn machine(engine: &MemoryEngine) -> KvStateMachine {
    open(Arc::new(engine.clone()), Arc::new(Inline)).unwrap().0
}

fn note(key: &'static str, value: Option<&'static str>) -> Note {
    Note { key: key.into(), value: value.map(Bytes::from) }
}

fn rows(machine: &mut KvStateMachine) -> Vec<(Bytes, Bytes)> {
    machine.notebook().expect("the store keeps notes").rows().unwrap()
}

fn row(key: &'static str, value: &'static str) -> (Bytes, Bytes) {
    (key.into(), value.into())
}

#[test]
fn notes_and_what_was_applied_reach_the_disk_together_or_not_at_all() {
    let engine = MemoryEngine::new();
    let mut store = machine(&engine);
    let notes = vec![note("a", Some("1")), note("b", Some("2"))];
    store.notebook().unwrap().keep(LogIndex::new(7), notes).unwrap();
    let mut lost = machine(&engine.after_crash());
    assert_eq!((lost.applied(), rows(&mut lost)), (LogIndex::ORIGIN, vec![]));
    store.flush().unwrap();
    let mut found = machine(&engine.after_crash());
    let expected = vec![row("a", "1"), row("b", "2")];
    assert_eq!((found.applied(), rows(&mut found)), (LogIndex::new(7), expected));

    let notes = vec![note("a", None), note("b", Some("3")), note("b", Some("4"))];
    store.notebook().unwrap().keep(LogIndex::new(8), notes).unwrap();
    store.flush().unwrap();
    assert_eq!(rows(&mut machine(&engine.after_crash())), vec![row("b", "4")]);
}

#[test]
fn a_snapshot_replaces_the_notes_with_the_state() {
    let mut source = machine(&MemoryEngine::new());
    let mut written = Vec::new();
    source.view().unwrap().write_to(&mut written).unwrap();

    let engine = MemoryEngine::new();
    let mut store = machine(&engine);
    store.notebook().unwrap().keep(LogIndex::new(3), vec![note("old", Some("1"))]).unwrap();
    store.notebook().unwrap().replace_with_restore(vec![row("new", "2")]);
    let last_included = LogId::new(Term::new(1), LogIndex::new(9));
    store.restore(last_included, &mut written.as_slice()).unwrap();
    let mut found = machine(&engine.after_crash());
    assert_eq!((found.applied(), rows(&mut found)), (LogIndex::new(9), vec![row("new", "2")]));
    assert_eq!(rows(&mut source), vec![]);
}
