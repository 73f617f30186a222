//! Watchers that are behind read history, those of a stream together, one bounded piece at a time,
//! until they are as far as the hub. Runs when the client has taken everything else.

use super::changes::{Change, Delivery, Interest, Piece, PieceLimits, Previous, read_piece};
use super::hub::{Inner, State, Watcher};
use super::index::{RangeIndex, WatcherKey};
use super::outbox::Item;
use crate::engine::EngineError;
use crate::revision::Revision;
use crate::view::{KeyRange, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Watchers that read together. They stay in their stream's list meanwhile: nobody may think that
/// none is behind.
struct Group {
    interests: BTreeMap<WatcherKey, Interest>,
    index: RangeIndex,
    from: Revision,
}

/// Reads one piece of history for those of a stream that are behind; `false` if none is, and then
/// the stream waits for its signal.
pub(super) fn catch_up(inner: &Inner, stream: u64) -> Result<bool, EngineError> {
    let mut state = inner.lock();
    let view = inner.shared.view();
    let chosen = state.choose(stream, inner.limits.piece_watches_max);
    if chosen.is_empty() {
        return Ok(state.rest(stream));
    }
    let group = state.without_compacted(chosen, &view);
    drop(state);
    // Nobody else moves those who are behind: whoever reads has the only handle to the stream.
    let limits = PieceLimits {
        rows_max: inner.limits.piece_rows_max,
        bytes_max: inner.limits.piece_bytes_max,
    };
    let piece = group.read(&view, limits).map_err(|error| inner.shared.failed_by(error))?;
    inner.lock().move_on(stream, &group, piece);
    Ok(true)
}

impl Group {
    fn read(&self, view: &View, limits: PieceLimits) -> Result<Piece, EngineError> {
        if self.interests.is_empty() || self.from > view.revision {
            return Ok(Piece { through: view.revision, ..Piece::default() });
        }
        read_piece(view, self.from, limits, Previous::Readable, |key, interested| {
            self.index.watchers_of(key, |watcher| {
                interested.extend(self.interests.get(&watcher).copied());
            });
        })
    }
}

impl State {
    /// Those farthest behind.
    fn choose(&self, stream: u64, count_max: usize) -> Vec<WatcherKey> {
        let behind = self.lanes.get(&stream).map(|lane| lane.behind.iter());
        behind.into_iter().flatten().take(count_max).map(|(_, key)| *key).collect()
    }

    /// Nobody is behind; says whether there is something to tell even so.
    fn rest(&mut self, stream: u64) -> bool {
        let at = self.at;
        let Some(lane) = self.lanes.get_mut(&stream) else { return false };
        lane.pay_progress(at);
        lane.is_waiting = lane.outbox.len() == 0;
        !lane.is_waiting
    }

    /// Ends the watches whose history is gone; the others read together.
    fn without_compacted(&mut self, chosen: Vec<WatcherKey>, view: &View) -> Group {
        let mut group = Group {
            interests: BTreeMap::new(),
            index: RangeIndex::default(),
            from: Revision::new(u64::MAX),
        };
        for key in chosen {
            let Some(watcher) = self.watchers.get(&key) else { continue };
            match view.compacted.filter(|compacted| watcher.next < *compacted) {
                Some(compacted) => self.end_compacted(key, compacted),
                None => group.add(key, watcher),
            }
        }
        group
    }

    fn end_compacted(&mut self, key: WatcherKey, compacted: Revision) {
        let Some(watcher) = self.watchers.get(&key) else { return };
        let (stream, id) = (watcher.stream, watcher.id);
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.outbox.push(Item::Compacted { id, compacted });
        }
        self.remove(key);
    }

    /// Hands over what the group read, in one response for each watcher, and moves each on.
    fn move_on(&mut self, stream: u64, group: &Group, piece: Piece) {
        let through = piece.through;
        let mut found: BTreeMap<WatcherKey, Vec<_>> = BTreeMap::new();
        for Delivery { watcher, changes, .. } in piece.deliveries {
            found.entry(watcher).or_default().extend(changes);
        }
        for key in group.interests.keys() {
            if let Some(changes) = found.remove(key) {
                self.hand_over_history(*key, through, changes);
            }
            self.settle(*key, through.next());
        }
        let at = self.at;
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.pay_progress(at);
        }
    }
}

impl State {
    fn hand_over_history(&mut self, key: WatcherKey, through: Revision, changes: Vec<Arc<Change>>) {
        let Some(watcher) = self.watchers.get_mut(&key) else { return };
        watcher.is_idle = false;
        let events = watcher.events(through, changes);
        self.pending_bytes += events.size_bytes();
        self.event_count += events.changes.len() as u64;
        if let Some(lane) = self.lanes.get_mut(&watcher.stream) {
            lane.outbox.push(Item::Events(events));
        }
    }
}

impl Group {
    fn add(&mut self, key: WatcherKey, watcher: &Watcher) {
        let range: &KeyRange = &watcher.range;
        self.index.insert(range, key);
        self.from = self.from.min(watcher.next);
        let interest = Interest { watcher: key, from: watcher.next, wants: watcher.wants };
        self.interests.insert(key, interest);
    }
}
