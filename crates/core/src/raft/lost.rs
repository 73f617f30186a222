//! A server whose log was damaged where its entries may be committed (decision 43): it knows with which
//! entry the log ended, its *horizon*, and holds what stands before the damage. It stays who it is. It
//! votes as if nothing were lost, so it promises nobody anything that it has not (§3.6.1); a leader
//! mends it as any follower that is behind; and while nobody leads it asks the others for what it lost.
//!
//! What it takes from others without a leader's word stands on two facts. Logs match (§3.5): who holds
//! an entry that we held holds before it what we held. And a leader only appends: an entry of a
//! term, below one of the same term that we held, was in our log. So its log only becomes again what
//! it was, and nothing is acknowledged, committed or decided by that.

use super::common::Common;
use super::{LOG_INDEX_MAX, Raft, RoleState};
use crate::configuration::VERSION_MAX;
use crate::explain::{LostWait, Reason};
use crate::{
    Effect, Entry, Lent, LogId, LogIndex, LostEntries, LostEntriesResponse, Message, NodeId,
    Payload,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a server with a damaged log knows of what it lost.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// The log ended with this entry, or before it.
    horizon: LogId,
    /// The first entry behind our log that stands whole on our own disk, if it has been found.
    nearest: Option<LogId>,
    /// Our own disk is being read.
    is_looking: bool,
    /// Rounds of questions: every other one goes by the nearest, if there is one.
    round_count: u64,
    /// Who has nothing that follows the present end of our log.
    empty_handed: BTreeSet<NodeId>,
}

impl Lost {
    pub(super) fn new(horizon: LogId) -> Self {
        let empty_handed = BTreeSet::new();
        Self { horizon, nearest: None, is_looking: false, round_count: 0, empty_handed }
    }

    /// Whether our log held this entry: it is of a term of which a later one is known to have been in it.
    fn held(&self, log_id: LogId) -> bool {
        let known = std::iter::once(self.horizon).chain(self.nearest);
        known.into_iter().any(|known| log_id.term == known.term && log_id.index <= known.index)
    }
}

impl Common {
    /// The last entry that counts when somebody wants our vote: what we lost we may have acknowledged.
    pub(super) fn last_promised(&self) -> LogId {
        let last = self.log.last();
        self.lost.as_ref().map_or(last, |lost| lost.horizon.max(last))
    }

    /// See [`Raft::lost`].
    pub(super) fn lost_horizon(&self) -> Option<LogId> {
        self.lost.as_ref().map(|lost| lost.horizon)
    }

    /// What is lost, as long as the log ends before it.
    fn lacking(&self) -> Option<&Lost> {
        self.lost.as_ref().filter(|lost| lost.horizon > self.log.last())
    }

    /// Whether the log still ends before what it once held.
    pub(crate) fn lacks_entries(&self) -> bool {
        self.lacking().is_some()
    }

    /// The question for what follows our log. Asked by the nearest entry in turns only: our own disk may
    /// have kept one that the log gave up again, and nobody else has.
    fn question(&self) -> Option<LostEntries> {
        let lost = self.lacking()?;
        let by_turns = lost.nearest.filter(|_| lost.round_count.is_multiple_of(2));
        let known = by_turns.unwrap_or(lost.horizon);
        Some(LostEntries { term: self.current_term, after: self.log.last(), known })
    }

    /// Asks somebody for what follows our log.
    pub(super) fn ask_for_lost(&mut self, peer: NodeId) {
        if let Some(question) = self.question() {
            self.send(peer, Message::LostEntries(question));
        }
    }

    /// Looks on our own disk for what stands whole behind the damage, from `first` on.
    fn look_for_spares(&mut self, first: LogIndex) {
        let Some(lost) = self.lost.as_mut().filter(|lost| !lost.is_looking) else { return };
        lost.is_looking = true;
        let max_bytes = self.options.append_bytes_max;
        self.effects.push(Effect::LoadSpares { peer: self.id, first, max_bytes });
    }

