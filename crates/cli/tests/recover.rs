//! `quorate recover` on what real servers left: a quorum that is lost for good, old members that come
//! back, a damaged log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Server, etcdctl, eventually};
use quorate_etcd_api::etcdserverpb::RangeResponse;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn says(endpoint: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoint, arguments);
    assert!(said.is_success, "etcdctl {arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every file in a folder and below, with what is in it.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// What a recovery would do, which must not be done yet.
fn planned(arguments: &[&str]) -> Value {
    let (is_success, out, err) = quorate(&[&["recover", "-w", "json"], arguments].concat());
    assert!(!is_success && err.contains("nothing was changed. To have it done, type"), "{err}");
    serde_json::from_str(&out).unwrap()
}

/// Types the command that the plan ends with. Returns what it prints.
fn carry_out(plan: &Value) -> String {
    let command = plan["plan"]["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let (is_success, out, err) = quorate(&words);
    assert!(is_success, "{out}{err}");
    out
}

/// Whether the log in this folder, which may be in use, holds a put of this key.
fn has_put(dir: &Path, key: &str) -> bool {
    let (_, out, _) = quorate(&["wal", "inspect", text(dir)]);
    out.contains(&format!("put {key} ="))
}

fn begins_with(server: &mut Server, plan: &Value, dir: &Path) {
    dir.clone_into(&mut server.data_dir);
    server.set_flag("--data-dir", text(dir));
    server.set_flag("--initial-cluster", plan["plan"]["initial_cluster"].as_str().unwrap());
    let token = plan["plan"]["initial_cluster_token"].as_str().unwrap();
    server.set_flag("--initial-cluster-token", token);
}

/// What is left of a cluster of three: one of them, and a copy of another one's folder.
struct Remains {
    cluster: Cluster,
    options: Options,
    survivor: usize,
    /// Of this one there is a copy.
    copied: usize,
    /// What the survivor held when the others could still agree to it.
    kept: RangeResponse,
    lease: String,
}

/// Three servers under load. The last write is in the leader's log alone: nobody is told that it is
/// there, and nobody that it is not. Then two are lost.
async fn remains() -> Remains {
    loop {
        if let Some(remains) = try_remains().await {
            return remains;
        }
    }
}

/// The same; `None` if the leader lost its office before it was asked to write, as it does soon
/// when nobody answers it.
async fn try_remains() -> Option<Remains> {
    let options = Options { heartbeat_ms: 50, election_timeout_ms: 500, ..Options::servers(3) };
    let mut cluster = Cluster::new("recover", &options);
    cluster.start_all().await;
    for number in 0..60 {
        let key = format!("k{}", number % 20);
        cluster.client(number % 3).put(&key, format!("v{number}")).await.unwrap();
    }
    let survivor = cluster.leader(None).await;
    let [lost, copied] = [(survivor + 1) % 3, (survivor + 2) % 3];
    let endpoint = cluster.server(survivor).client.address();
    let granted = says(&endpoint, &["lease", "grant", "3600"]);
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    says(&endpoint, &["put", "leased", "x", "--lease", &lease]);
    let kept = cluster.client(survivor).everything().await.unwrap();
    let dir = cluster.server(survivor).data_dir.clone();
    for index in [lost, copied] {
        cluster.server(index).pause();
    }
    let impatient = cluster.client(survivor).with_timeout(Duration::from_millis(200));
    let is_written = eventually("the write to be in the leader's log, or no leader", async || {
        assert!(impatient.put("lonely", "?").await.is_err(), "nobody else can have it");
        // In this order: what it wrote it wrote as the leader.
        let status = cluster.client(survivor).status().await.ok()?;
        let leads = status.leader == status.header?.member_id;
        if has_put(&dir, "lonely") { Some(true) } else { (!leads).then_some(false) }
    });
    if !is_written.await {
        return None;
    }
    let (is_success, _, err) = quorate(&["recover", "--data-dir", text(&dir)]);
    assert!(!is_success && err.contains("is in use by process"), "{err}");
    for index in [survivor, lost, copied] {
        cluster.server(index).kill();
    }
    let gone = cluster.server(lost).data_dir.clone();
    fs::remove_dir_all(gone).unwrap();
    let folder = cluster.server(copied).data_dir.clone();
    fs::rename(&folder, folder.with_added_extension("copy")).unwrap();
    Some(Remains { cluster, options, survivor, copied, kept, lease })
}

/// Looks, is refused without the right word, and does it. Returns what was planned, and the new folder.
fn recovered(dir: &Path) -> (Value, PathBuf) {
    let before = content(dir);
    let output = dir.with_added_extension("new");
    let all = planned(&["--data-dir", text(dir), "--output", text(&output)]);
    let plan = &all["plan"];
    assert_eq!(plan["may_miss_acknowledged"], true);
    assert_eq!(plan["may_have_decided_alone"].as_array().unwrap().len(), 2);
    assert!(plan["may_have_been_acknowledged"]["last"].as_u64() >= Some(62), "{plan}");
    assert_eq!(plan["buried"].as_array().unwrap().len(), 3);
    let (is_success, out, _) = quorate(&["recover", "--data-dir", text(dir)]);
    assert!(!is_success && out.contains("may be missing"), "{out}");
    let wrong = ["recover", "--data-dir", text(dir), "--confirm", "c0ffee"];
    let (is_success, _, err) = quorate(&wrong);
    assert!(!is_success && err.contains("read the plan again"), "{err}");
    assert!(!output.exists());
    let said = carry_out(&all);
    assert!(said.contains("Start it, and nothing of the old cluster any more"), "{said}");
    assert!(before == content(dir), "the old folder stays as it is");
    let report = fs::read(output.with_added_extension("recovery.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["plan"]["new_cluster_id"], plan["new_cluster_id"]);
    assert_eq!(report["made"]["keys"], 22);
    let report = fs::read_to_string(output.with_added_extension("recovery.txt")).unwrap();
    assert!(report.contains("buried") && report.contains("Made at"), "{report}");
    (all, output)
}

/// Two more, with empty folders. Returns all members.
async fn joined(cluster: &mut Cluster, survivor: usize, options: &Options) -> Vec<usize> {
    let endpoint = cluster.server(survivor).client.address();
    let mut members = vec![survivor];
    for _ in 0..2 {
        let new = cluster.newcomer(&members, options);
        let (name, url) = (cluster.server(new).name.clone(), cluster.server(new).peer.url());
        let add = ["member", "add", &name, "--peer-urls", &url, "--endpoints", &endpoint];
        // The one before it is taken for one that runs once it has told its name.
        eventually("the next one to be added", async || quorate(&add).0.then_some(())).await;
        cluster.server(new).start();
        cluster.ready(new).await;
        members.push(new);
    }
    members
}

#[tokio::test]
async fn what_the_last_of_three_has_is_served_again_and_who_comes_back_is_told_why_it_is_not_let_in()
 {
    let Remains { mut cluster, options, survivor, copied, kept, lease } = remains().await;
    let dir = cluster.server(survivor).data_dir.clone();
    let (all, output) = recovered(&dir);

    // The new cluster has everything, and revisions that nobody has seen.
    begins_with(cluster.server(survivor), &all, &output);
    cluster.restart(survivor).await;
    let now = cluster.client(survivor).everything().await.unwrap();
    assert!(now.header.unwrap().revision > 1_000_000_000);
    let without: Vec<_> = now.kvs.iter().filter(|kv| kv.key != "lonely").cloned().collect();
    assert_eq!(without, kept.kvs);
    assert_eq!(now.kvs.len(), kept.kvs.len() + 1, "what may have been acknowledged is kept");
    let endpoint = cluster.server(survivor).client.address();
    assert!(says(&endpoint, &["lease", "list"]).contains(&lease));
    let compacted = etcdctl(&endpoint, &["get", "k1", "--rev", "20"]);
    assert!(compacted.err.contains("has been compacted"), "{}", compacted.err);
    let members = joined(&mut cluster, survivor, &options).await;

    // The copy of an old one comes back: to its old address, with its old flags.
    let folder = cluster.server(copied).data_dir.clone();
    fs::rename(folder.with_added_extension("copy"), &folder).unwrap();
    cluster.server(copied).start();
    cluster.server(copied).logged("begun with what was left of the caller's").await;
    assert!(cluster.client(copied).put("k", "split").await.is_err());
    cluster.put_until_acknowledged(&members, "k", "one cluster").await;
    cluster.server(copied).kill();
    // It is no folder for the new cluster either.
    let plan = &all["plan"];
    let server = cluster.server(copied);
    let own = format!("{}={}", server.name, server.peer.url());
    let founders = plan["initial_cluster"].as_str().unwrap();
    server.set_flag("--initial-cluster", &format!("{founders},{own}"));
    server.set_flag("--initial-cluster-token", plan["initial_cluster_token"].as_str().unwrap());
    let refused = server.start_in_vain().await;
    assert!(refused.contains("is the data folder of another node"), "{refused}");

    // A majority of the new members goes on without the survivor.
    cluster.server(survivor).kill();
    cluster.put_until_acknowledged(&members[1..], "k", "without it").await;
    cluster.finish();
}

#[tokio::test]
async fn a_damaged_log_is_used_up_to_the_damage_if_that_is_accepted_and_three_go_on_from_it() {
    let mut old = Cluster::started("recover-damaged", 1).await;
    for key in ["a", "b", "c"] {
        old.client(0).put(key, "v").await.unwrap();
    }
    old.server(0).kill();
    let dir = old.server(0).data_dir.clone();
    let (_, out, _) = quorate(&["wal", "inspect", text(&dir), "--json"]);
    let mut lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let put = lines.find(|line| line["words"].to_string().contains("put b")).unwrap();
    let number = |name: &str| put[name].as_u64().unwrap();
    let segment = dir.join("wal").join(format!("log-{:020}.wal", number("segment")));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[usize::try_from(number("position")).unwrap() + 45] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    fs::remove_file(dir.join("state")).unwrap();

    let (is_success, out, err) = quorate(&["recover", "--data-dir", text(&dir)]);
    let accept = format!("--accept-loss-after {}", number("index") - 1);
    assert!(!is_success && out.contains("wounded. A start refuses"), "{out}");
    assert!(err.contains(&accept) && err.contains("nothing was changed"), "{err}");
    let mut new = Cluster::new("recover-three", &Options::servers(3));
    let servers = new.indexes().map(|at| {
        let server = new.server(at);
        format!("{}={}", server.name, server.peer.url())
    });
    let members = servers.collect::<Vec<_>>().join(",");
    let output = new.path().join("recovered");
    let (flag, index) = accept.split_once(' ').unwrap();
    let words = ["--data-dir", text(&dir), flag, index, "--initial-cluster", &members];
    let all = planned(&[&words[..], &["--output", text(&output), "--bump-revision", "0"]].concat());
    assert_eq!(all["folders"][0]["worth"]["kind"], "damaged, accepted");
    carry_out(&all);
    for at in new.indexes() {
        let dir = output.join(&new.server(at).name);
        begins_with(new.server(at), &all, &dir);
    }
    new.start_all().await;
    assert_eq!(new.assert_equal_replicas().await, 1);
    assert!(new.client(1).get("a").await.unwrap().is_some());
    let put = new.client(2).put("b", "again").await.unwrap();
    assert_eq!(put.header.unwrap().revision, 3, "revisions go on");
    old.finish();
    new.finish();
}
