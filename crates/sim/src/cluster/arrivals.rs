//! What comes in at a node's end of its connections: frames, pieces of frames, late copies and
//! damaged ones. Knows nothing of what a node does with a message.

use super::Cluster;
use crate::application::Application;
use crate::judge::{Breach, check_known};
use crate::network::{Piece, read_alone, read_garbled};
use crate::rng::Rng;
use crate::trace::{Note, What, kind_of};
use bytes::Bytes;
use quorate::wire::decode_peer_message;
use quorate::{Input, PeerMessage};
use quorate_core::{NodeId, ProtocolVersion};

impl<A: Application> Cluster<A> {
    /// A frame or a piece of one reaches a node, if its connection still exists.
    pub(super) fn deliver(
        &mut self,
        from: NodeId,
        to: NodeId,
        connection: u64,
        piece: Piece,
    ) -> Result<(), Breach> {
        match self.network.arrives(from, to, connection, piece) {
            Some(body) => self.receive(from, to, body),
            None => Ok(()),
        }
    }

    /// What a cut has held back reaches a node.
    pub(super) fn release(&mut self, from: NodeId, to: NodeId) -> Result<(), Breach> {
        let bodies = self.network.release(from, to);
        bodies.into_iter().try_for_each(|body| self.receive(from, to, body))
    }

    /// A copy of a frame reaches a node long after it was sent. It can have waited in a buffer
    /// of either process, so it arrives only if neither has died since.
    pub(super) fn deliver_stale(
        &mut self,
        from: NodeId,
        to: NodeId,
        lives: (u64, u64),
        frame: &Bytes,
    ) -> Result<(), Breach> {
        if self.lives(from, to) != lives || self.network.is_cut(from, to) {
            return Ok(());
        }
        self.trace.counts.stale_deliveries += 1;
        match read_alone(frame) {
            Ok(Some(body)) => self.receive(from, to, body),
            Ok(None) => Ok(()),
            Err(misread) => Err(Breach::Misread { from, misread: misread.to_string() }),
        }
    }

    /// The judge of those who read connections.
    pub(super) fn check_readers(&mut self) -> Result<(), Breach> {
        match self.network.take_misread() {
            Some((from, misread)) => Err(Breach::Misread { from, misread: misread.to_string() }),
            None => Ok(()),
        }
    }

    pub(super) fn lives(&self, one: NodeId, two: NodeId) -> (u64, u64) {
        let life = |id| self.nodes.get(&id).map_or(0, |node| node.life);
        (life(one), life(two))
    }

    /// A node receives a frame's body: here it becomes a message again.
    fn receive(&mut self, from: NodeId, to: NodeId, body: Bytes) -> Result<(), Breach> {
        if self.running(to).is_none() {
            return Ok(());
        }
        self.trace.counts.delivered += 1;
        // Who lets the other not in hears nothing of it.
        let Some(spoken) = self.spoken_between(from, to) else { return Ok(()) };
        let kind = body.first().copied().unwrap_or_default();
        if let Ok(message) = decode_peer_message(body.clone(), ProtocolVersion::NEWEST) {
            check_known(from, spoken, kind, &message)?;
        }
        let message = decode_peer_message(body, spoken)
            .map_err(|error| Breach::WireBroken { from, reason: error.to_string() })?;
        self.rpcs.entry(to).or_default().count(&message);
        if let PeerMessage::Raft(message) = &message {
            let what = What::Received { from, kind: kind_of(message), term: message.term() };
            self.trace.note(Note { at: self.now, node: Some(to), what });
        }
        self.tell_received(from, to, &message);
        let storage_id = self.nodes.get(&from).map_or(0, |node| node.storage_id);
        let version = self.nodes.get(&from).map_or(spoken, |node| node.program);
        self.tell(to, Input::Peer { from, storage_id, version, message });
        Ok(())
    }

    /// A frame arrives damaged. The reader has to notice; and if it is the message that is damaged,
    /// in a frame that fits it, a node must stand whatever it says, though nobody acts on it.
    pub(super) fn receive_garbled(&mut self, from: NodeId, frame: &Bytes) -> Result<(), Breach> {
        self.trace.counts.garbled += 1;
        let damaged = garbled(frame, &mut self.rng);
        if damaged != frame && read_garbled(&damaged).is_some() {
            let misread = "a damaged frame is taken for a sound one".to_owned();
            return Err(Breach::Misread { from, misread });
        }
        if let Ok(Some(body)) = read_alone(frame) {
            drop(decode_peer_message(garbled(&body, &mut self.rng), ProtocolVersion::NEWEST));
        }
        Ok(())
    }
}

/// Bytes as nobody sends them: cut short, or with a few bytes of any value.
fn garbled(bytes: &Bytes, rng: &mut Rng) -> Bytes {
    let mut garbled = bytes.to_vec();
    if rng.coin() {
        garbled.truncate(rng.index(bytes.len()));
    }
    let at = rng.index(garbled.len());
    for byte in garbled.iter_mut().skip(at).take(rng.index(9)) {
        *byte = *rng.pick(&[0, 1, 0x7f, 0xff]).unwrap_or(&0);
    }
    garbled.into()
}
