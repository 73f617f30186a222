//! What all connections of a node share: who we are, whom we know, and where received messages go.

use super::gate::Gate;
use super::link::{Link, LinkError};
use super::{TransportOptions, dial};
use crate::Input;
use crate::metrics::Metrics;
use crate::runtime::{Mailbox, lock};
use crate::wire::{Channel, Hello, PROTOCOL_VERSION, Reject, decode_peer_message};
use bytes::Bytes;
use quorate_core::{Configuration, NodeId};
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
}

/// See the head of the file. All users are on the raft thread; the locks are never contended.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) identity: LocalIdentity,
    pub(crate) options: TransportOptions,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    configuration: Mutex<Arc<Configuration>>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    inbound: Mutex<BTreeMap<(NodeId, Channel), AbortHandle>>,
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
    tasks: Vec<AbortHandle>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Peer {
    pub(super) fn link(&self, channel: Channel) -> &Arc<Link> {
        match channel {
            Channel::Control => &self.control,
            Channel::Bulk => &self.bulk,
        }
    }
}

impl Hub {
    pub(super) fn new(
        identity: LocalIdentity,
        options: TransportOptions,
        mailbox: Arc<Mailbox>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            identity,
            options,
            mailbox,
            gate: Gate::default(),
            metrics,
            configuration: Mutex::default(),
            peers: Mutex::default(),
            inbound: Mutex::default(),
        }
    }

    pub(super) fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(&id).cloned()
    }

    /// Where a peer is to be found.
    pub(super) fn address_of(&self, id: NodeId) -> Option<String> {
        self.peer(id).map(|peer| lock(&peer.address).clone())
    }

    /// The members are these from now on: connects to the new ones and forgets the others.
    pub(super) fn set_configuration(self: &Arc<Self>, configuration: &Arc<Configuration>) {
        *lock(&self.configuration) = Arc::clone(configuration);
        for (&id, member) in &configuration.members {
            if id != self.identity.node_id {
                self.meet(id, &member.address, None);
            }
        }
        lock(&self.peers).retain(|id, peer| {
            let is_newer = peer.guest_of.is_some_and(|version| version > configuration.version);
            configuration.members.contains_key(id) || is_newer
        });
        let peers = lock(&self.peers);
        lock(&self.inbound).retain(|(id, _), task| {
            let is_known = peers.contains_key(id);
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
            address.clone_into(&mut lock(&peer.address));
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
            tasks: tasks.into(),
        };
        peers.insert(id, Arc::new(peer));
    }

    /// How we introduce ourselves to `to`.
    pub(super) fn hello(&self, to: NodeId, channel: Channel) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            cluster_id: self.identity.cluster_id,
            from: self.identity.node_id,
            to,
            storage_id: self.identity.storage_id,
            channel,
            configuration_version: lock(&self.configuration).version,
            address: self.identity.address.clone(),
        }
    }

    /// Decides whether a caller may come in.
    ///
    /// A caller that is not in our configuration is let in if its own is newer: it may have been
    /// added while we were away, and may even lead (§4.1). One that is not in ours and has none
    /// newer was removed, or never belonged.
    pub(super) fn judge(self: &Arc<Self>, hello: &Hello) -> Result<Arc<Peer>, Reject> {
        let LocalIdentity { cluster_id, node_id, .. } = self.identity;
        if hello.version != PROTOCOL_VERSION {
            return Err(Reject::Version { expected: PROTOCOL_VERSION, got: hello.version });
        }
        if hello.cluster_id != cluster_id {
            return Err(Reject::Cluster { expected: cluster_id, got: hello.cluster_id });
        }
        if hello.to != node_id {
            return Err(Reject::Target { expected: node_id, got: hello.to });
        }
        if hello.from == node_id {
            return Err(Reject::SameNode { node: node_id });
        }
        let configuration = Arc::clone(&lock(&self.configuration));
        let is_member = configuration.members.contains_key(&hello.from);
        if !is_member && hello.configuration_version > configuration.version {
            self.meet(hello.from, &hello.address, Some(hello.configuration_version));
        }
        let stranger =
            Reject::Sender { from: hello.from, configuration_version: configuration.version };
        let peer = self.peer(hello.from).ok_or(stranger)?;
        self.note_storage(hello.from, &peer, hello.storage_id);
        Ok(peer)
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

    /// A connection from a peer is open. It takes the place of an older one, whose end nobody may
    /// have noticed.
    pub(super) fn inbound_opened(&self, id: NodeId, channel: Channel, task: AbortHandle) {
        if let Some(older) = lock(&self.inbound).insert((id, channel), task) {
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

    /// A body that is not of the connection itself: for the driver.
    pub(super) fn received(&self, from: NodeId, body: Bytes) -> Result<(), LinkError> {
        let message = decode_peer_message(body)?;
        self.mailbox.push(Input::Peer { from, message });
        Ok(())
    }
}
