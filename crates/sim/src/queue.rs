//! What will happen, in order of time; at equal times in the order of asking. It must not know what
//! the happenings mean.

use quorate_core::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue ordered by time, then by the order of insertion. What will happen lies still; only its
/// small tickets move in the heap.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Ticket>>,
    places: Vec<Option<T>>,
    free: Vec<usize>,
    inserted: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    at: Time,
    order: u64,
    place: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), inserted: 0 }
    }
}

impl<T> Queue<T> {
    /// Lets something happen at a time.
    pub(crate) fn push(&mut self, at: Time, what: T) {
        self.inserted += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(empty) => *empty = Some(what),
            None => self.places.push(Some(what)),
        }
        self.heap.push(Reverse(Ticket { at, order: self.inserted, place }));
    }

    /// When the next thing happens.
    #[must_use]
    pub(crate) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(ticket)| ticket.at)
    }

    /// Takes the next thing out.
    pub(crate) fn pop(&mut self) -> Option<(Time, T)> {
        let Reverse(Ticket { at, place, .. }) = self.heap.pop()?;
        self.free.push(place);
        self.places.get_mut(place).and_then(Option::take).map(|what| (at, what))
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
