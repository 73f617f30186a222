//! The hash of what a server will do, on which the search of all states rests: servers that differ
//! only in what nobody can see have the same one, and whatever matters shows in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{command, index, log_id, node, voters};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, CommandKind, Effect, Entry, Event,
    HardState, LogId, LogIndex, Message, Options, Payload, PersistSeq, Proposal, ProposalId, Raft,
    ReadId, RequestVoteResponse, Restored, Role, SnapshotMeta, Term, Time, VotePhase,
};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1);
/// All of it but a microsecond.
const NEARLY: Duration = Duration::from_micros(999_999);

fn options() -> Options {
    Options { election_timeout: TIMEOUT, ..Options::default() }
}

fn noop(at: u64, term: u64) -> Entry {
    Entry { log_id: log_id(at, term), payload: Payload::Noop }
}

/// n1 of three, started at `start` with the entries `log` on its disk.
fn server(start: Time, term: u64, log: &[Entry]) -> Raft {
    let mut term_runs: Vec<(LogIndex, Term)> = Vec::new();
    for entry in log {
        if term_runs.last().is_none_or(|(_, term)| *term < entry.log_id.term) {
            term_runs.push((entry.log_id.index, entry.log_id.term));
        }
    }
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(term), voted_for: None },
        base: SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::new(voters(3)) },
        term_runs,
        configurations: Vec::new(),
        last_log: log.last().map_or(LogId::ORIGIN, |entry| entry.log_id),
        tail: log.to_vec(),
        applied: LogIndex::ORIGIN,
        lost: None,
    };
    Raft::new(node(1), options(), 7, restored, start).unwrap()
}

fn behaviour(raft: &Raft) -> u64 {
    let mut state = DefaultHasher::new();
    raft.hash_behaviour(&mut state);
    state.finish()
}

/// Carries out an event, and returns the writes that it asked for.
fn step(raft: &mut Raft, now: Time, event: Event) -> Vec<PersistSeq> {
    let mut effects = Vec::new();
    raft.step(now, event, &mut effects);
    let writes = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(persist) => Some(persist.seq),
        _ => None,
    });
    writes.collect()
}

fn step_durably(raft: &mut Raft, now: Time, event: Event) {
    for seq in step(raft, now, event) {
        step_durably(raft, now, Event::Persisted { seq });
    }
}

fn from(peer: u64, message: Message) -> Event {
    Event::Message { from: node(peer), message }
}

/// The leader of term 2, n2, sends entries.
fn append(prev_log: LogId, entries: Vec<Entry>) -> Event {
    let (term, leader_commit) = (Term::new(2), LogIndex::ORIGIN);
    from(2, Message::AppendEntries(AppendEntries { term, prev_log, entries, leader_commit }))
}

/// Time passes, and nothing else.
fn wait(raft: &mut Raft, until: Time) {
    step(raft, until, Event::Compact { through: LogIndex::ORIGIN });
}

/// The leader of term 3, and when it was elected: as soon as its time had come.
fn leader(start: Time) -> (Raft, Time) {
    let mut raft = server(start, 2, &[noop(1, 1)]);
    let now = start.after(4 * TIMEOUT);
    step_durably(&mut raft, now, Event::Deadline);
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        let vote = RequestVoteResponse { term: Term::new(3), phase, granted: true };
        step_durably(&mut raft, now, from(2, Message::RequestVoteResponse(vote)));
    }
    assert_eq!(raft.role(), Role::Leader);
    (raft, now)
}

fn accepted(peer: u64, matched: u64) -> Event {
    let outcome = AppendOutcome::Accepted { matched: index(matched) };
    let answer = AppendEntriesResponse { term: Term::new(3), outcome };
    from(peer, Message::AppendEntriesResponse(answer))
}

fn propose(text: &str) -> Event {
    let (id, kind) = (ProposalId::new(1), CommandKind::Plain);
    let command = Bytes::copy_from_slice(text.as_bytes());
    Event::Propose(vec![Proposal { id, kind, command }])
}

#[test]
fn what_the_clock_reads_does_not_matter_only_what_is_left() {
    let late = Time::from_micros(3_600_000_000);
    let follower = |start: Time| {
        let mut raft = server(start, 2, &[noop(1, 1)]);
        let now = start.after(Duration::from_millis(10));
        step(&mut raft, now, append(log_id(1, 1), vec![noop(2, 2)]));
        raft
    };
    assert_eq!(behaviour(&follower(Time::ZERO)), behaviour(&follower(late)));
    let boss = |start: Time| {
        let (mut raft, now) = leader(start);
        step_durably(&mut raft, now, accepted(2, 2));
        step(&mut raft, now, propose("a"));
        raft
    };
    assert_eq!(behaviour(&boss(Time::ZERO)), behaviour(&boss(late)));
}

#[test]
fn whether_a_leader_was_heard_of_within_the_timeout_shows_and_not_how_long_ago() {
    let heard_at = Time::ZERO.after(Duration::from_millis(10));
    let after = |wait_for: Duration| {
        let mut raft = server(Time::ZERO, 2, &[noop(1, 1)]);
        step_durably(&mut raft, heard_at, append(log_id(1, 1), Vec::new()));
        wait(&mut raft, heard_at.after(wait_for));
        behaviour(&raft)
    };
    let tick = Duration::from_micros(1);
    assert_eq!(after(tick), after(NEARLY));
    assert_ne!(after(NEARLY), after(TIMEOUT));
    assert_eq!(after(TIMEOUT), after(TIMEOUT + tick));
}

