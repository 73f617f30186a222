//! A state machine that goes by something besides its log, on one node of three, with real sockets: that
//! node ends, says from which entry on, and comes back with its state rebuilt.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Cluster, PATIENCE, Words, patient_driver, wait};
use quorate::{
    Committed, Consistency, DriverOptions, Fatal, Fate, LogId, LogIndex, Node, NodeFailure,
    QueryError, Replies, SnapshotView, StartError, StateMachine,
};
use std::io::Read;

/// The word that some hear twice.
const ODD: &str = "odd";

/// Collects words, and may go by where it lives.
struct Fickle {
    words: Words,
    hears_twice: bool,
}

impl StateMachine for Fickle {
    fn applied(&self) -> LogIndex {
        self.words.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for committed in batch {
            if self.hears_twice && committed.command == ODD {
                self.words.apply(std::slice::from_ref(committed), &mut Replies::default())?;
            }
            self.words.apply(std::slice::from_ref(committed), replies)?;
        }
        Ok(())
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.words.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.words.view()
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.words.restore(last_included, source)
    }
}

fn machine(hears_twice: bool) -> Fickle {
    Fickle { words: Words::default(), hears_twice }
}

/// Proposes a word until it is in the log for certain. A leader that ends loses some.
async fn note(node: &Node, word: &'static str) -> LogId {
    loop {
        if let Fate::Applied { log_id, .. } = node.propose(word, PATIENCE).await {
            return log_id;
        }
    }
}

async fn all(node: &Node, consistency: Consistency) -> Bytes {
    node.read("all", consistency, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn a_machine_that_goes_by_its_node_is_caught_and_comes_back_rebuilt_from_a_snapshot() {
    let mut cluster = Cluster::prepared();
    cluster.driver_options = DriverOptions {
        digest_window_count: 8,
        compact_log_count: 20,
        retain_log_count: 1,
        ..patient_driver()
    };
    for id in 1..=3 {
        let node = cluster.builder(id).start(machine(id == 2)).await.unwrap();
        cluster.up.insert(id, node);
    }
    let (sound, wrong) = (cluster.up[&1].clone(), cluster.up[&2].clone());
    for _ in 0..60 {
        note(&sound, "word").await;
    }
    wait(&wrong, |status| status.base.index > LogIndex::ORIGIN).await;
    let odd = note(&sound, ODD).await;
    let failure = tokio::select! {
        failure = wrong.failure() => failure,
        never = async { loop { note(&sound, "word").await; } } => never,
    };
    let NodeFailure::Diverged { index, own, others } = *failure else { panic!("{failure}") };
    assert_eq!(index, odd.index);
    assert_ne!(own, others);
    cluster.stop(2).await;

    let refused = cluster.builder(2).start(machine(false)).await.unwrap_err();
    assert!(
        matches!(refused, StartError::Diverged { index, .. } if index == odd.index),
        "{refused}"
    );
    let (emptied, was_emptied) = std::sync::mpsc::channel();
    let builder = cluster.builder(2).rebuild_state(move || {
        emptied.send(()).unwrap();
        Ok(())
    });
    let node = builder.start(machine(false)).await.unwrap();
    assert!(was_emptied.try_recv().is_ok());
    // A read that any state is good enough for waits for one.
    let local = all(&node, Consistency::Local).await;
    assert!(!local.is_empty());
    let last = note(&sound, "last").await.index;
    let own = all(&node, Consistency::AtLeast(last)).await;
    assert_eq!(own, all(&sound, Consistency::Linearizable).await);
    assert_eq!(own.windows(ODD.len()).filter(|word| *word == ODD.as_bytes()).count(), 1);
    cluster.up.insert(2, node);
    cluster.stop_all().await;

    // The mark is gone: no word about the state is needed any more.
    let node = cluster.builder(2).start(machine(false)).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn nodes_that_compare_nothing_go_on_whatever_they_reply() {
    let mut cluster = Cluster::prepared();
    cluster.driver_options = DriverOptions { digest_window_count: 0, ..patient_driver() };
    for id in 1..=3 {
        let node = cluster.builder(id).start(machine(id == 2)).await.unwrap();
        cluster.up.insert(id, node);
    }
    note(&cluster.up[&1], ODD).await;
    for _ in 0..40 {
        note(&cluster.up[&1], "word").await;
    }
    cluster.settle().await;
    assert!(cluster.up.values().all(|node| node.status().differing.is_empty()));
    cluster.stop_all().await;
}
