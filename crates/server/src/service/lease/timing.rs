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

/// After a refusal the log is let be for so long, after each further one for twice as long, up to the
/// longest. A refusal is an entry of the log, and what it is for may stand for days.
const REFUSED_PAUSE_MIN: Duration = Duration::from_millis(50);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(2);

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
    refused: Option<Refused>,
}

/// The log refuses to end leases, on the clock of leases.
#[derive(Clone, Copy, Debug)]
struct Refused {
    pause: Duration,
    until: Duration,
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
            refused: None,
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
            self.refused = None;
        }
        self.leadership = Some(leadership);
        self.clock.learn(report);
    }

    /// Whether time stands still, because the log is asked for something that it has to answer.
    pub(super) const fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The log was asked to end leases, and `is_refused`: not because of anything that passes by
    /// itself.
    pub(super) fn asked(&mut self, is_refused: bool) {
        let longer = |last: Refused| (last.pause * 2).min(REFUSED_PAUSE_MAX);
        let pause = self.refused.map_or(REFUSED_PAUSE_MIN, longer);
        self.refused = is_refused.then(|| Refused { pause, until: self.clock.now() + pause });
    }

    /// The leases that this member should end now, `count_max` at most.
    pub(super) fn overdue(&self, count_max: usize) -> Vec<Overdue> {
        let now = self.clock.now();
        let is_settled = self.leads_since.is_some_and(|since| now >= since + self.grace);
        let may_end = is_settled && self.refused.is_none_or(|refused| now >= refused.until);
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
    #[test]
    fn a_log_that_refuses_is_asked_ever_more_seldom_and_after_it_agrees_at_once() {
        let leader = led_by(Some(1), 7);
        let mut world = World::new(leader);
        world.run(10);
        let mut asked_at = Vec::new();
        for _ in 0..2_000 {
            if world.is_overdue() {
                asked_at.push(world.now);
                world.timing.asked(true);
            }
            world.now += Duration::from_millis(5);
            world.timing.look(world.now, leader, nothing());
        }
        let pauses = asked_at.windows(2).map(|two| two[1].saturating_sub(two[0]));
        let pauses: Vec<_> = pauses.map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        world.timing.asked(false);
        assert!(world.is_overdue());
    }

    #[test]
    fn whoever_leads_anew_asks_without_what_the_last_one_was_told() {
        let mut world = World::new(led_by(Some(1), 7));
        world.run(10);
        (0..10).for_each(|_| world.timing.asked(true));
        world.leadership = led_by(Some(1), 8);
        world.run(4);
        world.timing.asked(true);
        world.run(1);
        assert!(world.is_overdue());
    }
}
