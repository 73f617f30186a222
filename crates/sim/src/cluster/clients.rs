//! The clients: they think, ask any node, wait, and hand what they learn to the judges. What they
//! ask is the application's part.

use super::Cluster;
use super::happening::Happening;
use super::node::Caller;
use crate::application::{Application, OpId, Outcome, Request};
use crate::judge::{Asked, Breach};
use crate::rng::Rng;
use quorate::{Consistency, Fate, Input, Ticket};
use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the world knows of its clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) rng: Rng,
    op_count: u64,
    moment: u64,
    /// Requests that clients made of their own accord.
    request_count: u64,
    /// How many requests a client in the middle of a burst still makes without thinking.
    bursts: BTreeMap<usize, u64>,
    /// Requests without an answer: whose (a client, or a story's), and whether it is a command.
    pub(super) waiting: BTreeMap<OpId, Waiting>,
    /// Answers to a story's own requests.
    pub(super) told: BTreeMap<OpId, Outcome>,
    /// How many of those have come.
    pub(super) told_count: u64,
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) client: Option<usize>,
    /// The hash of the command, if it is one.
    pub(super) command: Option<u64>,
}

impl Clients {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            op_count: 0,
            moment: 0,
            request_count: 0,
            bursts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            told_count: 0,
        }
    }

    pub(super) const fn request_count(&self) -> u64 {
        self.request_count
    }

    pub(super) fn next_moment(&mut self) -> u64 {
        // Two apart, so that a judge can put something of its own between two moments.
        self.moment += 2;
        self.moment
    }

    pub(super) fn next_op(&mut self) -> OpId {
        self.op_count += 1;
        OpId(self.op_count)
    }
}

impl<A: Application> Cluster<A> {
    /// A client will think of something.
    pub(super) fn plan_thought(&mut self, client: usize) {
        let clients = &mut self.clients;
        let burst = clients.bursts.entry(client).or_default();
        let delay = if *burst > 0 {
            *burst -= 1;
            Duration::ZERO
        } else {
            *burst = clients.rng.below(self.options.burst_count_max + 1);
            clients.rng.wait(self.options.think_mean)
        };
        self.queue.push(self.now.after(delay), Happening::Think { client });
    }

    /// A client asks some node, be it up or not.
    pub(super) fn think(&mut self, client: usize) {
        let is_over = |max| self.clients.request_count >= max;
        if !self.is_troubled || self.options.request_count_max.is_some_and(is_over) {
            return;
        }
        self.clients.request_count += 1;
        let (op, moment) = (self.clients.next_op(), self.clients.next_moment());
        let request = self.application.request(op, moment, &mut self.clients.rng);
        let node = NodeId::new(self.clients.rng.below(self.machine_count()) + 1);
        self.post(op, Some(client), node, request);
    }

    /// A request is on its way to a node.
    pub(super) fn post(&mut self, op: OpId, client: Option<usize>, node: NodeId, request: Request) {
        let command = match &request {
            Request::Command(command) => Some(self.safety.proposed(command)),
            Request::Query(_) | Request::InSession(_) | Request::Weak { .. } => None,
        };
        self.tell_asked(op, client, node, &request);
        self.clients.waiting.insert(op, Waiting { client, command });
        match self.network.client_way(self.now, node) {
            Ok(at) => self.queue.push(at, Happening::Ask { op, node, request }),
            Err(at) => self.queue.push(at, Happening::Answer { op, outcome: Outcome::Unknown }),
        }
    }

    /// A request reaches its node.
    pub(super) fn ask(&mut self, op: OpId, id: NodeId, request: Request) -> Result<(), Breach> {
        let now = self.now;
        let committed = self.safety.last_committed();
        let asked = Asked { at: now, committed, by_lease: false };
        let patience = self.options.patience;
        let node = self.nodes.get_mut(&id);
        let deadline = node.as_ref().map_or(now, |node| node.clock.own(now)).after(patience);
        if node.is_none_or(|node| node.running().is_none()) {
            self.send_answer(id, op, Outcome::NoEffect);
            return Ok(());
        }
        let ticket = Ticket(op.0);
        let (caller, input) = match request {
            Request::Command(command) => {
                (Caller::Command, Input::Propose { ticket, command, deadline })
            }
            Request::InSession(request) => {
                let (request, is_retry) = (Box::new(request), false);
                (Caller::Command, Input::ProposeInSession { ticket, request, deadline, is_retry })
            }
            Request::Query(query) => {
                let (caller, consistency) = self.linearizable(query, asked);
                (caller, Input::Barrier { ticket, consistency, deadline })
            }
            Request::Weak { query, consistency: Consistency::Local } => {
                let (caller, consistency) = self.of_whatever_age(id, query);
                (caller, Input::Barrier { ticket, consistency, deadline })
            }
            Request::Weak { query, consistency } => {
                (Caller::Weak(query), Input::Barrier { ticket, consistency, deadline })
            }
        };
        let Some(running) = self.running_mut(id) else { return Ok(()) };
        running.callers.insert(ticket, caller);
        // The node's own thread would answer at once.
        if let Input::Barrier { consistency: Consistency::Local, .. } = input {
            return self.comes_to_read(id, ticket);
        }
        self.tell(id, input);
        Ok(())
    }

