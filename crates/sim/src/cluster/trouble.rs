//! What goes wrong by itself, and whom it hits: rhythms come from the world's faults, victims from
//! its chance. Knows nothing of what nodes do about it.

use super::Cluster;
use super::happening::{Happening, Trouble};
use crate::application::Application;
use crate::disk::CrashStyle;
use crate::faults::Rhythm;
use crate::rng::{Chance, Rng};
use quorate::Input;
use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The troubles of a world, numbered from 1 on in the order in which they come. Each kind has its
/// own rhythm and each trouble its own chance, so that one can be taken out of a world without
/// changing when the others come and whom they hit.
#[derive(Debug)]
pub(super) struct Troubles {
    count: u64,
    seed: u64,
    rhythms: BTreeMap<Trouble, Rng>,
}

impl Troubles {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { count: 0, seed: rng.word(), rhythms: BTreeMap::new() }
    }

    /// How many there were.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    fn rhythm(&mut self, trouble: Trouble) -> &mut Rng {
        let seed = self.seed;
        let rhythm = || Rng::new(seed).fork(&format!("rhythm of {trouble:?}"));
        self.rhythms.entry(trouble).or_insert_with(rhythm)
    }

    /// The next trouble's ordinal and chance.
    fn next(&mut self) -> (u64, Rng) {
        self.count += 1;
        (self.count, Rng::new(self.seed.wrapping_add(self.count)).fork("trouble"))
    }
}

impl<A: Application> Cluster<A> {
    /// Everything that goes wrong in this world, for the first time.
    pub(super) fn plan_troubles(&mut self) {
        for trouble in [Trouble::Crash, Trouble::Partition, Trouble::Pause, Trouble::Transfer] {
            self.plan_trouble(trouble);
        }
    }

    fn plan_trouble(&mut self, trouble: Trouble) {
        let faults = &self.options.faults;
        let every = match trouble {
            Trouble::Crash => faults.crashes.map(|crashes| crashes.rhythm.every),
            Trouble::Partition => faults.partitions.map(|rhythm| rhythm.every),
            Trouble::Pause => faults.pauses.map(|rhythm| rhythm.every),
            Trouble::Transfer => faults.transfers_every,
        };
        if let Some(every) = every {
            let delay = self.troubles.rhythm(trouble).wait(every);
            self.queue.push(self.now.after(delay), Happening::Trouble(trouble));
        }
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        if !self.is_troubled {
            return;
        }
        self.plan_trouble(trouble);
        let (ordinal, details) = self.troubles.next();
        if self.options.skipped_troubles.contains(ordinal) {
            return;
        }
        // Whom it hits and for how long is drawn from the trouble's own chance, so that the
        // troubles after one that is skipped stay as they are.
        let chance = std::mem::replace(&mut self.rng, details);
        self.trace.trouble = Some(ordinal);
        self.befall(trouble);
        self.rng = chance;
        self.trace.trouble = None;
    }

    fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Crash => self.crash_somebody(),
            Trouble::Partition => self.partition_somehow(),
            Trouble::Pause => self.pause_somebody(),
            Trouble::Transfer => self.transfer_somewhere(),
        }
    }

    fn crash_somebody(&mut self) {
        let Some(crashes) = self.options.faults.crashes else { return };
        if self.rng.happens(crashes.everybody) {
            let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in everybody {
                self.crash_by_trouble(id);
            }
            return;
        }
        let Some(id) = self.victim() else { return };
        if self.rng.happens(crashes.mid_turn)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            let outputs = u32::try_from(self.rng.below(12)).unwrap_or(0);
            node.crash_after_outputs = Some(outputs);
        } else {
            self.crash_by_trouble(id);
        }
    }

    /// A node loses power, or only its process, and comes back after a while.
    pub(super) fn crash_by_trouble(&mut self, id: NodeId) {
        let Some(crashes) = self.options.faults.crashes else { return };
        if self.nodes.get(&id).is_none_or(super::node::SimNode::is_down) {
            return;
        }
        let style = if self.rng.happens(crashes.tears) {
            CrashStyle::Tear
        } else if self.rng.coin() {
            CrashStyle::LoseAll
        } else {
            CrashStyle::KeepAll
        };
        self.trace.counts.crashes += 1;
        self.trace.headline(self.now, Some(id), format!("crashes ({style:?})"));
        self.crash_node(id, style);
        let down = self.rng.duration(Duration::ZERO, crashes.rhythm.lasts_max);
        self.plan_start(id, down);
        if self.rng.happens(crashes.while_starting)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            // It takes effect at the first output after the start, or a few later.
            node.crash_after_outputs = Some(u32::try_from(self.rng.below(3)).unwrap_or(0));
        }
    }

    /// The leader in half of the cases, else anybody.
    fn victim(&mut self) -> Option<NodeId> {
        let leader = self.leader().map(NodeId::new);
        if let (Some(leader), true) = (leader, self.rng.coin()) {
            return Some(leader);
        }
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.rng.pick(&everybody).copied()
    }

    fn pause_somebody(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.pauses else { return };
        let Some(id) = self.victim() else { return };
        let lasts = self.rng.duration(Duration::from_millis(1), lasts_max);
        self.trace.counts.pauses += 1;
        self.trace.headline(self.now, Some(id), format!("is stopped for {lasts:?}"));
        self.pause_node(id);
        self.queue.push(self.now.after(lasts), Happening::Resume { node: id });
    }

    fn transfer_somewhere(&mut self) {
        let Some(leader) = self.leader().map(NodeId::new) else { return };
        let to = self.rng.coin().then(|| NodeId::new(self.rng.below(self.options.node_count) + 1));
        self.trace.counts.transfers += 1;
        self.trace.headline(self.now, Some(leader), format!("is asked to hand over to {to:?}"));
        self.tell(leader, Input::TransferLeadership { to });
    }

    fn partition_somehow(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.partitions else { return };
        let links = self.draw_partition();
        let lasts = self.rng.duration(Duration::from_millis(10), lasts_max);
        let list: Vec<String> = links.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        self.trace.headline(self.now, None, format!("cut for {lasts:?}: {}", list.join(" ")));
        let cut = self.cut(&links);
        self.queue.push(self.now.after(lasts), Happening::Mend { links: cut });
    }

    /// Links to cut, each in one direction.
    fn draw_partition(&mut self) -> Vec<(NodeId, NodeId)> {
        let mut nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.rng.shuffle(&mut nodes);
        if let (Some(leader), true) = (self.leader().map(NodeId::new), self.rng.coin()) {
            // Often the leader is in the smaller part.
            nodes.sort_by_key(|id| *id != leader);
        }
        let kind = self.rng.below(6);
        let split = self.rng.index(nodes.len().max(2) - 1) + 1;
        let (one, rest) = nodes.split_at(split.min(nodes.len()));
        let (alone, others) = nodes.split_at(1.min(nodes.len()));
        match kind {
            0 => both_ways(one, rest),
            // A leader that can send and not receive, or the other way round.
            1 => crossing(others, alone),
            2 => crossing(alone, others),
            // One node sees both halves, which do not see each other.
            3 => {
                let (left, right) = others.split_at(others.len() / 2);
                both_ways(left, right)
            }
            4 => both_ways(alone, others),
            // Any links.
            _ => {
                let all = crossing(&nodes, &nodes);
                let chance = Chance::percent(u32::try_from(self.rng.between(10, 60)).unwrap_or(30));
                all.into_iter().filter(|_| self.rng.happens(chance)).collect()
            }
        }
    }

    /// Cuts links; returns those that were whole.
    pub(super) fn cut(&mut self, links: &[(NodeId, NodeId)]) -> Vec<(NodeId, NodeId)> {
        self.trace.counts.partitions += 1;
        let mut cut = Vec::new();
        for (from, to) in links.iter().copied() {
            if self.network.cut(from, to) {
                cut.push((from, to));
                self.notice_cut(from, to);
            }
        }
        cut
    }

    /// Either end may notice after a while, as keep-alives would make it.
    fn notice_cut(&mut self, from: NodeId, to: NodeId) {
        for (node, peer) in [(from, to), (to, from)] {
            if self.rng.coin() {
                let delay = self.rng.duration(Duration::ZERO, Duration::from_secs(3));
                let notice = Happening::Disconnected { node, peer };
                self.queue.push(self.now.after(delay), notice);
            }
        }
    }

    /// Mends links.
    pub(super) fn mend(&mut self, links: &[(NodeId, NodeId)]) {
        for (from, to) in links {
            self.network.mend(*from, *to);
        }
        self.trace.headline(self.now, None, format!("{} links are mended", links.len()));
    }
}

/// Every link from one of these to one of those.
pub(super) fn crossing(from: &[NodeId], to: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let links = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    links.filter(|(from, to)| from != to).collect()
}

/// Every link between these and those.
pub(super) fn both_ways(one: &[NodeId], two: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let mut links = crossing(one, two);
    links.extend(crossing(two, one));
    links
}
