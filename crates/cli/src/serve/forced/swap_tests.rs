//! Folders that change places, cut short at each of their steps. Must not know what is in them.

use super::*;
use quorate::wal::{Identity, WalOptions};
use std::collections::BTreeMap;

/// All files below a folder, and what is in them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in names(dir).unwrap_or_default() {
        let path = dir.join(&name);
        if path.is_dir() {
            let below = content(&path).into_iter();
            all.extend(below.map(|(path, bytes)| (Path::new(&name).join(path), bytes)));
        } else {
            all.insert(name.into(), fs::read(&path).unwrap());
        }
    }
    all
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

const OLD: &[(&str, &str)] = &[
    ("owner", "cluster 00000000000000c1, member 0000000000000001, name n1\n"),
    ("state", "old state"),
    ("state.suspect", "old"),
    ("snapshots/one", "old snapshot"),
    ("reserve", "room"),
    ("fixtures/client/cert.pem", "certificate"),
];
const OLD_LOG: &[(&str, &str)] =
    &[("meta-a", "old a"), ("meta-b", "old b"), ("log-9.wal", "old 9"), ("LOCK", "1")];
const NEW: &[(&str, &str)] =
    &[("owner", "new"), ("state", "new state"), ("snapshots/two", "new"), ("formerly", "x")];
const NEW_LOG: &[(&str, &str)] =
    &[("meta-a", "new a"), ("meta-b", "new b"), ("log-1.wal", "new 1")];

/// A folder of before, with a new one made in it; the log may be elsewhere.
fn prepared(home: &Path, is_elsewhere: bool) -> (PathBuf, PathBuf) {
    let data = home.join("data");
    let log = if is_elsewhere { home.join("log") } else { data.join("wal") };
    write(&data, OLD);
    write(&log, OLD_LOG);
    let made = data.join(MADE);
    write(&made, NEW);
    write(&made.join("wal"), NEW_LOG);
    write(&data, &[("forced.made.recovery.txt", "report")]);
    if is_elsewhere {
        write(&log, &[("reserve", "room"), ("lost+found/x", "not ours")]);
        LogNote { dir: log.clone(), storage_id: 1, era: 5 }.write(&RealDisk, &data).unwrap();
        LogNote { dir: log.clone(), storage_id: 2, era: 1 }.write(&RealDisk, &made).unwrap();
    }
    (data, log)
}

fn below(name: &str, files: &[(&str, &str)]) -> Vec<(PathBuf, Vec<u8>)> {
    files
        .iter()
        .map(|(path, text)| (Path::new(name).join(path), text.as_bytes().to_vec()))
        .collect()
}

/// What the folders are like once all is done.
fn check(data: &Path, log: &Path) {
    let kept = "before-force-c1";
    let is_elsewhere = !log.starts_with(data);
    let of_data = |(path, _): &(PathBuf, Vec<u8>)| {
        !path.ends_with("reserve") && !path.starts_with(format!("{kept}/fixtures"))
    };
    let mut expected: BTreeMap<PathBuf, Vec<u8>> = below("", NEW).into_iter().collect();
    expected.extend(below("", &OLD[4..]));
    expected.extend(below(kept, OLD).into_iter().filter(of_data));
    expected.extend(below(kept, &[("recovery.txt", "report")]));
    let mut found = content(data);
    if is_elsewhere {
        found.remove(Path::new(NOTE)).unwrap();
        found.remove(&Path::new(kept).join(NOTE)).unwrap();
        let note = |dir: &Path| LogNote::read(&RealDisk, dir).unwrap().unwrap();
        let new = LogNote { dir: log.to_owned(), storage_id: 2, era: 1 };
        let old = LogNote { dir: log.join(kept), storage_id: 1, era: 5 };
        assert_eq!((note(data), note(&data.join(kept))), (new, old));
        let mut expected: BTreeMap<PathBuf, Vec<u8>> = below("", NEW_LOG).into_iter().collect();
        expected.extend(below("", &[("reserve", "room"), ("lost+found/x", "not ours")]));
        expected.extend(below(kept, OLD_LOG));
        assert_eq!(content(log), expected);
    } else {
        expected.extend(below("wal", NEW_LOG));
        expected.extend(below(&format!("{kept}/wal"), OLD_LOG));
    }
    assert_eq!(found, expected);
    check_whole(data).unwrap();
}

