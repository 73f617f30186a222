//! What commands are answered with, byte for byte: members compare their replies, so a change of them is
//! told by a number that changes too (decision 36).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::lease::api::{LeaseGrantRequest, LeaseRevokeRequest};
use quorate_kv::{
    Command, CommandKind, CompactionRequest, DeleteRangeRequest, Inline, MemoryEngine, PutRequest,
    open,
};
use std::sync::Arc;

fn commands() -> Vec<Bytes> {
    let key = Bytes::from_static(b"key");
    let put = |value: &'static [u8], prev_kv| {
        let value = Bytes::from_static(value);
        CommandKind::Put(PutRequest { key: key.clone(), value, prev_kv, ..Default::default() })
    };
    let kinds = [
        put(b"one", false),
        put(b"two", true),
        CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 }),
        CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 }),
        CommandKind::LeaseRevoke(LeaseRevokeRequest { id: 8 }),
        CommandKind::Compact(CompactionRequest { revision: 2, ..Default::default() }),
        CommandKind::Compact(CompactionRequest { revision: 99, ..Default::default() }),
        CommandKind::DeleteRange(DeleteRangeRequest {
            key: key.clone(),
            prev_kv: true,
            ..Default::default()
        }),
    ];
    let malformed = [Bytes::new(), Bytes::from_static(b"\xff\xff")];
    let known = kinds.into_iter().map(|kind| Command::new(kind).encode_to_vec().into());
    known.chain(malformed).collect()
}

#[test]
fn the_bytes_of_replies_are_those_of_this_version_of_replies() {
    let (mut machine, _) = open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap();
    let batch: Vec<Committed> = (1..)
        .zip(commands())
        .map(|(index, command)| Committed {
            log_id: LogId::new(Term::new(1), LogIndex::new(index)),
            command,
        })
        .collect();
    let mut replies = Replies::default();
    machine.apply(&batch, &mut replies).unwrap();
    let bytes = replies.as_slice().iter().flat_map(|reply| reply.iter().copied());
    let checksum = crc32c::crc32c(&bytes.collect::<Vec<u8>>());
    assert_eq!(
        (machine.replies_version(), checksum),
        (1, 3_243_957_464),
        "replies have changed: raise REPLIES_VERSION in kv/src/machine.rs, and note both here"
    );
}
