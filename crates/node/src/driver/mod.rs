//! The sync half of a node: turns what happens into steps of the core, and the core's effects into
//! work for the log, the network and the state machine. It waits for nothing and knows no clock,
//! socket, file or thread; the runtime and the simulator carry its outputs out.

mod admission;
mod barriers;
mod compaction;
mod comparing;
mod comparison;
mod explaining;
mod identity;
mod io;
mod log_sizes;
mod members;
mod options;
mod pacing;
mod proposals;
mod recorder;
mod scrubbing;
mod standing;
#[cfg(test)]
mod tests;
mod wishes;

pub use comparison::Differing;
pub use io::{
    Applied, ApplyBatch, Beginning, Forwarded, Input, Introduction, Output, PeerMessage, Proposed,
    RemoteFate, Requester, Seen, Ticket, Waiter,
};
pub use options::DriverOptions;
pub use recorder::Flight;
pub use standing::{Admission, OwnDisk, Recovering};

use crate::session::{SessionClock, SessionEntry};
use crate::{Consistency, Fate, ReadError, Refusal, Rot};
use admission::Acquaintances;
use barriers::{Answers, Barriers, Waiting};
use compaction::{Compaction, Decision};
use comparison::Comparison;
use pacing::Pacing;
use proposals::{Fates, Outstanding, Proposals, RemoteReplies};
use quorate_core::{
    CommandKind, Configuration, Effect, Entry, Event, LogId, LogIndex, Message, NodeId, Proposal,
    ProposalId, ProposalRefusal, Raft, ReadId, ReadRefusal, SnapshotMeta, Term, Time,
};
use recorder::Recorder;
use scrubbing::{STRETCH_BYTES, Scrubbing};
use standing::Standing;
use std::sync::Arc;
use std::time::Duration;
use wishes::{MembershipFates, Wish, Wishes};

/// A core, and everybody who waits for something of it.
///
/// The same inputs at the same times give the same outputs.
#[derive(Debug)]
pub struct Driver {
    raft: Raft,
    options: DriverOptions,
    proposals: Proposals,
    barriers: Barriers,
    wishes: Wishes,
    compaction: Compaction,
    applied: LogIndex,
    session_clock: SessionClock,
    /// What the state machine has been given.
    handed: LogIndex,
    /// What the present turn has gathered and not yet given to the core.
    turn: Turn,
    sweep_at: Option<Time>,
    /// Who refused what we forwarded, in which term.
    refused_by: Option<(NodeId, Term)>,
    /// Whether our own disk may speak for us; absent if nobody has told which it is.
    standing: Option<Standing>,
    acquaintances: Acquaintances,
    scrubbing: Scrubbing,
    recorder: Option<Recorder>,
    pacing: Pacing,
    comparison: Comparison,
    /// Which files are damaged, as was found last.
    rotten: Arc<[Rot]>,
    /// The log was damaged when this node started, and the state machine has not been told since which
    /// entry it applied last.
    is_displaced: bool,
    effects: Vec<Effect>,
}

/// Gathered during one turn, so that what arrives together travels together.
#[derive(Debug, Default)]
struct Turn {
    /// Commands for the core, with those who wait for them, in the order of their proposal ids.
    proposals: Vec<(Waiter, Proposed, Time)>,
    remote_replies: RemoteReplies,
    fates: Fates,
    answers: Answers,
    membership_fates: MembershipFates,
}

