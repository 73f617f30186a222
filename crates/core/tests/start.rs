//! A server starts from what a disk may hold, and refuses what contradicts itself: the disk, or the
//! code that read it, is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod harness;

use harness::{index, log_id, node, voters};
use quorate_core::{
    Configuration, HardState, LogId, LogIndex, Options, Raft, Restored, SnapshotMeta, StartError,
    Term, Time,
};
use std::sync::Arc;

/// A log that starts after 5@2 and has entries 6 to 9: two of term 2, two of term 4.
fn sound() -> Restored {
    let last_included = log_id(5, 2);
    Restored {
        hard_state: HardState { current_term: Term::new(4), voted_for: None },
        base: SnapshotMeta { last_included, configuration: Arc::new(voters(3)) },
        term_runs: runs(&[(6, 2), (8, 4)]),
        configurations: Vec::new(),
        last_log: log_id(9, 4),
        tail: Vec::new(),
        applied: index(5),
        lost: None,
    }
}

/// The entries were all released.
fn empty() -> Restored {
    Restored { last_log: log_id(5, 2), term_runs: Vec::new(), ..sound() }
}

fn runs(runs: &[(u64, u64)]) -> Vec<(LogIndex, Term)> {
    runs.iter().map(|(at, term)| (index(*at), Term::new(*term))).collect()
}

fn configurations(at: &[u64]) -> Vec<(LogIndex, Arc<Configuration>)> {
    at.iter().map(|at| (index(*at), Arc::new(voters(3)))).collect()
}

fn start(restored: Restored) -> Option<StartError> {
    Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).err()
}

#[test]
fn a_log_that_ends_before_its_base_or_with_another_base_is_refused() {
    assert_eq!(start(empty()), None);
    for last_log in [log_id(3, 2), log_id(3, 1), log_id(5, 3), LogId::ORIGIN] {
        let expected = StartError::LastBeforeBase { last_log, base: log_id(5, 2) };
        assert_eq!(start(Restored { last_log, ..empty() }), Some(expected));
    }
}

#[test]
fn the_state_machine_is_at_the_base_or_at_the_end_of_the_log_or_between() {
    for applied in 5..=9 {
        assert_eq!(start(Restored { applied: index(applied), ..sound() }), None, "{applied}");
    }
    for applied in [1, 4, 10] {
        let (applied, base, last) = (index(applied), index(5), index(9));
        let expected = StartError::AppliedOutside { applied, base, last };
        assert_eq!(start(Restored { applied, ..sound() }), Some(expected));
    }
}

#[test]
fn a_state_machine_that_has_nothing_may_stand_before_the_base_and_is_handed_nothing() {
    let restored = Restored { applied: LogIndex::ORIGIN, ..sound() };
    let raft = Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).unwrap();
    assert!(raft.lacks_state());
    assert_eq!((raft.applied(), raft.commit_index()), (LogIndex::ORIGIN, index(5)));
}

#[test]
fn runs_of_terms_start_after_the_base_grow_and_end_with_the_log() {
    let term_4_alone = runs(&[(6, 4)]);
    assert_eq!(start(sound()), None);
    assert_eq!(start(Restored { term_runs: term_4_alone, ..sound() }), None);
    let wrong = [
        (&[][..], (9, 4)),
        (&[(5, 2), (8, 4)], (5, 2)),
        (&[(7, 2), (8, 4)], (7, 2)),
        (&[(6, 1), (8, 4)], (6, 1)),
        (&[(6, 2), (6, 4)], (6, 4)),
        (&[(6, 2), (8, 3), (7, 4)], (7, 4)),
        (&[(6, 2), (8, 2), (9, 4)], (8, 2)),
        (&[(6, 3), (8, 2), (9, 4)], (8, 2)),
        (&[(6, 2), (10, 4)], (10, 4)),
        (&[(6, 2), (8, 3)], (9, 4)),
    ];
    for (found, (at, term)) in wrong {
        let (index, term) = (index(at), Term::new(term));
        let (base, last_log) = (log_id(5, 2), log_id(9, 4));
        let expected = StartError::TermRuns { index, term, base, last_log };
        let restored = Restored { term_runs: runs(found), ..sound() };
        assert_eq!(start(restored), Some(expected), "{found:?}");
    }
}

#[test]
fn a_log_without_runs_is_empty_even_if_its_last_term_is_that_of_the_base() {
    let (base, last_log) = (log_id(5, 2), log_id(9, 2));
    let (index, term) = (last_log.index, last_log.term);
    let restored = Restored { term_runs: Vec::new(), last_log, ..sound() };
    assert_eq!(start(restored), Some(StartError::TermRuns { index, term, base, last_log }));
}

#[test]
fn configurations_are_in_the_log_and_in_order() {
    for fitting in [&[6][..], &[9], &[6, 7, 9]] {
        let restored = Restored { configurations: configurations(fitting), ..sound() };
        assert_eq!(start(restored), None, "{fitting:?}");
    }
    for (wrong, at) in [(&[5][..], 5), (&[10], 10), (&[7, 7], 7), (&[8, 6], 6), (&[6, 10], 10)] {
        let restored = Restored { configurations: configurations(wrong), ..sound() };
        assert_eq!(start(restored), Some(StartError::Configurations { index: index(at) }));
    }
}

#[test]
fn a_configuration_of_a_version_that_there_cannot_be_is_refused() {
    let of_version = |version| Arc::new(Configuration { version, ..voters(3) });
    let most = 1 << 63;
    for (version, refused) in [(most, false), (most + 1, true), (u64::MAX, true)] {
        let expected = refused.then_some(StartError::ConfigurationVersion { version, most });
        let configurations = vec![(index(6), of_version(version))];
        assert_eq!(start(Restored { configurations, ..sound() }), expected);
        let base = SnapshotMeta { configuration: of_version(version), ..sound().base };
        assert_eq!(start(Restored { base, ..sound() }), expected);
    }
}
