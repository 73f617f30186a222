//! One server with its disk: what an event makes of it. The core is the shipped one; all that is
//! known here of Raft is what the invariants of the core say about one server.

use super::action::{Kind, LocalEvent};
use super::bounds::Sabotage;
use super::history::Fault;
use quorate_core::invariants::{View, check_state, check_transition};
use quorate_core::{
    CommandKind, Configuration, Effect, Entry, Event, HardState, LogId, LogIndex, Member,
    MemberRole, Message, NodeId, Options, Persist, Proposal, ProposalId, Raft, ReadId, Restored,
    Role, SnapshotMeta, Term, Time, VotePhase,
};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// What all servers of an exploration have in common.
#[derive(Debug)]
pub(super) struct Setup {
    options: Options,
    configuration: Arc<Configuration>,
    sabotage: Sabotage,
}

/// What a crash leaves.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Local {
    raft: Raft,
    clock: Time,
    pub(super) disk: Disk,
    /// Writes under way.
    pub(super) writes: VecDeque<Persist>,
    /// The log as the core has it: the disk's after all writes.
    pub(super) log: Vec<Entry>,
    /// The server as the invariants see it.
    pub(super) view: View,
}

/// A message on its way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Message,
}

/// What an event did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) next: Local,
    pub(super) sent: Vec<Envelope>,
    /// Reads that may be answered, and what must be applied for that.
    pub(super) reads_ready: Vec<(u64, LogIndex)>,
    /// A write began on an idle disk.
    pub(super) began_write: bool,
    pub(super) fault: Option<Fault>,
}

impl Setup {
    pub(super) fn new(nodes: u8, sabotage: Sabotage) -> Self {
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: String::new(),
            context: bytes::Bytes::new(),
        };
        let ids = (1..=u64::from(nodes)).map(NodeId::new);
        let members: BTreeMap<_, _> = ids.map(|id| (id, member.clone())).collect();
        let options = Options {
            heartbeat_interval: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            // How long a write takes is not explored, only when it ends.
            disk_stall_timeout: Duration::MAX,
            ..Options::default()
        };
        let configuration = Arc::new(Configuration::new(1, members));
        Self { options, configuration, sabotage }
    }

    /// A server from its disk.
    fn start(&self, id: NodeId, disk: Disk, clock: Time) -> Result<Local, Fault> {
        let origin = LogId::ORIGIN;
        let configuration = Arc::clone(&self.configuration);
        let mut term_runs: Vec<(LogIndex, Term)> = Vec::new();
        for LogId { term, index } in disk.entries.iter().map(|entry| entry.log_id) {
            if term_runs.last().is_none_or(|(_, last)| *last < term) {
                term_runs.push((index, term));
            }
        }
        let restored = Restored {
            hard_state: disk.hard_state,
            base: SnapshotMeta { last_included: origin, configuration },
            term_runs,
            configurations: Vec::new(),
            last_log: disk.entries.last().map_or(origin, |entry| entry.log_id),
            tail: disk.entries.clone(),
            applied: origin.index,
            lost: None,
        };
        let raft = Raft::new(id, self.options.clone(), 0, restored, clock)?;
        let view = View::of(&raft);
        let log = disk.entries.clone();
        Ok(Local { raft, clock, disk, writes: VecDeque::new(), log, view })
    }

    /// A server that has never run.
    pub(super) fn first(&self, id: u64) -> Result<Local, Fault> {
        self.start(NodeId::new(id), Disk::default(), Time::ZERO)
    }
}

impl Disk {
    /// Carries out the first `stages` parts of a write.
    fn write(&mut self, write: &Persist, mut stages: u32) {
        let mut next = || {
            let is_due = stages > 0;
            stages = stages.saturating_sub(1);
            is_due
        };
        if let Some(after) = write.truncate_after
            && next()
        {
            self.entries.retain(|entry| entry.log_id.index <= after);
        }
        for entry in &write.entries {
            if next() {
                self.entries.push(entry.clone());
            }
        }
        if let Some(hard_state) = write.hard_state
            && next()
        {
            self.hard_state = hard_state;
        }
    }

    pub(super) fn holds(&self, entry: &Entry) -> bool {
        holds(&self.entries, entry)
    }
}

/// Whether a log that starts at index 1 has this entry.
pub(super) fn holds(log: &[Entry], entry: &Entry) -> bool {
    let place = entry.log_id.index.previous().and_then(|index| usize::try_from(index.get()).ok());
    place.and_then(|place| log.get(place)) == Some(entry)
}

/// The parts of a write that can be on the disk without those that follow.
pub(super) fn stage_count(write: &Persist) -> u32 {
    super::pool::number(write.entries.len())
        + u32::from(write.truncate_after.is_some())
        + u32::from(write.hard_state.is_some())
}

