//! What only a follower has, and what it owes to others until its disk has caught up (§3.8).
//! Holds no rule about which requests deserve an answer.

use super::read::ForwardedReads;
use super::{Raft, RoleState};
use crate::{
    AppendEntriesResponse, AppendOutcome, LogIndex, Message, NodeId, RequestVoteResponse, VotePhase,
};
use serde::{Deserialize, Serialize};

/// A follower, or a learner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Follower {
    /// The leader of the current term, if known.
    pub(crate) leader: Option<NodeId>,
    /// Our log is known to match the leader's up to here, durably or not.
    pub(crate) matched: LogIndex,
    /// The leader has been told that we durably match up to here, or will be with the next answer.
    pub(crate) acknowledged: LogIndex,
    /// The leader awaits an answer even if there is nothing new to tell.
    pub(crate) owes_append_answer: bool,
    /// A vote that is given, and may be sent once it is durable.
    pub(crate) owes_vote_to: Option<(NodeId, VotePhase)>,
    pub(crate) reads: ForwardedReads,
}

impl Follower {
    pub(crate) fn new(leader: Option<NodeId>) -> Self {
        Self {
            leader,
            matched: LogIndex::ORIGIN,
            acknowledged: LogIndex::ORIGIN,
            owes_append_answer: false,
            owes_vote_to: None,
            reads: ForwardedReads::default(),
        }
    }
}

impl Raft {
    /// Sends what was withheld and is covered by the disk by now.
    pub(super) fn settle_follower(&mut self) {
        self.send_durable_vote();
        self.acknowledge_durable_entries();
        self.forward_reads();
    }

    /// §3.8: a vote leaves the server only after it is durable; otherwise a restart could give it
    /// away a second time.
    fn send_durable_vote(&mut self) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some((candidate, phase)) = follower.owes_vote_to else { return };
        if !self.common.vote_is_durable() {
            return;
        }
        follower.owes_vote_to = None;
        let term = self.common.current_term;
        let response = RequestVoteResponse { term, phase, granted: true };
        self.common.send(candidate, Message::RequestVoteResponse(response));
    }

    /// §3.8: entries are acknowledged only once they, and the term in which they were accepted,
    /// are durable. One answer covers every request before it.
    fn acknowledge_durable_entries(&mut self) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        let durable = follower.matched.min(self.common.persistence.durable_index());
        let is_whole = durable == follower.matched;
        let is_due = durable > follower.acknowledged || (follower.owes_append_answer && is_whole);
        if !is_due || !self.common.term_is_durable() {
            return;
        }
        follower.acknowledged = durable;
        follower.owes_append_answer &= !is_whole;
        let outcome = AppendOutcome::Accepted { matched: durable };
        let response = AppendEntriesResponse { term: self.common.current_term, outcome };
        self.common.send(leader, Message::AppendEntriesResponse(response));
    }
}
