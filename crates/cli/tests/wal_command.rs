//! `quorate wal inspect` and `verify` on the logs of real servers: whole, damaged, in use; not a byte is
//! changed by looking.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, etcdctl};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The files of a log, with their bytes and when they were written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let paths = fs::read_dir(dir.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| {
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(path).unwrap(), written))
    };
    paths.map(file).collect()
}

fn lines(dir: &str) -> Vec<Value> {
    let (is_success, out, err) = quorate(&["wal", "inspect", dir, "--json"]);
    assert!(is_success, "{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn killed_server_with_three_keys(name: &str) -> Cluster {
    let mut cluster = Cluster::started(name, 1).await;
    for key in ["a", "b", "c"] {
        cluster.client(0).put(key, "secret").await.unwrap();
    }
    let endpoint = cluster.server(0).client.address();
    assert!(etcdctl(&endpoint, &["del", "b"]).is_success);
    cluster
}

#[tokio::test]
async fn a_log_is_shown_in_words_and_as_json_and_is_the_same_afterwards() {
    let mut cluster = killed_server_with_three_keys("wal-whole").await;
    let folder = cluster.server(0).data_dir.clone();
    let dir = folder.to_str().unwrap().to_owned();
    let pid = cluster.server(0).pid().unwrap();
    let (_, _, err) = quorate(&["wal", "inspect", &dir]);
    assert!(err.contains(&format!("process {pid} has this folder")), "{err}");
    cluster.server(0).kill();
    let before = files(&folder);
    let (is_success, out, err) = quorate(&["wal", "verify", &dir]);
    assert!(is_success && out.contains("whole. A start takes this log as it is"), "{out}{err}");
    assert!(!err.contains("has this folder"), "{err}");

    let (is_success, out, err) = quorate(&["wal", "inspect", "--data-dir", &dir]);
    assert!(is_success, "{err}");
    for words in
        ["meta-a: generation", "mark: durable up to", "put a = 6 bytes", "del b", "segment 1"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(out.lines().last().unwrap().starts_with("verdict: whole"), "{out}");
    assert!(!out.contains("secret"), "{out}");

    let all = lines(&dir);
    let of_type = |kind: &str| all.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of_type("meta"), of_type("mark"), of_type("verdict")), (2, 1, 1));
    let puts = all.iter().filter(|line| line["words"].to_string().contains("put "));
    let puts: Vec<u64> = puts.map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(puts.len(), 3);
    let from = puts[1].to_string();
    let wal = folder.join("wal").to_str().unwrap().to_owned();
    let (_, out, _) = quorate(&["wal", "inspect", &wal, "--from", &from, "--limit", "1"]);
    assert!(out.contains("put b") && !out.contains("put a") && !out.contains("put c"), "{out}");
    assert!(before == files(&folder), "looking changes nothing");
    cluster.restart(0).await;
    cluster.finish();
}

#[tokio::test]
async fn a_damaged_log_is_called_what_a_start_calls_it() {
    let mut cluster = killed_server_with_three_keys("wal-damaged").await;
    cluster.server(0).kill();
    let folder = cluster.server(0).data_dir.clone();
    let dir = folder.to_str().unwrap().to_owned();
    let put = lines(&dir).into_iter().find(|line| line["words"] == "put b = 6 bytes").unwrap();
    let position = usize::try_from(put["position"].as_u64().unwrap()).unwrap();
    let segment =
        folder.join("wal").join(format!("log-{:020}.wal", put["segment"].as_u64().unwrap()));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[position + 45] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let before = files(&folder);
    let (is_success, _, err) = quorate(&["wal", "verify", &dir]);
    assert!(!is_success && err.contains("wounded. A start refuses"), "{err}");
    assert!(
        err.contains("remove the member") || err.contains("remove it from the cluster"),
        "{err}"
    );
    let (is_success, out, _) = quorate(&["wal", "inspect", &dir]);
    assert!(is_success && out.contains("it stops at: invalid"), "{out}");
    assert!(out.lines().last().unwrap().starts_with("verdict: wounded"), "{out}");
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains("is damaged at byte"), "{said}");
    let logs = |files: BTreeMap<PathBuf, (Vec<u8>, SystemTime)>| -> Vec<_> {
        let logs = files.into_iter().filter(|(path, _)| !path.ends_with("LOCK"));
        logs.map(|(path, (bytes, _))| (path, bytes)).collect()
    };
    assert!(logs(before) == logs(files(&folder)), "neither looking nor refusing changes it");
    let (is_success, _, err) = quorate(&["wal", "verify", "/nowhere"]);
    assert!(!is_success && err.contains("is no folder"), "{err}");
    cluster.finish();
}
