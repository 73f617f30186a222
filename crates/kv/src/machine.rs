//! The store as the state machine of a replicated log. Knows which command was applied last; must
//! not know how commands get here or where replies go.

use crate::api::RangeRequest;
use crate::apply;
use crate::background::Background;
use crate::counts::OpCounts;
use crate::engine::{Engine, EngineError};
use crate::notes;
use crate::reader::Reader;
use crate::snapshot::{self, StoreView};
use crate::store::{Limits, Shared};
use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex};
use quorate::{
    Checkpoint, Committed, Fatal, Note, Notebook, QueryError, Replies, SnapshotView, StateMachine,
};
use std::io::Read;
use std::sync::Arc;

/// To be raised with every change of what commands are answered with: members whose numbers differ do not
/// compare their replies, and one whose replies are others than most would end (decision 36).
const REPLIES_VERSION: u32 = 1;

/// The replicated store. Only the apply thread has it; everybody else has a [`Reader`].
pub struct KvStateMachine {
    pub(crate) shared: Arc<Shared>,
    /// What the next restored snapshot brings beside the store.
    notes_to_restore: Vec<(Bytes, Bytes)>,
}

/// Opens the store that `engine` holds, or a fresh one if it is empty, with the default limits.
///
/// # Errors
///
/// [`EngineError`] if the engine cannot be read, or is of another format.
pub fn open(
    engine: Arc<dyn Engine>,
    background: Arc<dyn Background>,
) -> Result<(KvStateMachine, Reader), EngineError> {
    open_with(engine, background, Limits::default())
}

/// [`open`] with limits of your choice.
///
/// # Errors
///
/// As [`open`].
pub fn open_with(
    engine: Arc<dyn Engine>,
    background: Arc<dyn Background>,
    limits: Limits,
) -> Result<(KvStateMachine, Reader), EngineError> {
    let shared = Shared::open(engine, background, limits)?;
    let reader = Reader::new(Arc::clone(&shared));
    Ok((KvStateMachine { shared, notes_to_restore: Vec::new() }, reader))
}

impl KvStateMachine {
    /// Moves everything that was applied into the engine, durably, and waits for it. For a clean
    /// shutdown: the log has nothing to replay afterwards.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed, now or earlier.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        let target = self.shared.lock().progress.clone();
        // One flush may be under way already, with less in it.
        self.shared.want_flush();
        self.shared.wait_stored(&target)
    }

    /// Starts what [`KvStateMachine::flush`] does, without waiting for it: lets
    /// [`StateMachine::applied`] follow soon.
    pub fn start_flush(&mut self) {
        self.shared.want_flush();
    }

    fn apply_batch(
        &mut self,
        batch: &[Committed],
        replies: &mut Replies,
    ) -> Result<(), EngineError> {
        let (mut view, mut progress) = self.shared.begin()?;
        let mut counts = OpCounts::default();
        for committed in batch {
            if self.shared.is_due(&view) {
                self.shared.publish(view, progress);
                (view, progress) = self.shared.begin()?;
            }
            let key_count = progress.key_count;
            let reply = apply::apply(&mut view, &mut progress, committed)?;
            if let Some(outcome) = &reply.outcome {
                let gone_count = key_count.saturating_sub(progress.key_count);
                counts = counts.plus(OpCounts::of_outcome(outcome, gone_count));
            }
            replies.push(reply.encode_to_vec());
            view.active.keep_notes(replies.take_notes());
        }
        self.shared.publish(view, progress);
        self.shared.counters.add(counts);
        Ok(())
    }
}

impl StateMachine for KvStateMachine {
    fn applied(&self) -> LogIndex {
        self.shared.lock().stored.progress.covered
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        self.apply_batch(batch, replies).map_err(|error| {
            self.shared.fail(&error);
            Fatal::caused_by("the key-value store cannot apply", error)
        })
    }

    /// Takes the bytes of a [`RangeRequest`], gives those of a [`crate::api::RangeResponse`].
    fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        let refused = |reason: &dyn std::fmt::Display| QueryError { reason: reason.to_string() };
        let request = RangeRequest::decode(query).map_err(|error| refused(&error))?;
        let reader = Reader::new(Arc::clone(&self.shared));
        let response = reader.range(&request).map_err(|error| refused(&error))?;
        Ok(response.encode_to_vec().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(StoreView::of(&self.shared)))
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.start_flush();
        Ok(Checkpoint::Begun)
    }

    fn notebook(&mut self) -> Option<&mut dyn Notebook> {
        Some(self)
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.shared.end_renewals();
        self.flush().map_err(|error| Fatal::caused_by("the key-value store cannot flush", error))
    }

    fn replies_version(&self) -> u32 {
        REPLIES_VERSION
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let notes = std::mem::take(&mut self.notes_to_restore);
        snapshot::restore(&self.shared, last_included, source, notes).map_err(|error| {
            Fatal::caused_by("the key-value store cannot take over a snapshot", error)
        })
    }
}

impl Notebook for KvStateMachine {
    fn rows(&self) -> Result<Vec<(Bytes, Bytes)>, Fatal> {
        let engine = Arc::clone(&self.shared.lock().view.engine);
        notes::read(engine.as_ref())
            .map_err(|error| Fatal::caused_by("the key-value store cannot read its notes", error))
    }

    fn keep(&mut self, through: LogIndex, notes: Vec<Note>) -> Result<(), Fatal> {
        let begun = self.shared.begin();
        let (view, mut progress) = begun.map_err(|error| {
            Fatal::caused_by("the key-value store cannot keep the node's notes", error)
        })?;
        view.active.keep_notes(notes);
        progress.covered = through;
        self.shared.publish(view, progress);
        Ok(())
    }

    fn replace_with_restore(&mut self, rows: Vec<(Bytes, Bytes)>) {
        self.notes_to_restore = rows;
    }
}
