//! The store as the state machine of a replicated log. Knows which command was applied last; must
//! not know how commands get here or where replies go.

use crate::api::RangeRequest;
use crate::apply;
use crate::background::Background;
use crate::engine::{Engine, EngineError};
use crate::reader::Reader;
use crate::snapshot::{self, StoreView};
use crate::store::{Limits, Shared};
use bytes::Bytes;
use prost::Message;
use quorate::core::{LogId, LogIndex};
use quorate::{Checkpoint, Committed, Fatal, QueryError, Replies, SnapshotView, StateMachine};
use std::io::Read;
use std::sync::Arc;

/// The replicated store. Only the apply thread has it; everybody else has a [`Reader`].
pub struct KvStateMachine {
    shared: Arc<Shared>,
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
    Ok((KvStateMachine { shared }, reader))
}

impl KvStateMachine {
    /// Moves everything that was applied into the engine, durably, and waits for it. For a clean
    /// shutdown: the log has nothing to replay afterwards.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed, now or earlier.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        let target = self.shared.lock().progress;
        // One flush may be under way already, with less in it.
        self.shared.want_flush();
        self.shared.wait_stored(target)
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
        for committed in batch {
            if self.shared.is_due(&view) {
                self.shared.publish(progress);
                (view, progress) = self.shared.begin()?;
            }
            let reply = apply::apply(&mut view, &mut progress, &committed.command)?;
            progress.applied = committed.log_id;
            progress.covered = committed.log_id.index;
            replies.push(reply.encode_to_vec());
        }
        self.shared.publish(progress);
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
        Ok(Box::new(StoreView::of(&self.shared.lock())))
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.start_flush();
        Ok(Checkpoint::Begun)
    }

    fn finish(&mut self) -> Result<(), Fatal> {
        self.flush().map_err(|error| Fatal::caused_by("the key-value store cannot flush", error))
    }

    fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        snapshot::restore(&self.shared, last_included, source).map_err(|error| {
            Fatal::caused_by("the key-value store cannot take over a snapshot", error)
        })
    }
}
