//! `--force-new-cluster` on what real servers left: one of three whose quorum is lost for good goes on
//! alone, once, and others join it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Server, etcdctl, eventually};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLAG: &str = "--force-new-cluster";

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn options() -> Options {
    Options { heartbeat_ms: 50, election_timeout_ms: 500, ..Options::servers(3) }
}

fn with_the_flag(server: &mut Server) {
    server.flags.push(FLAG.to_owned());
}

fn without_the_flag(server: &mut Server) {
    server.flags.retain(|flag| flag != FLAG);
}

/// Where the old folder's content is kept, below this folder.
fn kept(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("before-"))
        .collect()
}

/// Keys that were acknowledged by three, of which two are gone: one with its folder, one with a copy of
/// it. Returns who is left, and whose copy there is.
async fn bereft(cluster: &mut Cluster) -> (usize, usize) {
    cluster.start_all().await;
    for number in 0..40 {
        let (key, value) = (format!("k{}", number % 20), format!("v{number}"));
        cluster.client(number % 3).put(&key, value).await.unwrap();
    }
    cluster.assert_equal_replicas().await;
    let survivor = (cluster.leader(None).await + 1) % 3;
    let [lost, copied] = [(survivor + 1) % 3, (survivor + 2) % 3];
    for index in cluster.indexes() {
        cluster.server(index).kill();
    }
    let gone = cluster.server(lost).data_dir.clone();
    fs::remove_dir_all(gone).unwrap();
    let folder = cluster.server(copied).data_dir.clone();
    fs::rename(&folder, folder.with_added_extension("copy")).unwrap();
    (survivor, copied)
}

async fn assert_has_all(cluster: &Cluster, index: usize) {
    let found = cluster.client(index).everything().await.unwrap();
    let own = |number: usize| found.kvs.iter().find(|kv| kv.key == format!("k{number}")).unwrap();
    for number in 0..20 {
        assert_eq!(own(number).value, format!("v{}", number + 20));
    }
}

fn members(cluster: &mut Cluster, index: usize) -> String {
    let endpoint = cluster.server(index).client.address();
    let said = etcdctl(&endpoint, &["member", "list"]);
    assert!(said.is_success, "{}", said.err);
    said.out
}

