//! What a server will do, as a hash: equal for two servers that answer all further events alike.
//! For explorers of all states; must not know how states are explored, and changes nothing.
//!
//! Every struct is taken apart field by field, so that a new field does not compile until somebody
//! has decided here whether behaviour depends on it. What is left out, and why two servers that
//! differ only in that are one:
//!
//! - *The clock.* A server compares times and nothing else, so a point in time counts as what is
//!   left until it matters; what is past has nothing left, however long it is past.
//! - *The election timeout, the dice that draw it, and the haste that shortens it.* They decide when
//!   a server that does not lead is told of its deadline. Whoever explores lets that happen at any
//!   moment, not before the least timeout has passed since a leader was heard; which duration was
//!   drawn then shows nowhere.
//! - *The numbers of writes.* They are only compared with each other: the distance to the next one
//!   says it all.
//! - *The options*, which never change, and the list of effects, which is empty between steps.
//!
//! Not covered is the random name of a follower's next request for a read index: an explorer that
//! has followers read must rename those requests itself.

use super::common::Common;
use super::follower::Follower;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::Time;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// What is left until `deadline`; `None` if it never comes.
pub(crate) fn time_left(deadline: Time, now: Time) -> Option<Duration> {
    (deadline != Time::from_micros(u64::MAX)).then(|| deadline.since(now))
}

impl Raft {
    /// Feeds everything into `state` that this server's answers to further events depend on. See
    /// the head of the file `behaviour.rs` for what is left out.
    pub fn hash_behaviour(&self, state: &mut impl Hasher) {
        let Self { common, role } = self;
        common.hash_behaviour(state);
        std::mem::discriminant(role).hash(state);
        match role {
            RoleState::Follower(follower) => follower.hash_behaviour(common, state),
            RoleState::PreCandidate(candidate) | RoleState::Candidate(candidate) => {
                candidate.hash(state);
            }
            RoleState::Leader(leader) => leader.hash_behaviour(common, state),
        }
    }
}

impl Common {
    fn hash_behaviour(&self, state: &mut impl Hasher) {
        let Self {
            id,
            options,
            now,
            effects: _,
            chance: _,
            current_term,
            voted_for,
            log,
            persistence,
            commit_index,
            applier,
            installing,
            is_writing_chunk,
            election_timer_started: _,
            election_timeout: _,
            heard_from_leader_at,
            promise_length_max,
            promised_until,
            promised_length,
            haste: _,
            next_batch: _,
            poison,
            dismissed_by,
            introduced,
            speaks,
            lost,
            applied_at_start,
            questions,
        } = self;
        (id, current_term, voted_for, log, commit_index, applier).hash(state);
        (installing, is_writing_chunk, poison, dismissed_by, introduced, speaks).hash(state);
        (lost, applied_at_start, questions).hash(state);
        persistence.hash_behaviour(*now, options.disk_stall_timeout, state);
        // Whether a leader was heard of late, or whenever, is one (§4.2.3).
        let leader_is_fresh =
            heard_from_leader_at.is_some_and(|at| at.after(options.election_timeout) > *now);
        leader_is_fresh.hash(state);
        (promised_until.map(|until| time_left(until, *now)), promised_length, promise_length_max)
            .hash(state);
    }
}

impl Follower {
    fn hash_behaviour(&self, common: &Common, state: &mut impl Hasher) {
        let Self { leader, matched, acknowledged, owes_append_answer, owes_vote_to, reads } = self;
        (leader, matched, acknowledged, owes_append_answer, owes_vote_to).hash(state);
        reads.hash_behaviour(common.now, state);
    }
}

impl Leader {
    fn hash_behaviour(&self, common: &Common, state: &mut impl Hasher) {
        let Self {
            progress,
            configuration_index,
            term_start,
            heartbeat_deadline,
            round_started,
            round_confirmed,
            reads,
            lease,
            uncommitted,
            transfer,
            handover,
            membership,
            snapshot,
            snapshot_asked,
        } = self;
        let now = common.now;
        (configuration_index, term_start, time_left(*heartbeat_deadline, now)).hash(state);
        (round_started, round_confirmed, reads, uncommitted).hash(state);
        (snapshot, snapshot_asked, progress.len()).hash(state);
        for (id, progress) in progress {
            id.hash(state);
            progress.hash_behaviour(now, &common.options, state);
        }
        if let Some(transfer) = transfer {
            transfer.hash_behaviour(now, state);
        }
        handover.hash_behaviour(now, state);
        lease.hash_behaviour(now, state);
        membership.hash_behaviour(now, common.options.election_timeout, state);
    }
}
