//! The state that apply, readers and background jobs share, and when it changes hands: publishing,
//! freezing an overlay, putting a flushed engine view in its place. Knows no requests.
//!
//! One short lock guards it all. A reader takes a [`View`] under the lock and works without it; the
//! apply thread works on the active overlay without it and publishes the new revision under it. A
//! frozen overlay is dropped in the same breath as the engine view that contains it appears, so
//! that every view holds every change once.

use crate::auth::{self, AuthNews};
use crate::background::Background;
use crate::counts::OpCounters;
use crate::engine::{Engine, EngineError, Refusal};
use crate::lease;
use crate::meta::{self, Meta, Progress};
use crate::seal::SealedEngine;
use crate::view::View;
use crate::work;
use quorate::core::LogIndex;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// How much the store holds in memory before it asks the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// An overlay of this size is moved into the engine.
    pub flush_size_bytes: usize,
    /// While an overlay is being moved, the next one may grow to this size; then apply waits.
    pub overlay_size_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self { flush_size_bytes: 32 * MIB, overlay_size_bytes_max: 96 * MIB }
    }
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    background: Arc<dyn Background>,
    limits: Limits,
    state: Mutex<State>,
    /// Signalled when the background finished a step.
    changed: Condvar,
    /// Who waits for the first failure. Locked within `state`.
    failure_waiters: Mutex<Vec<Waker>>,
    observers: Mutex<Vec<Weak<dyn Observer>>>,
    /// What was carried out since the start.
    pub(crate) counters: OpCounters,
}

/// Hears of new revisions, on the thread that made them, without the store's lock.
pub(crate) trait Observer: Send + Sync {
    /// There may be a new revision.
    fn published(&self);

    /// These leases changed: what is published includes them.
    fn leases_touched(&self, _ids: &[i64]) {}

    /// This happened to tokens: what is published next includes it.
    fn auth_news(&self, _news: &[AuthNews]) {}

    /// Everything was replaced.
    fn replaced(&self) {}

    /// A compaction is about to take effect. What it makes superfluous can still be read, and no
    /// more once this returns.
    fn compacting(&self);
}

/// Whether a background job is running, or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Working {
    No,
    Yes,
    /// It is, and ends after what it is doing: somebody else waits for the engine.
    UntilClaimed,
}

/// What the lock guards.
pub(crate) struct State {
    /// What a reader gets.
    pub(crate) view: View,
    /// What `view` contains.
    pub(crate) progress: Progress,
    /// What `view.frozen` and the engine contain together.
    pub(crate) frozen_progress: Option<Progress>,
    /// What the engine contains, durably.
    pub(crate) stored: Meta,
    /// The active overlay shall be moved as soon as that is possible, whatever its size.
    pub(crate) flush_wanted: bool,
    /// The apply thread is adding to the active overlay: nobody else may freeze it.
    applying: bool,
    working: Working,
    /// Giving back the engine's free space.
    pub(crate) renewal: work::RenewalState,
    /// The first failure. Nothing is written after it.
    failed: Option<Arc<str>>,
}

