//! Many worlds at the same time: threads, the clock, the progress file, and a clean stop. The only
//! file that looks at a clock and starts threads; each world stays in one thread, and nothing in it
//! can tell.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod floor;
mod session;

use crate::case::{Case, Changes};
use crate::progress::{Identity, Progress, ProgressError, SeedSet};
use crate::pulse::Pulse;
use crate::run::{Ended, Violation, World, Worlds};
use floor::Floor;
use session::Session;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A world that runs for longer than this is named: it may never end.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// A world that stays in one step for longer than this is given up. Steps take microseconds.
const HANGS_AFTER: Duration = Duration::from_mins(5);

/// Many worlds that differ in their seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// The first world; the others have the seeds after it.
    pub first: World,
    /// What is changed in all of them.
    pub changes: Changes,
    /// How many.
    pub seed_count: u64,
    /// How many run at the same time, each in its own thread.
    pub jobs: usize,
    /// Whether it goes on after a world that ended badly.
    pub keeps_going: bool,
    /// Where its progress is kept, if it is.
    pub file: Option<PathBuf>,
    /// Names the build, so that figures of different ones are not mixed.
    pub build: String,
    /// Whether to go on although the file is another build's.
    pub may_be_another_build: bool,
    /// How long a world may run before somebody is told. Most take milliseconds.
    pub patience: Duration,
    /// How long a world may stay in one and the same step before it is a failure: it hangs.
    pub hangs_after: Duration,
}

/// How a campaign tells of itself while it runs, and how it is stopped.
pub struct Watch<'a> {
    /// Called twice a second.
    pub progress: &'a mut dyn FnMut(&Standing<'_>),
    /// Called for each world that ends badly.
    pub violation: &'a mut dyn FnMut(&Violation),
    /// Called once for each world that runs for longer than the campaign's patience, with how long
    /// that is and where the world is.
    pub stuck: &'a mut dyn FnMut(&Case, Duration, &Pulse),
    /// Called at the end if worlds hang, when everything else is done and kept. Nothing ends their
    /// threads but the end of the process, which is what a program does here; whoever returns waits
    /// for them.
    pub abandoned: &'a mut dyn FnMut(&CampaignEnd),
    /// Set it to let the running worlds end and begin no others.
    pub stop: &'a AtomicBool,
}

/// How far a campaign is.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Everything so far, earlier sessions included.
    pub progress: &'a Progress,
    /// How many of the campaign's seeds are done.
    pub done_count: u64,
    /// How many seeds it has.
    pub seed_count: u64,
    /// How many worlds this session has run...
    pub session_count: u64,
    /// ...in this time.
    pub session: Duration,
}

/// How a campaign ended.
#[derive(Clone, Debug)]
pub struct CampaignEnd {
    /// Everything so far, earlier sessions included.
    pub progress: Progress,
    /// How many of its seeds are not done.
    pub left_count: u64,
    /// Why the session ended early, if its progress could not be kept. The worlds that ran by then
    /// were let end, and are in `progress`.
    pub not_written: Option<Arc<ProgressError>>,
}

impl Campaign {
    /// Two threads' worth of these worlds, stopping at the first that ends badly.
    #[must_use]
    pub fn new(first: World, seed_count: u64) -> Self {
        Self {
            first,
            changes: Changes::default(),
            seed_count,
            jobs: 2,
            keeps_going: false,
            file: None,
            build: String::new(),
            may_be_another_build: false,
            patience: PATIENCE,
            hangs_after: HANGS_AFTER,
        }
    }

    /// One of its worlds.
    #[must_use]
    pub fn case(&self, seed: u64) -> Case {
        Case { world: World { seed, ..self.first }, changes: self.changes.clone() }
    }

    /// What has to be the same in all of its sessions.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(&self.build, &self.case(self.first.seed))
    }

    /// Runs the worlds that are not done yet.
    ///
    /// # Errors
    ///
    /// [`ProgressError`] if the progress file cannot be used from the start.
    pub fn run<W: Worlds>(
        &self,
        worlds: &W,
        mut watch: Watch<'_>,
    ) -> Result<CampaignEnd, ProgressError> {
        let mut session = Session::begin(self, worlds.command())?;
        let floor = Floor::new(self.todo(&session.progress.done));
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let (floor, stop) = (&floor, watch.stop);
            let hire = || {
                let sender = sender.clone();
                scope.spawn(move || self.work(worlds, floor, stop, sender));
            };
            session.gather(&receiver, floor, &mut watch, &hire);
            watch.stop.store(true, Ordering::Relaxed);
            if session.has_abandoned() {
                (watch.abandoned)(&session.end());
            }
        });
        Ok(session.end())
    }

    fn last_seed(&self) -> u64 {
        self.first.seed.saturating_add(self.seed_count.saturating_sub(1))
    }

    /// The seeds that are not done, in order.
    fn todo(&self, done: &SeedSet) -> impl Iterator<Item = u64> + use<> {
        let done = done.clone();
        (self.first.seed..=self.last_seed()).filter(move |seed| !done.contains(*seed))
    }

    fn work<W: Worlds>(
        &self,
        worlds: &W,
        floor: &Floor<impl Iterator<Item = u64>>,
        stop: &AtomicBool,
        sender: Sender<Word>,
    ) {
        let mut shift = Shift { floor, sender, seed: None, is_counted: true };
        while !stop.load(Ordering::Relaxed) {
            let Some((seed, pulse)) = floor.begin() else { return };
            shift.seed = Some(seed);
            let ended = self.case(seed).run_watched(worlds, &pulse);
            shift.seed = None;
            if !floor.end(seed) {
                // It was given up, and so was this thread.
                shift.is_counted = false;
                return;
            }
            if shift.sender.send(Word::Ended(Box::new(ended))).is_err() {
                return;
            }
        }
    }
}

/// What a thread says.
enum Word {
    /// A world ended.
    Ended(Box<Ended>),
    /// It runs no more worlds.
    Left,
}

/// The work of one thread: however it ends, somebody hears of it.
struct Shift<'a, T: Iterator<Item = u64>> {
    floor: &'a Floor<T>,
    sender: Sender<Word>,
    /// The world that runs.
    seed: Option<u64>,
    is_counted: bool,
}

impl<T: Iterator<Item = u64>> Drop for Shift<'_, T> {
    fn drop(&mut self) {
        // Only what is no world, such as its settings, panics beyond a world.
        let is_there = self.seed.is_none_or(|seed| self.floor.end(seed));
        if self.is_counted && is_there {
            let _ = self.sender.send(Word::Left);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "campaign/tests.rs"]
mod tests;
