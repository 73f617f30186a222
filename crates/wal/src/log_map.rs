//! Where the entries of the log are and which terms they have: a sparse map, whose size grows with
//! the log's bytes and not with its entries. Must not know files.

use quorate_core::{LogId, LogIndex, Term};

/// One mark is kept about every so many bytes of records.
pub(crate) const MARK_EVERY_BYTES: u64 = 64 << 10;

/// A known place: entry `first` stands at `position` of segment `segment`, and those after it
/// follow, up to the next mark's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) first: LogIndex,
    pub(crate) segment: u64,
    pub(crate) position: u64,
}

/// Something that cannot come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disorder {
    pub(crate) expected: LogId,
    pub(crate) found: LogId,
}

/// The map of the log after `start`, which is not part of it.
#[derive(Clone, Debug)]
pub(crate) struct LogMap {
    start: LogId,
    last: LogId,
    marks: Vec<Mark>,
    runs: Vec<(LogIndex, Term)>,
    bytes_since_mark: u64,
}

impl LogMap {
    /// An empty log that starts after `start`.
    pub(crate) const fn new(start: LogId) -> Self {
        Self { start, last: start, marks: Vec::new(), runs: Vec::new(), bytes_since_mark: 0 }
    }

    /// The last entry, or the start if there is none.
    pub(crate) const fn last(&self) -> LogId {
        self.last
    }

    /// What the log starts after.
    pub(crate) const fn start(&self) -> LogId {
        self.start
    }

    /// The first index of each run of entries with one term.
    pub(crate) fn runs(&self) -> &[(LogIndex, Term)] {
        &self.runs
    }

