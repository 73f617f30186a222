//! What must hold of every server and every cluster (Figure 3.2 and a little more), for simulators
//! and tests, in release builds too. Knows the servers only from outside, through [`View`].
//! It is long because each property has its name, its words and its evidence here.

mod contents;
mod members;
mod view;

pub use members::{check_configurations, check_leaving};
pub use view::View;

use crate::{Configuration, Entry, LogId, LogIndex, NodeId, Raft, Role, Term};
use contents::{Contents, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A property that does not hold, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Election Safety (Figure 3.2): at most one leader in a term.
    #[error("election safety: {first} and {second} both lead term {term}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// The leader seen first.
        first: NodeId,
        /// The other one.
        second: NodeId,
    },
    /// Leader Append-Only (Figure 3.2): a leader never overwrites or deletes entries of its log.
    #[error("leader append-only: {id} led term {term} with {before}, and now ends with {after}")]
    LeaderOverwrote {
        /// The leader.
        id: NodeId,
        /// Its term.
        term: Term,
        /// The last entry that it had.
        before: LogId,
        /// The last entry that it has.
        after: LogId,
    },
    /// §3.6.2: a leader commits entries of earlier terms only with one of its own.
    #[error("{id} led term {term} and committed up to {index}, which is of an earlier term")]
    CommittedByCounting {
        /// The leader.
        id: NodeId,
        /// Its term.
        term: Term,
        /// Its new commit index.
        index: LogIndex,
    },
    /// Log Matching (Figure 3.2): one equal entry means that all before it are equal.
    #[error("log matching: {first} and {second} agree on {agreed} but not on {index}")]
    LogsDiffer {
        /// One server.
        first: NodeId,
        /// The other.
        second: NodeId,
        /// An entry that both have.
        agreed: LogId,
        /// An earlier index at which they differ.
        index: LogIndex,
    },
    /// Log Matching (Figure 3.2): one index and term name one entry.
    #[error("log matching: {id} has another entry {log_id} than was seen before")]
    EntryDiffers {
        /// The server.
        id: NodeId,
        /// The entry.
        log_id: LogId,
    },
    /// Leader Completeness (Figure 3.2): a leader has every entry committed in earlier terms.
    #[error("leader completeness: {id} leads term {term} without the committed entry {committed}")]
    LeaderIncomplete {
        /// The leader.
        id: NodeId,
        /// Its term.
        term: Term,
        /// What it lacks.
        committed: LogId,
    },
    /// State Machine Safety (Figure 3.2): nobody commits or applies another entry at an index.
    #[error("state machine safety: {id} has {got:?} committed at {index}, others {expected}")]
    CommittedDiffers {
        /// The server.
        id: NodeId,
        /// The index.
        index: LogIndex,
        /// The term that others committed there.
        expected: Term,
        /// The term that this one has there.
        got: Option<Term>,
    },
    /// Two configurations that follow each other in a log share a half, so that decisions by the
    /// one and by the other always share a server (§4.3).
    #[error("{id}: the configuration {after} follows {before}, and they share no half")]
    ConfigurationLeap {
        /// Whose log.
        id: NodeId,
        /// The earlier configuration.
        before: Arc<Configuration>,
        /// The later one.
        after: Arc<Configuration>,
    },
    /// What a cluster speaks never falls: whoever joined since may know nothing older.
    #[error("{id}: the configuration {after} speaks an older version than {before} before it")]
    VersionFell {
        /// Whose log.
        id: NodeId,
        /// The earlier configuration.
        before: Arc<Configuration>,
        /// The later one.
        after: Arc<Configuration>,
    },
    /// §4.3: a leader leaves a joint configuration forwards only when that is committed. Until then
    /// a majority of the old voters may not know of the change, and would elect on their own.
    #[error("{id}: {after} follows {joint}, which is not committed")]
    JointLeftEarly {
        /// The leader.
        id: NodeId,
        /// The configuration that it left.
        joint: Arc<Configuration>,
        /// The one that it appended behind it.
        after: Arc<Configuration>,
    },
    /// What is committed is durable on a quorum.
    #[error("{id} committed {log_id}, which is not durable on a quorum")]
    CommittedWithoutQuorum {
        /// The leader that committed it.
        id: NodeId,
        /// The entry.
        log_id: LogId,
    },
    /// Something went backwards within one life of a server.
    #[error("the {what} of {id} fell from {before} to {after}")]
    WentBack {
        /// The server.
        id: NodeId,
        /// What fell.
        what: &'static str,
        /// From.
        before: u64,
        /// To.
        after: u64,
    },
    /// A server contradicts itself: of two numbers the first must not exceed the second.
    #[error("{id}: {what} ({low} > {high})")]
    OutOfOrder {
        /// The server.
        id: NodeId,
        /// What must hold.
        what: &'static str,
        /// The number that should be low.
        low: u64,
        /// The number that should be high.
        high: u64,
    },
    /// A server that has lost what it may have acknowledged asks for votes, or leads (decision 43).
    #[error("{id} is {role} with {last_log}, and may have acknowledged {horizon}, which it lost")]
    LeadsWithoutLost {
        /// The server.
        id: NodeId,
        /// What it is.
        role: Role,
        /// The last entry that it has.
        last_log: LogId,
        /// The last entry that it is known to have had.
        horizon: LogId,
    },
    /// A server takes its damaged log for whole, and it is not (decision 43).
    #[error("{id} takes its log, durable up to {got:?}, for whole: it has held {horizon}")]
    MendedEarly {
        /// The server.
        id: NodeId,
        /// The last entry that it has durably.
        got: Option<LogId>,
        /// The last entry that it is known to have had.
        horizon: LogId,
    },
    /// Entries reached the state machine with a gap, or twice.
    #[error("{id} applied {got} where {expected} was due")]
    AppliedOutOfOrder {
        /// The server.
        id: NodeId,
        /// The index due.
        expected: LogIndex,
        /// The index applied.
        got: LogIndex,
    },
}

