//! Changing the members: each promise of the library's membership call as a story, in worlds that
//! bring no trouble of their own, and many drawn worlds in which everything comes together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use quorate::{MembershipCommand, MembershipError, MembershipRefusal};
use quorate_core::{MemberRole, NodeId, Role};
use quorate_sim::kv::{KeyOp, KvApplication, KvOptions};
use quorate_sim::{Cluster, ClusterOptions, Outcome, World, member, seconds, voters};
use std::time::Duration;

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

fn voter_ids(cluster: &KvCluster, node: u64) -> Vec<u64> {
    let configuration = cluster.configuration(node).unwrap();
    let voters = configuration.voters().map(NodeId::get);
    voters.collect()
}

#[test]
fn a_cluster_grows_from_one_to_seven_while_it_takes_writes() {
    let mut cluster = cluster(1);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    for size in [3, 5, 7] {
        while cluster.node_ids().len() < size {
            cluster.add_machine();
        }
        let size = u64::try_from(size).unwrap();
        let fate = cluster.set_members(leader, voters(1..=size), seconds(10));
        assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
        for node in 1..=size {
            assert!(put(&mut cluster, node, size * 10 + node), "through {node} of {size}");
        }
    }
    assert_eq!(voter_ids(&cluster, 7), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(cluster.counts().elections, 1, "nobody was disturbed");
    cluster.finish().unwrap();
}

#[test]
fn all_members_are_replaced_one_by_one_and_writes_go_on() {
    let mut cluster = cluster(3);
    cluster.wait_for_leader(seconds(3)).unwrap();
    let mut ids = vec![1, 2, 3];
    for round in 0..3 {
        let newcomer = cluster.add_machine();
        ids.remove(0);
        ids.push(newcomer);
        let leader = cluster.wait_for_leader(seconds(5)).unwrap();
        let fate = cluster.set_members(leader, voters(ids.clone()), seconds(20));
        assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
        assert!(put(&mut cluster, ids[0], round));
    }
    cluster.run_for(seconds(5));
    assert_eq!(voter_ids(&cluster, 4), [4, 5, 6]);
    for removed in 1..=3 {
        assert!(cluster.knows_its_removal(removed), "{removed}");
    }
    cluster.finish().unwrap();
}

#[test]
fn all_members_are_replaced_at_once_and_the_leader_hands_over_first() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    (4..=6).for_each(|_| {
        cluster.add_machine();
    });
    let fate = cluster.set_members(leader, voters(4..=6), seconds(20));
    assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
    let next = cluster.leader().expect("a leader");
    assert!((4..=6).contains(&next), "{next} leads");
    assert!(put(&mut cluster, 5, 1));
    cluster.run_for(seconds(5));
    assert_eq!(cluster.role(leader), Some(Role::Follower));
    assert!((1..=3).all(|node| cluster.knows_its_removal(node)));
    cluster.finish().unwrap();
}

#[test]
fn a_majority_of_strangers_is_refused_unless_forced() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    (4..=6).for_each(|_| {
        cluster.add_machine();
    });
    let set =
        |force| MembershipCommand::Set { target: voters(4..=6), expected_version: None, force };
    let refused = cluster.change_members(leader, set(false), seconds(10));
    let expected = MembershipError::Refused(MembershipRefusal::Strangers {
        strangers: [4, 5, 6].map(NodeId::new).into(),
        known_count: 0,
    });
    assert_eq!(refused, Some(Err(expected)));
    let done = cluster.change_members(leader, set(true), seconds(10));
    assert!(matches!(done, Some(Ok(_))), "{done:?}");
    cluster.finish().unwrap();
}

#[test]
fn seven_shrink_to_one() {
    let mut cluster = cluster(7);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let stays = leader % 7 + 1;
    let fate = cluster.set_members(leader, voters([stays]), seconds(20));
    assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
    cluster.run_for(seconds(3));
    assert_eq!(cluster.leader(), Some(stays));
    assert!(put(&mut cluster, stays, 1), "it is enough by itself");
    cluster.finish().unwrap();
}

