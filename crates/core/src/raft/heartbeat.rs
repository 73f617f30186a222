//! Heartbeats (§3.4, §3.5): they keep followers quiet, prove leadership to readers (§6.4), and
//! discover lost messages. They never carry entries, so that bulk data cannot delay them.

use super::common::Common;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::progress::{Progress, ProgressState};
use crate::{AppendEntries, Heartbeat, HeartbeatResponse, LogId, LogIndex, Message, NodeId, Time};
use std::time::Duration;

impl Leader {
    /// Asks everybody whether this server still leads.
    pub(crate) fn start_round(&mut self, common: &mut Common) {
        self.round_started += 1;
        self.heartbeat_deadline = common.now.after(common.options.heartbeat_interval);
        self.lease.round_sent(self.round_started, common);
        for (peer, progress) in &mut self.progress {
            let leader_commit = common.commit_index.min(progress.match_index);
            progress.commit_told = progress.commit_told.max(leader_commit);
            let (term, round) = (common.current_term, Some(self.round_started));
            common.send(*peer, Message::Heartbeat(Heartbeat { term, leader_commit, round }));
        }
    }

    /// The latest round that a quorum has answered, this server included.
    pub(crate) fn confirm_rounds(&mut self, common: &Common) {
        let confirmed = common.log.configuration().quorum_reached(|id| {
            if id == common.id {
                return self.round_started;
            }
            self.progress.get(&id).map_or(0, |progress| progress.confirmed_round)
        });
        self.round_confirmed = self.round_confirmed.max(confirmed.unwrap_or_default());
    }
}

impl Raft {
    /// The follower's side: a leader is there, and says what is committed.
    pub(super) fn handle_heartbeat_request(&mut self, from: NodeId, request: Heartbeat) {
        let is_current = request.term == self.common.current_term;
        if is_current {
            if !self.recognize_leader(from) {
                return;
            }
            self.commit_by_heartbeat(from, request.leader_commit);
        }
        // A leader of the past learns the term from the answer (§3.3). It may lead again by then,
        // and must not take its old round for a new one of the same number.
        if let Some(round) = request.round {
            let round = if is_current { round } else { 0 };
            let promise = if is_current { self.common.promise() } else { Duration::ZERO };
            let response = HeartbeatResponse { term: self.common.current_term, round, promise };
            self.common.send(from, Message::HeartbeatResponse(response));
        }
    }

    /// The leader caps this at what it knows to match, which is durable here. It may go by what this
    /// server has lost since: then only what it has sent in this life counts, and it is told.
    fn commit_by_heartbeat(&mut self, leader: NodeId, leader_commit: LogIndex) {
        let RoleState::Follower(follower) = &self.role else { return };
        let matched = follower.matched;
        if self.common.lost_horizon().is_none() {
            return self.common.commit_through(leader_commit);
        }
        self.common.commit_through(leader_commit.min(matched));
        if matched == LogIndex::ORIGIN {
            self.common.ask_for_lost(leader);
        }
    }

    /// The leader's side: the follower is alive, so whatever is overdue from it was lost.
    pub(super) fn handle_heartbeat_response(&mut self, from: NodeId, response: HeartbeatResponse) {
        if response.term != self.common.current_term {
            return;
        }
        let Some((leader, common)) = self.leader_mut() else { return };
        let round_started = leader.round_started;
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard_at = common.now;
        if response.round <= round_started {
            progress.confirmed_round = progress.confirmed_round.max(response.round);
            // Nobody needs more than this, and what peers say is bounded.
            let promise = response.promise.min(common.options.election_timeout);
            leader.lease.promised(from, response.round, promise);
        }
        recover_lost_messages(common, from, progress);
    }
}

/// A probe that was not answered for a heartbeat interval is sent again. In a window that has not
/// moved for that long, either messages were lost or the follower's disk is slow: the follower is
/// asked whether it has what was sent last, and a refusal brings everything back to where the logs
/// agree.
fn recover_lost_messages(common: &mut Common, peer: NodeId, progress: &mut Progress) {
    if progress.sent_at.after(common.options.heartbeat_interval) > common.now {
        return;
    }
    match &mut progress.state {
        ProgressState::Probe { sent } => *sent = None,
        ProgressState::Replicate(window) if window.is_empty() => {}
        ProgressState::Replicate(_) => ask_for_last_sent(common, peer, progress),
        ProgressState::Snapshot(sending) => {
            let patience = sending.patience(&common.options);
            if sending.sent_at.is_some_and(|at: Time| at.after(patience) <= common.now) {
                sending.again();
                sending.read_chunk(
                    &mut common.effects,
                    peer,
                    common.options.snapshot_chunk_bytes_max,
                );
            }
        }
    }
}

fn ask_for_last_sent(common: &mut Common, peer: NodeId, progress: &mut Progress) {
    let index: LogIndex = progress.next_index.previous().unwrap_or_default();
    let Some(term_there) = common.log.term_at(index) else { return };
    progress.sent_at = common.now;
    let request = AppendEntries {
        term: common.current_term,
        prev_log: LogId::new(term_there, index),
        entries: Vec::new(),
        leader_commit: common.commit_index,
    };
    common.send(peer, Message::AppendEntries(request));
}
