//! The key-value store of crate `quorate-kv` as a simulated application: its clients, and the judge
//! of what they are told. Knows nothing of nodes, faults or time.

mod alarms;
mod codec;
mod describe;
mod forbidden;
mod histories;
mod leases;
mod model;
mod odd;
mod options;
mod reference;
mod revisions;
mod sessions;
mod storage;
mod volatile;
mod watch;
mod weak_reads;

pub use crate::sessions::SessionOptions;
pub use model::{KeyModel, KeyOp, KeyReply, Value};
pub use options::KvOptions;
pub use watch::WatchFault;

use crate::application::{Application, Complaint, Findings, Home, Machine, OpId, Outcome, Request};
use crate::counts::Counts;
use crate::faults::Faults;
use crate::judge::linearizable::Operation;
use crate::rng::{Chance, Rng};
use alarms::Alarms;
use bytes::Bytes;
use codec::Told;
use leases::Leases;
use odd::Odd;
use quorate::{Consistency, Fatal, SessionLimits};
use quorate_core::NodeId;
use quorate_kv::{AlarmKind, Limits, Reader};
use reference::Reference;
use revisions::Revisions;
use sessions::{FirstAnswer, Heard, Sessions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storage::{Storage, Watched};
use volatile::Volatile;
use watch::Watchers;
use weak_reads::{Served, WeakReads};

/// The store, its clients and its judge.
pub struct KvApplication {
    options: KvOptions,
    storages: BTreeMap<NodeId, Storage>,
    start_count: u64,
    reference: Arc<Mutex<Reference>>,
    odd: Odd,
    leases: Leases,
    alarms: Alarms,
    watchers: Watchers,
    issued_count: u64,
    open: BTreeMap<OpId, Asked>,
    scans: BTreeSet<OpId>,
    histories: BTreeMap<Bytes, History>,
    revisions: Revisions,
    findings: Findings,
    /// Keys of closed histories with a deletion that nobody knows the outcome of.
    doubtful: BTreeSet<Bytes>,
    sessions: Sessions,
    weak: BTreeMap<OpId, WeakAsked>,
    weak_reads: WeakReads,
}

/// A request whose answer is open.
#[derive(Clone, Debug)]
struct Asked {
    key: Bytes,
    op: KeyOp,
    want_previous: bool,
    moment: u64,
    floor: u64,
}

/// A read that promises less than linearizability.
#[derive(Clone, Debug)]
struct WeakAsked {
    key: Bytes,
    /// The revision that it promises to show at least.
    floor: u64,
}

/// What clients did with one key.
#[derive(Debug, Default)]
struct History {
    operations: Vec<Operation<KeyOp, KeyReply>>,
    open_count: u64,
    /// No client will choose this key again.
    is_past: bool,
    /// Values worth expecting.
    known_values: Vec<Value>,
}

impl KvApplication {
    /// An application for one world.
    #[must_use]
    pub fn new(options: KvOptions) -> Self {
        Self {
            options,
            storages: BTreeMap::new(),
            start_count: 0,
            reference: Arc::default(),
            odd: Odd::default(),
            leases: Leases::default(),
            alarms: Alarms::default(),
            watchers: Watchers::draw(options.watcher_count, &mut Rng::new(options.watch_seed)),
            issued_count: 0,
            open: BTreeMap::new(),
            scans: BTreeSet::new(),
            histories: BTreeMap::new(),
            revisions: Revisions::default(),
            findings: Findings::default(),
            doubtful: BTreeSet::new(),
            sessions: Sessions::new(options.sessions),
            weak: BTreeMap::new(),
            weak_reads: WeakReads::default(),
        }
    }

    /// The same with a fault in what watchers are told, to see whether their judge notices.
    #[must_use]
    pub fn with_watch_fault(mut self, fault: WatchFault) -> Self {
        self.watchers.fault = Some(fault);
        self
    }

    /// An operation on a key, as [`Application::request`] would issue it; for stories.
    pub fn ask(&mut self, op: OpId, moment: u64, key: &str, what: KeyOp) -> Request {
        self.issue(op, moment, Bytes::copy_from_slice(key.as_bytes()), what, true)
    }

    /// What an answer to a request of [`Self::ask`] says; `None` if it says nothing of the key.
    #[must_use]
    pub fn reply(what: KeyOp, outcome: &Outcome) -> Option<KeyReply> {
        let told = match outcome {
            Outcome::Applied { reply, .. } => codec::command_reply(what, true, reply),
            Outcome::Read { reply } | Outcome::Weak { reply, .. } => codec::read_reply(reply),
            Outcome::Refused { .. } | Outcome::NoEffect | Outcome::Unknown => return None,
        };
        told.ok().map(|told| told.reply)
    }

    fn issue(
        &mut self,
        id: OpId,
        moment: u64,
        key: Bytes,
        op: KeyOp,
        want_previous: bool,
    ) -> Request {
        let history = self.histories.entry(key.clone()).or_default();
        history.open_count += 1;
        let request = codec::request(&key, op, want_previous);
        let floor = self.revisions.floor();
        self.open.insert(id, Asked { key, op, want_previous, moment, floor });
        request
    }

    fn choose(&self, key: &Bytes, id: OpId, rng: &mut Rng) -> KeyOp {
        let [gets, puts, deletes, swaps] = self.options.weights;
        let at = rng.below(gets + puts + deletes + swaps);
        let value = id.0;
        if at < gets {
            KeyOp::Get
        } else if at < gets + puts {
            KeyOp::Put { value }
        } else if at < gets + puts + deletes {
            KeyOp::Delete
        } else {
            let known = self.histories.get(key).map(|history| history.known_values.as_slice());
            let recent = known.unwrap_or_default();
            let recent = recent.get(recent.len().saturating_sub(3)..).unwrap_or_default();
            let expected = if rng.below(4) == 0 { None } else { rng.pick(recent).copied() };
            KeyOp::Swap { expected, value }
        }
    }

    fn reference(&self) -> MutexGuard<'_, Reference> {
        self.reference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn about_alarms(&mut self, op: OpId, rng: &mut Rng) -> Option<Request> {
        let nodes: Vec<NodeId> = self.storages.keys().copied().collect();
        let reference = self.reference.lock().unwrap_or_else(PoisonError::into_inner);
        self.alarms.request(op, &reference.forbidden.raised(), &nodes, rng)
    }

    /// An alarm forbade it: that is as if nobody had asked.
    fn forbidden(&mut self, asked: &Asked, revision: u64) -> Result<(), Complaint> {
        self.revisions.forbidden(asked.floor, revision)?;
        self.weak_reads.refused(asked.op);
        self.closed(&asked.key)
    }

    /// A get that any node may answer by itself, or one that waits for a known place in the log.
    fn weak_get(&mut self, op: OpId, key: Bytes, rng: &mut Rng) -> Request {
        let query = match codec::request(&key, KeyOp::Get, false) {
            Request::Query(query) => query,
            Request::Command(_) | Request::InSession(_) | Request::Weak { .. } => Bytes::new(),
        };
        let (index, revision) = self.weak_reads.known_place();
        let (consistency, floor) = if rng.coin() {
            (Consistency::Local, 0)
        } else {
            (Consistency::AtLeast(index), revision)
        };
        self.weak.insert(op, WeakAsked { key, floor });
        Request::Weak { query, consistency }
    }

    fn weakly_answered(&mut self, asked: &WeakAsked, outcome: &Outcome) -> Result<(), Complaint> {
        let Outcome::Weak { reply, node, life, order } = outcome else { return Ok(()) };
        let told = codec::read_reply(reply)?;
        let at = i64::try_from(told.revision).unwrap_or(i64::MAX);
        self.reference().showed(&asked.key, at, reply)?;
        // It may show less than others were told; what it shows is known from now on.
        self.revisions.told(&asked.key, KeyOp::Get, 0, &told)?;
        let served = Served { node: *node, life: *life, order: *order };
        self.weak_reads.shown(&asked.key, asked.floor, served, &told)
    }

    fn heard(&mut self, asked: &Asked, moment: u64, told: &Told) -> Result<(), Complaint> {
        self.revisions.told(&asked.key, asked.op, asked.floor, told)?;
        self.weak_reads.changed(&asked.key, asked.op, told);
        let history = self.histories.entry(asked.key.clone()).or_default();
        history.known_values.extend(told.seen.iter().map(|(value, _)| *value));
        match (asked.op, told.reply) {
            (KeyOp::Put { value }, _) | (KeyOp::Swap { value, .. }, KeyReply::Swapped) => {
                history.known_values.push(value);
            }
            (KeyOp::Get | KeyOp::Delete | KeyOp::Swap { .. }, _) => {}
        }
        self.record(asked, Some((moment, told.reply)))
    }
}

impl Application for KvApplication {
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal> {
        let node = home.node;
        let KvOptions { is_volatile, slow_storage, flush_size_bytes, .. } = self.options;
        let left = self.storages.entry(node).or_default();
        let storage = left.after_crash(is_volatile, slow_storage.is_some());
        *left = storage.clone();
        self.start_count += 1;
        let mut rng = Rng::new(slow_storage.unwrap_or_default().wrapping_add(self.start_count));
        let limits = Limits { flush_size_bytes, overlay_size_bytes_max: usize::MAX };
        let engine = Arc::new(storage.clone());
        match quorate_kv::open_with(engine.clone(), engine, limits) {
            Ok((machine, reader)) => {
                storage.set_failures(home.engine_fails, rng.fork("engine"));
                storage.set_renewals(self.options.renewal_part_bytes);
                self.watchers.started(node, &reader);
                Ok(Machine {
                    machine: Box::new(Watched {
                        machine: if is_volatile {
                            Box::new(Volatile(Box::new(machine)))
                        } else {
                            Box::new(machine)
                        },
                        storage,
                        reference: Arc::clone(&self.reference),
                        rng,
                    }),
                    digest: Some(Box::new(move || digest(&reader))),
                })
            }
            Err(error) => Err(Fatal::caused_by("the store cannot be opened", error)),
        }
    }

    fn begin(&mut self, faults: &Faults) {
        self.alarms.set_chance(faults.alarms);
    }

    fn count(&self, counts: &mut Counts) {
        let reference = self.reference();
        counts.alarms += reference.forbidden.raised_count;
        counts.state_renewals += reference.renewed_count;
        counts.ops_forbidden += reference.forbidden_count();
    }

    fn request(&mut self, op: OpId, moment: u64, rng: &mut Rng) -> Request {
        let KvOptions { key_count, ops_per_key, .. } = self.options;
        let per_generation = (key_count * ops_per_key).max(1);
        self.issued_count += 1;
        if self.issued_count.is_multiple_of(per_generation) {
            self.histories.values_mut().for_each(|history| history.is_past = true);
        }
        let generation = self.issued_count / per_generation;
        if let Some(request) = self.about_alarms(op, rng) {
            return request;
        }
        if let Some(request) = self.sessions.request(op, self.revisions.floor(), rng) {
            return request;
        }
        if rng.below(100) < self.options.odd_percent {
            let newest = self.reference().revision();
            return self.odd.request(op, newest, rng);
        }
        if self.options.lease_percent > 0 && rng.below(100) < self.options.lease_percent {
            return self.leases.request(op, rng);
        }
        let key = Bytes::from(format!("k{generation}-{}", rng.below(key_count)));
        let what = self.choose(&key, op, rng);
        if what == KeyOp::Get && rng.below(100) < self.options.weak_percent {
            return self.weak_get(op, key, rng);
        }
        self.issue(op, moment, key, what, rng.coin())
    }

    fn disk_room(
        &mut self,
        node: NodeId,
        is_short: bool,
        next_op: &mut dyn FnMut() -> OpId,
    ) -> Option<(OpId, Request)> {
        let is_raised = self.has_disk_alarm(node);
        (is_raised != is_short).then(|| self.alarms.about_disk(node, is_short, next_op)).flatten()
    }

    fn has_disk_alarm(&self, node: NodeId) -> bool {
        self.reference().forbidden.has_full_disk(node.get())
    }

    fn settled(&mut self, node: NodeId) {
        if let Some(storage) = self.storages.get(&node) {
            storage.settle();
        }
    }

    fn take_failure(&mut self, node: NodeId) -> bool {
        self.storages.get(&node).is_some_and(Storage::take_failure)
    }

    fn healed(&mut self) {
        self.storages.values().for_each(Storage::heal);
        // What is raised is cleared, and nothing else raised.
        self.alarms.set_chance(Chance::NEVER);
    }

    fn crashed(&mut self, node: NodeId, at_work: bool, rng: &mut Rng) {
        if let Some(storage) = self.storages.get(&node).filter(|_| at_work) {
            storage.crash_at_work(rng);
        }
    }

    fn wiped(&mut self, node: NodeId) {
        self.storages.remove(&node);
    }

    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint> {
        self.reference().complaint()?;
        let reference = self.reference.lock().unwrap_or_else(PoisonError::into_inner);
        if let Outcome::Applied { log_id, reply } = &outcome {
            reference.told(log_id.index, reply)?;
        }
        if self.odd.answered(op, &outcome, &reference)? {
            return Ok(());
        }
        drop(reference);
        if self.leases.answered(op, &outcome) || self.alarms.answered(op) {
            return Ok(());
        }
        if self.scans.remove(&op) {
            return match outcome {
                Outcome::Read { reply } => {
                    self.sessions.scanned(&reply, |index| self.reference().forbade(index))?;
                    self.scanned(moment, &reply)
                }
                Outcome::Applied { .. }
                | Outcome::Weak { .. }
                | Outcome::Refused { .. }
                | Outcome::NoEffect
                | Outcome::Unknown => Ok(()),
            };
        }
        match self.sessions.answered(op, &outcome)? {
            Heard::NotOurs => {}
            Heard::Nothing => return Ok(()),
            Heard::First(FirstAnswer { key, op, floor, told }) => {
                return self.revisions.told(&key, op, floor, &told);
            }
        }
        if let Some(asked) = self.weak.remove(&op) {
            return self.weakly_answered(&asked, &outcome);
        }
        let Some(asked) = self.open.remove(&op) else { return Ok(()) };
        match outcome {
            Outcome::Applied { reply, .. } if codec::forbidden(&reply).is_some() => {
                self.forbidden(&asked, codec::forbidden(&reply).unwrap_or(0))
            }
            Outcome::Applied { log_id, reply } => {
                let told = codec::command_reply(asked.op, asked.want_previous, &reply)?;
                self.weak_reads.applied(log_id.index, &told);
                self.heard(&asked, moment, &told)
            }
            Outcome::Read { reply } => {
                let told = codec::read_reply(&reply)?;
                self.heard(&asked, moment, &told)
            }
            Outcome::NoEffect => {
                self.weak_reads.refused(asked.op);
                self.closed(&asked.key)
            }
            Outcome::Weak { .. } | Outcome::Refused { .. } => {
                Err(Complaint(format!("{:?} was answered by {outcome:?}", asked.op)))
            }
            Outcome::Unknown => self.record(&asked, None),
        }
    }

    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        let raised = self.reference().forbidden.raised();
        let clear = |raised| (next_op().0, raised);
        let clear: Vec<_> = raised.into_iter().map(clear).collect();
        let clear = clear.into_iter().map(|(op, raised)| (op, self.alarms.clear(op, raised)));
        let mut requests: Vec<_> = clear.collect();
        requests.extend(self.sessions.last_tries(next_op));
        for _ in 0..3 {
            let (op, moment) = next_op();
            let put = KeyOp::Put { value: op.0 };
            requests.push((op, self.issue(op, moment, Bytes::from_static(b"last"), put, true)));
            let (op, _) = next_op();
            self.scans.insert(op);
            requests.push((op, codec::scan_request()));
        }
        requests
    }

    fn describe(&self, op: OpId, _: &Request) -> String {
        self.words(op)
    }

    fn describe_outcome(&self, op: OpId, outcome: &Outcome) -> String {
        self.outcome_words(op, outcome)
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        self.reference().complaint()?;
        for (key, history) in std::mem::take(&mut self.histories) {
            self.check(&key, history)?;
        }
        let weak_count = self.weak_reads.verdict(|key| self.doubtful.contains(key))?;
        self.findings.checked_count += weak_count + self.sessions.acknowledged_count();
        let reference = self.reference.lock().unwrap_or_else(PoisonError::into_inner);
        self.watchers.finish(&reference)?;
        self.findings.watched_count = self.watchers.told_count();
        Ok(self.findings)
    }

    fn session_limits(&self) -> Option<SessionLimits> {
        Some(self.sessions.limits())
    }

    fn watcher_count(&self) -> usize {
        self.watchers.count()
    }

    fn look(
        &mut self,
        watcher: usize,
        up: &[NodeId],
        rng: &mut Rng,
    ) -> Result<Duration, Complaint> {
        let mut reference = self.reference.lock().unwrap_or_else(PoisonError::into_inner);
        self.watchers.look(watcher, up, &mut reference, rng)
    }
}

/// Of what a store holds, with leases and their keys, alarms and users; 0 if it cannot be read.
fn digest(reader: &Reader) -> u64 {
    let Ok(hash) = reader.hash(None) else { return 0 };
    let keys = |(id, lease)| (id, lease, reader.lease_keys(id).ok());
    let leases: Vec<_> = reader.leases().into_iter().map(keys).collect();
    let alarms = reader.alarms(AlarmKind::None);
    crate::hash::hash_of(format!("{hash:?}{leases:?}{alarms:?}{:?}", reader.auth()).as_bytes())
}
