//! What a store inherits from a backup: everything that clients stored, at the same revision or at a
//! later one behind which all is compacted, and nothing of the members of the old cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{apply, committed, compact, delete, put, snapshot};
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Notebook, StateMachine};
use quorate_kv::lease::api::LeaseGrantRequest;
use quorate_kv::watch::{Pulled, WatchCreateRequest, WatchHub, WatchLimits, WatchStream};
use quorate_kv::*;
use std::sync::Arc;

fn empty() -> (KvStateMachine, Reader) {
    open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap()
}

/// Revisions 2 to 6: `a` twice, `b` come and gone, `c` on a lease. And an alarm, and a note.
fn ancestor() -> (KvStateMachine, Reader) {
    let (mut store, reader) = empty();
    let lease = CommandKind::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 });
    let (key, value) = ("c".into(), "leased".into());
    let leased = PutRequest { key, value, lease: 7, ..Default::default() };
    let (action, alarm) = (AlarmAction::Activate.into(), AlarmKind::NoSpace.into());
    let alarm = AlarmRequest { action, member_id: 4711, alarm };
    let commands = [
        put("a", "old"),
        put("b", "gone"),
        put("a", "new"),
        delete("b"),
        lease,
        CommandKind::Put(leased),
        CommandKind::Alarm(alarm),
    ];
    for (index, command) in (11..).zip(commands) {
        apply(&mut store, committed(index, command));
    }
    let note = quorate::Note { key: "b".into(), value: Some("a session".into()) };
    store.keep(LogIndex::new(18), vec![note]).unwrap();
    (store, reader)
}

fn heir(bump: u64) -> (KvStateMachine, Reader, Inherited) {
    let backup = snapshot(&ancestor().0);
    let (mut store, reader) = empty();
    let inherited = store.inherit(&mut backup.as_slice(), bump).unwrap();
    (store, reader, inherited)
}

fn value(reader: &Reader, key: &'static str, revision: i64) -> Result<Option<String>, ReadError> {
    let request = RangeRequest { key: key.into(), revision, ..Default::default() };
    let found = reader.range(&request)?.kvs.pop();
    Ok(found.map(|found| String::from_utf8(found.value.to_vec()).unwrap()))
}

fn refusal(reader: &Reader, revision: i64) -> OpError {
    match value(reader, "a", revision).unwrap_err() {
        ReadError::Refused(why) => why,
        other @ ReadError::Engine(_) => panic!("{other}"),
    }
}

#[test]
fn an_heir_has_the_keys_the_history_and_the_leases_and_no_alarm_and_no_note() {
    let (store, reader, inherited) = heir(0);
    assert_eq!(inherited.applied, LogId::new(Term::new(1), LogIndex::new(17)));
    assert_eq!((inherited.revision.get(), inherited.key_count), (6, 2));
    assert_eq!(inherited.compacted, None);
    assert_eq!(store.applied(), LogIndex::new(17));
    assert_eq!(value(&reader, "a", 0).unwrap().as_deref(), Some("new"));
    assert_eq!(value(&reader, "a", 2).unwrap().as_deref(), Some("old"));
    assert_eq!(value(&reader, "b", 4).unwrap().as_deref(), Some("gone"));
    assert_eq!(value(&reader, "b", 0).unwrap(), None);
    assert_eq!(reader.leases().len(), 1);
    assert_eq!(inherited.alarms.len(), 1, "{:?}", inherited.alarms);
    assert!(reader.alarms(AlarmKind::None).is_empty());
    assert!(store.rows().unwrap().is_empty(), "the sessions of the old cluster are not its own");
}

