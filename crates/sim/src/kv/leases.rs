//! What clients do with leases: grant, renew, revoke, attach keys; and what a server would do, let
//! them expire, as they were when it looked. Nobody waits for the answers but the reference model.
//! Knows no time: that a lease is overdue is drawn.

use super::codec::value_bytes;
use super::model::Value;
use crate::application::{OpId, Outcome, Request};
use crate::rng::Rng;
use bytes::Bytes;
use prost::Message;
use quorate_core::LogIndex;
use quorate_kv::api::{
    Compare, CompareResult, CompareTarget, CompareUnion, PutRequest, Request as KvRequest,
    RequestOp, TxnRequest,
};
use quorate_kv::lease::api::{
    LeaseExpireRequest, LeaseGrantRequest, LeaseRenewRequest, LeaseRevokeRequest, Overdue,
};
use quorate_kv::{Command, CommandKind};
use std::collections::BTreeMap;

/// How many leases there are at a time, at most.
const LEASE_COUNT: u64 = 5;
/// How many keys they share with the odd requests.
const KEY_COUNT: u64 = 6;

/// Requests about leases whose answers are open, and what answers have told.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The leases that each request grants or renews.
    open: BTreeMap<OpId, Vec<i64>>,
    /// Where in the log a lease was seen to be granted or renewed.
    seen: BTreeMap<i64, LogIndex>,
}

impl Leases {
    /// The next request.
    pub(super) fn request(&mut self, op: OpId, rng: &mut Rng) -> Request {
        let id = lease_id(rng);
        let mut renewed = Vec::new();
        let kind = match rng.below(12) {
            0..=2 => {
                renewed.push(id);
                let ttl = if rng.below(10) == 0 { 0 } else { 60 };
                CommandKind::LeaseGrant(LeaseGrantRequest { ttl, id })
            }
            3 => CommandKind::LeaseRevoke(LeaseRevokeRequest { id }),
            4 | 5 => {
                renewed = (0..=rng.below(3)).map(|_| lease_id(rng)).collect();
                CommandKind::LeaseRenew(LeaseRenewRequest { ids: renewed.clone() })
            }
            6 | 7 => CommandKind::LeaseExpire(self.expiry(rng)),
            8..=10 => CommandKind::Put(put(op.0, id, rng)),
            _ => CommandKind::Txn(attach_if_unattached(op.0, id, rng)),
        };
        self.open.insert(op, renewed);
        Request::Command(Command::new(kind).encode_to_vec().into())
    }

    /// Ends leases as they were seen: some were renewed since.
    fn expiry(&self, rng: &mut Rng) -> LeaseExpireRequest {
        let mut overdue = |_| {
            let id = lease_id(rng);
            let renewed_at = self.seen.get(&id).map_or(0, |index| index.get());
            Overdue { id, renewed_at }
        };
        LeaseExpireRequest { leases: (0..3).map(&mut overdue).collect() }
    }

    /// Whether this was an answer to one of ours.
    pub(super) fn answered(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let Some(renewed) = self.open.remove(&op) else { return false };
        if let Outcome::Applied { log_id, .. } = outcome {
            // Answers overtake each other; and now and then a server acts on what is old.
            self.seen.extend(renewed.into_iter().map(|id| (id, log_id.index)));
        }
        true
    }
}

/// Negative ones too.
fn lease_id(rng: &mut Rng) -> i64 {
    let id = i64::try_from(rng.below(LEASE_COUNT)).unwrap_or(0) + 1;
    if id == 1 { -1 } else { id }
}

fn key(rng: &mut Rng) -> Bytes {
    Bytes::from(format!("x{}", rng.below(KEY_COUNT)))
}

fn put(value: Value, lease: i64, rng: &mut Rng) -> PutRequest {
    let put = PutRequest { key: key(rng), prev_kv: rng.coin(), ..Default::default() };
    if rng.below(5) == 0 {
        return PutRequest { ignore_lease: true, value: value_bytes(value), ..put };
    }
    PutRequest { lease, value: value_bytes(value), ..put }
}

/// Attaches two keys at once, if the first one is attached to nothing; detaches it otherwise.
fn attach_if_unattached(value: Value, lease: i64, rng: &mut Rng) -> TxnRequest {
    let first = key(rng);
    let put = |key: &Bytes, lease| {
        let put =
            PutRequest { key: key.clone(), value: value_bytes(value), lease, ..Default::default() };
        RequestOp { request: Some(KvRequest::Put(put)) }
    };
    let second = Bytes::from_static(b"xz");
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Lease.into(),
            key: first.clone(),
            target_union: Some(CompareUnion::Lease(0)),
            range_end: Bytes::new(),
        }],
        success: vec![put(&first, lease), put(&second, lease)],
        failure: vec![put(&first, 0)],
    }
}
