//! Which watchers want to hear of a key: a map for those that watch one key, a tree of intervals
//! for those that watch a range. Knows nothing of revisions.

use super::intervals::{End, Intervals};
use crate::view::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The hub's own name of a watcher. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatcherKey(pub(crate) u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RangeIndex {
    single: BTreeMap<Bytes, BTreeSet<WatcherKey>>,
    ranges: Intervals<BTreeSet<WatcherKey>>,
}

impl RangeIndex {
    pub(crate) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.ranges.is_empty()
    }

    pub(crate) fn insert(&mut self, range: &KeyRange, watcher: WatcherKey) {
        if let Some(end) = end_of(range) {
            self.ranges.update(&range.from, &end, |watchers| {
                watchers.insert(watcher);
            });
        } else {
            self.single.entry(range.from.clone()).or_default().insert(watcher);
        }
    }

    pub(crate) fn remove(&mut self, range: &KeyRange, watcher: WatcherKey) {
        let Some(end) = end_of(range) else {
            let Some(watchers) = self.single.get_mut(&range.from) else { return };
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.single.remove(&range.from);
            }
            return;
        };
        let Some(watchers) = self.ranges.get_mut(&range.from, &end) else { return };
        watchers.remove(&watcher);
        if watchers.is_empty() {
            self.ranges.remove(&range.from, &end);
        }
    }

    /// Calls `visit` with each watcher of `key`.
    pub(crate) fn watchers_of(&self, key: &[u8], mut visit: impl FnMut(WatcherKey)) {
        let mut visit_all = |watchers: &BTreeSet<WatcherKey>| {
            for watcher in watchers {
                visit(*watcher);
            }
        };
        if let Some(watchers) = self.single.get(key) {
            visit_all(watchers);
        }
        self.ranges.containing(key, &mut visit_all);
    }
}

/// Where a range ends; `None` if it is one key.
fn end_of(range: &KeyRange) -> Option<End> {
    match &range.end {
        RangeEnd::Single => None,
        RangeEnd::Before(end) => Some(End::Before(end.clone())),
        RangeEnd::Unbounded => Some(End::Never),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(&Bytes::from_static(from.as_bytes()), &Bytes::from_static(end.as_bytes()))
    }

    fn watchers(index: &RangeIndex, key: &str) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        index.watchers_of(key.as_bytes(), |watcher| assert!(found.insert(watcher.0)));
        found
    }

    #[test]
    fn a_key_is_watched_alone_in_a_range_and_to_the_end() {
        let mut index = RangeIndex::default();
        let ranges = [range("b", ""), range("a", "c"), range("b", "\0"), range("b", "")];
        for (number, range) in (0..).zip(&ranges) {
            index.insert(range, WatcherKey(number));
        }
        assert_eq!(watchers(&index, "b"), [0, 1, 2, 3].into());
        assert_eq!(watchers(&index, "a"), [1].into());
        assert_eq!(watchers(&index, "c"), [2].into());
        for (number, range) in (0..).zip(&ranges) {
            index.remove(range, WatcherKey(number));
        }
        assert!(index.is_empty());
    }
}
