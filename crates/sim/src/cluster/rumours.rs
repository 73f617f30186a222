//! What nodes are told of each other's ends: of those that have died, sooner or later or not at all,
//! and at any moment of some that have not. Knows nothing of what nodes make of it.

use super::Cluster;
use super::happening::Happening;
use crate::application::Application;
use crate::rng::Chance;
use quorate::Input;
use quorate_core::NodeId;
use std::time::Duration;

/// Who calls a node that has died is refused within this time...
const REFUSED_WITHIN: Duration = Duration::from_millis(20);

/// ...and perhaps again within this.
const REFUSED_AGAIN_WITHIN: Duration = Duration::from_millis(500);

impl<A: Application> Cluster<A> {
    /// Some nodes are told that one has ended, mostly the leader, which is not so: one of them, any of
    /// them or all, at the same moment or one after the other.
    pub(super) fn spread_a_rumour(&mut self) {
        let Some(gone) = self.victim() else { return };
        let mut listeners: Vec<NodeId> =
            self.nodes.keys().copied().filter(|id| *id != gone).collect();
        self.rng.shuffle(&mut listeners);
        match self.rng.below(3) {
            0 => listeners.truncate(1),
            1 => listeners.retain(|_| self.rng.coin()),
            _ => {}
        }
        let latest = [0, 0, 20, 1_000].map(Duration::from_millis);
        let latest = self.rng.pick(&latest).copied().unwrap_or_default();
        self.trace.counts.rumours += 1;
        let list: Vec<String> = listeners.iter().map(NodeId::to_string).collect();
        let text = format!("is said to be gone, to {} within {latest:?}", list.join(" "));
        self.trace.headline(self.now, Some(gone), text);
        for node in listeners {
            let delay = self.rng.duration(Duration::ZERO, latest);
            self.queue.push(self.now.after(delay), Happening::Gone { node, peer: gone });
        }
    }

    /// The connection of `node` to a peer that has died breaks in so long: it calls again, and nobody
    /// listens.
    pub(super) fn call_in_vain(&mut self, node: NodeId, peer: NodeId, breaks_in: Duration) {
        if self.options.faults.rumours_every.is_none() || !self.rng.happens(Chance::percent(90)) {
            return;
        }
        let delay = breaks_in + self.rng.duration(Duration::ZERO, REFUSED_WITHIN);
        self.queue.push(self.now.after(delay), Happening::Gone { node, peer });
        if self.rng.coin() {
            let again = delay + self.rng.duration(Duration::ZERO, REFUSED_AGAIN_WITHIN);
            self.queue.push(self.now.after(again), Happening::Gone { node, peer });
        }
    }

    /// A node is told that a peer's process has ended; nobody is once all is healed.
    pub(super) fn called_in_vain(&mut self, node: NodeId, peer: NodeId) {
        if self.is_troubled {
            self.tell(node, Input::PeerGone { peer });
        }
    }

    /// A node is told that another's process has ended, whether that is so or not. For stories.
    pub fn rumour(&mut self, node: u64, gone: u64) {
        let (node, peer) = (NodeId::new(node), NodeId::new(gone));
        self.trace.headline(self.now, Some(node), format!("is told that {peer} is gone"));
        self.tell(node, Input::PeerGone { peer });
    }
}
