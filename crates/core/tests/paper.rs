//! One test for each rule of the dissertation's Figure 3.1, and for the sections that refine it.
//! One server at a time, spoken to directly: what it sends and writes is all that is looked at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use bytes::Bytes;
use harness::{Disk, command, configuration, index, log_id, node, voters};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Configuration, ConflictHint, Effect,
    Entry, Event, HardState, Heartbeat, HeartbeatResponse, InstallSnapshot, LogId, LogIndex,
    MemberRole, Message, NodeId, Options, Payload, Persist, PersistSeq, Poison, Proposal,
    ProposalId, ProposalRefusal, Raft, ReadId, RequestVote, RequestVoteResponse, Restored, Role,
    SnapshotMeta, StartError, Term, Time, TimeoutNow, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A server and what it did last.
struct Subject {
    raft: Raft,
    now: Time,
    effects: Vec<Effect>,
    last_write: Option<PersistSeq>,
}

impl Subject {
    /// n1 of `configuration`, with a disk that holds `hard_state` and `entries`.
    fn with(configuration: Configuration, hard_state: HardState, entries: &[Entry]) -> Self {
        let mut disk = Disk::new(configuration);
        disk.hard_state = hard_state;
        disk.entries = entries.to_vec();
        let restored = disk.restored(LogIndex::ORIGIN, usize::MAX);
        let raft = Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).unwrap();
        Self { raft, now: Time::ZERO, effects: Vec::new(), last_write: None }
    }

    fn new(term: u64, entries: &[Entry]) -> Self {
        let hard_state = HardState { current_term: Term::new(term), voted_for: None };
        Self::with(voters(3), hard_state, entries)
    }

    /// Elected in the term after `term`, with all its writes done.
    fn leader(term: u64, entries: &[Entry]) -> Self {
        let mut subject = Self::new(term, entries);
        subject.campaign();
        subject.write();
        subject.vote_from(2, VotePhase::Vote, term + 1);
        subject.write();
        assert_eq!(subject.raft.role(), Role::Leader);
        subject
    }

    fn step(&mut self, event: Event) -> &[Effect] {
        self.effects.clear();
        self.raft.step(self.now, event, &mut self.effects);
        for effect in &self.effects {
            if let Effect::Persist(persist) = effect {
                self.last_write = Some(persist.seq);
            }
        }
        &self.effects
    }

    fn receive(&mut self, from: u64, message: Message) -> Vec<Message> {
        self.step(Event::Message { from: node(from), message });
        self.sent()
    }

    /// Finishes every write.
    fn write(&mut self) -> Vec<Message> {
        let Some(seq) = self.last_write.take() else { return Vec::new() };
        self.step(Event::Persisted { seq });
        self.sent()
    }

    fn sent(&self) -> Vec<Message> {
        self.sends().map(|(_, message)| message.clone()).collect()
    }

    fn sent_to(&self) -> Vec<NodeId> {
        self.sends().map(|(to, _)| to).collect()
    }

    fn sends(&self) -> impl Iterator<Item = (NodeId, &Message)> {
        self.effects.iter().filter_map(|effect| {
            if let Effect::Send { to, message } = effect { Some((*to, message)) } else { None }
        })
    }

    fn written(&self) -> Option<&Persist> {
        self.effects.iter().find_map(|effect| {
            if let Effect::Persist(persist) = effect { Some(persist) } else { None }
        })
    }

    fn applied(&self) -> Vec<LogId> {
        let batches = self.effects.iter().filter_map(|effect| {
            if let Effect::Apply { entries } = effect { Some(entries) } else { None }
        });
        batches.flatten().map(|entry| entry.log_id).collect()
    }

    /// The election timeout elapses.
    fn time_out(&mut self) -> Vec<Message> {
        self.now = self.raft.next_deadline().unwrap();
        self.step(Event::Deadline);
        self.sent()
    }

    /// Times out, and wins the pre-vote; its own vote is still being written.
    fn campaign(&mut self) {
        self.time_out();
        let term = self.raft.current_term().get() + 1;
        self.vote_from(2, VotePhase::PreVote, term);
        assert_eq!(self.raft.role(), Role::Candidate);
    }

    fn vote_from(&mut self, from: u64, phase: VotePhase, term: u64) -> Vec<Message> {
        let term = Term::new(term);
        let response = RequestVoteResponse { term, phase, granted: true };
        self.receive(from, Message::RequestVoteResponse(response))
    }

    fn accepted(&mut self, from: u64, matched: u64) -> Vec<Message> {
        let outcome = AppendOutcome::Accepted { matched: index(matched) };
        let term = self.raft.current_term();
        let response = AppendEntriesResponse { term, outcome };
        self.receive(from, Message::AppendEntriesResponse(response))
    }

    fn propose(&mut self, text: &str) -> Vec<Message> {
        let command = Bytes::copy_from_slice(text.as_bytes());
        self.step(Event::Propose(vec![Proposal::plain(ProposalId::new(1), command)]));
        self.sent()
    }

    fn log(&self) -> Vec<u64> {
        let indexes = 1..=self.raft.last_log().index.get();
        indexes.map(|at| self.raft.term_at(index(at)).unwrap().get()).collect()
    }
}

