//! TCP between nodes, in the clear or over TLS. To each peer we keep two connections, one for what must
//! not wait and one for bulk; on them we only send, and what the peer says comes on those that it keeps to
//! us. Knows nothing of what messages mean, beyond which of them are bulk.

mod absence;
mod accept;
mod address;
mod ask;
mod backoff;
mod dial;
mod explain;
mod frames;
mod gate;
mod handshake;
mod hub;
mod link;
mod options;
mod refusals;
mod secure;
mod security;
mod stream;
#[cfg(test)]
mod tests;
mod unfinished;

pub(crate) use accept::Entrance;
pub(crate) use address::PeerAddress;
pub use ask::{AskError, ask_cluster};
pub(crate) use hub::LocalIdentity;
pub use options::TransportOptions;
pub use security::{PEER_PROTOCOL, PeerTls};

use crate::metrics::Metrics;
use crate::runtime::Mailbox;
use crate::wire::{Channel, WireError, check_said_in, put_frame, put_peer_message};
use crate::{Forwarded, PeerMessage};
use bytes::BytesMut;
use hub::{Hub, Membership};
use link::Link;
use quorate_core::{AppendEntries, LogId, LogIndex, Message, NodeId, Raft, Term};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Forwarded commands and their replies travel in frames of about this size, however many there
/// are: a batch of any size passes the limit on frames.
const FORWARD_FRAME_BYTES: usize = 1 << 20;

/// The last encoded frame is given back if it made its buffer larger than this.
const KEPT_FRAME_BYTES: usize = 4 << 20;

/// What the event loop sends with. Lives on the raft thread.
#[derive(Debug)]
pub(crate) struct Transport {
    hub: Arc<Hub>,
    known: Membership,
    /// Links with something to flush at the end of the turn.
    dirty: Vec<Arc<Link>>,
    encoded: EncodedAppend,
}

/// The last `AppendEntries` as a frame. Peers that are equally far get the same entries in the
/// same turn: they are encoded and checksummed once.
#[derive(Debug, Default)]
struct EncodedAppend {
    key: Option<AppendKey>,
    frame: BytesMut,
}

/// Two messages with the same key are the same: a log id stands for all entries up to it (§3.5).
#[derive(Debug, PartialEq, Eq)]
struct AppendKey {
    term: Term,
    prev_log: LogId,
    last: LogId,
    leader_commit: LogIndex,
}

impl Transport {
    /// A transport that accepts at `entrances`. To be called on the raft thread, inside its runtime.
    pub(crate) fn new(
        identity: LocalIdentity,
        options: TransportOptions,
        security: Option<PeerTls>,
        entrances: Vec<Entrance<TcpListener>>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let interval = options.tls_refresh_interval;
        let hub = Arc::new(Hub::new(identity, options, security, mailbox, metrics));
        if let Some(tls) = hub.tls().filter(|tls| tls.has_files()) {
            tokio::spawn(security::keep_fresh(Arc::clone(tls), interval));
        }
        for entrance in entrances {
            tokio::spawn(accept::keep_accepting(Arc::clone(&hub), entrance));
        }
        Self {
            hub,
            known: Membership::default(),
            dirty: Vec::new(),
            encoded: EncodedAppend::default(),
        }
    }

    /// Keeps connections to those whom this core talks to. Cheap if nothing changed.
    pub(crate) fn follow_members(&mut self, raft: &Raft) {
        let configuration = raft.configuration();
        let (position, committed) = raft.committed_configuration();
        let is_same = Arc::ptr_eq(&self.known.configuration, configuration)
            && Arc::ptr_eq(&self.known.committed, committed)
            && self.known.departing.iter().copied().eq(raft.departing())
            && self.known.is_removed == raft.removed_at().is_some();
        if is_same {
            return;
        }
        self.set_membership(Membership {
            configuration: Arc::clone(configuration),
            committed: Arc::clone(committed),
            position,
            departing: raft.departing().collect(),
            is_removed: raft.removed_at().is_some(),
        });
    }

    fn set_membership(&mut self, membership: Membership) {
        self.hub.set_membership(&membership);
        self.known = membership;
    }

    /// Tells how much is on its way to the disk and the state machine.
    pub(crate) fn set_intake(&self, bytes: usize) {
        self.hub.gate.set_shut(bytes > self.hub.options.intake_bytes_max);
    }

