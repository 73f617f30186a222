//! Real nodes with real disks and sockets, for tests: a list of strings as the replicated state,
//! and a cluster that can be taken apart.

#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod ports;

use bytes::Bytes;
use ports::Port;
use quorate::{
    Committed, DriverOptions, Fatal, Fate, LogId, LogIndex, MembershipError, MembershipRefusal,
    MembershipWish, Node, NodeBuilder, NodeStatus, Options, QueryError, Refusal, Replies,
    SnapshotView, StateMachine, TransportOptions,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

/// How long a test waits for what must happen before it calls it a hang.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test: nobody is given up for being slow.
const NEVER: Duration = Duration::from_hours(1);

/// Remembers every command. Commands that begin with "die" or "panic" do what they say.
#[derive(Clone, Default)]
pub struct Words(Vec<Bytes>);

impl StateMachine for Words {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            if command.starts_with(b"die") {
                return Err(Fatal::new("told to die"));
            }
            assert!(!command.starts_with(b"panic"), "told to panic");
            self.0.push(command.clone());
            replies.push(self.0.len().to_string());
        }
        Ok(())
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        match query {
            b"all" => Ok(self.0.join(&b' ').into()),
            b"count" => Ok(self.0.len().to_string().into()),
            _ => Err(QueryError { reason: "ask for all, or count".to_owned() }),
        }
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut text = Vec::new();
        source.read_to_end(&mut text).map_err(|error| Fatal::caused_by("read", error))?;
        self.0.clear();
        let mut rest = Bytes::from(text);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest.split_to(4)[..].try_into().unwrap());
            self.0.push(rest.split_to(length as usize));
        }
        Ok(())
    }
}

impl SnapshotView for Words {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        for word in self.0 {
            target.write_all(&u32::try_from(word.len()).unwrap().to_le_bytes())?;
            target.write_all(&word)?;
        }
        Ok(())
    }
}

/// Callers wait for a leader for as long as they said, however long an election takes.
pub fn patient_driver() -> DriverOptions {
    DriverOptions { leaderless_wait: PATIENCE, ..DriverOptions::default() }
}

/// A connection to somebody who is slow to answer is kept: what is lost with one, such as a
/// forwarded command, or a vote that is asked for once in an hour, is none of these tests' business.
fn patient_transport() -> TransportOptions {
    TransportOptions {
        connect_timeout: PATIENCE,
        handshake_timeout: PATIENCE,
        control_silence_max: NEVER,
        bulk_silence_max: NEVER,
        ..TransportOptions::default()
    }
}

/// Three nodes, some of them up.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    ports: Vec<Port>,
    pub members: BTreeMap<u64, String>,
    pub up: BTreeMap<u64, Node>,
    pub options: Options,
    pub driver_options: DriverOptions,
}

