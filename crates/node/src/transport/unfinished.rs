//! Callers who have not introduced themselves yet. There may be so many; one more makes the oldest give
//! way: an honest caller is done after a few round trips, and who only keeps places keeps none. Must not
//! know what an introduction is.

use crate::runtime::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::task::AbortHandle;

/// The callers.
#[derive(Debug)]
pub(super) struct Unfinished {
    count_max: usize,
    places: Mutex<Places>,
}

/// In the order of their coming.
#[derive(Debug, Default)]
struct Places {
    begun_count: u64,
    held: BTreeMap<u64, AbortHandle>,
}

/// A place among them; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    unfinished: Arc<Unfinished>,
    number: u64,
}

impl Unfinished {
    pub(super) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, places: Mutex::default() })
    }

    /// Starts a task that holds a place until it drops it. Whether the oldest one was ended for it.
    pub(super) fn start<T: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(Place) -> T,
    ) -> bool {
        // Held until the place is noted: the task may be quick.
        let mut places = lock(&self.places);
        let number = places.begun_count;
        places.begun_count += 1;
        let task = tokio::spawn(task(Place { unfinished: Arc::clone(self), number }));
        places.held.insert(number, task.abort_handle());
        let is_crowded = places.held.len() > self.count_max;
        let oldest = if is_crowded { places.held.pop_first() } else { None };
        drop(places);
        // Its place is dropped with it, perhaps at once.
        oldest.map(|(_, oldest)| oldest.abort()).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.unfinished.places).held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn the_oldest_gives_way_to_one_more_than_the_limit_and_who_is_done_to_nobody() {
        let unfinished = Unfinished::new(2);
        let (done, mut all_done) = mpsc::unbounded_channel();
        // One that gives its place back and lives on.
        let sender = done.clone();
        assert!(!unfinished.start(|place| async move {
            drop(place);
            let _told = sender.send(());
            std::future::pending::<()>().await;
            drop(sender);
        }));
        all_done.recv().await.unwrap();
        let holders: Vec<_> = (0..3)
            .map(|_| {
                let (alive, end) = mpsc::unbounded_channel::<()>();
                let crowded = unfinished.start(|place| async move {
                    std::future::pending::<()>().await;
                    drop((place, alive));
                });
                (crowded, end)
            })
            .collect();
        let crowded: Vec<bool> = holders.iter().map(|(crowded, _)| *crowded).collect();
        assert_eq!(crowded, [false, false, true]);
        let mut ends = holders.into_iter().map(|(_, end)| end);
        assert_eq!(ends.next().unwrap().recv().await, None, "the oldest has ended");
        for mut end in ends {
            assert!(end.try_recv().is_err_and(|error| error == mpsc::error::TryRecvError::Empty));
        }
        assert_eq!(lock(&unfinished.places).held.len(), 2);
        assert!(all_done.try_recv().is_err_and(|error| error == mpsc::error::TryRecvError::Empty));
    }
}
