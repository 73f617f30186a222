//! Ends leases whose time is up: the leader proposes it, and the log decides. A member that only
//! believes that it leads, or was away, ends nothing: it must have a majority behind it first, and
//! every proposal names the renewal that it has seen. Must not know how a renewal is asked for.

use super::timing::{Leadership, STEP_MAX, Timing};
use super::{RETRY_PAUSE, Service};
use crate::errors::Rejection;
use prost::Message;
use quorate::Node;
use quorate_kv::lease::LeaseFeed;
use quorate_kv::lease::api::{LeaseExpireRequest, Overdue};
use quorate_kv::{Command, CommandKind, Lease, Outcome, Reader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many leases one command ends.
const BATCH_COUNT_MAX: usize = 256;

/// The times of leases, looked at by the task that ends them and by whoever asks for them.
pub(super) struct LeaseTimes {
    feed: LeaseFeed,
    started: Instant,
    timing: Mutex<Timing>,
    /// Signalled when a lease changed.
    changed: Arc<Notify>,
}

impl LeaseTimes {
    pub(super) fn new(reader: &Reader, takeover_grace: Duration) -> Self {
        let changed = Arc::new(Notify::new());
        let signal = Arc::clone(&changed);
        Self {
            feed: LeaseFeed::new(reader, move || signal.notify_one()),
            started: Instant::now(),
            timing: Mutex::new(Timing::new(Duration::ZERO, takeover_grace)),
            changed,
        }
    }

    /// How much of its time a lease has left; `None` if there is none.
    pub(super) fn remaining(&self, node: &Node, id: i64) -> Option<(Duration, Lease)> {
        self.look(node, |timing| timing.clock().remaining(id))
    }

    /// All leases, the one that ends first before the others.
    pub(super) fn ids(&self, node: &Node) -> Vec<i64> {
        self.look(node, |timing| timing.clock().ids().collect())
    }

    /// Brings the times up to date, then looks at them.
    fn look<T>(&self, node: &Node, at: impl FnOnce(&mut Timing) -> T) -> T {
        let mut timing = self.timing.lock().unwrap_or_else(PoisonError::into_inner);
        let status = node.status();
        let leadership = Leadership {
            leader: status.leader,
            term: status.current_term,
            is_own: status.leader == Some(status.id),
        };
        // First what changed, then the time: no lease is noted as of before it was renewed.
        let report = self.feed.take();
        timing.look(self.started.elapsed(), leadership, report);
        at(&mut timing)
    }

    /// Waits until there may be something to end.
    async fn wait(&self, node: &Node) {
        let pause = match self.look(node, |timing| timing.clock().next_in()) {
            // A lease that is overdue already waits for something that is not to be seen here, or for
            // a log that refuses to end it: to look at the clock costs no entry.
            Some(remaining) => remaining.clamp(RETRY_PAUSE, STEP_MAX / 2),
            None => return self.changed.notified().await,
        };
        // What is new is noted then: later than it might be, and never too early.
        tokio::time::sleep(pause).await;
    }
}

impl Service {
    /// Ends leases whose time is up, for as long as it is polled.
    pub(crate) async fn expire_leases(&self) {
        let times = &self.leases.times;
        loop {
            times.wait(&self.node).await;
            while !self.overdue().is_empty() {
                times.look(&self.node, |timing| timing.hold(true));
                let ended = self.expire_some().await;
                let is_refused = ended.as_ref().is_err_and(|why| !why.is_transient());
                times.look(&self.node, |timing| {
                    timing.hold(false);
                    timing.asked(is_refused);
                });
                match ended {
                    Ok(count) => self.metrics.leases_expired(count),
                    Err(rejection) => {
                        tracing::debug!(reason = %rejection.status().1, "leases wait for their end");
                        break;
                    }
                }
            }
        }
    }

    async fn expire_some(&self) -> Result<u64, Rejection> {
        let deadline = Instant::now() + self.options.request_timeout;
        // Only who leads with a majority behind it, and has applied what they have, goes on.
        self.confirm(deadline).await?;
        let leases = self.overdue();
        if leases.is_empty() {
            return Ok(0);
        }
        let command = Command::new(CommandKind::LeaseExpire(LeaseExpireRequest { leases }));
        let outcome = self.outcome_of(command.encode_to_vec().into(), deadline).await?;
        let Outcome::LeaseExpire(response) = outcome else { return Err(Rejection::Internal) };
        Ok(response.expired)
    }

    fn overdue(&self) -> Vec<Overdue> {
        self.leases.times.look(&self.node, |timing| timing.overdue(BATCH_COUNT_MAX))
    }
}
