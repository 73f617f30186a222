//! The words in which a scenario is told. A judge that speaks ends the story: what follows does
//! nothing, and [`Cluster::finish`] returns what was said.

use super::Cluster;
use super::trouble::{both_ways, crossing};
use crate::application::{Application, Findings, OpId, Outcome, Request};
use crate::judge::Breach;
use quorate::Input;
use quorate_core::NodeId;
use std::time::Duration;

/// So many seconds of virtual time.
#[must_use]
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl<A: Application> Cluster<A> {
    /// Lets the world go on for this long.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now.after(duration));
    }

    /// Lets at most this many things happen.
    pub fn run_steps(&mut self, count: u64) {
        for _ in 0..count {
            if !self.step() {
                return;
            }
        }
    }

    /// Cuts every link between these nodes and those.
    pub fn partition<const N: usize, const M: usize>(&mut self, one: [u64; N], two: [u64; M]) {
        let links = both_ways(&one.map(NodeId::new), &two.map(NodeId::new));
        self.trace.headline(self.now, None, format!("partition: {one:?} and {two:?}"));
        self.cut(&links);
    }

    /// Cuts the links from these nodes to those; the way back stays open.
    pub fn cut_one_way<const N: usize, const M: usize>(&mut self, from: [u64; N], to: [u64; M]) {
        let links = crossing(&from.map(NodeId::new), &to.map(NodeId::new));
        self.trace.headline(self.now, None, format!("cut: {from:?} to {to:?}"));
        self.cut(&links);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: u64) {
        let others: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| id.get() != node).collect();
        self.trace.headline(self.now, Some(NodeId::new(node)), "is isolated".to_owned());
        self.cut(&both_ways(&[NodeId::new(node)], &others));
    }

    /// Mends every link.
    pub fn mend_network(&mut self) {
        self.trace.headline(self.now, None, "the network is mended".to_owned());
        self.network.mend_all();
    }

    /// A node loses power, and with it everything that it had not synced.
    pub fn crash(&mut self, node: u64) {
        self.power_failure(NodeId::new(node));
    }

    /// A node that is down starts.
    pub fn restart(&mut self, node: u64) {
        let id = NodeId::new(node);
        if self.nodes.get(&id).is_some_and(super::node::SimNode::is_down) {
            self.start(id);
        }
    }

    /// A node's process is stopped for this long; its clock goes on.
    pub fn pause(&mut self, node: u64, duration: Duration) {
        let id = NodeId::new(node);
        self.pause_node(id);
        let resume = super::happening::Happening::Resume { node: id };
        self.queue.push(self.now.after(duration), resume);
    }

    /// Asks the leader to hand over to this node.
    pub fn transfer_leadership(&mut self, to: u64) {
        if let Some(leader) = self.leader() {
            let to = Some(NodeId::new(to));
            self.tell(NodeId::new(leader), Input::TransferLeadership { to });
        }
    }

    /// Asks a node something of the application's choosing, and lets the world go on until there
    /// is an answer, or until `patience` is over (`None`).
    pub fn ask_node(
        &mut self,
        node: u64,
        patience: Duration,
        request: impl FnOnce(&mut A, OpId, u64) -> Request,
    ) -> Option<Outcome> {
        let (op, moment) = (self.clients.next_op(), self.clients.next_moment());
        let request = request(&mut self.application, op, moment);
        self.post(op, None, NodeId::new(node), request);
        let until = self.now.after(patience);
        while !self.clients.told.contains_key(&op) {
            if self.queue.next_time().is_none_or(|next| next > until) || !self.step() {
                return None;
            }
        }
        self.clients.told.remove(&op)
    }

    /// Runs until some node leads, for at most this long; returns which.
    pub fn wait_for_leader(&mut self, patience: Duration) -> Option<u64> {
        let until = self.now.after(patience);
        while self.leader().is_none() {
            if self.queue.next_time().is_none_or(|next| next > until) || !self.step() {
                return None;
            }
        }
        self.leader()
    }

    /// How far a node has applied the log; `None` if it is down.
    #[must_use]
    pub fn applied(&self, node: u64) -> Option<u64> {
        self.running(NodeId::new(node)).map(|running| running.driver.applied().get())
    }

    /// Ends the story: heals everything, and demands convergence.
    ///
    /// # Errors
    ///
    /// What a judge said, during the story or at its end.
    pub fn finish(mut self) -> Result<Findings, Breach> {
        self.converge()
    }
}
