//! What a server looks like from outside, kept up to date at little cost. Judges nothing.

use crate::{Configuration, LogId, LogIndex, NodeId, Raft, Role, Term};
use std::sync::Arc;

/// What the checks look at. [`View::refresh`] costs a handful of copies unless the log's terms
/// changed; it never touches entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The latest term it has seen.
    pub current_term: Term,
    /// Everything up to here is known to be committed.
    pub commit_index: LogIndex,
    /// The state machine has applied everything up to here.
    pub applied: LogIndex,
    /// The log is on its disk up to here.
    pub durable_index: LogIndex,
    /// What the log starts after.
    pub base: LogId,
    /// The last entry of the log.
    pub last_log: LogId,
    /// The first index of each run of entries with one term.
    pub term_runs: Vec<(LogIndex, Term)>,
    /// The configuration in force.
    pub configuration: Arc<Configuration>,
}

impl View {
    /// A picture of `raft`.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        Self {
            id: raft.id(),
            role: raft.role(),
            current_term: raft.current_term(),
            commit_index: raft.commit_index(),
            applied: raft.applied(),
            durable_index: raft.durable_index(),
            base: raft.base().last_included,
            last_log: raft.last_log(),
            term_runs: raft.term_runs().collect(),
            configuration: Arc::clone(raft.configuration()),
        }
    }

    /// Brings the picture up to date, and returns whether other terms stand in the log than before,
    /// beyond more or fewer entries of the last one. Cheap if not.
    pub fn refresh(&mut self, raft: &Raft) -> bool {
        let same_shape = self.base == raft.base().last_included
            && self.term_runs.last().copied() == raft.term_runs().next_back()
            && raft.last_log().term == self.last_log.term;
        if !same_shape {
            self.term_runs.clear();
            self.term_runs.extend(raft.term_runs());
        }
        if !Arc::ptr_eq(&self.configuration, raft.configuration()) {
            self.configuration = Arc::clone(raft.configuration());
        }
        self.id = raft.id();
        self.role = raft.role();
        self.current_term = raft.current_term();
        self.commit_index = raft.commit_index();
        self.applied = raft.applied();
        self.durable_index = raft.durable_index();
        self.base = raft.base().last_included;
        self.last_log = raft.last_log();
        !same_shape
    }

    /// The term of the entry at `index`; `None` outside of the log.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index <= self.base.index || index > self.last_log.index {
            return (index == self.base.index).then_some(self.base.term);
        }
        let after = self.term_runs.partition_point(|(first, _)| *first <= index);
        self.term_runs.get(after.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// Whether a restart would find this entry, or a snapshot that covers it.
    #[must_use]
    pub fn is_durable(&self, log_id: LogId) -> bool {
        let is_covered = log_id.index < self.base.index;
        let is_written = log_id.index <= self.durable_index;
        is_written && (is_covered || self.term_at(log_id.index) == Some(log_id.term))
    }
}
