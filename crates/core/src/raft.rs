//! The server: what it is, and how an event finds the rule that handles it. The rules are in the
//! rooms below; none of them does IO, reads a clock or waits.

mod append;
mod apply;
mod behaviour;
mod commit;
mod common;
mod configure;
mod election;
mod explain;
mod follower;
mod gone;
mod heartbeat;
mod install;
mod leader;
mod lease;
mod lend;
mod lost;
mod membership;
mod read;
mod replicate;
mod send_snapshot;
mod start;
mod status;
mod storages;
mod transfer;
mod versions;

use crate::{
    Configuration, Effect, Event, LogId, LogIndex, MembershipRefusal, Message, NodeId, PersistSeq,
    ProposalRefusal, ReadRefusal, Role, Term, Time, VotePhase,
};
use common::{Common, Introduction};
use election::Candidate;
use follower::Follower;
use leader::Leader;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(crate) use behaviour::time_left;
pub use common::Poison;
pub use start::StartError;
pub use status::{ProgressState as PeerState, ProgressStatus, Status};

/// No honest server is this many elections ahead. A term is never given up again, so one forged or
/// damaged message with a term near the end of its range would end all elections for ever.
const TERM_LEAP_MAX: u64 = 1 << 32;

/// No log is that long: a message that speaks of a later index is damaged or forged, and counting on
/// from there would overflow.
const LOG_INDEX_MAX: LogIndex = LogIndex::new(1 << 62);

/// One Raft server, as a deterministic function of the events that it is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raft {
    common: Common,
    role: RoleState,
}

