//! Whether a leader leaves office when it hears no quorum (check-quorum, §6.2). Keeps its own book
//! of who answered when; knows nothing of what the leader believes.

use super::Breach;
use quorate_core::{NodeId, Raft, Role, Term, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// When a leader last heard each member, in the world's time.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    term: Term,
    heard: BTreeMap<NodeId, Time>,
    deaf_since: Option<Time>,
}

impl Hearing {
    /// A turn at `now` is over, in which these answered in these terms.
    ///
    /// # Errors
    ///
    /// [`Breach::DeafLeader`] if the node leads although it has heard no quorum for an election
    /// timeout, and that for longer than two more: clocks differ, and a leader looks when its next
    /// heartbeat is due.
    pub(super) fn note(
        &mut self,
        raft: &Raft,
        answers: &[(NodeId, Term)],
        now: Time,
        election_timeout: Duration,
    ) -> Result<(), Breach> {
        if raft.role() != Role::Leader {
            self.deaf_since = None;
            return Ok(());
        }
        let term = raft.current_term();
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
        let answered = answers.iter().filter(|(_, answered)| *answered == term);
        self.heard.extend(answered.map(|(id, _)| (*id, now)));
        let configuration = raft.configuration();
        // Whoever is new has time to answer.
        self.heard.retain(|id, _| configuration.members.contains_key(id));
        for id in configuration.members.keys() {
            self.heard.entry(*id).or_insert(now);
        }
        let hears = |id| {
            let heard = self.heard.get(&id);
            id == raft.id() || heard.is_some_and(|at| at.after(election_timeout) > now)
        };
        if configuration.has_quorum(hears) {
            self.deaf_since = None;
            return Ok(());
        }
        let since = *self.deaf_since.get_or_insert(now);
        if now.since(since) <= 2 * election_timeout {
            return Ok(());
        }
        Err(Breach::DeafLeader { leader: raft.id(), term, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::by_hand::{follower, leader, node, three_voters};

    const TIMEOUT: Duration = Duration::from_millis(100);

    /// What is said of node 1 after so many timeouts, in each of which `answers` come.
    fn after(timeouts: u64, raft: &Raft, answers: &[(NodeId, Term)]) -> Result<(), Breach> {
        let mut hearing = Hearing::default();
        let at = |round| Time::from_micros(round * 100_000);
        (0..=timeouts).try_for_each(|round| hearing.note(raft, answers, at(round), TIMEOUT))
    }

    #[test]
    fn a_leader_that_hears_no_quorum_has_left_three_election_timeouts_later() {
        let raft = leader(3);
        assert!(after(3, &raft, &[]).is_ok());
        let deaf = after(4, &raft, &[]);
        assert!(matches!(deaf, Err(Breach::DeafLeader { .. })), "{deaf:?}");
        let late = after(4, &raft, &[(node(2), Term::new(3))]);
        assert!(matches!(late, Err(Breach::DeafLeader { .. })), "of another term: {late:?}");
        let stranger = after(4, &raft, &[(node(9), Term::new(4))]);
        assert!(matches!(stranger, Err(Breach::DeafLeader { .. })), "no member: {stranger:?}");
    }

    #[test]
    fn a_leader_that_is_answered_stays_and_a_follower_may_be_deaf() {
        assert!(after(40, &leader(3), &[(node(2), Term::new(4))]).is_ok());
        assert!(after(40, &follower(1, 3, &three_voters(), &[]), &[]).is_ok());
    }
}
