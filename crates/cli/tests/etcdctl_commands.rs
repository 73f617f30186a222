//! Every command that the real etcdctl 3.5.1 has is run against us somewhere, and here are those that no
//! other file runs: locks, elections, mirrors, watches that run a program, whole clusters from one endpoint.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::ongoing::Ongoing;
use harness::{Cluster, etcdctl, etcdctl_child, etcdctl_with_input, eventually};
use std::fs;
use std::path::Path;

/// Each command, and the file that runs it against a server.
const RUN_IN: [(&str, &str); 49] = [
    ("alarm disarm", "as_etcdctl.rs"),
    ("alarm list", "as_etcdctl.rs"),
    ("auth disable", "as_etcdctl.rs"),
    ("auth enable", "as_etcdctl.rs"),
    ("auth status", "as_etcdctl.rs"),
    ("check datascale", "../../../xtask/src/clients/check.rs"),
    ("check perf", "../../../xtask/src/clients/check.rs"),
    ("compaction", "as_etcdctl.rs"),
    ("defrag", "as_etcdctl.rs"),
    ("del", "as_etcdctl.rs"),
    ("elect", "etcdctl_commands.rs"),
    ("endpoint hashkv", "as_etcdctl.rs"),
    ("endpoint health", "as_etcdctl.rs"),
    ("endpoint status", "as_etcdctl.rs"),
    ("get", "as_etcdctl.rs"),
    ("help", "etcdctl_commands.rs"),
    ("lease grant", "lease/main.rs"),
    ("lease keep-alive", "as_etcdctl.rs"),
    ("lease list", "as_etcdctl.rs"),
    ("lease revoke", "as_etcdctl.rs"),
    ("lease timetolive", "as_etcdctl.rs"),
    ("lock", "etcdctl_commands.rs"),
    ("make-mirror", "etcdctl_commands.rs"),
    ("member add", "members.rs"),
    ("member list", "as_etcdctl.rs"),
    ("member promote", "members.rs"),
    ("member remove", "as_etcdctl.rs"),
    ("member update", "as_etcdctl.rs"),
    ("move-leader", "etcdctl_commands.rs"),
    ("put", "as_etcdctl.rs"),
    ("role add", "as_etcdctl.rs"),
    ("role delete", "as_etcdctl.rs"),
    ("role get", "as_etcdctl.rs"),
    ("role grant-permission", "as_etcdctl.rs"),
    ("role list", "as_etcdctl.rs"),
    ("role revoke-permission", "as_etcdctl.rs"),
    ("snapshot restore", "etcdctl_commands.rs"),
    ("snapshot save", "maintenance.rs"),
    ("snapshot status", "etcdctl_commands.rs"),
    ("txn", "as_etcdctl.rs"),
    ("user add", "as_etcdctl.rs"),
    ("user delete", "as_etcdctl.rs"),
    ("user get", "as_etcdctl.rs"),
    ("user grant-role", "as_etcdctl.rs"),
    ("user list", "as_etcdctl.rs"),
    ("user passwd", "as_etcdctl.rs"),
    ("user revoke-role", "as_etcdctl.rs"),
    ("version", "etcdctl_commands.rs"),
    ("watch", "watch.rs"),
];

fn addresses(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.address()).collect()
}

fn says(endpoints: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoints, arguments);
    assert!(said.is_success, "etcdctl {arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn ongoing(endpoints: &str, arguments: &[&str]) -> Ongoing {
    Ongoing::new(etcdctl_child(endpoints, arguments))
}

