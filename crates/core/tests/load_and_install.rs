//! Entries are read back from the disk while the server goes on: a snapshot replaces the log, or a
//! follower's window is full. What was read may then have lost its meaning, or must wait.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Configuration, ConflictHint, Effect,
    Entry, Event, HardState, InstallSnapshot, LoadRequest, LogId, LogIndex, Member, MemberRole,
    Message, NodeId, Options, Payload, PeerWait, Raft, Reason, RequestVoteResponse, Restored, Role,
    SnapshotMeta, Term, Time, VotePhase,
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
    SnapshotMeta { last_included, configuration: Arc::new(Configuration::new(0, members)) }
}

/// A server whose whole log, three entries, is on the disk and not in memory.
fn restarted(options: Options) -> Raft {
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: meta(LogId::ORIGIN),
        term_runs: vec![(LogIndex::new(1), Term::new(1))],
        configurations: Vec::new(),
        last_log: id(1, 3),
        tail: Vec::new(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    Raft::new(NodeId::new(1), options, 7, restored, Time::ZERO).unwrap()
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
    let mut raft = restarted(Options::default());
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

/// Makes it the leader of term 2, by the vote of `LEADER`.
fn elect(raft: &mut Raft) {
    let mut effects = Vec::new();
    let deadline = raft.next_deadline().unwrap();
    raft.step(deadline, Event::Deadline, &mut effects);
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        let vote = RequestVoteResponse { term: Term::new(2), phase, granted: true };
        receive(raft, Message::RequestVoteResponse(vote));
    }
    assert_eq!(raft.role(), Role::Leader);
}

fn appends(effects: &[Effect]) -> usize {
    let is_append = |effect: &&Effect| match effect {
        Effect::Send { to, message: Message::AppendEntries(_) } => *to == LEADER,
        _ => false,
    };
    effects.iter().filter(is_append).count()
}

#[test]
fn entries_read_back_for_a_follower_do_not_overfill_its_window() {
    let mut raft = restarted(Options {
        append_bytes_max: 1,
        in_flight_count_max: 2,
        log_cache_bytes_max: 1,
        ..Options::default()
    });
    elect(&mut raft);
    let answer = |outcome| {
        Message::AppendEntriesResponse(AppendEntriesResponse { term: Term::new(2), outcome })
    };
    let hint = ConflictHint { candidate: LogId::ORIGIN };
    let prev_index = LogIndex::new(3);
    receive(&mut raft, answer(AppendOutcome::Rejected { prev_index, hint }));
    let matched = LogIndex::ORIGIN;
    let request = load_of(&receive(&mut raft, answer(AppendOutcome::Accepted { matched })));
    let reads_for = |reason: &Reason| {
        matches!(reason, Reason::Peer { peer: LEADER, wait: PeerWait::Loading, .. })
    };
    assert!(raft.explain().iter().any(reads_for), "{:?}", raft.explain());
    let entry = |index| Entry { log_id: id(1, index), payload: Payload::Noop };
    let entries = (1..=3).map(entry).collect();
    let effects = step(&mut raft, Event::Loaded { request, entries });
    assert_eq!(appends(&effects), 2, "{effects:?}");
    assert_eq!(raft.status().progress[&LEADER].in_flight_count, 2);
}

/// The leader of term 2, whose log starts after entry 3 of term 1.
fn leader_of_a_short_log() -> Raft {
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: meta(id(1, 3)),
        term_runs: Vec::new(),
        configurations: Vec::new(),
        last_log: id(1, 3),
        tail: Vec::new(),
        applied: LogIndex::new(3),
        lost: None,
    };
    let mut raft = Raft::new(NodeId::new(1), Options::default(), 7, restored, Time::ZERO).unwrap();
    elect(&mut raft);
    raft
}

/// `LEADER`, a follower here, refuses the first request, for its log ends with `last`.
fn refuse(raft: &mut Raft, last: LogId) -> Vec<Effect> {
    let hint = ConflictHint { candidate: last };
    answer(raft, LEADER, AppendOutcome::Rejected { prev_index: LogIndex::new(3), hint })
}

fn answer(raft: &mut Raft, from: NodeId, outcome: AppendOutcome) -> Vec<Effect> {
    let answer = AppendEntriesResponse { term: Term::new(2), outcome };
    step(raft, Event::Message { from, message: Message::AppendEntriesResponse(answer) })
}

