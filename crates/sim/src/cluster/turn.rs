//! One turn of a node's loop: everything that has happened goes in, and what comes out is carried
//! out piece by piece, in any order that the contract allows. Between two pieces the node may die.

use super::happening::Happening;
use super::life::look_at;
use super::sabotage::forget_sessions;
use super::{Cluster, ClusterOptions};
use crate::application::{Application, OpId, Outcome};
use crate::faults::SessionFault;
use crate::judge::{Breach, Heard, bounds, check_office};
use crate::network::{Arrivals, Parcel, Piece};
use crate::trace::{Note, What};
use bytes::Bytes;
use quorate::parts::{Job, LogJob, MachineJob};
use quorate::wire::put_peer_frame;
use quorate::{Admission, DigestNews, Input, Output, PeerMessage};
use quorate_core::{Message, NodeId, Persist, Role, Time};
use std::time::Duration;

/// A node that asks for a deadline this often without time going on is spinning.
const DEADLINE_STREAK_MAX: u32 = 20;
/// What a node holds is looked at after so many turns: a limit that is broken stays so for a while.
const TURNS_PER_LOOK: u64 = 16;
/// Room for a message of usual size.
const MESSAGE_BYTES: usize = 512;

impl<A: Application> Cluster<A> {
    /// Puts something into a node's inbox; it looks after a moment.
    pub(super) fn tell(&mut self, id: NodeId, input: Input) {
        let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running_mut()) else {
            return;
        };
        running.inbox.push(input);
        let reaction = self.rng.duration(Duration::ZERO, self.options.faults.reaction_max);
        self.plan_turn(id, self.now.after(reaction));
    }

    /// The node's loop looks at this time at the latest.
    pub(super) fn plan_turn(&mut self, id: NodeId, at: Time) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let life = node.life;
        let Some(running) = node.running_mut() else { return };
        if running.turn_at.is_none_or(|planned| at < planned) {
            running.turn_at = Some(at);
        }
        // An alarm that rings earlier will be set anew when it rings.
        if running.alarms.iter().all(|alarm| *alarm > at) {
            running.alarms.push(at);
            self.queue.push(at, Happening::Turn { node: id, life });
        }
    }

    /// A turn was planned for now, or for a time that has since been moved.
    pub(super) fn turn_if_due(&mut self, id: NodeId, life: u64) -> Result<(), Breach> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        if node.life != life {
            return Ok(());
        }
        let is_paused = node.paused;
        let own = node.clock.own(now);
        let Some(running) = node.running_mut() else { return Ok(()) };
        running.alarms.retain(|alarm| *alarm > now);
        if is_paused {
            return Ok(());
        }
        match running.turn_at {
            None => return Ok(()),
            Some(later) if later > now => {
                self.plan_turn(id, later);
                return Ok(());
            }
            Some(_) => running.turn_at = None,
        }
        let is_due = running.driver.next_deadline().is_some_and(|deadline| deadline <= own);
        if is_due {
            running.inbox.push(Input::Deadline);
        }
        if running.inbox.is_empty() {
            self.plan_turn_at_deadline(id);
            return Ok(());
        }
        self.turn(id, is_due)
    }

    /// The node's loop looks when its driver next wants to be asked, on the node's own clock.
    fn plan_turn_at_deadline(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let deadline = node.running().and_then(|running| running.driver.next_deadline());
        if let Some(deadline) = deadline {
            let at = node.clock.world(deadline).max(self.now);
            self.plan_turn(id, at);
        }
    }

    pub(super) fn turn(&mut self, id: NodeId, is_due: bool) -> Result<(), Breach> {
        let mut outputs = Vec::new();
        let mut heard = Heard::default();
        let mut own_now = Time::ZERO;
        if let Some(node) = self.nodes.get_mut(&id) {
            own_now = node.clock.own(self.now);
            // As its runtime does, which compares two clocks. Where nobody reads by clocks nothing
            // depends on it.
            let by = std::mem::take(&mut node.jumped);
            let by = Some(by).filter(|by| !by.is_zero() && self.options.reads.is_some());
            if let Some(running) = node.running_mut() {
                let mut inputs = std::mem::take(&mut running.inbox);
                if let Some(by) = by {
                    inputs.insert(0, Input::ClockJumped { by });
                }
                // Who is not admitted is deaf to whoever wants it to lead.
                let is_admitted = running.driver.admission() == Admission::Admitted;
                heard.gone.extend(inputs.iter().filter_map(gone));
                let messages = inputs.iter().filter_map(raft_message);
                let is_heard =
                    |message: &Message| is_admitted || !matches!(message, Message::TimeoutNow(_));
                let messages = messages.filter(|(_, message)| is_heard(message));
                messages.for_each(|(from, message)| heard.note(from, message));
                running.driver.turn(own_now, inputs, &mut outputs);
            }
        }
        self.look(id, is_due, &heard, &outputs)?;
        self.note_committed();
        if self.rng.happens(self.options.faults.shuffled_outputs) {
            outputs = shuffled(outputs, &mut self.rng);
        }
        for output in outputs {
            if self.dies_before_output(id) {
                return Ok(());
            }
            self.carry_out(id, output, own_now)?;
        }
        if let Some(running) = self.nodes.get(&id).and_then(|node| node.running()) {
            self.safety.has_heard(running.driver.raft(), &heard, own_now);
        }
        self.pump(id)?;
        self.plan_turn_at_deadline(id);
        Ok(())
    }

    /// The judges look at a node after its step.
    fn look(
        &mut self,
        id: NodeId,
        is_due: bool,
        heard: &Heard,
        outputs: &[Output],
    ) -> Result<(), Breach> {
        let now = self.now;
        let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running_mut()) else {
            return Ok(());
        };
        let raft = running.driver.raft();
        let look = look_at(id, &running.driver);
        if let Some(differing) = running.driver.differing().first().copied()
            && !self.application.may_diverge()
        {
            return Err(Breach::Differs { node: id, differing });
        }
        let is_streak = is_due && running.turned_at == now;
        running.deadline_streak = if is_streak { running.deadline_streak + 1 } else { 0 };
        running.turned_at = now;
        if running.deadline_streak > DEADLINE_STREAK_MAX {
            let deadline = running.driver.next_deadline().unwrap_or_default();
            return Err(Breach::BusyLoop { node: id, role: look.role, deadline });
        }
        let sizes = self.safety.will_write(id, outputs.iter().filter_map(write));
        running.turn_count += 1;
        if running.turn_count.is_multiple_of(TURNS_PER_LOOK) {
            let ClusterOptions { raft, driver, wal, .. } = &self.options;
            bounds::check_held(&running.driver, raft, driver, wal, sizes)?;
            self.safety.believes(running.driver.raft())?;
        }
        let waited = running.asked.front().map_or(Duration::ZERO, |asked| now.since(*asked));
        if look.role == Role::Leader && waited > stall_bound(&self.options) {
            return Err(Breach::LeadsWithoutDisk { node: id, waited });
        }
        if raft.is_poisoned() {
            return Err(Breach::Poisoned {
                node: id,
                reason: format!("{:?}", raft.status().poisoned),
            });
        }
        self.invariants.observe(raft)?;
        self.safety.conducts(raft, heard, now, self.options.raft.election_timeout)?;
        self.safety.stepped(look, raft.configuration(), |index| raft.term_at(index))?;
        if running.noted != (look.role, look.term) {
            let is_elected = look.role == Role::Leader;
            check_office(raft, look.role)?;
            self.trace.counts.elections += u64::from(is_elected);
            running.noted = (look.role, look.term);
            let what = What::Became { role: look.role, term: look.term };
            self.trace.note(Note { at: now, node: Some(id), what });
            if is_elected && self.options.faults.sessions == Some(SessionFault::KeptByTheLeader) {
                forget_sessions(running)
                    .map_err(|error| Breach::NodeFailed { node: id, reason: error.to_string() })?;
            }
        }
        Ok(())
    }

    fn dies_before_output(&mut self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return true };
        match node.crash_after_outputs {
            Some(0) => {
                self.trace.counts.crashes_mid_turn += 1;
                self.crash_by_trouble(id);
                true
            }
            Some(left) => {
                node.crash_after_outputs = Some(left - 1);
                false
            }
            None => false,
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output, own_now: Time) -> Result<(), Breach> {
        if let Output::Send { to, message } = output {
            return self.send(id, to, &message, own_now);
        }
        let output = match Job::try_from(output) {
            Ok(job) => return self.hand_on(id, job),
            Err(output) => output,
        };
        match output {
            Output::Answer { ticket, fate } => self.fate(id, ticket, fate),
            Output::MembershipAnswer { ticket, fate } => self.wish_ended(id, ticket, fate)?,
            Output::Barrier { ticket, result: Ok(_) } => self.comes_to_read(id, ticket)?,
            Output::Barrier { ticket, result: Err(_) } => self.may_read(id, ticket, false)?,
            Output::Send { .. }
            | Output::Persist(_)
            | Output::Prove
            | Output::Load(_)
            | Output::LoadSpares { .. }
            | Output::ReleasePrefix { .. }
            | Output::Apply(_)
            | Output::RestoreSnapshot { .. }
            | Output::Checkpoint { .. }
            | Output::TakeSnapshot { .. }
            | Output::Scrub { .. }
            | Output::ReadSnapshotChunk { .. }
            | Output::NoteDivergence(_)
            | Output::WriteSnapshotChunk { .. } => {}
        }
        Ok(())
    }

    /// Work for one of a node's threads, as its runtime hands it on.
    fn hand_on(&mut self, id: NodeId, job: Job) -> Result<(), Breach> {
        if let Job::Log(LogJob::Persist(persist)) = &job {
            self.check_rises(id, persist)?;
        }
        let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running_mut()) else {
            return Ok(());
        };
        match job {
            Job::Log(job) => {
                if let LogJob::Persist(persist) = &job {
                    for entry in &persist.entries {
                        self.invariants.observe_entry(id, entry)?;
                    }
                    self.safety.persist_asked(id, persist);
                    running.asked.push_back(self.now);
                    running.is_rare_write |=
                        persist.reset.is_some() || persist.truncate_after.is_some();
                }
                running.log.worker.add(job);
            }
            Job::Machine(job) => {
                if let MachineJob::Batch(batch) = &job {
                    self.safety.applies(running.driver.raft(), &batch.entries)?;
                    for entry in &batch.entries {
                        self.invariants.observe_apply(id, entry)?;
                    }
                    let count = u64::try_from(batch.entries.len()).unwrap_or(0);
                    self.trace.counts.applied += count;
                }
                running.machine.worker.add(job);
            }
            Job::File(job) => running.files.worker.add(job),
        }
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &PeerMessage,
        own_now: Time,
    ) -> Result<(), Breach> {
        if let PeerMessage::Raft(message) = message
            && let Some(running) = self.running(from)
        {
            let raft = running.driver.raft();
            let election_timeout = self.options.raft.election_timeout;
            self.safety.sends(to, message, raft, own_now, election_timeout)?;
        }
        let Some(spoken) = self.spoken_between(from, to) else { return Ok(()) };
        self.scratch.reserve(MESSAGE_BYTES);
        if put_peer_frame(message, spoken, &mut self.scratch).is_err() {
            self.trace.counts.unsaid += 1;
            return Ok(());
        }
        let frame = self.scratch.split().freeze();
        if self.rng.happens(self.options.faults.garbled) {
            self.receive_garbled(from, &frame)?;
        }
        self.trace.counts.sent_bytes += u64::try_from(frame.len()).unwrap_or(0);
        let parcel = Parcel { size: frame.len(), is_answer: is_answer(message) };
        let arrivals = self.network.send(self.now, from, to, parcel);
        let Arrivals { first, second, stale, .. } = arrivals;
        self.tell_sent(from, to, message, [first, second, stale].into_iter().flatten());
        self.plan_arrivals((from, to), arrivals, frame);
        Ok(())
    }

    fn plan_arrivals(&mut self, way: (NodeId, NodeId), arrivals: Arrivals, frame: Bytes) {
        let (from, to) = way;
        let Arrivals { first, head, second, stale, connection } = arrivals;
        if let Some(at) = stale {
            let (lives, frame) = (self.lives(from, to), frame.clone());
            self.queue.push(at, Happening::DeliverStale { from, to, lives, frame });
        }
        if let Some(at) = second {
            let piece = Piece { bytes: frame.clone(), is_end: true };
            self.queue.push(at, Happening::Deliver { from, to, connection, piece });
        }
        let Some(at) = first else { return };
        let mut bytes = frame;
        if let Some(head) = head {
            let piece = Piece { bytes: bytes.split_to(head.bytes), is_end: false };
            self.queue.push(head.at, Happening::Deliver { from, to, connection, piece });
        }
        let piece = Piece { bytes, is_end: true };
        self.queue.push(at, Happening::Deliver { from, to, connection, piece });
    }

    /// An answer leaves a node for its client, who learns nothing from one that is lost.
    pub(super) fn send_answer(&mut self, id: NodeId, op: OpId, outcome: Outcome) {
        let answer = match self.network.client_way(self.now, id) {
            Ok(at) => (at, Happening::Answer { op, outcome }),
            Err(at) => (at, Happening::Answer { op, outcome: Outcome::Unknown }),
        };
        self.queue.push(answer.0, answer.1);
    }

    pub(super) fn running(&self, id: NodeId) -> Option<&super::node::Running> {
        self.nodes.get(&id).and_then(|node| node.running())
    }

    pub(super) fn running_mut(&mut self, id: NodeId) -> Option<&mut super::node::Running> {
        self.nodes.get_mut(&id).and_then(|node| node.running_mut())
    }
}

