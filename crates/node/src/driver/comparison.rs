//! What this node and the others have told of their windows, who differs from whom, and whether this
//! node is the one that is wrong. Bounded: so many windows of each member. Must not know how anybody is
//! told, nor how a node ends.

use crate::{Digest, DigestRules, Divergence};
use quorate_core::{Configuration, LogIndex, NodeId, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// So many windows of each member are remembered.
const WINDOWS_COUNT_MAX: usize = 32;
/// Of so many of our own, the hash after each entry.
const LISTS_COUNT_MAX: usize = 2;

/// A member whose replies are others than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Who.
    pub peer: NodeId,
    /// The last index of the first window that showed it.
    pub window: LogIndex,
    /// The first entry that the two replied to differently; `None` as long as that is not known.
    pub index: Option<LogIndex>,
}

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, window, index } = self;
        match index {
            Some(index) => {
                write!(f, "node {peer} and this one reply differently from entry {index} on")
            }
            None => {
                write!(
                    f,
                    "node {peer} and this one replied differently at entry {window} or before"
                )
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Absent if nothing is compared.
    rules: Option<DigestRules>,
    /// When [`super::Input::Deadline`] is due for this.
    pub(super) next_at: Option<Time>,
    own: BTreeMap<LogIndex, u64>,
    lists: VecDeque<(LogIndex, Arc<[u64]>)>,
    told: BTreeMap<NodeId, Told>,
    differing: Arc<[Differing]>,
    /// In which of its lives each of these was found to differ: in another one it may have been rebuilt.
    found_in: BTreeMap<NodeId, u64>,
    pub(super) verdict: Option<Verdict>,
}

/// What a member has told.
#[derive(Debug, Default)]
struct Told {
    /// In which of its lives it did so last.
    incarnation: u64,
    windows: BTreeMap<LogIndex, u64>,
}

/// This node is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The last index of the window that proved it.
    last: LogIndex,
    own: u64,
    others: u64,
    /// Until then it is asked where that begins.
    pub(super) until: Time,
    /// It was passed on.
    pub(super) is_noted: bool,
}

impl Comparison {
    pub(super) fn new(rules: DigestRules) -> Self {
        let rules = (rules.window_count > 0).then_some(rules);
        Self { rules, ..Self::default() }
    }

    pub(super) const fn rules(&self) -> Option<DigestRules> {
        self.rules
    }

    pub(super) const fn differing(&self) -> &Arc<[Differing]> {
        &self.differing
    }

    /// A window was applied here.
    pub(super) fn finished(&mut self, digest: &Digest) {
        self.own.insert(digest.last, digest.hash());
        forget_the_oldest(&mut self.own);
        self.lists.push_back((digest.last, Arc::clone(&digest.list)));
        if self.lists.len() > LISTS_COUNT_MAX {
            self.lists.pop_front();
        }
    }

    /// Somebody told the hash of a window. Who is no member is not listened to: whoever asks is bounded.
    pub(super) fn told(
        &mut self,
        (from, incarnation): (NodeId, u64),
        last: LogIndex,
        hash: u64,
        configuration: &Configuration,
    ) {
        self.told.retain(|member, _| configuration.members.contains_key(member));
        if configuration.members.contains_key(&from) {
            let told = self.told.entry(from).or_default();
            told.incarnation = incarnation;
            told.windows.insert(last, hash);
            forget_the_oldest(&mut told.windows);
        }
    }

    /// The hash after each entry of a window of ours, if it is remembered.
    pub(super) fn list_of(&self, last: LogIndex) -> Option<&[u64]> {
        let (_, hashes) = self.lists.iter().find(|(of, _)| *of == last)?;
        Some(hashes)
    }

    /// Compares a window with what the members among these told of it. Returns whom to ask where the
    /// difference begins.
    pub(super) fn compare(
        &mut self,
        last: LogIndex,
        with: impl IntoIterator<Item = NodeId>,
    ) -> Vec<NodeId> {
        let Some(own) = self.own.get(&last).copied() else { return Vec::new() };
        let mut to_ask = Vec::new();
        for peer in with {
            let Some(told) = self.told.get(&peer) else { continue };
            let (incarnation, Some(hash)) = (told.incarnation, told.windows.get(&last)) else {
                continue;
            };
            if *hash == own {
                self.agrees(peer, incarnation, last);
                continue;
            }
            let known = self.differing.iter().find(|known| known.peer == peer);
            if known.is_none_or(|known| known.index.is_none()) {
                to_ask.push(peer);
            }
            if known.is_none() {
                let new = Differing { peer, window: last, index: None };
                self.differing = self.differing.iter().copied().chain([new]).collect();
                self.found_in.insert(peer, incarnation);
            }
        }
        to_ask
    }

