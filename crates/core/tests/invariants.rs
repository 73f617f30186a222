//! The judges' rules bite: for each rule of `quorate_core::invariants` a state, a step or a cluster
//! that breaks it by as little as possible, and one beside it that does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use harness::{command, index, log_id, node, voters};
use quorate_core::invariants::{
    ClusterChecker, View, Violation, check_log_matching, check_state, check_transition,
};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Effect, Entry, Event, HardState, LogId,
    Message, Options, Payload, Raft, RequestVoteResponse, Restored, Role, SnapshotMeta, Term, Time,
    VotePhase,
};
use std::sync::Arc;

/// What breaks a rule, and the words of the rule.
type Break = (&'static str, fn(&mut View));

/// A server of `voter_count` in term `term`, whose log starts after `base` and has one entry for
/// each term of `log`.
fn server(id: u64, voter_count: u64, term: u64, base: LogId, log: &[u64]) -> Raft {
    let base_index = base.index.get();
    let tail: Vec<Entry> = (base_index + 1..)
        .zip(log)
        .map(|(at, term)| Entry { log_id: log_id(at, *term), payload: Payload::Noop })
        .collect();
    let mut term_runs = Vec::new();
    for entry in &tail {
        if term_runs.last().is_none_or(|(_, term)| *term < entry.log_id.term) {
            term_runs.push((entry.log_id.index, entry.log_id.term));
        }
    }
    let restored = Restored {
        hard_state: HardState { current_term: Term::new(term), voted_for: None },
        base: SnapshotMeta { last_included: base, configuration: Arc::new(voters(voter_count)) },
        term_runs,
        configurations: Vec::new(),
        last_log: tail.last().map_or(base, |entry| entry.log_id),
        tail,
        applied: base.index,
        lost: None,
    };
    Raft::new(node(id), Options::default(), 7, restored, Time::ZERO).unwrap()
}

fn view(id: u64, base: LogId, log: &[u64]) -> View {
    let term = log.iter().copied().max().unwrap_or_default().max(base.term.get());
    View::of(&server(id, 3, term, base, log))
}

/// Carries out an event, and whatever is to be written with it.
fn step(raft: &mut Raft, now: Time, event: Event) {
    let mut effects = Vec::new();
    raft.step(now, event, &mut effects);
    let writes = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(persist) => Some(persist.seq),
        _ => None,
    });
    for seq in writes.collect::<Vec<_>>() {
        step(raft, now, Event::Persisted { seq });
    }
}

/// `raft`, which its peers elect; they have nothing of its log yet.
fn elected(mut raft: Raft, voter_count: u64) -> Raft {
    let now = raft.next_deadline().unwrap();
    step(&mut raft, now, Event::Deadline);
    let term = if raft.role() == Role::PreCandidate {
        raft.current_term().next()
    } else {
        raft.current_term()
    };
    for phase in [VotePhase::PreVote, VotePhase::Vote] {
        let own_id = raft.id();
        for voter in (1..=voter_count).filter(|voter| node(*voter) != own_id) {
            let vote = RequestVoteResponse { term, phase, granted: true };
            let message = Message::RequestVoteResponse(vote);
            step(&mut raft, now, Event::Message { from: node(voter), message });
        }
    }
    assert_eq!(raft.role(), Role::Leader);
    raft
}

/// A leader of term `term` whose log holds entries of the terms `log` and its own first one.
fn leader(id: u64, voter_count: u64, term: u64, log: &[u64]) -> Raft {
    elected(server(id, voter_count, term - 1, LogId::ORIGIN, log), voter_count)
}

/// The leader hears that a peer has everything up to `matched`.
fn acknowledge(raft: &mut Raft, from: u64, matched: u64) {
    let now = raft.next_deadline().unwrap();
    let outcome = AppendOutcome::Accepted { matched: index(matched) };
    let answer = AppendEntriesResponse { term: raft.current_term(), outcome };
    let message = Message::AppendEntriesResponse(answer);
    step(raft, now, Event::Message { from: node(from), message });
}

