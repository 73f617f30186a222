//! One session of a campaign: takes in how worlds end, tells how far it is, keeps the progress, and
//! gives up worlds that hang. Runs none itself.

use super::floor::{Floor, Seen};
use super::{Campaign, CampaignEnd, Standing, Watch, Word};
use crate::judge::Breach;
use crate::progress::{Identity, Progress, ProgressError};
use crate::progress_file::ProgressFile;
use crate::run::{Ended, Violation};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often somebody is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How often the progress file is written.
const STORE_EVERY: Duration = Duration::from_secs(3);
/// Once no more worlds begin, one that stays in one step for longer than this is left behind.
const GRACE: Duration = Duration::from_secs(10);
/// Every world that hangs keeps a processor busy: at so many the campaign ends.
const HANGING_COUNT_MAX: usize = 4;

/// One session of a campaign.
pub(super) struct Session<'a> {
    campaign: &'a Campaign,
    identity: Identity,
    pub(super) progress: Progress,
    /// What runs such worlds.
    command: String,
    /// Time on the clock and of the processors in the sessions before.
    before: (Duration, Duration),
    ended_count: u64,
    started: Instant,
    cpu_at_start: Duration,
    told: Instant,
    stored: Instant,
    looked: Instant,
    /// How many threads run worlds.
    worker_count: usize,
    /// Worlds that were named as running for too long.
    named: BTreeSet<u64>,
    /// Worlds that hang...
    hanging_count: usize,
    /// ...and those that were left behind, which may hang.
    left_behind_count: usize,
    /// Where the progress is kept. Nobody else keeps theirs there.
    file: Option<ProgressFile>,
    not_written: Option<Arc<ProgressError>>,
}

impl<'a> Session<'a> {
    pub(super) fn begin(campaign: &'a Campaign, command: String) -> Result<Self, ProgressError> {
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
            command,
            before,
            ended_count: 0,
            started,
            cpu_at_start: cpu_time(),
            told: started,
            stored: started,
            looked: started,
            worker_count: 0,
            named: BTreeSet::new(),
            hanging_count: 0,
            left_behind_count: 0,
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

    /// Whether there are threads that cannot be waited for.
    pub(super) const fn has_abandoned(&self) -> bool {
        self.hanging_count + self.left_behind_count > 0
    }

    /// How it ended.
    pub(super) fn end(&self) -> CampaignEnd {
        CampaignEnd {
            progress: self.progress.clone(),
            left_count: self.campaign.seed_count - self.done_count(),
            not_written: self.not_written.clone(),
        }
    }

    /// Takes in how worlds ended, until no thread is left. If the progress cannot be kept any more,
    /// no other worlds begin.
    pub(super) fn gather<T: Iterator<Item = u64>>(
        &mut self,
        receiver: &Receiver<Word>,
        floor: &Floor<T>,
        watch: &mut Watch<'_>,
        hire: &dyn Fn(),
    ) {
        self.hire_all(watch, hire);
        while self.worker_count > 0 {
            match receiver.recv_timeout(PROGRESS_EVERY) {
                Ok(Word::Ended(ended)) => self.take(*ended, watch),
                Ok(Word::Left) => self.worker_count -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if self.told.elapsed() >= PROGRESS_EVERY {
                self.told = Instant::now();
                self.tell(watch);
                self.look(floor, watch, hire);
            }
            if self.stored.elapsed() >= STORE_EVERY
                && let Err(error) = self.store()
            {
                self.not_written.get_or_insert(Arc::new(error));
                watch.stop.store(true, Ordering::Relaxed);
            }
        }
        self.tell(watch);
        if let Err(error) = self.store() {
            self.not_written.get_or_insert(Arc::new(error));
        }
    }

    fn hire_all(&mut self, watch: &Watch<'_>, hire: &dyn Fn()) {
        let left_count = self.campaign.seed_count.saturating_sub(self.done_count());
        let left_count = usize::try_from(left_count).unwrap_or(usize::MAX);
        // A failure that an earlier session found ends this one, too.
        let has_ended = self.progress.failure_count > 0 && !self.campaign.keeps_going;
        for _ in 0..self.campaign.jobs.min(left_count) {
            if has_ended || watch.stop.load(Ordering::Relaxed) {
                break;
            }
            self.worker_count += 1;
            hire();
        }
    }

    fn take(&mut self, ended: Ended, watch: &mut Watch<'_>) {
        self.ended_count += 1;
        match ended {
            Ok(summary) => self.progress.add(&summary),
            Err(violation) => self.take_violation(&violation, watch),
        }
    }

    fn take_violation(&mut self, violation: &Violation, watch: &mut Watch<'_>) {
        self.progress.add_failure(violation);
        (watch.violation)(violation);
        if !self.campaign.keeps_going {
            watch.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Names worlds that run for long, and gives up those that do not move.
    fn look<T: Iterator<Item = u64>>(
        &mut self,
        floor: &Floor<T>,
        watch: &mut Watch<'_>,
        hire: &dyn Fn(),
    ) {
        let passed = self.looked.elapsed().min(2 * PROGRESS_EVERY);
        self.looked = Instant::now();
        let Campaign { patience, hangs_after, .. } = *self.campaign;
        let grace = GRACE.min(patience);
        for seen in floor.look(passed) {
            if seen.age >= patience && self.named.insert(seen.seed) {
                (watch.stuck)(&self.campaign.case(seen.seed), seen.age, &seen.pulse);
            }
            let is_stopping = watch.stop.load(Ordering::Relaxed);
            if seen.still >= hangs_after && floor.end(seen.seed) {
                self.give_up(&seen, watch, hire);
            } else if is_stopping && seen.still >= grace && floor.end(seen.seed) {
                self.left_behind_count += 1;
                self.worker_count -= 1;
            }
        }
    }

    /// A world hangs: that is a failure, and another thread takes over the rest of the work.
    fn give_up(&mut self, seen: &Seen, watch: &mut Watch<'_>, hire: &dyn Fn()) {
        self.ended_count += 1;
        self.hanging_count += 1;
        self.worker_count -= 1;
        let (at, step) = (seen.pulse.at(), seen.pulse.step());
        let case = self.campaign.case(seen.seed);
        let violation = Violation {
            command: Some(self.command.clone()),
            node_count: case.world.node_count,
            case,
            at,
            step,
            breach: Breach::Hangs { step, seconds: seen.still.as_secs() },
            story: Vec::new(),
            client_count: 0,
            request_count: 0,
            trouble_count: 0,
        };
        self.take_violation(&violation, watch);
        if self.hanging_count >= HANGING_COUNT_MAX {
            watch.stop.store(true, Ordering::Relaxed);
        }
        if !watch.stop.load(Ordering::Relaxed) {
            self.worker_count += 1;
            hire();
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