/// What an output wants written to the log.
const fn write(output: &Output) -> Option<&Persist> {
    match output {
        Output::Persist(persist) => Some(persist),
        Output::Send { .. }
        | Output::Apply(_)
        | Output::RestoreSnapshot { .. }
        | Output::Prove
        | Output::Load(_)
        | Output::LoadSpares { .. }
        | Output::Answer { .. }
        | Output::Barrier { .. }
        | Output::MembershipAnswer { .. }
        | Output::Checkpoint { .. }
        | Output::TakeSnapshot { .. }
        | Output::Scrub { .. }
        | Output::NoteDivergence(_)
        | Output::ReadSnapshotChunk { .. }
        | Output::WriteSnapshotChunk { .. }
        | Output::ReleasePrefix { .. } => None,
    }
}

/// What an input says to the core in the protocol's own words.
const fn raft_message(input: &Input) -> Option<(NodeId, &Message)> {
    match input {
        Input::Peer { from, message: PeerMessage::Raft(message), .. } => Some((*from, message)),
        Input::Peer { .. }
        | Input::Disconnected { .. }
        | Input::PeerGone { .. }
        | Input::Propose { .. }
        | Input::ProposeInSession { .. }
        | Input::Barrier { .. }
        | Input::Deadline
        | Input::ClockJumped { .. }
        | Input::Persisted { .. }
        | Input::Proved
        | Input::Applied(_)
        | Input::Loaded { .. }
        | Input::SparesLoaded { .. }
        | Input::SnapshotReady { .. }
        | Input::SnapshotChunk { .. }
        | Input::SnapshotGone { .. }
        | Input::SnapshotWritten { .. }
        | Input::SnapshotRestored { .. }
        | Input::Scrubbed { .. }
        | Input::TransferLeadership { .. }
        | Input::ChangeMembership { .. }
        | Input::SetOptions(_)
        | Input::SetDriverOptions(_)
        | Input::DiskFailed
        | Input::Diverged { .. } => None,
    }
}