/// Checks one state of one server.
///
/// # Errors
///
/// [`Violation::OutOfOrder`] if its indexes or terms contradict each other;
/// [`Violation::LeadsWithoutLost`] if it campaigns or leads without what it may have acknowledged.
pub fn check_state(view: &View) -> Result<(), Violation> {
    let View { id, role, last_log, .. } = *view;
    if let Some(horizon) = view.lost.filter(|horizon| *horizon > last_log && role != Role::Follower)
    {
        return Err(Violation::LeadsWithoutLost { id, role, last_log, horizon });
    }
    // A state may be ahead of a log that was damaged.
    let applied = if view.lost.is_some() { LogIndex::ORIGIN } else { view.applied };
    let rules = [
        ("the base is committed", view.base.index.get(), view.commit_index.get()),
        ("what is committed is in the log", view.commit_index.get(), view.last_log.index.get()),
        ("only committed entries are applied", applied.get(), view.commit_index.get()),
        ("only the log is durable", view.durable_index.get(), view.last_log.index.get()),
        ("no entry is of a future term", view.last_log.term.get(), view.current_term.get()),
    ];
    match rules.into_iter().find(|(_, low, high)| low > high) {
        Some((what, low, high)) => Err(Violation::OutOfOrder { id, what, low, high }),
        None => Ok(()),
    }
}

/// Checks two successive states of one server within one life.
///
/// # Errors
///
/// [`Violation::WentBack`] if term, commit index or applied index fell;
/// [`Violation::LeaderOverwrote`] if a leader changed its log other than by appending;
/// [`Violation::CommittedByCounting`] if it committed up to an entry of an earlier term;
/// [`Violation::MendedEarly`] if it takes a damaged log for whole.
pub fn check_transition(before: &View, after: &View) -> Result<(), Violation> {
    Outline::of(before).check_transition(after)
}

/// What a transition is judged by: a view without what it takes to copy.
#[derive(Clone, Copy)]
struct Outline {
    role: Role,
    current_term: Term,
    commit_index: LogIndex,
    applied: LogIndex,
    base: LogIndex,
    last_log: LogId,
    lost: Option<LogId>,
}

impl Outline {
    const fn of(view: &View) -> Self {
        Self {
            role: view.role,
            current_term: view.current_term,
            commit_index: view.commit_index,
            applied: view.applied,
            base: view.base.index,
            last_log: view.last_log,
            lost: view.lost,
        }
    }

    fn check_transition(self, after: &View) -> Result<(), Violation> {
        let id = after.id;
        let rules = [
            ("current term", self.current_term.get(), after.current_term.get()),
            ("commit index", self.commit_index.get(), after.commit_index.get()),
            ("applied index", self.applied.get(), after.applied.get()),
            ("base index", self.base.get(), after.base.index.get()),
        ];
        if let Some((what, before, after)) = rules.into_iter().find(|(_, low, high)| low > high) {
            return Err(Violation::WentBack { id, what, before, after });
        }
        let durable = after.durable_index;
        let got = after.term_at(durable).map(|term| LogId::new(term, durable));
        if let Some(horizon) = self.lost.filter(|_| after.lost.is_none())
            && got.is_none_or(|got| got < horizon)
        {
            return Err(Violation::MendedEarly { id, got, horizon });
        }
        let is_one_office = self.role == Role::Leader
            && after.role == Role::Leader
            && self.current_term == after.current_term;
        let kept = self.last_log;
        let has_kept =
            after.base.index >= kept.index || after.term_at(kept.index) == Some(kept.term);
        if is_one_office && !has_kept {
            let (term, before, after) = (after.current_term, kept, after.last_log);
            return Err(Violation::LeaderOverwrote { id, term, before, after });
        }
        let commit_term = after.term_at(after.commit_index);
        let is_older = commit_term.is_some_and(|term| term < after.current_term);
        if is_one_office && after.commit_index > self.commit_index && is_older {
            let (term, index) = (after.current_term, after.commit_index);
            return Err(Violation::CommittedByCounting { id, term, index });
        }
        Ok(())
    }
}

