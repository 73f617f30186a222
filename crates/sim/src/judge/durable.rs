//! What a node's disk holds for sure, as told by the completions of its writes: the terms of its
//! log and its hard state. A model kept beside the disk; it never looks at the disk itself.

use super::Breach;
use quorate_core::{Entry, HardState, LogId, LogIndex, NodeId, Persist, Term};
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

    /// The size of all entries in writes that are not known to be durable.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        let entries = self.in_flight.iter().flat_map(|persist| &persist.entries);
        entries.map(Entry::size_bytes).sum()
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

    /// What is on a disk that nobody has written to yet.
    pub(crate) fn of(found: Found) -> Self {
        let Found { hard_state, base, terms } = found;
        Self { hard_state, base, terms, in_flight: VecDeque::new() }
    }

    /// Takes over what recovery found after a crash.
    ///
    /// # Errors
    ///
    /// [`Breach`] if something durable is missing that no write under way could have removed.
    pub(crate) fn recovered(&mut self, node: NodeId, found: Found) -> Result<(), Breach> {
        self.check_hard_state(node, &found)?;
        self.check_log(node, &found)?;
        *self = Self::of(found);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::judge::by_hand::{appends, entry, hard_state, log_id, node};

    fn found(term: u64, vote: Option<u64>, terms: &[u64]) -> Found {
        let terms = terms.iter().map(|term| Term::new(*term)).collect();
        Found { hard_state: hard_state(term, vote), base: LogId::ORIGIN, terms }
    }

    /// Term 2, a vote for node 1, and entries 1 of term 1, 2 and 3 of term 2.
    fn durable() -> Durable {
        let mut durable = Durable::default();
        let log = [entry(1, 1), entry(2, 2), entry(3, 2)];
        durable.asked(&Persist { hard_state: Some(hard_state(2, Some(1))), ..appends(&log) });
        durable.completed();
        durable
    }

    fn finds(durable: &Durable, found: Found) -> Result<(), Breach> {
        durable.clone().recovered(node(1), found)
    }

    #[test]
    fn term_and_vote_are_found_again() {
        finds(&durable(), found(2, Some(1), &[1, 2, 2])).unwrap();
        for (term, vote) in [(1, Some(1)), (2, None), (2, Some(3)), (3, None)] {
            let lost = finds(&durable(), found(term, vote, &[1, 2, 2]));
            assert!(matches!(lost, Err(Breach::HardStateLost { .. })), "{lost:?}");
        }
    }

    #[test]
    fn durable_entries_are_found_again() {
        for (terms, index) in [(&[1, 2][..], 3), (&[][..], 1), (&[1, 1, 2][..], 2)] {
            let lost = finds(&durable(), found(2, Some(1), terms));
            let is_said = matches!(lost, Err(Breach::DurableEntryLost { expected, .. })
                if expected.index == LogIndex::new(index));
            assert!(is_said, "{lost:?}");
        }
    }

    #[test]
    fn of_a_write_under_way_anything_may_be_found_and_nothing_before_it_be_missing() {
        let mut durable = durable();
        let after = Some(LogIndex::new(2));
        let instead = Persist { truncate_after: after, ..appends(&[entry(3, 4), entry(4, 4)]) };
        durable.asked(&Persist { hard_state: Some(hard_state(4, None)), ..instead });
        for terms in [&[1, 2, 2][..], &[1, 2][..], &[1, 2, 4][..], &[1, 2, 4, 4][..]] {
            finds(&durable, found(4, None, terms)).unwrap();
        }
        finds(&durable, found(2, Some(1), &[1, 2])).unwrap();
        let lost = finds(&durable, found(4, None, &[1]));
        assert!(matches!(lost, Err(Breach::DurableEntryLost { .. })), "{lost:?}");
        assert_eq!(durable.in_flight_bytes(), 2 * entry(3, 4).size_bytes());
        assert_eq!(durable.completed().log_ids, [log_id(3, 2)]);
        assert_eq!(durable.in_flight_bytes(), 0);
    }

    #[test]
    fn what_is_on_its_way_is_not_held_and_what_was_released_is() {
        let mut durable = durable();
        durable.asked(&appends(&[entry(4, 2)]));
        assert!(!durable.holds(log_id(4, 2)));
        durable.completed();
        assert!(durable.holds(log_id(4, 2)) && !durable.holds(log_id(4, 3)));
        durable.released(log_id(2, 2));
        assert!(durable.holds(log_id(1, 1)) && durable.holds(log_id(3, 2)));
        assert_eq!(durable.last_index(), LogIndex::new(4));
    }
}