/// Who is said to have ended.
const fn gone(input: &Input) -> Option<NodeId> {
    if let Input::PeerGone { peer } = input { Some(*peer) } else { None }
}

/// Whether a message answers another one.
const fn is_answer(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Forward { .. }
        | PeerMessage::ChangeMembership { .. }
        | PeerMessage::StateWanted { .. } => false,
        PeerMessage::ForwardReplies { .. } | PeerMessage::MembershipReply { .. } => true,
        PeerMessage::Introduce(introduction) => introduction.answers.is_some(),
        PeerMessage::Digest(message) => matches!(message.news, DigestNews::List(_)),
        PeerMessage::Raft(message) => match message {
            Message::RequestVoteResponse(_)
            | Message::AppendEntriesResponse(_)
            | Message::HeartbeatResponse(_)
            | Message::InstallSnapshotResponse(_)
            | Message::ReadIndexResponse(_)
            | Message::LostEntriesResponse(_)
            | Message::NotAMember(_) => true,
            Message::RequestVote(_)
            | Message::AppendEntries(_)
            | Message::Heartbeat(_)
            | Message::InstallSnapshot(_)
            | Message::TimeoutNow(_)
            | Message::LostEntries(_)
            | Message::ReadIndex(_) => false,
        },
    }
}

/// After so long a write that is not finished must have cost a leader its office, on the slowest
/// clock that there is.
fn stall_bound(options: &ClusterOptions) -> Duration {
    options.raft.disk_stall_timeout * 5 / 4 + Duration::from_millis(100)
}

