//! Leases (§6.4.1): a follower promises its leader with each answer to a heartbeat that it helps
//! nobody else to be elected for a while, and a leader whom a quorum has promised that is the only
//! one, until the first of those promises may run out. Decides what is promised, and how long it can
//! be counted on; who is refused is the business of `election.rs`, who is served that of `read.rs`.
//!
//! What keeps this sound: a promise is counted from when the heartbeat was *sent*, and for less than
//! it lasts, by as much as clocks may be off. It is kept whatever a follower hears of its leader's
//! end, across terms, and after a restart ([`Raft::keep_earlier_promises`]). Only an election that the
//! leader itself asked for breaks it (§3.10), and such a leader has no lease from then on, since what
//! it asked may be obeyed at any time.

use super::behaviour::time_left;
use super::common::Common;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::{Drift, NodeId, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Rounds whose answers may still count. Readers start rounds one after the other, and an answer that
/// is so many rounds late is of no use.
const ROUNDS_COUNT_MAX: usize = 256;

/// What a leader may count on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Rounds, one after the other, and when each was sent.
    rounds: VecDeque<(u64, Time)>,
    /// What each member has promised that lasts longest.
    promises: BTreeMap<NodeId, Promise>,
    /// Somebody was told to campaign whom no promise holds up.
    is_given_away: bool,
}

/// Not to help anybody else, for `length` on the follower's clock, which began after `sent_at`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Promise {
    sent_at: Time,
    length: Duration,
}

impl Lease {
    pub(super) fn round_sent(&mut self, round: u64, common: &Common) {
        if !common.options.lease_reads {
            return;
        }
        if self.rounds.len() >= ROUNDS_COUNT_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back((round, common.now));
    }

    /// `from` answers that round with a promise, or with one of no length.
    pub(super) fn promised(&mut self, from: NodeId, round: u64, length: Duration) {
        let Some((first, _)) = self.rounds.front() else { return };
        let place = round.checked_sub(*first).and_then(|place| usize::try_from(place).ok());
        let Some((_, sent_at)) = place.and_then(|place| self.rounds.get(place)) else { return };
        let promise = Promise { sent_at: *sent_at, length };
        let known = self.promises.entry(from).or_insert(promise);
        if promise.sent_at.after(length) > known.sent_at.after(known.length) {
            *known = promise;
        }
    }

    /// This leader asks somebody to campaign.
    pub(super) fn give_away(&mut self) {
        self.is_given_away = true;
    }

    /// A member has another disk, which knows of no promise.
    pub(super) fn forget_member(&mut self, id: NodeId) {
        self.promises.remove(&id);
    }

    /// Of what was measured so far nobody knows how long it was.
    fn forget(&mut self) {
        self.rounds.clear();
        self.promises.clear();
    }

    /// See `behaviour.rs`.
    pub(super) fn hash_behaviour(&self, now: Time, state: &mut impl Hasher) {
        let Self { rounds, promises, is_given_away } = self;
        (is_given_away, rounds.len(), promises.len()).hash(state);
        for (round, sent_at) in rounds {
            (round, now.since(*sent_at)).hash(state);
        }
        for (id, Promise { sent_at, length }) in promises {
            (id, time_left(sent_at.after(*length), now), now.since(*sent_at)).hash(state);
        }
    }
}

impl Leader {
    /// Whether no other leader can have been elected by now, if no clock is off by more than that,
    /// and everything that is committed is known here.
    pub(super) fn holds_lease(&self, common: &Common, max_drift: Drift) -> bool {
        let ends_at = |promise: &Promise| {
            promise.sent_at.after(max_drift.certain_part(promise.length)).as_micros()
        };
        let until = common.log.configuration().quorum_reached(|id| {
            // It serves no reads once it has voted for somebody else.
            let is_own = id == common.id;
            if is_own { u64::MAX } else { self.lease.promises.get(&id).map_or(0, ends_at) }
        });
        let is_first_committed = common.commit_index >= self.term_start;
        let holds = until.is_some_and(|until| until > common.now.as_micros());
        holds && is_first_committed && !self.lease.is_given_away
    }
}

impl Common {
    /// A heartbeat of the leader is being answered: what is promised with it.
    pub(super) fn promise(&mut self) -> Duration {
        if !self.options.lease_reads {
            return Duration::ZERO;
        }
        // What was noted at the start is what the next start keeps.
        let length = self.options.election_timeout.min(self.promise_length_max);
        self.promise_for(length);
        length
    }

    fn promise_for(&mut self, length: Duration) {
        self.promised_until = self.promised_until.max(Some(self.now.after(length)));
        self.promised_length = self.promised_length.max(length);
    }

    /// Whether this server has promised to help nobody.
    pub(super) fn keeps_promise(&self) -> bool {
        self.promised_until.is_some_and(|until| until > self.now)
    }

    /// The first moment from `at` on at which nothing is promised.
    pub(super) fn free_at(&self, at: Time) -> Time {
        self.promised_until.map_or(at, |until| until.max(at))
    }
}

impl Raft {
    /// An earlier life of this server may have promised for up to `length` not to help anybody, and
    /// nobody knows when: it is promised anew.
    ///
    /// The only voter has nobody to keep a promise to, once that is committed: a leader that was
    /// removed from beside it has left office by then.
    pub fn keep_earlier_promises(&mut self, length: Duration) {
        let id = self.common.id;
        if !self.committed_configuration().1.has_quorum(|other| other == id) {
            self.common.promise_for(length);
        }
    }

    /// A leader has no lease until a round that begins from now on is answered. A follower may believe
    /// too early that its promise is over: it lasts as much longer, and from now on no longer than any
    /// that it has given.
    pub(super) fn handle_clock_jumped(&mut self, by: Duration) {
        if let RoleState::Leader(leader) = &mut self.role {
            leader.lease.forget();
        }
        let last = self.common.now.after(self.common.promised_length);
        if let Some(until) = &mut self.common.promised_until {
            *until = until.after(by).min(last);
        }
    }
}
