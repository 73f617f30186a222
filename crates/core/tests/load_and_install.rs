//! A snapshot replaces the log while entries of it are being read back for the state machine: what
//! was read, or could not be read any more, has lost its meaning and is no sign of damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use quorate_core::{
    AppendEntries, Configuration, Effect, Event, HardState, InstallSnapshot, LoadRequest, LogId,
    LogIndex, Member, MemberRole, Message, NodeId, Options, Raft, Restored, SnapshotMeta, Term,
    Time,
};
use std::sync::Arc;

const LEADER: NodeId = NodeId::new(2);

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

fn meta(last_included: LogId) -> SnapshotMeta {
    let member =
        Member { role: MemberRole::Voter, rank: 0, address: String::new(), context: Bytes::new() };
    let members = (1..=3).map(|node| (NodeId::new(node), member.clone())).collect();
    SnapshotMeta { last_included, configuration: Arc::new(Configuration { version: 0, members }) }
}

/// A server whose whole log, three entries, is on the disk and not in memory.
fn restarted() -> Raft {
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: meta(LogId::ORIGIN),
        term_runs: vec![(LogIndex::new(1), Term::new(1))],
        configurations: Vec::new(),
        last_log: id(1, 3),
        tail: Vec::new(),
        applied: LogIndex::ORIGIN,
    };
    Raft::new(NodeId::new(1), Options::default(), 7, restored, Time::ZERO).unwrap()
}

/// Steps, reports every write as durable, and returns all effects.
fn step(raft: &mut Raft, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(Time::ZERO, event, &mut effects);
    let writes: Vec<Event> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Persist(persist) => Some(Event::Persisted { seq: persist.seq }),
            _ => None,
        })
        .collect();
    for event in writes {
        effects.extend(step(raft, event));
    }
    effects
}

fn receive(raft: &mut Raft, message: Message) -> Vec<Effect> {
    step(raft, Event::Message { from: LEADER, message })
}

fn load_of(effects: &[Effect]) -> LoadRequest {
    let load = effects.iter().find_map(|effect| match effect {
        Effect::Load(request) => Some(*request),
        _ => None,
    });
    load.expect("the committed entries are read back")
}

#[test]
fn a_log_that_a_snapshot_replaced_while_it_was_read_is_not_called_unreadable() {
    let mut raft = restarted();
    let probe = AppendEntries {
        term: Term::new(2),
        prev_log: id(1, 3),
        entries: Vec::new(),
        leader_commit: LogIndex::new(3),
    };
    let request = load_of(&receive(&mut raft, Message::AppendEntries(probe)));
    let snapshot = InstallSnapshot {
        term: Term::new(2),
        meta: meta(id(2, 10)),
        offset: 0,
        chunk: Bytes::from_static(b"state"),
        done: true,
    };
    receive(&mut raft, Message::InstallSnapshot(snapshot));
    let last_included = id(2, 10);
    let whole = Event::SnapshotWritten { last_included, next_offset: 5, complete: true };
    let mut effects = step(&mut raft, whole);
    effects.extend(step(&mut raft, Event::Loaded { request, entries: Vec::new() }));
    assert!(!raft.is_poisoned());
    let restores = |effect: &Effect| matches!(effect, Effect::RestoreSnapshot { .. });
    assert!(effects.iter().any(restores), "{effects:?}");
    step(&mut raft, Event::SnapshotRestored { last_included });
    assert_eq!(raft.applied(), LogIndex::new(10));
}
