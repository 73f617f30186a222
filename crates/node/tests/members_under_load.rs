//! A cluster grows from one to seven, shrinks, has all its members replaced one by one and all at once,
//! and ends as one, with real disks and sockets, while three clients write. Each change comes to its end,
//! writes go on through all of them, and everything that was acknowledged is there, once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, PATIENCE, Words, changed, wait};
use quorate::{Consistency, Fate, Member, MemberRole, MembershipError, Node, NodeId, NodeStatus};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const CLIENTS_COUNT: u64 = 3;
/// How many writes have to follow a change before the next one.
const WRITES_PER_CHANGE: u64 = 20;

/// What clients and the operator share.
#[derive(Default)]
struct Load {
    /// Whom clients may ask.
    asked: Mutex<Vec<Node>>,
    /// The members that are wished for.
    staying: Mutex<Vec<u64>>,
    applied: AtomicU64,
    /// Writes that were not acknowledged at the first try, by somebody who stays.
    failed: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    fn ask(&self, nodes: impl IntoIterator<Item = Node>) {
        *self.asked.lock().unwrap() = nodes.into_iter().collect();
    }

    fn somebody(&self, number: u64) -> Node {
        let asked = self.asked.lock().unwrap();
        asked[usize::try_from(number).unwrap() % asked.len()].clone()
    }

    /// Writes one word after the other; returns those that were acknowledged, and those of which nobody
    /// can say what became of them.
    async fn write(self: Arc<Self>, client: u64) -> (Vec<String>, Vec<String>) {
        let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
        let mut number = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            number += 1;
            let word = format!("c{client}-{number}");
            let mut tries = 0;
            loop {
                let node = self.somebody(client + number + tries);
                let fate = node.propose(word.clone(), Duration::from_secs(20)).await;
                // Whoever is about to leave may know of no leader any more.
                let stays = self.staying.lock().unwrap().contains(&node.status().id.get());
                let has_failed = tries == 0 && stays && !matches!(fate, Fate::Applied { .. });
                self.failed.fetch_add(u64::from(has_failed), Ordering::SeqCst);
                tries += 1;
                match fate {
                    Fate::Applied { .. } => {
                        self.applied.fetch_add(1, Ordering::SeqCst);
                        acknowledged.push(word);
                        break;
                    }
                    Fate::Unknown(_) => {
                        unknown.push(word);
                        break;
                    }
                    // It has no effect: somebody else is asked, who may know of a leader.
                    Fate::Lost { .. } | Fate::NotAppended(_) => tokio::task::yield_now().await,
                    fate @ Fate::Refused(_) => panic!("{fate:?}"),
                }
            }
        }
        (acknowledged, unknown)
    }
}

/// All nodes that run, and where they listen.
struct Nodes {
    cluster: Cluster,
    up: BTreeMap<u64, (Node, String)>,
    members: Vec<u64>,
    changes_count: u64,
    load: Arc<Load>,
}

impl Nodes {
    async fn founded() -> Self {
        let mut cluster = Cluster::prepared();
        let address = cluster.address();
        let listener = TcpListener::bind(&address).unwrap();
        let builder = cluster.bare(1).listener(listener).member(1, address.clone());
        let node = builder.start(Words::default()).await.unwrap();
        common::leads(&node).await;
        let load = Arc::new(Load::default());
        load.ask([node.clone()]);
        let up = BTreeMap::from([(1, (node, address))]);
        Self { cluster, up, members: vec![1], changes_count: 0, load }
    }

    fn node(&self, id: u64) -> Node {
        self.up[&id].0.clone()
    }

