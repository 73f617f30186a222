//! Rolling upgrades: machines begin with an old program and are given the new one, one by one; some go
//! back, as long as the cluster does not speak the new version. What goes over a connection depends on
//! both programs, and so does whether there is one. Knows nothing of what a version has brought.

use super::Cluster;
use super::happening::Happening;
use super::node::{self, SimNode};
use crate::application::{Application, Machine};
use crate::disk::{CrashStyle, SimDisk};
use crate::judge::Breach;
use crate::rng::Chance;
use quorate::StartError;
use quorate::parts::Opened;
use quorate_core::{LogIndex, NodeId, Payload, Persist, ProtocolVersion};
use std::time::Duration;

/// The program that machines begin with in a world with upgrades, and the one that they are given.
const OLD: ProtocolVersion = ProtocolVersion::OLDEST;
const NEW: ProtocolVersion = ProtocolVersion::NEWEST;

/// The chance that a machine which starts is tried with the old program at first.
const TRIES_OLD: Chance = Chance::percent(20);

impl<A: Application> Cluster<A> {
    /// What a machine begins with.
    pub(super) fn first_program(&mut self) -> ProtocolVersion {
        let is_old = self.options.faults.upgrades_every.is_some()
            && self.spoken_anywhere() <= OLD
            && self.rng.coin();
        if is_old { OLD } else { NEW }
    }

    /// What some node that runs takes for what the cluster speaks, committed or not: the latest.
    fn spoken_anywhere(&self) -> ProtocolVersion {
        let running = self.nodes.values().filter_map(SimNode::running);
        let spoken = running.map(|up| up.driver.raft().cluster_version());
        spoken.max().unwrap_or(OLD)
    }

    /// A machine gets the new program; or, while that looks possible, the old one again.
    pub(super) fn upgrade_somebody(&mut self) {
        let with = |program| -> Vec<NodeId> {
            let sound = self.nodes.values().filter(|node| !node.is_lost);
            sound.filter(|node| node.program == program).map(|node| node.id).collect()
        };
        let (old, new) = (with(OLD), with(NEW));
        let may_go_back = self.spoken_anywhere() <= OLD && !new.is_empty();
        let goes_back = may_go_back && self.rng.below(4) == 0;
        let (of, program) = if goes_back { (new, OLD) } else { (old, NEW) };
        if let Some(id) = self.rng.pick(&of).copied() {
            self.give_program(id, program);
            if self.nodes.get(&id).is_some_and(SimNode::is_down) {
                let down = self.rng.duration(Duration::ZERO, Duration::from_secs(2));
                self.plan_start(id, down);
            }
        }
    }

