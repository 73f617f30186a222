//! What one stream has still to tell its client, in order, and how it is put into responses. Counts
//! its bytes; must not decide who hears of what.

use super::api::WatchResponse;
use super::changes::Change;
use crate::api::ResponseHeader;
use crate::revision::Revision;
use prost::Message;
use prost::encoding::encoded_len_varint;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The name in a response that means no watch in particular.
pub(crate) const NO_WATCH: i64 = -1;

/// Something that a client is told.
#[derive(Debug)]
pub(crate) enum Item {
    Events(Events),
    /// A watch began, or not, with the reason.
    Created {
        id: i64,
        revision: Revision,
        refusal: Option<String>,
    },
    /// A watch has ended: its client said so, or for a reason.
    Canceled {
        id: i64,
        revision: Revision,
        reason: String,
    },
    /// What a watch wants is compacted.
    Compacted {
        id: i64,
        compacted: Revision,
    },
    /// A watch is complete up to here; all of the stream are if it is [`NO_WATCH`].
    Progress {
        id: i64,
        revision: Revision,
    },
}

/// What one watch is told at once: whole revisions.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) id: i64,
    /// The watch is complete up to here.
    pub(crate) revision: Revision,
    pub(crate) changes: VecDeque<Arc<Change>>,
    pub(crate) with_prev: bool,
    /// Whether it may come in pieces.
    pub(crate) may_fragment: bool,
}

impl Events {
    pub(crate) fn size_bytes(&self) -> usize {
        self.changes.iter().map(|change| change.size_bytes()).sum()
    }

    /// The next response, of less than `size_max` bytes if the client can take pieces; then the
    /// rest stays here. Also returns what its events counted for.
    fn take(&mut self, size_max: usize) -> (WatchResponse, usize) {
        let mut response = plain(self.id, self.revision);
        let mut size = response.encoded_len();
        let mut taken = 0;
        while let Some(change) = self.changes.front() {
            let event = change.to_event(self.with_prev);
            let event_size = event.encoded_len();
            size += 1 + encoded_len_varint(event_size as u64) + event_size;
            if self.may_fragment && size >= size_max && !response.events.is_empty() {
                response.fragment = true;
                return (response, taken);
            }
            taken += change.size_bytes();
            self.changes.pop_front();
            response.events.push(event);
        }
        (response, taken)
    }
}

/// What is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    /// What the events in it count for.
    pub(crate) size_bytes: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, item: Item) {
        if let Item::Events(events) = &item {
            self.size_bytes += events.size_bytes();
        }
        self.items.push_back(item);
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes out the events that were for these watches.
    pub(crate) fn withdraw(&mut self, ids: &BTreeSet<i64>) {
        self.items.retain(|item| match item {
            Item::Events(events) => !ids.contains(&events.id),
            Item::Created { .. }
            | Item::Canceled { .. }
            | Item::Compacted { .. }
            | Item::Progress { .. } => true,
        });
        let events = self.items.iter().filter_map(|item| match item {
            Item::Events(events) => Some(events.size_bytes()),
            Item::Created { .. }
            | Item::Canceled { .. }
            | Item::Compacted { .. }
            | Item::Progress { .. } => None,
        });
        self.size_bytes = events.sum();
    }

    /// The next response.
    pub(crate) fn pop(&mut self, fragment_size_max: usize) -> Option<WatchResponse> {
        let Some(Item::Events(events)) = self.items.front_mut() else {
            return self.items.pop_front().map(Item::into_response);
        };
        let (response, taken) = events.take(fragment_size_max);
        self.size_bytes = self.size_bytes.saturating_sub(taken);
        if events.changes.is_empty() {
            self.items.pop_front();
        }
        Some(response)
    }
}

impl Item {
    /// The response of anything but events, which [`Outbox::pop`] takes piece by piece.
    fn into_response(self) -> WatchResponse {
        match self {
            Self::Events(mut events) => events.take(usize::MAX).0,
            Self::Created { id, revision, refusal } => WatchResponse {
                created: true,
                canceled: refusal.is_some(),
                cancel_reason: refusal.unwrap_or_default(),
                ..plain(id, revision)
            },
            Self::Canceled { id, revision, reason } => {
                WatchResponse { canceled: true, cancel_reason: reason, ..plain(id, revision) }
            }
            // etcd gives this one a header without a revision.
            Self::Compacted { id, compacted } => WatchResponse {
                canceled: true,
                compact_revision: compacted.to_wire(),
                ..plain(id, Revision::default())
            },
            Self::Progress { id, revision } => plain(id, revision),
        }
    }
}

fn plain(id: i64, revision: Revision) -> WatchResponse {
    let header = ResponseHeader { revision: revision.to_wire(), ..ResponseHeader::default() };
    WatchResponse { header: Some(header), watch_id: id, ..WatchResponse::default() }
}