fn append(term: u64, prev: LogId, entries: &[Entry], commit: u64) -> Message {
    Message::AppendEntries(AppendEntries {
        term: Term::new(term),
        prev_log: prev,
        entries: entries.to_vec(),
        leader_commit: index(commit),
    })
}

fn ask(term: u64, last_log: LogId, phase: VotePhase) -> Message {
    Message::RequestVote(RequestVote { term: Term::new(term), last_log, phase })
}

fn answer(term: u64, outcome: AppendOutcome) -> Message {
    Message::AppendEntriesResponse(AppendEntriesResponse { term: Term::new(term), outcome })
}

fn vote(term: u64, granted: bool) -> Message {
    let (term, phase) = (Term::new(term), VotePhase::Vote);
    Message::RequestVoteResponse(RequestVoteResponse { term, phase, granted })
}

fn heartbeat(term: u64, commit: u64) -> Message {
    let (term, leader_commit) = (Term::new(term), index(commit));
    Message::Heartbeat(Heartbeat { term, leader_commit, round: Some(1) })
}

/// Entries 1, 2, 3, ... with these terms.
fn entries(terms: &[u64]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(term, at)| command(at, *term, "x")).collect()
}

// AppendEntries, receiver's rules.

#[test]
fn append_entries_1_a_request_of_a_stale_term_is_refused_with_the_current_term() {
    let mut subject = Subject::new(5, &[]);
    let sent = subject.receive(2, append(4, LogId::ORIGIN, &entries(&[4]), 1));
    assert_eq!(sent, [answer(5, AppendOutcome::StaleTerm)]);
    assert_eq!(subject.raft.last_log(), LogId::ORIGIN);
    assert_eq!(subject.raft.leader(), None);
}

#[test]
fn append_entries_2_a_request_is_refused_if_the_log_lacks_an_entry_at_prev_log() {
    let mut subject = Subject::new(3, &entries(&[1]));
    let sent = subject.receive(2, append(3, log_id(2, 2), &[command(3, 3, "x")], 0));
    let hint = ConflictHint { candidate: log_id(1, 1) };
    let rejected = AppendOutcome::Rejected { prev_index: index(2), hint };
    subject.write();
    assert_eq!(sent, [answer(3, rejected)]);
}

#[test]
fn append_entries_2_a_request_is_refused_if_the_entry_at_prev_log_has_another_term() {
    let mut subject = Subject::new(5, &entries(&[1, 2, 2, 4, 4]));
    let sent = subject.receive(2, append(5, log_id(5, 3), &[command(6, 5, "x")], 0));
    let hint = ConflictHint { candidate: log_id(3, 2) };
    assert_eq!(sent, [answer(5, AppendOutcome::Rejected { prev_index: index(5), hint })]);
    assert_eq!(subject.log(), [1, 2, 2, 4, 4], "a refusal drops nothing");
}

#[test]
fn append_entries_3_a_conflicting_entry_and_all_that_follow_it_are_deleted() {
    let mut subject = Subject::new(3, &entries(&[1, 2, 2, 2]));
    subject.receive(2, append(3, log_id(1, 1), &[command(2, 3, "new")], 0));
    assert_eq!(subject.log(), [1, 3]);
    assert_eq!(subject.written().unwrap().truncate_after, Some(index(1)));
}

#[test]
fn append_entries_3_entries_behind_those_of_a_late_request_stay() {
    let mut subject = Subject::new(1, &entries(&[1, 1, 1]));
    subject.receive(2, append(1, LogId::ORIGIN, &entries(&[1]), 0));
    assert_eq!(subject.log(), [1, 1, 1]);
    assert_eq!(subject.written(), None);
}

#[test]
fn append_entries_4_entries_that_are_not_in_the_log_are_appended_once() {
    let mut subject = Subject::new(1, &entries(&[1]));
    subject.receive(2, append(1, LogId::ORIGIN, &entries(&[1, 1, 1]), 0));
    assert_eq!(subject.log(), [1, 1, 1]);
    let written = subject.written().unwrap().entries.clone();
    assert_eq!(written, entries(&[1, 1, 1])[1..]);
    subject.receive(2, append(1, LogId::ORIGIN, &entries(&[1, 1, 1]), 0));
    assert_eq!(subject.written(), None, "the second time there is nothing new");
}

#[test]
fn append_entries_5_the_commit_index_follows_the_leader_up_to_the_last_new_entry() {
    let mut subject = Subject::new(1, &entries(&[1, 1, 1, 1]));
    subject.receive(2, append(1, log_id(1, 1), &[command(2, 1, "x")], 9));
    assert_eq!(subject.raft.commit_index(), index(2), "what lies behind is not proven equal");
    subject.receive(2, append(1, log_id(4, 1), &[], 3));
    assert_eq!(subject.raft.commit_index(), index(3));
    subject.receive(2, append(1, log_id(4, 1), &[], 1));
    assert_eq!(subject.raft.commit_index(), index(3), "it never falls");
}

// RequestVote, receiver's rules.

#[test]
fn request_vote_1_a_request_of_a_stale_term_is_refused() {
    let mut subject = Subject::new(5, &[]);
    let sent = subject.receive(2, ask(4, log_id(9, 4), VotePhase::Vote));
    assert_eq!(sent, [vote(5, false)]);
}

