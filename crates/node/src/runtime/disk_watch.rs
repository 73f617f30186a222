//! What the threads of a node, and a state machine with files of its own, tell each other of the room on
//! the disk: who waits for some, and how much there is. Knows threads; decides nothing.

use super::queue::lock;
use crate::work::DiskRoom;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A write that finds no room is tried again so often.
pub(crate) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The room on a node's disk, for whoever writes there: [`crate::NodeBuilder::disk_watch`]. Clones are
/// handles to the same watch.
#[derive(Clone, Debug, Default)]
pub struct DiskWatch {
    shared: Arc<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    state: Mutex<State>,
    /// Signalled at the end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    room: DiskRoom,
    /// Somebody has found no room since the last look.
    is_wanted: bool,
    /// Whether the node runs: before and after, nobody waits for room. A start that needs some and
    /// finds none is to be told.
    is_running: bool,
}

impl DiskWatch {
    /// A watch for a node that is not started yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How much room there was at the last look.
    #[must_use]
    pub fn room(&self) -> DiskRoom {
        lock(&self.shared.state).room
    }

    /// For a write that has found no room: blocks for a moment, and returns whether to try it again. Only
    /// while the node runs: neither during its start nor once it is ending.
    #[must_use]
    pub fn wait(&self) -> bool {
        self.wait_for(TRY_AGAIN_AFTER)
    }

    /// As [`DiskWatch::wait`], for so long.
    pub(crate) fn wait_for(&self, pause: Duration) -> bool {
        let mut state = lock(&self.shared.state);
        state.is_wanted = true;
        let waited = self.shared.changed.wait_timeout_while(state, pause, |state| state.is_running);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_running
    }

    /// As [`DiskWatch::wait`], for who waits elsewhere.
    pub(crate) fn want(&self) {
        lock(&self.shared.state).is_wanted = true;
    }

    /// Whether somebody has found no room since this was last asked.
    pub(crate) fn take_wanted(&self) -> bool {
        std::mem::take(&mut lock(&self.shared.state).is_wanted)
    }

    /// What was seen.
    pub(crate) fn show(&self, room: DiskRoom) {
        lock(&self.shared.state).room = room;
    }

    /// The node runs from now on.
    pub(crate) fn begin(&self) {
        lock(&self.shared.state).is_running = true;
    }

    /// The node is ending: nobody waits any more.
    pub(crate) fn close(&self) {
        lock(&self.shared.state).is_running = false;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_to_try_again_as_long_as_the_node_runs() {
        let watch = DiskWatch::new();
        assert!(!watch.take_wanted());
        assert!(!watch.wait(), "a start is refused");
        watch.begin();
        assert!(watch.wait());
        assert!(watch.take_wanted() && !watch.take_wanted());
        let waiting = watch.clone();
        let waiter = std::thread::spawn(move || while waiting.wait_for(Duration::MAX) {});
        watch.close();
        waiter.join().unwrap();
        assert!(!watch.wait());
    }
}
