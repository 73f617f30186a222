//! The thread for files that nobody commits to. It may be slow without delaying an fsync of the
//! log. What the work is stands in [`crate::work`].

use super::apply_thread::ApplyJob;
use super::queue::Queue;
use super::shared::Shared;
use crate::NodeFailure;
use crate::work::{FileDone, FileJob, FilesWorker};
use std::sync::Arc;

/// The files' thread.
pub(crate) struct FilesThread {
    pub(crate) worker: FilesWorker,
    pub(crate) queue: Arc<Queue<FileJob>>,
    pub(crate) shared: Arc<Shared>,
}

impl FilesThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs) {
            jobs.drain(..).for_each(|job| self.worker.add(job));
            while let Some(FileDone { machine_job, input }) = self.worker.work()? {
                if let Some(job) = machine_job {
                    // On a closed queue the node is ending.
                    let _unneeded = self.shared.apply.push(ApplyJob::Machine(job), 0);
                }
                if let Some(input) = input {
                    self.shared.mailbox.push(input);
                }
            }
        }
        Ok(())
    }
}
