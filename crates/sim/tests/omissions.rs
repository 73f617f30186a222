//! The matrix of dead ways: links of which one direction carries nothing any more, while the other
//! does. Every one and every two of them, of three and of five nodes; of three every set there is.
//! Wherever a majority is left whose members all reach each other, somebody leads, serves, and stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_sim::kv::{KeyOp, KvApplication, KvOptions};
use quorate_sim::{Cluster, ClusterOptions, Outcome, seconds};
use std::time::Duration;

/// From one node to another.
type Way = (u64, u64);

/// How long a leader may take to come, and an office to be lost...
const SETTLES_WITHIN: Duration = seconds(15);

/// ...and how long nothing changes after that.
const STAYS_FOR: Duration = seconds(15);

/// By two of them messages travel by themselves, by the others on connections as TCP has them.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// When the ways die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// A leader is in office, and hears everybody.
    Led,
    /// All nodes lose power, and nobody leads when they start.
    Leaderless,
}

/// Every way that there is.
fn ways(node_count: u64) -> Vec<Way> {
    let from_one = |from| (1..=node_count).map(move |to| (from, to));
    (1..=node_count).flat_map(from_one).filter(|(from, to)| from != to).collect()
}

/// Every one and every two of these.
fn ones_and_twos(ways: &[Way]) -> Vec<Vec<Way>> {
    let ones = ways.iter().map(|way| vec![*way]);
    let twos = ways
        .iter()
        .enumerate()
        .flat_map(|(place, one)| ways[place + 1..].iter().map(|two| vec![*one, *two]));
    ones.chain(twos).collect()
}

/// Every set of these, the empty one among them.
fn subsets(ways: &[Way]) -> Vec<Vec<Way>> {
    let chosen = |set: u32| {
        let is_in = move |place: &usize| set & (1 << place) != 0;
        (0..ways.len()).filter(is_in).map(|place| ways[place]).collect()
    };
    (0..1 << ways.len()).map(chosen).collect()
}

fn reach_each_other(one: u64, two: u64, dead: &[Way]) -> bool {
    !dead.contains(&(one, two)) && !dead.contains(&(two, one))
}

/// Whether a majority is left whose members all reach each other.
fn has_connected_majority(node_count: u64, dead: &[Way]) -> bool {
    let nodes: Vec<u64> = (1..=node_count).collect();
    let is_connected = |set: u64| {
        let members: Vec<u64> =
            nodes.iter().copied().filter(|node| set & (1 << node) != 0).collect();
        members.len() * 2 > nodes.len()
            && members.iter().all(|one| {
                members.iter().all(|two| one == two || reach_each_other(*one, *two, dead))
            })
    };
    (0..1 << (node_count + 1)).any(is_connected)
}

/// A world of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    node_count: u64,
    dead: &'a [Way],
    begin: Begin,
    seed: u64,
}

/// A cluster whose ways have died.
fn cluster_of(case: Case<'_>) -> Cluster<KvApplication> {
    let Case { node_count, dead, begin, seed } = case;
    let mut options = ClusterOptions::calm(seed, node_count);
    options.faults.network.is_stream = seed > 2;
    let mut cluster = Cluster::new(options, KvApplication::new(KvOptions::default()));
    cluster.wait_for_leader(seconds(5)).expect("a leader, as long as nothing is wrong");
    for (from, to) in dead {
        cluster.cut_one_way([*from], [*to]);
    }
    if begin == Begin::Leaderless {
        (1..=node_count).for_each(|node| cluster.crash(node));
        (1..=node_count).for_each(|node| cluster.restart(node));
    }
    cluster
}

fn put(cluster: &mut Cluster<KvApplication>, node: u64) -> Option<Outcome> {
    cluster.ask_node(node, seconds(6), |store, op, moment| {
        store.ask(op, moment, "story", KeyOp::Put { value: op.0 })
    })
}

