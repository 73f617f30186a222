//! What a node does whose disk is full, with real sockets: it stays, gives its office away, answers what
//! needs no disk, and goes on when there is room, without a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, say, wait};
use quorate::wal::{Disk, DiskFile, DiskSpace, RealDisk};
use quorate::{Consistency, DiskRoom, Fate, Node, NodeId, NodeOptions, Options, Term, WalOptions};
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// More than half of a segment of [`small_segments`].
const WORD_BYTES: usize = 5_000;

fn small_segments() -> WalOptions {
    WalOptions {
        first_segment_size_bytes: 8 << 10,
        segment_size_bytes: 8 << 10,
        ..WalOptions::default()
    }
}

fn word(letter: u8) -> Vec<u8> {
    vec![letter; WORD_BYTES]
}

/// The system's disk, which takes nothing more when it is told to be full.
#[derive(Clone, Default)]
struct FillingDisk {
    is_full: Arc<AtomicBool>,
    /// What it says to be free; all there is, if 0.
    free_bytes: Arc<AtomicU64>,
}

impl FillingDisk {
    fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FillingFile { file, is_full: Arc::clone(&self.is_full) })
    }
}

impl Disk for FillingDisk {
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

    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        let size_bytes = 40 << 20;
        Ok(match self.free_bytes.load(Ordering::SeqCst) {
            0 => DiskSpace { free_bytes: size_bytes, size_bytes },
            free_bytes => DiskSpace { free_bytes, size_bytes },
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

struct FillingFile {
    file: Box<dyn DiskFile>,
    is_full: Arc<AtomicBool>,
}

impl FillingFile {
    fn check(&self, end: u64) -> io::Result<()> {
        let grows = end > self.file.size_bytes()?;
        let is_full = self.is_full.load(Ordering::SeqCst);
        if grows && is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl DiskFile for FillingFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset + bytes.len() as u64)?;
        self.file.write_at(bytes, offset)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.check(size_bytes)?;
        self.file.set_size(size_bytes)
    }

    fn reserve(&self, offset: u64, size_bytes: u64) -> io::Result<bool> {
        self.check(offset + size_bytes)?;
        self.file.reserve(offset, size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Waits until a node has seen of its disk what is wished.
async fn wait_for_room(node: &Node, is_as_wished: impl Fn(DiskRoom) -> bool) -> DiskRoom {
    let look = async {
        loop {
            let room = node.disk_room();
            if is_as_wished(room) {
                return room;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, look).await;
    waited.unwrap_or_else(|_| panic!("not as wished: {:?}", node.disk_room()))
}

async fn assert_runs(node: &Node) {
    tokio::select! {
        biased;
        failure = node.failure() => panic!("{failure}"),
        () = std::future::ready(()) => {}
    }
}

/// Words that come one after the other, however each of them ends.
fn say_some(node: &Node, letters: &'static [u8]) -> tokio::task::JoinHandle<Vec<Fate>> {
    let node = node.clone();
    tokio::spawn(async move {
        let said = letters.iter().map(|letter| {
            let node = node.clone();
            tokio::spawn(async move { node.propose(word(*letter), PATIENCE).await })
        });
        let mut fates = Vec::new();
        for fate in said.collect::<Vec<_>>() {
            fates.push(fate.await.unwrap());
        }
        fates
    })
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_has_a_successor_and_comes_back_when_there_is_room() {
    let disk = FillingDisk::default();
    // A leader gives its office away because a write does not end: nobody else does, and nobody begins
    // an election by itself before an hour has passed.
    let options = Options {
        heartbeat_interval: Duration::from_millis(30),
        election_timeout: Duration::from_hours(1),
        ..Options::default()
    };
    let mut cluster = Cluster::led_by_the_first(|id, builder| {
        let builder = builder.wal_options(small_segments());
        match id {
            1 => builder.options(options.clone()).disk(Arc::new(disk.clone())),
            _ => builder,
        }
    })
    .await;
    let (first, second) = (cluster.up[&1].clone(), cluster.up[&2].clone());
    assert_eq!(say(&first, "one").await, 1);
    cluster.settle().await;

    disk.fill(true);
    let said = say_some(&first, b"abcd");
    let is_led = |leader: Option<NodeId>| leader.is_some_and(|id| id != NodeId::new(1));
    let status = wait(&second, |status| is_led(status.leader)).await;
    assert_eq!(status.current_term, Term::new(2), "only the first can have called for that");
    say(&second, "two").await;
    wait_for_room(&first, |room| room.is_waited_for).await;
    assert_runs(&first).await;
    assert!(first.read("count", Consistency::Local, PATIENCE).await.is_ok(), "old, and answered");

    disk.fill(false);
    said.await.unwrap();
    cluster.settle().await;
    wait_for_room(&first, |room| !room.is_waited_for).await;
    let all = second.read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
    assert_eq!(first.read("all", Consistency::Linearizable, PATIENCE).await.unwrap(), all);
    assert!(all.starts_with(b"one ") && all.windows(3).any(|word| word == b"two"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_without_room_promises_nothing_and_keeps_its_promises() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FillingDisk::default());
    let node = Node::builder(1, dir.path()).disk(Arc::new(disk.clone()));
    let node = node.wal_options(small_segments()).start(Words::default()).await.unwrap();
    assert_eq!(say(&node, "one").await, 1);
    disk.fill(true);
    let said = say_some(&node, b"abcd");
    wait_for_room(&node, |room| room.is_waited_for).await;
    let count = node.read("count", Consistency::Local, PATIENCE).await.unwrap();
    assert!(count == "1" || count == "2", "at most one segment was at hand: {count:?}");
    assert_runs(&node).await;

    disk.fill(false);
    for fate in said.await.unwrap() {
        assert!(
            matches!(fate, Fate::Applied { .. }),
            "what was promised to nobody is done at last: {fate:?}"
        );
    }
    assert_eq!(say(&node, "two").await, 6);
    node.stop().await;

    // A node that waits for room can be stopped.
    let node = Node::builder(1, dir.path()).disk(Arc::new(disk.clone()));
    let node = node.wal_options(small_segments()).start(Words::default()).await.unwrap();
    assert_eq!(say(&node, "three").await, 7);
    disk.fill(true);
    let said = say_some(&node, b"efgh");
    wait_for_room(&node, |room| room.is_waited_for).await;
    node.stop().await;
    assert!(said.await.unwrap().iter().any(|fate| !matches!(fate, Fate::Applied { .. })));
    disk.fill(false);
    let node = Node::builder(1, dir.path()).disk(Arc::new(disk));
    let node = node.wal_options(small_segments()).start(Words::default()).await.unwrap();
    assert!(say(&node, "four").await >= 8);
    node.stop().await;
}

#[tokio::test]
async fn a_node_looks_how_full_its_disk_is_and_holds_a_reserve() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FillingDisk::default());
    let node_options = NodeOptions { disk_reserve_bytes: 1 << 30, ..NodeOptions::default() };
    let node = Node::builder(1, dir.path()).disk(Arc::new(disk.clone()));
    let node = node.node_options(node_options).start(Words::default()).await.unwrap();
    // A fortieth of 40 MiB.
    let room = wait_for_room(&node, |room| room.reserved_bytes > 0).await;
    assert_eq!((room.reserved_bytes, room.low_bytes), (1 << 20, 3 << 20));
    assert!(dir.path().join("reserve").exists() && !room.is_short);
    disk.free_bytes.store(1 << 20, Ordering::SeqCst);
    wait_for_room(&node, |room| room.is_short).await;
    assert_eq!(say(&node, "one").await, 1);
    disk.free_bytes.store(3 << 20, Ordering::SeqCst);
    wait_for_room(&node, |room| !room.is_short).await;
    node.stop().await;
}
