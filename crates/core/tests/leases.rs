//! What a leader may count on (§6.4.1), to the microsecond: from when, for how long, and on whom.
//! Scenes with several servers are in `scripts/lease_*.txt`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Configuration, Drift, Effect, Entry,
    Event, HardState, Heartbeat, HeartbeatResponse, LogId, LogIndex, Member, MemberRole, Message,
    NodeId, Options, Payload, Raft, ReadId, RequestVote, RequestVoteResponse, Restored, Role,
    SnapshotMeta, Term, Time, TimeoutNow, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

const TERM: Term = Term::new(1);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Of a promise for a second with clocks that are right, what is certain.
const CERTAIN: Duration = Duration::from_micros(999_998);
const NO_DRIFT: Drift = Drift::parts_per_million(0);

fn server(lease_reads: bool) -> Raft {
    server_of(3, lease_reads)
}

/// Node 1 of so many voters.
fn server_of(voter_count: u64, lease_reads: bool) -> Raft {
    let member = |number| {
        let role = MemberRole::Voter;
        let member = Member { role, rank: 0, address: String::new(), context: Bytes::new() };
        (NodeId::new(number), member)
    };
    let configuration = Configuration::new(0, (1..=voter_count).map(member).collect());
    let restored = Restored {
        hard_state: HardState::default(),
        base: SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::new(configuration) },
        term_runs: Vec::new(),
        configurations: Vec::new(),
        last_log: LogId::ORIGIN,
        tail: Vec::new(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    let options = Options { lease_reads, election_timeout: TIMEOUT, ..Options::default() };
    Raft::new(NodeId::new(1), options, 7, restored, Time::ZERO).unwrap()
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

/// Node 1 as the leader of term 1 whose first entry is committed, and when that was.
fn leader(lease_reads: bool) -> (Raft, Time) {
    let (mut raft, now) = elected(server(lease_reads));
    commits(&mut raft, now);
    (raft, now)
}

/// A majority of three or five has the first entry.
fn commits(raft: &mut Raft, now: Time) {
    for follower in [2, 3] {
        let outcome = AppendOutcome::Accepted { matched: LogIndex::new(1) };
        let answer = AppendEntriesResponse { term: TERM, outcome };
        receive(raft, now, follower, Message::AppendEntriesResponse(answer));
    }
    assert_eq!(raft.commit_index(), LogIndex::new(1));
}

/// Elected by a majority of three or five.
fn elected(mut raft: Raft) -> (Raft, Time) {
    let now = raft.next_deadline().unwrap();
    step(&mut raft, now, Event::Deadline);
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        for voter in [2, 3] {
            let vote = RequestVoteResponse { term: TERM, phase, granted: true };
            receive(&mut raft, now, voter, Message::RequestVoteResponse(vote));
        }
    }
    assert_eq!(raft.role(), Role::Leader);
    (raft, now)
}

/// `from` answers a round with a promise.
fn promised(raft: &mut Raft, now: Time, from: u64, round: u64, promise: Duration) {
    let answer = HeartbeatResponse { term: TERM, round, promise };
    receive(raft, now, from, Message::HeartbeatResponse(answer));
}

/// Whether a read is served at once.
fn serves(raft: &mut Raft, now: Time, max_drift: Drift) -> bool {
    let event = Event::ReadByLease { id: ReadId::new(now.as_micros()), max_drift };
    let effects = step(raft, now, event);
    effects.iter().any(|effect| matches!(effect, Effect::ReadReady { .. }))
}

/// Begins a round and returns when.
fn round(raft: &mut Raft) -> Time {
    let now = raft.next_deadline().unwrap();
    step(raft, now, Event::Deadline);
    now
}

#[test]
fn a_lease_counts_from_when_the_round_was_sent_not_from_when_it_was_answered() {
    let (mut raft, _) = leader(true);
    let sent = round(&mut raft);
    // Nor from when a later round was sent.
    round(&mut raft);
    let answered = sent.after(Duration::from_millis(600));
    promised(&mut raft, answered, 2, 1, TIMEOUT);
    assert!(serves(&mut raft, sent.after(Duration::from_micros(999_997)), NO_DRIFT));
    assert!(!serves(&mut raft, sent.after(CERTAIN), NO_DRIFT));
}

#[test]
fn a_lease_is_the_shorter_the_more_clocks_may_be_off() {
    let (mut raft, _) = leader(true);
    let sent = round(&mut raft);
    promised(&mut raft, sent, 2, 1, TIMEOUT);
    // 900,000 / 1,100,000 of a second.
    let tenth = Drift::parts_per_million(100_000);
    assert!(serves(&mut raft, sent.after(Duration::from_micros(818_178)), tenth));
    assert!(!serves(&mut raft, sent.after(Duration::from_micros(818_179)), tenth));
    assert!(serves(&mut raft, sent.after(Duration::from_micros(818_179)), NO_DRIFT));
    assert!(
        !serves(&mut raft, sent, Drift::parts_per_million(1_000_000)),
        "and then any clock will do"
    );
}

#[test]
fn a_promise_counts_for_as_long_as_it_says_and_no_longer_than_anybody_here_waits() {
    for (said, counted) in [(400, 400), (1_000, 1_000), (1 << 50, 1_000)] {
        let (mut raft, _) = leader(true);
        let sent = round(&mut raft);
        promised(&mut raft, sent, 2, 1, Duration::from_millis(said));
        let end = sent.after(Duration::from_micros(counted * 1_000 - 2));
        assert!(serves(&mut raft, Time::from_micros(end.as_micros() - 1), NO_DRIFT), "{said}");
        assert!(!serves(&mut raft, end, NO_DRIFT), "{said}");
    }
}

#[test]
fn an_answer_without_a_promise_or_to_no_round_of_this_leader_is_no_lease() {
    let (mut raft, _) = leader(true);
    let sent = round(&mut raft);
    promised(&mut raft, sent, 2, 1, Duration::ZERO);
    promised(&mut raft, sent, 2, 0, TIMEOUT);
    promised(&mut raft, sent, 2, 2, TIMEOUT);
    promised(&mut raft, sent, 9, 1, TIMEOUT);
    assert!(!serves(&mut raft, sent, NO_DRIFT));
    promised(&mut raft, sent, 3, 1, TIMEOUT);
    assert!(serves(&mut raft, sent, NO_DRIFT), "a voter, of this round");
}

#[test]
fn a_lease_needs_the_promises_of_a_majority_of_the_voters() {
    let (mut raft, now) = elected(server_of(5, true));
    commits(&mut raft, now);
    let sent = round(&mut raft);
    promised(&mut raft, sent, 2, 1, TIMEOUT);
    assert!(!serves(&mut raft, sent, NO_DRIFT), "two of five, itself included");
    let late = round(&mut raft);
    promised(&mut raft, late, 3, 2, TIMEOUT);
    // The first of the two promises that it needs is over first.
    assert!(serves(&mut raft, late, NO_DRIFT));
    assert!(!serves(&mut raft, sent.after(CERTAIN), NO_DRIFT));
}

#[test]
fn a_leader_has_no_lease_before_it_has_committed_an_entry_of_its_term() {
    let (mut raft, _) = elected(server(true));
    let sent = round(&mut raft);
    promised(&mut raft, sent, 2, 1, TIMEOUT);
    assert!(!serves(&mut raft, sent, NO_DRIFT));
    commits(&mut raft, sent);
    assert!(serves(&mut raft, sent, NO_DRIFT));
}

#[test]
fn a_leader_that_is_not_to_serve_by_lease_does_not_whatever_it_is_promised() {
    let (mut raft, _) = leader(false);
    let sent = round(&mut raft);
    promised(&mut raft, sent, 2, 1, TIMEOUT);
    assert!(!serves(&mut raft, sent, NO_DRIFT));
}

/// Node 1 answers a heartbeat of term 1's leader, node 2; what it promises with that.
fn answer(raft: &mut Raft, now: Time) -> Duration {
    let heartbeat = Heartbeat { term: TERM, leader_commit: LogIndex::ORIGIN, round: Some(1) };
    let effects = receive(raft, now, 2, Message::Heartbeat(heartbeat));
    let promise = effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::HeartbeatResponse(answer), .. } => Some(answer.promise),
        _ => None,
    });
    promise.unwrap()
}

