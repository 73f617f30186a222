//! A cluster whose servers have a machine each, clients of every kind at work on it, and at the end
//! the judgement of everything that they were told. What happens to the servers meanwhile is the
//! test's business.

use crate::harness::{Client, Cluster, Options, eventually, seed};
use crate::history::Record;
use crate::judge;
use crate::leases::Leases;
use crate::network::Network;
use crate::watched::{self, Watched};
use crate::watcher::{Habit, Watcher};
use crate::workload::{self, Shared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// A snapshot every so many entries: whoever was away may need one.
const SNAPSHOT_COUNT: &str = "500";
/// So many operations are acknowledged before something happens, while it lasts, and after it.
const OPERATION_COUNT: u64 = 100;
/// How long a question that must not hold up a test may take.
const QUICK: Duration = Duration::from_secs(1);

/// What a test may lay hands on.
pub(crate) struct Stage {
    // Before the network: the processes go first.
    pub(crate) cluster: Cluster,
    pub(crate) network: Network,
    /// How its servers were started.
    pub(crate) options: Options,
    /// The servers that are members.
    pub(crate) members: Vec<usize>,
    shared: Arc<Shared>,
}

impl Stage {
    /// Waits until clients have got some work done.
    pub(crate) async fn work(&self) {
        self.shared.acknowledged(OPERATION_COUNT).await;
    }

    /// Waits until the members but for `these` have a leader among them, and clients get work done,
    /// and what happened has lasted long enough that everybody has felt it.
    pub(crate) async fn work_without(&self, these: &[usize]) {
        let felt = tokio::time::Instant::now() + 2 * ELECTION_TIMEOUT;
        self.leader_without(these).await;
        self.work().await;
        // How long it lasts, not a wait for anything.
        tokio::time::sleep_until(felt).await;
    }

    /// The leader.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_without(&[]).await
    }

    /// Waits until most of the members agree on a leader, `these` not being asked.
    async fn leader_without(&self, these: &[usize]) -> usize {
        let others = self.members.iter().filter(|index| !these.contains(index));
        eventually("a leader", async || {
            let mut claims = Vec::new();
            for index in others.clone() {
                let status = self.cluster.client(*index).with_timeout(QUICK).status().await;
                let Ok(status) = status else { continue };
                let own_id = status.header.as_ref().map(|header| header.member_id)?;
                claims.push((status.raft_term, status.leader, own_id, *index));
            }
            let (term, leader, ..) = *claims.iter().max()?;
            let agreed = claims.iter().filter(|claim| (claim.0, claim.1) == (term, leader));
            let is_most = agreed.clone().count() > self.members.len() / 2;
            let found = agreed.clone().find(|claim| claim.2 == leader)?.3;
            is_most.then_some(found)
        })
        .await
    }

    /// Undoes all cuts, and waits until each member is in touch with the others.
    pub(crate) async fn heal(&mut self) {
        self.network.heal();
        self.all_serve().await;
    }

    /// Waits until each member is in touch with the others, and clients get work done.
    pub(crate) async fn all_serve(&mut self) {
        for index in self.members.clone() {
            self.cluster.ready(index).await;
        }
        self.work().await;
    }

    /// Checks that a member that is cut off from most others carries out nothing and knows it.
    pub(crate) async fn assert_serves_nobody(&self, index: usize) {
        let client = self.cluster.client(index).with_timeout(2 * ELECTION_TIMEOUT);
        assert!(client.put("alone", "v").await.is_err(), "n{} acknowledges a write", index + 1);
        assert!(client.get("alone").await.is_err(), "n{} answers a read", index + 1);
    }
}

/// See the module.
pub(crate) struct Story {
    stage: Stage,
    seed: u64,
    act_count: u64,
    history: Vec<Record>,
    watchers: Vec<Watcher>,
    leases: Leases,
}

