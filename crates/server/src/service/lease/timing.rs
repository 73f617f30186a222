//! Lets the clock of leases go on, and decides when leases may end: only this member's service can
//! take time from them, not its own absence. Must not know how a lease ends.
//!
//! Nobody can renew a lease while this process is stopped, while there is no leader, or while the
//! log does not answer. Such time does not count.

use super::clock::LeaseClock;
use quorate::core::{NodeId, Term};
use quorate_kv::lease::LeaseReport;
use quorate_kv::lease::api::Overdue;
use std::time::Duration;

/// Between two looks no more time than this counts: whoever looked less often did not run.
pub(super) const STEP_MAX: Duration = Duration::from_secs(1);

/// Whom this member takes for the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) leader: Option<NodeId>,
    pub(super) term: Term,
    pub(super) is_own: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timing {
    clock: LeaseClock,
    /// When somebody looked last, on the system's monotonic clock.
    looked_at: Duration,
    leadership: Option<Leadership>,
    /// When this member took over, on the clock of leases; no lease ends soon after.
    leads_since: Option<Duration>,
    grace: Duration,
    is_held: bool,
}

impl Timing {
    /// A clock that begins at `now`. After taking over leadership no lease ends for `grace`: their
    /// owners have to find the new leader first.
    pub(super) fn new(now: Duration, grace: Duration) -> Self {
        Self {
            clock: LeaseClock::default(),
            looked_at: now,
            leadership: None,
            leads_since: None,
            grace,
            is_held: false,
        }
    }

    /// It is `now`, and this is what changed before.
    pub(super) fn look(&mut self, now: Duration, leadership: Leadership, report: LeaseReport) {
        let step = now.saturating_sub(self.looked_at).min(STEP_MAX);
        self.looked_at = now;
        let is_settled = self.leadership == Some(leadership) && leadership.leader.is_some();
        if is_settled && !self.is_held {
            self.clock.pass(step);
        }
        if self.leadership != Some(leadership) {
            self.leads_since = leadership.is_own.then(|| self.clock.now());
        }
        self.leadership = Some(leadership);
        self.clock.learn(report);
    }

    /// Whether time stands still, because the log is asked for something that it has to answer.
    pub(super) const fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The leases that this member should end now, `count_max` at most.
    pub(super) fn overdue(&self, count_max: usize) -> Vec<Overdue> {
        let may_end = self.leads_since.is_some_and(|since| self.clock.now() >= since + self.grace);
        if may_end { self.clock.overdue(count_max) } else { Vec::new() }
    }

    pub(super) const fn clock(&self) -> &LeaseClock {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::core::LogIndex;
    use quorate_kv::Lease;
    use quorate_kv::lease::LeaseNews;

    const GRACE: Duration = Duration::from_secs(3);

    fn led_by(leader: Option<u64>, term: u64) -> Leadership {
        let leader = leader.map(NodeId::new);
        Leadership { leader, term: Term::new(term), is_own: leader == Some(NodeId::new(1)) }
    }

    fn granted(id: i64, ttl: i64) -> LeaseReport {
        let lease = Some(Lease { ttl, renewed_at: LogIndex::new(4) });
        LeaseReport { everything: false, news: vec![LeaseNews { id, lease }] }
    }

    fn nothing() -> LeaseReport {
        LeaseReport { everything: false, news: Vec::new() }
    }

    /// A clock that is looked at regularly.
    struct World {
        timing: Timing,
        now: Duration,
        leadership: Leadership,
    }

    impl World {
        fn new(leadership: Leadership) -> Self {
            let mut timing = Timing::new(Duration::ZERO, GRACE);
            timing.look(Duration::ZERO, leadership, granted(1, 10));
            Self { timing, now: Duration::ZERO, leadership }
        }

        fn run(&mut self, seconds: u64) {
            for _ in 0..seconds * 2 {
                self.now += STEP_MAX / 2;
                self.timing.look(self.now, self.leadership, nothing());
            }
        }

        fn is_overdue(&self) -> bool {
            !self.timing.overdue(10).is_empty()
        }
    }

    #[test]
    fn the_leader_ends_a_lease_when_its_time_is_up_and_nobody_else_does() {
        let mut leader = World::new(led_by(Some(1), 7));
        let mut follower = World::new(led_by(Some(2), 7));
        leader.run(9);
        assert!(!leader.is_overdue());
        leader.run(1);
        follower.run(100);
        assert!(leader.is_overdue());
        assert!(!follower.is_overdue());
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut world = World::new(led_by(Some(1), 7));
        world.run(5);
        world.now += Duration::from_hours(1);
        world.run(3);
        assert!(!world.is_overdue());
        world.run(2);
        assert!(world.is_overdue());
    }

    #[test]
    fn time_without_a_leader_does_not_count() {
        let mut world = World::new(led_by(Some(2), 7));
        world.run(5);
        world.leadership = led_by(None, 8);
        world.run(60);
        assert_eq!(world.timing.clock().next_in(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn whoever_takes_over_waits_until_owners_have_found_it() {
        let mut world = World::new(led_by(Some(2), 7));
        world.run(11);
        world.leadership = led_by(Some(1), 8);
        world.run(3);
        assert!(!world.is_overdue());
        world.run(1);
        assert!(world.is_overdue());
        // Also if it has led before, and nobody saw who led in between.
        world.leadership = led_by(Some(1), 10);
        world.run(1);
        assert!(!world.is_overdue());
    }

    #[test]
    fn time_in_which_the_log_does_not_answer_does_not_count() {
        let mut world = World::new(led_by(Some(1), 7));
        world.run(9);
        world.timing.hold(true);
        world.run(60);
        assert!(!world.is_overdue());
        world.timing.hold(false);
        world.run(1);
        assert!(world.is_overdue());
    }
}
