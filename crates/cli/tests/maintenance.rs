//! What operators do beside reading and writing, with the real etcdctl and with our own verbs:
//! alarms, digests, backups, another leader, a quota.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, etcdctl, eventually};
use std::process::Command;

fn addresses(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.address()).collect()
}

fn says(endpoints: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoints, arguments);
    assert!(said.is_success, "etcdctl {arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn quorate_says(endpoints: &str, arguments: &[&str]) -> String {
    let all = [arguments, &["--endpoints", endpoints]].concat();
    let (is_success, out, err) = quorate(&all);
    assert!(is_success, "{arguments:?}: {out}{err}");
    out
}

#[tokio::test]
async fn members_have_equal_digests_and_leadership_moves() {
    let mut cluster = Cluster::started("maintenance", 3).await;
    let endpoints = addresses(&mut cluster);
    let all = endpoints.join(",");
    for number in 0..20 {
        cluster.client(number % 3).put(&format!("k{number}"), "v").await.unwrap();
    }
    let digest = eventually("the members to be equally far", async || {
        let said = says(&all, &["endpoint", "hashkv"]);
        let digests: Vec<String> =
            said.lines().map(|line| line.split(", ").nth(1).unwrap().to_owned()).collect();
        assert_eq!(digests.len(), 3, "{said}");
        digests.iter().all(|digest| *digest == digests[0]).then(|| digests[0].clone())
    })
    .await;
    assert_eq!(quorate_says(&all, &["hashkv", "--rev", "21"]).matches(&digest).count(), 3);
    assert_eq!(says(&all, &["defrag"]).matches("Finished defragmenting").count(), 3);
    assert_eq!(quorate_says(&all, &["defrag"]).matches("Finished defragmenting").count(), 3);

    let leader = cluster.leader(None).await;
    let next = (leader + 1) % 3;
    let said = quorate_says(&all, &["move-leader", &format!("n{}", next + 1)]);
    assert!(said.contains("Leadership transferred from"), "{said}");
    let said = etcdctl(&endpoints[leader], &["move-leader", "7"]);
    assert!(said.err.contains("no leader endpoint given"), "{}{}", said.out, said.err);
    let said = etcdctl(&all, &["move-leader", "7"]);
    assert!(said.err.contains("etcdserver: bad leader transferee"), "{}{}", said.out, said.err);
    cluster.finish();
}

#[tokio::test]
async fn a_backup_is_saved_by_etcdctl_and_by_us_and_damage_shows() {
    let mut cluster = Cluster::started("backup", 1).await;
    let endpoint = addresses(&mut cluster)[0].clone();
    for number in 0..20 {
        cluster.client(0).put(&format!("k{number}"), "v".repeat(10_000)).await.unwrap();
    }
    let folder = cluster.path();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (theirs, ours) = (path("theirs.db"), path("ours.db"));
    says(&endpoint, &["snapshot", "save", &theirs]);
    quorate_says(&endpoint, &["snapshot", "save", &ours]);
    assert_eq!(std::fs::read(&theirs).unwrap(), std::fs::read(&ours).unwrap());
    let (is_success, status, err) = quorate(&["snapshot", "status", &ours, "-w", "json"]);
    assert!(is_success, "{err}");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["revision"], &status["totalKey"]), (&21.into(), &20.into()));

    let (is_success, _, err) = quorate(&["snapshot", "save", &ours, "--endpoints", &endpoint]);
    assert!(!is_success && err.contains("exists already"), "{err}");
    let mut bytes = std::fs::read(&ours).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&ours, bytes).unwrap();
    let (is_success, _, err) = quorate(&["snapshot", "status", &ours]);
    assert!(!is_success && err.contains("damaged"), "{err}");
    cluster.finish();
}

#[tokio::test]
async fn a_quota_holds_through_restarts_until_it_is_cleared() {
    let mut options = Options::servers(3);
    options.more.push(("--quota-backend-bytes".to_owned(), "60000".to_owned()));
    let mut cluster = Cluster::new("quota", &options);
    cluster.start_all().await;
    let all = addresses(&mut cluster).join(",");
    let value = "v".repeat(10_000);
    let text = "etcdserver: mvcc: database space exceeded";
    let refused = eventually("the store to be full", async || {
        let said = etcdctl(&all, &["put", "k", &value]);
        (!said.is_success).then_some(said.err)
    })
    .await;
    assert!(refused.contains(text), "{refused}");
    assert!(says(&all, &["alarm", "list"]).contains("alarm:NOSPACE"));
    assert!(quorate_says(&all, &["alarm", "list"]).contains("alarm:NOSPACE"));

    for index in cluster.indexes() {
        cluster.server(index).kill();
    }
    cluster.start_all().await;
    assert!(etcdctl(&all, &["put", "small", "1"]).err.contains(text));
    assert_eq!(says(&all, &["del", "k"]), "1\n");
    let (_, json, _) = quorate(&["get", "k", "-w", "json", "--endpoints", &all]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let revision = json["header"]["revision"].to_string();
    says(&all, &["compaction", "--physical", &revision]);
    // That member has freed its space; the others do in their own time.
    eventually("space on every member", async || {
        quorate_says(&all, &["alarm", "disarm"]);
        etcdctl(&all, &["put", "small", "1"]).is_success.then_some(())
    })
    .await;
    assert_eq!(says(&all, &["alarm", "list"]), "");
    cluster.finish();
}
