//! The wires between the nodes: which are cut, and when (if ever) a message that is sent now
//! arrives. It must not look into messages.

use crate::counts::MessageCounts;
use crate::faults::NetworkFaults;
use crate::rng::Rng;
use quorate_core::{NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};

/// The network of one world.
#[derive(Debug)]
pub(crate) struct Network {
    faults: NetworkFaults,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// The latest arrival on each link, for links that keep their order.
    latest: BTreeMap<(NodeId, NodeId), Time>,
    rng: Rng,
    counts: MessageCounts,
}

/// When a message arrives: never, once, or twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// The first copy.
    pub(crate) first: Option<Time>,
    /// The second copy.
    pub(crate) second: Option<Time>,
}

impl Network {
    /// A whole network.
    #[must_use]
    pub(crate) fn new(faults: NetworkFaults, rng: Rng) -> Self {
        Self {
            faults,
            cut: BTreeSet::new(),
            latest: BTreeMap::new(),
            rng,
            counts: MessageCounts::default(),
        }
    }

    /// From now on messages travel like this, on new connections: they need not wait behind what
    /// is still under way on the old ones.
    pub(crate) fn set_faults(&mut self, faults: NetworkFaults) {
        self.faults = faults;
        self.latest.clear();
    }

    /// Cuts a link in one direction; returns whether it was whole.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) -> bool {
        self.cut.insert((from, to))
    }

    /// Mends a link in one direction.
    pub(crate) fn mend(&mut self, from: NodeId, to: NodeId) {
        self.cut.remove(&(from, to));
    }

    /// Mends every link.
    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    /// Whether nothing passes from one node to another.
    #[must_use]
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// What became of the messages so far.
    #[must_use]
    pub(crate) const fn counts(&self) -> MessageCounts {
        self.counts
    }

    /// Sends a message now.
    pub(crate) fn send(&mut self, now: Time, from: NodeId, to: NodeId) -> Arrivals {
        self.counts.sent += 1;
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return Arrivals::default();
        }
        if self.rng.happens(self.faults.loss) {
            self.counts.lost += 1;
            return Arrivals::default();
        }
        let first = Some(self.arrival(now, from, to));
        let second = self.rng.happens(self.faults.duplication).then(|| {
            self.counts.duplicated += 1;
            self.arrival(now, from, to)
        });
        Arrivals { first, second }
    }

    /// How long one way takes at this moment, for messages that are nobody else's business, such
    /// as those between a client and its node.
    pub(crate) fn one_way(&mut self, now: Time) -> Time {
        now.after(self.faults.delay_min).after(self.rng.wait(self.faults.delay_mean))
    }

    fn arrival(&mut self, now: Time, from: NodeId, to: NodeId) -> Time {
        let mut at = self.one_way(now);
        if self.rng.happens(self.faults.tail) {
            at = at.after(self.rng.duration(std::time::Duration::ZERO, self.faults.tail_max));
        }
        if self.faults.reorders {
            return at;
        }
        let latest = self.latest.entry((from, to)).or_default();
        *latest = at.max(*latest);
        *latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Chance;

    const ONE: NodeId = NodeId::new(1);
    const TWO: NodeId = NodeId::new(2);

    #[test]
    fn a_cut_link_is_cut_in_one_direction_only() {
        let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
        assert!(network.cut(ONE, TWO));
        assert_eq!(network.send(Time::ZERO, ONE, TWO), Arrivals::default());
        assert!(network.send(Time::ZERO, TWO, ONE).first.is_some());
        network.mend_all();
        assert!(network.send(Time::ZERO, ONE, TWO).first.is_some());
    }

    #[test]
    fn a_link_that_keeps_its_order_never_lets_messages_overtake() {
        let mut faults = NetworkFaults::calm();
        faults.tail = Chance::percent(30);
        faults.tail_max = std::time::Duration::from_secs(1);
        let arrivals = |faults| -> Vec<Time> {
            let mut network = Network::new(faults, Rng::new(1));
            (0..100).filter_map(|_| network.send(Time::ZERO, ONE, TWO).first).collect()
        };
        assert!(arrivals(faults).is_sorted());
        faults.reorders = true;
        assert!(!arrivals(faults).is_sorted());
    }

    #[test]
    fn loss_and_duplication_are_counted() {
        let mut faults = NetworkFaults::calm();
        faults.loss = Chance::percent(10);
        faults.duplication = Chance::percent(10);
        let mut network = Network::new(faults, Rng::new(1));
        for _ in 0..1000 {
            network.send(Time::ZERO, ONE, TWO);
        }
        let MessageCounts { sent, lost, duplicated, cut } = network.counts();
        assert_eq!((sent, cut), (1000, 0));
        assert!((50..150).contains(&lost) && (50..150).contains(&duplicated));
    }
}