#[test]
fn a_follower_that_lacks_only_the_last_entry_of_the_base_gets_a_snapshot() {
    let mut raft = leader_of_a_short_log();
    let outcome = AppendOutcome::Accepted { matched: LogIndex::new(2) };
    let accepted = AppendEntriesResponse { term: Term::new(2), outcome };
    let mut effects = receive(&mut raft, Message::AppendEntriesResponse(accepted));
    effects.extend(refuse(&mut raft, id(1, 2)));
    let asks = |effect: &Effect| matches!(effect, Effect::TakeSnapshot { .. });
    assert!(effects.iter().any(asks), "{effects:?}");
    assert_eq!(appends(&effects), 0, "{effects:?}");
}

#[test]
fn heartbeats_reach_everybody_while_a_follower_waits_for_a_snapshot() {
    let mut raft = leader_of_a_short_log();
    let effects = refuse(&mut raft, LogId::ORIGIN);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::TakeSnapshot { .. })));
    let mut effects = Vec::new();
    raft.step(raft.next_deadline().unwrap(), Event::Deadline, &mut effects);
    let heard = |effect: &Effect| match effect {
        Effect::Send { to, message: Message::Heartbeat(_) } => Some(to.get()),
        _ => None,
    };
    assert_eq!(effects.iter().filter_map(heard).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_leader_whose_whole_log_is_released_has_a_snapshot_taken_for_who_lacks_it() {
    let mut raft = leader_of_a_short_log();
    answer(&mut raft, LEADER, AppendOutcome::Accepted { matched: LogIndex::new(4) });
    step(&mut raft, Event::Applied { index: LogIndex::new(4) });
    // The third server has not answered yet.
    let effects = step(&mut raft, Event::Compact { through: LogIndex::new(4) });
    assert_eq!(raft.base().last_included, raft.last_log());
    let asks = |effect: &Effect| matches!(effect, Effect::TakeSnapshot { .. });
    assert!(effects.iter().any(asks), "{effects:?}");
}

fn takes(effects: &[Effect]) -> Vec<u64> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::TakeSnapshot { at_least } => Some(at_least.get()),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_follower_that_has_the_log_and_not_the_state_is_sent_a_snapshot_that_covers_enough() {
    let mut raft = leader_of_a_short_log();
    let peer = LEADER;
    answer(&mut raft, peer, AppendOutcome::Accepted { matched: LogIndex::new(4) });
    let wanted = |at_least| Event::StateWanted { peer, at_least: LogIndex::new(at_least) };
    assert_eq!(takes(&step(&mut raft, wanted(99))), [0; 0], "nobody has committed that");
    assert_eq!(takes(&step(&mut raft, wanted(4))), [4]);
    let fetches = |effects: &[Effect]| {
        let is_read = |effect: &Effect| matches!(effect, Effect::ReadSnapshotChunk { .. });
        effects.iter().any(is_read)
    };
    let ready = |last_included| Event::SnapshotReady { meta: meta(last_included) };
    let effects = step(&mut raft, ready(id(1, 3)));
    assert!(!fetches(&effects), "that is too old for it");
    assert_eq!(takes(&effects), [4]);
    assert!(fetches(&step(&mut raft, ready(id(2, 4)))));
    assert!(!fetches(&step(&mut raft, wanted(4))), "it is on its way");
}

#[test]
fn entries_that_were_read_for_a_follower_are_dropped_if_it_has_them_by_now() {
    let mut raft = restarted(Options::default());
    elect(&mut raft);
    refuse(&mut raft, LogId::ORIGIN);
    let matched = LogIndex::ORIGIN;
    let request = load_of(&answer(&mut raft, LEADER, AppendOutcome::Accepted { matched }));
    let matched = LogIndex::new(4);
    answer(&mut raft, LEADER, AppendOutcome::Accepted { matched });
    let entry = |index| Entry { log_id: id(1, index), payload: Payload::Noop };
    let entries = (1..=3).map(entry).collect();
    let effects = step(&mut raft, Event::Loaded { request, entries });
    assert_eq!(appends(&effects), 0, "{effects:?}");
}
