//! What the tests of the store share. Each of them uses a part.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// The numbers of a test are small.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub(crate) mod model;
pub(crate) mod ops;

use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::*;

/// A log entry at `index`.
pub(crate) fn committed(index: u64, kind: CommandKind) -> Committed {
    let log_id = LogId::new(Term::new(1), LogIndex::new(index));
    Committed { log_id, command: Command::new(kind).encode_to_vec().into() }
}

/// Applies one entry and decodes the reply.
pub(crate) fn apply(store: &mut KvStateMachine, entry: Committed) -> CommandReply {
    let mut replies = Replies::default();
    store.apply(&[entry], &mut replies).unwrap();
    let replies = replies.into_vec();
    assert_eq!(replies.len(), 1, "one reply for each command");
    CommandReply::decode(replies[0].clone()).unwrap()
}

/// The bytes of a snapshot of `store`.
pub(crate) fn snapshot(store: &KvStateMachine) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.view().unwrap().write_to(&mut bytes).unwrap();
    bytes
}

pub(crate) fn put(key: &'static str, value: &'static str) -> CommandKind {
    CommandKind::Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
}

pub(crate) fn delete(key: &'static str) -> CommandKind {
    CommandKind::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

pub(crate) fn compact(revision: i64) -> CommandKind {
    CommandKind::Compact(CompactionRequest { revision, physical: false })
}

/// The same content as a program of an older format would have left it.
pub(crate) fn as_format(engine: &MemoryEngine, format: u8) -> MemoryEngine {
    const SEAL_BYTES: usize = 5;
    let (older, view) = (MemoryEngine::new(), engine.view().unwrap());
    let mut batch = Vec::new();
    for space in Space::ALL {
        let mut rows = view.scan(space, &[], None, Direction::Forward).unwrap();
        while rows.advance().unwrap() {
            let key = rows.key().to_vec();
            let is_format = (space, key.as_slice()) == (Space::Meta, b"format");
            let value = match (is_format, format < 3) {
                // A protobuf message with one number.
                (true, true) => vec![8, format],
                (true, false) => with_checksum(format),
                (false, true) => rows.value()[SEAL_BYTES..].to_vec(),
                (false, false) => rows.value().to_vec(),
            };
            batch.push(Write::Put { space, key, value });
        }
    }
    older.write_batch(batch, Durability::Now).unwrap();
    older
}

/// A number, and the checksum of the key that it stands under and of itself.
fn with_checksum(format: u8) -> Vec<u8> {
    let checksum =
        crc32c::crc32c_append(crc32c::crc32c(b"format"), &u64::from(format).to_le_bytes());
    [&[8, format, 0x7d][..], &checksum.to_le_bytes()].concat()
}

/// Everything there is.
pub(crate) fn everything() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    RangeRequest { key, range_end, ..Default::default() }
}

pub(crate) fn get(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

/// Limits so small that everything moves all the time.
pub(crate) fn tiny_limits() -> Limits {
    Limits { flush_size_bytes: 2048, overlay_size_bytes_max: 8192 }
}
