//! Giving up office in an orderly way: leadership transfer (§3.10), the handover to a member of
//! higher rank, and the last word of a leader whose disk hangs or fails. Never costs safety: all it
//! does is make a follower campaign.

use super::Raft;
use super::behaviour::time_left;
use super::common::Common;
use super::leader::Leader;
use crate::progress::Progress;
use crate::{LogIndex, Message, NodeId, Time, TimeoutNow};
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};

/// Waits between handovers to a higher rank grow by doubling, up to this many times.
const HANDOVER_DOUBLINGS_MAX: u32 = 6;

/// A transfer under way; proposals are refused meanwhile, so that the successor can catch up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// Given up then: the successor may be gone.
    deadline: Time,
    is_sent: bool,
}

impl Transfer {
    /// See `behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, state: &mut impl Hasher) {
        let Self { to, deadline, is_sent } = self;
        (to, time_left(*deadline, now), is_sent).hash(state);
    }
}

/// When a leader may next hand over to a higher rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    not_before: Time,
    attempts: u32,
}

impl Handover {
    /// A fresh leader first does its work for two election timeouts.
    pub(crate) fn new(common: &Common) -> Self {
        Self { not_before: common.now.after(common.options.election_timeout * 2), attempts: 0 }
    }

    /// See `behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, state: &mut impl Hasher) {
        let Self { not_before, attempts } = self;
        (time_left(*not_before, now), attempts).hash(state);
    }
}

impl Raft {
    /// An operator asks for a transfer (§3.10). Only a leader can comply; to itself, to a learner
    /// or to a stranger it does not.
    pub(super) fn handle_transfer_leadership(&mut self, to: Option<NodeId>) {
        let Some((leader, common)) = self.leader_mut() else { return };
        let successor = to.or_else(|| leader.best_successor(common));
        if let Some(successor) = successor.filter(|id| *id != common.id) {
            leader.start_transfer(common, successor);
        }
    }

    /// A leader whose disk hangs hands over to the best follower and goes.
    pub(super) fn resign(&mut self) {
        self.call_successor();
        self.common.restart_election_timer();
        self.become_follower(None);
    }

    /// If this server leads, the best follower is told to campaign, as far as it may have come. It
    /// may lose; then an election timeout decides, as it would have without the call.
    pub(super) fn call_successor(&mut self) {
        if let Some((leader, common)) = self.leader_mut()
            && let Some(successor) = leader.best_successor(common)
        {
            leader.lease.give_away();
            let term = common.current_term;
            common.send(successor, Message::TimeoutNow(TimeoutNow { term }));
        }
    }
}

impl Leader {
    /// The voter with the most of our log among those that are alive; then the highest rank.
    pub(crate) fn best_successor(&self, common: &Common) -> Option<NodeId> {
        let configuration = common.log.configuration();
        let voters = self.progress.iter().filter(|(id, _)| configuration.is_staying_voter(**id));
        let alive = voters.filter(|(_, progress)| is_alive(progress, common));
        alive
            .max_by_key(|(id, p)| {
                (p.match_index, configuration.rank(**id), std::cmp::Reverse(**id))
            })
            .map(|(id, _)| *id)
    }

    pub(crate) fn start_transfer(&mut self, common: &Common, to: NodeId) {
        if !common.log.configuration().is_staying_voter(to) || !self.progress.contains_key(&to) {
            return;
        }
        let deadline = common.now.after(common.options.election_timeout);
        self.transfer = Some(Transfer { to, deadline, is_sent: false });
    }

    /// §3.10: once the successor has all of our log, and not before, it is told to campaign.
    pub(crate) fn complete_transfer(&mut self, common: &mut Common) {
        let Some(transfer) = &mut self.transfer else { return };
        let matched = self.progress.get(&transfer.to).map(|progress| progress.match_index);
        if transfer.is_sent || matched != Some(common.log.last().index) {
            return;
        }
        transfer.is_sent = true;
        self.lease.give_away();
        let (to, term) = (transfer.to, common.current_term);
        common.send(to, Message::TimeoutNow(TimeoutNow { term }));
    }

    /// At every heartbeat: gives up a transfer that takes an election timeout (§3.10), repeats its
    /// last message, which may have been lost, or starts a handover to a higher rank.
    pub(crate) fn tend_transfer(&mut self, common: &Common) {
        match &mut self.transfer {
            Some(transfer) if transfer.deadline <= common.now => self.transfer = None,
            Some(transfer) => transfer.is_sent = false,
            None => self.hand_over_to_higher_rank(common),
        }
    }

    /// The highest rank leads, if it is alive and has what is committed. Rare and ever rarer: a
    /// member that cannot win costs the cluster less and less.
    fn hand_over_to_higher_rank(&mut self, common: &Common) {
        if self.handover.not_before > common.now {
            return;
        }
        let configuration = common.log.configuration();
        let is_caught_up = |progress: &Progress| {
            progress.is_replicating() && progress.match_index >= common.commit_index
        };
        let successor = self
            .progress
            .iter()
            .filter(|(id, p)| {
                configuration.is_staying_voter(**id) && is_alive(p, common) && is_caught_up(p)
            })
            .map(|(id, progress)| (configuration.rank(*id), progress.match_index, *id))
            .max_by_key(|(rank, matched, id)| (*rank, *matched, std::cmp::Reverse(*id)));
        let Some((rank, _, id)): Option<(u32, LogIndex, NodeId)> = successor else { return };
        if rank <= configuration.rank(common.id) {
            return;
        }
        let wait = common.options.election_timeout * (10 << self.handover.attempts);
        self.handover.attempts = (self.handover.attempts + 1).min(HANDOVER_DOUBLINGS_MAX);
        self.handover.not_before = common.now.after(wait);
        self.start_transfer(common, id);
    }
}

/// Whether the follower answered within the last election timeout.
pub(super) fn is_alive(progress: &Progress, common: &Common) -> bool {
    progress.heard_at.after(common.options.election_timeout) > common.now
}
