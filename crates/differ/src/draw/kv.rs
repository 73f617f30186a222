//! Draws requests for keys: few keys, so that they meet, and values, revisions and flags of every
//! kind. Must not know what the answers ought to be.

use super::watch;
use crate::chance::Chance;
use crate::driver::Driver;
use crate::known::Known;
use crate::method;
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;

/// Mostly a few that meet; some that are odd.
const KEYS: [&[u8]; 10] =
    [b"a", b"b", b"c", b"d", b"ab", b"a\0", b"\0", b"\xff", b"\xff\xff", b"z"];
const COMMON_KEYS: [&[u8]; 3] = [b"a", b"b", b"c"];
/// How deep transactions are nested at most.
const DEPTH_MAX: u64 = 3;
/// How many operations a transaction may have, by default.
const TXN_OPS_MAX: usize = 128;
/// Ids from here on are of the server's making.
const LEASE_NAMED: i64 = 1_000_000;
/// Every kind of range, over everything.
const EVERYTHING: [&[u8]; 2] = [b"\0", b"\0"];

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(100) {
        0..=34 => put(driver).await,
        35..=61 => {
            let request = odd_range_request(&mut driver.chance, &driver.known);
            driver.ask(&method::RANGE, &request).await.map(drop)
        }
        62..=73 => {
            let request = deletion(&mut driver.chance);
            driver.ask(&method::DELETE_RANGE, &request).await.map(drop)
        }
        74..=97 => {
            let depth = driver.chance.below(DEPTH_MAX);
            let request = sound_txn(&mut driver.chance, &driver.known, depth);
            driver.ask(&method::TXN, &request).await.map(drop)
        }
        _ => compact(driver).await,
    }
}

pub(super) fn key(chance: &mut Chance) -> Bytes {
    match chance.below(60) {
        0 => Bytes::new(),
        1 => vec![b'k'; 300].into(),
        2..=30 => Bytes::from_static(chance.of(&COMMON_KEYS)),
        _ => Bytes::copy_from_slice(chance.of(&KEYS)),
    }
}

/// The end of a range that begins with this key; mostly none.
pub(super) fn range_end(chance: &mut Chance, key: &Bytes) -> Bytes {
    match chance.below(20) {
        0..=8 => Bytes::new(),
        9..=11 => Bytes::from_static(b"\0"),
        12..=14 => prefix_end(key),
        15 => key.clone(),
        16 => Bytes::from_static(b"\xff\xff\xff"),
        _ => self::key(chance),
    }
}

/// The first key that does not begin with this.
pub(super) fn prefix_end(key: &Bytes) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

fn value(chance: &mut Chance) -> Bytes {
    match chance.below(400) {
        0 => vec![7; 100_000].into(),
        // The largest request is 1.5 MiB, with what is around the value, and in etcd with what its log
        // adds; larger messages than 2 MiB are not read.
        1 => vec![7; usize::try_from(1_572_300 + chance.below(20)).unwrap_or(0)].into(),
        21 => vec![7; usize::try_from(1_572_860 + chance.below(20)).unwrap_or(0)].into(),
        2 => vec![7; usize::try_from(2_097_120 + chance.below(40)).unwrap_or(0)].into(),
        3..=20 => vec![b'v'; 1_000].into(),
        22..=60 => Bytes::new(),
        61..=80 => Bytes::from_static(b"\0"),
        _ => chance.below(6).to_string().into(),
    }
}

fn small_value(chance: &mut Chance) -> Bytes {
    if chance.one_in(8) { Bytes::new() } else { chance.below(6).to_string().into() }
}

async fn put(driver: &mut Driver) -> anyhow::Result<()> {
    let mut request = put_request(&mut driver.chance, &driver.known);
    if !request.ignore_value {
        request.value = value(&mut driver.chance);
    }
    driver.ask(&method::PUT, &request).await.map(drop)
}

pub(super) fn put_request(chance: &mut Chance, known: &Known) -> pb::PutRequest {
    let ignore_value = chance.one_in(10);
    let ignore_lease = chance.one_in(10);
    let lease = if chance.one_in(3) { known.lease(chance) } else { 0 };
    pb::PutRequest {
        key: key(chance),
        value: if ignore_value && !chance.one_in(8) { Bytes::new() } else { small_value(chance) },
        lease: if ignore_lease && !chance.one_in(8) { 0 } else { lease },
        prev_kv: chance.one_in(3),
        ignore_value,
        ignore_lease,
    }
}