    /// The marks, in order.
    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The term of the entry at `index`; `None` if it is not in the log. The start counts.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index > self.last.index {
            return None;
        }
        // No run begins at or before the start, so below it there is none to find.
        let after = self.runs.partition_point(|&(first, _)| first <= index);
        self.runs.get(after.checked_sub(1)?).map(|&(_, term)| term)
    }

    /// Adds the entry that stands at `position` of `segment` and takes `size_bytes`.
    pub(crate) fn append(
        &mut self,
        log_id: LogId,
        segment: u64,
        position: u64,
        size_bytes: u64,
    ) -> Result<(), Disorder> {
        let expected = LogId::new(self.last.term, self.last.index.next());
        if log_id.index != expected.index || log_id.term < expected.term {
            return Err(Disorder { expected, found: log_id });
        }
        let is_near = self.marks.last().is_some_and(|mark| {
            mark.segment == segment && self.bytes_since_mark < MARK_EVERY_BYTES
        });
        if !is_near {
            self.marks.push(Mark { first: log_id.index, segment, position });
            self.bytes_since_mark = 0;
        }
        self.bytes_since_mark += size_bytes;
        if self.runs.last().is_none_or(|&(_, term)| term != log_id.term) {
            self.runs.push((log_id.index, log_id.term));
        }
        self.last = log_id;
        Ok(())
    }

    /// Drops every entry after `last`. Below the start this moves the start: replay meets
    /// truncations from before entries were released.
    pub(crate) fn truncate_after(&mut self, last: LogId) -> Result<(), Disorder> {
        let is_known = self.term_at(last.index).is_none_or(|term| term == last.term);
        if last.index > self.last.index || last.term > self.last.term || !is_known {
            return Err(Disorder { expected: self.last, found: last });
        }
        self.marks.truncate(self.marks.partition_point(|mark| mark.first <= last.index));
        self.runs.truncate(self.runs.partition_point(|&(first, _)| first <= last.index));
        self.last = last;
        if last.index < self.start.index {
            self.start = last;
        }
        // The next entry does not stand behind the one before it: it needs a mark of its own.
        self.bytes_since_mark = MARK_EVERY_BYTES;
        Ok(())
    }

    /// Lets the log start after `base`, which is in it or is its start.
    pub(crate) fn release(&mut self, base: LogId) {
        let first = base.index.next();
        if base.index >= self.last.index {
            self.marks.clear();
            self.runs.clear();
        } else {
            let passed = self.marks.partition_point(|mark| mark.first <= first);
            self.marks.drain(..passed.saturating_sub(1));
            let passed = self.runs.partition_point(|&(run, _)| run <= first);
            self.runs.drain(..passed.saturating_sub(1));
            if let Some(run) = self.runs.first_mut() {
                run.0 = first;
            }
        }
        self.start = base;
    }

    /// The segment in which the first entry stands; `None` if the log is empty.
    pub(crate) fn first_segment(&self) -> Option<u64> {
        self.marks.first().map(|mark| mark.segment)
    }

    /// The mark from which `index` can be reached, and the first entry of the mark after it.
    pub(crate) fn mark_before(&self, index: LogIndex) -> Option<(Mark, Option<LogIndex>)> {
        let after = self.marks.partition_point(|mark| mark.first <= index);
        let mark = *self.marks.get(after.checked_sub(1)?)?;
        Some((mark, self.marks.get(after).map(|next| next.first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term::new(term), LogIndex::new(index))
    }

    fn filled() -> LogMap {
        let mut map = LogMap::new(LogId::ORIGIN);
        for index in 1..=10 {
            let term = if index < 5 { 1 } else { 3 };
            map.append(id(term, index), 1, 4096 + index * 40_000, 40_000).unwrap();
        }
        map
    }

    #[test]
    fn an_entry_is_reached_from_the_mark_before_it() {
        let map = filled();
        assert!(map.marks().len() < 10, "sparse: {:?}", map.marks());
        for index in 1..=10 {
            let (mark, next) = map.mark_before(LogIndex::new(index)).unwrap();
            assert!(mark.first.get() <= index);
            assert!(next.is_none_or(|next| next.get() > index));
        }
    }

    #[test]
    fn an_entry_is_never_much_further_behind_its_mark_than_the_marks_are_apart() {
        let firsts: Vec<_> = filled().marks().iter().map(|mark| mark.first.get()).collect();
        assert_eq!(firsts, [1, 3, 5, 7, 9], "two entries of 40 kB pass 64 KiB");
        let mut map = LogMap::new(LogId::ORIGIN);
        for index in 1..=4 {
            map.append(id(1, index), 1, 4096 + index * MARK_EVERY_BYTES, MARK_EVERY_BYTES).unwrap();
        }
        assert_eq!(map.marks().len(), 4);
    }

    #[test]
    fn a_truncation_after_the_last_entry_drops_nothing() {
        let mut map = filled();
        let runs = map.runs().to_vec();
        map.truncate_after(id(3, 10)).unwrap();
        assert_eq!((map.last(), map.start(), map.runs()), (id(3, 10), LogId::ORIGIN, &runs[..]));
        map.truncate_after(LogId::ORIGIN).unwrap();
        assert_eq!((map.last(), map.start(), map.marks()), (LogId::ORIGIN, LogId::ORIGIN, &[][..]));
    }

    #[test]
    fn terms_survive_truncation_and_release() {
        let mut map = filled();
        assert_eq!(map.term_at(LogIndex::new(4)), Some(Term::new(1)));
        assert_eq!(map.term_at(LogIndex::new(11)), None);
        map.truncate_after(id(3, 6)).unwrap();
        map.append(id(4, 7), 1, 900_000, 40).unwrap();
        assert_eq!(map.mark_before(LogIndex::new(7)).unwrap().0.position, 900_000);
        map.release(id(3, 5));
        assert_eq!(map.term_at(LogIndex::new(5)), Some(Term::new(3)));
        assert_eq!(map.term_at(LogIndex::new(4)), None);
        assert_eq!(
            map.runs(),
            [(LogIndex::new(6), Term::new(3)), (LogIndex::new(7), Term::new(4))]
        );
    }

    #[test]
    fn an_entry_that_does_not_follow_is_refused() {
        let mut map = filled();
        assert!(map.append(id(3, 12), 1, 0, 40).is_err(), "a gap");
        assert!(map.append(id(3, 10), 1, 0, 40).is_err(), "an overwrite without truncation");
        assert!(map.append(id(2, 11), 1, 0, 40).is_err(), "a falling term");
        assert!(map.truncate_after(id(3, 11)).is_err(), "beyond the end");
        assert!(map.truncate_after(id(2, 6)).is_err(), "another entry than the log's");
    }
}
