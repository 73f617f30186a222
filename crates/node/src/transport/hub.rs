//! What all connections of a node share: who we are, whom we know, and where received messages go.

use super::gate::Gate;
use super::link::{Link, LinkError};
use super::refusals::Refusals;
use super::unfinished::Unfinished;
use super::{PeerTls, TransportOptions, dial};
use crate::metrics::Metrics;
use crate::runtime::{Mailbox, lock};
use crate::wire::{
    Channel, ClusterView, Hello, NEGOTIATED_SINCE, Reject, SpokenRange, decode_peer_message,
};
use crate::{Input, PeerMessage};
use bytes::Bytes;
use quorate_core::{Configuration, LogId, Message, NodeId, NotAMember, ProtocolVersion, Term};
use quorate_tls::Tls;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::task::AbortHandle;

/// Who we are, as we introduce ourselves.
#[derive(Clone, Debug)]
pub(crate) struct LocalIdentity {
    pub(crate) cluster_id: u64,
    pub(crate) node_id: NodeId,
    pub(crate) storage_id: u128,
    /// Where we listen, as others should know it.
    pub(crate) address: String,
    /// The newest protocol that we speak.
    pub(crate) newest: ProtocolVersion,
}

/// Who belongs to us, as our core has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Membership {
    /// The configuration in force.
    pub(crate) configuration: Arc<Configuration>,
    /// The latest that is known to be committed, and where it stands.
    pub(crate) committed: Arc<Configuration>,
    pub(crate) position: LogId,
    /// Whom we still talk to although they are removed.
    pub(crate) departing: Vec<NodeId>,
    /// We are removed: nobody talks to us, and we talk to nobody.
    pub(crate) is_removed: bool,
}

/// See the head of the file. All users are on the raft thread; the locks are never contended.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) identity: LocalIdentity,
    pub(crate) options: TransportOptions,
    pub(super) security: Option<PeerTls>,
    pub(super) unfinished: Arc<Unfinished>,
    pub(super) refusals: Refusals,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    membership: Mutex<Membership>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    inbound: Mutex<BTreeMap<(NodeId, Channel), (ProtocolVersion, AbortHandle)>>,
}

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) control: Arc<Link>,
    pub(crate) bulk: Arc<Link>,
    address: Mutex<String>,
    storage_id: Mutex<Option<u128>>,
    /// For a caller that our configuration does not have: the version of the newer one that it
    /// says it belongs to.
    guest_of: Option<u64>,
    /// The newest protocol that it has named when it called, unless that was taken into account.
    named: Mutex<Option<ProtocolVersion>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Peer {
    /// Tries its new address at once, should the old one not answer any more.
    fn moved_to(&self, address: &str) {
        let mut known = lock(&self.address);
        if *known != address {
            address.clone_into(&mut known);
            self.control.kick.notify_one();
            self.bulk.kick.notify_one();
        }
    }

    /// It has called, and speaks this at most: connections on which we speak less although we could
    /// speak more were made when it was another program, or while it was being replaced.
    fn names(&self, version: ProtocolVersion, newest: ProtocolVersion) {
        *lock(&self.named) = Some(version);
        let both_know = version.min(newest);
        self.control.wants_spoken(both_know);
        self.bulk.wants_spoken(both_know);
    }

    /// Whether it has named a later version than is spoken on a connection that was just made; only
    /// once for each time that it does.
    pub(super) fn has_named_later(&self, spoken: ProtocolVersion, newest: ProtocolVersion) -> bool {
        let mut named = lock(&self.named);
        let is_later = named.is_some_and(|named| named.min(newest) > spoken);
        if is_later {
            *named = None;
        }
        is_later
    }

    pub(super) fn link(&self, channel: Channel) -> &Arc<Link> {
        match channel {
            Channel::Control => &self.control,
            Channel::Bulk => &self.bulk,
        }
    }
}

impl Membership {
    /// Why a caller whom we do not know is not let in. One that has no later configuration than
    /// our committed one is no member for certain, and should know.
    fn turn_away(&self, hello: &Hello) -> Reject {
        let (from, version) = (hello.from, self.committed.version);
        let is_certain = version > 0 && version >= hello.configuration_version;
        if is_certain && !self.committed.members.contains_key(&from) {
            return Reject::Removed { from, version, position: self.position };
        }
        Reject::Sender { from, configuration_version: self.configuration.version }
    }
}