/// Whether node 1 helps node 3 to lead term 2.
fn helps(raft: &mut Raft, now: Time, phase: VotePhase) -> bool {
    let last_log = LogId::new(TERM, LogIndex::new(9));
    let request = RequestVote { term: Term::new(2), last_log, phase };
    let effects = receive(raft, now, 3, Message::RequestVote(request));
    let is_granted = |effect: &Effect| matches!(effect, Effect::Send { message: Message::RequestVoteResponse(vote), .. } if vote.granted);
    effects.iter().any(is_granted)
}

#[test]
fn what_was_promised_is_kept_to_the_microsecond_whatever_is_said_of_the_leader_or_of_later_terms() {
    let last = Duration::from_micros(999_999);
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        let mut raft = server(true);
        assert_eq!(answer(&mut raft, Time::ZERO), TIMEOUT);
        step(&mut raft, Time::ZERO, Event::PeerGone { peer: NodeId::new(2) });
        assert!(!helps(&mut raft.clone(), Time::ZERO.after(last), phase), "{phase:?}");
        assert!(helps(&mut raft, Time::ZERO.after(TIMEOUT), phase), "{phase:?}");
    }
    let mut raft = server(true);
    answer(&mut raft, Time::ZERO);
    // A message that only tells of a later term.
    let later = HeartbeatResponse { term: Term::new(2), round: 0, promise: Duration::ZERO };
    receive(&mut raft, Time::ZERO, 3, Message::HeartbeatResponse(later));
    assert_eq!(raft.current_term(), Term::new(2));
    assert!(!helps(&mut raft, Time::ZERO.after(last), VotePhase::Vote));
}