/// A follower that is given entries, and is told that all of them are committed.
fn follow(raft: &mut Raft, term: u64, prev_log: LogId, entries: Vec<Entry>, commit: u64) {
    let (term, leader_commit) = (Term::new(term), index(commit));
    let append = AppendEntries { term, prev_log, entries, leader_commit };
    let message = Message::AppendEntries(append);
    let now = Time::ZERO;
    let from = node(if raft.id() == node(2) { 1 } else { 2 });
    step(raft, now, Event::Message { from, message });
}

#[test]
fn a_view_says_whether_other_terms_stand_in_the_log_than_before() {
    let mut raft = server(1, 3, 2, LogId::ORIGIN, &[1]);
    let mut view = View::of(&raft);
    assert!(!view.refresh(&raft), "nothing happened");
    for (at, term, has_other_terms) in [(2, 1, false), (3, 2, true), (4, 2, false)] {
        let prev = raft.last_log();
        let entry = Entry { log_id: log_id(at, term), payload: Payload::Noop };
        follow(&mut raft, 2, prev, vec![entry], 0);
        assert_eq!(view.refresh(&raft), has_other_terms, "{at}@{term}");
        assert_eq!(view, View::of(&raft));
    }
    let compacted = server(1, 3, 2, log_id(4, 2), &[]);
    assert!(view.refresh(&compacted));
    assert!(!view.refresh(&compacted), "once");
    assert_eq!(view, View::of(&compacted));
}

#[test]
fn what_is_durable_is_written_or_covered_by_a_snapshot() {
    let mut view = view(1, log_id(3, 1), &[1, 2]);
    let durable = |view: &View, at, term| view.is_durable(log_id(at, term));
    assert!(durable(&view, 2, 9), "whatever it was, the snapshot is as good");
    assert!(durable(&view, 3, 1));
    assert!(!durable(&view, 3, 2));
    assert!(durable(&view, 5, 2));
    assert!(!durable(&view, 5, 1));
    assert!(!durable(&view, 6, 2));
    view.durable_index = index(4);
    assert!(durable(&view, 4, 1));
    assert!(!durable(&view, 5, 2));
}

#[test]
fn a_server_that_contradicts_itself_in_one_number_is_found() {
    let sound = || {
        let mut view = view(1, log_id(2, 1), &[1, 1, 1]);
        (view.commit_index, view.applied) = (index(4), index(3));
        view
    };
    assert_eq!(check_state(&sound()), Ok(()));
    let broken: [Break; 5] = [
        ("the base is committed", |view| view.commit_index = index(1)),
        ("what is committed is in the log", |view| view.commit_index = index(6)),
        ("only committed entries are applied", |view| view.applied = index(5)),
        ("only the log is durable", |view| view.durable_index = index(6)),
        ("no entry is of a future term", |view| view.current_term = Term::new(0)),
    ];
    for (rule, breaks) in broken {
        let mut view = sound();
        breaks(&mut view);
        let found = check_state(&view);
        assert!(matches!(found, Err(Violation::OutOfOrder { what, .. }) if what == rule), "{rule}");
    }
}

#[test]
fn numbers_that_fall_within_one_life_are_found() {
    let before = || {
        let mut view = view(1, log_id(2, 1), &[1, 1, 1]);
        (view.commit_index, view.applied) = (index(4), index(3));
        view
    };
    assert_eq!(check_transition(&before(), &before()), Ok(()));
    let broken: [Break; 4] = [
        ("current term", |view| view.current_term = Term::new(0)),
        ("commit index", |view| view.commit_index = index(3)),
        ("applied index", |view| view.applied = index(2)),
        ("base index", |view| view.base = log_id(1, 1)),
    ];
    for (rule, breaks) in broken {
        let mut after = before();
        breaks(&mut after);
        let found = check_transition(&before(), &after);
        assert!(matches!(found, Err(Violation::WentBack { what, .. }) if what == rule), "{rule}");
    }
}

/// A view of n1 as the leader of term 2.
fn office(base: LogId, log: &[u64], commit: u64) -> View {
    let mut view = view(1, base, log);
    (view.role, view.current_term, view.commit_index) = (Role::Leader, Term::new(2), index(commit));
    view
}

