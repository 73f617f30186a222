//! `--wal-dir`: the log in a folder of its own, through kills, moves and mistakes, and with the tools that
//! look at folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn quorate(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Replaces the flag, adds it, or takes it out.
fn set_wal_dir(cluster: &mut Cluster, dir: Option<&Path>) {
    let flags = &mut cluster.server(0).flags;
    if let Some(at) = flags.iter().position(|flag| flag == "--wal-dir") {
        flags.drain(at..at + 2);
    }
    if let Some(dir) = dir {
        flags.extend(["--wal-dir".to_owned(), text(dir).to_owned()]);
    }
}

/// One server with its log elsewhere, which has a key.
async fn with_a_log_elsewhere(name: &str) -> (Cluster, PathBuf, PathBuf) {
    let mut cluster = Cluster::new(name, &Options::servers(1));
    let log = cluster.path().join("elsewhere/log");
    set_wal_dir(&mut cluster, Some(&log));
    cluster.start_all().await;
    cluster.client(0).put("k", "v").await.unwrap();
    let data = cluster.server(0).data_dir.clone();
    (cluster, data, log)
}

async fn value(cluster: &Cluster) -> String {
    let found = cluster.client(0).get("k").await.unwrap().expect("what was acknowledged is there");
    String::from_utf8(found.value.to_vec()).unwrap()
}

#[tokio::test]
async fn a_log_in_a_folder_of_its_own_survives_a_kill_and_is_never_begun_anew() {
    let (mut cluster, data, log) = with_a_log_elsewhere("wal-dir").await;
    assert!(names(&log).contains(&"meta-a".to_owned()), "{:?}", names(&log));
    assert!(!data.join("wal").exists());
    cluster.server(0).kill();
    cluster.restart(0).await;
    assert_eq!(value(&cluster).await, "v");
    cluster.server(0).kill();

    let before = (names(&data), names(&log));
    let was_there = format!("was in {}", log.display());
    set_wal_dir(&mut cluster, None);
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains(&was_there) && said.contains("--wal-dir"), "{said}");
    let empty = cluster.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for other in [empty, cluster.path().join("none")] {
        set_wal_dir(&mut cluster, Some(&other));
        let said = cluster.server(0).start_in_vain().await;
        assert!(said.contains(&was_there), "{said}");
        assert!(!other.exists() || names(&other).is_empty());
    }
    assert_eq!((names(&data), names(&log)), before, "refused starts change nothing");

    set_wal_dir(&mut cluster, Some(&log));
    cluster.restart(0).await;
    assert_eq!(value(&cluster).await, "v");
    cluster.finish();
}

#[tokio::test]
async fn the_log_of_another_member_is_refused_with_whose_it_is() {
    let (mut one, _, log) = with_a_log_elsewhere("wal-dir-one").await;
    let (mut other, data, others) = with_a_log_elsewhere("wal-dir-other").await;
    one.server(0).kill();
    other.server(0).kill();
    set_wal_dir(&mut other, Some(&log));
    let said = other.server(0).start_in_vain().await;
    assert!(said.contains("expected the log") && said.contains(text(&others)), "{said}");
    // Nor is it begun with by a data folder that knows of no log yet.
    fs::remove_dir_all(&data).unwrap();
    let said = other.server(0).start_in_vain().await;
    assert!(said.contains("belongs to cluster"), "{said}");
    one.restart(0).await;
    assert_eq!(value(&one).await, "v");
    one.finish();
    other.finish();
}

#[tokio::test]
async fn a_log_is_moved_out_of_the_data_folder_with_what_the_refusal_says() {
    let mut cluster = Cluster::started("wal-dir-moved", 1).await;
    cluster.client(0).put("k", "v").await.unwrap();
    cluster.server(0).kill();
    let log = cluster.path().join("its own");
    set_wal_dir(&mut cluster, Some(&log));
    let said = cluster.server(0).start_in_vain().await;
    let command = said.lines().find(|line| line.contains("mkdir -p")).expect(&said);
    let moved = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(moved.success(), "{command}");
    cluster.restart(0).await;
    assert_eq!(value(&cluster).await, "v");
    cluster.server(0).kill();
    assert!(!cluster.server(0).data_dir.join("wal").exists());
    cluster.finish();
}

