//! What will happen, in order of time; at equal times in the order of asking. It must not know what
//! the happenings mean.

use quorate_core::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue ordered by time, then by the order of insertion.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Slot<T>>>,
    inserted: u64,
}

#[derive(Debug)]
struct Slot<T> {
    at: Time,
    order: u64,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), inserted: 0 }
    }
}

impl<T> Queue<T> {
    /// Lets something happen at a time.
    pub(crate) fn push(&mut self, at: Time, what: T) {
        self.inserted += 1;
        self.heap.push(Reverse(Slot { at, order: self.inserted, what }));
    }

    /// When the next thing happens.
    #[must_use]
    pub(crate) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(slot)| slot.at)
    }

    /// Takes the next thing out.
    pub(crate) fn pop(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|Reverse(slot)| (slot.at, slot.what))
    }
}

impl<T> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for Slot<T> {}

impl<T> PartialOrd for Slot<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Slot<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_comes_first_and_ties_keep_their_order() {
        let mut queue = Queue::default();
        queue.push(Time::from_micros(2), "late");
        queue.push(Time::from_micros(1), "first");
        queue.push(Time::from_micros(1), "second");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, ["first", "second", "late"]);
    }
}