#[test]
fn request_vote_2_a_server_votes_for_one_candidate_a_term_and_again_for_the_same() {
    let mut subject = Subject::new(1, &[]);
    subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote));
    assert_eq!(subject.write(), [vote(2, true)]);
    assert_eq!(subject.receive(3, ask(2, log_id(5, 1), VotePhase::Vote)), [vote(2, false)]);
    assert_eq!(subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote)), [vote(2, true)]);
}

#[test]
fn request_vote_2_a_vote_given_before_a_crash_still_binds() {
    let hard_state = HardState { current_term: Term::new(2), voted_for: Some(node(2)) };
    let mut subject = Subject::with(voters(3), hard_state, &[]);
    assert_eq!(subject.receive(3, ask(2, LogId::ORIGIN, VotePhase::Vote)), [vote(2, false)]);
    assert_eq!(subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote)), [vote(2, true)]);
}

#[test]
fn request_vote_2_a_log_is_up_to_date_by_its_last_term_first_and_then_by_its_length() {
    let ours = entries(&[1, 3]);
    let cases = [
        (log_id(2, 3), true, "an equal log"),
        (log_id(3, 3), true, "a longer one of the same term"),
        (log_id(1, 4), true, "a shorter one of a later term"),
        (log_id(1, 3), false, "a shorter one of the same term"),
        (log_id(9, 2), false, "a longer one of an earlier term"),
    ];
    for (last_log, granted, case) in cases {
        for phase in [VotePhase::PreVote, VotePhase::Vote, VotePhase::Transfer] {
            let mut subject = Subject::new(3, &ours);
            let mut sent = subject.receive(2, ask(5, last_log, phase));
            sent.extend(subject.write());
            let Some(Message::RequestVoteResponse(response)) = sent.first() else {
                panic!("{case}: {sent:?}")
            };
            assert_eq!(response.granted, granted, "{case} in {phase:?}");
        }
    }
}

// Persistence.

#[test]
fn persistence_a_vote_leaves_the_server_only_after_it_is_on_the_disk() {
    let mut subject = Subject::new(1, &[]);
    assert_eq!(subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote)), []);
    let expected = HardState { current_term: Term::new(2), voted_for: Some(node(2)) };
    assert_eq!(subject.written().unwrap().hard_state, Some(expected), "term and vote in one write");
    assert_eq!(subject.write(), [vote(2, true)]);
}

#[test]
fn persistence_entries_are_acknowledged_only_after_they_are_on_the_disk() {
    let mut subject = Subject::new(1, &[]);
    assert_eq!(subject.receive(2, append(1, LogId::ORIGIN, &entries(&[1, 1]), 0)), []);
    let accepted = AppendOutcome::Accepted { matched: index(2) };
    assert_eq!(subject.write(), [answer(1, accepted)]);
}

#[test]
fn persistence_entries_on_the_disk_are_not_acknowledged_before_the_term_is() {
    let mut subject = Subject::new(1, &entries(&[1]));
    let sent = subject.receive(2, append(2, log_id(1, 1), &[], 0));
    assert_eq!(sent, [], "a restart in term 1 could accept the overwriting of this entry");
    assert_eq!(subject.write(), [answer(2, AppendOutcome::Accepted { matched: index(1) })]);
}

#[test]
fn persistence_a_candidate_asks_for_votes_only_after_its_own_is_on_the_disk() {
    let mut subject = Subject::new(1, &[]);
    subject.campaign();
    assert_eq!(subject.sent(), []);
    subject.write();
    assert_eq!(subject.sent_to(), [node(2), node(3)]);
}

#[test]
fn persistence_a_leader_counts_itself_only_after_its_entry_is_on_the_disk() {
    let mut subject = Subject::leader(1, &[]);
    subject.accepted(2, 1);
    subject.propose("x");
    subject.accepted(2, 2);
    assert_eq!(subject.raft.commit_index(), index(1));
    subject.write();
    assert_eq!(subject.raft.commit_index(), index(2));
}

#[test]
fn persistence_term_vote_and_log_come_back_after_a_restart() {
    let hard_state = HardState { current_term: Term::new(4), voted_for: Some(node(3)) };
    let subject = Subject::with(voters(3), hard_state, &entries(&[1, 4]));
    assert_eq!(subject.raft.role(), Role::Follower);
    assert_eq!(subject.raft.current_term(), Term::new(4));
    assert_eq!(subject.raft.status().voted_for, Some(node(3)));
    assert_eq!(subject.log(), [1, 4]);
}

// Rules for all servers.

#[test]
fn all_servers_committed_entries_are_applied_in_order_once() {
    let mut subject = Subject::new(1, &entries(&[1, 1, 1]));
    subject.receive(2, append(1, log_id(3, 1), &[], 2));
    assert_eq!(subject.applied(), [log_id(1, 1), log_id(2, 1)]);
    subject.receive(2, append(1, log_id(3, 1), &[], 3));
    assert_eq!(subject.applied(), [log_id(3, 1)]);
}

