//! The log as the core sees it: terms and configurations of all of it, entries of its tail (§3.5).
//! Knows nothing of disks, of commitment, or of who reads it.

use crate::{Configuration, Entry, LogId, LogIndex, Payload, Restored, SnapshotMeta, Term};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// The log after `base`. Terms are kept as runs, so that the memory needed does not grow with the
/// log; of the entries only a tail is held, the rest is on the disk.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct Log {
    base: SnapshotMeta,
    /// The first index of each run of entries with one term, in order.
    term_runs: VecDeque<(LogIndex, Term)>,
    /// The configurations above the base, with their indexes, in order.
    configurations: VecDeque<(LogIndex, Arc<Configuration>)>,
    last: LogId,
    /// The entries that end with `last`, without a gap.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

impl Log {
    /// The log that was found on the disk; see [`crate::StartError`] for what has been checked.
    pub(crate) fn restored(restored: &mut Restored) -> Self {
        let tail = VecDeque::from(std::mem::take(&mut restored.tail));
        Self {
            base: restored.base.clone(),
            term_runs: std::mem::take(&mut restored.term_runs).into(),
            configurations: std::mem::take(&mut restored.configurations).into(),
            last: restored.last_log,
            tail_bytes: tail.iter().map(Entry::size_bytes).sum(),
            tail,
        }
    }

    pub(crate) fn base(&self) -> &SnapshotMeta {
        &self.base
    }

    pub(crate) fn base_index(&self) -> LogIndex {
        self.base.last_included.index
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// The latest configuration in the log, committed or not: a server uses it from the moment it
    /// is appended (§4.1).
    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        self.configurations.back().map_or(&self.base.configuration, |(_, latest)| latest)
    }

    /// The configuration at `index`, which is not below the base, and where it stands.
    pub(crate) fn configuration_as_of(&self, index: LogIndex) -> (LogIndex, &Arc<Configuration>) {
        let latest = self.configurations.iter().rev().find(|(at, _)| *at <= index);
        latest.map_or((self.base_index(), &self.base.configuration), |(at, found)| (*at, found))
    }

    /// The configuration at `index` and all later ones.
    pub(crate) fn configurations_from(
        &self,
        index: LogIndex,
    ) -> impl Iterator<Item = &Arc<Configuration>> {
        let later = self.configurations.iter().rev().take_while(move |(at, _)| *at > index);
        later
            .map(|(_, configuration)| configuration)
            .chain(std::iter::once(self.configuration_as_of(index).1))
    }

    /// Where the latest configuration stands.
    pub(crate) fn configuration_index(&self) -> LogIndex {
        self.configurations.back().map_or(self.base_index(), |(index, _)| *index)
    }

    /// The first index that memory holds; one beyond the last if it holds none.
    pub(crate) fn tail_first(&self) -> LogIndex {
        self.tail.front().map_or(self.last.index.next(), |entry| entry.log_id.index)
    }

