//! A follower takes in a snapshot (§5.1) while terms, leaders and its own log move on, and the disk
//! and the state machine answer late, twice or about something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{index, log_id, node, voters};
use quorate_core::{
    AppendEntries, Effect, Entry, Event, HardState, InstallSnapshot, InstallSnapshotResponse,
    LogId, LogIndex, Message, Options, Payload, Persist, Raft, Restored, SnapshotMeta, Term, Time,
};
use std::sync::Arc;

/// The snapshot that n2, the leader of term 2, sends.
fn whole() -> LogId {
    log_id(10, 2)
}

/// n1, with three entries of term 1.
fn server() -> Raft {
    let configuration = Arc::new(voters(3));
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(2), voted_for: None },
        base: SnapshotMeta { last_included: LogId::ORIGIN, configuration },
        term_runs: vec![(index(1), Term::new(1))],
        configurations: Vec::new(),
        last_log: log_id(3, 1),
        tail: (1..=3).map(|at| noop(at, 1)).collect(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).unwrap()
}

fn noop(at: u64, term: u64) -> Entry {
    Entry { log_id: log_id(at, term), payload: Payload::Noop }
}

fn step(raft: &mut Raft, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(Time::ZERO, event, &mut effects);
    effects
}

/// The leader of `term` sends three bytes of a snapshot.
fn piece(raft: &mut Raft, leader: u64, term: u64, of: LogId, offset: u64) -> Vec<Effect> {
    let (term, chunk) = (Term::new(term), Bytes::from_static(b"abc"));
    let meta = SnapshotMeta { last_included: of, configuration: Arc::new(voters(3)) };
    let message =
        Message::InstallSnapshot(InstallSnapshot { term, meta, offset, chunk, done: false });
    step(raft, Event::Message { from: node(leader), message })
}

/// The leader of `term` sends entries.
fn append(raft: &mut Raft, leader: u64, term: u64, entries: Vec<Entry>) -> Vec<Effect> {
    let (term, prev_log, leader_commit) = (Term::new(term), log_id(3, 1), LogIndex::ORIGIN);
    let message = Message::AppendEntries(AppendEntries { term, prev_log, entries, leader_commit });
    step(raft, Event::Message { from: node(leader), message })
}

fn written(raft: &mut Raft, last_included: LogId, complete: bool) -> Vec<Effect> {
    step(raft, Event::SnapshotWritten { last_included, next_offset: 3, complete })
}

fn writes_piece(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::WriteSnapshotChunk { .. }))
}

fn restores(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::RestoreSnapshot { .. }))
}

fn persists(effects: &[Effect]) -> Vec<&Persist> {
    let persists = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(persist) => Some(persist),
        _ => None,
    });
    persists.collect()
}

/// To whom it says what of a snapshot.
fn answers(effects: &[Effect]) -> Vec<(u64, InstallSnapshotResponse)> {
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Message::InstallSnapshotResponse(answer) } => {
            Some((to.get(), *answer))
        }
        _ => None,
    });
    answers.collect()
}

fn answer(term: u64, of: LogId, next_offset: u64, installed: bool) -> InstallSnapshotResponse {
    InstallSnapshotResponse { term: Term::new(term), last_included: of, next_offset, installed }
}

/// Has all of the snapshot; its new log is being written.
fn resetting() -> (Raft, Event) {
    let mut raft = server();
    assert!(writes_piece(&piece(&mut raft, 2, 2, whole(), 0)));
    let effects = written(&mut raft, whole(), true);
    let persists = persists(&effects);
    assert_eq!(persists[0].reset.as_ref().unwrap().last_included, whole());
    (raft, Event::Persisted { seq: persists[0].seq })
}

#[test]
fn a_snapshot_of_an_older_term_is_refused_and_its_sender_is_no_leader() {
    let mut raft = server();
    let effects = piece(&mut raft, 2, 1, log_id(10, 1), 0);
    assert_eq!(answers(&effects), [(2, answer(2, log_id(10, 1), 0, false))]);
    assert_eq!((effects.len(), raft.leader()), (1, None));
}

