//! The judge of watches bites: each deliberate fault between store and client is noticed within a
//! stated number of seeds, by worlds that do not know which fault they carry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_sim::kv::{KvApplication, KvOptions, WatchFault};
use quorate_sim::{Breach, ClusterOptions, Rng, Violation, World};

/// How many seeds a deliberate fault may survive.
const SEEDS_MAX: u64 = 20;
const STEPS: u64 = 8_000;

fn run(seed: u64, fault: Option<WatchFault>) -> Result<u64, Box<Violation>> {
    let mut kv = KvOptions::draw(&mut Rng::new(seed).fork("kv"));
    kv.watcher_count = kv.watcher_count.max(3);
    kv.odd_percent = kv.odd_percent.max(15);
    let mut application = KvApplication::new(kv);
    if let Some(fault) = fault {
        application = application.with_watch_fault(fault);
    }
    let world = World { seed, node_count: 5, steps: STEPS };
    let summary = world.run_with(ClusterOptions::swarm(seed, 5), application)?;
    Ok(summary.findings.watched_count)
}

fn is_caught(fault: WatchFault) {
    let caught = (1..=SEEDS_MAX).find_map(|seed| run(seed, Some(fault)).err());
    let violation = caught.expect("no judge noticed");
    println!("{fault:?}: {violation}");
    assert!(matches!(violation.breach, Breach::Application(_)), "by the judge of watches");
}

#[test]
fn watches_without_a_fault_are_told_much_and_nobody_complains() {
    let mut told = 0;
    for seed in 1..=SEEDS_MAX {
        told += run(seed, None).unwrap_or_else(|violation| panic!("{violation}"));
    }
    assert!(told > 500, "watches were told {told} events");
}

#[test]
fn a_bookmark_ahead_of_its_events_is_noticed() {
    is_caught(WatchFault::ProgressAheadOfEvents);
}

#[test]
fn a_deletion_that_is_lost_where_a_watch_begins_anew_is_noticed() {
    is_caught(WatchFault::LosesFirstDeletion);
}

#[test]
fn a_revision_in_two_responses_is_noticed() {
    is_caught(WatchFault::SplitsRevisions);
}

#[test]
fn a_repetition_after_a_snapshot_is_noticed() {
    is_caught(WatchFault::ReplaysAfterSnapshot);
}

#[test]
fn an_event_that_a_slow_watch_loses_is_noticed() {
    is_caught(WatchFault::SlowLosesEvent);
}

#[test]
fn a_wrong_previous_value_is_noticed() {
    is_caught(WatchFault::WrongPrevious);
}
