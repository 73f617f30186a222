//! The state machine and what must be known beside it: how far it has applied, which configuration
//! was in force there, and which commands of sessions took effect (§6.3). Used from one thread;
//! knows nothing of threads.

use crate::digest::Rolling;
use crate::session::{SessionEntry, SessionTable, Verdict, read_section, write_section};
use crate::{
    Applied, ApplyBatch, Checkpoint, Committed, Fatal, Fate, RemoteFate, Replies, SnapshotView,
    StateMachine, Ticket, Waiter,
};
use bytes::Bytes;
use quorate_core::{Configuration, Entry, LogId, LogIndex, Payload, SnapshotMeta};
use std::io::{Read, Write};
use std::sync::Arc;

/// A state machine that is being applied to.
pub struct Applier {
    machine: Box<dyn StateMachine>,
    sessions: SessionTable,
    applied: LogId,
    configuration: Arc<Configuration>,
    rolling: Rolling,
    /// Which entry was applied last, and the configuration there, are certain.
    is_placed: bool,
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
    /// force. What it has noted of sessions is read.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine, or if its notes make no sense.
    pub fn new(
        mut machine: Box<dyn StateMachine>,
        applied: LogId,
        configuration: Arc<Configuration>,
    ) -> Result<Self, Fatal> {
        let mut sessions = SessionTable::default();
        if let Some(notebook) = machine.notebook() {
            sessions =
                SessionTable::from_notes(notebook.rows()?, applied.index).map_err(|error| {
                    Fatal::caused_by("the state machine's notes of sessions make no sense", error)
                })?;
        }
        machine.cluster_version(configuration.cluster_version);
        let rolling = Rolling::new(0);
        Ok(Self { machine, sessions, applied, configuration, rolling, is_placed: true })
    }

    /// Hashes what is replied from now on, in windows of so many entries; of none, nothing is hashed.
    #[must_use]
    pub fn hashing(self, window_count: u32) -> Self {
        Self { rolling: Rolling::new(window_count), ..self }
    }

    /// The log was damaged, and may not be what was applied: of the last applied entry only the index is
    /// certain, until a batch says the rest ([`ApplyBatch::place`]) or a snapshot is restored.
    #[must_use]
    pub fn displaced(self) -> Self {
        Self { is_placed: false, ..self }
    }

    /// Whether a snapshot of the state could say of which entry it is.
    #[must_use]
    pub const fn is_placed(&self) -> bool {
        self.is_placed
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

    /// The sessions, as of the last applied entry.
    #[must_use]
    pub const fn sessions(&self) -> &SessionTable {
        &self.sessions
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
        if let Some((log_id, configuration)) = &batch.place
            && log_id.index == self.applied.index
        {
            (self.applied, self.configuration) = (*log_id, Arc::clone(configuration));
            self.is_placed = true;
        }
        let fates = self.apply_entries(&batch.entries)?;
        self.rolling.applied(&batch.entries, &fates, self.machine.as_ref());
        self.note(&batch.entries);
        Ok(self.outcome(batch, fates))
    }

    /// Applies entries, and says what became of each: commands without a session as many at a time
    /// as there are, those of sessions one by one.
    fn apply_entries(&mut self, entries: &[Entry]) -> Result<Vec<Fate>, Fatal> {
        let mut fates = Vec::with_capacity(entries.len());
        let are_alike = |one: &Entry, next: &Entry| {
            !(is_of_session(one) || is_of_session(next) || configuration_of(one).is_some())
        };
        let mut spoken = self.configuration.cluster_version;
        for run in entries.chunk_by(are_alike) {
            match run.first().map(|entry| (entry.log_id, &entry.payload)) {
                Some((log_id, Payload::Session(request))) => {
                    fates.push(self.apply_session(log_id, request.clone())?);
                }
                Some((_, Payload::Noop | Payload::Command(_) | Payload::Configuration(_)))
                | None => self.apply_plain(run, &mut fates)?,
            }
            if let Some(configuration) = run.last().and_then(configuration_of)
                && configuration.cluster_version > spoken
            {
                spoken = configuration.cluster_version;
                self.machine.cluster_version(spoken);
            }
        }
        Ok(fates)
    }

    fn apply_plain(&mut self, entries: &[Entry], fates: &mut Vec<Fate>) -> Result<(), Fatal> {
        let commands = commands_of(entries);
        let replies = if commands.is_empty() {
            Replies::default()
        } else {
            let notes = Replies::noting(self.sessions.take_changes(), None);
            self.run(&commands, notes)?
        };
        let mut replies = replies.into_vec().into_iter();
        fates.extend(entries.iter().map(|entry| {
            let reply = match &entry.payload {
                Payload::Command(_) => replies.next().unwrap_or_default(),
                Payload::Noop | Payload::Session(_) | Payload::Configuration(_) => Bytes::new(),
            };
            Fate::Applied { log_id: entry.log_id, reply }
        }));
        Ok(())
    }

    fn apply_session(&mut self, log_id: LogId, request: Bytes) -> Result<Fate, Fatal> {
        self.check_that_sessions_last()?;
        let entry = SessionEntry::decode(request)
            .map_err(|error| Fatal::caused_by(format!("entry {log_id} makes no sense"), error))?;
        match self.sessions.decide(log_id, entry) {
            Verdict::Say(fate) => Ok(fate),
            Verdict::Run { session, number, command } => {
                let changes = self.sessions.take_changes();
                let is_noting = self.sessions.is_recording();
                let note = is_noting.then(|| SessionTable::reply_row(session, number, log_id));
                let replies = Replies::noting(changes, note);
                let replies = self.run(&[Committed { log_id, command }], replies)?;
                let reply = replies.into_vec().into_iter().next().unwrap_or_default();
                self.sessions.record(log_id, session, number, reply.clone());
                Ok(Fate::Applied { log_id, reply })
            }
        }
    }

    /// Whether the state machine remembers commands no further than what became of their sessions.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        self.sessions.is_recording() || self.machine.applied() == LogIndex::ORIGIN
    }

