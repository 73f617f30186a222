//! The judges bite: each deliberate fault is noticed within a stated number of seeds, by worlds
//! that do not know which fault they carry. A change that changes nothing is noticed by nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{
    Checkpoint, Committed, Fatal, Notebook, QueryError, Replies, SessionLimits, SnapshotView,
    StateMachine,
};
use quorate_core::{LogId, LogIndex, NodeId};
use quorate_sim::kv::{KvApplication, KvOptions};
use quorate_sim::{
    Application, Breach, Chance, ClusterOptions, Complaint, Crashes, Findings, Home, Machine, OpId,
    Outcome, Request, Rhythm, Rng, World,
};
use std::io::Read;
use std::time::Duration;

/// How many seeds a deliberate fault may survive.
const SEEDS_MAX: u64 = 20;
const STEPS: u64 = 8_000;

/// What is wrong with a state machine or with what its clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Every so many commands one is answered and not carried out.
    LosesAWrite,
    /// Only node 2 does so.
    DivergesOnOneNode,
    /// Every so many commands one is carried out twice.
    AppliesTwice,
    /// Reads are answered from the state of some time ago.
    StaleReads,
    /// Requests of unknown outcome are reported as having had no effect.
    CallsUnknownRefused,
}

/// The key-value store with a fault.
struct Mutant {
    store: KvApplication,
    wrong: Wrong,
}

struct MutantMachine {
    inner: Box<dyn StateMachine>,
    wrong: Wrong,
    node: NodeId,
    count: u64,
    stale: std::sync::Mutex<std::collections::BTreeMap<Vec<u8>, Bytes>>,
}

impl Application for Mutant {
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal> {
        let Machine { machine, digest } = self.store.machine(home)?;
        let node = home.node;
        let stale = std::sync::Mutex::default();
        let mutant = MutantMachine { inner: machine, wrong: self.wrong, node, count: 0, stale };
        Ok(Machine { machine: Box::new(mutant), digest })
    }

    fn wiped(&mut self, node: NodeId) {
        self.store.wiped(node);
    }

    fn request(&mut self, op: OpId, moment: u64, rng: &mut Rng) -> Request {
        self.store.request(op, moment, rng)
    }

    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint> {
        let outcome = match outcome {
            Outcome::Unknown if self.wrong == Wrong::CallsUnknownRefused => Outcome::NoEffect,
            Outcome::Applied { .. }
            | Outcome::Read { .. }
            | Outcome::Weak { .. }
            | Outcome::Refused { .. }
            | Outcome::NoEffect
            | Outcome::Unknown => outcome,
        };
        self.store.answered(op, moment, outcome)
    }

    fn session_limits(&self) -> Option<SessionLimits> {
        self.store.session_limits()
    }

    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        self.store.scan(next_op)
    }

    fn settled(&mut self, node: NodeId) {
        self.store.settled(node);
    }

    fn crashed(&mut self, node: NodeId, at_work: bool, rng: &mut Rng) {
        self.store.crashed(node, at_work, rng);
    }

    fn take_failure(&mut self, node: NodeId) -> bool {
        self.store.take_failure(node)
    }

    fn healed(&mut self) {
        self.store.healed();
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        self.store.verdict()
    }

    fn watcher_count(&self) -> usize {
        self.store.watcher_count()
    }

    fn look(
        &mut self,
        watcher: usize,
        up: &[NodeId],
        rng: &mut Rng,
    ) -> Result<Duration, Complaint> {
        self.store.look(watcher, up, rng)
    }
}

impl MutantMachine {
    fn apply_one(&mut self, committed: &Committed, replies: &mut Replies) -> Result<(), Fatal> {
        self.count += 1;
        let is_hit = committed.log_id.index.get().is_multiple_of(13);
        let is_lost = match self.wrong {
            Wrong::LosesAWrite => is_hit,
            Wrong::DivergesOnOneNode => is_hit && self.node.get() == 2,
            Wrong::Nothing
            | Wrong::AppliesTwice
            | Wrong::StaleReads
            | Wrong::CallsUnknownRefused => false,
        };
        let batch = std::slice::from_ref(committed);
        if is_lost {
            // The reply of a store that is thrown away.
            let Machine { mut machine, .. } =
                KvApplication::new(KvOptions::default()).machine(&Home::empty(NodeId::new(1)))?;
            return machine.apply(batch, replies);
        }
        self.inner.apply(batch, replies)?;
        if self.wrong == Wrong::AppliesTwice && is_hit {
            self.inner.apply(batch, &mut Replies::default())?;
        }
        Ok(())
    }
}