    /// The term of the entry at `index`; of the base too; `None` outside of the log.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index <= self.base_index() {
            return (index == self.base_index()).then_some(self.base.last_included.term);
        }
        if index > self.last.index {
            return None;
        }
        match self.term_runs.back() {
            Some((first, term)) if *first <= index => Some(*term),
            Some(_) | None => {
                let after = self.term_runs.partition_point(|(first, _)| *first <= index);
                self.term_runs.get(after.checked_sub(1)?).map(|(_, term)| *term)
            }
        }
    }

    /// Whether this very entry is in the log (or is its base).
    pub(crate) fn contains(&self, log_id: LogId) -> bool {
        self.term_at(log_id.index) == Some(log_id.term)
    }

    /// The last entry at or before `index` whose term is not above `term`; the base counts as an
    /// entry. `None` if there is none. Both sides use it to skip a conflicting term at a time
    /// (§3.5).
    pub(crate) fn last_not_after(&self, index: LogIndex, term: Term) -> Option<LogId> {
        let index = index.min(self.last.index);
        let after = self.term_runs.partition_point(|(first, run)| *first <= index && *run <= term);
        let end = self
            .term_runs
            .get(after)
            .and_then(|(next_first, _)| next_first.previous())
            .map_or(index, |end| end.min(index));
        if let Some((_, run_term)) = after.checked_sub(1).and_then(|run| self.term_runs.get(run)) {
            return Some(LogId::new(*run_term, end));
        }
        let base = self.base.last_included;
        (base.index <= index && base.term <= term).then_some(base)
    }

    /// Appends entries that follow the last one.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            let log_id = entry.log_id;
            assert!(log_id.index == self.last.index.next(), "the log has no gaps");
            assert!(log_id.term >= self.last.term, "terms in the log never fall");
            if log_id.term > self.last.term || self.term_runs.is_empty() {
                self.term_runs.push_back((log_id.index, log_id.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push_back((log_id.index, Arc::clone(configuration)));
            }
            self.last = log_id;
            self.tail_bytes += entry.size_bytes();
            self.tail.push_back(entry.clone());
        }
    }

    /// Drops every entry after `index`; configurations fall back to the latest that remains (§4.1).
    pub(crate) fn truncate_after(&mut self, index: LogIndex) {
        assert!(index >= self.base_index(), "the base of the log is never truncated");
        while self.tail.back().is_some_and(|entry| entry.log_id.index > index) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry.size_bytes());
        }
        while self.term_runs.back().is_some_and(|(first, _)| *first > index) {
            self.term_runs.pop_back();
        }
        while self.configurations.back().is_some_and(|(at, _)| *at > index) {
            self.configurations.pop_back();
        }
        let term = self.term_runs.back().map_or(self.base.last_included.term, |(_, term)| *term);
        self.last = LogId::new(term, index.min(self.last.index));
    }

    /// Starts over behind a snapshot (§5.1).
    pub(crate) fn reset(&mut self, base: SnapshotMeta) {
        self.term_runs.clear();
        self.configurations.clear();
        self.tail.clear();
        self.tail_bytes = 0;
        self.last = base.last_included;
        self.base = base;
    }

    /// Moves the base up to `index`, which is in the log (§5.1).
    pub(crate) fn release_through(&mut self, index: LogIndex) {
        let Some(term) = self.term_at(index) else { return };
        while self.tail.front().is_some_and(|entry| entry.log_id.index <= index) {
            self.evict_first();
        }
        while self.configurations.front().is_some_and(|(at, _)| *at <= index) {
            if let Some((_, configuration)) = self.configurations.pop_front() {
                self.base.configuration = configuration;
            }
        }
        while self.term_runs.get(1).is_some_and(|(first, _)| *first <= index.next()) {
            self.term_runs.pop_front();
        }
        if let Some((first, _)) = self.term_runs.front_mut() {
            *first = (*first).max(index.next());
        }
        if index == self.last.index {
            self.term_runs.clear();
        }
        self.base.last_included = LogId::new(term, index);
    }

    /// Returns the entries from `first` on, up to and including `last`, as many as fit into
    /// `max_bytes` but at least one; and their size. Empty if memory does not hold `first`.
    pub(crate) fn collect(
        &self,
        first: LogIndex,
        last: LogIndex,
        max_bytes: usize,
    ) -> (Vec<Entry>, usize) {
        let tail_first = self.tail_first();
        if first < tail_first || last < first {
            return (Vec::new(), 0);
        }
        let skip = to_usize(first.get() - tail_first.get()).min(self.tail.len());
        let wanted = to_usize(last.next().get() - first.get()).min(self.tail.len() - skip);
        let mut entries = Vec::with_capacity(wanted.min(max_bytes / 48 + 1));
        let mut bytes = 0_usize;
        for entry in self.tail.range(skip..skip + wanted) {
            let size = entry.size_bytes();
            if bytes.saturating_add(size) > max_bytes && !entries.is_empty() {
                break;
            }
            bytes += size;
            entries.push(entry.clone());
        }
        (entries, bytes)
    }

    /// The oldest entry that memory holds, if it holds more than `max_bytes`.
    pub(crate) fn first_over(&self, max_bytes: usize) -> Option<LogIndex> {
        if self.tail_bytes <= max_bytes {
            return None;
        }
        self.tail.front().map(|entry| entry.log_id.index)
    }

    /// Forgets the oldest entry that memory holds; the disk still has it.
    pub(crate) fn evict_first(&mut self) {
        self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.size_bytes());
    }

    /// Bytes of entries that memory holds.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The first index of each run of one term, for the checkers.
    pub(crate) fn term_runs(&self) -> impl DoubleEndedIterator<Item = (LogIndex, Term)> + '_ {
        self.term_runs.iter().copied()
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
