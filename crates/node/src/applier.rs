//! The state machine and what must be known beside it: how far it has applied, and which
//! configuration was in force there. Used from one thread; knows nothing of threads.

use crate::{
    Applied, ApplyBatch, Checkpoint, Committed, Fatal, Fate, RemoteFate, Replies, SnapshotView,
    StateMachine, Ticket, Waiter,
};
use bytes::Bytes;
use quorate_core::{Configuration, Entry, LogId, LogIndex, Payload, SnapshotMeta};
use std::io::Read;
use std::sync::Arc;

/// A state machine that is being applied to.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    applied: LogId,
    configuration: Arc<Configuration>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// What came of one batch.
#[derive(Debug)]
pub struct Outcome {
    /// For the driver.
    pub applied: Applied,
    /// For the callers on this node.
    pub local: Vec<(Ticket, Fate)>,
}

impl Applier {
    /// A state machine that has applied the log up to `applied`, where `configuration` was in
    /// force.
    #[must_use]
    pub fn new(
        machine: Box<dyn StateMachine>,
        applied: LogId,
        configuration: Arc<Configuration>,
    ) -> Self {
        Self { machine, applied, configuration }
    }

    /// The last applied entry.
    #[must_use]
    pub const fn applied(&self) -> LogId {
        self.applied
    }

    /// The state machine, to be asked.
    #[must_use]
    pub fn machine(&self) -> &dyn StateMachine {
        &*self.machine
    }

    /// Applies a batch.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine, or if it did not reply to every command, or if the batch
    /// does not follow what was applied.
    pub fn apply(&mut self, batch: &ApplyBatch) -> Result<Outcome, Fatal> {
        let expected = self.applied.index.next();
        let found = batch.entries.first().map_or(expected, |entry| entry.log_id.index);
        if found != expected {
            return Err(Fatal::new(format!("expected entry {expected} to apply, found {found}")));
        }
        let commands = commands_of(&batch.entries);
        let mut replies = Replies::default();
        if !commands.is_empty() {
            self.machine.apply(&commands, &mut replies)?;
        }
        if replies.count() != commands.len() {
            return Err(Fatal::new(format!(
                "expected {} replies of the state machine, found {}",
                commands.len(),
                replies.count()
            )));
        }
        self.note(&batch.entries);
        Ok(self.outcome(batch, replies))
    }

    fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.applied = entry.log_id;
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configuration = Arc::clone(configuration);
            }
        }
    }

    fn outcome(&self, batch: &ApplyBatch, replies: Replies) -> Outcome {
        let mut local = Vec::with_capacity(batch.waiters.len());
        let mut remote = Vec::new();
        let mut replies = replies.into_vec().into_iter();
        let mut waiters = batch.waiters.iter().copied().peekable();
        for (position, entry) in batch.entries.iter().enumerate() {
            let reply = match &entry.payload {
                Payload::Command(_) => replies.next().unwrap_or_default(),
                Payload::Noop | Payload::Configuration(_) => Bytes::new(),
            };
            while let Some((_, waiter)) = waiters.next_if(|(waiting, _)| *waiting == position) {
                let fate = Fate::Applied { log_id: entry.log_id, reply: reply.clone() };
                match waiter {
                    Waiter::Local(ticket) => local.push((ticket, fate)),
                    Waiter::Remote(requester) => remote.push(RemoteFate { requester, fate }),
                }
            }
        }
        let index = self.applied.index;
        Outcome { applied: Applied { index, durable: self.durable(), remote }, local }
    }

    /// What the state machine has durably applied.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.machine.applied()
    }

    /// Asks the state machine to make durable what it has applied.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, Fatal> {
        self.machine.checkpoint()
    }

    /// Tells the state machine that the node stops in good order.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn finish(&mut self) -> Result<(), Fatal> {
        self.machine.finish()
    }

    /// A snapshot of the present state, to be written out elsewhere.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn view(&self) -> Result<(SnapshotMeta, Box<dyn SnapshotView>), Fatal> {
        let meta = SnapshotMeta {
            last_included: self.applied,
            configuration: Arc::clone(&self.configuration),
        };
        Ok((meta, self.machine.view()?))
    }

    /// Replaces the state by a snapshot.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn restore(&mut self, meta: &SnapshotMeta, source: &mut dyn Read) -> Result<(), Fatal> {
        self.machine.restore(meta.last_included, source)?;
        self.applied = meta.last_included;
        self.configuration = Arc::clone(&meta.configuration);
        Ok(())
    }
}

fn commands_of(entries: &[Entry]) -> Vec<Committed> {
    let commands = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Command(command) => {
            Some(Committed { log_id: entry.log_id, command: command.clone() })
        }
        Payload::Noop | Payload::Configuration(_) => None,
    });
    commands.collect()
}
