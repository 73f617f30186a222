//! AppendEntries, the leader's side (§3.5, §10.2): taking in commands, sending what each follower
//! lacks, and learning from the answers. What is committed is decided next door.

use super::common::Common;
use super::leader::Leader;
use super::{Raft, RoleState};
use crate::progress::{Progress, ProgressState};
use crate::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ConflictHint, Effect, Entry, LoadFor,
    LoadRequest, LogId, LogIndex, Message, NodeId, Proposal, ProposalRefusal,
};

impl Raft {
    /// `ClientRequest` in the TLA+ specification, for many commands at once: one append, one
    /// write, one message to each follower (§10.2.2).
    pub(super) fn client_request(&mut self, proposals: Vec<Proposal>) {
        match &mut self.role {
            RoleState::Leader(leader) => leader.client_request(&mut self.common, proposals),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                let reason = ProposalRefusal::NotLeader { leader: self.leader() };
                for proposal in proposals {
                    self.common.refuse_proposal(proposal.id, reason);
                }
            }
        }
    }

    /// `HandleAppendEntriesResponse` in the TLA+ specification.
    pub(super) fn handle_append_entries_response(
        &mut self,
        from: NodeId,
        response: AppendEntriesResponse,
    ) {
        if response.term != self.common.current_term {
            return;
        }
        let Some((leader, common)) = self.leader_mut() else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard_at = common.now;
        match response.outcome {
            AppendOutcome::Accepted { matched } => handle_accepted(common, progress, matched),
            AppendOutcome::Rejected { prev_index, hint } => {
                handle_rejected(common, progress, prev_index, hint);
            }
            // Only an answer in a higher term says this, and that has been dealt with.
            AppendOutcome::StaleTerm => {}
        }
    }

    /// Entries that were asked for have been read from the disk.
    pub(super) fn handle_loaded(&mut self, request: LoadRequest, entries: Vec<Entry>) {
        match request.purpose {
            LoadFor::Apply => self.common.handle_loaded_for_apply(request, entries),
            LoadFor::Mending(peer) => self.common.handle_loaded_for_mending(peer, entries),
            LoadFor::Peer(peer) => {
                let Some((leader, common)) = self.leader_mut() else { return };
                let Some(progress) = leader.progress.get_mut(&peer) else { return };
                handle_loaded_for_peer(common, peer, progress, request, entries);
            }
        }
    }
}

/// A leader cannot match beyond its own log: such an answer is not from our term, or not sane.
fn handle_accepted(common: &Common, progress: &mut Progress, matched: LogIndex) {
    if matched > common.log.last().index {
        return;
    }
    progress.accept(matched);
    let is_in_log = progress.match_index >= common.log.base_index();
    if matches!(progress.state, ProgressState::Snapshot(_)) && is_in_log {
        progress.snapshot_arrived(common.log.last().index);
    }
}

/// Steps back to where the logs may agree, a term at a time (§3.5, end).
fn handle_rejected(
    common: &Common,
    progress: &mut Progress,
    prev_index: LogIndex,
    hint: ConflictHint,
) {
    if !progress.is_fresh_rejection(prev_index) {
        return;
    }
    let before = prev_index.previous().unwrap_or_default();
    let candidate = hint.candidate;
    let agreement = common.log.last_not_after(candidate.index.min(before), candidate.term);
    // Below our base no agreement can be looked for: the follower needs a snapshot.
    let next_index = agreement.map_or(LogIndex::ORIGIN, |agreed| agreed.index).next();
    progress.probe_from(next_index.max(progress.match_index.next()));
}

/// The entries are sent if they are still what the follower needs: the log may have changed, and
/// so may the follower's place in it.
fn handle_loaded_for_peer(
    common: &mut Common,
    peer: NodeId,
    progress: &mut Progress,
    request: LoadRequest,
    entries: Vec<Entry>,
) {
    progress.loading = false;
    let is_wanted = request.first == progress.next_index && progress.is_replicating();
    if !is_wanted {
        return;
    }
    let first = entries.first().map(|entry| entry.log_id.index);
    // Log Matching (§3.5): if the last entry is in our log, all of them are.
    let is_ours = entries.last().is_some_and(|last| common.log.contains(last.log_id));
    if first != Some(request.first) || !is_ours {
        // Released, or truncated: wait for the next heartbeat, then look again.
        progress.probe_from(progress.match_index.next());
        progress.record_sent(LogIndex::ORIGIN, 0, common.now);
        return;
    }
    send_in_batches(common, peer, progress, entries);
}

/// Sends as much as the window allows; the rest is read again when there is room.
fn send_in_batches(
    common: &mut Common,
    peer: NodeId,
    progress: &mut Progress,
    entries: Vec<Entry>,
) {
    let mut batch = Vec::new();
    let mut bytes = 0_usize;
    for entry in entries {
        let size = entry.size_bytes();
        if bytes.saturating_add(size) > common.options.append_bytes_max && !batch.is_empty() {
            send_entries(common, peer, progress, std::mem::take(&mut batch), bytes);
            bytes = 0;
        }
        if !progress.may_send(&common.options) {
            return;
        }
        bytes += size;
        batch.push(entry);
    }
    if !batch.is_empty() {
        send_entries(common, peer, progress, batch, bytes);
    }
}

