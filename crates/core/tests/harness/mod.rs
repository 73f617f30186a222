//! A cluster in one thread: disks that lose what was not written, a network that does what it is
//! told, state machines that remember everything. Knows no rule of Raft; the checker watches.

#![allow(dead_code, reason = "each test program uses its own part")]

mod recording;

use bytes::Bytes;
use quorate_core::invariants::{ClusterChecker, Violation};
use quorate_core::{
    ChangeId, Configuration, Effect, Entry, Event, HardState, LoadRequest, LogId, LogIndex, Member,
    MemberRole, MembershipCommand, Message, NodeId, Options, Payload, Persist, Proposal,
    ProposalId, Raft, ReadId, Restored, SnapshotMeta, Term, Time,
};
use recording::Recording;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

pub(crate) fn index(value: u64) -> LogIndex {
    LogIndex::new(value)
}

pub(crate) fn log_id(index: u64, term: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

pub(crate) fn command(index: u64, term: u64, text: &str) -> Entry {
    let payload = Payload::Command(Bytes::copy_from_slice(text.as_bytes()));
    Entry { log_id: log_id(index, term), payload }
}

pub(crate) fn member(role: MemberRole, rank: u32) -> Member {
    Member { role, rank, address: String::new(), context: Bytes::new() }
}

pub(crate) fn configuration(
    members: impl IntoIterator<Item = (u64, MemberRole, u32)>,
) -> Configuration {
    let members = members.into_iter().map(|(id, role, rank)| (node(id), member(role, rank)));
    Configuration::new(1, members.collect())
}

pub(crate) fn voters(count: u64) -> Configuration {
    configuration((1..=count).map(|id| (id, MemberRole::Voter, 0)))
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) base: SnapshotMeta,
    pub(crate) entries: Vec<Entry>,
    /// Snapshots by what they cover, and the piece-wise one being received.
    pub(crate) snapshots: BTreeMap<LogId, (SnapshotMeta, Bytes)>,
    pub(crate) received: Vec<u8>,
    /// The last entry that the log held, while entries of it are lost.
    pub(crate) lost: Option<LogId>,
    /// What stands whole behind the damage.
    pub(crate) spares: Vec<Entry>,
    /// Each entry that was damaged, and the one before it.
    pub(crate) damaged: Vec<(LogId, LogId)>,
}