#[test]
fn a_leader_that_shortens_or_replaces_its_log_is_found() {
    let before = office(LogId::ORIGIN, &[1, 1, 2], 0);
    let overwrote = |after: &View| {
        matches!(check_transition(&before, after), Err(Violation::LeaderOverwrote { .. }))
    };
    let shorter = office(LogId::ORIGIN, &[1, 1], 0);
    assert!(overwrote(&shorter));
    assert!(overwrote(&office(LogId::ORIGIN, &[1, 1, 1], 0)));
    assert!(!overwrote(&before));
    assert!(!overwrote(&office(LogId::ORIGIN, &[1, 1, 2, 2], 0)));
    assert!(!overwrote(&office(log_id(3, 2), &[], 3)), "what a snapshot covers is kept");
    assert!(overwrote(&office(log_id(2, 1), &[], 2)));
    // Whoever led in another term, or leads no more, may have lost it.
    let mut next_term = shorter.clone();
    next_term.current_term = Term::new(3);
    assert!(!overwrote(&next_term));
    let mut follower = shorter.clone();
    follower.role = Role::Follower;
    assert!(!overwrote(&follower));
    let mut elected = before.clone();
    elected.role = Role::Candidate;
    assert_eq!(check_transition(&elected, &shorter), Ok(()), "it did not lead before");
}

#[test]
fn a_leader_that_commits_up_to_an_earlier_term_is_found() {
    let log = [1, 1, 1, 2];
    let commit = |from, to| {
        let (before, after) = (office(LogId::ORIGIN, &log, from), office(LogId::ORIGIN, &log, to));
        check_transition(&before, &after)
    };
    assert!(matches!(commit(1, 3), Err(Violation::CommittedByCounting { .. })));
    assert_eq!(commit(1, 4), Ok(()));
    assert_eq!(commit(3, 3), Ok(()), "it was committed by somebody else before");
    let mut follower = office(LogId::ORIGIN, &log, 1);
    follower.role = Role::Follower;
    assert_eq!(check_transition(&follower, &office(LogId::ORIGIN, &log, 3)), Ok(()));
}

#[test]
fn logs_that_agree_somewhere_agree_below() {
    let full = |id, log: &[u64]| view(id, LogId::ORIGIN, log);
    let (first, second) = (full(1, &[1, 1, 2, 2, 2]), full(2, &[1, 1, 1, 2, 2]));
    let (one, two, agreed) = (node(1), node(2), log_id(5, 2));
    let differ = Violation::LogsDiffer { first: one, second: two, agreed, index: index(3) };
    assert_eq!(check_log_matching(&first, &second), Err(differ));
    // Both may go on alone after the last entry that they share.
    assert_eq!(check_log_matching(&full(1, &[1, 2, 2]), &full(2, &[1, 3])), Ok(()));
    // What one of them has in a snapshot is not compared.
    assert_eq!(check_log_matching(&view(1, log_id(4, 2), &[2]), &second), Ok(()));
    // The base itself is.
    let base = view(1, log_id(3, 2), &[2, 2]);
    let differ = Violation::LogsDiffer { first: one, second: two, agreed, index: index(3) };
    assert_eq!(check_log_matching(&base, &second), Err(differ));
    // So is the very first entry.
    let (first, second) = (full(1, &[1, 3, 3]), full(2, &[2, 3, 3]));
    assert!(check_log_matching(&first, &second).is_err());
    assert_eq!(check_log_matching(&full(1, &[]), &full(2, &[1])), Ok(()));
}

#[test]
fn two_leaders_of_one_term_are_found() {
    let mut checker = ClusterChecker::new();
    checker.observe(&leader(1, 3, 1, &[])).unwrap();
    checker.observe(&leader(2, 3, 2, &[])).unwrap();
    let (term, first, second) = (Term::new(2), node(2), node(3));
    let two = Err(Violation::TwoLeaders { term, first, second });
    assert_eq!(checker.clone().observe(&leader(3, 3, 2, &[])), two);
    checker.observe(&server(3, 3, 1, LogId::ORIGIN, &[])).unwrap();
    assert_eq!(checker.observe(&leader(3, 3, 2, &[])), two, "one that is known already");
}