impl Cluster {
    /// Three nodes, all down, their ports chosen.
    pub fn prepared() -> Self {
        let ports: Vec<Port> = (0..3).map(|_| Port::reserve()).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            members: (1..).zip(ports.iter().map(Port::address)).collect(),
            ports,
            up: BTreeMap::new(),
            options: Options {
                heartbeat_interval: Duration::from_millis(30),
                election_timeout: Duration::from_millis(300),
                disk_stall_timeout: NEVER,
                ..Options::default()
            },
            driver_options: patient_driver(),
        }
    }

    /// An address to listen at, the cluster's own for as long as it lives.
    pub fn address(&mut self) -> String {
        let port = Port::reserve();
        let address = port.address();
        self.ports.push(port);
        address
    }

    /// Three nodes, all up.
    pub async fn started() -> Self {
        let mut cluster = Self::prepared();
        cluster.start_all().await;
        cluster
    }

    /// Three nodes, all up, of which nobody begins an election by itself before an hour has passed.
    /// The first needs none: it founds the cluster alone and adds the others.
    pub async fn led_by_the_first(adapt: impl Fn(u64, NodeBuilder) -> NodeBuilder) -> Self {
        let mut cluster = Self::prepared();
        cluster.options.election_timeout = NEVER;
        for id in 1..=3 {
            let address = cluster.members[&id].clone();
            // Who founds a cluster alone listens nowhere by itself.
            let listener = TcpListener::bind(&address).unwrap();
            let builder = adapt(id, cluster.bare(id).listener(listener));
            let node = if id == 1 {
                builder.member(id, address).start(Words::default()).await.unwrap()
            } else {
                let node = builder.join().listen(address.clone()).start(Words::default());
                let node = node.await.unwrap();
                changed(|| cluster.up[&1].members().add_voter(id, address.clone())).await;
                node
            };
            cluster.up.insert(id, node);
        }
        cluster.connected().await;
        cluster
    }

    pub async fn start_all(&mut self) {
        for id in 1..=3 {
            self.start(id).await;
        }
    }

    pub async fn start(&mut self, id: u64) -> &Node {
        let node = self.builder(id).start(Words::default()).await.unwrap();
        self.up.insert(id, node);
        &self.up[&id]
    }

    pub fn folder(&self, id: u64) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub fn builder(&self, id: u64) -> NodeBuilder {
        let members = self.members.iter();
        members.fold(self.bare(id), |builder, (id, address)| builder.member(*id, address.clone()))
    }

    /// A node that knows no members yet.
    pub fn bare(&self, id: u64) -> NodeBuilder {
        Node::builder(id, self.folder(id))
            .options(self.options.clone())
            .driver_options(self.driver_options.clone())
            .transport_options(patient_transport())
    }

    pub async fn stop(&mut self, id: u64) {
        self.up.remove(&id).unwrap().stop().await;
    }

    pub async fn stop_all(&mut self) {
        for (_, node) in std::mem::take(&mut self.up) {
            node.stop().await;
        }
    }

    /// Waits until a node that is up leads, and all that are up know it.
    pub async fn leader(&self) -> u64 {
        loop {
            let first = self.up.values().next().unwrap();
            let leader = wait(first, |status| status.leader.is_some()).await.leader.unwrap();
            let mut agreed = self.up.contains_key(&leader.get());
            for node in self.up.values() {
                let status = wait(node, |status| status.leader.is_some()).await;
                agreed &= status.leader == Some(leader);
            }
            if agreed {
                return leader.get();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until each node that is up has called each other one: a vote that is asked for where
    /// there is no connection is not asked for again before the next election.
    async fn connected(&self) {
        let is_connected = |node: &Node| {
            let peers = node.metrics().peers();
            let count = peers.iter().filter(|(_, peer)| peer.is_connected.get() > 0).count();
            count + 1 == self.up.len()
        };
        let all_are = async {
            while !self.up.values().all(is_connected) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all_are).await.expect("each calls each other one");
    }

    /// Waits until every node that is up has applied as much as the leader has committed now.
    pub async fn settle(&self) -> LogIndex {
        let leader = self.leader().await;
        let commit_index = self.up[&leader].status().commit_index;
        for node in self.up.values() {
            wait(node, |status| status.applied >= commit_index).await;
        }
        commit_index
    }
}

/// Waits until a node's status is as wished.
pub async fn wait(
    node: &Node,
    mut is_as_wished: impl FnMut(&NodeStatus) -> bool,
) -> std::sync::Arc<NodeStatus> {
    let mut changes = node.status_changes();
    let waited = changes.wait_for(|status| is_as_wished(status));
    let status = tokio::time::timeout(PATIENCE, waited).await;
    let status = status.unwrap_or_else(|_| panic!("not as wished: {:?}", node.status())).unwrap();
    std::sync::Arc::clone(&status)
}

/// Waits until a node that is a cluster of its own leads it, and stays so.
pub async fn leads(node: &Node) {
    wait(node, NodeStatus::is_leader).await;
}

/// Changes the members, again where nothing was begun because the machine is busy: a leader lost its
/// office, or did not hear of a majority for a moment. Returns the version that the change made.
pub async fn changed<'a>(mut wish: impl FnMut() -> MembershipWish<'a>) -> u64 {
    let tries = async {
        loop {
            match wish().await {
                Ok(version) => return version,
                Err(
                    MembershipError::Lost
                    | MembershipError::Refused(
                        MembershipRefusal::UnderWay { .. }
                        | MembershipRefusal::VersionMismatch { .. }
                        | MembershipRefusal::WouldLoseQuorum { .. },
                    ),
                ) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(2 * PATIENCE, tries).await.expect("the members are changed")
}

/// Proposes a word until it is applied, again only if that is safe: a busy machine may depose a
/// leader at any moment. Returns how many there are then.
pub async fn say(node: &Node, word: impl Into<Bytes>) -> u64 {
    let word = word.into();
    loop {
        match node.propose(word.clone(), PATIENCE).await {
            Fate::Applied { reply, .. } => {
                return std::str::from_utf8(&reply).unwrap().parse().unwrap();
            }
            Fate::Lost { .. } | Fate::NotAppended(Refusal::NoLeader) => {}
            fate @ (Fate::NotAppended(_) | Fate::Unknown(_) | Fate::Refused(_)) => {
                panic!("{fate:?}")
            }
        }
    }
}
