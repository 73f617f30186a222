//! The thread for files that nobody commits to, which also looks after the room on the disk. It may be
//! slow without delaying an fsync of the log. What the work is stands in [`crate::work`].

use super::apply_thread::ApplyJob;
use super::disk_watch::TRY_AGAIN_AFTER;
use super::queue::{Queue, lock};
use super::shared::Shared;
use crate::NodeFailure;
use crate::work::{FileDone, FileJob, FilesWorker, RoomKeepers, ScrubDone};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the room on the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files' thread.
pub(crate) struct FilesThread {
    pub(crate) worker: FilesWorker,
    pub(crate) queue: Arc<Queue<FileJob>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) keeper: Arc<Mutex<RoomKeepers>>,
}

impl FilesThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let mut jobs = Vec::new();
        let mut looked_at = Instant::now();
        while self.take(&mut jobs) {
            let is_wanted = jobs.iter().any(|job| matches!(job, FileJob::LookForRoom));
            jobs.drain(..).for_each(|job| self.worker.add(job));
            self.work()?;
            if is_wanted || looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                self.look();
            }
            if self.worker.is_waiting() {
                self.wait();
            }
        }
        Ok(())
    }

    /// Waits for work as long as there is nothing to look after.
    fn take(&self, jobs: &mut Vec<FileJob>) -> bool {
        if self.worker.has_work() {
            self.queue.take_now(jobs);
            return true;
        }
        let is_waited_for = self.shared.disk.room().is_waited_for;
        if is_waited_for || lock(&self.keeper).is_watching() {
            self.queue.take_within(jobs, LOOK_EVERY)
        } else {
            self.queue.take(jobs)
        }
    }

    fn work(&mut self) -> Result<(), NodeFailure> {
        while let Some(done) = self.worker.work()? {
            let FileDone { machine_job, input, is_full, scrub, resumed_bytes, is_unfinished } =
                done;
            if resumed_bytes > 0 {
                tracing::info!(resumed_bytes, "a snapshot goes on where it had stopped");
            }
            if is_full {
                self.shared.disk.want();
            }
            if let Some(scrub) = scrub {
                self.count(scrub);
            }
            if let Some(job) = machine_job {
                // On a closed queue the node is ending.
                let _unneeded = self.shared.apply.push(ApplyJob::Machine(job), 0);
            }
            if let Some(input) = input {
                self.shared.mailbox.push(input);
            }
            if is_unfinished {
                // What has come meanwhile is not kept waiting.
                break;
            }
        }
        Ok(())
    }

    /// A snapshot that finds no room waits here: nothing else of this thread is urgent.
    fn wait(&mut self) {
        if self.shared.disk.wait_for(TRY_AGAIN_AFTER) {
            self.worker.try_again();
        }
    }

    fn look(&self) {
        let mut keeper = lock(&self.keeper);
        let before = keeper.room();
        match keeper.look(self.shared.disk.take_wanted()) {
            Ok(room) => {
                self.shared.disk.show(room);
                if room.is_short && !before.is_short {
                    tracing::warn!(
                        folder = %keeper.dir().display(),
                        free_bytes = room.free_bytes,
                        low_bytes = room.low_bytes,
                        "the disk is nearly full: this member refuses what takes space. Free some \
                         on this disk, or compact; it goes on by itself"
                    );
                } else if before.is_short && !room.is_short {
                    tracing::info!(free_bytes = room.free_bytes, "the disk has room again");
                }
            }
            Err(error) => tracing::warn!("how full the disk is cannot be found out: {error}"),
        }
    }

    fn count(&self, scrub: ScrubDone) {
        let metrics = &self.shared.metrics;
        metrics.scrubbed_bytes.add(usize::try_from(scrub.read_bytes).unwrap_or(usize::MAX));
        metrics.scrub_rounds.add(usize::from(scrub.is_round_over));
        metrics.rotten_files.set(scrub.rotten_count);
    }
}
