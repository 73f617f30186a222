//! What is durable, and which writes are under way (§3.8). Everything that must not leave the
//! server before a write is done asks here; who asks, and why, is not known here.

use crate::raft::time_left;
use crate::{Entry, HardState, LogIndex, Persist, PersistSeq, SnapshotMeta, Time};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// One write under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct InFlight {
    seq: PersistSeq,
    asked_at: Time,
    /// The log is durable up to here once the write is done: lowered when a later truncation
    /// overwrites entries whose write is still under way, so that they never count as durable.
    last_index: LogIndex,
    hard_state: Option<HardState>,
    reset: bool,
}

/// The writes of one server, in order, and what the finished ones made durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Persistence {
    durable_index: LogIndex,
    durable_hard_state: HardState,
    in_flight: VecDeque<InFlight>,
    /// What the present step wants written.
    pending: Persist,
    is_pending: bool,
    next_seq: PersistSeq,
}

impl Persistence {
    pub(crate) fn new(durable_index: LogIndex, durable_hard_state: HardState) -> Self {
        Self {
            durable_index,
            durable_hard_state,
            in_flight: VecDeque::new(),
            pending: Persist::default(),
            is_pending: false,
            next_seq: PersistSeq::new(1),
        }
    }

    /// The log of this server is durable up to here.
    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    /// The term and vote that a restart would find.
    pub(crate) fn durable_hard_state(&self) -> HardState {
        self.durable_hard_state
    }

    /// When the oldest write that is still under way was asked for.
    pub(crate) fn oldest_asked_at(&self) -> Option<Time> {
        self.in_flight.front().map(|write| write.asked_at)
    }

    /// Has term and vote written with this step's write.
    pub(crate) fn store_hard_state(&mut self, hard_state: HardState) {
        self.pending.hard_state = Some(hard_state);
        self.is_pending = true;
    }

    /// Has entries appended with this step's write.
    pub(crate) fn append(&mut self, mut entries: Vec<Entry>) {
        if self.pending.entries.is_empty() {
            self.pending.entries = entries;
        } else {
            self.pending.entries.append(&mut entries);
        }
        self.is_pending = true;
    }

    /// Has every entry after `index` dropped. What is being written there is already void.
    pub(crate) fn truncate_after(&mut self, index: LogIndex) {
        assert!(self.pending.entries.is_empty(), "a step truncates before it appends");
        self.void_after(index);
        self.pending.truncate_after = Some(index);
        self.is_pending = true;
    }

    /// Has the log replaced by one that starts after `base`; of the old one only the committed
    /// part, up to `commit_index`, is still worth counting until then.
    pub(crate) fn reset(&mut self, base: SnapshotMeta, commit_index: LogIndex) {
        assert!(self.pending.entries.is_empty(), "a step resets the log before it appends");
        self.void_after(commit_index);
        self.pending.truncate_after = None;
        self.pending.reset = Some(base);
        self.is_pending = true;
    }

    fn void_after(&mut self, index: LogIndex) {
        self.durable_index = self.durable_index.min(index);
        for write in &mut self.in_flight {
            write.last_index = write.last_index.min(index);
        }
    }

    /// Returns the write that this step wants, if any.
    pub(crate) fn flush(&mut self, now: Time) -> Option<Persist> {
        if !self.is_pending {
            return None;
        }
        self.is_pending = false;
        let mut persist = std::mem::take(&mut self.pending);
        persist.seq = self.next_seq;
        persist.asked_at = now;
        self.next_seq = self.next_seq.next();
        let base_index = persist.reset.as_ref().map(|base| base.last_included.index);
        let last_entry = persist.entries.last().map(|entry| entry.log_id.index);
        self.in_flight.push_back(InFlight {
            seq: persist.seq,
            asked_at: now,
            last_index: last_entry.or(base_index).unwrap_or_default(),
            hard_state: persist.hard_state,
            reset: persist.reset.is_some(),
        });
        Some(persist)
    }

    /// The write `seq` and all before it are durable. Returns whether one of them reset the log.
    pub(crate) fn complete(&mut self, seq: PersistSeq) -> bool {
        let mut reset = false;
        while self.in_flight.front().is_some_and(|write| write.seq <= seq) {
            let Some(write) = self.in_flight.pop_front() else { break };
            self.durable_index = self.durable_index.max(write.last_index);
            self.durable_hard_state = write.hard_state.unwrap_or(self.durable_hard_state);
            reset |= write.reset;
        }
        reset
    }

    /// See `raft/behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, stall: Duration, state: &mut impl Hasher) {
        let Self { durable_index, durable_hard_state, in_flight, pending, is_pending, next_seq } =
            self;
        (durable_index, durable_hard_state, is_pending, in_flight.len()).hash(state);
        for InFlight { seq, asked_at, last_index, hard_state, reset } in in_flight {
            (next_seq.get() - seq.get(), last_index, hard_state, reset).hash(state);
            time_left(asked_at.after(stall), now).hash(state);
        }
        let Persist { seq: _, asked_at: _, reset, truncate_after, entries, hard_state } = pending;
        (reset, truncate_after, entries, hard_state).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogId, Payload, Term};

    fn entry(index: u64, term: u64) -> Entry {
        let log_id = LogId::new(Term::new(term), LogIndex::new(index));
        Entry { log_id, payload: Payload::Noop }
    }

    fn write(persistence: &mut Persistence) -> PersistSeq {
        persistence.flush(Time::ZERO).unwrap().seq
    }

    #[test]
    fn an_entry_overwritten_while_its_write_is_under_way_never_counts_as_durable() {
        let mut persistence = Persistence::new(LogIndex::new(4), HardState::default());
        persistence.append(vec![entry(5, 1), entry(6, 1)]);
        let first = write(&mut persistence);
        persistence.truncate_after(LogIndex::new(4));
        persistence.append(vec![entry(5, 2)]);
        let second = write(&mut persistence);
        persistence.complete(first);
        assert_eq!(persistence.durable_index(), LogIndex::new(4));
        persistence.complete(second);
        assert_eq!(persistence.durable_index(), LogIndex::new(5));
    }

    #[test]
    fn a_completion_covers_every_earlier_write() {
        let mut persistence = Persistence::new(LogIndex::ORIGIN, HardState::default());
        persistence.append(vec![entry(1, 1)]);
        write(&mut persistence);
        let voted = HardState { current_term: Term::new(3), voted_for: None };
        persistence.store_hard_state(voted);
        let second = write(&mut persistence);
        persistence.complete(second);
        assert_eq!(persistence.durable_index(), LogIndex::new(1));
        assert_eq!(persistence.durable_hard_state(), voted);
        assert_eq!(persistence.oldest_asked_at(), None);
    }

    #[test]
    fn a_log_that_is_being_replaced_counts_only_as_far_as_it_is_committed() {
        let mut persistence = Persistence::new(LogIndex::new(6), HardState::default());
        let last_included = LogId::new(Term::new(3), LogIndex::new(20));
        let base = SnapshotMeta { last_included, configuration: std::sync::Arc::default() };
        persistence.reset(base, LogIndex::new(4));
        assert_eq!(persistence.durable_index(), LogIndex::new(4));
        let reset = write(&mut persistence);
        assert!(persistence.complete(reset));
        assert_eq!(persistence.durable_index(), LogIndex::new(20));
    }

    #[test]
    fn nothing_to_write_asks_for_nothing() {
        let mut persistence = Persistence::new(LogIndex::ORIGIN, HardState::default());
        assert_eq!(persistence.flush(Time::ZERO), None);
    }
}