#[test]
fn any_node_may_be_asked_and_answers_for_the_leader() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let follower = leader % 3 + 1;
    let newcomer = cluster.add_machine();
    let fate = cluster.set_members(follower, voters([1, 2, 3, newcomer]), seconds(10));
    let version = fate.unwrap().unwrap();
    assert_eq!(cluster.configuration(follower).unwrap().version, version);
    cluster.finish().unwrap();
}

#[test]
fn a_leader_that_dies_in_the_middle_is_succeeded_by_one_that_finishes() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let follower = leader % 3 + 1;
    // The newcomer is away, so that the change waits for it when the leader dies.
    let newcomer = cluster.add_machine();
    cluster.isolate(newcomer);
    let command = MembershipCommand::Set {
        target: voters([1, 2, 3, newcomer]),
        expected_version: None,
        force: false,
    };
    let wish = cluster.wish(follower, command, seconds(30));
    cluster.run_for(seconds(2));
    cluster.crash(leader);
    cluster.run_for(seconds(4));
    assert_eq!(cluster.wish_end(wish), None, "it waits");
    cluster.mend_network();
    cluster.run_for(seconds(5));
    let end = cluster.wish_end(wish);
    assert!(matches!(end, Some(Ok(_))), "{end:?}");
    assert!(cluster.leader().is_some_and(|next| next != leader));
    cluster.finish().unwrap();
}

#[test]
fn a_change_that_waits_says_for_what_and_can_be_taken_back() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let newcomer = cluster.add_machine();
    cluster.isolate(newcomer);
    let fate = cluster.set_members(leader, voters([1, 2, 3, newcomer]), seconds(3));
    let Some(Err(MembershipError::UnderWay { waits })) = fate else { panic!("{fate:?}") };
    let words: Vec<String> = waits.iter().map(ToString::to_string).collect();
    assert!(words[0].starts_with("node 4 has to catch up"), "{words:?}");
    assert!(words[0].ends_with("it does not answer"), "{words:?}");
    let cancelled = cluster.change_members(leader, MembershipCommand::Cancel, seconds(3));
    assert!(matches!(cancelled, Some(Ok(_))), "{cancelled:?}");
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);
    assert_eq!(cluster.configuration(leader).unwrap().member_count(), 3);
    // It may come again.
    cluster.mend_network();
    let fate = cluster.set_members(leader, voters([1, 2, 3, newcomer]), seconds(10));
    assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
    cluster.finish().unwrap();
}

#[test]
fn a_wish_for_another_version_than_the_present_is_refused() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let command =
        MembershipCommand::Set { target: voters([1, 2]), expected_version: Some(7), force: false };
    let fate = cluster.change_members(leader, command, seconds(3));
    // How often disks were recorded by then is not of interest.
    let is_refused = matches!(
        &fate,
        Some(Err(MembershipError::Refused(MembershipRefusal::VersionMismatch { expected: 7, .. })))
    );
    assert!(is_refused, "{fate:?}");
    cluster.finish().unwrap();
}

#[test]
fn a_step_that_would_lose_the_quorum_is_refused() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let dead = leader % 3 + 1;
    cluster.crash(dead);
    cluster.run_for(seconds(3));
    let command = MembershipCommand::Set {
        target: voters([leader, dead]),
        expected_version: None,
        force: false,
    };
    let fate = cluster.change_members(leader, command, seconds(3));
    let silent = vec![NodeId::new(dead)];
    let refusal = MembershipRefusal::WouldLoseQuorum { silent, needed_count: 2 };
    assert_eq!(fate, Some(Err(MembershipError::Refused(refusal))));
    cluster.finish().unwrap();
}

