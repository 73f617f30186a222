//! How writes went: how many, how long they took, and what became of those that failed. Must not know which
//! figures are good.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use tonic::Status;

/// Errors of more kinds than this are counted together.
const KINDS_COUNT_MAX: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: f64,
    seconds: f64,
    squares: f64,
    slowest: f64,
    errors: BTreeMap<String, u64>,
    lasted: Duration,
}

impl Tally {
    pub(super) fn count(&mut self, took: Result<Duration, Status>) {
        match took {
            Ok(took) => {
                let seconds = took.as_secs_f64();
                self.count += 1.0;
                self.seconds += seconds;
                self.squares += seconds * seconds;
                self.slowest = self.slowest.max(seconds);
            }
            Err(status) => {
                let mut kind = status.message().to_owned();
                if self.errors.len() >= KINDS_COUNT_MAX && !self.errors.contains_key(&kind) {
                    "others".clone_into(&mut kind);
                }
                *self.errors.entry(kind).or_default() += 1;
            }
        }
    }

    /// The same, once it has lasted so long.
    pub(super) const fn over(mut self, lasted: Duration) -> Self {
        self.lasted = lasted;
        self
    }

    /// Writes that were acknowledged, a second.
    pub(super) fn per_second(&self) -> f64 {
        let seconds = self.lasted.as_secs_f64();
        if seconds > 0.0 { self.count / seconds } else { 0.0 }
    }

    pub(super) const fn slowest_seconds(&self) -> f64 {
        self.slowest
    }

    /// The standard deviation of the times.
    pub(super) fn deviation_seconds(&self) -> f64 {
        if self.count == 0.0 {
            return 0.0;
        }
        let mean = self.seconds / self.count;
        (self.squares / self.count - mean * mean).max(0.0).sqrt()
    }

    /// What went wrong, if anything did, in etcdctl's words.
    pub(super) fn errors(&self) -> Option<String> {
        if self.errors.is_empty() {
            return None;
        }
        let mut text = "FAIL: too many errors".to_owned();
        for (kind, count) in &self.errors {
            // Writing to a string does not fail.
            let _ = write!(text, "\nFAIL: ERROR({kind}) -> {count}");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_what_was_acknowledged() {
        let mut tally = Tally::default();
        for milliseconds in [100, 300] {
            tally.count(Ok(Duration::from_millis(milliseconds)));
        }
        let tally = tally.over(Duration::from_secs(4));
        let is = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(is(tally.per_second(), 0.5) && is(tally.slowest_seconds(), 0.3));
        assert!(is(tally.deviation_seconds(), 0.1), "{tally:?}");
        assert_eq!(tally.errors(), None);
        assert!(is(Tally::default().per_second(), 0.0));
        assert!(is(Tally::default().deviation_seconds(), 0.0));
    }

    #[test]
    fn errors_are_counted_by_their_words_and_their_kinds_are_bounded() {
        let mut tally = Tally::default();
        for kind in 0..=KINDS_COUNT_MAX + 5 {
            tally.count(Err(Status::unknown(format!("e{kind}"))));
        }
        tally.count(Err(Status::unknown("e0")));
        let errors = tally.errors().unwrap();
        assert!(errors.starts_with("FAIL: too many errors\nFAIL: ERROR(e0) -> 2\n"), "{errors}");
        assert!(errors.ends_with("FAIL: ERROR(others) -> 6"), "{errors}");
        assert_eq!(tally.errors.len(), KINDS_COUNT_MAX + 1);
    }
}
