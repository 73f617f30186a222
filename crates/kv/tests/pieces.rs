//! Ranges that are read piece by piece: the pieces merged are the whole, whatever happens meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::ops::{self, Step};
use common::{apply, committed, compact, everything, put, tiny_limits};
use proptest::prelude::*;
use quorate_kv::*;
use std::sync::Arc;

/// A store and its log.
struct World {
    machine: KvStateMachine,
    reader: Reader,
    index: u64,
}

impl World {
    fn new() -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let (machine, reader) = open_with(engine, Arc::new(Inline), tiny_limits()).unwrap();
        Self { machine, reader, index: 0 }
    }

    fn command(&mut self, kind: CommandKind) {
        self.index += 1;
        apply(&mut self.machine, committed(self.index, kind));
    }

    /// Does what a step says, if that is a change.
    fn step(&mut self, step: &Step) {
        match step {
            Step::Command(kind) => self.command(kind.clone()),
            Step::Compact(behind) => {
                let revision = self.reader.revision().to_wire() - behind;
                self.command(compact(revision));
            }
            Step::Flush => self.machine.flush().unwrap(),
            Step::Range(_) | Step::Crash | Step::Snapshot => {}
        }
    }

    fn pieces(&self, request: &RangeRequest) -> Result<RangePieces, ReadError> {
        self.reader.range_pieces(&Access::System, request.clone())
    }
}

/// Merges pieces as protobuf does, and checks what only the last may say.
#[derive(Default)]
struct Merged {
    whole: RangeResponse,
    is_over: bool,
}

impl Merged {
    fn add(&mut self, piece: RangeResponse) {
        assert!(!self.is_over, "nothing follows the last piece");
        self.is_over = piece.header.is_some();
        assert!(self.is_over || (!piece.more && piece.count == 0 && !piece.kvs.is_empty()));
        self.whole.kvs.extend(piece.kvs);
        self.whole.header = piece.header;
        self.whole.more = piece.more;
        self.whole.count = piece.count;
    }
}

fn refusal(error: &ReadError) -> OpError {
    match error {
        ReadError::Refused(refusal) => *refusal,
        ReadError::Engine(error) => panic!("the engine failed: {error}"),
    }
}

/// A request that can be answered in pieces.
fn request() -> impl Strategy<Value = RangeRequest> {
    ops::range().prop_map(|request| RangeRequest {
        sort_order: request.sort_order % 2,
        sort_target: 0,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
        ..request
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn pieces_merged_are_the_range_of_the_moment_when_the_first_was_asked_for(
        before in prop::collection::vec(ops::step(), 0..40),
        request in request(),
        size_bytes in 0..300_usize,
        meanwhile in prop::collection::vec(ops::step(), 0..20),
    ) {
        let mut world = World::new();
        for step in &before {
            world.step(step);
        }
        prop_assert!(!is_sorted(&request) && !is_filtered(&request));
        let (whole, pieces) = (world.reader.range(&request), world.pieces(&request));
        let (whole, mut pieces) = match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => (whole, pieces),
            (Err(whole), Err(pieces)) => {
                prop_assert_eq!(refusal(&whole), refusal(&pieces));
                return Ok(());
            }
            (whole, pieces) => panic!("{whole:?}, and pieces: {}", pieces.is_ok()),
        };
        let at = if request.revision > 0 { request.revision } else { world.reader.revision().to_wire() };
        let (mut merged, mut changes) = (Merged::default(), meanwhile.iter());
        loop {
            match pieces.next(size_bytes) {
                Ok(Some(piece)) => merged.add(piece),
                Ok(None) => break,
                Err(error) => {
                    prop_assert_eq!(refusal(&error), OpError::Compacted);
                    let compacted = world.reader.compacted_revision().unwrap().to_wire();
                    prop_assert!(compacted > at, "{} is readable at {}", at, compacted);
                    return Ok(());
                }
            }
            // Some writes, flushes and compactions before the next one.
            changes.by_ref().take(2).for_each(|step| world.step(step));
        }
        prop_assert!(merged.is_over, "the last piece says so");
        prop_assert_eq!(merged.whole, whole);
    }
}

#[test]
fn a_piece_ends_with_the_key_that_fills_it() {
    let mut world = World::new();
    for key in ["a", "b", "c", "d", "e"] {
        world.command(put(key, "0123456789012345678901234567890123456789"));
    }
    let sizes = |size_bytes| {
        let mut pieces = world.pieces(&everything()).unwrap();
        let pieces = std::iter::from_fn(|| pieces.next(size_bytes).unwrap());
        pieces.map(|piece| piece.kvs.len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(0), [1, 1, 1, 1, 1, 0]);
    assert_eq!(sizes(80), [2, 2, 1]);
    assert_eq!(sizes(1 << 20), [5]);
}

#[test]
fn what_is_compacted_between_two_pieces_cannot_be_read_on() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        world.command(put(key, "1"));
    }
    let mut pieces = world.pieces(&everything()).unwrap();
    assert_eq!(pieces.next(0).unwrap().unwrap().kvs[0].key, "a");
    world.command(compact(4));
    assert_eq!(pieces.next(0).unwrap().unwrap().kvs[0].key, "b", "its own revision is kept");
    world.command(put("c", "2"));
    world.command(compact(5));
    assert_eq!(refusal(&pieces.next(0).unwrap_err()), OpError::Compacted);
    assert!(pieces.next(0).unwrap().is_none(), "and that was all");
}

#[test]
fn a_snapshot_that_replaces_the_store_changes_nothing_of_what_is_told() {
    let (mut world, mut other) = (World::new(), World::new());
    for key in ["a", "b", "c"] {
        world.command(put(key, "1"));
        other.command(put(key, "1"));
    }
    other.command(put("b", "2"));
    let mut pieces = world.pieces(&everything()).unwrap();
    let first = pieces.next(0).unwrap().unwrap();
    let snapshot = common::snapshot(&other.machine);
    let last = committed(other.index, put("b", "2")).log_id;
    quorate::StateMachine::restore(&mut world.machine, last, &mut snapshot.as_slice()).unwrap();
    let rest = pieces.next(1 << 20).unwrap().unwrap();
    assert_eq!((first.kvs.len(), rest.kvs.len(), rest.count), (1, 2, 3));
    assert!(rest.kvs.iter().all(|kv| kv.value == "1"), "as of the first piece: {rest:?}");
    assert_eq!(rest.header.unwrap().revision, 4);
}
