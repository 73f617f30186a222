//! How much work may be in progress at once, in requests and in bytes: the server says no before
//! its memory does. Must not know what a request asks for.

use crate::errors::Rejection;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the requests in progress.
#[derive(Debug)]
pub(crate) struct Admission {
    bytes_max: usize,
    count_max: usize,
    bytes: AtomicUsize,
    count: AtomicUsize,
}

/// A place among the requests in progress; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl Admission {
    pub(crate) const fn new(bytes_max: usize, count_max: usize) -> Self {
        Self { bytes_max, count_max, bytes: AtomicUsize::new(0), count: AtomicUsize::new(0) }
    }

    /// How many bytes have a place.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Admits a request of that many bytes, if both limits allow it.
    pub(crate) fn admit(&self, bytes: usize) -> Result<Admitted<'_>, Rejection> {
        // Relaxed suffices: the counters order nothing but themselves.
        let place = Admitted { admission: self, bytes };
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let count_before = self.count.fetch_add(1, Ordering::Relaxed);
        if bytes_before.saturating_add(bytes) > self.bytes_max || count_before >= self.count_max {
            // Dropping the place takes both additions back.
            drop(place);
            return Err(Rejection::TooManyRequests);
        }
        Ok(place)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.admission.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_limit_is_exact_and_room_returns() {
        let admission = Admission::new(100, 10);
        let first = admission.admit(60).unwrap();
        assert!(matches!(admission.admit(41), Err(Rejection::TooManyRequests)));
        let second = admission.admit(40).unwrap();
        drop((first, second));
        assert!(admission.admit(100).is_ok());
    }

    #[test]
    fn the_count_limit_is_exact_and_room_returns() {
        let admission = Admission::new(100, 2);
        let first = admission.admit(1).unwrap();
        let _second = admission.admit(1).unwrap();
        assert!(matches!(admission.admit(1), Err(Rejection::TooManyRequests)));
        drop(first);
        assert!(admission.admit(1).is_ok());
    }
}
