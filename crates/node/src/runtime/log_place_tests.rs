//! Nodes whose log is in a folder of its own, moved, lost, copied and mistaken for another. Must not know
//! what a log holds.

use super::*;
use crate::{Committed, QueryError, Replies, SnapshotView};
use crate::{Fatal, Node, StartError, StateMachine};
use bytes::Bytes;
use quorate_core::{LogId, LogIndex};
use quorate_wal::RealDisk;
use std::fs;
use std::io::{Read, Write};

/// Counts what it was given, in memory.
struct Counter(u64);

impl StateMachine for Counter {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for _ in batch {
            self.0 += 1;
            replies.push(Bytes::new());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::from(self.0.to_string()))
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(View(self.0)))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut text = String::new();
        source.read_to_string(&mut text).map_err(|error| Fatal::caused_by("no number", error))?;
        self.0 = text.parse().unwrap_or_default();
        Ok(())
    }
}

struct View(u64);

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> io::Result<()> {
        write!(target, "{}", self.0)
    }
}

/// One life: adds one command, and returns how many there are.
async fn live(data: &Path, wal_dir: Option<&Path>) -> Result<String, StartError> {
    let builder = Node::builder(1, data).cluster_id(7);
    let builder = match wal_dir {
        Some(dir) => builder.wal_dir(dir),
        None => builder,
    };
    let node = builder.start(Counter(0)).await?;
    let patience = std::time::Duration::from_mins(1);
    let fate = node.propose(Bytes::from("x"), patience).await;
    assert!(matches!(fate, crate::Fate::Applied { .. }), "{fate:?}");
    let read = node.read(Bytes::new(), crate::Consistency::Linearizable, patience).await.unwrap();
    node.stop().await;
    Ok(String::from_utf8(read.to_vec()).unwrap())
}

/// Why a start is refused, which changes nothing in either folder.
async fn refused(data: &Path, wal_dir: Option<&Path>) -> String {
    let names = |dir: &Path| {
        let all = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut all: Vec<PathBuf> =
            all.map(|it| it.path()).filter(|it| !it.ends_with("LOCK")).collect();
        all.sort();
        all
    };
    let before = (names(data), wal_dir.map(names));
    let Err(StartError::LogPlace(error)) = live(data, wal_dir).await else {
        panic!("this start should be refused for its log's place")
    };
    assert_eq!(before, (names(data), wal_dir.map(names)));
    error.to_string()
}

fn moved(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(from, to).unwrap();
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_log_elsewhere_is_the_nodes_and_a_start_without_it_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (data, log) = (home.path().join("data"), home.path().join("a/log"));
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "1");
    assert!(log.join("meta-a").exists() && !data.join("wal").exists());
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "2");

    let said = refused(&data, None).await;
    assert!(said.contains(&format!("--wal-dir {}", log.display())), "{said}");
    let empty = home.path().join("empty");
    let said = refused(&data, Some(&empty)).await;
    assert!(said.contains(&format!("there is none in {}", empty.display())), "{said}");
    fs::rename(&log, home.path().join("unmounted")).unwrap();
    let said = refused(&data, Some(&log)).await;
    assert!(said.contains("would have forgotten"), "{said}");
    fs::rename(home.path().join("unmounted"), &log).unwrap();
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "3");
}

#[tokio::test]
async fn the_log_of_another_node_is_refused_with_what_was_expected_and_found() {
    let home = tempfile::tempdir().unwrap();
    let [data, log, other, others] =
        ["data", "log", "other", "others"].map(|it| home.path().join(it));
    live(&data, Some(&log)).await.unwrap();
    live(&other, Some(&others)).await.unwrap();
    let said = refused(&data, Some(&others)).await;
    for part in
        ["expected the log", &format!("which was in {}", log.display()), "of member 1 of cluster 7"]
    {
        assert!(said.contains(part), "{said}");
    }
    // A folder that knows no log yet is refused by whom the log belongs to.
    let stranger = Node::builder(2, home.path().join("new")).cluster_id(7).wal_dir(&log);
    let error = stranger.start(Counter(0)).await.err().unwrap();
    assert!(matches!(error, StartError::Log(WalError::WrongIdentity { .. })), "{error}");
}

