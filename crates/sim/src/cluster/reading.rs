//! Reads by lease and reads of a bounded age: which reads clients ask for in this way, how late a node
//! comes to answer one that may be answered, and what had to be shown. Its chance is its own, so that
//! worlds without them stay what they were.

use super::Cluster;
use super::happening::Happening;
use super::node::Caller;
use crate::application::Application;
use crate::judge::{Asked, Breach};
use crate::rng::{Chance, Rng};
use bytes::Bytes;
use quorate::{Consistency, Ticket};
use quorate_core::{Drift, LogIndex, NodeId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// How clients read, in one world.
#[derive(Clone, Copy, Debug)]
pub struct ReadKinds {
    /// Of the linearizable reads, those for which a lease will do.
    pub by_lease: Chance,
    /// By how much they allow clocks to be off. Where clocks are off by more, they may be wrong.
    pub max_drift: Drift,
    /// Of the reads of whatever a node has, those that have to be of a bounded age...
    pub bounded: Chance,
    /// ...of up to this.
    pub age_max: Duration,
    /// The chance that a node's state machine comes late to a read that may be answered, as it does
    /// if its process is stopped in between...
    pub late: Chance,
    /// ...by up to this.
    pub late_max: Duration,
}

impl ReadKinds {
    /// All that can be by lease is, with clocks that are off by no more than this.
    #[must_use]
    pub const fn by_lease(max_drift: Drift) -> Self {
        let (bounded, late) = (Chance::NEVER, Chance::NEVER);
        let (age_max, late_max) = (Duration::ZERO, Duration::ZERO);
        Self { by_lease: Chance::ALWAYS, max_drift, bounded, age_max, late, late_max }
    }

    /// All that can be is of this age at most.
    #[must_use]
    pub const fn bounded(age_max: Duration) -> Self {
        let max_drift = Drift::parts_per_million(0);
        let (by_lease, bounded) = (Chance::NEVER, Chance::ALWAYS);
        Self { by_lease, bounded, age_max, ..Self::by_lease(max_drift) }
    }

    /// In a third of the worlds; `clocks` are off by up to so many millionths.
    pub(super) fn draw(clocks: u32, rng: &mut Rng) -> Option<Self> {
        let often = *rng.pick(&[0, 0, 0, 0, 50, 100]).filter(|percent| **percent > 0)?;
        let ages = [0, 20, 200, 2_000, 10_000].map(Duration::from_millis);
        let late = rng.pick(&[0, 5, 50]).copied().unwrap_or_default();
        Some(Self {
            by_lease: Chance::percent(often),
            max_drift: Drift::parts_per_million(clocks),
            bounded: Chance::percent(often),
            age_max: rng.pick(&ages).copied().unwrap_or_default(),
            late: Chance::percent(late),
            late_max: rng.duration(Duration::from_millis(1), Duration::from_secs(4)),
        })
    }
}

/// What the world knows of such reads.
#[derive(Debug)]
pub(super) struct Reading {
    rng: Rng,
    /// What was committed, and since when: as far back as anybody may ask.
    committed: VecDeque<(Time, LogIndex)>,
}

impl Reading {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed).fork("reading"), committed: VecDeque::new() }
    }

    /// So much is committed by now; nobody asks for what was so before `kept_from`.
    fn note(&mut self, now: Time, committed: LogIndex, kept_from: Time) {
        if self.committed.back().is_none_or(|(_, known)| *known < committed) {
            self.committed.push_back((now, committed));
        }
        while self.committed.get(1).is_some_and(|(since, _)| *since < kept_from) {
            self.committed.pop_front();
        }
    }

    /// What was committed before that time.
    fn committed_before(&self, time: Time) -> LogIndex {
        let known = self.committed.iter().rev().find(|(since, _)| *since < time);
        known.map_or(LogIndex::ORIGIN, |(_, index)| *index)
    }
}

impl<A: Application> Cluster<A> {
    /// After a turn in which something may have been committed.
    pub(super) fn note_committed(&mut self) {
        let Some(kinds) = self.options.reads else { return };
        // A clock may run at half the speed of the world's.
        let oldest = 4 * kinds.age_max.max(Duration::from_secs(1));
        let kept_from = Time::ZERO.after(self.now.since(Time::ZERO.after(oldest)));
        self.reading.note(self.now, self.safety.last_committed(), kept_from);
    }

