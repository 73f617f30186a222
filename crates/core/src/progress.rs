//! What a leader knows of one follower, and what it may send it next (§3.5, §10.2.2).
//! Sends nothing itself and knows neither the log's content nor the other followers.

use crate::raft::time_left;
use crate::{LogIndex, Options, SnapshotMeta, Time};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// The log is held for a follower that was heard within so many election timeouts.
const HELD_TIMEOUTS: u32 = 10;
/// After so many attempts the patience grows no more.
const RESENT_COUNT_MAX: u32 = 6;

/// One follower or learner, as its leader sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The follower durably holds the leader's log up to here.
    pub(crate) match_index: LogIndex,
    /// What to send next.
    pub(crate) next_index: LogIndex,
    pub(crate) state: ProgressState,
    /// When it last answered in this term.
    pub(crate) heard_at: Time,
    /// When it was last sent entries, or asked whether it has them.
    pub(crate) sent_at: Time,
    /// The latest heartbeat round that it answered (§6.4).
    pub(crate) confirmed_round: u64,
    /// The commit index that it has been told.
    pub(crate) commit_told: LogIndex,
    /// Entries for it are being read from the disk.
    pub(crate) loading: bool,
    /// It was sent a snapshot, and has not caught up since.
    pub(crate) catch_up: CatchUp,
    /// Its log needs no snapshot, but its state does: one that covers this at least.
    pub(crate) state_wanted: Option<LogIndex>,
}

/// What a follower that was sent a snapshot needs before its log can be released like that of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CatchUp {
    /// Nothing.
    #[default]
    Done,
    /// The snapshot.
    Snapshot,
    /// What was appended while the snapshot was on its way: up to here.
    Log(LogIndex),
}

/// How a follower is being served.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProgressState {
    /// Where the logs agree is not known: one message at a time.
    Probe {
        /// The one under way: the last index that it carries, and its size.
        sent: Option<(LogIndex, usize)>,
    },
    /// The logs agree: messages are pipelined within a window.
    Replicate(Window),
    /// What it needs is no longer in the log.
    Snapshot(Sending),
}

/// Messages under way to a follower: the last index and the size of each.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
pub(crate) struct Window {
    messages: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

/// A snapshot on its way to a follower, a piece at a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sending {
    /// Which; `None` until one is at hand.
    pub(crate) meta: Option<SnapshotMeta>,
    /// How far the follower has it, in bytes.
    pub(crate) offset: u64,
    /// When the last piece was sent; `None` while it is being read.
    pub(crate) sent_at: Option<Time>,
    /// How often it was sent again without an answer.
    pub(crate) resent_count: u32,
}

impl Sending {
    /// It is sent once more.
    pub(crate) fn again(&mut self) {
        self.resent_count = (self.resent_count + 1).min(RESENT_COUNT_MAX);
    }

    /// How long an answer may take. One that was lost is sent again at once; but one that is sent again
    /// too soon makes a slow link slower, so from then on it may take longer each time. Any progress
    /// makes that good.
    pub(crate) fn patience(&self, options: &Options) -> Duration {
        options.election_timeout.saturating_mul(1 << self.resent_count.saturating_sub(1))
    }
}

