//! Servers, logs and writes that are made by hand, for the tests of judges. Knows no judge.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use quorate_core::{
    Configuration, Effect, Entry, Event, HardState, LogId, LogIndex, Member, MemberRole, Message,
    NodeId, Options, Payload, Persist, Raft, RequestVoteResponse, Restored, SnapshotMeta, Term,
    Time, VotePhase,
};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

pub(super) const fn log_id(index: u64, term: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

pub(super) fn entry(index: u64, term: u64) -> Entry {
    Entry { log_id: log_id(index, term), payload: Payload::Noop }
}

pub(super) fn command(index: u64, term: u64, text: &'static str) -> Entry {
    let payload = Payload::Command(Bytes::from_static(text.as_bytes()));
    Entry { log_id: log_id(index, term), payload }
}

pub(super) fn hard_state(term: u64, vote: Option<u64>) -> HardState {
    HardState { current_term: Term::new(term), voted_for: vote.map(node) }
}

/// A write of these entries after whatever is there.
pub(super) fn appends(entries: &[Entry]) -> Persist {
    Persist { entries: entries.to_vec(), ..Persist::default() }
}

/// Members with these roles.
pub(super) fn configuration(roles: &[(u64, MemberRole)]) -> Arc<Configuration> {
    let member = |(id, role): &(u64, MemberRole)| {
        let (rank, address) = (0, String::new());
        (node(*id), Member { role: *role, rank, address, context: Bytes::new() })
    };
    Arc::new(Configuration::new(0, roles.iter().map(member).collect()))
}

pub(super) fn three_voters() -> Arc<Configuration> {
    configuration(&[1, 2, 3].map(|id| (id, MemberRole::Voter)))
}

/// Voters 1 and 2, and learner 3.
pub(super) fn two_voters_and_a_learner() -> Arc<Configuration> {
    use MemberRole::{Learner, Voter};
    configuration(&[(1, Voter), (2, Voter), (3, Learner)])
}

/// A follower in this term with this log, all of it durable.
pub(super) fn follower(
    id: u64,
    term: u64,
    configuration: &Arc<Configuration>,
    log: &[Entry],
) -> Raft {
    let mut term_runs: Vec<(LogIndex, Term)> = Vec::new();
    for LogId { term, index } in log.iter().map(|entry| entry.log_id) {
        if term_runs.last().is_none_or(|(_, last)| *last < term) {
            term_runs.push((index, term));
        }
    }
    let (last_included, configuration) = (LogId::ORIGIN, Arc::clone(configuration));
    let restored = Restored {
        hard_state: hard_state(term, None),
        base: SnapshotMeta { last_included, configuration },
        term_runs,
        configurations: Vec::new(),
        last_log: log.last().map_or(last_included, |entry| entry.log_id),
        tail: log.to_vec(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    Raft::new(node(id), Options::default(), 7, restored, Time::ZERO).unwrap()
}

/// Node 1 of three voters, a candidate of the term after this one.
pub(super) fn candidate(term: u64) -> Raft {
    let mut raft = follower(1, term, &three_voters(), &[]);
    let due = raft.next_deadline().unwrap();
    step(&mut raft, due, Event::Deadline);
    grant(&mut raft, due, term + 1, VotePhase::PreVote);
    raft
}

/// Node 1 of three voters, the leader of the term after this one.
pub(super) fn leader(term: u64) -> Raft {
    let mut raft = candidate(term);
    let due = raft.next_deadline().unwrap();
    grant(&mut raft, due, term + 1, VotePhase::Vote);
    raft
}

fn grant(raft: &mut Raft, now: Time, term: u64, phase: VotePhase) {
    let response = RequestVoteResponse { term: Term::new(term), phase, granted: true };
    let message = Message::RequestVoteResponse(response);
    step(raft, now, Event::Message { from: node(2), message });
}

/// A step, and all writes that come of it.
fn step(raft: &mut Raft, now: Time, event: Event) {
    let mut events = VecDeque::from([event]);
    while let Some(event) = events.pop_front() {
        let mut effects = Vec::new();
        raft.step(now, event, &mut effects);
        for effect in effects {
            if let Effect::Persist(persist) = effect {
                events.push_back(Event::Persisted { seq: persist.seq });
            }
        }
    }
}
