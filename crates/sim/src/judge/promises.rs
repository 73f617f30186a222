//! What a message promises of its sender's disk (§3.8), and what a leader believes of the disks of
//! others (§3.5): compared with the models of the disks. Knows nothing of what comes of it.

use super::Breach;
use super::durable::Durable;
use quorate_core::{
    AppendEntriesResponse, AppendOutcome, HardState, LogId, LogIndex, Message, NodeId, PeerState,
    ProgressStatus, Raft, RequestVoteResponse, Status, Term, VotePhase,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a leader was last seen to believe, by follower.
#[derive(Debug, Default)]
pub(super) struct Believed {
    term: Term,
    matched: BTreeMap<NodeId, LogIndex>,
    /// Whom it still served although they were no members any more.
    departing: BTreeSet<NodeId>,
    /// The version of its configuration.
    version: u64,
}

/// Looks at a message that `node` sends; `raft` is the state that it sends it from.
///
/// # Errors
///
/// [`Breach`] if its disk does not hold what the message says.
pub(super) fn check_sent(
    node: NodeId,
    to: NodeId,
    message: &Message,
    raft: &Raft,
    durable: &Durable,
) -> Result<(), Breach> {
    match message {
        Message::RequestVote(request) if request.phase != VotePhase::PreVote => {
            vote_is_durable(node, node, request.term, durable)
        }
        Message::RequestVoteResponse(RequestVoteResponse { term, phase, granted: true })
            if *phase != VotePhase::PreVote =>
        {
            vote_is_durable(node, to, *term, durable)
        }
        Message::AppendEntriesResponse(AppendEntriesResponse {
            term,
            outcome: AppendOutcome::Accepted { matched },
        }) => acknowledged_is_durable(node, *term, *matched, raft, durable),
        Message::RequestVote(_)
        | Message::RequestVoteResponse(_)
        | Message::AppendEntries(_)
        | Message::AppendEntriesResponse(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatResponse(_)
        | Message::InstallSnapshot(_)
        | Message::InstallSnapshotResponse(_)
        | Message::TimeoutNow(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_)
        | Message::NotAMember(_) => Ok(()),
    }
}

fn vote_is_durable(node: NodeId, to: NodeId, term: Term, durable: &Durable) -> Result<(), Breach> {
    let held = HardState { current_term: term, voted_for: Some(to) };
    let is_past = durable.hard_state.current_term > term;
    if durable.hard_state == held || is_past {
        return Ok(());
    }
    Err(Breach::VoteNotDurable { node, term, to })
}

fn acknowledged_is_durable(
    node: NodeId,
    term: Term,
    matched: LogIndex,
    raft: &Raft,
    durable: &Durable,
) -> Result<(), Breach> {
    if durable.hard_state.current_term < term {
        return Err(Breach::TermNotDurable {
            node,
            term,
            durable: durable.hard_state.current_term,
        });
    }
    // A later term may have truncated what was acknowledged in this one.
    let entry_term = raft.term_at(matched).filter(|_| raft.current_term() == term);
    let is_held = match entry_term {
        Some(entry_term) => durable.holds(LogId::new(entry_term, matched)),
        None => matched <= durable.last_index(),
    };
    if is_held {
        return Ok(());
    }
    Err(Breach::AckNotDurable { node, claimed: matched, durable: durable.last_index() })
}

impl Believed {
    /// Whoever is served no more, and comes again later, is believed in anew; after a pause that may
    /// be within one turn.
    pub(super) fn forget_others(&mut self, raft: &Raft, status: &Status) {
        let departed = std::mem::replace(&mut self.departing, raft.departing().collect());
        let members = &raft.configuration().members;
        let is_back = |id: &NodeId| departed.contains(id) && members.contains_key(id);
        // To leave and to come again takes two changes, which may be over between two looks.
        let version = raft.configuration().version;
        if std::mem::replace(&mut self.version, version).abs_diff(version) > 1 {
            self.matched.clear();
        }
        self.matched.retain(|id, _| status.progress.contains_key(id) && !is_back(id));
    }

    /// Looks at what a leader believes of a follower, whose disk is `durable`.
    ///
    /// # Errors
    ///
    /// [`Breach::FalseBelief`] if the disk does not hold what the leader counts on, if the leader
    /// forgets what it knew, or sends again what it knows to be there.
    pub(super) fn check(
        &mut self,
        raft: &Raft,
        follower: NodeId,
        progress: &ProgressStatus,
        durable: &Durable,
    ) -> Result<(), Breach> {
        if self.term != raft.current_term() {
            *self = Self { term: raft.current_term(), ..Self::default() };
        }
        let ProgressStatus { match_index, next_index, .. } = *progress;
        let known = self.matched.insert(follower, match_index).unwrap_or_default();
        // A follower that has heard of a later term may have truncated what it acknowledged.
        let is_ours = durable.hard_state.current_term <= self.term;
        let entry_term = raft.term_at(match_index).filter(|_| is_ours);
        let holds = |entry_term| durable.holds(LogId::new(entry_term, match_index));
        // Whoever is sent a snapshot is sent entries only behind it, wherever that will be.
        let is_by_snapshot = matches!(progress.state, PeerState::Snapshot { .. });
        let what = if !entry_term.is_none_or(holds) {
            "that it holds what it does not"
        } else if match_index < known {
            "less than it knew"
        } else if next_index <= match_index && !is_by_snapshot {
            "that it must be sent what it holds"
        } else {
            return Ok(());
        };
        let leader = raft.id();
        Err(Breach::FalseBelief { leader, follower, what, match_index, next_index })
    }
}