impl Story {
    /// Servers on machines of their own, with watchers and leases. `None` if there shall be no such
    /// tests.
    pub(crate) async fn begin(name: &str, server_count: usize) -> Option<Self> {
        let network = Network::of(server_count)?;
        let mut options = Options::servers(server_count);
        options.heartbeat_ms = 50;
        options.election_timeout_ms = 500;
        options.machines = network.machines();
        options.more.push(("--snapshot-count".to_owned(), SNAPSHOT_COUNT.to_owned()));
        let mut cluster = Cluster::new(name, &options);
        cluster.start_all().await;
        let urls: Vec<String> =
            cluster.indexes().map(|index| cluster.server(index).client.url()).collect();
        let staying = cluster.indexes().map(|index| Watcher::begin(&urls, index, Habit::Stays));
        let mut watchers: Vec<Watcher> = staying.collect();
        watchers.extend([0, 1].map(|index| Watcher::begin(&urls, index, Habit::Moves)));
        let leases = Leases::begin(&urls).await;
        let seed = seed();
        println!("QUORATE_SEED={seed}");
        let (shared, members) = (Shared::new(cluster.clients()), cluster.indexes().collect());
        let stage = Stage { cluster, network, options, members, shared };
        Some(Self { stage, seed, act_count: 0, history: Vec::new(), watchers, leases })
    }

    /// The seed of its random choices.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// What happens while clients write, read, delete and swap, on keys of this act's own.
    pub(crate) async fn act(&mut self, plot: impl AsyncFnOnce(&mut Stage)) {
        let shared = self.stage.shared.clone();
        let plot = plot(&mut self.stage);
        let ((), records) = workload::round(&shared, self.seed, self.act_count, plot).await;
        println!("act {}: {} operations", self.act_count, records.len());
        self.act_count += 1;
        self.history.extend(records);
    }

    /// The end: waits for every watcher and for the end of every lease, and judges.
    pub(crate) async fn end(self) {
        let Self { stage, mut history, watchers, leases, .. } = self;
        let last_reads = workload::read_all(&stage.shared, &history).await;
        history.extend(last_reads);
        let ended = leases.end(&stage.cluster).await;
        let revision = last_revision(&stage).await;
        let mut first: Option<Watched> = None;
        for watcher in watchers {
            let told = watcher.end(revision).await;
            let watched = passes(watched::follow(&told));
            let stream_count = told.last().map_or(0, |message| message.stream);
            println!("{} messages on {stream_count} streams", told.len());
            ended.assert_told(&told, &watched);
            passes(watched.accounts_for(&history));
            if let Some(first) = &first {
                passes(first.same_as(&watched));
            }
            first.get_or_insert(watched);
        }
        passes(judge::linearizable(&history));
        passes(judge::revisions_in_order(&history));
        assert_eq!(judge::lost_writes(&history), 0, "no acknowledged write may be lost");
        stage.cluster.assert_equal_replicas().await;
        assert_ends_as_watched(&stage, &first.expect("somebody watched")).await;
        stage.cluster.finish();
    }
}

fn passes<T>(verdict: Result<T, String>) -> T {
    verdict.unwrap_or_else(|evidence| panic!("{evidence}"))
}

/// A revision behind everything that clients did.
async fn last_revision(stage: &Stage) -> i64 {
    stage.cluster.put_until_acknowledged(&stage.members, "end", "of the story").await;
    let client: &Client = stage.cluster.client(stage.members[0]);
    let range = || {
        client.range(quorate_etcd_api::etcdserverpb::RangeRequest {
            key: "end".into(),
            ..Default::default()
        })
    };
    let answer = eventually("a read of the end", async || range().await.ok()).await;
    answer.header.expect("every answer has a header").revision
}

/// What a watcher made of the changes is what the servers hold.
async fn assert_ends_as_watched(stage: &Stage, watched: &Watched) {
    let client = stage.cluster.client(stage.members[0]);
    let revision = watched.changes.keys().last().copied().unwrap_or_default();
    let found = client.everything_at(revision).await.expect("there was no compaction");
    let held: BTreeMap<Vec<u8>, _> =
        found.kvs.into_iter().map(|pair| (pair.key.to_vec(), pair)).collect();
    assert!(held == watched.keys, "watchers know other keys than the servers at {revision}");
}
