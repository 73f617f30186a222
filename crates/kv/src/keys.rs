//! Walks over the keys that exist at a moment: the overlays and the engine's index, merged in key
//! order. Must not know what is done with them.

use crate::engine::{Cursor, Direction, EngineError, EngineView, Space};
use crate::overlay::OverlayKeys;
use crate::revision::ChangeId;
use crate::row::{self, Version};
use crate::view::{Found, KeyRange, View};
use bytes::Bytes;
use std::sync::Arc;

/// The keys of a range that exist at a moment, in order, each with its newest visible change.
pub(crate) struct LivingKeys {
    active: OverlayKeys,
    frozen: Option<OverlayKeys>,
    stored: StoredKeys,
}

/// Where the lowest key ahead is. A higher layer hides the lower ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Active,
    Frozen,
    Stored,
}

impl LivingKeys {
    pub(crate) fn new(view: &View, range: &KeyRange, at: ChangeId) -> Result<Self, EngineError> {
        let to = range.to();
        let overlay = |overlay: &Arc<_>| {
            OverlayKeys::new(Arc::clone(overlay), range.from.clone(), to.clone(), at)
        };
        Ok(Self {
            active: overlay(&view.active),
            frozen: view.frozen.as_ref().map(overlay),
            stored: StoredKeys::new(Arc::clone(&view.engine), &range.from, to.as_deref(), at)?,
        })
    }

    /// The next key that exists, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, EngineError> {
        loop {
            let Some(layer) = self.lowest()? else { return Ok(None) };
            let Some(found) = self.take(layer)? else { return Ok(None) };
            if !found.version().tombstone {
                return Ok(Some(found));
            }
        }
    }

    /// The name of the key that `next` gave last, which was `found`.
    pub(crate) fn key_of(&self, found: &Found) -> Bytes {
        match found {
            Found::Row(row) => row.key.clone(),
            Found::Stored(_) => Bytes::copy_from_slice(self.stored.key()),
        }
    }

    fn lowest(&mut self) -> Result<Option<Layer>, EngineError> {
        let mut lowest: Option<(&[u8], Layer)> = None;
        if let Some(row) = self.active.peek() {
            lowest = Some((&row.key, Layer::Active));
        }
        if let Some(row) = self.frozen.as_mut().and_then(OverlayKeys::peek)
            && lowest.is_none_or(|(key, _)| row.key < key)
        {
            lowest = Some((&row.key, Layer::Frozen));
        }
        if let Some(stored) = self.stored.peek()?
            && lowest.is_none_or(|(key, _)| stored < key)
        {
            lowest = Some((stored, Layer::Stored));
        }
        Ok(lowest.map(|(_, layer)| layer))
    }

    /// Takes the lowest key from `layer`, and drops what lower layers say of the same key.
    fn take(&mut self, layer: Layer) -> Result<Option<Found>, EngineError> {
        let row = match layer {
            Layer::Stored => return Ok(self.stored.pop().map(Found::Stored)),
            Layer::Active => self.active.pop(),
            Layer::Frozen => self.frozen.as_mut().and_then(OverlayKeys::pop),
        };
        let Some(row) = row else { return Ok(None) };
        if let Some(frozen) = self.frozen.as_mut()
            && frozen.peek().is_some_and(|hidden| hidden.key == row.key)
        {
            frozen.pop();
        }
        if self.stored.peek()?.is_some_and(|hidden| hidden == row.key) {
            self.stored.pop();
        }
        Ok(Some(Found::Row(row)))
    }
}

/// The keys of the engine's index, each with the newest change visible at `at`.
struct StoredKeys {
    engine: Arc<dyn EngineView>,
    at: ChangeId,
    cursor: Box<dyn Cursor>,
    /// Where the scan ends, as an index key.
    to: Option<Vec<u8>>,
    ahead: Option<Version>,
    /// The key of `ahead`, or of what was taken last.
    key: Vec<u8>,
    /// The same, as the index keys of all its changes begin.
    prefix: Vec<u8>,
    done: bool,
}

impl StoredKeys {
    /// After so many useless changes of one key, a seek is cheaper than further steps.
    const STEPS_MAX: usize = 8;

    fn new(
        engine: Arc<dyn EngineView>,
        from: &[u8],
        to: Option<&[u8]>,
        at: ChangeId,
    ) -> Result<Self, EngineError> {
        let from = row::index_floor(from);
        let to = to.map(row::index_floor);
        let cursor = engine.scan(Space::Index, &from, to.as_deref(), Direction::Forward)?;
        let (key, prefix) = (Vec::new(), Vec::new());
        Ok(Self { engine, at, cursor, to, ahead: None, key, prefix, done: false })
    }

    /// The next key. What was taken before it is forgotten.
    fn peek(&mut self) -> Result<Option<&[u8]>, EngineError> {
        if self.ahead.is_none() && !self.done {
            self.ahead = self.find()?;
            self.done = self.ahead.is_none();
        }
        Ok(self.ahead.is_some().then_some(self.key.as_slice()))
    }

    fn pop(&mut self) -> Option<Version> {
        self.ahead.take()
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    /// Goes to the next key that has a visible change.
    fn find(&mut self) -> Result<Option<Version>, EngineError> {
        let mut steps = 0;
        while self.cursor.advance()? {
            let (prefix, id) = row::split_index_key(self.cursor.key())?;
            let known = prefix == self.prefix.as_slice();
            if !known && id <= self.at {
                self.prefix.clear();
                self.prefix.extend_from_slice(prefix);
                row::unescape_index_key(self.cursor.key(), &mut self.key)?;
                let version = row::parse_index_value(self.cursor.key(), id, self.cursor.value())?;
                return Ok(Some(version));
            }
            steps += 1;
            if steps == Self::STEPS_MAX {
                let target = if known {
                    row::after_prefix(prefix)
                } else {
                    row::index_key_with_prefix(prefix, self.at)
                };
                self.seek(&target)?;
                steps = 0;
            }
        }
        Ok(None)
    }

    fn seek(&mut self, from: &[u8]) -> Result<(), EngineError> {
        self.cursor =
            self.engine.scan(Space::Index, from, self.to.as_deref(), Direction::Forward)?;
        Ok(())
    }
}
