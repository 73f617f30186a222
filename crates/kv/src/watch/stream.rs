//! One stream of watches: what its client asks for, and what it is told next. Must not know how
//! either travels.

use super::api::{WatchCreateRequest, WatchFilter, WatchRequest, WatchRequestKind, WatchResponse};
use super::behind::{self, Catching};
use super::changes::Wants;
use super::hub::{Inner, Lane, Standing, State, Watcher};
use super::outbox::{Item, NO_WATCH};
use crate::engine::EngineError;
use crate::error::OpError;
use crate::revision::Revision;
use crate::view::{KeyRange, RangeEnd};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// etcd's words for watches that cannot be.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const TOO_MANY: &str = "quorate: too many watches";

/// A stream of watches; dropping it ends them.
pub struct WatchStream {
    pub(super) inner: Arc<Inner>,
    pub(super) stream: u64,
    /// The piece of history that is being read.
    catching: Option<Catching>,
}

/// What [`WatchStream::pull`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Tell this to the client.
    Response(WatchResponse),
    /// Some history was read, and there is nothing to tell yet; call again, after others had a
    /// turn.
    Busy,
    /// Nothing until the stream's signal.
    Idle,
}

impl WatchStream {
    pub(crate) const fn new(inner: Arc<Inner>, stream: u64) -> Self {
        Self { inner, stream, catching: None }
    }

    /// Does what a client asks for. The answer, if there is one, comes in its turn.
    pub fn request(&mut self, request: WatchRequest) {
        match request.kind {
            Some(WatchRequestKind::Create(create)) => self.create(&create),
            Some(WatchRequestKind::Cancel(cancel)) => self.cancel(cancel.watch_id),
            Some(WatchRequestKind::Progress(_)) => self.request_progress(),
            // etcd ignores what it does not know.
            None => {}
        }
    }

    /// Begins a watch, or says why not.
    pub fn create(&mut self, request: &WatchCreateRequest) {
        let mut state = self.inner.lock();
        self.inner.is_watched.store(true, Ordering::SeqCst);
        let view = self.inner.shared.view();
        state.skip_to(&view);
        let now = view.revision;
        let limits = &self.inner.limits;
        let keys_bytes = state.keys_bytes + request.key.len() + request.range_end.len();
        let is_full =
            state.watchers.len() >= limits.watches_max || keys_bytes > limits.keys_bytes_max;
        let Some(lane) = state.lanes.get_mut(&self.stream) else { return };
        let place = match place_of(request, now, lane, is_full) {
            Ok(place) => place,
            Err(refusal) => {
                let refusal = Some(refusal);
                lane.outbox.push(Item::Created { id: NO_WATCH, revision: now, refusal });
                return lane.wake();
            }
        };
        lane.outbox.push(Item::Created { id: place.id, revision: now, refusal: None });
        lane.wake();
        let next = place.next;
        let key = state.add(watcher(self.stream, place, request));
        state.settle(key, next);
    }

    /// Ends a watch, after what it was handed before. Of an id that is not in use nothing is said.
    pub fn cancel(&mut self, id: i64) {
        let mut state = self.inner.lock();
        let revision = self.inner.shared.view().revision;
        let Some(lane) = state.lanes.get_mut(&self.stream) else { return };
        let Some(key) = lane.ids.get(&id).copied() else { return };
        lane.outbox.push(Item::Canceled { id, revision, reason: String::new() });
        lane.wake();
        state.remove(key);
        self.inner.note_watched(&state);
        state.pay_progress_of(self.stream);
    }

    /// Tells the client how far all watches of the stream are, once all of them are as far as the
    /// store is now. Of no watches this is true at once.
    pub fn request_progress(&mut self) {
        // What the client has already seen elsewhere shall be within the answer. If the engine
        // fails, whoever reads next says so.
        while matches!(self.inner.advance(), Ok(true)) {}
        let mut state = self.inner.lock();
        let Some(lane) = state.lanes.get_mut(&self.stream) else { return };
        lane.owes_progress = true;
        state.pay_progress_of(self.stream);
    }

    /// The interval of progress notifications is over: each watch that asked for them, was not
    /// told anything since the last one, and is not behind, is told how far it is.
    pub fn tick(&mut self) {
        let mut state = self.inner.lock();
        let State { at, watchers, lanes, .. } = &mut *state;
        let Some(lane) = lanes.get_mut(&self.stream) else { return };
        for (id, key) in &lane.ids {
            let Some(watcher) = watchers.get_mut(key).filter(|watcher| watcher.wants_progress)
            else {
                continue;
            };
            if watcher.is_idle && watcher.is_synced() && watcher.next <= at.next() {
                lane.outbox.push(Item::Progress { id: *id, revision: *at });
            }
            watcher.is_idle = true;
        }
        if lane.outbox.len() > 0 {
            lane.wake();
        }
    }

