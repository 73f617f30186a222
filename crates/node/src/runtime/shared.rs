//! What the threads of a node and its handles share. Knows how a node ends; not how it works.

use super::apply_thread::ApplyJob;
use super::black_box::BlackBox;
use super::clock::Clock;
use super::disk_watch::DiskWatch;
use super::mailbox::{Ending, Mailbox};
use super::queue::Queue;
use super::waiters::Waiters;
use crate::metrics::Metrics;
use crate::{Fate, NodeFailure, NodeStatus, Ticket};
use quorate_core::Time;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) waiters: Waiters,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) apply: Queue<ApplyJob>,
    pub(crate) disk: DiskWatch,
    pub(crate) black_box: BlackBox,
    /// Whether what sessions did would survive a crash with the state machine.
    pub(crate) keeps_sessions: bool,
    pub(crate) status: watch::Sender<Arc<NodeStatus>>,
    /// Set once every thread but the raft thread is gone.
    pub(crate) ended: watch::Sender<bool>,
    failure: OnceLock<Arc<NodeFailure>>,
}

/// What [`Shared`] is made of.
#[derive(Debug)]
pub(crate) struct SharedParts {
    pub(crate) mailbox: Mailbox,
    pub(crate) waiters_count_max: usize,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: NodeStatus,
    pub(crate) keeps_sessions: bool,
    pub(crate) disk: DiskWatch,
    pub(crate) black_box: BlackBox,
}

impl Shared {
    pub(crate) fn new(parts: SharedParts) -> Self {
        let mailbox = Arc::new(parts.mailbox);
        Self {
            clock: Clock::new(),
            waiters: Waiters::new(parts.waiters_count_max, Arc::clone(&mailbox)),
            mailbox,
            metrics: parts.metrics,
            apply: Queue::new(),
            disk: parts.disk,
            black_box: parts.black_box,
            keeps_sessions: parts.keeps_sessions,
            status: watch::Sender::new(Arc::new(parts.status)),
            ended: watch::Sender::new(false),
            failure: OnceLock::new(),
        }
    }

    /// Ends the node; a leader that has only lost its log hands over first. The first reason is the
    /// one that is kept.
    pub(crate) fn fail(&self, failure: NodeFailure) {
        let hands_over = failure.allows_handover();
        let id = self.status.borrow().id;
        if !matches!(failure, NodeFailure::Stopped) && self.failure.get().is_none() {
            tracing::error!(node = %id, "the node stops: {failure}");
        }
        // A later reason is a consequence of the first.
        let _kept = self.failure.set(Arc::new(failure));
        self.mailbox.stop(if hands_over { Ending::HandingOver } else { Ending::AtOnce });
    }

    /// Tells callers what became of their proposals, which were applied at `applied` if it was here,
    /// and counts them.
    pub(crate) fn tell(&self, fates: Vec<(Ticket, Fate)>, applied: Option<Time>) {
        if fates.is_empty() {
            return;
        }
        let is_applied = |(_, fate): &&(Ticket, Fate)| matches!(fate, Fate::Applied { .. });
        let applied_count = fates.iter().filter(is_applied).count();
        self.metrics.proposals_applied.add(applied_count);
        self.metrics.proposals_failed.add(fates.len() - applied_count);
        let passages = self.waiters.answer_all(fates);
        let answered = self.clock.now();
        for passage in passages {
            passage.end(applied, answered, &self.metrics.proposal_times);
        }
    }

    /// Why the node ends or has ended.
    pub(crate) fn failure(&self) -> Option<Arc<NodeFailure>> {
        self.failure.get().cloned()
    }

    /// Runs the body of a thread; whatever ends it badly ends the node.
    pub(crate) fn guard(
        &self,
        thread: &'static str,
        body: impl FnOnce() -> Result<(), NodeFailure>,
    ) {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => self.fail(failure),
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                self.fail(NodeFailure::Panicked { thread, message });
            }
        }
    }
}

/// What a panic said, if it said something in words.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
