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
    /// The last entry that the log is known to have held, while its end is lost.
    pub lost: Option<LogId>,
    /// The first index of each run of entries with one term.
    pub term_runs: Vec<(LogIndex, Term)>,
    /// The configuration in force.
    pub configuration: Arc<Configuration>,
    /// The one before it, if this picture differs from the last in that: what was committed in the
    /// same step may have been committed by it.
    pub configuration_before: Option<Arc<Configuration>>,
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
            lost: raft.lost(),
            term_runs: raft.term_runs().collect(),
            configuration: Arc::clone(raft.configuration()),
            configuration_before: None,
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
        self.configuration_before = None;
        if !Arc::ptr_eq(&self.configuration, raft.configuration()) {
            let latest = Arc::clone(raft.configuration());
            self.configuration_before = Some(std::mem::replace(&mut self.configuration, latest));
        }
        self.id = raft.id();
        self.role = raft.role();
        self.current_term = raft.current_term();
        self.commit_index = raft.commit_index();
        self.applied = raft.applied();
        self.durable_index = raft.durable_index();
        self.base = raft.base().last_included;
        self.last_log = raft.last_log();
        self.lost = raft.lost();
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

    /// Whether these servers are a quorum of the configuration in force, or of the one that was at
    /// the beginning of the step.
    pub(super) fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let before = self.configuration_before.as_ref();
        self.configuration.has_quorum(&agrees)
            || before.is_some_and(|configuration| configuration.has_quorum(&agrees))
    }

    /// Whether a restart would find this entry, or a snapshot that covers it.
    #[must_use]
    pub fn is_durable(&self, log_id: LogId) -> bool {
        let is_covered = log_id.index < self.base.index;
        let is_written = log_id.index <= self.durable_index;
        is_written && (is_covered || self.term_at(log_id.index) == Some(log_id.term))
    }
}
