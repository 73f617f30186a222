//! Many worlds at the same time: threads, the clock, the progress file, and a clean stop. The only
//! file that looks at a clock and starts threads; each world stays in one thread, and nothing in it
//! can tell.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use crate::case::{Case, Changes};
use crate::progress::{Identity, Progress, ProgressError, SeedSet};
use crate::progress_file::ProgressFile;
use crate::run::{Ended, Violation, World, Worlds};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often somebody is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A world that runs for longer than this is named: it may never end.
const PATIENCE: Duration = Duration::from_mins(1);
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
    /// How long a world may run before somebody is told. Most take milliseconds.
    pub patience: Duration,
}

/// How a campaign tells of itself while it runs, and how it is stopped.
pub struct Watch<'a> {
    /// Called twice a second.
    pub progress: &'a mut dyn FnMut(&Standing<'_>),
    /// Called for each world that ends badly.
    pub violation: &'a mut dyn FnMut(&Violation),
    /// Called once for each world that runs for longer than the campaign's patience, and with how
    /// long that is. It is not ended: nothing can, but the end of the process.
    pub stuck: &'a mut dyn FnMut(&Case, Duration),
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
#[derive(Debug)]
pub struct CampaignEnd {
    /// Everything so far, earlier sessions included.
    pub progress: Progress,
    /// How many of its seeds are not done.
    pub left_count: u64,
    /// Why the session ended early, if its progress could not be kept. The worlds that ran by then
    /// were let end, and are in `progress`.
    pub not_written: Option<ProgressError>,
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
        let mut session = Session::begin(self)?;
        let todo = Mutex::new(self.todo(&session.progress.done));
        let running = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let left_count = self.seed_count.saturating_sub(session.done_count());
            let left_count = usize::try_from(left_count).unwrap_or(usize::MAX);
            for _ in 0..self.jobs.min(left_count).max(1) {
                if watch.stop.load(Ordering::Relaxed) {
                    break;
                }
                let (sender, todo, running, stop) = (sender.clone(), &todo, &running, watch.stop);
                scope.spawn(move || self.work(worlds, todo, running, stop, &sender));
            }
            drop(sender);
            session.gather(&receiver, &running, &mut watch);
            watch.stop.store(true, Ordering::Relaxed);
        });
        let left_count = self.seed_count - session.done_count();
        let Session { progress, not_written, .. } = session;
        Ok(CampaignEnd { progress, left_count, not_written })
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
        running: &RunningWorlds,
        stop: &AtomicBool,
        sender: &Sender<Ended>,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let Some(seed) = lock(todo).next() else { return };
            lock(running).insert(seed, Instant::now());
            let ended = self.case(seed).run(worlds);
            lock(running).remove(&seed);
            if sender.send(ended).is_err() {
                return;
            }
        }
    }
}

/// The worlds that run, by their seeds, and since when.
type RunningWorlds = Mutex<BTreeMap<u64, Instant>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Worlds that were named as running for too long.
    named: BTreeSet<u64>,
    /// Where the progress is kept. Nobody else keeps theirs there.
    file: Option<ProgressFile>,
    not_written: Option<ProgressError>,
}

impl<'a> Session<'a> {
    fn begin(campaign: &'a Campaign) -> Result<Self, ProgressError> {
        let identity = campaign.identity();
        let file = campaign.file.as_deref().map(ProgressFile::take).transpose()?;
        let progress = match &file {
            Some(file) => Progress::load(file.path(), &identity, campaign.may_be_another_build)?,
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
            named: BTreeSet::new(),
            file,
            not_written: None,
        };
        // A file that cannot be written is noticed now, not after hours.
        session.store()?;
        Ok(session)
    }

    fn done_count(&self) -> u64 {
        let Campaign { first, .. } = self.campaign;
        self.progress.done.count_within(first.seed, self.campaign.last_seed())
    }

    /// Takes in how worlds ended, until no thread is left. If the progress cannot be kept any more,
    /// no other worlds begin.
    fn gather(
        &mut self,
        receiver: &Receiver<Ended>,
        running: &RunningWorlds,
        watch: &mut Watch<'_>,
    ) {
        loop {
            match receiver.recv_timeout(PROGRESS_EVERY) {
                Ok(ended) => self.take(ended, watch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.told.elapsed() >= PROGRESS_EVERY {
                self.told = Instant::now();
                self.tell(watch);
                self.name_stuck(running, watch);
            }
            if self.stored.elapsed() >= STORE_EVERY
                && let Err(error) = self.store()
            {
                self.not_written.get_or_insert(error);
                watch.stop.store(true, Ordering::Relaxed);
            }
        }
        self.tell(watch);
        if let Err(error) = self.store() {
            self.not_written.get_or_insert(error);
        }
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

    fn name_stuck(&mut self, running: &RunningWorlds, watch: &mut Watch<'_>) {
        let ages: Vec<(u64, Duration)> =
            lock(running).iter().map(|(seed, since)| (*seed, since.elapsed())).collect();
        for (seed, age) in ages {
            if age >= self.campaign.patience && self.named.insert(seed) {
                (watch.stuck)(&self.campaign.case(seed), age);
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
        match &self.file {
            Some(file) => self.progress.store(file.path(), &self.identity),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv_world;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_world_that_does_not_end_is_named_once_and_may_still_end() {
        let mut campaign = Campaign::new(World { seed: 7, node_count: 1, steps: 100 }, 1);
        campaign.patience = Duration::ZERO;
        let (let_go, held) = sync_channel::<()>(1);
        let held = Mutex::new(held);
        let worlds = |world: &World| {
            lock(&held).recv().expect("somebody names it");
            kv_world(world)
        };
        let mut named = Vec::new();
        let watch = Watch {
            progress: &mut |_| {},
            violation: &mut |violation| panic!("{violation:?}"),
            stuck: &mut |case, _| {
                named.push(case.world.seed);
                let_go.send(()).expect("the world waits");
            },
            stop: &AtomicBool::new(false),
        };
        let end = campaign.run(&worlds, watch).expect("no file is written");
        assert_eq!((named, end.left_count), (vec![7], 0));
    }
}
