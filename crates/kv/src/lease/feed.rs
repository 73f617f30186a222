//! Which leases changed, for whoever times them: bounded by the number of leases, however seldom it
//! is looked at. Knows no time, and does not care what becomes of what it tells.

use super::table::{Lease, Leases};
use crate::reader::Reader;
use crate::store::{Observer, Shared};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The state of a lease after it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseNews {
    /// Which one.
    pub id: i64,
    /// What it is now; `None` if it is gone.
    pub lease: Option<Lease>,
}

/// What was looked at no more recently than the last change.
#[derive(Debug, Default)]
struct Touched {
    /// Everything was replaced: what is not told of is gone.
    everything: bool,
    ids: BTreeSet<i64>,
}

/// See the module. The first look gives all leases that there are.
pub struct LeaseFeed {
    shared: Arc<Shared>,
    board: Arc<Board>,
}

struct Board {
    touched: Mutex<Touched>,
    signal: Box<dyn Fn() + Send + Sync>,
}

/// What [`LeaseFeed::take`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReport {
    /// Leases that are not among the news do not exist.
    pub everything: bool,
    /// In the order of the ids.
    pub news: Vec<LeaseNews>,
}

impl LeaseFeed {
    /// Follows the leases that `reader` sees. `signal` is called after each change, on the thread
    /// that applied it: it must be quick.
    #[must_use]
    pub fn new(reader: &Reader, signal: impl Fn() + Send + Sync + 'static) -> Self {
        let touched = Mutex::new(Touched { everything: true, ids: BTreeSet::new() });
        let board = Arc::new(Board { touched, signal: Box::new(signal) });
        let shared = Arc::clone(reader.shared());
        let observer: Arc<dyn Observer> = Arc::clone(&board) as Arc<dyn Observer>;
        shared.observe(Arc::downgrade(&observer));
        Self { shared, board }
    }

    /// What changed since the last time. A lease that changed meanwhile may be told of twice.
    #[must_use]
    pub fn take(&self) -> LeaseReport {
        let touched = self.board.lock_and_take();
        // Looked at after: what is published in between is told of now and once more.
        let leases = self.shared.view().leases;
        let Touched { everything, ids } = touched;
        let news = if everything { all(&leases) } else { some(&leases, ids) };
        LeaseReport { everything, news }
    }
}

fn all(leases: &Leases) -> Vec<LeaseNews> {
    leases.iter().map(|(id, lease)| LeaseNews { id, lease: Some(lease) }).collect()
}

fn some(leases: &Leases, ids: BTreeSet<i64>) -> Vec<LeaseNews> {
    ids.into_iter().map(|id| LeaseNews { id, lease: leases.get(id) }).collect()
}

impl Board {
    fn lock_and_take(&self) -> Touched {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Board {
    fn published(&self) {}

    fn compacting(&self) {}

    fn leases_touched(&self, ids: &[i64]) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.ids.extend(ids);
        drop(touched);
        (self.signal)();
    }

    fn replaced(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) =
            Touched { everything: true, ids: BTreeSet::new() };
        (self.signal)();
    }
}
