//! What a story may look at: roles, terms, logs, messages. Looks at nodes from outside, as a test
//! would; changes nothing that a node could notice.

use super::Cluster;
use super::rpcs::RpcCounts;
use crate::application::Application;
use crate::judge::Breach;
use quorate_core::{NodeId, Role};
use std::collections::BTreeMap;

/// Term and vote, as a log keeps them beside its entries.
const HARD_STATE_BYTES: u64 = 24;

impl<A: Application> Cluster<A> {
    /// The nodes of this world.
    #[must_use]
    pub fn node_ids(&self) -> Vec<u64> {
        self.nodes.keys().map(|id| id.get()).collect()
    }

    /// Whether a node is up, its disk read and its loop running.
    #[must_use]
    pub fn is_up(&self, node: u64) -> bool {
        self.running(NodeId::new(node)).is_some()
    }

    /// Whether a node is plugged in; see [`Self::disconnect`].
    #[must_use]
    pub fn is_connected(&self, node: u64) -> bool {
        !self.network.is_unplugged(NodeId::new(node))
    }

    /// The role of a node, if it is up.
    #[must_use]
    pub fn role(&self, node: u64) -> Option<Role> {
        self.running(NodeId::new(node)).map(|running| running.driver.raft().role())
    }

    /// The latest term that a node has seen, if it is up.
    #[must_use]
    pub fn term(&self, node: u64) -> Option<u64> {
        self.running(NodeId::new(node)).map(|running| running.driver.raft().current_term().get())
    }

    /// How far a node has applied the log; `None` if it is down.
    #[must_use]
    pub fn applied(&self, node: u64) -> Option<u64> {
        self.running(NodeId::new(node)).map(|running| running.driver.applied().get())
    }

    /// Whose replies a node knows to be others than its own, and from which entry on; none if it is down.
    #[must_use]
    pub fn differing(&self, node: u64) -> Vec<(u64, Option<u64>)> {
        let Some(running) = self.running(NodeId::new(node)) else { return Vec::new() };
        let known = running.driver.differing().iter();
        known.map(|it| (it.peer.get(), it.index.map(quorate_core::LogIndex::get))).collect()
    }

    /// What a node's log begins after, if it is up.
    #[must_use]
    pub fn base(&self, node: u64) -> Option<u64> {
        let raft = self.running(NodeId::new(node))?.driver.raft();
        Some(raft.base().last_included.index.get())
    }

    /// The index of a node's last entry, if it is up.
    #[must_use]
    pub fn last_index(&self, node: u64) -> Option<u64> {
        self.running(NodeId::new(node)).map(|running| running.driver.raft().last_log().index.get())
    }

    /// Of the nodes that are up and plugged in, those that believe to lead, by term.
    #[must_use]
    pub fn leaders(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut leaders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for node in self.node_ids().into_iter().filter(|node| self.is_connected(*node)) {
            if let (Some(Role::Leader), Some(term)) = (self.role(node), self.term(node)) {
                leaders.entry(term).or_default().push(node);
            }
        }
        leaders
    }

    /// How many of the nodes that are up have applied the log up to here.
    #[must_use]
    pub fn applied_count(&self, index: u64) -> usize {
        self.node_ids().into_iter().filter(|node| self.applied(*node) >= Some(index)).count()
    }

    /// Whether this command is committed at this index, as far as anybody has applied it.
    #[must_use]
    pub fn is_committed(&self, index: u64, command: &[u8]) -> bool {
        self.safety.is_command_at(index, command)
    }

    /// The requests that have reached a node.
    #[must_use]
    pub fn rpcs(&self, node: u64) -> RpcCounts {
        self.rpcs.get(&NodeId::new(node)).copied().unwrap_or_default()
    }

    /// The requests that have reached any node.
    #[must_use]
    pub fn all_rpcs(&self) -> RpcCounts {
        self.rpcs.values().fold(RpcCounts::default(), |sum, counts| sum + *counts)
    }

    /// What a node keeps durably beside its newest snapshot, in bytes: the entries of its log after
    /// that snapshot, each with its overhead, and term and vote. What a file still holds of
    /// released entries does not count: it goes with its segment. `None` if the node is down.
    pub fn log_bytes(&mut self, node: u64) -> Option<u64> {
        let node = self.nodes.get_mut(&NodeId::new(node))?;
        let disk = node.disk.clone();
        let running = node.running_mut()?;
        let wal = running.log.worker.wal();
        let (first, last) = (wal.first_index(), wal.last_log().index);
        let (entries, task, _) = disk.run(|| wal.read(first, last, usize::MAX));
        disk.finish(task);
        let sizes = entries.ok()?.into_iter().map(|entry| entry.size_bytes());
        Some(HARD_STATE_BYTES + u64::try_from(sizes.sum::<usize>()).unwrap_or(u64::MAX))
    }

    /// The size of the file of a node's newest snapshot, in bytes; `None` if the node is down or
    /// has none.
    pub fn snapshot_bytes(&mut self, node: u64) -> Option<u64> {
        let node = self.nodes.get_mut(&NodeId::new(node))?;
        let disk = node.disk.clone();
        let running = node.running_mut()?;
        let last_included = running.machine.worker.latest()?.last_included;
        let (reader, task, _) = disk.run(|| running.store.lock().reader(last_included));
        disk.finish(task);
        reader.ok().map(|reader| reader.size_bytes())
    }

    /// What a judge said, if one has.
    #[must_use]
    pub const fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }
}