#[test]
fn a_server_that_falls_back_is_found_unless_it_crashed_between() {
    let (ahead, behind) =
        (server(1, 3, 5, LogId::ORIGIN, &[1]), server(1, 3, 4, LogId::ORIGIN, &[1]));
    let mut checker = ClusterChecker::new();
    checker.observe(&ahead).unwrap();
    assert!(matches!(checker.observe(&behind), Err(Violation::WentBack { .. })));
    let mut checker = ClusterChecker::new();
    checker.observe(&ahead).unwrap();
    checker.crashed(node(1));
    assert_eq!(checker.observe(&behind), Ok(()));
}

#[test]
fn a_server_that_contradicts_itself_is_found_by_whoever_watches_the_cluster() {
    let mut checker = ClusterChecker::new();
    checker.observe(&server(1, 3, 2, LogId::ORIGIN, &[1, 2, 2])).unwrap();
    // It agrees with n1 on its last entry, and on nothing before.
    let differs = checker.observe(&server(2, 3, 2, LogId::ORIGIN, &[2, 2, 2]));
    assert!(matches!(differs, Err(Violation::LogsDiffer { .. })), "{differs:?}");
}

#[test]
fn a_log_that_changed_only_at_its_end_is_compared_too() {
    let mut checker = ClusterChecker::new();
    let mut other = server(2, 3, 2, LogId::ORIGIN, &[1]);
    checker.observe(&other).unwrap();
    checker.observe(&server(1, 3, 2, LogId::ORIGIN, &[2, 2])).unwrap();
    let entry = Entry { log_id: log_id(2, 2), payload: Payload::Noop };
    follow(&mut other, 2, log_id(1, 1), vec![entry], 0);
    assert!(matches!(checker.observe(&other), Err(Violation::LogsDiffer { .. })));
}

#[test]
fn a_log_with_one_more_entry_of_its_last_term_is_compared_too() {
    let mut checker = ClusterChecker::new();
    let mut other = server(2, 3, 2, LogId::ORIGIN, &[1, 2]);
    checker.observe(&other).unwrap();
    checker.observe(&server(1, 3, 2, LogId::ORIGIN, &[1, 1, 2])).unwrap();
    let entry = Entry { log_id: log_id(3, 2), payload: Payload::Noop };
    follow(&mut other, 2, log_id(2, 2), vec![entry], 0);
    assert!(matches!(checker.observe(&other), Err(Violation::LogsDiffer { .. })));
}

#[test]
fn a_leader_without_a_committed_entry_is_found() {
    let mut first = leader(1, 3, 1, &[]);
    acknowledge(&mut first, 2, 1);
    let mut peer = server(2, 3, 1, LogId::ORIGIN, &[1]);
    follow(&mut peer, 1, log_id(1, 1), Vec::new(), 1);
    let known = || {
        let mut checker = ClusterChecker::new();
        checker.observe(&peer).unwrap();
        checker.observe(&first).unwrap();
        assert_eq!(checker.committed(), log_id(1, 1));
        checker
    };
    let (id, term, committed) = (node(3), Term::new(2), log_id(1, 1));
    let found = known().observe(&leader(3, 3, 2, &[]));
    assert_eq!(found, Err(Violation::LeaderIncomplete { id, term, committed }));
    assert_eq!(known().observe(&leader(3, 3, 2, &[1])), Ok(()));
    // A snapshot beyond it has it, and claims more than anybody else holds.
    let compacted = elected(server(3, 3, 1, log_id(4, 1), &[]), 3);
    let found = known().observe(&compacted);
    assert_eq!(found, Err(Violation::CommittedWithoutQuorum { id, log_id: log_id(4, 1) }));
    // A snapshot that ends with another entry there has not.
    let (other, term) = (elected(server(3, 3, 2, log_id(1, 2), &[]), 3), Term::new(3));
    let found = known().observe(&other);
    assert_eq!(found, Err(Violation::LeaderIncomplete { id, term, committed }));
    // The leader of an earlier term need not have it.
    let mut later = leader(1, 3, 3, &[]);
    acknowledge(&mut later, 2, 1);
    let mut checker = ClusterChecker::new();
    checker.observe(&server(2, 3, 3, LogId::ORIGIN, &[3])).unwrap();
    checker.observe(&later).unwrap();
    assert_eq!(checker.observe(&leader(3, 3, 2, &[])), Ok(()));
}

