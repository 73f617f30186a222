//! Numbers that only grow, and a few that come and go; plain atomics, read by whoever wants to
//! publish them. Knows nothing of how they are published.

use crate::runtime::lock;
use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// How often something took how long: the bucket `i` counts what took at most `2^i` microseconds
/// and more than half of that; the last bucket, everything longer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Self::BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// How many buckets there are: the last but one ends at about four seconds.
    pub const BUCKETS: usize = 24;

    /// The buckets: the upper bound of each in microseconds, and how many fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..).zip(&self.buckets).map(|(power, count)| (1 << power, count.load(Ordering::Relaxed)))
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    /// The sum of all, in microseconds.
    #[must_use]
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        let power = u64::BITS - micros.saturating_sub(1).leading_zeros();
        let place = usize::try_from(power).unwrap_or(usize::MAX).min(Self::BUCKETS - 1);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How long the proposals of local callers took that were applied, stage by stage.
///
/// The stages are counted by the node that appended the proposal, as the leader: what came to a
/// follower, which forwards it, counts there as a whole only. Each is the time since the stage that
/// it waits for, and a leader's disk and the other nodes' work side by side.
///
/// ```
/// # use quorate::Node;
/// fn print(node: &Node) {
///     for (stage, histogram) in node.metrics().proposal_times.stages() {
///         println!("{stage}: {} us in all of {}", histogram.sum_micros(), histogram.count());
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct ProposalTimes {
    /// From the call until it was in the log. A leader that is not known is waited for here.
    pub proposed: Histogram,
    /// From there until it was durable on this node's disk.
    pub persisted: Histogram,
    /// From being in the log until it was known to be committed: durable on a majority.
    pub committed: Histogram,
    /// From when it was both until the state machine had applied it.
    pub applied: Histogram,
    /// From there until its caller was told.
    pub answered: Histogram,
    /// From the call until its caller was told, also through another node.
    pub whole: Histogram,
}

impl ProposalTimes {
    /// The stages by name, in their order.
    #[must_use]
    pub const fn stages(&self) -> [(&'static str, &Histogram); 5] {
        [
            ("proposed", &self.proposed),
            ("persisted", &self.persisted),
            ("committed", &self.committed),
            ("applied", &self.applied),
            ("answered", &self.answered),
        ]
    }
}

/// What a node counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Proposals of local callers that were committed and applied.
    pub proposals_applied: Counter,
    /// Proposals of local callers that met another fate.
    pub proposals_failed: Counter,
    /// How long the first of these took.
    pub proposal_times: ProposalTimes,
    /// Reads of local callers that were answered.
    pub reads_answered: Counter,
    /// Reads of local callers that were refused.
    pub reads_refused: Counter,
    /// Requests of local callers that wait.
    pub requests_pending: Gauge,
    /// Entries applied, of every kind and from everybody.
    pub entries_applied: Counter,
    /// How often this node saw a leader come or go.
    pub leader_changes: Counter,
    /// How many entries are committed here and not yet applied.
    pub apply_lag: Gauge,
    /// Turns of the event loop.
    pub turns: Counter,
    /// How long making a batch durable took: one fsync each.
    pub fsync: Histogram,
    /// Entries made durable.
    pub entries_persisted: Counter,
    /// Members whose replies are known to be others than this node's.
    pub differing_members: Gauge,
    /// Bytes of the log and of snapshots that were read again to see whether they are whole.
    pub scrubbed_bytes: Counter,
    /// How often all of them were read again.
    pub scrub_rounds: Counter,
    /// How many of their files were found to be damaged when they were last read.
    pub rotten_files: Gauge,
    peers: Mutex<BTreeMap<NodeId, Arc<PeerMetrics>>>,
}

impl Metrics {
    /// What was counted for each peer that was ever known.
    #[must_use]
    pub fn peers(&self) -> Vec<(NodeId, Arc<PeerMetrics>)> {
        lock(&self.peers).iter().map(|(id, peer)| (*id, Arc::clone(peer))).collect()
    }

    pub(crate) fn peer(&self, id: NodeId) -> Arc<PeerMetrics> {
        Arc::clone(lock(&self.peers).entry(id).or_default())
    }
}

/// What a node counts for one peer.
#[derive(Debug, Default)]
pub struct PeerMetrics {
    /// Bytes sent.
    pub sent_bytes: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Messages that were dropped, because there was no connection or too much waited for it.
    pub dropped_messages: Counter,
    /// Connections made to the peer.
    pub connects: Counter,
    /// Whether the control connection to the peer stands: 1 or 0.
    pub is_connected: Gauge,
    /// The last answered ping's round trip on the control connection, in microseconds.
    pub round_trip_micros: Gauge,
    /// All of them.
    pub round_trips: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_is_not_below_it() {
        for (micros, bound) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)] {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(micros));
            let found = histogram.buckets().find(|(_, count)| *count > 0);
            assert_eq!(found, Some((bound, 1)), "{micros} us");
        }
    }

    #[test]
    fn the_last_bucket_takes_everything_longer() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.buckets().last(), Some((1 << 23, 1)));
        assert_eq!(histogram.count(), 1);
    }
}
