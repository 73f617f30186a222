//! A state machine of your own under every fault and judge, for very little code: say how one is
//! made and what clients ask of it, and run [`examine`]. Whether the answers are right is decided
//! by the same program run for one user at a time; this room knows nothing of what it does.

mod clients;
mod examine;
mod vouch;
mod weak_reads;
mod witness;

pub use clients::ClientOptions;
pub use examine::{examine, examine_from};

use crate::application::{Application, Complaint, Findings, Home, Machine, OpId, Outcome, Request};
use crate::cluster::ClusterOptions;
use crate::rng::Rng;
use crate::run::{World, Worlds};
use crate::sessions::{self, Told, Turn};
use bytes::Bytes;
use clients::{Clients, Moments};
use quorate::{
    Committed, Consistency, Fatal, Replies, SessionLimits, SessionRequest, StateMachine,
};
use quorate_core::{LogId, LogIndex, NodeId, Term};
use vouch::Words;
use weak_reads::WeakRead;
use witness::{Heard, History, Log, What, Witness};

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

    /// What a client does next; `number` is another one for each request. The world sees to the
    /// rest: it puts some commands into sessions and sends those again whose outcome is unknown,
    /// and asks some queries of a node's own state; both are judged.
    fn request(&self, number: u64, rng: &mut Rng) -> Request;

    /// Whether clients may put commands into sessions (§6.3). By default they do if the machine has
    /// a notebook for them, or is volatile and needs none: one that does not begin a
    /// [`StateMachine::checkpoint`] of its own.
    fn serves_sessions(&self) -> bool {
        clients::can_serve_sessions(self)
    }

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
/// linearizability, decided in linear time because the log is the order. A command stands there as
/// often as it was given, however often a session sent it; a read that promises less shows a state
/// of the log, and no node shows an older one than before.
pub struct Examined<S> {
    subject: S,
    log: Log,
    words: Words,
    request_count: u64,
    clients: Clients,
    history: History,
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
        let clients = ClientOptions::draw(&mut Rng::new(world.seed).fork("clients of a subject"));
        (options, Examined::new((self.subject)(), clients))
    }

    fn command(&self) -> String {
        self.command.clone()
    }
}

impl<S: Subject> Examined<S> {
    /// For one world. There are no sessions in it if the subject serves none.
    #[must_use]
    pub fn new(subject: S, mut clients: ClientOptions) -> Self {
        if clients.sessions.percent > 0 && !subject.serves_sessions() {
            clients.sessions.percent = 0;
        }
        Self {
            subject,
            log: Log::default(),
            words: Words::default(),
            request_count: 0,
            clients: Clients::new(clients),
            history: History::default(),
        }
    }

    /// What a client of the subject wants next.
    fn wish(&mut self, rng: &mut Rng) -> Request {
        self.request_count += 1;
        self.subject.request(self.request_count, rng)
    }

    /// What the commands of the sessions came to, and what nobody has heard of.
    fn take_history(&mut self) -> History {
        let mut history = std::mem::take(&mut self.history);
        for sent in self.clients.sessions.ledgers().iter().flat_map(sessions::Ledger::sent) {
            let Some(Told { log_id, reply }) = &sent.told else {
                history.doubts(&sent.command);
                continue;
            };
            let Moments { invoked, returned } = sent.content;
            let (asked, reply) = (sent.command.clone(), reply.clone());
            let (returned, what) =
                (returned.unwrap_or(u64::MAX), What::Command { at: log_id.index });
            history.heard.push(Heard { invoked, returned, asked, reply, what });
        }
        for request in self.clients.unanswered() {
            match request {
                Request::Command(command)
                | Request::InSession(SessionRequest::Command { command, .. }) => {
                    history.doubts(command);
                }
                Request::Query(_) | Request::InSession(_) | Request::Weak { .. } => {}
            }
        }
        history
    }

