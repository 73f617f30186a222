//! Watches: who wants to hear of which keys from which revision on, and what they are told.
//! Ordered, unique, reliable, atomic, resumable and bookmarkable, as etcd defines these; knows
//! nothing of connections, threads or time.
//!
//! There is one source of events: the store's own history. A [`WatchHub`] reads what is new once
//! and hands it to the watchers that are *synced*, which wait in the outboxes of their streams. A
//! watcher whose outbox is full is not told and not waited for: it is *behind*, its place in
//! history is all that is kept of it, and its stream reads history from there, in bounded pieces,
//! when the client has taken what was before. That is also how a watch begins in the past, and how
//! all go on after a snapshot replaced the store.
//!
//! The rule that keeps it right: a watcher has been handed everything below its place that it
//! wants, in order, and nothing at or above it. The place of a synced watcher is the revision after
//! the one that the hub has routed, or a later one that it was created with.

mod api;
mod behind;
mod changes;
mod hub;
mod index;
mod intervals;
mod outbox;
mod rights;
mod stream;

pub use api::{
    Event, EventKind, WatchCancelRequest, WatchCreateRequest, WatchFilter, WatchProgressRequest,
    WatchRequest, WatchRequestKind, WatchResponse,
};
pub use hub::{WatchFigures, WatchHub};
pub use stream::{Pulled, WatchStream};

/// How much watches may hold in memory, and do in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Events that wait for one stream's client, in bytes; a watcher whose next event exceeds this
    /// falls behind and is kept as a place in history.
    pub stream_pending_bytes_max: usize,
    /// The same over all streams.
    pub pending_bytes_max: usize,
    /// Changes that one piece of history looks at; the last revision is read to its end, by streams
    /// in goes of this size.
    pub piece_rows_max: usize,
    /// The same of the bytes of wanted changes.
    pub piece_bytes_max: usize,
    /// Watchers of a stream that read history together.
    pub piece_watches_max: usize,
    /// Responses of this size in bytes are sent in pieces to clients that can take pieces.
    pub fragment_bytes_max: usize,
    /// Watches of all streams together.
    pub watches_max: usize,
    /// The bytes of the keys that all of them watch.
    pub keys_bytes_max: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        const KIB: usize = 1 << 10;
        Self {
            stream_pending_bytes_max: 1024 * KIB,
            pending_bytes_max: 128 * 1024 * KIB,
            piece_rows_max: 2048,
            piece_bytes_max: 512 * KIB,
            piece_watches_max: 512,
            // etcd's largest request and what it adds for gRPC.
            fragment_bytes_max: 2048 * KIB,
            watches_max: 1_000_000,
            keys_bytes_max: 256 * 1024 * KIB,
        }
    }
}