    /// Queues a message for the end of the turn.
    pub(crate) fn send(&mut self, to: NodeId, message: PeerMessage) {
        let Some(peer) = self.hub.peer(to) else {
            // Whoever waits for a reply to this must not wait for ever.
            if is_owed(&message) {
                self.hub.lost(to, Channel::Bulk);
            }
            return;
        };
        let link = peer.link(channel_of(&message));
        if let Err(error) = check_said_in(&message, link.spoken()) {
            self.leave_unsaid(to, &message, &error);
            return;
        }
        let flush = match message {
            PeerMessage::Raft(Message::AppendEntries(append)) if !append.entries.is_empty() => {
                self.encoded.encode(append);
                let frame = &self.encoded.frame;
                link.put(false, |out| out.extend_from_slice(frame))
            }
            PeerMessage::Forward { term, incarnation, requests } => {
                let pieces = pieces(requests, |request: &Forwarded| request.proposed.size_bytes());
                pieces.into_iter().fold(false, |_, requests| {
                    put(link, true, &PeerMessage::Forward { term, incarnation, requests })
                })
            }
            PeerMessage::ForwardReplies { incarnation, replies } => {
                pieces(replies, |(_, fate)| fate_bytes(fate)).into_iter().fold(
                    false,
                    |_, replies| {
                        put(link, true, &PeerMessage::ForwardReplies { incarnation, replies })
                    },
                )
            }
            PeerMessage::ChangeMembership { .. } | PeerMessage::MembershipReply { .. } => {
                put(link, true, &message)
            }
            PeerMessage::Raft(_)
            | PeerMessage::Introduce(_)
            | PeerMessage::Digest(_)
            | PeerMessage::StateWanted { .. } => put(link, false, &message),
        };
        if flush && !self.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, link)) {
            self.dirty.push(Arc::clone(link));
        }
    }

    /// The other side would not understand this: as if the network had lost it.
    fn leave_unsaid(&self, to: NodeId, message: &PeerMessage, error: &WireError) {
        let node = self.hub.identity.node_id;
        tracing::debug!(%node, peer = %to, "not sent: {error}");
        self.hub.metrics.peer(to).dropped_messages.add(1);
        if is_owed(message) {
            self.hub.lost(to, Channel::Bulk);
        }
    }

    /// As [`Transport::flush`], but waits until the kernel has taken everything.
    pub(crate) async fn drain(&mut self) {
        for link in std::mem::take(&mut self.dirty) {
            link.drained().await;
        }
    }

    /// Writes what the turn has queued: one system call for each connection.
    pub(crate) fn flush(&mut self) {
        for link in self.dirty.drain(..) {
            link.flush_or_leave();
        }
        if self.encoded.frame.capacity() > KEPT_FRAME_BYTES {
            self.encoded = EncodedAppend::default();
        }
    }
}

impl EncodedAppend {
    fn encode(&mut self, append: AppendEntries) {
        let last = append.entries.last().map_or(append.prev_log, |entry| entry.log_id);
        let AppendEntries { term, prev_log, leader_commit, .. } = append;
        let key = Some(AppendKey { term, prev_log, last, leader_commit });
        if self.key != key {
            let message = PeerMessage::Raft(Message::AppendEntries(append));
            self.frame.clear();
            put_frame(&mut self.frame, |out| put_peer_message(&message, out));
            self.key = key;
        }
    }
}

fn put(link: &Link, owes: bool, message: &PeerMessage) -> bool {
    link.put(owes, |out| put_frame(out, |out| put_peer_message(message, out)))
}

/// What may be large, or is only of use to callers, must not delay what keeps the cluster together.
fn channel_of(message: &PeerMessage) -> Channel {
    match message {
        PeerMessage::Forward { .. }
        | PeerMessage::ForwardReplies { .. }
        | PeerMessage::ChangeMembership { .. }
        | PeerMessage::MembershipReply { .. }
        | PeerMessage::Digest(_) => Channel::Bulk,
        PeerMessage::Introduce(_) | PeerMessage::StateWanted { .. } => Channel::Control,
        PeerMessage::Raft(message) => match message {
            // Also without entries: the question whether earlier ones have arrived must not overtake
            // them, or the answer would have them sent again while they are still on their way.
            // Nor must the call to campaign: a candidate that lacks what others have in the meantime
            // is refused by them, and nobody leads until an election timeout has passed.
            Message::AppendEntries(_)
            | Message::InstallSnapshot(_)
            | Message::TimeoutNow(_)
            | Message::LostEntriesResponse(_) => Channel::Bulk,
            Message::RequestVote(_)
            | Message::RequestVoteResponse(_)
            | Message::AppendEntriesResponse(_)
            | Message::Heartbeat(_)
            | Message::HeartbeatResponse(_)
            | Message::InstallSnapshotResponse(_)
            | Message::ReadIndex(_)
            | Message::NotAMember(_)
            | Message::LostEntries(_)
            | Message::ReadIndexResponse(_) => Channel::Control,
        },
    }
}

fn is_owed(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Forward { .. }
        | PeerMessage::ForwardReplies { .. }
        | PeerMessage::ChangeMembership { .. }
        | PeerMessage::MembershipReply { .. } => true,
        PeerMessage::Raft(_)
        | PeerMessage::Introduce(_)
        | PeerMessage::Digest(_)
        | PeerMessage::StateWanted { .. } => false,
    }
}

fn fate_bytes(fate: &crate::Fate) -> usize {
    match fate {
        crate::Fate::Applied { reply, .. } => reply.len(),
        crate::Fate::NotAppended(_)
        | crate::Fate::Lost { .. }
        | crate::Fate::Unknown(_)
        | crate::Fate::Refused(_) => 0,
    }
}

/// Cuts a batch into pieces of about [`FORWARD_FRAME_BYTES`], each of at least one item.
fn pieces<T>(items: Vec<T>, size_bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    const ITEM_BYTES: usize = 32;
    let mut pieces = Vec::with_capacity(1);
    let (mut piece, mut piece_bytes) = (Vec::new(), 0);
    for item in items {
        let item_bytes = size_bytes(&item) + ITEM_BYTES;
        if piece_bytes + item_bytes > FORWARD_FRAME_BYTES && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            piece_bytes = 0;
        }
        piece_bytes += item_bytes;
        piece.push(item);
    }
    pieces.push(piece);
    pieces
}
