//! Puts a checksum before the value of every row on its way into an engine, and compares it whenever
//! the row is read, so that no reader above can forget to. Must not know what rows say.
//!
//! A sealed value is a mark, the CRC32C of the space, the key and the value, and the value. The mark
//! is no first byte of anything that a store before format 3 kept among rows and index entries, and
//! takes several flipped bits to become one.

use crate::engine::{
    Cursor, Direction, Durability, Engine, EngineError, EngineView, Feed, Renewal, Space, Write,
};
use crate::meta::FORMAT_KEY;
use bytes::Bytes;
use std::sync::Arc;

const MARK: u8 = 0xa6;
/// The mark and the checksum.
const SEAL_BYTES: usize = 5;

/// An engine whose rows are sealed.
pub(crate) struct SealedEngine {
    engine: Arc<dyn Engine>,
}

impl SealedEngine {
    pub(crate) const fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// The engine below, as an older program sees it.
    pub(crate) fn bare(&self) -> &dyn Engine {
        self.engine.as_ref()
    }
}

impl Engine for SealedEngine {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        Ok(Arc::new(SealedView { view: self.engine.view()? }))
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        self.engine.write_batch(batch.into_iter().map(seal).collect(), durability)
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(&mut || match next() {
            Feed::Write(write) => Feed::Write(seal(write)),
            end @ (Feed::End | Feed::Abort) => end,
        })
    }

    fn renew(&self, in_use_bytes: u64, is_wanted: bool) -> Result<Renewal, EngineError> {
        self.engine.renew(in_use_bytes, is_wanted)
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    fn batch_times(&self) -> Option<&quorate::Histogram> {
        self.engine.batch_times()
    }
}

struct SealedView {
    view: Arc<dyn EngineView>,
}

impl EngineView for SealedView {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let Some(stored) = self.view.get(space, key)? else { return Ok(None) };
        let start = value_start(space, key, &stored)?;
        Ok(Some(stored.slice(start..)))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor>, EngineError> {
        let cursor = self.view.scan(space, from, to, direction)?;
        Ok(Box::new(SealedCursor { cursor, space, start: 0 }))
    }
}

struct SealedCursor {
    cursor: Box<dyn Cursor>,
    space: Space,
    /// Where the value of the present row begins; behind its end if it is not to be believed.
    start: usize,
}

impl Cursor for SealedCursor {
    fn advance(&mut self) -> Result<bool, EngineError> {
        self.start = usize::MAX;
        if !self.cursor.advance()? {
            return Ok(false);
        }
        self.start = value_start(self.space, self.cursor.key(), self.cursor.value())?;
        Ok(true)
    }

    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    fn value(&self) -> &[u8] {
        self.cursor.value().get(self.start..).unwrap_or_default()
    }
}

fn seal(write: Write) -> Write {
    match write {
        Write::Put { space, key, value } if !is_bare(space, &key) => {
            let mut sealed = Vec::with_capacity(SEAL_BYTES + value.len());
            sealed.push(MARK);
            sealed.extend_from_slice(&checksum(space, &key, &value).to_le_bytes());
            sealed.extend_from_slice(&value);
            Write::Put { space, key, value: sealed }
        }
        bare @ (Write::Put { .. } | Write::Delete { .. }) => bare,
    }
}

/// Whether a row has no seal in any format: older programs must be able to read it.
fn is_bare(space: Space, key: &[u8]) -> bool {
    space == Space::Meta && key == FORMAT_KEY
}

/// Where the value begins in what is stored, once it is certain that it is what was written there.
fn value_start(space: Space, key: &[u8], stored: &[u8]) -> Result<usize, EngineError> {
    let corrupt = |what| Err(EngineError::Corrupt { space, key: key.to_vec(), what });
    match stored {
        _ if is_bare(space, key) => Ok(0),
        [MARK, first, second, third, fourth, value @ ..] => {
            let expected = u32::from_le_bytes([*first, *second, *third, *fourth]);
            let is_whole = checksum(space, key, value) == expected;
            if is_whole { Ok(SEAL_BYTES) } else { corrupt("its checksum is wrong") }
        }
        // A row of before format 3 begins with its flags, and is gone with its next change.
        [0 | 1, ..] if matches!(space, Space::Rows | Space::Index) => Ok(0),
        _ => corrupt("it has no checksum"),
    }
}

fn checksum(space: Space, key: &[u8], value: &[u8]) -> u32 {
    let space: u8 = match space {
        Space::Meta => 0,
        Space::Index => 1,
        Space::Rows => 2,
        Space::Leases => 3,
    };
    // With its length, so that no byte passes from the key to the value.
    let place = crc32c::crc32c_append(crc32c::crc32c(&[space]), &(key.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(place, key), value)
}