#[test]
fn the_numbers_of_writes_do_not_show_but_what_they_hold_and_how_many_are_under_way() {
    let (now, log) = (Time::ZERO, [noop(1, 1), noop(2, 2)]);
    // Has written one entry more since its start, under the number 1.
    let mut veteran = server(now, 2, &log[..1]);
    step_durably(&mut veteran, now, append(log_id(1, 1), vec![noop(2, 2)]));
    let mut novice = server(now, 2, &log);
    step_durably(&mut novice, now, append(log_id(2, 2), Vec::new()));
    assert_eq!(behaviour(&veteran), behaviour(&novice));
    for raft in [&mut veteran, &mut novice] {
        assert_eq!(step(raft, now, append(log_id(2, 2), vec![noop(3, 2)])).len(), 1);
    }
    assert_eq!(behaviour(&veteran), behaviour(&novice));
    let mut done = veteran.clone();
    step(&mut done, now, append(log_id(3, 2), vec![noop(4, 2)]));
    assert_ne!(behaviour(&done), behaviour(&veteran), "two writes are not one");
}

#[test]
fn what_is_durable_shows() {
    let now = Time::ZERO;
    let mut raft = server(now, 2, &[noop(1, 1)]);
    let seq = step(&mut raft, now, append(log_id(1, 1), vec![noop(2, 2)]))[0];
    let before = behaviour(&raft);
    step(&mut raft, now, Event::Persisted { seq });
    assert_ne!(behaviour(&raft), before);
}

#[test]
fn terms_votes_logs_and_leaders_show() {
    let now = Time::ZERO;
    let log = [noop(1, 1), noop(2, 1)];
    let mut told = server(now, 2, &log);
    step_durably(&mut told, now, append(log_id(2, 1), Vec::new()));
    let mut other = server(now, 2, &log);
    let heartbeat = AppendEntries {
        term: Term::new(2),
        prev_log: log_id(2, 1),
        entries: Vec::new(),
        leader_commit: LogIndex::ORIGIN,
    };
    step_durably(&mut other, now, from(3, Message::AppendEntries(heartbeat)));
    let states = [
        server(now, 1, &log),
        server(now, 2, &log),
        server(now, 2, &log[..1]),
        server(now, 2, &[noop(1, 1), noop(2, 2)]),
        server(now, 2, &[noop(1, 1), command(2, 1, "a")]),
        told,
        other,
        leader(now).0,
    ];
    for (here, first) in states.iter().enumerate() {
        for (there, second) in states.iter().enumerate() {
            assert_eq!(behaviour(first) == behaviour(second), here == there, "{here}, {there}");
        }
    }
}

#[test]
fn what_a_leader_knows_of_its_followers_and_owes_its_clients_shows() {
    let (boss, now) = leader(Time::ZERO);
    let after = |event: Event| {
        let mut raft = boss.clone();
        step(&mut raft, now, event);
        behaviour(&raft)
    };
    let mut idle = boss.clone();
    wait(&mut idle, now);
    let plain = behaviour(&idle);
    assert_eq!(plain, behaviour(&boss));
    assert_ne!(after(accepted(2, 1)), plain);
    assert_ne!(after(accepted(2, 1)), after(accepted(3, 1)));
    assert_ne!(after(propose("a")), plain);
    assert_ne!(after(propose("a")), after(propose("b")));
    assert_ne!(after(Event::Read { id: ReadId::new(1) }), plain);
    assert_ne!(after(Event::TransferLeadership { to: Some(node(2)) }), plain);
}

#[test]
fn how_long_a_leader_has_until_its_next_heartbeat_shows_until_it_is_due() {
    let (boss, now) = leader(Time::ZERO);
    let heartbeat = options().heartbeat_interval;
    let after = |wait_for: Duration| {
        let mut raft = boss.clone();
        wait(&mut raft, now.after(wait_for));
        behaviour(&raft)
    };
    assert_ne!(after(Duration::ZERO), after(heartbeat / 2));
    assert_ne!(after(heartbeat / 2), after(heartbeat));
}

#[test]
fn reads_that_a_follower_has_under_way_show() {
    let mut raft = server(Time::ZERO, 2, &[noop(1, 1)]);
    step_durably(&mut raft, Time::ZERO, append(log_id(1, 1), Vec::new()));
    let before = behaviour(&raft);
    step(&mut raft, Time::ZERO, Event::Read { id: ReadId::new(1) });
    assert_ne!(behaviour(&raft), before);
}

#[test]
fn when_a_leader_may_hand_over_to_a_higher_rank_shows_until_it_may() {
    let (boss, now) = leader(Time::ZERO);
    let after = |wait_for: Duration| {
        let mut raft = boss.clone();
        wait(&mut raft, now.after(wait_for));
        behaviour(&raft)
    };
    // A fresh leader stays for two election timeouts; all else is due after one.
    assert_ne!(after(TIMEOUT), after(TIMEOUT + NEARLY));
    assert_ne!(after(TIMEOUT + NEARLY), after(2 * TIMEOUT));
    assert_eq!(after(2 * TIMEOUT), after(3 * TIMEOUT));
}

#[test]
fn a_write_of_a_leader_that_becomes_durable_shows_before_anybody_else_has_the_entry() {
    let (mut raft, now) = leader(Time::ZERO);
    let seq = step(&mut raft, now, propose("a"))[0];
    let before = behaviour(&raft);
    step(&mut raft, now, Event::Persisted { seq });
    assert_ne!(behaviour(&raft), before);
}
