//! Everything that happened in a world, kept for a person or another tool to read: what each node
//! became, which messages went where, what went wrong and what clients were told. Only worlds that
//! are asked for it keep it; it must not change what happens in them.

use crate::application::OpId;
use quorate_core::{LogId, LogIndex, NodeId, Role, Term, Time};
use std::collections::BTreeMap;

/// More events than this are not kept.
const EVENT_COUNT_MAX: usize = 1_000_000;

/// What to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// From this time on.
    pub from: Time,
    /// Up to this time.
    pub to: Time,
    /// How much.
    pub detail: Detail,
}

/// How much of a story is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Roles, elections with their messages, commits, troubles, and clients.
    #[default]
    Story,
    /// Every message, write and change of a log, too.
    All,
}

impl Recording {
    /// All of the time.
    #[must_use]
    pub const fn of(detail: Detail) -> Self {
        Self { from: Time::ZERO, to: Time::from_micros(u64::MAX), detail }
    }
}

/// What was kept of one world.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// How the nodes were when it begins.
    pub before: BTreeMap<NodeId, NodeState>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Whether more happened than is kept.
    pub is_cut_short: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// At which step of the world; several things happen in one step.
    pub step: u64,
    /// To which node, if to one.
    pub node: Option<NodeId>,
    /// What.
    pub what: Told,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something went wrong, was mended, or is otherwise worth a headline.
    Headline {
        /// The trouble's ordinal, if it is one that can be skipped.
        trouble: Option<u64>,
        /// In words.
        text: String,
    },
    /// The node is now so.
    State(NodeState),
    /// An entry is committed that was not before, as far as any node knew.
    Committed(LogIndex),
    /// The node sends a message.
    Sent {
        /// To whom.
        to: NodeId,
        /// In words.
        message: String,
        /// When it will arrive: never, once or twice.
        arrivals: Vec<Time>,
    },
    /// A message reaches the node.
    Received {
        /// From whom.
        from: NodeId,
        /// In words.
        message: String,
    },
    /// A write became durable.
    Persisted {
        /// Its number.
        seq: u64,
    },
    /// Entries were applied.
    Applied {
        /// Up to this index.
        through: u64,
    },
    /// A client asks the node.
    Asked {
        /// The request.
        op: OpId,
        /// Who asks; none for the final scan and for stories.
        client: Option<usize>,
        /// In words.
        words: String,
    },
    /// A client is answered.
    Answered {
        /// The request.
        op: OpId,
        /// Who asked.
        client: Option<usize>,
        /// In words.
        words: String,
    },
    /// A judge speaks.
    Breach {
        /// Which promise is broken.
        kind: String,
        /// In words.
        text: String,
    },
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Without power.
    Down,
    /// Reading its disk.
    Starting,
    /// Running, or stopped for a while.
    Up {
        /// Whether its process is stopped.
        is_paused: bool,
        /// Its role.
        role: Role,
        /// Its term.
        term: Term,
        /// The end of its log.
        last_log: LogId,
        /// How far it knows the log to be committed.
        commit: LogIndex,
    },
}

/// Keeps what a world tells.
#[derive(Debug)]
pub(crate) struct Recorder {
    wanted: Recording,
    at: Time,
    step: u64,
    /// How the nodes are, and how they were when that was last told.
    states: BTreeMap<NodeId, NodeState>,
    said: BTreeMap<NodeId, NodeState>,
    record: Record,
    has_begun: bool,
    committed: LogIndex,
}

impl Recorder {
    pub(crate) fn new(wanted: Recording) -> Self {
        Self {
            wanted,
            at: Time::ZERO,
            step: 0,
            states: BTreeMap::new(),
            said: BTreeMap::new(),
            record: Record::default(),
            has_begun: false,
            committed: LogIndex::ORIGIN,
        }
    }

    /// From now on things happen at this time, in this step.
    pub(crate) fn begin_step(&mut self, at: Time, step: u64) {
        (self.at, self.step) = (at, step);
        if !self.has_begun && at >= self.wanted.from {
            self.has_begun = true;
            self.said.clone_from(&self.states);
            self.record.before.clone_from(&self.states);
        }
    }

    /// Whether every message is wanted, at this time.
    pub(crate) fn wants_all(&self) -> bool {
        self.wanted.detail == Detail::All && self.wants_now()
    }

    /// Whether anything is wanted at this time.
    pub(crate) fn wants_now(&self) -> bool {
        self.has_begun && self.at <= self.wanted.to
    }

    /// Something happened. Changes that were not worth a word of their own are told along with it,
    /// so that its reader sees every node as it is.
    pub(crate) fn tell(&mut self, node: Option<NodeId>, what: Told) {
        if !self.wants_now() {
            return;
        }
        let changed = |(id, state): (&NodeId, &NodeState)| {
            (self.said.get(id) != Some(state)).then_some((*id, *state))
        };
        let unsaid: Vec<(NodeId, NodeState)> = self.states.iter().filter_map(changed).collect();
        for (id, state) in unsaid {
            self.say_state(id, state);
        }
        self.push(node, what);
    }

    /// A node is so; told at once if its role, term or life changed.
    pub(crate) fn state(&mut self, node: NodeId, state: NodeState) {
        let before = self.states.insert(node, state);
        if before == Some(state) || !self.wants_now() {
            return;
        }
        if let NodeState::Up { commit, .. } = state
            && commit > self.committed
        {
            self.committed = commit;
            self.tell(Some(node), Told::Committed(commit));
        }
        let is_told = self.record.events.last().is_some_and(|event| event.step == self.step);
        let is_new_face = before.is_none_or(|before| before.face() != state.face());
        if self.wants_all() || is_told || is_new_face {
            self.say_state(node, state);
        }
    }

    /// What was kept.
    pub(crate) fn finish(self) -> Record {
        self.record
    }

    fn say_state(&mut self, node: NodeId, state: NodeState) {
        if self.said.insert(node, state) != Some(state) {
            self.push(Some(node), Told::State(state));
        }
    }

    fn push(&mut self, node: Option<NodeId>, what: Told) {
        // What broke is what the story is read for.
        let is_needed = matches!(what, Told::Breach { .. });
        if self.record.events.len() >= EVENT_COUNT_MAX && !is_needed {
            self.record.is_cut_short = true;
            return;
        }
        let (at, step) = (self.at, self.step);
        self.record.events.push(Event { at, step, node, what });
    }
}

impl NodeState {
    /// What of a node is told at once when it changes.
    fn face(&self) -> (u8, Option<(Role, Term)>) {
        match self {
            Self::Down => (0, None),
            Self::Starting => (1, None),
            Self::Up { is_paused, role, term, .. } => {
                (2 + u8::from(*is_paused), Some((*role, *term)))
            }
        }
    }
}