/// Sends entries that start at `next_index` (`AppendEntries` in the TLA+ specification). The
/// leader's own disk works at the same time (§10.2.1).
fn send_entries(
    common: &mut Common,
    peer: NodeId,
    progress: &mut Progress,
    entries: Vec<Entry>,
    bytes: usize,
) {
    let prev_index = progress.next_index.previous().unwrap_or_default();
    let Some(prev_term) = common.log.term_at(prev_index) else { return };
    let last_index = entries.last().map_or(prev_index, |entry| entry.log_id.index);
    let leader_commit = common.commit_index;
    progress.record_sent(last_index, bytes, common.now);
    progress.commit_told = progress.commit_told.max(leader_commit.min(last_index));
    let prev_log = LogId::new(prev_term, prev_index);
    let term = common.current_term;
    let request = AppendEntries { term, prev_log, entries, leader_commit };
    common.send(peer, Message::AppendEntries(request));
}

impl Leader {
    fn client_request(&mut self, common: &mut Common, proposals: Vec<Proposal>) {
        let mut entries = Vec::with_capacity(proposals.len());
        let mut bytes = 0;
        let mut log_id = LogId { term: common.current_term, ..common.log.last() };
        for proposal in proposals {
            log_id.index = log_id.index.next();
            let id = proposal.id;
            let entry = Entry { log_id, payload: proposal.into_payload() };
            let size = entry.size_bytes();
            if let Some(reason) = self.refusal(common, bytes, size) {
                log_id.index = log_id.index.previous().unwrap_or_default();
                common.refuse_proposal(id, reason);
                continue;
            }
            bytes += size;
            entries.push(entry);
            common.effects.push(Effect::ProposalAppended { id, log_id });
        }
        if !entries.is_empty() {
            self.uncommitted.push(log_id.index, bytes);
            common.append(entries);
        }
    }

    /// Why a proposal of `size` bytes cannot be appended after `batch_bytes` others; a proposal
    /// that is alone is never too large.
    fn refusal(&self, common: &Common, batch_bytes: usize, size: usize) -> Option<ProposalRefusal> {
        if let Some(transfer) = &self.transfer {
            return Some(ProposalRefusal::Transferring { to: transfer.to });
        }
        // What is proposed to a leader that goes (§4.2.2) would be left in doubt when it is gone.
        if self.membership.is_leaving {
            return Some(ProposalRefusal::NotLeader { leader: None });
        }
        let uncommitted_bytes = self.uncommitted.bytes() + batch_bytes;
        let limit_bytes = common.options.uncommitted_bytes_max;
        let is_too_much =
            uncommitted_bytes > 0 && uncommitted_bytes.saturating_add(size) > limit_bytes;
        is_too_much
            .then_some(ProposalRefusal::TooManyUncommitted { uncommitted_bytes, limit_bytes })
    }

    /// Sends every follower what it lacks, as far as its window allows (§10.2.2).
    pub(crate) fn replicate(&mut self, common: &mut Common) {
        let mut needs_snapshot = false;
        for (peer, progress) in &mut self.progress {
            while progress.may_send(&common.options)
                && !progress.needs_snapshot(common.log.base_index())
                && send_next(common, *peer, progress)
            {}
            needs_snapshot |= progress.needs_snapshot(common.log.base_index());
        }
        if needs_snapshot {
            self.send_snapshots(common);
        }
    }
}

/// Sends one message to a follower that may be sent to. Returns whether more may follow.
fn send_next(common: &mut Common, peer: NodeId, progress: &mut Progress) -> bool {
    let (first, last) = (progress.next_index, common.log.last().index);
    let is_probe = !progress.is_replicating();
    if first > last && !is_probe {
        return false;
    }
    let tail_first = common.log.tail_first();
    if first < tail_first && !is_probe {
        ask_for_entries(common, peer, progress, tail_first);
        return false;
    }
    // A probe whose entries are on the disk only goes out empty: it asks about `prev_log`.
    let (entries, bytes) = common.log.collect(first, last, common.options.append_bytes_max);
    send_entries(common, peer, progress, entries, bytes);
    true
}

/// Has entries read that memory no longer holds.
fn ask_for_entries(
    common: &mut Common,
    peer: NodeId,
    progress: &mut Progress,
    tail_first: LogIndex,
) {
    if progress.loading {
        return;
    }
    progress.loading = true;
    let room = progress.window_room(&common.options);
    common.effects.push(Effect::Load(LoadRequest {
        purpose: LoadFor::Peer(peer),
        first: progress.next_index,
        last: tail_first.previous().unwrap_or_default(),
        max_bytes: common.options.load_bytes_max.min(room),
    }));
}
