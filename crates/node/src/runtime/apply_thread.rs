//! The thread that owns the state machine. It tells the callers by itself: an answer takes no way
//! round through the event loop. What the work is stands in [`crate::work`].

use super::shared::Shared;
use super::waiters::answer;
use crate::work::{MachineDone, MachineJob, MachineWorker, SnapshotJob};
use crate::{NodeFailure, Ticket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A snapshot for which there is no room is begun anew after so long: it is a lot of work.
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_secs(5);

/// What the state machine's thread is asked for. Its queue is bounded: batches by the core's limit
/// on bytes being applied, queries by the limit on waiting callers.
#[derive(Debug)]
pub(crate) enum ApplyJob {
    Machine(MachineJob),
    /// Answers a waiting query, whose barrier has passed: whatever it has to see is applied.
    Query(Ticket),
}

impl ApplyJob {
    /// What it counts for.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Machine(job) => job.size_bytes(),
            Self::Query(_) => 0,
        }
    }
}

/// The state machine's thread.
pub(crate) struct ApplyThread {
    pub(crate) worker: MachineWorker,
    pub(crate) shared: Arc<Shared>,
    /// Writes a snapshot.
    pub(crate) writer: Option<JoinHandle<()>>,
}

impl ApplyThread {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) -> Result<(), NodeFailure> {
        let result = self.work();
        self.join_writer();
        result?;
        self.worker.applier_mut().finish().map_err(Into::into)
    }

    fn work(&mut self) -> Result<(), NodeFailure> {
        let shared = Arc::clone(&self.shared);
        let mut jobs = Vec::new();
        while shared.apply.take(&mut jobs) {
            for job in jobs.drain(..) {
                match job {
                    ApplyJob::Machine(job) => self.worker.add(job),
                    ApplyJob::Query(ticket) => self.query(ticket),
                }
            }
            while let Some(done) = self.worker.work()? {
                self.hand_on(done)?;
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, done: MachineDone) -> Result<(), NodeFailure> {
        let MachineDone { fates, inputs, entry_count, snapshot } = done;
        if entry_count > 0 {
            let applied = self.shared.clock.now();
            self.shared.metrics.entries_applied.add(entry_count);
            self.shared.tell(fates, Some(applied));
            self.shared.apply.done();
        }
        for input in inputs {
            self.shared.mailbox.push(input);
        }
        snapshot.map_or(Ok(()), |job| self.write(job))
    }

    fn query(&self, ticket: Ticket) {
        if let Some((query, sender)) = self.shared.waiters.take_query(ticket) {
            let result = self.worker.applier().machine().query(&query);
            self.shared.metrics.reads_answered.add(1);
            answer(sender, result.map_err(Into::into));
        }
    }

    /// Writes a snapshot, beside everything else.
    fn write(&mut self, job: SnapshotJob) -> Result<(), NodeFailure> {
        self.join_writer();
        let shared = Arc::clone(&self.shared);
        let body = move || {
            let thread = Arc::clone(&shared);
            thread.guard("snapshot", move || {
                let covers = job.covers();
                let job = match job.run() {
                    Ok(meta) => MachineJob::SnapshotTaken(meta),
                    Err(failure) if failure.is_full() => {
                        tracing::warn!("{failure}; it is begun anew when there is room");
                        let _ending = shared.disk.wait_for(PAUSE_WITHOUT_ROOM);
                        MachineJob::SnapshotUnwritten(covers)
                    }
                    Err(failure) => return Err(failure),
                };
                let job = ApplyJob::Machine(job);
                // On a closed queue the node is ending; the snapshot is found at the next start.
                let _unneeded = shared.apply.push(job, 0);
                Ok(())
            });
        };
        let thread = std::thread::Builder::new().name("quorate-snapshot".to_owned());
        self.writer = Some(thread.spawn(body).map_err(NodeFailure::View)?);
        Ok(())
    }

    fn join_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            // It has reported its own failure, if any.
            let _ended = writer.join();
        }
    }
}