#[tokio::test]
async fn a_log_is_moved_out_of_its_folder_and_back_and_never_begun_anew_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let (data, log, third) =
        (home.path().join("data"), home.path().join("log"), home.path().join("x y"));
    live(&data, None).await.unwrap();
    let said = refused(&data, Some(&log)).await;
    assert!(said.contains(&format!("mv {}/wal/* {}/", data.display(), log.display())), "{said}");
    moved(&data.join("wal"), &log);
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "2");
    // A move that was cut short.
    fs::create_dir(data.join("wal")).unwrap();
    fs::rename(log.join("meta-a"), data.join("wal/meta-a")).unwrap();
    fs::remove_file(data.join("log-place")).unwrap();
    let said = refused(&data, Some(&log)).await;
    assert!(said.contains("is in") && said.contains("mv "), "{said}");
    fs::rename(data.join("wal/meta-a"), log.join("meta-a")).unwrap();
    fs::remove_dir(data.join("wal")).unwrap();
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "3");
    moved(&log, &third);
    assert_eq!(live(&data, Some(&third)).await.unwrap(), "4");
    let said = refused(&data, None).await;
    assert!(said.contains(&format!("--wal-dir '{}'", third.display())), "{said}");
    moved(&third, &data.join("wal"));
    assert_eq!(live(&data, None).await.unwrap(), "5");
    assert!(!data.join("log-place").exists());
    assert_eq!(live(&data, Some(&data.join("wal"))).await.unwrap(), "6");
    assert!(!data.join("log-place").exists(), "that is where it is anyway");
}

#[tokio::test]
async fn a_copy_of_the_log_is_not_taken_for_it() {
    let home = tempfile::tempdir().unwrap();
    let [data, log, copy] = ["data", "log", "copy"].map(|it| home.path().join(it));
    live(&data, Some(&log)).await.unwrap();
    copied(&log, &copy);
    let said = refused(&data, Some(&copy)).await;
    assert!(said.contains("one is a copy"), "{said}");
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "2");
    fs::rename(&log, home.path().join("gone")).unwrap();
    let said = refused(&data, Some(&copy)).await;
    assert!(
        said.contains("older copy") && said.contains("opened 2 times, found one that was opened 1"),
        "{said}"
    );
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_between_log_and_note_is_done_again() {
    let home = tempfile::tempdir().unwrap();
    let (data, log) = (home.path().join("data"), home.path().join("log"));
    live(&data, Some(&log)).await.unwrap();
    fs::remove_file(data.join("log-place")).unwrap();
    assert_eq!(live(&data, Some(&log)).await.unwrap(), "2");
    assert!(refused(&data, None).await.contains("--wal-dir"));
}

#[tokio::test]
async fn neither_folder_is_given_to_two_processes() {
    let home = tempfile::tempdir().unwrap();
    let (data, log) = (home.path().join("data"), home.path().join("log"));
    for locked in [data.join("LOCK"), log.join("LOCK")] {
        live(&data, Some(&log)).await.unwrap();
        let _held = RealDisk.lock(&locked).unwrap();
        let error = live(&data, Some(&log)).await.unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
    }
}

#[test]
fn a_note_says_what_was_noted_and_nothing_if_a_byte_of_it_is_another() {
    let note = LogNote { dir: "/a\nb".into(), storage_id: 7, era: 3 };
    let bytes = note.encode();
    assert_eq!(LogNote::decode(&bytes), Some(note.clone()));
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert_eq!(LogNote::decode(&other), None, "byte {at}");
        assert_eq!(LogNote::decode(&bytes[..at]), None, "{at} bytes");
    }
    let home = tempfile::tempdir().unwrap();
    assert_eq!(LogNote::read(&RealDisk, home.path()).unwrap(), None);
    note.write(&RealDisk, home.path()).unwrap();
    assert_eq!(LogNote::read(&RealDisk, home.path()).unwrap(), Some(note));
    fs::write(home.path().join(NOTE_NAME), "?").unwrap();
    let said = find(&RealDisk, home.path(), None).unwrap_err().to_string();
    assert!(said.contains("does not say where the log is"), "{said}");
}

#[test]
fn the_data_folder_itself_is_no_place_for_a_log() {
    let home = tempfile::tempdir().unwrap();
    for dir in [home.path().to_owned(), home.path().join("snapshots")] {
        let refused = find(&RealDisk, home.path(), Some(&dir)).unwrap_err();
        assert!(matches!(refused, LogPlaceError::NotItsOwn { .. }), "{refused}");
    }
}
