//! Every interleaving of two and three real cores within small bounds, and proof that the explorer
//! notices when something is broken. Large bounds: `cargo xtask explore`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_core::invariants::Violation;
use quorate_sim::explore::{Bounds, Fault, Found, Report, Sabotage, explore};

fn run(bounds: &Bounds) -> Report {
    explore(bounds, &mut |_| {})
}

fn assert_safe(report: &Report) {
    if let Some(Found { fault, script }) = &report.found {
        panic!("{fault}\n{}", script.join("\n"));
    }
}

#[test]
fn two_voters_are_safe_in_every_state_that_two_timeouts_a_crash_and_a_value_can_reach() {
    let bounds = Bounds { nodes: 2, values: 1, timeouts: 2, duplications: 0, ..Bounds::default() };
    let report = run(&bounds);
    assert_safe(&report);
    assert!(report.is_complete, "{report:?}");
    assert!(report.last.depth > 25, "a leader is elected, commits, and is deposed: {report:?}");
}

#[test]
fn three_voters_are_safe_in_every_state_of_the_first_eight_steps_of_everything_at_once() {
    let bounds = Bounds { reads: 1, transfers: 1, depth: 8, ..Bounds::default() };
    let report = run(&bounds);
    assert_safe(&report);
    assert_eq!(report.last.depth, 8);
}

#[test]
fn three_voters_with_quick_disks_are_safe_in_every_state_of_an_election_a_value_and_a_read() {
    let slow_writes = Some(0);
    let bounds = Bounds {
        values: 1,
        timeouts: 1,
        crashes: 0,
        reads: 1,
        duplications: 0,
        slow_writes,
        ..Bounds::default()
    };
    let report = run(&bounds);
    assert_safe(&report);
    assert!(report.is_complete, "{report:?}");
}

/// The whole method rests on this: servers that are taken for one do the same, whatever happens.
#[test]
fn servers_with_equal_hashes_do_the_same() {
    let bounds =
        Bounds { reads: 1, transfers: 1, states_max: 20_000, audit: true, ..Bounds::default() };
    assert_safe(&run(&bounds));
    let deep = Bounds { slow_writes: Some(1), states_max: 50_000, duplications: 0, ..bounds };
    assert_safe(&run(&deep));
}

#[test]
fn the_same_bounds_give_the_same_report() {
    let bounds = Bounds { states_max: 5_000, ..Bounds::default() };
    assert_eq!(run(&bounds), run(&bounds));
}

#[test]
fn a_search_that_the_limit_of_states_stops_says_that_its_last_level_is_a_part() {
    let cut = run(&Bounds { states_max: 5_000, ..Bounds::default() });
    assert!(cut.is_partial && !cut.is_complete);
    let levels = |depth| run(&Bounds { depth, ..Bounds::default() });
    let (all, beyond) = (levels(cut.last.depth - 1), levels(cut.last.depth));
    assert!(!all.is_partial && !beyond.is_partial);
    assert!(all.last.states < 5_000 && beyond.last.states > 5_000, "{all:?} {beyond:?}");
}

/// What is found with this broken, and in how many actions.
fn found(sabotage: Sabotage) -> (Fault, usize) {
    let bounds = Bounds {
        values: 1,
        timeouts: 2,
        duplications: 0,
        slow_writes: Some(1),
        states_max: 300_000,
        sabotage,
        ..Bounds::default()
    };
    let report = run(&bounds);
    let Found { fault, script } = report.found.unwrap_or_else(|| panic!("{:?}", report.last));
    let is_action = |line: &&String| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    (fault, script.iter().filter(is_action).count())
}

#[test]
fn a_disk_that_reports_writes_too_early_is_found() {
    let (fault, _) = found(Sabotage::EarlyCompletion);
    assert!(matches!(fault, Fault::Violation(Violation::CommittedWithoutQuorum { .. })), "{fault}");
}

#[test]
fn a_disk_that_forgets_term_and_vote_is_found() {
    let (fault, steps) = found(Sabotage::ForgetfulVote);
    assert!(matches!(fault, Fault::Violation(Violation::TwoLeaders { .. })), "{fault}");
    assert!(steps < 16, "the way is short: {steps}");
}

#[test]
fn a_disk_that_loses_the_end_of_the_log_is_found() {
    let (fault, _) = found(Sabotage::ShortenedLog);
    assert!(matches!(fault, Fault::CommittedLost { copies: 1, .. }), "{fault}");
}

#[test]
fn a_network_that_forges_votes_is_found() {
    let (fault, _) = found(Sabotage::ForgedVotes);
    assert!(matches!(fault, Fault::Violation(Violation::TwoLeaders { .. })), "{fault}");
}
