//! A node that meets a second leader of its own term ends, and leaves in its folder what led to that: it
//! can be played, up to the same end.

use crate::runtime::lock;
use crate::{
    Committed, Fatal, Input, Node, NodeFailure, PeerMessage, QueryError, Recording, Replies,
    SnapshotView, StateMachine,
};
use bytes::Bytes;
use quorate_core::{AppendEntries, LogId, LogIndex, Message, NodeId, ProtocolVersion};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Has no state.
struct Nothing;

impl StateMachine for Nothing {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for _ in batch {
            replies.push(Bytes::new());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Err(Fatal::new("nobody asks for a snapshot here"))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Err(Fatal::new("nobody is behind here"))
    }
}

/// A life of a node that leads, until somebody else says that he does.
async fn live_until_poisoned(dir: &Path) {
    let node = Node::builder(1, dir).start(Nothing).await.unwrap();
    let mut changes = node.status_changes();
    let status = changes.wait_for(|status| status.is_ready).await.unwrap().clone();
    let _fate = node.propose("private", Duration::from_mins(1)).await;
    let claim = AppendEntries {
        term: status.current_term,
        prev_log: LogId::ORIGIN,
        entries: Vec::new(),
        leader_commit: LogIndex::ORIGIN,
    };
    node.inner.shared.mailbox.push(Input::Peer {
        from: NodeId::new(2),
        storage_id: 7,
        version: ProtocolVersion::NEWEST,
        message: PeerMessage::Raft(Message::AppendEntries(claim)),
    });
    let failure = node.failure().await;
    let NodeFailure::Poisoned { evidence } = &*failure else { panic!("{failure}") };
    assert!(evidence.contains("TwoLeaders"), "{evidence}");
    assert!(lock(&node.inner.settings).driver.flight_recorder_bytes > 0);
    node.stop().await;
}

#[tokio::test]
async fn a_poisoned_node_leaves_what_led_to_it_and_what_led_to_it_the_time_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("poisoned.recording");
    let before = dir.path().join("poisoned.recording.before");
    live_until_poisoned(dir.path()).await;
    let first = std::fs::read(&path).unwrap();
    assert!(!before.exists());
    live_until_poisoned(dir.path()).await;
    live_until_poisoned(dir.path()).await;
    assert_ne!(std::fs::read(&path).unwrap(), first);
    assert_ne!(std::fs::read(&before).unwrap(), first, "of the time before, and no older one");

    let recording = Recording::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
    let mut replay = recording.play().unwrap();
    assert!(!replay.raft().is_poisoned());
    let mut count = 0;
    while replay.step().unwrap().is_some() {
        count += 1;
    }
    assert!(replay.raft().is_poisoned() && count > 1, "after {count} events");
    assert!(!first.windows(7).any(|window| window == b"private"));
}
