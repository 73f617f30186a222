//! When the log may be released, and when a checkpoint or a snapshot is needed first (§5.1).
//! Decides; does nothing.

use super::DriverOptions;
use super::log_sizes::LogSizes;
use quorate_core::{LogIndex, SnapshotMeta, Time};
use std::time::Duration;

/// A log that takes long to apply has at least this part of the bytes that make it long.
const LEAST_PART: u64 = 64;

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
    /// What was applied when a checkpoint was last asked for, and when that was.
    asked: LogIndex,
    asked_at: Option<Time>,
    sizes: LogSizes,
    /// The last snapshot, if that is what a checkpoint comes to: its size, and how long it took.
    snapshot: Option<(u64, Duration)>,
    /// The state machine keeps its own state.
    is_durable: bool,
}

impl Compaction {
    pub(super) fn new(base: LogIndex, durable: LogIndex, applied: LogIndex) -> Self {
        let covered = base.max(durable);
        Self {
            covered,
            asked: covered,
            asked_at: None,
            sizes: LogSizes::new(applied),
            snapshot: None,
            is_durable: durable > LogIndex::ORIGIN,
        }
    }

    pub(super) fn applying(&mut self, now: Time, last: LogIndex, size_bytes: usize) {
        self.sizes.applying(now, last, size_bytes);
    }

    pub(super) fn applied(&mut self, now: Time, index: LogIndex, durable: LogIndex) {
        self.sizes.applied(now, index);
        self.durable(durable);
    }

    pub(super) fn restored(&mut self, index: LogIndex, durable: LogIndex) {
        self.sizes.restarted(index);
        self.durable(durable);
    }

    fn durable(&mut self, durable: LogIndex) {
        self.is_durable |= durable > LogIndex::ORIGIN;
        self.covered = self.covered.max(durable);
    }

    pub(super) fn snapshot_ready(&mut self, now: Time, meta: &SnapshotMeta, size_bytes: u64) {
        self.covered = self.covered.max(meta.last_included.index);
        let took = self.asked_at.take().map_or(Duration::ZERO, |asked_at| now.since(asked_at));
        self.snapshot = Some((size_bytes, took));
    }

    /// Decides after each applied batch, given the log's base and what is applied. `held` is what
    /// somebody who is catching up will need: everything behind it.
    pub(super) fn decide(
        &mut self,
        now: Time,
        options: &DriverOptions,
        base: LogIndex,
        applied: LogIndex,
        held: Option<LogIndex>,
    ) -> Decision {
        let through = self.releasable(options, base, applied, held);
        let worth = through.distance_from(base);
        let worth_bytes = self.bytes_between(base, through);
        // Half of what is too long must be worth releasing, or we would be asked at every batch.
        let is_worth_it = worth.saturating_mul(2) >= options.compact_log_count
            || worth_bytes.saturating_mul(2) >= options.compact_log_bytes;
        if worth > 0 && is_worth_it {
            self.sizes.released(through);
            return Decision::Compact { through };
        }
        // What is applied and not covered has to be replayed after a crash: that is bounded too,
        // however much of the log is retained for others.
        let since = self.covered.max(self.asked);
        if self.is_long(options, since, applied) {
            self.asked = applied;
            self.asked_at = Some(now);
            return Decision::Checkpoint { at_least: applied };
        }
        Decision::Keep
    }

    /// Up to where the log is of no use: not to a start, not to those that are a little behind, and
    /// not to those that are catching up, unless it has grown too long for their sake.
    fn releasable(
        &self,
        options: &DriverOptions,
        base: LogIndex,
        applied: LogIndex,
        held: Option<LogIndex>,
    ) -> LogIndex {
        let by_count = LogIndex::new(self.covered.get().saturating_sub(options.retain_log_count));
        let by_bytes = self.sizes.back(self.covered, options.retain_log_bytes);
        // Whichever keeps less of it.
        let through = by_count.max(by_bytes).min(self.covered).max(base);
        let is_too_long = self.bytes_between(base, applied) >= options.catch_up_log_bytes_max;
        match held {
            Some(held) if !is_too_long => through.min(held).max(base),
            Some(_) | None => through,
        }
    }

