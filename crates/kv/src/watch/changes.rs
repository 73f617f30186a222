//! Reads the changes of a view from a revision on, in the order in which they happened, wherever
//! they are kept, and hands each to the watchers that want it. Knows nothing of streams or queues.

use super::api::{Event, EventKind};
use super::index::WatcherKey;
use crate::api::KeyValue;
use crate::engine::{Cursor, Direction, EngineError, Space};
use crate::overlay::Overlay;
use crate::revision::{ChangeId, Revision};
use crate::row::{self, Row};
use crate::view::View;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happened to a key, shared by all watchers that hear of it.
#[derive(Debug)]
pub(crate) struct Change {
    row: Arc<Row>,
    /// What the key held before, if a watcher wants that.
    prev: Option<KeyValue>,
}

impl Change {
    /// The same as a client is told.
    pub(crate) fn to_event(&self, with_prev: bool) -> Event {
        let kind = if self.row.version.tombstone { EventKind::Delete } else { EventKind::Put };
        let prev_kv = self.prev.clone().filter(|_| with_prev);
        Event { kind: kind.into(), kv: Some(self.row.to_key_value()), prev_kv }
    }

    /// What it counts for in every byte limit.
    pub(crate) fn size_bytes(&self) -> usize {
        let prev = self.prev.as_ref().map_or(0, |prev| prev.key.len() + prev.value.len());
        self.row.size_bytes() + prev
    }
}

/// What of a key's changes a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) puts: bool,
    pub(crate) deletions: bool,
    pub(crate) prev_kv: bool,
}

/// A watcher that may want a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    pub(crate) watcher: WatcherKey,
    /// Below this revision it wants nothing.
    pub(crate) from: Revision,
    pub(crate) wants: Wants,
}

/// All changes of one revision that one watcher wants.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) watcher: WatcherKey,
    pub(crate) revision: Revision,
    /// None if they are more than one delivery may be.
    pub(crate) changes: Option<Vec<Arc<Change>>>,
}

/// A stretch of history.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// In the order of their revisions.
    pub(crate) deliveries: Vec<Delivery>,
    /// Everything up to here was looked at.
    pub(crate) through: Revision,
}

/// How much of history one piece looks at; the revision that exceeds a limit is the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PieceLimits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    /// What one watcher may get of one revision.
    pub(crate) delivery_bytes: usize,
}

/// Which previous values may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Previous {
    /// Those that are still there.
    Present,
    /// Those that a reader could ask for.
    Readable,
}

/// Reads a piece of `view`'s history that begins at `from`. `interest` says who may want a change
/// of a key.
pub(crate) fn read_piece(
    view: &View,
    from: Revision,
    limits: PieceLimits,
    previous: Previous,
    interest: impl Fn(&[u8], &mut Vec<Interest>),
) -> Result<Piece, EngineError> {
    let mut reading = Reading::new(from, limits, previous);
    while !reading.go_on(view, &interest)? {}
    Ok(reading.piece)
}

/// A piece in the making. It may be made in several goes, for its last revision may be long.
pub(crate) struct Reading {
    limits: PieceLimits,
    previous: Previous,
    /// What is read next.
    next: ChangeId,
    looked_at: LookedAt,
    /// The changes of the revision that is being read.
    open: BTreeMap<WatcherKey, Open>,
    pub(crate) piece: Piece,
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
struct LookedAt {
    row_count: usize,
    size_bytes: usize,
}

/// What one watcher gets of one revision.
#[derive(Debug)]
struct Open {
    /// None if they are more than may be.
    changes: Option<Vec<Arc<Change>>>,
    size_bytes: usize,
}

impl Reading {
    /// Nothing is read yet.
    pub(crate) fn new(from: Revision, limits: PieceLimits, previous: Previous) -> Self {
        Self {
            limits,
            previous,
            next: ChangeId::new(from, 0),
            looked_at: LookedAt::default(),
            open: BTreeMap::new(),
            piece: Piece::default(),
        }
    }

    /// Reads on in the same view, until the piece is whole, which is returned, or so much was read
    /// that others should have a turn.
    pub(crate) fn go_on(
        &mut self,
        view: &View,
        interest: impl Fn(&[u8], &mut Vec<Interest>),
    ) -> Result<bool, EngineError> {
        let mut rows = Rows::new(view, self.next)?;
        let mut now = LookedAt::default();
        let mut interested = Vec::new();
        while let Some(id) = rows.advance()? {
            if id.main > self.next.main {
                self.close();
                if self.looked_at.is_enough(self.limits) {
                    self.piece.through = self.next.main;
                    return Ok(true);
                }
            } else if now.is_enough(self.limits) {
                self.next = id;
                return Ok(false);
            }
            self.next = id;
            interested.clear();
            interest(rows.key()?, &mut interested);
            interested.retain(|interest| interest.from <= id.main);
            self.leave_out_full(&mut interested);
            let size_bytes =
                if interested.is_empty() { 0 } else { self.add(view, &rows.row()?, &interested)? };
            for looked_at in [&mut now, &mut self.looked_at] {
                looked_at.row_count += 1;
                looked_at.size_bytes += size_bytes;
            }
        }
        self.close();
        self.piece.through = view.revision;
        Ok(true)
    }

    /// Whose delivery is too large already needs no more to be read.
    fn leave_out_full(&self, interested: &mut Vec<Interest>) {
        interested.retain(|interest| {
            self.open.get(&interest.watcher).is_none_or(|open| open.changes.is_some())
        });
    }

