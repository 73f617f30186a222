//! A change of a key, and the bytes by which the engine keeps it. The layout is drawn in
//! `docs/decisions/0002-storage-engine.md`; nothing here decides what is visible to whom.

use crate::api::KeyValue;
use crate::engine::{EngineError, Space};
use crate::revision::{ChangeId, Revision};
use bytes::Bytes;
use prost::Message;

/// What the index knows of one change of a key: all but the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: ChangeId,
    pub(crate) create_revision: Revision,
    /// 1 after the key's creation, one more with each put.
    pub(crate) put_count: u64,
    pub(crate) lease: i64,
    /// Whether the change is a deletion.
    pub(crate) tombstone: bool,
}

/// A change of a key, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) version: Version,
}

impl Row {
    pub(crate) fn to_key_value(&self) -> KeyValue {
        self.version.to_key_value(self.key.clone(), self.value.clone())
    }

    /// What the row counts for in every byte limit.
    pub(crate) fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 192;
        OVERHEAD_BYTES + self.key.len() + self.value.len()
    }
}

impl Version {
    pub(crate) fn to_key_value(self, key: Bytes, value: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision.to_wire(),
            mod_revision: self.id.main.to_wire(),
            version: i64::try_from(self.put_count).unwrap_or(i64::MAX),
            value,
            lease: self.lease,
        }
    }
}

const ESCAPED: u8 = 0xff;
const ID_BYTES: usize = 12;
const FLAG_TOMBSTONE: u8 = 1;

/// `key` such that comparing the bytes compares the keys, even with something appended: a zero byte
/// is followed by 0xff, and nothing else is.
fn push_escaped(out: &mut Vec<u8>, key: &[u8]) {
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED);
        }
    }
}

/// The lowest index key that can belong to `key`.
pub(crate) fn index_floor(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2 + ID_BYTES);
    push_escaped(&mut out, key);
    out.extend_from_slice(&[0, 0]);
    out
}

/// An index key above all that belong to `key`, below all of the next key.
pub(crate) fn index_ceiling(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    push_escaped(&mut out, key);
    out.extend_from_slice(&[0, 1]);
    out
}

/// The index key of a change. Newer changes of a key come first, so that the newest that a reader
/// may see is the first one at or after its own place.
pub(crate) fn index_key(key: &[u8], id: ChangeId) -> Vec<u8> {
    index_key_with_prefix(&index_floor(key), id)
}

/// The index key of a change of the key whose index keys begin with `prefix`.
pub(crate) fn index_key_with_prefix(prefix: &[u8], id: ChangeId) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + ID_BYTES);
    out.extend_from_slice(prefix);
    out.extend_from_slice(&(!id.main.get()).to_be_bytes());
    out.extend_from_slice(&(!id.sub).to_be_bytes());
    out
}

/// [`index_ceiling`] of the key whose index keys begin with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    if let Some(last) = out.last_mut() {
        *last = 1;
    }
    out
}

/// Splits an index key into what all changes of the key share, terminator included, and the change.
pub(crate) fn split_index_key(bytes: &[u8]) -> Result<(&[u8], ChangeId), EngineError> {
    let (prefix, id) = bytes
        .len()
        .checked_sub(ID_BYTES)
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or_else(|| corrupt(Space::Index, bytes, "too short"))?;
    let id = parse_id(id).ok_or_else(|| corrupt(Space::Index, bytes, "bad change id"))?;
    Ok((prefix, ChangeId::new(Revision::new(!id.main.get()), !id.sub)))
}

/// Puts the key that an index key belongs to into `key`, which is cleared first.
pub(crate) fn unescape_index_key(bytes: &[u8], key: &mut Vec<u8>) -> Result<(), EngineError> {
    let (prefix, _) = split_index_key(bytes)?;
    let escaped = prefix
        .strip_suffix(&[0, 0])
        .ok_or_else(|| corrupt(Space::Index, bytes, "no terminator"))?;
    key.clear();
    let mut rest = escaped.iter();
    while let Some(byte) = rest.next() {
        key.push(*byte);
        if *byte == 0 && rest.next() != Some(&ESCAPED) {
            return Err(corrupt(Space::Index, bytes, "bad escape"));
        }
    }
    Ok(())
}

fn parse_id(bytes: &[u8]) -> Option<ChangeId> {
    let (main, sub) = bytes.split_first_chunk::<8>()?;
    let sub: [u8; 4] = sub.try_into().ok()?;
    Some(ChangeId::new(Revision::new(u64::from_be_bytes(*main)), u32::from_be_bytes(sub)))
}