    /// The members are to be these; whoever does not run yet is started. One call, which says that strangers
    /// may be the majority, as they are when one becomes three.
    async fn become_these(&mut self, target: &[u64]) {
        for id in target {
            if !self.up.contains_key(id) {
                let address = self.cluster.address();
                let builder = self.cluster.bare(*id).join().listen(address.clone());
                let node = builder.start(Words::default()).await.unwrap();
                self.up.insert(*id, (node, address));
            }
        }
        let member = |id: &u64| Member {
            role: MemberRole::Voter,
            rank: 0,
            address: self.up[id].1.clone(),
            context: bytes::Bytes::new(),
        };
        let members: BTreeMap<NodeId, Member> =
            target.iter().map(|id| (NodeId::new(*id), member(id))).collect();
        let (stay, go): (Vec<u64>, Vec<u64>) =
            self.members.iter().partition(|id| target.contains(id));
        let asked = if stay.is_empty() { &self.members } else { &stay };
        self.load.ask(asked.iter().map(|id| self.node(*id)));
        *self.load.staying.lock().unwrap() = target.to_vec();
        let before = self.load.applied.load(Ordering::SeqCst);
        let through = self.node(asked[0]);
        let is_done = |status: &NodeStatus| {
            let configuration = &status.committed_configuration;
            configuration.change.is_none() && configuration.members.keys().eq(members.keys())
        };
        if stay.is_empty() {
            // Whoever goes may not hear how it ended.
            let told = through.members().set(members.clone()).force().await;
            assert!(told.is_ok() || matches!(told, Err(MembershipError::Unknown(_))), "{told:?}");
        } else {
            changed(|| through.members().set(members.clone()).force()).await;
        }
        wait(&self.node(target[0]), is_done).await;
        self.load.ask(target.iter().map(|id| self.node(*id)));
        for id in go {
            let (node, _) = self.up.remove(&id).unwrap();
            tokio::time::timeout(PATIENCE, node.removed()).await.unwrap().unwrap();
            node.stop().await;
        }
        self.members = target.to_vec();
        self.changes_count += 1;
        let writes_go_on = async {
            while self.load.applied.load(Ordering::SeqCst) < before + WRITES_PER_CHANGE {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, writes_go_on).await.expect("writes go on");
    }
}

#[tokio::test]
async fn a_cluster_grows_is_replaced_and_shrinks_while_it_is_written_to() {
    let mut nodes = Nodes::founded().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS_COUNT {
        clients.spawn(Arc::clone(&nodes.load).write(client));
    }
    let first_term = nodes.node(1).status().current_term;
    for target in [
        // Grow.
        &[1, 2, 3][..],
        &[1, 2, 3, 4, 5],
        &[1, 2, 3, 4, 5, 6, 7],
        // Shrink.
        &[5, 6, 7],
        // All of them, one by one.
        &[6, 7, 8],
        &[7, 8, 9],
        &[8, 9, 10],
        // All of them at once.
        &[11, 12, 13],
        &[12],
    ] {
        nodes.become_these(target).await;
    }
    nodes.load.is_over.store(true, Ordering::SeqCst);
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    while let Some(words) = clients.join_next().await {
        let (mut certain, mut open) = words.unwrap();
        acknowledged.append(&mut certain);
        unknown.append(&mut open);
    }

    let last = nodes.node(12);
    wait(&last, |status| status.is_ready).await;
    let all = last.read("all", Consistency::Linearizable, PATIENCE).await.unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in std::str::from_utf8(&all).unwrap().split(' ') {
        *counts.entry(word).or_default() += 1;
    }
    for word in &acknowledged {
        assert_eq!(counts.remove(word.as_str()), Some(1), "{word}");
    }
    for (word, count) in counts {
        assert!(unknown.iter().any(|it| it == word) && count == 1, "{word}: {count} times");
    }
    // An election may cost each client the write that it has under way, and a change the next one: it asks
    // somebody who has just left, or is not there yet.
    let elections = last.status().current_term.get() - first_term.get();
    let failed = nodes.load.failed.load(Ordering::SeqCst);
    let allowed = CLIENTS_COUNT * (2 * elections + nodes.changes_count);
    assert!(failed <= allowed, "{failed} writes failed in {elections} elections");
    last.stop().await;
}
