//! What durable state machines vouch for, and whether they keep their word: never more than they
//! were given, never less than before, and after a crash what the node was told. Knows nothing of
//! how they keep it.

use crate::application::Complaint;
use quorate_core::{LogIndex, NodeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The words of all machines of a world. Locked like [`super::witness::Log`], and for the same reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a machine said last.
    said: BTreeMap<NodeId, LogIndex>,
    /// What its node knows it to have said: the work in which it said so is over.
    vouched: BTreeMap<NodeId, LogIndex>,
    complaint: Option<Complaint>,
}

impl Words {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine was opened, and says that it has applied the log so far. If its disk holds what was
    /// written there, that is no less than it vouched for.
    pub(super) fn opened(&self, node: NodeId, applied: LogIndex, is_sound: bool) {
        let mut state = self.lock();
        let vouched = state.vouched.get(&node).copied().unwrap_or(LogIndex::ORIGIN);
        state.said.insert(node, applied);
        if is_sound && applied < vouched {
            state.complain(format!(
                "the state machine of node {node} vouched for {vouched}; after a crash it has {applied}"
            ));
        }
    }

    /// A machine that was given the log up to `given` says that this much survives a crash.
    pub(super) fn says(&self, node: NodeId, applied: LogIndex, given: LogIndex) {
        let mut state = self.lock();
        let before = state.said.insert(node, applied).unwrap_or(LogIndex::ORIGIN);
        if applied > given {
            state.complain(format!(
                "the state machine of node {node} vouches for {applied}, was given the log to {given}"
            ));
        }
        if applied < before {
            state.complain(format!(
                "the state machine of node {node} vouches for {applied}, after {before}"
            ));
        }
    }

    /// A stretch of work is over: the node counts on what its machine said.
    pub(super) fn settle(&self, node: NodeId) {
        let mut state = self.lock();
        let Some(said) = state.said.get(&node).copied() else { return };
        let vouched = state.vouched.entry(node).or_default();
        *vouched = said.max(*vouched);
    }

    /// The node has another disk, and on it is nothing that its machine has said.
    pub(super) fn forget(&self, node: NodeId) {
        let mut state = self.lock();
        state.said.remove(&node);
        state.vouched.remove(&node);
    }

    /// # Errors
    ///
    /// The first [`Complaint`] about any of them.
    pub(super) fn check(&self) -> Result<(), Complaint> {
        self.lock().complaint.clone().map_or(Ok(()), Err)
    }
}

impl State {
    fn complain(&mut self, text: String) {
        self.complaint.get_or_insert(Complaint(text));
    }
}
