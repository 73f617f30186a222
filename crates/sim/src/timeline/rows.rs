//! The rows of a timeline from the events of a record: what happened in one step of the world
//! stands together. Knows no columns and no colours' codes.

use super::canvas::Paint;
use crate::record::{Event, NodeState, Record, Told};
use quorate_core::{NodeId, Role, Time};
use std::collections::{BTreeMap, BTreeSet};

/// One row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// When; absent if it is the same as in the row above.
    pub(super) at: Option<Time>,
    /// Nodes that are otherwise than they were when last shown.
    pub(super) cells: BTreeMap<u64, Cell>,
    /// A message, from whom and to whom.
    pub(super) arrow: Option<(u64, u64)>,
    pub(super) words: String,
    pub(super) paint: Paint,
}

/// What a node's column says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell(NodeState);

/// The line that goes down in a node's column while nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Runs,
    Stopped,
    Down,
}

impl Line {
    pub(super) const fn of(state: &NodeState) -> Self {
        match state {
            NodeState::Down | NodeState::Starting => Self::Down,
            NodeState::Up { is_paused: true, .. } => Self::Stopped,
            NodeState::Up { is_paused: false, .. } => Self::Runs,
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Runs => "│",
            Self::Stopped => "┆",
            Self::Down => " ",
        }
    }
}

impl Cell {
    pub(super) const fn line(&self) -> Line {
        Line::of(&self.0)
    }

    pub(super) fn text(&self, is_short: bool) -> String {
        match self.0 {
            NodeState::Down => "down".to_owned(),
            NodeState::Starting => "starts".to_owned(),
            NodeState::Up { is_paused: true, .. } => "stopped".to_owned(),
            NodeState::Up { role, term, last_log, commit, .. } if is_short => {
                format!("{}{term} {}/{commit}", letter(role), last_log.index)
            }
            NodeState::Up { role, term, last_log, commit, .. } => {
                format!("{}{term} {last_log} c{commit}", letter(role))
            }
        }
    }

    pub(super) const fn paint(&self) -> Paint {
        match self.0 {
            NodeState::Down | NodeState::Starting | NodeState::Up { is_paused: true, .. } => {
                Paint::Trouble
            }
            NodeState::Up { role, .. } => match role {
                Role::Leader => Paint::Leader,
                Role::Candidate | Role::PreCandidate => Paint::Candidate,
                Role::Follower => Paint::Plain,
            },
        }
    }
}

const fn letter(role: Role) -> char {
    match role {
        Role::Follower => 'F',
        Role::PreCandidate => 'P',
        Role::Candidate => 'C',
        Role::Leader => 'L',
    }
}

/// Every node that the record names.
pub(super) fn nodes(record: &Record) -> BTreeSet<u64> {
    let mut nodes: BTreeSet<u64> = record.before.keys().map(|id| id.get()).collect();
    nodes.extend(record.events.iter().filter_map(|event| event.node).map(NodeId::get));
    nodes
}

/// The rows of a record.
pub(super) fn of(record: &Record) -> Vec<Row> {
    let mut writer = Writer::default();
    for (id, state) in &record.before {
        writer.pending.insert(id.get(), Cell(*state));
    }
    for step in record.events.chunk_by(|one, two| one.step == two.step) {
        writer.step(step);
    }
    writer.rows
}

#[derive(Default)]
struct Writer {
    rows: Vec<Row>,
    /// States that have not been shown.
    pending: BTreeMap<u64, Cell>,
    roles: BTreeMap<u64, (Role, u64)>,
}

impl Writer {
    fn step(&mut self, events: &[Event]) {
        let first_row = self.rows.len();
        for event in events {
            match &event.what {
                Told::State(state) => self.state(event, state),
                Told::Received { from, message } => self.arrow(event, from.get(), message),
                Told::Headline { .. }
                | Told::Committed(_)
                | Told::Sent { .. }
                | Told::Persisted { .. }
                | Told::Applied { .. }
                | Told::Asked { .. }
                | Told::Answered { .. } => {
                    let (words, paint) = words(event);
                    self.push(Row { words, paint, ..Row::default() });
                }
                Told::Breach { text, .. } => self.breach(text),
            }
        }
        self.show_states(first_row);
        if let (Some(row), Some(event)) = (self.rows.get_mut(first_row), events.first()) {
            row.at = Some(event.at);
        }
    }

    fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn state(&mut self, event: &Event, state: &NodeState) {
        let Some(id) = event.node.map(NodeId::get) else { return };
        self.pending.insert(id, Cell(*state));
        let NodeState::Up { role, term, .. } = *state else {
            self.roles.remove(&id);
            return;
        };
        let before = self.roles.insert(id, (role, term.get()));
        if before.is_some_and(|before| before != (role, term.get())) {
            let words = match role {
                Role::Leader => format!("n{id} leads term {term}"),
                Role::Follower => format!("n{id} follows in term {term}"),
                Role::Candidate | Role::PreCandidate => format!("n{id} {role} of term {term}"),
            };
            self.push(Row { words, paint: Cell(*state).paint(), ..Row::default() });
        }
    }

    fn arrow(&mut self, event: &Event, from: u64, message: &str) {
        if let Some(to) = event.node.map(NodeId::get) {
            let words = format!("n{from} → n{to}  {message}");
            let arrow = Some((from, to));
            self.push(Row { arrow, words, paint: Paint::Message, ..Row::default() });
        }
    }

    fn breach(&mut self, text: &str) {
        for (place, line) in text.lines().enumerate() {
            let mark = if place == 0 { "!! " } else { "   " };
            let words = format!("{mark}{}", line.trim_end());
            self.push(Row { words, paint: Paint::Breach, ..Row::default() });
        }
    }

    /// Pending states are shown in the first row of this step that has no arrow across them; a step
    /// that is nothing but a message leaves them to the next one.
    fn show_states(&mut self, first_row: usize) {
        if self.pending.is_empty() {
            return;
        }
        let rows = self.rows.get_mut(first_row..).unwrap_or_default();
        if rows.is_empty() {
            self.rows.push(Row { cells: std::mem::take(&mut self.pending), ..Row::default() });
        } else if let Some(row) = rows.iter_mut().find(|row| row.arrow.is_none()) {
            row.cells = std::mem::take(&mut self.pending);
        }
    }
}

/// An event in words.
fn words(event: &Event) -> (String, Paint) {
    let node = event.node.map(|id| format!("n{id}")).unwrap_or_default();
    match &event.what {
        Told::Headline { trouble, text } => {
            let number = trouble.map(|ordinal| format!("#{ordinal} ")).unwrap_or_default();
            let node = if node.is_empty() { node } else { format!("{node} ") };
            (format!("{number}{node}{text}"), Paint::Trouble)
        }
        Told::Committed(index) => (format!("{node} commits {index}"), Paint::Strong),
        Told::Sent { to, message, arrivals } => {
            let lost = if arrivals.is_empty() { " (will not arrive)" } else { "" };
            let twice = if arrivals.len() > 1 { " (will arrive twice)" } else { "" };
            (format!("{node} sends n{to}: {message}{lost}{twice}"), Paint::Faint)
        }
        Told::Persisted { seq } => (format!("{node} write {seq} is durable"), Paint::Faint),
        Told::Applied { through } => (format!("{node} applied up to {through}"), Paint::Faint),
        Told::Asked { client, words, .. } => {
            (format!("{} asks {node}: {words}", name(*client)), Paint::Plain)
        }
        Told::Answered { client, words, .. } => {
            (format!("{} hears: {words}", name(*client)), Paint::Plain)
        }
        Told::State(_) | Told::Received { .. } | Told::Breach { .. } => {
            (String::new(), Paint::Plain)
        }
    }
}

fn name(client: Option<usize>) -> String {
    client.map_or_else(|| "the judge".to_owned(), |client| format!("client {client}"))
}