    fn hear(
        &mut self,
        (invoked, request): (u64, Request),
        returned: u64,
        outcome: Outcome,
    ) -> Result<(), Complaint> {
        let (history, log) = (&mut self.history, &self.log);
        match (request, outcome) {
            (Request::Command(asked), Outcome::Applied { log_id, reply }) => {
                let (what, reply) = (What::Command { at: log_id.index }, Some(reply));
                history.heard.push(Heard { invoked, returned, asked, reply, what });
            }
            (Request::Command(asked), Outcome::Unknown) => history.doubts(&asked),
            (Request::Query(asked), Outcome::Read { reply }) => {
                let (what, reply) = (What::Query { before: log.end() }, Some(reply));
                history.heard.push(Heard { invoked, returned, asked, reply, what });
            }
            (
                Request::Weak { query: asked, consistency },
                Outcome::Weak { reply, node, life, order },
            ) => {
                let floor = match consistency {
                    Consistency::AtLeast(index) => index,
                    // What a bounded age owes is judged by the world.
                    Consistency::Local
                    | Consistency::Bounded(_)
                    | Consistency::Linearizable
                    | Consistency::Lease { .. } => LogIndex::ORIGIN,
                };
                let before = log.end();
                history.weak.push(WeakRead { node, life, order, asked, reply, floor, before });
            }
            // A session that the subject has made itself: its commands may stand in the log, once
            // for each time that they were sent.
            (Request::InSession(SessionRequest::Command { command, .. }), _) => {
                history.doubts(&command);
            }
            // The world's own judges see to it that a refused command is nowhere in the log.
            (Request::InSession(_), _)
            | (Request::Command(_) | Request::Query(_) | Request::Weak { .. }, Outcome::NoEffect)
            | (Request::Query(_) | Request::Weak { .. }, Outcome::Unknown) => {}
            (request, outcome) => {
                return Err(Complaint(format!("{request:?} was answered by {outcome:?}")));
            }
        }
        Ok(())
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
        let turn = self.clients.sessions.turn(op, rng);
        match turn {
            Turn::Ask(request) => request,
            Turn::Elsewhere => {
                let wish = self.wish(rng);
                self.clients.ask(op, moment, wish, rng)
            }
            Turn::New(place) => match self.wish(rng) {
                Request::Command(command) => {
                    let content = Moments { invoked: moment, returned: None };
                    self.clients.sessions.command(op, place, command, content)
                }
                wish @ (Request::Query(_) | Request::InSession(_) | Request::Weak { .. }) => {
                    self.clients.ask(op, moment, wish, rng)
                }
            },
        }
    }

    fn answered(&mut self, op: OpId, moment: u64, outcome: Outcome) -> Result<(), Complaint> {
        self.words.check()?;
        if let Outcome::Applied { log_id, .. } = &outcome {
            self.clients.knows(log_id.index);
        }
        match self.clients.sessions.answered(op, &outcome)? {
            sessions::Heard::NotOurs => {}
            sessions::Heard::Nothing => return Ok(()),
            sessions::Heard::News { place, number } => {
                if let Some(sent) = self.clients.sessions.sent_mut(place, number) {
                    sent.content.returned.get_or_insert(moment);
                }
                return Ok(());
            }
        }
        let Some(asked) = self.clients.take(op) else { return Ok(()) };
        self.hear(asked, moment, outcome)
    }

    fn session_limits(&self) -> Option<SessionLimits> {
        Some(self.clients.sessions.limits())
    }

    fn scan(&mut self, next_op: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        let mut requests = self.clients.sessions.last_tries(next_op);
        for query in self.subject.last_look() {
            let (op, moment) = next_op();
            requests.push((op, self.clients.keep(op, moment, Request::Query(query))));
        }
        requests
    }

    fn describe(&self, op: OpId, request: &Request) -> String {
        self.clients.sessions.words(op).unwrap_or_else(|| request.words())
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        self.words.check()?;
        let history = self.take_history();
        let heard_count = history.heard.len() + history.weak.len();
        let checked_count = u64::try_from(heard_count).unwrap_or(u64::MAX);
        witness::judge(&mut *self.subject.model(), &self.log, history)?;
        Ok(Findings { checked_count, ..Findings::default() })
    }
}