impl StateMachine for MutantMachine {
    fn applied(&self) -> LogIndex {
        self.inner.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        batch.iter().try_for_each(|committed| self.apply_one(committed, replies))
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        let fresh = self.inner.query(query)?;
        if self.wrong != Wrong::StaleReads {
            return Ok(fresh);
        }
        let mut stale = self.stale.lock().unwrap();
        Ok(stale.entry(query.to_vec()).or_insert(fresh).clone())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.inner.view()
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        self.inner.notebook()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.inner.checkpoint()
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.inner.restore(last_included, source)
    }
}

/// The first breach within the budget, and at which seed.
fn hunt(wrong: Wrong, change: impl Fn(&mut ClusterOptions)) -> Option<(u64, Breach)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let mut options = ClusterOptions::swarm(seed, 5);
        change(&mut options);
        let kv = KvOptions::draw(&mut Rng::new(seed).fork("kv"));
        let application = Mutant { store: KvApplication::new(kv), wrong };
        let world = World { seed, node_count: 5, steps: STEPS };
        world.run_with(options, application).err().map(|violation| (seed, violation.breach))
    })
}

fn is_caught(wrong: Wrong) {
    let (seed, breach) = hunt(wrong, |_| {}).expect("no judge noticed");
    println!("{wrong:?}: noticed at seed {seed}: {breach}");
}

#[test]
fn a_change_that_changes_nothing_survives() {
    assert!(hunt(Wrong::Nothing, |_| {}).is_none());
}

#[test]
fn a_disk_that_ignores_sync_is_noticed() {
    let lying = |options: &mut ClusterOptions| {
        options.faults.disk.faults.sync_lies = Chance::ALWAYS;
    };
    let (seed, breach) = hunt(Wrong::Nothing, lying).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn a_disk_that_ignores_one_sync_in_twenty_is_noticed() {
    let lying = |options: &mut ClusterOptions| {
        options.faults.disk.faults.sync_lies = Chance::percent(5);
    };
    let (seed, breach) = hunt(Wrong::Nothing, lying).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn a_runtime_that_believes_its_writes_too_early_is_noticed() {
    let early = |options: &mut ClusterOptions| options.faults.acks_too_early = true;
    let (seed, breach) = hunt(Wrong::Nothing, early).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn a_leader_that_keeps_its_office_while_its_disk_hangs_is_noticed() {
    let blind = |options: &mut ClusterOptions| {
        options.faults.blind_watchdogs = true;
        let (every, lasts_max) = (Duration::from_secs(2), Duration::from_mins(1));
        options.faults.disk.hangs = Some(Rhythm { every, lasts_max });
    };
    let (seed, breach) = hunt(Wrong::Nothing, blind).expect("no judge noticed");
    assert!(matches!(breach, Breach::LeadsWithoutDisk { .. }), "seed {seed}: {breach}");
}

#[test]
fn a_node_that_refuses_a_disk_nobody_knows_to_be_bad_is_noticed() {
    let secret = |options: &mut ClusterOptions| {
        options.faults.disk.damage_every = Some(Duration::from_secs(1));
        options.faults.disk.damage_is_secret = true;
    };
    let (seed, breach) = hunt(Wrong::Nothing, secret).expect("no judge noticed");
    let is_refusal = matches!(breach, Breach::DoesNotStart { .. } | Breach::NodeFailed { .. });
    assert!(is_refusal, "seed {seed}: {breach}");
}

/// The known weak spot of the log's format (docs/wal-format.md, "What this cannot see"): without
/// the atlas's exception a batch is lost, and it does not stay unnoticed.
#[test]
fn damage_that_looks_like_a_torn_write_is_noticed() {
    let anywhere = |options: &mut ClusterOptions| {
        // Mostly while a node is down: what is written later would show it to be damage.
        let rhythm = Rhythm { every: Duration::from_secs(1), lasts_max: Duration::from_secs(3) };
        let crashes = options.faults.crashes.get_or_insert(Crashes::mild(rhythm));
        crashes.rhythm = rhythm;
        options.idle_before_mark = None;
        options.faults.disk.damage_every = Some(Duration::from_secs(2));
        options.faults.disk.spares_majority = false;
        options.faults.disk.faults.damages_last_batch = true;
    };
    let (seed, breach) = hunt(Wrong::Nothing, anywhere).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn a_state_machine_that_loses_a_write_is_noticed() {
    is_caught(Wrong::LosesAWrite);
}

#[test]
fn a_replica_that_diverges_is_noticed() {
    is_caught(Wrong::DivergesOnOneNode);
}

#[test]
fn a_state_machine_that_applies_twice_is_noticed() {
    is_caught(Wrong::AppliesTwice);
}

#[test]
fn stale_reads_are_noticed() {
    is_caught(Wrong::StaleReads);
}

#[test]
fn an_unknown_outcome_that_is_called_refused_is_noticed() {
    is_caught(Wrong::CallsUnknownRefused);
}