    /// What a machine remembers of commands and not of their sessions would be applied again after
    /// a crash.
    fn check_that_sessions_last(&self) -> Result<(), Fatal> {
        if self.keeps_sessions() {
            return Ok(());
        }
        Err(Fatal::new(
            "a session was used, and the state machine, which is durable, keeps no notes for the \
             node: implement `StateMachine::notebook`",
        ))
    }

    fn run(&mut self, commands: &[Committed], mut replies: Replies) -> Result<Replies, Fatal> {
        self.machine.apply(commands, &mut replies)?;
        if replies.count() != commands.len() {
            return Err(Fatal::new(format!(
                "expected {} replies of the state machine, found {}",
                commands.len(),
                replies.count()
            )));
        }
        if self.sessions.is_recording() && !replies.take_notes().is_empty() {
            return Err(Fatal::new("the state machine did not take the notes for its notebook"));
        }
        Ok(replies)
    }

    fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.applied = entry.log_id;
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configuration = Arc::clone(configuration);
            }
        }
    }

    fn outcome(&mut self, batch: &ApplyBatch, fates: Vec<Fate>) -> Outcome {
        let mut local = Vec::with_capacity(batch.waiters.len());
        let mut remote = Vec::new();
        let mut waiters = batch.waiters.iter().copied().peekable();
        for (position, fate) in fates.into_iter().enumerate() {
            while let Some((_, waiter)) = waiters.next_if(|(waiting, _)| *waiting == position) {
                let fate = fate.clone();
                match waiter {
                    Waiter::Local(ticket) => local.push((ticket, fate)),
                    Waiter::Remote(requester) => remote.push(RemoteFate { requester, fate }),
                }
            }
        }
        let (index, durable) = (self.applied.index, self.durable());
        let session_time = self.sessions.time();
        let digests = self.rolling.take_finished();
        Outcome { applied: Applied { index, durable, session_time, remote, digests }, local }
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
        self.keep_notes()?;
        self.machine.checkpoint()
    }

    /// Tells the state machine that the node stops in good order.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn finish(&mut self) -> Result<(), Fatal> {
        self.keep_notes()?;
        self.machine.finish()
    }

    /// Entries of sessions that brought no command are noted now, lest they keep the log from being
    /// released.
    fn keep_notes(&mut self) -> Result<(), Fatal> {
        if !self.sessions.has_changes() {
            return Ok(());
        }
        let notes = self.sessions.take_changes();
        match self.machine.notebook() {
            Some(notebook) => notebook.keep(self.applied.index, notes),
            None => Ok(()),
        }
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
        let sessions = self.sessions.without_changes();
        Ok((meta, Box::new(View { sessions, machine: self.machine.view()? })))
    }

    /// Replaces the state by a snapshot.
    ///
    /// # Errors
    ///
    /// [`Fatal`] from the state machine.
    pub fn restore(&mut self, meta: &SnapshotMeta, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut sessions = read_section(source, meta.last_included.index)?;
        if let Some(notebook) = self.machine.notebook() {
            notebook.replace_with_restore(sessions.present_rows());
            sessions.record_changes();
        }
        self.machine.restore(meta.last_included, source)?;
        self.sessions = sessions;
        self.rolling.interrupt();
        self.applied = meta.last_included;
        self.configuration = Arc::clone(&meta.configuration);
        self.machine.cluster_version(meta.configuration.cluster_version);
        self.is_placed = true;
        Ok(())
    }
}

/// A frozen state: the sessions first, then the machine's part.
struct View {
    sessions: SessionTable,
    machine: Box<dyn SnapshotView>,
}

impl SnapshotView for View {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        write_section(&self.sessions, target)?;
        self.machine.write_to(target)
    }
}

fn configuration_of(entry: &Entry) -> Option<&Arc<Configuration>> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some(configuration),
        Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
    }
}

const fn is_of_session(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Session(_))
}

fn commands_of(entries: &[Entry]) -> Vec<Committed> {
    let commands = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Command(command) => {
            Some(Committed { log_id: entry.log_id, command: command.clone() })
        }
        Payload::Noop | Payload::Session(_) | Payload::Configuration(_) => None,
    });
    commands.collect()
}

#[cfg(test)]
#[path = "applier_tests.rs"]
mod tests;
