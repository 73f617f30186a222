//! Learners receive everything and decide nothing: neither a read nor whether a leader stays rests
//! on their answers, nor on fewer voters than a majority, nor on answers to an older question.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use quorate_core::{
    Configuration, Effect, Event, HardState, HeartbeatResponse, LogId, LogIndex, Member,
    MemberRole, Message, NodeId, Options, Raft, ReadId, RequestVoteResponse, Restored, Role,
    SnapshotMeta, Term, Time, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

const TERM: Term = Term::new(1);

/// Node 1 of so many voters; two more members are learners.
fn configuration(voter_count: u64) -> Configuration {
    let member = |number| Member {
        role: if number <= voter_count { MemberRole::Voter } else { MemberRole::Learner },
        rank: 0,
        address: String::new(),
        context: Bytes::new(),
    };
    let members = (1..=voter_count + 2).map(|number| (NodeId::new(number), member(number)));
    Configuration::new(0, members.collect())
}

fn step(raft: &mut Raft, now: Time, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(now, event, &mut effects);
    let writes: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Persist(persist) => Some(persist.seq),
            _ => None,
        })
        .collect();
    for seq in writes {
        effects.extend(step(raft, now, Event::Persisted { seq }));
    }
    effects
}

fn receive(raft: &mut Raft, now: Time, from: u64, message: Message) -> Vec<Effect> {
    step(raft, now, Event::Message { from: NodeId::new(from), message })
}

/// Node 1 as the leader of term 1, and when it was elected.
fn leader(voter_count: u64) -> (Raft, Time) {
    let base = SnapshotMeta {
        last_included: LogId::ORIGIN,
        configuration: Arc::new(configuration(voter_count)),
    };
    let restored = Restored {
        hard_state: HardState::default(),
        base,
        term_runs: Vec::new(),
        configurations: Vec::new(),
        last_log: LogId::ORIGIN,
        tail: Vec::new(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    let mut raft = Raft::new(NodeId::new(1), Options::default(), 7, restored, Time::ZERO).unwrap();
    let now = raft.next_deadline().unwrap();
    step(&mut raft, now, Event::Deadline);
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        for voter in 2..=voter_count {
            let vote = RequestVoteResponse { term: TERM, phase, granted: true };
            receive(&mut raft, now, voter, Message::RequestVoteResponse(vote));
        }
    }
    assert_eq!(raft.role(), Role::Leader);
    for voter in 2..=voter_count {
        let outcome = quorate_core::AppendOutcome::Accepted { matched: LogIndex::new(1) };
        let answer = quorate_core::AppendEntriesResponse { term: TERM, outcome };
        receive(&mut raft, now, voter, Message::AppendEntriesResponse(answer));
    }
    assert_eq!(raft.commit_index(), LogIndex::new(1));
    (raft, now)
}

fn heard(raft: &mut Raft, now: Time, from: u64, round: u64) -> Vec<Effect> {
    let answer = HeartbeatResponse { term: TERM, round, promise: Duration::ZERO };
    receive(raft, now, from, Message::HeartbeatResponse(answer))
}

fn is_served(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::ReadReady { .. }))
}

#[test]
fn a_leader_that_only_learners_answer_steps_down() {
    let (mut raft, elected) = leader(3);
    while raft.role() == Role::Leader {
        let now = raft.next_deadline().unwrap();
        let waited = now.since(elected);
        assert!(waited <= Options::default().election_timeout * 2, "leads after {waited:?}");
        let effects = step(&mut raft, now, Event::Deadline);
        for effect in effects {
            if let Effect::Send { to, message: Message::Heartbeat(heartbeat) } = effect
                && to.get() > 3
            {
                heard(&mut raft, now, to.get(), heartbeat.round.unwrap());
            }
        }
    }
}

#[test]
fn a_read_waits_for_a_majority_of_the_voters() {
    let (mut raft, now) = leader(5);
    step(&mut raft, now, Event::Read { id: ReadId::new(1) });
    for learner in [6, 7] {
        assert!(!is_served(&heard(&mut raft, now, learner, 1)), "learner {learner}");
    }
    assert!(!is_served(&heard(&mut raft, now, 2, 1)), "two of five");
    assert!(is_served(&heard(&mut raft, now, 3, 1)), "three of five");
}

#[test]
fn an_answer_to_an_older_round_serves_no_newer_read() {
    let (mut raft, now) = leader(3);
    step(&mut raft, now, Event::Read { id: ReadId::new(1) });
    assert!(is_served(&heard(&mut raft, now, 2, 1)));
    step(&mut raft, now, Event::Read { id: ReadId::new(2) });
    assert!(!is_served(&heard(&mut raft, now, 3, 1)), "that was asked before the read arrived");
    assert!(is_served(&heard(&mut raft, now, 3, 2)));
}
