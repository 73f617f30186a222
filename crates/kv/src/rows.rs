//! Walks over the changes of a view in the order in which they happened, without those that its
//! compaction made superfluous: the same sequence on every replica, wherever the changes are kept.

use crate::engine::{Cursor, Direction, EngineError, Space};
use crate::overlay::Overlay;
use crate::revision::{ChangeId, Revision};
use crate::row::{self, Row};
use crate::view::View;
use std::sync::Arc;

/// See the module.
pub(crate) struct LiveRows {
    view: View,
    stored: Box<dyn Cursor>,
    /// The frozen overlay, then the active one, once the engine's rows are through.
    overlays: Vec<(Arc<Overlay>, usize)>,
    /// Rows of an overlay ahead, the next one last.
    chunk: Vec<Arc<Row>>,
    /// The compaction up to which superfluous changes may still be there.
    unclean: Option<Revision>,
}

/// One change as the engine would hold it.
pub(crate) struct LiveRow {
    pub(crate) id: ChangeId,
    pub(crate) value: Vec<u8>,
}

impl LiveRows {
    /// The changes of `view` up to its revision. `cleaned` is the compaction whose superfluous
    /// changes the view's engine certainly holds no more.
    pub(crate) fn new(view: View, cleaned: Option<Revision>) -> Result<Self, EngineError> {
        let stored = view.engine.scan(Space::Rows, &[], None, Direction::Forward)?;
        let mut overlays = vec![(Arc::clone(&view.active), 0)];
        overlays.extend(view.frozen.iter().map(|frozen| (Arc::clone(frozen), 0)));
        let unclean = view.compacted.filter(|compacted| cleaned != Some(*compacted));
        Ok(Self { view, stored, overlays, chunk: Vec::new(), unclean })
    }

    /// The next change, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<LiveRow>, EngineError> {
        loop {
            let Some(row) = self.next_any()? else { return Ok(None) };
            if row.id.main > self.view.revision {
                return Ok(None);
            }
            if self.is_live(&row)? {
                return Ok(Some(row));
            }
        }
    }

    fn next_any(&mut self) -> Result<Option<LiveRow>, EngineError> {
        if self.chunk.is_empty() && self.stored.advance()? {
            let id = row::parse_row_key(self.stored.key())?;
            return Ok(Some(LiveRow { id, value: self.stored.value().to_vec() }));
        }
        Ok(self
            .next_in_memory()
            .map(|row| LiveRow { id: row.version.id, value: row::row_value(&row) }))
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

    /// Whether the compaction leaves this change: it is later, or it is the last one of its key up
    /// to there and no deletion. A deletion at the compacted revision itself stays.
    fn is_live(&self, row: &LiveRow) -> Result<bool, EngineError> {
        let Some(compacted) = self.unclean.filter(|compacted| row.id.main <= *compacted) else {
            return Ok(true);
        };
        let key = row::key_of_row(&row::row_key(row.id), &row.value)?;
        let Some(newest) = self.view.newest(key, ChangeId::last_of(compacted))? else {
            return Ok(false);
        };
        let version = newest.version();
        Ok(version.id == row.id && (!version.tombstone || row.id.main == compacted))
    }
}
