//! Work for a thread that may block: many producers, one consumer that takes everything there is.
//! A burst wakes the consumer once. Knows nothing of the work but its size.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue between two threads. It accepts everything that is pushed: whoever produces is bounded
/// by the core's limits, and looks at [`Queue::size_bytes`] before it takes in more.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    /// Of what is queued, and of what the consumer took last and still works on.
    size_bytes: usize,
    taken_bytes: usize,
    is_closed: bool,
    is_waiting: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            items: Vec::new(),
            size_bytes: 0,
            taken_bytes: 0,
            is_closed: false,
            is_waiting: false,
        };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Adds an item that counts for `size_bytes`; gives it back if the queue is closed.
    pub(crate) fn push(&self, item: T, size_bytes: usize) -> Result<(), T> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(item);
        }
        state.items.push(item);
        state.size_bytes += size_bytes;
        let wake = std::mem::take(&mut state.is_waiting);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for items and moves all of them into `items`, which must be empty. Returns false once
    /// the queue is closed and everything was taken. What was taken before counts as done.
    pub(crate) fn take(&self, items: &mut Vec<T>) -> bool {
        let mut state = lock(&self.state);
        state.size_bytes -= std::mem::take(&mut state.taken_bytes);
        loop {
            if !state.items.is_empty() {
                std::mem::swap(&mut state.items, items);
                state.taken_bytes = state.size_bytes;
                return true;
            }
            if state.is_closed {
                return false;
            }
            state.is_waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_waiting = false;
        }
    }

    /// As [`Queue::take`], but gives up after `patience` without an item, with `items` empty.
    pub(crate) fn take_within(&self, items: &mut Vec<T>, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        state.size_bytes -= std::mem::take(&mut state.taken_bytes);
        if state.items.is_empty() && !state.is_closed {
            state.is_waiting = true;
            let waited = self.filled.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.is_waiting = false;
        }
        std::mem::swap(&mut state.items, items);
        state.taken_bytes = state.size_bytes;
        !(items.is_empty() && state.is_closed)
    }

    /// As [`Queue::take`], but takes what there is without waiting.
    pub(crate) fn take_now(&self, items: &mut Vec<T>) {
        let mut state = lock(&self.state);
        state.size_bytes -= std::mem::take(&mut state.taken_bytes);
        std::mem::swap(&mut state.items, items);
        state.taken_bytes = state.size_bytes;
    }

    /// What was taken is done: it does not count any more. For a consumer that reports its work
    /// before it comes back for more, so that whoever hears of it sees the size without it.
    pub(crate) fn done(&self) {
        let mut state = lock(&self.state);
        state.size_bytes -= std::mem::take(&mut state.taken_bytes);
    }

    /// The size of what is queued or being worked on.
    pub(crate) fn size_bytes(&self) -> usize {
        lock(&self.state).size_bytes
    }

    /// Takes no more; what is queued is still handed out.
    pub(crate) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.filled.notify_all();
    }
}

/// A lock whose holder panicked is still a lock: nothing in this room is left half-changed by code
/// that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_pushed_comes_out_at_once_and_in_order() {
        let queue = Queue::new();
        for number in 0..10 {
            queue.push(number, 1).unwrap();
        }
        let mut items = Vec::new();
        assert!(queue.take(&mut items));
        assert_eq!(items, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn work_counts_until_the_consumer_comes_back_for_more() {
        let queue = Queue::new();
        queue.push((), 100).unwrap();
        let mut items = Vec::new();
        queue.take(&mut items);
        queue.push((), 10).unwrap();
        assert_eq!(queue.size_bytes(), 110, "what is being worked on still counts");
        items.clear();
        queue.take(&mut items);
        assert_eq!(queue.size_bytes(), 10);
    }

    #[test]
    fn work_that_is_reported_done_counts_no_more() {
        let queue = Queue::new();
        queue.push((), 100).unwrap();
        queue.take(&mut Vec::new());
        queue.push((), 10).unwrap();
        queue.done();
        assert_eq!(queue.size_bytes(), 10);
    }

    #[test]
    fn a_consumer_that_only_waits_so_long_comes_back_with_nothing() {
        let queue = Queue::<()>::new();
        let mut items = Vec::new();
        assert!(queue.take_within(&mut items, Duration::ZERO));
        assert!(items.is_empty());
        queue.close();
        assert!(!queue.take_within(&mut items, Duration::ZERO));
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_no_more() {
        let queue = Queue::new();
        queue.push(1, 1).unwrap();
        queue.close();
        assert_eq!(queue.push(2, 1), Err(2));
        let mut items = Vec::new();
        assert!(queue.take(&mut items));
        assert_eq!(items, [1]);
        items.clear();
        assert!(!queue.take(&mut items));
    }

    #[test]
    fn a_waiting_consumer_is_woken_by_work_and_by_the_end() {
        let queue = Arc::new(Queue::new());
        let producer = Arc::clone(&queue);
        let consumer = std::thread::spawn(move || {
            let (mut items, mut sum) = (Vec::new(), 0);
            while queue.take(&mut items) {
                sum += items.drain(..).sum::<u64>();
            }
            sum
        });
        for number in 0..1000 {
            producer.push(number, 1).unwrap();
        }
        producer.close();
        assert_eq!(consumer.join().unwrap(), 499_500);
    }
}
