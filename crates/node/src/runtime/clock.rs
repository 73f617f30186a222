//! The node's clock: microseconds since it started, and on Linux also those that the machine slept.
//! Notices when it has jumped or stood still, as far as anything in this machine can tell.

use quorate_core::Time;
use std::time::{Duration, Instant, SystemTime};

/// The time of day may be set by so much at once, or creep so far, before it is taken to mean that the
/// clock was wrong.
const JUMP_MIN: Duration = Duration::from_millis(10);

/// A clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: uptime() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO.after(uptime().saturating_sub(self.start))
    }

    /// The operating system's name for a time of ours; for timers, which may ring late.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        Instant::now() + time.since(self.now())
    }
}

/// What passes while the machine sleeps counts, too: others count it.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What passes while the machine sleeps may not count; the time of day tells, once it is set.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    use std::sync::OnceLock;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

/// Compares the clock with the time of day. Where the two part, one of them has jumped or stood still,
/// and it is not known which: a virtual machine that was stopped, somebody who set the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JumpWatch {
    /// The time of day when the clock began, as it looked then.
    began: Option<Duration>,
}

impl JumpWatch {
    /// The clock shows this now; returns by how much it has jumped, if it has, since it was looked at
    /// last.
    pub(crate) fn look(&mut self, now: Time) -> Option<Duration> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.compare(now, since_1970.unwrap_or_default())
    }

    fn compare(&mut self, now: Time, time_of_day: Duration) -> Option<Duration> {
        let began = time_of_day.saturating_sub(now.since(Time::ZERO));
        let before = *self.began.get_or_insert(began);
        let by = Some(before.abs_diff(began)).filter(|by| *by >= JUMP_MIN)?;
        self.began = Some(began);
        Some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn the_clock_goes_on_and_a_time_of_it_is_a_time_of_the_system() {
        let clock = Clock::new();
        let before = clock.now();
        while clock.now() == before {
            std::hint::spin_loop();
        }
        assert!(clock.now() > before);
        let ahead = clock.now().after(Duration::from_hours(1));
        assert!(clock.instant(ahead) > Instant::now() + Duration::from_mins(59));
        assert!(clock.instant(Time::ZERO) <= Instant::now());
    }

    #[test]
    fn two_clocks_that_part_by_a_hundredth_of_a_second_are_noticed_once() {
        let day = |millis| Duration::from_secs(1_000_000) + Duration::from_millis(millis);
        let mut watch = JumpWatch::default();
        let by = |millis| Some(Duration::from_millis(millis));
        assert_eq!(watch.compare(at(0), day(0)), None);
        assert_eq!(watch.compare(at(1_000), day(1_009)), None, "it creeps");
        assert_eq!(watch.compare(at(2_000), day(2_010)), by(10), "this clock stood still");
        assert_eq!(watch.compare(at(3_000), day(3_010)), None);
        assert_eq!(watch.compare(at(4_000), day(3_500)), by(510), "or it jumped, or the other did");
        assert_eq!(watch.compare(at(5_000), day(4_500)), None);
    }
}
