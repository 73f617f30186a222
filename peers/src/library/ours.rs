//! Our side: three `quorate::Node`s with their sockets and logs, in a folder in memory.

use bytes::Bytes;
use quorate::{
    Committed, Fatal, Fate, LogId, LogIndex, Node, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_peers::COMMAND_BYTES;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

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

/// A cluster, its clients, its end; returns how many commands were applied.
pub async fn run(client_count: usize, each: usize) -> usize {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder can be made");
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("it has an address").to_string())
        .collect();
    let mut nodes = Vec::new();
    for (id, listener) in (1_u64..).zip(listeners) {
        let mut builder = Node::builder(id, folder.path().join(id.to_string())).listener(listener);
        for (member, address) in (1_u64..).zip(&addresses) {
            builder = builder.member(member, address.clone());
        }
        nodes.push(builder.start(Nothing).await.expect("a node starts"));
    }
    let count = serve(&nodes, client_count, each).await;
    for node in nodes {
        node.stop().await;
    }
    count
}

async fn serve(nodes: &[Node], client_count: usize, each: usize) -> usize {
    let fate = nodes[0].propose("first", PATIENCE).await;
    assert!(matches!(fate, Fate::Applied { .. }), "{fate:?}");
    let leader = nodes.iter().find(|node| node.status().is_leader()).expect("one leads").clone();
    let clients: Vec<_> = (0..client_count)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                let command = Bytes::from(vec![7; COMMAND_BYTES]);
                for _ in 0..each {
                    let fate = leader.propose(command.clone(), PATIENCE).await;
                    assert!(matches!(fate, Fate::Applied { .. }), "{fate:?}");
                }
                each
            })
        })
        .collect();
    let mut count = 0;
    for client in clients {
        count += client.await.expect("a client ends");
    }
    count
}
