//! One core among peers that may say anything at any time, well-formed or not. Its own disk and
//! state machine are honest, as the core may assume; everything else is forged.

use super::input::Input;
use bytes::Bytes;
use quorate_core::invariants::{View, check_state, check_transition};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ChangeId, Configuration, ConflictHint,
    Drift, Effect, Entry, Event, HardState, Heartbeat, HeartbeatResponse, InstallSnapshot,
    InstallSnapshotResponse, LoadRequest, LogId, LogIndex, Member, MemberRole, MembershipCommand,
    Message, NodeId, NotAMember, Options, Payload, Persist, Proposal, ProposalId, ProtocolVersion,
    Raft, ReadId, ReadIndex, ReadIndexResponse, RequestVote, RequestVoteResponse, Restored, Role,
    SnapshotMeta, Term, Time, TimeoutNow, VotePhase,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const STEPS_MAX: usize = 400;
/// What a server starts with is honest: of no version from which the core could not count on.
const FOUNDED_VERSION_MAX: u64 = 1 << 62;

/// Events as the input says.
pub(super) fn core_step(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut bench) = Bench::new(&mut input) else { return };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        bench.happen(&mut input);
    }
}

/// The core with what is around it.
struct Bench {
    raft: Raft,
    view: View,
    now: Time,
    options: Options,
    hard_state: HardState,
    base: SnapshotMeta,
    entries: Vec<Entry>,
    applied: LogIndex,
    writes: VecDeque<Persist>,
    /// Completions that have not been reported.
    due: VecDeque<Event>,
}

fn options(input: &mut Input<'_>) -> Options {
    let small = |roomy: usize, tight: usize, is_tight: bool| if is_tight { tight } else { roomy };
    let is_tight = input.flag();
    Options {
        append_bytes_max: small(1 << 20, 100, is_tight),
        in_flight_count_max: small(256, 2, is_tight),
        in_flight_bytes_max: small(1 << 20, 200, is_tight),
        uncommitted_bytes_max: small(1 << 20, 300, is_tight),
        log_cache_bytes_max: small(1 << 20, 120, is_tight),
        applying_bytes_max: small(1 << 20, 100, is_tight),
        load_bytes_max: small(1 << 20, 100, is_tight),
        snapshot_chunk_bytes_max: 16,
        waiting_reads_count_max: 2,
        lease_reads: is_tight,
        ..Options::default()
    }
}

fn configuration(input: &mut Input<'_>) -> Arc<Configuration> {
    let member = |role, rank| Member { role, rank, address: String::new(), context: Bytes::new() };
    let roles =
        [MemberRole::Voter, MemberRole::Learner, MemberRole::Incoming, MemberRole::Outgoing];
    let count = 1 + u64::from(input.below(4));
    let members: BTreeMap<_, _> = (1..=count)
        .map(|id| {
            let role = roles.get(usize::from(input.below(8))).copied();
            let rank = u32::from(input.below(3));
            (NodeId::new(id), member(role.unwrap_or(MemberRole::Voter), rank))
        })
        .collect();
    Arc::new(Configuration::new(input.number(), members))
}

fn wish(input: &mut Input<'_>) -> MembershipCommand {
    if input.below(4) == 0 {
        return MembershipCommand::Cancel;
    }
    let target = configuration(input).members.clone();
    let expected_version = input.flag().then(|| input.number());
    MembershipCommand::Set { target, expected_version, force: input.flag() }
}

impl Bench {
    fn new(input: &mut Input<'_>) -> Option<Self> {
        let options = options(input);
        let configuration = configuration(input);
        if configuration.version > FOUNDED_VERSION_MAX {
            return None;
        }
        let base = SnapshotMeta { last_included: LogId::ORIGIN, configuration };
        let (hard_state, applied) = (HardState::default(), LogIndex::ORIGIN);
        let restored = restored(hard_state, &base, &[], applied, usize::MAX);
        let raft = Raft::new(NodeId::new(1), options.clone(), 1, restored, Time::ZERO).ok()?;
        let view = View::of(&raft);
        let (writes, due) = (VecDeque::new(), VecDeque::new());
        let (now, entries) = (Time::ZERO, Vec::new());
        Some(Self { raft, view, now, options, hard_state, base, entries, applied, writes, due })
    }

