//! Every command that the real etcdctl 3.5.1 has is run against us: each once, all in one test, and in depth those
//! that no other file looks at: locks, elections, mirrors, watches that run a program, whole clusters from one
//! endpoint.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::ongoing::Ongoing;
use harness::{Cluster, Options, Said, etcdctl, etcdctl_child, etcdctl_with_input, eventually};
use std::collections::BTreeSet;
use std::fs;

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

/// Runs etcdctl against one server, and remembers which of its commands that were.
struct Runs {
    endpoint: String,
    listed: BTreeSet<String>,
    run: BTreeSet<String>,
}

impl Runs {
    fn said(&mut self, line: &str, input: &str) -> Said {
        let words = self.words(line);
        etcdctl_with_input(&self.endpoint, &words, input)
    }

    /// What it prints; it ends well.
    fn says(&mut self, line: &str) -> String {
        let said = self.said(line, "");
        assert!(said.is_success, "etcdctl {line}: {}{}", said.out, said.err);
        said.out
    }

    /// Its complaint.
    fn refused(&mut self, line: &str) -> String {
        let said = self.said(line, "");
        assert!(!said.is_success, "etcdctl {line}: {}{}", said.out, said.err);
        said.err
    }

    /// One that goes on.
    fn starts(&mut self, line: &str) -> Ongoing {
        let words = self.words(line);
        ongoing(&self.endpoint, &words)
    }

    /// Whoever runs a line has these words of it, and no other way to have a command remembered.
    fn words<'a>(&mut self, line: &'a str) -> Vec<&'a str> {
        let words: Vec<&str> = line.split(' ').collect();
        let is_begun = |command: &&String| {
            let command: Vec<&str> = command.split(' ').collect();
            words.starts_with(&command)
        };
        let command = self.listed.iter().find(is_begun);
        self.run.insert(command.expect("etcdctl lists the command").clone());
        words
    }
}

#[tokio::test]
async fn every_command_that_etcdctl_lists_is_run_against_a_server() {
    let mut options = Options::servers(1);
    options.more.push(("--bcrypt-cost".to_owned(), "4".to_owned()));
    let mut cluster = Cluster::new("etcdctl-every", &options);
    cluster.start_all().await;
    let endpoint = addresses(&mut cluster).remove(0);
    let listed: BTreeSet<String> = commands().into_iter().collect();
    let mut runs = Runs { endpoint, listed, run: BTreeSet::new() };
    run_about_keys(&mut runs).await;
    run_about_leases(&mut runs);
    run_about_members(&mut runs);
    run_about_files(&mut runs, &cluster);
    run_about_users(&mut runs);
    run_checks(&mut runs).await;
    assert!(runs.says("help").contains("COMMANDS:"));
    assert!(runs.says("version").contains("3.5.1"));
    let missing: Vec<&String> = runs.listed.difference(&runs.run).collect();
    assert!(missing.is_empty(), "nobody runs {missing:?}");
    cluster.finish();
}

async fn run_about_keys(runs: &mut Runs) {
    assert_eq!(runs.says("put a 1"), "OK\n");
    assert_eq!(runs.says("get a"), "a\n1\n");
    assert_eq!(runs.starts("watch a --rev 2").lines(3), ["PUT", "a", "1"]);
    assert_eq!(runs.said("txn", "\nput a 2\n\n\n").out, "SUCCESS\n\nOK\n");
    assert_eq!(runs.says("del a"), "1\n");
    assert_eq!(runs.says("compaction 3"), "compacted revision 3\n");
    assert_eq!(runs.says("lock l -- echo held"), "held\n");
    assert!(runs.starts("elect e proposal").line().starts_with("e/"));
    let mirror =
        runs.starts(&format!("make-mirror --prefix m/ --dest-prefix n/ {}", runs.endpoint));
    runs.says("put m/1 mirrored");
    eventually("the mirrored key", async || {
        (runs.says("get n/1") == "n/1\nmirrored\n").then_some(())
    })
    .await;
    drop(mirror);
}