#[test]
fn pieces_that_arrive_while_the_log_is_being_replaced_change_nothing() {
    let (mut raft, reset) = resetting();
    assert_eq!(piece(&mut raft, 2, 2, whole(), 0), []);
    assert_eq!(piece(&mut raft, 2, 2, log_id(12, 2), 0), []);
    assert!(restores(&step(&mut raft, reset)));
}

#[test]
fn a_snapshot_that_is_reported_whole_twice_is_installed_once() {
    let (mut raft, reset) = resetting();
    assert_eq!(written(&mut raft, whole(), true), []);
    assert!(restores(&step(&mut raft, reset)));
    assert_eq!(written(&mut raft, whole(), true), []);
    let effects = step(&mut raft, Event::SnapshotRestored { last_included: whole() });
    assert_eq!(
        (answers(&effects), raft.applied()),
        (vec![(2, answer(2, whole(), 0, true))], index(10))
    );
}

#[test]
fn a_report_about_another_snapshot_than_the_one_on_its_way_changes_nothing() {
    let mut raft = server();
    piece(&mut raft, 2, 2, whole(), 0);
    assert_eq!(written(&mut raft, log_id(12, 2), true), []);
    assert_eq!(raft.last_log(), log_id(3, 1));
}

#[test]
fn a_piece_is_acknowledged_only_to_the_leader_of_the_term_in_which_it_came() {
    let mut raft = server();
    piece(&mut raft, 2, 2, whole(), 0);
    let mut later = raft.clone();
    let same_term = written(&mut raft, whole(), false);
    assert_eq!(answers(&same_term), [(2, answer(2, whole(), 3, false))]);
    append(&mut later, 3, 3, Vec::new());
    assert_eq!(answers(&written(&mut later, whole(), false)), []);
}

#[test]
fn a_snapshot_is_dropped_if_the_log_has_caught_up_with_it_meanwhile() {
    let mut raft = server();
    piece(&mut raft, 2, 2, whole(), 0);
    append(&mut raft, 2, 2, (4..=11).map(|at| noop(at, 2)).collect());
    assert!(persists(&written(&mut raft, whole(), true)).is_empty());
    assert_eq!((raft.base().last_included, raft.last_log()), (LogId::ORIGIN, log_id(11, 2)));
}

#[test]
fn a_state_machine_counts_as_replaced_only_when_it_was_asked_and_only_by_what_it_was_asked() {
    let (mut raft, reset) = resetting();
    step(&mut raft, Event::SnapshotRestored { last_included: whole() });
    assert_eq!(raft.applied(), LogIndex::ORIGIN, "the log is not replaced yet");
    step(&mut raft, reset);
    step(&mut raft, Event::SnapshotRestored { last_included: log_id(12, 2) });
    assert_eq!(raft.applied(), LogIndex::ORIGIN, "that is another snapshot");
    step(&mut raft, Event::SnapshotRestored { last_included: whole() });
    assert_eq!(raft.applied(), index(10));
}

#[test]
fn a_leader_whose_office_has_ended_does_not_hear_that_its_snapshot_is_installed() {
    let (mut raft, reset) = resetting();
    step(&mut raft, reset);
    append(&mut raft, 3, 3, Vec::new());
    let effects = step(&mut raft, Event::SnapshotRestored { last_included: whole() });
    assert_eq!((answers(&effects), raft.applied()), (Vec::new(), index(10)));
}

#[test]
fn a_piece_of_another_snapshot_or_of_another_leader_does_not_continue_what_has_come() {
    let mut raft = server();
    piece(&mut raft, 2, 2, whole(), 0);
    written(&mut raft, whole(), false);
    let mut other_leader = raft.clone();
    let mut same = raft.clone();
    assert!(writes_piece(&piece(&mut same, 2, 2, whole(), 3)));
    let newer = piece(&mut raft, 2, 2, log_id(12, 2), 3);
    assert_eq!(answers(&newer), [(2, answer(2, log_id(12, 2), 0, false))]);
    assert!(!writes_piece(&newer));
    let effects = piece(&mut other_leader, 3, 3, whole(), 3);
    assert_eq!(answers(&effects), [(3, answer(3, whole(), 0, false))]);
    assert!(!writes_piece(&effects));
}
