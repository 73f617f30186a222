//! What a node's disk holds for sure, as told by the completions of its writes: the terms of its
//! log and its hard state. A model kept beside the disk; it never looks at the disk itself.

use super::Breach;
use quorate_core::{HardState, LogId, LogIndex, NodeId, Persist, Term};
use std::collections::{BTreeMap, VecDeque};

/// The durable part of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    pub(crate) hard_state: HardState,
    base: LogId,
    terms: VecDeque<Term>,
    /// Writes that were asked for and are not known to be durable, in their order.
    in_flight: VecDeque<Persist>,
}

/// What a write took out of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed {
    /// What is gone, not what was put back.
    pub(crate) log_ids: Vec<LogId>,
    /// The leader that wanted this was of this term or of a later one.
    pub(crate) term: Term,
}

/// What recovery found on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) hard_state: HardState,
    pub(crate) base: LogId,
    /// The term of each entry after the base.
    pub(crate) terms: VecDeque<Term>,
}

impl Durable {
    /// A write was asked for.
    pub(crate) fn asked(&mut self, persist: &Persist) {
        self.in_flight.push_back(persist.clone());
    }

    /// The oldest write is durable.
    pub(crate) fn completed(&mut self) -> Removed {
        let Some(persist) = self.in_flight.pop_front() else { return Removed::default() };
        let instead = persist.entries.first().map(|entry| entry.log_id.term);
        let term = self.hard_state.current_term.max(instead.unwrap_or_default());
        let mut log_ids = self.cut(&persist);
        for entry in &persist.entries {
            if entry.log_id.index == self.last_index().next() {
                self.terms.push_back(entry.log_id.term);
            }
        }
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        log_ids.retain(|log_id| !self.holds(*log_id));
        Removed { log_ids, term }
    }

    fn cut(&mut self, persist: &Persist) -> Vec<LogId> {
        let mut removed = Vec::new();
        if let Some(meta) = &persist.reset {
            let through = meta.last_included;
            removed.extend(self.log_ids().filter(|log_id| log_id.index > through.index));
            self.base = through;
            self.terms.clear();
        }
        if let Some(after) = persist.truncate_after {
            removed.extend(self.log_ids().filter(|log_id| log_id.index > after));
            let keep = after.distance_from(self.base.index);
            self.terms.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        removed
    }

    /// The log was released up to here.
    pub(crate) fn released(&mut self, base: LogId) {
        let count = base.index.distance_from(self.base.index);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.terms.len());
        self.terms.drain(..count);
        self.base = self.base.max(base);
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.base.index.plus(u64::try_from(self.terms.len()).unwrap_or(u64::MAX))
    }

    /// Whether it holds this entry, or a state that covers it.
    pub(crate) fn holds(&self, log_id: LogId) -> bool {
        log_id.index <= self.base.index || self.term_at(log_id.index) == Some(log_id.term)
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        let place = index.distance_from(self.base.index).checked_sub(1)?;
        self.terms.get(usize::try_from(place).ok()?).copied()
    }

    fn log_ids(&self) -> impl Iterator<Item = LogId> {
        (1..).zip(&self.terms).map(|(place, term)| LogId::new(*term, self.base.index.plus(place)))
    }

    /// Takes over what recovery found after a crash.
    ///
    /// # Errors
    ///
    /// [`Breach`] if something durable is missing that no write under way could have removed.
    pub(crate) fn recovered(&mut self, node: NodeId, found: Found) -> Result<(), Breach> {
        self.check_hard_state(node, &found)?;
        self.check_log(node, &found)?;
        let Found { hard_state, base, terms } = found;
        *self = Self { hard_state, base, terms, in_flight: VecDeque::new() };
        Ok(())
    }

    fn check_hard_state(&self, node: NodeId, found: &Found) -> Result<(), Breach> {
        let under_way = self.in_flight.iter().filter_map(|persist| persist.hard_state);
        let mut possible = std::iter::once(self.hard_state).chain(under_way);
        if possible.any(|state| state == found.hard_state) {
            return Ok(());
        }
        // A write may arrive in part: entries, and not the term they are of. Then that term is
        // taken up, without a vote: none of it can have left the node.
        let last_term = found.terms.back().copied().unwrap_or(found.base.term);
        let taken_up = HardState { current_term: last_term, voted_for: None };
        if found.hard_state == taken_up && last_term > self.hard_state.current_term {
            return Ok(());
        }
        let (expected, got) = (self.hard_state, found.hard_state);
        Err(Breach::HardStateLost { node, expected, got })
    }

    fn check_log(&self, node: NodeId, found: &Found) -> Result<(), Breach> {
        let mut expected: BTreeMap<LogIndex, Term> =
            self.log_ids().map(|log_id| (log_id.index, log_id.term)).collect();
        for persist in &self.in_flight {
            // What a write under way removes may be gone, what it adds may be there.
            let from = [
                persist.reset.as_ref().map(|_| LogIndex::ORIGIN),
                persist.truncate_after,
                persist.entries.first().and_then(|entry| entry.log_id.index.previous()),
            ];
            if let Some(after) = from.into_iter().flatten().min() {
                expected.split_off(&after.next());
            }
        }
        for (index, term) in expected.range(found.base.index.next()..) {
            let place = index.distance_from(found.base.index).saturating_sub(1);
            let got = usize::try_from(place).ok().and_then(|place| found.terms.get(place)).copied();
            if got != Some(*term) {
                let expected = LogId::new(*term, *index);
                return Err(Breach::DurableEntryLost { node, expected, got });
            }
        }
        Ok(())
    }
}
