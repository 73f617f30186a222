//! Ranges in pieces from every member of a cluster, leader or not: linearizable at their beginning,
//! unless they need not be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, message_of};
use quorate_etcd_api::etcdserverpb::RangeRequest;
use tonic::Code;

fn everything() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() }
}

#[tokio::test]
async fn every_member_tells_what_was_acknowledged_before_and_only_some_without_a_quorum() {
    let mut cluster = Cluster::started("range-stream", 3).await;
    for number in 0..12 {
        // Through one member, and at once from the next.
        let (through, from) = (number % 3, (number + 1) % 3);
        cluster.client(through).put(&format!("k{number:02}"), vec![7; 60_000]).await.unwrap();
        let told = cluster.client(from).range_stream(everything()).await.unwrap();
        assert_eq!(told.kvs.len(), number + 1, "member {from} tells what member {through} took");
    }
    for index in cluster.indexes() {
        let client = cluster.client(index);
        let (told, whole) = (client.range_stream(everything()), client.range(everything()));
        assert_eq!(told.await.unwrap(), whole.await.unwrap());
    }

    let survivor = cluster.leader(None).await;
    let kept = cluster.client(survivor).everything().await.unwrap();
    for index in cluster.indexes().filter(|index| *index != survivor) {
        cluster.server(index).kill();
    }
    let client = cluster.client(survivor).clone();
    let (code, message) = message_of(client.range_stream(everything()).await);
    assert_eq!(code, Code::Unavailable, "{message}");
    let old = RangeRequest { serializable: true, ..everything() };
    assert_eq!(client.range_stream(old).await.unwrap().kvs, kept.kvs);
    cluster.finish();
}
