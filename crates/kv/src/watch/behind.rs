//! Watchers that are behind read history, those of a stream together, one bounded piece at a time,
//! until they are as far as the hub. Runs when the client has taken everything else, and lets others
//! have a turn within a piece that is long: of one revision, that is, which cannot be told in part.

use super::changes::{Change, Delivery, Interest, Piece, PieceLimits, Previous, Reading};
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

/// A piece that such a group is reading, of the store as it was when it began.
pub(super) struct Catching {
    group: Group,
    view: View,
    reading: Reading,
}

/// Reads on in the piece of history for those of a stream that are behind; `false` if none is, and
/// then the stream waits for its signal.
pub(super) fn catch_up(
    inner: &Inner,
    stream: u64,
    begun: &mut Option<Catching>,
) -> Result<bool, EngineError> {
    let mut catching = if let Some(catching) = begun.take() {
        catching
    } else {
        let mut state = inner.lock();
        let view = inner.shared.view();
        let chosen = state.choose(stream, inner.limits.piece_watches_max);
        if chosen.is_empty() {
            return Ok(state.rest(stream));
        }
        Catching::new(state.without_compacted(chosen, &view), view, inner)
    };
    // Nobody else moves those who are behind: whoever reads has the only handle to the stream.
    if catching.go_on().map_err(|error| inner.shared.failed_by(error))? {
        inner.lock().move_on(stream, &catching.group, catching.reading.piece);
    } else {
        *begun = Some(catching);
    }
    Ok(true)
}

impl Catching {
    fn new(group: Group, view: View, inner: &Inner) -> Self {
        let limits = PieceLimits {
            rows: inner.limits.piece_rows_max,
            bytes: inner.limits.piece_bytes_max,
            // They get it whole: nobody else keeps it for them.
            delivery_bytes: usize::MAX,
        };
        let reading = Reading::new(group.from, limits, Previous::Readable);
        Self { group, view, reading }
    }

    /// Whether the piece is whole.
    fn go_on(&mut self) -> Result<bool, EngineError> {
        let Self { group, view, reading } = self;
        if group.interests.is_empty() || group.from > view.revision {
            reading.piece.through = view.revision;
            return Ok(true);
        }
        reading.go_on(view, |key, interested| {
            group.index.watchers_of(key, |watcher| {
                interested.extend(group.interests.get(&watcher).copied());
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
            found.entry(watcher).or_default().extend(changes.into_iter().flatten());
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
