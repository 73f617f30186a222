//! The second phase: everything is mended, and the cluster must come together within a bound of
//! virtual time, serve, and hold equal state everywhere. Asks nodes what any operator could ask.

use super::happening::Happening;
use super::lanes::LaneName;
use super::node::{Caller, SimNode};
use super::wires::names;
use super::{Cluster, ClusterOptions};
use crate::application::{Application, Findings, OpId, Outcome};
use crate::disk::CrashStyle;
use crate::faults::Faults;
use crate::judge::{Breach, bounds};
use quorate::Input;
use quorate_core::{NodeId, ProtocolVersion, Role, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a healed cluster may take to come together, and again to serve, beside its timeouts.
const BOUND_MIN: Duration = Duration::from_secs(10);

/// So many election timeouts it may take: for elections that fail, for a leader that is to learn
/// how far everybody is, and for handovers to a higher rank.
const BOUND_TIMEOUTS: u32 = 40;

/// How often the world looks whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a cluster that has come together is watched at rest.
const HEARTBEATS_AT_REST: u32 = 20;

/// So many election timeouts after a healed cluster came together no read is open any more.
const TIMEOUTS_TO_READ: u32 = 10;

/// In one of so many such stretches it must be at rest.
const WINDOWS_TO_REST: u32 = 5;

impl<A: Application> Cluster<A> {
    /// Mends everything: links, disks, processes; nothing goes wrong by itself any more, and the
    /// clients fall silent. Machines that are lost, and data that went bad, stay so.
    pub fn heal(&mut self) {
        self.trace.headline(self.now, None, "everything is healed".to_owned());
        self.calm_down();
        self.core = None;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.heal_node(id);
        }
    }

    /// Heals a random majority of the voters, whichever members are in force, from among those with a
    /// sound disk, and keeps everybody else down or cut off. Returns who was healed; nobody if too
    /// few are sound.
    pub fn heal_core(&mut self) -> Vec<u64> {
        let mut sound = self.sound_voters();
        self.rng.shuffle(&mut sound);
        let needed = (0..=sound.len()).find(|count| {
            let first: Vec<&NodeId> = sound.iter().take(*count).collect();
            self.suffice(|id| first.contains(&&id))
        });
        let Some(needed_count) = needed else { return Vec::new() };
        let spare_count = sound.len() - needed_count;
        sound.truncate(needed_count + self.rng.index(spare_count + 1));
        sound.sort_unstable();
        self.trace.headline(self.now, None, format!("only {} are healed", names(&sound)));
        self.calm_down();
        let core: BTreeSet<NodeId> = sound.iter().copied().collect();
        self.network.wall_in(core.clone());
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for outsider in ids.into_iter().filter(|id| !core.contains(id)) {
            if self.rng.coin() {
                self.crash_node(outsider, CrashStyle::LoseAll);
            }
        }
        self.core = Some(core);
        for id in &sound {
            self.heal_node(*id);
        }
        sound.into_iter().map(NodeId::get).collect()
    }

    fn calm_down(&mut self) {
        self.is_troubled = false;
        self.application.healed();
        let faults = self.options.faults.disk.faults;
        let is_lockstep = self.options.faults.ends_in_lockstep;
        self.options.faults = if is_lockstep { Faults::lockstep() } else { Faults::none() };
        self.options.faults.disk.faults = faults;
        for node in self.nodes.values_mut() {
            node.crash_after_outputs = None;
        }
        self.network.mend_all();
        self.network.set_faults(self.options.faults.network);
    }

    fn heal_node(&mut self, id: NodeId) {
        if self.options.faults.ends_in_lockstep {
            self.crash_node(id, CrashStyle::KeepAll);
        }
        self.set_disk_faults(id);
        self.set_capacity(id, None);
        self.take_settings_back(id);
        self.give_program(id, ProtocolVersion::NEWEST);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.hang = None;
        let life = node.life;
        if let Some(running) = node.running_mut() {
            // What hung, or was slow, is done at last.
            for lane in LaneName::OF_DISK {
                if let Some(work) = running.under_way(lane) {
                    work.due = work.due.min(now);
                    self.queue.push(now, Happening::LaneDone { node: id, life, lane });
                }
            }
        }
        self.queue.push(now, Happening::Started { node: id, life });
        self.resume(id);
        if self.nodes.get(&id).is_some_and(SimNode::is_down) {
            self.plan_start(id, Duration::ZERO);
        }
    }

    /// Whether a node is meant to be up, and owes what a healed cluster owes.
    pub(super) fn is_wanted(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| !node.is_lost)
            && self.core.as_ref().is_none_or(|core| core.contains(&id))
    }

    /// Heals the world and demands what a healed cluster owes: one leader that all follow, equal
    /// logs applied everywhere, service through every node, everything acknowledged still there,
    /// and equal state. Before that, if the options say so, a random majority alone has to serve.
    ///
    /// If too few voters have a sound disk, nothing is demanded but that no answer was wrong.
    ///
    /// # Errors
    ///
    /// The [`Breach`] that a judge found, now or earlier.
    pub fn converge(&mut self) -> Result<Findings, Breach> {
        if let Some(breach) = self.breach.take() {
            return Err(breach);
        }
        if !self.enough_are_sound() {
            self.trace.counts.hopeless_ends += 1;
            self.heal();
            self.wait_for("requests are not answered", Self::is_silent)?;
            self.compare_states()?;
            return Ok(self.application.verdict()?);
        }
        // Founding takes everybody.
        if self.options.heals_core_first && self.is_founded() {
            self.demand_of_core()?;
        }
        self.heal();
        self.demand_answers_to_reads()?;
        self.wait_for("no common leader and log", Self::is_converged)?;
        self.wait_for("a machine with a new disk is not taken back", Self::wiped_are_back)?;
        self.wait_for("the disk of a member is not recorded", Self::disks_are_known)?;
        let what = "the cluster does not speak what all members know";
        self.wait_for(what, Self::speaks_what_all_know)?;
        if self.options.disk_reserve_bytes > 0 {
            let what = "a disk that has room is held to be full, or its reserve is not made again";
            self.wait_for(what, Self::has_room_again)?;
        }
        self.wait_for("no common leader and log", Self::is_converged)?;
        self.scan()?;
        self.wait_for("not everything applied everywhere", Self::is_converged)?;
        self.safety.members.told_came()?;
        self.compare_states()?;
        self.rest()?;
        self.demand_handover()?;
        Ok(self.application.verdict()?)
    }

    /// The configuration says which disk every member has that runs.
    fn disks_are_known(&self) -> bool {
        let Some(members) = self.settled_members() else { return false };
        self.is_unrecorded(&members).is_none()
    }

    /// Once the cluster has been together for a while no read is open: a node asks again until it
    /// knows.
    fn demand_answers_to_reads(&mut self) -> Result<(), Breach> {
        // A node that may read can take its time to do so.
        let late = self.options.reads.map_or(Duration::ZERO, |kinds| kinds.late_max);
        let patience = self.options.raft.election_timeout * TIMEOUTS_TO_READ + late;
        let until = self.now.after(self.healing_bound());
        let mut since = None;
        while self.now < until {
            let Some(node) = self.node_with_open_read() else { return Ok(()) };
            since = if self.is_together() { since.or(Some(self.now)) } else { None };
            let waited = since.map_or(Duration::ZERO, |since| self.now.since(since));
            if waited > patience {
                return Err(Breach::ReadHangs { node, waited });
            }
            self.let_a_moment_pass()?;
        }
        // That it never came together is told by whoever waits for that.
        Ok(())
    }

    fn node_with_open_read(&self) -> Option<NodeId> {
        let has_open_read = |node: &&SimNode| {
            let mut callers = node.running().into_iter().flat_map(|up| up.callers.values());
            callers.any(|caller| matches!(caller, Caller::Query(..)))
        };
        // Whoever was removed has nobody to ask, and refuses when its caller's time is up.
        let members = self.settled_members();
        let owes = |node: &&SimNode| {
            members.as_ref().is_none_or(|ids| ids.contains(&node.id)) && !self.is_adrift(node.id)
        };
        self.nodes.values().filter(owes).find(has_open_read).map(|node| node.id)
    }

    /// Whoever is asked to take over does, if nobody should rather lead.
    fn demand_handover(&mut self) -> Result<(), Breach> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(configuration) = self.configuration(leader) else { return Ok(()) };
        let rank = configuration.rank(NodeId::new(leader));
        if configuration.members.values().any(|member| member.rank != rank) {
            return Ok(());
        }
        let is_other = |id: &NodeId| id.get() != leader && self.is_sound(*id);
        let others = configuration.voters().filter(is_other);
        let others: Vec<NodeId> = others.filter(|id| self.running(*id).is_some()).collect();
        let Some(to) = self.rng.pick(&others).copied() else { return Ok(()) };
        let until = self.now.after(self.healing_bound());
        self.trace.counts.handovers += 1;
        while let Some(leader) = self.leader().map(NodeId::new).filter(|leader| *leader != to) {
            if self.now >= until {
                let what = format!("node {to} does not take over: {}", self.describe());
                return Err(Breach::NotConverged {
                    waited_s: self.healing_bound().as_secs(),
                    what,
                });
            }
            self.trace.headline(self.now, Some(leader), format!("is to hand over to {to}"));
            self.tell(leader, Input::TransferLeadership { to: Some(to) });
            self.run_until(self.now.after(self.options.raft.election_timeout * 2));
            if let Some(breach) = self.breach.take() {
                return Err(breach);
            }
        }
        self.wait_for("nobody follows the new leader", Self::is_converged)
    }

    /// A majority alone comes together and serves through each of its nodes.
    fn demand_of_core(&mut self) -> Result<(), Breach> {
        let core = self.heal_core();
        self.trace.counts.cores_healed += 1;
        self.wait_for("the core has no common leader and log", Self::is_together)?;
        for id in core.into_iter().map(NodeId::new) {
            self.demand_of(id)?;
        }
        Ok(())
    }

    /// A node carries out some request, as clients make them, within the bound. It may refuse a few
    /// before that, while old ones fill its queues.
    fn demand_of(&mut self, id: NodeId) -> Result<(), Breach> {
        let until = self.now.after(self.healing_bound());
        loop {
            // Whoever was removed meanwhile owes nothing.
            if self.settled_members().is_some_and(|members| !members.contains(&id)) {
                return Ok(());
            }
            let (op, moment) = (self.clients.next_op(), self.clients.next_moment());
            let request = self.application.request(op, moment, &mut self.clients.rng);
            self.post(op, None, id, request);
            self.wait_for("a request is not answered", |cluster| {
                !cluster.clients.waiting.contains_key(&op)
            })?;
            let served = self.is_served(op, id);
            if served.is_ok() || self.now >= until {
                return served;
            }
        }
    }

    /// How long a healed cluster may take to come together, and again to serve: 10 s, 40 of its
    /// election timeouts, and twice what the last clients wait for their answers.
    #[must_use]
    pub fn healing_bound(&self) -> Duration {
        let ClusterOptions { raft, patience, .. } = &self.options;
        BOUND_MIN + raft.election_timeout * BOUND_TIMEOUTS + *patience * 2
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Breach> {
        let bound = self.healing_bound();
        let until = self.now.after(bound);
        while self.now < until {
            self.let_a_moment_pass()?;
            if is_so(self) {
                return Ok(());
            }
        }
        let what = format!("{what}: {}", self.describe());
        Err(Breach::NotConverged { waited_s: bound.as_secs(), what })
    }

    fn let_a_moment_pass(&mut self) -> Result<(), Breach> {
        self.take_back_what_cannot_come();
        self.take_wiped_back();
        self.run_until(self.now.after(LOOK_EVERY));
        self.breach.take().map_or(Ok(()), Err)
    }

    /// Of the members that are healed: one leader, known to all, and all have applied its whole log.
    /// No change of the members is under way, and whoever is no member is quiet.
    fn is_together(&self) -> bool {
        let Some(members) = self.settled_members() else { return false };
        let wanted = |node: &&SimNode| self.is_owed(node.id) && members.contains(&node.id);
        let wanted: Vec<&SimNode> = self.nodes.values().filter(wanted).collect();
        let leaders = wanted.iter().filter_map(|node| {
            let raft = node.running()?.driver.raft();
            (raft.role() == Role::Leader).then(|| (raft.current_term(), node.id, raft.last_log()))
        });
        let Some((_, leader, last)) = leaders.max() else { return false };
        wanted.iter().filter_map(|node| node.running()).count() == wanted.len()
            && wanted.iter().filter_map(|node| node.running()).all(|running| {
                let raft = running.driver.raft();
                raft.leader() == Some(leader)
                    && raft.last_log() == last
                    && running.driver.applied() == last.index
            })
            && self.others_are_quiet(&members)
    }

    /// As [`Self::is_together`], and no request is open.
    fn is_converged(&self) -> bool {
        self.is_silent() && self.is_together()
    }

    fn is_silent(&self) -> bool {
        self.clients.waiting.is_empty()
    }

    fn describe(&self) -> String {
        let describe = |id: &NodeId| match self.running(*id) {
            Some(running) => {
                let raft = running.driver.raft();
                let role = raft.role();
                let leader = raft.leader().map_or_else(|| "none".into(), |id| id.to_string());
                let (term, last) = (raft.current_term(), raft.last_log());
                let (commit, applied) = (raft.commit_index(), running.driver.applied());
                let callers = running.callers.len();
                let (members, waits) = (raft.configuration(), raft.change_waits());
                format!(
                    "n{id} {role} term {term} leader {leader} log {last} commit {commit} \
                     applied {applied} callers {callers} members {members} {waits:?}"
                )
            }
            None if self.is_wanted(*id) => format!("n{id} down"),
            None => format!("n{id} kept down or lost"),
        };
        let nodes: Vec<String> = self.nodes.keys().map(describe).collect();
        format!("{}; {} requests open", nodes.join("; "), self.clients.waiting.len())
    }

    /// The application looks at everything, through one node after the other, and each of the rest
    /// carries out a request of its clients. A healed cluster answers; a request may be repeated while
    /// the leader is new.
    fn scan(&mut self) -> Result<(), Breach> {
        let clients = &mut self.clients;
        let requests = self.application.scan(&mut || (clients.next_op(), clients.next_moment()));
        // A node with a bad disk may find out while it answers.
        let members = self.settled_members().unwrap_or_default();
        let is_sound = |node: &&SimNode| self.is_sound(node.id) && members.contains(&node.id);
        let ids: Vec<NodeId> = self.nodes.values().filter(is_sound).map(|node| node.id).collect();
        let asked_count = requests.len();
        for ((op, request), id) in requests.into_iter().zip(ids.iter().cycle()) {
            self.post(op, None, *id, request);
            self.wait_for("a request is not answered", Self::is_silent)?;
            self.is_served(op, *id)?;
        }
        for id in ids.into_iter().skip(asked_count) {
            self.demand_of(id)?;
        }
        Ok(())
    }

    fn is_served(&mut self, op: OpId, id: NodeId) -> Result<(), Breach> {
        match self.clients.told.remove(&op) {
            Some(
                Outcome::Applied { .. }
                | Outcome::Read { .. }
                | Outcome::Weak { .. }
                | Outcome::Refused { .. },
            ) => Ok(()),
            Some(Outcome::NoEffect | Outcome::Unknown) | None => {
                let what = format!("node {id} does not serve: {}", self.describe());
                Err(Breach::NotConverged { waited_s: 0, what })
            }
        }
    }

    /// Nobody asks anything: once what was still queued has arrived, what is sent is what the
    /// protocol costs. A storm never ends.
    fn rest(&mut self) -> Result<(), Breach> {
        let mut outcome = Ok(());
        for _ in 0..WINDOWS_TO_REST {
            outcome = self.rest_for(self.options.raft.heartbeat_interval * HEARTBEATS_AT_REST)?;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn rest_for(&mut self, passed: Duration) -> Result<Result<(), Breach>, Breach> {
        let before = self.network.counts().sent;
        self.run_until(self.now.after(passed));
        if let Some(breach) = self.breach.take() {
            return Err(breach);
        }
        let sent = self.network.counts().sent - before;
        Ok(bounds::check_quiet(self.speaker_count(), &self.options.raft, passed, sent))
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
