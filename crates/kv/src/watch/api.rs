//! The messages of the watch protocol, with etcd's field numbers, so that a server may decode what
//! a client sent and encode what it is told. Knows nothing of what they mean.

use crate::api::{KeyValue, ResponseHeader};
use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// What a client says on a watch stream.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchRequest {
    /// What it wants. Absent in a request of a version that we do not know.
    #[prost(oneof = "WatchRequestKind", tags = "1, 2, 3")]
    pub kind: Option<WatchRequestKind>,
}

/// What a [`WatchRequest`] wants.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum WatchRequestKind {
    /// Another watch.
    #[prost(message, tag = "1")]
    Create(WatchCreateRequest),
    /// The end of a watch.
    #[prost(message, tag = "2")]
    Cancel(WatchCancelRequest),
    /// To be told how far all watches of the stream are.
    #[prost(message, tag = "3")]
    Progress(WatchProgressRequest),
}

/// Begins a watch.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchCreateRequest {
    /// The first key; empty means the lowest there can be.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The key after the last one; empty watches `key` alone, a single zero byte to the end.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// The first revision that is wanted; 0 means the next one.
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    /// Whether the client wants to hear from time to time how far an idle watch is.
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
    /// What is not wanted; see [`WatchFilter`].
    #[prost(enumeration = "WatchFilter", repeated, tag = "5")]
    pub filters: Vec<i32>,
    /// Whether each event tells what the key held before.
    #[prost(bool, tag = "6")]
    pub prev_kv: bool,
    /// The name of the watch; 0 lets the server choose.
    #[prost(int64, tag = "7")]
    pub watch_id: i64,
    /// Whether a large answer may come in pieces.
    #[prost(bool, tag = "8")]
    pub fragment: bool,
}

/// Which events a watch does not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum WatchFilter {
    /// No puts.
    NoPut = 0,
    /// No deletions.
    NoDelete = 1,
}

/// Ends a watch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WatchCancelRequest {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub watch_id: i64,
}

/// Asks how far all watches of the stream are.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WatchProgressRequest {}

/// What a client is told on a watch stream.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchResponse {
    /// See [`ResponseHeader`]. Its revision says how far the watch is; without events, a
    /// cancellation or a creation, that is all that the response says.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// Which watch; -1 for all of the stream, or for one that was not created.
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    /// Whether this answers a [`WatchCreateRequest`].
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// Whether the watch has ended; nothing follows.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// If it ended because what it wants is compacted: the oldest revision that can be watched.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it ended, or was not created.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// Whether more of the same response follows.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// What happened, in order.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// What happened to a key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Event {
    /// See [`EventKind`].
    #[prost(enumeration = "EventKind", tag = "1")]
    pub kind: i32,
    /// The key as it is now; of a deletion only name and revision.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
    /// The key as it was before, if that was asked for, it existed, and it is not compacted.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<KeyValue>,
}

/// What an [`Event`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enumeration)]
#[repr(i32)]
pub enum EventKind {
    /// The key was written.
    Put = 0,
    /// The key was deleted.
    Delete = 1,
}
