//! What a server lends to one whose log was damaged (decision 43): stretches of its log, or, if its own
//! log was damaged too, of what stands whole behind the damage. It decides nothing by that, and who
//! takes it judges by itself what was its own.

use super::Raft;
use super::common::Common;
use super::lost::lend;
use crate::{
    Effect, Entry, Lent, LoadFor, LoadRequest, LogId, LogIndex, LostEntries, LostEntriesResponse,
    Message, NodeId,
};

/// A stretch of our log that somebody had too.
struct Offer {
    /// What comes before it.
    previous: LogId,
    /// The last entry that the other is known to have had.
    reaches: LogId,
}

impl Raft {
    /// Somebody lost entries. A leader sends what is lacking as it does to any follower that is behind;
    /// all that it has to know is that the follower does not have what it once acknowledged.
    pub(super) fn handle_lost_entries_request(&mut self, from: NodeId, question: LostEntries) {
        if let Some((leader, common)) = self.leader_mut()
            && let Some(progress) = leader.progress.get_mut(&from)
        {
            let after = question.after;
            let is_stale = after.index < progress.match_index || !common.log.contains(after);
            if is_stale && progress.match_index > LogIndex::ORIGIN {
                let agreed = common.log.last_not_after(after.index, after.term);
                progress.lost_entries(agreed.map(|agreed| agreed.index).unwrap_or_default());
            }
            return;
        }
        self.common.lend_to(from, question);
        // Whom we do not know we cannot ask by ourselves: our log may have lost the configuration.
        if !self.common.log.configuration().members.contains_key(&from) && self.leader().is_none() {
            self.common.ask_for_lost(from);
        }
    }

    /// Entries that were asked for, for somebody or for ourselves, have been read from behind the damage.
    pub(super) fn handle_spares_loaded(&mut self, peer: NodeId, entries: Vec<Entry>) {
        if peer == self.common.id {
            return self.handle_own_spares(entries);
        }
        let Some(question) = self.common.questions.remove(&peer) else { return };
        let known = question.known;
        let is_known = |id: LogId| id.term == known.term && id.index <= known.index;
        let lent = lend(question.after, entries, is_known);
        self.common.answer_lost(peer, question, lent);
    }
}

impl Common {
    fn lend_to(&mut self, peer: NodeId, question: LostEntries) {
        let Some(offer) = self.offer(question) else {
            return self.lend_spares(peer, question);
        };
        let first = offer.previous.index.next();
        let max_bytes = self.options.append_bytes_max;
        if first < self.log.tail_first() {
            if self.note_question(peer, question) {
                let (purpose, last) = (LoadFor::Mending(peer), offer.reaches.index);
                self.effects.push(Effect::Load(LoadRequest { purpose, first, last, max_bytes }));
            }
            return;
        }
        let (entries, _) = self.log.collect(first, offer.reaches.index, max_bytes);
        self.lend_stretch(peer, question, &offer, entries);
    }

    /// Entries of our log were read from the disk. The log may be another one by now.
    pub(super) fn handle_loaded_for_mending(&mut self, peer: NodeId, entries: Vec<Entry>) {
        let Some(question) = self.questions.remove(&peer) else { return };
        let Some(offer) = self.offer(question) else { return };
        let first = entries.first().map(|entry| entry.log_id.index);
        let is_ours = entries.last().is_some_and(|last| self.log.contains(last.log_id));
        if first == Some(offer.previous.index.next()) && is_ours {
            self.lend_stretch(peer, question, &offer, entries);
        }
    }

    fn lend_stretch(
        &mut self,
        peer: NodeId,
        question: LostEntries,
        offer: &Offer,
        mut entries: Vec<Entry>,
    ) {
        entries.retain(|entry| entry.log_id.index <= offer.reaches.index);
        let (previous, reaches) = (Some(offer.previous), offer.reaches);
        self.answer_lost(peer, question, Some(Lent { previous, entries, reaches }));
    }

    /// What of our log the other had: everything up to the last entry of the term of `known` that is not
    /// behind that. From where the logs agree on; if ours shows that the other's end was not
    /// what it had, from before that.
    fn offer(&self, question: LostEntries) -> Option<Offer> {
        let LostEntries { after, known, .. } = question;
        let reaches = self.log.last_not_after(known.index, known.term)?;
        if reaches.term != known.term {
            return None;
        }
        let is_shared = after.index <= reaches.index && self.log.contains(after);
        let is_later = after.index >= reaches.index && after.term >= reaches.term;
        if is_later {
            return None;
        }
        let previous = if is_shared {
            after
        } else {
            self.log.last_not_after(after.index.min(reaches.index), after.term)?
        };
        Some(Offer { previous, reaches })
    }

    /// Our log does not help; what stands on our disk behind its damage may.
    fn lend_spares(&mut self, peer: NodeId, question: LostEntries) {
        if !self.lacks_entries() {
            return self.answer_lost(peer, question, None);
        }
        if self.note_question(peer, question) {
            let (first, max_bytes) = (question.after.index, self.options.append_bytes_max);
            self.effects.push(Effect::LoadSpares { peer, first, max_bytes });
        }
    }

    /// Returns whether nothing is being read for this peer already; it will ask again.
    fn note_question(&mut self, peer: NodeId, question: LostEntries) -> bool {
        let is_first = !self.questions.contains_key(&peer);
        if is_first {
            self.questions.insert(peer, question);
        }
        is_first
    }

    fn answer_lost(&mut self, peer: NodeId, question: LostEntries, lent: Option<Lent>) {
        let (term, after) = (self.current_term, question.after);
        let response = LostEntriesResponse { term, after, lent };
        self.send(peer, Message::LostEntriesResponse(response));
    }
}
