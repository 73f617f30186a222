//! What callers are told while the state machine stands still: at their deadline, that it is not
//! known, or that nobody answered; never nothing. When it goes on, so does the node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use quorate::{
    Committed, Consistency, Doubt, Fatal, Fate, LogId, LogIndex, Node, QueryError, ReadError,
    Replies, SnapshotView, StateMachine,
};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether the machine may go on.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let is_open = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_while(is_open, |is_open| !*is_open).unwrap();
    }
}

/// Counts commands, and stands still at one of them.
struct Slow {
    count: u64,
    gate: Gate,
}

impl StateMachine for Slow {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            if command.as_ref() == b"stand still" {
                self.gate.pass();
            }
            self.count += 1;
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Err(Fatal::new("nobody asks for a snapshot here"))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Err(Fatal::new("nobody is behind here"))
    }
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_machine_that_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let machine = Slow { count: 0, gate: gate.clone() };
    let node = Node::builder(1, dir.path()).start(machine).await.unwrap();
    assert!(matches!(node.propose("first", PATIENCE).await, Fate::Applied { .. }));

    let stuck = node.propose("stand still", SHORT).await;
    assert_eq!(stuck, Fate::Unknown(Doubt::Deadline));
    // Committed, and behind the one that is stuck.
    assert_eq!(node.propose("behind it", SHORT).await, Fate::Unknown(Doubt::Deadline));
    // It needs no word of anybody but the machine.
    let read = node.read("", Consistency::Local, SHORT).await;
    assert_eq!(read, Err(ReadError::Unanswered));
    let read = node.read("", Consistency::Linearizable, SHORT).await;
    assert!(
        matches!(read, Err(ReadError::NotApplied { .. } | ReadError::Unanswered)),
        "what is committed is not applied: {read:?}"
    );

    gate.open();
    let Fate::Applied { reply, .. } = node.propose("last", PATIENCE).await else {
        panic!("the machine goes on");
    };
    assert_eq!(reply, "4", "what nobody knew of has taken effect");
    assert_eq!(node.read("", Consistency::Local, PATIENCE).await.unwrap(), "4");
    node.stop().await;
}

#[tokio::test]
async fn a_leader_is_ready_once_its_machine_has_what_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    gate.open();
    let machine = Slow { count: 0, gate: gate.clone() };
    let node = Node::builder(1, dir.path()).start(machine).await.unwrap();
    assert!(matches!(node.propose("stand still", PATIENCE).await, Fate::Applied { .. }));
    node.stop().await;

    // What it knows is in its log, and the machine does not get past it.
    let gate = Gate::default();
    let machine = Slow { count: 0, gate: gate.clone() };
    let node = Node::builder(1, dir.path()).start(machine).await.unwrap();
    let mut changes = node.status_changes();
    let leads = changes.wait_for(|it| it.is_leader() && it.commit_index == it.last_log.index);
    let status = leads.await.unwrap().clone();
    assert!(!status.is_ready, "{status:?}");
    let said = node.explain().await.unwrap().to_string();
    gate.open();
    let ready = changes.wait_for(|status| status.is_ready).await.unwrap().clone();
    assert!(ready.applied >= status.commit_index, "{ready:?}");
    assert!(said.contains("its state machine has yet to apply"), "{said}");
    node.stop().await;
}