#[test]
fn a_commitment_that_no_quorum_holds_is_found() {
    let mut boss = leader(1, 3, 1, &[]);
    let mut checker = ClusterChecker::new();
    let mut peer = server(2, 3, 1, LogId::ORIGIN, &[]);
    checker.observe(&boss).unwrap();
    checker.observe(&peer).unwrap();
    // n2 never said that, and has nothing.
    acknowledge(&mut boss, 2, 1);
    let (id, log_id_1) = (node(1), log_id(1, 1));
    let found = checker.observe(&boss);
    assert_eq!(found, Err(Violation::CommittedWithoutQuorum { id, log_id: log_id_1 }));
    let mut checker = ClusterChecker::new();
    follow(
        &mut peer,
        1,
        LogId::ORIGIN,
        vec![Entry { log_id: log_id_1, payload: Payload::Noop }],
        0,
    );
    checker.observe(&peer).unwrap();
    assert_eq!(checker.observe(&boss), Ok(()));
}

#[test]
fn what_a_lost_disk_held_counts_and_its_server_may_come_back_with_nothing() {
    let mut boss = leader(1, 3, 1, &[]);
    let mut peer = server(2, 3, 1, LogId::ORIGIN, &[]);
    let entry = Entry { log_id: log_id(1, 1), payload: Payload::Noop };
    follow(&mut peer, 1, LogId::ORIGIN, vec![entry], 0);
    acknowledge(&mut boss, 2, 1);
    let empty = server(2, 3, 0, LogId::ORIGIN, &[]);
    let mut checker = ClusterChecker::new();
    checker.observe(&peer).unwrap();
    assert!(checker.observe(&empty).is_err(), "a disk that is there forgets nothing");
    let mut checker = ClusterChecker::new();
    checker.observe(&peer).unwrap();
    checker.wiped(node(2));
    assert_eq!(checker.observe(&empty), Ok(()));
    assert_eq!(checker.observe(&boss), Ok(()), "it held the entry when it was counted");
}

#[test]
fn whoever_commits_another_entry_than_the_others_is_found() {
    let committed = |id, term: u64| {
        let mut follower = server(id, 3, term, LogId::ORIGIN, &[term, term]);
        follow(&mut follower, term, log_id(2, term), Vec::new(), 2);
        assert_eq!(follower.commit_index(), index(2));
        follower
    };
    let mut checker = ClusterChecker::new();
    checker.observe(&committed(1, 1)).unwrap();
    assert_eq!(checker.committed(), log_id(2, 1));
    assert_eq!(checker.observe(&committed(3, 1)), Ok(()));
    let (id, expected, got) = (node(2), Term::new(1), Some(Term::new(2)));
    let found = checker.observe(&committed(2, 2));
    assert_eq!(found, Err(Violation::CommittedDiffers { id, index: index(2), expected, got }));
}

#[test]
fn whoever_commits_more_after_something_else_is_found() {
    let mut checker = ClusterChecker::new();
    let mut first = server(1, 3, 1, LogId::ORIGIN, &[1, 1]);
    follow(&mut first, 1, log_id(2, 1), Vec::new(), 2);
    checker.observe(&first).unwrap();
    // n2 goes further, but at 2 it has an entry of another term.
    let mut second = server(2, 3, 3, LogId::ORIGIN, &[1, 2, 3]);
    follow(&mut second, 3, log_id(3, 3), Vec::new(), 3);
    let (expected, got) = (Term::new(1), Some(Term::new(2)));
    let differ = Violation::CommittedDiffers { id: node(2), index: index(2), expected, got };
    assert_eq!(checker.observe(&second), Err(differ));
}

