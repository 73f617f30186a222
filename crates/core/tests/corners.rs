//! Corners that other tests passed by, as mutants of the code showed (docs/mutants.md): one server,
//! one leader, and what the disk and the state machine answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{index, log_id, node, voters};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Effect, Entry, Event, HardState,
    Heartbeat, InstallSnapshot, LoadRequest, LogId, LogIndex, Message, Options, Payload, Persist,
    Poison, Raft, ReadId, ReadRefusal, RequestVote, Restored, SnapshotMeta, Term, Time, VotePhase,
};
use std::sync::Arc;

fn noop(at: u64, term: u64) -> Entry {
    Entry { log_id: log_id(at, term), payload: Payload::Noop }
}

fn meta(last_included: LogId) -> SnapshotMeta {
    SnapshotMeta { last_included, configuration: Arc::new(voters(3)) }
}

/// n1, whose log of term 1 starts after `base` and ends at `last`; in memory if `holds`.
fn server(base: u64, last: u64, holds: bool, options: Options) -> Raft {
    let base_id = if base == 0 { LogId::ORIGIN } else { log_id(base, 1) };
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(1), voted_for: None },
        base: meta(base_id),
        term_runs: vec![(index(base + 1), Term::new(1))],
        configurations: Vec::new(),
        last_log: log_id(last, 1),
        tail: (base + 1..=last).filter(|_| holds).map(|at| noop(at, 1)).collect(),
        applied: index(base),
        lost: None,
    };
    Raft::new(node(1), options, 7, restored, Time::ZERO).unwrap()
}

fn step(raft: &mut Raft, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    raft.step(Time::ZERO, event, &mut effects);
    effects
}

fn receive(raft: &mut Raft, message: Message) -> Vec<Effect> {
    step(raft, Event::Message { from: node(2), message })
}

/// The leader of term 2 sends entries after `prev_log`.
fn append(raft: &mut Raft, prev_log: LogId, entries: Vec<Entry>, commit: u64) -> Vec<Effect> {
    let (term, leader_commit) = (Term::new(2), index(commit));
    receive(raft, Message::AppendEntries(AppendEntries { term, prev_log, entries, leader_commit }))
}

fn written(effects: &[Effect]) -> Option<&Persist> {
    effects.iter().find_map(|effect| match effect {
        Effect::Persist(persist) => Some(persist),
        _ => None,
    })
}

/// What the state machine is given.
fn handed(effects: &[Effect]) -> Vec<u64> {
    let entries = effects.iter().filter_map(|effect| match effect {
        Effect::Apply { entries } => Some(entries),
        _ => None,
    });
    entries.flatten().map(|entry| entry.log_id.index.get()).collect()
}

fn loads(effects: &[Effect]) -> Vec<LoadRequest> {
    let loads = effects.iter().filter_map(|effect| match effect {
        Effect::Load(request) => Some(*request),
        _ => None,
    });
    loads.collect()
}

/// An event that changes nothing, after which whatever is possible is done.
fn nothing(raft: &mut Raft) -> Vec<Effect> {
    step(raft, Event::Compact { through: LogIndex::ORIGIN })
}

#[test]
fn entries_below_a_compacted_base_are_passed_over() {
    let mut raft = server(5, 7, true, Options::default());
    append(&mut raft, log_id(2, 1), vec![noop(3, 1), noop(4, 1)], 0);
    assert_eq!((raft.is_poisoned(), raft.last_log()), (false, log_id(7, 1)));
    append(&mut raft, log_id(3, 1), (4..=8).map(|at| noop(at, 1)).collect(), 0);
    assert_eq!((raft.is_poisoned(), raft.last_log()), (false, log_id(8, 1)));
}

#[test]
fn an_entry_that_contradicts_a_compacted_base_is_proof_of_a_broken_protocol() {
    let mut raft = server(5, 7, true, Options::default());
    append(&mut raft, log_id(3, 1), vec![noop(4, 1), noop(5, 2)], 0);
    let (leader, received, commit_index) = (node(2), log_id(5, 2), index(5));
    let expected = Poison::CommittedConflict { leader, received, commit_index };
    assert_eq!(raft.status().poisoned, Some(expected));
}

#[test]
fn a_request_that_overlaps_the_log_and_extends_it_truncates_nothing() {
    let mut raft = server(0, 3, true, Options::default());
    let effects = append(&mut raft, log_id(1, 1), (2..=4).map(|at| noop(at, 1)).collect(), 0);
    let persist = written(&effects).unwrap();
    assert_eq!((persist.truncate_after, persist.entries.len()), (None, 1));
}

#[test]
fn a_follower_tells_of_what_is_durable_while_more_is_being_written() {
    let mut raft = server(0, 3, true, Options::default());
    let first = written(&append(&mut raft, log_id(3, 1), vec![noop(4, 2)], 0)).unwrap().seq;
    append(&mut raft, log_id(4, 2), vec![noop(5, 2)], 0);
    let effects = step(&mut raft, Event::Persisted { seq: first });
    let (term, outcome) = (Term::new(2), AppendOutcome::Accepted { matched: index(4) });
    let message = Message::AppendEntriesResponse(AppendEntriesResponse { term, outcome });
    assert_eq!(effects, [Effect::Send { to: node(2), message }]);
}

