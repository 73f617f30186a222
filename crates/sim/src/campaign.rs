//! Many worlds at the same time: threads, the clock, the progress file, and a clean stop. The only
//! file that looks at a clock and starts threads; each world stays in one thread, and nothing in it
//! can tell.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use crate::case::{Case, Changes};
use crate::progress::{Identity, Progress, ProgressError, SeedSet};
use crate::run::{Ended, Violation, World, Worlds};
use rustix::time::{ClockId, clock_gettime};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often somebody is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How often the progress file is written.
const STORE_EVERY: Duration = Duration::from_secs(3);

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
}

/// How a campaign tells of itself while it runs, and how it is stopped.
pub struct Watch<'a> {
    /// Called twice a second.
    pub progress: &'a mut dyn FnMut(&Standing<'_>),
    /// Called for each world that ends badly.
    pub violation: &'a mut dyn FnMut(&Violation),
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
    /// [`ProgressError`] if the progress file cannot be used.
    pub fn run<W: Worlds>(
        &self,
        worlds: &W,
        mut watch: Watch<'_>,
    ) -> Result<CampaignEnd, ProgressError> {
        let mut session = Session::begin(self)?;
        let todo = Mutex::new(self.todo(&session.progress.done));
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let left_count = self.seed_count.saturating_sub(session.done_count());
            let left_count = usize::try_from(left_count).unwrap_or(usize::MAX);
            for _ in 0..self.jobs.min(left_count).max(1) {
                if watch.stop.load(Ordering::Relaxed) {
                    break;
                }
                let (sender, todo, stop) = (sender.clone(), &todo, watch.stop);
                scope.spawn(move || self.work(worlds, todo, stop, &sender));
            }
            drop(sender);
            let gathered = session.gather(&receiver, &mut watch);
            watch.stop.store(true, Ordering::Relaxed);
            gathered
        })?;
        let left_count = self.seed_count - session.done_count();
        Ok(CampaignEnd { progress: session.progress, left_count })
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
        todo: &Mutex<impl Iterator<Item = u64>>,
        stop: &AtomicBool,
        sender: &Sender<Ended>,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let seed = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(seed) = seed else { return };
            if sender.send(self.case(seed).run(worlds)).is_err() {
                return;
            }
        }
    }
}

/// One session of a campaign.
struct Session<'a> {
    campaign: &'a Campaign,
    identity: Identity,
    progress: Progress,
    /// Time on the clock and of the processors in the sessions before.
    before: (Duration, Duration),
    ended_count: u64,
    started: Instant,
    cpu_at_start: Duration,
    told: Instant,
    stored: Instant,
}

impl<'a> Session<'a> {
    fn begin(campaign: &'a Campaign) -> Result<Self, ProgressError> {
        let identity = campaign.identity();
        let progress = match &campaign.file {
            Some(path) => Progress::load(path, &identity, campaign.may_be_another_build)?,
            None => Progress::default(),
        };
        let started = Instant::now();
        let before = (progress.wall, progress.cpu);
        let mut session = Self {
            campaign,
            identity,
            progress,
            before,
            ended_count: 0,
            started,
            cpu_at_start: cpu_time(),
            told: started,
            stored: started,
        };
        // A file that cannot be written is noticed now, not after hours.
        session.store()?;
        Ok(session)
    }

    fn done_count(&self) -> u64 {
        let Campaign { first, .. } = self.campaign;
        self.progress.done.count_within(first.seed, self.campaign.last_seed())
    }

    /// Takes in how worlds ended, until no thread is left.
    fn gather(
        &mut self,
        receiver: &Receiver<Ended>,
        watch: &mut Watch<'_>,
    ) -> Result<(), ProgressError> {
        loop {
            match receiver.recv_timeout(PROGRESS_EVERY) {
                Ok(ended) => self.take(ended, watch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.told.elapsed() >= PROGRESS_EVERY {
                self.told = Instant::now();
                self.tell(watch);
            }
            if self.stored.elapsed() >= STORE_EVERY {
                self.store()?;
            }
        }
        self.tell(watch);
        self.store()
    }

    fn take(&mut self, ended: Ended, watch: &mut Watch<'_>) {
        self.ended_count += 1;
        match ended {
            Ok(summary) => self.progress.add(&summary),
            Err(violation) => {
                self.progress.add_failure(&violation);
                (watch.violation)(&violation);
                if !self.campaign.keeps_going {
                    watch.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn tell(&mut self, watch: &mut Watch<'_>) {
        self.take_time();
        (watch.progress)(&Standing {
            progress: &self.progress,
            done_count: self.done_count(),
            seed_count: self.campaign.seed_count,
            session_count: self.ended_count,
            session: self.started.elapsed(),
        });
    }

    fn store(&mut self) -> Result<(), ProgressError> {
        self.take_time();
        self.stored = Instant::now();
        match &self.campaign.file {
            Some(path) => self.progress.store(path, &self.identity),
            None => Ok(()),
        }
    }

    fn take_time(&mut self) {
        let (wall, cpu) = self.before;
        self.progress.wall = wall + self.started.elapsed();
        self.progress.cpu = cpu + cpu_time().saturating_sub(self.cpu_at_start);
    }
}

/// The time that the processors have spent on this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
