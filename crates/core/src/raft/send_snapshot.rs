//! InstallSnapshot, the leader's side (§5.1): followers that need what the log no longer holds get
//! a snapshot, one piece at a time, from wherever they are. What is inside is not known here.

use super::common::Common;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::progress::{Progress, ProgressState, Sending};
use crate::{
    Effect, InstallSnapshot, InstallSnapshotResponse, LogId, LogIndex, Message, NodeId,
    SnapshotMeta,
};
use bytes::Bytes;

impl Sending {
    /// Has the next piece read.
    pub(super) fn read_chunk(&mut self, effects: &mut Vec<Effect>, peer: NodeId, max_bytes: usize) {
        let Some(meta) = &self.meta else { return };
        let last_included = meta.last_included;
        let offset = self.offset;
        self.sent_at = None;
        effects.push(Effect::ReadSnapshotChunk { peer, last_included, offset, max_bytes });
    }

    fn is_of(&self, last_included: LogId) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.last_included == last_included)
    }
}

impl Leader {
    /// Starts a snapshot for every follower that needs one, if one is at hand; else has one taken.
    pub(crate) fn send_snapshots(&mut self, common: &mut Common) {
        let base_index = common.log.base_index();
        for (peer, progress) in &mut self.progress {
            if !progress.needs_snapshot(base_index) {
                continue;
            }
            if !matches!(progress.state, ProgressState::Snapshot(_)) {
                progress.begin_snapshot();
            }
            let at_least =
                progress.state_wanted.map_or(base_index, |wanted| wanted.max(base_index));
            let ProgressState::Snapshot(sending) = &mut progress.state else { continue };
            if sending.meta.is_some() {
                continue;
            }
            let fits = |meta: &&SnapshotMeta| meta.last_included.index >= at_least;
            if let Some(meta) = self.snapshot.as_ref().filter(fits) {
                *sending = Sending { meta: Some(meta.clone()), ..Sending::default() };
                let max_bytes = common.options.snapshot_chunk_bytes_max;
                sending.read_chunk(&mut common.effects, *peer, max_bytes);
            } else if !self.snapshot_asked {
                self.snapshot_asked = true;
                common.effects.push(Effect::TakeSnapshot { at_least });
            }
        }
    }

    fn sending_mut(&mut self, peer: NodeId, last_included: LogId) -> Option<&mut Sending> {
        match &mut self.progress.get_mut(&peer)?.state {
            ProgressState::Snapshot(sending) => sending.is_of(last_included).then_some(sending),
            ProgressState::Probe { .. } | ProgressState::Replicate(_) => None,
        }
    }
}

impl Raft {
    /// A member needs a snapshot though its log needs none. What it says it has to cover must be there.
    pub(super) fn handle_state_wanted(&mut self, peer: NodeId, at_least: LogIndex) {
        let Some((leader, common)) = self.leader_mut() else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        if at_least <= common.commit_index && progress.state_wanted.is_none() {
            progress.state_wanted = Some(at_least);
        }
    }

    /// A snapshot is at hand; what follows from that is settled after the event.
    pub(super) fn handle_snapshot_ready(&mut self, meta: SnapshotMeta) {
        if let Some((leader, _)) = self.leader_mut() {
            leader.snapshot_asked = false;
            leader.snapshot = Some(meta);
        }
    }

    /// A snapshot is no longer readable: whoever was being sent it starts over with a new one.
    pub(super) fn handle_snapshot_gone(&mut self, peer: NodeId, last_included: LogId) {
        let Some((leader, _)) = self.leader_mut() else { return };
        if leader.snapshot.as_ref().is_some_and(|meta| meta.last_included == last_included) {
            leader.snapshot = None;
        }
        if let Some(sending) = leader.sending_mut(peer, last_included) {
            *sending = Sending::default();
        }
    }

    /// A piece was read: it goes out, and the next one waits for the answer.
    pub(super) fn handle_snapshot_chunk(
        &mut self,
        peer: NodeId,
        last_included: LogId,
        offset: u64,
        chunk: Bytes,
        done: bool,
    ) {
        let Some((leader, common)) = self.leader_mut() else { return };
        let Some(sending) = leader.sending_mut(peer, last_included) else { return };
        let Some(meta) = sending.meta.clone().filter(|_| sending.offset == offset) else { return };
        sending.sent_at = Some(common.now);
        let term = common.current_term;
        let request = InstallSnapshot { term, meta, offset, chunk, done };
        common.send(peer, Message::InstallSnapshot(request));
    }

    /// The follower says what it wants next, or that it has everything.
    pub(super) fn handle_install_snapshot_response(
        &mut self,
        from: NodeId,
        response: InstallSnapshotResponse,
    ) {
        if response.term != self.common.current_term {
            return;
        }
        let Some((leader, common)) = self.leader_mut() else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard_at = common.now;
        let max_bytes = common.options.snapshot_chunk_bytes_max;
        let Some(sending) = leader.sending_mut(from, response.last_included) else { return };
        if !response.installed {
            // An answer to a piece that is being read again says nothing new.
            if sending.sent_at.is_some() {
                sending.offset = response.next_offset;
                sending.resent_count = 0;
                sending.read_chunk(&mut common.effects, from, max_bytes);
            }
            return;
        }
        if let Some(progress) = leader.progress.get_mut(&from) {
            // What a snapshot covers is durable there, and replication goes on behind it.
            let matched = response.last_included.index.min(common.log.last().index);
            progress.match_index = progress.match_index.max(matched);
            progress.commit_told = progress.commit_told.max(matched);
            progress.snapshot_arrived(common.log.last().index);
        }
    }

    /// On a leader, what followers will need of the log that are being sent snapshots: everything
    /// behind this. `None` if nobody is that was heard lately. Whoever has the log released decides whether to wait.
    #[must_use]
    pub fn log_held_after(&self) -> Option<LogIndex> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let (base, now) = (self.common.log.base_index(), self.common.now);
        let holds = |progress: &Progress| progress.holds(base, now, &self.common.options);
        leader.progress.values().filter_map(holds).min()
    }
}
