//! Watches through real processes: the real etcdctl's, and our own that goes on through the loss of
//! the member it was connected to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::ongoing::Ongoing;
use harness::{Cluster, etcdctl_child};
use serde_json::Value;
use std::process::{Command, Stdio};

fn addresses(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.address()).collect()
}

/// Our own `watch`.
fn quorate(endpoints: &str, arguments: &[&str]) -> Ongoing {
    let child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["watch", "--endpoints", endpoints])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("quorate can be run");
    Ongoing::new(child)
}

fn etcdctl(endpoints: &str, arguments: &[&str]) -> Ongoing {
    Ongoing::new(etcdctl_child(endpoints, arguments))
}

#[tokio::test]
async fn etcdctl_and_quorate_watch_print_the_same() {
    let mut cluster = Cluster::started("watch-both", 3).await;
    let endpoints = addresses(&mut cluster);
    let client = cluster.client(0);
    client.put("a/1", "one").await.unwrap();
    client.put("a/1", "two").await.unwrap();
    client.delete("a/1").await.unwrap();
    let expected =
        ["PUT", "a/1", "one", "PUT", "a/1", "one", "a/1", "two", "DELETE", "a/1", "two", "a/1", ""];
    let arguments = ["--prefix", "--prev-kv", "--rev=2", "a/"];
    for endpoint in &endpoints {
        for watching in [
            etcdctl(endpoint, &[&["watch"], &arguments[..]].concat()),
            quorate(endpoint, &arguments),
        ] {
            assert_eq!(watching.lines(expected.len()), expected);
        }
    }
    let json = ["-w", "json", "--rev=3", "a/1"];
    let theirs = etcdctl(&endpoints[0], &[&["watch"], &json[..]].concat());
    let ours = quorate(&endpoints[0], &json);
    let parse = |line: String| serde_json::from_str::<Value>(&line).expect("a line of JSON");
    assert_eq!(parse(ours.line()), parse(theirs.line()));
    drop((theirs, ours));
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_hears_what_happens_through_any_member() {
    let mut cluster = Cluster::started("watch-live", 3).await;
    let endpoints = addresses(&mut cluster);
    // From the first revision on, so that it does not matter when the watch begins.
    let watching: Vec<Ongoing> =
        endpoints.iter().map(|endpoint| etcdctl(endpoint, &["watch", "--rev=1", "k"])).collect();
    for index in 0..3 {
        cluster.client(index).put("k", index.to_string()).await.unwrap();
    }
    for watching in &watching {
        let lines = watching.lines(9);
        assert_eq!(lines, ["PUT", "k", "0", "PUT", "k", "1", "PUT", "k", "2"]);
    }
    drop(watching);
    cluster.finish();
}

#[tokio::test]
async fn a_watch_of_the_compacted_past_says_so() {
    let mut cluster = Cluster::started("watch-compacted", 1).await;
    let endpoint = addresses(&mut cluster).remove(0);
    for value in ["1", "2", "3"] {
        cluster.client(0).put("k", value).await.unwrap();
    }
    harness::etcdctl(&endpoint, &["compaction", "4"]);
    let said = harness::etcdctl(&endpoint, &["watch", "--rev=2", "k"]);
    assert!(said.err.contains("required revision has been compacted"), "{}{}", said.out, said.err);
    let ours = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["watch", "--endpoints", &endpoint, "--rev=2", "k"])
        .output()
        .unwrap();
    assert!(!ours.status.success());
    assert!(String::from_utf8_lossy(&ours.stderr).contains("before revision 4"), "{ours:?}");
    cluster.finish();
}

/// Whichever member is killed, the watch goes on with another one: every revision once, in order.
#[tokio::test]
async fn quorate_watch_goes_on_where_it_was_when_its_member_is_killed() {
    let mut cluster = Cluster::started("watch-resume", 3).await;
    let endpoints = addresses(&mut cluster).join(",");
    let watching = quorate(&endpoints, &["--prefix", "", "--rev=2", "-w", "json"]);
    let mut next = 2;
    for round in 0..3 {
        let others = [(round + 1) % 3, (round + 2) % 3];
        for turn in 0..5 {
            let client = cluster.client(others[turn % 2]);
            client.put("k", format!("{round}-{turn}")).await.unwrap();
        }
        next = heard(&watching, next, 5);
        cluster.server(round).kill();
        // A put of unknown outcome may be one revision more: it is told like any other.
        cluster.put_until_acknowledged(&others, "k", "while one is away").await;
        let revision = cluster.client(others[0]).everything().await.unwrap();
        let revision = revision.header.unwrap().revision;
        next = heard(&watching, next, usize::try_from(revision + 1 - next).unwrap());
        cluster.restart(round).await;
    }
    drop(watching);
    cluster.finish();
}

/// Reads so many events, which must be the revisions from `next` on; returns the one after.
fn heard(watching: &Ongoing, mut next: i64, count: usize) -> i64 {
    let end = next + i64::try_from(count).unwrap();
    while next < end {
        let response: Value = serde_json::from_str(&watching.line()).unwrap();
        for event in response["Events"].as_array().unwrap() {
            assert_eq!(event["kv"]["mod_revision"], next, "{response}");
            next += 1;
        }
    }
    next
}
