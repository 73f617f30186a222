//! The judges of sessions and of weaker reads bite: each deliberate fault is noticed within a
//! stated number of seeds, by worlds that do not know which fault they carry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{
    Checkpoint, Committed, Fatal, Note, Notebook, QueryError, Replies, SessionLimits,
    SessionRequest, SnapshotView, StateMachine,
};
use quorate_core::{LogId, LogIndex, NodeId};
use quorate_sim::kv::{KvApplication, KvOptions};
use quorate_sim::{
    Application, Breach, ClientOptions, ClusterOptions, Complaint, Examined, Findings, Home,
    Machine, OpId, Outcome, Request, Rng, SessionFault, Subject, World,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

/// How many seeds a deliberate fault may survive.
const SEEDS_MAX: u64 = 60;
const STEPS: u64 = 8_000;

/// What is wrong with the store, or with the library that its clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The store is durable, and the node's notes are not.
    LosesNotes,
    /// That a command was applied is remembered; what was replied is not.
    ForgetsReplies,
    /// A command that is sent again is sent like one without a session.
    SendsAgainWithoutSession,
    /// A weaker read is now and then answered from the state of some time ago.
    WeakReadsGoBack,
}

/// An application with a fault in what is around it.
struct Mutant<A> {
    store: A,
    wrong: Wrong,
    sent: BTreeSet<(u64, u64)>,
    queries: BTreeMap<OpId, Bytes>,
    shown: BTreeMap<Bytes, Bytes>,
}

impl<A: Application> Application for Mutant<A> {
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal> {
        let Machine { machine, digest } = self.store.machine(home)?;
        if self.wrong != Wrong::LosesNotes {
            return Ok(Machine { machine, digest });
        }
        Ok(Machine { machine: Box::new(Forgetful(machine)), digest })
    }

    fn wiped(&mut self, node: NodeId) {
        self.store.wiped(node);
    }

    fn request(&mut self, op: OpId, moment: u64, rng: &mut Rng) -> Request {
        let request = self.store.request(op, moment, rng);
        if let Request::Weak { query, .. } = &request {
            self.queries.insert(op, query.clone());
        }
        match request {
            Request::InSession(SessionRequest::Command { session, number, command, .. })
                if self.wrong == Wrong::SendsAgainWithoutSession
                    && !self.sent.insert((session.id.get(), number)) =>
            {
                Request::Command(command)
            }
            Request::Command(_)
            | Request::Query(_)
            | Request::InSession(_)
            | Request::Weak { .. } => request,
        }
    }

    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint> {
        let outcome = match (self.queries.remove(&op), outcome) {
            (Some(query), Outcome::Weak { reply, node, life, order }) => {
                let old = self.shown.entry(query).or_insert_with(|| reply.clone()).clone();
                let is_hit = self.wrong == Wrong::WeakReadsGoBack && order % 3 == 0;
                Outcome::Weak { reply: if is_hit { old } else { reply }, node, life, order }
            }
            (_, outcome) => outcome,
        };
        self.store.answered(op, moment, outcome)
    }

    fn session_limits(&self) -> Option<SessionLimits> {
        let limits = self.store.session_limits()?;
        match self.wrong {
            Wrong::ForgetsReplies => Some(SessionLimits { reply_bytes_max: 0, ..limits }),
            Wrong::Nothing
            | Wrong::LosesNotes
            | Wrong::SendsAgainWithoutSession
            | Wrong::WeakReadsGoBack => Some(limits),
        }
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
}

/// A state machine whose notes are gone after a restart.
struct Forgetful(Box<dyn StateMachine>);

impl StateMachine for Forgetful {
    fn applied(&self) -> LogIndex {
        self.0.applied()
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.0.apply(batch, replies)
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.0.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.0.view()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.0.checkpoint()
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        self.0.notebook()?;
        Some(self)
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.0.restore(last_included, source)
    }
}

impl Notebook for Forgetful {
    fn rows(&self) -> Result<Vec<(Bytes, Bytes)>, Fatal> {
        Ok(Vec::new())
    }

    fn keep(&mut self, through: LogIndex, notes: Vec<Note>) -> Result<(), Fatal> {
        self.0.notebook().expect("it keeps notes").keep(through, notes)
    }

    fn replace_with_restore(&mut self, rows: Vec<(Bytes, Bytes)>) {
        self.0.notebook().expect("it keeps notes").replace_with_restore(rows);
    }
}

fn store(seed: u64) -> KvApplication {
    KvApplication::new(KvOptions::draw(&mut Rng::new(seed).fork("kv")))
}

/// A list of all commands, in the order of the log, as somebody's own state machine.
#[derive(Clone, Default)]
struct List(Vec<Bytes>);

impl StateMachine for List {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            self.0.push(command.clone());
            replies.push("noted");
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.0.len().to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut text = String::new();
        let read = source.read_to_string(&mut text);
        read.map_err(|error| Fatal::caused_by("the snapshot cannot be read", error))?;
        self.0 = text.lines().map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
        Ok(())
    }
}