#[test]
fn a_server_that_has_promised_does_not_help_itself_either_unless_the_leader_asks_it_to() {
    let mut raft = server(true);
    answer(&mut raft, Time::ZERO);
    step(&mut raft, Time::ZERO, Event::PeerGone { peer: NodeId::new(2) });
    assert!(raft.next_deadline().unwrap() >= Time::ZERO.after(TIMEOUT), "told of an end");
    let mut called = raft.clone();
    receive(&mut called, Time::ZERO, 2, Message::TimeoutNow(TimeoutNow { term: TERM }));
    assert_eq!(called.role(), Role::Candidate);
    assert!(helps(&mut raft, Time::ZERO, VotePhase::Transfer), "nor others");
}

#[test]
fn the_only_voter_that_is_left_waits_until_its_promise_is_over() {
    let mut raft = server(true);
    answer(&mut raft, Time::ZERO);
    let member =
        Member { role: MemberRole::Voter, rank: 0, address: String::new(), context: Bytes::new() };
    let alone = Configuration::new(1, [(NodeId::new(1), member)].into());
    let log_id = LogId::new(TERM, LogIndex::new(1));
    let request = AppendEntries {
        term: TERM,
        prev_log: LogId::ORIGIN,
        entries: vec![Entry { log_id, payload: Payload::Configuration(Arc::new(alone)) }],
        leader_commit: LogIndex::ORIGIN,
    };
    receive(&mut raft, Time::ZERO, 2, Message::AppendEntries(request));
    assert_eq!(raft.next_deadline(), Some(Time::ZERO.after(TIMEOUT)));
}

#[test]
fn who_does_not_serve_by_lease_promises_nothing_and_keeps_nobody_waiting() {
    let mut raft = server(false);
    assert_eq!(answer(&mut raft, Time::ZERO), Duration::ZERO);
    step(&mut raft, Time::ZERO, Event::PeerGone { peer: NodeId::new(2) });
    assert!(helps(&mut raft, Time::ZERO, VotePhase::Vote));
}

#[test]
fn a_heartbeat_of_an_earlier_term_is_promised_nothing() {
    let mut raft = server(true);
    let later = HeartbeatResponse { term: Term::new(2), round: 0, promise: Duration::ZERO };
    receive(&mut raft, Time::ZERO, 3, Message::HeartbeatResponse(later));
    assert_eq!(answer(&mut raft, Time::ZERO), Duration::ZERO);
}

#[test]
fn what_an_earlier_life_may_have_promised_is_kept_from_the_start_on() {
    let mut raft = server(true);
    raft.keep_earlier_promises(TIMEOUT);
    assert!(!helps(&mut raft, Time::from_micros(999_999), VotePhase::Vote));
    assert!(helps(&mut raft, Time::ZERO.after(TIMEOUT), VotePhase::Vote));
}