impl Disk {
    pub(crate) fn new(configuration: Configuration) -> Self {
        let base =
            SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::new(configuration) };
        Self {
            hard_state: HardState::default(),
            base,
            entries: Vec::new(),
            snapshots: BTreeMap::new(),
            received: Vec::new(),
            lost: None,
            spares: Vec::new(),
            damaged: Vec::new(),
        }
    }

    pub(crate) fn last_log(&self) -> LogId {
        self.entries.last().map_or(self.base.last_included, |entry| entry.log_id)
    }

    /// Carries out a write, in the order that `Persist` promises.
    pub(crate) fn write(&mut self, persist: &Persist) {
        if let Some(base) = &persist.reset {
            self.entries.clear();
            self.base = base.clone();
        }
        if let Some(after) = persist.truncate_after {
            self.entries.retain(|entry| entry.log_id.index <= after);
        }
        for entry in &persist.entries {
            assert_eq!(entry.log_id.index, self.last_log().index.next(), "the log has no gaps");
            self.entries.push(entry.clone());
        }
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        if self.lost.is_some_and(|horizon| self.last_log() >= horizon) {
            self.lost = None;
            self.spares.clear();
            self.damaged.clear();
        }
    }

    /// The entries `first..=last` are damaged; the log ends before them.
    pub(crate) fn wound(&mut self, first: LogIndex, last: LogIndex) {
        let horizon = self.lost.unwrap_or_else(|| self.last_log());
        self.damaged.append(&mut self.pairs(first, last));
        let place = self.entries.partition_point(|entry| entry.log_id.index < first);
        let mut behind = self.entries.split_off(place);
        behind.retain(|entry| entry.log_id.index > last);
        // What an earlier damage left is behind this one.
        behind.append(&mut self.spares);
        self.spares = behind;
        self.lost = Some(horizon).filter(|horizon| *horizon > self.last_log());
    }

    /// The entries `first..=last`, each with the one before it.
    pub(crate) fn pairs(&self, first: LogIndex, last: LogIndex) -> Vec<(LogId, LogId)> {
        let mut before = self.base.last_included;
        let mut pairs = Vec::new();
        for entry in &self.entries {
            if entry.log_id.index >= first && entry.log_id.index <= last {
                pairs.push((before, entry.log_id));
            }
            before = entry.log_id;
        }
        pairs
    }

    pub(crate) fn configuration_at(&self, index: LogIndex) -> Arc<Configuration> {
        let below = self.entries.iter().filter(|entry| entry.log_id.index <= index);
        let configurations = below.filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(Arc::clone(configuration)),
            Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
        });
        configurations.last().unwrap_or_else(|| Arc::clone(&self.base.configuration))
    }

    pub(crate) fn load_spares(&self, first: LogIndex, max_bytes: usize) -> Vec<Entry> {
        let mut spares: Vec<&Entry> =
            self.spares.iter().filter(|entry| entry.log_id.index >= first).collect();
        spares.sort_by_key(|entry| entry.log_id.index);
        let mut found: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in spares {
            let before = found.last().map(|before| before.log_id);
            let follows = before.is_none_or(|before| {
                entry.log_id.index == before.index.next() && entry.log_id.term >= before.term
            });
            if !follows || bytes > max_bytes {
                break;
            }
            bytes += entry.size_bytes();
            found.push(entry.clone());
        }
        found
    }

    pub(crate) fn load(&self, request: LoadRequest) -> Vec<Entry> {
        let wanted = |entry: &&Entry| {
            entry.log_id.index >= request.first && entry.log_id.index <= request.last
        };
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.entries.iter().filter(wanted) {
            if bytes > request.max_bytes {
                break;
            }
            bytes += entry.size_bytes();
            entries.push(entry.clone());
        }
        if entries.first().is_none_or(|entry| entry.log_id.index != request.first) {
            entries.clear();
        }
        entries
    }

    /// What a restart finds; `tail_count` entries are held in memory.
    pub(crate) fn restored(&self, applied: LogIndex, tail_count: usize) -> Restored {
        let mut term_runs: Vec<(LogIndex, Term)> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &self.entries {
            if term_runs.last().is_none_or(|(_, term)| *term < entry.log_id.term) {
                term_runs.push((entry.log_id.index, entry.log_id.term));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                configurations.push((entry.log_id.index, Arc::clone(configuration)));
            }
        }
        let skip = self.entries.len().saturating_sub(tail_count);
        Restored {
            hard_state: self.hard_state,
            base: self.base.clone(),
            term_runs,
            configurations,
            last_log: self.last_log(),
            tail: self.entries[skip..].to_vec(),
            applied: applied.max(self.base.last_included.index),
            lost: self.lost,
        }
    }
}

/// The state machine: the list of everything that it has applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) applied: Vec<LogId>,
}

impl Machine {
    pub(crate) fn index(&self) -> LogIndex {
        self.applied.last().map_or(LogIndex::ORIGIN, |last| last.index)
    }

    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.log_id.index, self.index().next(), "entries are applied in order");
        self.applied.push(entry.log_id);
    }

    fn encode(&self) -> Bytes {
        let words = self.applied.iter().flat_map(|id| [id.index.get(), id.term.get()]);
        words.flat_map(u64::to_be_bytes).collect::<Vec<u8>>().into()
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        let pairs = bytes.chunks(16);
        Self { applied: pairs.map(|pair| log_id(word(&pair[..8]), word(&pair[8..]))).collect() }
    }
}