#[test]
fn the_state_machine_is_handed_no_more_while_it_has_its_fill_and_goes_on_as_it_catches_up() {
    // An entry counts 48 bytes; a batch may exceed what is left by its last entry.
    let mut raft = server(0, 6, true, Options { applying_bytes_max: 100, ..Options::default() });
    assert_eq!(handed(&append(&mut raft, log_id(6, 1), Vec::new(), 6)), [1, 2]);
    assert_eq!(handed(&nothing(&mut raft)), [3]);
    assert_eq!(handed(&nothing(&mut raft)), [0; 0], "144 of 100 bytes are under way");
    assert_eq!(handed(&step(&mut raft, Event::Applied { index: index(2) })), [4]);
    assert_eq!(handed(&step(&mut raft, Event::Applied { index: index(4) })), [5, 6]);
}

#[test]
fn an_acknowledgement_that_waits_for_a_disk_that_fails_never_leaves() {
    let mut raft = server(0, 3, true, Options::default());
    let seq = written(&append(&mut raft, log_id(3, 1), vec![noop(4, 2)], 3)).unwrap().seq;
    assert_eq!(step(&mut raft, Event::DiskFailed), [], "a follower has nobody to call");
    assert_eq!(raft.status().poisoned, Some(Poison::DiskFailed));
    assert_eq!((raft.next_deadline(), raft.leader()), (None, None));
    assert_eq!(step(&mut raft, Event::Persisted { seq }), []);
    assert_eq!(append(&mut raft, log_id(4, 2), vec![noop(5, 2)], 4), []);
    let id = ReadId::new(1);
    let refused = Effect::ReadRefused { id, reason: ReadRefusal::Poisoned };
    assert_eq!(step(&mut raft, Event::Read { id }), [refused]);
    assert_eq!(step(&mut raft, Event::DiskFailed), [], "nor is it told twice");
}

#[test]
fn entries_for_the_state_machine_are_read_back_once() {
    let mut raft = server(0, 3, false, Options::default());
    assert_eq!(loads(&append(&mut raft, log_id(3, 1), Vec::new(), 3)).len(), 1);
    assert_eq!(loads(&nothing(&mut raft)), []);
}

/// The entries that are committed up to `commit` are asked for, and these come.
fn read_back(commit: u64, entries: Vec<Entry>) -> (Raft, Vec<u64>) {
    let mut raft = server(0, 3, false, Options::default());
    let request = loads(&append(&mut raft, log_id(3, 1), Vec::new(), commit))[0];
    let effects = step(&mut raft, Event::Loaded { request, entries });
    (raft, handed(&effects))
}

#[test]
fn entries_read_back_that_are_not_those_of_the_log_never_reach_the_state_machine() {
    let wrong = [
        (3, vec![noop(2, 1), noop(3, 1)], "the first is missing"),
        (3, vec![noop(1, 1), noop(2, 9)], "the last is of another term"),
        (2, (1..=3).map(|at| noop(at, 1)).collect(), "the last is not committed"),
        (3, Vec::new(), "there is nothing"),
    ];
    for (commit, entries, what) in wrong {
        let (raft, handed) = read_back(commit, entries);
        assert_eq!(handed, [0; 0], "{what}");
        let expected = Some(Poison::LogUnreadable { index: index(1) });
        assert_eq!(raft.status().poisoned, expected, "{what}");
    }
    let (raft, handed) = read_back(3, vec![noop(1, 1), noop(2, 1)]);
    assert_eq!((raft.is_poisoned(), handed), (false, vec![1, 2]));
}

#[test]
fn entries_that_nobody_asked_for_never_reach_the_state_machine() {
    let mut asked = server(0, 3, false, Options::default());
    let request = loads(&append(&mut asked, log_id(3, 1), Vec::new(), 3))[0];
    let mut raft = server(0, 3, false, Options::default());
    let entries = (1..=3).map(|at| noop(at, 1)).collect();
    assert_eq!(handed(&step(&mut raft, Event::Loaded { request, entries })), [0; 0]);
    assert!(!raft.is_poisoned());
}

#[test]
fn the_state_machine_is_replaced_only_after_it_has_finished_what_it_was_given() {
    let mut raft = server(0, 3, true, Options::default());
    assert_eq!(handed(&append(&mut raft, log_id(3, 1), Vec::new(), 3)), [1, 2, 3]);
    let (term, chunk) = (Term::new(2), Bytes::from_static(b"state"));
    let last_included = log_id(10, 2);
    let snapshot =
        InstallSnapshot { term, meta: meta(last_included), offset: 0, chunk, done: true };
    receive(&mut raft, Message::InstallSnapshot(snapshot));
    let whole = Event::SnapshotWritten { last_included, next_offset: 5, complete: true };
    let seq = written(&step(&mut raft, whole)).unwrap().seq;
    let restores = |effects: Vec<Effect>| {
        effects.iter().any(|effect| matches!(effect, Effect::RestoreSnapshot { .. }))
    };
    assert!(!restores(step(&mut raft, Event::Persisted { seq })), "three entries are in hand");
    assert!(restores(step(&mut raft, Event::Applied { index: index(3) })));
    assert!(!restores(step(&mut raft, Event::Read { id: ReadId::new(1) })), "once");
}

