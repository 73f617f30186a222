//! A server whose state was emptied, and whose log begins behind what was lost: it votes and
//! acknowledges by its log, and neither campaigns nor applies before a leader has sent it a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{index, log_id, node, voters};
use quorate_core::{
    AppendEntries, Effect, Entry, Event, HardState, InstallSnapshot, LogId, Message, Options,
    Payload, Poison, Raft, Reason, RequestVote, RequestVoteResponse, Restored, Role, SnapshotMeta,
    Term, Time, TimeoutNow, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

fn noop(at: u64) -> Entry {
    Entry { log_id: log_id(at, 1), payload: Payload::Noop }
}

fn meta(last_included: LogId) -> SnapshotMeta {
    SnapshotMeta { last_included, configuration: Arc::new(voters(3)) }
}

/// n1 with the entries 6 to 9 of term 1, and with or without a state.
fn server(applied: u64) -> Raft {
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: meta(log_id(5, 1)),
        term_runs: vec![(index(6), Term::new(1))],
        configurations: Vec::new(),
        last_log: log_id(9, 1),
        tail: (6..=9).map(noop).collect(),
        applied: index(applied),
        lost: None,
    };
    Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).unwrap()
}

fn step_at(raft: &mut Raft, now: Time, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(now, event, &mut effects);
    effects
}

fn step(raft: &mut Raft, event: Event) -> Vec<Effect> {
    step_at(raft, Time::ZERO, event)
}

fn receive(raft: &mut Raft, message: Message) -> Vec<Effect> {
    step(raft, Event::Message { from: node(2), message })
}

/// The leader of term 1 says that everything up to `leader_commit` is committed.
fn commit(raft: &mut Raft, leader_commit: u64) -> Vec<Effect> {
    let (term, leader_commit) = (Term::new(1), index(leader_commit));
    let prev_log = log_id(9, 1);
    let append = AppendEntries { term, prev_log, entries: Vec::new(), leader_commit };
    receive(raft, Message::AppendEntries(append))
}

/// A whole snapshot arrives and is written.
fn fetch(raft: &mut Raft, last_included: LogId) -> Vec<Effect> {
    let (term, chunk) = (Term::new(1), Bytes::from_static(b"abc"));
    let meta = meta(last_included);
    let message = InstallSnapshot { term, meta, offset: 0, chunk, done: true };
    let mut effects = receive(raft, Message::InstallSnapshot(message));
    let written = Event::SnapshotWritten { last_included, next_offset: 3, complete: true };
    effects.extend(step(raft, written));
    effects
}

fn restores(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::RestoreSnapshot { .. }))
}

fn handed(effects: &[Effect]) -> Vec<u64> {
    let entries = effects.iter().filter_map(|effect| match effect {
        Effect::Apply { entries } => Some(entries),
        _ => None,
    });
    entries.flatten().map(|entry| entry.log_id.index.get()).collect()
}

#[test]
fn without_its_state_a_server_applies_nothing_and_says_what_it_waits_for() {
    let mut raft = server(0);
    assert_eq!(handed(&commit(&mut raft, 9)), [0; 0]);
    assert_eq!(raft.commit_index(), index(9));
    assert!(raft.explain().contains(&Reason::StateMissing { base: index(5) }));
    assert_eq!(handed(&commit(&mut server(5), 9)), [6, 7, 8, 9]);
}

#[test]
fn without_its_state_a_server_votes_and_does_not_campaign_when_asked_or_by_itself() {
    let mut raft = server(0);
    let later = Time::ZERO.after(Duration::from_mins(1));
    assert_eq!(step_at(&mut raft, later, Event::Deadline), []);
    let message = Message::TimeoutNow(TimeoutNow { term: Term::new(1) });
    assert_eq!(step_at(&mut raft, later, Event::Message { from: node(2), message }), []);
    assert_eq!(raft.role(), Role::Follower);
    let (term, phase) = (Term::new(2), VotePhase::PreVote);
    let asked = Message::RequestVote(RequestVote { term, last_log: log_id(9, 1), phase });
    let effects = step_at(&mut raft, later, Event::Message { from: node(2), message: asked });
    let message = Message::RequestVoteResponse(RequestVoteResponse { term, phase, granted: true });
    assert_eq!(effects, [Effect::Send { to: node(2), message }]);
    let mut whole = server(5);
    step_at(&mut whole, later, Event::Deadline);
    assert_eq!(whole.role(), Role::PreCandidate);
}

#[test]
fn a_snapshot_that_the_log_does_not_need_gives_the_state_back_and_leaves_the_log() {
    let mut raft = server(0);
    commit(&mut raft, 8);
    let effects = fetch(&mut raft, log_id(7, 1));
    assert!(restores(&effects));
    let writes = effects.iter().any(|effect| matches!(effect, Effect::Persist(_)));
    assert!(!writes, "what follows may have been acknowledged");
    let last_included = log_id(7, 1);
    let effects = step(&mut raft, Event::SnapshotRestored { last_included });
    assert_eq!(handed(&effects), [8]);
    assert_eq!((raft.last_log(), raft.base().last_included), (log_id(9, 1), log_id(5, 1)));
    assert!(!raft.lacks_state());
    assert!(!restores(&fetch(&mut raft, log_id(8, 1))), "that was enough");
}

#[test]
fn a_snapshot_that_ends_before_the_log_begins_is_of_no_use() {
    let mut raft = server(0);
    assert!(!restores(&fetch(&mut raft, log_id(4, 1))));
    assert!(raft.lacks_state());
}

#[test]
fn a_snapshot_beyond_the_log_replaces_both() {
    let mut raft = server(0);
    let effects = fetch(&mut raft, log_id(12, 1));
    let seq = effects.iter().find_map(|effect| match effect {
        Effect::Persist(persist) => Some(persist.seq),
        _ => None,
    });
    assert!(!restores(&effects));
    assert!(restores(&step(&mut raft, Event::Persisted { seq: seq.unwrap() })));
    step(&mut raft, Event::SnapshotRestored { last_included: log_id(12, 1) });
    assert_eq!((raft.base().last_included, raft.lacks_state()), (log_id(12, 1), false));
}

#[test]
fn who_has_diverged_falls_silent_and_says_from_where_on() {
    let mut raft = server(5);
    let index = index(7);
    assert_eq!(step(&mut raft, Event::Diverged { index }), []);
    assert_eq!(raft.status().poisoned, Some(Poison::Diverged { index }));
    assert_eq!(commit(&mut raft, 9), []);
}
