//! Wiped disks: a machine comes back under its name with an empty disk, and operators take it back
//! in two wishes. Who may be wiped is decided here, so that those who keep their disks can always
//! decide; what nodes do about it is seen elsewhere.

use super::Cluster;
use super::node::SimNode;
use crate::application::Application;
use crate::disk::{CrashStyle, SimDisk};
use quorate::Admission;
use quorate_core::{Configuration, MemberRole, Members, MembershipCommand, NodeId, Time};
use std::time::Duration;

/// What is different between the identities of two disks of one node.
const NEXT_DISK: u128 = 1 << 64;

/// How often an operator looks after machines with new disks, once everything is healed.
const OPERATOR_LOOKS_EVERY: Duration = Duration::from_secs(1);

impl<A: Application> Cluster<A> {
    /// Somebody has voted: every founder was there, and knows it for good.
    pub(super) fn is_founded(&self) -> bool {
        self.safety.leader_count() > 0
    }

    /// A member's disk is gone, and there is an empty one in its place; drawn.
    pub(super) fn wipe_a_disk(&mut self) {
        let candidates: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| self.may_be_wiped(*id)).collect();
        let leader = self.leader().map(NodeId::new).filter(|leader| candidates.contains(leader));
        let leader = leader.filter(|_| self.rng.coin());
        let Some(id) = leader.or_else(|| self.rng.pick(&candidates).copied()) else { return };
        self.wipe_node(id);
        let down = self.rng.duration(Duration::ZERO, Duration::from_secs(5));
        self.plan_start(id, down);
    }

    /// A node's disk is gone, and there is an empty one in its place; the machine starts at once.
    /// For stories.
    pub fn wipe(&mut self, node: u64) {
        let id = NodeId::new(node);
        self.wipe_node(id);
        self.restart(node);
    }

    /// A copy of a node's disk as a reader sees it now. For stories.
    #[must_use]
    pub fn image(&self, node: u64) -> Option<SimDisk> {
        self.nodes.get(&NodeId::new(node)).map(|node| node.disk.copy())
    }

    /// A node's disk is put back from an older image; the machine starts at once. For stories.
    pub fn put_back(&mut self, node: u64, image: &SimDisk) {
        let id = NodeId::new(node);
        let storage_id = self.nodes.get(&id).map_or(0, |node| node.storage_id);
        self.replace_disk(id, image.copy(), storage_id);
        self.restart(node);
    }

    /// Whether a node that is up votes and counts, and if not, why.
    #[must_use]
    pub fn admission(&self, node: u64) -> Option<Admission> {
        Some(self.running(NodeId::new(node))?.driver.admission())
    }

    fn wipe_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let disk = SimDisk::new(node.rng.fork("new disk"));
        let storage_id = node.storage_id + NEXT_DISK;
        self.trace.counts.wiped_disks += 1;
        self.replace_disk(id, disk, storage_id);
    }

    fn replace_disk(&mut self, id: NodeId, disk: SimDisk, storage_id: u128) {
        self.trace.headline(self.now, Some(id), "has another disk in it".to_owned());
        let is_voter = self.safety.members.in_force().any(|members| members.is_voter(id));
        let is_founded = self.is_founded();
        self.crash_node(id, CrashStyle::LoseAll);
        // What was sent with the old disk in it came on connections that are gone.
        self.network.replaced(id);
        self.application.wiped(id);
        self.safety.wiped(id, storage_id);
        self.invariants.wiped(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.disk = disk;
            node.storage_id = storage_id;
            node.hang = None;
            node.wiped = is_founded.then_some(Wiped { owes_vote: is_voter });
        }
        self.set_disk_faults(id);
    }

    /// Whether the others can decide without what this node has promised, and somebody is left who
    /// remembers the founding.
    fn may_be_wiped(&self, id: NodeId) -> bool {
        let is_whole = |other: NodeId| other != id && !self.is_adrift(other);
        let is_sound = |other: NodeId| other != id && self.is_sound(other);
        let spares = self.options.faults.disk.spares_majority;
        let is_member = self.safety.members.in_force().all(|known| known.members.contains_key(&id));
        let mut founders = self.founders.voters().filter_map(|other| self.nodes.get(&other));
        self.is_founded()
            && is_member
            && self.nodes.get(&id).is_some_and(|node| !node.is_lost)
            && founders.any(|other| other.id != id && other.wiped.is_none())
            && self.suffice(is_whole)
            && (!spares || self.suffice(is_sound))
    }

    /// Whether a node has another disk than the one that the members know it with: it votes for
    /// nothing, and nothing that it says counts.
    pub(super) fn is_adrift(&self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get(&id).filter(|node| node.wiped.is_some()) else {
            return false;
        };
        let mut known =
            self.safety.members.in_force().filter(|known| known.members.contains_key(&id));
        let is_recorded = |known: &Configuration| known.storages.get(&id) == Some(&node.storage_id);
        let Some(committed) = known.next() else { return true };
        !is_recorded(committed) || !known.all(|known| is_recorded(known))
    }

    /// Whether the last committed configuration does not know a node with the disk that it has. What
    /// was written behind it, by those who are no members any more, may be written there for ever.
    fn is_unknown(&self, node: &SimNode) -> bool {
        let committed = self.safety.members.in_force().next();
        committed.is_none_or(|known| known.storages.get(&node.id) != Some(&node.storage_id))
    }

    /// Whether a healed cluster owes something through this node, and to it.
    pub(super) fn is_owed(&self, id: NodeId) -> bool {
        self.is_wanted(id) && !self.is_adrift(id)
    }

    /// Whoever is a member and runs, and is known with another disk than it has, or with none.
    pub(super) fn is_unrecorded(&self, members: &[NodeId]) -> Option<NodeId> {
        let leader = self.healed_leader()?;
        let storages = &leader.configuration().storages;
        let runs = |id: &&NodeId| self.is_wanted(**id) && self.running(**id).is_some();
        let is_other = |id: &&NodeId| {
            let own = self.nodes.get(id).map(|node| node.storage_id);
            storages.get(id).copied() != own
        };
        members.iter().filter(runs).find(is_other).copied()
    }

    /// What an operator wishes for who looks after machines with new disks: without their votes they
    /// are recorded anew, and get their votes back then. `None` if there is nothing to do.
    pub(super) fn readmitted(&self, members: &Members) -> Option<Members> {
        let mut wanted = members.clone();
        for (id, node) in &self.nodes {
            let Some(Wiped { owes_vote }) = node.wiped else { continue };
            let Some(member) = wanted.get_mut(id) else { continue };
            let is_voter = member.role != MemberRole::Learner;
            match (is_voter, self.is_unknown(node)) {
                (true, true) => member.role = MemberRole::Learner,
                (false, false) if owes_vote && !node.is_lost && !node.is_touched => {
                    member.role = MemberRole::Voter;
                }
                (true | false, true | false) => {}
            }
        }
        let has_voter = wanted.values().any(|member| member.role == MemberRole::Voter);
        (has_voter && wanted != *members).then_some(wanted)
    }

    /// Once everything is healed an operator takes wiped machines back.
    pub(super) fn take_wiped_back(&mut self) {
        let was_long_ago = |at: Time| self.now.since(at) >= OPERATOR_LOOKS_EVERY;
        if self.core.is_some() || !self.wiped_looked_at.is_none_or(was_long_ago) {
            return;
        }
        let Some(leader) = self.healed_leader() else { return };
        let configuration = leader.configuration();
        if configuration.change.is_some() || configuration.is_joint() {
            return;
        }
        let leader_id = leader.id();
        let Some(target) = self.readmitted(&configuration.members) else { return };
        self.wiped_looked_at = Some(self.now);
        let command = MembershipCommand::Set { target, expected_version: None, force: true };
        self.send_wish(leader_id, command, Duration::from_secs(1), false);
    }

    /// Every wiped machine that runs and is a member is known with the disk that it has.
    pub(super) fn wiped_are_back(&self) -> bool {
        let Some(leader) = self.healed_leader() else { return false };
        let members = &leader.configuration().members;
        let is_away = |node: &&SimNode| {
            let owes = node.wiped.is_some() && !node.is_lost && members.contains_key(&node.id);
            owes && !self.has_gone_bad(node.id) && self.is_unknown(node)
        };
        self.nodes.values().find(is_away).is_none() && self.readmitted(members).is_none()
    }
}

/// A machine whose disk was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wiped {
    /// It voted before, and is to vote again.
    pub(super) owes_vote: bool,
}
