//! What goes wrong between nodes: cuts of every shape, broken connections, links that lose by rule.
//! Knows nothing of what messages mean.

use super::Cluster;
use super::happening::Happening;
use crate::application::Application;
use crate::faults::Rhythm;
use crate::network::Omission;
use crate::rng::Chance;
use quorate::Input;
use quorate_core::NodeId;
use std::time::Duration;

/// A link in one direction.
type Way = (NodeId, NodeId);

impl<A: Application> Cluster<A> {
    pub(super) fn partition_somehow(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.partitions else { return };
        let links = self.draw_partition();
        let lasts = self.rng.duration(Duration::from_millis(10), lasts_max);
        let list: Vec<String> = links.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        self.trace.headline(self.now, None, format!("cut for {lasts:?}: {}", list.join(" ")));
        let cut = self.cut(&links);
        self.queue.push(self.now.after(lasts), Happening::Mend { links: cut });
    }

    /// Links to cut, each in one direction.
    fn draw_partition(&mut self) -> Vec<Way> {
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

    /// Links stop one by one, and come back one by one in another order: those of some nodes, or
    /// any.
    pub(super) fn swizzle(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.swizzles else { return };
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        let bundles: Vec<Vec<Way>> = if self.rng.coin() {
            let bundle = |id: &NodeId| both_ways(&[*id], &everybody);
            everybody.iter().map(bundle).collect()
        } else {
            crossing(&everybody, &everybody).into_iter().map(|link| vec![link]).collect()
        };
        let phase = self.rng.duration(Duration::from_millis(100), lasts_max);
        self.trace.counts.swizzles += 1;
        let text = format!("links stop and come back, one by one, within {:?}", phase * 2);
        self.trace.headline(self.now, None, text);
        for links in bundles {
            if self.rng.coin() {
                continue;
            }
            let (stops, back) = (self.within(phase), self.within(phase));
            let cut = Happening::Cut { links: links.clone() };
            self.queue.push(self.now.after(stops), cut);
            self.queue.push(self.now.after(phase + back), Happening::Mend { links });
        }
    }

    fn within(&mut self, phase: Duration) -> Duration {
        self.rng.duration(Duration::ZERO, phase)
    }

    /// The connections between two nodes break, and both learn of it sooner or later.
    pub(super) fn break_something(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.breaks else { return };
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        let all = crossing(&everybody, &everybody);
        let Some((one, two)) = self.rng.pick(&all).copied() else { return };
        let lasts = self.rng.duration(Duration::ZERO, lasts_max);
        self.trace.counts.connection_breaks += 1;
        let text = format!("the connections {one}-{two} break for {lasts:?}");
        self.trace.headline(self.now, None, text);
        for (node, peer) in [(one, two), (two, one)] {
            self.network.break_connection(node, peer, self.now, self.now.after(lasts));
            let delay = self.within(lasts + Duration::from_secs(1));
            self.queue.push(self.now.after(delay), Happening::Disconnected { node, peer });
        }
    }

    /// Some links lose messages by a rule for a while.
    pub(super) fn omit_something(&mut self) {
        let Some(Rhythm { lasts_max, .. }) = self.options.faults.omissions else { return };
        let omission = match self.rng.below(3) {
            0 => Omission::EveryNth(self.rng.between(2, 5)),
            1 => Omission::LargerThan(usize::try_from(self.rng.between(30, 1_500)).unwrap_or(0)),
            _ => Omission::Bursts(self.rng.between(3, 60)),
        };
        let links = self.draw_partition();
        let lasts = self.rng.duration(Duration::from_millis(10), lasts_max);
        self.trace.counts.omissions += 1;
        let text = format!("{} links lose {omission} for {lasts:?}", links.len());
        self.trace.headline(self.now, None, text);
        for (from, to) in &links {
            self.network.omit(*from, *to, Some(omission));
        }
        self.queue.push(self.now.after(lasts), Happening::EndOmission { links });
    }

    /// Cuts links; returns those that were whole.
    pub(super) fn cut(&mut self, links: &[Way]) -> Vec<Way> {
        self.trace.counts.partitions += 1;
        self.cut_links(links)
    }

    /// As [`Self::cut`], as a part of something that is counted already.
    pub(super) fn cut_links(&mut self, links: &[Way]) -> Vec<Way> {
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

    /// A node notices that a peer is out of reach, and hangs up if it still is; nobody does once all is
    /// healed.
    pub(super) fn disconnected(&mut self, node: NodeId, peer: NodeId) {
        if !self.is_troubled {
            return;
        }
        if self.network.is_cut(node, peer) || self.network.is_cut(peer, node) {
            self.network.break_connection(node, peer, self.now, self.now);
            self.network.break_connection(peer, node, self.now, self.now);
        }
        self.tell(node, Input::Disconnected { peer });
    }

    /// Mends links; what they held back goes on its way.
    pub(super) fn mend(&mut self, links: &[Way]) {
        for (from, to) in links.iter().copied() {
            if let Some(at) = self.network.mend(self.now, from, to) {
                self.queue.push(at, Happening::Release { from, to });
            }
        }
        self.trace.headline(self.now, None, format!("{} links are mended", links.len()));
    }
}

/// Nodes as a story calls them.
pub(super) fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|id| format!("n{id}")).collect();
    names.join(", ")
}

/// Every link from one of these to one of those.
pub(super) fn crossing(from: &[NodeId], to: &[NodeId]) -> Vec<Way> {
    let links = from.iter().flat_map(|from| to.iter().map(|to| (*from, *to)));
    links.filter(|(from, to)| from != to).collect()
}

/// Every link between these and those.
pub(super) fn both_ways(one: &[NodeId], two: &[NodeId]) -> Vec<Way> {
    let mut links = crossing(one, two);
    links.extend(crossing(two, one));
    links
}
