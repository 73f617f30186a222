//! What a node does whose state machine panics: it stops, says which of its threads did and what was
//! said, and the others go on without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Cluster, PATIENCE, wait};
use quorate::{
    Committed, Consistency, DriverOptions, Fatal, Fate, LogId, LogIndex, Node, NodeFailure, NodeId,
    QueryError, ReadError, Refusal, Replies, SnapshotView, StartError, StateMachine,
};
use std::io::{Read, Write};
use std::sync::Arc;

/// Where a machine panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nowhere,
    Apply,
    Query,
    View,
    WriteTo,
    Finish,
    Applied,
}

/// Counts commands, until it is asked for what it panics at.
#[derive(Clone)]
struct Fragile {
    count: u64,
    at: At,
}

impl Fragile {
    const fn new(at: At) -> Self {
        Self { count: 0, at }
    }

    fn comes_to(&self, at: At) {
        assert!(self.at != at, "a mistake in {at:?}");
    }
}

impl StateMachine for Fragile {
    fn applied(&self) -> LogIndex {
        self.comes_to(At::Applied);
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            if command.as_ref() == b"try" {
                self.comes_to(At::Apply);
            }
            self.count += 1;
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        self.comes_to(At::Query);
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.comes_to(At::View);
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Err(Fatal::new("nobody is behind here"))
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.comes_to(At::Finish);
        Ok(())
    }
}

impl SnapshotView for Fragile {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        self.comes_to(At::WriteTo);
        target.write_all(&self.count.to_le_bytes())
    }
}

fn assert_panicked(failure: &NodeFailure, expected_thread: &str, at: At) {
    let NodeFailure::Panicked { thread, message } = failure else { panic!("{failure}") };
    assert_eq!((*thread, message.clone()), (expected_thread, format!("a mistake in {at:?}")));
}

#[tokio::test]
async fn a_machine_that_panics_stops_its_node_with_the_reason_and_the_others_go_on() {
    let cluster = Cluster::prepared();
    let mut nodes = Vec::new();
    for (id, at) in [(1, At::Nowhere), (2, At::Apply), (3, At::Nowhere)] {
        nodes.push(cluster.builder(id).start(Fragile::new(at)).await.unwrap());
    }
    let [sound, fragile, other]: [Node; 3] = nodes.try_into().unwrap();
    let failure = tokio::select! {
        failure = fragile.failure() => failure,
        never = try_for_ever(&sound) => never,
    };
    assert_panicked(&failure, "apply", At::Apply);
    assert_eq!(fragile.propose("more", PATIENCE).await, Fate::NotAppended(Refusal::Stopped));
    let read = fragile.read("count", Consistency::Local, PATIENCE).await;
    assert_eq!(read, Err(ReadError::Stopped));

    let led_elsewhere =
        |leader: Option<NodeId>| leader.is_some_and(|leader| leader != NodeId::new(2));
    for node in [&sound, &other] {
        wait(node, |status| led_elsewhere(status.leader)).await;
    }
    let before = sound.read("count", Consistency::Linearizable, PATIENCE).await.unwrap();
    let before: u64 = std::str::from_utf8(&before).unwrap().parse().unwrap();
    assert!(common::say(&other, "more").await > before);
    for node in [sound, fragile, other] {
        node.stop().await;
    }
}

/// What becomes of each try may be in doubt, while leaders change.
async fn try_for_ever(node: &Node) -> Arc<NodeFailure> {
    loop {
        drop(node.propose("try", PATIENCE).await);
    }
}

#[tokio::test]
async fn wherever_a_machine_panics_its_node_stops_and_says_in_which_thread() {
    for (at, thread) in [
        (At::Apply, "apply"),
        (At::Query, "apply"),
        (At::View, "apply"),
        (At::WriteTo, "snapshot"),
        (At::Finish, "apply"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options =
            DriverOptions { compact_log_count: 20, retain_log_count: 1, ..Default::default() };
        let builder = Node::builder(1, dir.path()).driver_options(options);
        let node = builder.start(Fragile::new(at)).await.unwrap();
        common::leads(&node).await;
        match at {
            At::Query => {
                let read = node.read("count", Consistency::Linearizable, PATIENCE).await;
                assert_eq!(read, Err(ReadError::Stopped));
            }
            At::Finish => node.clone().stop().await,
            // Snapshots come with the log's length.
            At::Nowhere | At::Apply | At::View | At::WriteTo | At::Applied => {
                while let Fate::Applied { .. } = node.propose("try", PATIENCE).await {}
            }
        }
        let failure = node.failure().await;
        if at == At::Finish {
            // It was to stop anyway: the first reason is kept.
            assert!(matches!(*failure, NodeFailure::Stopped), "{failure}");
        } else {
            assert_panicked(&failure, thread, at);
        }
        node.stop().await;
        // The folder is free, and another machine goes on with it.
        let node = Node::builder(1, dir.path()).start(Fragile::new(At::Nowhere)).await.unwrap();
        assert!(common::say(&node, "more").await > 0);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_machine_that_panics_while_it_is_opened_is_a_start_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let error = Node::builder(1, dir.path()).start(Fragile::new(At::Applied)).await.unwrap_err();
    let StartError::Panicked { message } = &error else { panic!("{error}") };
    assert_eq!(message, "a mistake in Applied");
    Node::builder(1, dir.path()).start(Fragile::new(At::Nowhere)).await.unwrap().stop().await;
}