fn bound(chance: &mut Chance, known: &Known) -> i64 {
    if chance.one_in(5) { known.revision(chance) } else { 0 }
}

pub(super) fn range_request(chance: &mut Chance, known: &Known) -> pb::RangeRequest {
    let key = key(chance);
    let range_end = range_end(chance, &key);
    let limit = if chance.one_in(2) { chance.of(&[1, 2, 3, -1, i64::MAX]) } else { 0 };
    let order = i32::try_from(chance.below(3)).unwrap_or(0);
    let target = i32::try_from(chance.below(5)).unwrap_or(0);
    let is_sorted = chance.one_in(2);
    pb::RangeRequest {
        key,
        range_end,
        limit,
        revision: if chance.one_in(2) { known.revision(chance) } else { 0 },
        sort_order: if is_sorted { order } else { 0 },
        sort_target: if is_sorted { target } else { 0 },
        serializable: chance.one_in(3),
        keys_only: chance.one_in(4),
        count_only: chance.one_in(8),
        min_mod_revision: bound(chance, known),
        max_mod_revision: bound(chance, known),
        min_create_revision: bound(chance, known),
        max_create_revision: bound(chance, known),
    }
}

/// The same, now and then with an order that means nothing. Not within a transaction: ours refuses it as
/// a whole, and etcd carries it out.
fn odd_range_request(chance: &mut Chance, known: &Known) -> pb::RangeRequest {
    let mut request = range_request(chance, known);
    if chance.one_in(60) {
        request.sort_order = chance.of(&[7, -1]);
    }
    // A target that means nothing ends etcd.
    request
}

fn deletion(chance: &mut Chance) -> pb::DeleteRangeRequest {
    let key = key(chance);
    let range_end = range_end(chance, &key);
    pb::DeleteRangeRequest { key, range_end, prev_kv: chance.one_in(2) }
}

fn compare(chance: &mut Chance, known: &Known) -> pb::Compare {
    let target = i32::try_from(chance.below(5)).unwrap_or(0);
    // Mostly what the target is compared with, at times something else or nothing.
    let kind = if chance.one_in(12) { chance.below(6) } else { u64::try_from(target).unwrap_or(0) };
    let revision = known.revision(chance);
    let target_union = match kind {
        0 => Some(TargetUnion::Version(chance.of(&[0, 1, 2, 3, -1]))),
        1 => Some(TargetUnion::CreateRevision(revision)),
        2 => Some(TargetUnion::ModRevision(revision)),
        3 => Some(TargetUnion::Value(small_value(chance))),
        4 => Some(TargetUnion::Lease(known.lease(chance))),
        _ => None,
    };
    let key = key(chance);
    let range_end = if chance.one_in(3) { range_end(chance, &key) } else { Bytes::new() };
    // A number that means nothing has no form in JSON, in which names are translated.
    let is_odd = !known.has_named_lease && chance.one_in(60);
    let result = if is_odd { 7 } else { i32::try_from(chance.below(4)).unwrap_or(0) };
    // Which of two leases that the server has named is the lower is its own matter.
    let is_named = |id: i64| (LEASE_NAMED..i64::MAX).contains(&id);
    let has_no_order = matches!(target_union, Some(TargetUnion::Lease(id)) if is_named(id));
    let result = if has_no_order { i32::from(CompareResult::NotEqual) } else { result };
    let target = if is_odd && chance.one_in(2) { 9 } else { target };
    pb::Compare { result, target, key, range_end, target_union }
}

fn operation(chance: &mut Chance, known: &Known, depth: u64) -> pb::RequestOp {
    let kind = chance.below(40);
    let kind = if (33..=38).contains(&kind) && depth == 0 { 0 } else { kind };
    let request = match kind {
        0..=13 => Some(Request::RequestPut(put_request(chance, known))),
        14..=25 => Some(Request::RequestRange(range_request(chance, known))),
        26..=32 => Some(Request::RequestDeleteRange(deletion(chance))),
        33..=38 => Some(Request::RequestTxn(txn(chance, known, depth - 1))),
        _ => None,
    };
    pb::RequestOp { request }
}