/// Another order of the same outputs, in which those of one kind keep theirs as far as the contract
/// demands: writes among themselves, applies and restores among themselves.
fn shuffled(outputs: Vec<Output>, rng: &mut crate::rng::Rng) -> Vec<Output> {
    let mut places: Vec<usize> = (0..outputs.len()).collect();
    rng.shuffle(&mut places);
    // Each kind that keeps its order takes the places that it drew in rising order.
    let mut drawn: [Vec<usize>; 3] = Default::default();
    for (place, output) in places.iter().zip(&outputs) {
        if let Some(list) = drawn.get_mut(order_of(output)) {
            list.push(*place);
        }
    }
    let [log, machine, free] = &mut drawn;
    log.sort_unstable();
    machine.sort_unstable();
    let mut next = [log.iter(), machine.iter(), free.iter()];
    let mut numbered: Vec<(usize, Output)> = Vec::with_capacity(outputs.len());
    for output in outputs {
        let place = next.get_mut(order_of(&output)).and_then(Iterator::next);
        numbered.push((place.copied().unwrap_or(usize::MAX), output));
    }
    numbered.sort_by_key(|(place, _)| *place);
    numbered.into_iter().map(|(_, output)| output).collect()
}

/// Which outputs keep their order among each other.
const fn order_of(output: &Output) -> usize {
    match output {
        Output::Persist(_) => 0,
        Output::Apply(_) | Output::RestoreSnapshot { .. } => 1,
        Output::Send { .. }
        | Output::Prove
        | Output::Load(_)
        | Output::LoadSpares { .. }
        | Output::Answer { .. }
        | Output::Barrier { .. }
        | Output::MembershipAnswer { .. }
        | Output::Checkpoint { .. }
        | Output::TakeSnapshot { .. }
        | Output::Scrub { .. }
        | Output::NoteDivergence(_)
        | Output::ReadSnapshotChunk { .. }
        | Output::WriteSnapshotChunk { .. }
        | Output::ReleasePrefix { .. } => 2,
    }
}
