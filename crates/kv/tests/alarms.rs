//! Alarms stand in the log: what they forbid is forbidden on every replica alike, after a restart
//! and after a snapshot too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{apply, committed, compact, delete, everything, put, snapshot};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::*;
use std::sync::Arc;

fn alarm(action: AlarmAction, member_id: u64, kind: AlarmKind) -> CommandKind {
    CommandKind::Alarm(AlarmRequest { action: action.into(), member_id, alarm: kind.into() })
}

fn raise(member_id: u64, kind: AlarmKind) -> CommandKind {
    alarm(AlarmAction::Activate, member_id, kind)
}

fn nested_put() -> CommandKind {
    let ops = |request| vec![RequestOp { request: Some(request) }];
    let put = PutRequest { key: "n".into(), ..Default::default() };
    let inner = TxnRequest { failure: ops(Request::Put(put)), ..Default::default() };
    CommandKind::Txn(TxnRequest { success: ops(Request::Txn(inner)), ..Default::default() })
}

struct Store {
    machine: KvStateMachine,
    reader: Reader,
    engine: MemoryEngine,
    next_index: u64,
}

impl Store {
    fn on(engine: MemoryEngine) -> Self {
        let (machine, reader) = open(Arc::new(engine.clone()), Arc::new(Inline)).unwrap();
        Self { next_index: reader.applied().index.get() + 1, machine, reader, engine }
    }

    fn new() -> Self {
        Self::on(MemoryEngine::new())
    }

    fn apply(&mut self, kind: CommandKind) -> Result<Outcome, OpError> {
        let entry = committed(self.next_index, kind);
        self.next_index += 1;
        apply(&mut self.machine, entry).into_result()
    }

    fn raised(&self, kind: AlarmKind) -> Vec<u64> {
        self.reader.alarms(kind).iter().map(|alarm| alarm.member_id).collect()
    }
}

#[test]
fn without_space_nothing_is_put_and_everything_else_goes_on() {
    let mut store = Store::new();
    store.apply(put("a", "1")).unwrap();
    store.apply(raise(7, AlarmKind::NoSpace)).unwrap();
    assert_eq!(store.apply(put("a", "2")), Err(OpError::NoSpace));
    assert_eq!(store.apply(nested_put()), Err(OpError::NoSpace));
    assert_eq!(store.reader.revision().get(), 2, "what is refused raises no revision");
    store.apply(CommandKind::Txn(TxnRequest::default())).unwrap();
    store.apply(delete("a")).unwrap();
    store.apply(compact(3)).unwrap();
    assert_eq!(store.reader.range(&everything()).unwrap().count, 0);

    store.apply(alarm(AlarmAction::Deactivate, 7, AlarmKind::NoSpace)).unwrap();
    store.apply(put("a", "3")).unwrap();
}

#[test]
fn a_corrupt_cluster_changes_nothing_but_its_alarms() {
    let mut store = Store::new();
    store.apply(put("a", "1")).unwrap();
    store.apply(raise(7, AlarmKind::NoSpace)).unwrap();
    store.apply(raise(3, AlarmKind::Corrupt)).unwrap();
    for kind in [put("a", "2"), delete("a"), compact(2), CommandKind::Txn(TxnRequest::default())] {
        assert_eq!(store.apply(kind), Err(OpError::Corrupt));
    }
    assert_eq!(store.reader.range(&everything()).unwrap().count, 1);
    store.apply(alarm(AlarmAction::Deactivate, 3, AlarmKind::Corrupt)).unwrap();
    assert_eq!(store.apply(put("a", "2")), Err(OpError::NoSpace));
}

#[test]
fn an_alarm_is_raised_once_and_cleared_once_for_each_member() {
    let mut store = Store::new();
    for member_id in [7, 3, 7] {
        let outcome = store.apply(raise(member_id, AlarmKind::NoSpace)).unwrap();
        let Outcome::Alarm(response) = outcome else { panic!("{outcome:?}") };
        assert_eq!(response.alarms[0].member_id, member_id);
    }
    assert_eq!(store.raised(AlarmKind::None), [3, 7]);
    assert!(store.raised(AlarmKind::Corrupt).is_empty());
    for expected_count in [1, 0] {
        let outcome = store.apply(alarm(AlarmAction::Deactivate, 7, AlarmKind::NoSpace)).unwrap();
        let Outcome::Alarm(response) = outcome else { panic!("{outcome:?}") };
        assert_eq!(response.alarms.len(), expected_count);
    }
    assert_eq!(store.apply(put("a", "1")), Err(OpError::NoSpace), "member 3's still stands");
}