/// One server with everything around it.
pub(crate) struct Server {
    pub(crate) raft: Option<Raft>,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// Writes under way.
    pub(crate) writes: VecDeque<Persist>,
    /// Batches that the state machine has not begun.
    pub(crate) batches: VecDeque<Vec<Entry>>,
    /// Completions of everything else: loads, snapshots.
    pub(crate) completions: VecDeque<Event>,
    pub(crate) disk_held: bool,
    pub(crate) machine_held: bool,
    /// The state machine survives a crash.
    pub(crate) machine_is_durable: bool,
    /// How many entries a restart holds in memory.
    pub(crate) tail_count: usize,
    pub(crate) next_proposal: u64,
    pub(crate) recording: Option<Recording>,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

pub(crate) struct Cluster {
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) network: VecDeque<Envelope>,
    /// One-way links that deliver nothing.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) now: Time,
    pub(crate) options: Options,
    pub(crate) seed: u64,
    pub(crate) checker: ClusterChecker,
    /// What callers were told: proposals and reads.
    pub(crate) answers: Vec<String>,
    pub(crate) next_change: u64,
    /// Messages as they are sent, if anybody wants to see them.
    pub(crate) trace: Option<Vec<String>>,
    /// Messages sent so far, answers and notices included.
    pub(crate) sent_count: usize,
    pub(crate) sent_bytes: usize,
    pub(crate) violation: Option<Violation>,
}

impl Cluster {
    pub(crate) fn new(configuration: &Configuration, options: Options, seed: u64) -> Self {
        let mut cluster = Self {
            servers: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            now: Time::ZERO,
            options,
            seed,
            checker: ClusterChecker::new(),
            answers: Vec::new(),
            next_change: 0,
            trace: None,
            sent_count: 0,
            sent_bytes: 0,
            violation: None,
        };
        for id in configuration.members.keys() {
            cluster.add(*id, Disk::new(configuration.clone()));
        }
        cluster
    }

    pub(crate) fn add(&mut self, id: NodeId, disk: Disk) {
        let server = Server {
            raft: None,
            disk,
            machine: Machine::default(),
            writes: VecDeque::new(),
            batches: VecDeque::new(),
            completions: VecDeque::new(),
            disk_held: false,
            machine_held: false,
            machine_is_durable: false,
            tail_count: usize::MAX,
            next_proposal: 0,
            recording: None,
        };
        self.servers.insert(id, server);
        self.start(id);
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        let restored = server.disk.restored(server.machine.index(), server.tail_count);
        self.checker.observe_restore(id, restored.applied);
        let has_lived = restored.hard_state.current_term > Term::new(0);
        let mut raft = Raft::new(id, self.options.clone(), self.seed, restored, self.now).unwrap();
        if self.options.lease_reads && has_lived {
            raft.keep_earlier_promises(self.options.election_timeout);
        }
        self.note(|checker| checker.observe(&raft));
        self.servers.get_mut(&id).unwrap().raft = Some(raft);
    }

    /// Notes from here on what happens to the servers that are up, each until it stops.
    pub(crate) fn record(&mut self) {
        for server in self.servers.values_mut() {
            server.recording = server.raft.as_ref().map(Recording::of);
        }
    }

    /// Loses everything that is not on the disk; the first `written` writes under way make it.
    pub(crate) fn crash(&mut self, id: NodeId, written: usize) {
        self.checker.crashed(id);
        let server = self.servers.get_mut(&id).unwrap();
        server.raft = None;
        server.recording = None;
        for persist in server.writes.drain(..).take(written) {
            server.disk.write(&persist);
        }
        server.writes.clear();
        server.batches.clear();
        server.completions.clear();
        if server.machine_is_durable
            && server.machine.index() >= server.disk.base.last_included.index
        {
            return;
        }
        // The state machine is volatile below its last snapshot: the log replays the rest.
        let base = server.disk.base.last_included;
        let snapshot = server.disk.snapshots.get(&base).map(|(_, bytes)| Machine::decode(bytes));
        server.machine = snapshot.unwrap_or_default();
    }