#[test]
fn entries_are_applied_one_after_the_other_and_never_others_than_committed() {
    let mut checker = ClusterChecker::new();
    let mut follower = server(1, 3, 2, LogId::ORIGIN, &[1, 1, 2]);
    follow(&mut follower, 2, log_id(3, 2), Vec::new(), 3);
    checker.observe(&follower).unwrap();
    let entry = |at, term| Entry { log_id: log_id(at, term), payload: Payload::Noop };
    let apply =
        |checker: &mut ClusterChecker, at, term| checker.observe_apply(node(1), &entry(at, term));
    checker.observe_restore(node(1), index(1));
    assert_eq!(apply(&mut checker, 2, 1), Ok(()));
    let gap = |expected, got| {
        let (id, expected, got) = (node(1), index(expected), index(got));
        Err(Violation::AppliedOutOfOrder { id, expected, got })
    };
    assert_eq!(apply(&mut checker.clone(), 4, 2), gap(3, 4));
    assert_eq!(apply(&mut checker.clone(), 2, 1), gap(3, 2));
    let other = apply(&mut checker.clone(), 3, 1);
    assert!(matches!(other, Err(Violation::CommittedDiffers { .. })), "{other:?}");
    assert_eq!(apply(&mut checker, 3, 2), Ok(()));
    // A new life may begin anywhere.
    checker.crashed(node(1));
    assert_eq!(apply(&mut checker, 2, 1), Ok(()));
}

#[test]
fn one_log_id_has_one_content() {
    let mut checker = ClusterChecker::new();
    let (id, differs) = (node(2), |at, term| {
        Err(Violation::EntryDiffers { id: node(2), log_id: log_id(at, term) })
    });
    checker.observe_entry(node(1), &command(1, 1, "a")).unwrap();
    checker.observe_entry(node(1), &command(2, 1, "b")).unwrap();
    assert_eq!(checker.observe_entry(id, &command(1, 1, "a")), Ok(()));
    assert_eq!(checker.observe_entry(id, &command(1, 1, "b")), differs(1, 1));
    assert_eq!(checker.observe_apply(id, &command(2, 1, "a")), differs(2, 1));
    // Another term's entry at the same place is another entry, and has one content too.
    assert_eq!(checker.observe_entry(id, &command(2, 2, "c")), Ok(()));
    assert_eq!(checker.observe_entry(id, &command(2, 2, "c")), Ok(()));
    assert_eq!(checker.observe_entry(id, &command(2, 2, "d")), differs(2, 2));
    // Seen out of order, too.
    assert_eq!(checker.observe_entry(id, &command(9, 2, "e")), Ok(()));
    assert_eq!(checker.observe_entry(id, &command(9, 2, "f")), differs(9, 2));
}

#[test]
fn contents_of_other_kinds_differ_although_their_bytes_are_the_same() {
    let payloads = [
        Payload::Noop,
        Payload::Command(bytes::Bytes::from_static(b"x")),
        Payload::Command(bytes::Bytes::from_static(b"y")),
        Payload::Session(bytes::Bytes::from_static(b"x")),
        Payload::Session(bytes::Bytes::from_static(b"y")),
        Payload::Configuration(Arc::new(voters(3))),
        Payload::Configuration(Arc::new(voters(4))),
        Payload::Configuration(Arc::new({
            let mut other = voters(3);
            other.version = 2;
            other
        })),
        Payload::Configuration(Arc::new({
            let mut other = voters(3);
            other.members.values_mut().for_each(|member| member.rank = 1);
            other
        })),
        Payload::Configuration(Arc::new({
            let mut other = voters(3);
            let context = bytes::Bytes::from_static(b"x");
            other.members.values_mut().for_each(|member| member.context = context.clone());
            other
        })),
    ];
    for (here, first) in payloads.iter().enumerate() {
        for (there, second) in payloads.iter().enumerate() {
            let mut checker = ClusterChecker::new();
            let entry =
                |payload: &Payload| Entry { log_id: log_id(1, 1), payload: payload.clone() };
            checker.observe_entry(node(1), &entry(first)).unwrap();
            let same = checker.observe_entry(node(2), &entry(second)).is_ok();
            assert_eq!(same, here == there, "{first:?} {second:?}");
        }
    }
}
