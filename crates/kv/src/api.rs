//! The requests and responses of the store, as protobuf messages with etcd's field numbers, so that
//! a server may hand on the bytes that a client sent. Knows nothing of what they mean.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// A key and its value, as of some revision.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The revision at which the key was last created.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// The revision of the last change.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// How often the key was written since its creation; 1 right after it.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// The value.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// The lease that the key is attached to; 0 if none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// What precedes each response. The store fills `revision`; the rest is the server's to fill.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ResponseHeader {
    /// The cluster that answered.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// The member that answered.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The store's revision when the request was applied.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// The member's Raft term.
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// In which direction a range is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum SortOrder {
    /// As it comes: by key, ascending.
    None = 0,
    /// Lowest first.
    Ascend = 1,
    /// Highest first.
    Descend = 2,
}

/// By what a range is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum SortTarget {
    /// By key.
    Key = 0,
    /// By version.
    Version = 1,
    /// By creation revision.
    Create = 2,
    /// By revision of the last change.
    Mod = 3,
    /// By value.
    Value = 4,
}

/// Reads keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RangeRequest {
    /// The first key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The key after the last one; empty reads `key` alone, a single zero byte reads to the end.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// How many keys at most; 0 means all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// As of which revision; 0 or less means now.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// See [`SortOrder`].
    #[prost(enumeration = "SortOrder", tag = "5")]
    pub sort_order: i32,
    /// See [`SortTarget`].
    #[prost(enumeration = "SortTarget", tag = "6")]
    pub sort_target: i32,
    /// Whether any member may answer from what it has.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    /// Whether values are left out.
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
    /// Whether only the count is wanted.
    #[prost(bool, tag = "9")]
    pub count_only: bool,
    /// Only keys last changed at this revision or later; 0 means any.
    #[prost(int64, tag = "10")]
    pub min_mod_revision: i64,
    /// Only keys last changed at this revision or earlier; 0 means any.
    #[prost(int64, tag = "11")]
    pub max_mod_revision: i64,
    /// Only keys created at this revision or later; 0 means any.
    #[prost(int64, tag = "12")]
    pub min_create_revision: i64,
    /// Only keys created at this revision or earlier; 0 means any.
    #[prost(int64, tag = "13")]
    pub max_create_revision: i64,
}

/// The answer to [`RangeRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RangeResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The keys.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left keys out.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// How many keys the range holds, whatever the limit and the filters.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// Writes one key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PutRequest {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// The lease to attach the key to; 0 detaches it.
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// Whether the previous value is wanted.
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    /// Whether the key keeps its value.
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    /// Whether the key keeps its lease.
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

/// The answer to [`PutRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PutResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// What the key held before, if that was asked for and it existed.
    #[prost(message, optional, tag = "2")]
    pub prev_kv: Option<KeyValue>,
}

/// Deletes keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeleteRangeRequest {
    /// The first key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`].
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Whether the previous values are wanted.
    #[prost(bool, tag = "3")]
    pub prev_kv: bool,
}

/// The answer to [`DeleteRangeRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeleteRangeResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// How many keys were deleted.
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    /// What they held, if that was asked for.
    #[prost(message, repeated, tag = "3")]
    pub prev_kvs: Vec<KeyValue>,
}

/// How a [`Compare`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum CompareResult {
    /// Must be equal.
    Equal = 0,
    /// Must be greater than the given value.
    Greater = 1,
    /// Must be less than the given value.
    Less = 2,
    /// Must differ.
    NotEqual = 3,
}

/// What a [`Compare`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum CompareTarget {
    /// The key's version.
    Version = 0,
    /// The revision of its creation.
    Create = 1,
    /// The revision of its last change.
    Mod = 2,
    /// Its value.
    Value = 3,
    /// Its lease.
    Lease = 4,
}

/// A condition of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Compare {
    /// See [`CompareResult`].
    #[prost(enumeration = "CompareResult", tag = "1")]
    pub result: i32,
    /// See [`CompareTarget`].
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub target: i32,
    /// The first key that must satisfy it.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// What to compare with; absent means zero or empty.
    #[prost(oneof = "CompareUnion", tags = "4, 5, 6, 7, 8")]
    pub target_union: Option<CompareUnion>,
    /// As in [`RangeRequest::range_end`]; every key of the range must satisfy the condition.
    #[prost(bytes = "bytes", tag = "64")]
    pub range_end: Bytes,
}

/// What a [`Compare`] compares with.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum CompareUnion {
    /// A version.
    #[prost(int64, tag = "4")]
    Version(i64),
    /// A creation revision.
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
    /// A revision of the last change.
    #[prost(int64, tag = "6")]
    ModRevision(i64),
    /// A value.
    #[prost(bytes = "bytes", tag = "7")]
    Value(Bytes),
    /// A lease.
    #[prost(int64, tag = "8")]
    Lease(i64),
}

impl CompareUnion {
    /// The number that it holds for `target`; `None` if it was given for another one.
    pub(crate) fn number(&self, target: CompareTarget) -> Option<i64> {
        match (self, target) {
            (Self::Version(number), CompareTarget::Version)
            | (Self::CreateRevision(number), CompareTarget::Create)
            | (Self::ModRevision(number), CompareTarget::Mod)
            | (Self::Lease(number), CompareTarget::Lease) => Some(*number),
            _ => None,
        }
    }

    /// The value that it holds; `None` if it was given for another target.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

/// Conditions, and what to do if they hold or not; all of it at one revision.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxnRequest {
    /// The conditions; all must hold.
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    /// What to do if they hold.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<RequestOp>,
    /// What to do if they do not.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<RequestOp>,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RequestOp {
    /// The operation.
    #[prost(oneof = "Request", tags = "1, 2, 3, 4")]
    pub request: Option<Request>,
}

/// Any request that a transaction may hold, or that [`crate::validate()`] judges.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Request {
    /// Read keys.
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    /// Write a key.
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// Delete keys.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRequest),
    /// A transaction within.
    #[prost(message, tag = "4")]
    Txn(TxnRequest),
}

/// The answer to [`TxnRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TxnResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Whether the conditions held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// The answers to the operations that were carried out, in their order.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResponseOp {
    /// The answer.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// Any answer within a transaction.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Response {
    /// To a range.
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    /// To a put.
    #[prost(message, tag = "2")]
    Put(PutResponse),
    /// To a deletion.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
}

/// Forgets the history before a revision.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CompactionRequest {
    /// The oldest revision that can still be read afterwards.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// Whether the caller waits until the space is free.
    #[prost(bool, tag = "2")]
    pub physical: bool,
}

/// The answer to [`CompactionRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CompactionResponse {
    /// See [`ResponseHeader`].
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}
