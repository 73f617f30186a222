//! Rolling upgrades, told in the simulator's words: what a cluster speaks, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate_core::ProtocolVersion;
use quorate_sim::kv::{KeyOp, KvApplication, KvOptions};
use quorate_sim::{Cluster, ClusterOptions, Outcome, seconds};
use std::time::Duration;

type KvCluster = Cluster<KvApplication>;

const OLD: ProtocolVersion = ProtocolVersion::OLDEST;
const NEW: ProtocolVersion = ProtocolVersion::NEWEST;

/// Three machines with the old program, and their leader. Nobody upgrades them but the test.
fn old_ones() -> (KvCluster, u64) {
    let mut options = ClusterOptions::calm(1, 3);
    options.faults.upgrades_every = Some(Duration::from_hours(10_000));
    let mut cluster = Cluster::new(options, KvApplication::new(KvOptions::default()));
    let leader = cluster.wait_for_leader(seconds(3)).expect("a leader");
    cluster.run_for(seconds(3));
    (cluster, leader)
}

fn put(cluster: &mut KvCluster, value: u64) -> bool {
    let leader = cluster.wait_for_leader(seconds(5)).expect("a leader");
    let outcome = cluster.ask_node(leader, seconds(6), |store, op, moment| {
        store.ask(op, moment, "story", KeyOp::Put { value })
    });
    matches!(outcome, Some(Outcome::Applied { .. }))
}

fn restart(cluster: &mut KvCluster, node: u64, program: ProtocolVersion) {
    cluster.restart_as(node, program);
    cluster.run_for(seconds(5));
}

fn spoken(cluster: &KvCluster) -> [Option<ProtocolVersion>; 3] {
    [1, 2, 3].map(|node| cluster.cluster_version(node))
}

#[test]
fn a_cluster_speaks_the_new_version_when_the_last_member_does_and_not_before() {
    let (mut cluster, leader) = old_ones();
    let mut order: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    order.push(leader);
    for (value, node) in (1..).zip(order) {
        assert_eq!(spoken(&cluster), [Some(OLD); 3]);
        restart(&mut cluster, node, NEW);
        assert!(put(&mut cluster, value), "with {node} upgraded");
    }
    assert_eq!(spoken(&cluster), [Some(NEW); 3]);
}

#[test]
fn a_leader_of_the_new_program_serves_members_of_the_old_one() {
    let (mut cluster, leader) = old_ones();
    restart(&mut cluster, leader, NEW);
    cluster.transfer_leadership(leader);
    cluster.run_for(seconds(3));
    assert_eq!(cluster.wait_for_leader(seconds(3)), Some(leader));
    assert!(put(&mut cluster, 1));
    assert_eq!(spoken(&cluster), [Some(OLD); 3]);
}

#[test]
fn a_member_goes_back_while_another_one_is_old() {
    let (mut cluster, _) = old_ones();
    restart(&mut cluster, 1, NEW);
    restart(&mut cluster, 2, NEW);
    restart(&mut cluster, 1, OLD);
    assert!(put(&mut cluster, 1));
    restart(&mut cluster, 3, NEW);
    assert_eq!(spoken(&cluster), [Some(OLD); 3], "that one is older");
    restart(&mut cluster, 1, NEW);
    assert_eq!(spoken(&cluster), [Some(NEW); 3]);
}

/// Whoever looks after it sees why, and gives it the new program again.
#[test]
fn a_member_that_is_taken_back_too_late_does_not_start_as_what_it_was() {
    let (mut cluster, _) = old_ones();
    for node in 1..=3 {
        restart(&mut cluster, node, NEW);
    }
    assert_eq!(spoken(&cluster), [Some(NEW); 3]);
    cluster.restart_as(2, OLD);
    cluster.run_for(Duration::from_millis(500));
    assert_eq!(cluster.cluster_version(2), None, "it is refused");
    assert!(put(&mut cluster, 1));
    cluster.run_for(seconds(5));
    assert_eq!(spoken(&cluster), [Some(NEW); 3]);
}
