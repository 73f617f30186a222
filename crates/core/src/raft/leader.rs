//! What only a leader has, and what it does when something has become due (§3.5, §3.6).
//! The single duties are in the rooms next door; this one puts them in order.

use super::common::Common;
use super::lease::Lease;
use super::membership::Membership;
use super::read::WaitingRead;
use super::transfer::{Handover, Transfer};
use super::{Raft, RoleState};
use crate::progress::Progress;
use crate::{Entry, LogId, LogIndex, NodeId, Payload, SnapshotMeta, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The leader of `current_term`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// Every other member.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// Which configuration `progress` follows.
    pub(crate) configuration_index: LogIndex,
    /// The first entry of this term, our no-op.
    pub(crate) term_start: LogIndex,
    pub(crate) heartbeat_deadline: Time,
    /// The latest heartbeat round, and the latest that a quorum has answered (§6.4).
    pub(crate) round_started: u64,
    pub(crate) round_confirmed: u64,
    pub(crate) reads: VecDeque<WaitingRead>,
    pub(crate) lease: Lease,
    pub(crate) uncommitted: Uncommitted,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) handover: Handover,
    pub(crate) membership: Membership,
    /// The snapshot at hand for followers that are behind the log.
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) snapshot_asked: bool,
}

/// Entries that were proposed here and are not both committed and durable here: batches as
/// (last index, bytes).
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
pub(crate) struct Uncommitted {
    batches: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Uncommitted {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, last_index: LogIndex, bytes: usize) {
        self.batches.push_back((last_index, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn release_through(&mut self, index: LogIndex) {
        while self.batches.front().is_some_and(|(last, _)| *last <= index) {
            self.bytes -= self.batches.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }
}

impl Leader {
    /// Takes office: forgets what earlier leaders knew of the followers (Figure 3.1) and appends
    /// a no-op, without which entries of earlier terms could not be committed (§3.6.2, §6.4).
    pub(crate) fn new(common: &mut Common) -> Self {
        let next_index = common.log.last().index.next();
        let log_id = LogId::new(common.current_term, next_index);
        common.append(vec![Entry { log_id, payload: Payload::Noop }]);
        let mut leader = Self {
            progress: BTreeMap::new(),
            configuration_index: LogIndex::ORIGIN,
            term_start: next_index,
            heartbeat_deadline: common.now.after(common.options.heartbeat_interval),
            round_started: 0,
            round_confirmed: 0,
            reads: VecDeque::new(),
            lease: Lease::default(),
            uncommitted: Uncommitted::default(),
            transfer: None,
            handover: Handover::new(common),
            membership: Membership::default(),
            snapshot: None,
            snapshot_asked: false,
        };
        leader.follow_configuration(common, next_index);
        leader
    }

    pub(crate) fn next_deadline(&self, common: &Common) -> Time {
        let stall = common.disk_stall_deadline();
        stall.map_or(self.heartbeat_deadline, |stall| stall.min(self.heartbeat_deadline))
    }

    /// Whether a quorum has answered within the last election timeout. If not, another leader may
    /// be in office by now, and this one serves nobody (check-quorum, §6.2).
    fn hears_quorum(&self, common: &Common) -> bool {
        let oldest = |progress: &Progress| progress.heard_at.after(common.options.election_timeout);
        common.log.configuration().has_quorum(|id| {
            id == common.id || self.progress.get(&id).is_some_and(|p| oldest(p) > common.now)
        })
    }
}

impl Raft {
    pub(super) fn handle_leader_deadline(&mut self) {
        if self.common.disk_is_stalled() {
            return self.resign();
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.heartbeat_deadline > self.common.now {
            return;
        }
        if !leader.hears_quorum(&self.common) && !leader.retreats_from_joint(&mut self.common) {
            self.common.restart_election_timer();
            return self.become_follower(None);
        }
        leader.tend_transfer(&self.common);
        leader.start_round(&mut self.common);
    }

    /// What a leader owes after an event, in the order in which one duty feeds the next.
    pub(super) fn settle_leader(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.configuration_index != self.common.log.configuration_index() {
            leader.follow_configuration(&self.common, self.common.log.last().index);
        }
        leader.advance_commit_index(&mut self.common);
        if leader.is_removed(&self.common) {
            leader.notify_of_commit(&mut self.common);
            return self.resign();
        }
        leader.tend_membership(&mut self.common);
        leader.replicate(&mut self.common);
        leader.notify_of_commit(&mut self.common);
        leader.serve_reads(&mut self.common);
        leader.complete_transfer(&mut self.common);
    }

    pub(super) fn leader_mut(&mut self) -> Option<(&mut Leader, &mut Common)> {
        match &mut self.role {
            RoleState::Leader(leader) => Some((leader, &mut self.common)),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }
}
