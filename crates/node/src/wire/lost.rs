//! What a node with a damaged log asks of others, and what they lend it, to bytes and back.

use super::cursor::{Cursor, WireError};
use super::message::{ITEM_BYTES_MIN, put_count, take_count};
use super::put_log_id;
use bytes::{BufMut, BytesMut};
use quorate_core::{Entry, Lent, LogId, LostEntries, LostEntriesResponse, Term};
use quorate_wal::codec::{decode_entry, encode_entry};

/// Nothing is lent.
const NOTHING: u8 = 0;
/// What stands before the entries is known, and follows.
const BEHIND: u8 = 1;
/// What stands before the entries is not known.
const LOOSE: u8 = 2;

pub(super) fn put_lost(message: &LostEntries, out: &mut BytesMut) {
    put_log_id(message.after, out);
    put_log_id(message.known, out);
}

pub(super) fn take_lost(term: Term, cursor: &mut Cursor) -> Result<LostEntries, WireError> {
    Ok(LostEntries { term, after: cursor.log_id()?, known: cursor.log_id()? })
}

pub(super) fn put_lost_response(message: &LostEntriesResponse, out: &mut BytesMut) {
    put_log_id(message.after, out);
    let Some(Lent { previous, entries, reaches }) = &message.lent else {
        return out.put_u8(NOTHING);
    };
    out.put_u8(if previous.is_some() { BEHIND } else { LOOSE });
    if let Some(previous) = previous {
        put_log_id(*previous, out);
    }
    put_log_id(*reaches, out);
    put_count(entries.len(), out);
    out.reserve(entries.iter().map(Entry::size_bytes).sum());
    for entry in entries {
        encode_entry(entry, out);
    }
}

pub(super) fn take_lost_response(
    term: Term,
    cursor: &mut Cursor,
) -> Result<LostEntriesResponse, WireError> {
    let after = cursor.log_id()?;
    let previous = match cursor.u8("what is lent")? {
        NOTHING => return Ok(LostEntriesResponse { term, after, lent: None }),
        BEHIND => Some(cursor.log_id()?),
        LOOSE => None,
        got => return Err(WireError::Meaningless { field: "what is lent", got: u64::from(got) }),
    };
    let reaches = cursor.log_id()?;
    let entries = take_entries(previous, reaches, cursor)?;
    Ok(LostEntriesResponse { term, after, lent: Some(Lent { previous, entries, reaches }) })
}

/// Entries without a gap, terms never falling and never above that of what they lead to.
fn take_entries(
    previous: Option<LogId>,
    reaches: LogId,
    cursor: &mut Cursor,
) -> Result<Vec<Entry>, WireError> {
    let count = take_count(cursor)?;
    let mut entries = Vec::with_capacity(count.min(cursor.left_bytes() / ITEM_BYTES_MIN));
    let mut before = previous;
    for _ in 0..count {
        let entry = decode_entry(cursor.rest_mut())?;
        let got = entry.log_id;
        if let Some(previous) = before
            && (got.index != previous.index.next() || got.term < previous.term)
        {
            return Err(WireError::Gap { previous, got });
        }
        if got.term > reaches.term {
            return Err(WireError::EntryFromTheFuture { term: reaches.term, got: got.term });
        }
        before = Some(got);
        entries.push(entry);
    }
    Ok(entries)
}