#[test]
fn all_servers_an_entry_is_not_applied_before_it_is_on_the_own_disk() {
    let mut subject = Subject::new(1, &[]);
    subject.receive(2, append(1, LogId::ORIGIN, &entries(&[1]), 1));
    assert_eq!(subject.raft.commit_index(), index(1));
    assert_eq!(subject.applied(), []);
    subject.write();
    assert_eq!(subject.applied(), [log_id(1, 1)]);
}

#[test]
fn all_servers_a_higher_term_in_a_request_or_a_response_makes_a_follower() {
    let requests = [
        append(9, LogId::ORIGIN, &[], 0),
        heartbeat(9, 0),
        ask(9, log_id(9, 8), VotePhase::Transfer),
        Message::AppendEntriesResponse(AppendEntriesResponse {
            term: Term::new(9),
            outcome: AppendOutcome::StaleTerm,
        }),
        Message::HeartbeatResponse(HeartbeatResponse {
            term: Term::new(9),
            round: 1,
            promise: Duration::ZERO,
        }),
        vote(9, false),
    ];
    for message in requests {
        let mut subject = Subject::leader(1, &[]);
        subject.receive(3, message.clone());
        assert_eq!(subject.raft.role(), Role::Follower, "{message:?}");
        assert_eq!(subject.raft.current_term(), Term::new(9), "{message:?}");
        let hard_state = subject.written().unwrap().hard_state.unwrap();
        assert_eq!(hard_state.current_term, Term::new(9), "{message:?}");
    }
}

#[test]
fn all_servers_a_vote_is_forgotten_with_its_term_and_not_before() {
    let mut subject = Subject::new(1, &[]);
    subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote));
    subject.receive(3, append(2, LogId::ORIGIN, &[], 0));
    assert_eq!(
        subject.raft.status().voted_for,
        Some(node(2)),
        "a leader of the term changes no vote"
    );
    subject.receive(3, heartbeat(3, 0));
    assert_eq!(subject.raft.status().voted_for, None);
}

// Rules for followers.

#[test]
fn followers_campaign_when_the_election_timeout_elapses_without_a_leader() {
    let mut subject = Subject::new(1, &[]);
    subject.now = subject.now.after(ELECTION_TIMEOUT / 2);
    subject.receive(2, heartbeat(1, 0));
    let deadline = subject.raft.next_deadline().unwrap();
    assert!(deadline >= subject.now.after(ELECTION_TIMEOUT), "counted from the heartbeat");
    assert!(deadline < subject.now.after(ELECTION_TIMEOUT * 2));
    subject.time_out();
    assert_eq!(subject.raft.role(), Role::PreCandidate);
}

#[test]
fn followers_do_not_campaign_early_and_giving_a_vote_restarts_the_timeout() {
    let mut subject = Subject::new(1, &[]);
    subject.now = subject.now.after(ELECTION_TIMEOUT / 2);
    subject.step(Event::Deadline);
    assert_eq!(subject.raft.role(), Role::Follower);
    subject.receive(2, ask(2, LogId::ORIGIN, VotePhase::Vote));
    let deadline = subject.raft.next_deadline().unwrap();
    assert!(deadline >= subject.now.after(ELECTION_TIMEOUT));
}

#[test]
fn followers_with_equal_seeds_draw_different_timeouts() {
    let deadline = |id| {
        let restored = Disk::new(voters(5)).restored(LogIndex::ORIGIN, 0);
        let raft = Raft::new(node(id), Options::default(), 7, restored, Time::ZERO).unwrap();
        raft.next_deadline().unwrap()
    };
    let mut deadlines: Vec<Time> = (1..=5).map(deadline).collect();
    deadlines.sort_unstable();
    deadlines.dedup();
    assert_eq!(deadlines.len(), 5);
}

// Rules for candidates.

#[test]
fn candidates_first_ask_whether_they_could_win_and_change_no_term_by_asking() {
    let mut subject = Subject::new(1, &entries(&[1]));
    let expected = ask(2, log_id(1, 1), VotePhase::PreVote);
    assert_eq!(subject.time_out(), [expected.clone(), expected]);
    assert_eq!(subject.raft.current_term(), Term::new(1));
    assert_eq!(subject.written(), None);
    let mut voter = Subject::new(1, &[]);
    voter.receive(2, ask(2, log_id(1, 1), VotePhase::PreVote));
    assert_eq!(voter.raft.current_term(), Term::new(1));
    assert_eq!(voter.written(), None);
}

#[test]
fn candidates_on_conversion_raise_the_term_vote_for_themselves_and_ask_all_in_parallel() {
    let mut subject = Subject::new(1, &entries(&[1]));
    subject.campaign();
    let expected = HardState { current_term: Term::new(2), voted_for: Some(node(1)) };
    assert_eq!(subject.written().unwrap().hard_state, Some(expected));
    let request = ask(2, log_id(1, 1), VotePhase::Vote);
    assert_eq!(subject.write(), [request.clone(), request]);
}