    /// Takes a stretch of somebody's log that our log had, as far as ours does not have it. Returns
    /// whether our log is another one now.
    fn take_lost(&mut self, lent: Lent) -> bool {
        let own = self.log.last();
        let Lent { previous, mut entries, .. } = lent;
        match previous {
            // Ours had another entry there: the damage hides that it was overwritten.
            Some(previous) if !self.log.contains(previous) => return self.back_up(previous),
            Some(_) => {}
            None => {
                let follows = |first: &Entry| {
                    // The leader of a term only appends: whoever had the second had the first.
                    let is_certain = own.term == first.log_id.term;
                    let is_base = own == self.log.base().last_included;
                    first.log_id.index == own.index.next() && (is_certain || is_base)
                };
                if !entries.first().is_some_and(follows) {
                    return false;
                }
            }
        }
        let held = entries.iter().take_while(|entry| self.log.contains(entry.log_id)).count();
        entries.drain(..held);
        let Some(first) = entries.first().map(|entry| entry.log_id.index) else { return false };
        let before = first.previous().unwrap_or_default();
        if before > own.index || before < self.commit_index {
            return false;
        }
        if before < own.index {
            self.truncate_after(before);
        }
        self.append(entries);
        true
    }

    /// Our log held `not_ours`, and has something else in its place, or an entry of a later term before
    /// it: it goes back to where they may agree (§3.5, end).
    fn back_up(&mut self, not_ours: LogId) -> bool {
        let last = self.log.last().index;
        let Some(before) = not_ours.index.previous().filter(|before| *before < last) else {
            return false;
        };
        let agreed = self.log.last_not_after(before, not_ours.term);
        let Some(agreed) = agreed.filter(|agreed| agreed.index >= self.commit_index) else {
            return false;
        };
        self.truncate_after(agreed.index);
        true
    }

    /// Our log has moved on, or back: what others said of its end is of the past.
    fn note_progress(&mut self) {
        let own = self.log.last();
        let Some(lost) = &mut self.lost else { return };
        lost.empty_handed.clear();
        lost.nearest = lost.nearest.filter(|nearest| *nearest > own);
        if self.lacks_entries() {
            self.look_for_spares(own.index);
        }
    }

    /// See `explain.rs`.
    pub(super) fn explain_lost(&self, leader: Option<NodeId>) -> Option<Reason> {
        let lost = self.lacking()?;
        let first = self.log.last().index.next();
        let before_nearest = lost.nearest.and_then(|nearest| nearest.index.previous());
        let through = before_nearest.unwrap_or(lost.horizon.index).max(first);
        let others = self.log.configuration().members.keys().filter(|id| **id != self.id);
        let (without, asked): (Vec<_>, Vec<_>) =
            others.copied().partition(|id| lost.empty_handed.contains(id));
        let wait = match leader {
            Some(leader) => LostWait::Leader { leader },
            None if asked.is_empty() && !without.is_empty() => LostWait::Nobody { without },
            None => LostWait::Others { asked, without },
        };
        Some(Reason::Lost { first, last: through, wait })
    }
}

impl Raft {
    /// What this server lost is there again, durably, or a leader has decided otherwise: from now on it
    /// is as any other. Never by the index alone: an entry of an earlier term at the same place is
    /// not what it may have acknowledged.
    pub(super) fn settle_lost(&mut self) {
        let common = &mut self.common;
        let Some(lost) = &common.lost else { return };
        let durable = common.persistence.durable_index();
        let durable_last = common.log.term_at(durable).map(|term| LogId::new(term, durable));
        if durable_last.is_some_and(|last| last >= lost.horizon) {
            common.lost = None;
            // What the state machine had applied was committed, and is in this log.
            common.commit_through(common.applied_at_start);
        }
    }

    /// Nobody leads: asks everybody for what is lost, our own disk first.
    pub(super) fn seek_lost(&mut self) {
        if !self.common.lacks_entries() {
            return;
        }
        self.become_follower(None);
        self.common.look_for_spares(self.common.log.last().index);
        let members = &self.common.log.configuration().members;
        let others: Vec<NodeId> = members.keys().copied().filter(|id| *id != self.id()).collect();
        for peer in others {
            self.common.ask_for_lost(peer);
        }
        if let Some(lost) = &mut self.common.lost {
            lost.round_count = lost.round_count.wrapping_add(1);
        }
    }