#[tokio::test]
async fn the_tools_that_look_at_folders_find_the_log_where_it_is() {
    let (mut cluster, data, log) = with_a_log_elsewhere("wal-dir-tools").await;
    cluster.server(0).kill();
    let (is_success, out, err) = quorate(&["wal", "inspect", text(&data)]);
    assert!(is_success && out.contains("put k ="), "{out}{err}");
    assert!(quorate(&["wal", "verify", "--data-dir", text(&data)]).0);
    let (_, out, err) = quorate(&["recover", "--data-dir", text(&data)]);
    assert!(
        out.contains("whole. A start takes") && err.contains("To have it done, type"),
        "{out}{err}"
    );

    // It was moved, and nobody has told the folder.
    let moved = log.with_file_name("moved");
    fs::rename(&log, &moved).unwrap();
    let (_, _, err) = quorate(&["recover", "--data-dir", text(&data)]);
    assert!(err.contains("was in") && err.contains("there is none"), "{err}");
    let (_, _, err) = quorate(&["wal", "verify", text(&data)]);
    assert!(err.contains("is no folder"), "{err}");
    let recover = ["recover", "--data-dir", text(&data), "--wal-dir", text(&moved)];
    let (_, _, err) = quorate(&recover);
    assert!(err.contains(&format!("--wal-dir {}", moved.display())), "{err}");
    let (_, _, err) = quorate(&[&recover[..], &["--wal-dir", text(&data)]].concat());
    assert!(err.contains("is of none of these data folders"), "{err}");
    cluster.finish();
}

#[tokio::test]
async fn a_backup_is_restored_with_its_log_in_a_folder_of_its_own() {
    let (mut cluster, data, log) = with_a_log_elsewhere("wal-dir-restored").await;
    let backup = cluster.path().join("backup.db");
    let endpoint = cluster.server(0).client.address();
    let (is_success, _, err) =
        quorate(&["snapshot", "save", text(&backup), "--endpoints", &endpoint]);
    assert!(is_success, "{err}");
    cluster.server(0).kill();
    let flag = |cluster: &mut Cluster, name: &str| {
        let flags = &cluster.server(0).flags;
        flags[flags.iter().position(|flag| flag == name).unwrap() + 1].clone()
    };
    let members = flag(&mut cluster, "--initial-cluster");
    let token = flag(&mut cluster, "--initial-cluster-token");
    let (new_data, new_log) = (cluster.path().join("new"), cluster.path().join("new-log"));
    let mut words = vec!["snapshot", "restore", text(&backup), "--name", "n1"];
    words.extend(["--initial-cluster", &members, "--initial-cluster-token", &token]);
    let occupied = [&words[..], &["--data-dir", text(&new_data), "--wal-dir", text(&log)]].concat();
    let (is_success, _, err) = quorate(&occupied);
    assert!(!is_success && err.contains("is not empty") && !new_data.exists(), "{err}");
    words.extend(["--data-dir", text(&new_data), "--wal-dir", text(&new_log)]);
    let (is_success, out, err) = quorate(&words);
    assert!(is_success, "{out}{err}");
    assert!(new_log.join("meta-a").exists() && !new_data.join("wal").exists());

    let server = cluster.server(0);
    server.set_flag("--data-dir", text(&new_data));
    server.data_dir.clone_from(&new_data);
    set_wal_dir(&mut cluster, None);
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains(&format!("--wal-dir {}", new_log.display())), "{said}");
    set_wal_dir(&mut cluster, Some(&new_log));
    cluster.restart(0).await;
    assert_eq!(value(&cluster).await, "v");
    assert!(data.exists());
    cluster.finish();
}