impl Driver {
    /// A driver around a core.
    ///
    /// `durable` is what the state machine had durably applied at the start ([`LogIndex::ORIGIN`]
    /// for a volatile one), `applied` what it has applied now (a restored snapshot's index, for
    /// instance). `incarnation` must differ from that of every earlier life of this node.
    #[must_use]
    pub fn new(
        raft: Raft,
        options: DriverOptions,
        durable: LogIndex,
        applied: LogIndex,
        incarnation: u64,
    ) -> Self {
        let base = raft.base().last_included.index;
        let is_displaced = raft.lost().is_some();
        let proposals = Proposals::new(incarnation, raft.current_term());
        let scrubbing = Scrubbing::new(options.scrub_bytes_per_second);
        let recorder = Recorder::new(options.flight_recorder_bytes);
        let pacing = Pacing::new(options.snapshot_bytes_per_second);
        Self {
            raft,
            options,
            proposals,
            barriers: Barriers::default(),
            wishes: Wishes::default(),
            handed: applied,
            compaction: Compaction::new(base, durable, applied),
            applied,
            session_clock: SessionClock::default(),
            turn: Turn::default(),
            sweep_at: None,
            refused_by: None,
            standing: None,
            acquaintances: Acquaintances::default(),
            scrubbing,
            recorder,
            pacing,
            comparison: Comparison::default(),
            rotten: Arc::default(),
            is_displaced,
            effects: Vec::new(),
        }
    }

    /// How late a passed deadline may be noticed.
    #[must_use]
    pub const fn sweep_interval(&self) -> Duration {
        self.options.sweep_interval
    }

    /// The core, for looking at.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// What the state machine is known to have applied.
    #[must_use]
    pub const fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Which files of the log and which snapshots were found to be damaged when they were last read.
    #[must_use]
    pub const fn rotten(&self) -> &Arc<[Rot]> {
        &self.rotten
    }