    /// The fate of a command is known on the node that was asked.
    pub(super) fn fate(&mut self, id: NodeId, ticket: Ticket, fate: Fate) {
        let Some(running) = self.nodes.get_mut(&id).and_then(|node| node.running_mut()) else {
            return;
        };
        if running.callers.remove(&ticket).is_some() {
            let outcome = match fate {
                Fate::Applied { log_id, reply } => Outcome::Applied { log_id, reply },
                Fate::NotAppended(_) | Fate::Lost { .. } => Outcome::NoEffect,
                Fate::Refused(refusal) => Outcome::Refused { refusal },
                Fate::Unknown(_) => Outcome::Unknown,
            };
            self.send_answer(id, OpId(ticket.0), outcome);
        }
    }

    /// A read may go on, or not.
    ///
    /// # Errors
    ///
    /// [`Breach::StaleRead`], [`Breach::UnprovenRead`] of a linearizable one, [`Breach::OldRead`]
    /// of one of bounded age.
    pub(super) fn may_read(
        &mut self,
        id: NodeId,
        ticket: Ticket,
        may_read: bool,
    ) -> Result<(), Breach> {
        let order = self.clients.next_moment();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let life = node.life;
        let Some(running) = node.running_mut() else { return Ok(()) };
        let Some(caller) = running.callers.remove(&ticket) else { return Ok(()) };
        let shown = running.applier().applied().index;
        let query = match &caller {
            Caller::Command => return Ok(()),
            Caller::Query(query, _) | Caller::Bounded(query, ..) | Caller::Weak(query) => query,
        };
        let reply = may_read.then(|| running.applier().machine().query(query));
        if may_read {
            match caller {
                Caller::Query(_, asked) => {
                    self.safety.reads(running.driver.raft(), shown, asked)?;
                }
                Caller::Bounded(_, floor, age) => Self::is_young_enough(id, shown, floor, age)?,
                Caller::Weak(_) | Caller::Command => {}
            }
        }
        let is_weak = !matches!(caller, Caller::Query(..));
        let outcome = match reply {
            Some(Ok(reply)) if is_weak => Outcome::Weak { reply, node: id, life, order },
            Some(Ok(reply)) => Outcome::Read { reply },
            Some(Err(_)) | None => Outcome::NoEffect,
        };
        self.send_answer(id, OpId(ticket.0), outcome);
        Ok(())
    }

    /// Their node died under these callers.
    pub(super) fn forsake(&mut self, callers: BTreeMap<Ticket, Caller>) {
        for (ticket, caller) in callers {
            let outcome = match caller {
                Caller::Command => Outcome::Unknown,
                Caller::Query(..) | Caller::Bounded(..) | Caller::Weak(_) => Outcome::NoEffect,
            };
            let delay = self.rng.duration(Duration::ZERO, Duration::from_secs(1));
            let answer = Happening::Answer { op: OpId(ticket.0), outcome };
            self.queue.push(self.now.after(delay), answer);
        }
    }

    /// An answer reaches its client.
    pub(super) fn answer(&mut self, op: OpId, outcome: Outcome) -> Result<(), Breach> {
        let Some(Waiting { client, command }) = self.clients.waiting.remove(&op) else {
            return Ok(());
        };
        self.tell_answered(op, client, &outcome);
        let counts = &mut self.trace.counts;
        match &outcome {
            Outcome::Applied { log_id, .. } => {
                counts.ops_ok += 1;
                self.safety.told_applied(*log_id)?;
            }
            Outcome::Read { .. } | Outcome::Weak { .. } => counts.ops_ok += 1,
            Outcome::Refused { .. } => counts.ops_refused += 1,
            Outcome::NoEffect => {
                counts.ops_refused += 1;
                if let Some(command) = command {
                    self.safety.told_no_effect(command)?;
                }
            }
            Outcome::Unknown => counts.ops_unknown += 1,
        }
        let moment = self.clients.next_moment();
        if let Some(client) = client {
            self.plan_thought(client);
        } else {
            self.clients.told.insert(op, outcome.clone());
            self.clients.told_count += 1;
        }
        self.application.answered(op, moment, outcome)?;
        Ok(())
    }
}
