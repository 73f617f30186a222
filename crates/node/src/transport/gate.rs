//! Back-pressure: while the disk or the state machine is behind, no bulk is read from peers. It
//! waits in the kernel's buffers then, and so does whoever sends it.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Open unless the node has more work than it may hold.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// Shuts or opens the gate.
    pub(crate) fn set_shut(&self, is_shut: bool) {
        let was_shut = self.is_shut.swap(is_shut, Ordering::Relaxed);
        if was_shut && !is_shut {
            self.opened.notify_waiters();
        }
    }

    /// Waits while the gate is shut. All users are on one thread, so nobody misses its opening
    /// between the look and the wait.
    pub(crate) async fn passed(&self) {
        while self.is_shut.load(Ordering::Relaxed) {
            self.opened.notified().await;
        }
    }
}