fn run_about_leases(runs: &mut Runs) {
    let granted = runs.says("lease grant 100");
    let id = granted.split(' ').nth(1).unwrap();
    assert!(runs.says("lease list").contains(id));
    assert!(runs.says(&format!("lease timetolive {id}")).contains("TTL(100s)"));
    assert!(runs.says(&format!("lease keep-alive {id} --once")).contains("keepalived"));
    assert_eq!(runs.says(&format!("lease revoke {id}")), format!("lease {id} revoked\n"));
}

fn run_about_members(runs: &mut Runs) {
    assert_eq!(runs.says("member list").lines().count(), 1);
    let added = runs.says("member add another --learner --peer-urls=http://127.0.0.1:1");
    let id = added.split_whitespace().nth(1).unwrap();
    let updated = runs.says(&format!("member update {id} --peer-urls=http://127.0.0.1:2"));
    assert!(updated.contains("updated"), "{updated}");
    let refused = runs.refused(&format!("member promote {id}"));
    assert!(refused.contains("in sync with leader"), "{refused}");
    assert!(runs.says(&format!("member remove {id}")).contains("removed"));
    assert!(runs.refused("move-leader 1").contains("Error: "));
    assert!(runs.says("endpoint health").contains(" is healthy"));
    assert!(runs.says("endpoint status").contains("true"));
    assert!(runs.says("endpoint hashkv").contains(&runs.endpoint));
    assert_eq!(runs.says("alarm list"), "");
    assert_eq!(runs.says("alarm disarm"), "");
    assert!(runs.says("defrag").contains("Finished"));
}

fn run_about_files(runs: &mut Runs, cluster: &Cluster) {
    let path = |name: &str| cluster.path().join(name).to_str().unwrap().to_owned();
    let (file, folder) = (path("every.db"), path("every"));
    assert!(runs.says(&format!("snapshot save {file}")).contains("saved"));
    // They read files of bbolt's alone.
    assert!(runs.refused(&format!("snapshot status {file}")).contains("Error: "));
    let restored = runs.refused(&format!("snapshot restore {file} --data-dir {folder}"));
    assert!(restored.contains("failed to open database"), "{restored}");
}

fn run_about_users(runs: &mut Runs) {
    for (line, said) in [
        ("role add r", "Role r created"),
        ("role grant-permission r read k", "Role r updated"),
        ("role get r", "Role r"),
        ("role list", "r"),
        ("user add u:pw", "User u created"),
        ("user grant-role u r", "Role r is granted to user u"),
        ("user get u", "User: u"),
        ("user list", "u"),
        ("user revoke-role u r", "Role r is revoked from user u"),
        ("user delete u", "User u deleted"),
        ("role revoke-permission r k", "Permission of key k is revoked from role r"),
        ("role delete r", "Role r deleted"),
        ("auth status", "Authentication Status: false"),
        ("user add root:pw", "User root created"),
        ("auth enable", "Authentication Enabled"),
        ("auth disable --user root:pw", "Authentication Disabled"),
    ] {
        assert_eq!(runs.says(line).lines().next(), Some(said), "{line}");
    }
    let changed = runs.said("user passwd root --interactive=false", "other\n");
    assert_eq!(changed.out, "Password updated\n");
}

/// How fast the machine is does not matter here, so that they need not end: see `cargo xtask clients`.
async fn run_checks(runs: &mut Runs) {
    for (check, prefix) in
        [("perf", "/etcdctl-check-perf/"), ("datascale", "/etcdctl-check-datascale/")]
    {
        let check = runs.starts(&format!("check {check}"));
        eventually("the check to write", async || {
            // Its keys are no text.
            let found =
                runs.says(&format!("get {prefix} --prefix --limit 1 --keys-only -w fields"));
            found.contains(prefix).then_some(())
        })
        .await;
        drop(check);
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
    let list = members(&endpoints).await;
    let leader = cluster.leader(None).await;
    let next = (leader + 1) % 3;
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
    // A third of the time passes between two renewals: the machine may be busy for the rest.
    let granted = says(&endpoints[0], &["lease", "grant", "15"]);
    let id = granted.split(' ').nth(1).unwrap();
    let renewing = ongoing(&endpoints[1], &["lease", "keep-alive", id]);
    let renewed = format!("lease {id} keepalived with TTL(15)");
    assert_eq!(renewing.lines(2), [&renewed[..]; 2]);
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
