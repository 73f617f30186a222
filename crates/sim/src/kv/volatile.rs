//! A state machine that forgets everything when its node stops: a restart needs the newest snapshot
//! and the log after it. Knows nothing of the one that it wraps.

use bytes::Bytes;
use quorate::{Checkpoint, Committed, Fatal, QueryError, Replies, SnapshotView, StateMachine};
use quorate_core::{LogId, LogIndex};
use std::io::Read;

/// Wraps a state machine, and vouches for nothing after a crash.
pub(super) struct Volatile(pub(super) Box<dyn StateMachine>);

impl StateMachine for Volatile {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.0.apply(batch, replies)
    }

    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        self.0.query(query)
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        self.0.view()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        Ok(Checkpoint::NeedsSnapshot)
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        self.0.restore(last_included, source)
    }
}
