//! The atlas of damage: whose disk hangs, is full, has gone bad or is gone with its machine. Only
//! here is decided whose may be touched for good, so that a run that is to end with a working
//! cluster keeps a majority of sound voters; what nodes do about it is seen elsewhere.

use super::Cluster;
use super::happening::Happening;
use super::node::Hang;
use crate::application::Application;
use crate::disk::{CrashStyle, DamageKind};
use crate::faults::Rhythm;
use quorate_core::{Configuration, NodeId};
use std::time::Duration;

impl<A: Application> Cluster<A> {
    /// A disk finishes nothing for a while, or until its machine starts anew.
    pub(super) fn let_a_disk_hang(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.disk.hangs else { return };
        let Some(id) = self.victim() else { return };
        let lasts = self.rng.duration(Duration::from_millis(500), lasts_max);
        let ends_with_crash = self.rng.coin();
        self.trace.counts.disk_hangs += 1;
        self.trace.headline(self.now, Some(id), format!("its disk hangs for {lasts:?}"));
        let until = self.now.after(lasts);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.hang = Some(Hang { until, ends_with_crash });
        }
    }

    /// A disk takes only little more, until somebody makes room.
    pub(super) fn fill_a_disk(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.disk.full else { return };
        let Some(id) = self.victim() else { return };
        let Some(node) = self.nodes.get(&id) else { return };
        let spare_bytes = self.rng.index(32 << 10);
        let capacity = node.disk.used_bytes() + spare_bytes;
        let lasts = self.rng.duration(Duration::from_millis(500), lasts_max);
        self.trace.counts.full_disks += 1;
        let text = format!("its disk has {spare_bytes} bytes left for {lasts:?}");
        self.trace.headline(self.now, Some(id), text);
        self.set_capacity(id, Some(capacity));
        self.queue.push(self.now.after(lasts), Happening::EndFull { node: id });
    }

    pub(super) fn set_capacity(&mut self, id: NodeId, bytes: Option<usize>) {
        if let Some(node) = self.nodes.get(&id) {
            node.disk.set_capacity(bytes);
        }
    }

    /// Something at rest on some disk goes bad.
    pub(super) fn damage_something(&mut self) {
        let Some(id) = self.touchable() else { return };
        let Some(node) = self.nodes.get(&id) else { return };
        // A disk may have nothing at rest yet.
        let Some(damage) = node.disk.damage(&mut self.rng) else { return };
        self.trace.counts.count_damage(damage.kind);
        self.trace.headline(self.now, Some(id), format!("its disk goes bad: {damage}"));
        if !self.options.faults.disk.damage_is_secret {
            self.touch(id);
        }
    }

    /// Bits flip in a file of a node whose name begins so, such as `snap-`, `log-` or `meta-`;
    /// returns whether there was one. For stories.
    pub fn damage(&mut self, node: u64, stem: &str) -> bool {
        let id = NodeId::new(node);
        let Some(node) = self.nodes.get(&id) else { return false };
        let Some(damage) = node.disk.damage_file(DamageKind::BitRot, stem, &mut self.rng) else {
            return false;
        };
        self.trace.counts.count_damage(damage.kind);
        self.trace.headline(self.now, Some(id), format!("its disk goes bad: {damage}"));
        self.touch(id);
        true
    }

    /// A machine burns, with its disk. Nobody may come back under its name with an empty one.
    pub(super) fn lose_a_machine(&mut self) {
        let Some(id) = self.touchable() else { return };
        self.trace.counts.machines_lost += 1;
        self.trace.headline(self.now, Some(id), "is lost for ever".to_owned());
        self.crash_node(id, CrashStyle::LoseAll);
        self.touch(id);
        self.lose(id);
    }

    fn touch(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_touched = true;
        }
    }

    fn lose(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_lost = true;
        }
    }

    /// A node that refuses to work with a disk that has gone bad: this is what it should do. It
    /// stays down.
    pub(super) fn is_out_of_order(&mut self, id: NodeId, reason: &str) {
        self.trace.counts.refused_disks += 1;
        self.trace.headline(self.now, Some(id), format!("is out of order: {reason}"));
        self.crash_node(id, CrashStyle::KeepAll);
        self.lose(id);
    }

    /// Whether this node's disk has gone bad, so that it may refuse to go on.
    pub(super) fn is_damaged(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_touched)
    }

    /// Somebody whose disk may be touched for good: whoever has been touched before, or anybody
    /// without whom enough voters stay sound.
    fn touchable(&mut self) -> Option<NodeId> {
        // Before the cluster is founded nobody can be spared.
        if !self.is_founded() {
            return None;
        }
        let may_any = !self.options.faults.disk.spares_majority;
        let is_spare = |id| self.suffice(|other| other != id && self.is_sound(other));
        let candidates: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|node| !node.is_lost)
            .filter(|node| may_any || node.is_touched || is_spare(node.id))
            .map(|node| node.id)
            .collect();
        let leader = self.leader().map(NodeId::new).filter(|leader| candidates.contains(leader));
        if let (Some(leader), 0) = (leader, self.rng.below(4)) {
            return Some(leader);
        }
        self.rng.pick(&candidates).copied()
    }

    /// Those of whom the members' decisions may depend, now or later, and whose disks hold what they
    /// should.
    pub(super) fn sound_voters(&self) -> Vec<NodeId> {
        let known = self.possible_members();
        let is_voter = |id| known.iter().any(|members| members.is_voter(id));
        let ids = self.nodes.keys().copied();
        ids.filter(|id| self.is_sound(*id) && is_voter(*id)).collect()
    }

    /// Whether a disk holds what it should, and is the one that the members know.
    pub(super) fn is_sound(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| !node.is_touched) && !self.is_adrift(id)
    }

    /// Whether a disk does not hold what was written to it.
    pub(super) fn has_gone_bad(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_touched)
    }

    /// Whether enough voters are sound to decide, whoever the members are or may become.
    pub(super) fn enough_are_sound(&self) -> bool {
        self.suffice(|id| self.is_sound(id))
    }

    /// Whether these are a quorum of all who may be the members, now or once a wish comes true. What
    /// is committed is then on one of them: all that is committed later counts on them, too.
    pub(super) fn suffice(&self, are_there: impl Fn(NodeId) -> bool) -> bool {
        self.possible_members().iter().all(|members| members.has_quorum(&are_there))
    }

    /// Who may be the members: those in force, those whom a change under way leads to, and those that
    /// somebody wished for.
    fn possible_members(&self) -> Vec<Configuration> {
        let in_force = self.safety.members.in_force();
        let leads_to = |members: &Configuration| Configuration::new(0, members.leads_to().clone());
        let known = in_force.flat_map(|members| [Configuration::clone(members), leads_to(members)]);
        known.chain(self.wished_members()).collect()
    }
}
