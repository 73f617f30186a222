//! How long to wait before the next attempt to connect: longer each time, and never at the same
//! moment as everybody else.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The pauses between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// An attempt succeeded, or there is news that the next one will.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(self.max);
        whole.saturating_sub(cut(whole))
    }
}

/// Up to half of `whole`, by chance. A fresh hasher is seeded by the standard library from the
/// operating system's entropy: chance enough to keep nodes from marching in step.
fn cut(whole: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 1024;
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX) / 2;
    Duration::from_micros((micros / 1024).saturating_mul(chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_lose_at_most_half() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(min, max);
        for whole_ms in [10, 20, 40, 80, 80, 80] {
            let (pause, whole) = (backoff.pause(), Duration::from_millis(whole_ms));
            assert!(pause > whole / 3 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
    }

    #[test]
    fn any_number_of_failures_is_fine() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        for _ in 0..1000 {
            assert!(backoff.pause() <= Duration::from_secs(1));
        }
    }
}
