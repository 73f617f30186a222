//! Compares this node's replies with the others': tells windows, asks where a difference begins, and
//! has it noted if this node is the one that is wrong (decision 36). And asks a leader for the state,
//! where it was emptied. What counts as proof is decided next door.

use super::comparison::{Comparison, Differing};
use super::{Driver, Output, PeerMessage};
use crate::{Digest, DigestMessage, DigestNews, DigestRules};
use quorate_core::{LogIndex, NodeId, Time};
use std::sync::Arc;

/// So many sweeps are waited for an answer: a question or its answer may be lost.
const SWEEPS_OF_PATIENCE: u32 = 5;

impl Driver {
    /// Compares what is replied with the other nodes, by these rules.
    #[must_use]
    pub fn comparing(self, rules: DigestRules) -> Self {
        Self { comparison: Comparison::new(rules), ..self }
    }

    /// The members whose replies are known to be others than ours.
    #[must_use]
    pub const fn differing(&self) -> &Arc<[Differing]> {
        self.comparison.differing()
    }

    /// Windows were applied here: the others are told, learners too, which tell nobody.
    pub(super) fn finished_windows(
        &mut self,
        now: Time,
        digests: Vec<Digest>,
        outputs: &mut Vec<Output>,
    ) {
        for digest in digests {
            self.comparison.finished(&digest);
            let configuration = Arc::clone(self.raft.configuration());
            let id = self.raft.id();
            if configuration.is_voter(id) {
                let others = configuration.members.keys().filter(|other| **other != id);
                for to in others {
                    self.say(*to, digest.last, DigestNews::Hash(digest.hash()), outputs);
                }
            }
            let members = configuration.members.keys().copied();
            self.consider(now, digest.last, members, outputs);
        }
    }

    /// Another node speaks of a window.
    pub(super) fn digest_message(
        &mut self,
        now: Time,
        from: NodeId,
        message: DigestMessage,
        outputs: &mut Vec<Output>,
    ) {
        let DigestMessage { rules, incarnation, last, news } = message;
        if self.comparison.rules() != Some(rules) {
            return;
        }
        match news {
            DigestNews::Hash(hash) => {
                self.comparison.told((from, incarnation), last, hash, self.raft.configuration());
                self.consider(now, last, [from], outputs);
            }
            DigestNews::ListWanted => {
                if let Some(list) = self.comparison.list_of(last).map(<[u64]>::to_vec) {
                    self.say(from, last, DigestNews::List(list), outputs);
                }
            }
            DigestNews::List(hashes) => {
                self.comparison.listed(from, last, &hashes);
                self.note_divergence(now, outputs);
            }
        }
    }

    /// There is something new to compare.
    fn consider(
        &mut self,
        now: Time,
        last: LogIndex,
        with: impl IntoIterator<Item = NodeId>,
        outputs: &mut Vec<Output>,
    ) {
        for peer in self.comparison.compare(last, with) {
            self.say(peer, last, DigestNews::ListWanted, outputs);
        }
        let until = now.after(self.options.sweep_interval * SWEEPS_OF_PATIENCE);
        self.comparison.judge(last, self.raft.configuration(), until);
        self.note_divergence(now, outputs);
    }

    fn note_divergence(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if let Some(divergence) = self.comparison.take_divergence(now) {
            outputs.push(Output::NoteDivergence(divergence));
        }
    }

    fn say(&self, to: NodeId, last: LogIndex, news: DigestNews, outputs: &mut Vec<Output>) {
        let Some(rules) = self.comparison.rules() else { return };
        let incarnation = self.proposals.incarnation();
        let message = PeerMessage::Digest(DigestMessage { rules, incarnation, last, news });
        outputs.push(Output::Send { to, message });
    }

    /// When this has to be looked at next: a verdict waits for the place, or the state is to be fetched.
    pub(super) fn plan_comparison(&mut self, now: Time) {
        let waits = self.comparison.verdict.is_some_and(|verdict| !verdict.is_noted);
        let is_wanted = waits || self.raft.wants_state();
        if is_wanted && !self.raft.is_poisoned() {
            let next_at = now.after(self.options.sweep_interval);
            self.comparison.next_at.get_or_insert(next_at);
        }
    }

    /// Asks again for what was not answered.
    pub(super) fn tend_comparison(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.comparison.next_at.is_none_or(|next_at| next_at > now) {
            return;
        }
        self.comparison.next_at = None;
        self.note_divergence(now, outputs);
        let waits = self.comparison.verdict.is_some_and(|verdict| !verdict.is_noted);
        if let Some(last) = self.comparison.window_of_verdict().filter(|_| waits) {
            for witness in self.comparison.witnesses() {
                self.say(witness, last, DigestNews::ListWanted, outputs);
            }
        }
        let leader = self.raft.leader().filter(|leader| *leader != self.raft.id());
        if let Some(to) = leader.filter(|_| self.raft.wants_state()) {
            let at_least = self.raft.base().last_included.index;
            outputs.push(Output::Send { to, message: PeerMessage::StateWanted { at_least } });
        }
    }
}
