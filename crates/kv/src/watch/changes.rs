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
    pub(crate) changes: Vec<Arc<Change>>,
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
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
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
    let mut rows = Rows::new(view, from)?;
    let mut reading = Reading { view, previous, piece: Piece::default(), open: BTreeMap::new() };
    let (mut row_count, mut size_bytes) = (0, 0);
    let mut now = from;
    let mut interested = Vec::new();
    while let Some(id) = rows.advance()? {
        if id.main > now {
            reading.close(now);
            if row_count >= limits.rows_max || size_bytes >= limits.bytes_max {
                return Ok(reading.end(now));
            }
            now = id.main;
        }
        row_count += 1;
        interested.clear();
        interest(rows.key()?, &mut interested);
        interested.retain(|interest| interest.from <= id.main);
        if !interested.is_empty() {
            size_bytes += reading.add(&rows.row()?, &interested)?;
        }
    }
    reading.close(now);
    Ok(reading.end(view.revision))
}

/// A piece in the making.
struct Reading<'a> {
    view: &'a View,
    previous: Previous,
    piece: Piece,
    /// The changes of the revision that is being read.
    open: BTreeMap<WatcherKey, Vec<Arc<Change>>>,
}

impl Reading<'_> {
    /// Notes a change for those who want it; returns what it counts for.
    fn add(&mut self, row: &Arc<Row>, interested: &[Interest]) -> Result<usize, EngineError> {
        let is_wanted = |wants: &Wants| {
            if row.version.tombstone { wants.deletions } else { wants.puts }
        };
        let wanted = || interested.iter().filter(|interest| is_wanted(&interest.wants));
        let prev = if wanted().any(|interest| interest.wants.prev_kv) {
            self.previous_of(row)?
        } else {
            None
        };
        let change = Arc::new(Change { row: Arc::clone(row), prev });
        for interest in wanted() {
            self.open.entry(interest.watcher).or_default().push(Arc::clone(&change));
        }
        Ok(change.size_bytes())
    }

    /// What the key held before this change.
    fn previous_of(&self, row: &Row) -> Result<Option<KeyValue>, EngineError> {
        let at = row.version.id.main;
        let before = Revision::new(at.get().saturating_sub(1));
        let is_compacted = self.view.compacted.is_some_and(|compacted| before < compacted);
        let is_created = !row.version.tombstone && row.version.create_revision == at;
        if is_created || (is_compacted && self.previous == Previous::Readable) {
            return Ok(None);
        }
        // What is compacted and still there is the right one: compaction takes the oldest first.
        let found = self.view.living(&row.key, ChangeId::last_of(before))?;
        found.map(|found| self.view.load(&found)).transpose()
    }

    /// The revision is whole.
    fn close(&mut self, revision: Revision) {
        let open = std::mem::take(&mut self.open);
        let deliveries =
            open.into_iter().map(|(watcher, changes)| Delivery { watcher, revision, changes });
        self.piece.deliveries.extend(deliveries);
    }

    fn end(mut self, through: Revision) -> Piece {
        self.piece.through = through;
        self.piece
    }
}

/// Walks over the changes of a view from a revision on.
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
    fn new(view: &'a View, from: Revision) -> Result<Self, EngineError> {
        let first = ChangeId::new(from, 0);
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
