//! The worlds that are still to be run and those that run: who runs which, since when, and whether
//! each still moves. Runs none and ends none: nothing can end a thread.

use super::lock;
use crate::pulse::Pulse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the threads of a campaign share.
pub(super) struct Floor<T> {
    todo: Mutex<T>,
    running: Mutex<BTreeMap<u64, Running>>,
}

struct Running {
    since: Instant,
    pulse: Arc<Pulse>,
    /// The step in which it was seen last.
    step: u64,
    /// For how long it has been seen in that step.
    still: Duration,
}

/// A world that runs, as somebody saw it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) seed: u64,
    /// For how long it has run.
    pub(super) age: Duration,
    /// For how long it has been in the same step.
    pub(super) still: Duration,
    pub(super) pulse: Arc<Pulse>,
}

impl<T: Iterator<Item = u64>> Floor<T> {
    pub(super) fn new(todo: T) -> Self {
        Self { todo: Mutex::new(todo), running: Mutex::default() }
    }

    /// The next world begins.
    pub(super) fn begin(&self) -> Option<(u64, Arc<Pulse>)> {
        let seed = lock(&self.todo).next()?;
        let pulse = Arc::new(Pulse::default());
        let (since, step, still) = (Instant::now(), 0, Duration::ZERO);
        let running = Running { since, pulse: Arc::clone(&pulse), step, still };
        lock(&self.running).insert(seed, running);
        Some((seed, pulse))
    }

    /// A world has ended, or was given up; false if it is not there any more.
    pub(super) fn end(&self, seed: u64) -> bool {
        lock(&self.running).remove(&seed).is_some()
    }

    /// All that run, so much time after the look before. Time in which nobody could look, because
    /// the process was stopped, say, is not theirs.
    pub(super) fn look(&self, passed: Duration) -> Vec<Seen> {
        let mut running = lock(&self.running);
        let see = |(seed, running): (&u64, &mut Running)| {
            let step = running.pulse.step();
            running.still =
                if step == running.step { running.still + passed } else { Duration::ZERO };
            running.step = step;
            let (age, pulse) = (running.since.elapsed(), Arc::clone(&running.pulse));
            Seen { seed: *seed, age, still: running.still, pulse }
        };
        running.iter_mut().map(see).collect()
    }
}