#[test]
fn candidates_become_leaders_with_the_votes_of_a_majority() {
    let hard_state = HardState { current_term: Term::new(1), voted_for: None };
    let mut subject = Subject::with(voters(5), hard_state, &[]);
    subject.time_out();
    subject.vote_from(2, VotePhase::PreVote, 2);
    subject.vote_from(3, VotePhase::PreVote, 2);
    subject.write();
    subject.vote_from(2, VotePhase::Vote, 2);
    subject.vote_from(2, VotePhase::Vote, 2);
    assert_eq!(subject.raft.role(), Role::Candidate, "one voter counts once");
    subject.vote_from(9, VotePhase::Vote, 2);
    assert_eq!(subject.raft.role(), Role::Candidate, "a stranger does not count");
    subject.vote_from(3, VotePhase::PreVote, 2);
    subject.vote_from(3, VotePhase::Vote, 1);
    assert_eq!(subject.raft.role(), Role::Candidate, "answers to other elections do not count");
    subject.vote_from(3, VotePhase::Vote, 2);
    assert_eq!(subject.raft.role(), Role::Leader);
}

#[test]
fn candidates_become_followers_when_a_leader_of_their_term_appears() {
    let mut subject = Subject::new(1, &[]);
    subject.campaign();
    subject.receive(3, append(2, LogId::ORIGIN, &[], 0));
    assert_eq!(subject.raft.role(), Role::Follower);
    assert_eq!(subject.raft.leader(), Some(node(3)));
    assert_eq!(subject.raft.status().voted_for, Some(node(1)), "the vote stays");
}

#[test]
fn candidates_start_a_new_election_when_their_timeout_elapses() {
    let mut subject = Subject::new(1, &[]);
    subject.campaign();
    subject.write();
    let first = subject.now;
    let sent = subject.time_out();
    assert!(subject.now >= first.after(ELECTION_TIMEOUT));
    assert_eq!(sent[0], ask(3, LogId::ORIGIN, VotePhase::PreVote));
}

// Rules for leaders.

#[test]
fn leaders_announce_themselves_at_once_and_repeat_it_when_idle() {
    let mut subject = Subject::new(1, &[]);
    subject.campaign();
    subject.write();
    let sent = subject.vote_from(2, VotePhase::Vote, 2);
    let noop = Entry { log_id: log_id(1, 2), payload: Payload::Noop };
    let announcement = append(2, LogId::ORIGIN, &[noop], 0);
    assert_eq!(sent, [announcement.clone(), announcement]);
    subject.write();
    let heartbeats = subject.time_out();
    assert_eq!(heartbeats.len(), 2);
    assert!(heartbeats.iter().all(|message| matches!(message, Message::Heartbeat(_))));
}

#[test]
fn leaders_start_with_next_index_after_their_log_and_match_index_zero() {
    let subject = Subject::leader(3, &entries(&[1, 3]));
    for progress in subject.raft.status().progress.values() {
        assert_eq!(progress.match_index, LogIndex::ORIGIN);
        assert_eq!(progress.next_index, index(3));
    }
}

#[test]
fn leaders_append_a_command_and_send_it_before_their_own_disk_is_done() {
    let mut subject = Subject::leader(1, &[]);
    subject.accepted(2, 1);
    subject.accepted(3, 1);
    let sent = subject.propose("x");
    let request = append(2, log_id(1, 2), &[command(2, 2, "x")], 1);
    assert_eq!(sent, [request.clone(), request]);
    assert_eq!(subject.written().unwrap().entries, [command(2, 2, "x")]);
    let appended = Effect::ProposalAppended { id: ProposalId::new(1), log_id: log_id(2, 2) };
    assert!(subject.effects.contains(&appended));
}

#[test]
fn leaders_send_a_batch_of_commands_in_one_message_to_each_and_one_write() {
    let mut subject = Subject::leader(1, &[]);
    subject.accepted(2, 1);
    subject.accepted(3, 1);
    let proposals = (0..100).map(|id| Proposal::plain(ProposalId::new(id), Bytes::new()));
    subject.step(Event::Propose(proposals.collect()));
    assert_eq!(subject.sent_to(), [node(2), node(3)]);
    let writes = subject.effects.iter().filter(|effect| matches!(effect, Effect::Persist(_)));
    assert_eq!(writes.count(), 1);
}

#[test]
fn leaders_advance_next_index_and_match_index_on_success() {
    let mut subject = Subject::leader(1, &entries(&[1]));
    subject.accepted(2, 2);
    let progress = subject.raft.status().progress[&node(2)];
    assert_eq!((progress.match_index, progress.next_index), (index(2), index(3)));
    subject.accepted(2, 1);
    let progress = subject.raft.status().progress[&node(2)];
    assert_eq!(progress.match_index, index(2), "a late answer takes nothing back");
}

#[test]
fn leaders_step_back_and_try_again_after_an_inconsistency() {
    let mut subject = Subject::leader(5, &entries(&[1, 1, 4, 4, 5]));
    let hint = ConflictHint { candidate: log_id(5, 3) };
    let rejected = answer(6, AppendOutcome::Rejected { prev_index: index(5), hint });
    let sent = subject.receive(2, rejected.clone());
    let Message::AppendEntries(request) = &sent[0] else { panic!("{sent:?}") };
    assert_eq!(
        request.prev_log,
        log_id(2, 1),
        "the terms 4 and 5 are skipped: none is in 3 or less"
    );
    assert_eq!(request.entries.len(), 4);
    assert_eq!(subject.receive(2, rejected), [], "the same refusal again says nothing new");
}

