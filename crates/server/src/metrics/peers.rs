//! What is said between the members, with etcd's names. Must not know how.

use super::{Histogram, Page};
use quorate::core::NodeId;
use quorate::{Metrics, NodeStatus};

/// What is known of one other member.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerFigures {
    id: u64,
    sent_bytes: u64,
    received_bytes: u64,
    dropped_messages: u64,
    is_connected: bool,
    round_trips: Histogram,
}

impl PeerFigures {
    /// Of those that are members now.
    pub(crate) fn all(status: &NodeStatus, metrics: &Metrics) -> Vec<Self> {
        let members = &status.configuration.members;
        let peers = metrics.peers();
        let is_member = |id: &NodeId| *id != status.id && members.contains_key(id);
        let peers = peers.iter().filter(|(id, _)| is_member(id));
        let figures = peers.map(|(id, peer)| Self {
            id: id.get(),
            sent_bytes: peer.sent_bytes.get(),
            received_bytes: peer.received_bytes.get(),
            dropped_messages: peer.dropped_messages.get(),
            is_connected: peer.is_connected.get() == 1,
            round_trips: Histogram::from(&peer.round_trips),
        });
        figures.collect()
    }
}

/// The ids of members are labels, as etcd writes them.
/// A counter of each peer: its name, what its label is called, help, and where the figure is.
type Counter = (&'static str, &'static str, &'static str, fn(&PeerFigures) -> u64);

pub(super) fn render(out: &mut Page, own_id: u64, peers: &[PeerFigures]) {
    let name = "etcd_network_active_peers";
    out.head(name, "gauge", "Whether the control connection to a member stands.");
    for peer in peers {
        let labels = format!("Local=\"{own_id:x}\",Remote=\"{:x}\"", peer.id);
        out.line(&format!("{name}{{{labels}}}"), u8::from(peer.is_connected));
    }
    let counters: [Counter; 3] = [
        ("etcd_network_peer_sent_bytes_total", "To", "Bytes sent to members.", |peer| {
            peer.sent_bytes
        }),
        (
            "etcd_network_peer_received_bytes_total",
            "From",
            "Bytes received from members.",
            |peer| peer.received_bytes,
        ),
        (
            "etcd_network_peer_sent_failures_total",
            "To",
            "Messages to members that were dropped: no connection, or too much waited for it.",
            |peer| peer.dropped_messages,
        ),
    ];
    for (name, label, help, value) in counters {
        out.head(name, "counter", help);
        for peer in peers {
            out.line(&format!("{name}{{{label}=\"{:x}\"}}", peer.id), value(peer));
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    out.head(name, "histogram", "How long a ping to a member and its answer take.");
    for peer in peers {
        out.buckets(name, &format!("To=\"{:x}\"", peer.id), &peer.round_trips);
    }
}
