//! A state machine of your own under every fault and judge, for very little code: say how one is
//! made and what clients ask of it, and run [`examine`]. Whether the answers are right is decided
//! by the same program run for one user at a time; this room knows nothing of what it does.

mod examine;
mod vouch;
mod witness;

pub use examine::{examine, examine_from};

use crate::application::{Application, Complaint, Findings, Home, Machine, OpId, Outcome, Request};
use crate::cluster::ClusterOptions;
use crate::rng::Rng;
use crate::run::{World, Worlds};
use bytes::Bytes;
use quorate::{Committed, Fatal, Replies, StateMachine};
use quorate_core::{LogId, LogIndex, NodeId, Term};
use std::collections::BTreeMap;
use vouch::Words;
use witness::{Heard, Log, What, Witness};

/// A state machine of your own, and how clients use it.
pub trait Subject {
    /// The state machine of a node that starts: a new one, if its state is volatile, since the node
    /// gives it the newest snapshot and the log; or one with what its files in `home` held when the
    /// node went down, if it keeps its state there. It works in `home` and in the thread that calls
    /// it, and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Fatal`] if its files cannot be read, or hold what it has not written. That is right if the
    /// disk has failed or gone bad, and a breach if not.
    fn machine(&self, home: &Home) -> Result<Box<dyn StateMachine>, Fatal>;

    /// What a client does next; `number` is another one for each request.
    fn request(&self, number: u64, rng: &mut Rng) -> Request;

    /// The same program for one user at a time, which says what right answers are. If you have no
    /// other, the state machine itself, alone: that finds everything that replication may do to
    /// it, but not what it does wrong by itself.
    fn model(&self) -> Box<dyn Sequential> {
        let machine = self.machine(&Home::empty(NodeId::new(u64::MAX)));
        let machine = machine.unwrap_or_else(|fatal| Machine::broken(&fatal.to_string()).machine);
        Box::new(Alone { machine, applied: 0 })
    }

    /// Queries for the end, when the world is healed and quiet; they are judged like all others.
    fn last_look(&self) -> Vec<Bytes> {
        Vec::new()
    }
}

/// A program that one user has for himself.
pub trait Sequential {
    /// Carries a command out and replies.
    fn apply(&mut self, command: &Bytes) -> Bytes;

    /// Answers a query.
    fn query(&self, query: &Bytes) -> Bytes;
}

/// A state machine without replicas.
struct Alone {
    machine: Box<dyn StateMachine>,
    applied: u64,
}

impl Sequential for Alone {
    fn apply(&mut self, command: &Bytes) -> Bytes {
        self.applied += 1;
        let log_id = LogId { term: Term::new(1), index: LogIndex::new(self.applied) };
        let mut replies = Replies::default();
        let committed = Committed { log_id, command: command.clone() };
        match self.machine.apply(&[committed], &mut replies) {
            Ok(()) => replies.into_vec().pop().unwrap_or_default(),
            Err(fatal) => fatal.to_string().into(),
        }
    }

    fn query(&self, query: &Bytes) -> Bytes {
        self.machine.query(query).unwrap_or_else(|error| error.reason.into())
    }
}

/// A [`Subject`] as an [`Application`]: its clients, and the judge of what they hear.
///
/// The judge is told by the state machines which command stands where in the log, runs the model
/// in that order, and compares every reply. Each read has to be the model's answer at some moment
/// while it was under way, and no answer may contradict one that was given before it was asked:
/// linearizability, decided in linear time because the log is the order.
pub struct Examined<S> {
    subject: S,
    log: Log,
    words: Words,
    request_count: u64,
    open: BTreeMap<OpId, (u64, Request)>,
    heard: Vec<Heard>,
}

/// Worlds with a state machine of your own in them, under everything that the seed draws.
pub struct Subjects<F> {
    command: String,
    subject: F,
}

impl<F> Subjects<F> {
    /// `command` is what runs such worlds, before the flags of a case: lines to paste begin with it.
    pub fn new(command: impl Into<String>, subject: F) -> Self {
        Self { command: command.into(), subject }
    }
}

impl<S: Subject, F: Fn() -> S + Sync> Worlds for Subjects<F> {
    type App = Examined<S>;

    fn world(&self, world: &World) -> (ClusterOptions, Examined<S>) {
        let options = ClusterOptions::swarm(world.seed, world.node_count);
        (options, Examined::new((self.subject)()))
    }

    fn command(&self) -> String {
        self.command.clone()
    }
}

impl<S: Subject> Examined<S> {
    /// For one world.
    #[must_use]
    pub fn new(subject: S) -> Self {
        Self {
            subject,
            log: Log::default(),
            words: Words::default(),
            request_count: 0,
            open: BTreeMap::new(),
            heard: Vec::new(),
        }
    }
}

impl<S: Subject> Application for Examined<S> {
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal> {
        let machine = self.subject.machine(home).map_err(witness::with_causes)?;
        let node = home.node;
        let given = machine.applied();
        self.words.opened(node, given, home.is_sound);
        let (log, words) = (self.log.clone(), self.words.clone());
        let machine = Witness { node, machine, log, words, given, has_notebook: false };
        Ok(Machine { machine: Box::new(machine), digest: None })
    }

    fn settled(&mut self, node: NodeId) {
        self.words.settle(node);
    }

    fn wiped(&mut self, node: NodeId) {
        self.words.forget(node);
    }

    fn request(&mut self, op: OpId, moment: u64, rng: &mut Rng) -> Request {
        self.request_count += 1;
        let request = self.subject.request(self.request_count, rng);
        self.open.insert(op, (moment, request.clone()));
        request
    }

    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint> {
        self.words.check()?;
        let Some((invoked, request)) = self.open.remove(&op) else { return Ok(()) };
        let (Request::Command(asked) | Request::Query(asked)) = request else { return Ok(()) };
        let (what, reply) = match outcome {
            Outcome::Applied { log_id, reply } => (What::Command { at: log_id.index }, reply),
            Outcome::Read { reply } => (What::Query { before: self.log.end() }, reply),
            // The world's own judges see to it that a refused command is nowhere in the log.
            // Sessions and weaker reads are not judged here.
            Outcome::NoEffect
            | Outcome::Unknown
            | Outcome::Weak { .. }
            | Outcome::Refused { .. } => return Ok(()),
        };
        self.heard.push(Heard { invoked, returned: moment, asked, reply, what });
        Ok(())
    }

    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        let mut requests = Vec::new();
        for query in self.subject.last_look() {
            let (op, moment) = next_op();
            let request = Request::Query(query);
            self.open.insert(op, (moment, request.clone()));
            requests.push((op, request));
        }
        requests
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        self.words.check()?;
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_by_key(|heard| heard.invoked);
        let checked_count = u64::try_from(heard.len()).unwrap_or(u64::MAX);
        witness::judge(&mut *self.subject.model(), &self.log, &heard)?;
        Ok(Findings { checked_count, ..Findings::default() })
    }
}