#[test]
fn leaders_commit_what_a_majority_holds_in_their_own_term() {
    let mut subject = Subject::leader(1, &[]);
    subject.accepted(2, 1);
    assert_eq!(subject.raft.commit_index(), index(1));
    assert_eq!(subject.applied(), [log_id(1, 2)]);
}

#[test]
fn leaders_do_not_commit_an_entry_from_an_older_term_by_counting_replicas() {
    let mut subject = Subject::leader(2, &entries(&[1, 2]));
    subject.accepted(2, 2);
    subject.accepted(3, 2);
    assert_eq!(subject.raft.commit_index(), LogIndex::ORIGIN, "all three hold entry 2 of term 2");
    subject.accepted(2, 3);
    assert_eq!(subject.raft.commit_index(), index(3), "with an own entry, all before it");
}

#[test]
fn leaders_never_change_their_own_log_but_by_appending() {
    let mut subject = Subject::leader(1, &entries(&[1]));
    subject.receive(3, append(1, LogId::ORIGIN, &entries(&[1]), 0));
    assert_eq!(subject.log(), [1, 2]);
    subject.receive(3, append(2, LogId::ORIGIN, &[command(1, 2, "y")], 0));
    assert_eq!(subject.log(), [1, 2]);
    let poison = Poison::TwoLeaders { term: Term::new(2), known: node(1), other: node(3) };
    assert_eq!(subject.raft.status().poisoned, Some(poison));
}

// What refines the figure.

#[test]
fn a_server_that_hears_a_leader_refuses_votes_and_keeps_its_term() {
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        let mut subject = Subject::new(1, &[]);
        subject.receive(2, heartbeat(1, 0));
        subject.now = subject.now.after(Duration::from_millis(999));
        let sent = subject.receive(3, ask(2, log_id(9, 1), phase));
        let Message::RequestVoteResponse(response) = &sent[0] else { panic!("{sent:?}") };
        assert!(!response.granted);
        assert_eq!(subject.raft.current_term(), Term::new(1));
        subject.now = subject.now.after(Duration::from_millis(1));
        subject.receive(3, ask(2, log_id(9, 1), phase));
        let sent = if phase == VotePhase::Vote { subject.write() } else { subject.sent() };
        let Message::RequestVoteResponse(response) = &sent[0] else { panic!("{sent:?}") };
        assert!(response.granted, "{phase:?} after the minimum election timeout");
    }
}

#[test]
fn a_leader_in_office_refuses_votes_but_not_those_of_a_transfer() {
    let mut subject = Subject::leader(1, &[]);
    subject.receive(3, ask(9, log_id(9, 8), VotePhase::Vote));
    assert_eq!(subject.raft.role(), Role::Leader);
    subject.receive(3, ask(9, log_id(9, 8), VotePhase::Transfer));
    assert_eq!(subject.raft.role(), Role::Follower);
}

#[test]
fn a_pre_candidate_that_is_refused_with_a_higher_term_takes_it_over() {
    let mut subject = Subject::new(1, &[]);
    subject.time_out();
    let (term, phase) = (Term::new(8), VotePhase::PreVote);
    let response = RequestVoteResponse { term, phase, granted: false };
    subject.receive(2, Message::RequestVoteResponse(response));
    assert_eq!(subject.raft.current_term(), Term::new(8));
}

#[test]
fn a_learner_votes_for_nobody_by_itself_and_ignores_timeout_now() {
    let members = [(1, MemberRole::Learner, 0), (2, MemberRole::Voter, 0)];
    let hard_state = HardState { current_term: Term::new(1), voted_for: None };
    let mut subject = Subject::with(configuration(members), hard_state, &[]);
    assert_eq!(subject.raft.next_deadline(), None);
    subject.receive(2, heartbeat(1, 0));
    subject.receive(2, Message::TimeoutNow(TimeoutNow { term: Term::new(1) }));
    assert_eq!(subject.raft.role(), Role::Follower);
}

#[test]
fn timeout_now_starts_an_election_at_once_that_followers_answer() {
    let mut subject = Subject::new(1, &[]);
    subject.receive(2, heartbeat(1, 0));
    subject.receive(2, Message::TimeoutNow(TimeoutNow { term: Term::new(1) }));
    assert_eq!(subject.raft.role(), Role::Candidate);
    assert_eq!(subject.write()[0], ask(2, LogId::ORIGIN, VotePhase::Transfer));
    let mut stale = Subject::new(2, &[]);
    stale.receive(2, Message::TimeoutNow(TimeoutNow { term: Term::new(1) }));
    assert_eq!(stale.raft.role(), Role::Follower, "a late request starts nothing");
}

#[test]
fn a_higher_rank_has_an_earlier_timeout_slot_and_every_slot_ends() {
    let members = [(1, 9), (2, 5), (3, 0)].map(|(id, rank)| (id, MemberRole::Voter, rank));
    for seed in 0..100 {
        let deadline = |id| {
            let restored = Disk::new(configuration(members)).restored(LogIndex::ORIGIN, 0);
            let raft = Raft::new(node(id), Options::default(), seed, restored, Time::ZERO).unwrap();
            raft.next_deadline().unwrap()
        };
        assert!(deadline(1) < deadline(2) && deadline(2) < deadline(3));
        assert!(deadline(3) < Time::ZERO.after(ELECTION_TIMEOUT * 2));
    }
}

