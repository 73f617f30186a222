//! How many handshakes may be unfinished at once. One more makes the oldest give way: an honest
//! client is done after a few round trips, and who only keeps places keeps none. Must not know what a
//! handshake is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The unfinished handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    count_max: usize,
    places: Mutex<Places>,
}

/// In the order of their beginning.
#[derive(Debug, Default)]
struct Places {
    begun_count: u64,
    /// What is dropped here is noticed there.
    held: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place among the unfinished handshakes; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    held: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, places: Mutex::default() })
    }

    /// A place; the oldest loses its own if there are too many.
    pub(crate) fn begin(self: &Arc<Self>) -> Place {
        let (sender, held) = oneshot::channel();
        let mut places = self.lock();
        let number = places.begun_count;
        places.begun_count += 1;
        places.held.insert(number, sender);
        if places.held.len() > self.count_max {
            places.held.pop_first();
        }
        drop(places);
        Place { handshakes: Arc::clone(self), number, held }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ready once the place is lost.
    pub(crate) async fn lost(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.held).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_lost(place: &mut Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_gives_way_to_one_more_than_the_limit() {
        let handshakes = Handshakes::new(2);
        let (mut first, mut second) = (handshakes.begin(), handshakes.begin());
        assert!(!is_lost(&mut first));
        let mut third = handshakes.begin();
        assert!(is_lost(&mut first));
        assert!(!is_lost(&mut second) && !is_lost(&mut third));
    }

    #[test]
    fn one_that_is_done_makes_room() {
        let handshakes = Handshakes::new(2);
        let (mut first, second) = (handshakes.begin(), handshakes.begin());
        drop(second);
        let _third = handshakes.begin();
        assert!(!is_lost(&mut first));
    }
}