/// What the index says of a change. `row_size_bytes` is what the row takes up, so that deleting it
/// need not read it.
pub(crate) fn index_value(version: &Version, row_size_bytes: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.push(if version.tombstone { FLAG_TOMBSTONE } else { 0 });
    prost::encoding::encode_varint(version.create_revision.get(), &mut out);
    prost::encoding::encode_varint(version.put_count, &mut out);
    prost::encoding::encode_varint(version.lease.cast_unsigned(), &mut out);
    prost::encoding::encode_varint(row_size_bytes, &mut out);
    out
}

/// The `row_size_bytes` of an index value.
pub(crate) fn parse_row_size(index_key: &[u8], value: &[u8]) -> Result<u64, EngineError> {
    Ok(split_index_value(index_key, value)?.1.row_size_bytes)
}

struct IndexNumbers {
    create_revision: u64,
    put_count: u64,
    lease: u64,
    row_size_bytes: u64,
}

/// Flags and numbers. An entry of before format 3 has no checksum: that it has no end too many is
/// what tells it from one whose checksum was overwritten.
fn split_index_value(index_key: &[u8], value: &[u8]) -> Result<(u8, IndexNumbers), EngineError> {
    let corrupt = || corrupt(Space::Index, index_key, "bad version");
    let (flags, mut rest) = value.split_first().ok_or_else(corrupt)?;
    let mut number = || prost::encoding::decode_varint(&mut rest).map_err(|_| corrupt());
    let numbers = IndexNumbers {
        create_revision: number()?,
        put_count: number()?,
        lease: number()?,
        row_size_bytes: number()?,
    };
    if rest.is_empty() { Ok((*flags, numbers)) } else { Err(corrupt()) }
}

pub(crate) fn parse_index_value(
    index_key: &[u8],
    id: ChangeId,
    value: &[u8],
) -> Result<Version, EngineError> {
    let (flags, numbers) = split_index_value(index_key, value)?;
    Ok(Version {
        id,
        create_revision: Revision::new(numbers.create_revision),
        put_count: numbers.put_count,
        lease: numbers.lease.cast_signed(),
        tombstone: flags == FLAG_TOMBSTONE,
    })
}

/// The key of a row: changes in the order in which they happened.
pub(crate) fn row_key(id: ChangeId) -> [u8; ID_BYTES] {
    let mut out = [0; ID_BYTES];
    let (main, sub) = out.split_at_mut(8);
    main.copy_from_slice(&id.main.get().to_be_bytes());
    sub.copy_from_slice(&id.sub.to_be_bytes());
    out
}

/// A flag byte, then the change as etcd's `KeyValue` message.
pub(crate) fn row_value(row: &Row) -> Vec<u8> {
    let message = row.to_key_value();
    let mut out = Vec::with_capacity(1 + message.encoded_len());
    out.push(if row.version.tombstone { FLAG_TOMBSTONE } else { 0 });
    // Encoding into a `Vec`, which grows, cannot run out of room.
    let _ = message.encode(&mut out);
    out
}

pub(crate) fn parse_row_key(row_key: &[u8]) -> Result<ChangeId, EngineError> {
    parse_id(row_key).ok_or_else(|| corrupt(Space::Rows, row_key, "bad change id"))
}

/// The key that a row changes, without decoding the rest: it is the first field of the message.
pub(crate) fn key_of_row<'a>(row_key: &[u8], row_value: &'a [u8]) -> Result<&'a [u8], EngineError> {
    const KEY_FIELD: u8 = 0x0a;
    let corrupt = || corrupt(Space::Rows, row_key, "no key");
    let [_, KEY_FIELD, rest @ ..] = row_value else { return Err(corrupt()) };
    let mut rest = rest;
    let size = prost::encoding::decode_varint(&mut rest).map_err(|_| corrupt())?;
    let size = usize::try_from(size).map_err(|_| corrupt())?;
    rest.get(..size).ok_or_else(corrupt)
}

pub(crate) fn parse_row(row_key: &[u8], mut value: Bytes) -> Result<Row, EngineError> {
    let corrupt = |what| corrupt(Space::Rows, row_key, what);
    let id = parse_id(row_key).ok_or_else(|| corrupt("bad change id"))?;
    let flags = *value.first().ok_or_else(|| corrupt("empty"))?;
    let message = KeyValue::decode(value.split_off(1)).map_err(|_| corrupt("not a KeyValue"))?;
    let number = |number: i64| u64::try_from(number).map_err(|_| corrupt("negative number"));
    Ok(Row {
        version: Version {
            id,
            create_revision: Revision::new(number(message.create_revision)?),
            put_count: number(message.version)?,
            lease: message.lease,
            tombstone: flags == FLAG_TOMBSTONE,
        },
        key: message.key,
        value: message.value,
    })
}

fn corrupt(space: Space, key: &[u8], what: &'static str) -> EngineError {
    EngineError::Corrupt { space, key: key.to_vec(), what }
}
