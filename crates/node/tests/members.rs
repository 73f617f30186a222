//! Changing the members of a running cluster, with real disks and sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, changed, say, wait};
use quorate::{Consistency, MembershipError, MembershipRefusal, Node, NodeId, StartError};

/// A node with an empty folder that waits to be added, and where it listens.
async fn newcomer(cluster: &mut Cluster, id: u64) -> (Node, String) {
    let address = cluster.address();
    let node =
        cluster.bare(id).join().listen(address.clone()).start(Words::default()).await.unwrap();
    (node, address)
}

#[tokio::test]
async fn a_node_joins_catches_up_and_votes_and_a_removed_one_knows() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    for count in 1..=20 {
        say(&cluster.up[&leader], format!("word{count}")).await;
    }
    let (node, address) = newcomer(&mut cluster, 4).await;
    let version = changed(|| cluster.up[&leader].members().add_voter(4, address.clone())).await;
    let status = wait(&node, |status| status.committed_configuration.version >= version).await;
    assert!(status.configuration.is_voter(NodeId::new(4)));
    let seen = node.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(seen, "20");
    assert_eq!(say(&node, "word21").await, 21);

    let goes = leader % 3 + 1;
    changed(|| cluster.up[&leader].members().remove(goes)).await;
    let removed = tokio::time::timeout(PATIENCE, cluster.up[&goes].removed()).await;
    assert!(removed.unwrap().unwrap() > version);
    assert_eq!(say(&node, "word22").await, 22);
    cluster.up.insert(4, node);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_that_was_removed_while_it_was_down_is_told_when_it_comes_back() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    say(&cluster.up[&leader], "word").await;
    let goes = leader % 3 + 1;
    cluster.stop(goes).await;
    changed(|| cluster.up[&leader].members().remove(goes)).await;
    let back = cluster.start(goes).await;
    tokio::time::timeout(PATIENCE, back.removed()).await.unwrap().unwrap();
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leader_that_is_removed_hands_over_and_the_others_go_on() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    say(&cluster.up[&leader], "one").await;
    let stays = leader % 3 + 1;
    changed(|| cluster.up[&leader].members().remove(leader)).await;
    let new = wait(&cluster.up[&stays], |status| {
        status.leader.is_some_and(|id| id != NodeId::new(leader))
    });
    new.await;
    assert_eq!(say(&cluster.up[&stays], "two").await, 2);
    tokio::time::timeout(PATIENCE, cluster.up[&leader].removed()).await.unwrap().unwrap();
    cluster.stop_all().await;
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused_with_the_reason() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    // Founding ends with a configuration that says who has which disk.
    wait(&cluster.up[&leader], |status| status.committed_configuration.storages.len() == 3).await;
    let members = cluster.up[&leader].members();
    let version = members.configuration().version;
    let stranger = NodeId::new(9);
    let unknown = MembershipError::UnknownMember { member: stranger, version };
    assert_eq!(members.remove(stranger).await, Err(unknown));
    let target = members.configuration().members.clone();
    let other = members.set(target.clone()).expect_version(version);
    assert_eq!(other.await, Ok(version), "they are so already");
    let mut fewer = target;
    fewer.remove(&NodeId::new(leader % 3 + 1));
    let refused = members.set(fewer).expect_version(version + 7).await;
    let reason = MembershipRefusal::VersionMismatch { expected: version + 7, actual: version };
    assert_eq!(refused, Err(MembershipError::Refused(reason)));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_that_joins_has_to_listen() {
    let dir = tempfile::tempdir().unwrap();
    let started = Node::builder(4, dir.path()).join().start(Words::default()).await;
    assert!(matches!(started, Err(StartError::NotListening)), "{started:?}");
}

#[tokio::test]
async fn whoever_asks_a_node_learns_its_cluster_and_members() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    say(&cluster.up[&leader], "word").await;
    let status = cluster.up[&leader].status();
    let address = &status.configuration.members[&NodeId::new(leader)].address;
    let view = quorate::ask_cluster(address, None, PATIENCE).await.unwrap();
    assert_eq!((view.cluster_id, view.node_id), (status.cluster_id, NodeId::new(leader)));
    assert_eq!(view.configuration.members, status.configuration.members);

    let (node, address) = newcomer(&mut cluster, 4).await;
    let view = quorate::ask_cluster(&address, None, PATIENCE).await.unwrap();
    assert!(view.configuration.members.is_empty(), "it waits to be added");
    node.stop().await;
    cluster.stop_all().await;
    assert!(quorate::ask_cluster(&address, None, PATIENCE).await.is_err(), "nobody is there");
}
