//! An owned picture of a server, for people and for checkers. Changes nothing.

use super::{Poison, Raft, RoleState};
use crate::progress::{Progress, ProgressState as State};
use crate::{ChangeWait, Configuration, LogId, LogIndex, NodeId, Role, SnapshotMeta, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See [`Raft::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The latest term it has seen.
    pub current_term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
    /// Everything up to here is known to be committed.
    pub commit_index: LogIndex,
    /// The state machine has applied everything up to here.
    pub applied: LogIndex,
    /// The log is on its disk up to here.
    pub durable_index: LogIndex,
    /// The last entry of the log.
    pub last_log: LogId,
    /// What the log starts after.
    pub base: LogId,
    /// The configuration in force, and where it stands in the log.
    pub configuration: Arc<Configuration>,
    /// The index of that configuration.
    pub configuration_index: LogIndex,
    /// On a leader, how the other members are doing.
    pub progress: BTreeMap<NodeId, ProgressStatus>,
    /// On a leader that is handing over, to whom.
    pub transferring: Option<NodeId>,
    /// On a leader, what the change of the members under way waits for; empty if there is none, or
    /// if it goes on by itself.
    pub change_waits: Vec<ChangeWait>,
    /// The version of the configuration by which this server is no member any more, if it was one.
    pub removed_at: Option<u64>,
    /// On a leader, bytes of proposals that are not committed and durable here.
    pub uncommitted_bytes: usize,
    /// Bytes of entries in memory.
    pub cached_bytes: usize,
    /// Set if it takes part in nothing any more.
    pub poisoned: Option<Poison>,
}

/// How a leader sees one other member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressStatus {
    /// It durably holds the leader's log up to here.
    pub match_index: LogIndex,
    /// What it is sent next.
    pub next_index: LogIndex,
    /// How it is served.
    pub state: ProgressState,
    /// Messages with entries that are under way to it.
    pub in_flight_count: usize,
    /// Bytes of entries that are under way to it.
    pub in_flight_bytes: usize,
    /// Whether it answered within the last election timeout.
    pub recently_active: bool,
}

/// How a follower is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// The leader looks for where the logs agree.
    Probe,
    /// Entries are pipelined.
    Replicate,
    /// It is sent a snapshot, and has this many bytes of it.
    Snapshot {
        /// Bytes that have arrived.
        offset: u64,
    },
}

impl Raft {
    /// Returns a picture of the whole state.
    #[must_use]
    pub fn status(&self) -> Status {
        let common = &self.common;
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        let progress = leader.into_iter().flat_map(|leader| &leader.progress);
        Status {
            id: common.id,
            role: self.role(),
            current_term: common.current_term,
            voted_for: common.voted_for,
            leader: self.leader(),
            commit_index: common.commit_index,
            applied: common.applier.applied(),
            durable_index: common.persistence.durable_index(),
            last_log: common.log.last(),
            base: common.log.base().last_included,
            configuration: Arc::clone(common.log.configuration()),
            configuration_index: common.log.configuration_index(),
            progress: progress
                .map(|(id, progress)| (*id, self.progress_status(progress)))
                .collect(),
            transferring: leader.and_then(|leader| leader.transfer.as_ref().map(|t| t.to)),
            change_waits: self.change_waits(),
            removed_at: common.removed_at(),
            uncommitted_bytes: leader.map_or(0, |leader| leader.uncommitted.bytes()),
            cached_bytes: common.log.tail_bytes(),
            poisoned: common.poison,
        }
    }

    fn progress_status(&self, progress: &Progress) -> ProgressStatus {
        let (state, in_flight_count, in_flight_bytes) = match &progress.state {
            State::Probe { sent } => (ProgressState::Probe, usize::from(sent.is_some()), 0),
            State::Replicate(window) => (ProgressState::Replicate, window.count(), window.bytes()),
            State::Snapshot(sending) => {
                let under_way = usize::from(sending.sent_at.is_some());
                (ProgressState::Snapshot { offset: sending.offset }, under_way, 0)
            }
        };
        ProgressStatus {
            match_index: progress.match_index,
            next_index: progress.next_index,
            state,
            in_flight_count,
            in_flight_bytes,
            recently_active: super::transfer::is_alive(progress, &self.common),
        }
    }

    /// Whether the state machine has nothing of what the log leaves out, and waits for a snapshot of it.
    #[must_use]
    pub fn lacks_state(&self) -> bool {
        self.common.lacks_state()
    }

    /// Whether a leader is to be asked for that: nothing of it is here that is whole.
    #[must_use]
    pub fn wants_state(&self) -> bool {
        self.common.lacks_state() && !self.common.is_restoring()
    }

    /// What the log starts after (§5.1).
    #[must_use]
    pub fn base(&self) -> &SnapshotMeta {
        self.common.log.base()
    }

    /// The state machine has applied everything up to here.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.common.applier.applied()
    }

    /// Whether this server leads and its state machine has everything that was committed before: what is
    /// proposed and read from now on waits for nothing old. A leader that is not ready leads all the
    /// same, and answers nothing wrong.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => self.applied() >= leader.term_start,
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// The first index of each run of entries with one term, in order: the shape of the log after
    /// its base.
    #[must_use]
    pub fn term_runs(&self) -> impl DoubleEndedIterator<Item = (LogIndex, Term)> + '_ {
        self.common.log.term_runs()
    }
}