    /// A machine is stopped, and will start with this program. For stories, too.
    pub(super) fn give_program(&mut self, id: NodeId, program: ProtocolVersion) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.program != program) else {
            return;
        };
        node.program = program;
        node.spoke = node.spoke.max(program);
        let is_down = node.is_down();
        let counts = &mut self.trace.counts;
        counts.upgrades += u64::from(program == NEW);
        counts.downgrades += u64::from(program == OLD);
        let text = format!("is given the program of protocol version {program}");
        self.trace.headline(self.now, Some(id), text);
        if !is_down {
            self.crash_node(id, CrashStyle::KeepAll);
        }
        // What is on its way was said on connections that end with the old program.
        self.network.replaced(id);
    }

    /// A machine starts with the program of this version, whatever it had. For stories.
    pub fn restart_as(&mut self, node: u64, program: ProtocolVersion) {
        let id = NodeId::new(node);
        self.give_program(id, program);
        if let Some(life) = self.nodes.get(&id).filter(|node| node.is_down()).map(|node| node.life)
        {
            self.queue.push(self.now, Happening::Start { node: id, life });
        }
    }

    /// What the cluster speaks, by what a node that is up knows to be committed.
    #[must_use]
    pub fn cluster_version(&self, node: u64) -> Option<ProtocolVersion> {
        self.running(NodeId::new(node)).map(|running| {
            let (_, committed) = running.driver.raft().committed_configuration();
            committed.cluster_version
        })
    }

    /// What is spoken on a connection between two nodes; `None` if one of them lets the other not in,
    /// because it is older than what the cluster speaks.
    pub(super) fn spoken_between(&self, one: NodeId, two: NodeId) -> Option<ProtocolVersion> {
        let program = |id| self.nodes.get(&id).map_or(NEW, |node| node.program);
        let spoken = program(one).min(program(two));
        let lets_in = |id: NodeId| {
            self.cluster_version(id.get()).is_none_or(|cluster_version| cluster_version <= spoken)
        };
        (lets_in(one) && lets_in(two)).then_some(spoken)
    }

    /// A node was refused because its program is too old for what its log says: it gets the new one.
    pub(super) fn is_too_old(&mut self, id: NodeId, error: &StartError) -> bool {
        let is_old = self.nodes.get(&id).is_some_and(|node| node.program < NEW);
        if !is_old || !matches!(error, StartError::ProtocolTooOld { .. }) {
            return false;
        }
        self.trace.headline(self.now, Some(id), format!("does not start: {error}"));
        self.trace.counts.downgrades_refused += 1;
        self.crash_node(id, CrashStyle::KeepAll);
        self.give_program(id, NEW);
        self.plan_start(id, Duration::from_secs(1));
        true
    }

    /// What a machine's disk holds before it starts, if it is to be tried with the old program.
    pub(super) fn image_for_old(&mut self, id: NodeId) -> Option<SimDisk> {
        let is_drawn = self.is_troubled
            && self.options.faults.upgrades_every.is_some()
            && self.rng.happens(TRIES_OLD);
        let node = self.nodes.get(&id).filter(|node| node.program > OLD)?;
        is_drawn.then(|| node.disk.copy())
    }

    /// Whose log says that the cluster speaks the new version does not start with the old program.
    pub(super) fn try_old(&mut self, id: NodeId, image: SimDisk, opened: &Opened) {
        let mut known = opened.driver.raft().configurations();
        if !known.any(|configuration| configuration.cluster_version > OLD) {
            return;
        }
        let Machine { machine, .. } = Machine::broken("the program is too old");
        let (founders, options, now) = (self.first_configuration(id), &self.options, self.now);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let program = std::mem::replace(&mut node.program, OLD);
        let read = node::read(image, node, options, now, founders, machine);
        node.program = program;
        self.trace.counts.downgrades_refused += 1;
        if read.is_ok() {
            self.breach = Some(Breach::DowngradeAccepted { node: id });
        }
    }

    /// The judge of what a leader has recorded: every member has run a program that speaks it.
    pub(super) fn check_rises(&self, id: NodeId, persist: &Persist) -> Result<(), Breach> {
        let Some(running) = self.running(id) else { return Ok(()) };
        for entry in &persist.entries {
            let Payload::Configuration(configuration) = &entry.payload else { continue };
            let version = configuration.cluster_version;
            let before = LogIndex::new(entry.log_id.index.get().saturating_sub(1));
            let raft = running.driver.raft();
            if raft.configuration_as_of(before).cluster_version >= version {
                continue;
            }
            let is_older =
                |id: &&NodeId| self.nodes.get(*id).is_some_and(|member| member.spoke < version);
            if let Some(member) = configuration.members.keys().find(is_older).copied() {
                return Err(Breach::RisenTooEarly { version, member });
            }
        }
        Ok(())
    }

    /// Once all is healed, the cluster speaks what every member knows, if every member is there.
    pub(super) fn speaks_what_all_know(&self) -> bool {
        let Some(leader) = self.healed_leader() else { return false };
        let configuration = leader.configuration();
        let is_away = |id: &NodeId| self.running(*id).is_none();
        configuration.cluster_version == NEW || configuration.members.keys().any(is_away)
    }
}
