//! The store's requests and replies as bytes, and back. Knows how they look, not what they mean for
//! a history.

use super::model::{KeyOp, KeyReply, Value};
use crate::application::{Complaint, Request};
use bytes::Bytes;
use prost::Message;
use quorate_kv::api::{
    Compare, CompareResult, CompareTarget, CompareUnion, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use quorate_kv::api::{Request as KvRequest, Response};
use quorate_kv::{Command, CommandKind, CommandReply, OpError, Outcome};

/// How many bytes of a value name it; the rest is padding that follows from the name.
const NAME_BYTES: usize = 8;

/// What a reply says, and as of which revision of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) revision: u64,
    pub(super) reply: KeyReply,
    /// The values that the reply names, with the revision of their last change.
    pub(super) seen: Vec<(Value, u64)>,
}

/// A key's content as found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) revision: u64,
    /// Key, value, revision of the last change.
    pub(super) rows: Vec<(Bytes, Value, u64)>,
}

/// The bytes of a value.
pub(super) fn value_bytes(value: Value) -> Bytes {
    let padding = usize::try_from(value % 200).unwrap_or(0);
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.extend(bytes.clone().into_iter().cycle().take(padding));
    bytes.into()
}

fn value_of(bytes: &[u8]) -> Result<Value, Complaint> {
    let name = bytes.get(..NAME_BYTES).and_then(|name| name.try_into().ok());
    let value = name.map(u64::from_le_bytes);
    match value {
        Some(value) if value_bytes(value) == bytes => Ok(value),
        Some(_) | None => Err(Complaint(format!("a value that nobody wrote: {bytes:02x?}"))),
    }
}

/// The request for an operation on a key. `want_previous` asks a put for what was there.
pub(super) fn request(key: &Bytes, op: KeyOp, want_previous: bool) -> Request {
    match op {
        KeyOp::Get => Request::Query(get(key).encode_to_vec().into()),
        KeyOp::Put { value } => {
            let put = PutRequest { prev_kv: want_previous, ..put(key, value) };
            command(CommandKind::Put(put))
        }
        KeyOp::Delete => {
            let key = key.clone();
            command(CommandKind::DeleteRange(DeleteRangeRequest {
                key,
                prev_kv: true,
                ..Default::default()
            }))
        }
        KeyOp::Swap { expected, value } => command(CommandKind::Txn(swap(key, expected, value))),
    }
}

/// The request that reads every key.
pub(super) fn scan_request() -> Request {
    let all = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..Default::default()
    };
    Request::Query(all.encode_to_vec().into())
}

fn command(kind: CommandKind) -> Request {
    Request::Command(Command::new(kind).encode_to_vec().into())
}

fn get(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..Default::default() }
}

fn put(key: &Bytes, value: Value) -> PutRequest {
    PutRequest { key: key.clone(), value: value_bytes(value), ..Default::default() }
}

fn swap(key: &Bytes, expected: Option<Value>, value: Value) -> TxnRequest {
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, CompareUnion::Value(value_bytes(value))),
        None => (CompareTarget::Create, CompareUnion::CreateRevision(0)),
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        range_end: Bytes::new(),
    };
    let then = RequestOp { request: Some(KvRequest::Put(put(key, value))) };
    let otherwise = RequestOp { request: Some(KvRequest::Range(get(key))) };
    TxnRequest { compare: vec![compare], success: vec![then], failure: vec![otherwise] }
}

/// What a reply to a query for one key says.
pub(super) fn read_reply(bytes: &[u8]) -> Result<Told, Complaint> {
    let response = RangeResponse::decode(bytes).map_err(garbled)?;
    let revision = response.header.map_or(0, |header| header.revision);
    let (held, seen) = held(response.kvs.first())?;
    Ok(Told { revision: unsigned(revision), reply: KeyReply::Held(held), seen })
}

/// What a reply to [`scan_request`] says.
pub(super) fn scan_reply(bytes: &[u8]) -> Result<Scanned, Complaint> {
    let response = RangeResponse::decode(bytes).map_err(garbled)?;
    let revision = unsigned(response.header.map_or(0, |header| header.revision));
    let rows = response.kvs.into_iter().map(|row| {
        let value = value_of(&row.value)?;
        Ok((row.key, value, unsigned(row.mod_revision)))
    });
    Ok(Scanned { revision, rows: rows.collect::<Result<_, Complaint>>()? })
}

/// The revision of the store if this reply says that an alarm forbids the command, whatever it was.
pub(super) fn forbidden(bytes: &[u8]) -> Option<u64> {
    let reply = CommandReply::decode(bytes).ok()?;
    let revision = reply.revision;
    match reply.into_result() {
        Err(OpError::NoSpace | OpError::Corrupt) => Some(revision),
        Ok(_) | Err(_) => None,
    }
}

/// What a reply to the command for `op` says.
pub(super) fn command_reply(
    op: KeyOp,
    want_previous: bool,
    bytes: &[u8],
) -> Result<Told, Complaint> {
    let reply = CommandReply::decode(bytes).map_err(garbled)?;
    let revision = reply.revision;
    let outcome = reply
        .into_result()
        .map_err(|error| Complaint(format!("{op:?} was refused by the store: {error}")))?;
    let (reply, seen) = match (outcome, op) {
        (Outcome::Put(put), KeyOp::Put { .. }) => {
            let (held, seen) = held(put.prev_kv.as_ref())?;
            (if want_previous { KeyReply::Held(held) } else { KeyReply::Done }, seen)
        }
        (Outcome::DeleteRange(delete), KeyOp::Delete) => {
            let (held, seen) = held(delete.prev_kvs.first())?;
            if delete.deleted != i64::from(held.is_some()) {
                let text = format!("deleted {} of a key that held {held:?}", delete.deleted);
                return Err(Complaint(text));
            }
            (KeyReply::Held(held), seen)
        }
        (Outcome::Txn(txn), KeyOp::Swap { .. }) => swap_reply(&txn)?,
        (outcome, op) => {
            return Err(Complaint(format!("{op:?} was answered by {outcome:?}")));
        }
    };
    Ok(Told { revision, reply, seen })
}

type ReplyAndSeen = (KeyReply, Vec<(Value, u64)>);

fn swap_reply(txn: &TxnResponse) -> Result<ReplyAndSeen, Complaint> {
    let answer = txn.responses.first().and_then(|response| response.response.as_ref());
    match (txn.succeeded, answer) {
        (true, Some(Response::Put(_))) => Ok((KeyReply::Swapped, Vec::new())),
        (false, Some(Response::Range(range))) => {
            let (held, seen) = held(range.kvs.first())?;
            Ok((KeyReply::NotSwapped(held), seen))
        }
        (succeeded, answer) => {
            let text = format!("a transaction (succeeded: {succeeded}) was answered by {answer:?}");
            Err(Complaint(text))
        }
    }
}

type HeldAndSeen = (Option<Value>, Vec<(Value, u64)>);

fn held(row: Option<&KeyValue>) -> Result<HeldAndSeen, Complaint> {
    let Some(row) = row else { return Ok((None, Vec::new())) };
    let value = value_of(&row.value)?;
    Ok((Some(value), vec![(value, unsigned(row.mod_revision))]))
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

pub(super) fn garbled(error: impl std::fmt::Display) -> Complaint {
    Complaint(format!("a reply that cannot be decoded: {error}"))
}
