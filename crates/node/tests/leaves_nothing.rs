//! What is left of nodes that were stopped: nothing. The only test in this file, so that the process
//! is its own: no thread, file, socket or timer of another test comes or goes meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Cluster, PATIENCE, Words, say};
use quorate::{
    Committed, Consistency, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;

/// `Words` that hold something: who else holds it knows whether they are gone.
struct Held {
    words: Words,
    _token: Arc<()>,
}

impl StateMachine for Held {
    fn applied(&self) -> LogIndex {
        self.words.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.words.apply(batch, replies)
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.words.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.words.view()
    }

    fn restore(&mut self, last: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.words.restore(last, source)
    }
}

/// Every open file, socket and queue of this process, by number.
fn files() -> BTreeMap<String, String> {
    let listed = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = listed.filter_map(|file| {
        let file = file.unwrap();
        // The list itself is open while it is read, and gone now.
        let target = std::fs::read_link(file.path()).ok()?;
        let number = file.file_name().to_string_lossy().into_owned();
        Some((number, target.to_string_lossy().into_owned()))
    });
    links.filter(|(_, target)| !target.starts_with("/proc/")).collect()
}

/// Every thread of this process.
fn threads() -> BTreeMap<String, String> {
    let listed = std::fs::read_dir("/proc/self/task").unwrap();
    let names = listed.filter_map(|thread| {
        let thread = thread.unwrap();
        let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        Some((thread.file_name().to_string_lossy().into_owned(), name))
    });
    names.collect()
}

/// A life of three nodes, in which one is stopped before its callers are answered.
async fn live(cluster: &mut Cluster) {
    let token = Arc::new(());
    for id in 1..=3 {
        let machine = Held { words: Words::default(), _token: Arc::clone(&token) };
        let node = cluster.builder(id).start(machine).await.unwrap();
        cluster.up.insert(id, node);
    }
    for id in 1..=3 {
        say(&cluster.up[&id], "word").await;
        cluster.up[&id].read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
    }
    let session = cluster.up[&1].open_session(PATIENCE).await.unwrap();
    drop(session.propose("word", PATIENCE).await);
    drop(session);
    let busy = cluster.up[&2].clone();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let busy = busy.clone();
            tokio::spawn(async move { drop(busy.propose("word", PATIENCE).await) })
        })
        .collect();
    drop(busy);
    cluster.stop_all().await;
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(Arc::strong_count(&token), 1, "a state machine is still held by somebody");
}

#[tokio::test]
async fn a_node_that_was_stopped_leaves_no_thread_task_socket_file_or_lock() {
    let mut cluster = Cluster::prepared();
    // What a process opens once is open after the first life.
    live(&mut cluster).await;
    let before = files();
    for _ in 0..3 {
        live(&mut cluster).await;
        // Sockets of tasks, if any were left, would be open; so would be the folders' locks.
        assert_eq!(files(), before);
        for address in cluster.members.values() {
            drop(TcpListener::bind(address).unwrap());
        }
        // A joined thread may be listed for a moment after it has ended.
        let gone = async {
            while threads().values().any(|name| is_of_a_node(name)) {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(PATIENCE, gone).await;
        assert!(gone.is_ok(), "{:?}", threads());
    }
}

/// Its threads are named after it.
fn is_of_a_node(thread: &str) -> bool {
    let name = thread.trim_end();
    name.starts_with("quorate") || (1..=3).any(|id| name.ends_with(&format!("-{id}")))
}