    /// How many responses wait to be taken. Who drives the stream takes no further request while
    /// this grows, so that a client that only asks and never reads is held up.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.inner.lock().lanes.get(&self.stream).map_or(0, |lane| lane.outbox.len())
    }

    /// How many of its watches are behind and read history.
    #[must_use]
    pub fn behind_count(&self) -> usize {
        self.inner.lock().lanes.get(&self.stream).map_or(0, |lane| lane.behind.len())
    }

    /// How many watches there are.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.inner.lock().lanes.get(&self.stream).map_or(0, |lane| lane.ids.len())
    }

    /// What the client is told next. Call it when the client can take something: that is what
    /// reads history for those who are behind.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the storage engine failed.
    pub fn pull(&mut self) -> Result<Pulled, EngineError> {
        if let Some(response) = self.take() {
            return Ok(Pulled::Response(response));
        }
        if !behind::catch_up(&self.inner, self.stream, &mut self.catching)? {
            return Ok(Pulled::Idle);
        }
        Ok(self.take().map_or(Pulled::Busy, Pulled::Response))
    }

    fn take(&mut self) -> Option<WatchResponse> {
        let mut state = self.inner.lock();
        let State { lanes, pending_bytes, .. } = &mut *state;
        let lane = lanes.get_mut(&self.stream)?;
        let before = lane.outbox.size_bytes;
        let response = lane.outbox.pop(self.inner.limits.fragment_bytes_max);
        *pending_bytes = pending_bytes.saturating_sub(before - lane.outbox.size_bytes);
        response
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        let Some(lane) = state.lanes.get(&self.stream) else { return };
        let keys: Vec<_> = lane.ids.values().copied().collect();
        for key in keys {
            state.remove(key);
        }
        if let Some(lane) = state.lanes.remove(&self.stream) {
            state.pending_bytes = state.pending_bytes.saturating_sub(lane.outbox.size_bytes);
        }
        self.inner.note_watched(&state);
    }
}

impl State {
    pub(super) fn pay_progress_of(&mut self, stream: u64) {
        let at = self.at;
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.pay_progress(at);
        }
    }
}

/// What a request becomes.
struct Place {
    id: i64,
    range: KeyRange,
    next: Revision,
}

/// The id, range and first revision of a new watch, or etcd's words for why there is none.
fn place_of(
    request: &WatchCreateRequest,
    now: Revision,
    lane: &mut Lane,
    is_full: bool,
) -> Result<Place, String> {
    let Ok(start) = u64::try_from(request.start_revision) else {
        return Err(format!("etcdserver: {}", OpError::Compacted));
    };
    let range = range_of(request);
    if let RangeEnd::Before(end) = &range.end
        && range.from >= *end
    {
        return Err(EMPTY_RANGE.to_owned());
    }
    if is_full {
        return Err(TOO_MANY.to_owned());
    }
    let id = match request.watch_id {
        0 => lane.free_id(),
        wanted if lane.ids.contains_key(&wanted) => return Err(DUPLICATE_ID.to_owned()),
        wanted => wanted,
    };
    let next = if start == 0 { now.next() } else { Revision::new(start) };
    Ok(Place { id, range, next })
}

impl Lane {
    /// The next number that no watch of the stream has.
    fn free_id(&mut self) -> i64 {
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

fn range_of(request: &WatchCreateRequest) -> KeyRange {
    // The empty key is none; the lowest that can be is a zero byte.
    let lowest = Bytes::from_static(&[0]);
    let key = if request.key.is_empty() { &lowest } else { &request.key };
    KeyRange::new(key, &request.range_end)
}

fn watcher(stream: u64, place: Place, request: &WatchCreateRequest) -> Watcher {
    let is_unwanted = |filter: WatchFilter| request.filters.contains(&i32::from(filter));
    Watcher {
        stream,
        id: place.id,
        range: place.range,
        next: place.next,
        wants: Wants {
            puts: !is_unwanted(WatchFilter::NoPut),
            deletions: !is_unwanted(WatchFilter::NoDelete),
            prev_kv: request.prev_kv,
        },
        may_fragment: request.fragment,
        wants_progress: request.progress_notify,
        // As in etcd, a fresh watch hears at the first tick.
        is_idle: true,
        standing: Standing::Behind,
    }
}
