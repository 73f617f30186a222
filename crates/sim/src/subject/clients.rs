//! What a world makes of a subject's requests: some of its commands go into sessions and are sent
//! again when nobody knows what became of them, some of its queries ask for less than the newest
//! state. Drawn per world; knows nothing of what the requests mean, nor of nodes.

use super::Subject;
use crate::application::{Home, OpId, Request};
use crate::rng::Rng;
use crate::sessions::{SessionOptions, Sessions};
use quorate::{Checkpoint, Consistency};
use quorate_core::{LogIndex, NodeId};
use std::collections::BTreeMap;

/// How clients ask, in one world.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// What they do in sessions.
    pub sessions: SessionOptions,
    /// How many queries in a hundred promise less than linearizability.
    pub weak_percent: u64,
}

impl ClientOptions {
    /// Every request is asked as it is given.
    #[must_use]
    pub fn plain() -> Self {
        Self { sessions: SessionOptions::none(), weak_percent: 0 }
    }

    /// Drawn from a seed.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let sessions = SessionOptions::draw(&mut rng.fork("sessions"));
        Self { sessions, weak_percent: rng.pick(&[0, 20, 60]).copied().unwrap_or(20) }
    }
}

/// When a command of a session was sent first, and when somebody knew what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) invoked: u64,
    pub(super) returned: Option<u64>,
}

/// The requests that are open, and the sessions.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) sessions: Sessions<Moments>,
    weak_percent: u64,
    open: BTreeMap<OpId, (u64, Request)>,
    /// The last place in the log at which anybody knows that something took effect.
    known: LogIndex,
}

impl Clients {
    pub(super) fn new(options: ClientOptions) -> Self {
        let ClientOptions { sessions, weak_percent } = options;
        let (sessions, open) = (Sessions::new(sessions), BTreeMap::new());
        Self { sessions, weak_percent, open, known: LogIndex::ORIGIN }
    }

    /// A request without a session goes out as it is, or a query as one that promises less.
    pub(super) fn ask(
        &mut self,
        op: OpId,
        moment: u64,
        request: Request,
        rng: &mut Rng,
    ) -> Request {
        let request = match request {
            Request::Query(query) if rng.below(100) < self.weak_percent => {
                let anywhere = rng.coin();
                let consistency =
                    if anywhere { Consistency::Local } else { Consistency::AtLeast(self.known) };
                Request::Weak { query, consistency }
            }
            asked @ (Request::Command(_)
            | Request::Query(_)
            | Request::InSession(_)
            | Request::Weak { .. }) => asked,
        };
        self.keep(op, moment, request)
    }

    /// A request that goes out as it is.
    pub(super) fn keep(&mut self, op: OpId, moment: u64, request: Request) -> Request {
        self.open.insert(op, (moment, request.clone()));
        request
    }

    /// When it was asked, and what; `None` if it is in a session of ours.
    pub(super) fn take(&mut self, op: OpId) -> Option<(u64, Request)> {
        self.open.remove(&op)
    }

    /// What nobody has answered.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Request> {
        self.open.values().map(|(_, request)| request)
    }

    /// Somebody was told that something took effect there.
    pub(super) fn knows(&mut self, index: LogIndex) {
        self.known = self.known.max(index);
    }
}

/// Whether a machine that is durable keeps what became of sessions with its state, as it must; one
/// that is volatile need not.
pub(super) fn can_serve_sessions(subject: &(impl Subject + ?Sized)) -> bool {
    let Ok(mut machine) = subject.machine(&Home::empty(NodeId::new(u64::MAX))) else {
        return false;
    };
    machine.notebook().is_some()
        || machine.checkpoint().is_ok_and(|it| it == Checkpoint::NeedsSnapshot)
}
