//! What a server waits for at the moment, read from its state. Changes nothing.

use super::common::Common;
use super::election::Candidate;
use super::follower::Follower;
use super::install::Installing;
use super::leader::Leader;
use super::transfer::is_alive;
use super::{Raft, RoleState};
use crate::explain::{LeaderWait, PeerWait, ReadWait, Reason};
use crate::progress::{Progress, ProgressState};
use crate::{LogIndex, NodeId};
use std::time::Duration;

impl Raft {
    /// Everything that this server waits for, as of its last step, the gravest first; empty if
    /// nothing does. A leader knows most: the others say who leads.
    #[must_use]
    pub fn explain(&self) -> Vec<Reason> {
        let common = &self.common;
        if let Some(poison) = common.poison {
            return vec![Reason::Poisoned(poison)];
        }
        let mut reasons: Vec<Reason> =
            common.removed_at().map(|version| Reason::Removed { version }).into_iter().collect();
        reasons.extend(common.stalled().map(|since| Reason::DiskStalled { since }));
        reasons.extend(common.explain_lost(self.leader()));
        match &self.role {
            RoleState::Leader(leader) => reasons.extend(leader.explain(common)),
            RoleState::Follower(follower) => reasons.extend(self.explain_follower(follower)),
            RoleState::PreCandidate(candidate) => {
                reasons.push(Reason::NoLeader(candidate.explain(common, false)));
            }
            RoleState::Candidate(candidate) => {
                reasons.push(Reason::NoLeader(candidate.explain(common, true)));
            }
        }
        reasons.extend(common.installing.as_ref().map(Installing::explain));
        let is_missing = common.installing.is_none() && common.lacks_state();
        let base = common.log.base_index();
        reasons.extend(is_missing.then_some(Reason::StateMissing { base }));
        let (applied, committed) = (common.applier.applied(), common.commit_index);
        if applied < committed {
            reasons.push(Reason::NotApplied { applied, committed });
        }
        reasons
    }

