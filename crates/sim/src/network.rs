//! The wires between the nodes: which are cut, and when (if ever) a message that is sent now
//! arrives. It must not look into messages.

use crate::counts::MessageCounts;
use crate::faults::NetworkFaults;
use crate::rng::Rng;
use quorate_core::{NodeId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a client waits, at most, for what never comes.
const CLIENT_GIVES_UP: Duration = Duration::from_millis(100);

/// A late answer is at least this late...
const LATE_ANSWER_MIN: Duration = Duration::from_millis(200);

/// ...and at most so much more: the maximum is drawn first, then the delay.
const LATE_ANSWER_SPREAD: Duration = Duration::from_secs(2);

/// The network of one world.
#[derive(Debug)]
pub(crate) struct Network {
    faults: NetworkFaults,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that nothing reaches and that reach nothing, their clients included.
    unplugged: BTreeSet<NodeId>,
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
            unplugged: BTreeSet::new(),
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

    /// Mends every link, and plugs every node in.
    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
        self.unplugged.clear();
    }

    /// Cuts a node off from everything, or undoes that; returns whether it was otherwise.
    pub(crate) fn unplug(&mut self, node: NodeId, is_out: bool) -> bool {
        if is_out { self.unplugged.insert(node) } else { self.unplugged.remove(&node) }
    }

    /// Whether a node is cut off from everything.
    #[must_use]
    pub(crate) fn is_unplugged(&self, node: NodeId) -> bool {
        self.unplugged.contains(&node)
    }

    /// Whether nothing passes from one node to another.
    #[must_use]
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to)) || self.is_unplugged(from) || self.is_unplugged(to)
    }

    /// What became of the messages so far.
    #[must_use]
    pub(crate) const fn counts(&self) -> MessageCounts {
        self.counts
    }

    /// Sends a message now; of its content it matters whether it answers another one.
    pub(crate) fn send(
        &mut self,
        now: Time,
        from: NodeId,
        to: NodeId,
        is_answer: bool,
    ) -> Arrivals {
        self.counts.sent += 1;
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return Arrivals::default();
        }
        if self.rng.happens(self.faults.loss) {
            self.counts.lost += 1;
            return Arrivals::default();
        }
        let sent = if is_answer { self.held_back(now) } else { now };
        let first = Some(self.arrival(sent, from, to));
        let second = self.rng.happens(self.faults.duplication).then(|| {
            self.counts.duplicated += 1;
            self.arrival(sent, from, to)
        });
        Arrivals { first, second }
    }

    /// When something that a client and a node say to each other arrives; or, if it never does,
    /// when the client gives up.
    pub(crate) fn client_way(&mut self, now: Time, node: NodeId) -> Result<Time, Time> {
        if self.is_unplugged(node) || self.rng.happens(self.faults.client_loss) {
            return Err(now.after(self.rng.duration(Duration::ZERO, CLIENT_GIVES_UP)));
        }
        Ok(self.one_way(now))
    }

    /// An answer may be held back, for up to 2.2 s, mostly much less.
    fn held_back(&mut self, now: Time) -> Time {
        if !self.rng.happens(self.faults.late_answers) {
            return now;
        }
        let at_most = self.rng.duration(Duration::ZERO, LATE_ANSWER_SPREAD);
        now.after(LATE_ANSWER_MIN).after(self.rng.duration(Duration::ZERO, at_most))
    }

    fn one_way(&mut self, now: Time) -> Time {
        let NetworkFaults { delay_min, delay_mean, jitter_max, .. } = self.faults;
        let at = now.after(delay_min).after(self.rng.wait(delay_mean));
        if jitter_max.is_zero() {
            return at;
        }
        at.after(self.rng.duration(Duration::ZERO, jitter_max))
    }

    fn arrival(&mut self, now: Time, from: NodeId, to: NodeId) -> Time {
        let mut at = self.one_way(now);
        if self.rng.happens(self.faults.tail) {
            at = at.after(self.rng.duration(Duration::ZERO, self.faults.tail_max));
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
        assert_eq!(network.send(Time::ZERO, ONE, TWO, false), Arrivals::default());
        assert!(network.send(Time::ZERO, TWO, ONE, false).first.is_some());
        network.mend_all();
        assert!(network.send(Time::ZERO, ONE, TWO, false).first.is_some());
    }

    #[test]
    fn a_link_that_keeps_its_order_never_lets_messages_overtake() {
        let mut faults = NetworkFaults::calm();
        faults.tail = Chance::percent(30);
        faults.tail_max = Duration::from_secs(1);
        let arrivals = |faults| -> Vec<Time> {
            let mut network = Network::new(faults, Rng::new(1));
            (0..100).filter_map(|_| network.send(Time::ZERO, ONE, TWO, false).first).collect()
        };
        assert!(arrivals(faults).is_sorted());
        faults.reorders = true;
        assert!(!arrivals(faults).is_sorted());
    }

    #[test]
    fn an_unplugged_node_reaches_nobody_and_not_even_its_clients() {
        let mut network = Network::new(NetworkFaults::calm(), Rng::new(1));
        assert!(network.unplug(ONE, true));
        assert!(network.is_cut(ONE, TWO) && network.is_cut(TWO, ONE));
        assert!(network.client_way(Time::ZERO, ONE).is_err());
        assert!(network.client_way(Time::ZERO, TWO).is_ok());
        assert!(network.unplug(ONE, false));
        assert!(!network.is_cut(ONE, TWO));
    }

    #[test]
    fn only_answers_are_held_back() {
        let faults = NetworkFaults { late_answers: Chance::ALWAYS, ..NetworkFaults::calm() };
        let mut network = Network::new(faults, Rng::new(1));
        let question = network.send(Time::ZERO, ONE, TWO, false).first.unwrap();
        let answer = network.send(Time::ZERO, TWO, ONE, true).first.unwrap();
        assert!(question < Time::ZERO.after(LATE_ANSWER_MIN));
        assert!(answer >= Time::ZERO.after(LATE_ANSWER_MIN));
    }

    #[test]
    fn loss_and_duplication_are_counted() {
        let mut faults = NetworkFaults::calm();
        faults.loss = Chance::percent(10);
        faults.duplication = Chance::percent(10);
        let mut network = Network::new(faults, Rng::new(1));
        for _ in 0..1000 {
            network.send(Time::ZERO, ONE, TWO, false);
        }
        let MessageCounts { sent, lost, duplicated, cut } = network.counts();
        assert_eq!((sent, cut), (1000, 0));
        assert!((50..150).contains(&lost) && (50..150).contains(&duplicated));
    }
}
