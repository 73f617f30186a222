//! When the next stretch of the log and of the snapshots is read again: one at a time, so many bytes a
//! second on average. Decides; must not know what is read, nor how.

use quorate_core::Time;
use std::time::Duration;

/// How much is read at a time.
pub(super) const STRETCH_BYTES: u64 = 1 << 20;
/// However low the rate is, the next stretch is not further away.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// See the module.
#[derive(Debug)]
pub(super) struct Scrubbing {
    bytes_per_second: u64,
    pub(super) next_at: Option<Time>,
    is_under_way: bool,
}

impl Scrubbing {
    /// Nothing is planned; with a rate of 0 nothing ever is.
    pub(super) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, next_at: None, is_under_way: false }
    }

    /// Another rate; the next stretch is planned anew.
    pub(super) fn set_rate(&mut self, bytes_per_second: u64) {
        if self.bytes_per_second != bytes_per_second {
            self.bytes_per_second = bytes_per_second;
            self.next_at = None;
        }
    }

    /// Plans the next stretch, if none is planned or under way.
    pub(super) fn plan(&mut self, now: Time) {
        if self.bytes_per_second > 0 && self.next_at.is_none() && !self.is_under_way {
            self.next_at = Some(now.after(self.pause(STRETCH_BYTES)));
        }
    }

    /// Whether a stretch is to be read now.
    pub(super) fn begins(&mut self, now: Time) -> bool {
        let is_due = self.next_at.is_some_and(|next_at| next_at <= now);
        if is_due {
            self.next_at = None;
            self.is_under_way = true;
        }
        is_due
    }

    /// A stretch was read: more than was wanted, if what it ended with is large.
    pub(super) fn ended(&mut self, now: Time, read_bytes: u64) {
        self.is_under_way = false;
        if self.bytes_per_second > 0 {
            self.next_at = Some(now.after(self.pause(read_bytes.max(STRETCH_BYTES))));
        }
    }

    fn pause(&self, read_bytes: u64) -> Duration {
        let micros = u128::from(read_bytes) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn stretches_come_one_at_a_time_and_never_faster_than_the_rate() {
        let mut scrubbing = Scrubbing::new(STRETCH_BYTES / 4);
        assert!(!scrubbing.begins(at(0)));
        scrubbing.plan(at(0));
        scrubbing.plan(at(3));
        assert_eq!(scrubbing.next_at, Some(at(4)), "planned once");
        assert!(!scrubbing.begins(at(3)) && scrubbing.begins(at(4)));
        scrubbing.plan(at(5));
        assert_eq!(scrubbing.next_at, None, "one is under way");
        scrubbing.ended(at(6), 10);
        assert_eq!(scrubbing.next_at, Some(at(10)), "a short one is no reason for haste");
        assert!(scrubbing.begins(at(10)));
        scrubbing.ended(at(10), 2 * STRETCH_BYTES);
        assert_eq!(scrubbing.next_at, Some(at(18)), "a long one is paid for");
    }

    #[test]
    fn a_rate_of_nothing_reads_nothing_and_the_lowest_one_once_a_day() {
        let mut never = Scrubbing::new(0);
        never.plan(at(0));
        assert!(never.next_at.is_none() && !never.begins(at(1_000_000)));
        let mut rarely = Scrubbing::new(1);
        rarely.plan(at(0));
        assert_eq!(rarely.next_at, Some(Time::ZERO.after(PAUSE_MAX)));
    }
}