/// Whoever the leader reaches and is reached by serves, the leader first.
fn somebody_leads_serves_and_stays(case: Case<'_>) {
    let mut cluster = cluster_of(case);
    cluster.run_for(SETTLES_WITHIN);
    let leader = cluster.leader().unwrap_or_else(|| panic!("nobody leads: {case:?}"));
    let term = cluster.term(leader);
    let others = (1..=case.node_count).filter(|node| *node != leader);
    let reached = others.filter(|node| reach_each_other(leader, *node, case.dead));
    for node in std::iter::once(leader).chain(reached) {
        let outcome = put(&mut cluster, node);
        let is_served = matches!(outcome, Some(Outcome::Applied { .. }));
        assert!(is_served, "{leader} leads, and {node} says {outcome:?}: {case:?}");
    }
    cluster.run_for(STAYS_FOR);
    assert_eq!((cluster.leader(), cluster.term(leader)), (Some(leader), term), "{case:?}");
    cluster.finish().unwrap_or_else(|breach| panic!("{breach}: {case:?}"));
}

fn every_one_and_every_two(node_count: u64, begin: Begin, case_count: usize) {
    let cases = ones_and_twos(&ways(node_count));
    assert_eq!(cases.len(), case_count);
    for dead in cases {
        assert!(has_connected_majority(node_count, &dead), "so few leave one: {dead:?}");
        for seed in SEEDS {
            somebody_leads_serves_and_stays(Case { node_count, dead: &dead, begin, seed });
        }
    }
}

#[test]
fn a_majority_is_connected_if_all_of_it_reach_each_other_both_ways() {
    assert!(has_connected_majority(3, &[(1, 2), (2, 3)]), "1 and 3");
    assert!(!has_connected_majority(3, &[(1, 2), (2, 3), (3, 1)]));
    assert!(has_connected_majority(5, &[(1, 2), (3, 2), (2, 4), (5, 2)]), "all but 2");
    // A ring: everybody reaches two, who do not reach each other.
    assert!(!has_connected_majority(5, &[(1, 3), (3, 5), (5, 2), (2, 4), (4, 1)]));
}

#[test]
fn three_nodes_keep_a_leader_that_serves_whichever_one_or_two_ways_die() {
    every_one_and_every_two(3, Begin::Led, 6 + 15);
}

#[test]
fn three_nodes_find_a_leader_that_serves_whichever_one_or_two_ways_are_dead() {
    every_one_and_every_two(3, Begin::Leaderless, 6 + 15);
}

#[test]
fn five_nodes_keep_a_leader_that_serves_whichever_one_or_two_ways_die() {
    every_one_and_every_two(5, Begin::Led, 20 + 190);
}

#[test]
fn five_nodes_find_a_leader_that_serves_whichever_one_or_two_ways_are_dead() {
    every_one_and_every_two(5, Begin::Leaderless, 20 + 190);
}

/// Where no two reach each other nothing is demanded but what the judges demand anywhere, and that all
/// is well once the ways are mended.
#[test]
fn of_three_nodes_any_two_that_reach_each_other_serve_whatever_else_is_dead() {
    let (mut served_count, cases) = (0, subsets(&ways(3)));
    assert_eq!(cases.len(), 64);
    for dead in cases {
        let begins = [Begin::Led, Begin::Leaderless];
        for (begin, seed) in begins.into_iter().flat_map(|begin| SEEDS.map(|seed| (begin, seed))) {
            let case = Case { node_count: 3, dead: &dead, begin, seed };
            if has_connected_majority(3, &dead) {
                somebody_leads_serves_and_stays(case);
                served_count += 1;
            } else {
                let mut cluster = cluster_of(case);
                cluster.run_for(SETTLES_WITHIN);
                cluster.finish().unwrap_or_else(|breach| panic!("{breach}: {case:?}"));
            }
        }
    }
    // Each of the three links is whole in one of the four states that its two ways can have.
    assert_eq!(served_count, (64 - 27) * 2 * SEEDS.len());
}
