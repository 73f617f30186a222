//! Hands committed entries to the state machine, in order and in bounded batches (Figure 3.1,
//! §3.5: while `commit_index > last_applied`). Knows nothing of how they came to be committed.

use super::common::{Common, Poison};
use crate::{Effect, Entry, LoadFor, LoadRequest, LogIndex};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How far the state machine is.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct Applier {
    applied: LogIndex,
    handed: LogIndex,
    /// Batches handed over and not yet applied: last index and bytes.
    batches: VecDeque<(LogIndex, usize)>,
    bytes: usize,
    is_loading: bool,
}

impl Applier {
    pub(crate) fn new(applied: LogIndex) -> Self {
        Self { applied, handed: applied, batches: VecDeque::new(), bytes: 0, is_loading: false }
    }

    /// The state machine has applied everything up to here.
    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The state machine has been handed everything up to here.
    pub(crate) fn handed(&self) -> LogIndex {
        self.handed
    }

    /// Whether everything that was handed over has been applied.
    pub(crate) fn is_idle(&self) -> bool {
        self.batches.is_empty()
    }

    /// The state machine has been replaced by one that has applied everything up to `index`.
    pub(crate) fn restart_at(&mut self, index: LogIndex) {
        *self = Self::new(index);
    }
}

impl Common {
    /// The state machine never runs ahead of the local log: after a crash the log must be able to
    /// replay it. So an entry is handed over when it is committed *and* durable here.
    pub(crate) fn apply_committed(&mut self) {
        let limit = self.commit_index.min(self.persistence.durable_index());
        let budget = self.options.applying_bytes_max.saturating_sub(self.applier.bytes);
        let first = self.applier.handed.next();
        let may_apply = !(self.applier.is_loading || self.is_restoring() || self.lacks_state());
        if first > limit || budget == 0 || !may_apply {
            return;
        }
        let tail_first = self.log.tail_first();
        if first < tail_first {
            return self
                .load_for_apply(first, limit.min(tail_first.previous().unwrap_or_default()));
        }
        let (entries, bytes) = self.log.collect(first, limit, budget);
        self.hand_over(entries, bytes);
    }

    fn hand_over(&mut self, entries: Vec<Entry>, bytes: usize) {
        let Some(last) = entries.last().map(|entry| entry.log_id.index) else { return };
        self.applier.handed = last;
        self.applier.batches.push_back((last, bytes));
        self.applier.bytes += bytes;
        self.effects.push(Effect::Apply { entries });
    }

    fn load_for_apply(&mut self, first: LogIndex, last: LogIndex) {
        self.applier.is_loading = true;
        let max_bytes = self.options.load_bytes_max.min(self.options.applying_bytes_max);
        let purpose = LoadFor::Apply;
        self.effects.push(Effect::Load(LoadRequest { purpose, first, last, max_bytes }));
    }

    /// Committed entries were read back from the disk.
    pub(crate) fn handle_loaded_for_apply(&mut self, request: LoadRequest, entries: Vec<Entry>) {
        if !self.applier.is_loading || request.first != self.applier.handed.next() {
            return;
        }
        self.applier.is_loading = false;
        if self.is_restoring() {
            // A snapshot took the place of the log in the meantime; the state machine will be it.
            return;
        }
        let is_whole = entries.first().is_some_and(|first| first.log_id.index == request.first)
            && entries.last().is_some_and(|last| {
                last.log_id.index <= request.last && self.log.contains(last.log_id)
            });
        if !is_whole {
            self.poison = Some(Poison::LogUnreadable { index: request.first });
            return;
        }
        let bytes = entries.iter().map(Entry::size_bytes).sum();
        self.hand_over(entries, bytes);
    }

    /// The state machine has caught up to `index`.
    pub(crate) fn handle_applied(&mut self, index: LogIndex) {
        let index = index.min(self.applier.handed);
        self.applier.applied = self.applier.applied.max(index);
        while self.applier.batches.front().is_some_and(|(last, _)| *last <= index) {
            self.applier.bytes -= self.applier.batches.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        self.restore_when_ready();
    }
}