    /// Why the entry at `index` is not committed; `None` if it is, or if nothing but a poison or the
    /// lack of a leader stands in its way, which [`Raft::explain`] tells.
    #[must_use]
    pub fn explain_commit(&self, index: LogIndex) -> Option<Reason> {
        let last = self.common.log.last().index;
        if index <= self.common.commit_index {
            return None;
        }
        if index > last {
            return Some(Reason::NotThere { index, last });
        }
        match &self.role {
            RoleState::Leader(leader) => Some(leader.explain_commit(&self.common, index)),
            RoleState::Follower(Follower { leader: Some(leader), .. }) => {
                Some(Reason::NotTold { index, leader: *leader })
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    fn explain_follower(&self, follower: &Follower) -> Vec<Reason> {
        let common = &self.common;
        let Some(leader) = follower.leader else {
            return vec![Reason::NoLeader(self.explain_silence())];
        };
        let index = common.commit_index.next();
        let not_told = index <= common.log.last().index;
        let count = follower.reads.count();
        let wait = ReadWait::Leader { leader };
        let reads = (count > 0).then_some(Reason::Reads { count, wait });
        not_told.then_some(Reason::NotTold { index, leader }).into_iter().chain(reads).collect()
    }

    /// What a server that hears nobody does about it.
    fn explain_silence(&self) -> LeaderWait {
        let common = &self.common;
        match self.election_deadline() {
            Some(deadline) if self.may_campaign() => {
                LeaderWait::Timeout { left: deadline.since(common.now) }
            }
            _ => {
                let voters = common.log.configuration().voters();
                LeaderWait::Others { voters: voters.filter(|id| *id != common.id).collect() }
            }
        }
    }
}

impl Candidate {
    fn explain(&self, common: &Common, is_certain: bool) -> LeaderWait {
        let configuration = common.log.configuration();
        if is_certain && !common.vote_is_durable() {
            return LeaderWait::OwnVote { term: common.current_term };
        }
        let (granted, missing) = configuration.voters().partition(|id| self.has_vote_of(*id));
        let term = if is_certain { common.current_term } else { common.current_term.next() };
        let is_joint = configuration.is_joint();
        LeaderWait::Votes { term, is_certain, granted, missing, is_joint }
    }
}

impl Common {
    /// For how long a write has been under way, if that is too long.
    fn stalled(&self) -> Option<Duration> {
        let since = self.persistence.oldest_asked_at().filter(|_| self.disk_is_stalled())?;
        Some(self.now.since(since))
    }
}

impl Leader {
    fn explain(&self, common: &Common) -> Vec<Reason> {
        let last = common.log.last().index;
        let first_open = common.commit_index.next();
        let not_ready = self.not_ready(common);
        let commit = (first_open <= last).then(|| self.explain_commit(common, first_open));
        let handover = self.transfer.as_ref().map(|transfer| {
            let behind_count = self.behind(common, transfer.to);
            Reason::Handover { to: transfer.to, behind_count }
        });
        let peers = self.progress.iter().filter_map(|(peer, progress)| {
            let wait = progress.explain(common, last)?;
            Some(Reason::Peer { peer: *peer, behind_count: self.behind(common, *peer), wait })
        });
        let changes = self.change_waits(common).into_iter().map(Reason::Change);
        let reads = self.explain_reads(common);
        let version = self.explain_version(common);
        let gravest = commit.into_iter().chain(not_ready);
        let first = gravest.chain(handover).chain(changes).chain(reads);
        first.chain(peers).chain(version).collect()
    }

    fn not_ready(&self, common: &Common) -> Option<Reason> {
        let applied = common.applier.applied();
        let last = self.term_start.previous().filter(|last| applied < *last)?;
        (common.commit_index >= last).then_some(Reason::NotReady { applied, last })
    }

    fn explain_commit(&self, common: &Common, index: LogIndex) -> Reason {
        let configuration = common.log.configuration();
        let (holders, missing) = self.split(common, index);
        if index < self.term_start && configuration.has_quorum(|id| holders.contains(&id)) {
            let term_start = self.term_start;
            let (_, mut missing) = self.split(common, term_start);
            let is_on_own_disk = !take(&mut missing, common.id);
            return Reason::OfEarlierTerm { index, term_start, missing, is_on_own_disk };
        }
        let (mut missing, is_joint) = (missing, configuration.is_joint());
        let is_on_own_disk = !take(&mut missing, common.id);
        Reason::NotCommitted { index, holders, missing, is_on_own_disk, is_joint }
    }

    /// The voters that are known to hold an entry durably, and the others.
    fn split(&self, common: &Common, index: LogIndex) -> (Vec<NodeId>, Vec<NodeId>) {
        common.log.configuration().voters().partition(|id| match self.progress.get(id) {
            Some(progress) => progress.match_index >= index,
            None => common.persistence.durable_index() >= index,
        })
    }

    fn behind(&self, common: &Common, peer: NodeId) -> u64 {
        let matched = self.progress.get(&peer).map_or(LogIndex::ORIGIN, |known| known.match_index);
        common.log.last().index.distance_from(matched)
    }

    fn explain_reads(&self, common: &Common) -> Option<Reason> {
        let round = self.oldest_read_round()?;
        let answered = |id: &NodeId| match self.progress.get(id) {
            Some(progress) => progress.confirmed_round >= round,
            None => *id == common.id,
        };
        let wait = if common.commit_index < self.term_start {
            ReadWait::TermStart { term_start: self.term_start }
        } else {
            let voters = common.log.configuration().voters();
            ReadWait::Round { missing: voters.filter(|id| !answered(id)).collect() }
        };
        Some(Reason::Reads { count: self.reads.len(), wait })
    }
}

/// Whether it was among them.
fn take(ids: &mut Vec<NodeId>, id: NodeId) -> bool {
    let count = ids.len();
    ids.retain(|other| *other != id);
    ids.len() < count
}

impl Progress {
    fn explain(&self, common: &Common, last: LogIndex) -> Option<PeerWait> {
        if !is_alive(self, common) {
            return Some(PeerWait::Silent { since: common.now.since(self.heard_at) });
        }
        if self.match_index >= last {
            return None;
        }
        match &self.state {
            _ if self.loading => Some(PeerWait::Loading),
            ProgressState::Probe { .. } => Some(PeerWait::Probe { next_index: self.next_index }),
            ProgressState::Replicate(window) if window.is_full(&common.options) => {
                Some(PeerWait::Window { count: window.count(), bytes: window.bytes() })
            }
            ProgressState::Replicate(_) => None,
            ProgressState::Snapshot(sending) => Some(match &sending.meta {
                Some(meta) => {
                    let (last_included, offset) = (meta.last_included, sending.offset);
                    PeerWait::Snapshot { last_included, offset }
                }
                None => PeerWait::NoSnapshot,
            }),
        }
    }
}
