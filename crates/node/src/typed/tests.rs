use super::machine::unseal;
use super::*;
use crate::{
    Committed, Consistency, Fate, LogId, LogIndex, Node, NodeFailure, NodeStatus, QueryError,
    ReadError, Replies, StateMachine, Term,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);

/// Measured values by name, and how many were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Readings {
    latest: BTreeMap<String, f64>,
    count: u64,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Take {
        name: String,
        value: f64,
    },
    /// Its reply has no form in JSON, whose names are strings.
    Mislead,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    Count(u64),
    Pairs(BTreeMap<(u8, u8), u8>),
}

impl TypedMachine for Readings {
    type Command = Command;
    type Reply = Reply;
    type Query = String;
    type Answer = Option<f64>;
    type Snapshot = Self;
    type Codec = Json;

    fn apply(&mut self, _: LogId, command: Command) -> Reply {
        self.count += 1;
        match command {
            Command::Take { name, value } => {
                self.latest.insert(name, value);
                Reply::Count(self.count)
            }
            Command::Mislead => Reply::Pairs([((1, 2), 3)].into()),
        }
    }

    fn query(&self, name: String) -> Option<f64> {
        self.latest.get(&name).copied()
    }

    fn snapshot(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, snapshot: Self) {
        *self = snapshot;
    }
}

fn take(name: &str, value: f64) -> Command {
    Command::Take { name: name.to_owned(), value }
}

async fn started(dir: &tempfile::TempDir) -> TypedNode<Readings> {
    let node = Node::builder(1, dir.path()).start_typed(Readings::default()).await.unwrap();
    node.node().status_changes().wait_for(|status| status.is_leader()).await.unwrap();
    node
}

async fn read(node: &TypedNode<Readings>, name: &str) -> Option<f64> {
    node.read(&name.to_owned(), Consistency::Linearizable, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn values_go_in_and_come_out_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    assert_eq!(node.propose(&take("depth", 2.5), PATIENCE).await, Ok(Reply::Count(1)));
    assert_eq!(read(&node, "depth").await, Some(2.5));
    assert_eq!(read(&node, "height").await, None);
    node.stop().await;
    let node = started(&dir).await;
    assert_eq!(node.propose(&take("height", 1.0), PATIENCE).await, Ok(Reply::Count(2)));
    assert_eq!(read(&node, "depth").await, Some(2.5));
    node.stop().await;
}

/// Where the log ends. The status may be that of before the last answer.
async fn log_end(node: &TypedNode<Readings>) -> LogIndex {
    node.node().read_barrier(Consistency::Linearizable, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn a_command_that_would_not_come_out_of_the_log_again_does_not_go_in() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    assert_eq!(node.propose(&take("depth", 1.0), PATIENCE).await, Ok(Reply::Count(1)));
    // The node writes down which disk it has, some time after it began.
    let mut changes = node.node().status_changes();
    let is_down = |status: &Arc<NodeStatus>| !status.committed_configuration.storages.is_empty();
    changes.wait_for(is_down).await.unwrap();
    let before = log_end(&node).await;
    let error = node.propose(&take("depth", f64::NAN), PATIENCE).await.unwrap_err();
    assert!(matches!(error, ProposeError::Command(_)), "JSON has no such number: {error}");
    assert!(error.is_without_effect());
    let session = node.open_session(PATIENCE).await.unwrap();
    let error = session.propose(&take("depth", f64::NAN), PATIENCE).await.unwrap_err();
    assert!(matches!(error, ProposeError::Command(_)), "{error}");
    assert_eq!(log_end(&node).await, before.next(), "only the session came in");
    node.stop().await;
}

#[tokio::test]
async fn a_reply_without_a_form_is_told_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    let error = node.propose(&Command::Mislead, PATIENCE).await.unwrap_err();
    let ProposeError::Reply { error: CodecError { reason }, .. } = &error else {
        panic!("{error}")
    };
    assert!(reason.contains("key must be a string"), "{reason}");
    assert!(!error.is_without_effect());
    assert_eq!(node.propose(&take("depth", 1.0), PATIENCE).await, Ok(Reply::Count(2)));
    node.stop().await;
}

#[tokio::test]
async fn a_committed_command_that_is_none_stops_the_node_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    let fate = node.node().propose("of a later version", PATIENCE).await;
    assert_eq!(fate, Fate::Unknown(crate::Doubt::Stopped));
    let failure = node.node().failure().await;
    assert!(matches!(*failure, NodeFailure::StateMachine(_)), "{failure}");
    assert!(failure.to_string().contains("upgrade this node"), "{failure}");
}

#[tokio::test]
async fn a_command_of_a_session_takes_effect_once_through_whatever_handle() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    let session = node.open_session(PATIENCE).await.unwrap();
    let command = session.command(&take("depth", 4.0)).unwrap();
    assert_eq!(command.send(PATIENCE).await, Ok(Reply::Count(1)));
    assert_eq!(command.send_through(&node.clone(), PATIENCE).await, Ok(Reply::Count(1)));
    drop(command);
    let again = TypedSession::<Readings>::new(session.session().clone());
    assert_eq!(again.propose(&take("depth", 5.0), PATIENCE).await, Ok(Reply::Count(2)));
    node.stop().await;
}

#[tokio::test]
async fn a_question_that_is_none_is_its_askers_error() {
    let dir = tempfile::tempdir().unwrap();
    let node = started(&dir).await;
    let read = node.node().read("no JSON", Consistency::Linearizable, PATIENCE).await;
    assert!(matches!(read, Err(ReadError::Query(QueryError { .. }))), "{read:?}");
    assert_eq!(node.propose(&take("depth", 1.0), PATIENCE).await, Ok(Reply::Count(1)));
    node.stop().await;
}

#[test]
fn a_snapshot_holds_the_whole_state_and_one_that_makes_no_sense_is_refused() {
    let log_id = |index| LogId { term: Term::new(1), index: LogIndex::new(index) };
    let mut machine = Typed::new(Readings::default());
    let command = Json::encode(&take("depth", 2.5)).unwrap().into();
    let mut replies = Replies::default();
    machine.apply(&[Committed { log_id: log_id(1), command }], &mut replies).unwrap();
    assert_eq!(unseal::<Readings>(&replies.as_slice()[0]), Ok(Reply::Count(1)));
    let mut bytes = Vec::new();
    machine.view().unwrap().write_to(&mut bytes).unwrap();

    let mut other = Typed::new(Readings::default());
    other.restore(log_id(1), &mut bytes.as_slice()).unwrap();
    let answer = other.query(&Json::encode(&"depth".to_owned()).unwrap()).unwrap();
    assert_eq!(answer, "2.5");
    let error = other.restore(log_id(1), &mut &bytes[1..]).unwrap_err();
    assert!(error.to_string().contains("makes no sense"), "{error}");
}

#[test]
fn a_reply_that_nobody_sealed_is_not_believed() {
    for (sealed, found) in [(&[][..], "found nothing"), (&[7, 1], "found 7")] {
        let error = unseal::<Readings>(sealed).unwrap_err();
        assert!(error.reason.contains(found), "{error}");
    }
}