/// What the server is at the moment, with the data that only this role has.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum RoleState {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Raft {
    /// Takes in one event at time `now` and appends what is to be done to `effects`. Never fails:
    /// what is malformed or out of date has no effect, and proof that the protocol is broken
    /// [poisons](Poison) the server.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        std::mem::swap(&mut self.common.effects, effects);
        self.common.now = self.common.now.max(now);
        if self.common.poison.is_none() {
            self.handle(event);
            self.settle();
        } else {
            self.refuse(event);
        }
        std::mem::swap(&mut self.common.effects, effects);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Message { from, message } => self.receive(from, message),
            Event::Propose(proposals) => self.client_request(proposals),
            Event::Read { id } => self.read(id, None),
            Event::ReadByLease { id, max_drift } => self.read(id, Some(max_drift)),
            Event::ClockJumped { by } => self.handle_clock_jumped(by),
            Event::Deadline => self.handle_deadline(),
            Event::Persisted { seq } => self.handle_persisted(seq),
            Event::Applied { index } => self.common.handle_applied(index),
            Event::Loaded { request, entries } => self.handle_loaded(request, entries),
            Event::SparesLoaded { peer, entries } => self.handle_spares_loaded(peer, entries),
            Event::Compact { through } => self.common.compact(through),
            Event::SnapshotReady { meta } => self.handle_snapshot_ready(meta),
            Event::SnapshotChunk { peer, last_included, offset, chunk, done } => {
                self.handle_snapshot_chunk(peer, last_included, offset, chunk, done);
            }
            Event::SnapshotGone { peer, last_included } => {
                self.handle_snapshot_gone(peer, last_included);
            }
            Event::SnapshotWritten { last_included, next_offset, complete } => {
                self.handle_snapshot_written(last_included, next_offset, complete);
            }
            Event::SnapshotRestored { last_included } => {
                self.handle_snapshot_restored(last_included);
            }
            Event::TransferLeadership { to } => self.handle_transfer_leadership(to),
            Event::ChangeMembership { id, command } => self.handle_change_membership(id, command),
            Event::DiskFailed => self.common.poison = Some(Poison::DiskFailed),
            Event::Diverged { index } => self.common.poison = Some(Poison::Diverged { index }),
            Event::StateWanted { peer, at_least } => self.handle_state_wanted(peer, at_least),
            Event::PeerGone { peer } => self.handle_peer_gone(peer),
            Event::SetOptions(options) => self.handle_options(*options),
            Event::Speaks { from, version } => {
                self.common.speaks.insert(from, version);
            }
            Event::Introduced { from, storage_id, is_proven } => {
                self.common.introduced.insert(from, Introduction { storage_id, is_proven });
            }
        }
    }

    /// After every event: whatever has become possible or due is done now. Handlers change state,
    /// this derives what follows, so that nothing can be forgotten on one path.
    fn settle(&mut self) {
        if self.common.poison.is_some() {
            return self.fall_silent();
        }
        self.settle_needless_restore();
        self.settle_lost();
        self.settle_candidate();
        self.settle_leader();
        self.common.flush_persist();
        self.settle_follower();
        self.common.apply_committed();
        self.common.evict();
        self.common.assert_consistent();
    }

    /// The one gate for messages: first the rules on terms, then the handler of the kind.
    fn receive(&mut self, from: NodeId, message: Message) {
        if from == self.common.id
            || self.is_refused_as_removed(from, &message)
            || self.is_refused_as_disruptive(from, &message)
        {
            return;
        }
        if message.term().get() > self.common.current_term.get().saturating_add(TERM_LEAP_MAX) {
            return;
        }
        if message.term() > self.common.current_term && message_raises_term(&message) {
            self.update_term(message.term());
        }
        match message {
            Message::RequestVote(request) => self.handle_request_vote_request(from, request),
            Message::RequestVoteResponse(response) => {
                self.handle_request_vote_response(from, response);
            }
            Message::AppendEntries(request) => self.handle_append_entries_request(from, request),
            Message::AppendEntriesResponse(response) => {
                self.handle_append_entries_response(from, response);
            }
            Message::Heartbeat(request) => self.handle_heartbeat_request(from, request),
            Message::HeartbeatResponse(response) => self.handle_heartbeat_response(from, response),
            Message::InstallSnapshot(request) => {
                self.handle_install_snapshot_request(from, request);
            }
            Message::InstallSnapshotResponse(response) => {
                self.handle_install_snapshot_response(from, response);
            }
            Message::TimeoutNow(request) => self.handle_timeout_now(from, request),
            Message::ReadIndex(request) => self.handle_read_index_request(from, request),
            Message::ReadIndexResponse(response) => self.handle_read_index_response(from, response),
            Message::NotAMember(message) => self.handle_not_a_member(message),
            Message::LostEntries(question) => self.handle_lost_entries_request(from, question),
            Message::LostEntriesResponse(response) => {
                self.handle_lost_entries_response(from, response);
            }
        }
    }

    /// §3.3: a server that sees a higher term takes it over and becomes a follower, whatever it
    /// was (`UpdateTerm` in the TLA+ specification).
    fn update_term(&mut self, term: Term) {
        assert!(term > self.common.current_term, "the term only grows");
        self.common.set_term(term);
        self.common.heard_from_leader_at = None;
        self.become_follower(None);
        self.common.let_others_run();
    }

    /// Leaves the present role; whoever waited for it is told.
    fn become_follower(&mut self, leader: Option<NodeId>) {
        self.refuse_reads(ReadRefusal::LeaderChanged);
        self.common.draw_election_timeout();
        self.role = RoleState::Follower(Follower::new(leader));
    }

    fn handle_deadline(&mut self) {
        match &self.role {
            RoleState::Leader(_) => self.handle_leader_deadline(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.expire_forwarded_reads();
                if self.election_deadline().is_some_and(|deadline| deadline <= self.common.now) {
                    self.timeout();
                }
            }
        }
    }

    fn handle_persisted(&mut self, seq: PersistSeq) {
        if self.common.persistence.complete(seq) {
            self.common.handle_reset_persisted();
        }
    }

    /// A poisoned server refuses what it is asked and is deaf to the rest.
    fn refuse(&mut self, event: Event) {
        match event {
            Event::Propose(proposals) => {
                for proposal in proposals {
                    self.common.refuse_proposal(proposal.id, ProposalRefusal::Poisoned);
                }
            }
            Event::Read { id } | Event::ReadByLease { id, .. } => {
                self.common.refuse_read(id, ReadRefusal::Poisoned);
            }
            Event::ChangeMembership { id, .. } => {
                let reason = MembershipRefusal::Poisoned;
                self.common.effects.push(Effect::MembershipRefused { id, reason });
            }
            Event::Message { .. }
            | Event::ClockJumped { .. }
            | Event::Deadline
            | Event::Persisted { .. }
            | Event::Applied { .. }
            | Event::Loaded { .. }
            | Event::SparesLoaded { .. }
            | Event::Compact { .. }
            | Event::SnapshotReady { .. }
            | Event::SnapshotChunk { .. }
            | Event::SnapshotGone { .. }
            | Event::SnapshotWritten { .. }
            | Event::SnapshotRestored { .. }
            | Event::TransferLeadership { .. }
            | Event::PeerGone { .. }
            | Event::SetOptions(_)
            | Event::DiskFailed
            | Event::Diverged { .. }
            | Event::StateWanted { .. }
            | Event::Speaks { .. }
            | Event::Introduced { .. } => {}
        }
    }

    /// At the moment of poisoning: pending reads are refused, nothing is sent any more. A leader
    /// whose disk or state has failed still calls its successor: that promises nothing, and needs
    /// neither.
    fn fall_silent(&mut self) {
        self.refuse_reads(ReadRefusal::Poisoned);
        self.common.effects.retain(|effect| !matches!(effect, Effect::Send { .. }));
        if let Some(Poison::DiskFailed | Poison::Diverged { .. }) = self.common.poison {
            self.call_successor();
        }
        self.role = RoleState::Follower(Follower::new(None));
    }

    /// When [`Event::Deadline`] is due next; `None` if nothing depends on time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.common.poison.is_some() {
            return None;
        }
        match &self.role {
            RoleState::Leader(leader) => Some(leader.next_deadline(&self.common)),
            RoleState::Follower(follower) => {
                let reads = follower.reads.next_deadline();
                self.election_deadline().into_iter().chain(reads).min()
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => self.election_deadline(),
        }
    }

    /// Who this is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.common.id
    }

    /// What it is at the moment.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.role {
            RoleState::Follower(_) => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// The latest term that it has seen.
    #[must_use]
    pub fn current_term(&self) -> Term {
        self.common.current_term
    }

    /// The leader of the current term, if known; this server itself, if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Leader(_) => Some(self.common.id),
            RoleState::Follower(follower) => follower.leader,
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// Everything up to here is known to be committed.
    #[must_use]
    pub fn commit_index(&self) -> LogIndex {
        self.common.commit_index
    }

    /// Everything up to here of its log is on its disk.
    #[must_use]
    pub fn durable_index(&self) -> LogIndex {
        self.common.persistence.durable_index()
    }

    /// The configuration in force: the latest in the log, committed or not (§4.1).
    #[must_use]
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.common.log.configuration()
    }

    /// The last entry of the log.
    #[must_use]
    pub fn last_log(&self) -> LogId {
        self.common.log.last()
    }

    /// The term of the entry at `index`; `None` outside of `base..=last_log`.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.common.log.term_at(index)
    }

    /// The last entry that the log is known to have held, if its end was lost and is not there again;
    /// until then the server votes as if it had it, and does not campaign.
    #[must_use]
    pub fn lost(&self) -> Option<LogId> {
        self.common.lost_horizon()
    }

    /// Whether it has seen proof of a broken protocol, or has lost its log, and takes part in nothing
    /// any more.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.common.poison.is_some()
    }
}

/// Pre-votes speak of a term that does not exist yet: only a refusal tells a real one (§9.6).
fn message_raises_term(message: &Message) -> bool {
    match message {
        Message::RequestVote(request) => request.phase != VotePhase::PreVote,
        Message::RequestVoteResponse(response) => {
            response.phase != VotePhase::PreVote || !response.granted
        }
        Message::AppendEntries(_)
        | Message::AppendEntriesResponse(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatResponse(_)
        | Message::InstallSnapshot(_)
        | Message::InstallSnapshotResponse(_)
        | Message::TimeoutNow(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_) => true,
        // It speaks of a configuration, not of an election; the receiver takes part in none.
        // Nor do those that speak of what was: they decide nothing.
        Message::NotAMember(_) | Message::LostEntries(_) | Message::LostEntriesResponse(_) => false,
    }
}