#[test]
fn a_read_needs_a_heartbeat_round_that_started_after_it_arrived() {
    let mut subject = Subject::leader(1, &[]);
    subject.accepted(2, 1);
    subject.step(Event::Read { id: ReadId::new(1) });
    subject.step(Event::Read { id: ReadId::new(2) });
    let term = Term::new(2);
    let promise = Duration::ZERO;
    let confirm = |round| Message::HeartbeatResponse(HeartbeatResponse { term, round, promise });
    subject.receive(2, confirm(1));
    let ready = |id| Effect::ReadReady { id: ReadId::new(id), index: index(1) };
    assert!(subject.effects.contains(&ready(1)));
    assert!(!subject.effects.contains(&ready(2)), "it came after round 1 had started");
    subject.receive(2, confirm(7));
    assert!(!subject.effects.contains(&ready(2)), "round 7 has not started");
    subject.receive(2, confirm(2));
    assert!(subject.effects.contains(&ready(2)));
}

#[test]
fn a_heartbeat_of_an_earlier_term_proves_no_leadership_to_whoever_leads_again() {
    let mut subject = Subject::new(3, &[]);
    let term = Term::new(2);
    let late = Heartbeat { term, leader_commit: LogIndex::ORIGIN, round: Some(5) };
    let sent = subject.receive(2, Message::Heartbeat(late));
    let answer = HeartbeatResponse { term: Term::new(3), round: 0, promise: Duration::ZERO };
    assert_eq!(sent, [Message::HeartbeatResponse(answer)]);
}

#[test]
fn a_poisoned_server_refuses_what_it_is_asked_and_sends_nothing() {
    let mut subject = Subject::new(1, &[]);
    subject.receive(2, heartbeat(1, 0));
    subject.receive(3, heartbeat(1, 0));
    assert!(subject.raft.is_poisoned());
    assert_eq!(subject.sent(), []);
    subject.propose("x");
    let reason = ProposalRefusal::Poisoned;
    assert_eq!(subject.effects, [Effect::ProposalRefused { id: ProposalId::new(1), reason }]);
    assert_eq!(subject.receive(2, ask(9, log_id(9, 8), VotePhase::Vote)), []);
    assert_eq!(subject.raft.next_deadline(), None);
}

#[test]
fn a_follower_takes_a_snapshot_in_and_starts_its_log_behind_it() {
    let mut subject = Subject::new(1, &entries(&[1]));
    let meta = SnapshotMeta { last_included: log_id(7, 3), configuration: Arc::new(voters(5)) };
    let chunk = Bytes::from_static(b"state");
    let (term, offset, done) = (Term::new(3), 0, true);
    let request = InstallSnapshot { term, meta: meta.clone(), offset, chunk, done };
    subject.receive(2, Message::InstallSnapshot(request));
    let last_included = log_id(7, 3);
    subject.step(Event::SnapshotWritten { last_included, next_offset: 5, complete: true });
    assert_eq!(subject.written().unwrap().reset, Some(meta.clone()));
    assert_eq!(subject.sent(), []);
    assert_eq!(subject.write(), [], "durable, but the state machine is not there yet");
    assert!(subject.effects.contains(&Effect::RestoreSnapshot { meta }));
    subject.step(Event::SnapshotRestored { last_included });
    let sent = subject.sent();
    assert!(matches!(&sent[..], [Message::InstallSnapshotResponse(r)] if r.installed), "{sent:?}");
    assert_eq!(subject.raft.last_log(), last_included);
    assert_eq!(subject.raft.commit_index(), index(7));
    assert_eq!(subject.raft.configuration().member_count(), 5);
    assert_eq!(subject.raft.current_term(), term, "a snapshot's term is one like any other");
}

#[test]
fn a_snapshot_of_what_the_log_holds_leaves_the_log_and_what_follows_it() {
    let mut subject = Subject::new(1, &entries(&[1, 1, 1]));
    let meta = SnapshotMeta { last_included: log_id(2, 1), configuration: Arc::new(voters(3)) };
    let chunk = Bytes::from_static(b"state");
    let request = InstallSnapshot { term: Term::new(1), meta, offset: 0, chunk, done: true };
    let sent = subject.receive(2, Message::InstallSnapshot(request));
    assert!(matches!(&sent[..], [Message::InstallSnapshotResponse(r)] if r.installed), "{sent:?}");
    let writes = |effect: &Effect| matches!(effect, Effect::WriteSnapshotChunk { .. });
    assert!(!subject.effects.iter().any(writes), "{:?}", subject.effects);
    assert_eq!(subject.log(), [1, 1, 1]);
    assert_eq!(subject.raft.commit_index(), index(2), "what a snapshot covers is committed");
}

#[test]
fn a_pre_vote_of_a_stale_term_is_refused_aloud_with_the_current_term() {
    let mut subject = Subject::new(5, &entries(&[1, 1]));
    let (term, phase) = (Term::new(2), VotePhase::PreVote);
    let request = RequestVote { term, last_log: log_id(9, 1), phase };
    let sent = subject.receive(2, Message::RequestVote(request));
    let refusal = RequestVoteResponse { term: Term::new(5), phase, granted: false };
    assert_eq!(sent, [Message::RequestVoteResponse(refusal)]);
}