#[tokio::test]
async fn a_member_whose_quorum_is_lost_for_good_goes_on_alone_and_once() {
    let mut cluster = Cluster::new("force-new-cluster", &options());
    let (survivor, copied) = bereft(&mut cluster).await;
    let dir = cluster.server(survivor).data_dir.clone();

    // With its log behind a link it is not forced, and nothing happens to it.
    with_the_flag(cluster.server(survivor));
    let (log, elsewhere) = (dir.join("wal"), dir.with_added_extension("wal"));
    fs::rename(&log, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
    let said = cluster.server(survivor).start_in_vain().await;
    assert!(said.contains("wal is a link") && said.contains("nothing was changed"), "{said}");
    fs::remove_file(&log).unwrap();
    fs::rename(&elsewhere, &log).unwrap();

    // It serves alone, with all that was acknowledged.
    cluster.restart(survivor).await;
    assert_has_all(&cluster, survivor).await;
    assert_eq!(members(&mut cluster, survivor).lines().count(), 1);
    let said = cluster.server(survivor).log_of_last_life();
    for part in ["goes on alone as member", "buried", "kept in", "NOW TAKE THE FLAG OUT"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let all_kept = kept(&dir);
    let [kept] = all_kept.as_slice() else { panic!("expected one kept folder: {all_kept:?}") };
    assert!(said.contains(kept.to_str().unwrap()), "{said}");
    let (_, out, _) = quorate(&["recover", "--data-dir", kept.to_str().unwrap()]);
    assert!(out.contains("whole. A start takes"), "what is kept can be gone on from: {out}");

    // The flag was left in.
    cluster.client(survivor).put("after", "1").await.unwrap();
    cluster.server(survivor).kill();
    cluster.restart(survivor).await;
    let said = cluster.server(survivor).log_of_last_life();
    assert!(said.contains("was given to the last start already"), "{said}");
    assert_eq!(self::kept(&dir).len(), 1);

    // Then it was taken out; the other flags are those of a founder of three.
    without_the_flag(cluster.server(survivor));
    cluster.server(survivor).kill();
    cluster.restart(survivor).await;
    assert!(cluster.client(survivor).get("after").await.unwrap().is_some());

    // Others join.
    let endpoint = cluster.server(survivor).client.address();
    let mut all = vec![survivor];
    for _ in 0..2 {
        let new = cluster.newcomer(&all, &options());
        let (name, url) = (cluster.server(new).name.clone(), cluster.server(new).peer.url());
        let add = ["member", "add", &name, "--peer-urls", &url, "--endpoints", &endpoint];
        eventually("the next one to be added", async || quorate(&add).0.then_some(())).await;
        cluster.server(new).start();
        cluster.ready(new).await;
        assert_has_all(&cluster, new).await;
        all.push(new);
    }

    // The copy of an old one comes back, and is turned away.
    let folder = cluster.server(copied).data_dir.clone();
    fs::rename(folder.with_added_extension("copy"), &folder).unwrap();
    cluster.server(copied).start();
    cluster.server(copied).logged("begun with what was left of the caller's").await;
    assert!(cluster.client(copied).put("k0", "split").await.is_err());
    cluster.server(copied).kill();

    // A majority of the new ones goes on without it.
    cluster.server(survivor).kill();
    cluster.put_until_acknowledged(&all[1..], "k0", "without it").await;
    cluster.finish();
}

#[tokio::test]
async fn a_log_elsewhere_is_forced_where_it_is_and_the_old_one_is_kept_beside_it() {
    let mut cluster = Cluster::new("force-elsewhere", &options());
    for index in cluster.indexes() {
        let log = cluster.path().join(format!("log-{index}"));
        let words = ["--wal-dir".to_owned(), log.to_str().unwrap().to_owned()];
        cluster.server(index).flags.extend(words);
    }
    let (survivor, _) = bereft(&mut cluster).await;
    let dir = cluster.server(survivor).data_dir.clone();
    let log = cluster.path().join(format!("log-{survivor}"));
    with_the_flag(cluster.server(survivor));
    cluster.restart(survivor).await;
    assert_has_all(&cluster, survivor).await;
    without_the_flag(cluster.server(survivor));
    cluster.server(survivor).kill();
    cluster.restart(survivor).await;
    assert_has_all(&cluster, survivor).await;
    assert!(log.join("meta-a").exists() && !dir.join("wal").exists());
    let (of_data, of_log) = (kept(&dir), kept(&log));
    assert_eq!((of_data.len(), of_log.len()), (1, 1), "{of_data:?} {of_log:?}");
    let (_, out, err) = quorate(&["recover", "--data-dir", of_data[0].to_str().unwrap()]);
    assert!(out.contains("whole. A start takes"), "{out}{err}");
    cluster.finish();
}

#[tokio::test]
async fn a_member_that_needs_no_force_or_has_no_data_is_not_forced() {
    let mut cluster = Cluster::new("force-needless", &Options::servers(1));
    let dir = cluster.server(0).data_dir.clone();
    with_the_flag(cluster.server(0));
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains("nothing to go on with") && !dir.exists(), "{said}");
    without_the_flag(cluster.server(0));
    cluster.restart(0).await;
    cluster.client(0).put("k", "v").await.unwrap();
    cluster.server(0).kill();
    with_the_flag(cluster.server(0));
    cluster.restart(0).await;
    let said = cluster.server(0).log_of_last_life();
    assert!(said.contains("is a quorum by itself") && kept(&dir).is_empty(), "{said}");
    let put = cluster.client(0).put("k", "w").await.unwrap();
    assert_eq!(put.header.unwrap().revision, 3);
    cluster.finish();
}