    /// Durable entries of a server that is down are damaged.
    pub(crate) fn wound(&mut self, id: NodeId, first: LogIndex, last: LogIndex) {
        self.checker.wounded(id);
        self.server(id.get()).disk.wound(first, last);
    }

    /// The disk finishes nothing any more, and the server is told.
    pub(crate) fn fail_disk(&mut self, id: NodeId) {
        self.server(id.get()).disk_held = true;
        self.step(id, Event::DiskFailed);
    }

    pub(crate) fn raft(&self, id: u64) -> &Raft {
        self.servers[&node(id)].raft.as_ref().unwrap()
    }

    pub(crate) fn server(&mut self, id: u64) -> &mut Server {
        self.servers.get_mut(&node(id)).unwrap()
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let rafts = self.servers.values().filter_map(|server| server.raft.as_ref());
        let leaders = rafts.filter(|raft| raft.role() == quorate_core::Role::Leader);
        leaders.max_by_key(|raft| raft.current_term()).map(Raft::id)
    }

    fn note(&mut self, check: impl FnOnce(&mut ClusterChecker) -> Result<(), Violation>) {
        if let Err(violation) = check(&mut self.checker) {
            self.violation.get_or_insert(violation);
        }
    }

    /// Gives a server an event and carries out what it asks for, except what takes time.
    pub(crate) fn step(&mut self, id: NodeId, event: Event) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Some(mut raft) = server.raft.take() else { return };
        if let Some(recording) = &mut server.recording {
            recording.note(self.now, &event);
        }
        let mut effects = Vec::new();
        let is_out = raft.is_poisoned();
        raft.step(self.now, event, &mut effects);
        let acts = |effect: &Effect| matches!(effect, Effect::Send { .. } | Effect::Persist(_));
        assert!(!is_out || !effects.iter().any(acts), "n{id} takes part again: {effects:?}");
        self.note(|checker| checker.observe(&raft));
        self.servers.get_mut(&id).unwrap().raft = Some(raft);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::Persist(persist) => {
                for entry in &persist.entries {
                    self.note(|checker| checker.observe_entry(id, entry));
                }
                self.servers.get_mut(&id).unwrap().writes.push_back(persist);
            }
            Effect::Apply { entries } => {
                for entry in &entries {
                    self.note(|checker| checker.observe_apply(id, entry));
                }
                self.servers.get_mut(&id).unwrap().batches.push_back(entries);
            }
            Effect::ProposalAppended { id: proposal, log_id } => {
                self.answers.push(format!("n{id} proposal {proposal} appended at {log_id}"));
            }
            Effect::ProposalRefused { id: proposal, reason } => {
                self.answers.push(format!("n{id} proposal {proposal} refused: {reason:?}"));
            }
            Effect::ReadReady { id: read, index } => {
                self.answers.push(format!("n{id} read {read} ready at {index}"));
            }
            Effect::ReadRefused { id: read, reason } => {
                self.answers.push(format!("n{id} read {read} refused: {reason:?}"));
            }
            Effect::MembershipAppended { id: change, log_id } => {
                self.answers.push(format!("n{id} change {change} stands at {log_id}"));
            }
            Effect::MembershipRefused { id: change, reason } => {
                self.answers.push(format!("n{id} change {change} refused: {reason}"));
            }
            Effect::LoadSpares { peer, first, max_bytes } => {
                let server = self.servers.get_mut(&id).unwrap();
                let entries = server.disk.load_spares(first, max_bytes);
                server.completions.push_back(Event::SparesLoaded { peer, entries });
            }
            Effect::Load(_)
            | Effect::TakeSnapshot { .. }
            | Effect::ReadSnapshotChunk { .. }
            | Effect::WriteSnapshotChunk { .. }
            | Effect::RestoreSnapshot { .. }
            | Effect::ReleasePrefix { .. } => self.use_storage(id, effect),
        }
    }

    fn use_storage(&mut self, id: NodeId, effect: Effect) {
        let server = self.servers.get_mut(&id).unwrap();
        let raft = server.raft.as_ref().unwrap();
        let completion = match effect {
            Effect::Load(request) => {
                Some(Event::Loaded { request, entries: server.disk.load(request) })
            }
            Effect::TakeSnapshot { at_least } => {
                assert!(server.machine.index() >= at_least, "the base of a log is applied");
                let last_included = *server.machine.applied.last().unwrap();
                let configuration = server.disk.configuration_at(last_included.index);
                let meta = SnapshotMeta { last_included, configuration };
                let snapshot = (meta.clone(), server.machine.encode());
                server.disk.snapshots.insert(last_included, snapshot);
                Some(Event::SnapshotReady { meta })
            }
            Effect::ReadSnapshotChunk { peer, last_included, offset, max_bytes } => {
                Some(match server.disk.snapshots.get(&last_included) {
                    None => Event::SnapshotGone { peer, last_included },
                    Some((_, bytes)) => {
                        let start = usize::try_from(offset).unwrap().min(bytes.len());
                        let end = (start + max_bytes).min(bytes.len());
                        let (chunk, done) = (bytes.slice(start..end), end == bytes.len());
                        Event::SnapshotChunk { peer, last_included, offset, chunk, done }
                    }
                })
            }
            Effect::WriteSnapshotChunk { meta, offset, chunk, done } => {
                server.disk.received.truncate(usize::try_from(offset).unwrap());
                server.disk.received.extend_from_slice(&chunk);
                let last_included = meta.last_included;
                if done {
                    let bytes = Bytes::from(server.disk.received.clone());
                    server.disk.snapshots.insert(last_included, (meta, bytes));
                }
                let next_offset = u64::try_from(server.disk.received.len()).unwrap();
                Some(Event::SnapshotWritten { last_included, next_offset, complete: done })
            }
            Effect::RestoreSnapshot { meta } => {
                assert!(server.batches.is_empty(), "the state machine is idle when replaced");
                let (_, bytes) = &server.disk.snapshots[&meta.last_included];
                server.machine = Machine::decode(bytes);
                self.checker.observe_restore(id, meta.last_included.index);
                Some(Event::SnapshotRestored { last_included: meta.last_included })
            }
            Effect::ReleasePrefix { base } => {
                assert!(server.machine.index() >= base.last_included.index);
                assert!(raft.commit_index() >= base.last_included.index);
                let mut machine = server.machine.clone();
                machine.applied.retain(|applied| applied.index <= base.last_included.index);
                let snapshot = (base.clone(), machine.encode());
                server.disk.snapshots.insert(base.last_included, snapshot);
                let above = |entry: &Entry| entry.log_id.index > base.last_included.index;
                server.disk.entries.retain(above);
                server.disk.base = base;
                None
            }
            Effect::Send { .. }
            | Effect::Persist(_)
            | Effect::LoadSpares { .. }
            | Effect::Apply { .. }
            | Effect::ProposalAppended { .. }
            | Effect::ProposalRefused { .. }
            | Effect::ReadReady { .. }
            | Effect::ReadRefused { .. }
            | Effect::MembershipAppended { .. }
            | Effect::MembershipRefused { .. } => None,
        };
        server.completions.extend(completion);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.sent_count += 1;
        if let Message::AppendEntries(request) = &message {
            self.sent_bytes += request.entries.iter().map(Entry::size_bytes).sum::<usize>();
        }
        let is_cut = self.cut.contains(&(from, to));
        if let Some(trace) = &mut self.trace {
            let lost = if is_cut { " (lost)" } else { "" };
            trace.push(format!("n{from}->n{to} {}{lost}", describe(&message)));
        }
        if !is_cut {
            self.network.push_back(Envelope { from, to, message });
        }
    }

    pub(crate) fn deliver(&mut self, envelope: Envelope) {
        let Envelope { from, to, message } = envelope;
        self.step(to, Event::Message { from, message });
    }

    /// Lets one thing finish that needs no time: a write, a batch, a completion.
    pub(crate) fn work(&mut self, id: NodeId) -> bool {
        let server = self.servers.get_mut(&id).unwrap();
        if let Some(event) = server.completions.pop_front() {
            self.step(id, event);
        } else if !server.disk_held && !server.writes.is_empty() {
            self.finish_write(id);
        } else if !server.machine_held && !server.batches.is_empty() {
            let batch = server.batches.pop_front().unwrap();
            for entry in &batch {
                server.machine.apply(entry);
            }
            let index = server.machine.index();
            self.step(id, Event::Applied { index });
        } else {
            return false;
        }
        true
    }

    pub(crate) fn finish_write(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).unwrap();
        if let Some(persist) = server.writes.pop_front() {
            server.disk.write(&persist);
            self.step(id, Event::Persisted { seq: persist.seq });
        }
    }

    /// Delivers and works until nothing is left that needs no time.
    pub(crate) fn stabilize(&mut self) {
        self.stabilize_until(|_| false);
    }

    /// As [`Self::stabilize`], but stops as soon as the cluster is as wished.
    pub(crate) fn stabilize_until(&mut self, is_as_wished: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if is_as_wished(self) {
                return;
            }
            let ids: Vec<NodeId> = self.servers.keys().copied().collect();
            let worked = ids.into_iter().fold(false, |worked, id| self.work(id) | worked);
            match self.network.pop_front() {
                Some(envelope) => self.deliver(envelope),
                None if !worked => return,
                None => {}
            }
        }
        panic!("the cluster does not come to rest");
    }

    pub(crate) fn next_deadline(&self) -> Option<(Time, NodeId)> {
        let rafts = self.servers.values().filter_map(|server| server.raft.as_ref());
        rafts.filter_map(|raft| Some((raft.next_deadline()?, raft.id()))).min()
    }

    /// Lets time pass; deadlines are served when they come, everything else takes no time.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.stabilize();
        while let Some((at, id)) = self.next_deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.step(id, Event::Deadline);
            self.stabilize();
        }
        self.now = end;
    }

    /// Jumps to the moment at which `id` would campaign, and has it campaign. Others sleep.
    pub(crate) fn time_out(&mut self, id: u64) {
        let deadline = self.raft(id).next_deadline().unwrap();
        self.now = self.now.max(deadline);
        self.step(node(id), Event::Deadline);
    }

    /// Elects `id` and lets everything come to rest.
    pub(crate) fn elect(&mut self, id: u64) {
        self.time_out(id);
        self.stabilize();
        assert_eq!(self.leader(), Some(node(id)), "n{id} leads");
    }

    pub(crate) fn propose(&mut self, id: u64, commands: &[&str]) {
        let server = self.server(id);
        let proposals = commands.iter().map(|text| {
            server.next_proposal += 1;
            let id = ProposalId::new(server.next_proposal);
            Proposal::plain(id, Bytes::copy_from_slice(text.as_bytes()))
        });
        let proposals = proposals.collect();
        self.step(node(id), Event::Propose(proposals));
    }

    pub(crate) fn read(&mut self, id: u64, read: u64) {
        self.step(node(id), Event::Read { id: ReadId::new(read) });
    }

    pub(crate) fn change(&mut self, id: u64, command: MembershipCommand) {
        self.next_change += 1;
        let change = ChangeId::new(self.next_change);
        self.step(node(id), Event::ChangeMembership { id: change, command });
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        for other in self.servers.keys().copied().filter(|other| *other != node(id)) {
            self.cut.insert((node(id), other));
            self.cut.insert((other, node(id)));
        }
        let cut = &self.cut;
        self.network.retain(|envelope| !cut.contains(&(envelope.from, envelope.to)));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn assert_safe(&self) {
        assert_eq!(self.violation, None);
        for (id, server) in &self.servers {
            let poisoned = server.raft.as_ref().and_then(|raft| raft.status().poisoned);
            assert_eq!(poisoned, None, "n{id}");
        }
    }
}