    /// Whether our log may be mended without a leader's word: with one, only the leader writes to it.
    fn is_seeking(&self) -> bool {
        let is_follower =
            matches!(&self.role, RoleState::Follower(follower) if follower.leader.is_none());
        is_follower && self.common.lacks_entries()
    }

    /// Somebody lends us what we lost, or says that it has nothing of it.
    pub(super) fn handle_lost_entries_response(
        &mut self,
        from: NodeId,
        response: LostEntriesResponse,
    ) {
        if !self.is_seeking() {
            return;
        }
        let LostEntriesResponse { after, lent, .. } = response;
        let Some(lent) = lent else {
            if let Some(lost) = &mut self.common.lost
                && after == self.common.log.last()
            {
                lost.empty_handed.insert(from);
            }
            return;
        };
        let is_ours = self.common.lost.as_ref().is_some_and(|lost| lost.held(lent.reaches));
        if is_well_formed(&lent) && is_ours && self.common.take_lost(lent) {
            self.common.note_progress();
            self.common.ask_for_lost(from);
        }
    }

    /// What stands on our own disk behind our log.
    pub(super) fn handle_own_spares(&mut self, entries: Vec<Entry>) {
        if let Some(lost) = &mut self.common.lost {
            lost.is_looking = false;
        }
        if !self.is_seeking() {
            return;
        }
        let own = self.common.log.last();
        let Some(lost) = &mut self.common.lost else { return };
        let horizon = lost.horizon;
        let ids = entries.iter().map(|entry| entry.log_id);
        let later = ids.filter(|id| id.index > own.index && *id > own && *id <= horizon);
        lost.nearest = later.min_by_key(|id| id.index);
        let further = entries.last().filter(|_| lost.nearest.is_none());
        let further = further.map(|last| last.log_id.index.next());
        // They are remains of our own log; beyond the horizon nobody was told of them.
        if let Some(lent) = lend(own, entries, |id| id <= horizon)
            && is_well_formed(&lent)
            && self.common.take_lost(lent)
        {
            self.common.note_progress();
        } else if let Some(first) = further {
            self.common.look_for_spares(first);
        }
    }
}

/// What of `entries`, a stretch of some log, can be lent to whoever's log ends with `after`: up to
/// the last one that `is_known` to have been in its log.
pub(super) fn lend(
    after: LogId,
    mut entries: Vec<Entry>,
    is_known: impl Fn(LogId) -> bool,
) -> Option<Lent> {
    let count = entries.iter().rposition(|entry| is_known(entry.log_id))? + 1;
    entries.truncate(count);
    let reaches = entries.last()?.log_id;
    let first = entries.first()?.log_id;
    let previous = (first == after).then_some(after);
    if previous.is_some() {
        entries.remove(0);
    } else if first.index != after.index.next() {
        return None;
    }
    (!entries.is_empty()).then_some(Lent { previous, entries, reaches })
}

/// The gate: entries without a gap, in terms that do not fall, up to `reaches` at most, at indexes that
/// a log can have, with configurations that there can be.
fn is_well_formed(lent: &Lent) -> bool {
    let Lent { previous, entries, reaches } = lent;
    let mut before = *previous;
    for Entry { log_id, payload } in entries {
        let follows = before
            .is_none_or(|before| log_id.index == before.index.next() && log_id.term >= before.term);
        let is_possible =
            !matches!(payload, Payload::Configuration(members) if members.version > VERSION_MAX);
        if !follows || !is_possible || log_id.index == LogIndex::ORIGIN {
            return false;
        }
        before = Some(*log_id);
    }
    let Some(last) = before else { return false };
    let ends_there = last == *reaches || (last.index < reaches.index && last.term <= reaches.term);
    ends_there && reaches.index <= LOG_INDEX_MAX
}
