//! Elections (§3.4), with pre-vote (§9.6), leader stickiness (§4.2.3) and the transfer of
//! leadership as a third kind of vote (§3.10). Knows nothing of replication.

use super::leader::Leader;
use super::{Raft, RoleState};
use crate::{
    Message, NodeId, RequestVote, RequestVoteResponse, Role, Term, Time, TimeoutNow, VotePhase,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A candidate or pre-candidate: who said yes.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct Candidate {
    phase: VotePhase,
    granted: BTreeSet<NodeId>,
    /// The requests have been sent.
    has_asked: bool,
}

impl Candidate {
    fn new(phase: VotePhase) -> Self {
        Self { phase, granted: BTreeSet::new(), has_asked: false }
    }

    pub(super) fn has_vote_of(&self, id: NodeId) -> bool {
        self.granted.contains(&id)
    }
}

impl Raft {
    /// When this server campaigns if it hears nothing; `None` if it has no vote to win with. The
    /// only voter of a cluster has nobody to wait for.
    pub(super) fn election_deadline(&self) -> Option<Time> {
        if !self.common.is_electable() {
            return None;
        }
        let configuration = self.common.log.configuration();
        let is_alone = configuration.has_quorum(|id| id == self.common.id);
        let is_waiting_for_itself = self.role() != Role::Follower;
        let since = self.common.election_timer_started;
        let at = if is_alone && !is_waiting_for_itself && self.may_campaign() {
            since
        } else if self.common.haste.is_some() {
            self.common.free_at(since).after(self.common.election_timeout)
        } else {
            since.after(self.common.election_timeout)
        };
        // A candidate's first vote is its own.
        Some(self.common.free_at(at))
    }

    /// The election timeout elapsed without a leader (§3.4); `Timeout` in the TLA+ specification.
    pub(super) fn timeout(&mut self) {
        self.common.restart_election_timer();
        self.common.count_campaign();
        if self.may_campaign() {
            self.become_pre_candidate();
        } else {
            self.common.draw_election_timeout();
            self.seek_lost();
        }
    }

    /// Learners have no vote (§4.2.1); a server that is taking in a snapshot or needs one, or whose
    /// disk hangs, would be no use as a leader. One that lost entries would not vote for itself.
    pub(super) fn may_campaign(&self) -> bool {
        let common = &self.common;
        let has_state = !common.is_restoring() && !common.lacks_state();
        common.is_electable() && has_state && !common.disk_is_stalled() && !common.lacks_entries()
    }

    /// §9.6: first asks whether it could win, so that a server that was cut off comes back without
    /// raising anybody's term.
    fn become_pre_candidate(&mut self) {
        self.become_follower(None);
        self.role = RoleState::PreCandidate(Candidate::new(VotePhase::PreVote));
    }

    /// §3.4: a new term, a vote for itself, and a fresh timeout.
    fn become_candidate(&mut self, phase: VotePhase) {
        self.common.count_campaign();
        self.become_follower(None);
        self.common.set_term(self.common.current_term.next());
        self.common.vote_for(self.common.id);
        self.common.heard_from_leader_at = None;
        self.common.restart_election_timer();
        self.role = RoleState::Candidate(Candidate::new(phase));
    }

    /// §3.4: a majority of one term's votes makes a leader.
    fn become_leader(&mut self) {
        assert!(self.role() == Role::Candidate, "only a candidate becomes leader");
        assert!(self.common.vote_is_durable(), "a leader's own vote is durable");
        assert!(
            !self.common.lacks_entries(),
            "who lacks what it may have acknowledged never leads"
        );
        self.common.forget_old_introductions();
        self.common.haste = None;
        self.role = RoleState::Leader(Box::new(Leader::new(&mut self.common)));
    }

    /// What a candidate can do by now: ask for votes, or take the next office.
    pub(super) fn settle_candidate(&mut self) {
        if let RoleState::PreCandidate(candidate) = &mut self.role {
            candidate.granted.insert(self.common.id);
            self.request_votes(self.common.current_term.next());
            if self.has_won() {
                self.become_candidate(VotePhase::Vote);
            }
        }
        // A candidate's own vote counts, and becomes known, only once it is durable (§3.8).
        if let RoleState::Candidate(candidate) = &mut self.role
            && self.common.vote_is_durable()
        {
            candidate.granted.insert(self.common.id);
            self.request_votes(self.common.current_term);
            if self.has_won() {
                self.become_leader();
            }
        }
    }

    fn has_won(&self) -> bool {
        match &self.role {
            RoleState::PreCandidate(candidate) | RoleState::Candidate(candidate) => {
                // Only voters of our configuration count, in both halves of a joint one (§4.3).
                self.common.log.configuration().has_quorum(|id| candidate.granted.contains(&id))
            }
            RoleState::Follower(_) | RoleState::Leader(_) => false,
        }
    }

    /// §3.4: the requests go to all voters in parallel, once a campaign.
    fn request_votes(&mut self, term: Term) {
        let (RoleState::PreCandidate(candidate) | RoleState::Candidate(candidate)) = &mut self.role
        else {
            return;
        };
        if candidate.has_asked {
            return;
        }
        candidate.has_asked = true;
        let (last_log, phase) = (self.common.log.last(), candidate.phase);
        let request = RequestVote { term, last_log, phase };
        let (own, configuration) = (self.common.id, Arc::clone(self.common.log.configuration()));
        for voter in configuration.voters().filter(|voter| *voter != own) {
            self.common.send(voter, Message::RequestVote(request));
        }
    }

    /// §4.2.3: a server that has heard from a leader within the minimum election timeout neither
    /// votes nor takes over the candidate's term. An election that the leader asked for is exempt
    /// (§3.10). Nor does one that has promised a leader not to (§6.4.1), whatever it was told of that
    /// leader since. Answers, and returns true, if the request is refused for this reason.
    pub(super) fn is_refused_as_disruptive(&mut self, from: NodeId, message: &Message) -> bool {
        let Message::RequestVote(request) = message else { return false };
        let is_bound = self.has_leader_now() || self.common.keeps_promise();
        if request.phase == VotePhase::Transfer || !is_bound {
            return false;
        }
        self.refuse_vote(from, request.phase);
        true
    }

    fn has_leader_now(&self) -> bool {
        match &self.role {
            RoleState::Leader(_) => true,
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                let timeout = self.common.options.election_timeout;
                self.common
                    .heard_from_leader_at
                    .is_some_and(|at| at.after(timeout) > self.common.now)
            }
        }
    }

    /// `HandleRequestVoteRequest` in the TLA+ specification.
    pub(super) fn handle_request_vote_request(&mut self, from: NodeId, request: RequestVote) {
        match request.phase {
            VotePhase::PreVote => self.handle_pre_vote_request(from, request),
            VotePhase::Vote | VotePhase::Transfer => self.handle_real_vote_request(from, request),
        }
    }

    /// §9.6: a promise of nothing: it changes no term, no vote and no timer.
    fn handle_pre_vote_request(&mut self, from: NodeId, request: RequestVote) {
        // §3.6.1
        let is_up_to_date = request.last_log >= self.common.last_promised();
        if request.term <= self.common.current_term || !is_up_to_date {
            self.refuse_vote(from, request.phase);
            return self.ask_candidate_for_lost(from);
        }
        let (term, phase) = (request.term, request.phase);
        let response = RequestVoteResponse { term, phase, granted: true };
        self.common.send(from, Message::RequestVoteResponse(response));
    }

    fn handle_real_vote_request(&mut self, from: NodeId, request: RequestVote) {
        // Figure 3.1, RequestVote rule 1: a stale term gets no vote (§3.3).
        let is_stale = request.term < self.common.current_term;
        // Figure 3.1, RequestVote rule 2: one vote a term, first come first served (§3.4) ...
        let is_free = self.common.voted_for.is_none_or(|given| given == from);
        // ... and only for a log at least as up-to-date as ours (§3.6.1).
        let is_up_to_date = request.last_log >= self.common.last_promised();
        if is_stale || !is_free || !is_up_to_date {
            self.refuse_vote(from, request.phase);
            return self.ask_candidate_for_lost(from);
        }
        // A candidate and a leader have voted for themselves: only a pre-candidate gives way here.
        if self.role() == Role::PreCandidate {
            self.become_follower(None);
        }
        let RoleState::Follower(follower) = &mut self.role else { return };
        follower.owes_vote_to = Some((from, request.phase));
        self.common.vote_for(from);
        // §3.4: granting a vote restarts the timer.
        self.common.take_time();
        self.common.restart_election_timer();
    }

    /// Who asks for votes is up and has no leader either, and may have some of what is lost here.
    fn ask_candidate_for_lost(&mut self, candidate: NodeId) {
        if self.leader().is_none() {
            self.common.ask_for_lost(candidate);
        }
    }

    fn refuse_vote(&mut self, to: NodeId, phase: VotePhase) {
        let term = self.common.current_term;
        let response = RequestVoteResponse { term, phase, granted: false };
        self.common.send(to, Message::RequestVoteResponse(response));
    }

    /// `HandleRequestVoteResponse` in the TLA+ specification. An answer to another campaign than
    /// the present one counts for nothing.
    pub(super) fn handle_request_vote_response(
        &mut self,
        from: NodeId,
        response: RequestVoteResponse,
    ) {
        let (candidate, term) = match &mut self.role {
            RoleState::PreCandidate(candidate) => (candidate, self.common.current_term.next()),
            RoleState::Candidate(candidate) => (candidate, self.common.current_term),
            RoleState::Follower(_) | RoleState::Leader(_) => return,
        };
        if response.granted && response.term == term && response.phase == candidate.phase {
            candidate.granted.insert(from);
        }
    }

    /// §3.10: the leader asks this server to campaign at once, without a pre-vote.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId, request: TimeoutNow) {
        let is_current = request.term == self.common.current_term;
        let RoleState::Follower(follower) = &self.role else { return };
        let is_leader = follower.leader.is_none_or(|leader| leader == from);
        if is_current && is_leader && self.may_campaign() {
            self.become_candidate(VotePhase::Transfer);
        }
    }
}
