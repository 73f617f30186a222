//! Nodes with several addresses each, some of which lead nowhere, with real disks and sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::ports::Port;
use common::{Cluster, PATIENCE, Words, changed, say, wait};
use quorate::{Node, NodeId, StartError};
use std::net::TcpListener;

/// Where nobody listens.
const DEAD: &str = "127.0.0.1:1";

fn sockets() -> [TcpListener; 2] {
    [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
}

fn address(socket: &TcpListener) -> String {
    socket.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn founders_with_two_addresses_listen_on_both_and_are_asked_at_either() {
    let mut cluster = Cluster::prepared();
    for id in 1..=3 {
        let pair = [cluster.address(), cluster.address()];
        cluster.members.insert(id, pair.join(","));
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    assert_eq!(say(&cluster.up[&leader], "word").await, 1);
    for (id, addresses) in &cluster.members {
        for address in addresses.split(',') {
            let view = quorate::ask_cluster(address, None, PATIENCE).await.unwrap();
            assert_eq!(view.node_id, NodeId::new(*id));
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn members_whose_first_address_is_dead_are_a_cluster_and_one_more_joins_them() {
    let mut cluster = Cluster::prepared();
    let mut builders = Vec::new();
    let all: Vec<[TcpListener; 2]> = (0..3).map(|_| sockets()).collect();
    for (id, pair) in (1..).zip(&all) {
        let [first, second] = pair.each_ref().map(address);
        cluster.members.insert(id, format!("{DEAD},{first},{second}"));
    }
    for (id, [first, second]) in (1..).zip(all) {
        builders.push((id, cluster.builder(id).listener(first).listener(second)));
    }
    for (id, builder) in builders {
        cluster.up.insert(id, builder.start(Words::default()).await.unwrap());
    }
    let leader = cluster.leader().await;
    say(&cluster.up[&leader], "word").await;

    // What it listens at is given in two goes, and behind a dead one it is added.
    let [first, second] = [cluster.address(), cluster.address()];
    let builder = cluster.bare(4).join().listen(first.clone()).listen(second.clone());
    let node = builder.start(Words::default()).await.unwrap();
    let addresses = format!("{DEAD},{second},{first}");
    let version = changed(|| cluster.up[&leader].members().add_voter(4, addresses.clone())).await;
    let status = wait(&node, |status| status.committed_configuration.version >= version).await;
    assert_eq!(status.configuration.members[&NodeId::new(4)].address, addresses);
    assert_eq!(say(&node, "another").await, 2);
    cluster.up.insert(4, node);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_port_in_use_among_several_is_named_and_the_others_are_let_go() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = Port::reserve();
    let dir = tempfile::tempdir().unwrap();
    let addresses = format!("{},{}", free.address(), address(&taken));
    let builder = Node::builder(1, dir.path()).listen(addresses);
    let error = builder.start(Words::default()).await.unwrap_err();
    let StartError::Listen { address: named, .. } = error else { panic!("{error}") };
    assert_eq!(named, address(&taken));
    TcpListener::bind(free.address()).unwrap();
}
