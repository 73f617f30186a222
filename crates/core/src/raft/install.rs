//! InstallSnapshot, the receiver's side (§5.1, Figure 5.3): pieces go to the disk one by one, the
//! whole replaces log and state machine. What is inside a snapshot is not known here.

use super::common::Common;
use super::{LOG_INDEX_MAX, Raft, RoleState};
use crate::configuration::VERSION_MAX;
use crate::{
    Effect, InstallSnapshot, InstallSnapshotResponse, LogId, LogIndex, Message, NodeId, Reason,
    Role, SnapshotMeta, Term,
};
use serde::{Deserialize, Serialize};

/// A snapshot on its way in.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct Installing {
    meta: SnapshotMeta,
    /// Who sends it, in which term: the same snapshot of another leader has other bytes.
    from: NodeId,
    term: Term,
    next_offset: u64,
    stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Stage {
    /// Pieces are arriving.
    Receiving,
    /// It is whole; the log is being replaced on the disk.
    Resetting,
    /// The disk is done; the state machine still has entries in hand.
    Draining,
    /// The state machine is being replaced.
    Restoring,
}

impl Installing {
    /// See `explain.rs`.
    pub(super) fn explain(&self) -> Reason {
        let is_arriving = self.stage == Stage::Receiving;
        let received_bytes = is_arriving.then_some(self.next_offset);
        let last_included = self.meta.last_included;
        Reason::Installing { from: self.from, last_included, received_bytes }
    }
}

impl Raft {
    /// The gate of Figure 5.3: term, leader, and whether the snapshot is of any use.
    pub(super) fn handle_install_snapshot_request(
        &mut self,
        from: NodeId,
        request: InstallSnapshot,
    ) {
        let last_included = request.meta.last_included;
        // A leader has nothing from a later term than its own, and no leader has the rest.
        if last_included.term > request.term
            || last_included.index > LOG_INDEX_MAX
            || request.meta.configuration.version > VERSION_MAX
        {
            return;
        }
        if request.term < self.common.current_term {
            return self.common.answer_snapshot(from, last_included, 0, false);
        }
        if !self.recognize_leader(from) || self.common.is_restoring() {
            return;
        }
        if self.common.covers(last_included) && !self.common.lacks_state_of(last_included) {
            self.common.commit_through(last_included.index);
            self.common.installing = None;
            return self.answer_installed(from, last_included);
        }
        if !self.common.is_writing_chunk {
            self.common.take_chunk(from, request);
        }
    }

    /// Says that the snapshot's content is here; it must be durable for that.
    fn answer_installed(&mut self, to: NodeId, last_included: LogId) {
        if last_included.index > self.common.persistence.durable_index() {
            return;
        }
        if let RoleState::Follower(follower) = &mut self.role {
            follower.matched = follower.matched.max(last_included.index);
            follower.acknowledged = follower.acknowledged.max(last_included.index);
        }
        self.common.answer_snapshot(to, last_included, 0, true);
    }

    /// A piece is on the disk.
    pub(super) fn handle_snapshot_written(
        &mut self,
        last_included: LogId,
        next_offset: u64,
        complete: bool,
    ) {
        self.common.is_writing_chunk = false;
        let is_follower = self.role() == Role::Follower;
        let Some(installing) = &mut self.common.installing else { return };
        if installing.stage != Stage::Receiving || installing.meta.last_included != last_included {
            return;
        }
        installing.next_offset = next_offset;
        let (from, is_current) = (installing.from, installing.term == self.common.current_term);
        if !complete {
            if is_current && is_follower {
                self.common.answer_snapshot(from, last_included, next_offset, false);
            }
            return;
        }
        if self.common.covers(last_included) && self.common.lacks_state_of(last_included) {
            return self.common.adopt();
        }
        // Time has passed: a candidate's log must not change, and ours may have caught up.
        if !is_follower || self.common.covers(last_included) {
            self.common.installing = None;
            return;
        }
        self.common.install();
        if let RoleState::Follower(follower) = &mut self.role {
            follower.matched = LogIndex::ORIGIN;
            follower.acknowledged = LogIndex::ORIGIN;
            follower.owes_append_answer = false;
        }
    }

    /// The log starts behind the snapshot now, and the state machine is beyond it already: it was ahead
    /// of a log that was damaged. It is not taken back.
    pub(super) fn settle_needless_restore(&mut self) {
        let common = &mut self.common;
        let is_due = |installing: &Installing| {
            let is_ahead = common.applier.applied() >= installing.meta.last_included.index;
            installing.stage == Stage::Draining && common.applier.is_idle() && is_ahead
        };
        if !common.installing.as_ref().is_some_and(is_due) {
            return;
        }
        let Some(installing) = common.installing.take() else { return };
        if self.leader() == Some(installing.from) {
            self.answer_installed(installing.from, installing.meta.last_included);
        }
    }