/// A message in one line.
pub(crate) fn describe(message: &Message) -> String {
    let term = message.term();
    match message {
        Message::RequestVote(m) => format!("{:?}Request term={term} last={}", m.phase, m.last_log),
        Message::RequestVoteResponse(m) => {
            format!("{:?}Response term={term} granted={}", m.phase, m.granted)
        }
        Message::AppendEntries(m) => {
            let entries: Vec<String> = m.entries.iter().map(|e| e.log_id.to_string()).collect();
            let commit = m.leader_commit;
            let entries = entries.join(",");
            format!(
                "AppendEntries term={term} prev={} entries=[{entries}] commit={commit}",
                m.prev_log
            )
        }
        Message::AppendEntriesResponse(m) => {
            format!("AppendEntriesResponse term={term} {}", outcome(m.outcome))
        }
        Message::Heartbeat(m) => match m.round {
            Some(round) => {
                format!("Heartbeat term={term} commit={} round={round}", m.leader_commit)
            }
            None => format!("CommitNotice term={term} commit={}", m.leader_commit),
        },
        Message::HeartbeatResponse(m) if m.promise.is_zero() => {
            format!("HeartbeatResponse term={term} round={}", m.round)
        }
        Message::HeartbeatResponse(m) => {
            format!("HeartbeatResponse term={term} round={} promise={:?}", m.round, m.promise)
        }
        Message::InstallSnapshot(m) => format!(
            "InstallSnapshot term={term} {} offset={} size={} done={}",
            m.meta.last_included,
            m.offset,
            m.chunk.len(),
            m.done
        ),
        Message::InstallSnapshotResponse(m) => format!(
            "InstallSnapshotResponse term={term} {} next={} installed={}",
            m.last_included, m.next_offset, m.installed
        ),
        Message::TimeoutNow(_) => format!("TimeoutNow term={term}"),
        Message::ReadIndex(m) => match m.max_drift {
            Some(drift) => format!("ReadIndex term={term} drift={}", drift.get()),
            None => format!("ReadIndex term={term}"),
        },
        Message::NotAMember(m) => format!("NotAMember version={}", m.version),
        Message::LostEntries(m) => format!("LostEntries after={} known={}", m.after, m.known),
        Message::LostEntriesResponse(m) => match &m.lent {
            None => format!("LostEntriesResponse after={} nothing", m.after),
            Some(lent) => {
                let ids: Vec<String> = lent.entries.iter().map(|e| e.log_id.to_string()).collect();
                let previous = lent.previous.map_or("?".to_owned(), |id| id.to_string());
                let (after, entries, reaches) = (m.after, ids.join(","), lent.reaches);
                format!(
                    "LostEntriesResponse after={after} prev={previous} entries=[{entries}] \
                     reaches={reaches}"
                )
            }
        },
        Message::ReadIndexResponse(m) => match m.index {
            Some(index) => format!("ReadIndexResponse term={term} index={index}"),
            None => format!("ReadIndexResponse term={term} refused"),
        },
    }
}

fn outcome(outcome: quorate_core::AppendOutcome) -> String {
    use quorate_core::AppendOutcome::{Accepted, Rejected, StaleTerm};
    match outcome {
        Accepted { matched } => format!("matched={matched}"),
        Rejected { prev_index, hint } => format!("rejected={prev_index} hint={}", hint.candidate),
        StaleTerm => "stale term".to_owned(),
    }
}
