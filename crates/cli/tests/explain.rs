//! `quorate status --explain` against real processes: what a member waits for is said in the names
//! that its operator gave, with what to do about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, etcdctl, eventually};
use std::process::Command;

/// What `quorate status --explain` prints about one server.
fn explained(cluster: &mut Cluster, index: usize, more: &[&str]) -> String {
    let address = cluster.server(index).client.address();
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["status", "--explain", "--endpoints", &address])
        .args(more)
        .output()
        .expect("quorate can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asks until the answer has all of this in it.
async fn is_explained(cluster: &mut Cluster, index: usize, expected: &[&str]) -> String {
    let mut said = String::new();
    let waited = eventually("the explanation", async || {
        said = explained(cluster, index, &[]);
        expected.iter().all(|part| said.contains(part)).then_some(())
    });
    waited.await;
    said
}

#[tokio::test]
async fn a_cluster_that_loses_its_quorum_says_who_is_missing_and_what_to_do() {
    let mut cluster = Cluster::started("explained", 3).await;
    cluster.put_until_acknowledged(&[0, 1, 2], "key", "value").await;
    let leader = cluster.leader(None).await;
    let names = [0, 1, 2].map(|index| format!("n{}", index + 1));
    is_explained(&mut cluster, leader, &[&format!("{} leads in term ", names[leader])]).await;

    let others: Vec<usize> = cluster.indexes().filter(|index| *index != leader).collect();
    let [gone, left] = others[..] else { panic!("three servers") };
    cluster.server(gone).kill();
    let silent = [format!("{} lacks ", names[gone]), format!("see that {} runs", names[gone])];
    let leads = format!("{} leads in term ", names[leader]);
    is_explained(&mut cluster, leader, &[&leads, &silent[0], &silent[1], "has not answered"]).await;

    cluster.server(leader).kill();
    let asks = "no leader is known: it asks whether it would win term ";
    let said = is_explained(&mut cluster, left, &[asks, "-> see that ", &names[gone]]).await;
    assert!(said.contains(&names[leader]), "{said}");
    let json = explained(&mut cluster, left, &["-w", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json[0]["Explanation"]["state"].is_string(), "{json}");
    assert!(json[0]["Explanation"]["causes"][0]["text"].is_string(), "{json}");

    cluster.restart(gone).await;
    cluster.restart(leader).await;
    let leader = cluster.leader(None).await;
    is_explained(&mut cluster, leader, &[" leads in term ", "; nothing waits"]).await;
    cluster.finish();
}

#[tokio::test]
async fn a_member_that_never_came_is_named_as_what_the_change_waits_for() {
    let mut cluster = Cluster::started("never-came", 3).await;
    let leader = cluster.leader(None).await;
    let endpoint = cluster.server(leader).client.address();
    let nobody = "http://127.0.0.1:1";
    let said = etcdctl(&endpoint, &["member", "add", "n9", "--peer-urls", nobody]);
    assert!(said.is_success, "{}{}", said.out, said.err);
    let expected = ["the change of the members is not finished: ", "has to catch up"];
    is_explained(&mut cluster, leader, &expected).await;
    cluster.finish();
}