#[test]
fn wherever_it_is_cut_short_the_old_folder_is_whole_or_the_next_start_completes_the_new_one() {
    for is_elsewhere in [false, true] {
        let mut cut_count = 0;
        for limit in 0.. {
            let home = tempfile::tempdir().unwrap();
            let (data, log) = prepared(home.path(), is_elsewhere);
            let before = content(&data);
            let mut left = limit;
            let mut dying = |from: &Path, to: &Path| {
                if left == 0 {
                    return Err(io::Error::other("killed"));
                }
                left -= 1;
                fs::rename(from, to)
            };
            let swapped = swap_with(&data, &mut dying);
            if let Err(error) = swapped {
                cut_count += 1;
                assert!(format!("{error:#}").contains("killed"), "{error:#}");
                if limit == 0 {
                    assert_eq!(content(&data), before);
                    assert_eq!(complete(&data).unwrap(), None);
                    assert_eq!(swap(&data).unwrap(), data.join("before-force-c1"));
                } else {
                    assert!(check_whole(&data).unwrap_err().to_string().contains("cut short"));
                    assert_eq!(complete(&data).unwrap(), Some(data.join("before-force-c1")));
                }
            }
            check(&data, &log);
            assert_eq!(complete(&data).unwrap(), None);
            if left > 0 {
                break;
            }
        }
        assert!(cut_count > 10, "{cut_count}");
    }
}

#[test]
fn what_was_kept_before_stays_beside_what_is_kept_now() {
    let home = tempfile::tempdir().unwrap();
    let (data, _) = prepared(home.path(), false);
    fs::create_dir(data.join("before-force-c1")).unwrap();
    assert_eq!(swap(&data).unwrap(), data.join("before-force-c1-2"));
}

#[test]
fn an_unfinished_folder_of_somebody_who_was_killed_is_in_nobodys_way() {
    let home = tempfile::tempdir().unwrap();
    let (data, _) = prepared(home.path(), false);
    assert_eq!(complete(&data).unwrap(), None);
    assert!(!made(&data).unwrap().exists());
    assert_eq!(names(&data).unwrap().iter().filter(|name| name.contains("forced")).count(), 0);
}

#[test]
fn a_folder_at_which_another_start_is_at_work_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let (data, log) = prepared(home.path(), false);
    fs::rename(data.join(MADE), data.join(READY)).unwrap();
    let held = hold(&data).unwrap();
    let said = complete(&data).unwrap_err().to_string();
    assert!(said.contains("another start is at work"), "{said}");
    drop(held);
    complete(&data).unwrap();
    check(&data, &log);
}

/// The log was moved by hand right before, and no start has noted where.
#[test]
fn a_log_whose_place_was_not_noted_yet_is_noted_with_what_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let (data, log) = prepared(home.path(), true);
    fs::remove_file(data.join(NOTE)).unwrap();
    fs::remove_dir_all(&log).unwrap();
    let identity = Identity { cluster_id: 0xc1, node_id: quorate::NodeId::new(1), storage_id: 9 };
    let initial = quorate::core::SnapshotMeta {
        last_included: quorate::LogId::ORIGIN,
        configuration: std::sync::Arc::default(),
    };
    let disk = std::sync::Arc::new(RealDisk);
    drop(Wal::create(disk, &log, WalOptions::default(), identity, initial).unwrap());
    let kept = swap(&data).unwrap();
    let note = LogNote::read(&RealDisk, &kept).unwrap().unwrap();
    assert_eq!((note.dir, note.storage_id), (log.join("before-force-c1"), 9));
}
