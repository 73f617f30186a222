//! What nodes tell each other of their replies, to bytes and back. Knows the form, not the meaning.

use super::cursor::{Cursor, WireError};
use crate::{DIGEST_WINDOW_COUNT_MAX, DigestMessage, DigestNews, DigestRules};
use bytes::{BufMut, BytesMut};

const HASH: u8 = 0;
const LIST_WANTED: u8 = 1;
const LIST: u8 = 2;

pub(super) fn put_digest(message: &DigestMessage, out: &mut BytesMut) {
    let DigestMessage { rules, incarnation, last, news } = message;
    out.put_u32_le(rules.window_count);
    out.put_u32_le(rules.version);
    out.put_u64_le(*incarnation);
    out.put_u64_le(last.get());
    match news {
        DigestNews::Hash(hash) => {
            out.put_u8(HASH);
            out.put_u64_le(*hash);
        }
        DigestNews::ListWanted => out.put_u8(LIST_WANTED),
        DigestNews::List(hashes) => {
            out.put_u8(LIST);
            out.put_u32_le(u32::try_from(hashes.len()).unwrap_or(u32::MAX));
            for hash in hashes {
                out.put_u64_le(*hash);
            }
        }
    }
}

pub(super) fn take_digest(cursor: &mut Cursor) -> Result<DigestMessage, WireError> {
    let rules =
        DigestRules { window_count: cursor.u32("window")?, version: cursor.u32("version")? };
    let (incarnation, last) = (cursor.u64("incarnation")?, cursor.index()?);
    let news = match cursor.u8("news of a window")? {
        HASH => DigestNews::Hash(cursor.u64("hash")?),
        LIST_WANTED => DigestNews::ListWanted,
        LIST => DigestNews::List(take_list(cursor)?),
        got => {
            return Err(WireError::Meaningless { field: "news of a window", got: got.into() });
        }
    };
    Ok(DigestMessage { rules, incarnation, last, news })
}

fn take_list(cursor: &mut Cursor) -> Result<Vec<u64>, WireError> {
    let (field, count) = ("count of hashes", cursor.u32("count of hashes")?);
    if count > DIGEST_WINDOW_COUNT_MAX {
        let (got, max) = (u64::from(count), u64::from(DIGEST_WINDOW_COUNT_MAX));
        return Err(WireError::TooLarge { field, got, max });
    }
    (0..count).map(|_| cursor.u64("hash")).collect()
}