    /// Notes a change for those who want it; returns what it counts for.
    fn add(
        &mut self,
        view: &View,
        row: &Arc<Row>,
        interested: &[Interest],
    ) -> Result<usize, EngineError> {
        let is_wanted = |wants: &Wants| {
            if row.version.tombstone { wants.deletions } else { wants.puts }
        };
        let wanted = || interested.iter().filter(|interest| is_wanted(&interest.wants));
        let prev = if wanted().any(|interest| interest.wants.prev_kv) {
            self.previous_of(view, row)?
        } else {
            None
        };
        let change = Arc::new(Change { row: Arc::clone(row), prev });
        let size_bytes = change.size_bytes();
        for interest in wanted() {
            let first = || Open { changes: Some(Vec::new()), size_bytes: 0 };
            let open = self.open.entry(interest.watcher).or_insert_with(first);
            open.size_bytes += size_bytes;
            if open.size_bytes > self.limits.delivery_bytes {
                open.changes = None;
            }
            open.changes.iter_mut().for_each(|changes| changes.push(Arc::clone(&change)));
        }
        Ok(size_bytes)
    }

    /// What the key held before this change.
    fn previous_of(&self, view: &View, row: &Row) -> Result<Option<KeyValue>, EngineError> {
        let at = row.version.id.main;
        let before = Revision::new(at.get().saturating_sub(1));
        let is_compacted = view.compacted.is_some_and(|compacted| before < compacted);
        let is_created = !row.version.tombstone && row.version.create_revision == at;
        if is_created || (is_compacted && self.previous == Previous::Readable) {
            return Ok(None);
        }
        // What is compacted and still there is the right one: compaction takes the oldest first.
        let found = view.living(&row.key, ChangeId::last_of(before))?;
        found.map(|found| view.load(&found)).transpose()
    }

    /// The revision is whole.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        let revision = self.next.main;
        let deliveries = open.into_iter().map(|(watcher, open)| Delivery {
            watcher,
            revision,
            changes: open.changes,
        });
        self.piece.deliveries.extend(deliveries);
    }
}

impl LookedAt {
    const fn is_enough(self, limits: PieceLimits) -> bool {
        self.row_count >= limits.rows || self.size_bytes >= limits.bytes
    }
}

/// Walks over the changes of a view from one on.
struct Rows<'a> {
    view: &'a View,
    stored: Option<Box<dyn Cursor>>,
    /// The frozen overlay, then the active one (from the back), with the place to go on at.
    overlays: Vec<(Arc<Overlay>, usize)>,
    /// Rows of an overlay ahead, the next one last.
    chunk: Vec<Arc<Row>>,
    /// The row in memory that the walk stands on; if none, it is the cursor's.
    current: Option<Arc<Row>>,
}

impl<'a> Rows<'a> {
    fn new(view: &'a View, first: ChangeId) -> Result<Self, EngineError> {
        let mut overlays = Vec::with_capacity(2);
        // What is new is in memory, and then nobody else need be asked.
        let mut is_covered = false;
        for overlay in [Some(&view.active), view.frozen.as_ref()].into_iter().flatten() {
            if !is_covered {
                is_covered = overlay.first_id().is_some_and(|id| id <= first);
                overlays.push((Arc::clone(overlay), overlay.place_of(first)));
            }
        }
        let stored = if is_covered {
            None
        } else {
            let key = row::row_key(first);
            Some(view.engine.scan(Space::Rows, &key, None, Direction::Forward)?)
        };
        Ok(Self { view, stored, overlays, chunk: Vec::new(), current: None })
    }

    /// Goes to the next change that the view may show.
    fn advance(&mut self) -> Result<Option<ChangeId>, EngineError> {
        if let Some(stored) = &mut self.stored {
            if stored.advance()? {
                let id = row::parse_row_key(stored.key())?;
                return Ok(Some(id).filter(|id| id.main <= self.view.revision));
            }
            self.stored = None;
        }
        self.current = self.next_in_memory();
        let id = self.current.as_ref().map(|row| row.version.id);
        Ok(id.filter(|id| id.main <= self.view.revision))
    }

    fn next_in_memory(&mut self) -> Option<Arc<Row>> {
        loop {
            if let Some(row) = self.chunk.pop() {
                return Some(row);
            }
            let (overlay, place) = self.overlays.last_mut()?;
            self.chunk = overlay.rows_from(*place);
            *place += self.chunk.len();
            if self.chunk.is_empty() {
                self.overlays.pop();
            }
            self.chunk.reverse();
        }
    }

    /// The key that changed.
    fn key(&self) -> Result<&[u8], EngineError> {
        match (&self.current, &self.stored) {
            (Some(row), _) => Ok(&row.key),
            (None, Some(stored)) => row::key_of_row(stored.key(), stored.value()),
            (None, None) => Ok(&[]),
        }
    }

    /// The change, whole.
    fn row(&self) -> Result<Arc<Row>, EngineError> {
        match (&self.current, &self.stored) {
            (Some(row), _) => Ok(Arc::clone(row)),
            (None, stored) => {
                let stored = stored.as_deref();
                let (key, value) = stored.map_or((&[][..], &[][..]), |at| (at.key(), at.value()));
                Ok(Arc::new(row::parse_row(key, Bytes::copy_from_slice(value))?))
            }
        }
    }
}
