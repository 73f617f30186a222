//! When the log may be released, and when a volatile state machine needs a snapshot first (§5.1).
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
    /// Write a snapshot that covers the log up to here; the log can be released afterwards.
    Snapshot { at_least: LogIndex },
}

/// What is known of the log's length.
#[derive(Debug)]
pub(super) struct Compaction {
    /// The last entry that survives a crash without the log: in the state machine's own storage,
    /// or in a snapshot.
    covered: LogIndex,
    is_volatile: bool,
    /// Bytes applied since the log was last released.
    applied_bytes: u64,
    snapshot_under_way: bool,
}

impl Compaction {
    pub(super) fn new(base: LogIndex, durable: LogIndex) -> Self {
        Self {
            covered: base.max(durable),
            is_volatile: durable == LogIndex::ORIGIN,
            applied_bytes: 0,
            snapshot_under_way: false,
        }
    }

    pub(super) fn applying(&mut self, size_bytes: usize) {
        self.applied_bytes += u64::try_from(size_bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn durable(&mut self, durable: LogIndex) {
        if durable > LogIndex::ORIGIN {
            self.is_volatile = false;
            self.covered = self.covered.max(durable);
        }
    }

    pub(super) fn snapshot_ready(&mut self, meta: &SnapshotMeta) {
        self.snapshot_under_way = false;
        self.covered = self.covered.max(meta.last_included.index);
    }

    /// Decides after each applied batch, given the log's base and what is applied.
    pub(super) fn decide(
        &mut self,
        options: &DriverOptions,
        base: LogIndex,
        applied: LogIndex,
    ) -> Decision {
        let count = applied.distance_from(base);
        let is_long = count >= options.compact_log_count.saturating_add(options.retain_log_count)
            || (self.applied_bytes >= options.compact_log_bytes
                && count > options.retain_log_count);
        if !is_long {
            return Decision::Keep;
        }
        let releasable = self.covered.get().saturating_sub(options.retain_log_count);
        let through = LogIndex::new(releasable);
        // Half of what is too long must be worth releasing, or we would be asked at every batch.
        if through.distance_from(base) * 2 >= applied.distance_from(base) - options.retain_log_count
        {
            self.applied_bytes = 0;
            return Decision::Compact { through };
        }
        if self.is_volatile && !self.snapshot_under_way {
            self.snapshot_under_way = true;
            return Decision::Snapshot { at_least: applied };
        }
        Decision::Keep
    }
}
