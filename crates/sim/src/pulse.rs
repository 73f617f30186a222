//! How far a world is, for whoever watches it from another thread. The world writes it down and
//! never reads it: being watched changes nothing.

use quorate_core::Time;
use std::sync::atomic::{AtomicU64, Ordering};

/// The step that a world is in, and the world's time. Before the first step both are 0: then it is
/// still being made.
#[derive(Debug, Default)]
pub struct Pulse {
    step: AtomicU64,
    micros: AtomicU64,
}

impl Pulse {
    /// A step begins.
    pub(crate) fn beat(&self, step: u64, now: Time) {
        self.micros.store(now.as_micros(), Ordering::Relaxed);
        self.step.store(step, Ordering::Relaxed);
    }

    /// The step that has begun last.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// The time in the world when that began.
    #[must_use]
    pub fn at(&self) -> Time {
        Time::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