    /// The state machine is the snapshot now.
    pub(super) fn handle_snapshot_restored(&mut self, last_included: LogId) {
        let is_due = |installing: &Installing| {
            installing.stage == Stage::Restoring && installing.meta.last_included == last_included
        };
        if !self.common.installing.as_ref().is_some_and(is_due) {
            return;
        }
        let Some(installing) = self.common.installing.take() else { return };
        self.common.applier.restart_at(last_included.index);
        if self.leader() == Some(installing.from) {
            self.answer_installed(installing.from, last_included);
        }
    }
}

impl Common {
    /// Whether log and state machine are being replaced, so that nothing can be applied.
    pub(crate) fn is_restoring(&self) -> bool {
        self.installing.as_ref().is_some_and(|installing| installing.stage != Stage::Receiving)
    }

    /// Whether everything in the snapshot is here already: it is committed here, or its last entry
    /// is in our log, and so are all before it (Log Matching). Then the log is kept, with what
    /// follows (Figure 5.3, rule 6): entries there may have been acknowledged.
    fn covers(&self, last_included: LogId) -> bool {
        last_included.index <= self.commit_index || self.log.contains(last_included)
    }

    fn answer_snapshot(
        &mut self,
        to: NodeId,
        last_included: LogId,
        next_offset: u64,
        installed: bool,
    ) {
        let term = self.current_term;
        let response = InstallSnapshotResponse { term, last_included, next_offset, installed };
        self.send(to, Message::InstallSnapshotResponse(response));
    }

    /// Writes a piece if it is the one wanted next, else says which one is.
    fn take_chunk(&mut self, from: NodeId, request: InstallSnapshot) {
        let last_included = request.meta.last_included;
        let is_same = |installing: &Installing| {
            installing.meta.last_included == last_included
                && (installing.from, installing.term) == (from, request.term)
        };
        if !self.installing.as_ref().is_some_and(is_same) {
            let (term, meta) = (request.term, request.meta.clone());
            let stage = Stage::Receiving;
            self.installing = Some(Installing { meta, from, term, next_offset: 0, stage });
        }
        let next_offset = self.installing.as_ref().map_or(0, |installing| installing.next_offset);
        if request.offset != next_offset {
            return self.answer_snapshot(from, last_included, next_offset, false);
        }
        self.is_writing_chunk = true;
        let InstallSnapshot { meta, offset, chunk, done, .. } = request;
        self.effects.push(Effect::WriteSnapshotChunk { meta, offset, chunk, done });
    }

    /// The snapshot is whole and durable: the log starts over behind it. What it covers is
    /// committed.
    fn install(&mut self) {
        let Some(installing) = &mut self.installing else { return };
        installing.stage = Stage::Resetting;
        let meta = installing.meta.clone();
        assert!(meta.last_included.index > self.commit_index, "a snapshot never takes us back");
        self.persistence.reset(meta.clone(), self.commit_index);
        self.commit_index = meta.last_included.index;
        self.log.reset(meta);
    }

    /// Whether a snapshot, though the log needs it not, has the state that the log leaves out.
    fn lacks_state_of(&self, last_included: LogId) -> bool {
        self.lacks_state() && last_included.index >= self.log.base_index()
    }

    /// Only the state machine becomes the snapshot: the log has its end and goes on behind it, and
    /// what it holds there may have been acknowledged.
    fn adopt(&mut self) {
        let Some(installing) = &mut self.installing else { return };
        installing.stage = Stage::Draining;
        let last_included = installing.meta.last_included;
        // What a snapshot covers was committed.
        self.commit_through(last_included.index);
        self.restore_when_ready();
    }

    /// The new log is on the disk.
    pub(crate) fn handle_reset_persisted(&mut self) {
        if let Some(installing) = &mut self.installing
            && installing.stage == Stage::Resetting
        {
            installing.stage = Stage::Draining;
            self.restore_when_ready();
        }
    }

    /// The state machine is replaced when it has finished what it was given.
    pub(crate) fn restore_when_ready(&mut self) {
        if !self.applier.is_idle() {
            return;
        }
        let applied = self.applier.applied();
        if let Some(installing) = &mut self.installing
            && installing.stage == Stage::Draining
            && installing.meta.last_included.index > applied
        {
            installing.stage = Stage::Restoring;
            let meta = installing.meta.clone();
            self.effects.push(Effect::RestoreSnapshot { meta });
        }
    }
}
