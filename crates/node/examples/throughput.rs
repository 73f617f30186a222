//! How many commands a second three nodes of this process agree on, with a state machine that does
//! nothing, real sockets and real fsyncs:
//!
//!     cargo run --release -p quorate --example throughput -- [clients ...]
//!
//! Clients are tasks, spread over the nodes; each has one command of 256 bytes under way. With
//! `leader` as the first argument, all of them talk to the leader. With `read=linearizable`,
//! `read=lease`, `read=bounded` or `read=local` they read instead, and the figures are those of reads.

#![allow(clippy::indexing_slicing, clippy::cast_precision_loss)]

use bytes::Bytes;
use quorate::{
    Committed, Consistency, Drift, Fatal, Fate, LogId, LogIndex, Node, Options, QueryError,
    Replies, SnapshotView, StateMachine,
};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SECONDS: u64 = 4;
const VALUE_BYTES: usize = 256;

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

    fn query(&self, _query: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Self))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Ok(())
    }
}

impl SnapshotView for Nothing {
    fn write_to(self: Box<Self>, _: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let only_leader = arguments.first().is_some_and(|first| first == "leader");
    arguments.retain(|argument| argument != "leader");
    let read = arguments.iter().find_map(|argument| argument.strip_prefix("read="));
    let read = read.map(consistency).transpose()?;
    arguments.retain(|argument| !argument.starts_with("read="));
    let mut client_counts: Vec<usize> =
        arguments.iter().map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    if client_counts.is_empty() {
        client_counts = vec![1, 64, 256];
    }
    let dir = tempfile::tempdir_in(".")?;
    let lease_reads = matches!(read, Some(Consistency::Lease { .. }));
    let nodes = start(dir.path(), lease_reads).await?;
    let fate = nodes[0].propose("warm up", PATIENCE).await;
    assert!(matches!(fate, Fate::Applied { .. }), "{fate:?}");
    println!("clients     put/s   p50 us   p99 us   fsyncs/put   turns/put   CPU s/1M puts");
    for count in client_counts {
        let led: Vec<Node> = nodes
            .iter()
            .filter(|node| !only_leader || node.status().is_leader())
            .cloned()
            .collect();
        measure(&nodes, &led, count, read).await?;
    }
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}

fn consistency(name: &str) -> Result<Consistency, String> {
    Ok(match name {
        "linearizable" => Consistency::Linearizable,
        "lease" => Consistency::Lease { max_drift: Drift::parts_per_million(1_000) },
        "bounded" => Consistency::Bounded(Duration::from_secs(1)),
        "local" => Consistency::Local,
        got => return Err(format!("expected linearizable, lease, bounded or local, got {got}")),
    })
}

async fn start(dir: &std::path::Path, lease_reads: bool) -> Result<Vec<Node>, Box<dyn Error>> {
    let mut listeners = Vec::new();
    for id in 1..=3_u64 {
        listeners.push((id, TcpListener::bind("127.0.0.1:0")?));
    }
    let mut members = Vec::new();
    for (id, listener) in &listeners {
        members.push((*id, listener.local_addr()?.to_string()));
    }
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        let mut node = Node::builder(id, dir.join(id.to_string())).listener(listener);
        node = node.options(Options { lease_reads, ..Options::default() });
        for (member, address) in &members {
            node = node.member(*member, address.clone());
        }
        nodes.push(node.start(Nothing).await?);
    }
    Ok(nodes)
}

async fn measure(
    all: &[Node],
    nodes: &[Node],
    count: usize,
    read: Option<Consistency>,
) -> Result<(), Box<dyn Error>> {
    let before = counted(all);
    let cpu_before = cpu_seconds()?;
    let start = Instant::now();
    let clients: Vec<_> = (0..count)
        .map(|client| tokio::spawn(ask_until(nodes[client % nodes.len()].clone(), read, start)))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.append(&mut client.await?);
    }
    let elapsed = start.elapsed().as_secs_f64();
    let after = counted(all);
    latencies.sort_unstable();
    let puts = latencies.len() as f64;
    println!(
        "{count:7}  {:8.0}  {:7}  {:7}  {:11.3}  {:10.3}  {:14.2}",
        puts / elapsed,
        latencies[latencies.len() / 2].as_micros(),
        latencies[latencies.len() * 99 / 100].as_micros(),
        (after.0 - before.0) as f64 / puts,
        (after.1 - before.1) as f64 / puts,
        (cpu_seconds()? - cpu_before) / puts * 1e6,
    );
    Ok(())
}

async fn ask_until(node: Node, read: Option<Consistency>, start: Instant) -> Vec<Duration> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let mut latencies = Vec::new();
    while start.elapsed().as_secs() < SECONDS {
        let sent = Instant::now();
        if let Some(consistency) = read {
            let answer = node.read("", consistency, PATIENCE).await;
            assert!(answer.is_ok(), "{answer:?}");
        } else {
            let fate = node.propose(value.clone(), PATIENCE).await;
            assert!(matches!(fate, Fate::Applied { .. }), "{fate:?}");
        }
        latencies.push(sent.elapsed());
    }
    latencies
}

/// Fsyncs and turns of the event loop, on all nodes.
fn counted(nodes: &[Node]) -> (u64, u64) {
    nodes.iter().fold((0, 0), |(fsyncs, turns), node| {
        (fsyncs + node.metrics().fsync.count(), turns + node.metrics().turns.get())
    })
}

/// User and system time of this process, as Linux tells it, in seconds.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / TICKS_PER_SECOND)
}