fn operations(chance: &mut Chance, known: &Known, depth: u64) -> Vec<pb::RequestOp> {
    if chance.one_in(200) {
        let count = TXN_OPS_MAX + usize::from(chance.one_in(2));
        return (0..count)
            .map(|_| pb::RequestOp {
                request: Some(Request::RequestRange(range_request(chance, known))),
            })
            .collect();
    }
    (0..chance.below(4)).map(|_| operation(chance, known, depth)).collect()
}

/// A transaction that etcd survives: one that deletes from a key on, and keeps the value or the lease
/// of a key behind it, is let in, and ends the server when it is carried out.
fn sound_txn(chance: &mut Chance, known: &Known, depth: u64) -> pb::TxnRequest {
    let mut request = txn(chance, known, depth);
    if has_wide_deletion(&request) {
        without_keeping(&mut request);
    }
    request
}

fn has_wide_deletion(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match &operation.request {
        Some(Request::RequestDeleteRange(request)) => !request.range_end.is_empty(),
        Some(Request::RequestTxn(txn)) => has_wide_deletion(txn),
        Some(Request::RequestPut(_) | Request::RequestRange(_)) | None => false,
    })
}

fn without_keeping(txn: &mut pb::TxnRequest) {
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut operation.request {
            Some(Request::RequestPut(put)) => {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
            Some(Request::RequestTxn(txn)) => without_keeping(txn),
            Some(Request::RequestDeleteRange(_) | Request::RequestRange(_)) | None => {}
        }
    }
}

fn txn(chance: &mut Chance, known: &Known, depth: u64) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: (0..chance.below(3)).map(|_| compare(chance, known)).collect(),
        success: operations(chance, known, depth),
        failure: operations(chance, known, depth),
    }
}

async fn compact(driver: &mut Driver) -> anyhow::Result<()> {
    // What a watch that is behind is still told of the compacted is a matter of time.
    watch::settle_all(driver).await?;
    let back = i64::try_from(driver.chance.below(40)).unwrap_or(0);
    let drawn = driver.known.revision(&mut driver.chance);
    let revision = if driver.chance.one_in(3) { drawn } else { driver.known.revision - back };
    let physical = driver.chance.one_in(3);
    let request = pb::CompactionRequest { revision, physical };
    let answer = driver.ask(&method::COMPACT, &request).await?;
    if answer.given().is_some() {
        driver.known.compacted = revision;
        driver.known.compactions.insert(revision);
    }
    Ok(())
}

/// Every key, its history as far as it is there, and every lease.
pub(super) async fn read_everything(driver: &mut Driver) -> anyhow::Result<()> {
    let [key, range_end] = EVERYTHING.map(Bytes::from_static);
    let first = driver.known.compacted.max(driver.known.revision - 50).max(1);
    for revision in (first..=driver.known.revision).chain([0]) {
        let request = pb::RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            revision,
            ..Default::default()
        };
        driver.ask_as_root(&method::RANGE, &request).await?;
    }
    driver.ask_as_root(&method::LEASE_LEASES, &pb::LeaseLeasesRequest {}).await?;
    for id in driver.known.leases.clone() {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        driver.ask_as_root(&method::LEASE_TIME_TO_LIVE, &request).await?;
    }
    Ok(())
}

/// What is asked while there is no space. etcd carries out a put in a nested transaction then.
pub(super) async fn under_alarm(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(6) {
        0 | 1 => put(driver).await,
        2 => {
            let request = deletion(&mut driver.chance);
            driver.ask(&method::DELETE_RANGE, &request).await.map(drop)
        }
        3 => {
            let request = pb::LeaseGrantRequest { ttl: 100_000, id: 4_000 };
            let granted = driver.ask_as_root(&method::LEASE_GRANT, &request).await?;
            if granted.given().is_some() {
                let request = pb::LeaseRevokeRequest { id: 4_000 };
                driver.ask_as_root(&method::LEASE_REVOKE, &request).await?;
            }
            Ok(())
        }
        _ => {
            let request = sound_txn(&mut driver.chance, &driver.known, 0);
            driver.ask(&method::TXN, &request).await.map(drop)
        }
    }
}
