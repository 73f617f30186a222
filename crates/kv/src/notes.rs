//! The node's notes among the store's own rows: written in the same batches as what was applied,
//! read at the start. Knows nothing of what they say.

use crate::engine::{Direction, EngineError, EngineView, Space, Write};
use bytes::Bytes;

/// What the keys of notes begin with, in [`Space::Meta`].
const PREFIX: &[u8] = b"note/";
/// The first key after all notes.
const CEILING: &[u8] = b"note0";

/// The writes for changed notes.
pub(crate) fn writes(
    changed: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
) -> impl Iterator<Item = Write> {
    changed.into_iter().map(|(key, value)| {
        let (space, key) = (Space::Meta, [PREFIX, key.as_ref()].concat());
        match value {
            Some(value) => Write::Put { space, key, value: value.to_vec() },
            None => Write::Delete { space, key },
        }
    })
}

/// All notes that the engine holds.
pub(crate) fn read(view: &dyn EngineView) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
    let mut cursor = view.scan(Space::Meta, PREFIX, Some(CEILING), Direction::Forward)?;
    let mut rows = Vec::new();
    while cursor.advance()? {
        let key = cursor.key().get(PREFIX.len()..).unwrap_or_default();
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(cursor.value())));
    }
    Ok(rows)
}
