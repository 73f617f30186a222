//! What a node does whose log's disk fails, with real sockets: a leader hands over before it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, say, wait};
use quorate::wal::{Disk, DiskFile, RealDisk};
use quorate::{
    Consistency, Doubt, Fate, Node, NodeFailure, NodeId, Refusal, Term, TransportOptions,
};
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The system's disk, until it is told to sync nothing any more.
#[derive(Clone, Default)]
struct FailingDisk {
    fails: Arc<AtomicBool>,
}

impl FailingDisk {
    fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FailingFile { file, fails: Arc::clone(&self.fails) })
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(RealDisk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    fails: Arc<AtomicBool>,
}

impl DiskFile for FailingFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_size(size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("no such luck"));
        }
        self.file.sync()
    }
}

/// Whether the log may have the proposal whose fate this is. It has not if the disk failed under
/// a write of the log's own, such as the commit mark's, before the proposal came.
fn is_appended_to_a_failed_log(fate: &Fate) -> bool {
    match fate {
        Fate::Unknown(Doubt::Stopped) => true,
        Fate::NotAppended(Refusal::Stopped) => false,
        Fate::Applied { .. }
        | Fate::NotAppended(_)
        | Fate::Lost { .. }
        | Fate::Unknown(_)
        | Fate::Refused(_) => panic!("the log failed, and the proposal's fate is {fate:?}"),
    }
}

#[tokio::test]
async fn a_leader_whose_log_fails_has_a_successor_before_an_election_timeout() {
    let disk = FailingDisk::default();
    // Nobody is called gone whose connection has held for less than that: the call alone is tested.
    let reconnect_delay_min = Duration::from_hours(1);
    let transport = TransportOptions { reconnect_delay_min, ..TransportOptions::default() };
    let mut cluster = Cluster::led_by_the_first(|id, builder| match id {
        1 => builder.disk(Arc::new(disk.clone())),
        _ => builder.transport_options(transport.clone()),
    })
    .await;
    let first = cluster.up[&1].clone();
    assert_eq!(say(&first, "one").await, 1);
    cluster.settle().await;
    assert_eq!(first.status().current_term, Term::new(1), "nobody else has led");

    disk.fail();
    let appended = is_appended_to_a_failed_log(&first.propose("two", PATIENCE).await);
    let failure = first.failure().await;
    assert!(matches!(*failure, NodeFailure::Log(_)), "{failure}");

    // Only the call of the first can have begun this term: an hour has not passed.
    let second = &cluster.up[&2];
    let is_led = |leader: Option<NodeId>| leader.is_some_and(|id| id != NodeId::new(1));
    let status = wait(second, |status| is_led(status.leader)).await;
    assert_eq!(status.current_term, Term::new(2));
    assert!(say(second, "three").await >= 2);
    let all = second.read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert!(all == "one three" || appended && all == "one two three", "{all:?}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_whose_log_fails_says_what_to_do_and_goes_on_after_a_restart() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FailingDisk::default());
    let node = Node::builder(1, dir.path()).disk(Arc::new(disk.clone()));
    let node = node.start(Words::default()).await.unwrap();
    assert_eq!(say(&node, "one").await, 1);
    disk.fail();
    let appended = is_appended_to_a_failed_log(&node.propose("two", PATIENCE).await);
    let text = node.failure().await.to_string();
    for part in ["wal", "cannot sync: no such luck", "nobody was told", "start the member again"] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    assert!(!node.status().is_leader(), "it leads no more");
    assert_eq!(node.propose("three", PATIENCE).await, Fate::NotAppended(Refusal::Stopped));
    node.stop().await;

    let node = Node::builder(1, dir.path()).start(Words::default()).await.unwrap();
    let count = say(&node, "four").await;
    assert!(count == 2 || appended && count == 3, "what was acknowledged is there: {count}");
    node.stop().await;
}
