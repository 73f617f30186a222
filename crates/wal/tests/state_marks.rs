//! The mark beside the snapshots: whole and durable, or not there; and the folder that is emptied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_core::{LogId, LogIndex, SnapshotMeta, Term};
use quorate_wal::{RealDisk, SnapshotStore, StateMark, WalError};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path) -> SnapshotStore {
    SnapshotStore::open(Arc::new(RealDisk), dir).unwrap()
}

const DIVERGED: StateMark =
    StateMark::Diverged { index: LogIndex::new(77), own: u64::MAX, others: 1 };

#[test]
fn a_mark_outlives_its_process_is_replaced_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(dir.path()).state_mark().unwrap(), None);
    for mark in [DIVERGED, StateMark::Rebuilding, DIVERGED] {
        open(dir.path()).mark(mark).unwrap();
        assert_eq!(open(dir.path()).state_mark().unwrap(), Some(mark));
    }
    open(dir.path()).unmark().unwrap();
    assert_eq!(open(dir.path()).state_mark().unwrap(), None);
    open(dir.path()).unmark().unwrap();
}

#[test]
fn a_mark_of_which_any_bit_is_another_one_is_damage_and_never_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).mark(DIVERGED).unwrap();
    let path = dir.path().join("state-mark");
    let whole = fs::read(&path).unwrap();
    let flipped = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    for bytes in flipped.chain(cut) {
        fs::write(&path, bytes).unwrap();
        let read = open(dir.path()).state_mark();
        assert!(matches!(read, Err(WalError::Damaged { .. })), "{read:?}");
    }
}

#[test]
fn a_folder_that_is_emptied_has_no_snapshots_and_keeps_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.mark(DIVERGED).unwrap();
    for index in [3, 9] {
        let last_included = LogId::new(Term::new(1), LogIndex::new(index));
        let meta = SnapshotMeta { last_included, configuration: Arc::default() };
        let mut writer = store.create(meta).unwrap();
        writer.write_all(b"state").unwrap();
        writer.finish().unwrap();
    }
    assert_eq!(store.list().unwrap().len(), 2);
    store.clear().unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(open(dir.path()).list().unwrap(), []);
    assert_eq!(store.state_mark().unwrap(), Some(DIVERGED));
}
