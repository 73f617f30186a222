//! Reads what is new in the store once, and hands it to the synced watchers of all streams. Must
//! not wait for a stream: one whose outbox is full is left behind.

use super::WatchLimits;
use super::changes::{Delivery, Interest, Piece, PieceLimits, Previous, Wants, read_piece};
use super::index::{RangeIndex, WatcherKey};
use super::outbox::{Events, Item, NO_WATCH, Outbox};
use super::stream::WatchStream;
use crate::engine::EngineError;
use crate::reader::Reader;
use crate::revision::Revision;
use crate::store::{Observer, Shared};
use crate::view::{KeyRange, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Called when there may be something to do.
pub(crate) type Signal = Box<dyn Fn() + Send + Sync>;

/// Where watches of one store come together. Clones are the same hub.
#[derive(Clone)]
pub struct WatchHub {
    inner: Arc<Inner>,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchFigures {
    /// Open streams.
    pub stream_count: usize,
    /// Watches on all of them.
    pub watch_count: usize,
    /// Watches that read history because their client, or they themselves, are behind.
    pub behind_count: usize,
    /// Events that wait for clients, in bytes.
    pub pending_bytes: usize,
    /// Events handed to streams since the start.
    pub event_count: u64,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: WatchLimits,
    state: Mutex<State>,
    /// Whether there is anybody to signal for. Set before a new watch looks at the store.
    pub(crate) is_watched: AtomicBool,
    signal: Signal,
}

/// What the lock guards. It is taken before the store's, never within it.
pub(crate) struct State {
    /// Up to here everything was routed.
    pub(crate) at: Revision,
    lineage: u64,
    synced: RangeIndex,
    pub(crate) watchers: BTreeMap<WatcherKey, Watcher>,
    pub(crate) lanes: BTreeMap<u64, Lane>,
    pub(crate) pending_bytes: usize,
    /// The bytes of all watched keys.
    pub(crate) keys_bytes: usize,
    pub(crate) event_count: u64,
    next_watcher: u64,
    next_stream: u64,
}

/// One watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: u64,
    pub(crate) id: i64,
    pub(crate) range: KeyRange,
    /// Everything below was handed to it. Of a synced watcher only a lower bound: the hub's own
    /// place counts, if it is higher.
    pub(crate) next: Revision,
    pub(crate) wants: Wants,
    pub(crate) may_fragment: bool,
    pub(crate) wants_progress: bool,
    /// Nothing was handed to it since the last tick.
    pub(crate) is_idle: bool,
    pub(crate) standing: Standing,
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// From the hub, as they happen.
    Synced,
    /// From history, when its stream asks.
    Behind,
}

/// One stream.
pub(crate) struct Lane {
    pub(crate) outbox: Outbox,
    pub(crate) ids: BTreeMap<i64, WatcherKey>,
    /// Its watchers that are behind, lowest place first.
    pub(crate) behind: BTreeSet<(Revision, WatcherKey)>,
    /// Synced watchers that want nothing before a revision which may still be to come.
    pub(crate) future: BTreeSet<(Revision, WatcherKey)>,
    pub(crate) next_id: i64,
    /// The client asked how far all are, and was not told yet.
    pub(crate) owes_progress: bool,
    /// The stream found nothing to do and waits for its signal.
    pub(crate) is_waiting: bool,
    signal: Signal,
}

impl WatchHub {
    /// A hub for a store. `signal` is called, on the thread that applies, whenever there may be
    /// something new for a watch; somebody then calls [`WatchHub::advance`].
    #[must_use]
    pub fn new(
        reader: &Reader,
        limits: WatchLimits,
        signal: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::clone(reader.shared());
        let view = shared.view();
        let state = State {
            at: view.revision,
            lineage: view.lineage,
            synced: RangeIndex::default(),
            watchers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            pending_bytes: 0,
            keys_bytes: 0,
            event_count: 0,
            next_watcher: 0,
            next_stream: 0,
        };
        let signal = Box::new(signal);
        let (state, is_watched) = (Mutex::new(state), AtomicBool::new(false));
        let inner = Arc::new(Inner { shared, limits, state, is_watched, signal });
        let observer: Weak<Inner> = Arc::downgrade(&inner);
        inner.shared.observe(observer);
        Self { inner }
    }

    /// A stream of watches. `signal` is called when [`WatchStream::pull`] has something again
    /// after it had not.
    #[must_use]
    pub fn stream(&self, signal: impl Fn() + Send + Sync + 'static) -> WatchStream {
        let mut state = self.inner.lock();
        let stream = state.next_stream;
        state.next_stream += 1;
        state.lanes.insert(stream, Lane::new(Box::new(signal)));
        drop(state);
        WatchStream::new(Arc::clone(&self.inner), stream)
    }

    /// Hands a bounded piece of what is new to the synced watchers. Says whether there is more.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the storage engine failed.
    pub fn advance(&self) -> Result<bool, EngineError> {
        self.inner.advance()
    }

    /// How many there are of what.
    #[must_use]
    pub fn figures(&self) -> WatchFigures {
        let state = self.inner.lock();
        WatchFigures {
            stream_count: state.lanes.len(),
            watch_count: state.watchers.len(),
            behind_count: state.lanes.values().map(|lane| lane.behind.len()).sum(),
            pending_bytes: state.pending_bytes,
            event_count: state.event_count,
        }
    }
}

impl Observer for Inner {
    fn published(&self) {
        if self.is_watched.load(Ordering::SeqCst) {
            (self.signal)();
        }
    }

    /// Synced watchers are told of everything before a compaction takes it away. Those behind may
    /// find that it was taken.
    fn compacting(&self) {
        // An engine that cannot be read fails whoever reads it next, the streams among them.
        while matches!(self.advance(), Ok(true)) {}
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of ours; the streams of others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch has ended. After the last one the hub stays where it is, until [`State::skip_to`].
    pub(crate) fn note_watched(&self, state: &State) {
        self.is_watched.store(!state.watchers.is_empty(), Ordering::SeqCst);
    }

    pub(crate) fn advance(&self) -> Result<bool, EngineError> {
        let mut state = self.lock();
        let view = self.shared.view();
        if view.lineage != state.lineage {
            state.leave_all_behind(&view);
            return Ok(false);
        }
        if view.revision <= state.at {
            return Ok(false);
        }
        let piece = state.read_new(&view, &self.limits);
        let piece = piece.map_err(|error| self.shared.failed_by(error))?;
        for delivery in piece.deliveries {
            state.hand_over(delivery, &self.limits);
        }
        state.at = piece.through;
        state.pay_progress();
        Ok(state.at < view.revision)
    }
}

impl State {
    /// What came after the place of the hub, for those who watch it.
    fn read_new(&self, view: &View, limits: &WatchLimits) -> Result<Piece, EngineError> {
        if self.synced.is_empty() {
            return Ok(Piece { through: view.revision, ..Piece::default() });
        }
        let limits = PieceLimits {
            rows: limits.piece_rows_max,
            bytes: limits.piece_bytes_max,
            // Nobody would have room for more.
            delivery_bytes: limits.stream_pending_bytes_max,
        };
        read_piece(view, self.at.next(), limits, Previous::Present, |key, interested| {
            self.synced.watchers_of(key, |watcher| interested.extend(self.interest(watcher)));
        })
    }

    fn interest(&self, key: WatcherKey) -> Option<Interest> {
        let watcher = self.watchers.get(&key)?;
        Some(Interest { watcher: key, from: watcher.next, wants: watcher.wants })
    }

    /// Puts events into the outbox of a synced watcher's stream; without room, the watcher falls
    /// behind.
    fn hand_over(&mut self, delivery: Delivery, limits: &WatchLimits) {
        let Delivery { watcher: key, revision, changes } = delivery;
        let Some(watcher) = self.watchers.get(&key).filter(|watcher| watcher.is_synced()) else {
            // It fell behind within this piece of history, at a lower revision.
            return;
        };
        let Some(changes) = changes else { return self.leave_behind(key, revision) };
        let Some(lane) = self.lanes.get_mut(&watcher.stream) else { return };
        let events = watcher.events(revision, changes);
        let size = events.size_bytes();
        let has_room = lane.outbox.size_bytes + size <= limits.stream_pending_bytes_max
            && self.pending_bytes + size <= limits.pending_bytes_max;
        if !has_room {
            return self.leave_behind(key, revision);
        }
        self.pending_bytes += size;
        self.event_count += events.changes.len() as u64;
        lane.outbox.push(Item::Events(events));
        lane.wake();
        if let Some(watcher) = self.watchers.get_mut(&key) {
            watcher.is_idle = false;
        }
    }

    /// From now on this watcher reads history, from `next` on.
    fn leave_behind(&mut self, key: WatcherKey, next: Revision) {
        let Some(watcher) = self.watchers.get_mut(&key) else { return };
        self.synced.remove(&watcher.range, key);
        watcher.standing = Standing::Behind;
        let floor = watcher.next;
        watcher.next = next.max(floor);
        let Some(lane) = self.lanes.get_mut(&watcher.stream) else { return };
        lane.future.remove(&(floor, key));
        lane.behind.insert((watcher.next, key));
        lane.wake();
    }

    /// A snapshot replaced the store, and part of the history may be gone: everybody looks.
    fn leave_all_behind(&mut self, view: &View) {
        let synced: Vec<WatcherKey> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.is_synced())
            .map(|(key, _)| *key)
            .collect();
        let next = self.at.next();
        for key in synced {
            self.leave_behind(key, next);
        }
        self.at = self.at.max(view.revision);
        self.lineage = view.lineage;
    }

    /// Brings the hub to the newest revision if that needs no reading: nobody waits for what is
    /// between.
    pub(crate) fn skip_to(&mut self, view: &View) {
        if view.lineage != self.lineage {
            self.leave_all_behind(view);
        } else if self.synced.is_empty() {
            self.at = self.at.max(view.revision);
        }
    }

    /// Moves a watcher that is not synced on to `next`: one that has everything up to the hub's
    /// place becomes synced, another is behind.
    pub(crate) fn settle(&mut self, key: WatcherKey, next: Revision) {
        let Some(watcher) = self.watchers.get_mut(&key) else { return };
        let Some(lane) = self.lanes.get_mut(&watcher.stream) else { return };
        lane.behind.remove(&(watcher.next, key));
        watcher.next = watcher.next.max(next);
        if watcher.next > self.at {
            watcher.standing = Standing::Synced;
            self.synced.insert(&watcher.range, key);
            if watcher.next > self.at.next() {
                lane.future.insert((watcher.next, key));
            }
        } else {
            lane.behind.insert((watcher.next, key));
        }
    }

    /// Forgets a watcher.
    pub(crate) fn remove(&mut self, key: WatcherKey) {
        let Some(watcher) = self.watchers.remove(&key) else { return };
        self.keys_bytes = self.keys_bytes.saturating_sub(watcher.range.size_bytes());
        self.synced.remove(&watcher.range, key);
        let Some(lane) = self.lanes.get_mut(&watcher.stream) else { return };
        lane.ids.remove(&watcher.id);
        lane.behind.remove(&(watcher.next, key));
        lane.future.remove(&(watcher.next, key));
    }

    pub(crate) fn add(&mut self, watcher: Watcher) -> WatcherKey {
        let key = WatcherKey(self.next_watcher);
        self.keys_bytes += watcher.range.size_bytes();
        self.next_watcher += 1;
        if let Some(lane) = self.lanes.get_mut(&watcher.stream) {
            lane.ids.insert(watcher.id, key);
        }
        self.watchers.insert(key, watcher);
        key
    }

    /// Tells the streams that asked how far they are, and are now as far as the hub.
    fn pay_progress(&mut self) {
        let at = self.at;
        for lane in self.lanes.values_mut().filter(|lane| lane.owes_progress) {
            lane.pay_progress(at);
        }
    }
}

impl Watcher {
    pub(crate) fn is_synced(&self) -> bool {
        self.standing == Standing::Synced
    }

    pub(crate) fn events(
        &self,
        revision: Revision,
        changes: impl IntoIterator<Item = Arc<super::changes::Change>>,
    ) -> Events {
        Events {
            id: self.id,
            revision,
            changes: changes.into_iter().collect(),
            with_prev: self.wants.prev_kv,
            may_fragment: self.may_fragment,
        }
    }
}

impl Lane {
    fn new(signal: Signal) -> Self {
        Self {
            outbox: Outbox::default(),
            ids: BTreeMap::new(),
            behind: BTreeSet::new(),
            future: BTreeSet::new(),
            next_id: 0,
            owes_progress: false,
            is_waiting: false,
            signal,
        }
    }

    /// Tells whoever drives the stream, once, that there is something.
    pub(crate) fn wake(&mut self) {
        if self.is_waiting {
            self.is_waiting = false;
            (self.signal)();
        }
    }

    /// If a progress answer is due and every watcher has everything up to `at`, puts it behind all
    /// that was handed over before.
    pub(crate) fn pay_progress(&mut self, at: Revision) {
        while self.future.first().is_some_and(|(next, _)| *next <= at.next()) {
            self.future.pop_first();
        }
        if self.owes_progress && self.behind.is_empty() && self.future.is_empty() {
            self.owes_progress = false;
            self.outbox.push(Item::Progress { id: NO_WATCH, revision: at });
            self.wake();
        }
    }
}
