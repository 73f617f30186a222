//! When leases end, by the clock of this member: deadlines in order, so that neither a renewal nor
//! a look costs more than the logarithm of how many there are. Time is an argument; must not know
//! who leads, or what happens to a lease whose time is up.

use quorate_kv::Lease;
use quorate_kv::lease::api::Overdue;
use quorate_kv::lease::{LeaseNews, LeaseReport};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module. Its time goes on only when it is told so.
#[derive(Debug, Default)]
pub(super) struct LeaseClock {
    now: Duration,
    timed: BTreeMap<i64, Timed>,
    deadlines: BTreeSet<(Duration, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Timed {
    lease: Lease,
    deadline: Duration,
}

impl LeaseClock {
    /// Time goes on by that much.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) const fn now(&self) -> Duration {
        self.now
    }

    /// Takes note of leases that changed, no earlier than they did: whoever is new or was renewed
    /// has all of its time from now on.
    pub(super) fn learn(&mut self, report: LeaseReport) {
        if report.everything {
            let living: BTreeSet<i64> = report.news.iter().map(|news| news.id).collect();
            let gone: Vec<i64> =
                self.timed.keys().filter(|id| !living.contains(id)).copied().collect();
            for id in gone {
                self.forget(id);
            }
        }
        for LeaseNews { id, lease } in report.news {
            match lease {
                Some(lease) => self.keep(id, lease),
                None => self.forget(id),
            }
        }
    }

    fn keep(&mut self, id: i64, lease: Lease) {
        if self.timed.get(&id).is_some_and(|known| known.lease == lease) {
            return;
        }
        self.forget(id);
        let ttl = Duration::from_secs(u64::try_from(lease.ttl).unwrap_or(0));
        let deadline = self.now + ttl;
        self.timed.insert(id, Timed { lease, deadline });
        self.deadlines.insert((deadline, id));
    }

    fn forget(&mut self, id: i64) {
        if let Some(timed) = self.timed.remove(&id) {
            self.deadlines.remove(&(timed.deadline, id));
        }
    }

    /// How much of its time a lease has left, and how much it was granted; `None` if there is none.
    pub(super) fn remaining(&self, id: i64) -> Option<(Duration, Lease)> {
        let timed = self.timed.get(&id)?;
        Some((timed.deadline.saturating_sub(self.now), timed.lease))
    }

    /// All leases, the one that ends first before the others.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> + '_ {
        self.deadlines.iter().map(|(_, id)| *id)
    }

    /// How long it is until a lease ends; `None` if there is none.
    pub(super) fn next_in(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_sub(self.now))
    }

    /// The leases whose time is up, `count_max` at most.
    pub(super) fn overdue(&self, count_max: usize) -> Vec<Overdue> {
        let ended = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= self.now);
        let leases = ended.filter_map(|(_, id)| {
            let renewed_at = self.timed.get(id)?.lease.renewed_at.get();
            Some(Overdue { id: *id, renewed_at })
        });
        leases.take(count_max).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::core::LogIndex;

    const SECOND: Duration = Duration::from_secs(1);

    fn news(id: i64, ttl: i64, renewed_at: u64) -> LeaseNews {
        let lease = Some(Lease { ttl, renewed_at: LogIndex::new(renewed_at) });
        LeaseNews { id, lease }
    }

    fn changes(news: Vec<LeaseNews>) -> LeaseReport {
        LeaseReport { everything: false, news }
    }

    fn overdue(clock: &LeaseClock) -> Vec<i64> {
        clock.overdue(10).into_iter().map(|overdue| overdue.id).collect()
    }

    #[test]
    fn a_lease_is_overdue_after_its_time_and_not_before() {
        let mut clock = LeaseClock::default();
        clock.learn(changes(vec![news(1, 10, 5), news(2, 20, 6)]));
        clock.pass(Duration::new(9, 999_999_999));
        assert_eq!(overdue(&clock), [0; 0]);
        clock.pass(Duration::from_nanos(1));
        assert_eq!(clock.overdue(10), [Overdue { id: 1, renewed_at: 5 }]);
        assert_eq!(clock.next_in(), Some(Duration::ZERO));
        clock.learn(changes(vec![LeaseNews { id: 1, lease: None }]));
        assert_eq!(clock.next_in(), Some(10 * SECOND));
    }

    #[test]
    fn a_renewal_gives_all_of_the_time_again_and_hearing_of_it_twice_gives_no_more() {
        let mut clock = LeaseClock::default();
        clock.learn(changes(vec![news(1, 10, 5)]));
        clock.pass(9 * SECOND);
        clock.learn(changes(vec![news(1, 10, 7)]));
        clock.pass(9 * SECOND);
        clock.learn(changes(vec![news(1, 10, 7)]));
        assert_eq!(clock.remaining(1).unwrap().0, SECOND);
        clock.pass(SECOND);
        assert_eq!(overdue(&clock), [1]);
    }

    #[test]
    fn after_a_snapshot_only_what_it_holds_is_there() {
        let mut clock = LeaseClock::default();
        clock.learn(changes(vec![news(1, 10, 5), news(2, 10, 5), news(3, 10, 5)]));
        clock.pass(4 * SECOND);
        let report = LeaseReport { everything: true, news: vec![news(2, 10, 5), news(3, 10, 8)] };
        clock.learn(report);
        assert_eq!(clock.ids().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(clock.remaining(2).unwrap().0, 6 * SECOND);
        assert_eq!(clock.remaining(3).unwrap().0, 10 * SECOND);
        assert_eq!(clock.remaining(1), None);
    }

    #[test]
    fn those_that_end_first_come_first_and_no_more_than_asked_for() {
        let mut clock = LeaseClock::default();
        clock.learn(changes((1..=100).map(|id| news(id, 200 - id, 5)).collect()));
        clock.pass(150 * SECOND);
        let ids: Vec<i64> = clock.overdue(3).into_iter().map(|overdue| overdue.id).collect();
        assert_eq!(ids, [100, 99, 98]);
        assert_eq!(clock.overdue(1000).len(), 51);
    }
}
