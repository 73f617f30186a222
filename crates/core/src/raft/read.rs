//! Linearizable reads without a log write (§6.4): on the leader by heartbeat rounds or by its lease,
//! on a follower by asking the leader. A read is answered or refused, never dropped.

use super::behaviour::time_left;
use super::common::Common;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::{
    Drift, Effect, LogIndex, Message, NodeId, ReadId, ReadIndex, ReadIndexResponse, ReadRefusal,
    Time,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Requests for a read index that a follower has under way at once; later reads share the next.
const FORWARDED_BATCHES_MAX: usize = 4;

/// A read that waits for a proof of leadership.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(crate) struct WaitingRead {
    /// The follower that asks; `None` for our own caller.
    from: Option<NodeId>,
    id: ReadId,
    /// The first round that started after the read arrived.
    round: u64,
    /// What was committed when it arrived.
    index: LogIndex,
}

/// A follower's reads: those that wait for a request to join, and the requests under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ForwardedReads {
    waiting: Vec<(Option<Drift>, ReadId)>,
    batches: VecDeque<Batch>,
    count: usize,
}

/// Reads that share one request to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    name: ReadId,
    reads: Vec<ReadId>,
    deadline: Time,
}

impl ForwardedReads {
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.batches.front().map(|batch| batch.deadline)
    }

    /// See `behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, state: &mut impl Hasher) {
        let Self { waiting, batches, count } = self;
        (waiting, count, batches.len()).hash(state);
        for Batch { name, reads, deadline } in batches {
            (name, reads, time_left(*deadline, now)).hash(state);
        }
    }

    /// Reads that wait, for the leader or to be asked about.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The reads that wait and may be proved in the same way as the oldest, and that way.
    fn next_batch(&mut self) -> Option<(Option<Drift>, Vec<ReadId>)> {
        let max_drift = self.waiting.first()?.0;
        let is_alike = |read: &mut (Option<Drift>, ReadId)| read.0 == max_drift;
        Some((max_drift, self.waiting.extract_if(.., is_alike).map(|(_, id)| id).collect()))
    }

    fn take(&mut self, name: ReadId) -> Vec<ReadId> {
        let place = self.batches.iter().position(|batch| batch.name == name);
        let batch = place.and_then(|place| self.batches.remove(place));
        let reads = batch.map_or_else(Vec::new, |batch| batch.reads);
        self.count -= reads.len();
        reads
    }
}

impl Raft {
    /// Somebody here wants to read, and says how far clocks may be off if a lease will do.
    pub(super) fn read(&mut self, id: ReadId, max_drift: Option<Drift>) {
        let limit_count = self.common.options.waiting_reads_count_max;
        match &mut self.role {
            RoleState::Leader(leader) => leader.read(&mut self.common, None, id, max_drift),
            RoleState::Follower(follower) if follower.leader.is_some() => {
                if follower.reads.count >= limit_count {
                    return self.common.refuse_read(id, ReadRefusal::TooManyReads { limit_count });
                }
                follower.reads.count += 1;
                follower.reads.waiting.push((max_drift, id));
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.common.refuse_read(id, ReadRefusal::NoLeader);
            }
        }
    }

    /// A follower wants to read.
    pub(super) fn handle_read_index_request(&mut self, from: NodeId, request: ReadIndex) {
        match &mut self.role {
            RoleState::Leader(leader) => {
                leader.read(&mut self.common, Some(from), request.id, request.max_drift);
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.common.answer_read_index(from, request.id, None);
            }
        }
    }

