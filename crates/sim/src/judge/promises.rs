//! What a message promises of its sender's disk (§3.8), and what a leader believes of the disks of
//! others (§3.5): compared with the models of the disks. Knows nothing of what comes of it.

use super::Breach;
use super::durable::Durable;
use quorate_core::{
    AppendEntriesResponse, AppendOutcome, HardState, InstallSnapshotResponse, LogId, LogIndex,
    Message, NodeId, PeerState, ProgressStatus, Raft, RequestVoteResponse, Status, Term, VotePhase,
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
    /// The disks that it had recorded.
    storages: BTreeMap<NodeId, u128>,
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
        // Of its term it promises nothing: what a snapshot holds is committed, and no leader of an
        // earlier term takes that away.
        Message::InstallSnapshotResponse(InstallSnapshotResponse {
            last_included,
            installed: true,
            ..
        }) => snapshot_is_durable(node, *last_included, durable),
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
        | Message::NotAMember(_)
        | Message::LostEntries(_)
        | Message::LostEntriesResponse(_) => Ok(()),
    }
}

/// Whether a message is a vote, its sender's own among them.
pub(super) const fn is_vote(message: &Message) -> bool {
    match message {
        Message::RequestVote(_) => true,
        Message::RequestVoteResponse(response) => response.granted,
        Message::AppendEntries(_)
        | Message::AppendEntriesResponse(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatResponse(_)
        | Message::InstallSnapshot(_)
        | Message::InstallSnapshotResponse(_)
        | Message::TimeoutNow(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_)
        | Message::NotAMember(_)
        | Message::LostEntries(_)
        | Message::LostEntriesResponse(_) => false,
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

fn snapshot_is_durable(node: NodeId, last: LogId, durable: &Durable) -> Result<(), Breach> {
    if durable.holds(last) {
        return Ok(());
    }
    Err(Breach::AckNotDurable { node, claimed: last.index, durable: durable.last_index() })
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
        // Of a learner with another disk it knows nothing.
        let storages = raft.configuration().storages.clone();
        let before = std::mem::replace(&mut self.storages, storages);
        let has_changed = |id: &NodeId| self.storages.get(id) != before.get(id);
        self.matched
            .retain(|id, _| status.progress.contains_key(id) && !is_back(id) && !has_changed(id));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::judge::by_hand::{appends, entry, follower, hard_state, log_id, node, three_voters};
    use quorate_core::{Entry, Persist, RequestVote};

    /// A disk with this term and vote, and this log.
    fn disk(term: u64, vote: Option<u64>, log: &[Entry]) -> Durable {
        let mut durable = Durable::default();
        durable.asked(&Persist { hard_state: Some(hard_state(term, vote)), ..appends(log) });
        durable.completed();
        durable
    }

    fn says(message: &Message, durable: &Durable) -> Result<(), Breach> {
        let raft = follower(1, 3, &three_voters(), &[entry(1, 1), entry(2, 3)]);
        check_sent(node(1), node(2), message, &raft, durable)
    }

    #[test]
    fn a_vote_is_durable_before_it_leaves() {
        let grants = |phase| {
            let term = Term::new(3);
            Message::RequestVoteResponse(RequestVoteResponse { term, phase, granted: true })
        };
        let asks = |phase| {
            Message::RequestVote(RequestVote { term: Term::new(3), last_log: LogId::ORIGIN, phase })
        };
        says(&grants(VotePhase::Vote), &disk(3, Some(2), &[])).unwrap();
        says(&grants(VotePhase::Vote), &disk(4, None, &[])).unwrap();
        says(&asks(VotePhase::Vote), &disk(3, Some(1), &[])).unwrap();
        says(&grants(VotePhase::PreVote), &disk(2, None, &[])).unwrap();
        says(&asks(VotePhase::PreVote), &disk(2, None, &[])).unwrap();
        for (message, vote) in [
            (grants(VotePhase::Vote), None),
            (grants(VotePhase::Transfer), Some(3)),
            (asks(VotePhase::Vote), None),
            (asks(VotePhase::Transfer), Some(2)),
        ] {
            for term in [2, 3] {
                let early = says(&message, &disk(term, vote, &[]));
                assert!(matches!(early, Err(Breach::VoteNotDurable { .. })), "{early:?}");
            }
        }
    }

    #[test]
    fn what_is_acknowledged_is_durable_and_so_is_its_term() {
        let acknowledges = |index| {
            let outcome = AppendOutcome::Accepted { matched: LogIndex::new(index) };
            let term = Term::new(3);
            Message::AppendEntriesResponse(AppendEntriesResponse { term, outcome })
        };
        let log = [entry(1, 1), entry(2, 3)];
        says(&acknowledges(2), &disk(3, None, &log)).unwrap();
        says(&acknowledges(1), &disk(3, None, &log[..1])).unwrap();
        for held in [&log[..1], &[entry(1, 1), entry(2, 2)][..]] {
            let early = says(&acknowledges(2), &disk(3, None, held));
            assert!(matches!(early, Err(Breach::AckNotDurable { .. })), "{early:?}");
        }
        let early = says(&acknowledges(2), &disk(2, None, &log));
        assert!(matches!(early, Err(Breach::TermNotDurable { .. })), "{early:?}");
    }

    #[test]
    fn a_snapshot_that_is_said_to_be_installed_is_durable() {
        let told = |installed| {
            let (term, last_included) = (Term::new(3), log_id(2, 3));
            Message::InstallSnapshotResponse(InstallSnapshotResponse {
                term,
                last_included,
                next_offset: 0,
                installed,
            })
        };
        let log = [entry(1, 1), entry(2, 3)];
        says(&told(true), &disk(3, None, &log)).unwrap();
        says(&told(false), &disk(3, None, &log[..1])).unwrap();
        let early = says(&told(true), &disk(3, None, &log[..1]));
        assert!(matches!(early, Err(Breach::AckNotDurable { .. })), "{early:?}");
    }

    fn progress(matched: u64, next: u64) -> ProgressStatus {
        ProgressStatus {
            match_index: LogIndex::new(matched),
            next_index: LogIndex::new(next),
            state: PeerState::Replicate,
            in_flight_count: 0,
            in_flight_bytes: 0,
            recently_active: true,
        }
    }

    #[test]
    fn a_leader_believes_what_is_so_and_forgets_nothing_of_it() {
        let log = [entry(1, 1), entry(2, 3), entry(3, 3)];
        let raft = follower(1, 3, &three_voters(), &log);
        // What is believed one after the other of a disk that holds two of the three entries.
        let believes = |beliefs: &[(u64, u64)], durable: &Durable| {
            let mut believed = Believed::default();
            let mut each = beliefs.iter();
            each.try_for_each(|(matched, next)| {
                believed.check(&raft, node(2), &progress(*matched, *next), durable)
            })
        };
        let two = disk(3, None, &log[..2]);
        believes(&[(0, 1), (1, 3), (2, 4), (2, 3)], &two).unwrap();
        for (beliefs, said) in [
            (&[(3, 4)][..], "that it holds what it does not"),
            (&[(2, 3), (1, 2)][..], "less than it knew"),
            (&[(2, 2)][..], "that it must be sent what it holds"),
        ] {
            let wrong = believes(beliefs, &two);
            let is_said = matches!(wrong, Err(Breach::FalseBelief { what, .. }) if what == said);
            assert!(is_said, "{wrong:?}");
        }
        let other = disk(3, None, &[entry(1, 1), entry(2, 2)]);
        assert!(believes(&[(2, 3)], &other).is_err(), "another entry at that index");
        let later = disk(4, None, &[entry(1, 1)]);
        believes(&[(2, 3)], &later).unwrap();
        assert!(two.holds(log_id(2, 3)));
    }
}