impl SnapshotView for List {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|line| target.write_all(&[line, &b"\n"[..]].concat()))
    }
}

struct ListTest;

impl Subject for ListTest {
    fn machine(&self, _: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        Ok(Box::new(List::default()))
    }

    fn request(&self, number: u64, rng: &mut Rng) -> Request {
        if rng.coin() {
            Request::Query("how many".into())
        } else {
            Request::Command(number.to_string().into())
        }
    }
}

fn list(seed: u64) -> Examined<ListTest> {
    Examined::new(ListTest, ClientOptions::draw(&mut Rng::new(seed).fork("clients")))
}

/// The first breach within the budget, and at which seed.
fn hunt(wrong: Wrong, change: impl Fn(&mut ClusterOptions)) -> Option<(u64, Breach)> {
    hunt_in(store, wrong, change)
}

fn hunt_in<A: Application>(
    application: impl Fn(u64) -> A,
    wrong: Wrong,
    change: impl Fn(&mut ClusterOptions),
) -> Option<(u64, Breach)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let mut options = ClusterOptions::swarm(seed, 5);
        change(&mut options);
        let (store, sent) = (application(seed), BTreeSet::new());
        let (queries, shown) = (BTreeMap::new(), BTreeMap::new());
        let application = Mutant { store, wrong, sent, queries, shown };
        let world = World { seed, node_count: 5, steps: STEPS };
        world.run_with(options, application).err().map(|violation| (seed, violation.breach))
    })
}

/// The same fault around somebody's own state machine: what its judge says of it.
fn complaint_about(wrong: Wrong) -> String {
    // By the history alone: the nodes would find that they reply differently.
    let alone = |options: &mut ClusterOptions| options.driver.digest_window_count = 0;
    let (seed, breach) = hunt_in(list, wrong, alone).expect("no judge noticed");
    println!("{wrong:?}: noticed at seed {seed}: {breach}");
    let Breach::Application(Complaint(complaint)) = breach else { panic!("{breach}") };
    complaint
}

fn is_caught(wrong: Wrong) {
    let (seed, breach) = hunt(wrong, |_| {}).expect("no judge noticed");
    println!("{wrong:?}: noticed at seed {seed}: {breach}");
}

#[test]
fn a_change_that_changes_nothing_survives() {
    if let Some((seed, breach)) = hunt(Wrong::Nothing, |_| {}) {
        panic!("seed {seed}: {breach}");
    }
}

#[test]
fn a_table_that_is_not_in_the_snapshots_is_noticed() {
    let left_out = |options: &mut ClusterOptions| {
        options.faults.sessions = Some(SessionFault::LeftOutOfSnapshots);
    };
    let (seed, breach) = hunt(Wrong::Nothing, left_out).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn a_table_that_only_the_leader_keeps_is_noticed() {
    let leader_only = |options: &mut ClusterOptions| {
        options.faults.sessions = Some(SessionFault::KeptByTheLeader);
    };
    let (seed, breach) = hunt(Wrong::Nothing, leader_only).expect("no judge noticed");
    println!("noticed at seed {seed}: {breach}");
}

#[test]
fn notes_that_are_not_durable_with_the_state_are_noticed() {
    is_caught(Wrong::LosesNotes);
}

#[test]
fn replies_that_are_not_remembered_are_noticed() {
    is_caught(Wrong::ForgetsReplies);
}

#[test]
fn a_command_that_is_applied_again_is_noticed() {
    is_caught(Wrong::SendsAgainWithoutSession);
}

#[test]
fn weaker_reads_that_go_back_are_noticed() {
    is_caught(Wrong::WeakReadsGoBack);
}

#[test]
fn around_a_subject_a_change_that_changes_nothing_survives() {
    if let Some((seed, breach)) = hunt_in(list, Wrong::Nothing, |_| {}) {
        panic!("seed {seed}: {breach}");
    }
}

#[test]
fn a_command_that_a_subject_is_given_again_is_noticed() {
    let complaint = complaint_about(Wrong::SendsAgainWithoutSession);
    let words = ["once more than it can", "and then Told"];
    assert!(words.iter().any(|words| complaint.contains(words)), "{complaint}");
}

#[test]
fn replies_to_a_subject_that_are_not_remembered_are_noticed() {
    let complaint = complaint_about(Wrong::ForgetsReplies);
    assert!(complaint.contains("is forgotten"), "{complaint}");
}

#[test]
fn weaker_reads_of_a_subject_that_go_back_are_noticed() {
    let complaint = complaint_about(Wrong::WeakReadsGoBack);
    assert!(complaint.contains("a weaker read"), "{complaint}");
}