    /// Proposals and reads whose outcome is open.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.proposals.count() + self.barriers.count() + self.wishes.count()
    }

    /// Bytes of proposals that wait for a leader to be known, or for its answer.
    #[must_use]
    pub const fn outstanding_bytes(&self) -> usize {
        self.proposals.outstanding_bytes()
    }

    /// When [`Input::Deadline`] is due, if nothing else happens first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        // Who is not admitted does not campaign, and nothing else of a follower is due by itself.
        let core = self.raft.next_deadline().filter(|_| self.is_admitted());
        let introduction = self.standing.as_ref().and_then(|standing| standing.next_at);
        let (scrub, pace) = (self.scrubbing.next_at, self.pacing.next_at());
        let comparison = self.comparison.next_at;
        [core, self.sweep_at, introduction, scrub, pace, comparison].into_iter().flatten().min()
    }

    /// One turn with one input; see [`Driver::turn`].
    pub fn handle(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        self.turn(now, std::iter::once(input), outputs);
    }

    /// One turn: takes everything that has happened, and says what to do. Inputs that are given
    /// together are batched: one append, one write and one message for all their proposals, one
    /// proof of leadership for all their reads.
    pub fn turn(
        &mut self,
        now: Time,
        inputs: impl IntoIterator<Item = Input>,
        outputs: &mut Vec<Output>,
    ) {
        for input in inputs {
            self.input(now, input, outputs);
        }
        self.dispatch(now, outputs);
        self.finish(outputs);
        self.plan_introductions(now);
        self.plan_comparison(now);
        self.scrubbing.plan(now);
        if self.sweep_at.is_none()
            && !(self.proposals.is_empty()
                && self.barriers.count() == 0
                && self.wishes.count() == 0)
        {
            self.sweep_at = Some(now.after(self.options.sweep_interval));
        }
    }

    fn input(&mut self, now: Time, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Peer { from, storage_id, version, message } => {
                self.note_version(now, from, version, outputs);
                self.peer_message(now, (from, storage_id), message, outputs);
            }
            Input::Disconnected { peer } => {
                self.proposals.disconnected(peer, &mut self.turn.fates);
                self.wishes.disconnected(peer);
            }
            Input::PeerGone { peer } => self.step(now, Event::PeerGone { peer }, outputs),
            Input::Propose { ticket, command, deadline } => {
                self.propose(now, ticket, Proposed::Command(command), deadline, false);
            }
            Input::ProposeInSession { ticket, request, deadline, is_retry } => {
                self.propose(now, ticket, Proposed::Session(request), deadline, is_retry);
            }
            Input::Barrier { ticket, consistency, deadline } => {
                self.barrier(now, ticket, consistency, deadline);
            }
            Input::Deadline => self.deadline(now, outputs),
            Input::ClockJumped { by } => {
                self.barriers.clock_jumped();
                self.step(now, Event::ClockJumped { by }, outputs);
            }
            Input::Persisted { seq } => self.step(now, Event::Persisted { seq }, outputs),
            Input::Proved => self.proved(now),
            Input::Loaded { request, entries } => {
                self.step(now, Event::Loaded { request, entries }, outputs);
            }
            Input::SparesLoaded { peer, entries } => {
                self.step(now, Event::SparesLoaded { peer, entries }, outputs);
            }
            Input::Applied(applied) => self.applied_batch(now, applied, outputs),
            Input::SnapshotReady { meta, size_bytes } => {
                self.snapshot_ready(now, meta, size_bytes, outputs);
            }
            Input::SnapshotChunk { peer, last_included, offset, chunk, done } => {
                let event = Event::SnapshotChunk { peer, last_included, offset, chunk, done };
                self.step(now, event, outputs);
            }
            Input::SnapshotGone { peer, last_included } => {
                self.step(now, Event::SnapshotGone { peer, last_included }, outputs);
            }
            Input::SnapshotWritten { last_included, next_offset, complete } => {
                let event = Event::SnapshotWritten { last_included, next_offset, complete };
                self.step(now, event, outputs);
            }
            Input::SnapshotRestored { last_included, durable } => {
                self.restored(now, last_included, durable, outputs);
            }
            Input::TransferLeadership { to } => {
                self.step(now, Event::TransferLeadership { to }, outputs);
            }
            Input::ChangeMembership { ticket, command, deadline } => {
                self.wish(now, Wish { ticket, command, deadline }, outputs);
            }
            Input::Scrubbed { read_bytes, rotten } => {
                self.scrubbing.ended(now, read_bytes);
                self.rotten = rotten.unwrap_or_else(|| Arc::clone(&self.rotten));
            }
            Input::SetOptions(options) => self.step(now, Event::SetOptions(options), outputs),
            Input::SetDriverOptions(options) => self.set_options(*options),
            Input::DiskFailed => self.step(now, Event::DiskFailed, outputs),
            Input::Diverged { index } => self.step(now, Event::Diverged { index }, outputs),
        }
    }

    // ---- What arrives ------------------------------------------------------------------------

    fn propose(
        &mut self,
        now: Time,
        ticket: Ticket,
        proposed: Proposed,
        deadline: Time,
        is_retry: bool,
    ) {
        let limit_bytes = self.options.outstanding_bytes_max;
        let wanted_bytes = self.proposals.outstanding_bytes().saturating_add(proposed.size_bytes());
        if wanted_bytes > limit_bytes {
            let refusal = Refusal::Overloaded {
                what: "proposals on the way to the leader",
                limit: limit_bytes,
                unit: "bytes",
            };
            self.turn.fates.push((Waiter::Local(ticket), Fate::NotAppended(refusal)));
            return;
        }
        let leaderless_until = now.after(self.options.leaderless_wait);
        let outstanding = Outstanding { ticket, proposed, deadline, leaderless_until };
        if is_retry {
            self.proposals.rest(outstanding);
        } else {
            self.proposals.hold(outstanding);
        }
    }

    /// A lower limit refuses what is new, and drops nothing.
    fn set_options(&mut self, mut options: DriverOptions) {
        options.protocol_version = self.options.protocol_version;
        self.pacing.set_rate(options.snapshot_bytes_per_second);
        self.scrubbing.set_rate(options.scrub_bytes_per_second);
        if options.flight_recorder_bytes != self.options.flight_recorder_bytes {
            self.recorder = Recorder::new(options.flight_recorder_bytes);
        }
        self.options = options;
    }

    fn barrier(&mut self, now: Time, ticket: Ticket, consistency: Consistency, deadline: Time) {
        let limit_count = self.options.barriers_count_max;
        if self.barriers.count() >= limit_count {
            self.turn.answers.push((ticket, Err(ReadError::Overloaded { limit_count })));
            return;
        }
        let leaderless_until = now.after(self.options.leaderless_wait);
        let waiting = Waiting { ticket, deadline, leaderless_until };
        let floor = match consistency {
            Consistency::Linearizable => None,
            Consistency::Lease { max_drift } => {
                return self.barriers.needs_proof(Some(max_drift), waiting);
            }
            Consistency::Bounded(age) => self.barriers.proved_within(now, age),
            Consistency::AtLeast(index) => Some(index),
            Consistency::Local => Some(self.applied),
        };
        // A state that is yet to be fetched is no old one: it is none.
        let base = self.raft.base().last_included.index;
        let floor =
            floor.map(|index| if self.raft.lacks_state() { index.max(base) } else { index });
        match floor {
            None => self.barriers.needs_proof(None, waiting),
            Some(index) if index > self.applied => self.barriers.needs_applied(index, waiting),
            Some(_) => self.turn.answers.push((ticket, Ok(self.applied))),
        }
    }

    fn peer_message(
        &mut self,
        now: Time,
        (from, storage_id): (NodeId, u128),
        message: PeerMessage,
        outputs: &mut Vec<Output>,
    ) {
        match message {
            PeerMessage::Raft(message) if self.lets_in(from, storage_id, &message) => {
                self.step(now, Event::Message { from, message }, outputs);
            }
            PeerMessage::Raft(_) => self.ask_for_disk(from, storage_id, outputs),
            PeerMessage::Introduce(introduction) => {
                self.introduced(now, from, introduction, outputs);
            }
            PeerMessage::Digest(message) => self.digest_message(now, from, message, outputs),
            PeerMessage::StateWanted { at_least } => {
                self.step(now, Event::StateWanted { peer: from, at_least }, outputs);
            }
            PeerMessage::Forward { term, incarnation, requests } => {
                for Forwarded { request, proposed } in requests {
                    let requester = Requester { node: from, incarnation, request };
                    self.forwarded(now, term, requester, proposed);
                }
            }
            PeerMessage::ChangeMembership { term, incarnation, request, command } => {
                self.wish_of_peer(now, from, (term, incarnation, request), command, outputs);
            }
            PeerMessage::MembershipReply { incarnation, request, outcome } => {
                if incarnation == self.proposals.incarnation() {
                    self.wish_answered(request, outcome);
                }
            }
            PeerMessage::ForwardReplies { incarnation, replies } => {
                if incarnation == self.proposals.incarnation() {
                    for (request, fate) in replies {
                        if self.proposals.forward_reply(request, fate, &mut self.turn.fates) {
                            self.refused_by = Some((from, self.raft.current_term()));
                        }
                    }
                }
            }
        }
    }

    /// A command from another node. It is appended only in the term that it was meant for, so that
    /// a copy of the message that comes later cannot append it again.
    fn forwarded(&mut self, now: Time, term: Term, requester: Requester, proposed: Proposed) {
        let is_leader = self.raft.leader() == Some(self.raft.id());
        if !is_leader || term != self.raft.current_term() {
            // "Not appended" is a promise. Where an earlier copy may have been appended nothing is
            // said: that copy's fate, or the requester's deadline, tells.
            if self.proposals.never_appended(term, requester) {
                let fate = Fate::NotAppended(Refusal::NoLeader);
                self.turn.remote_replies.push(requester, fate);
            }
        } else if self.proposals.is_new(term, requester) {
            // The requester has a deadline of its own; ours only bounds our memory.
            let deadline = now.after(self.options.leaderless_wait * 10);
            self.turn.proposals.push((Waiter::Remote(requester), proposed, deadline));
        }
    }

    fn deadline(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.tend_introductions(now, outputs);
        if self.scrubbing.begins(now) {
            outputs.push(Output::Scrub { max_bytes: STRETCH_BYTES });
        }
        outputs.extend(self.pacing.due(now));
        self.tend_comparison(now, outputs);
        let is_due = self.raft.next_deadline().is_some_and(|deadline| deadline <= now);
        if is_due && self.is_admitted() {
            self.step(now, Event::Deadline, outputs);
        }
        if self.sweep_at.is_some_and(|sweep_at| sweep_at <= now) {
            self.sweep_at = None;
            self.refused_by = None;
            self.proposals.rested();
            self.proposals.expire(now, &mut self.turn.fates);
            let leaderless = self.raft.leader().is_none();
            self.barriers.expire(now, leaderless, &mut self.turn.answers);
            self.tend_wishes(now, outputs);
        }
    }

    fn applied_batch(&mut self, now: Time, applied: Applied, outputs: &mut Vec<Output>) {
        self.applied = self.applied.max(applied.index);
        self.turn.remote_replies.extend(applied.remote);
        self.compaction.applied(now, applied.index, applied.durable);
        let is_leader = self.raft.leader() == Some(self.raft.id());
        self.session_clock.applied(now, applied.session_time, is_leader);
        self.step(now, Event::Applied { index: applied.index }, outputs);
        self.barriers.applied(self.applied, &mut self.turn.answers);
        self.compact(now, outputs);
        self.finished_windows(now, applied.digests, outputs);
    }

    fn snapshot_ready(
        &mut self,
        now: Time,
        meta: SnapshotMeta,
        size_bytes: u64,
        outputs: &mut Vec<Output>,
    ) {
        self.compaction.snapshot_ready(now, &meta, size_bytes);
        self.step(now, Event::SnapshotReady { meta }, outputs);
        self.compact(now, outputs);
    }

    fn restored(
        &mut self,
        now: Time,
        last_included: LogId,
        durable: LogIndex,
        outputs: &mut Vec<Output>,
    ) {
        self.applied = self.applied.max(last_included.index);
        self.compaction.restored(last_included.index, durable);
        self.step(now, Event::SnapshotRestored { last_included }, outputs);
        self.barriers.applied(self.applied, &mut self.turn.answers);
    }

    fn compact(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let base = self.raft.base().last_included.index;
        let held = self.raft.log_held_after();
        match self.compaction.decide(now, &self.options, base, self.applied, held) {
            Decision::Keep => {}
            Decision::Compact { through } => self.step(now, Event::Compact { through }, outputs),
            Decision::Checkpoint { at_least } => outputs.push(Output::Checkpoint { at_least }),
        }
    }

    // ---- What is passed on -------------------------------------------------------------------

    /// Sends what is held on its way: into our log, or to the leader; and asks for reads.
    fn dispatch(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let Some(leader) = self.raft.leader() else {
            return self.append(now, outputs);
        };
        if leader == self.raft.id() {
            for held in self.proposals.take_held() {
                let waiter = Waiter::Local(held.ticket);
                self.turn.proposals.push((waiter, held.proposed, held.deadline));
            }
        } else if self.proposals.has_held() && !self.is_refusing(leader) {
            outputs.push(self.forward_held(leader));
        }
        self.append(now, outputs);
        for (id, proof) in self.barriers.ask(now) {
            let event =
                proof.map_or(Event::Read { id }, |max_drift| Event::ReadByLease { id, max_drift });
            self.step(now, event, outputs);
        }
    }

    /// A leader that has just refused what we forwarded would do so again, as fast as messages
    /// travel: the next sweep, or another term, is soon enough.
    fn is_refusing(&self, leader: NodeId) -> bool {
        self.refused_by == Some((leader, self.raft.current_term()))
    }

    fn forward_held(&mut self, leader: NodeId) -> Output {
        let batch = self.proposals.take_held();
        let message = PeerMessage::Forward {
            term: self.raft.current_term(),
            incarnation: self.proposals.incarnation(),
            requests: self.proposals.forward(leader, batch),
        };
        Output::Send { to: leader, message }
    }

    /// Gives the gathered commands to the core in one event, their ids being their positions.
    fn append(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.turn.proposals.is_empty() {
            return;
        }
        let proposals = (0..).zip(&self.turn.proposals).map(|(id, (_, proposed, _))| {
            let (kind, command) = match proposed {
                Proposed::Command(command) => (CommandKind::Plain, command.clone()),
                Proposed::Session(request) => {
                    let (stamp, limits) =
                        (self.session_clock.read(now), self.options.session_limits);
                    let entry = SessionEntry { stamp, limits, request: request.as_ref().clone() };
                    (CommandKind::Session, entry.encode())
                }
            };
            Proposal { id: ProposalId::new(id), kind, command }
        });
        let event = Event::Propose(proposals.collect());
        self.step(now, event, outputs);
        self.turn.proposals.clear();
    }

    fn step(&mut self, now: Time, event: Event, outputs: &mut Vec<Output>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(&self.raft, now, &event);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.raft.step(now, event, &mut effects);
        for effect in effects.drain(..) {
            self.effect(now, effect, outputs);
        }
        self.effects = effects;
    }

    fn effect(&mut self, now: Time, effect: Effect, outputs: &mut Vec<Output>) {
        match effect {
            Effect::Send { to, message } if self.lets_out(&message) => send(to, message, outputs),
            Effect::Send { .. } => {}
            Effect::Persist(persist) => outputs.push(Output::Persist(persist)),
            Effect::Apply { entries } => self.apply(now, entries, outputs),
            Effect::ProposalAppended { id, log_id } => {
                if let Some(&(waiter, _, deadline)) = self.turn.proposal(id) {
                    self.proposals.appended(log_id, waiter, deadline);
                }
            }
            Effect::ProposalRefused { id, reason } => self.refused(now, id, reason),
            Effect::ReadReady { id, index } => {
                self.barriers.ready(id, index);
                self.barriers.applied(self.applied, &mut self.turn.answers);
            }
            Effect::ReadRefused { id, reason } => self.read_refused(id, reason),
            Effect::MembershipAppended { id, log_id } => self.core_decided(id, Ok(log_id), outputs),
            Effect::MembershipRefused { id, reason } => self.core_decided(id, Err(reason), outputs),
            Effect::Load(request) => outputs.push(Output::Load(request)),
            Effect::LoadSpares { peer, first, max_bytes } => {
                outputs.push(Output::LoadSpares { peer, first, max_bytes });
            }
            Effect::TakeSnapshot { at_least } => outputs.push(Output::TakeSnapshot { at_least }),
            Effect::ReadSnapshotChunk { peer, last_included, offset, max_bytes } => {
                let read = Output::ReadSnapshotChunk { peer, last_included, offset, max_bytes };
                outputs.extend(self.pacing.want(now, peer, max_bytes, read));
            }
            Effect::WriteSnapshotChunk { meta, offset, chunk, done } => {
                outputs.push(Output::WriteSnapshotChunk { meta, offset, chunk, done });
            }
            Effect::RestoreSnapshot { meta } => {
                let through = meta.last_included.index;
                self.proposals.superseded(through, &mut self.turn.fates);
                self.handed = through;
                // A snapshot says itself where it stands.
                self.is_displaced = false;
                let (wishes, fates) = (&mut self.wishes, &mut self.turn.membership_fates);
                wishes.superseded(through, &meta.configuration, fates);
                outputs.push(Output::RestoreSnapshot { meta });
            }
            Effect::ReleasePrefix { base } => outputs.push(Output::ReleasePrefix { base }),
        }
    }

    fn apply(&mut self, now: Time, entries: Vec<Entry>, outputs: &mut Vec<Output>) {
        self.wishes.applying(&entries, &mut self.turn.membership_fates);
        self.handed = entries.last().map_or(self.handed, |entry| entry.log_id.index);
        let size_bytes = entries.iter().map(Entry::size_bytes).sum();
        self.compaction.applying(now, self.handed, size_bytes);
        let first = entries.first().map(|entry| entry.log_id.index);
        let mut batch = self.proposals.attach(entries, &mut self.turn.fates);
        if self.is_displaced {
            batch.place = first.and_then(|first| self.place_before(first));
            self.is_displaced = batch.place.is_none();
        }
        outputs.push(Output::Apply(batch));
    }

    /// The entry before `first`, which is committed, and the configuration there.
    fn place_before(&self, first: LogIndex) -> Option<(LogId, Arc<Configuration>)> {
        let index = first.previous()?;
        let log_id = LogId::new(self.raft.term_at(index)?, index);
        Some((log_id, Arc::clone(self.raft.configuration_as_of(index))))
    }

    /// A refused proposal entered no log. If only the leader is missing, ours wait for one.
    fn refused(&mut self, now: Time, id: ProposalId, reason: ProposalRefusal) {
        let Some(&(waiter, ref proposed, deadline)) = self.turn.proposal(id) else {
            return;
        };
        let refusal = match reason {
            ProposalRefusal::NotLeader { .. } => Refusal::NoLeader,
            ProposalRefusal::Transferring { to } => Refusal::Transferring { to },
            ProposalRefusal::TooManyUncommitted { limit_bytes, .. } => Refusal::Overloaded {
                what: "uncommitted proposals",
                limit: limit_bytes,
                unit: "bytes",
            },
            ProposalRefusal::Poisoned => Refusal::Stopped,
        };
        match (waiter, &refusal) {
            (Waiter::Local(ticket), Refusal::NoLeader | Refusal::Transferring { .. }) => {
                let proposed = proposed.clone();
                let leaderless_until = now.after(self.options.leaderless_wait);
                self.proposals.hold(Outstanding { ticket, proposed, deadline, leaderless_until });
            }
            _ => self.turn.fates.push((waiter, Fate::NotAppended(refusal))),
        }
    }

    fn read_refused(&mut self, id: ReadId, reason: ReadRefusal) {
        match reason {
            ReadRefusal::NoLeader
            | ReadRefusal::LeaderChanged
            | ReadRefusal::TooManyReads { .. }
            | ReadRefusal::Poisoned => self.barriers.refused(id),
        }
    }

    /// Hands out what became known in this turn.
    fn finish(&mut self, outputs: &mut Vec<Output>) {
        for (waiter, fate) in std::mem::take(&mut self.turn.fates) {
            match waiter {
                Waiter::Local(ticket) => outputs.push(Output::Answer { ticket, fate }),
                Waiter::Remote(requester) => self.turn.remote_replies.push(requester, fate),
            }
        }
        for (ticket, result) in self.turn.answers.drain(..) {
            outputs.push(Output::Barrier { ticket, result });
        }
        for (ticket, fate) in self.turn.membership_fates.drain(..) {
            outputs.push(Output::MembershipAnswer { ticket, fate });
        }
        for (to, incarnation, replies) in self.turn.remote_replies.drain() {
            let message = PeerMessage::ForwardReplies { incarnation, replies };
            outputs.push(Output::Send { to, message });
        }
    }
}

impl Turn {
    fn proposal(&self, id: ProposalId) -> Option<&(Waiter, Proposed, Time)> {
        self.proposals.get(usize::try_from(id.get()).ok()?)
    }
}

fn send(to: NodeId, message: Message, outputs: &mut Vec<Output>) {
    outputs.push(Output::Send { to, message: PeerMessage::Raft(message) });
}