    /// The leader's answer to a batch of reads.
    pub(super) fn handle_read_index_response(&mut self, from: NodeId, response: ReadIndexResponse) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        if follower.leader != Some(from) {
            return;
        }
        for id in follower.reads.take(response.id) {
            match response.index {
                Some(index) => self.common.effects.push(Effect::ReadReady { id, index }),
                None => self.common.refuse_read(id, ReadRefusal::LeaderChanged),
            }
        }
    }

    /// Sends the waiting reads of a follower in one request for each way to prove them, unless enough
    /// are under way.
    pub(super) fn forward_reads(&mut self) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        let reads = &mut follower.reads;
        while reads.batches.len() < FORWARDED_BATCHES_MAX {
            let Some((max_drift, ids)) = reads.next_batch() else { return };
            let name = ReadId::new(self.common.next_batch);
            self.common.next_batch = self.common.next_batch.wrapping_add(1);
            let deadline = self.common.now.after(self.common.options.election_timeout);
            reads.batches.push_back(Batch { name, reads: ids, deadline });
            let request = ReadIndex { term: self.common.current_term, id: name, max_drift };
            self.common.send(leader, Message::ReadIndex(request));
        }
    }

    /// A request or its answer was lost, or the leader is gone: the callers are told in time.
    pub(super) fn expire_forwarded_reads(&mut self) {
        let RoleState::Follower(follower) = &mut self.role else { return };
        let now = self.common.now;
        while follower.reads.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some(batch) = follower.reads.batches.pop_front() else { return };
            follower.reads.count -= batch.reads.len();
            for id in batch.reads {
                self.common.refuse_read(id, ReadRefusal::NoLeader);
            }
        }
    }

    /// Refuses every read that depends on the present role.
    pub(super) fn refuse_reads(&mut self, reason: ReadRefusal) {
        match &mut self.role {
            RoleState::Leader(leader) => {
                for read in std::mem::take(&mut leader.reads) {
                    match read.from {
                        Some(peer) => self.common.answer_read_index(peer, read.id, None),
                        None => self.common.refuse_read(read.id, reason),
                    }
                }
            }
            RoleState::Follower(follower) => {
                let reads = std::mem::take(&mut follower.reads);
                let under_way = reads.batches.into_iter().flat_map(|batch| batch.reads);
                let waiting = reads.waiting.into_iter().map(|(_, id)| id);
                for id in under_way.chain(waiting) {
                    self.common.refuse_read(id, reason);
                }
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {}
        }
    }
}

impl Common {
    /// A read may be served from here on.
    fn answer_read(&mut self, from: Option<NodeId>, id: ReadId, index: LogIndex) {
        match from {
            None => self.effects.push(Effect::ReadReady { id, index }),
            Some(peer) => self.answer_read_index(peer, id, Some(index)),
        }
    }

    fn answer_read_index(&mut self, to: NodeId, id: ReadId, index: Option<LogIndex>) {
        let response = ReadIndexResponse { term: self.current_term, id, index };
        self.send(to, Message::ReadIndexResponse(response));
    }
}

impl Leader {
    /// §6.4, steps 1 and 2: notes the commit index. Before the first commit of this term it may
    /// not cover what earlier leaders committed; our no-op does. A lease is proof of leadership at
    /// this moment, which is after the read was asked: no round is needed (§6.4.1).
    fn read(
        &mut self,
        common: &mut Common,
        from: Option<NodeId>,
        id: ReadId,
        max_drift: Option<Drift>,
    ) {
        if max_drift.is_some_and(|max_drift| self.holds_lease(common, max_drift)) {
            return common.answer_read(from, id, common.commit_index);
        }
        let limit_count = common.options.waiting_reads_count_max;
        if self.reads.len() >= limit_count {
            return match from {
                Some(peer) => common.answer_read_index(peer, id, None),
                None => common.refuse_read(id, ReadRefusal::TooManyReads { limit_count }),
            };
        }
        let index = common.commit_index.max(self.term_start);
        // Only a round that starts from now on proves that we lead now.
        let round = self.round_started + 1;
        self.reads.push_back(WaitingRead { from, id, round, index });
    }

    /// The round that a quorum has to answer before the oldest read is served.
    pub(super) fn oldest_read_round(&self) -> Option<u64> {
        self.reads.front().map(|read| read.round)
    }

    /// §6.4, step 3: releases the reads whose round a quorum has answered, once this term has
    /// committed something. Reads that arrive during a round share the next one.
    pub(crate) fn serve_reads(&mut self, common: &mut Common) {
        let Some(newest) = self.reads.back().map(|read| read.round) else { return };
        self.confirm_rounds(common);
        // A leader whose heartbeat is overdue looks first whether it is still heard (check-quorum):
        // a round for readers would put that off.
        let is_on_time = self.heartbeat_deadline > common.now;
        if is_on_time && newest > self.round_started && self.round_confirmed == self.round_started {
            self.start_round(common);
            self.confirm_rounds(common);
        }
        if common.commit_index < self.term_start {
            return;
        }
        while self.reads.front().is_some_and(|read| read.round <= self.round_confirmed) {
            let Some(WaitingRead { from, id, index, .. }) = self.reads.pop_front() else { return };
            common.answer_read(from, id, index);
        }
    }
}
