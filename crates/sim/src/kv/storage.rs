//! Where a simulated store keeps its data: its slow work is done later than it is asked for, a crash
//! may come between any two writes of one stretch of work, and what the store vouches for must be
//! there afterwards. Knows nothing of requests and replies.

use super::reference::Reference;
use crate::application::Complaint;
use crate::rng::{Chance, Rng};
use bytes::Bytes;
use quorate::{
    Checkpoint, Committed, Fatal, Notebook, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_core::{LogId, LogIndex};
use quorate_kv::{
    Background, Copying, Durability, Engine, EngineError, EngineView, Feed, Job, MemoryEngine,
    Renewal, Write,
};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One node's storage; clones share it.
#[derive(Clone, Default)]
pub(super) struct Storage {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    engine: MemoryEngine,
    /// What a crash in the present stretch of work may leave instead, oldest first.
    earlier: Vec<MemoryEngine>,
    jobs: VecDeque<Job>,
    /// Whether jobs wait at all.
    is_slow: bool,
    /// What the store vouched for at last.
    claimed: LogIndex,
    /// What it has vouched for, to a node that knows of it.
    vouched: LogIndex,
    trouble: Trouble,
    renewing: Renewing,
}

/// How the engine is made anew, a part after each of its batches, so that batches come in between.
#[derive(Default)]
struct Renewing {
    /// How much is copied at a time; nothing is, if this is `None`.
    part_bytes: Option<usize>,
    next: Option<(MemoryEngine, Copying)>,
    /// How often it was since that was last asked.
    done_count: u64,
}

/// How the engine fails.
struct Trouble {
    /// The chance of a write that does.
    chance: Chance,
    rng: Rng,
    has_failed: bool,
    /// Whether the node may stop because of that: until it has.
    is_excuse: bool,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { chance: Chance::NEVER, rng: Rng::new(0), has_failed: false, is_excuse: false }
    }
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The storage that a node finds when it starts after a crash; empty, if the store is volatile.
    pub(super) fn after_crash(&self, is_volatile: bool, is_slow: bool) -> Self {
        let state = self.lock();
        let engine = if is_volatile { MemoryEngine::new() } else { state.engine.after_crash() };
        let vouched = if is_volatile { LogIndex::ORIGIN } else { state.vouched };
        let state = State { engine, is_slow, vouched, ..State::default() };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// From now on writes fail, by this chance.
    pub(super) fn set_failures(&self, chance: Chance, rng: Rng) {
        self.lock().trouble = Trouble { chance, rng, ..Trouble::default() };
    }

    /// From now on the engine is made anew, again and again, so many bytes at a time.
    pub(super) fn set_renewals(&self, part_bytes: Option<usize>) {
        self.lock().renewing.part_bytes = part_bytes;
    }

    /// How often it was, since this was last asked.
    pub(super) fn take_renewals(&self) -> u64 {
        std::mem::take(&mut self.lock().renewing.done_count)
    }

    /// From now on no write fails any more; what has failed has failed.
    pub(super) fn heal(&self) {
        self.lock().trouble.chance = Chance::NEVER;
    }

    /// Whether a write failed since this was last asked.
    pub(super) fn take_failure(&self) -> bool {
        std::mem::take(&mut self.lock().trouble.is_excuse)
    }

    /// Carries a write out, unless the engine fails before or after that.
    fn write(
        &self,
        write: impl FnOnce(MemoryEngine) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut state = self.lock();
        let State { trouble, .. } = &mut *state;
        let fails = trouble.rng.happens(trouble.chance);
        let is_done = !fails || trouble.rng.coin();
        trouble.has_failed |= fails;
        trouble.is_excuse |= fails;
        drop(state);
        if is_done {
            write(self.is_about_to_write())?;
        }
        if !fails {
            return Ok(());
        }
        let source = "simulated failure of the engine".into();
        Err(EngineError::Failed { doing: "writes", source })
    }

    /// A crash in the middle of a stretch of work: any beginning of it may be all that is left.
    pub(super) fn crash_at_work(&self, rng: &mut Rng) {
        let mut state = self.lock();
        let mut possible = std::mem::take(&mut state.earlier);
        possible.push(state.engine.clone());
        if let Some(left) = rng.pick(&possible) {
            state.engine = left.clone();
        }
    }

    fn run_jobs(&self) {
        loop {
            // A job may ask for another one.
            let Some(job) = self.lock().jobs.pop_front() else { return };
            job();
        }
    }

    /// A stretch of work is over, and the node knows of it: no crash takes it away any more.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        state.earlier.clear();
        state.vouched = state.vouched.max(state.claimed);
    }

    /// What a crash now would leave is kept, since a write comes that changes it.
    fn is_about_to_write(&self) -> MemoryEngine {
        let mut state = self.lock();
        let left = state.engine.after_crash();
        state.earlier.push(left);
        state.engine.clone()
    }

    fn forget_jobs(&self) {
        // They hold the store, which holds this.
        let jobs = std::mem::take(&mut self.lock().jobs);
        drop(jobs);
    }
}