/// The commands that `etcdctl help` lists.
fn commands() -> Vec<String> {
    let help = says("127.0.0.1:1", &["help"]);
    let (_, rest) = help.split_once("COMMANDS:\n").expect("a list of commands");
    let (list, _) = rest.split_once("\n\n").expect("the list has an end");
    // Their explanation is behind tabs.
    list.lines().map(|line| line.trim().split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_that_etcdctl_lists_is_run_against_a_server() {
    let names = RUN_IN.map(|(command, _)| command);
    let mut listed = commands();
    listed.sort_unstable();
    assert_eq!(listed, names);

    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (command, file) in RUN_IN {
        let text = fs::read_to_string(tests.join(file)).unwrap();
        // The table itself does not count.
        let text = text.split("\nfn addresses").last().unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        let as_list = format!("\"{}\"", words.join("\", \""));
        let in_line = [format!("\"{command} "), format!("\"{command}\""), format!(" {command}\"")];
        let of_check = words[0] == "check" && text.contains(&format!("(\"{}\", ", words[1]));
        let is_run = text.contains(&as_list) || in_line.iter().any(|line| text.contains(line));
        assert!(is_run || of_check, "{file} does not run `{command}`");
    }
}

#[tokio::test]
async fn a_lock_of_etcdctl_is_one_holders_and_the_next_ones_when_it_goes() {
    let mut cluster = Cluster::started("etcdctl-lock", 3).await;
    let endpoints = addresses(&mut cluster);
    let first = ongoing(&endpoints[0], &["lock", "l"]);
    let held = first.line();
    assert!(held.starts_with("l/"), "{held}");
    let second = ongoing(&endpoints[1], &["lock", "l"]);
    let keys = || says(&endpoints[2], &["get", "--prefix", "l/", "--keys-only"]);
    let both = eventually("the second to wait", async || {
        Some(keys()).filter(|k| k.matches("l/").count() == 2)
    });
    let both = both.await;
    let waiting = both.split_whitespace().find(|key| *key != held).unwrap();
    assert!(first.interrupt().success());
    assert_eq!(second.line(), waiting);
    assert!(second.interrupt().success());
    assert_eq!(keys(), "");

    let program = ["lock", "l2", "--ttl", "20", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 3"];
    let said = etcdctl(&endpoints.join(","), &program);
    assert!(said.out.starts_with("l2/"), "{}{}", said.out, said.err);
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert_eq!(says(&endpoints[0], &["get", "--prefix", "l2"]), "");
    cluster.finish();
}

#[tokio::test]
async fn an_election_of_etcdctl_has_one_leader_and_listeners_hear_of_the_next() {
    let mut cluster = Cluster::started("etcdctl-elect", 3).await;
    let endpoints = addresses(&mut cluster);
    let first = ongoing(&endpoints[0], &["elect", "e", "one"]);
    let led = first.lines(2);
    assert!(led[0].starts_with("e/") && led[1] == "one", "{led:?}");
    let listener = ongoing(&endpoints[2], &["elect", "--listen", "e"]);
    assert_eq!(listener.lines(2), led);
    let second = ongoing(&endpoints[1], &["elect", "e", "two"]);
    eventually("the second to wait", async || {
        let keys = says(&endpoints[0], &["get", "--prefix", "e/", "--keys-only"]);
        (keys.matches("e/").count() == 2).then_some(())
    })
    .await;
    first.interrupt();
    let next = second.lines(2);
    assert!(next[0].starts_with("e/") && next[0] != led[0] && next[1] == "two", "{next:?}");
    assert_eq!(listener.lines(2), next);
    drop((second, listener));
    cluster.finish();
}

#[tokio::test]
async fn a_mirror_of_etcdctl_has_what_there_was_and_what_happens() {
    let mut from = Cluster::started("etcdctl-mirror-from", 3).await;
    let mut to = Cluster::started("etcdctl-mirror-to", 1).await;
    let (source, target) = (addresses(&mut from), addresses(&mut to).remove(0));
    for number in 0..5 {
        from.client(0).put(&format!("a/{number}"), number.to_string()).await.unwrap();
    }
    from.client(0).put("other", "x").await.unwrap();
    let mirror = ongoing(
        &source.join(","),
        &["make-mirror", "--prefix", "a/", "--dest-prefix", "b/", &target],
    );
    let mirrored = || says(&target, &["get", "", "--from-key"]);
    eventually("the keys", async || {
        let all = "b/0\n0\nb/1\n1\nb/2\n2\nb/3\n3\nb/4\n4\n";
        (mirrored() == all).then_some(())
    })
    .await;
    from.client(1).put("a/0", "changed").await.unwrap();
    from.client(2).delete("a/1").await.unwrap();
    let several = "\nput a/5 5\ndel a/2\n\n\n";
    assert!(etcdctl_with_input(&source[0], &["txn"], several).is_success);
    eventually("the changes", async || {
        let all = "b/0\nchanged\nb/3\n3\nb/4\n4\nb/5\n5\n";
        (mirrored() == all).then_some(())
    })
    .await;
    drop(mirror);
    from.finish();
    to.finish();
}

#[tokio::test]
async fn a_watch_of_etcdctl_runs_a_program_for_each_event() {
    let mut cluster = Cluster::started("etcdctl-watch-exec", 1).await;
    let endpoint = addresses(&mut cluster).remove(0);
    cluster.client(0).put("k", "v").await.unwrap();
    let program = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
    let watch = ongoing(&endpoint, &["watch", "k", "--rev=1", "--", "sh", "-c", program]);
    assert_eq!(watch.lines(4), ["PUT", "k", "v", "\"PUT\" \"k\" \"v\""]);
    cluster.client(0).delete("k").await.unwrap();
    assert_eq!(watch.lines(4), ["DELETE", "k", "", "\"DELETE\" \"k\" \"\""]);
    drop(watch);
    cluster.finish();
}

/// The list of members, once it says where each is: they introduce themselves after a start.
async fn members(endpoints: &[String]) -> String {
    eventually("the members to know each other", async || {
        let list = says(&endpoints[0], &["member", "list"]);
        endpoints.iter().all(|endpoint| list.contains(endpoint)).then_some(list)
    })
    .await
}

#[tokio::test]
async fn etcdctl_asks_every_member_that_one_endpoint_names() {
    let mut cluster = Cluster::started("etcdctl-cluster", 3).await;
    let endpoints = addresses(&mut cluster);
    says(&endpoints[0], &["put", "k", "v"]);
    members(&endpoints).await;
    for command in ["endpoint status", "endpoint health", "endpoint hashkv", "defrag"] {
        let words: Vec<&str> = command.split(' ').chain(["--cluster"]).collect();
        let said = etcdctl(&endpoints[1], &words);
        assert!(said.is_success, "{command}: {}{}", said.out, said.err);
        let all = format!("{}{}", said.out, said.err);
        for endpoint in &endpoints {
            assert!(all.contains(endpoint), "{command} says nothing of {endpoint}: {all}");
        }
    }
    let version = says(&endpoints[0], &["version"]);
    assert!(version.contains("etcdctl version: 3.5.1"), "{version}");
    let put = etcdctl_with_input(&endpoints[0], &["txn", "--interactive"], "\nput k w\n\n\n");
    assert!(put.out.contains("SUCCESS"), "{}{}", put.out, put.err);
    assert_eq!(says(&endpoints[2], &["get", "k", "--print-value-only"]), "w\n");
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_moves_the_leadership() {
    let mut cluster = Cluster::started("etcdctl-move-leader", 3).await;
    let endpoints = addresses(&mut cluster);
    let leader = cluster.leader(None).await;
    let next = (leader + 1) % 3;
    let list = members(&endpoints).await;
    let line = list.lines().find(|line| line.contains(&endpoints[next])).unwrap();
    let id = line.split(',').next().unwrap();
    let said = says(&endpoints.join(","), &["move-leader", id]);
    assert!(said.contains(&format!("to {id}")), "{said}");
    eventually("the next leader", async || (cluster.leader(None).await == next).then_some(()))
        .await;
    cluster.finish();
}

#[tokio::test]
async fn etcdctl_renews_a_lease_until_it_is_revoked() {
    let mut cluster = Cluster::started("etcdctl-keep-alive", 3).await;
    let endpoints = addresses(&mut cluster);
    let granted = says(&endpoints[0], &["lease", "grant", "4"]);
    let id = granted.split(' ').nth(1).unwrap();
    let renewing = ongoing(&endpoints[1], &["lease", "keep-alive", id]);
    let renewed = format!("lease {id} keepalived with TTL(4)");
    assert_eq!(renewing.lines(3), [&renewed[..]; 3]);
    says(&endpoints[2], &["lease", "revoke", id]);
    let ended = format!("lease {id} expired or revoked.");
    while renewing.line() != ended {}
    drop(renewing);
    cluster.finish();
}

/// Neither asks a server anything: they read a file of bbolt's, which a backup of ours is not.
#[tokio::test]
async fn etcdctl_says_that_our_backup_is_not_etcds() {
    let mut cluster = Cluster::started("etcdctl-backup", 1).await;
    let endpoint = addresses(&mut cluster).remove(0);
    cluster.client(0).put("k", "v".repeat(100_000)).await.unwrap();
    let path = |name: &str| cluster.path().join(name).to_str().unwrap().to_owned();
    let (file, folder) = (path("backup.db"), path("restored"));
    says(&endpoint, &["snapshot", "save", &file]);
    let before = fs::read(&file).unwrap();
    let status = etcdctl(&endpoint, &["snapshot", "status", &file]);
    assert!(!status.is_success && status.err.contains("invalid database"), "{}", status.err);
    let restored = etcdctl(&endpoint, &["snapshot", "restore", &file, "--data-dir", &folder]);
    assert!(!restored.is_success, "{}{}", restored.out, restored.err);
    assert_eq!(fs::read(&file).unwrap(), before);
    cluster.finish();
}
