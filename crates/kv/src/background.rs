//! Who runs the store's slow jobs. The only file of this crate that may know threads: the rest asks
//! for a job to be run and does not care where.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A job for the background.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs, one after the other.
pub trait Background: Send + Sync + 'static {
    /// Runs `job`, now or later. Jobs that were accepted are run, except when the process ends.
    fn spawn(&self, job: Job);
}

/// Runs each job at once, on the caller's thread: for the simulator, where everything must happen
/// in an order that the seed decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Background for Inline {
    fn spawn(&self, job: Job) {
        job();
    }
}

/// Runs one job on a thread for it alone, or at once if there is none to be had. For what may take a
/// while and whose end nobody waits for.
pub(crate) fn apart(job: Job) {
    let job = Arc::new(Mutex::new(Some(job)));
    let take = |job: &Mutex<Option<Job>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
    let of_thread = Arc::clone(&job);
    let thread = std::thread::Builder::new().name("quorate-kv-end".into());
    let run = move || {
        if let Some(job) = take(&of_thread) {
            job();
        }
    };
    if thread.spawn(run).is_err()
        && let Some(job) = take(&job)
    {
        job();
    }
}

/// Runs jobs on a thread of its own, which ends once this is dropped and its jobs are done.
#[derive(Debug)]
pub struct BackgroundThread {
    jobs: Mutex<Sender<Job>>,
}

impl BackgroundThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        std::thread::Builder::new().name("quorate-kv".into()).spawn(move || {
            for job in queue {
                job();
            }
        })?;
        Ok(Self { jobs: Mutex::new(jobs) })
    }
}

impl Background for BackgroundThread {
    fn spawn(&self, job: Job) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(refused) = jobs.send(job) {
            // The thread is gone: a job of it panicked. The work still has to be done.
            (refused.0)();
        }
    }
}