/// Checks the logs of two servers against each other: below the last entry that both have, they
/// are equal. Costs as much as there are runs of terms, not entries.
///
/// # Errors
///
/// [`Violation::LogsDiffer`], with the last entry that both have and an index where they differ.
pub fn check_log_matching(first: &View, second: &View) -> Result<(), Violation> {
    let mut agreed: Option<LogId> = None;
    let mut end = first.last_log.index.min(second.last_log.index);
    let floor = first.base.index.max(second.base.index);
    while end >= floor {
        let (a, b) = (first.term_at(end), second.term_at(end));
        match (a == b, agreed) {
            (true, None) => agreed = a.map(|term| LogId::new(term, end)),
            (false, Some(agreed)) => {
                let (first, second) = (first.id, second.id);
                return Err(Violation::LogsDiffer { first, second, agreed, index: end });
            }
            (true, Some(_)) | (false, None) => {}
        }
        // Between two starts of runs nothing changes in either log.
        let start = run_start(first, end).max(run_start(second, end));
        let Some(before) = start.max(floor).previous() else { break };
        end = before;
    }
    Ok(())
}

fn run_start(view: &View, index: LogIndex) -> LogIndex {
    let after = view.term_runs.partition_point(|(first, _)| *first <= index);
    let run = after.checked_sub(1).and_then(|run| view.term_runs.get(run));
    run.map_or(view.base.index, |(first, _)| *first)
}

/// Watches a cluster: show it every server after each of its steps, and what it persists and
/// applies. Keeps one [`View`] per server and the terms of what was committed; an observation
/// costs about as much as there are servers, and no more for long logs.
#[derive(Clone, Debug, Default)]
pub struct ClusterChecker {
    views: BTreeMap<NodeId, View>,
    /// Servers whose last view is of an earlier life.
    down: BTreeSet<NodeId>,
    leaders: BTreeMap<Term, NodeId>,
    /// The first index of each run of one term among the committed entries.
    committed_runs: Vec<(LogIndex, Term)>,
    committed: LogId,
    /// A term in which `committed` was known to be committed.
    committed_in: Term,
    entries: Contents,
    applied: BTreeMap<NodeId, LogIndex>,
    /// What servers held on disks that they have lost since.
    lost: Vec<View>,
}

impl ClusterChecker {
    /// Starts with a cluster that has committed nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A server crashed: its volatile state may be less when it comes back.
    pub fn crashed(&mut self, id: NodeId) {
        self.down.insert(id);
        self.applied.remove(&id);
    }

    /// A server lost its disk: it may come back with nothing. What was on that disk counted.
    pub fn wiped(&mut self, id: NodeId) {
        self.crashed(id);
        self.lost.extend(self.views.remove(&id));
    }

    /// A server crashed, and durable entries of its log were lost. They counted.
    pub fn wounded(&mut self, id: NodeId) {
        self.crashed(id);
        self.lost.extend(self.views.get(&id).cloned());
    }

    /// Looks at a server after a step, or after its start.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] that this state shows.
    pub fn observe(&mut self, raft: &Raft) -> Result<(), Violation> {
        let id = raft.id();
        let is_new_life = self.down.remove(&id);
        let before = self.views.get(&id).map(Outline::of);
        let view = self.views.entry(id).or_insert_with(|| View::of(raft));
        let has_other_terms = view.refresh(raft);
        check_state(view)?;
        if before.is_none() || view.configuration_before.is_some() {
            check_configurations(raft)?;
        }
        if let Some(before) = before.filter(|_| !is_new_life) {
            before.check_transition(view)?;
        }
        let now = Outline::of(view);
        let office = |outline: Outline| (outline.role, outline.current_term);
        let is_same_office = before.is_some_and(|before| office(before) == office(now));
        if let Some(joint) = view.configuration_before.as_ref()
            && is_same_office
            && now.role == Role::Leader
        {
            check_leaving(raft, joint)?;
        }
        let ends_elsewhere = before.is_none_or(|before| before.last_log != now.last_log);
        if has_other_terms || ends_elsewhere {
            self.check_log(id)?;
        }
        if !is_same_office {
            self.check_leader(id)?;
        }
        if before.is_none_or(|before| before.commit_index != now.commit_index) {
            self.check_commit(id)?;
        }
        Ok(())
    }

