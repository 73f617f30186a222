//! The second phase: everything is mended, and the cluster must come together within a bound of
//! virtual time, serve, and hold equal state everywhere. Asks nodes what any operator could ask.

use super::Cluster;
use super::node::SimNode;
use super::work::HashWriter;
use crate::application::{Application, Findings, Outcome};
use crate::disk::CrashStyle;
use crate::faults::Faults;
use crate::judge::{Breach, bounds};
use quorate_core::{LogIndex, NodeId, Time};
use std::time::Duration;

/// How long a healed cluster may take to come together, and again to serve.
const CONVERGENCE_BOUND: Duration = Duration::from_mins(1);

/// How often the world looks whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a cluster that has come together is watched at rest.
const HEARTBEATS_AT_REST: u32 = 20;

impl<A: Application> Cluster<A> {
    /// Mends everything: links, disks, processes; nothing goes wrong by itself any more, and the
    /// clients fall silent.
    pub fn heal(&mut self) {
        self.trace.headline(self.now, None, "everything is healed".to_owned());
        self.is_troubled = false;
        self.options.faults = Faults { disk: self.options.faults.disk, ..Faults::none() };
        self.options.faults.disk = crate::faults::DiskPace {
            faults: self.options.faults.disk.faults,
            ..crate::faults::DiskPace::calm()
        };
        self.network.mend_all();
        self.network.set_faults(self.options.faults.network);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.crash_after_outputs = None;
            }
            self.set_disk_faults(id);
            self.resume(id);
            if self.nodes.get(&id).is_some_and(SimNode::is_down) {
                self.plan_start(id, Duration::ZERO);
            }
        }
    }

    /// Heals the world and demands what a healed cluster owes: one leader that all follow, equal
    /// logs applied everywhere, service through every node, everything acknowledged still there,
    /// and equal state.
    ///
    /// # Errors
    ///
    /// The [`Breach`] that a judge found, now or earlier.
    pub fn converge(&mut self) -> Result<Findings, Breach> {
        if let Some(breach) = self.breach.take() {
            return Err(breach);
        }
        self.heal();
        self.wait_for("no common leader and log", Self::is_together)?;
        self.scan()?;
        self.wait_for("not everything applied everywhere", Self::is_together)?;
        self.compare_states()?;
        self.rest()?;
        Ok(self.application.verdict()?)
    }

    fn wait_for(&mut self, what: &str, is_so: fn(&Self) -> bool) -> Result<(), Breach> {
        let until = self.now.after(CONVERGENCE_BOUND);
        while self.now < until {
            self.run_until(self.now.after(LOOK_EVERY));
            if let Some(breach) = self.breach.take() {
                return Err(breach);
            }
            if is_so(self) {
                return Ok(());
            }
        }
        let what = format!("{what}: {}", self.describe());
        Err(Breach::NotConverged { waited_s: CONVERGENCE_BOUND.as_secs(), what })
    }

    /// One leader, known to all, and all have applied its whole log. No request is open.
    fn is_together(&self) -> bool {
        let Some(leader) = self.leader().map(NodeId::new) else { return false };
        let Some(lead) = self.running(leader) else { return false };
        let last = lead.driver.raft().last_log();
        let agrees = |id: &NodeId| {
            self.running(*id).is_some_and(|running| {
                let raft = running.driver.raft();
                raft.leader() == Some(leader)
                    && raft.last_log() == last
                    && running.driver.applied() == last.index
            })
        };
        self.nodes.keys().all(agrees) && self.clients.waiting.is_empty()
    }

    fn describe(&self) -> String {
        let describe = |id: &NodeId| match self.running(*id) {
            Some(running) => {
                let raft = running.driver.raft();
                let role = raft.role();
                let leader = raft.leader().map_or_else(|| "none".into(), |id| id.to_string());
                let (term, last) = (raft.current_term(), raft.last_log());
                let (commit, applied) = (raft.commit_index(), running.driver.applied());
                format!(
                    "n{id} {role} term {term} leader {leader} log {last} commit {commit} \
                     applied {applied}"
                )
            }
            None => format!("n{id} down"),
        };
        let nodes: Vec<String> = self.nodes.keys().map(describe).collect();
        format!("{}; {} requests open", nodes.join("; "), self.clients.waiting.len())
    }

    /// The application looks at everything, through one node after the other. A healed cluster
    /// answers; a request may be repeated while the leader is new.
    fn scan(&mut self) -> Result<(), Breach> {
        let clients = &mut self.clients;
        let requests = self.application.scan(&mut || (clients.next_op(), clients.next_moment()));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for ((op, request), id) in requests.into_iter().zip(ids.iter().cycle()) {
            self.post(op, None, *id, request);
            self.wait_for("a request is not answered", |cluster| {
                cluster.clients.waiting.is_empty()
            })?;
            match self.clients.told.remove(&op) {
                Some(Outcome::Applied { .. } | Outcome::Read { .. }) => {}
                Some(Outcome::NoEffect | Outcome::Unknown) | None => {
                    let what = format!("node {id} does not serve: {}", self.describe());
                    return Err(Breach::NotConverged { waited_s: 0, what });
                }
            }
        }
        Ok(())
    }

    /// Nobody asks anything: what is sent now is what the protocol costs.
    fn rest(&mut self) -> Result<(), Breach> {
        let before = self.network.counts().sent;
        let passed = self.options.raft.heartbeat_interval * HEARTBEATS_AT_REST;
        self.run_until(self.now.after(passed));
        if let Some(breach) = self.breach.take() {
            return Err(breach);
        }
        let sent = self.network.counts().sent - before;
        bounds::check_quiet(self.nodes.len(), &self.options.raft, passed, sent)
    }

    fn compare_states(&mut self) -> Result<(), Breach> {
        let mut first: Option<(NodeId, LogIndex, u64)> = None;
        for id in self.nodes.keys().copied() {
            let Some(running) = self.running(id) else { continue };
            let applied = running.applier.applied().index;
            let digest = match &running.digest {
                Some(digest) => digest(),
                None => snapshot_hash(running),
            };
            match first {
                Some((one, index, hash)) if index == applied && hash != digest => {
                    let (first, second) = (hash, digest);
                    return Err(Breach::Diverged { one, two: id, applied, first, second });
                }
                Some(_) => {}
                None => first = Some((id, applied, digest)),
            }
        }
        Ok(())
    }

    /// Lets things happen until this time, or until a judge speaks.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.queue.next_time().is_some_and(|next| next <= until) {
            if !self.step() {
                return;
            }
        }
        self.now = self.now.max(until);
    }

    /// A power failure of this node, for stories.
    pub(super) fn power_failure(&mut self, id: NodeId) {
        self.trace.counts.crashes += 1;
        self.trace.headline(self.now, Some(id), "crashes".to_owned());
        self.crash_node(id, CrashStyle::LoseAll);
    }
}

fn snapshot_hash(running: &super::node::Running) -> u64 {
    let mut writer = HashWriter::default();
    match running.applier.view().map(|(_, view)| view.write_to(&mut writer)) {
        Ok(Ok(())) => writer.0.value(),
        Ok(Err(_)) | Err(_) => 0,
    }
}
