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
    /// Bytes applied since a checkpoint was last asked for.
    applied_bytes: u64,
    /// What was applied when a checkpoint was last asked for.
    asked_at: LogIndex,
}

impl Compaction {
    pub(super) fn new(base: LogIndex, durable: LogIndex) -> Self {
        let covered = base.max(durable);
        Self { covered, applied_bytes: 0, asked_at: covered }
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
        if self.is_long(options, applied.distance_from(base)) {
            let releasable = self.covered.get().saturating_sub(options.retain_log_count);
            let through = LogIndex::new(releasable);
            // Half of what is too long must be worth releasing, or we would be asked at every batch.
            let excess = applied.distance_from(base).saturating_sub(options.retain_log_count);
            let worth = through.distance_from(base);
            if worth > 0 && worth.saturating_mul(2) >= excess {
                return Decision::Compact { through };
            }
        }
        // What is applied and not covered has to be replayed after a crash: that is bounded too,
        // however much of the log is retained for others.
        if self.is_long(options, applied.distance_from(self.covered.max(self.asked_at))) {
            self.asked_at = applied;
            self.applied_bytes = 0;
            return Decision::Checkpoint { at_least: applied };
        }
        Decision::Keep
    }

    fn is_long(&self, options: &DriverOptions, count: u64) -> bool {
        count >= options.compact_log_count || self.applied_bytes >= options.compact_log_bytes
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
    fn a_log_of_few_large_entries_is_long_by_its_bytes() {
        let mut log = new();
        log.applying(1_000);
        let asked = Decision::Checkpoint { at_least: index(20) };
        assert_eq!(log.decide(&options(), LogIndex::ORIGIN, index(20)), asked);
        log.durable(index(20));
        log.applying(1_000);
        let compact = Decision::Compact { through: index(10) };
        assert_eq!(log.decide(&options(), LogIndex::ORIGIN, index(25)), compact);
    }
}
