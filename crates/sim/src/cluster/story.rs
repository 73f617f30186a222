//! The words in which a scenario is told. A judge that speaks ends the story: what follows does
//! nothing, and [`Cluster::finish`] returns what was said.

use super::wires::{both_ways, crossing, names};
use super::{Cluster, ReadKinds};
use crate::application::{Application, Findings, OpId, Outcome, Request};
use crate::disk::{CrashStyle, DiskFaults};
use crate::faults::NetworkFaults;
use crate::judge::Breach;
use crate::rng::Chance;
use bytes::Bytes;
use quorate::{Input, Ticket};
use quorate_core::{LogId, NodeId, Role, Time};
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
    pub fn partition(
        &mut self,
        one: impl IntoIterator<Item = u64>,
        two: impl IntoIterator<Item = u64>,
    ) {
        let (one, two) = (ids(Vec::from_iter(one)), ids(Vec::from_iter(two)));
        self.trace.headline(self.now, None, format!("cut: {} from {}", names(&one), names(&two)));
        self.cut(&both_ways(&one, &two));
    }

    /// Cuts the links from these nodes to those; the way back stays open.
    pub fn cut_one_way<const N: usize, const M: usize>(&mut self, from: [u64; N], to: [u64; M]) {
        let (from, to) = (from.map(NodeId::new), to.map(NodeId::new));
        let text = format!("cut: the way from {} to {}", names(&from), names(&to));
        self.trace.headline(self.now, None, text);
        self.cut(&crossing(&from, &to));
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: u64) {
        let others: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| id.get() != node).collect();
        self.trace.headline(self.now, Some(NodeId::new(node)), "is isolated".to_owned());
        self.cut(&both_ways(&[NodeId::new(node)], &others));
    }

    /// Pulls a node's plug on the network: nothing reaches it and it reaches nobody, its clients
    /// included.
    pub fn disconnect(&mut self, node: u64) {
        self.trace.headline(self.now, Some(NodeId::new(node)), "is disconnected".to_owned());
        self.network.unplug(NodeId::new(node), true);
    }

    /// Undoes [`Self::disconnect`].
    pub fn reconnect(&mut self, node: u64) {
        self.trace.headline(self.now, Some(NodeId::new(node)), "is connected again".to_owned());
        self.network.unplug(NodeId::new(node), false);
    }

    /// From now on messages travel like this.
    pub fn set_network(&mut self, faults: NetworkFaults) {
        self.options.faults.network = faults;
        self.network.set_faults(faults);
    }

    /// Mends every link, and plugs every node in.
    pub fn mend_network(&mut self) {
        self.trace.headline(self.now, None, "the network is mended".to_owned());
        self.network.mend_all();
    }

    /// A node loses power, and with it everything that it had not synced.
    pub fn crash(&mut self, node: u64) {
        self.power_failure(NodeId::new(node));
    }

    /// No sync of a node's disk succeeds from now on, until it starts again.
    pub fn fail_syncs(&mut self, node: u64) {
        let id = NodeId::new(node);
        self.trace.headline(self.now, Some(id), "its disk syncs nothing any more".to_owned());
        if let Some(node) = self.nodes.get(&id) {
            node.disk
                .set_faults(DiskFaults { sync_fails: Chance::ALWAYS, ..DiskFaults::default() });
        }
    }

    /// A node's process dies; the machine goes on, and with it what was not synced.
    pub fn kill(&mut self, node: u64) {
        self.crash_node(NodeId::new(node), CrashStyle::KeepAll);
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

    /// From now on so many microseconds pass on a node's clock while a million pass in the world.
    pub fn let_clock_run(&mut self, node: u64, rate: u64) {
        let (id, now) = (NodeId::new(node), self.now);
        self.trace.headline(now, Some(id), format!("its clock runs at {rate} millionths"));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.clock.run_at(now, rate.max(1));
        }
        self.plan_turn(id, now);
    }

    /// A node's clock jumps ahead, which the node notices when it looks at it next.
    pub fn let_clock_jump(&mut self, node: u64, ahead: Duration) {
        self.jump(NodeId::new(node), ahead);
    }

    /// From now on clients read like this.
    pub fn set_reads(&mut self, reads: Option<ReadKinds>) {
        self.options.reads = reads;
    }

    /// Asks the leader to hand over to this node.
    pub fn transfer_leadership(&mut self, to: u64) {
        if let Some(leader) = self.leader() {
            let to = Some(NodeId::new(to));
            self.tell(NodeId::new(leader), Input::TransferLeadership { to });
        }
    }

    /// Proposes a command at a node if it leads at this moment, as a caller inside of its process
    /// would, and waits for nothing. Returns where the command stands in this node's log; `None` if
    /// the node is not up, does not lead, or is handing over.
    pub fn propose(&mut self, node: u64, command: impl Into<Bytes>) -> Option<LogId> {
        let (id, command) = (NodeId::new(node), command.into());
        // What has reached its inbox, it knows.
        self.turn_now(id, None);
        let raft = self.running(id)?.driver.raft();
        if raft.role() != Role::Leader || raft.status().transferring.is_some() {
            return None;
        }
        let before = raft.last_log();
        self.safety.proposed(&command);
        let ticket = Ticket(self.clients.next_op().0);
        let deadline = self.now.after(self.options.patience);
        self.turn_now(id, Some(Input::Propose { ticket, command, deadline }));
        let after = self.running(id)?.driver.raft().last_log();
        (after.index == before.index.next()).then_some(after)
    }

    /// A node looks at its inbox, and at this, now.
    fn turn_now(&mut self, id: NodeId, input: Option<Input>) {
        let is_paused = self.nodes.get(&id).is_none_or(|node| node.paused);
        let Some(running) = self.running_mut(id) else { return };
        running.inbox.extend(input);
        if running.inbox.is_empty() || is_paused || self.breach.is_some() {
            return;
        }
        if let Err(breach) = self.turn(id, false) {
            self.breach = Some(breach);
        }
    }

    /// Asks a node something of the application's choosing, and waits for nothing.
    pub fn submit(
        &mut self,
        node: u64,
        request: impl FnOnce(&mut A, OpId, u64) -> Request,
    ) -> OpId {
        let (op, moment) = (self.clients.next_op(), self.clients.next_moment());
        let request = request(&mut self.application, op, moment);
        self.post(op, None, NodeId::new(node), request);
        op
    }

    /// The answer to something that the story asked, if it is there; it is given once.
    pub fn take_answer(&mut self, op: OpId) -> Option<Outcome> {
        self.clients.told.remove(&op)
    }

    /// Asks a node something of the application's choosing, and lets the world go on until there
    /// is an answer, or until `patience` is over (`None`).
    pub fn ask_node(
        &mut self,
        node: u64,
        patience: Duration,
        request: impl FnOnce(&mut A, OpId, u64) -> Request,
    ) -> Option<Outcome> {
        let op = self.submit(node, request);
        let until = self.now.after(patience);
        while !self.clients.told.contains_key(&op) {
            if !self.run_until_an_answer(until) {
                return None;
            }
        }
        self.take_answer(op)
    }

    /// Lets the world go on until something that the story asked is answered; false if it is this
    /// time first, or if a judge has spoken.
    pub fn run_until_an_answer(&mut self, until: Time) -> bool {
        let told = self.clients.told_count;
        while self.clients.told_count == told {
            if self.queue.next_time().is_none_or(|next| next > until) {
                self.now = self.now.max(until);
                return false;
            }
            if !self.step() {
                return false;
            }
        }
        true
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

    /// Ends the story: heals everything, and demands convergence.
    ///
    /// # Errors
    ///
    /// What a judge said, during the story or at its end.
    pub fn finish(mut self) -> Result<Findings, Breach> {
        self.converge()
    }
}

fn ids(nodes: Vec<u64>) -> Vec<NodeId> {
    nodes.into_iter().map(NodeId::new).collect()
}
