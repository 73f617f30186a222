//! A node's own clock: it never goes back, may run faster or slower than the world's, and may jump
//! ahead. Knows nothing of what is done at which time.

use crate::faults::Clocks;
use crate::rng::Rng;
use quorate_core::Time;
use std::time::Duration;

/// Parts of a whole.
const MILLION: u64 = 1_000_000;

/// How the time on a node follows from the time in the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// What passes on the node while a million microseconds pass in the world.
    rate: u64,
    /// At this time in the world...
    world: Time,
    /// ...it was this time on the node.
    own: Time,
}

impl Clock {
    /// The world's own clock.
    pub(super) const TRUE: Self = Self { rate: MILLION, world: Time::ZERO, own: Time::ZERO };

    /// A clock of this machine; it counts from the start of a process.
    pub(super) fn draw(clocks: Option<Clocks>, rng: &mut Rng) -> Self {
        let Some(Clocks { drift_ppm_max, .. }) = clocks else { return Self::TRUE };
        let drift = u64::from(drift_ppm_max).min(MILLION / 2);
        Self { rate: rng.between(MILLION - drift, MILLION + drift), ..Self::TRUE }
    }

    /// A process starts: its clock begins at zero, as fast as before. A true clock shows the
    /// world's time.
    pub(super) fn restart(&mut self, now: Time) {
        if self.rate != MILLION {
            (self.world, self.own) = (now, Time::ZERO);
        }
    }

    /// The time on the node.
    pub(super) fn own(&self, world: Time) -> Time {
        let passed = world.since(self.world);
        if self.rate == MILLION {
            return self.own.after(passed);
        }
        let passed = passed.as_micros() * u128::from(self.rate) / u128::from(MILLION);
        self.own.after(Duration::from_micros(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// The first time in the world at which it is at least so late on the node.
    pub(super) fn world(&self, own: Time) -> Time {
        let passed = own.since(self.own).as_micros() * u128::from(MILLION);
        let passed = passed.div_ceil(u128::from(self.rate));
        self.world.after(Duration::from_micros(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// From now on so much passes on it while a million microseconds pass in the world.
    pub(super) fn run_at(&mut self, now: Time, rate: u64) {
        *self = Self { rate, world: now, own: self.own(now) };
    }

    /// The clock jumps ahead.
    pub(super) fn jump(&mut self, now: Time, ahead: Duration) {
        *self = Self { rate: self.rate, world: now, own: self.own(now).after(ahead) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_the_node_is_reached_at_the_time_that_the_world_is_told() {
        let mut rng = Rng::new(5);
        for _ in 0..1_000 {
            let clocks = Clocks { drift_ppm_max: 100_000, jumps: None };
            let mut clock = Clock::draw(Some(clocks), &mut rng);
            clock.restart(Time::from_micros(rng.below(1 << 40)));
            clock.jump(Time::from_micros(1 << 41), Duration::from_micros(rng.below(1 << 30)));
            let own = clock.own(Time::from_micros((1 << 41) + rng.below(1 << 30)));
            let at = clock.world(own);
            assert!(clock.own(at) >= own, "a deadline is due when the world comes to it");
            let before = Time::from_micros(at.as_micros() - 2);
            assert!(clock.own(before) < own, "and not earlier");
        }
    }

    #[test]
    fn a_clock_never_goes_back() {
        let mut rng = Rng::new(6);
        let mut clock = Clock::draw(Some(Clocks { drift_ppm_max: 100_000, jumps: None }), &mut rng);
        let (mut now, mut last) = (Time::ZERO, Time::ZERO);
        for _ in 0..1_000 {
            now = now.after(Duration::from_micros(rng.below(1_000)));
            if rng.below(10) == 0 {
                clock.jump(now, Duration::from_micros(rng.below(100)));
            }
            assert!(clock.own(now) >= last);
            last = clock.own(now);
        }
    }
}