impl Background for Storage {
    fn spawn(&self, job: Job) {
        if !self.lock().is_slow {
            return job();
        }
        self.lock().jobs.push_back(job);
    }
}

impl Engine for Storage {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        self.lock().engine.view()
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        let both = batch.clone();
        self.write(|engine| engine.write_batch(batch, durability))?;
        let mut state = self.lock();
        let Some((next, copying)) = &mut state.renewing.next else { return Ok(()) };
        let behind = both.into_iter().filter(|write| copying.has_passed(write)).collect();
        next.write_batch(behind, Durability::Later)
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.lock().renewing.next = None;
        self.write(|engine| engine.replace(next))
    }

    fn renew(&self, _: u64, _: bool) -> Result<Renewal, EngineError> {
        let mut state = self.lock();
        let Some(part_bytes) = state.renewing.part_bytes else { return Ok(Renewal::Idle) };
        let view = state.engine.view()?;
        let (next, mut copying) = state.renewing.next.take().unwrap_or_default();
        if !copying.is_complete() {
            let part = copying.take_part(view.as_ref(), part_bytes)?;
            next.write_batch(part, Durability::Later)?;
            state.renewing.next = Some((next, copying));
            // That was all for now: what comes next is a batch, if one comes.
            return Ok(Renewal::Idle);
        }
        next.write_batch(Vec::new(), Durability::Now)?;
        let left = state.engine.after_crash();
        state.earlier.push(left);
        state.engine = next;
        state.renewing.done_count += 1;
        Ok(Renewal::Done)
    }

    fn size_bytes(&self) -> u64 {
        self.lock().engine.size_bytes()
    }
}

/// A state machine on such a storage, whose every reply is compared with the reference.
pub(super) struct Watched {
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) storage: Storage,
    pub(super) reference: Arc<Mutex<Reference>>,
    pub(super) rng: Rng,
}

impl Watched {
    /// What was put off is done before some stretches of work, and always if they would wait.
    fn begin(&mut self, waits: bool) {
        if waits || self.rng.below(3) == 0 {
            self.storage.run_jobs();
        }
    }

    /// Compares what the store vouches for with what it has vouched for before.
    fn check(&self) {
        let (now, before) = (self.machine.applied(), self.storage.lock().vouched);
        let renewed_count = self.storage.take_renewals();
        self.reference().renewed_count += renewed_count;
        self.storage.lock().claimed = now;
        if now < before {
            let text = format!("a store vouches for {now} after it vouched for {before}");
            self.reference().complain(Complaint(text));
        }
    }

    fn reference(&self) -> MutexGuard<'_, Reference> {
        self.reference.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.storage.forget_jobs();
    }
}

impl StateMachine for Watched {
    fn applied(&self) -> LogIndex {
        self.machine.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.begin(false);
        let before = replies.as_slice().len();
        let has_failed = self.storage.lock().trouble.has_failed;
        let applied = self.machine.apply(batch, replies);
        if applied.is_ok() && has_failed {
            let text = "a store goes on although its engine has failed".to_owned();
            self.reference().complain(Complaint(text));
        }
        // Of a batch that fails the first part may be visible.
        let mut reference = self.reference();
        for (committed, reply) in batch.iter().zip(replies.as_slice().iter().skip(before)) {
            reference.applied(committed.log_id.index, &committed.command, reply);
        }
        drop(reference);
        applied?;
        self.check();
        Ok(())
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.machine.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.machine.view()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.begin(false);
        let begun = self.machine.checkpoint();
        self.check();
        begun
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.begin(true);
        self.storage.lock().is_slow = false;
        self.machine.finish()
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        self.begin(false);
        self.machine.notebook()
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.begin(true);
        self.machine.restore(last_included, source)?;
        self.reference().restored_count += 1;
        self.check();
        Ok(())
    }
}