    fn happen(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => {
                self.now = self.raft.next_deadline().unwrap_or(self.now).max(self.now);
                self.give(Event::Deadline);
            }
            1 => {
                self.now = self.now.after(Duration::from_millis(u64::from(input.byte()) * 20));
                self.give(Event::Deadline);
            }
            2 => {
                let command = Bytes::from(vec![7; usize::from(input.byte())]);
                let id = ProposalId::new(input.number());
                self.give(Event::Propose(vec![Proposal::plain(id, command)]));
            }
            3 => {
                let id = ReadId::new(input.number());
                self.give(if input.flag() {
                    Event::ReadByLease { id, max_drift: drift(input) }
                } else {
                    Event::Read { id }
                });
            }
            4 => {
                let to = input.flag().then(|| NodeId::new(input.number()));
                self.give(Event::TransferLeadership { to });
            }
            5 => self.give(Event::Compact { through: LogIndex::new(input.number()) }),
            6 => self.restart(input),
            7 | 8 => self.finish_write(),
            9 | 10 => self.report(),
            11 => {
                let (id, command) = (ChangeId::new(input.number()), wish(input));
                self.give(Event::ChangeMembership { id, command });
            }
            12 => self.give(Event::PeerGone { peer: NodeId::new(u64::from(input.below(6))) }),
            13 => {
                let from = NodeId::new(u64::from(input.below(6)));
                let version = ProtocolVersion::new(input.byte().into());
                self.give(Event::Speaks { from, version });
            }
            _ => {
                let from = NodeId::new(u64::from(input.below(6)));
                let message = self.message(input);
                self.give(Event::Message { from, message });
            }
        }
    }

    fn give(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.raft.step(self.now, event, &mut effects);
        let before = self.view.clone();
        self.view.refresh(&self.raft);
        assert_eq!(check_state(&self.view), Ok(()), "a state makes sense");
        assert_eq!(check_transition(&before, &self.view), Ok(()), "a step makes sense");
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(write) => self.writes.push_back(write),
            Effect::Apply { entries } => {
                for entry in entries {
                    assert_eq!(entry.log_id.index, self.applied.next(), "applied in order");
                    self.applied = entry.log_id.index;
                }
                self.due.push_back(Event::Applied { index: self.applied });
            }
            Effect::Load(request) => {
                let entries = self.load(request);
                self.due.push_back(Event::Loaded { request, entries });
            }
            Effect::LoadSpares { peer, .. } => {
                self.due.push_back(Event::SparesLoaded { peer, entries: Vec::new() });
            }
            Effect::TakeSnapshot { at_least } => {
                assert!(self.applied >= at_least, "a snapshot is of what is applied");
                let term = self.raft.term_at(self.applied).unwrap_or_default();
                let last_included = LogId::new(term, self.applied);
                let configuration = Arc::clone(&self.base.configuration);
                self.due.push_back(Event::SnapshotReady {
                    meta: SnapshotMeta { last_included, configuration },
                });
            }
            Effect::ReadSnapshotChunk { peer, last_included, offset, .. } => {
                let (chunk, done) = (Bytes::from_static(&[1; 16]), offset >= 32);
                let event = Event::SnapshotChunk { peer, last_included, offset, chunk, done };
                self.due.push_back(event);
            }
            Effect::WriteSnapshotChunk { meta, offset, chunk, done } => {
                let next_offset = offset.saturating_add(u64::try_from(chunk.len()).unwrap_or(0));
                let last_included = meta.last_included;
                let complete = done;
                self.due.push_back(Event::SnapshotWritten { last_included, next_offset, complete });
            }
            Effect::RestoreSnapshot { meta } => {
                self.applied = meta.last_included.index;
                let last_included = meta.last_included;
                self.due.push_back(Event::SnapshotRestored { last_included });
            }
            Effect::ReleasePrefix { base } => {
                self.entries.retain(|entry| entry.log_id.index > base.last_included.index);
                self.base = base;
            }
            Effect::Send { .. }
            | Effect::ProposalAppended { .. }
            | Effect::ProposalRefused { .. }
            | Effect::ReadReady { .. }
            | Effect::ReadRefused { .. }
            | Effect::MembershipAppended { .. }
            | Effect::MembershipRefused { .. } => {}
        }
    }

    fn finish_write(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        if let Some(base) = &write.reset {
            self.entries.clear();
            self.base = base.clone();
        }
        if let Some(after) = write.truncate_after {
            self.entries.retain(|entry| entry.log_id.index <= after);
        }
        self.entries.extend(write.entries);
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        self.give(Event::Persisted { seq: write.seq });
    }

    fn report(&mut self) {
        if let Some(event) = self.due.pop_front() {
            self.give(event);
        }
    }

    fn load(&self, request: LoadRequest) -> Vec<Entry> {
        let in_range = |entry: &&Entry| {
            entry.log_id.index >= request.first && entry.log_id.index <= request.last
        };
        let entries: Vec<Entry> = self.entries.iter().filter(in_range).cloned().collect();
        let is_whole = entries.first().is_some_and(|first| first.log_id.index == request.first);
        if is_whole { entries } else { Vec::new() }
    }

    /// The disk takes no more. But for one call of a leader nothing is said or written from then on,
    /// whatever is heard.
    fn lose_the_disk(&mut self, input: &mut Input<'_>) {
        let mut effects = Vec::new();
        let is_leader = self.raft.role() == Role::Leader;
        self.raft.step(self.now, Event::DiskFailed, &mut effects);
        effects.retain(acts);
        let calls = effects.iter().filter(|effect| {
            matches!(effect, Effect::Send { message: Message::TimeoutNow(_), .. })
        });
        assert_eq!(calls.count(), effects.len(), "nothing but a call: {effects:?}");
        let call_count = effects.len();
        assert!(call_count <= usize::from(is_leader), "a leader calls one: {effects:?}");
        for _ in 0..input.below(4) {
            let from = NodeId::new(u64::from(input.below(6)));
            let message = self.message(input);
            self.raft.step(self.now, Event::Message { from, message }, &mut effects);
        }
        effects.retain(acts);
        assert_eq!(effects.len(), call_count, "nothing after that: {effects:?}");
    }

    /// The process ends, and starts again with what is on the disk.
    fn restart(&mut self, input: &mut Input<'_>) {
        match input.below(4) {
            0 => {}
            1 => self.lose_the_disk(input),
            _ => return,
        }
        let last = self.entries.last().map_or(self.base.last_included, |entry| entry.log_id);
        self.applied = self.applied.min(last.index).max(self.base.last_included.index);
        let tail = usize::from(input.below(6));
        let restored = restored(self.hard_state, &self.base, &self.entries, self.applied, tail);
        let raft = Raft::new(NodeId::new(1), self.options.clone(), 1, restored, self.now);
        let Ok(raft) = raft else { panic!("what the core wrote it can start from: {raft:?}") };
        self.view = View::of(&raft);
        self.raft = raft;
        self.writes.clear();
        self.due.clear();
    }

    /// A term near the core's own, or anything.
    fn term(&self, input: &mut Input<'_>) -> Term {
        match input.below(4) {
            0 => Term::new(input.number()),
            1 => self.raft.current_term().next(),
            _ => self.raft.current_term(),
        }
    }

    /// An entry of the core's log, or anything.
    fn log_id(&self, input: &mut Input<'_>) -> LogId {
        match input.below(4) {
            0 => LogId::new(Term::new(input.number()), LogIndex::new(input.number())),
            1 => self.raft.last_log(),
            2 => LogId::ORIGIN,
            _ => {
                let index = LogIndex::new(input.number());
                LogId::new(self.raft.term_at(index).unwrap_or_default(), index)
            }
        }
    }

    fn message(&self, input: &mut Input<'_>) -> Message {
        let kind = input.below(12);
        let term = self.term(input);
        match kind {
            0 => Message::RequestVote(RequestVote {
                term,
                last_log: self.log_id(input),
                phase: phase(input),
            }),
            1 | 2 => Message::RequestVoteResponse(RequestVoteResponse {
                term,
                phase: phase(input),
                granted: input.below(4) != 0,
            }),
            3 | 4 => Message::AppendEntries(self.append_entries(term, input)),
            5 => Message::AppendEntriesResponse(self.append_response(term, input)),
            6 => {
                let round = input.flag().then(|| input.number());
                let leader_commit = LogIndex::new(input.number());
                Message::Heartbeat(Heartbeat { term, leader_commit, round })
            }
            7 => {
                let round = input.number();
                let promise = if input.flag() { input.number() } else { 0 };
                let promise = Duration::from_micros(promise);
                Message::HeartbeatResponse(HeartbeatResponse { term, round, promise })
            }
            8 => Message::InstallSnapshot(self.install_snapshot(term, input)),
            9 => Message::InstallSnapshotResponse(InstallSnapshotResponse {
                term,
                last_included: self.log_id(input),
                next_offset: input.number(),
                installed: input.flag(),
            }),
            10 if input.flag() => Message::NotAMember(NotAMember {
                term,
                version: input.number(),
                position: self.log_id(input),
            }),
            10 => Message::TimeoutNow(TimeoutNow { term }),
            _ => {
                let id = ReadId::new(input.number());
                if input.flag() {
                    let max_drift = input.flag().then(|| drift(input));
                    return Message::ReadIndex(ReadIndex { term, id, max_drift });
                }
                let index = input.flag().then(|| LogIndex::new(input.number()));
                Message::ReadIndexResponse(ReadIndexResponse { term, id, index })
            }
        }
    }

    fn append_entries(&self, term: Term, input: &mut Input<'_>) -> AppendEntries {
        let prev_log = self.log_id(input);
        let mut last = prev_log;
        let mut entries = Vec::new();
        for _ in 0..input.below(4) {
            // Mostly in order: what is not is refused at the gate.
            let is_odd = input.below(16) == 0;
            let index = if is_odd { input.number() } else { last.index.get().wrapping_add(1) };
            let entry_term = if input.below(4) == 0 { Term::new(input.number()) } else { term };
            last = LogId::new(entry_term, LogIndex::new(index));
            let payload = match input.below(8) {
                0 => Payload::Noop,
                1 => Payload::Configuration(configuration(input)),
                size => Payload::Command(Bytes::from(vec![size; usize::from(size) * 8])),
            };
            entries.push(Entry { log_id: last, payload });
        }
        AppendEntries { term, prev_log, entries, leader_commit: LogIndex::new(input.number()) }
    }

    fn append_response(&self, term: Term, input: &mut Input<'_>) -> AppendEntriesResponse {
        let outcome = match input.below(4) {
            0 => AppendOutcome::StaleTerm,
            1 => AppendOutcome::Rejected {
                prev_index: self.log_id(input).index,
                hint: ConflictHint { candidate: self.log_id(input) },
            },
            _ => AppendOutcome::Accepted { matched: self.log_id(input).index },
        };
        AppendEntriesResponse { term, outcome }
    }

    fn install_snapshot(&self, term: Term, input: &mut Input<'_>) -> InstallSnapshot {
        let meta = SnapshotMeta {
            last_included: self.log_id(input),
            configuration: Arc::clone(&self.base.configuration),
        };
        let offset = if input.flag() { 0 } else { input.number() };
        let (chunk, done) = (Bytes::from_static(&[2; 16]), input.flag());
        InstallSnapshot { term, meta, offset, chunk, done }
    }
}

