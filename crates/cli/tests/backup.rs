//! Backups that become clusters again: saved from a follower, restored into new folders with a new
//! cluster id, read with our client and the real etcdctl. Offline commands, then real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Server, etcdctl, eventually, run_as_etcdctl};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn says(endpoints: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoints, arguments);
    assert!(said.is_success, "etcdctl {arguments:?}: {}{}", said.out, said.err);
    said.out
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn flag(server: &Server, flag: &str) -> String {
    let at = server.flags.iter().position(|it| it == flag).unwrap();
    server.flags[at + 1].clone()
}

fn address(cluster: &mut Cluster, index: usize) -> String {
    cluster.server(index).client.address()
}

/// What one endpoint holds, in a file beside its cluster.
fn saved(cluster: &mut Cluster, index: usize) -> PathBuf {
    let (file, endpoint) = (cluster.path().join("backup.db"), address(cluster, index));
    let save = ["snapshot", "save", text(&file), "--endpoints", &endpoint];
    let (is_success, out, err) = quorate(&save);
    assert!(is_success, "{out}{err}");
    file
}

/// Restores with the flags that the server will be started with.
fn restore(server: &Server, file: &Path, more: &[&str]) -> (bool, String, String) {
    let names = ["--name", "--data-dir", "--initial-cluster", "--initial-cluster-token"];
    let flags = names.map(|name| [name.to_owned(), flag(server, name)]).concat();
    let mut all = vec!["snapshot", "restore", text(file)];
    all.extend(flags.iter().map(String::as_str));
    all.extend(more);
    quorate(&all)
}

fn restored(server: &Server, file: &Path, more: &[&str]) -> String {
    let (is_success, out, err) = restore(server, file, more);
    assert!(is_success, "{out}{err}");
    out
}

/// Servers of another cluster than any other test's, not started.
fn heirs(name: &str, count: usize) -> Cluster {
    let token = "after-the-fire".to_owned();
    Cluster::new(name, &Options { token, ..Options::servers(count) })
}

/// Every name in a folder and below, with what is in the files.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn three_new_members_go_on_from_what_a_follower_had() {
    let mut old = Cluster::started("backup-old", 3).await;
    for number in 0..30 {
        old.client(number % 3)
            .put(&format!("k{}", number % 10), format!("v{number}"))
            .await
            .unwrap();
    }
    old.client(0).delete("k3").await.unwrap();
    let all = address(&mut old, 0);
    let granted = says(&all, &["lease", "grant", "3600"]);
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    says(&all, &["put", "leased", "x", "--lease", &lease]);
    assert_eq!(old.assert_equal_replicas().await, 10);
    let follower = (old.leader(None).await + 1) % 3;
    let file = saved(&mut old, follower);
    let kept = old.client(follower).everything().await.unwrap();
    old.client(0).put("after the backup", "lost").await.unwrap();

    let mut new = heirs("backup-new", 3);
    for index in new.indexes() {
        let said = restored(new.server(index), &file, &[]);
        assert!(said.contains("revision 33, 10 keys"), "{said}");
    }
    let snapshots = new.indexes().map(|at| content(&new.server(at).data_dir.join("snapshots")));
    let snapshots: Vec<Vec<u8>> = snapshots.map(|mut found| found.remove(0).1).collect();
    assert!(snapshots.iter().all(|bytes| *bytes == snapshots[0]), "one beginning");

    // A majority is not enough to begin, and enough from then on.
    new.server(0).start();
    new.server(1).start();
    new.server(0).logged("founding waits for node").await;
    new.server(2).start();
    for index in new.indexes() {
        new.ready(index).await;
    }
    assert_eq!(new.assert_equal_replicas().await, 10);
    for client in new.clients() {
        assert_eq!(client.everything().await.unwrap().kvs, kept.kvs);
        let past = client.everything_at(12).await.unwrap();
        assert_eq!(past.kvs, old.client(0).everything_at(12).await.unwrap().kvs);
    }
    let ids = [&old, &new].map(|cluster| cluster.client(0).clone());
    let id = async |at: usize| ids[at].status().await.unwrap().header.unwrap().cluster_id;
    assert_ne!(id(0).await, id(1).await);
    let endpoint = address(&mut new, 1);
    assert_eq!(says(&endpoint, &["get", "k9", "--print-value-only"]), "v29\n");
    assert!(says(&endpoint, &["lease", "list"]).contains(&lease));
    let put = new.client(2).put("k3", "again").await.unwrap();
    assert_eq!(put.header.unwrap().revision, 34);

    new.server(0).kill();
    new.put_until_acknowledged(&[1, 2], "without", "n1").await;
    new.restart(0).await;
    assert_eq!(new.assert_equal_replicas().await, 12);
    old.finish();
    new.finish();
}

