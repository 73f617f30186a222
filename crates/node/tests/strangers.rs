//! Whoever does not belong is turned away with a reason, and harms nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, say, wait};
use quorate::{Node, StartError};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_used_port_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let builder = Node::builder(1, dir.path()).listen(address.clone());
    let error = builder.start(Words::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    assert!(!dir.path().join("wal").exists(), "nothing is founded on a port that is not ours");
}

#[tokio::test]
async fn random_bytes_on_the_peer_port_are_answered_by_hanging_up() {
    let mut cluster = Cluster::started().await;
    let address = cluster.members[&1].clone();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [1, 7, 8, 9, 100, 1000, 100_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        let address = address.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            // It may hang up while we still speak.
            let _cut = stream.write_all(&bytes);
            let _cut = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            assert!(answer.is_empty(), "strangers are told nothing");
        })
        .await
        .unwrap();
    }
    assert_eq!(say(&cluster.up[&1], "still here").await, 1);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_gets_no_vote_and_no_entry() {
    let mut cluster = Cluster::started().await;
    let leader = cluster.leader().await;
    say(&cluster.up[&leader], "ours").await;
    let replaced = *cluster.up.keys().find(|id| **id != leader).unwrap();
    cluster.stop(replaced).await;

    // The same name and address, but it belongs to another cluster.
    let dir = tempfile::tempdir().unwrap();
    let mut builder = Node::builder(replaced, dir.path()).cluster_id(666);
    for (id, address) in &cluster.members {
        builder = builder.member(*id, address.clone());
    }
    let stranger = builder.start(Words::default()).await.unwrap();
    for count in 2..=5 {
        assert_eq!(say(&cluster.up[&leader], "ours").await, count);
    }
    let status = stranger.status();
    assert_eq!(status.leader, None);
    assert_eq!(status.last_log.index, quorate::LogIndex::ORIGIN);
    stranger.stop().await;

    // The real one is welcome.
    cluster.start(replaced).await;
    let commit_index = cluster.up[&leader].status().commit_index;
    wait(&cluster.up[&replaced], |status| status.applied >= commit_index).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_hundred_callers_who_leave_without_a_word_hold_up_nobody() {
    let mut cluster = Cluster::prepared();
    cluster.start(1).await;
    let address = cluster.members[&1].clone();
    // More callers without a word than there are places for callers without a word.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    drop(silent);
    cluster.start(2).await;
    cluster.start(3).await;
    assert_eq!(say(&cluster.up[&1], "heard").await, 1);
    let seen = cluster.up[&3].read("count", quorate::Consistency::Linearizable, PATIENCE).await;
    assert_eq!(seen.unwrap(), "1");
    cluster.stop_all().await;
}
