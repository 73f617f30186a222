//! What clients do beside the histories of single keys: ranges, nested transactions, such as are
//! refused half-way, compactions, reads of the past. Nobody waits for the answers but the reference
//! model, and the judge of reads. Knows nothing of nodes.

use super::codec::value_bytes;
use super::model::Value;
use super::reference::Reference;
use crate::application::{Complaint, OpId, Outcome, Request};
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message;
use quorate_kv::api::{
    CompactionRequest, Compare, CompareResult, CompareTarget, CompareUnion, DeleteRangeRequest,
    PutRequest, RangeRequest, Request as KvRequest, RequestOp, TxnRequest,
};
use quorate_kv::{Command, CommandKind};
use std::collections::BTreeMap;

/// How many keys there are for this.
const KEY_COUNT: u64 = 6;
/// How many revisions back a compaction or a read may go.
const PAST_MAX: u64 = 60;

/// Requests of this kind whose answers are open.
#[derive(Debug, Default)]
pub(super) struct Odd {
    open: BTreeMap<OpId, Option<(Bytes, i64)>>,
}

impl Odd {
    /// The next request.
    pub(super) fn request(&mut self, op: OpId, newest: i64, rng: &mut Rng) -> Request {
        if rng.below(4) == 0 {
            let (key, at) = (key(rng), past(newest, rng).max(1));
            let read = RangeRequest { key: key.clone(), revision: at, ..Default::default() };
            self.open.insert(op, Some((key, at)));
            return Request::Query(read.encode_to_vec().into());
        }
        self.open.insert(op, None);
        let value = op.0;
        let kind = match rng.below(7) {
            0 | 1 => CommandKind::Put(put(key(rng), value, rng)),
            2 => CommandKind::DeleteRange(delete(rng)),
            3 => CommandKind::Txn(refused_half_way(key(rng), value)),
            4 | 5 => CommandKind::Txn(nested(value, newest, rng)),
            _ => {
                let revision = past(newest, rng);
                CommandKind::Compact(CompactionRequest { revision, physical: rng.coin() })
            }
        };
        Request::Command(Command::new(kind).encode_to_vec().into())
    }

    /// Whether this was an answer to one of ours.
    ///
    /// # Errors
    ///
    /// [`Complaint`] if a read showed what was not there.
    pub(super) fn answered(
        &mut self,
        op: OpId,
        outcome: &Outcome,
        reference: &Reference,
    ) -> Result<bool, Complaint> {
        let Some(asked) = self.open.remove(&op) else { return Ok(false) };
        if let (Some((key, at)), Outcome::Read { reply }) = (asked, outcome) {
            reference.showed(&key, at, reply)?;
        }
        Ok(true)
    }
}

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from(format!("x{}", rng.below(KEY_COUNT)))
}

fn past(newest: i64, rng: &mut Rng) -> i64 {
    newest - i64::try_from(rng.below(PAST_MAX)).unwrap_or(0)
}

/// A put; now and then one that a store without leases refuses.
fn put(key: Bytes, value: Value, rng: &mut Rng) -> PutRequest {
    let lease = i64::from(rng.below(20) == 0);
    PutRequest { key, value: value_bytes(value), lease, prev_kv: rng.coin(), ..Default::default() }
}

/// Of one key, which may not be there, or of some.
fn delete(rng: &mut Rng) -> DeleteRangeRequest {
    let key = key(rng);
    let range_end = match rng.below(3) {
        0 => Bytes::from_static(b"y"),
        _ => Bytes::new(),
    };
    DeleteRangeRequest { key, range_end, prev_kv: rng.coin() }
}

/// If the key is there, deletes it and then wants to keep its value.
fn refused_half_way(key: Bytes, value: Value) -> TxnRequest {
    let gone = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let kept = PutRequest { key: key.clone(), ignore_value: true, ..Default::default() };
    let otherwise =
        PutRequest { key: key.clone(), value: value_bytes(value), ..Default::default() };
    TxnRequest {
        compare: vec![compare(key, CompareResult::Greater, CompareUnion::Version(0))],
        success: vec![op(KvRequest::DeleteRange(gone)), op(KvRequest::Put(kept))],
        failure: vec![op(KvRequest::Put(otherwise))],
    }
}

/// A transaction within one, with reads in both.
fn nested(value: Value, newest: i64, rng: &mut Rng) -> TxnRequest {
    let everything = || RangeRequest {
        key: Bytes::from_static(b"x"),
        range_end: Bytes::from_static(b"y"),
        ..Default::default()
    };
    let is_recent = CompareUnion::ModRevision(past(newest, rng));
    let inner = TxnRequest {
        compare: vec![compare(key(rng), CompareResult::Less, is_recent)],
        success: vec![op(KvRequest::Put(put(key(rng), value, rng)))],
        failure: vec![op(KvRequest::DeleteRange(delete(rng))), op(KvRequest::Range(everything()))],
    };
    let outer = vec![
        op(KvRequest::Put(put(key(rng), value, rng))),
        op(KvRequest::Txn(inner)),
        op(KvRequest::Range(everything())),
    ];
    TxnRequest {
        compare: vec![compare(key(rng), CompareResult::NotEqual, CompareUnion::Version(1))],
        success: outer,
        failure: vec![op(KvRequest::DeleteRange(delete(rng)))],
    }
}

fn compare(key: Bytes, result: CompareResult, union: CompareUnion) -> Compare {
    let target = match union {
        CompareUnion::Version(_) => CompareTarget::Version,
        CompareUnion::CreateRevision(_) => CompareTarget::Create,
        CompareUnion::ModRevision(_) => CompareTarget::Mod,
        CompareUnion::Value(_) => CompareTarget::Value,
        CompareUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key,
        target_union: Some(union),
        range_end: Bytes::new(),
    }
}

const fn op(request: KvRequest) -> RequestOp {
    RequestOp { request: Some(request) }
}
