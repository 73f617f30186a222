//! A node's idea of the sessions' time, with which it stamps entries while it leads. The log's
//! time is the greatest stamp in it; must not be asked by anything that applies entries.

use super::SessionTime;
use quorate_core::Time;

/// Goes on with the node's own clock from the last stamp that it saw applied. A follower starts
/// over from each new stamp, so that clocks of different speed do not drift apart; a leader keeps
/// its own pace, or the time that its entries take would be lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionClock {
    stamp: SessionTime,
    seen_at: Time,
}

impl SessionClock {
    /// The time to stamp an entry with.
    pub(crate) fn read(&self, now: Time) -> SessionTime {
        let elapsed_us = now.as_micros().saturating_sub(self.seen_at.as_micros());
        self.stamp.after_micros(elapsed_us)
    }

    /// The table's time is now known to be `stamp`.
    pub(crate) fn applied(&mut self, now: Time, stamp: SessionTime, is_leader: bool) {
        let is_news = if is_leader { stamp > self.read(now) } else { stamp != self.stamp };
        if is_news {
            *self = Self { stamp, seen_at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    fn stamp(seconds: u64) -> SessionTime {
        SessionTime::default().after_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_new_leader_goes_on_from_the_last_stamp_that_it_applied() {
        let mut clock = SessionClock::default();
        clock.applied(at(5), stamp(1_000), false);
        assert_eq!(clock.read(at(7)), stamp(1_002));
    }

    #[test]
    fn a_leader_is_not_set_back_by_its_own_entries() {
        let mut clock = SessionClock::default();
        let first = clock.read(at(10));
        clock.applied(at(20), first, true);
        assert_eq!(clock.read(at(20)), stamp(20));
    }

    #[test]
    fn a_fast_follower_is_set_back_by_the_leaders_stamps() {
        let mut clock = SessionClock::default();
        clock.applied(at(100), stamp(50), false);
        assert_eq!(clock.read(at(100)), stamp(50));
        clock.applied(at(110), stamp(50), false);
        assert_eq!(clock.read(at(110)), stamp(60), "an old stamp is no news");
    }
}
