//! Random operations. Keys are few and awkward: prefixes of one another, zero bytes, 0xff.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_kv::*;

/// What a test does to a store.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A command of the log.
    Command(CommandKind),
    /// A compaction that far behind (below 0: ahead of) the current revision.
    Compact(i64),
    /// A read.
    Range(RangeRequest),
    /// Everything moves to the engine.
    Flush,
    /// Everything that has not moved is lost; the log brings it back.
    Crash,
    /// Another store takes over a snapshot, and goes on instead.
    Snapshot,
}

const KEYS: [&[u8]; 9] =
    [b"a", b"a\0", b"a\0\0", b"a\0\xff", b"a\x01", b"ab", b"b", b"\xff", b"\xff\xff"];

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(&KEYS[..]).prop_map(Bytes::from_static)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        3 => key(),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(b"x")),
        Just(Bytes::from_static(b"y")),
        vec(any::<u8>(), 0..200).prop_map(Bytes::from),
    ]
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![12 => Just(0), 1 => Just(7)]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), value(), lease(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        })
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 1 => 1..40i64]
}

pub(crate) fn range() -> impl Strategy<Value = RangeRequest> {
    let what = (key(), range_end(), 0..6i64, prop_oneof![2 => Just(0), 3 => -1..60i64]);
    let how = (0..3i32, 0..5i32, any::<bool>(), prop::bool::weighted(0.2));
    let filters = (bound(), bound(), bound(), bound());
    (what, how, filters).prop_map(|(what, how, filters)| RangeRequest {
        key: what.0,
        range_end: what.1,
        limit: what.2,
        revision: what.3,
        sort_order: how.0,
        sort_target: how.1,
        serializable: false,
        keys_only: how.2,
        count_only: how.3,
        min_mod_revision: filters.0,
        max_mod_revision: filters.1,
        min_create_revision: filters.2,
        max_create_revision: filters.3,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        Just(None),
        (0..4i64).prop_map(|n| Some(CompareUnion::Version(n))),
        (0..40i64).prop_map(|n| Some(CompareUnion::CreateRevision(n))),
        (0..40i64).prop_map(|n| Some(CompareUnion::ModRevision(n))),
        value().prop_map(|v| Some(CompareUnion::Value(v))),
        (0..2i64).prop_map(|n| Some(CompareUnion::Lease(n))),
    ];
    (0..5i32, 0..6i32, key(), range_end(), union).prop_map(
        |(result, target, key, range_end, target_union)| Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        },
    )
}

fn request_op(depth: u32) -> BoxedStrategy<RequestOp> {
    let plain = prop_oneof![
        3 => put().prop_map(|request| Some(Request::Put(request))),
        2 => delete().prop_map(|request| Some(Request::DeleteRange(request))),
        3 => range().prop_map(|request| Some(Request::Range(request))),
        1 => Just(None),
    ];
    let request = if depth == 0 {
        plain.boxed()
    } else {
        prop_oneof![4 => plain, 1 => txn(depth - 1).prop_map(|request| Some(Request::Txn(request)))]
            .boxed()
    };
    request.prop_map(|request| RequestOp { request }).boxed()
}

fn txn(depth: u32) -> impl Strategy<Value = TxnRequest> {
    (vec(compare(), 0..3), vec(request_op(depth), 0..4), vec(request_op(depth), 0..4))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => put().prop_map(|request| Step::Command(CommandKind::Put(request))),
        4 => delete().prop_map(|request| Step::Command(CommandKind::DeleteRange(request))),
        6 => txn(2).prop_map(|request| Step::Command(CommandKind::Txn(request))),
        2 => (-2..8i64).prop_map(Step::Compact),
        8 => range().prop_map(Step::Range),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Snapshot),
    ]
}
