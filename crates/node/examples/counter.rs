//! A counter that three nodes agree on.
//!
//! All three in one process, over real sockets and with real logs:
//!
//!     cargo run -p quorate --example counter
//!
//! Or one to a terminal; stop and start them as you like, the count goes on as long as two are up:
//!
//!     cargo run -p quorate --example counter -- 1
//!     cargo run -p quorate --example counter -- 2
//!     cargo run -p quorate --example counter -- 3

use quorate::{
    Committed, Consistency, Fatal, Fate, LogId, LogIndex, Node, QueryError, Replies, SnapshotView,
    StateMachine,
};
use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const NODES: [(u64, &str); 3] =
    [(1, "127.0.0.1:7501"), (2, "127.0.0.1:7502"), (3, "127.0.0.1:7503")];

/// The state that all nodes share: one number.
#[derive(Default)]
struct Counter {
    count: u64,
}

impl StateMachine for Counter {
    /// The number lives in memory; the log and snapshots bring it back after a restart.
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    /// Every command is "add one"; the reply is the new count.
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for _ in batch {
            self.count += 1;
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    /// Every query is "how many?".
    fn query(&self, _query: &[u8]) -> Result<bytes::Bytes, QueryError> {
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Frozen(self.count)))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 8];
        let read = source.read_exact(&mut bytes);
        read.map_err(|error| Fatal::caused_by("the snapshot is too short", error))?;
        self.count = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// The number as it was at one moment.
struct Frozen(u64);

impl SnapshotView for Frozen {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(&self.0.to_le_bytes())
    }
}

async fn start(id: u64) -> Result<Node, Box<dyn Error>> {
    let mut node = Node::builder(id, format!("counter-data/{id}"));
    for (member, address) in NODES {
        node = node.member(member, address);
    }
    Ok(node.start(Counter::default()).await?)
}

/// Adds one through `node`, whoever leads, and asks all of `nodes` for the count.
async fn count_on(node: &Node, nodes: &[Node]) {
    let id = node.status().id;
    match node.propose("add one", PATIENCE).await {
        Fate::Applied { log_id, reply } => println!("node {id}: added, {reply:?} at {log_id}"),
        Fate::NotAppended(refusal) => println!("node {id}: not added: {refusal}"),
        Fate::Lost { .. } => println!("node {id}: not added: another leader came first"),
        Fate::Refused(refusal) => println!("node {id}: not added: {refusal}"),
        Fate::Unknown(doubt) => println!("node {id}: perhaps added: {doubt}"),
    }
    for node in nodes {
        match node.read("how many?", Consistency::Linearizable, PATIENCE).await {
            Ok(count) => println!("    node {} reads {count:?}", node.status().id),
            Err(error) => println!("    node {} cannot read: {error}", node.status().id),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(id) = std::env::args().nth(1) {
        let node = start(id.parse()?).await?;
        loop {
            count_on(&node, std::slice::from_ref(&node)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let nodes = [start(1).await?, start(2).await?, start(3).await?];
    for node in nodes.iter().cycle().take(9) {
        count_on(node, &nodes).await;
    }
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}