#[test]
fn a_restart_with_contradicting_state_is_refused_with_the_evidence() {
    let restored = || {
        let mut disk = Disk::new(voters(3));
        disk.entries = entries(&[1, 1, 2]);
        disk.restored(LogIndex::ORIGIN, usize::MAX)
    };
    let start = |restored: Restored| {
        Raft::new(node(1), Options::default(), 1, restored, Time::ZERO).map(|_| ()).unwrap_err()
    };
    let applied = start(Restored { applied: index(4), ..restored() });
    assert!(matches!(applied, StartError::AppliedOutside { .. }), "{applied}");
    let runs = start(Restored { term_runs: vec![(index(1), Term::new(1))], ..restored() });
    assert!(matches!(runs, StartError::TermRuns { .. }), "{runs}");
    let tail = start(Restored { tail: entries(&[1, 1]), ..restored() });
    let (expected, got) = (log_id(3, 2), log_id(2, 1));
    assert_eq!(tail, StartError::Tail { expected, got });
    let empty = start(Restored { last_log: LogId::ORIGIN, term_runs: vec![], ..restored() });
    assert!(matches!(empty, StartError::Tail { .. }), "{empty}");
    let configurations = vec![(index(9), Arc::new(voters(1)))];
    let outside = start(Restored { configurations, ..restored() });
    assert_eq!(outside, StartError::Configurations { index: index(9) });
}

#[test]
fn entries_that_reached_the_disk_without_their_term_raise_it_at_the_start() {
    let hard_state = HardState { current_term: Term::new(2), voted_for: Some(node(3)) };
    let mut subject = Subject::with(voters(3), hard_state, &entries(&[1, 5]));
    assert_eq!(subject.raft.current_term(), Term::new(5));
    assert_eq!(subject.raft.status().voted_for, None);
    subject.receive(2, ask(5, log_id(2, 5), VotePhase::Vote));
    assert_eq!(subject.write(), [vote(5, true)]);
}

#[test]
fn a_term_that_no_election_can_have_reached_is_not_believed() {
    let mut subject = Subject::with(voters(3), HardState::default(), &[]);
    subject.receive(2, heartbeat(1 << 62, 0));
    assert_eq!(subject.raft.current_term(), Term::new(0));
    subject.receive(2, heartbeat(1 << 32, 0));
    assert_eq!(subject.raft.current_term(), Term::new(1 << 32), "at the limit");
}

#[test]
fn a_message_that_speaks_of_an_index_that_no_log_reaches_is_not_believed() {
    for index in [u64::MAX, (1 << 62) + 1] {
        let mut subject = Subject::with(voters(3), HardState::default(), &[]);
        let prev_log = log_id(index, 1);
        let entry = command(index.wrapping_add(1), 1, "x");
        let (term, leader_commit) = (Term::new(1), LogIndex::ORIGIN);
        let request = AppendEntries { term, prev_log, entries: vec![entry], leader_commit };
        subject.receive(2, Message::AppendEntries(request));
        assert_eq!(subject.raft.current_term(), Term::new(1), "the sender is not at fault");
        assert_eq!(subject.raft.leader(), None);
    }
}

#[test]
fn a_configuration_of_a_version_that_no_cluster_reaches_is_not_believed() {
    for (version, last) in [(u64::MAX, 0), ((1 << 62) + 1, 0), (1 << 62, 1)] {
        let mut subject = Subject::with(voters(3), HardState::default(), &[]);
        let payload = Payload::Configuration(Arc::new(Configuration { version, ..voters(3) }));
        let entries = vec![Entry { log_id: log_id(1, 1), payload }];
        let (term, prev_log, leader_commit) = (Term::new(1), LogId::ORIGIN, LogIndex::ORIGIN);
        let request = AppendEntries { term, prev_log, entries, leader_commit };
        subject.receive(2, Message::AppendEntries(request));
        assert_eq!(subject.raft.last_log().index, index(last), "{version}");
    }
}

#[test]
fn a_snapshot_from_a_later_term_than_its_leaders_is_not_believed() {
    let snapshot = |last_included, version| {
        let configuration = Arc::new(Configuration { version, ..voters(3) });
        let meta = SnapshotMeta { last_included, configuration };
        let (term, chunk) = (Term::new(1), Bytes::from_static(b"x"));
        Message::InstallSnapshot(InstallSnapshot { term, meta, offset: 0, chunk, done: true })
    };
    let most = 1 << 62;
    for (last_included, version, is_taken) in [
        (log_id(5, 2), 1, false),
        (log_id(2 * most, 1), 1, false),
        (log_id(5, 1), most + 1, false),
        (log_id(most, 1), most, true),
    ] {
        let mut subject = Subject::with(voters(3), HardState::default(), &[]);
        subject.receive(2, snapshot(last_included, version));
        let is_write = |effect: &Effect| matches!(effect, Effect::WriteSnapshotChunk { .. });
        assert_eq!(subject.effects.iter().any(is_write), is_taken, "{last_included}");
    }
}