/// Whether others, or the disk, come to know of it.
const fn acts(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { .. } | Effect::Persist(_))
}

fn drift(input: &mut Input<'_>) -> Drift {
    Drift::parts_per_million(u32::from(input.byte()) * 5_000)
}

fn phase(input: &mut Input<'_>) -> VotePhase {
    match input.below(3) {
        0 => VotePhase::PreVote,
        1 => VotePhase::Vote,
        _ => VotePhase::Transfer,
    }
}

fn restored(
    hard_state: HardState,
    base: &SnapshotMeta,
    entries: &[Entry],
    applied: LogIndex,
    tail_count: usize,
) -> Restored {
    let mut term_runs: Vec<(LogIndex, Term)> = Vec::new();
    let mut configurations = Vec::new();
    for Entry { log_id, payload } in entries {
        if term_runs.last().is_none_or(|(_, term)| *term < log_id.term) {
            term_runs.push((log_id.index, log_id.term));
        }
        if let Payload::Configuration(configuration) = payload {
            configurations.push((log_id.index, Arc::clone(configuration)));
        }
    }
    let tail = entries.get(entries.len().saturating_sub(tail_count)..).unwrap_or_default();
    Restored {
        hard_state,
        base: base.clone(),
        term_runs,
        configurations,
        last_log: entries.last().map_or(base.last_included, |entry| entry.log_id),
        tail: tail.to_vec(),
        applied,
        lost: None,
    }
}