    fn check_log(&self, id: NodeId) -> Result<(), Violation> {
        let Some(view) = self.views.get(&id) else { return Ok(()) };
        let mut others = self.views.values().filter(|other| other.id != id);
        others.try_for_each(|other| check_log_matching(view, other))
    }

    /// Looks at an entry that a server is about to write: one `LogId`, one content.
    ///
    /// # Errors
    ///
    /// [`Violation::EntryDiffers`] if another content was seen under the same `LogId`.
    pub fn observe_entry(&mut self, id: NodeId, entry: &Entry) -> Result<(), Violation> {
        let digest = digest(&entry.payload);
        if self.entries.first_seen(entry.log_id, digest) == digest {
            return Ok(());
        }
        Err(Violation::EntryDiffers { id, log_id: entry.log_id })
    }

    /// Looks at an entry that a server hands to its state machine.
    ///
    /// # Errors
    ///
    /// [`Violation::AppliedOutOfOrder`] for gaps and repetitions;
    /// [`Violation::CommittedDiffers`] if another entry is committed there.
    pub fn observe_apply(&mut self, id: NodeId, entry: &Entry) -> Result<(), Violation> {
        let got = entry.log_id.index;
        let expected = self.applied.get(&id).map_or(got, |applied| applied.next());
        if got != expected {
            return Err(Violation::AppliedOutOfOrder { id, expected, got });
        }
        self.applied.insert(id, got);
        self.observe_entry(id, entry)?;
        self.check_committed_at(id, got, Some(entry.log_id.term))
    }

    /// A server's state machine was replaced by a snapshot, or started, as of `index`.
    pub fn observe_restore(&mut self, id: NodeId, index: LogIndex) {
        self.applied.insert(id, index);
    }

    /// The last entry that any server knows to be committed.
    #[must_use]
    pub fn committed(&self) -> LogId {
        self.committed
    }

    fn check_leader(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(view) = self.views.get(&id).filter(|view| view.role == Role::Leader) else {
            return Ok(());
        };
        let term = view.current_term;
        let first = *self.leaders.entry(term).or_insert(id);
        if first != id {
            return Err(Violation::TwoLeaders { term, first, second: id });
        }
        let committed = self.committed;
        let has_it = view.base.index > committed.index
            || view.term_at(committed.index) == Some(committed.term);
        // Also in that very term: then it is the leader who committed it, or was elected after.
        if term >= self.committed_in && !has_it {
            return Err(Violation::LeaderIncomplete { id, term, committed });
        }
        Ok(())
    }

    /// A commit index moved: it agrees with what others committed, or adds to it.
    fn check_commit(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(view) = self.views.get(&id) else { return Ok(()) };
        let index = view.commit_index;
        let term = view.term_at(index);
        if index <= self.committed.index {
            return self.check_committed_at(id, index, term);
        }
        let Some(term) = term else { return Ok(()) };
        let log_id = LogId::new(term, index);
        let is_leader = view.role == Role::Leader;
        let held_before = self.lost.iter().filter(|view| view.is_durable(log_id));
        let held_before: BTreeSet<NodeId> = held_before.map(|view| view.id).collect();
        let holds = |id| {
            held_before.contains(&id)
                || self.views.get(&id).is_some_and(|view| view.is_durable(log_id))
        };
        if is_leader && !view.has_quorum(holds) {
            return Err(Violation::CommittedWithoutQuorum { id, log_id });
        }
        let known = self.committed.index;
        let known_term = (known >= view.base.index).then(|| view.term_at(known)).flatten();
        self.committed_in = view.current_term;
        let added = view.term_runs.iter().filter(|(first, _)| *first <= index);
        let added: Vec<_> =
            added.map(|(first, term)| ((*first).max(known.next()), *term)).collect();
        for (first, term) in added {
            let is_later = self.committed_runs.last().is_none_or(|(_, last)| term > *last);
            if is_later {
                self.committed_runs.push((first, term));
            }
        }
        self.committed = log_id;
        self.check_committed_at(id, known, known_term)
    }

    fn check_committed_at(
        &self,
        id: NodeId,
        index: LogIndex,
        got: Option<Term>,
    ) -> Result<(), Violation> {
        let after = self.committed_runs.partition_point(|(first, _)| *first <= index);
        let run = after.checked_sub(1).and_then(|run| self.committed_runs.get(run));
        match (run, got) {
            (Some((_, expected)), Some(got)) if *expected != got => {
                let (expected, got) = (*expected, Some(got));
                Err(Violation::CommittedDiffers { id, index, expected, got })
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}
