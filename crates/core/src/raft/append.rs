//! AppendEntries, the receiver's side (§3.5, Figure 3.1). The parent takes the decisions in the
//! order of the figure; whether an answer may leave is the business of `follower`.

use super::common::{Common, Poison};
use super::{LOG_INDEX_MAX, Raft, RoleState};
use crate::configuration::VERSION_MAX;
use crate::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ConflictHint, Entry, LogId, LogIndex,
    Message, NodeId, Payload,
};

/// How the entries of a request relate to our log, which contains their `prev_log`.
enum Agreement {
    /// Every entry is there already.
    Complete,
    /// The entries from this place in the request on are new, and our log ends before them.
    Extends(usize),
    /// The entry at this place in the request contradicts ours.
    Conflicts(usize, LogId),
}

impl Raft {
    /// `HandleAppendEntriesRequest` in the TLA+ specification.
    pub(super) fn handle_append_entries_request(&mut self, from: NodeId, request: AppendEntries) {
        if !is_well_formed(&request) {
            return;
        }
        // Figure 3.1, AppendEntries rule 1: a stale leader is told the term (§3.3).
        if request.term < self.common.current_term {
            return self.answer_append(from, AppendOutcome::StaleTerm);
        }
        if !self.recognize_leader(from) {
            return;
        }
        // Figure 3.1, AppendEntries rule 2: the consistency check (§3.5).
        let Some(request) = self.common.above_base(from, request) else { return };
        if !self.common.log.contains(request.prev_log) {
            let hint = self.common.conflict_hint(request.prev_log);
            let prev_index = request.prev_log.index;
            // A leader never looks behind what this server once acknowledged, unless it is told to.
            self.common.ask_for_lost(from);
            return self.answer_append(from, AppendOutcome::Rejected { prev_index, hint });
        }
        let last_new = request.last_index();
        let leader_commit = request.leader_commit;
        self.common.take_entries(from, request);
        if self.common.poison.is_some() {
            return;
        }
        // Figure 3.1, AppendEntries rule 5: never beyond what this request has proven equal.
        self.common.commit_through(leader_commit.min(last_new));
        let durable_index = self.common.persistence.durable_index();
        if let RoleState::Follower(follower) = &mut self.role {
            follower.matched = follower.matched.max(last_new);
            // One answer a request: the part that is durable already is told with the rest.
            let durable = follower.matched.min(durable_index);
            follower.acknowledged = follower.acknowledged.max(durable);
            follower.owes_append_answer = true;
        }
    }

    /// Whether `from` is the one leader of the current term; makes this server its follower (§3.4).
    pub(super) fn recognize_leader(&mut self, from: NodeId) -> bool {
        let term = self.common.current_term;
        let known = match &mut self.role {
            RoleState::Leader(_) => Some(self.common.id),
            RoleState::Follower(follower) => {
                let known = *follower.leader.get_or_insert(from);
                (known != from).then_some(known)
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.become_follower(Some(from));
                None
            }
        };
        if let Some(known) = known {
            self.common.poison = Some(Poison::TwoLeaders { term, known, other: from });
            return false;
        }
        self.common.heard_from_leader_at = Some(self.common.now);
        self.common.take_time();
        self.common.restart_election_timer();
        true
    }

    fn answer_append(&mut self, to: NodeId, outcome: AppendOutcome) {
        let response = AppendEntriesResponse { term: self.common.current_term, outcome };
        self.common.send(to, Message::AppendEntriesResponse(response));
    }
}

impl Common {
    /// The part of a request above the base of our log: what lies below is committed, so the
    /// leader has the same there. `None`, and poison, if it does not.
    fn above_base(&mut self, leader: NodeId, mut request: AppendEntries) -> Option<AppendEntries> {
        let base = self.log.base().last_included;
        if request.prev_log.index >= base.index {
            return Some(request);
        }
        let is_covered = |entry: &&Entry| entry.log_id.index <= base.index;
        let covered = request.entries.iter().take_while(is_covered).count();
        if let Some(last) = request.entries.drain(..covered).last()
            && last.log_id.index == base.index
            && last.log_id != base
        {
            let (received, commit_index) = (last.log_id, self.commit_index);
            self.poison = Some(Poison::CommittedConflict { leader, received, commit_index });
            return None;
        }
        request.prev_log = base;
        Some(request)
    }

    /// Where a leader whose `prev_log` we lack should look next: no later entry of ours can match
    /// (§3.5, end).
    fn conflict_hint(&self, prev_log: LogId) -> ConflictHint {
        let candidate = self.log.last_not_after(prev_log.index, prev_log.term);
        ConflictHint { candidate: candidate.unwrap_or(self.log.base().last_included) }
    }

    /// Appends what is new. A conflicting entry goes, with all that follow it, but nothing else
    /// does: a late request must not undo a newer one.
    fn take_entries(&mut self, leader: NodeId, mut request: AppendEntries) {
        let new_from = match self.agreement(&request.entries) {
            Agreement::Complete => return,
            Agreement::Extends(place) => place,
            Agreement::Conflicts(place, received) => {
                // Leader Completeness (§3.6): a leader has every committed entry.
                if received.index <= self.commit_index {
                    let commit_index = self.commit_index;
                    self.poison =
                        Some(Poison::CommittedConflict { leader, received, commit_index });
                    return;
                }
                // Figure 3.1, AppendEntries rule 3: a conflicting entry, and all after it (§3.5).
                self.truncate_after(received.index.previous().unwrap_or_default());
                place
            }
        };
        // Figure 3.1, AppendEntries rule 4: append what is not in the log yet (§3.5).
        if new_from > 0 {
            request.entries.drain(..new_from);
        }
        self.append(request.entries);
    }

    fn agreement(&self, entries: &[Entry]) -> Agreement {
        let Some(last) = entries.last() else { return Agreement::Complete };
        // Log Matching (§3.5): the same last entry means that all before it are the same.
        if self.log.contains(last.log_id) {
            return Agreement::Complete;
        }
        if entries.first().is_some_and(|first| first.log_id.index > self.log.last().index) {
            return Agreement::Extends(0);
        }
        let differs = |entry: &Entry| !self.log.contains(entry.log_id);
        match entries.iter().enumerate().find(|(_, entry)| differs(entry)) {
            None => Agreement::Complete,
            Some((place, entry)) if entry.log_id.index > self.log.last().index => {
                Agreement::Extends(place)
            }
            Some((place, entry)) => Agreement::Conflicts(place, entry.log_id),
        }
    }
}

impl AppendEntries {
    /// The last entry that the request speaks of.
    fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.prev_log.index, |entry| entry.log_id.index)
    }
}

/// The gate: entries follow `prev_log` and each other without a gap, in terms that do not fall and
/// are not above the leader's, at indexes that a log can have, with configurations that there can be.
fn is_well_formed(request: &AppendEntries) -> bool {
    let mut previous = request.prev_log;
    if previous.index > LOG_INDEX_MAX {
        return false;
    }
    for Entry { log_id, payload } in &request.entries {
        if log_id.index != previous.index.next() || log_id.term < previous.term {
            return false;
        }
        if matches!(payload, Payload::Configuration(members) if members.version > VERSION_MAX) {
            return false;
        }
        previous = *log_id;
    }
    previous.term <= request.term
}