impl Hub {
    pub(super) fn new(
        identity: LocalIdentity,
        options: TransportOptions,
        security: Option<PeerTls>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            identity,
            security,
            unfinished: Unfinished::new(options.handshakes_count_max),
            refusals: Refusals::default(),
            options,
            mailbox,
            gate: Gate::default(),
            metrics,
            membership: Mutex::default(),
            peers: Mutex::default(),
            inbound: Mutex::default(),
        }
    }

    /// What to dial with.
    pub(super) fn tls(&self) -> Option<&Arc<Tls>> {
        self.security.as_ref().map(|security| &security.tls)
    }

    pub(super) fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(&id).cloned()
    }

    /// Where a peer is to be found.
    pub(super) fn address_of(&self, id: NodeId) -> Option<String> {
        self.peer(id).map(|peer| lock(&peer.address).clone())
    }

    /// The members are these from now on: connects to the new ones and forgets the others.
    pub(super) fn set_membership(self: &Arc<Self>, membership: &Membership) {
        *lock(&self.membership) = membership.clone();
        let oldest = self.oldest();
        let Membership { configuration, departing, is_removed, .. } = membership;
        for (&id, member) in configuration.members.iter().filter(|_| !is_removed) {
            if id != self.identity.node_id {
                self.meet(id, &member.address, None);
            }
        }
        lock(&self.peers).retain(|id, peer| {
            let is_newer = peer.guest_of.is_some_and(|version| version > configuration.version);
            let is_member = configuration.members.contains_key(id) || departing.contains(id);
            is_newer || (is_member && !is_removed)
        });
        let peers = lock(&self.peers);
        for peer in peers.values() {
            peer.control.wants_spoken(oldest);
            peer.bulk.wants_spoken(oldest);
        }
        lock(&self.inbound).retain(|(id, _), (version, task)| {
            let is_known = peers.contains_key(id) && *version >= oldest;
            if !is_known {
                task.abort();
            }
            is_known
        });
    }

    /// Gets to know a node, or its new address.
    fn meet(self: &Arc<Self>, id: NodeId, address: &str, guest_of: Option<u64>) {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(&id)
            && peer.guest_of.is_none() == guest_of.is_none()
        {
            peer.moved_to(address);
            return;
        }
        let metrics = self.metrics.peer(id);
        let link = |channel| Arc::new(Link::new(id, channel, &self.options, Arc::clone(&metrics)));
        let (control, bulk) = (link(Channel::Control), link(Channel::Bulk));
        let tasks = [&control, &bulk].map(|link| {
            tokio::spawn(dial::keep_connected(Arc::clone(self), Arc::clone(link))).abort_handle()
        });
        let peer = Peer {
            control,
            bulk,
            address: Mutex::new(address.to_owned()),
            storage_id: Mutex::default(),
            guest_of,
            named: Mutex::default(),
            tasks: tasks.into(),
        };
        peers.insert(id, Arc::new(peer));
    }

    /// The oldest protocol that we speak: nothing older than what the cluster speaks for good.
    pub(super) fn oldest(&self) -> ProtocolVersion {
        lock(&self.membership).committed.cluster_version.max(ProtocolVersion::OLDEST)
    }

    /// How we introduce ourselves to `to`, in this version.
    pub(super) fn hello(&self, to: NodeId, channel: Channel, version: ProtocolVersion) -> Hello {
        Hello {
            version,
            cluster_id: self.identity.cluster_id,
            from: self.identity.node_id,
            to,
            storage_id: self.identity.storage_id,
            channel,
            configuration_version: lock(&self.membership).configuration.version,
            address: self.identity.address.clone(),
        }
    }

    /// What we tell those who ask which cluster this is.
    pub(super) fn view(&self) -> ClusterView {
        let LocalIdentity { cluster_id, node_id, .. } = self.identity;
        let configuration = lock(&self.membership).committed.as_ref().clone();
        ClusterView { cluster_id, node_id, configuration }
    }

    /// Decides whether a caller may come in.
    ///
    /// A caller that is not in our configuration is let in if its own is newer: it may have been
    /// added while we were away, and may even lead (§4.1). One that is not in ours and has none
    /// newer was removed, or never belonged.
    pub(super) fn judge(self: &Arc<Self>, hello: &Hello) -> Result<Arc<Peer>, Reject> {
        let LocalIdentity { cluster_id, node_id, newest, .. } = self.identity;
        self.check_version(hello.version)?;
        if hello.cluster_id != cluster_id {
            return Err(Reject::Cluster { expected: cluster_id, got: hello.cluster_id });
        }
        if hello.to != node_id {
            return Err(Reject::Target { expected: node_id, got: hello.to });
        }
        if hello.from == node_id {
            return Err(Reject::SameNode { node: node_id });
        }
        let membership = lock(&self.membership).clone();
        let Membership { configuration, .. } = &membership;
        let is_member = configuration.members.contains_key(&hello.from);
        if !is_member && hello.configuration_version > configuration.version {
            self.meet(hello.from, &hello.address, Some(hello.configuration_version));
        }
        let peer = self.peer(hello.from).ok_or_else(|| membership.turn_away(hello))?;
        self.note_storage(hello.from, &peer, hello.storage_id);
        peer.names(hello.version, newest);
        Ok(peer)
    }

    /// Whether we speak what a caller does, or something older that it knows. A program from before
    /// versions were negotiated, or one that behaves as such, speaks one.
    ///
    /// # Errors
    ///
    /// [`Reject::Version`].
    pub(super) fn check_version(&self, got: ProtocolVersion) -> Result<(), Reject> {
        let newest = self.identity.newest;
        if newest < NEGOTIATED_SINCE {
            let is_same = got == newest;
            return is_same.then_some(()).ok_or(Reject::Version {
                expected: newest,
                got,
                range: None,
            });
        }
        let expected = self.oldest();
        let is_cluster = expected > ProtocolVersion::OLDEST;
        if got < expected {
            let range = Some(SpokenRange { newest, is_cluster });
            return Err(Reject::Version { expected, got, range });
        }
        Ok(())
    }

    /// Looks whether a peer still has the disk that it had.
    pub(super) fn note_storage(&self, id: NodeId, peer: &Peer, storage_id: u128) {
        let before = lock(&peer.storage_id).replace(storage_id);
        if before.is_some_and(|before| before != storage_id) {
            let me = self.identity.node_id;
            tracing::warn!(
                node = %me, peer = %id,
                "the peer came back with another disk; what it had promised may be lost"
            );
        }
    }

    /// A peer says that we are no member any more.
    pub(super) fn turned_away(&self, by: NodeId, reject: &Reject) {
        let Reject::Removed { version, position, .. } = *reject else { return };
        // The core counts terms by what it hears from members; this is none.
        let notice = NotAMember { term: Term::default(), version, position };
        let message = PeerMessage::Raft(Message::NotAMember(notice));
        // Not a promise: it is heard from whatever disk.
        let version = ProtocolVersion::OLDEST;
        self.mailbox.push(Input::Peer { from: by, storage_id: 0, version, message });
    }

    /// A connection from a peer is open. It takes the place of an older one, whose end nobody may
    /// have noticed.
    pub(super) fn inbound_opened(
        &self,
        id: NodeId,
        channel: Channel,
        version: ProtocolVersion,
        task: AbortHandle,
    ) {
        if let Some((_, older)) = lock(&self.inbound).insert((id, channel), (version, task)) {
            older.abort();
        }
        if let Some(peer) = self.peer(id) {
            peer.control.kick.notify_one();
            peer.bulk.kick.notify_one();
        }
    }

    /// A connection is gone. Replies travel as bulk, so only there something may be owed.
    pub(super) fn lost(&self, peer: NodeId, channel: Channel) {
        if channel == Channel::Bulk {
            self.mailbox.push(Input::Disconnected { peer });
        }
    }

    /// Nobody listens any more where a peer was. Whoever is there keeps both its connections, and
    /// heartbeats come by one of them: that one is enough.
    pub(super) fn gone(&self, peer: NodeId, channel: Channel) {
        if channel == Channel::Control {
            let node = self.identity.node_id;
            tracing::info!(%node, %peer, "nobody listens there any more: its process seems to have ended");
            self.mailbox.push(Input::PeerGone { peer });
        }
    }

    /// A body that is not of the connection itself: for the driver.
    pub(super) fn received(
        &self,
        from: NodeId,
        storage_id: u128,
        version: ProtocolVersion,
        body: Bytes,
    ) -> Result<(), LinkError> {
        let message = decode_peer_message(body, version.min(self.identity.newest))?;
        self.mailbox.push(Input::Peer { from, storage_id, version, message });
        Ok(())
    }
}