impl Local {
    /// Equal for two servers exactly if nothing that can happen will tell them apart.
    pub(super) fn hash(&self) -> u64 {
        let mut state = DefaultHasher::new();
        self.raft.hash_behaviour(&mut state);
        (&self.disk, self.writes.len()).hash(&mut state);
        for write in &self.writes {
            let Persist { seq: _, asked_at: _, reset, truncate_after, entries, hard_state } = write;
            (reset, truncate_after, entries, hard_state).hash(&mut state);
        }
        state.finish()
    }

    pub(super) fn id(&self) -> NodeId {
        self.raft.id()
    }

    pub(super) fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Whether nothing has changed that others could contradict: log, disk, office, commitment.
    pub(super) fn shows_the_same(&self, later: &Self) -> bool {
        (&self.log, &self.disk.entries, self.leads(), self.view.commit_index)
            == (&later.log, &later.disk.entries, later.leads(), later.view.commit_index)
            && self.view.current_term == later.view.current_term
    }

    /// In how many ways the writes under way can be cut short.
    pub(super) fn crash_count(&self) -> u32 {
        1 + self.writes.iter().map(stage_count).sum::<u32>()
    }

    /// Whether being late would make a difference for this message: a server that follows a leader
    /// is deaf to candidates until it has not heard of the leader for a while (§4.2.3).
    pub(super) fn can_be_late_for(&self, message: &Message) -> bool {
        let is_canvass =
            matches!(message, Message::RequestVote(m) if m.phase != VotePhase::Transfer);
        is_canvass && self.raft.role() == Role::Follower && self.raft.leader().is_some()
    }

    /// Whether an answer can never count again: terms never fall below a durable one.
    pub(super) fn is_dead(&self, message: &Message) -> bool {
        let durable = self.disk.hard_state.current_term;
        match message {
            Message::RequestVoteResponse(m) if m.phase == VotePhase::PreVote && m.granted => {
                m.term <= durable
            }
            Message::RequestVoteResponse(_)
            | Message::AppendEntriesResponse(_)
            | Message::HeartbeatResponse(_)
            | Message::InstallSnapshotResponse(_)
            | Message::ReadIndexResponse(_) => message.term() < durable,
            Message::RequestVote(_)
            | Message::AppendEntries(_)
            | Message::Heartbeat(_)
            | Message::InstallSnapshot(_)
            | Message::TimeoutNow(_)
            | Message::ReadIndex(_)
            | Message::NotAMember(_)
            | Message::LostEntries(_)
            | Message::LostEntriesResponse(_) => false,
        }
    }

    /// What `event` makes of this server. `message` is the one that is taken.
    pub(super) fn step(
        &self,
        setup: &Setup,
        event: LocalEvent,
        message: Option<&Envelope>,
    ) -> Outcome {
        let mut stepping = Stepping {
            setup,
            fast_disk: event.fast_disk,
            outcome: Outcome {
                next: self.clone(),
                sent: Vec::new(),
                reads_ready: Vec::new(),
                began_write: false,
                fault: None,
            },
        };
        let result = catch_unwind(AssertUnwindSafe(|| stepping.experience(event, message)));
        let mut outcome = stepping.outcome;
        match result {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => outcome.fault = Some(fault),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                let id = self.id();
                outcome.fault = Some(Fault::Panicked { id, text: text.unwrap_or_default() });
            }
        }
        outcome
    }
}

/// An event being carried out.
struct Stepping<'a> {
    setup: &'a Setup,
    fast_disk: bool,
    outcome: Outcome,
}