#[test]
fn what_is_in_memory_beyond_its_limit_is_forgotten_once_the_state_machine_has_it() {
    // An entry counts 48 bytes: memory is for two, and for three more that are yet to be applied.
    let options =
        Options { log_cache_bytes_max: 96, applying_bytes_max: 144, ..Options::default() };
    let mut raft = server(0, 4, true, options.clone());
    append(&mut raft, log_id(4, 1), Vec::new(), 0);
    assert_eq!(raft.status().cached_bytes, 4 * 48, "nothing is committed");
    append(&mut raft, log_id(4, 1), Vec::new(), 2);
    assert_eq!(raft.status().cached_bytes, 2 * 48, "two have gone to the state machine");
    let mut raft = server(0, 6, true, options);
    append(&mut raft, log_id(6, 1), Vec::new(), 0);
    assert_eq!(raft.status().cached_bytes, 5 * 48, "more than five are too many in any case");
}

#[test]
fn what_is_not_on_the_disk_yet_stays_in_memory_beyond_any_limit() {
    let options = Options { log_cache_bytes_max: 48, applying_bytes_max: 48, ..Options::default() };
    let mut raft = server(0, 1, true, options);
    append(&mut raft, log_id(1, 1), (2..=5).map(|at| noop(at, 1)).collect(), 5);
    assert_eq!(raft.status().cached_bytes, 4 * 48, "only the first is durable");
}

#[test]
fn at_the_moment_of_poisoning_waiting_reads_are_refused_and_nothing_is_sent() {
    let mut raft = server(0, 3, true, Options::default());
    append(&mut raft, log_id(3, 1), Vec::new(), 0);
    step(&mut raft, Event::Read { id: ReadId::new(1) });
    let (term, prev_log) = (Term::new(2), log_id(3, 1));
    let (entries, leader_commit) = (Vec::new(), LogIndex::ORIGIN);
    let request = AppendEntries { term, prev_log, entries, leader_commit };
    let other = Event::Message { from: node(3), message: Message::AppendEntries(request) };
    let effects = step(&mut raft, other);
    assert!(raft.is_poisoned());
    let (id, reason) = (ReadId::new(1), ReadRefusal::Poisoned);
    assert_eq!(effects, [Effect::ReadRefused { id, reason }]);
}

#[test]
fn reads_that_nobody_answered_make_room_for_others() {
    let options = Options { waiting_reads_count_max: 1, ..Options::default() };
    let mut raft = server(0, 3, true, options.clone());
    append(&mut raft, log_id(3, 1), Vec::new(), 0);
    let read = |raft: &mut Raft, id| step(raft, Event::Read { id: ReadId::new(id) });
    let is_forwarded = |effects: &[Effect]| {
        let forwards =
            |effect: &Effect| matches!(effect, Effect::Send { message: Message::ReadIndex(_), .. });
        effects.iter().any(forwards)
    };
    assert!(is_forwarded(&read(&mut raft, 1)));
    assert!(!is_forwarded(&read(&mut raft, 2)), "one is the limit");
    let mut effects = Vec::new();
    raft.step(Time::ZERO.after(options.election_timeout), Event::Deadline, &mut effects);
    let (id, reason) = (ReadId::new(1), ReadRefusal::NoLeader);
    assert_eq!(effects, [Effect::ReadRefused { id, reason }]);
    assert!(is_forwarded(&read(&mut raft, 3)));
}

/// Who ran against the leader in its term, and whose request arrives only when that is said to be gone,
/// is refused: nothing gives a vote back (§3.4).
#[test]
fn a_leader_that_is_said_to_be_gone_keeps_the_vote_that_it_got() {
    let mut raft = server(0, 1, true, Options::default());
    let asks = |raft: &mut Raft, from: u64| {
        let (term, last_log) = (Term::new(2), log_id(1, 1));
        let message = Message::RequestVote(RequestVote { term, last_log, phase: VotePhase::Vote });
        step(raft, Event::Message { from: node(from), message })
    };
    let effects = asks(&mut raft, 2);
    let vote = written(&effects).expect("the vote is written").clone();
    assert_eq!(vote.hard_state.unwrap().voted_for, Some(node(2)));
    step(&mut raft, Event::Persisted { seq: vote.seq });
    let (term, leader_commit) = (Term::new(2), index(0));
    receive(&mut raft, Message::Heartbeat(Heartbeat { term, leader_commit, round: None }));
    assert_eq!(raft.leader(), Some(node(2)));
    step(&mut raft, Event::PeerGone { peer: node(2) });
    assert_eq!(raft.leader(), None);
    let effects = asks(&mut raft, 3);
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message: Message::RequestVoteResponse(answer) } => {
            Some((*to, answer.granted))
        }
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), [(node(3), false)]);
    assert!(written(&effects).is_none(), "no other vote is written");
}
