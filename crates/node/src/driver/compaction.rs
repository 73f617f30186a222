//! When the log may be released, and when a checkpoint or a snapshot is needed first (§5.1).
//! Decides; does nothing.

use super::DriverOptions;
use quorate_core::{LogIndex, SnapshotMeta};

/// What to do about the length of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Keep,
    /// Release the log up to here.
    Compact { through: LogIndex },
    /// Have the state made durable up to here, or a snapshot written; the log can be released
    /// afterwards.
    Checkpoint { at_least: LogIndex },
}

/// What is known of the log's length.
#[derive(Debug)]
pub(super) struct Compaction {
    /// The last entry that survives a crash without the log: in the state machine's own storage,
    /// or in a snapshot.
    covered: LogIndex,
    /// How far the log is applied, in bytes since the start.
    applied_bytes: u64,
    /// What was applied when a checkpoint was last asked for.
    asked: Mark,
    /// What was covered when the log was last released, as far as bytes are known.
    released: Mark,
}

/// A place in the log, and the bytes applied up to it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    index: LogIndex,
    bytes: u64,
}

impl Compaction {
    pub(super) fn new(base: LogIndex, durable: LogIndex) -> Self {
        let covered = base.max(durable);
        let mark = Mark { index: covered, bytes: 0 };
        Self { covered, applied_bytes: 0, asked: mark, released: mark }
    }

    pub(super) fn applying(&mut self, size_bytes: usize) {
        self.applied_bytes += u64::try_from(size_bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn durable(&mut self, durable: LogIndex) {
        self.covered = self.covered.max(durable);
    }

    pub(super) fn snapshot_ready(&mut self, meta: &SnapshotMeta) {
        self.covered = self.covered.max(meta.last_included.index);
    }

    /// Decides after each applied batch, given the log's base and what is applied.
    pub(super) fn decide(
        &mut self,
        options: &DriverOptions,
        base: LogIndex,
        applied: LogIndex,
    ) -> Decision {
        if self.is_long(options, applied.distance_from(base), self.released) {
            let releasable = self.covered.get().saturating_sub(options.retain_log_count);
            let through = LogIndex::new(releasable);
            // Half of what is too long must be worth releasing, or we would be asked at every batch.
            let excess = applied.distance_from(base).saturating_sub(options.retain_log_count);
            let worth = through.distance_from(base);
            if worth > 0 && worth.saturating_mul(2) >= excess {
                self.released = self.mark_of_covered(applied);
                return Decision::Compact { through };
            }
        }
        // What is applied and not covered has to be replayed after a crash: that is bounded too,
        // however much of the log is retained for others.
        let since = self.covered.max(self.asked.index);
        if self.is_long(options, applied.distance_from(since), self.asked) {
            self.asked = Mark { index: applied, bytes: self.applied_bytes };
            return Decision::Checkpoint { at_least: applied };
        }
        Decision::Keep
    }

    fn is_long(&self, options: &DriverOptions, count: u64, since: Mark) -> bool {
        let bytes = self.applied_bytes.saturating_sub(since.bytes);
        count >= options.compact_log_count || bytes >= options.compact_log_bytes
    }

    /// Where the covered part of the log ends in bytes, as if all entries since the last release
    /// were of one size.
    fn mark_of_covered(&self, applied: LogIndex) -> Mark {
        let Mark { index, bytes } = self.released;
        let applied_bytes = u128::from(self.applied_bytes.saturating_sub(bytes));
        let covered_count = u128::from(self.covered.distance_from(index));
        let applied_count = u128::from(applied.distance_from(index)).max(1);
        let covered_bytes = applied_bytes * covered_count.min(applied_count) / applied_count;
        let covered_bytes = u64::try_from(covered_bytes).unwrap_or(u64::MAX);
        Mark { index: self.covered, bytes: bytes.saturating_add(covered_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(value: u64) -> LogIndex {
        LogIndex::new(value)
    }

    fn options() -> DriverOptions {
        DriverOptions {
            compact_log_count: 100,
            compact_log_bytes: 1_000,
            retain_log_count: 10,
            ..DriverOptions::default()
        }
    }

    fn new() -> Compaction {
        Compaction::new(LogIndex::ORIGIN, LogIndex::ORIGIN)
    }

    #[test]
    fn a_long_log_first_asks_for_a_checkpoint_and_is_released_once_it_is_covered() {
        let mut log = new();
        let origin = LogIndex::ORIGIN;
        assert_eq!(log.decide(&options(), origin, index(99)), Decision::Keep);
        let asked = Decision::Checkpoint { at_least: index(100) };
        assert_eq!(log.decide(&options(), origin, index(100)), asked);
        assert_eq!(log.decide(&options(), origin, index(120)), Decision::Keep, "asked already");
        log.durable(index(110));
        let compact = Decision::Compact { through: index(100) };
        assert_eq!(log.decide(&options(), origin, index(130)), compact);
        assert_eq!(log.decide(&options(), index(100), index(131)), Decision::Keep);
    }

    #[test]
    fn what_a_crash_would_replay_is_bounded_although_more_of_the_log_is_retained() {
        let mut log = new();
        let options = DriverOptions { retain_log_count: 1_000_000, ..options() };
        for applied in [100, 200, 300] {
            let asked = Decision::Checkpoint { at_least: index(applied) };
            assert_eq!(log.decide(&options, LogIndex::ORIGIN, index(applied)), asked);
            log.durable(index(applied));
        }
    }

    #[test]
    fn a_log_of_few_large_entries_is_long_by_its_bytes_and_released_once_it_is_covered() {
        let mut log = new();
        log.applying(1_000);
        let asked = Decision::Checkpoint { at_least: index(20) };
        assert_eq!(log.decide(&options(), LogIndex::ORIGIN, index(20)), asked);
        log.applying(100);
        assert_eq!(log.decide(&options(), LogIndex::ORIGIN, index(22)), Decision::Keep);
        log.durable(index(20));
        let compact = Decision::Compact { through: index(10) };
        assert_eq!(log.decide(&options(), LogIndex::ORIGIN, index(22)), compact);
        log.applying(800);
        assert_eq!(log.decide(&options(), index(10), index(25)), Decision::Keep, "900 bytes");
        log.applying(100);
        let asked = Decision::Checkpoint { at_least: index(26) };
        assert_eq!(log.decide(&options(), index(10), index(26)), asked);
    }
}
