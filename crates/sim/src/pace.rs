//! How slowly a world goes: one factor for its timeouts, delays, think times and troubles, so that a
//! few thousand steps may be a minute on a local network or an hour on a lazy one. A few short times
//! stay as they are (docs/simulation.md, "Members and pace"). It must not know what it stretches.

use crate::faults::{Clocks, Crashes, DiskPace, Faults, NetworkFaults, Rhythm};
use crate::rng::Rng;
use std::time::Duration;

/// A factor, in hundredths: 100 leaves everything as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(u32);

impl Pace {
    /// Nothing is stretched.
    pub const NORMAL: Self = Self(100);

    /// A pace of so many times the normal time.
    #[must_use]
    pub const fn times(factor: u32) -> Self {
        Self(factor.saturating_mul(100))
    }

    /// One in two worlds goes at the normal pace; the others are up to 30 times as slow, each
    /// doubling half as likely as the one before.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let doublings = rng.word().leading_zeros().min(5);
        if doublings == 0 {
            return Self::NORMAL;
        }
        let low = 100 << (doublings - 1);
        let drawn = rng.between(low, 2 * low).min(3_000);
        Self(u32::try_from(drawn).unwrap_or(100))
    }

    /// As long as this takes at this pace.
    #[must_use]
    pub fn stretch(self, duration: Duration) -> Duration {
        duration.saturating_mul(self.0) / 100
    }

    /// What passes in a second at the normal pace, at this one.
    #[must_use]
    pub fn thin(self, per_second: u64) -> u64 {
        (per_second.saturating_mul(100) / u64::from(self.0.max(1))).max(1)
    }
}

impl Faults {
    /// The same troubles at another pace.
    #[must_use]
    pub fn at(self, pace: Pace) -> Self {
        let rhythm = |rhythm: Option<Rhythm>| rhythm.map(|rhythm| rhythm.at(pace));
        Self {
            network: self.network.at(pace),
            disk: self.disk.at(pace),
            crashes: self
                .crashes
                .map(|crashes| Crashes { rhythm: crashes.rhythm.at(pace), ..crashes }),
            partitions: rhythm(self.partitions),
            swizzles: rhythm(self.swizzles),
            breaks: rhythm(self.breaks),
            omissions: rhythm(self.omissions),
            pauses: rhythm(self.pauses),
            clocks: self.clocks.map(|clocks| Clocks { jumps: rhythm(clocks.jumps), ..clocks }),
            transfers_every: self.transfers_every.map(|every| pace.stretch(every)),
            changes_every: self.changes_every.map(|every| pace.stretch(every)),
            rumours_every: self.rumours_every.map(|every| pace.stretch(every)),
            settings_every: self.settings_every.map(|every| pace.stretch(every)),
            upgrades_every: self.upgrades_every.map(|every| pace.stretch(every)),
            reaction_max: pace.stretch(self.reaction_max),
            apply_max: pace.stretch(self.apply_max),
            ..self
        }
    }
}

impl NetworkFaults {
    fn at(self, pace: Pace) -> Self {
        Self {
            delay_min: pace.stretch(self.delay_min),
            delay_mean: pace.stretch(self.delay_mean),
            tail_max: pace.stretch(self.tail_max),
            stale_after_max: pace.stretch(self.stale_after_max),
            slow_bytes_per_second: pace.thin(self.slow_bytes_per_second),
            ..self
        }
    }
}

impl DiskPace {
    fn at(self, pace: Pace) -> Self {
        let rhythm = |rhythm: Option<Rhythm>| rhythm.map(|rhythm| rhythm.at(pace));
        Self {
            sync_min: pace.stretch(self.sync_min),
            sync_mean: pace.stretch(self.sync_mean),
            stall_max: pace.stretch(self.stall_max),
            hangs: rhythm(self.hangs),
            full: rhythm(self.full),
            damage_every: self.damage_every.map(|every| pace.stretch(every)),
            losses_every: self.losses_every.map(|every| pace.stretch(every)),
            wipes_every: self.wipes_every.map(|every| pace.stretch(every)),
            ..self
        }
    }
}

impl Rhythm {
    fn at(self, pace: Pace) -> Self {
        Self { every: pace.stretch(self.every), lasts_max: pace.stretch(self.lasts_max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_worlds_go_at_the_normal_pace_and_none_is_slower_than_thirty_times() {
        let mut rng = Rng::new(1);
        let paces: Vec<Pace> = (0..10_000).map(|_| Pace::draw(&mut rng)).collect();
        let normal = paces.iter().filter(|pace| **pace == Pace::NORMAL).count();
        assert!((4_700..5_300).contains(&normal), "{normal} of 10,000");
        assert!(paces.iter().all(|Pace(percent)| (100..=3_000).contains(percent)));
        assert!(paces.iter().any(|Pace(percent)| *percent > 1_500));
    }

    #[test]
    fn a_pace_stretches_times_and_thins_rates() {
        let pace = Pace::times(3);
        assert_eq!(pace.stretch(Duration::from_millis(50)), Duration::from_millis(150));
        assert_eq!(pace.thin(3_000), 1_000);
    }
}
