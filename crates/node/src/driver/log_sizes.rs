//! How large the log is up to which entry, and how long it took to apply that: in steps, so that what
//! is remembered stays small however long the log is. Must not know what is done about it.

use quorate_core::{LogIndex, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// When there are more marks than this, every second one is forgotten.
const MARKS_COUNT_MAX: usize = 256;

/// An applied entry, and what was applied up to it since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) index: LogIndex,
    pub(super) bytes: u64,
    /// How long the state machine was busy.
    pub(super) busy: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LogSizes {
    /// Rising; never empty.
    marks: VecDeque<Mark>,
    /// Handed to the state machine and not applied: the last index, and the bytes up to it.
    handed: VecDeque<(LogIndex, u64)>,
    handed_bytes: u64,
    busy_since: Option<Time>,
}

impl LogSizes {
    /// Nothing is known of the log up to `applied`.
    pub(super) fn new(applied: LogIndex) -> Self {
        let mark = Mark { index: applied, bytes: 0, busy: Duration::ZERO };
        Self { marks: [mark].into(), handed: VecDeque::new(), handed_bytes: 0, busy_since: None }
    }

    /// Entries up to `last` are handed to the state machine.
    pub(super) fn applying(&mut self, now: Time, last: LogIndex, size_bytes: usize) {
        self.handed_bytes += u64::try_from(size_bytes).unwrap_or(u64::MAX);
        self.handed.push_back((last, self.handed_bytes));
        self.busy_since.get_or_insert(now);
    }

    /// The state machine has applied everything up to `index`.
    pub(super) fn applied(&mut self, now: Time, index: LogIndex) {
        let mut bytes = None;
        while let Some((_, up_to)) = self.handed.pop_front_if(|(last, _)| *last <= index) {
            bytes = Some(up_to);
        }
        let (Some(bytes), Some(before)) = (bytes, self.marks.back()) else { return };
        let busy = before.busy + self.busy_since.map_or(Duration::ZERO, |since| now.since(since));
        self.busy_since = (!self.handed.is_empty()).then_some(now);
        self.marks.push_back(Mark { index, bytes, busy });
        if self.marks.len() > MARKS_COUNT_MAX {
            let last = self.marks.len() - 1;
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place % 2 == 1 || place > last
            });
        }
    }

    /// The state machine was replaced by a snapshot.
    pub(super) fn restarted(&mut self, index: LogIndex) {
        *self = Self::new(index);
    }

    /// Nobody will ask for anything before `index` any more.
    pub(super) fn released(&mut self, index: LogIndex) {
        while self.marks.get(1).is_some_and(|next| next.index <= index) {
            self.marks.pop_front();
        }
    }

    /// What is known of the log up to `index`, as if all entries between two marks were alike.
    pub(super) fn at(&self, index: LogIndex) -> Mark {
        let place = self.marks.partition_point(|mark| mark.index <= index);
        let before = place.checked_sub(1).and_then(|place| self.marks.get(place));
        match (before.copied(), self.marks.get(place).copied()) {
            (Some(before), Some(after)) => {
                let (part, whole) =
                    (index.distance_from(before.index), after.index.distance_from(before.index));
                let share = |span: u128| span * u128::from(part) / u128::from(whole.max(1));
                let bytes = share(u128::from(after.bytes - before.bytes));
                let busy = share(after.busy.saturating_sub(before.busy).as_micros());
                Mark {
                    index,
                    bytes: before.bytes + u64::try_from(bytes).unwrap_or(u64::MAX),
                    busy: before.busy
                        + Duration::from_micros(u64::try_from(busy).unwrap_or(u64::MAX)),
                }
            }
            (Some(mark), None) | (None, Some(mark)) => Mark { index, ..mark },
            (None, None) => Mark { index, bytes: 0, busy: Duration::ZERO },
        }
    }

    /// The last entry before which there are no more than so many bytes less than up to `end`.
    pub(super) fn back(&self, end: LogIndex, bytes: u64) -> LogIndex {
        let least = self.at(end).bytes.saturating_sub(bytes);
        let place = self.marks.partition_point(|mark| mark.bytes < least);
        self.marks.get(place).map_or(end, |mark| mark.index.min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(value: u64) -> LogIndex {
        LogIndex::new(value)
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn sizes_and_times_are_known_between_marks_as_if_entries_were_alike() {
        let mut sizes = LogSizes::new(index(10));
        sizes.applying(at(1), index(20), 1000);
        sizes.applying(at(2), index(30), 3000);
        assert_eq!(sizes.at(index(30)).bytes, 0, "not applied");
        sizes.applied(at(3), index(20));
        sizes.applied(at(7), index(30));
        let known = |of| (sizes.at(index(of)).bytes, sizes.at(index(of)).busy.as_secs());
        assert_eq!([known(10), known(15), known(20)], [(0, 0), (500, 1), (1000, 2)]);
        assert_eq!([known(25), known(30), known(99)], [(2500, 4), (4000, 6), (4000, 6)]);
        assert_eq!(known(5), (0, 0), "before the start");
        assert_eq!(sizes.back(index(30), 3000), index(20));
        assert_eq!(sizes.back(index(30), 5000), index(10));
        assert_eq!(sizes.back(index(30), 0), index(30));
    }

    #[test]
    fn a_state_machine_that_waits_for_work_is_not_busy() {
        let mut sizes = LogSizes::new(index(0));
        sizes.applying(at(1), index(1), 10);
        sizes.applied(at(2), index(1));
        sizes.applying(at(100), index(2), 10);
        sizes.applied(at(103), index(2));
        assert_eq!(sizes.at(index(2)).busy.as_secs(), 4);
    }

    #[test]
    fn what_is_remembered_stays_small_and_the_ends_exact() {
        let mut sizes = LogSizes::new(index(0));
        for value in 1..=100_000 {
            sizes.applying(at(1), index(value), 10);
            sizes.applied(at(1), index(value));
        }
        assert!(sizes.marks.len() <= MARKS_COUNT_MAX);
        for value in [0, 1, 49_999, 99_999, 100_000] {
            assert_eq!(sizes.at(index(value)).bytes, 10 * value);
        }
        sizes.released(index(90_000));
        assert!(sizes.marks[0].index <= index(90_000) && sizes.marks[1].index > index(90_000));
        assert_eq!(sizes.at(index(95_000)).bytes, 950_000);
    }
}
