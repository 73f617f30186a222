//! What three nodes hold when one of them stands still, then their leader too, and proposals come in a
//! flood: no more than they were told to, and whoever finds no room is told so.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

mod common;

use bytes::Bytes;
use common::{Cluster, PATIENCE, changed, wait};
use peak_alloc::PeakAlloc;
use quorate::{
    Committed, Fatal, Fate, LogId, LogIndex, Node, NodeBuilder, NodeOptions, Options, QueryError,
    Refusal, Replies, SnapshotView, StateMachine,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const BUDGET_BYTES: usize = 24 << 20;
const COMMAND_BYTES: usize = 32 << 10;
/// More than twice the budget.
const COMMANDS_COUNT: usize = 2 * BUDGET_BYTES / COMMAND_BYTES;
const NEVER: Duration = Duration::from_hours(1);

/// Whether a machine may go on.
#[derive(Clone)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(true), Condvar::new())))
    }

    fn set(&self, is_open: bool) {
        *self.0.0.lock().unwrap() = is_open;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let is_open = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_while(is_open, |is_open| !*is_open).unwrap();
    }
}

/// Counts commands, and keeps none of them.
struct Counter {
    count: u64,
    gate: Gate,
}

impl StateMachine for Counter {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.gate.pass();
        for _ in batch {
            self.count += 1;
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(View(self.count)))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(|error| Fatal::caused_by("read", error))?;
        self.count = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct View(u64);

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(&self.0.to_le_bytes())
    }
}

fn adapt(builder: NodeBuilder) -> NodeBuilder {
    let options = Options {
        heartbeat_interval: Duration::from_millis(30),
        election_timeout: NEVER,
        disk_stall_timeout: NEVER,
        append_bytes_max: 2 * COMMAND_BYTES,
        snapshot_chunk_bytes_max: 2 * COMMAND_BYTES,
        ..Options::default()
    };
    let node = NodeOptions { command_bytes_max: 2 * COMMAND_BYTES, ..NodeOptions::default() };
    builder.options(options).node_options(node).memory_bytes_max(BUDGET_BYTES)
}

/// Three nodes, led by the first.
async fn started(cluster: &Cluster, gates: &[Gate]) -> BTreeMap<u64, Node> {
    let mut nodes = BTreeMap::new();
    for (id, gate) in (1..).zip(gates) {
        let address = cluster.members[&id].clone();
        let listener = TcpListener::bind(&address).unwrap();
        let builder = adapt(cluster.bare(id)).listener(listener);
        let machine = Counter { count: 0, gate: gate.clone() };
        let node = if id == 1 {
            builder.member(id, address).start(machine).await.unwrap()
        } else {
            let node = builder.join().listen(address.clone()).start(machine).await.unwrap();
            let first: &Node = &nodes[&1];
            changed(|| first.members().add_voter(id, address.clone())).await;
            node
        };
        nodes.insert(id, node);
    }
    nodes
}

#[derive(Debug, Default)]
struct Told {
    applied: u64,
    overloaded: u64,
}

impl Told {
    fn hear(&mut self, fate: &Fate) {
        match fate {
            Fate::Applied { .. } => self.applied += 1,
            Fate::NotAppended(Refusal::Overloaded { .. }) => self.overloaded += 1,
            Fate::NotAppended(_) | Fate::Lost { .. } | Fate::Unknown(_) | Fate::Refused(_) => {
                panic!("{fate:?}")
            }
        }
    }
}

/// A command in memory of its own.
async fn propose(node: Node) -> Fate {
    node.propose(vec![7; COMMAND_BYTES], PATIENCE).await
}

#[tokio::test]
async fn whatever_stands_still_nodes_hold_no_more_than_they_were_told_to() {
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let cluster = Cluster::prepared();
    let nodes = started(&cluster, &gates).await;
    let held_before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let mut told = Told::default();

    // A follower stands still: the others go on.
    gates[2].set(false);
    let mut flood = JoinSet::new();
    for _ in 0..COMMANDS_COUNT {
        if flood.len() >= 16 {
            told.hear(&flood.join_next().await.unwrap().unwrap());
        }
        flood.spawn(propose(nodes[&1].clone()));
    }
    while let Some(fate) = flood.join_next().await {
        told.hear(&fate.unwrap());
    }
    assert_eq!(told.overloaded, 0, "16 callers are not too many");

    // The leader does, too: nobody is answered, and from some point on nobody is let in.
    gates[0].set(false);
    let mut refused = 0;
    while refused < COMMANDS_COUNT {
        flood.spawn(propose(nodes[&1].clone()));
        tokio::task::yield_now().await;
        while let Some(fate) = flood.try_join_next() {
            let fate = fate.unwrap();
            refused += usize::from(matches!(fate, Fate::NotAppended(Refusal::Overloaded { .. })));
            told.hear(&fate);
        }
    }
    let most = MEMORY.peak_usage() - held_before;
    let limit = nodes.len() * BUDGET_BYTES;
    assert!(most <= limit, "{most} bytes of {limit}");

    // Both go on, and everything that was let in takes effect, once.
    for gate in &gates {
        gate.set(true);
    }
    while let Some(fate) = flood.join_next().await {
        told.hear(&fate.unwrap());
    }
    let commit_index = nodes[&1].status().commit_index;
    for node in nodes.values() {
        wait(node, |status| status.applied >= commit_index).await;
        let count = node.read("", quorate::Consistency::Local, PATIENCE).await.unwrap();
        assert_eq!(count, told.applied.to_string(), "{told:?}");
    }
    let most = MEMORY.peak_usage() - held_before;
    assert!(most <= limit, "{most} bytes of {limit} while everybody catches up");
    for (_, node) in nodes {
        node.stop().await;
    }
}