impl Shared {
    pub(crate) fn open(
        engine: Arc<dyn Engine>,
        background: Arc<dyn Background>,
        limits: Limits,
    ) -> Result<Arc<Self>, EngineError> {
        let engine = SealedEngine::new(engine);
        meta::upgrade(engine.bare(), &engine)?;
        let state = Mutex::new(State::load(&engine)?);
        let shared = Arc::new(Self {
            engine: Arc::new(engine),
            background,
            limits,
            state,
            changed: Condvar::new(),
            failure_waiters: Mutex::default(),
            observers: Mutex::default(),
            counters: OpCounters::default(),
        });
        // A compaction that a restart interrupted goes on.
        shared.start_work(shared.lock());
        Ok(shared)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Under the lock only fields are assigned; a panic in a job is recorded as `failed`.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader may see now.
    pub(crate) fn view(&self) -> View {
        self.lock().view.clone()
    }

    /// Starts a batch: waits until there is room for it, and returns what it starts from.
    pub(crate) fn begin(&self) -> Result<(View, Progress), EngineError> {
        let mut state = self.lock();
        while state.failed.is_none()
            && state.view.frozen.is_some()
            && state.view.active.size_bytes() >= self.limits.overlay_size_bytes_max
        {
            state = self.wait(state);
        }
        state.check()?;
        state.applying = true;
        Ok((state.view.clone(), state.progress.clone()))
    }

    /// Ends a batch: everything up to `progress` becomes visible, with the leases and the users of
    /// `view`.
    pub(crate) fn publish(self: &Arc<Self>, mut view: View, progress: Progress) {
        let touched = view.leases.take_touched();
        if !view.auth_news.is_empty() {
            // Sooner than anybody can see that the log is applied as far: who then does not find a
            // token need not wait for it.
            self.tell(|observer| observer.auth_news(&view.auth_news));
        }
        let mut state = self.lock();
        state.view.leases = view.leases;
        state.view.auth = view.auth;
        let compacted = state.progress.compacted != progress.compacted;
        state.view.revision = progress.revision;
        state.view.compacted = progress.compacted;
        state.progress = progress;
        if compacted {
            // Nothing of this batch reaches the engine before `applying` ends, so that no job can
            // delete what the observers have not seen.
            drop(state);
            self.tell(|observer| observer.compacting());
            state = self.lock();
            // Space is freed only behind what the engine holds.
            state.flush_wanted = true;
        }
        state.applying = false;
        self.start_work(state);
        self.tell(|observer| observer.published());
        if !touched.is_empty() {
            self.tell(|observer| observer.leases_touched(&touched));
        }
    }

    /// Lets `observer` hear of what is published from now on, for as long as it lives.
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|other| other.strong_count() > 0);
        observers.push(observer);
    }

    fn tell(&self, what: impl Fn(&dyn Observer)) {
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for observer in observers.iter().filter_map(Weak::upgrade) {
            what(observer.as_ref());
        }
    }

    /// Whether the active overlay is due: a long batch publishes then, and starts anew.
    pub(crate) fn is_due(&self, view: &View) -> bool {
        view.active.size_bytes() >= self.limits.flush_size_bytes
    }

    /// Makes sure that nothing is written any more.
    pub(crate) fn fail(&self, error: &dyn std::fmt::Display) {
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| error.to_string().into());
        state.applying = false;
        self.changed.notify_all();
        let waiters = std::mem::take(&mut *self.lock_failure_waiters());
        drop(state);
        waiters.into_iter().for_each(Waker::wake);
    }

    /// [`Shared::fail`] for a read: a store that cannot be read cannot go on either.
    pub(crate) fn failed_by(&self, error: EngineError) -> EngineError {
        self.fail(&error);
        error
    }

    /// The first failure; without one, the task is woken when it comes.
    pub(crate) fn poll_failure(&self, context: &Context<'_>) -> Poll<Arc<str>> {
        let state = self.lock();
        if let Some(first) = &state.failed {
            return Poll::Ready(Arc::clone(first));
        }
        let mut waiters = self.lock_failure_waiters();
        if !waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
            waiters.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The first failure, if there was one.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().failed.clone()
    }

    fn lock_failure_waiters(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.failure_waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the active overlay to be moved, without waiting for it.
    pub(crate) fn want_flush(self: &Arc<Self>) {
        let mut state = self.lock();
        state.flush_wanted = true;
        self.start_work(state);
    }

    /// Waits until the engine holds everything up to `target`.
    pub(crate) fn wait_stored(&self, target: &Progress) -> Result<(), EngineError> {
        let mut state = self.lock();
        while state.failed.is_none() && state.stored.progress.covered < target.covered {
            state = self.wait(state);
        }
        state.check()
    }

    /// Has the engine give back what is free in it, however little that is, and waits until it has.
    pub(crate) fn renew(self: &Arc<Self>) -> Result<Option<Refusal>, EngineError> {
        let mut state = self.lock();
        let turn = state.renewal.want();
        loop {
            state.check()?;
            if let Some(outcome) = state.renewal.outcome_of(turn) {
                return Ok(outcome.err());
            }
            self.start_work(state);
            state = self.lock();
            if state.renewal.outcome_of(turn).is_none() && state.failed.is_none() {
                state = self.wait(state);
            }
        }
    }

    /// What is under way of that ends soon, and nobody waits for it any more.
    pub(crate) fn end_renewals(&self) {
        self.lock().renewal.close();
        self.changed.notify_all();
    }

    /// Lets `replace` put something else into the engine, while no job runs, then starts over from
    /// there. Readers see the old state until then, and for good if it fails.
    pub(crate) fn replace<E: From<EngineError>>(
        self: &Arc<Self>,
        replace: impl FnOnce(&dyn Engine, LogIndex) -> Result<(), E>,
    ) -> Result<(), E> {
        let applied = self.claim()?;
        let outcome = replace(self.engine.as_ref(), applied);
        let fresh = outcome.and_then(|()| Ok(State::load(self.engine.as_ref())?));
        let mut state = self.lock();
        state.working = Working::No;
        let outcome = fresh.map(|fresh| state.restart_from(fresh));
        self.start_work(state);
        self.tell(|observer| observer.replaced());
        self.tell(|observer| observer.published());
        outcome
    }

    /// Waits until no job runs, and keeps others from starting one.
    fn claim(&self) -> Result<LogIndex, EngineError> {
        let mut state = self.lock();
        while state.working != Working::No {
            state.working = Working::UntilClaimed;
            state = self.wait(state);
        }
        state.check()?;
        state.working = Working::Yes;
        Ok(state.progress.covered)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the background if there is something to do and it is not at it already.
    fn start_work(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.freeze_if_due(self.limits.flush_size_bytes);
        let is_working = state.working != Working::No;
        if is_working || state.failed.is_some() || !work::has_work(&state) {
            return;
        }
        state.working = Working::Yes;
        drop(state);
        let shared = Arc::clone(self);
        self.background.spawn(Box::new(move || work::run(&shared)));
    }

    /// A background job did something; says whether there is more to do.
    pub(crate) fn finish_step(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.lock();
        change(&mut state);
        state.freeze_if_due(self.limits.flush_size_bytes);
        let is_claimed = state.working == Working::UntilClaimed;
        let goes_on = state.failed.is_none() && !is_claimed && work::has_work(&state);
        state.working = if goes_on { Working::Yes } else { Working::No };
        self.changed.notify_all();
        goes_on
    }
}

impl State {
    /// What the engine holds, with nothing on top.
    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, EngineError> {
        let engine_view = engine.view()?;
        let stored = Meta::read(engine_view.as_ref())?;
        let view = View {
            revision: stored.progress.revision,
            compacted: stored.progress.compacted,
            leases: lease::read_all(engine_view.as_ref())?,
            auth: Arc::new(auth::read(engine_view.as_ref())?),
            auth_news: Vec::new(),
            active: Arc::default(),
            frozen: None,
            engine: engine_view,
            lineage: 0,
        };
        Ok(Self {
            view,
            progress: stored.progress.clone(),
            frozen_progress: None,
            stored,
            flush_wanted: false,
            applying: false,
            working: Working::No,
            renewal: work::RenewalState::default(),
            failed: None,
        })
    }

    /// Everything was replaced.
    fn restart_from(&mut self, mut fresh: Self) {
        fresh.view.lineage = self.view.lineage + 1;
        // A reader may have failed the store meanwhile.
        fresh.failed = self.failed.take();
        fresh.renewal = self.renewal.take();
        *self = fresh;
    }

    fn check(&self) -> Result<(), EngineError> {
        match &self.failed {
            Some(first) => Err(EngineError::FailedEarlier { first: Arc::clone(first) }),
            None => Ok(()),
        }
    }

    /// Turns the active overlay into the frozen one, if it is time and nothing is in the way.
    fn freeze_if_due(&mut self, flush_size_bytes: usize) {
        if self.applying || self.view.frozen.is_some() || self.failed.is_some() {
            return;
        }
        if self.progress == self.stored.progress {
            self.flush_wanted = false;
            return;
        }
        if self.flush_wanted || self.view.active.size_bytes() >= flush_size_bytes {
            self.flush_wanted = false;
            self.view.frozen = Some(std::mem::take(&mut self.view.active));
            self.frozen_progress = Some(self.progress.clone());
        }
    }
}
