//! A server whose log was damaged, message by message: what it takes from others, and what it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod harness;

use harness::{index, log_id, node, voters};
use quorate_core::{
    Effect, Entry, Event, HardState, Heartbeat, Lent, LogId, LostEntriesResponse, Message, Options,
    Payload, Raft, RequestVote, Restored, SnapshotMeta, StartError, Term, Time, VotePhase,
};
use std::sync::Arc;

fn noop(log_id: LogId) -> Entry {
    Entry { log_id, payload: Payload::Noop }
}

fn restored(applied: u64) -> Restored {
    let configuration = Arc::new(voters(3));
    Restored {
        hard_state: HardState { current_term: Term::new(3), voted_for: None },
        base: SnapshotMeta { last_included: LogId::ORIGIN, configuration },
        term_runs: vec![(index(1), Term::new(1))],
        configurations: Vec::new(),
        last_log: log_id(2, 1),
        tail: vec![noop(log_id(1, 1)), noop(log_id(2, 1))],
        applied: index(applied),
        lost: Some(log_id(6, 3)),
    }
}

/// n1 with the entries 1 and 2 of term 1; its log ended with 6@3.
fn server() -> Raft {
    Raft::new(node(1), Options::default(), 7, restored(0), Time::ZERO).unwrap()
}

fn receive(raft: &mut Raft, message: Message) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(Time::ZERO, Event::Message { from: node(2), message }, &mut effects);
    effects
}

fn lend(raft: &mut Raft, previous: Option<LogId>, entries: &[LogId], reaches: LogId) -> LogId {
    let entries = entries.iter().copied().map(noop).collect();
    let lent = Some(Lent { previous, entries, reaches });
    let response = LostEntriesResponse { term: Term::new(3), after: log_id(2, 1), lent };
    receive(raft, Message::LostEntriesResponse(response));
    raft.last_log()
}

#[test]
fn entries_that_lead_to_what_it_held_are_taken() {
    let mut raft = server();
    let stretch = [log_id(3, 1), log_id(4, 3)];
    assert_eq!(lend(&mut raft, Some(log_id(2, 1)), &stretch, log_id(5, 3)), log_id(4, 3));
    assert_eq!(raft.commit_index(), index(0), "nothing is decided by that");
    assert_eq!(raft.lost(), Some(log_id(6, 3)));
}

#[test]
fn entries_that_lead_to_nothing_it_held_are_not_taken() {
    let end = Some(log_id(2, 1));
    for reaches in [log_id(3, 2), log_id(7, 3), log_id(3, 4)] {
        assert_eq!(lend(&mut server(), end, &[log_id(3, 2)], reaches), log_id(2, 1), "{reaches}");
    }
}

#[test]
fn entries_behind_nobody_knows_what_are_taken_only_behind_one_of_their_term() {
    let mut raft = server();
    let end = Some(log_id(2, 1));
    assert_eq!(lend(&mut raft, None, &[log_id(3, 3)], log_id(3, 3)), log_id(2, 1));
    assert_eq!(lend(&mut raft, end, &[log_id(3, 3)], log_id(3, 3)), log_id(3, 3));
    assert_eq!(lend(&mut raft, None, &[log_id(4, 3)], log_id(4, 3)), log_id(4, 3));
}

#[test]
fn a_heartbeat_commits_nothing_that_was_not_sent_since_the_damage() {
    let mut raft = server();
    let heartbeat = Heartbeat { term: Term::new(3), leader_commit: index(2), round: None };
    let effects = receive(&mut raft, Message::Heartbeat(heartbeat));
    assert_eq!(raft.commit_index(), index(0));
    let tells =
        |effect: &Effect| matches!(effect, Effect::Send { message: Message::LostEntries(_), .. });
    assert!(effects.iter().any(tells), "the leader is told: {effects:?}");
}

#[test]
fn a_leader_s_word_is_needed_while_there_is_a_leader() {
    let mut raft = server();
    let heartbeat = Heartbeat { term: Term::new(3), leader_commit: index(0), round: None };
    receive(&mut raft, Message::Heartbeat(heartbeat));
    let stretch = [log_id(3, 3)];
    assert_eq!(lend(&mut raft, Some(log_id(2, 1)), &stretch, log_id(3, 3)), log_id(2, 1));
}

#[test]
fn a_vote_goes_to_nobody_below_the_horizon() {
    for (last_log, is_granted) in
        [(log_id(9, 2), false), (log_id(5, 3), false), (log_id(6, 3), true)]
    {
        let mut raft = server();
        let request = RequestVote { term: Term::new(4), last_log, phase: VotePhase::PreVote };
        let effects = receive(&mut raft, Message::RequestVote(request));
        let grants = |effect: &Effect| matches!(effect, Effect::Send { message: Message::RequestVoteResponse(m), .. } if m.granted);
        assert_eq!(effects.iter().any(grants), is_granted, "{last_log}");
    }
}

#[test]
fn a_state_is_ahead_of_the_log_up_to_the_horizon_and_no_further() {
    let start = |applied| Raft::new(node(1), Options::default(), 7, restored(applied), Time::ZERO);
    assert_eq!(start(6).unwrap().applied(), index(6));
    let refused = start(7).map(|raft| raft.applied());
    assert!(matches!(refused, Err(StartError::AppliedOutside { .. })), "{refused:?}");
}
