//! Machines that come back with an empty disk, or with an older copy of theirs, told in the simulator's
//! words: what they had promised must not be forgotten with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate::{Admission, Recovering};
use quorate_core::{MemberRole, NodeId};
use quorate_sim::kv::{KeyOp, KvApplication, KvOptions};
use quorate_sim::{Cluster, ClusterOptions, Outcome, member, seconds, voters};

type KvCluster = Cluster<KvApplication>;

fn cluster(node_count: u64) -> KvCluster {
    Cluster::new(ClusterOptions::calm(1, node_count), KvApplication::new(KvOptions::default()))
}

fn put(cluster: &mut KvCluster, node: u64, value: u64) -> bool {
    let outcome = cluster.ask_node(node, seconds(6), |store, op, moment| {
        store.ask(op, moment, "story", KeyOp::Put { value })
    });
    matches!(outcome, Some(Outcome::Applied { .. }))
}

/// A leader of three, and the two others; all disks are recorded.
fn three() -> (KvCluster, u64, [u64; 2]) {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).expect("a leader");
    cluster.run_for(seconds(3));
    assert_eq!(cluster.configuration(leader).unwrap().storages.len(), 3, "who has which disk");
    (cluster, leader, [1, 2].map(|step| (leader + step - 1) % 3 + 1))
}

/// What only the leader and the wiped one held is not forgotten: the wiped one and one that never had
/// it are no majority.
#[test]
fn a_wiped_follower_and_a_lagging_one_elect_nobody() {
    let (mut cluster, leader, [wiped, lagging]) = three();
    cluster.partition([leader, wiped], [lagging]);
    assert!(put(&mut cluster, leader, 1));
    cluster.crash(leader);
    cluster.wipe(wiped);
    cluster.mend_network();
    cluster.run_for(seconds(20));
    assert_eq!(cluster.leader(), None, "nobody has what was acknowledged");
    let admission = cluster.admission(wiped);
    assert!(matches!(admission, Some(Admission::Recovering(_))), "{admission:?}");
    cluster.restart(leader);
    assert_eq!(cluster.wait_for_leader(seconds(10)), Some(leader), "only it can lead");
    assert!(put(&mut cluster, lagging, 2));
    cluster.finish().unwrap();
}

#[test]
fn founders_wait_for_the_last_of_them() {
    let mut cluster = cluster(3);
    cluster.crash(3);
    cluster.run_for(seconds(10));
    assert_eq!((cluster.leader(), cluster.counts().elections), (None, 0));
    let waits = Admission::Founding { missing: vec![NodeId::new(3)] };
    assert_eq!((cluster.admission(1), cluster.admission(2)), (Some(waits.clone()), Some(waits)));
    cluster.restart(3);
    let leader = cluster.wait_for_leader(seconds(5)).expect("all are there");
    assert!(put(&mut cluster, leader, 1));
    // Once is enough.
    (1..=3).for_each(|node| cluster.crash(node));
    cluster.restart(1);
    cluster.restart(2);
    cluster.wait_for_leader(seconds(5)).expect("a majority");
    cluster.finish().unwrap();
}

/// A founder that loses its disk before the others have promised anything is as good as new.
#[test]
fn a_founder_that_is_wiped_before_the_founding_does_not_hold_it_up() {
    let mut cluster = cluster(3);
    cluster.crash(3);
    cluster.run_for(seconds(2));
    cluster.wipe(2);
    cluster.restart(3);
    let leader = cluster.wait_for_leader(seconds(5)).expect("a leader");
    assert!(put(&mut cluster, leader, 1));
    cluster.finish().unwrap();
}

#[test]
fn a_demoted_and_promoted_member_with_a_new_disk_counts_again() {
    let (mut cluster, leader, [wiped, other]) = three();
    assert!(put(&mut cluster, leader, 1));
    let before = cluster.configuration(leader).unwrap().storages[&NodeId::new(wiped)];
    cluster.wipe(wiped);
    cluster.run_for(seconds(5));
    let admission = cluster.admission(wiped);
    let is_told = matches!(admission, Some(Admission::Recovering(Recovering::OtherDisk { recorded, .. }
        | Recovering::NewDisk { own: recorded })) if recorded != 0);
    assert!(is_told, "{admission:?}");
    let mut without = voters([leader, other]);
    without.extend([member(wiped, MemberRole::Learner)]);
    cluster.set_members(leader, without, seconds(10)).unwrap().unwrap();
    cluster.run_for(seconds(5));
    let after = cluster.configuration(leader).unwrap().storages[&NodeId::new(wiped)];
    assert_ne!(before, after, "the new disk is recorded");
    assert_eq!(cluster.admission(wiped), Some(Admission::Admitted));
    cluster.set_members(leader, voters(1..=3), seconds(10)).unwrap().unwrap();
    cluster.crash(other);
    assert!(put(&mut cluster, leader, 2), "the new disk makes a majority");
    cluster.finish().unwrap();
}

/// A copy from before other starts of the node: its peers have heard of later ones.
#[test]
fn a_member_with_an_older_image_is_not_heard() {
    let (mut cluster, leader, [old, other]) = three();
    let image = cluster.image(old).unwrap();
    for _ in 0..3 {
        cluster.crash(old);
        cluster.restart(old);
        cluster.run_for(seconds(1));
    }
    cluster.partition([leader, old], [other]);
    assert!(put(&mut cluster, leader, 1));
    cluster.crash(leader);
    cluster.put_back(old, &image);
    cluster.mend_network();
    cluster.run_for(seconds(20));
    let admission = cluster.admission(old);
    let expected = Recovering::OlderDisk { witness: NodeId::new(other) };
    assert_eq!(admission, Some(Admission::Recovering(expected)));
    assert_eq!(cluster.leader(), None, "nobody has what was acknowledged");
    cluster.restart(leader);
    cluster.wait_for_leader(seconds(10)).expect("whoever has it");
    cluster.wipe(old);
    cluster.finish().unwrap();
}