impl Stepping<'_> {
    fn experience(&mut self, event: LocalEvent, taken: Option<&Envelope>) -> Result<(), Fault> {
        let detail = u64::from(event.detail);
        let local = &mut self.outcome.next;
        match event.kind {
            Kind::Take | Kind::TakeLate => {
                if event.kind == Kind::TakeLate {
                    local.clock = local.clock.after(ELECTION_TIMEOUT);
                }
                let Some(Envelope { from, message, .. }) = taken.cloned() else { return Ok(()) };
                let message = tampered(message, self.setup.sabotage);
                self.give(Event::Message { from, message })
            }
            Kind::Deadline | Kind::DeadlineLate => {
                if event.kind == Kind::DeadlineLate {
                    local.clock = local.clock.after(ELECTION_TIMEOUT);
                }
                let Some(deadline) = local.raft.next_deadline() else { return Ok(()) };
                local.clock = local.clock.max(deadline);
                self.give(Event::Deadline)
            }
            Kind::Written => {
                let Some(write) = local.writes.pop_front() else { return Ok(()) };
                local.disk.write(&write, u32::MAX);
                if self.setup.sabotage == Sabotage::EarlyCompletion {
                    return Ok(());
                }
                self.give(Event::Persisted { seq: write.seq })
            }
            Kind::Crash => self.crash(event.detail),
            Kind::Propose => {
                let command = bytes::Bytes::copy_from_slice(&detail.to_be_bytes());
                let (id, kind) = (ProposalId::new(detail), CommandKind::default());
                self.give(Event::Propose(vec![Proposal { id, kind, command }]))
            }
            Kind::Read => self.give(Event::Read { id: ReadId::new(detail) }),
            Kind::Transfer => {
                self.give(Event::TransferLeadership { to: Some(NodeId::new(detail)) })
            }
        }
    }

    /// Of the parts of the writes under way the first `stages` are on the disk.
    fn crash(&mut self, mut stages: u32) -> Result<(), Fault> {
        let local = &mut self.outcome.next;
        for write in std::mem::take(&mut local.writes) {
            local.disk.write(&write, stages);
            stages = stages.saturating_sub(stage_count(&write));
        }
        match self.setup.sabotage {
            Sabotage::ForgetfulVote => local.disk.hard_state = HardState::default(),
            Sabotage::ShortenedLog => drop(local.disk.entries.pop()),
            Sabotage::None | Sabotage::EarlyCompletion | Sabotage::ForgedVotes => {}
        }
        let disk = std::mem::take(&mut local.disk);
        *local = self.setup.start(local.id(), disk, local.clock)?;
        Ok(())
    }

    /// Gives the core an event, and whatever is done at once because of it.
    fn give(&mut self, event: Event) -> Result<(), Fault> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let local = &mut self.outcome.next;
            let mut effects = Vec::new();
            local.raft.step(local.clock, event, &mut effects);
            let before = local.view.clone();
            local.view.refresh(&local.raft);
            check_state(&local.view)?;
            check_transition(&before, &local.view)?;
            if let Some(poison) = local.raft.status().poisoned {
                return Err(Fault::Poisoned { id: local.id(), poison });
            }
            for effect in effects {
                events.extend(self.carry_out(effect)?);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Fault> {
        let local = &mut self.outcome.next;
        let id = local.id();
        match effect {
            Effect::Send { to, message } => {
                self.outcome.sent.push(Envelope { from: id, to, message });
                Ok(None)
            }
            Effect::Persist(write) => Ok(self.persist(write)),
            Effect::Apply { entries } => {
                for entry in &entries {
                    if !holds(&local.log, entry) || entry.log_id.index > local.view.commit_index {
                        return Err(Fault::AppliedUncommitted { id, log_id: entry.log_id });
                    }
                }
                let last = entries.last().map(|entry| entry.log_id.index);
                Ok(last.map(|index| Event::Applied { index }))
            }
            Effect::ReadReady { id, index } => {
                self.outcome.reads_ready.push((id.get(), index));
                Ok(None)
            }
            Effect::ProposalAppended { .. }
            | Effect::ProposalRefused { .. }
            | Effect::ReadRefused { .. }
            | Effect::MembershipAppended { .. }
            | Effect::MembershipRefused { .. } => Ok(None),
            Effect::Load(_)
            | Effect::LoadSpares { .. }
            | Effect::TakeSnapshot { .. }
            | Effect::ReadSnapshotChunk { .. }
            | Effect::WriteSnapshotChunk { .. }
            | Effect::RestoreSnapshot { .. }
            | Effect::ReleasePrefix { .. } => Err(Fault::Unforeseen { id }),
        }
    }

    /// A write takes its time, or is done at once if nothing is before it.
    fn persist(&mut self, write: Persist) -> Option<Event> {
        let local = &mut self.outcome.next;
        if let Some(after) = write.truncate_after {
            local.log.retain(|entry| entry.log_id.index <= after);
        }
        local.log.extend(write.entries.iter().cloned());
        let completion = Event::Persisted { seq: write.seq };
        self.outcome.began_write |= local.writes.is_empty();
        if self.fast_disk && local.writes.is_empty() {
            local.disk.write(&write, u32::MAX);
            return Some(completion);
        }
        local.writes.push_back(write);
        (self.setup.sabotage == Sabotage::EarlyCompletion).then_some(completion)
    }
}

/// What a broken network makes of a message.
fn tampered(mut message: Message, sabotage: Sabotage) -> Message {
    if let Message::RequestVoteResponse(response) = &mut message
        && sabotage == Sabotage::ForgedVotes
    {
        response.granted = true;
    }
    message
}
