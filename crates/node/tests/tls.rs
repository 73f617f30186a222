//! Three nodes that speak TLS with each other: everything that they say, forwarded commands and new
//! members included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod common;

use authority::{Authority, Pair};
use common::{Cluster, PATIENCE, Words, changed, say, wait};
use quorate::{Consistency, Node, NodeId, PEER_PROTOCOL, PeerTls, StartError, ask_cluster};
use quorate_tls::{Tls, TlsFiles};
use std::net::TcpListener;
use std::sync::Arc;

fn load(pair: &Pair, authority: &Authority) -> Arc<Tls> {
    Tls::load(TlsFiles {
        cert: Some(pair.cert.clone()),
        key: Some(pair.key.clone()),
        trusted_ca: Some(authority.ca.clone()),
        client_cert_auth: true,
        protocols: vec![PEER_PROTOCOL.to_owned()],
        ..TlsFiles::default()
    })
    .unwrap()
}

fn member(authority: &Authority, id: u64) -> PeerTls {
    let pair = authority.issue(&format!("n{id}"), id, &["127.0.0.1"]);
    PeerTls { tls: load(&pair, authority), listens: true }
}

/// Three nodes, all up, who believe this authority.
async fn secure_cluster(authority: &Authority) -> Cluster {
    let mut cluster = Cluster::prepared();
    for address in cluster.members.values_mut() {
        *address = format!("https://{address}");
    }
    for id in 1..=3 {
        let builder = cluster.builder(id).peer_tls(member(authority, id));
        cluster.up.insert(id, builder.start(Words::default()).await.unwrap());
    }
    cluster
}

#[tokio::test]
async fn commands_through_every_member_reads_and_a_newcomer_go_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let mut cluster = secure_cluster(&authority).await;
    let leader = cluster.leader().await;
    // Two of three are forwarded.
    for (id, count) in (1..=3).zip(1..) {
        assert_eq!(say(&cluster.up[&id], format!("word{id}")).await, count);
        let seen = cluster.up[&id].read("count", Consistency::Linearizable, PATIENCE).await;
        assert_eq!(seen.unwrap(), count.to_string());
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let builder = cluster.bare(4).join().listen(address.clone()).listener(listener);
    let node = builder.peer_tls(member(&authority, 4)).start(Words::default()).await.unwrap();
    let version = changed(|| cluster.up[&leader].members().add_voter(4, address.clone())).await;
    let status = wait(&node, |status| status.committed_configuration.version >= version).await;
    assert!(status.configuration.is_voter(NodeId::new(4)));
    assert_eq!(say(&node, "word4").await, 4);
    cluster.up.insert(4, node);
    cluster.stop_all().await;
}

#[tokio::test]
async fn which_cluster_it_is_is_told_to_those_who_are_believed_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let other = Authority::new(folder.path(), "other");
    let mut cluster = secure_cluster(&authority).await;
    cluster.leader().await;
    let address = cluster.members[&1].clone();
    let friend = load(&authority.issue("friend", 5, &["127.0.0.1"]), &authority);
    let view = ask_cluster(&address, Some(&friend), PATIENCE).await.unwrap();
    assert_eq!(view.node_id, NodeId::new(1));
    let bare = address.strip_prefix("https://").unwrap();
    assert!(ask_cluster(bare, Some(&friend), PATIENCE).await.is_err());
    let stranger = load(&other.issue("stranger", 5, &["127.0.0.1"]), &authority);
    assert!(ask_cluster(&address, Some(&stranger), PATIENCE).await.is_err());
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_with_a_strangers_certificate_gets_no_vote_and_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let mut cluster = secure_cluster(&authority).await;
    let leader = cluster.leader().await;
    let replaced = leader % 3 + 1;
    cluster.stop(replaced).await;
    let other = Authority::new(folder.path(), "other");
    // It believes the others, and they do not believe it.
    let pair = other.issue("stranger", 9, &["127.0.0.1"]);
    let peer_tls = PeerTls { tls: load(&pair, &authority), listens: true };
    let builder = cluster.builder(replaced).peer_tls(peer_tls);
    let stranger = builder.start(Words::default()).await.unwrap();
    for count in 1..=5 {
        assert_eq!(say(&cluster.up[&leader], "ours").await, count);
    }
    assert_eq!(stranger.status().leader, None);
    stranger.stop().await;
    // With a certificate that is ours it is welcome.
    let builder = cluster.builder(replaced).peer_tls(member(&authority, replaced));
    let back = builder.start(Words::default()).await.unwrap();
    let commit_index = cluster.up[&leader].status().commit_index;
    wait(&back, |status| status.applied >= commit_index).await;
    cluster.up.insert(replaced, back);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_that_is_to_be_called_over_tls_needs_something_to_show() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let trusted_ca = Some(authority.ca.clone());
    let tls = Tls::load(TlsFiles { trusted_ca, ..TlsFiles::default() }).unwrap();
    let builder = Node::builder(1, folder.path().join("1"));
    let builder = builder.peer_tls(PeerTls { tls, listens: true });
    let error = builder.start(Words::default()).await.unwrap_err();
    assert!(matches!(error, StartError::NoCertificate), "{error}");
}