#[tokio::test]
async fn after_a_bump_old_watches_are_told_that_it_is_compacted_and_revisions_go_on_behind_it() {
    let mut old = Cluster::started("bump-old", 1).await;
    for number in 0..5 {
        old.client(0).put("k", format!("v{number}")).await.unwrap();
    }
    let file = saved(&mut old, 0);
    let mut new = heirs("bump-new", 1);
    let bump = ["--bump-revision", "1000000", "--mark-compacted"];
    let said = restored(new.server(0), &file, &bump);
    assert!(said.contains("revision 1000006"), "{said}");
    new.start_all().await;
    let endpoint = address(&mut new, 0);
    let refused = etcdctl(&endpoint, &["watch", "k", "--rev", "4"]);
    let compacted = "required revision has been compacted";
    assert!(refused.err.contains(compacted), "{}{}", refused.out, refused.err);
    assert!(etcdctl(&endpoint, &["get", "k", "--rev", "1000005"]).err.contains(compacted));
    assert_eq!(says(&endpoint, &["get", "k", "--print-value-only"]), "v4\n");
    let put = new.client(0).put("k", "later").await.unwrap();
    assert_eq!(put.header.unwrap().revision, 1_000_007);
    new.server(0).kill();
    new.restart(0).await;
    assert_eq!(says(&endpoint, &["get", "k", "--print-value-only"]), "later\n");
    assert!(etcdctl(&endpoint, &["get", "k", "--rev", "4"]).err.contains(compacted));
    old.finish();
    new.finish();
}

#[tokio::test]
async fn a_founder_that_was_not_restored_is_waited_for_and_says_why_it_does_not_vote() {
    let mut old = Cluster::started("unlike-old", 1).await;
    old.client(0).put("k", "v").await.unwrap();
    let file = saved(&mut old, 0);
    let mut new = heirs("unlike-new", 2);
    restored(new.server(0), &file, &[]);
    new.server(0).start();
    new.server(1).start();
    new.server(0).logged("founding waits until node").await;
    new.server(1).logged("this folder").await;
    for index in new.indexes() {
        new.server(index).kill();
    }
    let emptied = new.server(1).data_dir.clone();
    let refused = restore(new.server(1), &file, &[]);
    assert!(!refused.0 && refused.2.contains("exists and is not empty"), "{}", refused.2);
    fs::remove_dir_all(emptied).unwrap();
    restored(new.server(1), &file, &[]);
    new.start_all().await;
    assert_eq!(new.assert_equal_replicas().await, 1);
    old.finish();
    new.finish();
}

#[tokio::test]
async fn nothing_is_made_of_a_damaged_file_and_a_killed_restore_is_in_nobodys_way() {
    let mut old = Cluster::started("damaged-backup", 1).await;
    for number in 0..20 {
        old.client(0).put(&format!("k{number}"), "v".repeat(10_000)).await.unwrap();
    }
    let file = saved(&mut old, 0);
    let mut new = heirs("of-damaged-backup", 1);
    let target = new.server(0).data_dir.clone();
    let damaged = new.path().join("damaged.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let (is_success, _, err) = restore(new.server(0), &damaged, &[]);
    assert!(!is_success && err.contains("it ends with the SHA-256"), "{err}");
    // The store looks too.
    let (is_success, _, err) = restore(new.server(0), &damaged, &["--skip-hash-check"]);
    assert!(!is_success && err.contains("checksum"), "{err}");
    assert!(!target.exists());

    // As a kill leaves it: begun, marked, half of it there.
    let half = target.with_added_extension("restoring");
    fs::create_dir_all(half.join("snapshots")).unwrap();
    fs::write(half.join("unfinished-restore"), "").unwrap();
    fs::write(half.join("snapshots/writing-1.tmp"), "half").unwrap();
    let bare = bytes.len() - 32;
    bytes[100_000] ^= 1;
    fs::write(&damaged, &bytes[..bare]).unwrap();
    restored(new.server(0), &damaged, &["--skip-hash-check"]);
    assert!(!half.exists());
    let names = fs::read_dir(&target).unwrap().map(|name| name.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["owner", "snapshots", "state", "wal"]);
    new.start_all().await;
    let count = eventually("the keys", async || Some(new.client(0).everything().await.ok()?.count));
    assert_eq!(count.await, 20);
    old.finish();
    new.finish();
}

#[tokio::test]
async fn under_the_name_etcdctl_a_backup_takes_the_place_of_another_once_it_is_whole() {
    let mut cluster = Cluster::started("backup-over", 1).await;
    let endpoint = address(&mut cluster, 0);
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    let said = |endpoint: &str, words: &[&str]| run_as_etcdctl(&program, endpoint, words, "");
    let file = cluster.path().join("backup.db");
    fs::write(&file, "the old one").unwrap();
    let save = ["snapshot", "save", text(&file)];

    // Ours asks before it takes something away.
    let (is_success, _, err) = quorate(&[&save[..], &["--endpoints", &endpoint]].concat());
    assert!(!is_success && err.contains("exists already"), "{err}");
    let nobody = said("127.0.0.1:1", &[&save[..], &["--dial-timeout", "1s"]].concat());
    assert_eq!(nobody.code, Some(5), "{}", nobody.err);
    assert_eq!(fs::read(&file).unwrap(), b"the old one");
    assert!(!file.with_added_extension("part").exists());

    let saved = said(&endpoint, &save);
    assert_eq!((saved.code, saved.err.as_str()), (Some(0), ""));
    assert_eq!(saved.out, format!("Snapshot saved at {}\n", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let status = said(&endpoint, &["snapshot", "status", text(&file)]);
    assert_eq!((status.code, status.err.as_str()), (Some(0), ""));

    // The same with etcd's own.
    let folder = cluster.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let inside = folder.join("none/backup.db");
    for target in [&folder, &inside] {
        let words = ["snapshot", "save", text(target)];
        let (theirs, ours) = (etcdctl(&endpoint, &words), said(&endpoint, &words));
        assert_eq!((theirs.code, ours.code), (Some(5), Some(5)), "{} {}", theirs.err, ours.err);
    }
    cluster.finish();
}
