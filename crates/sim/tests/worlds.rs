//! Whole worlds: the corpus of seeds, a few fresh ones at every run, and sameness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_sim::kv::{KvApplication, KvOptions};
use quorate_sim::{Chance, Cluster, ClusterOptions, Pace, Rng, Summary, World};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Runs worlds on two threads; a world that ends badly fails the test with its story.
fn run_all(worlds: &[World]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(world) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(violation) = world.run() {
                        let story = violation.story.join("\n  ");
                        let line = violation.reproduce();
                        panic!("{story}\n{violation}\nreproduce: {line}");
                    }
                }
            });
        }
    });
}

#[test]
fn the_corpus_of_seeds_runs_without_a_violation() {
    let corpus = include_str!("seeds.txt");
    let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let worlds: Vec<World> = lines
        .map(|line| {
            let numbers: Vec<u64> =
                line.split_whitespace().map_while(|word| word.parse().ok()).collect();
            World { node_count: numbers[0], seed: numbers[1], steps: numbers[2] }
        })
        .collect();
    assert!(worlds.len() >= 10);
    run_all(&worlds);
}

#[test]
fn small_worlds_of_every_shape_run_without_a_violation() {
    let world = |seed: u64| World { seed, node_count: 0, steps: 5_000 };
    run_all(&(1..=140).map(world).collect::<Vec<_>>());
}

#[test]
fn fresh_seeds_run_without_a_violation() {
    let first = RandomState::new().hash_one("seed") >> 16;
    let worlds: Vec<World> =
        (0..10).map(|place| World { seed: first + place, node_count: 5, steps: 10_000 }).collect();
    println!("fresh seeds: {first} to {}", first + 9);
    run_all(&worlds);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let world = World { seed: 99, node_count: 5, steps: 10_000 };
    let (first, second) = (world.run().unwrap(), world.run().unwrap());
    assert_eq!(first, second);
    let other = World { seed: 100, ..world }.run().unwrap();
    assert_ne!(first.trace_hash, other.trace_hash);
}

/// The network that showed a forwarded command appended twice (docs/bugs.md): most messages arrive
/// twice, many late, and leadership moves all the time.
#[test]
fn commands_are_applied_once_although_messages_double_and_leaders_change() {
    for seed in 1..=12 {
        let mut options = ClusterOptions::swarm(seed, 3);
        options.faults.network.duplication = Chance::percent(40);
        options.faults.network.tail = Chance::percent(20);
        options.faults.network.tail_max = Duration::from_secs(3);
        options.faults.network.reorders = true;
        options.faults.transfers_every = Some(Duration::from_millis(600));
        options.client_count = 10;
        options.think_mean = Duration::from_millis(20);
        let application = KvApplication::new(KvOptions::draw(&mut Rng::new(seed)));
        let world = World { seed, node_count: 3, steps: 15_000 };
        if let Err(violation) = world.run_with(options, application) {
            panic!("{violation}");
        }
    }
}

/// Every trouble that the simulator can make is made in some of these worlds; the rarest may need
/// more of them than others.
#[test]
fn every_kind_of_trouble_comes_up_in_a_few_hundred_drawn_worlds() {
    let is_all_there = |totals: &Summary| totals.faults().all(|(_, count)| count > 0);
    let (next, totals) = (AtomicU64::new(1), Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_enough = seed > 600 && is_all_there(&totals.lock().unwrap());
                    if is_enough || seed > 3_000 {
                        return;
                    }
                    let summary = World { seed, node_count: 0, steps: 5_000 }.run().unwrap();
                    totals.lock().unwrap().add(&summary);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap();
    let missing: Vec<&str> =
        totals.faults().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "these never happened: {missing:?}");
    let figure = |wanted| totals.figures().find(|(name, _)| *name == wanted).unwrap().1;
    let expected = [
        "refused_disks",
        "stale_deliveries",
        "cores_healed",
        "hopeless_ends",
        "changes_done",
        "snapshots_resumed",
    ];
    for name in expected {
        assert!(figure(name) > 0, "{name} never happened");
    }
}

/// The same world at another pace takes longer, and is healed within a bound that grows with it.
#[test]
fn a_slow_world_stretches_its_timeouts_and_its_bound_alike() {
    let bound = |pace| {
        let options = ClusterOptions::calm(1, 3).at(pace);
        Cluster::new(options, KvApplication::new(KvOptions::default())).healing_bound()
    };
    let (normal, slow) = (bound(Pace::NORMAL), bound(Pace::times(30)));
    assert!(slow > 20 * normal && slow < 30 * normal, "{normal:?}, {slow:?}");
}
