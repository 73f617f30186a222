//! The thread that owns the log: takes what is queued for it, and hands on what comes of the work.
//! What the work is stands in [`crate::work`].

use super::disk_watch::TRY_AGAIN_AFTER;
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
    /// When what has found no room is tried again.
    pub(crate) try_again_at: Option<Instant>,
}

impl WalThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        loop {
            let is_open = self.take(&mut jobs);
            jobs.drain(..).for_each(|job| self.worker.add(job));
            let is_time = self.try_again_at.is_some_and(|at| at <= Instant::now());
            // At the end nobody makes room any more, and who waits has been promised nothing.
            if is_time && is_open {
                self.try_again_at = None;
                self.worker.try_again();
            }
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

    /// Takes what there is to do, and waits for it as long as there is nothing else to do.
    fn take(&self, jobs: &mut Vec<LogJob>) -> bool {
        let mark_after = (!self.worker.is_marked()).then_some(IDLE_BEFORE_MARK);
        let try_after = self.try_again_at.map(|at| at.saturating_duration_since(Instant::now()));
        let patience = mark_after.into_iter().chain(try_after).min();
        if self.worker.has_work() {
            self.queue.take_now(jobs);
            return true;
        }
        match patience {
            Some(patience) => self.queue.take_within(jobs, patience),
            None => self.queue.take(jobs),
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
        let LogDone { input, file_job, persist_count, entry_count, is_full } = done;
        if is_full {
            self.try_again_at = Some(Instant::now() + TRY_AGAIN_AFTER);
            self.shared.disk.want();
            let _unneeded = self.files.push(FileJob::LookForRoom, 0);
        }
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