    /// It agrees in a window that came later. In another of its lives that is taken for the end of the
    /// difference; in the same one the two states may differ where no reply shows it.
    fn agrees(&mut self, peer: NodeId, incarnation: u64, last: LogIndex) {
        let is_over = |known: &Differing| known.peer == peer && known.window < last;
        let is_another_life = self.found_in.get(&peer).is_some_and(|found| *found != incarnation);
        if is_another_life && self.differing.iter().any(is_over) {
            self.found_in.remove(&peer);
            self.differing = self.differing.iter().copied().filter(|it| !is_over(it)).collect();
        }
    }

    /// A member says what it had after each entry of a window in which we differ. What is no answer to
    /// our question is passed over.
    pub(super) fn listed(&mut self, from: NodeId, last: LogIndex, hashes: &[u64]) {
        let Some((rules, own)) = self.rules.zip(self.list_of(last)) else { return };
        let pairs = (rules.first_of(last).get()..).zip(own.iter().zip(hashes));
        let first = pairs.into_iter().find(|(_, (own, theirs))| own != theirs);
        let Some(index) = first.map(|(index, _)| LogIndex::new(index)) else { return };
        let mut differing = self.differing.to_vec();
        if let Some(known) = differing.iter_mut().find(|known| known.peer == from)
            && known.index.is_none()
        {
            known.index = Some(index);
            self.differing = differing.into();
        }
    }

    /// Whether a majority of the voters, of both halves of a joint configuration, told one hash of this
    /// window, and ours is another. Nobody's word but a majority's says who is wrong.
    pub(super) fn judge(&mut self, last: LogIndex, configuration: &Configuration, until: Time) {
        if self.verdict.is_some() {
            return;
        }
        let Some(own) = self.own.get(&last).copied() else { return };
        let of = |id: &NodeId| self.told.get(id).and_then(|told| told.windows.get(&last)).copied();
        let told: BTreeSet<u64> = self.told.keys().filter_map(of).collect();
        let is_of_many = |hash: &u64| configuration.has_quorum(|id| of(&id) == Some(*hash));
        if let Some(others) = told.into_iter().find(|hash| *hash != own && is_of_many(hash)) {
            self.verdict = Some(Verdict { last, own, others, until, is_noted: false });
        }
    }

    /// Who told what the majority has, of the window that proved us wrong.
    pub(super) fn witnesses(&self) -> Vec<NodeId> {
        let Some(Verdict { last, others, .. }) = self.verdict else { return Vec::new() };
        let is_one = |told: &Told| told.windows.get(&last) == Some(&others);
        self.told.iter().filter(|(_, told)| is_one(told)).map(|(id, _)| *id).collect()
    }

    /// Where the questions about the window that proved us wrong are about.
    pub(super) fn window_of_verdict(&self) -> Option<LogIndex> {
        self.verdict.map(|verdict| verdict.last)
    }

    /// What is to be noted, once: as soon as it is known where the difference begins, or when that was
    /// waited for long enough.
    pub(super) fn take_divergence(&mut self, now: Time) -> Option<Divergence> {
        let (rules, witnesses) = (self.rules?, self.witnesses());
        let of_witness = self.differing.iter().filter(|known| witnesses.contains(&known.peer));
        let index = of_witness.filter_map(|known| known.index).min();
        let verdict = self.verdict.as_mut().filter(|verdict| !verdict.is_noted)?;
        if index.is_none() && now < verdict.until {
            return None;
        }
        verdict.is_noted = true;
        let Verdict { last, own, others, .. } = *verdict;
        Some(Divergence { index: index.unwrap_or_else(|| rules.first_of(last)), own, others })
    }
}

fn forget_the_oldest(windows: &mut BTreeMap<LogIndex, u64>) {
    while windows.len() > WINDOWS_COUNT_MAX {
        windows.pop_first();
    }
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;