    fn is_long(&self, options: &DriverOptions, since: LogIndex, applied: LogIndex) -> bool {
        let (from, to) = (self.sizes.at(since), self.sizes.at(applied));
        let bytes = to.bytes.saturating_sub(from.bytes);
        // Where a checkpoint writes the whole state, the log may grow as large as that is, and take
        // as long to apply as that takes to write: or most of what is written would be snapshots.
        let (state_bytes, state_takes) =
            self.snapshot.filter(|_| !self.is_durable).unwrap_or_default();
        let is_slow = to.busy.saturating_sub(from.busy) >= options.replay_time_max.max(state_takes)
            && bytes >= options.compact_log_bytes / LEAST_PART;
        applied.distance_from(since) >= options.compact_log_count
            || bytes >= options.compact_log_bytes.max(state_bytes)
            || is_slow
    }

    fn bytes_between(&self, from: LogIndex, to: LogIndex) -> u64 {
        self.sizes.at(to).bytes.saturating_sub(self.sizes.at(from).bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{LogId, Term};
    use std::sync::Arc;

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
        Compaction::new(LogIndex::ORIGIN, LogIndex::ORIGIN, LogIndex::ORIGIN)
    }

    fn decide(
        log: &mut Compaction,
        options: &DriverOptions,
        base: LogIndex,
        applied: u64,
    ) -> Decision {
        log.decide(Time::ZERO, options, base, index(applied), None)
    }

    /// Entries of this size altogether, and how long it takes to apply them.
    fn apply(log: &mut Compaction, through: u64, size_bytes: usize, takes: Duration) {
        log.applying(Time::ZERO, index(through), size_bytes);
        log.applied(Time::ZERO.after(takes), index(through), LogIndex::ORIGIN);
    }

    fn meta(at: u64) -> SnapshotMeta {
        let last_included = LogId::new(Term::new(1), index(at));
        SnapshotMeta { last_included, configuration: Arc::default() }
    }

    #[test]
    fn a_long_log_first_asks_for_a_checkpoint_and_is_released_once_it_is_covered() {
        let mut log = new();
        let origin = LogIndex::ORIGIN;
        assert_eq!(decide(&mut log, &options(), origin, 99), Decision::Keep);
        let asked = Decision::Checkpoint { at_least: index(100) };
        assert_eq!(decide(&mut log, &options(), origin, 100), asked);
        assert_eq!(decide(&mut log, &options(), origin, 120), Decision::Keep, "asked already");
        log.durable(index(110));
        let compact = Decision::Compact { through: index(100) };
        assert_eq!(decide(&mut log, &options(), origin, 130), compact);
        assert_eq!(decide(&mut log, &options(), index(100), 131), Decision::Keep);
    }

    #[test]
    fn what_a_crash_would_replay_is_bounded_although_more_of_the_log_is_retained() {
        let mut log = new();
        let options = DriverOptions { retain_log_count: 1_000_000, ..options() };
        for applied in [100, 200, 300] {
            let asked = Decision::Checkpoint { at_least: index(applied) };
            assert_eq!(decide(&mut log, &options, LogIndex::ORIGIN, applied), asked);
            log.durable(index(applied));
        }
    }

    #[test]
    fn a_log_of_few_large_entries_is_long_by_its_bytes_and_released_once_it_is_covered() {
        let (mut log, origin) = (new(), LogIndex::ORIGIN);
        apply(&mut log, 20, 1_000, Duration::ZERO);
        let asked = Decision::Checkpoint { at_least: index(20) };
        assert_eq!(decide(&mut log, &options(), origin, 20), asked);
        apply(&mut log, 22, 100, Duration::ZERO);
        assert_eq!(decide(&mut log, &options(), origin, 22), Decision::Keep);
        log.durable(index(20));
        let compact = Decision::Compact { through: index(10) };
        assert_eq!(decide(&mut log, &options(), origin, 22), compact);
        apply(&mut log, 25, 800, Duration::ZERO);
        assert_eq!(decide(&mut log, &options(), index(10), 25), Decision::Keep, "900 bytes");
        apply(&mut log, 26, 100, Duration::ZERO);
        let asked = Decision::Checkpoint { at_least: index(26) };
        assert_eq!(decide(&mut log, &options(), index(10), 26), asked);
    }

    #[test]
    fn what_is_retained_for_others_is_bounded_by_its_bytes_too() {
        let mut log = new();
        let options = DriverOptions {
            compact_log_count: u64::MAX,
            retain_log_count: 1_000_000,
            retain_log_bytes: 500,
            ..options()
        };
        for through in 1..=20 {
            apply(&mut log, through, 100, Duration::ZERO);
        }
        log.durable(index(20));
        let compact = Decision::Compact { through: index(15) };
        assert_eq!(decide(&mut log, &options, LogIndex::ORIGIN, 20), compact);
    }

    #[test]
    fn a_log_that_takes_long_to_apply_is_long_whatever_its_size() {
        let seconds = Duration::from_secs;
        let options = DriverOptions {
            compact_log_count: u64::MAX,
            replay_time_max: seconds(10),
            ..options()
        };
        let mut log = new();
        apply(&mut log, 5, 100, seconds(9));
        assert_eq!(decide(&mut log, &options, LogIndex::ORIGIN, 5), Decision::Keep);
        apply(&mut log, 6, 100, seconds(1));
        let asked = Decision::Checkpoint { at_least: index(6) };
        assert_eq!(decide(&mut log, &options, LogIndex::ORIGIN, 6), asked);
    }

    #[test]
    fn a_log_may_grow_as_large_as_the_snapshot_that_would_take_its_place() {
        let options = DriverOptions { compact_log_count: u64::MAX, ..options() };
        let (mut log, origin) = (new(), LogIndex::ORIGIN);
        log.snapshot_ready(Time::ZERO, &meta(0), 5_000);
        apply(&mut log, 40, 4_999, Duration::ZERO);
        assert_eq!(decide(&mut log, &options, origin, 40), Decision::Keep);
        apply(&mut log, 41, 1, Duration::ZERO);
        let asked = Decision::Checkpoint { at_least: index(41) };
        assert_eq!(decide(&mut log, &options, origin, 41), asked);
        // A state machine that keeps its own state writes what has changed, and no more.
        log.durable(index(41));
        apply(&mut log, 42, 1_000, Duration::ZERO);
        let compact = Decision::Compact { through: index(31) };
        assert_eq!(decide(&mut log, &options, origin, 42), compact);
        let asked = Decision::Checkpoint { at_least: index(42) };
        assert_eq!(decide(&mut log, &options, index(31), 42), asked);
    }

    #[test]
    fn the_log_is_kept_for_whoever_is_catching_up_until_it_has_grown_too_long_for_that() {
        let options = DriverOptions {
            compact_log_count: u64::MAX,
            retain_log_count: 0,
            catch_up_log_bytes_max: 4_000,
            ..options()
        };
        let (mut log, origin) = (new(), LogIndex::ORIGIN);
        for (through, size_bytes) in [(10, 1_000), (20, 2_000)] {
            apply(&mut log, through, size_bytes, Duration::ZERO);
        }
        log.durable(index(20));
        let held = |log: &mut Compaction, applied, held| {
            log.decide(Time::ZERO, &options, origin, index(applied), Some(index(held)))
        };
        assert_eq!(held(&mut log, 20, 0), Decision::Keep);
        assert_eq!(held(&mut log, 20, 10), Decision::Compact { through: index(10) });
        let mut log = new();
        apply(&mut log, 20, 3_999, Duration::ZERO);
        log.durable(index(20));
        assert_eq!(held(&mut log, 20, 0), Decision::Keep);
        apply(&mut log, 21, 1, Duration::ZERO);
        assert_eq!(held(&mut log, 21, 0), Decision::Compact { through: index(20) });
    }
}