#[test]
fn a_bump_leaves_the_present_and_compacts_the_past() {
    let (mut store, reader, inherited) = heir(1_000);
    assert_eq!(inherited.revision.get(), 1_006);
    assert_eq!(inherited.compacted, Some(Revision::new(1_006)));
    assert_eq!(reader.revision().get(), 1_006);
    assert_eq!(value(&reader, "a", 0).unwrap().as_deref(), Some("new"));
    assert_eq!(value(&reader, "a", 1_006).unwrap().as_deref(), Some("new"));
    for old in [2, 6, 1_005] {
        assert!(matches!(refusal(&reader, old), OpError::Compacted), "{old}");
    }
    assert_eq!(reader.physically_compacted_revision(), Some(Revision::new(1_006)));
    apply(&mut store, committed(20, put("a", "newer")));
    assert_eq!(reader.revision().get(), 1_007);
}

#[test]
fn who_watches_from_an_old_revision_is_told_that_it_is_compacted_and_sees_later_ones_rise() {
    let (mut store, reader, _) = heir(1_000);
    let hub = WatchHub::new(&reader, WatchLimits::default(), || {});
    let watch = |start_revision| {
        let mut stream = hub.stream(|| {});
        let key = "a".into();
        stream.create(&WatchCreateRequest { key, start_revision, ..Default::default() });
        stream
    };
    let (mut old, mut new) = (watch(5), watch(1_007));
    apply(&mut store, committed(20, put("a", "newer")));
    while hub.advance().unwrap() {}
    let told = |stream: &mut WatchStream| {
        let mut responses = Vec::new();
        loop {
            match stream.pull().unwrap() {
                Pulled::Response(response) => responses.push(response),
                Pulled::Busy => {}
                Pulled::Idle => return responses,
            }
        }
    };
    let old = told(&mut old);
    let last = old.last().unwrap();
    assert!(last.canceled && last.compact_revision == 1_006, "{old:?}");
    let events: Vec<i64> = told(&mut new)
        .iter()
        .flat_map(|response| &response.events)
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert_eq!(events, [1_007]);
}

#[test]
fn what_the_bump_made_superfluous_is_gone_as_if_it_had_been_compacted_there() {
    let (_, bumped, _) = heir(1_000);
    let (mut other, reader, _) = heir(0);
    apply(&mut other, committed(20, compact(6)));
    let count = |reader: &Reader| reader.hash(None).unwrap().change_count;
    assert_eq!(count(&bumped), count(&reader));
}

#[test]
fn heirs_of_one_backup_are_equal_to_the_byte_whatever_their_engine() {
    for bump in [0, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let engine = RedbEngine::open(&folder.path().join("state")).unwrap();
        let (mut store, _) = open(Arc::new(engine), Arc::new(Inline)).unwrap();
        let backup = snapshot(&ancestor().0);
        store.inherit(&mut backup.as_slice(), bump).unwrap();
        assert_eq!(snapshot(&store), snapshot(&heir(bump).0));
    }
}

#[test]
fn an_heir_of_an_empty_store_has_a_place_in_the_log_all_the_same() {
    let backup = snapshot(&empty().0);
    let (mut store, reader) = empty();
    let inherited = store.inherit(&mut backup.as_slice(), 0).unwrap();
    assert_eq!(inherited.applied, LogId::new(Term::new(1), LogIndex::new(1)));
    assert_eq!((store.applied(), reader.revision()), (LogIndex::new(1), Revision::FIRST));
}

#[test]
fn what_cannot_be_inherited_is_refused_and_changes_nothing() {
    let backup = snapshot(&ancestor().0);
    let (mut store, reader) = empty();
    let refused = store.inherit(&mut backup.as_slice(), u64::MAX);
    assert!(matches!(refused, Err(SnapshotError::Bump { .. })), "{refused:?}");
    let refused = store.inherit(&mut &backup[..backup.len() - 9], 0);
    assert!(matches!(refused, Err(SnapshotError::Io(_))), "{refused:?}");
    assert_eq!((store.applied(), reader.revision()), (LogIndex::ORIGIN, Revision::FIRST));
    let (mut old, _) = ancestor();
    old.flush().unwrap();
    let refused = old.inherit(&mut backup.as_slice(), 0);
    assert!(matches!(refused, Err(SnapshotError::NotEmpty { .. })), "{refused:?}");
}
