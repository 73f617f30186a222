//! The peer: three openraft nodes that call each other as functions, with logs in maps.

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, Config, Entry, EntryPayload, LogId, LogState, OptionalSend, Raft, RaftLogReader,
    RaftNetwork, RaftNetworkFactory, RaftSnapshotBuilder, Snapshot, SnapshotMeta, SnapshotPolicy,
    StorageError, StoredMembership, Vote,
};
use quorate_peers::COMMAND_BYTES;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, OnceLock};

openraft::declare_raft_types!(
    /// What this benchmark replicates.
    pub Types:
        D = Bytes,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        Entry = Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>
);

type Failure = StorageError<u64>;

#[derive(Debug, Default)]
struct Log {
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

/// A log in a map.
#[derive(Clone, Debug, Default)]
struct LogStore(Arc<Mutex<Log>>);

impl LogStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<Entry<Types>>, Failure> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let log = self.lock();
        let last = log.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        Ok(self.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.lock().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        self.lock().entries.split_off(&log_id.index);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), Failure> {
        let mut log = self.lock();
        log.purged = Some(log_id);
        log.entries = log.entries.split_off(&(log_id.index + 1));
        Ok(())
    }
}

/// Remembers how far it is, and nothing else.
#[derive(Clone, Debug, Default)]
struct Machine {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let snapshot_id = format!("{:?}", self.applied);
        let last_membership = self.membership.clone();
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership, snapshot_id };
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(Vec::new())) })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), Failure> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failure> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        Ok(None)
    }
}

/// Everybody, by their ids from 1 on.
#[derive(Clone, Default)]
struct Nodes(Arc<[OnceLock<Raft<Types>>; 3]>);

impl Nodes {
    fn get(&self, id: u64) -> &Raft<Types> {
        self.0[(id - 1) as usize].get().expect("all nodes are there before one is asked")
    }
}

struct Connection {
    nodes: Nodes,
    to: u64,
}

impl RaftNetworkFactory<Types> for Nodes {
    type Network = Connection;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Connection {
        Connection { nodes: self.clone(), to }
    }
}

type Answer<T, E = RaftError<u64>> = Result<T, RPCError<u64, BasicNode, E>>;

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        Ok(self.nodes.get(self.to).append_entries(request).await.expect("it lives"))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        Ok(self.nodes.get(self.to).install_snapshot(request).await.expect("it lives"))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Answer<VoteResponse<u64>> {
        Ok(self.nodes.get(self.to).vote(request).await.expect("it lives"))
    }
}

/// A cluster, its clients, its end; returns how many commands were applied.
pub async fn run(client_count: usize, each: usize) -> usize {
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        snapshot_policy: SnapshotPolicy::Never,
        max_payload_entries: 1024,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("it makes sense"));
    let nodes = Nodes::default();
    for id in 1..=3 {
        let (log, machine) = (LogStore::default(), Machine::default());
        let raft = Raft::new(id, Arc::clone(&config), nodes.clone(), log, machine);
        let raft = raft.await.expect("a node starts");
        assert!(nodes.0[(id - 1) as usize].set(raft).is_ok(), "each is new");
    }
    let members: BTreeMap<u64, BasicNode> = (1..=3).map(|id| (id, BasicNode::default())).collect();
    nodes.get(1).initialize(members).await.expect("the cluster is new");
    let wait = nodes.get(1).wait(None);
    wait.metrics(|metrics| metrics.current_leader == Some(1), "it leads").await.expect("it leads");
    let count = serve(&nodes, client_count, each).await;
    for id in 1..=3 {
        nodes.get(id).shutdown().await.expect("it ends");
    }
    count
}

async fn serve(nodes: &Nodes, client_count: usize, each: usize) -> usize {
    let clients: Vec<_> = (0..client_count)
        .map(|_| {
            let leader = nodes.get(1).clone();
            tokio::spawn(async move {
                let command = Bytes::from(vec![7; COMMAND_BYTES]);
                for _ in 0..each {
                    leader.client_write(command.clone()).await.expect("it is applied");
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
