//! Answers that were made and that their clients have not taken yet: how many bytes they may be, over
//! all connections. One more is not kept but refused: the server says no before its memory does. Must
//! not know what an answer says.

use crate::errors::Rejection;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers below this size need no place: how many there can be is bounded by the limits of streams
/// and connections.
pub(crate) const LARGE_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Unread {
    bytes_max: usize,
    bytes: AtomicUsize,
}

/// Room for an answer; dropping it makes room for others.
#[derive(Debug)]
pub(crate) struct UnreadPlace {
    unread: Arc<Unread>,
    bytes: usize,
}

impl Unread {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicUsize::new(0) })
    }

    /// Room for that many bytes, if there is. An answer that is larger than everything may be is there
    /// alone.
    pub(crate) fn place(self: &Arc<Self>, bytes: usize) -> Result<UnreadPlace, Rejection> {
        let bytes = bytes.min(self.bytes_max);
        let place = UnreadPlace { unread: Arc::clone(self), bytes };
        // Relaxed suffices: the counter orders nothing but itself.
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max {
            // Dropping the place takes the addition back.
            drop(place);
            return Err(Rejection::TooManyRequests);
        }
        Ok(place)
    }

    /// How many bytes have a place.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for UnreadPlace {
    fn drop(&mut self) {
        self.unread.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_room_returns() {
        let unread = Unread::new(100);
        let first = unread.place(60).unwrap();
        assert!(matches!(unread.place(41), Err(Rejection::TooManyRequests)));
        let second = unread.place(40).unwrap();
        assert_eq!(unread.bytes(), 100);
        drop((first, second));
        assert_eq!(unread.bytes(), 0);
    }

    #[test]
    fn an_answer_larger_than_the_limit_is_there_alone() {
        let unread = Unread::new(100);
        let one = unread.place(1).unwrap();
        assert!(unread.place(1000).is_err());
        drop(one);
        let large = unread.place(1000).unwrap();
        assert!(unread.place(1).is_err());
        drop(large);
        assert!(unread.place(1).is_ok());
    }
}
