//! The thread that owns the log: takes what is queued for it, and hands on what comes of the work.
//! What the work is stands in [`crate::work`].

use super::queue::Queue;
use super::shared::Shared;
use crate::NodeFailure;
use crate::work::{FileJob, LogDone, LogJob, LogWorker};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long without a write the log notes how far it is durable.
const IDLE_BEFORE_MARK: Duration = Duration::from_millis(100);

/// The log's thread.
pub(crate) struct WalThread {
    pub(crate) worker: LogWorker,
    pub(crate) queue: Arc<Queue<LogJob>>,
    pub(crate) files: Arc<Queue<FileJob>>,
    pub(crate) shared: Arc<Shared>,
}

impl WalThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        loop {
            let is_open = if self.worker.has_work() {
                self.queue.take_now(&mut jobs);
                true
            } else if self.worker.is_marked() {
                self.queue.take(&mut jobs)
            } else {
                self.queue.take_within(&mut jobs, IDLE_BEFORE_MARK)
            };
            jobs.drain(..).for_each(|job| self.worker.add(job));
            if self.work()? {
                continue;
            }
            if !self.worker.is_marked() {
                self.worker.mark()?;
            }
            if !is_open {
                return Ok(());
            }
        }
    }

    /// What was taken is written before more is taken: until then it counts as queued.
    fn work(&mut self) -> Result<bool, NodeFailure> {
        let has_worked = self.stretch()?;
        if self.worker.is_in_between() {
            self.stretch()?;
        }
        Ok(has_worked)
    }

    fn stretch(&mut self) -> Result<bool, NodeFailure> {
        let start = Instant::now();
        let Some(done) = self.worker.work()? else { return Ok(false) };
        let LogDone { input, file_job, persist_count, entry_count } = done;
        if persist_count > 0 {
            self.queue.done();
            let metrics = &self.shared.metrics;
            metrics.fsync.record(start.elapsed());
            metrics.entries_persisted.add(entry_count);
        }
        if let Some(input) = input {
            self.shared.mailbox.push(input);
        }
        if let Some(job) = file_job {
            // On a closed queue the node is ending: older snapshots go another time, and no next
            // segment is needed.
            let _unneeded = self.files.push(job, 0);
        }
        Ok(true)
    }
}