#[test]
fn alarms_outlive_a_restart_and_travel_with_a_snapshot() {
    let mut store = Store::new();
    store.apply(raise(7, AlarmKind::NoSpace)).unwrap();
    store.machine.flush().unwrap();
    let bytes = snapshot(&store.machine);
    let restarted = Store::on(store.engine.clone());
    assert_eq!(restarted.raised(AlarmKind::NoSpace), [7]);

    let mut other = Store::new();
    let last_included = LogId::new(Term::new(1), LogIndex::new(1));
    other.machine.restore(last_included, &mut bytes.as_slice()).unwrap();
    other.next_index = 2;
    assert_eq!(other.apply(put("a", "1")), Err(OpError::NoSpace));
    assert_eq!(snapshot(&other.machine), {
        store.apply(put("a", "1")).unwrap_err();
        snapshot(&store.machine)
    });
}

#[test]
fn alarms_are_limited_in_number_and_known_in_kind() {
    let mut store = Store::new();
    for member_id in 0..ALARMS_COUNT_MAX as u64 {
        store.apply(raise(member_id, AlarmKind::Corrupt)).unwrap();
    }
    assert_eq!(store.apply(raise(1000, AlarmKind::NoSpace)), Err(OpError::TooManyAlarms));
    store.apply(raise(5, AlarmKind::Corrupt)).unwrap();
    let unknown = AlarmRequest { action: 1, member_id: 1, alarm: 7 };
    assert_eq!(store.apply(CommandKind::Alarm(unknown)), Err(OpError::UnknownAlarm));
    let unknown = AlarmRequest { action: 7, member_id: 1, alarm: 1 };
    assert_eq!(store.apply(CommandKind::Alarm(unknown)), Err(OpError::UnknownAlarm));
}

#[test]
fn a_member_takes_back_what_it_said_of_its_disk_and_no_other_alarm() {
    let mut store = Store::new();
    store.apply(raise(7, AlarmKind::DiskFull)).unwrap();
    assert_eq!(store.apply(put("a", "1")), Err(OpError::NoSpace));
    assert_eq!(store.raised(AlarmKind::NoSpace), [7], "clients know one kind");
    assert!(store.reader.has_full_disk(7) && !store.reader.has_full_disk(3));
    store.apply(raise(7, AlarmKind::NoSpace)).unwrap();
    assert_eq!(store.raised(AlarmKind::None), [7], "and see one alarm");

    // The quota's, or an operator's, stays; in a snapshot and after a restart too.
    store.apply(alarm(AlarmAction::Deactivate, 7, AlarmKind::DiskFull)).unwrap();
    assert!(!store.reader.has_full_disk(7));
    assert_eq!(store.apply(put("a", "1")), Err(OpError::NoSpace));
    store.apply(raise(3, AlarmKind::DiskFull)).unwrap();
    store.machine.flush().unwrap();
    let mut store = Store::on(store.engine.after_crash());
    assert_eq!(store.raised(AlarmKind::NoSpace), [3, 7]);
    assert!(store.reader.has_full_disk(3) && !store.reader.has_full_disk(7));

    // An operator who says that it is over means every cause of it.
    store.apply(raise(7, AlarmKind::DiskFull)).unwrap();
    let cleared = store.apply(alarm(AlarmAction::Deactivate, 7, AlarmKind::NoSpace)).unwrap();
    let Outcome::Alarm(AlarmResponse { alarms, .. }) = cleared else { panic!("{cleared:?}") };
    assert_eq!(alarms, [AlarmMember { member_id: 7, alarm: AlarmKind::NoSpace.into() }]);
    assert_eq!(store.raised(AlarmKind::NoSpace), [3]);
    store.apply(alarm(AlarmAction::Deactivate, 3, AlarmKind::DiskFull)).unwrap();
    store.apply(put("a", "1")).unwrap();
}