#[test]
fn a_new_half_that_dies_before_the_joint_configuration_is_committed_costs_nobody_the_leader() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let [one, two] = [cluster.add_machine(), cluster.add_machine()];
    let target = voters([leader, one, two]);
    let command = MembershipCommand::Set { target, expected_version: None, force: true };
    let wish = cluster.wish(leader, command, seconds(20));
    // As soon as the joint configuration is appended, the new half is gone.
    while !cluster.configuration(leader).unwrap().is_joint() {
        cluster.run_steps(1);
    }
    cluster.crash(one);
    cluster.crash(two);
    cluster.run_for(seconds(10));
    let end = cluster.wish_end(wish);
    assert!(matches!(end, Some(Err(MembershipError::Superseded { .. }))), "{end:?}");
    assert_eq!(cluster.leader(), Some(leader));
    assert!(put(&mut cluster, leader, 1));
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);
    cluster.finish().unwrap();
}

#[test]
fn a_removed_node_that_missed_its_removal_is_told_and_disturbs_nobody() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let removed = leader % 3 + 1;
    cluster.crash(removed);
    let stay: Vec<u64> = (1..=3).filter(|node| *node != removed).collect();
    let fate = cluster.set_members(leader, voters(stay), seconds(10));
    assert!(matches!(fate, Some(Ok(_))), "{fate:?}");
    cluster.run_for(seconds(10));
    let (elections, term) = (cluster.counts().elections, cluster.term(leader));
    cluster.restart(removed);
    cluster.run_for(seconds(20));
    assert!(cluster.knows_its_removal(removed));
    assert_eq!((cluster.counts().elections, cluster.term(leader)), (elections, term));
    cluster.finish().unwrap();
}

#[test]
fn a_removed_id_does_not_come_back() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let removed = leader % 3 + 1;
    let stay: Vec<u64> = (1..=3).filter(|node| *node != removed).collect();
    cluster.set_members(leader, voters(stay), seconds(10)).unwrap().unwrap();
    let fate = cluster.set_members(leader, voters(1..=3), seconds(10));
    let refusal = MembershipRefusal::Tombstoned { member: NodeId::new(removed) };
    assert_eq!(fate, Some(Err(MembershipError::Refused(refusal))));
    cluster.finish().unwrap();
}

#[test]
fn learners_are_promoted_and_voters_demoted() {
    let mut cluster = cluster(3);
    let leader = cluster.wait_for_leader(seconds(3)).unwrap();
    let newcomer = cluster.add_machine();
    let mut target = voters(1..=3);
    target.extend([member(newcomer, MemberRole::Learner)]);
    cluster.set_members(leader, target.clone(), seconds(10)).unwrap().unwrap();
    assert_eq!(voter_ids(&cluster, leader), [1, 2, 3]);
    target.extend([member(newcomer, MemberRole::Voter), member(leader, MemberRole::Learner)]);
    cluster.set_members(leader, target, seconds(20)).unwrap().unwrap();
    cluster.run_for(seconds(3));
    let next = cluster.leader().unwrap();
    assert_ne!(next, leader, "a learner does not lead");
    assert!(put(&mut cluster, leader, 1), "and still takes writes for the leader");
    cluster.finish().unwrap();
}

/// Drawn worlds, in which somebody wishes for other members all the time.
#[test]
fn whatever_is_wished_for_under_faults_comes_to_an_end() {
    let count = std::env::var("WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut done = 0;
    for seed in first..first + count {
        let every = Duration::from_millis(300 + seed % 7 * 300);
        let options = ClusterOptions::swarm(seed, seed % 5 + 1).with_changes(every);
        let world = World { seed, node_count: seed % 5 + 1, steps: 8_000 };
        let kv = KvOptions::draw(&mut quorate_sim::Rng::new(seed).fork("kv"));
        match world.run_with(options, KvApplication::new(kv)) {
            Ok(summary) => done += summary.counts.changes_done,
            Err(violation) => panic!("{}\n{violation}", violation.story.join("\n")),
        }
    }
    assert!(done >= count, "only {done} wishes came true");
}