    /// How a read is asked for that is to be linearizable.
    pub(super) fn linearizable(&mut self, query: Bytes, asked: Asked) -> (Caller, Consistency) {
        let lease = self.options.reads.filter(|kinds| self.reading.rng.happens(kinds.by_lease));
        let Some(ReadKinds { max_drift, .. }) = lease else {
            return (Caller::Query(query, asked), Consistency::Linearizable);
        };
        self.trace.counts.reads_by_lease += 1;
        let asked = Asked { by_lease: true, ..asked };
        (Caller::Query(query, asked), Consistency::Lease { max_drift })
    }

    /// How a read is asked for that may show anything: of node `id`, perhaps not anything that old.
    pub(super) fn of_whatever_age(&mut self, id: NodeId, query: Bytes) -> (Caller, Consistency) {
        let bounded = self.options.reads.filter(|kinds| self.reading.rng.happens(kinds.bounded));
        let Some(ReadKinds { age_max, .. }) = bounded else {
            return (Caller::Weak(query), Consistency::Local);
        };
        let age = self.reading.rng.duration(Duration::ZERO, age_max);
        // The node's clock tells how long ago that is. What was before it started, or jumped, is asked
        // of it as of then: it cannot know of anything older.
        let since = self.nodes.get(&id).map_or(self.now, |node| {
            let own = node.clock.own(self.now).since(Time::ZERO).saturating_sub(age);
            node.clock.world(Time::ZERO.after(own)).min(self.now)
        });
        self.trace.counts.reads_bounded += 1;
        let floor = self.reading.committed_before(since);
        (Caller::Bounded(query, floor, age), Consistency::Bounded(age))
    }

    /// A read of bounded age is served from a state that has everything up to `shown`.
    pub(super) fn is_young_enough(
        node: NodeId,
        shown: LogIndex,
        floor: LogIndex,
        age: Duration,
    ) -> Result<(), Breach> {
        if shown < floor {
            Err(Breach::OldRead { node, shown, committed: floor, age })
        } else {
            Ok(())
        }
    }

    /// A read may be answered; the node may come to it later.
    pub(super) fn comes_to_read(&mut self, id: NodeId, ticket: Ticket) -> Result<(), Breach> {
        let late = self.options.reads.filter(|_| self.is_troubled);
        let late = late.filter(|kinds| self.reading.rng.happens(kinds.late));
        let Some((kinds, life)) = late.zip(self.nodes.get(&id).map(|node| node.life)) else {
            return self.may_read(id, ticket, true);
        };
        self.trace.counts.reads_late += 1;
        let delay = self.reading.rng.duration(Duration::ZERO, kinds.late_max);
        self.queue.push(self.now.after(delay), Happening::Read { node: id, life, ticket });
        Ok(())
    }

    /// A node comes to answer a read, unless it is stopped or has died meanwhile.
    pub(super) fn reads_late(
        &mut self,
        id: NodeId,
        life: u64,
        ticket: Ticket,
    ) -> Result<(), Breach> {
        let Some(node) = self.nodes.get(&id).filter(|node| node.life == life) else {
            return Ok(());
        };
        if node.paused {
            let again = Happening::Read { node: id, life, ticket };
            self.queue.push(self.now.after(Duration::from_millis(50)), again);
            return Ok(());
        }
        self.may_read(id, ticket, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_known_as_of_any_moment_that_may_be_asked_for() {
        let (at, index) = (Time::from_micros, LogIndex::new);
        let mut reading = Reading::new(1);
        assert_eq!(reading.committed_before(at(5)), index(0));
        for (now, committed) in [(10, 3), (20, 3), (30, 7), (40, 9)] {
            reading.note(at(now), index(committed), at(15));
        }
        assert_eq!(reading.committed_before(at(10)), index(0));
        assert_eq!(reading.committed_before(at(30)), index(3));
        assert_eq!(reading.committed_before(at(31)), index(7));
        reading.note(at(50), index(10), at(41));
        assert_eq!(reading.committed.len(), 2, "{reading:?}");
        assert_eq!(reading.committed_before(at(45)), index(9));
    }
}