impl Window {
    fn push(&mut self, last_index: LogIndex, bytes: usize) {
        self.messages.push_back((last_index, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `index` has arrived.
    fn release_through(&mut self, index: LogIndex) {
        while self.messages.front().is_some_and(|(last, _)| *last <= index) {
            self.bytes -= self.messages.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_full(&self, options: &Options) -> bool {
        self.messages.len() >= options.in_flight_count_max
            || self.bytes >= options.in_flight_bytes_max
    }
}

impl Progress {
    /// A follower of which nothing is known yet (Figure 3.1: `next_index` starts after the
    /// leader's last entry, `match_index` at 0).
    pub(crate) fn new(next_index: LogIndex, now: Time) -> Self {
        Self {
            match_index: LogIndex::ORIGIN,
            next_index,
            state: ProgressState::Probe { sent: None },
            heard_at: now,
            sent_at: now,
            confirmed_round: 0,
            commit_told: LogIndex::ORIGIN,
            loading: false,
            catch_up: CatchUp::Done,
            state_wanted: None,
        }
    }

    /// What it needs is sent as a snapshot.
    pub(crate) fn begin_snapshot(&mut self) {
        self.state = ProgressState::Snapshot(Sending::default());
        self.catch_up = CatchUp::Snapshot;
    }

    /// The snapshot has arrived; `last` is what the log has grown to meanwhile.
    pub(crate) fn snapshot_arrived(&mut self, last: LogIndex) {
        self.catch_up = CatchUp::Log(last);
        self.state_wanted = None;
        self.replicate_after_match(None);
        self.tend_catch_up();
    }

    fn tend_catch_up(&mut self) {
        if matches!(self.catch_up, CatchUp::Log(last) if self.match_index >= last) {
            self.catch_up = CatchUp::Done;
        }
    }

    /// What it will need of the log once its snapshot is there: everything behind this; `None` if it
    /// gets no special treatment, or was not heard for long. `base` is what the log begins after now.
    pub(crate) fn holds(&self, base: LogIndex, now: Time, options: &Options) -> Option<LogIndex> {
        if self.heard_at.after(options.election_timeout.saturating_mul(HELD_TIMEOUTS)) <= now {
            return None;
        }
        match (self.catch_up, &self.state) {
            (CatchUp::Done, _) => None,
            // One is being taken: where it will end is not known yet.
            (_, ProgressState::Snapshot(Sending { meta: None, .. })) => Some(base),
            (_, ProgressState::Snapshot(Sending { meta: Some(meta), .. })) => {
                Some(meta.last_included.index)
            }
            (_, ProgressState::Probe { .. } | ProgressState::Replicate(_)) => {
                Some(self.match_index)
            }
        }
    }

    /// Looks for agreement from `next_index` on.
    pub(crate) fn probe_from(&mut self, next_index: LogIndex) {
        assert!(next_index > self.match_index, "what matches is not sent again");
        self.next_index = next_index;
        self.state = ProgressState::Probe { sent: None };
    }

    /// The follower has lost entries that it held, and may have nothing that matches behind `agreed`.
    pub(crate) fn lost_entries(&mut self, agreed: LogIndex) {
        self.match_index = LogIndex::ORIGIN;
        self.commit_told = LogIndex::ORIGIN;
        self.probe_from(agreed.next());
    }

    /// The follower durably matches up to `matched`.
    pub(crate) fn accept(&mut self, matched: LogIndex) {
        self.match_index = self.match_index.max(matched);
        self.tend_catch_up();
        let after_match = self.match_index.next();
        match &mut self.state {
            // What the probe carries may still be on its way to the follower's disk.
            ProgressState::Probe { sent } => {
                let under_way = sent.filter(|(last, _)| *last > self.match_index);
                self.replicate_after_match(under_way);
            }
            ProgressState::Replicate(window) => {
                window.release_through(self.match_index);
                self.next_index = self.next_index.max(after_match);
            }
            ProgressState::Snapshot(_) => {}
        }
    }

    /// Pipelines from what matches on, or from behind a message that is under way.
    pub(crate) fn replicate_after_match(&mut self, under_way: Option<(LogIndex, usize)>) {
        let mut window = Window::default();
        if let Some((last_index, bytes)) = under_way {
            window.push(last_index, bytes);
        }
        self.next_index = under_way.map_or(self.match_index, |(last, _)| last).next();
        self.state = ProgressState::Replicate(window);
    }

    /// Whether a refusal of the message after `prev_index` says something new. Late and repeated
    /// ones do not.
    pub(crate) fn is_fresh_rejection(&self, prev_index: LogIndex) -> bool {
        match &self.state {
            ProgressState::Probe { .. } => prev_index.next() == self.next_index,
            ProgressState::Replicate(_) => {
                prev_index > self.match_index && prev_index < self.next_index
            }
            ProgressState::Snapshot(_) => false,
        }
    }

    /// Notes a message that carries entries up to `last_index`.
    pub(crate) fn record_sent(&mut self, last_index: LogIndex, bytes: usize, now: Time) {
        self.sent_at = now;
        match &mut self.state {
            ProgressState::Probe { sent } => *sent = Some((last_index, bytes)),
            ProgressState::Replicate(window) => {
                if last_index >= self.next_index {
                    window.push(last_index, bytes);
                    self.next_index = last_index.next();
                }
            }
            ProgressState::Snapshot(_) => {}
        }
    }

    /// Whether entries may be sent now.
    pub(crate) fn may_send(&self, options: &Options) -> bool {
        match &self.state {
            ProgressState::Probe { sent } => sent.is_none(),
            ProgressState::Replicate(window) => !window.is_full(options),
            ProgressState::Snapshot(_) => false,
        }
    }

    /// How many bytes of entries its window has room for.
    pub(crate) fn window_room(&self, options: &Options) -> usize {
        let under_way = match &self.state {
            ProgressState::Replicate(window) => window.bytes(),
            ProgressState::Probe { .. } | ProgressState::Snapshot(_) => 0,
        };
        options.in_flight_bytes_max.saturating_sub(under_way)
    }

    /// Whether nothing is under way that would carry news of commitment.
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.state {
            ProgressState::Probe { .. } | ProgressState::Snapshot(_) => false,
            ProgressState::Replicate(window) => window.is_empty(),
        }
    }

    pub(crate) fn is_replicating(&self) -> bool {
        matches!(self.state, ProgressState::Replicate(_))
    }

    pub(crate) fn needs_snapshot(&self, base_index: LogIndex) -> bool {
        self.next_index <= base_index || self.state_wanted.is_some()
    }

    /// See `raft/behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, options: &Options, state: &mut impl Hasher) {
        let Self {
            match_index,
            next_index,
            state: progress,
            heard_at,
            sent_at,
            confirmed_round,
            commit_told,
            loading,
            state_wanted,
            // For whoever has the log released; nothing is done by it here.
            catch_up: _,
        } = self;
        (match_index, next_index, confirmed_round, commit_told, loading).hash(state);
        state_wanted.hash(state);
        time_left(heard_at.after(options.election_timeout), now).hash(state);
        time_left(sent_at.after(options.heartbeat_interval), now).hash(state);
        std::mem::discriminant(progress).hash(state);
        match progress {
            ProgressState::Probe { sent } => sent.hash(state),
            ProgressState::Replicate(window) => window.hash(state),
            ProgressState::Snapshot(sending) => {
                let Sending { meta, offset, sent_at, resent_count } = sending;
                let patience = sending.patience(options);
                let left = sent_at.map(|at| time_left(at.after(patience), now));
                (meta, offset, left, resent_count).hash(state);
            }
        }
    }
}

#[cfg(test)]
mod tests;
